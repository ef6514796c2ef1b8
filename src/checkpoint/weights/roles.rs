//! What names, classes and contents say of the part that something plays in a checkpoint. Names of what is no model stand
//! in `checkpoint/part_names.rs`.

use crate::checkpoint::names::Element;
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::part_names::{Part, RandomState, part, random_state, without_number, words};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::pickle::NodeId;

/// The part that a container plays, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Never weights: optimizers, random number states, callbacks.
    Never,
    /// No weights beside a model, though a model may have parts of that name: losses, normalizers.
    Beside,
    /// A model, as training scripts call it, or the shadow parameters of one.
    Model,
    /// One of several models: the generator, the teacher.
    OneOfSeveral,
    /// The name says nothing.
    Unknown,
}

/// The part that a tensor plays, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorRole {
    /// A parameter or buffer of a layer.
    Parameter,
    /// A loss, a metric, a state of random numbers, weights of classes.
    Other,
    /// The name says nothing.
    Unknown,
}

const MODELS: &[&str] = &["module", "model", "net", "network", "parameters", "params", "shadow", "weights"];
const MODEL_PHRASES: &[&[&str]] = &[&["state", "dict"], &["shadow", "params"]];

const SEVERAL: &[&str] = &[
    "actor",
    "critic",
    "dis",
    "disc",
    "discriminator",
    "ema",
    "gen",
    "generator",
    "policy",
    "student",
    "swa",
    "target",
    "teacher",
];

/// Names of tensors beside a model that are no parameters of it.
const TENSORS_BESIDE: &[&str] = &[
    "acc",
    "acc1",
    "accuracy",
    "best",
    "count",
    "decay",
    "epoch",
    "iter",
    "iteration",
    "max",
    "mean",
    "min",
    "score",
    "std",
    "step",
    "steps",
    "updates",
    "var",
];

fn has_word(words: &[String], known: &[&str]) -> bool {
    words.iter().any(|word| known.contains(&without_number(word)))
}

fn has_phrase(words: &[String], phrases: &[&[&str]]) -> bool {
    phrases.iter().any(|phrase| words.windows(phrase.len()).any(|part| part.iter().zip(*phrase).all(|(a, b)| a == b)))
}

/// The generator and the discriminator: `G`, `netD`, `G_ema`, but not a key `d`.
fn has_initial(name: &str) -> bool {
    let parts = name.split(|c: char| !c.is_alphanumeric());
    parts.into_iter().any(|part| ["G", "D", "Gs"].contains(&part.strip_prefix("net").unwrap_or(part)))
}

/// What a container's name says.
pub(super) fn of_container(name: &str) -> Role {
    let words = words(name);
    match part(name) {
        Some(Part::Optimizer | Part::Random | Part::Bookkeeping) => return Role::Never,
        Some(Part::Metric | Part::Beside) => return Role::Beside,
        Some(Part::MaybeBeside) | None => {}
    }
    match () {
        () if has_word(&words, SEVERAL) || has_initial(name) => Role::OneOfSeveral,
        () if has_word(&words, MODELS) || has_phrase(&words, MODEL_PHRASES) => Role::Model,
        () => Role::Unknown,
    }
}

/// Whether something on the way to a tensor, or a tensor at the top, says that it is no part of a model. `root` is where
/// the way begins.
pub(in crate::checkpoint) fn is_beside(root: &[Element], path: &[Element]) -> bool {
    let above = path.len().saturating_sub(usize::from(!(root.is_empty() && path.len() == 1)));
    let mut in_model = false;
    for element in root.iter().chain(path.iter().take(above)) {
        let Element::Text(name) = element else { continue };
        match of_container(name) {
            // the name of a layer's tensor: a model may have a part called `loss`
            _ if name.contains('.') => {}
            Role::Never => return true,
            Role::Beside if !in_model => return true,
            Role::Model => in_model = true,
            _ => {}
        }
    }
    false
}

/// What a tensor's name says.
pub(super) fn of_tensor(name: &str) -> TensorRole {
    let leaf = name.rsplit('.').next().unwrap_or_default();
    let is_parameter = ["weight", "bias", "kernel", "running_mean", "running_var", "num_batches_tracked"]
        .contains(&leaf)
        || ["weight_", "bias_", "in_proj_"].iter().any(|beginning| leaf.starts_with(beginning))
            && leaf != "weight_decay";
    if is_parameter {
        return TensorRole::Parameter;
    }
    let words = words(name);
    let is_other = has_word(&words, TENSORS_BESIDE) || matches!(of_container(name), Role::Never | Role::Beside);
    if is_other { TensorRole::Other } else { TensorRole::Unknown }
}

/// Objects of these packages hold arrays of their own affairs; so do losses and metrics that are modules.
pub(super) fn is_other_class(checkpoint: &Checkpoint, node: NodeId, is_top: bool) -> bool {
    let Some((module, name)) = checkpoint.objects().class(node) else { return false };
    let package = module.split('.').next().unwrap_or_default();
    let class = name.rsplit('.').next().unwrap_or_default();
    let is_average = (&*module, class) == ("torch.optim.swa_utils", "AveragedModel");
    if is_average {
        return false;
    }
    ["pandas", "sklearn", "scipy", "xgboost", "lightgbm", "catboost", "torchmetrics", "random"].contains(&package)
        || ["torch.optim", "torch.utils.data"].iter().any(|of| module.starts_with(of))
        || !is_top
            && ["Loss", "Criterion", "Optimizer", "Scheduler", "Sampler"].iter().any(|ending| class.ends_with(ending))
}

/// A state of torch's random numbers: bytes in numbers that no parameters have.
pub(super) fn is_random_state(tensor: &Tensor) -> bool {
    random_state(tensor) != RandomState::No
}

/// Dicts by the keys that only they have: optimizers, schedulers, scalers, states of Python's, numpy's and torch's
/// random numbers.
pub(super) fn is_bookkeeping(checkpoint: &Checkpoint, children: &[Child]) -> bool {
    if children.len() >= 64 {
        return false;
    }
    let keys: Vec<_> = children
        .iter()
        .filter_map(|child| match child.label {
            Label::Key(key) | Label::Attribute(key) => checkpoint.graph.str_or_bytes(key),
            _ => None,
        })
        .collect();
    BOOKKEEPING.iter().any(|wanted| wanted.iter().all(|name| keys.iter().any(|key| key == name)))
}

const BOOKKEEPING: &[&[&str]] = &[
    &["state", "param_groups"],
    &["last_epoch", "_step_count"],
    &["base_lrs", "last_epoch"],
    &["scale", "growth_factor"],
    &["python", "numpy", "torch"],
    &["torch", "cuda", "numpy"],
    &["bit_generator", "state"],
    &["exp_avg", "exp_avg_sq"],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_containers() {
        let cases: &[(&str, Role)] = &[
            ("optimizer_states", Role::Never),
            ("optimG", Role::Never),
            ("opt", Role::Never),
            ("opt_model", Role::Model),
            ("lr_net", Role::Model),
            ("lr_schedulers", Role::Never),
            ("cuda_rng_state", Role::Never),
            ("random_states", Role::Never),
            ("dino_loss", Role::Beside),
            ("dinoLoss", Role::Beside),
            ("class_weights", Role::Beside),
            ("state_dict", Role::Model),
            ("model1", Role::Model),
            ("model_state_dict", Role::Model),
            ("shadow_params", Role::Model),
            ("G_ema", Role::OneOfSeveral),
            ("netD", Role::OneOfSeveral),
            ("state_dict_ema", Role::OneOfSeveral),
            ("conv1", Role::Unknown),
            ("lossless", Role::Unknown),
            ("d", Role::Unknown),
            ("reward_mean_std", Role::Beside),
            ("masks", Role::Beside),
            ("mask_decoder", Role::Unknown),
            ("", Role::Unknown),
        ];
        for (name, role) in cases {
            assert_eq!(of_container(name), *role, "{name}");
        }
    }

    #[test]
    fn what_lies_beside_a_model() {
        let path = |names: &[&str]| -> Vec<Element> { names.iter().map(|n| Element::Text((*n).to_owned())).collect() };
        let beside: [&[&str]; 5] = [
            &["loss"],
            &["metrics", "acc"],
            &["grad_scaler", "scale"],
            &["callbacks", "EMA", "w"],
            &["model", "optimizer", "w"],
        ];
        let inside: [&[&str]; 5] = [
            &["loss.logvar"],
            &["model", "loss", "w"],
            &["loss.fc.weight", "_data"],
            &["w", "loss"],
            &["model", "history", "w"],
        ];
        assert!(beside.iter().all(|names| is_beside(&[], &path(names))));
        assert!(inside.iter().all(|names| !is_beside(&[], &path(names))));
        assert!(is_beside(&path(&["loss"]), &path(&["w"])));
        assert!(!is_beside(&path(&["model"]), &path(&["loss"])));
    }

    #[test]
    fn names_of_tensors() {
        use TensorRole::{Other, Parameter, Unknown};
        let cases = [
            ("weight", Parameter),
            ("rnn.weight_ih_l0", Parameter),
            ("weight_decay", Other),
            ("best_acc1", Other),
            ("class_weight", Other),
            ("rng_state", Other),
            ("loss", Other),
            ("prompt", Unknown),
        ];
        for (name, role) in cases {
            assert_eq!(of_tensor(name), role, "{name}");
        }
    }
}
