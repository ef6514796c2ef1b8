//! What `ckpt repair` did: the JSON schema `ckpt.repair/1`.

use std::io::{self, Write};

use serde::Serialize;

use crate::checkpoint::salvage::Lost;
use crate::message::{Message, Setting};
use crate::render::{Document, Report, json};
use crate::report::figures::counted;

/// Lost tensors that a sentence names; JSON has all of them.
const MAX_NAMED: usize = 8;

/// One repair.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Repair {
    /// Always [`Repair::SCHEMA`].
    pub schema: &'static str,
    /// The input as given.
    pub file: String,
    /// What was written, as given: the input for `--in-place`, null when nothing was.
    pub output: Option<String>,
    /// What was done.
    pub action: Action,
    /// Tensors that were saved, each counted once; null where the file was not taken apart.
    pub tensors: Option<u64>,
    /// Tensors that could not be, by every name they have.
    pub lost: Vec<Lost>,
    /// Tensors that were saved and may not be what was written (`--keep-damaged`), by every name they have.
    pub doubtful: Vec<Lost>,
    /// Whether checksums prove what is saved, or what the file was found to hold. Formats without any cannot be verified.
    pub verified: bool,
    /// What else there is to say: members that were damaged, bytes that were left aside.
    pub notes: Vec<String>,
}

/// What a repair did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// An interrupted edit in place is complete now.
    Finished,
    /// An interrupted edit in place is undone.
    Undone,
    /// What was left of a damaged file is in a new one.
    Salvaged,
    /// What followed the end of a whole archive is left off.
    Trimmed,
    /// Ends of lines that a transfer had changed are what they were.
    Restored,
    /// There was nothing to repair.
    Nothing,
}

impl Repair {
    /// The name of this JSON schema.
    pub(crate) const SCHEMA: &'static str = "ckpt.repair/1";

    /// Of a file that nothing is known of yet.
    pub(crate) fn new(file: &str, action: Action) -> Self {
        Repair {
            schema: Self::SCHEMA,
            file: file.to_owned(),
            output: None,
            action,
            tensors: None,
            lost: Vec::new(),
            doubtful: Vec::new(),
            verified: true,
            notes: Vec::new(),
        }
    }

    /// All of it in sentences, the notes last.
    pub(crate) fn told(&self) -> Vec<Message> {
        let mut told = Vec::new();
        if self.action == Action::Nothing {
            let otherwise = if self.verified { ", and no checksum says otherwise" } else { "" };
            told.push(format!("nothing to repair: every tensor is there{otherwise}").into());
        }
        if let Some(saved) = self.tensors {
            let saved = Message::from(format!("saved {}, ", counted(saved, "tensor")));
            told.push(match self.lost.is_empty() {
                true => saved.text("none is lost"),
                false => saved.text("lost: ").message(named(&self.lost)),
            });
        }
        if !self.doubtful.is_empty() {
            told.push(Message::from("kept, and maybe damaged: ").message(named(&self.doubtful)));
        }
        let each = self.lost.iter().chain(&self.doubtful).take(MAX_NAMED);
        told.extend(each.map(|lost| format!("{}: {}", lost.name, lost.why).into()));
        told.extend(self.notes.iter().map(Message::from));
        told
    }
}

fn named(all: &[Lost]) -> Message {
    let named: Vec<&str> = all.iter().take(MAX_NAMED).map(|lost| lost.name.as_str()).collect();
    let message = Message::from(named.join(", "));
    match all.len().saturating_sub(MAX_NAMED) {
        0 => message,
        more => message.text(format!(" and {more} more (")).setting(Setting::Json).text(" names all)"),
    }
}

impl Report for Repair {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        for lost in &self.lost {
            document.line(format!("lost: {}: {}", lost.name, lost.why));
        }
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}
