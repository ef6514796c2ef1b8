//! Other elements for a tensor: in the bytes of its storage, where only its own change.

use std::sync::Arc;

use super::objects::{Home, Objects, pickle_source};
use super::spot::shared;
use super::{Done, fits};
use crate::checkpoint::tensor::{Data, Extents, contiguous};
use crate::checkpoint::{Checkpoint, Item, Located, StorageId, Tensor, TensorId, names::ambiguous, names::join};
use crate::data::Elements;
use crate::data::patch::{Patched, View, overlap};
use crate::data::row::row;
use crate::error::{Error, Result};
use crate::pickle::opcode as op;
use crate::pickle::splice::{Hop, Locator};
use crate::pickle::{Census, Node, NodeId};
use crate::source::{SharedSource, read_vec};

/// Bytes that are compared at once.
const BLOCK_BYTES: u64 = 1 << 20;
/// Calls around the one that makes a tensor: a parameter's.
const MAX_CALLS: usize = 4;

/// Where the bytes of `inner` lie in those of `outer`, if they do.
fn place_in(outer: &SharedSource, inner: &SharedSource) -> Result<Option<u64>> {
    let Some(at) = inner.absolute(0).checked_sub(outer.absolute(0)) else { return Ok(None) };
    if at.checked_add(inner.len()).is_none_or(|end| end > outer.len()) {
        return Ok(None);
    }
    let mut done = 0;
    while done < inner.len() {
        let len = (inner.len() - done).min(BLOCK_BYTES);
        if read_vec(outer.as_ref(), at + done, len)? != read_vec(inner.as_ref(), done, len)? {
            return Ok(None);
        }
        done += len;
    }
    Ok(Some(at))
}

/// A call in the pickle that makes a tensor of a storage.
struct Call {
    /// `(storage, offset, size, stride, …)`
    arguments: NodeId,
    at: Locator,
}

impl Objects {
    pub(super) fn set_tensor(
        &mut self,
        checkpoint: &mut Checkpoint,
        name: &str,
        new: Elements,
        force_shape: bool,
    ) -> Result<Done> {
        let (node, id) = checkpoint.tensor_named(name)?;
        let of_part = |e: Error| e.of_part(name);
        let tensor = checkpoint.tensor(id).ok_or_else(|| Error::malformed("no such tensor"))?;
        let (dtype, shape) = (tensor.dtype.clone(), tensor.shape.clone());
        let new_shape = extents(&new.shape)?;
        fits(name, (dtype.as_ref(), &shape), (&new.dtype, &new_shape), force_shape)?;
        let old = tensor.elements(&checkpoint.storages).map_err(of_part)?;
        new.validate(&checkpoint.limits)?;
        let done =
            Done::was(super::tensor_words(dtype.as_ref(), &shape), super::tensor_words(dtype.as_ref(), &new_shape));
        if shape != new_shape {
            self.resize(checkpoint, name, id, new)?;
            return Ok(done);
        }
        let also = checkpoint.overlapping(id, name, &old)?;
        match tensor.data {
            Data::Storage { id, .. } => {
                self.find_home(checkpoint, id).map_err(of_part)?;
                let view = View::of(&old, new, &checkpoint.limits).map_err(of_part)?;
                let below = checkpoint.storage_source(id)?;
                checkpoint.replace_storage(id, Arc::new(Patched::over(below, vec![view])?));
            }
            _ => {
                let at = self.array_in_pickle(checkpoint, node, &old).map_err(of_part)?;
                let view = View::of(&old, new, &checkpoint.limits).map_err(of_part)?;
                self.arrays.insert(at, Arc::new(Patched::over(old.source, vec![view])?));
            }
        }
        Ok(Done { also, ..done })
    }

    /// Where the bytes of an array lie in the pickle. What stands there as text is other bytes as soon as one of them is no
    /// ASCII.
    fn array_in_pickle(&self, checkpoint: &Checkpoint, node: NodeId, elements: &Elements) -> Result<u64> {
        let cannot = || Error::unsupported("is an array whose bytes do not lie in the pickle as they are");
        let (pickle, bytes) = (pickle_source(checkpoint)?, &elements.source);
        let at = place_in(pickle, bytes)?.ok_or_else(cannot)?;
        let behind_object = checkpoint.graph.inline_bytes(node).is_some_and(|(_, start, _)| start == at);
        let len = bytes.len().to_le_bytes();
        let is_after = |code: u8, width: usize| {
            let head = [&[code], len.get(..width).unwrap_or_default()].concat();
            let from = at.checked_sub(head.len() as u64);
            from.is_some_and(|from| read_vec(pickle.as_ref(), from, head.len() as u64).is_ok_and(|found| found == head))
        };
        let raw = [(op::SHORT_BINBYTES, 1), (op::BINBYTES, 4), (op::BINBYTES8, 8), (op::BYTEARRAY8, 8)];
        match behind_object || raw.iter().any(|(code, width)| is_after(*code, *width)) {
            true => Ok(at),
            false => Err(cannot()),
        }
    }

    /// Remembers where a storage lies, before it has other bytes.
    fn find_home(&mut self, checkpoint: &Checkpoint, id: StorageId) -> Result<()> {
        if self.homes.contains_key(&id) {
            return Ok(());
        }
        let cannot = || Error::unsupported("its storage lies in a byte string of the pickle, and cannot be set");
        let storage = checkpoint.storages.get(id).ok_or_else(|| Error::data("no such storage"))?;
        if checkpoint.storages.iter().any(|(other, found)| other != id && found.key == storage.key) {
            let what = format!("its storage {} is read as two types of elements, and cannot be set", storage.key);
            return Err(Error::unsupported(what));
        }
        let home = match (checkpoint.zip(), storage.member()) {
            (Some(zip), Some((other, position))) if Arc::ptr_eq(zip, other) => Home::Member(position),
            (None, None) => {
                let file = checkpoint.source().ok_or_else(cannot)?;
                Home::File(place_in(file, &storage.source()?)?.ok_or_else(cannot)?)
            }
            _ => return Err(cannot()),
        };
        self.homes.insert(id, home);
        Ok(())
    }

    /// Gives a tensor elements of another shape: its storage holds just these, and the call that makes it says so.
    fn resize(&mut self, checkpoint: &mut Checkpoint, name: &str, id: TensorId, new: Elements) -> Result<()> {
        let refuse = |what: &str| Err(Error::unsupported(format!("`{name}` {what}, so it keeps its shape")));
        let tensor = checkpoint.tensor(id).ok_or_else(|| Error::malformed("no such tensor"))?;
        let Data::Storage { id: storage, .. } = tensor.data else { return refuse("does not lie in a storage") };
        if tensor.conj || tensor.neg {
            return refuse("is a conjugate or negative view");
        }
        if let Some(other) = checkpoint.shares_storage(id, storage, name)? {
            return refuse(&format!("shares its storage with `{other}`"));
        }
        self.find_home(checkpoint, storage).map_err(|e| e.of_part(name))?;
        if !matches!(self.homes.get(&storage), Some(Home::Member(_))) {
            let what = format!("a tensor of a {} file keeps its shape", checkpoint.container().name());
            return Err(Error::unsupported(what).advise("make a zip of it first with `ckpt convert`"));
        }
        let Some(call) = self.call_of(checkpoint, name)? else { return refuse("is made by a call that is not known") };
        let persistent = checkpoint.graph.tuple(call.arguments).filter(|all| all.len() >= 4);
        let persistent = persistent.and_then(<[NodeId]>::first).map(|first| checkpoint.graph.node(*first));
        let Some(Node::Persistent(pid)) = persistent.cloned() else {
            return refuse("is made by a call that is not known");
        };
        let shape = extents(&new.shape)?;
        let stride = contiguous(&shape);
        let numel = new.shape.iter().product::<u64>();
        let count = i64::try_from(numel).map_err(|_| Error::limit("more than 63 bits of elements"))?;
        let in_call = call.at.then(Hop::Part(1));
        let in_pid = in_call.clone().then(Hop::Element(0)).then(Hop::Part(0));
        let numbers = |checkpoint: &mut Checkpoint, numbers: &[i64]| -> Result<NodeId> {
            let nodes = numbers.iter().map(|number| checkpoint.graph.push(Node::Int(*number)));
            let nodes = nodes.collect::<Result<Vec<_>>>()?;
            checkpoint.graph.push_tuple(&nodes)
        };
        let (size, steps) = (numbers(checkpoint, &shape)?, numbers(checkpoint, &stride)?);
        let (zero, count) = (checkpoint.graph.push(Node::Int(0))?, checkpoint.graph.push(Node::Int(count))?);
        self.is_changed = true;
        self.set_argument(checkpoint, call.arguments, &in_call, &[(1, zero), (2, size), (3, steps)])?;
        self.set_argument(checkpoint, pid, &in_pid, &[(4, count)])?;
        let byte_order = checkpoint.storages.get(storage).map(|storage| storage.byte_order).unwrap_or_default();
        let bytes = row(new, byte_order, &checkpoint.limits)?;
        checkpoint.resize_tensor(id, shape, stride, numel);
        checkpoint.replace_storage(storage, bytes);
        Ok(())
    }

    /// Gives elements of a tuple other values.
    fn set_argument(
        &mut self,
        checkpoint: &mut Checkpoint,
        tuple: NodeId,
        at: &Locator,
        new: &[(usize, NodeId)],
    ) -> Result<()> {
        let mut items = checkpoint.graph.tuple(tuple).map(<[NodeId]>::to_vec).unwrap_or_default();
        for (index, value) in new {
            if let Some(item) = items.get_mut(*index) {
                *item = *value;
            }
            self.grafts.elements.insert((at.clone(), *index), Some(*value));
        }
        let made = checkpoint.graph.push_tuple(&items)?;
        let made = checkpoint.graph.node(made).clone();
        checkpoint.set_node(tuple, made);
        Ok(())
    }

    /// The call that makes the tensor of a name, and where it lies; nothing where it is none of those known.
    fn call_of(&self, checkpoint: &Checkpoint, name: &str) -> Result<Option<Call>> {
        let (mut node, at) = match name {
            "." => (checkpoint.root, self.locator_of_root(checkpoint)),
            name => {
                let spot = self.spot(checkpoint, name)?.ok_or_else(|| checkpoint.not_there(name))?;
                (spot.node, self.below(checkpoint, &spot))
            }
        };
        let Some(mut at) = at else { return Ok(None) };
        let uses = Census::new(&checkpoint.graph, checkpoint.root)?;
        for _ in 0..MAX_CALLS {
            let Some(object) = checkpoint.graph.object(node) else { return Ok(None) };
            let Some([first, ..]) = checkpoint.graph.tuple(object.args) else { return Ok(None) };
            if uses.uses(object.args) > 1 {
                return Err(shared(name));
            }
            let global = checkpoint.graph.global(object.callable);
            let is = |function: &str| matches!(&global, Some((module, name)) if module == "torch._utils" && name == function);
            if is("_rebuild_tensor_v2") || is("_rebuild_tensor") {
                return Ok(Some(Call { arguments: object.args, at }));
            }
            if !is("_rebuild_parameter") && !is("_rebuild_parameter_with_state") {
                return Ok(None);
            }
            at = at.then(Hop::Part(1)).then(Hop::Element(0));
            node = *first;
        }
        Ok(None)
    }
}

fn extents(shape: &[u64]) -> Result<Extents> {
    let all =
        shape.iter().map(|extent| i64::try_from(*extent).map_err(|_| Error::limit("a size of more than 63 bits")));
    all.collect()
}

impl Checkpoint {
    /// The tensor of just this name.
    fn tensor_named(&self, name: &str) -> Result<(NodeId, TensorId)> {
        let objects = self.objects();
        let root = match self.place(&self.top(), name)? {
            Located::Of(root) if name == "." || root.stem.is_none() && join(&root.path) == name => root,
            Located::Of(root) if join(&root.path) == name => {
                return Err(Error::refused(format!("`{name}` is the beginning of several names, and no tensor")));
            }
            Located::Of(_) | Located::Nowhere => return Err(self.not_there(name)),
            Located::Ambiguous(first, second) => {
                return Err(Error::refused(ambiguous(name, &first, &second)));
            }
        };
        let node = objects.unwrap(root.node);
        self.tensors
            .of(node)
            .map(|id| (node, id))
            .ok_or_else(|| Error::refused(format!("`{name}` is no tensor but of class {}", objects.type_name(node))))
    }

    fn storage_source(&self, id: StorageId) -> Result<SharedSource> {
        self.storages.get(id).ok_or_else(|| Error::data("no such storage"))?.source()
    }

    /// Names of the tensors that have an element in common with this one.
    fn overlapping(&self, id: TensorId, name: &str, elements: &Elements) -> Result<Vec<String>> {
        let storage = self.tensor(id).and_then(Tensor::storage);
        let mut found = Vec::new();
        for entry in self.names(&self.top())?.entries {
            let Item::Tensor(other, _) = entry.item else { continue };
            let is_it = other == id;
            let Some(tensor) =
                self.tensor(other).filter(|other| is_it || storage.is_some() && other.storage() == storage)
            else {
                continue;
            };
            let other_name = entry.name();
            if other_name == name || name == "." && other_name.is_empty() {
                continue;
            }
            let shares = || tensor.elements(&self.storages).is_ok_and(|other| overlap(elements, &other, &self.limits));
            if is_it || shares() {
                found.push(other_name);
            }
        }
        Ok(found)
    }

    /// A name of another tensor of a storage.
    fn shares_storage(&self, id: TensorId, storage: StorageId, name: &str) -> Result<Option<String>> {
        let entries = self.names(&self.top())?.entries;
        let other = entries.iter().find(|entry| match entry.item {
            Item::Tensor(other, _) => {
                let is_other = entry.name() != name && !(name == "." && entry.name().is_empty());
                is_other && (other == id || self.tensor(other).and_then(Tensor::storage) == Some(storage))
            }
            Item::Value | Item::Recursion => false,
        });
        if let Some(other) = other {
            return Ok(Some(other.name()));
        }
        // what no name leads to
        let users = self.storages.nodes_of(storage);
        Ok((users > 1).then(|| "something without a name".to_owned()))
    }

    /// A tensor has another shape, and its storage holds just its elements.
    fn resize_tensor(&mut self, id: TensorId, shape: Extents, stride: Extents, numel: u64) {
        let Some(tensor) = self.tensors.get_mut(id) else { return };
        (tensor.shape, tensor.stride, tensor.storage_offset) = (shape, Some(stride), Some(0));
        if let Data::Storage { id, offset } = &mut tensor.data {
            *offset = 0;
            let id = *id;
            self.storages.set_numel(id, numel);
        }
    }
}
