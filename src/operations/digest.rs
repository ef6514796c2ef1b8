//! The digest of a checkpoint's weights, which is the same whatever they lie in: names, dtypes, shapes and elements count;
//! container, order, sharding, compression and sharing do not.
//!
//! What is weights is what a conversion to a format for weights takes. How the digest is made of it is
//! [`data::digest`](crate::data::digest)'s affair.

mod beside;
mod chosen;
mod elements;
mod many;
mod verify;

pub(in crate::operations) use self::beside::Beside;
pub use self::many::{Told, digest_many};
pub use self::verify::{Tally, Verified, verify};

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use self::chosen::{Chosen, everything, weights};
use self::elements::hashes;
use crate::checkpoint::{Checkpoint, Item, TensorId};
use crate::data::digest::{Digester, Record};
use crate::data::hash::{hex, sha256_of};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::limits::Limits;
use crate::message::{Message, Setting};
use crate::operations::Input;
use crate::operations::open::{self, Found, open_or_walk};
use crate::operations::select::{Select, Unmatched, shown};
use crate::progress::Progress;
use crate::report::convert::LeftOut;
use crate::report::digest::Digested;
use crate::report::ls::shown_name;
use std::path::Path;

/// What counts.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Where to begin, and which names to take.
    pub select: Select,
    /// Every tensor and value, not the weights alone.
    pub all: bool,
}

/// Arguments that no input has matched so far, for who looks at several at once.
#[derive(Debug)]
pub struct Missing<'a>(Mutex<Unmatched<'a>>);

impl<'a> Missing<'a> {
    /// All names and globs of a selection. A root that is not there is an error of its input.
    pub fn of(select: &'a Select) -> Self {
        let mut unmatched = Unmatched::of(select);
        unmatched.forget(Setting::Root);
        Missing(Mutex::new(unmatched))
    }

    /// What is to be said when there are no more inputs.
    pub fn said(&self) -> Option<Message> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).said()
    }
}

/// Opens a checkpoint. A member whose bytes are not those that its archive's checksum is of is refused. Errors name it.
pub fn open(path: &Path, limits: &Limits, progress: &dyn Progress) -> Result<Input> {
    let layout = open::layout(path, limits, progress).and_then(|layout| layout.is_whole().map(|()| layout));
    open::open_layout(path, layout.map_err(|e| e.of_input(&path.display().to_string()))?, limits, progress)
}

/// Opens what `name` stands for, as [`open_or_walk`]. A member whose bytes are not those that its archive's checksum is of
/// is refused.
pub(crate) fn open_whole(name: &Path, layout: Layout, limits: &Limits, progress: &dyn Progress) -> Result<Found> {
    layout.is_whole().map_err(|e| e.of_input(&name.display().to_string()))?;
    open_or_walk(name, layout, limits, progress)
}

/// The digest of an input. `missing`, which is of the selection of `options`, hears what matches nothing in it. The input's
/// aliases become tensors of their own names.
///
/// # Errors
/// When something of what counts is missing or damaged: no digest is of a part. When nothing counts, or nobody can tell what
/// the weights are.
pub fn digest(
    input: &mut Input,
    options: &Options,
    missing: &Missing<'_>,
    progress: &dyn Progress,
) -> Result<Digested> {
    let Input { name, name_bytes, checkpoint, .. } = input;
    let mut made = || {
        let aliases = if options.all { Vec::new() } else { checkpoint.restore_aliases()? };
        let mut digested = of_checkpoint(checkpoint, name, options, missing, progress)?;
        digested.aliases = aliases;
        Ok(digested)
    };
    let mut digested = made().map_err(|e: Error| e.of_input(name))?;
    (digested.file, digested.file_bytes) = (name.clone(), name_bytes.clone());
    Ok(digested)
}

/// The same of objects whose aliases are restored. Errors do not name the input.
pub(in crate::operations) fn of_checkpoint(
    checkpoint: &Checkpoint,
    name: &str,
    options: &Options,
    missing: &Missing<'_>,
    progress: &dyn Progress,
) -> Result<Digested> {
    let Chosen { root, tensors, values, left_out } = match options.all {
        true => everything(checkpoint, &options.select, missing)?,
        false => weights(checkpoint, &options.select, missing)?,
    };
    let ids: Vec<TensorId> = tensors.iter().map(|(_, id)| *id).collect();
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    each_once(names.iter().copied().chain(values.iter().map(|(name, ..)| name.as_str())))?;
    let hashes = hashes(checkpoint, &ids, &names, name, progress)?;
    let mut digester = Digester::default();
    let mut bytes = 0_u64;
    for ((name, id), elements) in tensors.iter().zip(&hashes) {
        let Some(tensor) = checkpoint.tensor(*id) else { continue };
        let dtype = elements::dtype(checkpoint, tensor, progress).map_err(|e| e.of_part(shown_name(name)))?;
        digester.add(&Record::Tensor { name, dtype: &dtype, shape: &tensor.shape, sha256: elements });
        bytes = bytes.saturating_add(tensor.bytes().unwrap_or(0));
    }
    let mut chars = elements::Chars::of(checkpoint);
    for (name, node, item) in &values {
        let value = checkpoint.objects().listed(*node, *item, chars.left());
        let is_whole = *item == Item::Recursion || checkpoint.objects().is_repr_whole(*node, chars.left());
        let repr = match item {
            Item::Recursion => value.repr,
            _ => checkpoint.objects().sorted_repr(*node, chars.left()),
        };
        chars.take(&repr, is_whole).map_err(|e| e.of_part(shown_name(name)))?;
        let sha256 = hex(&sha256_of(repr.as_bytes()));
        digester.add(&Record::Value { name, class: &value.type_name, sha256: &sha256 });
    }
    checkpoint.graph.complete()?;
    let left_aside = checkpoint.left_aside.iter().map(|name| LeftOut { name: name.clone(), tensors: None });
    Ok(Digested {
        digest: digester.finish(),
        of: if options.all { "all" } else { "weights" },
        root: shown(&root),
        tensors: tensors.len() as u64,
        values: values.len() as u64,
        bytes,
        left_out: left_aside.chain(left_out).collect(),
        ..Digested::default()
    })
}

/// Two things of one name could change places unseen.
fn each_once<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen: HashMap<&str, ()> = HashMap::new();
    for name in names {
        if seen.insert(name, ()).is_some() {
            let message = Message::from(format!("two things have the name {}; choose one with ", shown_name(name)));
            return Err(Error::refused(message.setting(Setting::Root).text(" or ").setting(Setting::Exclude)));
        }
    }
    Ok(())
}
