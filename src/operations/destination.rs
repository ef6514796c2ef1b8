//! One input, what an operation changes in it, and one place where that goes: nowhere, the input itself, another file of
//! the same container or of another, shards.
//!
//! An edit is told as what changes in the file ([`Change`]: a spliced pickle), and as what changes in the objects, for who
//! writes them anew. Which edit it is makes no difference here.

mod in_place;

use std::path::{Path, PathBuf};

pub use self::in_place::InPlace;
use crate::checkpoint::{Checkpoint, Container};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::limits::Limits;
use crate::message::{Message, Note, Setting};
pub(crate) use crate::operations::change::Edit;
use crate::operations::convert::{self, Outlet, convert};
pub use crate::operations::sink::Sink;
use crate::operations::{Input, shards};
use crate::progress::Progress;
use crate::report::file_bytes::file_bytes;
use crate::source::SharedSource;
use crate::write::atomic::{Output, Target};
use crate::write::format::Format;
use crate::write::rewrite::{Change, rewrite};

/// An input that is to be edited.
#[derive(Debug)]
pub struct Original {
    /// The checkpoint; aliases are tensors of their own names.
    pub input: Input,
    /// What it is on the disk.
    pub form: Form,
}

/// What an input is on the disk.
#[derive(Debug)]
pub enum Form {
    /// One file: its bytes as they came, maybe compressed.
    File(SharedSource),
    /// Hugging Face shards.
    Shards {
        /// The file that names them.
        index: PathBuf,
        /// The shards, as the index names them.
        shards: Vec<String>,
    },
    /// Another directory.
    Directory,
}

impl Original {
    /// Reads what a layout stands for. Errors name it as `name`.
    pub fn open(layout: Layout, name: &str, path: &Path, limits: &Limits, progress: &dyn Progress) -> Result<Self> {
        let form = match (layout.shards(), layout.contents(limits)) {
            (Some((index, shards)), _) => Form::Shards { index: index.to_owned(), shards },
            (None, Some(contents)) if layout.file().is_none() => Form::File(contents.source),
            _ => Form::Directory,
        };
        let bytes = layout.bytes();
        let open = || {
            let mut checkpoint = layout.open(limits, progress)?;
            checkpoint.restore_aliases()?;
            Ok(checkpoint)
        };
        let checkpoint = open().map_err(|e: Error| e.of_input(name))?;
        let input = Input { name: name.to_owned(), name_bytes: file_bytes(path), bytes, checkpoint };
        Ok(Original { input, form })
    }
}

/// Where an edited input goes.
#[derive(Debug)]
pub enum Destination {
    /// Nothing is written.
    Nowhere,
    /// The file itself: what changes is appended to a zip, a header that fits goes over the old one, any other file is
    /// replaced as a whole.
    InPlace(InPlace),
    /// Another file.
    File {
        /// The file.
        sink: Sink,
        /// The format that is asked for; the input's own without it.
        to: Option<Format>,
    },
    /// A directory that gets all shards and their index.
    Shards {
        /// The directory, which is made when it is not there.
        directory: PathBuf,
        /// Replace files that exist.
        force: bool,
    },
}

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Edited {
    /// Where, as given; nothing when nothing was.
    pub output: Option<String>,
    /// Whether that is the input itself.
    pub in_place: bool,
    /// Bytes of the output, or those appended to or written over the input.
    pub bytes: Option<u64>,
    /// What there is to know.
    pub notes: Vec<Note>,
}

/// Writes the whole file anew.
fn whole(checkpoint: &Checkpoint, change: &Change, mut output: Output, progress: &dyn Progress) -> Result<u64> {
    rewrite(checkpoint, change, &mut output, progress)?;
    let written = output.position();
    output.commit()?;
    Ok(written)
}

impl Destination {
    /// Writes the input as `edit` changes it; without one as it is.
    pub(crate) fn write(
        &mut self,
        original: &mut Original,
        edit: Option<&dyn Edit>,
        progress: &dyn Progress,
    ) -> Result<Edited> {
        let Original { input, form } = original;
        let name = input.name.clone();
        let of_input = |e: Error| e.of_input(&name);
        match self {
            Destination::Nowhere => Ok(Edited::default()),
            Destination::InPlace(file) => {
                let written = edit.map(|edit| file.write(input, form, edit, progress)).transpose().map_err(of_input)?;
                Ok(Edited { output: Some(name), in_place: true, bytes: written, notes: Vec::new() })
            }
            Destination::File { sink, to } => {
                let is_file = matches!(form, Form::File(_));
                let container = input.checkpoint.container();
                let (bytes, notes) = match to.filter(|to| !is_file || !is_format_of(*to, container)) {
                    Some(to) => {
                        let mut notes: Vec<Note> = is_uncompressed(input, sink).into_iter().collect();
                        edit.map_or(Ok(()), |edit| edit.apply(&mut input.checkpoint)).map_err(of_input)?;
                        let options = convert::Options { to, ..convert::Options::default() };
                        let done = convert(input, &options, &Outlet::File(sink.clone()), None, progress)?;
                        notes.extend(done.notes);
                        (done.files.iter().map(|written| written.bytes).sum(), notes)
                    }
                    None => {
                        let written = same_container(input, form, edit, &sink.target, progress);
                        let notes = edit.and_then(|_| is_uncompressed(input, sink)).into_iter().collect();
                        (written.map_err(|e| e.of_output(&sink.name))?, notes)
                    }
                };
                Ok(Edited { output: Some(sink.name.clone()), bytes: Some(bytes), in_place: false, notes })
            }
            Destination::Shards { directory, force } => {
                let Form::Shards { index, shards } = form else { return Err(of_input(one_level())) };
                progress.begin(&name, input.bytes);
                let job = shards::Job { edit, checkpoint: &input.checkpoint, force: *force, progress };
                let (bytes, note) = job.write(index, shards, directory)?;
                let output = Some(directory.display().to_string());
                Ok(Edited { output, bytes: Some(bytes), in_place: false, notes: note.into_iter().collect() })
            }
        }
    }
}

fn one_level() -> Error {
    let advice = Message::from("use ").setting(Setting::Output).text(" with an extension to merge it into one file");
    Error::refused("this layout cannot be edited").advise(advice)
}

/// Writes one file anew; the bytes as they came where nothing changes.
fn same_container(
    input: &Input,
    form: &Form,
    edit: Option<&dyn Edit>,
    target: &Target,
    progress: &dyn Progress,
) -> Result<u64> {
    let source = one_file(form)?;
    match edit {
        Some(edit) => {
            let change = edit.change(&input.checkpoint)?;
            progress.begin(&input.name, input.bytes);
            whole(&input.checkpoint, &change, target.create()?, progress)
        }
        None => {
            let mut output = target.create()?;
            output.copy(source.as_ref(), 0, source.len(), &|_| ())?;
            output.commit()?;
            Ok(source.len())
        }
    }
}

/// Says that the output is not compressed where the input is.
fn is_uncompressed(input: &Input, sink: &Sink) -> Option<Note> {
    let compression = input.checkpoint.compression()?;
    Some(Note::new(&input.name, format!("is compressed ({}), {} is not", compression.name(), sink.name)))
}

fn one_file(form: &Form) -> Result<&SharedSource> {
    match form {
        Form::File(source) => Ok(source),
        _ => Err(Error::refused("made of several files, which cannot be edited in place")),
    }
}

/// Whether a file of this container has what is asked for; all of torch's containers have the same extensions.
fn is_format_of(format: Format, container: Container) -> bool {
    match container {
        Container::Safetensors => format == Format::Safetensors,
        Container::Npz => format == Format::Npz,
        _ => format == Format::Torch,
    }
}
