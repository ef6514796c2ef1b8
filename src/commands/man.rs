//! `ckpt man`: what `man/` holds.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap_mangen::Man;

use crate::commands::ExitStatus;
use crate::commands::output::stdout;

/// Options of `ckpt man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The page of this subcommand instead of the main one
    pub subcommand: Option<String>,
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "subcommand")]
    pub dir: Option<PathBuf>,
}

/// All pages of a command line: file name and text.
pub(crate) fn pages(mut command: clap::Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    command.build();
    let mut pages = vec![page(command.clone(), "ckpt")?];
    for subcommand in command.get_subcommands() {
        let name = format!("ckpt-{}", subcommand.get_name());
        pages.push(page(subcommand.clone().display_name(name.clone()), &name)?);
    }
    Ok(pages)
}

fn page(command: clap::Command, name: &str) -> io::Result<(String, Vec<u8>)> {
    let mut text = Vec::new();
    Man::new(command).source(concat!("ckpt ", env!("CARGO_PKG_VERSION"))).render(&mut text)?;
    Ok((format!("{name}.1"), text))
}

/// Prints a page of a command line or writes all of them.
pub(crate) fn run(args: &Args, command: clap::Command) -> anyhow::Result<ExitStatus> {
    let pages = pages(command)?;
    if let Some(dir) = &args.dir {
        for (name, text) in pages {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        return Ok(ExitStatus::Success);
    }
    let wanted = args.subcommand.as_ref().map_or("ckpt.1".to_owned(), |name| format!("ckpt-{name}.1"));
    let Some((_, text)) = pages.iter().find(|(name, _)| *name == wanted) else {
        let known: Vec<&str> =
            pages.iter().filter_map(|(page, _)| page.strip_prefix("ckpt-")?.strip_suffix(".1")).collect();
        bail!("no manual page {wanted}; there is one for each of {}", known.join(", "));
    };
    let mut out = stdout();
    out.write_all(text)?;
    out.flush()?;
    Ok(ExitStatus::Success)
}
