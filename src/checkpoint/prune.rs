//! Taking named parts out of a checkpoint's object, before it is written again.

use std::collections::hash_map;
use std::collections::{HashMap, HashSet};

use crate::checkpoint::entry::{Budget, Element, join};
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::{Checkpoint, Item, Root, module};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Setting;
use crate::pickle::{Change, Graph, Node, NodeId, Pair};

/// What was taken out: the outermost thing of which nothing stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Its name below the root.
    pub name: String,
    /// For what is no tensor itself: how many it held.
    pub tensors: Option<usize>,
}

/// A container on the way from the root to where the walk is.
struct Frame {
    node: NodeId,
    children: Vec<Child>,
    next: usize,
    /// Something below it stays.
    stays: bool,
    /// Children that go.
    going: Vec<Label>,
    /// Tensors that went with them.
    tensors: usize,
    /// How long the lists of the walk were before it.
    removed_before: usize,
    decided_before: usize,
}

/// Decides what goes, before anything is changed.
struct Walk<'a> {
    checkpoint: &'a Checkpoint,
    takes: &'a dyn Fn(&str) -> bool,
    budget: Budget,
    frames: Vec<Frame>,
    open: HashSet<NodeId>,
    path: Vec<Element>,
    removed: Vec<Removed>,
    /// The containers that stay, with what goes of them and, where something does, their names.
    decided: Vec<(NodeId, Vec<Label>, String)>,
}

/// What becomes of a name.
enum Fate {
    Stays,
    /// With how many tensors go.
    Goes(Removed, usize),
    Open(Frame),
}

impl Checkpoint {
    /// Removes every tensor and value below `root`, an object, whose name relative to it is not one that `takes`, and the
    /// containers that are empty then. Elements behind the last one of a list that stays are removed; any other element
    /// of a list or tuple leaves None in its place, so that the names of the others stay what they are. What lies inside
    /// a module or an object of a class that nobody knows goes with the whole of it or not at all: an error.
    pub(crate) fn prune(&mut self, root: &Root, takes: &dyn Fn(&str) -> bool) -> Result<Vec<Removed>> {
        let mut walk = Walk {
            checkpoint: self,
            takes,
            budget: Budget::new(&self.limits, &self.graph),
            frames: Vec::new(),
            open: HashSet::new(),
            path: Vec::new(),
            removed: Vec::new(),
            decided: Vec::new(),
        };
        walk.run(root.node)?;
        let Walk { removed, decided, .. } = walk;
        let mut removals: HashMap<NodeId, (Vec<Label>, String)> = HashMap::new();
        for (node, labels, name) in decided {
            match removals.entry(node) {
                hash_map::Entry::Vacant(place) => drop(place.insert((labels, name))),
                hash_map::Entry::Occupied(other) if other.get().0 == labels => {}
                hash_map::Entry::Occupied(other) => {
                    let shown = if name.is_empty() { &other.get().1 } else { &name };
                    let message = format!("{shown} is one object with another name; choose the same below both");
                    return Err(Error::unsupported(message));
                }
            }
        }
        for (node, (labels, name)) in removals.into_iter().filter(|(_, (labels, _))| !labels.is_empty()) {
            self.remove(node, &labels).map_err(|e| e.reworded(|why| format!("{name}: {why}")))?;
        }
        Ok(removed)
    }
}

impl Walk<'_> {
    fn run(&mut self, root: NodeId) -> Result<()> {
        if let Fate::Open(frame) = self.visit(root)? {
            self.open.insert(frame.node);
            self.frames.push(frame);
        }
        while let Some(frame) = self.frames.last_mut() {
            if let Some(child) = frame.children.get(frame.next).copied() {
                frame.next += 1;
                self.path.push(self.checkpoint.element(child.label));
                match self.visit(child.node)? {
                    Fate::Open(frame) => {
                        self.open.insert(frame.node);
                        self.frames.push(frame);
                        continue;
                    }
                    Fate::Stays => self.stays(),
                    Fate::Goes(removed, tensors) => self.goes(child.label, removed, tensors),
                }
                self.path.pop();
                continue;
            }
            let Some(frame) = self.frames.pop() else { break };
            self.open.remove(&frame.node);
            let name = join(&self.path);
            let of_parent = self.frames.last().and_then(|parent| parent.children.get(parent.next.checked_sub(1)?));
            match of_parent.map(|child| child.label) {
                Some(label) if !frame.stays => {
                    self.removed.truncate(frame.removed_before);
                    self.decided.truncate(frame.decided_before);
                    let tensors = Some(frame.tensors).filter(|tensors| *tensors > 0);
                    self.goes(label, Removed { name, tensors }, frame.tensors);
                }
                _ => {
                    let name = if frame.going.is_empty() { String::new() } else { name };
                    self.decided.push((frame.node, frame.going, name));
                    self.stays();
                }
            }
            self.path.pop();
        }
        Ok(())
    }

    fn stays(&mut self) {
        if let Some(parent) = self.frames.last_mut() {
            parent.stays = true;
        }
    }

    fn goes(&mut self, label: Label, removed: Removed, tensors: usize) {
        if let Some(parent) = self.frames.last_mut() {
            parent.tensors += tensors;
            parent.going.push(label);
        }
        self.removed.push(removed);
    }

    /// In the order in which [`Checkpoint::names`] asks.
    fn visit(&mut self, node: NodeId) -> Result<Fate> {
        self.budget.visit()?;
        self.checkpoint.graph.complete()?;
        let objects = self.checkpoint.objects();
        let node = objects.unwrap(node);
        if let Some(tensor) = self.checkpoint.tensors.of(node).and_then(|id| self.checkpoint.tensor(id)) {
            return if tensor.state.is_some() {
                self.visit_whole(node, "a tensor with parts; choose the whole of it")
            } else {
                Ok(self.leaf(1))
            };
        }
        if self.open.contains(&node) {
            return Ok(self.leaf(0));
        }
        if module::is_module(self.checkpoint, node) {
            return self.visit_whole(node, "a module, which only its state dict can leave out");
        }
        let children = if objects.is_value(node) { Vec::new() } else { objects.children(node) };
        if children.is_empty() {
            return Ok(self.leaf(0));
        }
        if self.frames.len() >= self.checkpoint.limits.max_depth {
            return Err(Error::limit("objects nest too deep").allowed_by(Setting::MaxDepth));
        }
        let (removed_before, decided_before) = (self.removed.len(), self.decided.len());
        let (going, tensors) = (Vec::new(), 0);
        Ok(Fate::Open(Frame { node, children, next: 0, stays: false, going, tensors, removed_before, decided_before }))
    }

    fn leaf(&self, tensors: usize) -> Fate {
        let name = join(&self.path);
        if (self.takes)(&name) { Fate::Stays } else { Fate::Goes(Removed { name, tensors: None }, tensors) }
    }

    /// What goes as one or stays as one: a module, a tensor with parts that are listed below it.
    fn visit_whole(&mut self, node: NodeId, what: &str) -> Result<Fate> {
        let inside = self.checkpoint.names(&Root { node, path: Vec::new(), in_optimizer: false, stem: None })?;
        let name = join(&self.path);
        let names = inside.entries.iter().map(|entry| match (name.as_str(), entry.name()) {
            (name, inner) if inner.is_empty() => name.to_owned(),
            ("", inner) => inner,
            (name, inner) => format!("{name}.{inner}"),
        });
        let (mut staying, mut going) = (false, None);
        for inner in names {
            self.budget.visit()?;
            if (self.takes)(&inner) { staying = true } else { going = going.or(Some(inner)) }
        }
        match going {
            None => Ok(Fate::Stays),
            Some(inner) if staying => {
                let message = format!("{inner} is part of {what}");
                Err(Error::new(ErrorKind::Unsupported, message))
            }
            Some(_) => {
                let tensors = inside.entries.iter().filter(|entry| matches!(entry.item, Item::Tensor(..))).count();
                Ok(Fate::Goes(Removed { name, tensors: Some(tensors).filter(|tensors| *tensors > 0) }, tensors))
            }
        }
    }
}

impl Checkpoint {
    fn remove(&mut self, node: NodeId, labels: &[Label]) -> Result<()> {
        let keys: HashSet<NodeId> = labels
            .iter()
            .filter_map(|label| match label {
                Label::Key(key) | Label::Attribute(key) => Some(*key),
                _ => None,
            })
            .collect();
        let names: HashSet<Vec<u8>> = keys.iter().filter_map(|key| self.key_bytes(*key)).collect();
        let places: HashSet<usize> = labels
            .iter()
            .filter_map(|label| match label {
                Label::Index(index) => usize::try_from(*index).ok(),
                _ => None,
            })
            .collect();
        if labels.contains(&Label::State) {
            return Err(Error::new(ErrorKind::Unsupported, "an object's __state__ cannot be left out"));
        }
        // a key may be assigned more than once, by equal strings
        let is_gone = |this: &Checkpoint, key: NodeId| {
            keys.contains(&key) || this.key_bytes(key).is_some_and(|name| names.contains(&name))
        };
        let kept_entries = |this: &Checkpoint, entries: &[Pair]| -> Vec<Pair> {
            entries.iter().filter(|entry| !is_gone(this, entry.key)).copied().collect()
        };
        let with_gaps = |items: &[NodeId]| -> Vec<NodeId> {
            let place = |(at, item): (usize, &NodeId)| if places.contains(&at) { Graph::NONE } else { *item };
            items.iter().enumerate().map(place).collect()
        };
        let new = match self.graph.node(node) {
            Node::Dict(entries) => Node::Dict(Box::new(kept_entries(self, entries))),
            Node::List(items) => {
                let last = (0..items.len()).rev().find(|at| !places.contains(at));
                let kept = items.get(..last.map_or(0, |last| last + 1)).unwrap_or_default();
                Node::List(Box::new(with_gaps(kept)))
            }
            Node::Tuple(_) => {
                let items = with_gaps(self.graph.tuple(node).unwrap_or_default());
                let tuple = self.graph.push_tuple(&items)?;
                self.graph.node(tuple).clone()
            }
            Node::Object(object) if places.is_empty() => {
                let mut object = object.clone();
                object.changes.retain(|change| !matches!(change, Change::Item(entry) if is_gone(self, entry.key)));
                for part in self.attribute_dicts(node) {
                    let kept = match self.graph.node(part) {
                        Node::Dict(entries) => Node::Dict(Box::new(kept_entries(self, entries))),
                        // Python 2 makes an OrderedDict of pairs
                        Node::List(pairs) if self.objects().items(node).is_some() => {
                            let key = |pair: &NodeId| self.graph.sequence(*pair).and_then(|pair| pair.first().copied());
                            let kept = pairs.iter().filter(|pair| key(pair).is_none_or(|key| !is_gone(self, key)));
                            Node::List(Box::new(kept.copied().collect()))
                        }
                        _ => continue,
                    };
                    self.replace(part, kept);
                }
                Node::Object(object)
            }
            _ => {
                let class = self.objects().type_name(node);
                let message = format!("an element of a {class} cannot be left out; choose the whole of it");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        self.replace(node, new);
        let gone: HashSet<&Label> = labels.iter().collect();
        let left = self.objects().children(node);
        if left.iter().any(|child| gone.contains(&child.label) && !matches!(child.label, Label::Index(_))) {
            let message = "an element given to a constructor cannot be left out";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    fn replace(&mut self, node: NodeId, new: Node) {
        if let Some(place) = self.graph.node_mut(node) {
            *place = new;
        }
    }

    fn key_bytes(&self, key: NodeId) -> Option<Vec<u8>> {
        match self.graph.node(key) {
            Node::Str(text) | Node::Bytes(text) => self.graph.text(*text).ok().map(|text| text.into_owned()),
            _ => None,
        }
    }

    /// The nodes of the dicts that hold an object's attributes, or that a mapping was made of.
    pub(super) fn attribute_dicts(&self, node: NodeId) -> Vec<NodeId> {
        let mut dicts = Vec::new();
        for change in self.graph.changes(node) {
            let Change::Build(state) = change else { continue };
            dicts.push(*state);
            dicts.extend(self.graph.tuple(*state).unwrap_or_default());
        }
        dicts.extend(self.objects().args(node));
        dicts
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::limits::Limits;
    use crate::progress::Silent;
    use crate::source::{FileSource, MemorySource, SharedSource};

    fn open(source: SharedSource) -> Checkpoint {
        Checkpoint::open(source, &Limits::default(), &Silent).unwrap()
    }

    fn of_pickle(pickle: &[u8]) -> Checkpoint {
        open(Arc::new(MemorySource::new(pickle.to_vec())))
    }

    fn of_file(name: &str) -> Checkpoint {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/torch-2.15-py311").join(name);
        open(Arc::new(FileSource::open(&path).unwrap()))
    }

    fn names(checkpoint: &Checkpoint) -> Vec<String> {
        let entries = checkpoint.names(&checkpoint.top()).unwrap().entries;
        entries.iter().map(super::super::names::Entry::name).collect()
    }

    fn prune(checkpoint: &mut Checkpoint, dropped: &[&str]) -> Result<Vec<String>> {
        let root = checkpoint.top();
        let goes = |name: &str| {
            let is_below = |dropped: &&str| {
                name.strip_prefix(*dropped).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            dropped.iter().any(is_below)
        };
        let removed = checkpoint.prune(&root, &|name| !goes(name))?;
        Ok(removed.into_iter().map(|removed| removed.name).collect())
    }

    /// `{'a': 1, 'b': [10, 20, 30], 'c': {'a': 2, 'd': 3}, 'e': (4, {'f': 5})}`
    const NESTED: &[u8] = b"(dS'a'\nI1\nsS'b'\n(lI10\naI20\naI30\nasS'c'\n(dS'a'\nI2\nsS'd'\nI3\nss\
        S'e'\n(I4\n(dS'f'\nI5\nsts.";

    fn nested() -> Checkpoint {
        of_pickle(NESTED)
    }

    fn repr(checkpoint: &Checkpoint) -> String {
        checkpoint.objects().repr(checkpoint.root, 1000)
    }

    #[test]
    fn keys_go_wherever_they_are_and_what_they_empty_goes_too() {
        let mut checkpoint = nested();
        let before = names(&checkpoint);
        assert_eq!(prune(&mut checkpoint, &["nothing", "d", "c.x"]).unwrap(), [""; 0]);
        assert_eq!(names(&checkpoint), before);
        assert_eq!(prune(&mut checkpoint, &["a", "c.d"]).unwrap(), ["a", "c.d"]);
        assert_eq!(repr(&checkpoint), "{'b': [10, 20, 30], 'c': {'a': 2}, 'e': (4, {'f': 5})}");
        assert_eq!(prune(&mut checkpoint, &["c.a", "e.0", "e.1.f"]).unwrap(), ["c", "e"]);
        assert_eq!(repr(&checkpoint), "{'b': [10, 20, 30]}");
    }

    #[test]
    fn elements_of_lists_and_tuples_keep_their_indexes() {
        // three lists in a list
        let of_lists = || of_pickle(b"(l(lI1\naa(lI2\naa(lI3\naa.");
        for (dropped, left) in [
            (&["1"][..], "[[1], None, [3]]"),
            (&["2"], "[[1], [2]]"),
            (&["1", "2"], "[[1]]"),
            (&["0", "1"], "[None, None, [3]]"),
        ] {
            let mut checkpoint = of_lists();
            assert_eq!(prune(&mut checkpoint, dropped).unwrap(), dropped);
            assert_eq!(repr(&checkpoint), left);
        }
        let mut checkpoint = nested();
        assert_eq!(prune(&mut checkpoint, &["e.1.f"]).unwrap(), ["e.1"]);
        assert!(repr(&checkpoint).ends_with("'e': (4, None)}"), "{}", repr(&checkpoint));
        let mut checkpoint = nested();
        assert_eq!(prune(&mut checkpoint, &["e.0"]).unwrap(), ["e.0"]);
        assert!(repr(&checkpoint).ends_with("'e': (None, {'f': 5})}"), "{}", repr(&checkpoint));
    }

    #[test]
    fn every_assignment_of_a_key_goes() {
        // the key is another object each time
        let mut checkpoint = of_pickle(b"(dS'a'\nI1\nsS'b'\nI2\nsS'a'\nI3\ns.");
        assert_eq!(prune(&mut checkpoint, &["a"]).unwrap(), ["a"]);
        assert_eq!(names(&checkpoint), ["b"]);
    }

    #[test]
    fn python_2_makes_ordered_dicts_of_pairs() {
        // OrderedDict([['a', 1], ['b', 2]])
        let mut checkpoint = of_pickle(b"ccollections\nOrderedDict\n((l(lS'a'\naI1\naa(lS'b'\naI2\naatR.");
        assert_eq!(prune(&mut checkpoint, &["a"]).unwrap(), ["a"]);
        assert_eq!(names(&checkpoint), ["b"]);
    }

    #[test]
    fn modules_go_whole_or_not_at_all() {
        let mut checkpoint = of_file("cnn_full.pth");
        let inside = names(&checkpoint).into_iter().next().unwrap();
        let e = prune(&mut checkpoint, &[inside.as_str()]).unwrap_err();
        assert!(e.message().contains("part of a module") && e.message().contains(&inside), "{e}");
        assert_eq!(prune(&mut checkpoint, &["no such name"]).unwrap(), [""; 0]);
    }

    #[test]
    fn what_goes_is_told_with_its_tensors() {
        let mut checkpoint = of_file("checkpoint.tar");
        let root = checkpoint.top();
        let inside = |name: &str| {
            checkpoint
                .names(&root)
                .unwrap()
                .entries
                .iter()
                .filter(|e| e.name().starts_with(name) && checkpoint.tensors.of(e.node).is_some())
                .count()
        };
        let count = inside("optimizer_state_dict.");
        assert!(count > 0);
        let removed =
            checkpoint.prune(&root, &|name| name.starts_with("model_state_dict.") || name == "epoch").unwrap();
        assert!(
            removed.contains(&Removed { name: "optimizer_state_dict".into(), tensors: Some(count) }),
            "{removed:?}"
        );
        assert!(names(&checkpoint).iter().all(|name| name.starts_with("model_state_dict.") || name == "epoch"));
    }

    #[test]
    fn shared_and_endless_objects_are_visited_once() {
        // a list that holds itself and a dict twice
        let mut checkpoint = of_pickle(b"(lp0\ng0\na(dp1\nS'k'\nI1\nsag1\na.");
        let e = prune(&mut checkpoint, &["1.k"]);
        assert_eq!(e.unwrap(), ["1"]);
    }

    #[test]
    fn an_object_of_two_names_is_not_changed_for_one_of_them() {
        // {'a': d, 'b': d} with d = {'k': 1, 'l': 2}
        let shared = || of_pickle(b"(dS'a'\n(dp0\nS'k'\nI1\nsS'l'\nI2\nssS'b'\ng0\ns.");
        let e = prune(&mut shared(), &["a.k"]).unwrap_err();
        assert!(e.message().contains("a is one object with another name"), "{e}");
        let e = prune(&mut shared(), &["b.k"]).unwrap_err();
        assert!(e.message().contains("b is one object with another name"), "{e}");
        let mut both = shared();
        assert_eq!(prune(&mut both, &["a.k", "b.k"]).unwrap(), ["a.k", "b.k"]);
        assert_eq!(names(&both), ["a.l", "b.l"]);
        let mut one = shared();
        assert_eq!(prune(&mut one, &["a"]).unwrap(), ["a"]);
        assert_eq!(names(&one), ["b.k", "b.l"]);
    }
}
