//! What `ckpt strip-prefix` and `ckpt rename` did, or would do.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::message::{Message, Note};
use crate::render::{Cell, Document, Report, Style, json};
use crate::report::arrows::arrows;

/// The renamed names of one input.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Renaming {
    /// [`Renaming::SCHEMA`].
    pub schema: &'static str,
    /// The input as given.
    pub file: String,
    /// What was written, as given: the input that was edited in place, null when nothing was.
    pub output: Option<String>,
    /// Whether the input itself was edited.
    pub in_place: bool,
    /// Bytes written: of the output, or those appended to or written over the input.
    pub bytes: Option<u64>,
    /// State dicts that were looked at.
    pub state_dicts: u64,
    /// Names that changed, in file order; only where they were asked for.
    pub renamed: Vec<Row>,
    /// How many names change.
    #[serde(skip)]
    pub changes: u64,
    /// Why no name changes, where one should.
    #[serde(skip)]
    pub nothing: Option<Message>,
    /// What changed, in one sentence.
    #[serde(skip)]
    pub summary: String,
    /// What else there is to know, in order.
    #[serde(skip)]
    pub notes: Vec<Note>,
}

/// One name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Row {
    /// The name of the state dict that has it; empty for the top object.
    #[serde(rename = "in", serialize_with = "text")]
    pub within: Arc<str>,
    /// The key before.
    pub old: String,
    /// The key after.
    pub new: String,
}

fn text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

impl Row {
    fn whole(&self, key: &str) -> String {
        if self.within.is_empty() { key.to_owned() } else { format!("{}.{key}", self.within) }
    }
}

impl Renaming {
    /// The name of this JSON schema.
    pub(crate) const SCHEMA: &'static str = "ckpt.rename/1";
}

impl Report for Renaming {
    fn document(&self) -> Document<'_> {
        arrows(self.renamed.iter().map(|row| (row.whole(&row.old), Cell::new(row.whole(&row.new), Style::Good))))
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}
