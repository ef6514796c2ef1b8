//! Taking named parts out of a checkpoint's object, before it is written again.

use std::collections::HashSet;

use crate::checkpoint::names::join;
use crate::checkpoint::object::Label;
use crate::checkpoint::{Checkpoint, Root, module};
use crate::error::{Error, ErrorKind, Result};
use crate::pickle::{Change, Entry, Node, NodeId};

impl Checkpoint {
    /// Removes every element below `root` that `drops` says by name, with all below it. Names are relative to `root`. What
    /// lies inside a module or a tuple cannot be taken out without changing its class's meaning: an error.
    ///
    /// `drops` is told the name and whether the element is a tensor. Gives the names of what was removed.
    pub fn prune(&mut self, root: &Root, drops: &dyn Fn(&str, bool) -> bool) -> Result<Vec<String>> {
        let mut removals: Vec<(NodeId, Vec<Label>)> = Vec::new();
        let mut removed = Vec::new();
        let mut seen = HashSet::new();
        let mut open = vec![Root { path: Vec::new(), ..root.clone() }];
        while let Some(place) = open.pop() {
            if place.path.len() >= self.limits.max_depth {
                return Err(Error::limit("objects nest too deep; --max-depth raises it"));
            }
            let objects = self.objects();
            let node = objects.unwrap(place.node);
            if self.tensors.of(node).is_some() || !seen.insert(node) {
                continue;
            }
            if module::is_module(self, node) {
                let inside = self.names(&Root { path: Vec::new(), ..place.clone() })?;
                let prefix = join(&place.path);
                for entry in inside.entries {
                    let name = match prefix.as_str() {
                        "" => entry.name(),
                        prefix => format!("{prefix}.{}", entry.name()),
                    };
                    if drops(&name, self.tensors.of(entry.node).is_some()) {
                        let message = format!("{name} is part of a module; --state-dict can leave it out");
                        return Err(Error::new(ErrorKind::Unsupported, message));
                    }
                }
                continue;
            }
            let mut labels = Vec::new();
            for child in objects.children(node) {
                let mut path = place.path.clone();
                path.push(self.element(child.label));
                let name = join(&path);
                let inner = objects.unwrap(child.node);
                if drops(&name, self.tensors.of(inner).is_some()) {
                    labels.push(child.label);
                    removed.push(name);
                } else if !objects.is_plain_scalar(inner) {
                    open.push(Root { node: inner, path, in_optimizer: false });
                }
            }
            if !labels.is_empty() {
                removals.push((node, labels));
            }
        }
        for (node, labels) in removals {
            self.remove(node, &labels)?;
        }
        Ok(removed)
    }

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
        let goes = |this: &Checkpoint, entry: &Entry| {
            keys.contains(&entry.key) || this.key_bytes(entry.key).is_some_and(|name| names.contains(&name))
        };
        let kept_entries = |this: &Checkpoint, entries: &[Entry]| -> Vec<Entry> {
            entries.iter().filter(|entry| !goes(this, entry)).copied().collect()
        };
        let new = match self.graph.node(node) {
            Node::Dict(entries) => Node::Dict(Box::new(kept_entries(self, entries))),
            Node::List(items) => {
                let kept = items.iter().enumerate().filter(|(index, _)| !places.contains(index));
                Node::List(Box::new(kept.map(|(_, item)| *item).collect()))
            }
            Node::Object(object) if places.is_empty() => {
                let mut object = object.clone();
                object.changes.retain(|change| !matches!(change, Change::Item(entry) if goes(self, entry)));
                for dict in self.attribute_dicts(node) {
                    if let Node::Dict(entries) = self.graph.node(dict) {
                        let kept = Node::Dict(Box::new(kept_entries(self, entries)));
                        self.replace(dict, kept);
                    }
                }
                Node::Object(object)
            }
            _ => {
                let message = "an element of a tuple or set cannot be left out; --drop the whole of it";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        self.replace(node, new);
        let left = self.objects().children(node);
        if left.iter().any(|child| labels.contains(&child.label) && !matches!(child.label, Label::Index(_))) {
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
    fn attribute_dicts(&self, node: NodeId) -> Vec<NodeId> {
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

    fn top(checkpoint: &Checkpoint) -> Root {
        Root { node: checkpoint.root, path: Vec::new(), in_optimizer: false }
    }

    fn names(checkpoint: &Checkpoint) -> Vec<String> {
        let entries = checkpoint.names(&top(checkpoint)).unwrap().entries;
        entries.iter().map(super::super::names::Entry::name).collect()
    }

    fn prune(checkpoint: &mut Checkpoint, dropped: &[&str]) -> Result<Vec<String>> {
        let root = top(checkpoint);
        checkpoint.prune(&root, &|name, _| dropped.contains(&name))
    }

    /// `{'a': 1, 'b': [10, 20, 30], 'c': {'a': 2, 'd': 3}, 'e': (4, {'f': 5})}`
    const NESTED: &[u8] = b"(dS'a'\nI1\nsS'b'\n(lI10\naI20\naI30\nasS'c'\n(dS'a'\nI2\nsS'd'\nI3\nss\
        S'e'\n(I4\n(dS'f'\nI5\nsts.";

    fn nested() -> Checkpoint {
        of_pickle(NESTED)
    }

    #[test]
    fn keys_and_elements_go_wherever_they_are() {
        let mut checkpoint = nested();
        let before = names(&checkpoint);
        assert_eq!(prune(&mut checkpoint, &["nothing", "d", "c.x"]).unwrap(), [""; 0]);
        assert_eq!(names(&checkpoint), before);
        let mut removed = prune(&mut checkpoint, &["a", "c.d", "e.1.f"]).unwrap();
        removed.sort();
        assert_eq!(removed, ["a", "c.d", "e.1.f"]);
        let left = names(&checkpoint);
        assert!(left.contains(&"c.a".to_owned()) && !left.iter().any(|name| removed.contains(name)), "{left:?}");
    }

    #[test]
    fn a_list_closes_up() {
        let mut checkpoint = of_pickle(b"(l(lI1\naa(lI2\naa(lI3\naa.");
        assert_eq!(prune(&mut checkpoint, &["1"]).unwrap(), ["1"]);
        let items = checkpoint.graph.sequence(checkpoint.root).unwrap().to_vec();
        let first = |node: &NodeId| checkpoint.graph.int(checkpoint.graph.sequence(*node).unwrap()[0]);
        assert_eq!(items.iter().map(first).collect::<Vec<_>>(), [Some(1), Some(3)]);
    }

    #[test]
    fn every_assignment_of_a_key_goes() {
        // the key is another object each time
        let mut checkpoint = of_pickle(b"(dS'a'\nI1\nsS'b'\nI2\nsS'a'\nI3\ns.");
        assert_eq!(prune(&mut checkpoint, &["a"]).unwrap(), ["a"]);
        assert_eq!(names(&checkpoint), ["b"]);
    }

    #[test]
    fn tuples_keep_their_elements() {
        let mut checkpoint = nested();
        let e = prune(&mut checkpoint, &["e.0"]).unwrap_err();
        assert!(e.message().contains("tuple"), "{e}");
    }

    #[test]
    fn modules_keep_theirs_but_may_go_whole() {
        let mut checkpoint = of_file("cnn_full.pth");
        let inside = names(&checkpoint).into_iter().next().unwrap();
        let e = prune(&mut checkpoint, &[inside.as_str()]).unwrap_err();
        assert!(e.message().contains("part of a module") && e.message().contains(&inside), "{e}");
        assert_eq!(prune(&mut checkpoint, &["no such name"]).unwrap(), [""; 0]);
    }

    #[test]
    fn tensors_are_told_from_values() {
        let mut checkpoint = of_file("checkpoint.tar");
        let root = top(&checkpoint);
        let removed = checkpoint.prune(&root, &|_, is_tensor| is_tensor).unwrap();
        assert!(!removed.is_empty());
        let left = checkpoint.names(&root).unwrap().entries;
        assert!(!left.is_empty() && left.iter().all(|entry| checkpoint.tensors.of(entry.node).is_none()));
    }

    #[test]
    fn shared_and_endless_objects_are_visited_once() {
        // a list that holds itself and a dict twice
        let mut checkpoint = of_pickle(b"(lp0\ng0\na(dp1\nS'k'\nI1\nsag1\na.");
        assert_eq!(prune(&mut checkpoint, &["1.k", "2.k"]).unwrap().len(), 1);
    }
}
