//! `--root NAME`: finding the one object that a name stands for.

use crate::checkpoint::names::{Element, join};
use crate::checkpoint::{Checkpoint, module};
use crate::error::{Error, Result};
use crate::pickle::NodeId;

/// Where a walk begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The object.
    pub node: NodeId,
    /// How to get there from the top object.
    pub path: Vec<Element>,
    /// It lies in an optimizer's state.
    pub in_optimizer: bool,
}

impl Checkpoint {
    /// The top object.
    pub fn top(&self) -> Root {
        Root { node: self.root, path: Vec::new(), in_optimizer: false }
    }

    /// Whether a walk from there gives what a module's `state_dict()` would, and more.
    pub fn is_module(&self, root: &Root) -> bool {
        module::is_module(self, self.objects().unwrap(root.node))
    }

    /// Every object that has `name`: `.` is the top one. Two of them make the name ambiguous; that is for the caller to
    /// say.
    pub fn roots(&self, name: &str) -> Result<Vec<Root>> {
        self.roots_below(&self.top(), name)
    }

    /// Every object that has `name` seen from `from`, with paths relative to that; `.` is `from` itself.
    pub fn roots_below(&self, from: &Root, name: &str) -> Result<Vec<Root>> {
        let from = Root { path: Vec::new(), ..from.clone() };
        if name == "." {
            return Ok(vec![from]);
        }
        let objects = self.objects();
        let mut found = Vec::new();
        let mut open = vec![from];
        let mut visits = self.limits.entries_for(self.graph.held());
        while let Some(root) = open.pop() {
            visits = visits.checked_sub(1).ok_or_else(|| Error::limit("too many objects to look for that name"))?;
            if root.path.len() >= self.limits.max_depth {
                continue;
            }
            let node = objects.unwrap(root.node);
            let children = if module::is_module(self, node) {
                module::submodules(self, node)
            } else {
                objects.children(node).into_iter().map(|child| (self.element(child.label), child.node)).collect()
            };
            let in_optimizer = root.in_optimizer || self.is_optimizer(&objects.children(node));
            for (element, child) in children.into_iter().rev() {
                let mut path = root.path.clone();
                path.push(element);
                let reached = join(&path);
                let root = Root { node: objects.unwrap(child), path, in_optimizer };
                if reached == name {
                    found.push(root);
                } else if name.strip_prefix(&reached).is_some_and(|rest| rest.starts_with('.')) {
                    open.push(root);
                }
            }
        }
        Ok(found)
    }
}
