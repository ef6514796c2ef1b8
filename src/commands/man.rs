//! `ckpt man`: what `man/` holds.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::checkpoint::near::near;
use crate::commands::ExitStatus;
use crate::terminal::streams::stdout;

/// Options of `ckpt man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Command to print the page of (default: the main page)
    #[arg(value_name = "COMMAND")]
    pub subcommand: Option<String>,
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "subcommand")]
    pub dir: Option<PathBuf>,
}

/// Prints one of the pages, each a file name and a text, or writes all of them.
pub(crate) fn run(args: &Args, pages: &[(String, Vec<u8>)]) -> anyhow::Result<ExitStatus> {
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
        let near = args.subcommand.as_deref().map(|name| near(name, known.iter().copied())).unwrap_or_default();
        match near.first() {
            Some(near) => bail!("no manual page {wanted}; did you mean `ckpt man {near}`?"),
            None => bail!("no manual page {wanted}; there is one for each of {}", known.join(", ")),
        }
    };
    let mut out = stdout();
    out.write_all(text)?;
    out.flush()?;
    Ok(ExitStatus::Success)
}
