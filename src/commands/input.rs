//! Opening what the command line names: a file, a directory, an index of shards, a member of an archive
//! (`FILE::member`), or standard input as `-`.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::commands::output::OfInput;
use crate::commands::progress_bar::Bar;
use crate::container::archive::Contents;
use crate::container::spool::spool;
use crate::error::{Error, ErrorKind};
use crate::layout::{Contained, Layout, Walk, address};
use crate::limits::Limits;
use crate::operations::Input;
use crate::report::file_bytes::file_bytes;
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

/// The bytes that `name` stands for, and the bounds on what is in them. Fails for what is more than one file.
pub fn contents(name: &Path, limits: &Limits) -> crate::error::Result<Contents> {
    let layout = layout(name, limits, true)?.of_one_file()?;
    layout.contents(limits).ok_or_else(|| Error::unsupported("made of several files"))
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
    Ok(Input { name: shown, name_bytes: file_bytes(name), bytes, checkpoint })
}

/// An input that is a checkpoint, or an archive of some.
#[derive(Debug)]
pub enum Found {
    /// A checkpoint.
    Checkpoint(Box<Input>),
    /// An archive: its name, its bytes on disk, the way through it, and why it is no checkpoint.
    Archive {
        /// As the command line names it.
        name: String,
        /// Bytes on disk.
        bytes: u64,
        /// The checkpoints in it.
        walk: Walk,
        /// What is said of it where one checkpoint is wanted.
        e: anyhow::Error,
    },
}

/// Opens a checkpoint, or an archive of some. Errors name the file.
pub fn open_or_walk(name: &Path, limits: &Limits, quiet: bool) -> anyhow::Result<Found> {
    let shown = name.display().to_string();
    let context = || OfInput(shown.clone());
    let layout = layout(name, limits, quiet).with_context(context)?;
    let bytes = layout.bytes();
    let contents = layout.contents(limits);
    let bar = Bar::new(&shown, bytes, quiet);
    match (layout.open(limits, &bar), contents) {
        (Err(e), Some(contents)) if matches!(e.kind(), ErrorKind::NotACheckpoint | ErrorKind::Unsupported) => {
            let walk = Walk::of(&contents, &shown, &bar).with_context(context)?;
            let e = anyhow::Error::new(e).context(context());
            match walk {
                Some(walk) => Ok(Found::Archive { name: shown, bytes, walk, e }),
                None => Err(e),
            }
        }
        (opened, _) => {
            let checkpoint = opened.with_context(context)?;
            let input = Input { name: shown, name_bytes: file_bytes(name), bytes, checkpoint };
            Ok(Found::Checkpoint(Box::new(input)))
        }
    }
}

/// Opens a checkpoint that was found in `archive`. Errors name it.
pub fn open_contained(archive: &Path, contained: &Contained, limits: &Limits, quiet: bool) -> anyhow::Result<Input> {
    let name = contained.name.clone();
    let context = || OfInput(name.clone());
    let layout = contained.layout().with_context(context)?;
    let bytes = layout.bytes();
    let bar = Bar::new(&name, bytes, quiet);
    let checkpoint = layout.open(limits, &bar).with_context(context)?;
    drop(bar);
    let name_bytes = file_bytes(&path_of(archive, &name));
    Ok(Input { name, name_bytes, bytes, checkpoint })
}

/// The path of an input, or of a checkpoint in it, by its name; names that are no Unicode keep their bytes.
pub fn path_of(input: &Path, name: &str) -> PathBuf {
    match name.strip_prefix(&*input.to_string_lossy()) {
        Some(rest) => {
            let mut path = input.as_os_str().to_owned();
            path.push(rest);
            path.into()
        }
        None => PathBuf::from(name),
    }
}
