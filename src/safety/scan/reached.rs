//! What a function that a pickle calls can get at through what it is given, however deep it lies.
//!
//! `torch._tensor._rebuild_from_type(f, Tensor, args, {})` calls `f`; `repr` of a module calls its attribute `extra_repr`;
//! `numpy.sin` of an object calls its attribute `sin`. So what is harmless as long as nobody calls it must not lie there.

use rustc_hash::FxHashSet;

use super::made::{made_without_call, plain_attribute_of};
use crate::pickle::{Change, Graph, Node, NodeId, Object, Pair};

/// Shows each node that can be reached from some values, once, in linear time. The class that an object is made of without
/// a call is not reached through it.
pub(super) fn reached(graph: &Graph, from: Vec<NodeId>, mut see: impl FnMut(NodeId)) {
    let mut open = from;
    let mut seen: FxHashSet<NodeId> = open.iter().copied().collect();
    while let Some(id) = open.pop() {
        see(id);
        inside(graph, id, |child| {
            if seen.insert(child) {
                open.push(child);
            }
        });
    }
}

fn inside(graph: &Graph, id: NodeId, mut see: impl FnMut(NodeId)) {
    fn entry(entry: &Pair, see: &mut impl FnMut(NodeId)) {
        see(entry.key);
        see(entry.value);
    }
    match graph.node(id) {
        Node::List(items) | Node::Set(items) => items.iter().for_each(|item| see(*item)),
        Node::Tuple(items) | Node::FrozenSet(items) => graph.children(*items).iter().for_each(|item| see(*item)),
        Node::Dict(entries) => entries.iter().for_each(|item| entry(item, &mut see)),
        Node::Persistent(inner) => see(*inner),
        Node::Object(object) => given(graph, object, &mut see),
        _ => {}
    }
    for change in graph.changes(id) {
        match change {
            Change::Append(node) | Change::Add(node) | Change::Build(node) => see(*node),
            Change::Item(item) => entry(item, &mut see),
        }
    }
}

/// What a call is given, but the class that it only makes an object of or takes an attribute of.
pub(super) fn given(graph: &Graph, object: &Object, see: &mut impl FnMut(NodeId)) {
    let made = made_without_call(graph, object).filter(|class| graph.global(*class).is_some());
    let apart = made.or_else(|| plain_attribute_of(graph, object));
    match graph.sequence(object.args) {
        Some(args) => args.iter().filter(|arg| Some(**arg) != apart).for_each(|arg| see(*arg)),
        None => see(object.args),
    }
    object.kwargs.into_iter().for_each(&mut *see);
    if graph.global(object.callable).is_none() {
        see(object.callable);
    }
}
