//! Opening what the command line names: a file, or standard input as `-`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use crate::checkpoint::Checkpoint;
use crate::commands::progress_bar::Bar;
use crate::container::spool::spool;
use crate::limits::Limits;
use crate::source::{FileSource, SharedSource};

/// Bounds that a person may raise for a file they trust.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits against hostile files")]
pub struct LimitArgs {
    /// Objects that the pickles of a compressed file may make
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_objects: Option<u64>,
    /// How deep objects may nest
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_depth: Option<usize>,
    /// Tensors and values that may be listed
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_entries: Option<u64>,
    /// Bytes that compressed input or standard input may take once expanded
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    max_expanded_bytes: Option<u64>,
    /// Bytes of one tensor that will be read when it is larger than its storage
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    max_read_bytes: Option<u64>,
}

impl LimitArgs {
    /// The defaults with what the command line changed.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        let set = |to: &mut u64, from: Option<u64>| *to = from.unwrap_or(*to);
        set(&mut limits.max_objects, self.max_objects);
        set(&mut limits.max_entries, self.max_entries);
        set(&mut limits.max_read_bytes, self.max_read_bytes);
        limits.max_depth = self.max_depth.unwrap_or(limits.max_depth);
        if let Some(bytes) = self.max_expanded_bytes {
            (limits.max_expanded_bytes, limits.min_expanded_bytes) = (bytes, bytes);
        }
        limits
    }
}

/// An open input.
#[derive(Debug)]
pub struct Input {
    /// As the command line names it.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// What is in it.
    pub checkpoint: Checkpoint,
}

/// The bytes that `name` stands for.
pub fn source(name: &Path, limits: &Limits) -> crate::error::Result<SharedSource> {
    if name.as_os_str() == "-" {
        return spool(io::stdin().lock(), limits);
    }
    Ok(Arc::new(FileSource::open(name)?))
}

/// Opens a checkpoint. Errors name the file.
pub fn open(name: &Path, limits: &Limits, quiet: bool) -> anyhow::Result<Input> {
    let shown = name.display().to_string();
    let context = || shown.clone();
    let source = source(name, limits).with_context(context)?;
    let bytes = source.len();
    let bar = Bar::new(&shown, bytes, quiet);
    let checkpoint = Checkpoint::open(source, limits, &bar).with_context(context)?;
    Ok(Input { name: shown, bytes, checkpoint })
}
