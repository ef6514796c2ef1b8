//! What `ckpt convert` did: the JSON schema `ckpt.convert/1`.

use std::io::{self, Write};

use serde::Serialize;

use crate::checkpoint::salvage::Lost;
use crate::message::Note;
use crate::render::{Document, Report};
use crate::report::figures::some_of;
use crate::report::written::{self, Written};

/// One conversion.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// The job of several that this was, `3/8`; only where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// How many shards there are in all; only where there are shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u64>,
    /// The part of the input that was taken for its weights (`.` is all of it); null where nothing had to be found.
    pub weights: Option<String>,
    /// Tensors written.
    pub tensors: u64,
    /// Names that are in the input and not in the output; what holds tensors says how many.
    pub left_out: Vec<LeftOut>,
    /// Tensors that share memory in the input: by format written once each, or dropped as aliases of another.
    pub shared: Vec<Alias>,
    /// Finite elements that a cast made infinite, in all.
    pub overflows: u64,
    /// The same by tensor.
    pub overflowed: Vec<Overflowed>,
    /// The type that was cast to.
    pub dtype: Option<String>,
    /// Floating tensors that a cast left as they are, as they are numbers and not weights.
    pub not_cast: Vec<String>,
    /// Tensors that were written though their bytes do not match the input's checksums.
    pub doubtful: Vec<Lost>,
    /// Objects that became what they hold, so that torch opens the output with `weights_only=True`.
    pub replaced: Vec<Replacement>,
    /// What else there is to know, in order.
    #[serde(skip)]
    pub notes: Vec<Note>,
}

/// A tensor that a cast did not leave finite.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Overflowed {
    /// Its name; the first of those that share its memory.
    pub name: String,
    /// Finite elements that became infinite.
    pub values: u64,
}

impl Conversion {
    /// Which tensors overflowed, for people.
    pub(crate) fn overflow_note(&self) -> Option<String> {
        let dtype = self.dtype.as_deref().unwrap_or_default();
        let each = |found: &Overflowed| {
            let values = if found.values == 1 { "value" } else { "values" };
            format!("{} {values} of {}", found.values, found.name)
        };
        let names = some_of(self.overflowed.iter().map(each));
        (!names.is_empty()).then(|| format!("{names} overflowed {dtype} and became infinite"))
    }

    /// Which tensors kept their type, for people.
    pub(crate) fn not_cast_note(&self) -> Option<String> {
        let names = some_of(self.not_cast.iter().cloned());
        (!names.is_empty()).then(|| format!("not cast: {names}"))
    }
}

/// An object that became what it holds.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Replacement {
    /// Its name from the top object on.
    pub name: String,
    /// Its class; of functions and classes `function` and `type`.
    pub class: String,
    /// The class of what stands in its place.
    pub became: String,
}

/// Something of the input that is not in the output.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeftOut {
    /// Its name from the top object on.
    pub name: String,
    /// How many tensors are in it.
    pub tensors: Option<usize>,
}

/// A tensor that shares memory with one before it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
        written::document(&self.files)
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        crate::render::json::write(self, out)
    }
}
