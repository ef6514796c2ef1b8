//! Setting, deleting and moving what a checkpoint's names stand for.
//!
//! Each step changes what the next one sees; what has to change in the file for it is written down beside that. Of files with
//! objects that is the pickle and storages ([`Objects`]), of files with nothing but arrays what they are to hold
//! ([`Flat`]).

mod arrays;
mod keys;
mod objects;
mod spot;
mod steps;
mod tensors;

use crate::checkpoint::flat::Flat;
use crate::checkpoint::{Checkpoint, Container};
use crate::data::Elements;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::message::Setting;

pub use self::objects::Objects;

/// One step.
#[derive(Debug, Clone)]
pub enum Step {
    /// Something gets a new value, or a dict a new item.
    Set {
        /// Its name.
        name: String,
        /// A literal of Python.
        value: String,
    },
    /// A tensor gets new elements; whatever shares them with it has them too.
    SetTensor {
        /// Its name.
        name: String,
        /// The elements.
        elements: Elements,
        /// It takes their shape, whatever it was.
        force_shape: bool,
    },
    /// Something goes, with all below it.
    Delete {
        /// Its name.
        name: String,
    },
    /// Something gets another name, with all below it.
    Move {
        /// Its name; `.` is the top object.
        from: String,
        /// The new name; `.` makes it the top object.
        to: String,
    },
    /// An entry of safetensors' `__metadata__` is set.
    SetMetadata {
        /// Its key.
        key: String,
        /// Its text.
        value: String,
    },
}

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// What was there, nothing where nothing was.
    pub old: Option<String>,
    /// What is there now, nothing where nothing is.
    pub new: Option<String>,
    /// Names of what changed too, for it shares memory.
    pub also: Vec<String>,
}

impl Done {
    /// What was there, and what is there now.
    fn was(old: impl Into<Option<String>>, new: impl Into<Option<String>>) -> Self {
        Done { old: old.into(), new: new.into(), also: Vec::new() }
    }

    /// Something that stands elsewhere now.
    fn moved(what: String) -> Self {
        Done::was(what.clone(), what)
    }
}

/// What was done to a checkpoint.
#[derive(Debug)]
pub(crate) enum Altered {
    /// To its objects.
    Objects(Box<Objects>),
    /// To its arrays, where it holds nothing else.
    Arrays(Flat),
}

impl Altered {
    /// Nothing is done yet.
    pub(crate) fn new(checkpoint: &Checkpoint) -> Result<Self> {
        match checkpoint.container() {
            Container::Zip | Container::Legacy | Container::Pickle | Container::Tar => {
                Ok(Altered::Objects(Box::new(Objects::new(checkpoint)?)))
            }
            Container::Safetensors | Container::Npz => Ok(Altered::Arrays(Flat::of(checkpoint)?)),
            Container::TorchScript | Container::Pt2 => {
                let what = "what a TorchScript or torch.export archive holds belongs to its code";
                Err(Error::unsupported(what).advise(crate::checkpoint::edit::weights_first()))
            }
            container if container.is_merged() => {
                let what = "is made of several files, which cannot be edited";
                Err(Error::unsupported(what).advise("convert it into one file first with `ckpt convert`"))
            }
            container => Err(Error::unsupported(format!("{} files cannot be edited", container.name()))),
        }
    }

    /// Does one step.
    pub(crate) fn step(&mut self, checkpoint: &mut Checkpoint, step: &Step) -> Result<Done> {
        match self {
            Altered::Objects(objects) => objects.step(checkpoint, step),
            Altered::Arrays(flat) => flat.step(step),
        }
    }
}

/// What is said of a tensor.
fn tensor_words(dtype: Option<&DType>, shape: &[impl std::fmt::Debug]) -> String {
    format!("{} {shape:?}", dtype.map_or_else(|| "tensor".to_owned(), ToString::to_string))
}

/// Refuses elements of another type, or of another shape unless that is what is wanted.
fn fits<T: PartialEq + std::fmt::Debug>(
    name: &str,
    (dtype, shape): (Option<&DType>, &[T]),
    new: (&DType, &[T]),
    force_shape: bool,
) -> Result<()> {
    let is_type = dtype == Some(new.0);
    if is_type && (force_shape || shape == new.1) {
        return Ok(());
    }
    let (old, new_words) = (tensor_words(dtype, shape), tensor_words(Some(new.0), new.1));
    let e = Error::refused(format!("`{name}` is {old}, the new elements are {new_words}"));
    Err(match dtype {
        Some(dtype) if !is_type && dtype.numpy().is_none() && dtype.is_floating() => {
            e.advise(format!("NumPy has no {dtype}; make it another type first with `ckpt convert`"))
        }
        Some(dtype) if !is_type && dtype.numpy().is_none() => e.advise(format!("NumPy has no {dtype}")),
        _ if !is_type => e.advise("NumPy's astype makes them that type"),
        _ => e.advise(Setting::ForceShape.then(" gives it the new shape")),
    })
}
