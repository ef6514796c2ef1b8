//! Setting, deleting and moving what a checkpoint's names stand for.
//!
//! Each step changes the graph at once, so that the next one sees what it left; where the pickle has to change for it is
//! written down beside that. Nothing changes in two places for one name: what an object of several names is made of stays.

use std::collections::HashSet;
use std::sync::Arc;

use crate::checkpoint::names::join;
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::storage::{Persistent, StorageId};
use crate::checkpoint::{Checkpoint, Container, Place, literal, module};
use crate::error::{Error, Result};
use crate::pickle::splice::{Grafts, Locator, Origin, Pickle, Spliced, graft, is_what_was_asked_for};
use crate::pickle::{Change, Entry, Graph, Node, NodeId, Scan};
use crate::source::SharedSource;

/// Pickles before the object of the legacy stream: magic number, protocol version, system facts.
const LEGACY_BEFORE: usize = 3;
/// Characters of a value that are shown.
const MAX_SHOWN_CHARS: usize = 200;
/// Characters by which keys that are neither text nor numbers are told apart.
const MAX_KEY_CHARS: usize = 4096;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Something gets a new value, or a dict a new item.
    Set {
        /// Its name.
        name: String,
        /// A literal of Python.
        value: String,
    },
    /// Something goes, with all below it.
    Delete {
        /// Its name.
        name: String,
    },
    /// Something gets another name, with all below it.
    Move {
        /// Its name; `.` is the top object.
        from: String,
        /// The new name; `.` makes it the top object.
        to: String,
    },
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What was there, nothing where nothing was.
    pub old: Option<String>,
    /// What is there now, nothing where nothing is.
    pub new: Option<String>,
}

/// What was done to a checkpoint.
#[derive(Debug)]
pub struct Altered {
    grafts: Grafts,
    /// The top object of the file.
    first_root: NodeId,
    /// Containers of the file that got items.
    grown: Vec<(NodeId, Locator)>,
    /// The storages that the file's objects use.
    storages: HashSet<StorageId>,
}

/// Where something stands.
struct Spot {
    /// The container that it is an item or element of.
    parent: NodeId,
    /// Where the opcodes that make the parent lie; nothing for what is new itself.
    locator: Option<Locator>,
    label: Label,
    node: NodeId,
    /// The containers that it lies in, outermost first.
    around: Vec<NodeId>,
}

/// An item of a dict, or of what stands for one.
#[derive(Debug, Clone, Copy)]
struct Holder {
    /// Whose it is.
    node: NodeId,
    /// Its place there.
    index: usize,
    entry: Entry,
}

/// What gets a new item.
struct Target {
    node: NodeId,
    locator: Option<Locator>,
    around: Vec<NodeId>,
}

impl Altered {
    /// Nothing is done yet.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        if matches!(checkpoint.container, Container::TorchScript | Container::Pt2) {
            let what = "what a TorchScript or torch.export archive holds belongs to its code";
            return Err(Error::unsupported(what).advise(crate::checkpoint::edit::weights_first()));
        }
        let is_pickle =
            matches!(checkpoint.container, Container::Zip | Container::Legacy | Container::Pickle | Container::Tar);
        if !is_pickle {
            let kind = checkpoint.container.name();
            return Err(Error::unsupported(format!("values of {kind} files cannot be edited")));
        }
        let storages = checkpoint.storages_below(checkpoint.root)?;
        Ok(Altered { grafts: Grafts::default(), first_root: checkpoint.root, grown: Vec::new(), storages })
    }

    /// Does one step.
    pub fn step(&mut self, checkpoint: &mut Checkpoint, step: &Step) -> Result<Done> {
        match step {
            Step::Set { name, value } => self.set(checkpoint, name, value),
            Step::Delete { name } => self.delete(checkpoint, name),
            Step::Move { from, to } => self.rename(checkpoint, from, to),
        }
    }

    /// The pickle as it is now. `checkpoint` is the one that all steps were done to.
    pub fn pickle(&self, checkpoint: &Checkpoint) -> Result<Spliced> {
        let graph = &checkpoint.graph;
        let stream = match checkpoint.container {
            Container::Tar => graph.stream_named("pickle"),
            _ => graph.first_stream(),
        };
        let source =
            stream.and_then(|stream| graph.stream(stream)).ok_or_else(|| Error::malformed("no such stream"))?;
        let outer = checkpoint.source.as_ref().map_or(0, |source| source.len());
        let uses = Scan::new(graph, checkpoint.root)?;
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
            root: Some(self.first_root).filter(|_| checkpoint.container != Container::Tar),
            before: if checkpoint.container == Container::Legacy { LEGACY_BEFORE } else { 0 },
            max_objects: checkpoint.limits.objects_for(outer.max(source.len())),
            max_bytes: checkpoint.limits.max_new_name_bytes,
            inline: &Joblib,
        };
        let spliced = Arc::new(graft(&pickle, &grafts)?);
        let edited: SharedSource = Arc::clone(&spliced) as SharedSource;
        is_what_was_asked_for(&Pickle { source: &edited, ..pickle }, checkpoint.root)?;
        drop(edited);
        Arc::into_inner(spliced).ok_or_else(|| Error::malformed("the edited pickle is still being read"))
    }

    /// How many storages no object uses any more.
    pub fn unused_storages(&self, checkpoint: &Checkpoint) -> Result<usize> {
        let left = checkpoint.storages_below(checkpoint.root)?;
        Ok(self.storages.difference(&left).count())
    }

    fn set(&mut self, checkpoint: &mut Checkpoint, name: &str, value: &str) -> Result<Done> {
        if name == "." {
            return Err(Error::refused("the top object cannot be set"));
        }
        let value = literal::literal(&mut checkpoint.graph, value)?;
        let Some(spot) = self.spot(checkpoint, name)? else {
            let (container, key) = self.container_of(checkpoint, name)?;
            let new = Some(checkpoint.described(value));
            self.add(checkpoint, &container, &key, value)?;
            return Ok(Done { old: None, new });
        };
        let done = Done { old: Some(checkpoint.described(spot.node)), new: Some(checkpoint.described(value)) };
        if let Label::Index(index) = spot.label {
            self.set_element(checkpoint, &spot, index, value)?;
            return Ok(done);
        }
        let holder = checkpoint.holder(&spot, name)?;
        checkpoint.replace_entry(&holder, Some(Entry { value, ..holder.entry }));
        if holder.entry.key_at != 0 {
            self.grafts.fates.entry(holder.entry.key_at).or_default().value = Some(value);
        }
        Ok(done)
    }

    fn set_element(&mut self, checkpoint: &mut Checkpoint, spot: &Spot, index: u64, value: NodeId) -> Result<()> {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let mut items = checkpoint.graph.sequence(spot.parent).map(<[NodeId]>::to_vec).unwrap_or_default();
        let Some(item) = items.get_mut(place) else {
            let class = checkpoint.objects().type_name(spot.parent);
            return Err(Error::unsupported(format!("an element of a {class} cannot be set; set the whole of it")));
        };
        *item = value;
        let new = match checkpoint.graph.node(spot.parent) {
            Node::List(_) => Node::List(Box::new(items)),
            _ => {
                let tuple = checkpoint.graph.push_tuple(&items)?;
                checkpoint.graph.node(tuple).clone()
            }
        };
        checkpoint.set_node(spot.parent, new);
        if let Some(locator) = &spot.locator {
            self.grafts.elements.insert((locator.clone(), place), value);
        }
        Ok(())
    }

    fn delete(&mut self, checkpoint: &mut Checkpoint, name: &str) -> Result<Done> {
        if name == "." {
            return Err(Error::refused("the top object cannot be deleted"));
        }
        let spot = self.spot(checkpoint, name)?.ok_or_else(|| checkpoint.not_there(name))?;
        let done = Done { old: Some(checkpoint.described(spot.node)), new: None };
        self.remove(checkpoint, &spot, name)?;
        Ok(done)
    }

    fn remove(&mut self, checkpoint: &mut Checkpoint, spot: &Spot, name: &str) -> Result<Holder> {
        let holder = checkpoint.holder(spot, name)?;
        checkpoint.replace_entry(&holder, None);
        if holder.entry.key_at != 0 {
            self.grafts.fates.entry(holder.entry.key_at).or_default().is_gone = true;
        }
        Ok(holder)
    }

    fn rename(&mut self, checkpoint: &mut Checkpoint, from: &str, to: &str) -> Result<Done> {
        let done = |checkpoint: &Checkpoint, node| {
            let shown = Some(checkpoint.described(node));
            Done { old: shown.clone(), new: shown }
        };
        if from == to {
            return Err(Error::refused(format!("`{from}` is that already")));
        }
        if from == "." {
            return self.wrap(checkpoint, to);
        }
        let spot = self.spot(checkpoint, from)?.ok_or_else(|| checkpoint.not_there(from))?;
        let done = done(checkpoint, spot.node);
        if to == "." {
            self.unwrap(checkpoint, &spot, from)?;
            return Ok(done);
        }
        if self.spot(checkpoint, to)?.is_some() {
            return Err(Error::refused(format!("`{to}` is there already")));
        }
        let (container, key) = self.container_of(checkpoint, to)?;
        if container.node == spot.node || container.around.contains(&spot.node) {
            return Err(Error::refused(format!("`{from}` cannot be moved into itself")));
        }
        if container.node == spot.parent {
            let holder = checkpoint.holder(&spot, from)?;
            let key = checkpoint.new_key(container.node, &key)?;
            checkpoint.replace_entry(&holder, Some(Entry { key, ..holder.entry }));
            if holder.entry.key_at != 0 {
                self.grafts.fates.entry(holder.entry.key_at).or_default().key = Some(key);
            }
            return Ok(done);
        }
        checkpoint.takes_items(container.node)?;
        let holder = self.remove(checkpoint, &spot, from)?;
        self.comes_from(&holder);
        self.add(checkpoint, &container, &key, holder.entry.value)?;
        Ok(done)
    }

    /// What stood in an item of the file stands elsewhere from now on.
    fn comes_from(&mut self, holder: &Holder) {
        let key_at = holder.entry.key_at;
        let is_new = self.grafts.fates.get(&key_at).is_some_and(|fate| fate.value.is_some());
        if key_at != 0 && !is_new {
            self.grafts.origins.insert(holder.entry.value, Origin::Item(key_at));
        }
    }

    fn wrap(&mut self, checkpoint: &mut Checkpoint, key: &str) -> Result<Done> {
        let old = checkpoint.root;
        let shown = Some(checkpoint.described(old));
        if old == self.first_root {
            self.grafts.origins.insert(old, Origin::Root);
        }
        let key = checkpoint.graph.push_str(key)?;
        checkpoint.root = checkpoint.graph.push_dict(vec![Entry { key, value: old, key_at: 0 }])?;
        Ok(Done { old: shown.clone(), new: shown })
    }

    fn unwrap(&mut self, checkpoint: &mut Checkpoint, spot: &Spot, name: &str) -> Result<()> {
        let mut inner = spot.node;
        for outer in spot.around.iter().rev() {
            let beside: Vec<String> = checkpoint
                .objects()
                .children(*outer)
                .iter()
                .filter(|child| child.node != inner)
                .map(|child| checkpoint.element(child.label).to_string())
                .collect();
            if !beside.is_empty() {
                let shown = beside.iter().take(8).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let more = if beside.len() > 8 { ", …" } else { "" };
                return Err(Error::refused(format!("{shown}{more} beside `{name}` would be lost; delete them first")));
            }
            inner = *outer;
        }
        let holder = checkpoint.holder(spot, name)?;
        self.comes_from(&holder);
        checkpoint.root = holder.entry.value;
        Ok(())
    }

    /// Puts a new item into a dict.
    fn add(&mut self, checkpoint: &mut Checkpoint, to: &Target, key: &str, value: NodeId) -> Result<()> {
        checkpoint.takes_items(to.node)?;
        let key = checkpoint.new_key(to.node, key)?;
        let entry = Entry { key, value, key_at: 0 };
        match checkpoint.graph.node_mut(to.node) {
            Some(Node::Dict(entries)) => entries.push(entry),
            Some(Node::Object(object)) => object.changes.push(Change::Item(entry)),
            _ => {}
        }
        if let Some(locator) = &to.locator
            && !self.grown.iter().any(|(node, _)| *node == to.node)
        {
            self.grown.push((to.node, locator.clone()));
        }
        Ok(())
    }

    /// The dict that a name that is not there would be an item of, and its key there.
    fn container_of(&self, checkpoint: &Checkpoint, name: &str) -> Result<(Target, String)> {
        let top = || Target { node: checkpoint.root, locator: self.locator_of_root(checkpoint), around: Vec::new() };
        let Some((before, key)) = name.rsplit_once('.') else { return Ok((top(), name.to_owned())) };
        let Some(spot) = self.spot(checkpoint, before)? else { return Err(checkpoint.not_there(name)) };
        let locator = self.below(checkpoint, &spot);
        let around = [spot.around, vec![spot.node]].concat();
        if Scan::new(&checkpoint.graph, checkpoint.root)?.uses(spot.node) > 1 {
            return Err(shared(before));
        }
        Ok((Target { node: spot.node, locator, around }, key.to_owned()))
    }

    fn locator_of_root(&self, checkpoint: &Checkpoint) -> Option<Locator> {
        let origin = match self.grafts.origins.get(&checkpoint.root) {
            Some(origin) => Some(*origin),
            None if checkpoint.root == self.first_root => Some(Origin::Root),
            None => None,
        };
        origin.map(|origin| Locator { origin, indices: Vec::new() })
    }

    /// Where what stands at a spot was made.
    fn below(&self, checkpoint: &Checkpoint, spot: &Spot) -> Option<Locator> {
        if let Some(origin) = self.grafts.origins.get(&spot.node) {
            return Some(Locator { origin: *origin, indices: Vec::new() });
        }
        if let Label::Index(index) = spot.label {
            let place = usize::try_from(index).ok()?;
            let mut locator = spot.locator.clone()?;
            if self.grafts.elements.contains_key(&(locator.clone(), place)) {
                return None;
            }
            locator.indices.push(place);
            return Some(locator);
        }
        let key_at = checkpoint.holder(spot, "").ok()?.entry.key_at;
        let is_new = self.grafts.fates.get(&key_at).is_some_and(|fate| fate.value.is_some());
        (key_at != 0 && !is_new).then_some(Locator { origin: Origin::Item(key_at), indices: Vec::new() })
    }

    /// What stands under just this name; nothing where nothing does.
    fn spot(&self, checkpoint: &Checkpoint, name: &str) -> Result<Option<Spot>> {
        let path = match checkpoint.place(&checkpoint.top(), name)? {
            Place::Of(root) if root.stem.is_none() && join(&root.path) == name => root.path,
            Place::Of(root) if root.stem.is_some() && join(&root.path) == name => {
                return Err(Error::refused(format!("`{name}` is the beginning of several names, and no object")));
            }
            Place::Of(_) | Place::Nowhere => return self.out_of_range(checkpoint, name).map(|()| None),
            Place::Ambiguous(first, second) => {
                let (first, second) = (format!("{first:?}"), format!("{second:?}"));
                return Err(Error::refused(format!("`{name}` is ambiguous: {first} or {second}")));
            }
        };
        let uses = Scan::new(&checkpoint.graph, checkpoint.root)?;
        let objects = checkpoint.objects();
        let mut around: Vec<NodeId> = Vec::new();
        let mut spot: Option<Spot> = None;
        let (mut node, mut locator) = (checkpoint.root, self.locator_of_root(checkpoint));
        for (depth, element) in path.iter().enumerate() {
            let shown = || join(path.get(..depth).unwrap_or_default());
            if module::is_module(checkpoint, objects.unwrap(node)) {
                let message = format!("`{name}` is part of a module pickled whole");
                return Err(Error::unsupported(message).advise(crate::checkpoint::edit::weights_first()));
            }
            if objects.unwrap(node) != node || checkpoint.tensors.of(node).is_some() {
                return Err(Error::unsupported(format!("`{name}` is part of `{}`, which stays whole", shown())));
            }
            if uses.uses(node) > 1 {
                return Err(shared(&shown()));
            }
            let child = objects.children(node).into_iter().find(|child| checkpoint.element(child.label) == *element);
            let Some(Child { label, node: child }) = child else {
                return Err(Error::unsupported(format!("`{name}` is part of `{}`, which stays whole", shown())));
            };
            around.push(node);
            let next = Spot { parent: node, locator, label, node: child, around: around.clone() };
            locator = self.below(checkpoint, &next);
            node = child;
            spot = Some(next);
        }
        Ok(spot)
    }

    /// An error for what would be an element of a list or tuple.
    fn out_of_range(&self, checkpoint: &Checkpoint, name: &str) -> Result<()> {
        let Some((before, key)) = name.rsplit_once('.') else { return Ok(()) };
        if let Place::Of(root) = checkpoint.place(&checkpoint.top(), before)?
            && root.stem.is_none()
            && join(&root.path) == before
            && let Some(elements) = checkpoint.objects().elements(root.node)
        {
            let class = checkpoint.objects().type_name(root.node);
            let what = format!("`{before}` is a {class} of {} elements; it has none called `{key}`", elements.len());
            return Err(Error::refused(what));
        }
        Ok(())
    }
}

fn shared(name: &str) -> Error {
    let what = if name.is_empty() { "the top object".to_owned() } else { format!("`{name}`") };
    Error::refused(format!("{what} is one object that the file uses more than once: an edit would show in all places"))
}

/// The items of a dict, or those that an object was given after its construction.
fn entries_of(graph: &Graph, node: NodeId) -> Vec<Entry> {
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

impl Checkpoint {
    fn set_node(&mut self, node: NodeId, new: Node) {
        if let Some(place) = self.graph.node_mut(node) {
            *place = new;
        }
    }

    fn not_there(&self, name: &str) -> Error {
        let names = match self.names(&self.top()) {
            Ok(names) => names.entries,
            Err(e) => return e,
        };
        let names: Vec<String> = names.iter().map(crate::checkpoint::names::Entry::name).collect();
        let near = crate::checkpoint::near::near(name, names.iter().map(String::as_str));
        Error::refused(crate::checkpoint::near::not_there("element", name, None, &near))
    }

    /// The item that a spot is.
    fn holder(&self, spot: &Spot, name: &str) -> Result<Holder> {
        let (Label::Key(key) | Label::Attribute(key)) = spot.label else {
            let class = self.objects().type_name(spot.parent);
            let message = format!("`{name}` is an element of a {class}, which keeps its length; set the whole of it");
            return Err(Error::unsupported(message));
        };
        let is_it = |entry: &Entry| self.is_same_key(entry.key, key);
        let mut found = Vec::new();
        for node in [vec![spot.parent], self.attribute_dicts(spot.parent)].concat() {
            let entries = entries_of(&self.graph, node).into_iter().enumerate();
            found.extend(entries.filter(|(_, e)| is_it(e)).map(|(index, entry)| Holder { node, index, entry }));
        }
        match found.as_slice() {
            [one] => {
                if one.node != spot.parent && Scan::new(&self.graph, self.root)?.uses(one.node) > 1 {
                    return Err(shared(name));
                }
                Ok(*one)
            }
            [] => Err(Error::unsupported(format!("`{name}` is pickled in a way that cannot be edited"))),
            _ => Err(Error::unsupported(format!("`{name}` is assigned more than once in the pickle"))),
        }
    }

    /// Whether two keys are one for Python: `True` is 1, and 1 is 1.0.
    fn is_same_key(&self, a: NodeId, b: NodeId) -> bool {
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
    fn replace_entry(&mut self, holder: &Holder, new: Option<Entry>) {
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

    /// Refuses what cannot get items.
    fn takes_items(&self, node: NodeId) -> Result<()> {
        let is_dict = match self.graph.node(node) {
            Node::Dict(_) => true,
            Node::Object(_) => self.objects().items(node).is_some(),
            _ => false,
        };
        if is_dict {
            return Ok(());
        }
        let class = self.objects().type_name(node);
        Err(Error::refused(format!("an object of class {class} is no dict, so nothing new can be put into it")))
    }

    /// A key of the kind that the dict has: an integer where all others are.
    fn new_key(&mut self, node: NodeId, key: &str) -> Result<NodeId> {
        let items = self.objects().items(node).unwrap_or_default();
        let are_integers = !items.is_empty() && items.iter().all(|e| matches!(self.graph.node(e.key), Node::Int(_)));
        match key.parse::<i64>() {
            Ok(value) if are_integers && value.to_string() == key => self.graph.push(Node::Int(value)),
            _ => self.graph.push_str(key),
        }
    }

    /// A value in a few words.
    fn described(&self, node: NodeId) -> String {
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

    /// The storages that objects below a node use.
    fn storages_below(&self, node: NodeId) -> Result<HashSet<StorageId>> {
        let scan = Scan::new(&self.graph, node)?;
        let ids = scan.order().iter().filter_map(|node| match self.storages.meaning(*node) {
            Some(Persistent::Storage { id, .. }) => Some(*id),
            _ => None,
        });
        Ok(ids.collect())
    }
}
