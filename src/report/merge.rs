//! What `ckpt merge` did: the JSON schema `ckpt.merge/1`.

use std::io::{self, Write};

use serde::Serialize;

use crate::checkpoint::salvage::Lost;
use crate::message::Note;
use crate::render::{Document, Report};
use crate::report::convert::{Alias, LeftOut};
use crate::report::written::{self, Written};

/// One merge.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Merging {
    /// Always `ckpt.merge/1`.
    pub schema: &'static str,
    /// The inputs, in order.
    pub inputs: Vec<Merged>,
    /// The output as given.
    pub output: String,
    /// `torch`, `torch-legacy`, `safetensors` or `npz`.
    pub to: &'static str,
    /// Every file that was written, in order.
    pub files: Vec<Written>,
    /// Tensors written.
    pub tensors: u64,
    /// Names that several inputs have, and whose it was that was kept.
    pub conflicts: Vec<Conflict>,
    /// Names of the output that were left out.
    pub left_out: Vec<LeftOut>,
    /// Tensors that share memory in an input: by format written once each, or dropped as aliases of another.
    pub shared: Vec<Alias>,
    /// Tensors that were written though their bytes do not match their input's checksums.
    pub doubtful: Vec<Lost>,
    /// What else there is to know, in order.
    #[serde(skip)]
    pub notes: Vec<Note>,
}

/// One input.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Merged {
    /// As given.
    pub file: String,
    /// The key that its object has in the output.
    pub key: Option<String>,
    /// The part of it that was taken for its weights (`.` is all of it); null where nothing had to be found.
    pub weights: Option<String>,
    /// Tensors taken.
    pub tensors: u64,
    /// What is in it and was not taken; what holds tensors says how many.
    pub left_out: Vec<LeftOut>,
}

/// A name that several inputs have.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Conflict {
    /// The name.
    pub name: String,
    /// The inputs, in order.
    pub inputs: Vec<String>,
    /// The one whose tensor or value was kept.
    pub kept: String,
}

impl Report for Merging {
    fn document(&self) -> Document<'_> {
        written::document(&self.files)
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        crate::render::json::write(self, out)
    }
}
