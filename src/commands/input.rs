//! Opening what the command line names: a file, a directory, an index of shards, a member of an archive
//! (`FILE::member`), or standard input as `-`.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::checkpoint::Checkpoint;
use crate::commands::output::OfInput;
use crate::commands::progress_bar::Bar;
use crate::container::archive::Contents;
use crate::container::spool::spool;
use crate::error::Error;
use crate::layout::{Layout, address, survey};
use crate::limits::Limits;
use crate::source::SharedSource;

/// Bounds that a person may raise for a file they trust.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits on hostile files")]
pub struct LimitArgs {
    /// Maximum objects a compressed pickle may create beyond what its size accounts for
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_objects: Option<u64>,
    /// Maximum nesting depth of objects
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_depth: Option<usize>,
    /// Maximum tensors and values to list
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_entries: Option<u64>,
    /// Maximum bytes of compressed input or standard input once expanded
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    max_expanded_bytes: Option<u64>,
    /// Maximum bytes to read from tensors whose declared size exceeds their stored data
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

/// The bytes that `name` stands for, and the bounds on what is in them. Fails for what is more than one file.
pub fn contents(name: &Path, limits: &Limits) -> crate::error::Result<Contents> {
    let layout = layout(name, limits, true)?;
    layout
        .contents(limits)
        .ok_or_else(|| Error::unsupported("made of several files; merge them first with `ckpt convert`"))
}

/// Whether `name` is standard input, or a member of an archive that comes from there.
pub fn is_stdin(name: &Path) -> bool {
    name.as_os_str() == "-" || address(name).is_some_and(|address| address.file.as_os_str() == "-")
}

/// Fails when `-` is named more than once: the second would find nothing.
pub fn stdin_once(inputs: &[PathBuf]) -> anyhow::Result<()> {
    match inputs.iter().filter(|input| is_stdin(input)).count() {
        0 | 1 => Ok(()),
        _ => anyhow::bail!("`-` (standard input) can be read only once"),
    }
}

/// The bytes that `name` stands for.
pub fn source(name: &Path, limits: &Limits) -> crate::error::Result<SharedSource> {
    contents(name, limits).map(|contents| contents.source)
}

/// What `name` stands for: a file, a directory, a member of an archive, standard input.
pub fn layout(name: &Path, limits: &Limits, quiet: bool) -> crate::error::Result<Layout> {
    let stdin = || spool(io::stdin().lock(), limits);
    if name.as_os_str() == "-" {
        return Ok(Layout::of_source(stdin()?, name));
    }
    let Some(address) = address(name) else { return Layout::of(name, limits) };
    let source = if address.file.as_os_str() == "-" { stdin()? } else { address.open()? };
    let bar = Bar::new(&name.display().to_string(), source.len(), quiet);
    Layout::of_member(source, &address, limits, &bar)
}

/// Opens a checkpoint. Errors name the file.
pub fn open(name: &Path, limits: &Limits, quiet: bool) -> anyhow::Result<Input> {
    let shown = name.display().to_string();
    let context = || OfInput(shown.clone());
    let layout = layout(name, limits, quiet).with_context(context)?;
    let bytes = layout.bytes();
    let bar = Bar::new(&shown, bytes, quiet);
    let checkpoint = layout.open(limits, &bar).with_context(context)?;
    Ok(Input { name: shown, bytes, checkpoint })
}

/// What there is to open below a directory, in the order of the names: checkpoints of several files once, then every
/// regular file that is no part of one. Links to directories are not followed.
pub fn below(dir: &Path, limits: &Limits) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let context = || dir.display().to_string();
        let survey = survey(&dir, limits).with_context(context)?;
        for entry in std::fs::read_dir(&dir).with_context(context)? {
            let entry = entry.with_context(context)?;
            let kind = entry.file_type().with_context(context)?;
            if kind.is_dir() && !survey.is_whole {
                open.push(entry.path());
            } else if !kind.is_dir() && entry.path().is_file() && !survey.parts.contains(&entry.file_name()) {
                found.push(entry.path());
            }
        }
        found.extend(survey.checkpoints);
    }
    found.sort();
    Ok(found)
}
