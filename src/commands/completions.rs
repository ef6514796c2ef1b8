//! `ckpt completions SHELL`: what `completions/` holds.

use std::io::Write;

use clap_complete::Shell;

use crate::commands::ExitStatus;
use crate::commands::output::stdout;

/// Options of `ckpt completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The completion script of a shell for a command line.
pub(crate) fn script(shell: Shell, mut command: clap::Command) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command, "ckpt", &mut out);
    out
}

/// Prints the script for a command line.
pub(crate) fn run(args: &Args, command: clap::Command) -> anyhow::Result<ExitStatus> {
    let mut out = stdout();
    out.write_all(&script(args.shell, command))?;
    out.flush()?;
    Ok(ExitStatus::Success)
}
