//! What an object of the graph is: its class, its children with their labels, its attributes.
//!
//! Names, values and editing all see objects through this one view, so that they agree on what lies below what.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map;

use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::numpy;
use crate::checkpoint::rebuild::Tensors;
use crate::checkpoint::storage::{Persistent, Storages};
use crate::pickle::{Change, Graph, Node, NodeId, Pair};

/// How a child is reached from its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Label {
    /// A dict's key.
    Key(NodeId),
    /// A place in a sequence, or among constructor arguments.
    Index(u64),
    /// An attribute, by the node of its name.
    Attribute(NodeId),
    /// The state of an object that is no dict of attributes: `__state__`.
    State,
}

/// One child.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Child {
    /// How it is reached.
    pub label: Label,
    /// What it is.
    pub node: NodeId,
}

/// A graph with what is known of its torch and numpy objects.
#[derive(Debug, Clone, Copy)]
pub struct Objects<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Its tensors.
    pub tensors: &'a Tensors,
    /// Its storages.
    pub storages: &'a Storages,
}

impl<'a> Objects<'a> {
    /// The constructor that made an object, when it is one of those known by name.
    pub(crate) fn constructor(&self, node: NodeId) -> Option<Constructor> {
        self.tensors.constructor_of(self.graph, self.graph.object(node)?.callable)
    }

    /// Looks through wrappers that only tag a value: TorchScript's `build_intlist`, joblib's nested pickles.
    pub(crate) fn unwrap(&self, mut node: NodeId) -> NodeId {
        // a chain cannot be longer than the graph, and real ones have one link or two
        for _ in 0..16 {
            let inner = match self.constructor(node) {
                Some(Constructor::Unwrapped) => self.args(node).first().copied(),
                Some(Constructor::JoblibArray) => self.graph.inline_pickle(node),
                _ => None,
            };
            match inner {
                Some(inner) => node = inner,
                None => break,
            }
        }
        node
    }

    /// An object's positional arguments.
    pub fn args(&self, node: NodeId) -> &'a [NodeId] {
        self.graph.object(node).and_then(|object| self.graph.sequence(object.args)).unwrap_or_default()
    }

    /// Module and name of an object's class or callable; a class saved with its source counts as itself.
    pub(crate) fn class(&self, node: NodeId) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
        let object = self.graph.object(node)?;
        let callable = match self.constructor(node) {
            Some(Constructor::Reconstructor) => *self.args(node).first()?,
            Some(Constructor::Persistent) => {
                let name = self.persistent(node, "class_name").and_then(|name| self.graph.str(name))?;
                return Some((self.graph.global(object.callable)?.0, name));
            }
            _ => object.callable,
        };
        let callable = match self.storages.meaning(callable) {
            Some(Persistent::Class(class)) => *class,
            _ => callable,
        };
        self.graph.global(callable).or_else(|| self.nested_class(callable))
    }

    /// `getattr(Outer, 'Inner')`: how protocols before 4 name a nested class.
    pub(super) fn nested_class(&self, mut callable: NodeId) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
        let mut names = Vec::new();
        // classes nest a few deep at most
        for _ in 0..16 {
            let object = self.graph.object(callable)?;
            let (module, name) = self.graph.global(object.callable)?;
            let [outer, inner] = *self.graph.sequence(object.args)? else { return None };
            if name != "getattr" || !["builtins", "__builtin__"].contains(&module.as_ref()) {
                return None;
            }
            names.push(self.graph.str_or_bytes(inner)?);
            if let Some((module, name)) = self.graph.global(outer) {
                names.push(name);
                names.reverse();
                return Some((module, Cow::Owned(names.join("."))));
            }
            callable = outer;
        }
        None
    }

    /// A class's name without its module and outer classes.
    pub(crate) fn class_name(&self, node: NodeId) -> Option<String> {
        let (module, name) = self.class(node)?;
        let name = name.rsplit('.').next().unwrap_or_default();
        // what Python 2 called it
        let name = if name == "xrange" && module == "__builtin__" { "range" } else { name };
        Some(name.to_owned())
    }

    /// The dicts of attributes that `BUILD` gave an object, and the states that are none.
    pub(crate) fn states(&self, node: NodeId) -> (Vec<&'a [Pair]>, Vec<NodeId>) {
        let mut dicts = Vec::new();
        let mut others = Vec::new();
        if !self.graph.look_at(self.graph.changes(node).len()) {
            return (dicts, others);
        }
        match self.constructor(node) {
            Some(Constructor::GraphModule) => {
                dicts.extend(self.args(node).first().and_then(|body| self.entries(*body)))
            }
            Some(Constructor::Persistent) => {
                dicts.extend(self.persistent(node, "state").and_then(|state| self.entries(state)));
            }
            _ => {}
        }
        for change in self.graph.changes(node) {
            let Change::Build(state) = change else { continue };
            match (self.graph.node(*state), self.graph.tuple(*state)) {
                (Node::Dict(entries), _) => dicts.push(entries.as_slice()),
                (_, Some([first, second])) if self.is_slots_state(*first, *second) => {
                    dicts.extend([*first, *second].iter().filter_map(|part| self.entries(*part)));
                }
                _ => others.push(*state),
            }
        }
        (dicts, others)
    }

    /// What NVlabs' persistent objects are made of, by its name.
    fn persistent(&self, node: NodeId, name: &str) -> Option<NodeId> {
        let described = self.entries(*self.args(node).first()?)?;
        described.iter().find(|entry| self.graph.str(entry.key).as_deref() == Some(name)).map(|entry| entry.value)
    }

    /// `(dict or None, dict)`: what objects with slots give.
    fn is_slots_state(&self, first: NodeId, second: NodeId) -> bool {
        (first == Graph::NONE || self.entries(first).is_some()) && self.entries(second).is_some()
    }

    fn entries(&self, node: NodeId) -> Option<&'a [Pair]> {
        match self.graph.node(node) {
            Node::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The last value of an attribute.
    pub fn attribute(&self, node: NodeId, name: &str) -> Option<NodeId> {
        let (dicts, _) = self.states(node);
        if !self.graph.look_at(dicts.iter().map(|dict| dict.len()).sum()) {
            return None;
        }
        let found = dicts.iter().flat_map(|entries| entries.iter().rev());
        found
            .into_iter()
            .find(|entry| self.graph.str_or_bytes(entry.key).as_deref() == Some(name))
            .map(|entry| entry.value)
    }

    /// A mapping's items in order, `None` for what is no mapping: dicts, `OrderedDict`s and the like. A key that is
    /// assigned again keeps its place and takes the last value, as in Python.
    pub fn items(&self, node: NodeId) -> Option<Vec<Pair>> {
        self.assignments(node).map(|items| self.last_assignments(items))
    }

    /// The same with every assignment, those that later ones override too. `key_at` is 0 where nobody knows.
    pub(crate) fn assignments(&self, node: NodeId) -> Option<Vec<Pair>> {
        let mut items = Vec::new();
        match self.graph.node(node) {
            Node::Dict(entries) => items.extend_from_slice(entries),
            Node::Object(_) if self.constructor(node) == Some(Constructor::Mapping) => {
                for arg in self.args(node) {
                    if let Some(entries) = self.entries(*arg) {
                        items.extend_from_slice(entries);
                    }
                    for pair in self.graph.sequence(*arg).unwrap_or_default() {
                        if let Some([key, value]) = self.graph.sequence(*pair) {
                            let key_at = self.graph.first_pushed_at(*pair).unwrap_or(0);
                            items.push(Pair { key: *key, value: *value, key_at });
                        }
                    }
                }
            }
            _ => return None,
        }
        items.extend(self.graph.changes(node).iter().filter_map(|change| match change {
            Change::Item(entry) => Some(*entry),
            _ => None,
        }));
        Some(items)
    }

    fn last_assignments(&self, items: Vec<Pair>) -> Vec<Pair> {
        if !self.graph.look_at(items.len().saturating_mul(HASHED)) {
            return Vec::new();
        }
        let mut places: HashMap<KeyIdentity<'_>, usize, foldhash::fast::RandomState> =
            HashMap::with_capacity_and_hasher(items.len(), foldhash::fast::RandomState::default());
        let mut kept: Vec<Pair> = Vec::with_capacity(items.len());
        for entry in items {
            match places.entry(self.identity(entry.key)) {
                hash_map::Entry::Occupied(place) => {
                    if let Some(earlier) = kept.get_mut(*place.get()) {
                        earlier.value = entry.value;
                    }
                }
                hash_map::Entry::Vacant(place) => {
                    place.insert(kept.len());
                    kept.push(entry);
                }
            }
        }
        kept
    }

    /// What makes two keys the same key: text, or a number. Every other key is its own.
    pub(crate) fn identity(&self, key: NodeId) -> KeyIdentity<'a> {
        match self.graph.node(key) {
            Node::Str(text) | Node::Bytes(text) => {
                self.graph.text(*text).map_or(KeyIdentity::Node(key), KeyIdentity::Text)
            }
            Node::Int(value) => KeyIdentity::Int(*value),
            Node::Bool(value) => KeyIdentity::Int(i64::from(*value)),
            _ => KeyIdentity::Node(key),
        }
    }

    /// A sequence's elements: tuples, lists, deques, object arrays.
    pub fn elements(&self, node: NodeId) -> Option<Vec<NodeId>> {
        if let Some(items) = self.graph.sequence(node) {
            return Some(if self.graph.look_at(items.len()) { items.to_vec() } else { Vec::new() });
        }
        let mut items = match self.constructor(node) {
            Some(Constructor::Sequence) => {
                self.args(node).first().and_then(|arg| self.graph.sequence(*arg)).unwrap_or_default().to_vec()
            }
            Some(Constructor::NumpyArray) => {
                return numpy::object_array(self.graph, node)
                    .and_then(|(list, _)| self.graph.sequence(list))
                    .map(<[NodeId]>::to_vec);
            }
            _ => return None,
        };
        items.extend(self.graph.changes(node).iter().filter_map(|change| match change {
            Change::Append(item) => Some(*item),
            _ => None,
        }));
        self.graph.look_at(items.len());
        Some(items)
    }

    /// A set's elements in pickled order.
    pub(crate) fn set_elements(&self, node: NodeId) -> Option<Vec<NodeId>> {
        let mut items = match self.graph.node(node) {
            Node::Set(items) => items.to_vec(),
            Node::FrozenSet(items) => self.graph.children(*items).to_vec(),
            Node::Object(_) if self.constructor(node) == Some(Constructor::Set) => {
                self.args(node).first().and_then(|arg| self.graph.sequence(*arg)).unwrap_or_default().to_vec()
            }
            _ => return None,
        };
        items.extend(self.graph.changes(node).iter().filter_map(|change| match change {
            Change::Add(item) => Some(*item),
            _ => None,
        }));
        self.graph.look_at(items.len());
        Some(items)
    }

    /// What lies below an object, in order. Plain values and sets have nothing below them.
    pub(crate) fn children(&self, node: NodeId) -> Vec<Child> {
        if let Some(items) = self.items(node) {
            return items.iter().map(|entry| Child { label: Label::Key(entry.key), node: entry.value }).collect();
        }
        if let Some(items) = self.elements(node) {
            return (0..).zip(items).map(|(index, node)| Child { label: Label::Index(index), node }).collect();
        }
        match self.graph.object(node) {
            Some(_) if self.set_elements(node).is_none() => self.object_children(node),
            _ => Vec::new(),
        }
    }

    /// An object of a class nobody knows: constructor arguments, attributes, other states, items, appended elements.
    fn object_children(&self, node: NodeId) -> Vec<Child> {
        let mut children = Vec::new();
        let (dicts, others) = self.states(node);
        let args = self.constructor_arguments(node);
        children.extend((0..).zip(args).map(|(index, node)| Child { label: Label::Index(index), node: *node }));
        let attributes = self.last_assignments(dicts.concat());
        children.extend(attributes.iter().map(|e| Child { label: Label::Attribute(e.key), node: e.value }));
        children.extend(others.into_iter().map(|node| Child { label: Label::State, node }));
        let mut appended = args.len() as u64;
        for change in self.graph.changes(node) {
            match change {
                Change::Item(entry) => children.push(Child { label: Label::Key(entry.key), node: entry.value }),
                Change::Append(item) | Change::Add(item) => {
                    children.push(Child { label: Label::Index(appended), node: *item });
                    appended += 1;
                }
                Change::Build(_) => {}
            }
        }
        children
    }

    /// The arguments an object was made with; what only says how to make it (`_reconstructor`'s class and base) is none.
    pub(crate) fn constructor_arguments(&self, node: NodeId) -> &'a [NodeId] {
        let args = self.args(node);
        match self.constructor(node) {
            Some(Constructor::Reconstructor) => args.get(2..).filter(|rest| *rest != [Graph::NONE]).unwrap_or_default(),
            Some(Constructor::GraphModule) => &[],
            Some(Constructor::Persistent) if self.persistent(node, "state").is_some() => &[],
            _ => args,
        }
    }
}

/// What an element costs that is put into a hash map, against one that is only looked at.
const HASHED: usize = 8;

/// What a key of a dict is told by.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyIdentity<'a> {
    Text(Cow<'a, [u8]>),
    Int(i64),
    /// Neither text nor a small number.
    Node(NodeId),
}
