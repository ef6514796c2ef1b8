//! `ckpt completions SHELL`: what `completions/` holds.

use std::io::Write;

use clap_complete::Shell;

use crate::commands::ExitStatus;
use crate::terminal::streams::stdout;

/// Options of `ckpt completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shell to generate completions for
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Prints a script.
pub(crate) fn run(script: &[u8]) -> anyhow::Result<ExitStatus> {
    let mut out = stdout();
    out.write_all(script)?;
    out.flush()?;
    Ok(ExitStatus::Success)
}
