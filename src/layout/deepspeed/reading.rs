//! One file of DeepSpeed's, read for what it says: dicts by key, shapes, flat tensors.

use std::sync::Arc;

use crate::checkpoint::arguments::sizes;
use crate::checkpoint::framed::{Framed, Several};
use crate::checkpoint::object::Objects;
use crate::checkpoint::storage::Storage;
use crate::checkpoint::tensor::{Data, Extents};
use crate::checkpoint::{Checkpoint, Container, Tensor};
use crate::data::Elements;
use crate::error::{Error, Result};
use crate::layout::deepspeed::names::is_deepspeed;
use crate::layout::places;
use crate::limits::Limits;
use crate::pickle::{Graph, NodeId};
use crate::progress::Silent;
use crate::source::SharedSource;

/// An error of one file, which it names.
pub(super) fn in_file(file: &str, e: &Error) -> Error {
    Error::new(e.kind(), format!("{file}: {e}"))
}

/// What is wrong with one file.
pub(super) fn wrong(file: &str, what: impl std::fmt::Display) -> Error {
    Error::malformed(format!("{file}: {what}"))
}

/// What the names of files begin with that a bfloat16 optimizer writes.
const BF16: &str = "bf16_";

/// Reads a file of its own. Errors name it.
pub(super) fn open(file: &str, source: &SharedSource, limits: &Limits) -> Result<Checkpoint> {
    let opened = Checkpoint::open(Arc::clone(source), limits, &Silent).map_err(|e| in_file(file, &e))?;
    is_saved(file, opened.container())?;
    let saved = opened.zip().map_or("", |zip| zip.top());
    let is_other = saved.trim_start_matches(BF16) != places::stem(file).trim_start_matches(BF16);
    if is_other && is_deepspeed(&format!("{saved}.pt")) {
        return Err(places::changed(file, saved));
    }
    Ok(opened)
}

/// Fails for what `torch.save` did not write.
pub(super) fn is_saved(file: &str, container: Container) -> Result<()> {
    match container {
        Container::Zip | Container::Legacy => Ok(()),
        other => Err(Error::unsupported(format!("{file}: is a {} file, and DeepSpeed's are torch's", other.name()))),
    }
}

/// The checkpoint of one file is one of a directory from here on.
pub(super) fn becomes_several(checkpoint: &mut Checkpoint) {
    checkpoint.framed = Framed::Several(Several::DeepSpeed);
}

/// The value of a dict's key; nothing for `None`.
pub(super) fn value(objects: Objects<'_>, dict: NodeId, key: &str) -> Option<NodeId> {
    let items = objects.items(dict)?;
    let found = items.iter().find(|item| objects.graph.str_or_bytes(item.key).as_deref() == Some(key))?;
    (found.value != Graph::NONE).then_some(found.value)
}

/// A number, or an enumeration's member by its number.
pub(super) fn number(objects: Objects<'_>, node: NodeId) -> Option<i64> {
    objects.graph.int(node).or_else(|| objects.args(node).first().and_then(|first| objects.graph.int(*first)))
}

/// A dict's items with their names, in order.
pub(super) fn named(objects: Objects<'_>, dict: NodeId) -> Option<Vec<(String, NodeId)>> {
    let items = objects.items(dict)?;
    items.iter().map(|item| Some((objects.graph.str_or_bytes(item.key)?.into_owned(), item.value))).collect()
}

/// Names and shapes.
pub(super) type Shapes = Vec<(String, Extents)>;

/// A dict of names to shapes.
pub(super) fn shapes(objects: Objects<'_>, dict: NodeId) -> Option<Shapes> {
    let shape = |(name, node): (String, NodeId)| {
        sizes(objects.graph, node).filter(|sizes| sizes.iter().all(|size| *size >= 0)).map(|sizes| (name, sizes))
    };
    named(objects, dict)?.into_iter().map(shape).collect()
}

/// The elements of a shape.
pub(super) fn count(shape: &[i64]) -> Option<u64> {
    let extents = || shape.iter().map(|extent| u64::try_from(*extent).ok());
    if extents().any(|extent| extent == Some(0)) {
        return Some(0);
    }
    extents().try_fold(1u64, |product, extent| product.checked_mul(extent?))
}

/// A tensor of one rank that is a part of others.
#[derive(Debug)]
pub(super) struct Flat {
    pub elements: Elements,
    /// Where the file keeps them.
    pub storage: Option<Storage>,
}

impl Flat {
    /// The tensor that a node is. The error is what is wrong with it.
    pub(crate) fn of(checkpoint: &Checkpoint, node: NodeId) -> Result<Self, String> {
        let tensor = checkpoint.tensors.of(node).and_then(|id| checkpoint.tensor(id));
        let tensor: &Tensor = tensor.ok_or("is no tensor")?;
        let elements = tensor.readable(&checkpoint.storages).map_err(|e| e.to_string())?;
        let storage = match tensor.data {
            Data::Storage { id, .. } => checkpoint.storages.get(id).cloned(),
            _ => None,
        };
        Ok(Flat { elements, storage })
    }

    /// How many elements it has.
    pub(crate) fn len(&self) -> u64 {
        match self.elements.shape.contains(&0) {
            true => 0,
            false => self.elements.shape.iter().fold(1, |product, extent| product.saturating_mul(*extent)),
        }
    }
}
