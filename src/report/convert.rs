//! What `ckpt convert` did: the JSON schema `ckpt.convert/1`.

use std::io::{self, Write};

use serde::Serialize;

use crate::checkpoint::salvage::Lost;
use crate::render::{Document, Report};

/// One conversion.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Conversion {
    /// Always `ckpt.convert/1`.
    pub schema: &'static str,
    /// The input as given.
    pub input: String,
    /// The output as given.
    pub output: String,
    /// `torch`, `torch-legacy`, `safetensors` or `npz`.
    pub to: &'static str,
    /// Every file that was written, in order.
    pub files: Vec<Written>,
    /// Tensors written.
    pub tensors: u64,
    /// Names that are in the input and not in the output; what holds tensors says how many.
    pub left_out: Vec<LeftOut>,
    /// Tensors that share memory in the input: by format written once each, or dropped as aliases of another.
    pub shared: Vec<Alias>,
    /// Finite elements that a cast made infinite.
    pub overflows: u64,
    /// Tensors that were written though their bytes do not match the input's checksums.
    pub doubtful: Vec<Lost>,
}

/// A file that was written.
#[derive(Debug, Clone, Serialize)]
pub struct Written {
    /// Its path.
    pub file: String,
    /// Its size.
    pub bytes: u64,
}

/// Something of the input that is not in the output.
#[derive(Debug, Clone, Serialize)]
pub struct LeftOut {
    /// Its name from the top object on.
    pub name: String,
    /// How many tensors are in it.
    pub tensors: Option<usize>,
}

/// A tensor that shares memory with one before it.
#[derive(Debug, Clone, Serialize)]
pub struct Alias {
    /// Its name.
    pub name: String,
    /// The other's.
    pub shares_with: String,
    /// It was left out and is an alias in `__metadata__`.
    pub dropped: bool,
}

impl Report for Conversion {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        for written in &self.files {
            document.line(format!("{}: {} bytes", written.file, written.bytes));
        }
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        crate::render::json::write(self, out)
    }
}
