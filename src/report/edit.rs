//! What `ckpt edit` did, or would do.

use std::io::{self, Write};

use serde::Serialize;

use crate::message::Note;
use crate::render::{Cell, Document, Report, Style, json};
use crate::report::arrows::arrows;

/// The changes in one input.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Edits {
    /// [`Edits::SCHEMA`].
    pub schema: &'static str,
    /// The input as given.
    pub file: String,
    /// What was written, as given: the input that was edited in place, null when nothing was.
    pub output: Option<String>,
    /// Whether the input itself was edited.
    pub in_place: bool,
    /// Bytes written: of the output, or those appended to or written over the input.
    pub bytes: Option<u64>,
    /// What changed, in the order of the steps.
    pub changes: Vec<Row>,
    /// What else there is to know, in order.
    #[serde(skip)]
    pub notes: Vec<Note>,
}

/// What one step changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Row {
    /// `set`, `set_tensor`, `delete`, `move` or `set_metadata`.
    pub operation: &'static str,
    /// The name of what changed.
    pub name: String,
    /// Its new name, where it has one.
    pub to: Option<String>,
    /// What was there, in a few words; null for what is new.
    pub old: Option<String>,
    /// What is there now; null for what was deleted.
    pub new: Option<String>,
    /// Names of tensors that share memory with it and changed too.
    pub also: Vec<String>,
}

impl Edits {
    /// The name of this JSON schema.
    pub(crate) const SCHEMA: &'static str = "ckpt.edit/1";
}

impl Report for Edits {
    fn document(&self) -> Document<'_> {
        let rows = self.changes.iter().map(|row| {
            let before = match (&row.to, &row.old) {
                (None, Some(old)) => format!("{}: {old}", row.name),
                (Some(_), _) => row.name.clone(),
                (None, None) => format!("{}: (new)", row.name),
            };
            let after = match (&row.to, &row.new) {
                (Some(to), _) => Cell::new(to.clone(), Style::Good),
                (None, Some(new)) => Cell::new(new.clone(), Style::Good),
                (None, None) => Cell::new("(deleted)", Style::Dim),
            };
            (before, after)
        });
        arrows(rows)
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}
