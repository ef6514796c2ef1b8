//! What is to be written, found to be possible before anything is.

use std::collections::HashSet;
use std::sync::Arc;

use super::choose::Chosen;
use super::file_names::FileNames;
use super::parts::{self, Taken};
use super::place::OutputForm;
use super::{Options, cast, is_castable, named};
use crate::checkpoint::{Checkpoint, Entry, Item};
use crate::data::Elements;
use crate::data::number::numeric;
use crate::data::recast::Recast;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::{Message, Setting};
use crate::operations::{Input, Note};
use crate::pickle::NodeId;
use crate::report::extract::Written;
use crate::write::csv;
use crate::write::format::Format;
use crate::write::png::{self, Picture};
use crate::write::safetensors::NamedTensor;

/// A tensor, or a part of one, to be written under its name.
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) elements: Elements,
    cast: Option<Arc<Recast>>,
}

/// What is to be written, found to be possible.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) pieces: Vec<Piece>,
    pub(super) values: Vec<(String, NodeId)>,
    /// Tensors that stay the objects they are.
    objects: Vec<Written>,
    pub(super) left_out: Vec<String>,
}

impl Pieces {
    pub(super) fn new(options: &Options, checkpoint: &Checkpoint, chosen: &Chosen, place: OutputForm) -> Result<Self> {
        let (OutputForm::File(format) | OutputForm::Directory(format)) = place;
        let mut plan = Pieces::default();
        let tensors = chosen.entries.iter().filter(|entry| matches!(entry.item, Item::Tensor(..))).count();
        let one_only = matches!(place, OutputForm::File(format) if !format.is_collection());
        if one_only && tensors > 1 {
            let extension = format.extension();
            return Err(Error::refused(format!(
                "{tensors} tensors do not fit into .{extension}: name one, or write .npz, .safetensors, .pt or a directory"
            )));
        }
        if !one_only && matches!(place, OutputForm::Directory(_)) && format != Format::Json && format.is_collection() {
            let message = Message::from("a directory takes one file per tensor; use ").setting(Setting::To);
            return Err(Error::refused(message.text(" npy, csv, bin, png or json")));
        }
        let whole = format == Format::Torch && options.slice.is_none();
        let entries: Vec<_> = match whole {
            true => chosen.entries.iter().collect(),
            false => chosen.without_wrappers(checkpoint).collect(),
        };
        for entry in entries {
            let Item::Tensor(id, _) = entry.item else {
                match format.holds_values() || matches!(place, OutputForm::Directory(_)) {
                    true => plan.values.push((entry.name(), entry.node)),
                    false => plan.left_out.push(entry.name()),
                }
                continue;
            };
            let Some(tensor) = checkpoint.tensor(id) else { continue };
            let taken = Taken { checkpoint, tensor, subscript: options.slice.as_ref() };
            if whole {
                plan.objects.push(taken.as_it_is(entry.name(), options.dtype.as_ref()));
                continue;
            }
            taken.refuse_wrapper(&entry.name())?;
            let found = match one_only || format == Format::Torch {
                true => taken.elements().map(|elements| vec![("", elements)]),
                false => taken.parts(),
            };
            for (part, elements) in found.map_err(|e| named(e, entry, true))? {
                let piece =
                    Piece::new(options, checkpoint, entry, part, elements).map_err(|e| named(e, entry, true))?;
                piece.check(options, format).map_err(|e| named(e, entry, true))?;
                plan.pieces.push(piece);
            }
        }
        if plan.pieces.is_empty() && plan.values.is_empty() && plan.objects.is_empty() {
            let name = plan.left_out.first().cloned().unwrap_or_default();
            let message = Message::from(format!("{name} is not a tensor; write .json or .pt, or leave out "));
            return Err(Error::refused(message.setting(Setting::Output).text(" to print it")));
        }
        if matches!(format, Format::Npz | Format::Safetensors | Format::Json) && matches!(place, OutputForm::File(_)) {
            let mut names = HashSet::new();
            let twice = plan.pieces.iter().map(|piece| &piece.name).find(|name| !names.insert(name.as_str()));
            if let Some(name) = twice {
                let message = Message::from(format!("two tensors would be named {name}; choose one with "));
                let message = message.setting(Setting::Root).text(" or ").setting(Setting::Include);
                return Err(Error::refused(message));
            }
        }
        Ok(plan)
    }

    /// Bytes of all elements.
    pub(super) fn bytes(&self, limits: &Limits) -> Result<u64> {
        let each = self.pieces.iter().map(|piece| Ok(piece.elements.validate(limits)?.bytes));
        each.sum()
    }

    pub(super) fn named_tensors(&self, nameless: &str) -> Vec<NamedTensor> {
        let named = self.pieces.iter().map(|piece| NamedTensor {
            name: if piece.name.is_empty() { nameless.to_owned() } else { piece.name.clone() },
            elements: piece.elements.clone(),
            cast: None,
        });
        named.collect()
    }

    /// A file for each piece, then one for each value.
    pub(super) fn file_names(&self, format: Format) -> Vec<String> {
        let mut names = FileNames::default();
        let dotted = |extension: &str| format!(".{extension}");
        let pieces = self.pieces.iter().map(|piece| (&piece.name, dotted(format.extension())));
        let values = self.values.iter().map(|(name, _)| (name, dotted(Format::Json.extension())));
        pieces.chain(values).map(|(name, extension)| names.make(name, &extension)).collect()
    }

    pub(super) fn written(&self, file: impl Fn(usize) -> Option<String>) -> Vec<Written> {
        let pieces = self.pieces.iter().map(|piece| {
            let (dtype, shape) = (piece.elements.dtype.to_string(), piece.elements.shape.clone());
            (piece.name.clone(), Some(dtype), Some(shape))
        });
        let values = self.values.iter().map(|(name, _)| (name.clone(), None, None));
        let written = pieces.chain(values).enumerate();
        let written = written.map(|(at, (name, dtype, shape))| Written { name, file: file(at), dtype, shape });
        self.objects.iter().cloned().chain(written).collect()
    }

    /// What there is to know once it is written. `overflows` elements became infinite besides those that were counted.
    pub(super) fn notes(&self, options: &Options, input: &Input, overflows: u64) -> Vec<Note> {
        let mut notes = Vec::new();
        if !self.left_out.is_empty() {
            notes.push(Note::new(&input.name, format!("left out: {}", self.left_out.join(", "))));
        }
        let counted = self.pieces.iter().filter_map(|piece| piece.cast.as_ref()).map(|cast| cast.overflows());
        let overflows = counted.fold(overflows, u64::saturating_add);
        if let (Some(dtype), 1..) = (&options.dtype, overflows) {
            notes.push(Note::new(&input.name, format!("{overflows} values overflowed {dtype} and became infinite")));
        }
        notes
    }
}

impl Piece {
    fn new(options: &Options, checkpoint: &Checkpoint, entry: &Entry, part: &str, elements: Elements) -> Result<Self> {
        let dtype = options.dtype.as_ref().filter(|_| parts::is_cast(part));
        let (elements, cast) = cast(elements, dtype, &checkpoint.limits)?;
        elements.validate(&checkpoint.limits)?;
        let name = match (entry.name(), part) {
            (name, "") => name,
            (name, part) if name.is_empty() => part.to_owned(),
            (name, part) => format!("{name}.{part}"),
        };
        Ok(Piece { name, elements, cast })
    }

    /// Whether the format holds it.
    fn check(&self, options: &Options, format: Format) -> Result<()> {
        match format {
            Format::Npy | Format::Npz => check_numpy(&self.elements.dtype),
            Format::Csv => csv::check(&self.elements),
            Format::Json => numeric(&self.elements.dtype).map(|_| ()),
            Format::Png => self.picture(options).map(|_| ()),
            Format::Safetensors if self.elements.dtype.safetensors().is_none() => {
                Err(Error::refused(format!("safetensors cannot hold {}", self.elements.dtype)))
            }
            Format::Bin | Format::Safetensors | Format::Torch | Format::TorchLegacy => Ok(()),
        }
    }

    pub(super) fn picture(&self, options: &Options) -> Result<Picture> {
        let scale = options.scale.unwrap_or(1);
        let options = png::Options { range: options.range, diverging: options.diverging, scale };
        Picture::new(&self.elements, options)
    }
}

/// numpy has neither bfloat16 nor float8.
fn check_numpy(dtype: &DType) -> Result<()> {
    match dtype.numpy() {
        Some(_) => Ok(()),
        None if is_castable(dtype) => {
            let message = Message::from(format!("NumPy has no {dtype}; use ")).setting(Setting::Dtype);
            Err(Error::unsupported(message.text(" float32 to cast it")))
        }
        None => Err(Error::unsupported(format!("NumPy has no {dtype}; write its bytes to .bin"))),
    }
}
