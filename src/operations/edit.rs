//! Editing: values, subtrees and keys of one input are set, deleted and moved, everything else stays byte for byte.

use crate::checkpoint::alter::{Altered, Step};
use crate::checkpoint::{Checkpoint, Container};
use crate::error::{Error, Result};
use crate::message::{Message, Note, Setting};
use crate::operations::destination::{Destination, Edit, Edited, Original};
use crate::progress::Progress;
use crate::report::edit::{Edits, Row};
use crate::report::figures::counted;
use crate::write::rewrite::Change;

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
    let checkpoint = &mut original.input.checkpoint;
    let mut altered = Altered::new(checkpoint)?;
    let mut changes = Vec::with_capacity(options.steps.len());
    for step in &options.steps {
        let done = altered.step(checkpoint, step)?;
        let (operation, name, to) = match step {
            Step::Set { name, .. } => ("set", name, None),
            Step::Delete { name } => ("delete", name, None),
            Step::Move { from, to } => ("move", from, Some(to.clone())),
        };
        changes.push(Row { operation, name: name.clone(), to, old: done.old, new: done.new });
    }
    let mut notes = Vec::new();
    let unused = altered.unused_storages(checkpoint)?;
    if unused > 0 {
        let storages = counted(unused as u64, "storage");
        if checkpoint.container == Container::Legacy {
            let message = format!("nothing would use {storages} any more, and torch refuses a legacy file with such");
            return Err(Error::unsupported(message).advise("make a zip of it first with `ckpt convert`"));
        }
        if checkpoint.container == Container::Zip {
            let message = format!("nothing uses {storages} of the file any more; `ckpt convert` leaves them out");
            notes.push(Note::new(&original.input.name, message));
        }
    }
    let edit = Steps { altered: &altered };
    if matches!(destination, Destination::Nowhere) {
        // what cannot be written is not shown as if it could
        edit.change(&original.input.checkpoint)?;
    }
    let Edited { output, in_place, bytes, notes: more } = destination.write(original, Some(&edit), progress)?;
    notes.extend(more);
    let file = original.input.name.clone();
    Ok(Edits { schema: Edits::SCHEMA, file, output, in_place, bytes, changes, notes })
}

/// The steps, which the objects have seen already.
struct Steps<'a> {
    altered: &'a Altered,
}

impl Edit for Steps<'_> {
    fn change(&self, checkpoint: &Checkpoint) -> Result<Change> {
        self.altered.pickle(checkpoint).map(Change::Pickle)
    }

    fn apply(&self, _: &mut Checkpoint) -> Result<()> {
        let advice =
            Message::from("use ").setting(Setting::Output).text(" with an extension of torch's, then `ckpt convert`");
        Err(Error::refused("an edit keeps the format of its input").advise(advice))
    }

    fn change_in_shard(&self, _: &Checkpoint) -> Result<Option<Change>> {
        Err(Error::refused("shards cannot be edited"))
    }

    fn name_in_index(&self, _: &Checkpoint, _: &str) -> Option<&str> {
        None
    }
}
