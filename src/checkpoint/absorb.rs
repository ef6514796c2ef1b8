//! Several checkpoints become one: their objects, storages and tensors live in one arena, each with everything that it is,
//! and nothing of one is ever taken for something of another, be its key, its name or its bytes the same.
//!
//! Who puts them together decides what the top object is. What each was as a file is kept beside it: whose storage is
//! damaged can still be told.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::checkpoint::framed::{Framed, Several};
use crate::checkpoint::open::{Opened, Parts};
use crate::checkpoint::storage::StorageId;
use crate::checkpoint::{Checkpoint, MadeOf};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pickle::{Graph, Moved, NodeId};

/// What one of several checkpoints was before they became one.
#[derive(Debug)]
pub struct Origin {
    /// As people know it.
    pub name: String,
    /// What it was read from.
    pub(crate) framed: Framed,
    /// The bounds it was opened with.
    pub limits: Limits,
    storages: Range<u32>,
    /// Places in the graph.
    nodes: Range<usize>,
}

impl Origin {
    /// What a storage was called in it; nothing for one that lay elsewhere.
    pub(crate) fn storage(&self, id: StorageId) -> Option<StorageId> {
        self.storages.contains(&id.0).then(|| StorageId(id.0.saturating_sub(self.storages.start)))
    }
}

impl Checkpoint {
    /// A checkpoint of nothing, that others can be taken into. It counts as made of several files.
    pub(crate) fn of_several(limits: &Limits) -> Result<Self> {
        Parts::new().finish(Opened::new(Framed::Several(Several::Sharded), Graph::NONE), limits)
    }

    /// Takes in all of another checkpoint, known as `name`; its top object is nowhere yet, and where that and all others
    /// are now is said. Tensors that belong to no object are not kept.
    pub(crate) fn absorb(&mut self, other: Checkpoint, name: &str) -> Result<Moved> {
        let first_node = self.graph.len();
        let moved = self.graph.absorb(other.graph)?;
        let first = self.storages.absorb(other.storages, &moved)?;
        let first_tensor = self.tensors.absorb(other.tensors, &moved, first)?;
        self.made_of.extend(other.made_of.into_iter().map(|(id, made)| {
            let storages = made.storages.iter().map(|storage| storage.after(first)).collect();
            (id.after(first_tensor), MadeOf { storages, ..made })
        }));
        let end = u32::try_from(self.storages.len()).unwrap_or(u32::MAX);
        // what was put together itself is what its own parts are
        self.origins.extend(other.origins.into_iter().map(|origin| Origin {
            name: format!("{name}: {}", origin.name),
            storages: origin.storages.start.saturating_add(first)..origin.storages.end.saturating_add(first),
            nodes: 0..0,
            ..origin
        }));
        self.origins.push(Origin {
            name: name.to_owned(),
            framed: other.framed,
            limits: other.limits,
            storages: first..end,
            nodes: first_node..self.graph.len(),
        });
        Ok(moved)
    }

    /// Which of several checkpoints an object was in.
    pub(crate) fn origin_of(&self, node: NodeId) -> Option<&Origin> {
        self.origins.iter().find(|origin| origin.nodes.contains(&node.index()))
    }

    /// Says of an error about an object which of several checkpoints that was in.
    pub(crate) fn of_origin(&self, node: NodeId, e: Error) -> Error {
        match self.origin_of(node) {
            Some(origin) => e.of_input(&origin.name),
            None => e,
        }
    }

    /// Makes each class and function of several checkpoints one object, as it is in Python, so that their pickle names it
    /// once. Within one checkpoint everything stays as its pickle had it.
    pub(crate) fn unify_globals(&mut self) -> Result<()> {
        let mut known: HashMap<(Vec<u8>, Vec<u8>), NodeId> = HashMap::new();
        let mut new: HashMap<NodeId, NodeId> = HashMap::new();
        // each was taken in behind those before it
        let mut ends = self.origins.iter().map(|origin| &origin.nodes).filter(|nodes| !nodes.is_empty());
        let mut within = ends.next();
        let mut seen = HashSet::new();
        for node in self.graph.ids() {
            while within.is_some_and(|nodes| nodes.end <= node.index()) {
                within = ends.next();
                seen.clear();
            }
            let Some(names) = self.graph.global_names(node)? else { continue };
            if within.is_some() && !seen.insert(names.clone()) {
                continue;
            }
            match known.entry(names) {
                Entry::Vacant(place) => drop(place.insert(node)),
                Entry::Occupied(first) => drop(new.insert(node, *first.get())),
            }
        }
        self.graph.redirect(&new);
        Ok(())
    }
}
