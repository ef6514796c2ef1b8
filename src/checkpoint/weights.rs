//! "The weights" of a checkpoint: the one part of it that a format for weights only would hold.

use std::collections::HashSet;

use crate::checkpoint::object::Child;
use crate::checkpoint::{Checkpoint, Container, Root, module};
use crate::error::{Error, Result};
use crate::pickle::NodeId;

impl Container {
    /// True for formats that hold named tensors and nothing of the object they came from: no devices, no gradients, no
    /// other values. Shards are put together by name, whatever their own format.
    pub fn holds_only_weights(self) -> bool {
        matches!(self, Container::Safetensors | Container::Npz | Container::Npy | Container::Pt2 | Container::Sharded)
    }
}

impl Checkpoint {
    /// The top object, if it is a tensor or a module or directly holds tensors; else each mapping or module below it
    /// that does, the outermost ones, optimizers left aside. More than one means that somebody has to choose.
    pub fn weights_places(&self) -> Result<Vec<Root>> {
        let objects = self.objects();
        let top = self.top();
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut visits = self.limits.entries_for(self.graph.held());
        let mut open = vec![top.clone()];
        while let Some(root) = open.pop() {
            let node = objects.unwrap(root.node);
            if objects.is_plain_scalar(node) || !seen.insert(node) {
                continue;
            }
            visits = visits.checked_sub(1).ok_or_else(|| Error::limit("too many objects to find the weights among"))?;
            let is_top = root.path.is_empty();
            if self.tensors.of(node).is_some() {
                // below the top, tensors count by what holds them
                found.extend(is_top.then(|| root.clone()));
                continue;
            }
            let children = objects.children(node);
            if self.is_optimizer(&children) || root.path.len() >= self.limits.max_depth {
                continue;
            }
            let is_mapping = is_top || objects.items(node).is_some();
            let is_module = module::is_module(self, node) && self.holds_tensors(node);
            if is_module || is_mapping && self.directly_holds_tensors(&children) {
                found.push(Root { node, ..root });
                continue;
            }
            for child in children.into_iter().rev() {
                let mut path = root.path.clone();
                path.push(self.element(child.label));
                open.push(Root { node: child.node, path, in_optimizer: false, stem: None });
            }
        }
        Ok(found)
    }

    fn directly_holds_tensors(&self, children: &[Child]) -> bool {
        let objects = self.objects();
        let is_tensor = |node: NodeId| self.tensors.of(objects.unwrap(node)).is_some();
        children.iter().any(|child| is_tensor(child.node))
    }
}
