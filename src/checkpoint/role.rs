//! What a tensor counts as: a parameter, a buffer, a part of an optimizer's state, or nothing of these.
//!
//! The numbers are those of torch: `sum(p.numel() for p in model.parameters())` and the same over `model.buffers()`. A
//! module says itself which is which (`torch/nn/modules/module.py`). A state dict does not, and is judged by names and
//! dtypes: `register_buffer` of torch's own layers gives `running_mean`, `running_var` and `num_batches_tracked`
//! (`torch/nn/modules/batchnorm.py`), and an optimizer cannot train integers.

use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::tensor::{Kind, Tensor};
use crate::checkpoint::{Checkpoint, Container};
use crate::dtype::Class;
use crate::pickle::NodeId;

/// What a tensor counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// A weight.
    Parameter,
    /// What a module keeps beside its parameters.
    Buffer,
    /// A part of an optimizer's state.
    Optimizer,
    /// Anything else: random number states, attributes of modules, integers outside state dicts.
    #[default]
    Neither,
}

/// Buffers of torch's own layers, by the last part of their names.
const BUFFERS: &[&str] = &["running_mean", "running_var", "num_batches_tracked"];

impl Role {
    /// Of a tensor that no module claims; `name` is its last path element, `in_state_dict` is asked for integers only.
    pub(super) fn by_name(
        checkpoint: &Checkpoint,
        tensor: &Tensor,
        name: &str,
        in_state_dict: impl FnOnce() -> bool,
    ) -> Self {
        let last = name.rsplit('.').next().unwrap_or(name);
        // torch.export says of each weight whether it is a parameter
        let is_exported_buffer = checkpoint.container() == Container::Pt2 && tensor.kind == Kind::Tensor;
        if BUFFERS.contains(&last) || is_exported_buffer {
            return Role::Buffer;
        }
        let Some(dtype) = &tensor.dtype else { return Role::Neither };
        match dtype.class() {
            _ if dtype.is_floating() => Role::Parameter,
            Some(Class::Signed | Class::Unsigned | Class::Bool) if name.contains("rng") => Role::Neither,
            Some(Class::Signed | Class::Unsigned | Class::Bool) => match in_state_dict() {
                true => Role::Buffer,
                false => Role::Neither,
            },
            _ => Role::Neither,
        }
    }

    /// Of a tensor in a module's `_parameters`.
    pub(super) fn of_parameter(tensor: &Tensor) -> Self {
        match tensor.dtype.as_ref().is_some_and(|dtype| dtype.is_floating()) {
            true => Role::Parameter,
            false => Role::Neither,
        }
    }
}

impl Checkpoint {
    /// Whether a mapping is a state dict: torch left its `_metadata` there, or its string keys name nothing but tensors,
    /// a floating one with dimensions among them. Dicts of random number states have none.
    pub(super) fn is_state_dict(&self, node: NodeId, children: &[Child]) -> bool {
        let objects = self.objects();
        if objects.items(node).is_none() {
            return false;
        }
        if objects.attribute(node, "_metadata").is_some() {
            return true;
        }
        let mut floats = false;
        let all_tensors = children.iter().all(|child| {
            let Label::Key(key) = child.label else { return false };
            let Some(name) = self.graph.str_or_bytes(key) else { return false };
            match self.tensors.of(objects.unwrap(child.node)).and_then(|id| self.tensors.get(id)) {
                Some(tensor) => {
                    floats |=
                        !tensor.shape.is_empty() && tensor.dtype.as_ref().is_some_and(|dtype| dtype.is_floating());
                    true
                }
                None => name == "__metadata__" || name.rsplit('.').next() == Some("_extra_state"),
            }
        });
        all_tensors && floats
    }

    /// Whether what lies below is an optimizer's, whatever holds it: the dict that `optimizer.state_dict()` gives, an
    /// optimizer pickled whole, or a dict whose keys torch.distributed made of both (`state.fc.weight.exp_avg`).
    pub(super) fn holds_optimizer(&self, children: &[Child]) -> bool {
        let text = |child: &Child| match child.label {
            Label::Key(key) | Label::Attribute(key) => self.graph.str_or_bytes(key),
            _ => None,
        };
        if children.len() < 64 {
            let has = |name: &str| children.iter().any(|child| text(child).as_deref() == Some(name));
            if has("state") && has("param_groups") {
                return true;
            }
        }
        let begins = |child: Option<&Child>, with: &str| {
            child.and_then(text).is_some_and(|key| key.strip_prefix(with).is_some_and(|rest| rest.contains('.')))
        };
        begins(children.first(), "state.") && begins(children.last(), "param_groups.")
    }
}

/// Whether a key is what training scripts call their optimizer's state.
pub(super) fn names_optimizer(key: &str) -> bool {
    matches!(key, "optim" | "optimizer" | "optimizers" | "opt_state") || key.starts_with("optimizer_")
}
