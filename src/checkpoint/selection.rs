//! Which tensors go into a weights-only format, and what a file holds besides.

use crate::checkpoint::names::{Element, Entry, Item, join};
use crate::checkpoint::tensor::{Tensor, TensorId};
use crate::checkpoint::weights::Found;
use crate::checkpoint::{Checkpoint, Root};
use crate::error::{Error, Result};
use crate::pickle::NodeId;

/// One tensor of the weights.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    /// Its name below the weights' root.
    pub name: String,
    /// The object.
    pub node: NodeId,
    /// What is known of it.
    pub id: TensorId,
}

/// The weights of a checkpoint, and what is not among them.
#[derive(Debug)]
pub(crate) struct Weights {
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

impl Checkpoint {
    /// The tensors below `root` whose names `takes`, and what is left out. Of modules those that `state_dict()` gives are
    /// meant, and none of optimizers; where there are no others, all.
    pub(crate) fn select_weights(&self, root: Root, takes: &dyn Fn(&str) -> bool) -> Result<Weights> {
        let (tensors, left_out, by_parts, values) = Default::default();
        let mut weights = Weights { tensors, left_out, by_parts, values, root };
        let prefix = join(&weights.root.path);
        let full = |name: &str| match (prefix.as_str(), name) {
            ("", "") => ".".to_owned(),
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        };
        let entries = self.names(&weights.root)?.entries;
        let is_top = weights.root.path.is_empty();
        let takes_all = is_top && self.find_weights()? == Found::Nothing;
        let takes_optimizers = weights.root.in_optimizer || takes_all;
        let has_state_dict = !takes_all && entries.iter().any(|entry| matches!(entry.item, Item::Tensor(_, true)));
        let mut file: Option<Vec<Element>> = None;
        for entry in entries {
            let name = entry.name();
            // what a byte string holds is left out with it
            let is_in_file = file.as_ref().is_some_and(|file| entry.path.starts_with(file));
            if is_in_file || self.belongs_to_wrapper(&entry) {
                continue;
            }
            if entry.item == Item::Value && !takes_all && self.tensors.embedded_in(entry.node).is_some() {
                file = Some(entry.path.clone());
            }
            match entry.item {
                Item::Tensor(id, in_state_dict)
                    if (in_state_dict || !has_state_dict)
                        && self.is_taken_by_parts(id)
                        && (takes_optimizers || !entry.in_optimizer) =>
                {
                    let tensor = self.tensors.get(id);
                    let class = tensor.and_then(|tensor| tensor.class.clone()).unwrap_or_default();
                    let parts = tensor.map(|tensor| self.part_names(tensor)).unwrap_or_default();
                    let is_taken =
                        |part: &String| takes(&format!("{name}{}{part}", if name.is_empty() { "" } else { "." }));
                    if parts.iter().any(is_taken) {
                        weights.by_parts.push((name, class, parts));
                    }
                }
                Item::Tensor(id, in_state_dict)
                    if (in_state_dict || !has_state_dict)
                        && takes(&name)
                        && (takes_optimizers || !entry.in_optimizer) =>
                {
                    weights.tensors.push(Weight { name, node: entry.node, id });
                }
                item => {
                    // an optimizer is named once, with how many tensors it has
                    let in_optimizer = entry.in_optimizer && !takes_optimizers;
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
        if self.is_among_names(&weights.root) {
            let outside = self.outside(&weights.root)?;
            weights.left_out.extend(outside.names);
            weights.values.extend(outside.values);
            return Ok(());
        }
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
                let below =
                    Root { node: objects.unwrap(child.node), path: path.clone(), in_optimizer: false, stem: None };
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
    pub(crate) fn weight(&self, weight: &Weight) -> Result<&Tensor> {
        self.tensors.get(weight.id).ok_or_else(|| Error::data("no such tensor"))
    }
}
