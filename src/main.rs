//! The process boundary: arguments in, exit status out, errors on one line.

use std::process::ExitCode;

use ckpt::cli::Cli;
use ckpt::commands::{self, Status, output};
use clap::Parser;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // --help and --version are no errors; a closed pipe is nobody's business
            let _ = e.print();
            return if e.use_stderr() { Status::Trouble.into() } else { ExitCode::SUCCESS };
        }
    };
    match commands::run(cli) {
        Ok(status) => status.into(),
        Err(e) if output::is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            output::say(format_args!("{e:#}"));
            Status::Trouble.into()
        }
    }
}
