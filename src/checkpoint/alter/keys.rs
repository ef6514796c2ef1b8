//! Keys of dicts and of what stands for one: found, changed, removed, made.

use super::objects::entries_of;
use super::spot::{Holder, Spot, shared};
use crate::checkpoint::object::Label;
use crate::checkpoint::{Checkpoint, module};
use crate::error::{Error, Result};
use crate::pickle::{Census, Change, Node, NodeId, Pair};

/// Characters of a value that are shown.
const MAX_SHOWN_CHARS: usize = 200;
/// Characters by which keys that are neither text nor numbers are told apart.
const MAX_KEY_CHARS: usize = 4096;

impl Checkpoint {
    pub(super) fn set_node(&mut self, node: NodeId, new: Node) {
        if let Some(place) = self.graph.node_mut(node) {
            *place = new;
        }
    }

    pub(super) fn not_there(&self, name: &str) -> Error {
        let names = match self.names(&self.top()) {
            Ok(names) => names.entries,
            Err(e) => return e,
        };
        let names: Vec<String> = names.iter().map(crate::checkpoint::names::Entry::name).collect();
        let near = crate::checkpoint::near::near(name, names.iter().map(String::as_str));
        Error::refused(crate::checkpoint::near::not_there("element", name, None, &near))
    }

    /// The item that a spot is.
    pub(super) fn holder(&self, spot: &Spot, name: &str) -> Result<Holder> {
        let (Label::Key(key) | Label::Attribute(key)) = spot.label else {
            let class = self.objects().type_name(spot.parent);
            let message = format!("`{name}` is an element of a {class}, which keeps its length; set the whole of it");
            return Err(Error::unsupported(message));
        };
        let is_it = |entry: &Pair| self.is_same_key(entry.key, key);
        let mut found = Vec::new();
        for node in [vec![spot.parent], self.attribute_dicts(spot.parent)].concat() {
            let entries = entries_of(&self.graph, node).into_iter().enumerate();
            found.extend(entries.filter(|(_, e)| is_it(e)).map(|(index, entry)| Holder { node, index, entry }));
        }
        match found.as_slice() {
            [one] => {
                if one.node != spot.parent && Census::new(&self.graph, self.root)?.uses(one.node) > 1 {
                    return Err(shared(name));
                }
                Ok(*one)
            }
            [] => Err(Error::unsupported(format!("`{name}` is pickled in a way that cannot be edited"))),
            _ => Err(Error::unsupported(format!("`{name}` is assigned more than once in the pickle"))),
        }
    }

    /// Whether two keys are one for Python: `True` is 1, and 1 is 1.0.
    pub(super) fn is_same_key(&self, a: NodeId, b: NodeId) -> bool {
        let (graph, objects) = (&self.graph, self.objects());
        match (graph.node(a), graph.node(b)) {
            _ if a == b => true,
            (Node::Str(a), Node::Str(b)) | (Node::Bytes(a), Node::Bytes(b)) => {
                matches!((graph.text(*a), graph.text(*b)), (Ok(a), Ok(b)) if a == b)
            }
            (Node::Int(_) | Node::Bool(_), Node::Int(_) | Node::Bool(_)) => graph.int(a) == graph.int(b),
            (Node::Float(float), Node::Int(_) | Node::Bool(_)) | (Node::Int(_) | Node::Bool(_), Node::Float(float)) => {
                let other = if matches!(graph.node(a), Node::Float(_)) { b } else { a };
                graph.int(other).is_some_and(|int| int.to_string() == float.to_string())
            }
            _ => objects.repr(a, MAX_KEY_CHARS) == objects.repr(b, MAX_KEY_CHARS),
        }
    }

    /// Changes an item, or removes it.
    pub(super) fn replace_entry(&mut self, holder: &Holder, new: Option<Pair>) {
        match self.graph.node_mut(holder.node) {
            Some(Node::Dict(entries)) => match (new, entries.get_mut(holder.index)) {
                (Some(new), Some(entry)) => *entry = new,
                (None, Some(_)) => drop(entries.remove(holder.index)),
                _ => {}
            },
            Some(Node::Object(object)) => {
                let items = object.changes.iter().enumerate().filter(|(_, change)| matches!(change, Change::Item(_)));
                let Some((at, _)) = items.clone().nth(holder.index) else { return };
                match (new, object.changes.get_mut(at)) {
                    (Some(new), Some(change)) => *change = Change::Item(new),
                    _ => drop(object.changes.remove(at)),
                }
            }
            _ => {}
        }
    }

    /// Goes through the items of a dict, or those that an object was given, each with its place: what comes back stays.
    pub(super) fn change_entries(&mut self, node: NodeId, mut change: impl FnMut(usize, Pair) -> Option<Pair>) {
        let mut index = 0;
        let mut next = |entry: &mut Pair| {
            let changed = change(index, *entry);
            index += 1;
            *entry = changed.unwrap_or(*entry);
            changed.is_some()
        };
        match self.graph.node_mut(node) {
            Some(Node::Dict(entries)) => entries.retain_mut(next),
            Some(Node::Object(object)) => object.changes.retain_mut(|change| match change {
                Change::Item(entry) => next(entry),
                _ => true,
            }),
            _ => {}
        }
    }

    /// Refuses what cannot get items.
    pub(super) fn takes_items(&self, node: NodeId) -> Result<()> {
        let is_dict = match self.graph.node(node) {
            Node::Dict(_) => true,
            Node::Object(_) => self.objects().items(node).is_some(),
            _ => false,
        };
        if is_dict {
            return Ok(());
        }
        let class = self.objects().type_name(node);
        Err(Error::refused(format!("an object of class {class} is not a dict, so nothing new can be put into it")))
    }

    /// A key of the kind that the dict has: an integer where all others are.
    pub(super) fn new_key(&mut self, node: NodeId, key: &str) -> Result<NodeId> {
        let items = self.objects().items(node).unwrap_or_default();
        let are_integers = !items.is_empty() && items.iter().all(|e| matches!(self.graph.node(e.key), Node::Int(_)));
        match key.parse::<i64>() {
            Ok(value) if are_integers && value.to_string() == key => self.graph.push(Node::Int(value)),
            _ => self.graph.push_str(key),
        }
    }

    /// A value in a few words.
    pub(super) fn described(&self, node: NodeId) -> String {
        let objects = self.objects();
        let inner = objects.unwrap(node);
        if let Some(tensor) = self.tensors.of(inner).and_then(|id| self.tensor(id)) {
            let dtype = tensor.dtype.as_ref().map_or_else(|| "tensor".to_owned(), ToString::to_string);
            return format!("{dtype} {:?}", tensor.shape);
        }
        if let Some(value) = objects.value(inner, MAX_SHOWN_CHARS) {
            return value.repr;
        }
        let class = objects.type_name(inner);
        match objects.children(inner).len() {
            _ if module::is_module(self, inner) => class,
            1 => format!("{class} of 1 element"),
            count => format!("{class} of {count} elements"),
        }
    }
}
