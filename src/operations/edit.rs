//! Editing: values, tensors, subtrees and keys of one input are set, deleted and moved, everything else stays byte for byte.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::alter::{Altered, Done, Step};
use crate::checkpoint::near::near;
use crate::checkpoint::{Checkpoint, Container, Entry};
use crate::data::Elements;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::{Message, Note, Setting};
use crate::operations::destination::{Destination, Edit, Edited, Original};
use crate::progress::{Progress, Silent};
use crate::report::edit::{Edits, Row};
use crate::report::figures::counted;
use crate::source::FileSource;
use crate::write::rewrite::{Change, Objects};

/// Names that a note lists.
const NAMES_SHOWN: usize = 8;

/// What to change.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// One after the other, each in what the ones before it left.
    pub steps: Vec<Step>,
}

impl Options {
    /// These steps.
    pub fn of(steps: Vec<Step>) -> Self {
        Options { steps }
    }
}

/// The elements of a file of one array, as NumPy writes it: in rows or columns, in either byte order. Errors name the file.
pub fn read_array(path: &Path, limits: &Limits) -> Result<Elements> {
    let read = || {
        let checkpoint = Checkpoint::open(Arc::new(FileSource::open(path)?), limits, &Silent);
        let checkpoint = match checkpoint {
            Err(e) if e.kind() == ErrorKind::NotACheckpoint => return Err(Error::refused("is not an .npy file")),
            checkpoint => checkpoint?,
        };
        if checkpoint.container() != Container::Npy {
            return Err(Error::refused(format!("is not an .npy file: detected {}", checkpoint.container().name())));
        }
        let id = checkpoint.tensors.of(checkpoint.root);
        let tensor = id.and_then(|id| checkpoint.tensor(id));
        let tensor = tensor.ok_or_else(|| Error::refused("holds Python objects, and no numbers"))?;
        match &tensor.dtype {
            Some(DType::Known(_)) => tensor.elements(&checkpoint.storages),
            Some(other) => Err(Error::refused(format!("holds elements of type {other}, which no tensor has"))),
            None => Err(Error::refused("holds no numbers")),
        }
    };
    read().map_err(|e: Error| e.of_input(&path.display().to_string()))
}

/// Does all steps, and writes the result; nothing where one of them cannot be done.
pub fn edit(
    original: &mut Original,
    options: &Options,
    destination: &mut Destination,
    progress: &dyn Progress,
) -> Result<Edits> {
    let file = original.input.name.clone();
    edited(original, options, destination, progress).map_err(|e| e.of_input(&file))
}

fn edited(
    original: &mut Original,
    options: &Options,
    destination: &mut Destination,
    progress: &dyn Progress,
) -> Result<Edits> {
    let file = original.input.name.clone();
    let checkpoint = &mut original.input.checkpoint;
    let mut altered = Altered::new(checkpoint)?;
    let mut changes = Vec::with_capacity(options.steps.len());
    let mut notes = Vec::new();
    for step in &options.steps {
        let done = altered.step(checkpoint, step)?;
        notes.extend(changed_too(step, &done).map(|message| Note::new(&file, message)));
        notes.extend(resembling(checkpoint, step, &done)?.map(|message| Note::new(&file, message)));
        changes.push(row(step, done));
    }
    if let Altered::Objects(objects) = &altered {
        notes.extend(unused(objects.unused_storages(checkpoint)?, checkpoint.container(), &file)?);
    }
    let edit = Steps { altered: &altered };
    if matches!(destination, Destination::Nowhere) {
        // what cannot be written is not shown as if it could
        edit.change(&original.input.checkpoint)?;
    }
    let Edited { output, in_place, bytes, notes: more } = destination.write(original, Some(&edit), progress)?;
    notes.extend(more);
    Ok(Edits { schema: Edits::SCHEMA, file, output, in_place, bytes, changes, notes })
}

fn row(step: &Step, done: Done) -> Row {
    let (operation, name, to) = match step {
        Step::Set { name, .. } => ("set", name, None),
        Step::SetTensor { name, .. } => ("set_tensor", name, None),
        Step::Delete { name } => ("delete", name, None),
        Step::Move { from, to } => ("move", from, Some(to.clone())),
        Step::SetMetadata { key, .. } => ("set_metadata", key, None),
    };
    Row { operation, name: name.clone(), to, old: done.old, new: done.new, also: done.also }
}

/// What else a tensor's new elements change.
fn changed_too(step: &Step, done: &Done) -> Option<String> {
    let Step::SetTensor { name, .. } = step else { return None };
    let shown: Vec<String> = done.also.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect();
    let more = done.also.len().saturating_sub(shown.len());
    let verb = match (shown.as_slice(), more) {
        ([], _) => return None,
        ([_], 0) => "shares",
        _ => "share",
    };
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let changes = if verb == "shares" { "changes" } else { "change" };
    Some(format!("{}{rest} {verb} memory with `{name}` and {changes} too", shown.join(", ")))
}

/// What is said of a key that was not there, where it may be a misspelt one.
fn resembling(checkpoint: &Checkpoint, step: &Step, done: &Done) -> Result<Option<String>> {
    let Step::Set { name, .. } = step else { return Ok(None) };
    if done.old.is_some() {
        return Ok(None);
    }
    let names: Vec<String> = checkpoint.names(&checkpoint.top())?.entries.iter().map(Entry::name).collect();
    let others = names.iter().map(String::as_str).filter(|other| other != name);
    let near: Vec<String> = near(name, others).into_iter().map(|other| format!("`{other}`")).collect();
    Ok((!near.is_empty()).then(|| format!("`{name}` is new; there is {} already", near.join(", "))))
}

/// What is said of storages that no object uses any more.
fn unused(count: usize, container: Container, file: &str) -> Result<Option<Note>> {
    if count == 0 {
        return Ok(None);
    }
    let storages = counted(count as u64, "storage");
    if container == Container::Legacy {
        let message = format!("nothing would use {storages} any more, and torch refuses a legacy file with such");
        return Err(Error::unsupported(message).advise("make a zip of it first with `ckpt convert`"));
    }
    let message = format!("nothing uses {storages} of the file any more; `ckpt convert` leaves them out");
    Ok((container == Container::Zip).then(|| Note::new(file, message)))
}

/// The steps, which the objects have seen already.
struct Steps<'a> {
    altered: &'a Altered,
}

impl Edit for Steps<'_> {
    fn change(&self, checkpoint: &Checkpoint) -> Result<Change> {
        Ok(match self.altered {
            Altered::Objects(objects) => Change::Objects(Objects {
                pickle: objects.pickle(checkpoint)?,
                storages: objects.members(checkpoint)?,
                over: objects.over(checkpoint)?,
            }),
            Altered::Arrays(flat) => Change::Arrays(flat.clone()),
        })
    }

    fn apply(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        let kind = checkpoint.container().name();
        let advice = Message::from("use ").setting(Setting::Output).text(" with its extension, then `ckpt convert`");
        Err(Error::refused(format!("an edit keeps the format of its input, {kind}")).advise(advice))
    }

    fn change_in_shard(&self, _: &Checkpoint) -> Result<Option<Change>> {
        Err(Error::refused("shards cannot be edited"))
    }

    fn name_in_index(&self, _: &Checkpoint, _: &str) -> Option<&str> {
        None
    }
}
