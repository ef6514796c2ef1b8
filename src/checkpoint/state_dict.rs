//! Which mappings are state dicts, and which of their keys are names of parameters and buffers.
//!
//! torch marks what `state_dict()` of a module gives with `_metadata`. Without it, a mapping that directly holds tensors
//! is a state dict unless its keys, its tensors or the key that it lies under say otherwise: random number states,
//! optimizers, metrics, schedulers, callbacks. Wrong in one direction, a prefix stays; wrong in the other, a training run
//! no longer resumes: what torch, numpy or a library looks up by a fixed key is never a name.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::part_names::{Part, RandomState, part, random_state, words};
use crate::checkpoint::{Checkpoint, Container, Tensor, module};
use crate::pickle::{Graph, Node, NodeId, Pair};

/// What a mapping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A state dict.
    StateDict,
    /// It holds state dicts and what belongs to them: of its own keys only those of tensors with a dot in them are names.
    Checkpoint,
    /// A dict of values: no key is a name, but state dicts may lie below.
    Values,
    /// The state of an optimizer or a random number generator: nothing in it is a name.
    Closed,
}

/// Where a mapping lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Surroundings {
    /// Below the object that was asked for.
    pub inner: bool,
    /// Below a key that is for bookkeeping (`callbacks`).
    values: bool,
    /// Below a key that more often than not is (`loss`).
    maybe_values: bool,
    /// Below an attribute of an object, or what it was made with.
    attribute: bool,
    /// Directly below a key that is a device's name.
    device: bool,
}

/// Keys of an optimizer's state for one parameter (`torch/optim`, apex, bitsandbytes, transformers' Adafactor).
const OPTIMIZER_STATE: [&str; 18] = [
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "exp_avg_diff",
    "exp_avg_sq_row",
    "exp_avg_sq_col",
    "momentum_buffer",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "prev_grad",
    "neg_pre_grad",
    "qmap1",
    "qmap2",
    "absmax1",
    "absmax2",
    "base_optimizer_state",
];
/// Keys of statistics.
const STATISTICS: [&str; 10] = ["mean", "std", "var", "variance", "count", "min", "max", "median", "q01", "q99"];
/// numpy's bit generators.
const BIT_GENERATORS: [&str; 5] = ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"];

impl Surroundings {
    /// The same place, inside an object of some class: what it was made with and its attributes are its own affair.
    pub(super) fn in_object(self) -> Surroundings {
        Surroundings { attribute: true, ..self }
    }

    /// The place of a child; `None` where nothing below is a name.
    pub(super) fn below(self, label: Label, key: Option<&str>) -> Option<Surroundings> {
        let mut place = Surroundings { inner: true, device: false, ..self };
        match label {
            Label::Index(_) => return Some(place),
            Label::Attribute(_) | Label::State => place = place.in_object(),
            Label::Key(_) => {}
        }
        let Some(key) = key else { return Some(place) };
        let part = part(key);
        if OPTIMIZER_STATE.contains(&key) || matches!(part, Some(Part::Optimizer | Part::Random)) {
            return None;
        }
        if words(key).windows(2).any(|pair| pair == ["state", "dict"]) {
            (place.values, place.maybe_values) = (false, false);
        } else {
            place.values |= matches!(part, Some(Part::Bookkeeping | Part::Metric));
            place.maybe_values |= matches!(part, Some(Part::Beside | Part::MaybeBeside));
        }
        place.device = is_device(key);
        Some(place)
    }
}

/// `cuda:1`, as a key of generators' states.
fn is_device(key: &str) -> bool {
    let (kind, index) = key.split_once(':').unwrap_or((key, "0"));
    ["cpu", "cuda", "mps", "xpu", "npu", "hpu"].contains(&kind) && index.bytes().all(|byte| byte.is_ascii_digit())
}

/// Tells roles apart, and remembers what it saw on the way.
#[derive(Debug)]
pub(super) struct StateDicts<'a> {
    checkpoint: &'a Checkpoint,
    /// Objects that hold no tensors.
    tensorless: HashSet<NodeId>,
    /// Objects that are no parts of a checkpoint.
    partless: HashSet<NodeId>,
}

impl<'a> StateDicts<'a> {
    pub(super) fn of(checkpoint: &'a Checkpoint) -> Self {
        StateDicts { checkpoint, tensorless: HashSet::new(), partless: HashSet::new() }
    }

    fn tensor(&self, node: NodeId) -> Option<&'a Tensor> {
        self.checkpoint.tensor(self.checkpoint.tensors.of(self.checkpoint.objects().unwrap(node))?)
    }

    /// What a mapping with these assignments is.
    pub(super) fn role(&mut self, node: NodeId, entries: &[Pair], place: Surroundings) -> Role {
        let checkpoint = self.checkpoint;
        let children: Vec<Child> =
            entries.iter().map(|entry| Child { label: Label::Key(entry.key), node: entry.value }).collect();
        if self.is_marked(node) || self.is_archive(node) {
            return Role::StateDict;
        }
        let named = entries.iter().filter_map(|entry| Some((checkpoint.graph.str(entry.key)?, entry.value)));
        let named: Vec<(Cow<'_, str>, NodeId)> = named.collect();
        if checkpoint.is_optimizer(&children) || is_closed(&named) {
            return Role::Closed;
        }
        let tensors: Vec<(&str, &Tensor)> =
            named.iter().filter_map(|(name, value)| Some((&**name, self.tensor(*value)?))).collect();
        let may_be_random = |(_, tensor): &(&str, &Tensor)| random_state(tensor) != RandomState::No;
        if place.device && !tensors.is_empty() && tensors.iter().all(may_be_random) {
            return Role::Closed;
        }
        let has_dots = tensors.iter().any(|(name, _)| name.contains('.'));
        let holds_parts = tensors.is_empty()
            || named.iter().any(|(name, value)| {
                !name.contains('.') && !is_extra_state(name) && self.is_part_of_checkpoint(*value)
            });
        if named.iter().any(|(name, value)| self.is_rng_state(name, *value)) {
            let holds_weights = has_dots || tensors.iter().any(|(_, tensor)| is_floating(tensor));
            // numpy's state holds an array: no part of a checkpoint, but nothing that has names either
            return match (holds_parts, holds_weights) {
                (true, _) => Role::Checkpoint,
                (false, true) => Role::StateDict,
                (false, false) => Role::Closed,
            };
        }
        if holds_parts {
            return if tensors.is_empty() { Role::Values } else { Role::Checkpoint };
        }
        let only_numbers = tensors.iter().all(|(_, tensor)| tensor.shape.is_empty());
        let only_tensors = named
            .iter()
            .all(|(name, value)| is_extra_state(name) || *value == Graph::NONE || self.tensor(*value).is_some());
        let is_statistics = tensors.iter().all(|(name, _)| STATISTICS.contains(name));
        let is_values = match place.inner {
            false => only_numbers && !only_tensors && !has_dots,
            true => {
                place.values
                    || only_numbers
                    || !has_dots && (place.maybe_values || place.attribute || is_statistics || !only_tensors)
                    || tensors.iter().all(|(name, _)| is_device(name))
            }
        };
        if is_values { Role::Values } else { Role::StateDict }
    }

    /// Whether torch made it: `state_dict()` of a module gives a dict with this attribute.
    fn is_marked(&self, node: NodeId) -> bool {
        let objects = self.checkpoint.objects();
        objects.attribute(node, "_metadata").is_some_and(|metadata| objects.assignments(metadata).is_some())
    }

    /// Whether each key is the name of a member of an archive, which may be renamed as any other.
    fn is_archive(&self, node: NodeId) -> bool {
        self.checkpoint.container() == Container::Npz && node == self.checkpoint.root
    }

    /// Whether a key of a mapping of this role is a name of a parameter or buffer.
    pub(super) fn is_name(&self, node: NodeId, role: Role, key: &str, value: NodeId) -> bool {
        let (tensor, has_dot) = (self.tensor(value), key.contains('.'));
        match role {
            Role::Values | Role::Closed => false,
            Role::Checkpoint => has_dot && tensor.is_some() && !self.is_rng_state(key, value),
            Role::StateDict if self.is_archive(node) => true,
            Role::StateDict if self.is_rng_state(key, value) => false,
            Role::StateDict => {
                has_dot || tensor.is_some() || is_extra_state(key) || {
                    // a packed parameter, or what a subclass of tensor is pickled as
                    let objects = self.checkpoint.objects();
                    self.is_marked(node) && !objects.is_plain_scalar(value) && objects.assignments(value).is_none()
                }
            }
        }
    }

    /// Whether a value makes the mapping that holds it more than a state dict: a mapping or module with tensors below it, an
    /// optimizer, or a sequence of such.
    fn is_part_of_checkpoint(&mut self, value: NodeId) -> bool {
        let (checkpoint, objects) = (self.checkpoint, self.checkpoint.objects());
        let mut seen = HashSet::new();
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            let node = objects.unwrap(value);
            let is_leaf = checkpoint.tensors.of(node).is_some() || objects.is_plain_scalar(node);
            if is_leaf || self.partless.contains(&node) || !seen.insert(node) {
                continue;
            }
            if objects.assignments(node).is_some() || module::is_module(checkpoint, node) {
                if checkpoint.is_optimizer(&objects.children(node)) || self.holds_tensors(node) {
                    return true;
                }
            } else {
                open.extend(objects.elements(node).unwrap_or_default());
            }
        }
        self.partless.extend(seen);
        false
    }

    /// Whether a tensor lies anywhere below an object. However often it is asked, no object is searched in vain twice.
    fn holds_tensors(&mut self, node: NodeId) -> bool {
        let (checkpoint, objects) = (self.checkpoint, self.checkpoint.objects());
        let mut seen = HashSet::from([node]);
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if checkpoint.tensors.of(node).is_some() {
                return true;
            }
            if self.tensorless.contains(&node) {
                continue;
            }
            let below = objects.children(node).into_iter().map(|child| objects.unwrap(child.node));
            open.extend(below.filter(|child| !objects.is_plain_scalar(*child) && seen.insert(*child)));
        }
        self.tensorless.extend(seen);
        false
    }

    /// Whether a value is the state of a random number generator: torch's tensor, numpy's tuple, Python's.
    fn is_rng_state(&self, key: &str, value: NodeId) -> bool {
        let graph = &self.checkpoint.graph;
        if let Some(tensor) = self.tensor(value) {
            let says_so = || {
                let words = words(key);
                let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
                has(&["rng", "random", "seed", "generator"]) || is_device(key)
            };
            return match random_state(tensor) {
                // quantized layers have parameters of bytes, in any number
                RandomState::Likely => !key.contains('.') || says_so(),
                RandomState::Possible => says_so(),
                RandomState::No => false,
            };
        }
        match graph.tuple(value) {
            // `numpy.random.get_state()`
            Some([kind, _, ..]) if graph.str_or_bytes(*kind).is_some_and(|k| BIT_GENERATORS.contains(&&*k)) => true,
            // `random.getstate()`
            Some([version, state, _]) => {
                matches!(graph.node(*version), Node::Int(2 | 3)) && graph.tuple(*state).is_some_and(|s| s.len() == 625)
            }
            _ => false,
        }
    }
}

/// What a module's `get_extra_state()` gave.
pub(super) fn is_extra_state(name: &str) -> bool {
    name.strip_suffix("_extra_state").is_some_and(|module| module.is_empty() || module.ends_with('.'))
}

fn is_floating(tensor: &Tensor) -> bool {
    tensor.dtype.as_ref().is_some_and(|dtype| dtype.is_floating())
}

/// Whether the keys are those of an optimizer (flattened, as `torch.distributed.checkpoint.state_dict` does it, or of one
/// parameter) or of numpy's generators.
fn is_closed(named: &[(Cow<'_, str>, NodeId)]) -> bool {
    let has = |wanted: &dyn Fn(&str) -> bool| named.iter().any(|(name, _)| wanted(name));
    has(&|name| OPTIMIZER_STATE.contains(&name) || name == "bit_generator")
        || has(&|name| name.starts_with("state.")) && has(&|name| name.starts_with("param_groups."))
        || named.len() == 2 && has(&|name| name == "key") && has(&|name| name == "pos")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        assert!(["cpu", "cuda:0", "mps:12"].iter().all(|key| is_device(key)));
        assert!(["cpu.weight", "cuda:a", "weight"].iter().all(|key| !is_device(key)));
    }

    #[test]
    fn places_by_the_keys_above() {
        let below = |keys: &[&str]| {
            keys.iter().try_fold(Surroundings::default(), |place, key| place.below(Label::Key(Graph::NONE), Some(key)))
        };
        for closed in [&["optimizer"][..], &["last_optimizer_state"], &["a", "rng_state"], &["x", "exp_avg"]] {
            assert_eq!(below(closed), None, "{closed:?}");
        }
        assert!(below(&["callbacks", "EMA"]).is_some_and(|place| place.values));
        assert!(below(&["callbacks", "EMA", "state_dict"]).is_some_and(|place| !place.values));
        assert!(below(&["dino_loss"]).is_some_and(|place| place.maybe_values && !place.values));
        assert_eq!(below(&["model", "encoder"]), Some(Surroundings { inner: true, ..Surroundings::default() }));
    }
}
