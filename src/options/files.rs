//! `-R`, `--files-from`, `--null`, `--shard`: directories and lists of inputs, and the part of them that falls to one job of
//! several.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::operations::files::{Shard, names_in};
use crate::options::input;
use crate::options::list::{is_stdin, read};

/// Options about jobs of many files.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Many files")]
pub(crate) struct FilesArgs {
    /// Take every checkpoint under each directory and in each archive
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Read more INPUTs from a file, one per line; `-` is standard input
    #[arg(long, value_name = "LIST")]
    pub files_from: Option<PathBuf>,
    /// Names in LIST end with a NUL, as `find -print0` writes them
    #[arg(short = '0', long, requires = "files_from")]
    pub null: bool,
    /// Take only the I-th of every N files, as one of N jobs
    ///
    /// By default all are taken. 1/N to N/N, in the order of their paths, files named like checkpoints first: N jobs that see the same files take each
    /// file once.
    #[arg(long, value_name = "I/N", value_parser = str::parse::<Shard>)]
    pub shard: Option<Shard>,
}

impl FilesArgs {
    /// The inputs with those of the list.
    pub(crate) fn inputs(&self, given: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
        let mut inputs = given.to_vec();
        if let Some(list) = &self.files_from {
            let name = if is_stdin(list) { "standard input".to_owned() } else { list.display().to_string() };
            inputs.extend(self.read(list).with_context(|| name)?);
        }
        let streams = inputs.iter().filter(|input| input::is_stdin(input)).count();
        if streams > 0 && self.files_from.as_deref().is_some_and(is_stdin) {
            anyhow::bail!("`-` (standard input) is the list of files, so it is no input as well");
        }
        input::stdin_once(&inputs)?;
        Ok(inputs)
    }

    fn read(&self, list: &Path) -> anyhow::Result<Vec<PathBuf>> {
        Ok(names_in(&read(list)?, self.null)?)
    }
}
