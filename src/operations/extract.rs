//! One thing taken out of a checkpoint, or several: shown, or written in a format of its own.
//!
//! [`choose`] says what is meant; [`show`] writes it to whoever reads, [`write`](fn@write) to files.

mod choose;
pub mod file_names;
mod nested;
mod parts;
mod place;
mod plan;
mod show;
mod write;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::salvage::Lost;
use crate::checkpoint::{Checkpoint, Entry, Item, StorageId, Tensor};
use crate::data::Elements;
use crate::data::recast::Recast;
use crate::data::subscript::Subscript;
use crate::dtype::{Class, DType};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::Setting;
use crate::operations::select::Select;
use crate::operations::{Input, Note};
use crate::progress::Progress;
use crate::report::extract::Extraction;
use crate::write::format::Format;
use crate::write::watch::{self, Watch};

pub use choose::Chosen;
pub use show::Text;

/// What is taken out: everything as it is, unless something is set.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Names of tensors and values, elements with everything below them, globs; empty for everything.
    pub names: Vec<String>,
    /// Where names begin, and which to leave out.
    pub select: Select,
    /// The part of each tensor.
    pub slice: Option<Subscript>,
    /// What floating-point tensors are cast to.
    pub dtype: Option<DType>,
    /// Pictures: the values that are black and white; the smallest and the largest without.
    pub range: Option<(f64, f64)>,
    /// Pictures: blue below zero, or below the middle of the range, red above.
    pub diverging: bool,
    /// Pictures: pixels of a value's side.
    pub scale: Option<u64>,
}

/// How what was chosen is shown.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// Tensors as torch prints them, strings raw, other values as Python's `repr`.
    Text(Text),
    /// One line, `ckpt.value/1`.
    Json,
}

/// Where what was chosen goes.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// A file, a directory, or `-`.
    pub path: &'a Path,
    /// The format, where the path's extension does not say it.
    pub format: Option<Format>,
    /// Whether files that exist are replaced.
    pub force: bool,
    /// The file that is read, to tell when it is the one to be written.
    pub input: Option<&'a Path>,
}

/// Finds what is meant. A name that matches nothing is an error.
pub fn choose(input: &Input, options: &Options) -> Result<Chosen> {
    let chosen = choose::choose(&input.checkpoint, &options.names, &options.select);
    chosen.map_err(|e| e.of_input(&input.name))
}

/// Writes what was chosen to `out`, for people or programs. Gives the tensors whose checksums do not match as notes.
pub fn show(input: &Input, chosen: &Chosen, options: &Options, form: Form, out: &mut dyn Write) -> Result<Vec<Note>> {
    let checkpoint = &input.checkpoint;
    let of_input = |e: Error| e.of_input(&input.name);
    check_cast(options, checkpoint, &chosen.entries).map_err(of_input)?;
    let watched = watch(checkpoint, chosen);
    let shown = match form {
        Form::Text(form) => show::text(checkpoint, chosen, options, form, out),
        Form::Json => show::write_line(input, chosen, options, out),
    };
    shown.and_then(|()| Ok(out.flush()?)).map_err(of_input)?;
    let doubtful = doubtful(input, watched)?;
    Ok(watch::told(&doubtful).map(|line| Note::new(&input.name, line)).collect())
}

/// Writes what was chosen to files, which appear whole or not at all.
pub fn write(
    input: &mut Input,
    chosen: &Chosen,
    options: &Options,
    to: &Destination<'_>,
    progress: &dyn Progress,
) -> Result<Extraction> {
    check_cast(options, &input.checkpoint, &chosen.entries).map_err(|e| e.of_input(&input.name))?;
    write::write(input, chosen, options, to, progress)
}

/// Storages that are looked at for their checksums even if few of their elements are wanted.
const MAX_WATCHED_BYTES: u64 = 64 << 20;

/// Has the checksums looked at of the storages that the chosen tensors lie in: those that are wanted for a good part, and
/// small ones.
fn watch(checkpoint: &Checkpoint, chosen: &Chosen) -> Watch {
    let mut wanted: Vec<(StorageId, u64)> = Vec::new();
    let mut places = HashMap::new();
    let ids = chosen.entries.iter().filter_map(|entry| match entry.item {
        Item::Tensor(id, _) => Some(id),
        _ => None,
    });
    for tensor in ids {
        for id in checkpoint.storages_of(tensor) {
            let place = *places.entry(id).or_insert_with(|| {
                wanted.push((id, 0));
                wanted.len() - 1
            });
            if let Some((_, bytes)) = wanted.get_mut(place) {
                let all = checkpoint.tensor(tensor).and_then(|tensor| tensor.bytes());
                *bytes = bytes.saturating_add(all.unwrap_or_default());
            }
        }
    }
    let storages = wanted.into_iter().filter(|(id, bytes)| {
        let stored = checkpoint.storages.get(*id).and_then(|storage| storage.available()).unwrap_or_default();
        stored <= MAX_WATCHED_BYTES || stored / 2 <= *bytes
    });
    let names = chosen.entries.iter().map(Entry::name).collect();
    Watch::start(checkpoint, storages.map(|(id, _)| id), &names)
}

/// The tensors whose bytes do not match the checksums of the input.
fn doubtful(input: &Input, watched: Watch) -> Result<Vec<Lost>> {
    let doubtful = watched.finish().and_then(|wrong| watch::named(&input.checkpoint, &wrong));
    doubtful.map_err(|e| e.of_input(&input.name))
}

fn tensors<'a>(checkpoint: &'a Checkpoint, entries: &'a [Entry]) -> impl Iterator<Item = &'a Tensor> {
    entries.iter().filter_map(|entry| match entry.item {
        Item::Tensor(id, _) => checkpoint.tensor(id),
        _ => None,
    })
}

/// A cast must have something to do.
fn check_cast(options: &Options, checkpoint: &Checkpoint, entries: &[Entry]) -> Result<()> {
    let Some(wanted) = &options.dtype else { return Ok(()) };
    let dtypes: Vec<&DType> = tensors(checkpoint, entries).filter_map(|tensor| tensor.dtype.as_ref()).collect();
    match dtypes.as_slice() {
        [one] if !is_castable(one) => {
            let message = format!("cannot cast {one} to {wanted}: only floating-point tensors can be cast");
            Err(Error::refused(message))
        }
        many if !many.iter().any(|dtype| is_castable(dtype)) => {
            Err(Error::refused(Setting::Dtype.then(format!(" {wanted}: no floating-point tensor to cast"))))
        }
        _ => Ok(()),
    }
}

fn is_castable(dtype: &DType) -> bool {
    dtype.class() == Some(Class::Float)
}

/// Floating elements in the wanted dtype, and what counts their overflows; others as they are.
fn cast(elements: Elements, dtype: Option<&DType>, limits: &Limits) -> Result<(Elements, Option<Arc<Recast>>)> {
    match dtype {
        Some(dtype) if is_castable(&elements.dtype) && elements.dtype != *dtype => {
            let (cast, source) = Recast::over(elements, dtype, limits)?;
            Ok((cast, Some(source)))
        }
        _ => Ok((elements, None)),
    }
}

/// An error with the name of the entry that it is about, when there are several.
fn named(error: Error, entry: &Entry, several: bool) -> Error {
    if several { error.of_part(&entry.name()) } else { error }
}
