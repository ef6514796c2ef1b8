//! The checkpoints that an archive holds, as `ckpt ls` lists them: the JSON schema `ckpt.ls-archive/1`.

use std::io::{self, Write};

use super::figures::{count, counted, size};
use super::ls::SortBy;
use super::names;
use crate::message::Note;
use crate::render::{Cell, Column, Document, Fit, Report, Style, Table, json};

/// One archive. Fields stand in the order of the JSON.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ArchiveListing {
    /// Always [`ArchiveListing::SCHEMA`].
    pub schema: &'static str,
    /// The input as given.
    pub file: String,
    /// Its bytes in base64, where it is no Unicode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<String>,
    /// `zip archive`, `tar archive`, `package`.
    pub container: &'static str,
    /// Bytes on disk.
    pub bytes: u64,
    /// In the archive's order, those of archives in it too, or sorted as asked.
    pub checkpoints: Vec<ArchivedRow>,
    /// Members of the outermost archive.
    pub members: u64,
    /// For stderr: which of them are dangerous to load.
    #[serde(skip)]
    pub notes: Vec<Note>,
}

/// One checkpoint in an archive, or a member that may be one and cannot be read.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ArchivedRow {
    /// The member, with further ones behind it where archives nest.
    pub name: String,
    /// What names it on a command line: `ARCHIVE::member`.
    pub file: String,
    /// Its bytes in base64, where it is no Unicode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<String>,
    /// As in `ckpt.ls/1`; null where it cannot be read.
    pub container: Option<&'static str>,
    /// How many tensors it has.
    pub tensors: Option<u64>,
    /// As in `ckpt.ls/1`.
    pub parameters: Option<u64>,
    /// Bytes of the member, expanded.
    pub bytes: Option<u64>,
    /// Why it cannot be read.
    pub problem: Option<String>,
    /// Whether that is for want of a password.
    #[serde(skip)]
    pub is_encrypted: bool,
}

impl ArchiveListing {
    /// The name of the JSON schema.
    pub(crate) const SCHEMA: &'static str = "ckpt.ls-archive/1";

    /// Whether there is more to list than that all is encrypted.
    pub(crate) fn says_more_than_encrypted(&self) -> bool {
        self.checkpoints.iter().any(|row| !row.is_encrypted)
    }

    /// Puts the checkpoints in an order.
    pub(crate) fn sort(&mut self, by: SortBy, reverse: bool) {
        match by {
            SortBy::File => {}
            SortBy::Name => self.checkpoints.sort_by(|a, b| a.name.cmp(&b.name)),
            SortBy::Size => self.checkpoints.sort_by_key(|row| std::cmp::Reverse(row.bytes)),
        }
        if reverse {
            self.checkpoints.reverse();
        }
    }
}

impl Report for ArchiveListing {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        let facts = format!("{}, {}, {}", self.container, counted(self.members, "member"), size(self.bytes));
        document.prose(format!("{}: {facts}", super::ls::layout::without_temporary(&self.file)));
        let rows = self.checkpoints.iter().map(|row| {
            vec![
                Cell::from(row.file.as_str()),
                Cell::from(row.container.unwrap_or("")),
                Cell::from(row.tensors.map_or(String::new(), count)),
                Cell::from(row.parameters.map_or(String::new(), count)),
                Cell::from(row.bytes.map_or(String::new(), size)),
                Cell::new(row.problem.as_deref().unwrap_or(""), Style::Bad),
            ]
        });
        document.table(Table {
            columns: vec![
                Column::left("checkpoint").fit(Fit::LineAbove),
                Column::left("container"),
                Column::right("tensors"),
                Column::right("parameters"),
                Column::right("size"),
                Column::left("remarks").fit(Fit::LineBelow),
            ],
            rows: rows.collect(),
        });
        document.gap();
        let (whole, broken): (Vec<_>, Vec<_>) = self.checkpoints.iter().partition(|row| row.problem.is_none());
        document.prose(counted(whole.len() as u64, "checkpoint"));
        if !broken.is_empty() {
            let broken = counted(broken.len() as u64, "member");
            document.prose(Cell::new(format!("{broken} cannot be read, see the remarks"), Style::Bad));
        }
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}

/// What names the checkpoints on a command line, one per line (`--names`); as JSON `ckpt.names/1`.
#[derive(Debug)]
pub(crate) struct Addresses<'a>(pub &'a ArchiveListing);

impl Report for Addresses<'_> {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        self.0.checkpoints.iter().for_each(|row| document.line(row.file.as_str()));
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let names = self.0.checkpoints.iter().map(|row| row.file.as_str());
        names::write(&self.0.file, self.0.file_bytes.as_deref(), names, out)
    }
}
