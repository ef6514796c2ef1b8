//! What is done to the objects of a checkpoint, and what changes in its pickle and its storages for it. Nothing changes in two
//! places for one name: what an object of several names is made of stays.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Done, Step};
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::storage::{Persistent, StorageId};
use crate::checkpoint::{Checkpoint, Container};
use crate::error::{Error, Result};
use crate::pickle::splice::{Grafts, Locator, Pickle, Spliced, graft, is_what_was_asked_for};
use crate::pickle::{Census, Change, Graph, Node, NodeId, Pair};
use crate::source::SharedSource;

/// Pickles before the object of the legacy stream: magic number, protocol version, system facts.
const LEGACY_BEFORE: usize = 3;

/// What was done to the objects of a checkpoint.
#[derive(Debug)]
pub struct Objects {
    pub(super) grafts: Grafts,
    /// The top object of the file.
    pub(super) first_root: NodeId,
    /// Containers of the file that got items.
    pub(super) grown: Vec<(NodeId, Locator)>,
    /// Elements of lists of the file that are gone, by their places there, in order.
    pub(super) gone: HashMap<Locator, Vec<usize>>,
    /// Whether the pickle has to change.
    pub(super) is_changed: bool,
    /// The storages that the file's objects use.
    storages: HashSet<StorageId>,
    /// Where the storages lie that have other bytes.
    pub(super) homes: BTreeMap<StorageId, Home>,
    /// Other bytes of arrays in the pickle, by where those begin.
    pub(super) arrays: BTreeMap<u64, SharedSource>,
}

/// Where the bytes of a storage lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// A member of the zip, by its place.
    Member(usize),
    /// From this byte of the file on.
    File(u64),
}

/// The items of a dict, or those that an object was given after its construction.
pub(super) fn entries_of(graph: &Graph, node: NodeId) -> Vec<Pair> {
    match graph.node(node) {
        Node::Dict(entries) => entries.to_vec(),
        _ => {
            let items = graph.changes(node).iter().filter_map(|change| match change {
                Change::Item(entry) => Some(*entry),
                _ => None,
            });
            items.collect()
        }
    }
}

/// The stream that holds the pickle.
pub(super) fn pickle_source(checkpoint: &Checkpoint) -> Result<&SharedSource> {
    let graph = &checkpoint.graph;
    let stream = match checkpoint.container() {
        Container::Tar => graph.stream_named("pickle"),
        _ => graph.first_stream(),
    };
    stream.and_then(|stream| graph.stream(stream)).ok_or_else(|| Error::malformed("no such stream"))
}

impl Objects {
    pub(super) fn new(checkpoint: &Checkpoint) -> Result<Self> {
        Ok(Objects {
            grafts: Grafts::default(),
            first_root: checkpoint.root,
            grown: Vec::new(),
            gone: HashMap::new(),
            is_changed: false,
            storages: checkpoint.storages_below(checkpoint.root)?,
            homes: BTreeMap::new(),
            arrays: BTreeMap::new(),
        })
    }

    pub(super) fn step(&mut self, checkpoint: &mut Checkpoint, step: &Step) -> Result<Done> {
        // what was changed in the objects only would be found missing in the pickle
        self.is_changed |= !matches!(step, Step::SetTensor { .. });
        match step {
            Step::Set { name, value } => self.set(checkpoint, name, value),
            Step::SetTensor { name, elements, force_shape } => {
                self.set_tensor(checkpoint, name, elements.clone(), *force_shape)
            }
            Step::Delete { name } => self.delete(checkpoint, name),
            Step::Move { from, to } => self.rename(checkpoint, from, to),
            Step::SetMetadata { .. } => {
                let kind = checkpoint.container().name();
                let what = format!("only safetensors files have metadata, and this is one of the kind {kind}");
                Err(Error::refused(what))
            }
        }
    }

    /// The pickle as it is now, where it changes. `checkpoint` is the one that all steps were done to.
    pub(crate) fn pickle(&self, checkpoint: &Checkpoint) -> Result<Option<Arc<Spliced>>> {
        if !self.is_changed {
            return Ok(None);
        }
        if !self.arrays.is_empty() {
            let what = "an array in the pickle cannot be set together with other changes of the pickle";
            return Err(Error::unsupported(what).advise("set it in an edit of its own"));
        }
        let graph = &checkpoint.graph;
        let source = pickle_source(checkpoint)?;
        let outer = checkpoint.source().map_or(0, |source| source.len());
        let uses = Census::new(graph, checkpoint.root)?;
        let mut grafts = Grafts {
            fates: self.grafts.fates.clone(),
            elements: self.grafts.elements.clone(),
            origins: self.grafts.origins.clone(),
            additions: Vec::new(),
            root: (checkpoint.root != self.first_root).then_some(checkpoint.root),
        };
        for (node, locator) in &self.grown {
            // what was removed later has no place any more
            if uses.uses(*node) == 0 {
                continue;
            }
            let new = entries_of(graph, *node).into_iter().filter(|entry| entry.key_at == 0);
            grafts.additions.extend(new.map(|entry| (locator.clone(), entry.key, entry.value)));
        }
        let pickle = Pickle {
            source,
            graph,
            root: Some(self.first_root).filter(|_| checkpoint.container() != Container::Tar),
            before: if checkpoint.container() == Container::Legacy { LEGACY_BEFORE } else { 0 },
            max_objects: checkpoint.limits.objects_for(outer.max(source.len())),
            max_bytes: checkpoint.limits.max_new_name_bytes,
            inline: &Joblib,
        };
        let spliced = Arc::new(graft(&pickle, &grafts)?);
        let edited: SharedSource = Arc::clone(&spliced) as SharedSource;
        is_what_was_asked_for(&Pickle { source: &edited, ..pickle }, checkpoint.root)?;
        Ok(Some(spliced))
    }

    /// Storages with other bytes, by the place of their member in the zip.
    pub(crate) fn members(&self, checkpoint: &Checkpoint) -> Result<Vec<(usize, SharedSource)>> {
        let at = |home: &Home| match home {
            Home::Member(position) => Some(*position),
            Home::File(_) => None,
        };
        self.changed(checkpoint, at).collect()
    }

    /// Other bytes over those of a file that is no zip, or of a zip's pickle, by where they begin.
    pub(crate) fn over(&self, checkpoint: &Checkpoint) -> Result<Vec<(u64, SharedSource)>> {
        let at = |home: &Home| match home {
            Home::Member(_) => None,
            Home::File(at) => Some(*at),
        };
        let arrays = self.arrays.iter().map(|(at, bytes)| Ok((*at, Arc::clone(bytes))));
        self.changed(checkpoint, at).chain(arrays).collect()
    }

    fn changed<T>(
        &self,
        checkpoint: &Checkpoint,
        at: impl Fn(&Home) -> Option<T>,
    ) -> impl Iterator<Item = Result<(T, SharedSource)>> {
        let homes = self.homes.iter().filter_map(move |(id, home)| Some((*id, at(home)?)));
        homes.map(|(id, at)| {
            let storage = checkpoint.storages.get(id).ok_or_else(|| Error::data("no such storage"))?;
            Ok((at, storage.source()?))
        })
    }

    /// How many storages no object uses any more.
    pub(crate) fn unused_storages(&self, checkpoint: &Checkpoint) -> Result<usize> {
        let left = checkpoint.storages_below(checkpoint.root)?;
        Ok(self.storages.difference(&left).count())
    }
}

impl Checkpoint {
    /// The storages that objects below a node use.
    pub(super) fn storages_below(&self, node: NodeId) -> Result<HashSet<StorageId>> {
        let scan = Census::new(&self.graph, node)?;
        let ids = scan.order().iter().filter_map(|node| match self.storages.meaning(*node) {
            Some(Persistent::Storage { id, .. }) => Some(*id),
            _ => None,
        });
        Ok(ids.collect())
    }
}
