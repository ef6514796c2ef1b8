//! Structures that harm whoever walks them: lists and dicts that never end or grow without bounds, unhashable keys.

use super::Scanner;
use crate::pickle::{Graph, Node, NodeId, Pair};
use crate::safety::finding::Severity;

/// Steps that walking a container may take without remark, and how many times the objects there are.
const MIN_EXPANDED: u64 = 1_000_000;
const MAX_EXPANSION: u64 = 100;

impl Scanner<'_> {
    /// Keys and elements that Python refuses to hash: loading fails there.
    pub(super) fn unhashable(&mut self, graph: &Graph, place: &str) {
        // a tuple is made after what it holds
        let mut unhashable = vec![false; graph.len()];
        let never = |unhashable: &[bool], id: NodeId| unhashable.get(id.index()) == Some(&true);
        for id in graph.ids() {
            let is = match graph.node(id) {
                Node::List(_) | Node::Dict(_) | Node::Set(_) | Node::ByteArray(_) => true,
                Node::Tuple(items) => graph.children(*items).iter().any(|item| never(&unhashable, *item)),
                _ => false,
            };
            if let Some(known) = unhashable.get_mut(id.index()).filter(|_| is) {
                *known = true;
            }
        }
        let never = |id: NodeId| never(&unhashable, id);
        let holds = graph.ids().any(|id| match graph.node(id) {
            Node::Dict(entries) => entries.iter().any(|entry| never(entry.key)),
            Node::Set(items) => items.iter().any(|item| never(*item)),
            Node::FrozenSet(items) => graph.children(*items).iter().any(|item| never(*item)),
            _ => false,
        });
        if holds {
            let message = "a dict's key or a set's element is unhashable: loading fails";
            self.tell(Severity::Error, "key-unhashable", message, place);
        }
    }

    /// Containers that refer to each other so that walking them never ends, or takes incomparably longer than reading
    /// them did: a bomb for whoever prints, copies or compares what was loaded.
    pub(super) fn expanding(&mut self, graph: &Graph, place: &str) {
        let steps = expanded(graph);
        if steps == u64::MAX {
            self.tell(Severity::Warning, "pickle-endless", "a list or dict holds itself: walking it never ends", place);
        } else if steps > MIN_EXPANDED && steps / MAX_EXPANSION > graph.len() as u64 {
            let objects = graph.len();
            let message =
                format!("{objects} objects that take {steps} steps to walk: lists and dicts shared over and over");
            self.tell(Severity::Warning, "pickle-expands", message, place);
        }
    }
}

/// How many steps it takes to walk the largest list, dict, tuple or set, every time one is met anew; `u64::MAX` for one
/// that holds itself. What lies behind other objects does not count: those may well refer to each other.
fn expanded(graph: &Graph) -> u64 {
    // what is known of a node: nothing, that it is being counted, or its steps
    const NEW: u64 = 0;
    const OPEN: u64 = u64::MAX;
    let mut known = vec![NEW; graph.len()];
    let of = |known: &[u64], id: NodeId| known.get(id.index()).copied().unwrap_or(1);
    let set = |known: &mut [u64], id: NodeId, steps| {
        if let Some(known) = known.get_mut(id.index()) {
            *known = steps;
        }
    };
    let mut most = 0;
    let mut stack = Vec::new();
    for start in graph.ids() {
        // what was counted on the way, and most others hold nothing
        if of(&known, start) != NEW || !holds(graph, start) {
            continue;
        }
        stack.push(start);
        while let Some(id) = stack.last().copied() {
            match of(&known, id) {
                NEW => {
                    set(&mut known, id, OPEN);
                    for child in contained(graph, id) {
                        match of(&known, child) {
                            NEW if holds(graph, child) => stack.push(child),
                            OPEN => return u64::MAX,
                            _ => {}
                        }
                    }
                    continue;
                }
                OPEN => {
                    let steps = contained(graph, id).fold(1_u64, |sum, child| match of(&known, child) {
                        NEW | OPEN => sum.saturating_add(1),
                        steps => sum.saturating_add(steps),
                    });
                    // less than what stands for a container in itself
                    let steps = steps.min(u64::MAX - 1);
                    most = most.max(steps);
                    set(&mut known, id, steps);
                }
                _ => {}
            }
            stack.pop();
        }
    }
    most
}

/// Whether it is a list, a dict, a tuple or a set.
fn holds(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id), Node::List(_) | Node::Set(_) | Node::Tuple(_) | Node::FrozenSet(_) | Node::Dict(_))
}

/// What a list, dict, tuple or set holds; nothing for everything else.
fn contained(graph: &Graph, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
    let (items, entries): (&[NodeId], &[Pair]) = match graph.node(id) {
        Node::List(items) | Node::Set(items) => (items, &[]),
        Node::Tuple(items) | Node::FrozenSet(items) => (graph.children(*items), &[]),
        Node::Dict(entries) => (&[], entries),
        _ => (&[], &[]),
    };
    items.iter().copied().chain(entries.iter().flat_map(|entry| [entry.key, entry.value]))
}
