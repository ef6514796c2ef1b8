//! `--allow`, `--allow-from`, `--write-allow`: which globals a project vouches for, and the list of those to look at.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use crate::checkpoint::near::{near, not_there};
use crate::commands::wording::flag;
use crate::message::Setting;
use crate::safety::allow::Allow;
use crate::write::atomic::Target;

/// Bytes of a list.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// Globs of a mistaken command line that are named.
const MAX_SHOWN: usize = 8;

/// Options about globals that are vouched for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Globals")]
pub struct AllowArgs {
    /// Treat matching unknown globals as known (`*` also matches dots), and a dangerous one if this is its exact name; repeatable
    #[arg(long, value_name = "GLOB")]
    pub allow: Vec<String>,
    /// Read such globs from a file, one per line (`#` starts a comment); they need not match anything
    #[arg(long, value_name = "FILE")]
    pub allow_from: Vec<PathBuf>,
    /// Write the unknown globals of all inputs to FILE, to review and use with --allow-from; never dangerous ones
    #[arg(long, value_name = "FILE")]
    pub write_allow: Option<PathBuf>,
    /// Overwrite the file of --write-allow
    #[arg(long, requires = "write_allow")]
    pub force: bool,
}

impl AllowArgs {
    /// Reads the globs; a bad one is an error, and so is a list that cannot be written.
    pub fn read(&self) -> anyhow::Result<Allow> {
        let mut allow = Allow::default();
        for glob in &self.allow {
            allow.add(glob, true).map_err(|why| anyhow::anyhow!("invalid glob {glob:?} (--allow): {why}"))?;
        }
        for path in &self.allow_from {
            let shown = path.display().to_string();
            let len = fs::metadata(path).with_context(|| shown.clone())?.len();
            if len > MAX_LIST_BYTES {
                bail!("{shown}: is too large for a list of globs ({len} bytes)");
            }
            let text = fs::read_to_string(path).with_context(|| shown.clone())?;
            allow.add_list(&text).map_err(|why| anyhow::anyhow!("{shown}: {why}"))?;
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
    pub fn finish(&self, allow: &Allow) -> anyhow::Result<()> {
        let idle: Vec<&str> = allow.unmatched().take(MAX_SHOWN).collect();
        if !idle.is_empty() {
            let names = allow.names();
            let names = || names.iter().map(String::as_str);
            let said: Vec<String> = idle.into_iter().map(|glob| idle_glob(glob, &near(glob, names()))).collect();
            bail!(said.join("; "));
        }
        let Some((target, shown)) = self.target()? else { return Ok(()) };
        let mut text = String::from("# Globals that ckpt check does not know. Review each before you allow it.\n");
        for name in allow.unknown() {
            // what would be a pattern, a comment or several lines as it stands is for nobody to allow by a list
            if !name.contains(['#', '\n', '\r', '*', '?', '[', '{', '\\']) {
                text.push_str(&name);
                text.push('\n');
            }
        }
        let mut output = target.create().with_context(|| shown.clone())?;
        output.write_all(text.as_bytes()).with_context(|| shown.clone())?;
        output.commit().with_context(|| shown)?;
        Ok(())
    }
}

fn idle_glob(glob: &str, near: &[String]) -> String {
    not_there("global", glob, Some(Setting::Allow), near).spoken(flag)
}
