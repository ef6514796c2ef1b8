//! Which storages the target gets: one for each of the input's, with `compact` one for each group of views that overlap,
//! one for each array that has its own bytes.

use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use super::Work;
use crate::checkpoint;
use crate::checkpoint::storage::{Persistent, StorageId};
use crate::checkpoint::tensor::{Data, Tensor, TensorId};
use crate::data::Elements;
use crate::dtype::{ByteOrder, Class, DType};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::{Message, Setting};
use crate::pickle::{Graph, Node, NodeId};
use crate::source::SharedSource;

/// A storage to be written. There may be as many as keys, so it is kept small.
#[derive(Debug)]
pub(crate) struct NewStorage {
    /// Elements that its class counts.
    pub numel: u64,
    /// The type they become.
    pub cast: Option<DType>,
    /// The CRC-32 that the input states for exactly these bytes.
    pub crc: Option<u32>,
    /// The first tensor that looks at it.
    pub tensor: Option<TensorId>,
    held: Held,
}

/// Where the elements come from.
#[derive(Debug)]
enum Held {
    /// A row of `count` from byte `start` on.
    Row { source: SharedSource, dtype: DType, start: u64, count: u64, byte_order: ByteOrder },
    /// An array with strides of its own.
    Array(Box<Elements>),
}

impl NewStorage {
    /// Its elements in their order.
    pub(crate) fn elements(&self) -> Elements {
        match &self.held {
            Held::Array(elements) => elements.as_ref().clone(),
            Held::Row { source, dtype, start, count, byte_order } => {
                let size = u64::from(dtype.size().unwrap_or(1)).max(1);
                let row = Elements::row_major(SharedSource::clone(source), dtype.clone(), vec![*count]);
                Elements { offset: start / size, byte_order: *byte_order, ..row }
            }
        }
    }

    /// The type of the elements as they lie in the input.
    fn dtype(&self) -> &DType {
        match &self.held {
            Held::Row { dtype, .. } => dtype,
            Held::Array(elements) => &elements.dtype,
        }
    }
}

/// A storage in the plan.
pub(super) struct Planned {
    key: NodeId,
    class: NodeId,
    location: NodeId,
    pub(super) stored: NewStorage,
}

/// What a storage of the target will be made of.
struct Found {
    stored: NewStorage,
    /// The input's class, where it is kept.
    class: Option<NodeId>,
    location: Arc<str>,
}

/// What is asked for: a storage of the input, a part of one, or the bytes of an array.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Home {
    Storage(StorageId, Range<u64>),
    Array(TensorId),
}

/// How a tensor looks at a storage.
pub(super) struct Use {
    tensor: TensorId,
    span: Range<u64>,
    dtype: DType,
}

/// What to do about tensors that cannot be written: `them` as the object of a sentence.
fn leave_out(them: &str) -> Message {
    let message = Message::from(format!("leave {them} out with ")).setting(Setting::Exclude);
    message.text(" or ").setting(Setting::Drop)
}

impl Work<'_> {
    /// Notes how a tensor looks at its storage.
    pub(super) fn look(&mut self, node: NodeId, unbounded: &Limits) -> Result<()> {
        let Some(tensor_id) = self.checkpoint.tensors.of(node) else { return Ok(()) };
        let Some(tensor) = self.checkpoint.tensors.get(tensor_id) else { return Ok(()) };
        if let Some(problem) = &tensor.problem {
            let names = self.checkpoint.names(&self.checkpoint.top())?.entries;
            let is_it =
                |entry: &&checkpoint::Entry| matches!(entry.item, checkpoint::Item::Tensor(id, _) if id == tensor_id);
            let name = names.iter().find(is_it).map_or_else(|| "a tensor".to_owned(), checkpoint::Entry::name);
            return Err(Error::data(format!("{name}: {problem}")).advise(leave_out("it")));
        }
        for argument in tensor.quantizer.iter().flat_map(|quantizer| &quantizer.arguments) {
            let argument = self.checkpoint.tensors.of(*argument).and_then(|id| self.checkpoint.tensors.get(id));
            self.kept.extend(argument.and_then(Tensor::storage));
        }
        let Data::Storage { id, .. } = tensor.data else { return Ok(()) };
        let Some(dtype) = tensor.dtype.clone() else { return Ok(()) };
        let span = tensor.elements(&self.checkpoint.storages)?.validate(unbounded)?.span;
        // most storages have one view: a vector of just that size
        let use_ = Use { tensor: tensor_id, span, dtype };
        match self.uses.entry(id) {
            Entry::Vacant(place) => drop(place.insert(vec![use_])),
            Entry::Occupied(uses)
                if !self.options.compact && uses.get().iter().any(|seen| seen.dtype == use_.dtype) => {}
            Entry::Occupied(mut uses) => uses.get_mut().push(use_),
        }
        Ok(())
    }

    /// Finds the groups of views that overlap.
    pub(super) fn divide(&mut self) -> Result<()> {
        if !self.options.compact {
            return Ok(());
        }
        for (id, uses) in &self.uses {
            let Some(storage) = self.checkpoint.storages.get(*id) else { continue };
            let size = u64::from(storage.dtype.size().unwrap_or(1));
            let aligned = |use_: &Use| u64::from(use_.dtype.size().unwrap_or(1));
            let unit = uses.iter().map(aligned).chain([size]).max().unwrap_or(1);
            let mut spans: Vec<Range<u64>> = uses.iter().map(|use_| use_.span.clone()).collect();
            spans.sort_by_key(|span| (span.start, span.end));
            let mut parts: Vec<Range<u64>> = Vec::new();
            for span in spans.into_iter().filter(|span| !span.is_empty()) {
                let start = span.start / unit * unit;
                match parts.last_mut() {
                    Some(last) if start < last.end => last.end = last.end.max(span.end),
                    _ => parts.push(start..span.end),
                }
            }
            self.parts.insert(*id, parts.into_iter().map(|part| (part.start, part.end)).collect());
        }
        Ok(())
    }

    /// The storage that a node stands for, and where in it its window begins, in elements.
    pub(super) fn storage_of(&self, node: NodeId) -> Option<(StorageId, u64, NodeId)> {
        let source = self.checkpoint.tensors.inner_roots.get(&node).copied().unwrap_or(node);
        match self.checkpoint.storages.meaning(source)? {
            Persistent::Storage { id, view_offset } => Some((*id, *view_offset, source)),
            _ => None,
        }
    }

    /// The type that the elements of a storage become.
    pub(super) fn cast_of(&self, id: StorageId, dtype: &DType) -> Result<Option<DType>> {
        let Some(to) = &self.options.cast else { return Ok(None) };
        if self.kept.contains(&id) {
            return Ok(None);
        }
        let seen = self.uses.get(&id).map(Vec::as_slice).unwrap_or_default();
        let first = seen.first().map_or(dtype, |use_| &use_.dtype);
        if first.class() != Some(Class::Float) || first == to {
            return Ok(None);
        }
        if seen.iter().any(|use_| use_.dtype != *first) {
            return Err(Error::unsupported("tensors of different types share a storage, which cannot be cast"));
        }
        Ok(Some(to.clone()))
    }

    /// The type that the elements of an array become.
    pub(super) fn cast_of_array(&self, id: TensorId, dtype: &DType) -> Option<DType> {
        let cast = self.options.cast.clone().filter(|_| !self.options.uncast.tensors.contains(&id));
        cast.filter(|to| dtype.class() == Some(Class::Float) && dtype != to)
    }

    /// Whether a tensor of another type looks at the storage.
    pub(super) fn is_seen_as_another(&self, id: StorageId, dtype: &DType) -> bool {
        self.uses.get(&id).is_some_and(|uses| uses.iter().any(|use_| use_.dtype != *dtype))
    }

    /// A new node with the persistent id of a storage; `source` is the node of the input whose class and location it
    /// keeps.
    pub(super) fn persistent(&mut self, home: Home, source: Option<NodeId>) -> Result<NodeId> {
        let index = match self.homes.get(&home) {
            Some(index) => *index,
            None => {
                let planned = self.plan(&home, source)?;
                self.planned.push(planned);
                self.homes.insert(home, self.planned.len() - 1);
                self.planned.len() - 1
            }
        };
        let planned = self.planned.get(index).ok_or_else(|| Error::data("no such storage"))?;
        let (class, key, location, numel) = (planned.class, planned.key, planned.location, planned.stored.numel);
        let tag = self.shared_text("storage")?;
        let numel = self.int(numel)?;
        let mut id = vec![tag, class, key, location, numel];
        id.extend(self.options.legacy.then_some(Graph::NONE));
        let id = self.checkpoint.graph.push_tuple(&id)?;
        self.push(Node::Persistent(id))
    }

    fn plan(&mut self, home: &Home, source: Option<NodeId>) -> Result<Planned> {
        let found = match home {
            Home::Storage(id, range) => self.part(*id, range, source)?,
            Home::Array(id) => self.array(*id)?,
        };
        let stored = found.stored;
        let class = match found.class {
            Some(class) => class,
            None => match stored.cast.as_ref().unwrap_or(stored.dtype()).storage_class() {
                Some(class) => self.global("torch", &class)?,
                None if self.options.legacy => self.global("torch", "ByteStorage")?,
                None => self.global("torch.storage", "UntypedStorage")?,
            },
        };
        let class = match self.checkpoint.graph.global(class) {
            // torch does not read back what it writes for untyped storages in its legacy form
            Some((_, name)) if self.options.legacy && name.ends_with("UntypedStorage") => {
                self.global("torch", "ByteStorage")?
            }
            _ => class,
        };
        // on another device there would have to be bytes
        let device = self.options.device.as_deref().filter(|_| &*found.location != "meta");
        let location = device.unwrap_or(&found.location);
        let location = self.shared_text(location)?;
        let key = self.checkpoint.graph.push_str(&self.planned.len().to_string())?;
        Ok(Planned { key, class, location, stored })
    }

    /// The bytes `range` of a storage, as far as there are any.
    fn part(&self, id: StorageId, range: &Range<u64>, source: Option<NodeId>) -> Result<Found> {
        let storage = self.checkpoint.storages.get(id).ok_or_else(|| Error::data("no such storage"))?;
        let size =
            u64::from(storage.dtype.size().ok_or_else(|| {
                Error::unsupported(format!("the size of a {}'s elements is not known", storage.class))
            })?);
        // a storage that nobody looks at may be missing: it stays empty
        let bytes = storage.source().map_err(|e| Error::data(e.message()).advise(leave_out("its tensors")))?;
        let all = bytes.len().min(storage.numel.saturating_mul(size));
        let (start, end) = (range.start.min(all), range.end.min(all));
        let uses = self.uses.get(&id).map(Vec::as_slice).unwrap_or_default();
        let cast = self.cast_of(id, &storage.dtype)?;
        // bytes without a type are swapped by the type of what looks at them
        let seen = uses.first().map(|use_| use_.dtype.clone()).filter(|_| cast.is_some() || size == 1);
        let dtype = seen.unwrap_or_else(|| storage.dtype.clone());
        let unit = u64::from(dtype.size().unwrap_or(1)).max(1);
        let count = (end - start) / unit;
        let whole = start == 0 && count * unit == bytes.len();
        let crc = storage.stated_crc().filter(|_| whole);
        let class = source.filter(|_| cast.is_none()).and_then(|node| self.class_of(node));
        // the class that is kept counts as in the input, a new one by its own type, none counts bytes
        let numel = match (class, cast.as_ref().unwrap_or(&dtype).storage_class()) {
            (Some(_), _) => (end - start) / size,
            (None, Some(_)) => count,
            (None, None) => end - start,
        };
        let held = Held::Row { source: bytes, dtype, start, count, byte_order: storage.byte_order };
        let tensor = uses.first().map(|use_| use_.tensor);
        let stored = NewStorage { numel, cast, crc, tensor, held };
        Ok(Found { stored, class, location: Arc::clone(&storage.location) })
    }

    /// An array's own bytes.
    fn array(&self, id: TensorId) -> Result<Found> {
        let tensor = self.checkpoint.tensors.get(id).ok_or_else(|| Error::data("no such tensor"))?;
        let elements = tensor.elements(&self.checkpoint.storages)?;
        elements.validate(&self.checkpoint.limits)?;
        let dtype = &elements.dtype;
        let cast = self.cast_of_array(id, dtype);
        let count: u64 = elements.shape.iter().product();
        let size = u64::from(dtype.size().unwrap_or(1));
        let typed = cast.as_ref().unwrap_or(dtype).storage_class().is_some();
        let numel = if typed { count } else { count * size };
        let location = tensor.device.clone().unwrap_or_else(|| "cpu".into());
        let held = Held::Array(Box::new(elements));
        let stored = NewStorage { numel, cast, crc: None, tensor: Some(id), held };
        Ok(Found { stored, class: None, location })
    }

    /// The class in a persistent id of the input.
    fn class_of(&self, node: NodeId) -> Option<NodeId> {
        let Node::Persistent(pid) = self.checkpoint.graph.node(node) else { return None };
        self.checkpoint.graph.tuple(*pid)?.get(1).copied()
    }
}
