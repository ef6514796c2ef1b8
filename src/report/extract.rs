//! What `ckpt extract -o` wrote: the JSON schema `ckpt.extract/1`.

use std::io::{self, Write};

use crate::checkpoint::salvage::Lost;
use crate::message::Note;
use crate::render::{Document, Report, json};

/// One run that wrote something.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Extraction {
    /// Always [`Extraction::SCHEMA`].
    pub schema: &'static str,
    /// The input as given.
    pub file: String,
    /// The output as given.
    pub output: String,
    /// The format: `npy`, `npz`, `json`, `csv`, `bin`, `png`, `safetensors`, `torch`.
    pub format: String,
    /// Bytes of all files that were written.
    pub bytes: u64,
    /// Tensors and values that were written, in file order.
    pub written: Vec<Written>,
    /// Names of what was chosen and the format cannot hold.
    pub left_out: Vec<String>,
    /// Tensors whose bytes do not match the input's checksums.
    pub doubtful: Vec<Lost>,
    /// For stderr: what there is to know.
    #[serde(skip)]
    pub notes: Vec<Note>,
}

/// One tensor, part of a tensor, or value.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Written {
    /// The name in the output.
    pub name: String,
    /// The file in a directory.
    pub file: Option<String>,
    /// As written; `None` for values.
    pub dtype: Option<String>,
    /// As written; `None` for values.
    pub shape: Option<Vec<u64>>,
}

impl Extraction {
    /// The schema's name.
    pub(crate) const SCHEMA: &'static str = "ckpt.extract/1";
}

impl Report for Extraction {
    /// Nothing: what was written is where it was asked for.
    fn document(&self) -> Document<'_> {
        Document::default()
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}
