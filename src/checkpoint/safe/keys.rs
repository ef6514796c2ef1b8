//! Keys of dicts and elements of sets must stay hashable, and different: a dict in such a place becomes a tuple of its
//! pairs, a list or a set a tuple of its elements.

use std::collections::{HashMap, HashSet};

use super::Work;
use crate::checkpoint::constructors::Constructor;
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::pickle::{Census, Change, Graph, Node, NodeId};

/// Keys are told apart by so much of what they show.
const MAX_KEY_CHARS: usize = 4096;

impl Work<'_> {
    pub(super) fn keep_hashable(&mut self, root: NodeId, touched: &HashSet<NodeId>) -> Result<()> {
        if touched.is_empty() {
            return Ok(());
        }
        let mut made = HashMap::new();
        for node in Census::new(&self.checkpoint.graph, root)?.into_order() {
            let keys = self.keys_of(node);
            let mut new = Vec::new();
            let mut any = false;
            for key in &keys {
                let hashable = self.hashable(*key, &mut made)?;
                any |= hashable != *key || touched.contains(key) || self.checkpoint.graph.tuple(*key).is_some();
                new.push(hashable);
            }
            if any {
                self.refuse_equal(&new)?;
                self.set_keys(node, &new);
            }
        }
        Ok(())
    }

    /// The keys of a mapping in its own place; the elements of a set.
    fn keys_of(&self, node: NodeId) -> Vec<NodeId> {
        let graph = &self.checkpoint.graph;
        match graph.node(node) {
            Node::Dict(entries) => entries.iter().map(|entry| entry.key).collect(),
            Node::Object(object) if self.checkpoint.objects().constructor(node) == Some(Constructor::Set) => {
                let list = graph.sequence(object.args).and_then(|args| args.first());
                list.and_then(|list| graph.sequence(*list)).unwrap_or_default().to_vec()
            }
            Node::Object(object) => {
                let keys = object.changes.iter().filter_map(|change| match change {
                    Change::Item(entry) => Some(entry.key),
                    _ => None,
                });
                keys.collect()
            }
            _ => Vec::new(),
        }
    }

    fn set_keys(&mut self, node: NodeId, keys: &[NodeId]) {
        let is_set = self.checkpoint.objects().constructor(node) == Some(Constructor::Set);
        let list = self.checkpoint.objects().args(node).first().copied().filter(|_| is_set);
        let mut keys = keys.iter().copied();
        match self.checkpoint.graph.node_mut(list.unwrap_or(node)) {
            Some(Node::Dict(entries)) => {
                entries.iter_mut().zip(keys).for_each(|(entry, key)| entry.key = key);
            }
            Some(Node::List(items)) => **items = keys.collect(),
            Some(Node::Object(object)) => {
                for change in &mut object.changes {
                    if let Change::Item(entry) = change {
                        entry.key = keys.next().unwrap_or(entry.key);
                    }
                }
            }
            _ => {}
        }
    }

    /// What a container in a key's place holds; nothing for what can be hashed.
    fn pieces(&self, node: NodeId) -> Option<Vec<NodeId>> {
        let objects = self.checkpoint.objects();
        if self.checkpoint.tensors.of(node).is_some() {
            return None;
        }
        if let Some(items) = objects.items(node) {
            return Some(items.iter().flat_map(|entry| [entry.key, entry.value]).collect());
        }
        match self.checkpoint.graph.node(node) {
            Node::Tuple(_) | Node::List(_) => self.checkpoint.graph.sequence(node).map(<[NodeId]>::to_vec),
            Node::Object(_) => objects.set_elements(node),
            _ => None,
        }
    }

    /// The key itself, or tuples in its stead.
    fn hashable(&mut self, key: NodeId, made: &mut HashMap<NodeId, NodeId>) -> Result<NodeId> {
        let mut open = vec![key];
        let mut begun = HashSet::new();
        while let Some(node) = open.last().copied() {
            let pieces = if made.contains_key(&node) { None } else { self.pieces(node) };
            let Some(pieces) = pieces else {
                open.pop();
                made.entry(node).or_insert(node);
                continue;
            };
            self.budget.visit()?;
            if begun.insert(node) {
                open.extend(pieces.iter().rev().filter(|piece| !made.contains_key(piece)));
                if pieces.iter().any(|piece| begun.contains(piece) && !made.contains_key(piece)) {
                    return Err(Error::unsupported("a key of a dict that contains itself").advise(leave_out()));
                }
                continue;
            }
            open.pop();
            let new: Vec<NodeId> = pieces.iter().map(|piece| made.get(piece).copied().unwrap_or(*piece)).collect();
            let is_mapping = self.checkpoint.objects().items(node).is_some();
            let tuple = match self.checkpoint.graph.node(node) {
                Node::Tuple(_) if new == pieces => node,
                _ if is_mapping => {
                    let mut pairs = Vec::new();
                    for pair in new.chunks(2) {
                        pairs.push(self.checkpoint.graph.push_tuple(pair)?);
                    }
                    self.checkpoint.graph.push_tuple(&pairs)?
                }
                _ => self.checkpoint.graph.push_tuple(&new)?,
            };
            made.insert(node, tuple);
        }
        Ok(made.get(&key).copied().unwrap_or(key))
    }

    /// Refuses keys that were different objects and are equal now: one would hide the other.
    fn refuse_equal(&self, keys: &[NodeId]) -> Result<()> {
        let objects = self.checkpoint.objects();
        let mut seen: HashMap<String, NodeId> = HashMap::new();
        for key in keys {
            let shown = match self.checkpoint.graph.node(*key) {
                Node::Bool(value) => i64::from(*value).to_string(),
                // Python's 1.0 is 1
                Node::Float(value) => objects
                    .repr(*key, MAX_KEY_CHARS)
                    .trim_end_matches(".0")
                    .replace("-0", if *value == 0.0 { "0" } else { "-0" }),
                // tensors are told apart by what they are, not by what they hold
                Node::Foreign(_) => continue,
                _ if self.checkpoint.tensors.of(*key).is_some() || *key == Graph::NONE => continue,
                _ => objects.repr(*key, MAX_KEY_CHARS),
            };
            match seen.get(&shown) {
                Some(other) if other != key => {
                    let message = format!("two keys of a dict, or elements of a set, would both be {shown}");
                    return Err(Error::unsupported(message).advise(leave_out()));
                }
                _ => drop(seen.insert(shown, *key)),
            }
        }
        Ok(())
    }
}

fn leave_out() -> crate::message::Message {
    Setting::Drop.then(" leaves it out")
}
