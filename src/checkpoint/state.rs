//! What lies below a tensor: the state of parameters and subclasses, as far as it holds tensors.

use std::collections::HashSet;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::names::{Element, join};
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::tensor::{Data, Tensor};
use crate::pickle::{Graph, NodeId};

/// Objects of a wrapper's state that are looked through for the names of its parts.
const MAX_STATE: usize = 1024;

impl Checkpoint {
    /// What is listed below a tensor: children of its state that are tensors or hold some.
    pub(super) fn state_children(&self, tensor: &Tensor) -> Vec<Child> {
        let Some(state) = tensor.state else { return Vec::new() };
        // which rank holds what is no part of the tensor
        let is_distributed = tensor.class.as_deref() == Some("DTensor");
        let shown = tensor.storage();
        let children = self.attributes_of_state(state).into_iter().filter(|child| match self.tensors.of(child.node) {
            // the tensor whose facts the subclass shows is not listed twice
            Some(inner) => self.tensors.get(inner).is_none_or(|t| t.storage().is_none() || t.storage() != shown),
            None => !is_distributed && self.holds_tensors(child.node),
        });
        children.collect()
    }

    /// A state's entries as attributes: those of a dict, or of the dicts of `(dict or None, slots)`.
    fn attributes_of_state(&self, state: NodeId) -> Vec<Child> {
        let objects = self.objects();
        let is_attributes = |node: &NodeId| *node == Graph::NONE || objects.items(*node).is_some();
        let children = match self.graph.tuple(state) {
            Some(parts) if parts.iter().all(is_attributes) => {
                parts.iter().flat_map(|dict| objects.children(*dict)).collect()
            }
            _ => objects.children(state),
        };
        let as_attribute = |child: Child| match child.label {
            Label::Key(key) => Child { label: Label::Attribute(key), ..child },
            _ => child,
        };
        children.into_iter().map(as_attribute).collect()
    }

    /// The names, below a wrapper's own, of the tensors that it wraps.
    pub(crate) fn part_names(&self, tensor: &Tensor) -> Vec<String> {
        let objects = self.objects();
        let Data::Parts(parts) = &tensor.data else { return Vec::new() };
        let wanted: HashSet<NodeId> = parts.iter().copied().collect();
        let (mut names, mut seen) = (Vec::new(), HashSet::new());
        let below = |children: Vec<Child>, path: &[Element]| -> Vec<(NodeId, Vec<Element>)> {
            let labelled = children.into_iter().rev().map(|child| {
                let mut path = path.to_vec();
                path.push(self.element(child.label));
                (objects.unwrap(child.node), path)
            });
            labelled.collect()
        };
        let mut open = below(self.state_children(tensor), &[]);
        while let Some((node, path)) = open.pop() {
            if !seen.insert(node) || seen.len() > MAX_STATE {
                continue;
            }
            match self.tensors.of(node).and_then(|id| self.tensors.get(id)) {
                _ if wanted.contains(&node) => names.push(join(&path)),
                Some(inner) => open.extend(below(self.state_children(inner), &path)),
                None => open.extend(below(objects.children(node), &path)),
            }
        }
        names
    }
}
