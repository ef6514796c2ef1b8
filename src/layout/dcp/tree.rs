//! The nested dicts and lists that were saved, put together again from the paths of what lies in them.
//!
//! `set_element` of `torch/distributed/checkpoint/_traverse.py`: text leads into a dict, a number into a list.

use std::collections::HashMap;

use crate::checkpoint::names::{Element, join};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::Setting;
use crate::pickle::{Graph, Node, NodeId, Pair};

/// Containers in the making; the first is the top one, and each comes before what lies in it.
#[derive(Debug)]
pub(crate) struct Tree {
    branches: Vec<Branch>,
    max_branches: u64,
}

#[derive(Debug, Default)]
struct Branch {
    /// In the order in which they were first needed.
    children: Vec<(Element, Child)>,
    by_key: HashMap<Element, usize>,
}

#[derive(Debug, Clone, Copy)]
enum Child {
    Branch(usize),
    Leaf(NodeId),
}

impl Tree {
    pub(crate) fn new(limits: &Limits) -> Self {
        Tree { branches: vec![Branch::default()], max_branches: limits.max_entries }
    }

    /// Puts an object at a path. `Malformed` when something else is there already.
    pub(crate) fn add(&mut self, path: Vec<Element>, node: NodeId) -> Result<()> {
        let taken = || Error::malformed(format!("the index puts two things at {:?}", join(&path)));
        let Some((last, above)) = path.split_last() else { return Err(taken()) };
        let mut at = 0;
        for key in above {
            let next = self.branches.len();
            let Some(branch) = self.branches.get_mut(at) else { return Err(taken()) };
            at = match branch.child(key) {
                Some(Child::Branch(inner)) => inner,
                Some(Child::Leaf(_)) => return Err(taken()),
                None => {
                    if next as u64 >= self.max_branches {
                        let message = "the paths in the index make too many dicts";
                        return Err(Error::limit(message).allowed_by(Setting::MaxEntries));
                    }
                    branch.add(key.clone(), Child::Branch(next));
                    self.branches.push(Branch::default());
                    next
                }
            };
        }
        match self.branches.get_mut(at) {
            Some(branch) if branch.child(last).is_none() => branch.add(last.clone(), Child::Leaf(node)),
            _ => return Err(taken()),
        }
        Ok(())
    }

    /// Adds the containers to the graph, inner ones first; gives the top one, which is a dict whatever its keys.
    pub(crate) fn finish(self, graph: &mut Graph) -> Result<NodeId> {
        let mut nodes = vec![Graph::NONE; self.branches.len()];
        for (place, mut branch) in self.branches.into_iter().enumerate().rev() {
            let is_list = place > 0 && branch.is_list();
            if is_list {
                branch.children.sort_by_key(|(key, _)| if let Element::Int(index) = key { *index } else { 0 });
            }
            let mut entries = Vec::with_capacity(branch.children.len());
            for (key, child) in branch.children {
                let value = match child {
                    Child::Leaf(node) => node,
                    Child::Branch(inner) => nodes.get(inner).copied().unwrap_or(Graph::NONE),
                };
                let key = match key {
                    _ if is_list => Graph::NONE,
                    Element::Text(text) => graph.push_str(&text)?,
                    Element::Int(value) => graph.push(Node::Int(value))?,
                    Element::Bool(true) => Graph::TRUE,
                    Element::Bool(false) => Graph::FALSE,
                };
                entries.push(Pair { key, value, key_at: 0 });
            }
            let node = match is_list {
                true => {
                    graph.count_items(entries.len());
                    graph.push(Node::List(Box::new(entries.iter().map(|entry| entry.value).collect())))?
                }
                false => graph.push_dict(entries)?,
            };
            nodes.iter_mut().skip(place).take(1).for_each(|place| *place = node);
        }
        Ok(nodes.first().copied().unwrap_or(Graph::NONE))
    }
}

impl Branch {
    fn child(&self, key: &Element) -> Option<Child> {
        self.by_key.get(key).and_then(|place| self.children.get(*place)).map(|(_, child)| *child)
    }

    fn add(&mut self, key: Element, child: Child) {
        self.by_key.insert(key.clone(), self.children.len());
        self.children.push((key, child));
    }

    /// The keys are the numbers from 0 on, in any order.
    fn is_list(&self) -> bool {
        let is_index = |(key, _): &(Element, Child)| matches!(key, Element::Int(index) if usize::try_from(*index).is_ok_and(|index| index < self.children.len()));
        !self.children.is_empty() && self.children.iter().all(is_index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> Element {
        Element::Text(name.to_owned())
    }

    #[test]
    fn lists_and_dicts() {
        let mut graph = Graph::new();
        let mut tree = Tree::new(&Limits::default());
        for (path, value) in [
            (vec![text("l"), Element::Int(1)], 1),
            (vec![text("d"), Element::Int(7), text("x")], 2),
            (vec![text("l"), Element::Int(0)], 0),
        ] {
            let node = graph.push(Node::Int(value)).unwrap();
            tree.add(path, node).unwrap();
        }
        assert!(tree.add(vec![text("l")], Graph::NONE).is_err());
        assert!(tree.add(vec![text("l"), Element::Int(0), text("x")], Graph::NONE).is_err());
        assert!(tree.add(Vec::new(), Graph::NONE).is_err());
        let root = tree.finish(&mut graph).unwrap();
        let Node::Dict(entries) = graph.node(root) else { panic!("no dict") };
        assert_eq!(entries.iter().map(|e| graph.str(e.key).unwrap()).collect::<Vec<_>>(), ["l", "d"]);
        let list: Vec<_> = graph.sequence(entries[0].value).unwrap().iter().map(|n| graph.int(*n).unwrap()).collect();
        assert_eq!(list, [0, 1]);
        // a number that no list could have stays a key
        assert!(matches!(graph.node(entries[1].value), Node::Dict(inner) if graph.int(inner[0].key) == Some(7)));
    }
}
