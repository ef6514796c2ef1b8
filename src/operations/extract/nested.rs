//! What was chosen as one JSON value that nests as the object does.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use super::choose::Chosen;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::names::{Element, Entry};
use crate::error::Result;
use crate::pickle::NodeId;

/// The key of a tensor's elements where something lies below the tensor.
const ITSELF: &str = ".";

/// A tree of the chosen names. Its first place is where names begin.
pub(super) struct Nested<'a> {
    checkpoint: &'a Checkpoint,
    places: Vec<Place<'a>>,
}

/// Something that was chosen, or that holds what was.
#[derive(Default)]
struct Place<'a> {
    /// The object, where the names below it are its keys and no names of a module.
    node: Option<NodeId>,
    entry: Option<&'a Entry>,
    /// In the order of the file.
    below: Vec<(&'a Element, usize)>,
    /// The same by element.
    known: HashMap<&'a Element, usize>,
    /// The objects that lie below `node`, once one is asked for.
    parts: Option<HashMap<Element, NodeId>>,
}

impl<'a> Nested<'a> {
    pub(super) fn of(checkpoint: &'a Checkpoint, chosen: &'a Chosen) -> Self {
        // of a node of the tree of names, the names below are parts of keys
        let node = chosen.root.stem.is_none().then_some(chosen.root.node);
        let mut nested = Nested { checkpoint, places: vec![Place { node, ..Place::default() }] };
        for entry in chosen.without_wrappers(checkpoint) {
            let mut at = 0;
            for element in &entry.path {
                at = nested.step(at, element);
            }
            if let Some(place) = nested.places.get_mut(at) {
                place.entry = Some(entry);
            }
        }
        nested
    }

    /// The place below another, which is made where there is none.
    fn step(&mut self, at: usize, element: &'a Element) -> usize {
        let new = self.places.len();
        let Some(place) = self.places.get_mut(at) else { return at };
        if let Some(known) = place.known.get(element) {
            return *known;
        }
        let checkpoint = self.checkpoint;
        let parts = place.parts.get_or_insert_with(|| parts_of(checkpoint, place.node));
        let node = parts.get(element).copied();
        place.known.insert(element, new);
        place.below.push((element, new));
        self.places.push(Place { node, ..Place::default() });
        new
    }

    /// Writes the value; `leaf` writes a tensor or another value.
    pub(super) fn write(
        &self,
        out: &mut dyn Write,
        leaf: &mut dyn FnMut(&Entry, &mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let mut open = Vec::new();
        self.begin(0, &mut open, out, leaf)?;
        while let Some(opened) = open.last_mut() {
            let Some((key, at)) = opened.left.next() else {
                out.write_all(if opened.is_list { b"]" } else { b"}" })?;
                open.pop();
                continue;
            };
            if std::mem::replace(&mut opened.has_some, true) {
                out.write_all(b",")?;
            }
            if !opened.is_list {
                serde_json::to_writer(&mut *out, &key).map_err(std::io::Error::from)?;
                out.write_all(b":")?;
            }
            self.begin(at, &mut open, out, leaf)?;
        }
        Ok(())
    }

    /// Writes what has nothing below it, and opens what has.
    fn begin(
        &self,
        at: usize,
        open: &mut Vec<Opened>,
        out: &mut dyn Write,
        leaf: &mut dyn FnMut(&Entry, &mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let Some(place) = self.places.get(at) else { return Ok(()) };
        if place.below.is_empty()
            && let Some(entry) = place.entry
        {
            return leaf(entry, out);
        }
        let is_list = place.entry.is_none() && self.is_whole_list(place);
        out.write_all(if is_list { b"[" } else { b"{" })?;
        if let Some(entry) = place.entry {
            write!(out, "\"{ITSELF}\":")?;
            leaf(entry, out)?;
        }
        let left = keys(place).into_iter();
        open.push(Opened { is_list, has_some: place.entry.is_some(), left });
        Ok(())
    }

    /// A list or tuple of which every element was chosen.
    fn is_whole_list(&self, place: &Place<'_>) -> bool {
        let objects = self.checkpoint.objects();
        let elements = place.node.and_then(|node| objects.elements(objects.unwrap(node)));
        let in_order = || (0..).zip(&place.below).all(|(index, (element, _))| **element == Element::Int(index));
        elements.is_some_and(|elements| elements.len() == place.below.len()) && in_order()
    }
}

struct Opened {
    is_list: bool,
    has_some: bool,
    left: std::vec::IntoIter<(String, usize)>,
}

/// The objects below another, by what names call them.
fn parts_of(checkpoint: &Checkpoint, node: Option<NodeId>) -> HashMap<Element, NodeId> {
    let Some(node) = node else { return HashMap::new() };
    let objects = checkpoint.objects();
    let children = objects.children(objects.unwrap(node));
    children.into_iter().map(|child| (checkpoint.element(child.label), child.node)).collect()
}

/// What is below a place, with keys that JSON can have: a text for each, and no two the same. The keys 1 and "1" are `1`
/// and `'1'`.
fn keys(place: &Place<'_>) -> Vec<(String, usize)> {
    let mut used: HashSet<String> = place.entry.iter().map(|_| ITSELF.to_owned()).collect();
    let mut keyed = Vec::with_capacity(place.below.len());
    for (element, at) in &place.below {
        let mut key = element.to_string();
        while !used.insert(key.clone()) {
            key = format!("'{key}'");
        }
        keyed.push((key, *at));
    }
    keyed
}
