//! `--allow`, `--allow-from`, `--write-allow`: which globals a project vouches for, and the list of those to look at.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use crate::safety::allow::Allow;
use crate::terminal::wording::flag;
use crate::write::atomic::Target;

/// Options about globals that are vouched for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Globals")]
pub(crate) struct AllowArgs {
    /// Treat matching unknown globals as known; repeatable
    ///
    /// `*` also matches dots. A dangerous global counts as known only under its exact name.
    #[arg(long, value_name = "GLOB")]
    pub allow: Vec<String>,
    /// Read such globs from FILE, one per line
    ///
    /// `#` starts a comment. They need not match anything.
    #[arg(long, value_name = "FILE")]
    pub allow_from: Vec<PathBuf>,
    /// Write the unknown globals of all inputs to FILE
    ///
    /// Review it and pass it to --allow-from. Dangerous globals are never written.
    #[arg(long, value_name = "FILE")]
    pub write_allow: Option<PathBuf>,
    /// Replace an existing file of --write-allow
    #[arg(long, requires = "write_allow")]
    pub force: bool,
}

impl AllowArgs {
    /// Reads the globs; a bad one is an error, and so is a list that cannot be written.
    pub(crate) fn read(&self) -> anyhow::Result<Allow> {
        let mut allow = Allow::default();
        for glob in &self.allow {
            allow.add(glob, true).map_err(|why| anyhow::anyhow!("invalid glob {glob:?} (--allow): {why}"))?;
        }
        for path in &self.allow_from {
            allow.add_file(path)?;
        }
        self.target()?;
        Ok(allow)
    }

    fn target(&self) -> anyhow::Result<Option<(Target, String)>> {
        let Some(path) = &self.write_allow else { return Ok(None) };
        let shown = path.display().to_string();
        let target = Target::new(path, self.force, None).with_context(|| shown.clone())?;
        Ok(Some((target, shown)))
    }

    /// After the last input: an `--allow` that has matched nothing is an error, and the list is written.
    pub(crate) fn finish(&self, allow: &Allow) -> anyhow::Result<()> {
        if let Some(idle) = allow.unmatched() {
            bail!(idle.spoken(flag));
        }
        let Some((target, shown)) = self.target()? else { return Ok(()) };
        let mut output = target.create().with_context(|| shown.clone())?;
        output.write_all(allow.list_of_unknown().as_bytes()).with_context(|| shown.clone())?;
        output.commit().with_context(|| shown)?;
        Ok(())
    }
}
