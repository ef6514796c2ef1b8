//! `--files-from`, `--null`, `--shard`: lists of inputs, and the part of them that falls to one job of several.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::commands::input;
use crate::operations::files::{Shard, names_in};
use crate::report::figures::size;

/// Bytes of a list: a few million names.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// Options about jobs of many files.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Many files")]
pub(crate) struct FilesArgs {
    /// Read more INPUTs from a file, one per line; `-` is standard input
    #[arg(long, value_name = "LIST")]
    pub files_from: Option<PathBuf>,
    /// Names in LIST end with a NUL, as `find -print0` writes them
    #[arg(short = '0', long, requires = "files_from")]
    pub null: bool,
    /// Take only the I-th of every N files (1/N to N/N), in the order of their paths, files named like checkpoints first: N
    /// jobs that see the same files take each file once
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

/// Whether a list is standard input.
pub(crate) fn is_stdin(list: &Path) -> bool {
    list.as_os_str() == "-"
}

/// The bytes of a list. Errors do not name it.
pub(crate) fn read(list: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let all = MAX_LIST_BYTES.saturating_add(1);
    match is_stdin(list) {
        false => fs::File::open(list)?.take(all).read_to_end(&mut bytes)?,
        true => io::stdin().lock().take(all).read_to_end(&mut bytes)?,
    };
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("has more than {}", size(MAX_LIST_BYTES))));
    }
    Ok(bytes)
}

/// The text of a list.
pub(crate) fn read_text(list: &Path) -> io::Result<String> {
    String::from_utf8(read(list)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is no UTF-8 text"))
}
