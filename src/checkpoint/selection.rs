//! Which tensors go into a weights-only format, and what a file holds besides.

use crate::checkpoint::names::{Element, Entry, Item, join};
use crate::checkpoint::tensor::{Tensor, TensorId};
use crate::checkpoint::{Checkpoint, Root};
use crate::error::{Error, ErrorKind, Result};
use crate::pickle::NodeId;

/// One tensor of the weights.
#[derive(Debug, Clone)]
pub struct Weight {
    /// Its name below the weights' root.
    pub name: String,
    /// The object.
    pub node: NodeId,
    /// What is known of it.
    pub id: TensorId,
}

/// The weights of a checkpoint, and what is not among them.
#[derive(Debug)]
pub struct Weights {
    /// The mapping or module they are in.
    pub root: Root,
    /// Its tensors in order; of modules what `state_dict()` gives.
    pub tensors: Vec<Weight>,
    /// What lies in the file besides: names and, for what holds tensors, how many.
    pub left_out: Vec<(String, Option<usize>)>,
    /// Wrappers in whose stead their parts are taken: name, class and the parts' names below it.
    pub by_parts: Vec<(String, String, Vec<String>)>,
    /// Values among what is left out: names from the top object on, and their nodes.
    pub values: Vec<(String, NodeId)>,
}

/// Choices that an error lists.
const MAX_CHOICES: usize = 8;

impl Checkpoint {
    /// The one place of the weights. An error lists the choices for `--root` where there are several.
    pub fn weights_root(&self) -> Result<Root> {
        let mut found = self.weights_places()?;
        if found.len() > 1 {
            let shown: Vec<String> = found.iter().take(MAX_CHOICES).map(|root| join(&root.path)).collect();
            let more = found.len().saturating_sub(MAX_CHOICES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let message = format!("holds several sets of weights: choose --root {}{more}", shown.join(", --root "));
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        found.pop().ok_or_else(|| Error::new(ErrorKind::Unsupported, "holds no tensors outside optimizers"))
    }

    /// The tensors below `root` whose names `takes`, and what is left out.
    pub fn select_weights(&self, root: Root, takes: &dyn Fn(&str) -> bool) -> Result<Weights> {
        let (tensors, left_out, by_parts, values) = Default::default();
        let mut weights = Weights { tensors, left_out, by_parts, values, root };
        let prefix = join(&weights.root.path);
        let full = |name: &str| match (prefix.as_str(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        };
        let mut file: Option<Vec<Element>> = None;
        for entry in self.names(&weights.root)?.entries {
            let name = entry.name();
            // what a byte string holds is left out with it
            let is_in_file = file.as_ref().is_some_and(|file| entry.path.starts_with(file));
            if is_in_file || self.belongs_to_wrapper(&entry) {
                continue;
            }
            if entry.item == Item::Value && self.tensors.embedded_in(entry.node).is_some() {
                file = Some(entry.path.clone());
            }
            match entry.item {
                Item::Tensor(id, true)
                    if self.is_taken_by_parts(id) && (!entry.in_optimizer || weights.root.in_optimizer) =>
                {
                    let tensor = self.tensors.get(id);
                    let class = tensor.and_then(|tensor| tensor.class.clone()).unwrap_or_default();
                    let parts = tensor.map(|tensor| self.part_names(tensor)).unwrap_or_default();
                    weights.by_parts.push((name, class, parts));
                }
                Item::Tensor(id, true) if takes(&name) && (weights.root.in_optimizer || !entry.in_optimizer) => {
                    weights.tensors.push(Weight { name, node: entry.node, id });
                }
                item => {
                    // an optimizer is named once, with how many tensors it has
                    let in_optimizer = entry.in_optimizer && !weights.root.in_optimizer;
                    let whole = in_optimizer.then(|| entry.path.first().map(ToString::to_string)).flatten();
                    let shown = full(whole.as_deref().unwrap_or(&name));
                    let is_tensor = matches!(item, Item::Tensor(..));
                    match weights.left_out.last_mut().filter(|last| in_optimizer && last.0 == shown) {
                        Some((_, count)) => *count = Some(count.unwrap_or(0) + usize::from(is_tensor)),
                        None => weights.left_out.push((shown, in_optimizer.then_some(usize::from(is_tensor)))),
                    }
                    if !is_tensor {
                        weights.values.push((full(&name), entry.node));
                    }
                }
            }
        }
        self.siblings(&mut weights)?;
        Ok(weights)
    }

    /// A wrapper has no elements of its own: its parts are taken under their own names.
    fn is_taken_by_parts(&self, id: TensorId) -> bool {
        self.tensors.get(id).is_some_and(|tensor| tensor.wraps && tensor.parts().next().is_some())
    }

    /// True for what lies below a wrapper, or below a tensor that shows the facts of what it wraps, and is none of its
    /// parts.
    fn belongs_to_wrapper(&self, entry: &Entry) -> bool {
        let outer = entry.inside.and_then(|id| self.tensors.get(id));
        outer.is_some_and(|outer| outer.wraps && !outer.parts().any(|part| *part == entry.node))
    }

    /// What lies beside the way from the top object to the root.
    fn siblings(&self, weights: &mut Weights) -> Result<()> {
        let objects = self.objects();
        let mut node = self.root;
        let mut path: Vec<Element> = Vec::new();
        for step in weights.root.path.clone() {
            let mut next = None;
            for child in objects.children(objects.unwrap(node)) {
                let element = self.element(child.label);
                if element == step {
                    next = Some(child.node);
                    continue;
                }
                path.push(element);
                let below = Root { node: objects.unwrap(child.node), path: path.clone(), in_optimizer: false };
                let mut tensors = 0;
                for entry in self.names(&below)?.entries {
                    match entry.item {
                        Item::Tensor(..) => tensors += 1,
                        _ => {
                            let whole = path.iter().chain(&entry.path).cloned().collect::<Vec<_>>();
                            weights.values.push((join(&whole), entry.node));
                        }
                    }
                }
                weights.left_out.push((join(&path), Some(tensors).filter(|tensors| *tensors > 0)));
                path.pop();
            }
            let Some(next) = next else { break };
            node = next;
            path.push(step);
        }
        Ok(())
    }

    /// The tensor of a weight.
    pub fn weight(&self, weight: &Weight) -> Result<&Tensor> {
        self.tensors.get(weight.id).ok_or_else(|| Error::data("no such tensor"))
    }
}
