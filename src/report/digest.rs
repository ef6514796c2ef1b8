//! The digest of a file, as `sha256sum` shows one: the JSON schema `ckpt.digest/1`. The lines of lists are
//! [`line`]'s affair.

pub(crate) mod line;

use std::io::{self, Write};

use serde::Serialize;

use crate::message::Message;
use crate::render::{Document, Report, json};
use crate::report::convert::LeftOut;
use crate::report::figures::{counted, some_of};

/// The digest of one file.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Digested {
    /// Always `ckpt.digest/1`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub schema: Schema,
    /// The path as given; `-` for standard input.
    pub file: String,
    /// Its bytes in base64, where it is no Unicode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<String>,
    /// In lower-case hexadecimal.
    pub digest: String,
    /// `weights`, or `all` where every tensor and value counts.
    pub of: &'static str,
    /// The part that counts: `.` is all of it.
    pub root: String,
    /// Tensors that count.
    pub tensors: u64,
    /// Values that count.
    pub values: u64,
    /// Bytes of the tensors' elements, shared ones counted each time.
    pub bytes: u64,
    /// What is in the file and does not count; what holds tensors says how many.
    pub left_out: Vec<LeftOut>,
    /// What a list says that it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// Whether it is that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<bool>,
    /// Aliases in safetensors' metadata that count as tensors, with what they stand for.
    #[serde(skip)]
    pub aliases: Vec<(String, String)>,
    /// What else there is to know.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// The name of the JSON schema.
#[derive(Debug, Clone, Copy, Default)]
pub struct Schema;

impl Serialize for Schema {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("ckpt.digest/1")
    }
}

impl Digested {
    /// Which part counts, where it is not all of the file.
    pub fn said(&self) -> Vec<Message> {
        let mut said = Vec::new();
        if self.of == "weights" && self.root != "." {
            said.push(format!("weights: {}, {}", self.root, counted(self.tensors, "tensor")).into());
        }
        if !self.left_out.is_empty() {
            let names = self.left_out.iter().map(|left| match left.tensors {
                Some(tensors) => format!("{} ({})", left.name, counted(tensors as u64, "tensor")),
                None => left.name.clone(),
            });
            said.push(format!("not in the digest: {}", some_of(names)).into());
        }
        if !self.aliases.is_empty() {
            let pairs = self.aliases.iter().map(|(alias, kept)| format!("{alias} = {kept}"));
            said.push(
                format!("tensors by __metadata__, each as all of the one it stands for: {}", some_of(pairs)).into(),
            );
        }
        said
    }
}

impl Report for Digested {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        match self.matches {
            None => document.line(line::of(&self.digest, &self.name())),
            Some(matches) => document.line(line::verdict(&self.name(), if matches { "OK" } else { "FAILED" })),
        }
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}

/// A file that a list names and that cannot be read.
#[derive(Debug)]
pub(crate) struct Unread<'a>(pub &'a [u8]);

impl Report for Unread<'_> {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        document.line(line::verdict(self.0, "FAILED open or read"));
        document
    }

    fn write_json(&self, _: &mut dyn Write) -> io::Result<()> {
        // the line for what cannot be read is `ckpt.error/1`
        Ok(())
    }
}

impl Digested {
    /// The bytes of its name.
    fn name(&self) -> Vec<u8> {
        use base64::Engine;
        let bytes = self.file_bytes.as_ref();
        let bytes = bytes.and_then(|bytes| base64::engine::general_purpose::STANDARD.decode(bytes).ok());
        bytes.unwrap_or_else(|| self.file.as_bytes().to_vec())
    }
}
