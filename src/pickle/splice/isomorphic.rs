//! Whether a pickle that was edited holds what it should: the same objects, shared in the same places.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Pickle;
use crate::error::{Error, Result};
use crate::pickle::decode::decode;
use crate::pickle::graph::{Change, Graph, Node, NodeId, Pair};

/// Reads an edited pickle and holds it against what its old graph was changed to, below `root`. Fails where they differ.
pub(crate) fn is_what_was_asked_for(edited: &Pickle<'_>, root: NodeId) -> Result<()> {
    let mut graph = Graph::new();
    let stream = graph.add_stream(Arc::clone(edited.source), "");
    let (mut at, mut found) = (0, Graph::NONE);
    for _ in 0..=edited.before {
        let decoded = decode(&mut graph, stream, at, edited.max_objects, edited.inline)?;
        (at, found) = (decoded.end, decoded.root);
    }
    let mut walk = Walk { old: edited.graph, new: &graph, pairs: vec![(root, found)], twins: FxHashMap::default() };
    match walk.run()? {
        true => Ok(()),
        false => Err(Error::unsupported("is pickled in a way that this edit would break")),
    }
}

struct Walk<'a> {
    old: &'a Graph,
    new: &'a Graph,
    pairs: Vec<(NodeId, NodeId)>,
    twins: FxHashMap<NodeId, NodeId>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<bool> {
        let mut back: FxHashMap<NodeId, NodeId> = FxHashMap::default();
        while let Some((old, new)) = self.pairs.pop() {
            if let Some(twin) = self.twins.insert(old, new) {
                if twin != new {
                    return Ok(false);
                }
                continue;
            }
            let is_constant = [Graph::NONE, Graph::TRUE, Graph::FALSE, Graph::EMPTY_TUPLE].contains(&new);
            if back.insert(new, old).is_some_and(|other| other != old) && !is_constant {
                return Ok(false);
            }
            if !self.is_same(old, new)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn all(&mut self, old: &[NodeId], new: &[NodeId]) -> bool {
        self.pairs.extend(old.iter().copied().zip(new.iter().copied()));
        old.len() == new.len()
    }

    fn entries(&mut self, old: &[Pair], new: &[Pair]) -> bool {
        let pairs = old.iter().zip(new);
        self.pairs.extend(pairs.flat_map(|(old, new)| [(old.key, new.key), (old.value, new.value)]));
        old.len() == new.len()
    }

    fn is_same(&mut self, old: NodeId, new: NodeId) -> Result<bool> {
        let (before, after) = (self.old, self.new);
        let is_same = match (before.node(old), after.node(new)) {
            // as Python pickles them with protocol 2: a call
            (Node::Bytes(_) | Node::Set(_), Node::Object(_)) => return Ok(true),
            (Node::Str(a), Node::Str(b))
            | (Node::Bytes(a), Node::Bytes(b))
            | (Node::ByteArray(a), Node::ByteArray(b))
            | (Node::Long(a), Node::Long(b)) => before.text(*a)? == after.text(*b)?,
            (Node::Float(a), Node::Float(b)) => a.to_bits() == b.to_bits(),
            (Node::Tuple(a), Node::Tuple(b)) | (Node::FrozenSet(a), Node::FrozenSet(b)) => {
                self.all(before.children(*a), after.children(*b))
            }
            (Node::List(a), Node::List(b)) | (Node::Set(a), Node::Set(b)) => self.all(a, b),
            (Node::Dict(a), Node::Dict(b)) => self.entries(a, b),
            (Node::Global { module: a, name: b }, Node::Global { module: c, name: d }) => {
                self.all(&[*a, *b], &[*c, *d])
            }
            (Node::Persistent(a), Node::Persistent(b)) | (Node::ReadOnlyBuffer(a), Node::ReadOnlyBuffer(b)) => {
                self.all(&[*a], &[*b])
            }
            (Node::Object(a), Node::Object(b)) => {
                let kwargs = self.all(a.kwargs.as_slice(), b.kwargs.as_slice());
                a.how == b.how && kwargs && self.all(&[a.callable, a.args], &[b.callable, b.args])
            }
            (a, b) => a == b,
        };
        Ok(is_same && self.changes(before.changes(old), after.changes(new)))
    }

    /// New items of an object come before its state.
    fn changes(&mut self, old: &[Change], new: &[Change]) -> bool {
        let item = |change: &Change| match change {
            Change::Item(entry) => Some(*entry),
            _ => None,
        };
        let items = |changes: &[Change]| changes.iter().filter_map(item).collect::<Vec<Pair>>();
        let others = |changes: &[Change]| {
            let others = changes.iter().filter_map(|change| match change {
                Change::Append(node) | Change::Add(node) | Change::Build(node) => {
                    Some((std::mem::discriminant(change), *node))
                }
                Change::Item(_) => None,
            });
            others.collect::<Vec<_>>()
        };
        let (a, b) = (others(old), others(new));
        self.pairs.extend(a.iter().zip(&b).map(|((_, a), (_, b))| (*a, *b)));
        let is_alike = a.len() == b.len() && a.iter().zip(&b).all(|((a, _), (b, _))| a == b);
        is_alike && self.entries(&items(old), &items(new))
    }
}
