//! Opening a checkpoint, or an archive of some, by the name it is known by: a file, a directory, an index of shards, a
//! member of an archive (`FILE::member`), or a stream that is read whole.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::container::archive::Contents;
use crate::container::spool::spool;
use crate::container::zip::DECRYPT;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Address, Contained, Layout, Step, Walk, address};
use crate::limits::Limits;
use crate::operations::Input;
use crate::progress::Progress;
use crate::report::file_bytes::file_bytes;
use crate::source::{SharedSource, files};

/// What a path stands for. `progress` hears of bytes that must be expanded to find out.
pub fn layout(path: &Path, limits: &Limits, progress: &dyn Progress) -> Result<Layout> {
    files::set_max_transfer(limits.max_transfer);
    match address(path) {
        None => Layout::of(path, limits),
        Some(address) => member(address.open()?, path, &address, limits, progress),
    }
}

/// What a stream stands for that is known by `name`: itself, or the member that its name asks for.
pub fn layout_of_stream(stream: impl Read, name: &Path, limits: &Limits, progress: &dyn Progress) -> Result<Layout> {
    let source = spool(stream, limits)?;
    match address(name) {
        None => Ok(Layout::of_source(source, name)),
        Some(address) => member(source, name, &address, limits, progress),
    }
}

fn member(
    source: SharedSource,
    name: &Path,
    address: &Address,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Layout> {
    progress.begin(&name.display().to_string(), source.len());
    Layout::of_member(source, address, limits, progress)
}

/// The bytes of what is one file, and the bounds on what is in them.
pub fn contents(layout: &Layout, limits: &Limits) -> Result<Contents> {
    layout
        .contents(limits)
        .ok_or_else(|| Error::unsupported("made of several files; merge them first with `ckpt convert`"))
}

/// Opens a checkpoint. Errors name it.
pub fn open(path: &Path, limits: &Limits, progress: &dyn Progress) -> Result<Input> {
    let layout = layout(path, limits, progress).map_err(|e| e.of_input(&path.display().to_string()))?;
    open_layout(path, layout, limits, progress)
}

/// Opens what `name` stands for. Errors name it.
pub fn open_layout(name: &Path, layout: Layout, limits: &Limits, progress: &dyn Progress) -> Result<Input> {
    open_unnamed(name, layout, limits, progress).map_err(|e| e.of_input(&name.display().to_string()))
}

fn open_unnamed(name: &Path, layout: Layout, limits: &Limits, progress: &dyn Progress) -> Result<Input> {
    let (shown, bytes) = (name.display().to_string(), layout.bytes());
    progress.begin(&shown, bytes);
    let checkpoint = layout.open(limits, progress)?;
    Ok(Input { name: shown, name_bytes: file_bytes(name), bytes, checkpoint })
}

/// Opens a checkpoint that was found in `archive`. Errors do not name it.
pub(super) fn open_contained(
    archive: &Path,
    contained: &Contained,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Input> {
    open_unnamed(&path_of(archive, &contained.name), contained.layout()?, limits, progress)
}

/// An input that is a checkpoint, or an archive of some.
#[derive(Debug)]
pub(crate) enum Found {
    /// A checkpoint.
    Checkpoint(Box<Input>),
    /// An archive, and what is said of it where one checkpoint is wanted.
    Archive(Box<ArchiveInput>, Error),
}

/// An archive of checkpoints with its name.
#[derive(Debug)]
pub(crate) struct ArchiveInput {
    /// As whoever opened it names it.
    pub path: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// The way through the checkpoints in it.
    pub walk: Walk,
}

impl ArchiveInput {
    /// Opens the next checkpoint. Errors name it; its path is for whoever tells of them.
    pub(crate) fn open_next(&mut self, limits: &Limits, progress: &dyn Progress) -> Option<(PathBuf, Result<Input>)> {
        self.next(limits, progress, false)
    }

    /// The same; one whose bytes are not those that the archive's checksum is of is an error.
    pub(crate) fn open_next_whole(
        &mut self,
        limits: &Limits,
        progress: &dyn Progress,
    ) -> Option<(PathBuf, Result<Input>)> {
        self.next(limits, progress, true)
    }

    fn next(&mut self, limits: &Limits, progress: &dyn Progress, whole: bool) -> Option<(PathBuf, Result<Input>)> {
        let (name, opened) = match self.walk.next()? {
            Step::Checkpoint(found) => {
                let is_whole = if whole { found.layout().and_then(|layout| layout.is_whole()) } else { Ok(()) };
                let opened = is_whole.and_then(|()| open_contained(&self.path, &found, limits, progress));
                (found.name, opened)
            }
            Step::Encrypted(name) => (name, Err(Error::unsupported("is encrypted").advise(DECRYPT))),
            Step::Unreadable(name, e) => (name, Err(e)),
        };
        Some((path_of(&self.path, &name), opened.map_err(|e| e.of_input(&name))))
    }
}

/// Opens what `name` stands for: a checkpoint, or an archive of some. Errors name it.
pub(crate) fn open_or_walk(name: &Path, layout: Layout, limits: &Limits, progress: &dyn Progress) -> Result<Found> {
    let shown = name.display().to_string();
    let (bytes, contents) = (layout.bytes(), layout.contents(limits));
    match (open_layout(name, layout, limits, progress), contents) {
        (Err(e), Some(contents)) if matches!(e.kind(), ErrorKind::NotACheckpoint | ErrorKind::Unsupported) => {
            match Walk::of(&contents, &shown, progress).map_err(|e| e.of_input(&shown))? {
                Some(walk) => Ok(Found::Archive(Box::new(ArchiveInput { path: name.to_owned(), bytes, walk }), e)),
                None => Err(e),
            }
        }
        (opened, _) => Ok(Found::Checkpoint(Box::new(opened?))),
    }
}

/// What is wrong with a directory in which nothing was found.
pub(crate) fn no_checkpoint_below(dir: &Path) -> Error {
    Error::not_a_checkpoint("no checkpoints in this directory").of_input(&dir.display().to_string())
}

/// The path of an input, or of a checkpoint in it, by its name; names that are no Unicode keep their bytes.
pub(crate) fn path_of(input: &Path, name: &str) -> PathBuf {
    match name.strip_prefix(&*input.to_string_lossy()) {
        Some(rest) => {
            let mut path = input.as_os_str().to_owned();
            path.push(rest);
            path.into()
        }
        None => PathBuf::from(name),
    }
}
