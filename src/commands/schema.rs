//! `ckpt schema`: what `src/report/schemas/` holds.

use std::io::Write;

use anyhow::bail;

use crate::commands::ExitStatus;
use crate::report::schema::{ALL, find};
use crate::terminal::streams::stdout;

/// Options of `ckpt schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Schema to print, such as `ckpt.ls/1` or `ls` (default: list all)
    pub name: Option<String>,
}

/// Prints a schema, or the names of all.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let mut out = stdout();
    match &args.name {
        None => ALL.iter().try_for_each(|schema| writeln!(out, "{}", schema.name))?,
        Some(name) => match find(name) {
            Some(schema) => out.write_all(schema.text.as_bytes())?,
            None => {
                let known: Vec<&str> = ALL.iter().map(|schema| schema.name).collect();
                bail!("no schema `{name}`; use one of {}", known.join(", "));
            }
        },
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}
