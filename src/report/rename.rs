//! What `ckpt strip-prefix` and `ckpt rename` did, or would do.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::render::{Align, Cell, Column, Document, Fit, Report, Style, Table, json};
use crate::report::figures::counted;

/// The renamed names of one input.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Renaming {
    /// [`Renaming::SCHEMA`].
    pub schema: &'static str,
    /// The input as given.
    pub file: String,
    /// What was written, as given: the input for `--in-place`, null when nothing was.
    pub output: Option<String>,
    /// Whether the input itself was edited.
    pub in_place: bool,
    /// Bytes written: of the output, or those appended to the input.
    pub bytes: Option<u64>,
    /// State dicts that were looked at.
    pub state_dicts: u64,
    /// Names that changed, in file order.
    pub renamed: Vec<Row>,
}

/// One name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    pub const SCHEMA: &'static str = "ckpt.rename/1";

    /// What changed in one sentence, for a note.
    pub fn summary(&self) -> String {
        let mut dicts: Vec<&str> = self.renamed.iter().map(|row| &*row.within).collect();
        dicts.dedup();
        let names = counted(self.renamed.len() as u64, "name");
        match self.renamed.first() {
            None => "nothing to rename".to_owned(),
            Some(first) => {
                let (old, new) = (first.whole(&first.old), first.whole(&first.new));
                let more = if self.renamed.len() > 1 { ", …" } else { "" };
                format!("renamed {names} in {} ({old} -> {new}{more})", counted(dicts.len() as u64, "state dict"))
            }
        }
    }
}

impl Report for Renaming {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        let arrow = Column { align: Align::Left, ..Column::default() };
        let rows = self.renamed.iter().map(|row| {
            let new = Cell::new(row.whole(&row.new), Style::Good);
            vec![row.whole(&row.old).into(), Cell::new("->", Style::Dim), new]
        });
        document.table(Table {
            columns: vec![Column::left("").fit(Fit::LineAbove), arrow, Column::left("").fit(Fit::Over)],
            rows: rows.collect(),
        });
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}
