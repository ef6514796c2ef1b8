//! The tensors of a graph: every call that makes one is found and read instead of called, and how much of them may be
//! read is bounded.

mod calls;
mod wrapped;

use std::collections::{HashMap, HashSet};

use rustc_hash::FxHashMap;

use self::calls::Call;
use crate::checkpoint::constructors::{Constructor, named};
use crate::checkpoint::storage::Storages;
use crate::checkpoint::tensor::{Tensor, TensorId};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::Setting;
use crate::pickle::{Construct, Graph, Moved, Node, NodeId};

const MAX_PASSES: usize = 8;
const OBJECTS_A_TENSOR: u64 = 24;
/// Tensors may be views of the same bytes, or larger than what they are expanded from: in all so many times the bytes.
const TIMES_THE_BYTES: u64 = 16;
const MANY_TIMES_THE_BYTES: &str = "is larger than its bytes, or one of many views of them, and too much to read with \
                                    those before it; --max-read-bytes allows more";

/// All tensors of a graph, and which nodes they are.
#[derive(Debug, Default)]
pub struct Tensors {
    all: Vec<Tensor>,
    of: FxHashMap<NodeId, TensorId>,
    constructors: FxHashMap<NodeId, Option<Constructor>>,
    /// Roots of the streams inside `_load_from_bytes`, by the call's node.
    pub(super) inner_roots: HashMap<NodeId, NodeId>,
    /// What files of `torch.save` hold that are byte strings, by the string's node.
    embedded: FxHashMap<NodeId, NodeId>,
    /// What the class of a module adds to its `state_dict()`, by name.
    saved: FxHashMap<NodeId, Vec<(&'static str, NodeId)>>,
}

impl Tensors {
    /// The tensor of `id`.
    pub(crate) fn get(&self, id: TensorId) -> Option<&Tensor> {
        self.all.get(id.0 as usize)
    }

    /// The same, to change.
    pub(super) fn get_mut(&mut self, id: TensorId) -> Option<&mut Tensor> {
        self.all.get_mut(id.0 as usize)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tensor> {
        self.all.iter()
    }

    /// The nodes that are tensors, and what is known of them.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, TensorId, &Tensor)> {
        self.of.iter().filter_map(|(node, id)| Some((*node, *id, self.get(*id)?)))
    }

    /// These nodes are tensors no more.
    pub(super) fn forget(&mut self, nodes: &HashSet<NodeId>) {
        self.of.retain(|node, _| !nodes.contains(node));
    }

    /// Looks again at where the tensors lie, when storages have gone missing.
    pub(super) fn inspect_again(&mut self, storages: &Storages) {
        self.all.iter_mut().for_each(|tensor| tensor.inspect(storages));
    }

    /// The byte string that `value` is, is a file that holds `root`.
    pub(super) fn embed(&mut self, value: NodeId, root: NodeId) {
        self.embedded.insert(value, root);
    }

    /// What a byte string holds that is a file of `torch.save`.
    pub(super) fn embedded_in(&self, value: NodeId) -> Option<NodeId> {
        self.embedded.get(&value).copied()
    }

    /// Whether any global makes this.
    pub(super) fn knows(&self, constructor: Constructor) -> bool {
        self.constructors.values().any(|known| *known == Some(constructor))
    }

    /// The class of a module adds these to its `state_dict()`, after parameters and buffers.
    pub(super) fn save_in(&mut self, module: NodeId, named: Vec<(&'static str, NodeId)>) {
        self.saved.insert(module, named);
    }

    /// What the class of a module adds to its `state_dict()`.
    pub(super) fn saved_in(&self, module: NodeId) -> Option<&[(&'static str, NodeId)]> {
        self.saved.get(&module).map(Vec::as_slice)
    }

    /// The tensor that a node is.
    pub(crate) fn of(&self, node: NodeId) -> Option<TensorId> {
        self.of.get(&node).copied()
    }

    /// Adds a tensor that `node` stands for.
    pub(super) fn add(&mut self, node: NodeId, tensor: Tensor) -> Result<TensorId> {
        let id = u32::try_from(self.all.len()).map_err(|_| Error::limit("more than 4 billion tensors"))?;
        self.all.push(tensor);
        self.of.insert(node, TensorId(id));
        Ok(TensorId(id))
    }

    /// Takes in the tensors of another checkpoint, whose objects were moved and whose storages now come after so many; says
    /// after how many its tensors come.
    pub(super) fn absorb(&mut self, other: Tensors, moved: &Moved, first_storage: u32) -> Result<u32> {
        let all = self.all.len().saturating_add(other.all.len());
        let (Ok(first), Ok(_)) = (u32::try_from(self.all.len()), u32::try_from(all)) else {
            return Err(Error::limit("more than 4 billion tensors"));
        };
        let node = |id: NodeId| moved.node(id);
        self.all.extend(other.all.into_iter().map(|tensor| tensor.moved(moved, first_storage)));
        let of = other.of.into_iter().map(|(id, tensor)| (node(id), tensor.after(first)));
        self.of.extend(of);
        self.constructors.extend(other.constructors.into_iter().map(|(id, known)| (node(id), known)));
        self.inner_roots.extend(other.inner_roots.into_iter().map(|(call, root)| (node(call), node(root))));
        self.embedded.extend(other.embedded.into_iter().map(|(value, root)| (node(value), node(root))));
        let saved = other.saved.into_iter().map(|(module, named)| {
            (node(module), named.into_iter().map(|(name, value)| (name, node(value))).collect())
        });
        self.saved.extend(saved);
        Ok(first)
    }

    /// What an object's callable makes. A class that was saved with its source counts as itself.
    pub(crate) fn constructor_of(&self, graph: &Graph, callable: NodeId) -> Option<Constructor> {
        match self.constructors.get(&callable) {
            Some(known) => *known,
            None => named(graph, callable),
        }
    }

    /// Remembers what each global makes, from node number `from` on, so that it is looked up once however many calls it has.
    pub(super) fn learn_constructors(&mut self, graph: &Graph, from: usize) {
        for id in graph.ids().skip(from) {
            if let Node::Global { .. } = graph.node(id) {
                self.constructors.entry(id).or_insert_with(|| named(graph, id));
            }
        }
    }

    /// Finds every tensor of the graph. Arguments come before the calls that take them, so one pass in the order of the
    /// nodes does, but for what `BUILD` brings later: those are tried again while anything new is found.
    /// A tensor takes the memory of many objects, so how many there may be depends on those.
    pub(super) fn rebuild(&mut self, graph: &Graph, storages: &Storages, limits: &Limits) -> Result<()> {
        let mut left = limits.max_objects.saturating_add(graph.held().saturating_mul(2));
        let mut bytes = 0_u64;
        self.learn_constructors(graph, 0);
        let mut waiting: Vec<NodeId> = graph.ids().filter(|id| graph.object(*id).is_some()).collect();
        // mostly as many as there are storages; growing there would leave a copy behind at every doubling
        self.all.reserve(waiting.len().min(storages.len()));
        for _ in 0..MAX_PASSES {
            let before = self.all.len();
            let mut later = Vec::new();
            for id in waiting {
                match self.try_node(graph, storages, id) {
                    Attempt::Done(tensor) => {
                        let mut tensor = *tensor;
                        tensor.inspect(storages);
                        bytes = bytes.saturating_add(own_bytes(&tensor));
                        left = left.checked_sub(OBJECTS_A_TENSOR + 2 * tensor.shape.len() as u64).ok_or_else(|| {
                            Error::limit("has more tensors than its pickle explains").allowed_by(Setting::MaxObjects)
                        })?;
                        self.add(id, tensor)?;
                    }
                    Attempt::NotYet => later.push(id),
                    Attempt::Never => {}
                }
            }
            waiting = later;
            if waiting.is_empty() || self.all.len() == before {
                break;
            }
        }
        let explained = bytes_for(graph, storages, limits);
        if bytes > explained {
            self.bound_reading(explained);
        }
        Ok(())
    }

    /// Lets so many bytes of elements be read, those of a view that has several names once.
    fn bound_reading(&mut self, mut left: u64) {
        let mut seen = HashMap::new();
        for tensor in &mut self.all {
            let mut fits = || {
                let less = left.checked_sub(own_bytes(tensor));
                left = less.unwrap_or(left);
                less.is_some()
            };
            let fits = match tensor.view() {
                Some(view) => *seen.entry(view).or_insert_with(fits),
                None => fits(),
            };
            if !fits {
                tensor.unread = Some(MANY_TIMES_THE_BYTES);
            }
        }
    }

    fn try_node(&self, graph: &Graph, storages: &Storages, id: NodeId) -> Attempt {
        let Some(object) = graph.object(id) else { return Attempt::Never };
        let mut callable = object.callable;
        let mut args = graph.sequence(object.args).unwrap_or_default();
        if self.constructor_of(graph, callable) == Some(Constructor::Reconstructor) {
            let Some([class, ..]) = args.get(..1) else { return Attempt::Never };
            (callable, args) = (*class, &[]);
        }
        let Some(constructor) = self.constructor_of(graph, callable) else { return Attempt::Never };
        let call = Call { tensors: self, graph, storages, node: id, callable };
        match constructor {
            Constructor::NumpyArray
            | Constructor::JoblibArray
            | Constructor::TensorClass
            | Constructor::ParameterClass
                if object.how == Construct::Reduce && object.changes.is_empty() && args.is_empty() =>
            {
                Attempt::Never
            }
            _ => call.make(constructor, args),
        }
    }
}

/// Bytes of elements that are read of a tensor; those of a wrapper are its parts', which are tensors themselves.
fn own_bytes(tensor: &Tensor) -> u64 {
    if tensor.wraps { 0 } else { tensor.bytes().unwrap_or(0) }
}

/// How many bytes the tensors may have together.
fn bytes_for(graph: &Graph, storages: &Storages, limits: &Limits) -> u64 {
    let stored =
        storages.iter().filter_map(|(_, storage)| storage.available()).fold(graph.stream_bytes(), u64::saturating_add);
    limits.max_read_bytes.saturating_add(stored.saturating_mul(TIMES_THE_BYTES))
}

/// What came of reading one call.
enum Attempt {
    Done(Box<Tensor>),
    /// It needs a tensor that is not known yet.
    NotYet,
    Never,
}

impl From<Option<Tensor>> for Attempt {
    fn from(tensor: Option<Tensor>) -> Self {
        tensor.map_or(Attempt::Never, |tensor| Attempt::Done(Box::new(tensor)))
    }
}
