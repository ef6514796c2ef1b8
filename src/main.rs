//! The program `ckpt`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ckpt::cli::main()
}
