//! A checkpoint as `torch.save` would be given it: every storage gets a key and a persistent id of the target's form,
//! tensors of other containers become calls of torch's constructors, and casts, devices and compaction are worked in.
//!
//! The graph is edited in place: what nobody has to touch stays what it was, unknown classes included.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use crate::checkpoint::rebuild::Constructor;
use crate::checkpoint::storage::{Persistent, StorageId};
use crate::checkpoint::tensor::{Data, Kind, Tensor, TensorId};
use crate::checkpoint::{Checkpoint, numpy};
use crate::data::Elements;
use crate::dtype::{ByteOrder, Class, DType, Known};
use crate::error::{Error, Result};
use crate::pickle::{Change, Construct, Entry, Graph, Node, NodeId, Object, Scan};
use crate::source::SharedSource;

/// What to change on the way.
#[derive(Debug, Clone, Default)]
pub struct Resave {
    /// The target is the legacy stream, which knows no untyped storages and keeps classes with their source.
    pub legacy: bool,
    /// Floating tensors become this type.
    pub cast: Option<DType>,
    /// Every storage's location.
    pub device: Option<String>,
    /// Each group of views gets only the part of the storage it uses.
    pub compact: bool,
}

/// A storage to be written.
#[derive(Debug)]
pub struct NewStorage {
    /// Its key: a number.
    pub key: String,
    /// Elements that its class counts.
    pub numel: u64,
    /// Its elements as one row.
    pub elements: Elements,
    /// The type they become.
    pub cast: Option<DType>,
    /// The CRC-32 that the input states for exactly these bytes.
    pub crc: Option<u32>,
}

/// A storage in the plan.
struct Planned {
    key: NodeId,
    class: NodeId,
    location: NodeId,
    stored: NewStorage,
}

/// What is asked for: a storage of the input, a part of one, or the bytes of an array.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Home {
    Storage(StorageId, Range<u64>),
    Array(TensorId),
}

/// Edits `checkpoint` so that what lies below `root` can be pickled for torch; gives the storages in their order.
pub fn resave(checkpoint: &mut Checkpoint, root: NodeId, options: &Resave) -> Result<Vec<NewStorage>> {
    let order = Scan::new(&checkpoint.graph, root)?.order().to_vec();
    let mut work = Work {
        options,
        uses: HashMap::new(),
        parts: HashMap::new(),
        homes: HashMap::new(),
        planned: Vec::new(),
        globals: HashMap::new(),
        kept: HashSet::new(),
        checkpoint,
    };
    work.look(&order)?;
    work.divide()?;
    for node in order {
        work.edit(node)?;
    }
    Ok(work.planned.into_iter().map(|planned| planned.stored).collect())
}

/// How a tensor looks at a storage.
#[derive(Clone)]
struct Use {
    span: Range<u64>,
    dtype: DType,
}

struct Work<'a> {
    checkpoint: &'a mut Checkpoint,
    options: &'a Resave,
    /// Every view of a storage.
    uses: HashMap<StorageId, Vec<Use>>,
    /// With `compact`: the parts of a storage that are used, by first byte.
    parts: HashMap<StorageId, BTreeMap<u64, u64>>,
    homes: HashMap<Home, usize>,
    planned: Vec<Planned>,
    globals: HashMap<String, NodeId>,
    /// Storages whose elements are no weights: a quantizer's scales.
    kept: HashSet<StorageId>,
}

impl Work<'_> {
    fn look(&mut self, order: &[NodeId]) -> Result<()> {
        for node in order {
            let Some(tensor) = self.checkpoint.tensors.of(*node).and_then(|id| self.checkpoint.tensors.get(id)) else {
                continue;
            };
            if let Some(problem) = &tensor.problem {
                let message = format!("a tensor {problem}; leave it out with --exclude or --drop");
                return Err(Error::data(message));
            }
            for argument in tensor.quantizer.iter().flat_map(|quantizer| &quantizer.arguments) {
                let argument = self.checkpoint.tensors.of(*argument).and_then(|id| self.checkpoint.tensors.get(id));
                self.kept.extend(argument.and_then(Tensor::storage));
            }
            let Data::Storage { id, .. } = tensor.data else { continue };
            let Some(dtype) = tensor.dtype.clone() else { continue };
            let span = tensor.elements(&self.checkpoint.storages)?.validate(&self.checkpoint.limits)?.span;
            self.uses.entry(id).or_default().push(Use { span, dtype });
        }
        Ok(())
    }

    /// Finds the groups of views that overlap.
    fn divide(&mut self) -> Result<()> {
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
    fn storage_of(&self, node: NodeId) -> Option<(StorageId, u64, NodeId)> {
        let source = self.checkpoint.tensors.inner_roots.get(&node).copied().unwrap_or(node);
        match self.checkpoint.storages.meaning(source)? {
            Persistent::Storage { id, view_offset } => Some((*id, *view_offset, source)),
            _ => None,
        }
    }

    fn edit(&mut self, node: NodeId) -> Result<()> {
        if let Some(Persistent::Class(class)) = self.checkpoint.storages.meaning(node) {
            if !self.options.legacy {
                let class = self.checkpoint.graph.node(*class).clone();
                self.set(node, class);
            }
            return Ok(());
        }
        if let Some((id, _, source)) = self.storage_of(node) {
            let home = Home::Storage(id, 0..u64::MAX);
            // with --compact only what no tensor looks at is still named as a whole
            if self.options.compact && self.uses.contains_key(&id) {
                return Ok(());
            }
            let made = self.persistent(home, Some(source))?;
            let made = self.checkpoint.graph.node(made).clone();
            self.set(node, made);
            return Ok(());
        }
        let Some(id) = self.checkpoint.tensors.of(node) else { return Ok(()) };
        let Some(tensor) = self.checkpoint.tensors.get(id).cloned() else { return Ok(()) };
        match self.checkpoint.graph.node(node) {
            Node::Foreign(_) | Node::Persistent(_) => self.make(node, id, &tensor),
            _ if self.checkpoint.objects().constructor(node) == Some(Constructor::JoblibArray) => {
                self.unfold_joblib(node, &tensor)
            }
            Node::Object(_) => self.edit_tensor(node, &tensor),
            _ => Ok(()),
        }
    }

    fn set(&mut self, node: NodeId, new: Node) {
        if let Some(place) = self.checkpoint.graph.node_mut(node) {
            *place = new;
        }
    }

    fn push(&mut self, node: Node) -> Result<NodeId> {
        self.checkpoint.graph.push(node)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<NodeId> {
        let whole = format!("{module} {name}");
        if let Some(node) = self.globals.get(&whole) {
            return Ok(*node);
        }
        let (module, name) = (self.checkpoint.graph.push_str(module)?, self.checkpoint.graph.push_str(name)?);
        let node = self.push(Node::Global { module, name })?;
        self.globals.insert(whole, node);
        Ok(node)
    }

    fn int(&mut self, value: u64) -> Result<NodeId> {
        let value = i64::try_from(value).map_err(|_| Error::limit("a size of more than 63 bits"))?;
        self.push(Node::Int(value))
    }

    fn call(&mut self, callable: NodeId, args: &[NodeId]) -> Result<Node> {
        let args = self.checkpoint.graph.push_tuple(args)?;
        let how = Construct::Reduce;
        Ok(Node::Object(Box::new(Object { how, callable, args, kwargs: None, changes: Vec::new() })))
    }

    // ---- storages

    /// The type that the elements of a storage become.
    fn cast_of(&self, id: StorageId, dtype: &DType) -> Result<Option<DType>> {
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
            return Err(Error::unsupported("tensors of different types share a storage: --dtype cannot cast them"));
        }
        Ok(Some(to.clone()))
    }

    /// A new node with the persistent id of a storage; `source` is the node of the input whose class and location it
    /// keeps.
    fn persistent(&mut self, home: Home, source: Option<NodeId>) -> Result<NodeId> {
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
        let tag = self.tag()?;
        let numel = self.int(numel)?;
        let mut id = vec![tag, class, key, location, numel];
        id.extend(self.options.legacy.then_some(Graph::NONE));
        let id = self.checkpoint.graph.push_tuple(&id)?;
        self.push(Node::Persistent(id))
    }

    fn tag(&mut self) -> Result<NodeId> {
        self.shared_text("storage")
    }

    /// One string node for each text.
    fn shared_text(&mut self, text: &str) -> Result<NodeId> {
        let name = format!("text {text}");
        if let Some(node) = self.globals.get(&name) {
            return Ok(*node);
        }
        let node = self.checkpoint.graph.push_str(text)?;
        self.globals.insert(name, node);
        Ok(node)
    }

    fn plan(&mut self, home: &Home, source: Option<NodeId>) -> Result<Planned> {
        let (elements, given_class, location, crc, cast, numel) = match home {
            Home::Storage(id, range) => {
                let storage = self.checkpoint.storages.get(*id).ok_or_else(|| Error::data("no such storage"))?;
                let size = u64::from(storage.dtype.size().ok_or_else(|| {
                    Error::unsupported(format!("the size of a {}'s elements is not known", storage.class))
                })?);
                // a storage that nobody looks at may be missing: it stays empty
                let bytes = storage.source().map_err(|e| {
                    Error::data(format!("{}; leave its tensors out with --exclude or --drop", e.message()))
                })?;
                let all = bytes.len().min(storage.numel.saturating_mul(size));
                let (start, end) = (range.start.min(all), range.end.min(all));
                let numel = (end - start) / size;
                let uses = self.uses.get(id).map(Vec::as_slice).unwrap_or_default();
                let cast = self.cast_of(*id, &storage.dtype)?;
                // bytes without a type are swapped by the type of what looks at them
                let seen = uses.first().map(|use_| use_.dtype.clone()).filter(|_| cast.is_some() || size == 1);
                let dtype = seen.unwrap_or_else(|| storage.dtype.clone());
                let unit = u64::from(dtype.size().unwrap_or(1)).max(1);
                let whole = (start, end) == (0, bytes.len());
                let crc = storage.stated_crc().filter(|_| whole);
                let elements = row(bytes, dtype, start, (end - start) / unit, storage.byte_order);
                let located = storage.location.clone();
                let numel = if cast.is_some() { elements.shape.iter().product() } else { numel };
                let given = source.filter(|_| cast.is_none());
                (elements, given, located, crc, cast, numel)
            }
            Home::Array(id) => {
                let tensor = self.checkpoint.tensors.get(*id).cloned().unwrap_or_default();
                let elements = tensor.elements(&self.checkpoint.storages)?;
                elements.validate(&self.checkpoint.limits)?;
                let dtype = elements.dtype.clone();
                let cast = self.options.cast.clone().filter(|to| dtype.class() == Some(Class::Float) && dtype != *to);
                let count = elements.shape.iter().product();
                let size = u64::from(dtype.size().unwrap_or(1));
                let typed = cast.as_ref().unwrap_or(&dtype).storage_class().is_some();
                let numel = if typed { count } else { count * size };
                (elements, None, tensor.device.unwrap_or_else(|| "cpu".into()), None, cast, numel)
            }
        };
        let dtype = cast.clone().unwrap_or_else(|| elements.dtype.clone());
        let class = match given_class.and_then(|node| self.class_of(node)) {
            Some(class) => class,
            None => match dtype.storage_class() {
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
        let location = self.options.device.clone().unwrap_or_else(|| location.to_string());
        let location = self.shared_text(&location)?;
        let name = self.planned.len().to_string();
        let key = self.checkpoint.graph.push_str(&name)?;
        Ok(Planned { key, class, location, stored: NewStorage { key: name, numel, elements, cast, crc } })
    }

    /// The class in a persistent id of the input.
    fn class_of(&self, node: NodeId) -> Option<NodeId> {
        let Node::Persistent(pid) = self.checkpoint.graph.node(node) else { return None };
        self.checkpoint.graph.tuple(*pid)?.get(1).copied()
    }

    // ---- tensors

    /// The tuple of an object's arguments or state that begins with its storage: storage, offset, size, stride, ….
    fn view_of(&self, node: NodeId) -> Option<NodeId> {
        let object = self.checkpoint.graph.object(node)?;
        let nested = self.checkpoint.graph.tuple(object.args).and_then(|args| args.get(2)).copied();
        let states = object.changes.iter().filter_map(|change| match change {
            Change::Build(state) => Some(*state),
            _ => None,
        });
        let mut candidates = [object.args].into_iter().chain(nested).chain(states);
        candidates.find(|tuple| {
            let first = self.checkpoint.graph.tuple(*tuple).filter(|items| items.len() >= 4);
            first.and_then(|items| items.first()).is_some_and(|first| self.storage_of(*first).is_some())
        })
    }

    fn edit_tensor(&mut self, node: NodeId, tensor: &Tensor) -> Result<()> {
        if self.options.cast.is_some() && tensor.global_shape.is_some() {
            return Err(Error::unsupported("a distributed tensor cannot be cast; --state-dict takes its local part"));
        }
        let Data::Storage { id, offset } = tensor.data else { return Ok(()) };
        let Some(view) = self.view_of(node) else { return Ok(()) };
        let mut items = self.checkpoint.graph.tuple(view).unwrap_or_default().to_vec();
        let Some((_, _, source)) = items.first().and_then(|first| self.storage_of(*first)) else { return Ok(()) };
        let mut offset = offset;
        if let Some(parts) = self.parts.get(&id) {
            let dtype = tensor.dtype.clone().unwrap_or(DType::Known(Known::UInt8));
            let size = u64::from(dtype.size().unwrap_or(1));
            let at = offset * size;
            let part = parts.range(..=at).next_back().map(|(start, end)| *start..*end);
            let part = part.filter(|_| tensor.numel() != Some(0)).unwrap_or(0..0);
            offset = if part.is_empty() { 0 } else { (at - part.start) / size };
            let made = self.persistent(Home::Storage(id, part), Some(source))?;
            if let Some(first) = items.first_mut() {
                *first = made;
            }
        }
        let moved = i64::try_from(offset).map_err(|_| Error::data("an impossible storage offset"))?;
        if items.get(1).is_some_and(|place| self.checkpoint.graph.int(*place) != Some(moved)) {
            let new = self.push(Node::Int(moved))?;
            items.iter_mut().skip(1).take(1).for_each(|place| *place = new);
        }
        self.retype(node, view, id, tensor, &mut items)?;
        let tuple = self.checkpoint.graph.push_tuple(&items)?;
        let tuple = self.checkpoint.graph.node(tuple).clone();
        self.set(view, tuple);
        Ok(())
    }

    /// After a cast the storage's class says the type: `_rebuild_tensor_v3` becomes `_rebuild_tensor_v2`.
    fn retype(
        &mut self,
        node: NodeId,
        view: NodeId,
        id: StorageId,
        tensor: &Tensor,
        items: &mut Vec<NodeId>,
    ) -> Result<()> {
        let Some(dtype) = &tensor.dtype else { return Ok(()) };
        if self.checkpoint.objects().constructor(node) != Some(Constructor::TensorV3)
            || self.cast_of(id, dtype)?.is_none()
            || self.checkpoint.graph.object(node).is_none_or(|object| object.args != view)
        {
            return Ok(());
        }
        if items.len() > 6 {
            items.remove(6);
        }
        let callable = self.global("torch._utils", "_rebuild_tensor_v2")?;
        if let Some(Node::Object(object)) = self.checkpoint.graph.node_mut(node) {
            object.callable = callable;
        }
        Ok(())
    }

    /// A tensor that no pickle describes becomes a call of `_rebuild_tensor_v2` (or v3, for types without a storage
    /// class).
    fn make(&mut self, node: NodeId, id: TensorId, tensor: &Tensor) -> Result<()> {
        let dtype = tensor.dtype.clone().ok_or_else(|| Error::data("a tensor of unknown type"))?;
        let DType::Known(_) = dtype else {
            return Err(Error::unsupported(format!("torch has no {dtype}; leave it out with --exclude")));
        };
        let (home, offset, stride) = match &tensor.data {
            Data::Storage { id: storage, offset } => match self.parts.get(storage) {
                Some(parts) => {
                    let size = u64::from(dtype.size().unwrap_or(1));
                    let part = parts.range(..=offset * size).next_back().map(|(start, end)| *start..*end);
                    let part = part.filter(|_| tensor.numel() != Some(0)).unwrap_or(0..0);
                    let offset = if part.is_empty() { 0 } else { (offset * size - part.start) / size };
                    (Home::Storage(*storage, part), offset, tensor.stride.clone())
                }
                None => (Home::Storage(*storage, 0..u64::MAX), *offset, tensor.stride.clone()),
            },
            Data::Array { .. } => (Home::Array(id), 0, Some(crate::checkpoint::tensor::contiguous(&tensor.shape))),
            _ => return Err(Error::unsupported(format!("a {} tensor cannot be described anew", tensor.layout))),
        };
        let source = match &home {
            Home::Storage(storage, _) => self.pid_node(*storage),
            Home::Array(_) => None,
        };
        let storage = self.persistent(home.clone(), source)?;
        let cast = match &home {
            Home::Storage(storage, _) => self.cast_of(*storage, &dtype)?,
            Home::Array(_) => self.options.cast.clone().filter(|_| dtype.class() == Some(Class::Float)),
        };
        let dtype = cast.unwrap_or(dtype);
        let offset = self.int(offset)?;
        let size = self.ints(&tensor.shape)?;
        let stride = self.ints(stride.as_deref().unwrap_or_default())?;
        let grad = if tensor.requires_grad == Some(true) { Graph::TRUE } else { Graph::FALSE };
        let hooks = self.global("collections", "OrderedDict")?;
        let hooks = self.call(hooks, &[])?;
        let hooks = self.push(hooks)?;
        let mut args = vec![storage, offset, size, stride, grad, hooks];
        let name = match dtype.storage_class() {
            Some(_) => "_rebuild_tensor_v2",
            None => {
                args.push(self.global("torch", dtype.name())?);
                "_rebuild_tensor_v3"
            }
        };
        if matches!(home, Home::Storage(..)) && (tensor.conj || tensor.neg) {
            args.push(self.flags(tensor)?);
        }
        let callable = self.global("torch._utils", name)?;
        let made = self.call(callable, &args)?;
        self.set(node, made);
        Ok(())
    }

    /// A node whose persistent id names the storage, to keep its class.
    fn pid_node(&self, id: StorageId) -> Option<NodeId> {
        self.checkpoint.storages.node_of(id)
    }

    fn flags(&mut self, tensor: &Tensor) -> Result<NodeId> {
        let mut entries = Vec::new();
        for (name, set) in [("conj", tensor.conj), ("neg", tensor.neg)] {
            if set {
                let key = self.checkpoint.graph.push_str(name)?;
                entries.push(Entry { key, value: Graph::TRUE, key_at: 0 });
            }
        }
        self.push(Node::Dict(Box::new(entries)))
    }

    fn ints(&mut self, values: &[i64]) -> Result<NodeId> {
        let nodes = values.iter().map(|value| self.push(Node::Int(*value))).collect::<Result<Vec<_>>>()?;
        self.checkpoint.graph.push_tuple(&nodes)
    }

    /// joblib's stand-in becomes the array that it stands for: `_reconstruct(ndarray, (0,), b'b')` with its state.
    fn unfold_joblib(&mut self, node: NodeId, tensor: &Tensor) -> Result<()> {
        let Some((stream, at, len)) = self.checkpoint.graph.inline_bytes(node) else { return Ok(()) };
        let Some((dtype, column_major)) = numpy::joblib_type(&self.checkpoint.graph, node) else { return Ok(()) };
        let graph = &mut self.checkpoint.graph;
        let data = graph.add_text(stream, at, len, None, crate::pickle::text::Encoding::Raw)?;
        let code = graph.add_text_of(b"b", crate::pickle::text::Encoding::Raw)?;
        let (data, code) = (self.push(Node::Bytes(data))?, self.push(Node::Bytes(code))?);
        let class = self.global("numpy", "ndarray")?;
        let callable = self.global("numpy.core.multiarray", "_reconstruct")?;
        let (empty, version) = (self.ints(&[0])?, self.int(1)?);
        let shape = self.ints(&tensor.shape)?;
        let order = if column_major { Graph::TRUE } else { Graph::FALSE };
        let state = self.checkpoint.graph.push_tuple(&[version, shape, dtype, order, data])?;
        let mut made = self.call(callable, &[class, empty, code])?;
        if let Node::Object(object) = &mut made {
            object.changes.push(Change::Build(state));
        }
        self.set(node, made);
        Ok(())
    }
}

/// `count` elements from byte `start` on.
fn row(source: SharedSource, dtype: DType, start: u64, count: u64, byte_order: ByteOrder) -> Elements {
    let size = u64::from(dtype.size().unwrap_or(1)).max(1);
    let offset = start / size;
    Elements { source, dtype, shape: vec![count], stride: vec![1], offset, byte_order, conj: false, neg: false }
}

/// A new `OrderedDict` of the given tensors, as `state_dict()` gives it: plain tensors without grad, views and sharing
/// kept. `attributes` is what `BUILD` gives it (`_metadata`).
pub fn state_dict(
    checkpoint: &mut Checkpoint,
    tensors: &[(String, NodeId, TensorId)],
    attributes: Option<NodeId>,
) -> Result<NodeId> {
    let (module, name) = (checkpoint.graph.push_str("collections")?, checkpoint.graph.push_str("OrderedDict")?);
    let callable = checkpoint.graph.push(Node::Global { module, name })?;
    let mut changes = Vec::new();
    for (name, node, id) in tensors {
        let tensor = checkpoint.tensors.get(*id).cloned().unwrap_or_default();
        let value = match tensor.data {
            Data::Storage { .. } | Data::Array { .. } if tensor.quantizer.is_none() => {
                let made = checkpoint.graph.push(Node::Foreign(0))?;
                let plain = Tensor { kind: Kind::Tensor, requires_grad: Some(false), state: None, ..tensor };
                checkpoint.tensors.add(made, plain)?;
                made
            }
            // what only its own constructor can make keeps it, without the parameter around it
            _ => match checkpoint.objects().constructor(*node) {
                Some(Constructor::Parameter) => checkpoint.objects().args(*node).first().copied().unwrap_or(*node),
                _ => *node,
            },
        };
        let key = checkpoint.graph.push_str(name)?;
        changes.push(Change::Item(Entry { key, value, key_at: 0 }));
    }
    changes.extend(attributes.map(Change::Build));
    let object = Object { how: Construct::Reduce, callable, args: Graph::EMPTY_TUPLE, kwargs: None, changes };
    checkpoint.graph.push(Node::Object(Box::new(object)))
}
