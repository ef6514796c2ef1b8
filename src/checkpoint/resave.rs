//! A checkpoint as `torch.save` would be given it: every storage gets a key and a persistent id of the target's form,
//! tensors of other containers become calls of torch's constructors, and casts, devices and compaction are worked in.
//!
//! The graph is edited in place: what nobody has to touch stays what it was, unknown classes included. Here is what is
//! done and in which order; `storages` decides what is stored, `tensors` describes what looks at it.

mod joblib;
mod legacy;
mod state_dict;
mod storages;
mod tensors;

use std::collections::{BTreeMap, HashMap, HashSet};

use rustc_hash::FxHashMap;

pub(super) use self::joblib::unfold_nested;
pub(crate) use self::state_dict::{metadata_below, ordered_dict, state_dict};
pub(crate) use self::storages::NewStorage;
use self::storages::{Home, Planned, Use};
use thin_vec::ThinVec;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::casting::Kept;
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::storage::{Persistent, StorageId};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pickle::{Construct, Node, NodeId, Object};

/// What to change on the way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resave {
    /// The target is the legacy stream, which knows no untyped storages and keeps classes with their source.
    pub legacy: bool,
    /// Floating tensors become this type.
    pub cast: Option<DType>,
    /// But not these.
    pub uncast: Kept,
    /// Every storage's location.
    pub device: Option<String>,
    /// Each group of views gets only the part of the storage it uses.
    pub compact: bool,
}

/// Edits `checkpoint` so that what lies below `root` can be pickled for torch; gives the storages in their order, whose keys
/// are their numbers.
pub(crate) fn resave(checkpoint: &mut Checkpoint, root: NodeId, options: &Resave) -> Result<Vec<NewStorage>> {
    unfold_nested(checkpoint, root)?;
    let mut order = legacy::order(checkpoint, root)?;
    if options.legacy {
        legacy::refuse(checkpoint, root, &order)?;
    }
    let mut work = Work {
        options,
        uses: FxHashMap::default(),
        parts: HashMap::new(),
        homes: FxHashMap::default(),
        planned: Vec::new(),
        globals: HashMap::new(),
        kept: HashSet::new(),
        checkpoint,
    };
    if work.replace_meta(&order)? {
        order = legacy::order(work.checkpoint, root)?;
    }
    // only storages are copied: how often their elements are looked at does not matter
    let unbounded = Limits { max_read_bytes: u64::MAX, ..work.checkpoint.limits.clone() };
    work.kept.extend(&options.uncast.storages);
    for node in &order {
        work.look(*node, &unbounded).map_err(|e| work.checkpoint.of_origin(*node, e))?;
    }
    work.divide()?;
    for node in order {
        work.edit(node).map_err(|e| work.checkpoint.of_origin(node, e))?;
    }
    Ok(work.planned.into_iter().map(|planned| planned.stored).collect())
}

struct Work<'a> {
    checkpoint: &'a mut Checkpoint,
    options: &'a Resave,
    /// How a storage is looked at: with `compact` by every view, else in every type.
    uses: FxHashMap<StorageId, Vec<Use>>,
    /// With `compact`: the parts of a storage that are used, by first byte.
    parts: HashMap<StorageId, BTreeMap<u64, u64>>,
    homes: FxHashMap<Home, usize>,
    planned: Vec<Planned>,
    globals: HashMap<String, NodeId>,
    /// Storages whose elements are no weights: a quantizer's scales.
    kept: HashSet<StorageId>,
}

impl Work<'_> {
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
            Node::Object(_) if self.checkpoint.objects().constructor(node) == Some(Constructor::OnDevice) => {
                self.edit_on_device(node, id, &tensor)
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
        Ok(Node::Object(Box::new(Object { how, callable, args, kwargs: None, changes: ThinVec::new() })))
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
}
