//! What `ckpt average` did: the JSON schema `ckpt.average/1`.

use std::io::{self, Write};

use serde::Serialize;

use crate::checkpoint::salvage::Lost;
use crate::message::Note;
use crate::render::{Document, Report};
use crate::report::convert::LeftOut;
use crate::report::written::{self, Written};

/// One average.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Averaging {
    /// Always `ckpt.average/1`.
    pub schema: &'static str,
    /// The inputs as given, in order.
    pub inputs: Vec<String>,
    /// The output as given.
    pub output: String,
    /// `torch`, `torch-legacy`, `safetensors` or `npz`.
    pub to: &'static str,
    /// `mean`, `weighted` or `ema`.
    pub method: &'static str,
    /// How much of each input is in the result; 1 in all.
    pub shares: Vec<f64>,
    /// Which part of the last input is averaged, `.` where that is all of it.
    pub weights: String,
    /// Every file that was written, in order.
    pub files: Vec<Written>,
    /// Names of the weights that were averaged, shared ones counted each.
    pub averaged: u64,
    /// Weights that are those of the last input: integers, booleans, and numbers that are no weights.
    pub from_last: Vec<String>,
    /// Tensors that hold NaN or infinity.
    pub not_finite: Vec<NotFinite>,
    /// Weights that became infinite in the mean, though no input holds such numbers there.
    pub overflowed: Vec<NotFinite>,
    /// Tensors beside the weights that share memory with them, and so are averaged too.
    pub also_changed: Vec<String>,
    /// Tensors beside the weights that were written though their bytes do not match the last input's checksums.
    pub doubtful: Vec<Lost>,
    /// Names that are in the last input and not in the output; what holds tensors says how many.
    pub left_out: Vec<LeftOut>,
    /// What else there is to know, in order.
    #[serde(skip)]
    pub notes: Vec<Note>,
}

/// A tensor with numbers that are not finite.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NotFinite {
    /// The input, or the output.
    pub file: String,
    /// Its name; the first of those that share its memory.
    pub name: String,
    /// How many numbers; complex elements are two each.
    pub values: u64,
}

impl Report for Averaging {
    fn document(&self) -> Document<'_> {
        written::document(&self.files)
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        crate::render::json::write(self, out)
    }
}
