//! The parts of a checkpoint by the names that training scripts give them: one table for who looks for the weights
//! (`weights/roles.rs`) and for who renames (`state_dict.rs`).
//!
//! Names are those of `torch.save({...})` in PyTorch's tutorials and examples, Lightning, Megatron, fairseq, diffusers,
//! timm, detectron2, mmengine and others.

use crate::checkpoint::Tensor;
use crate::dtype::{DType, Known};

/// What a name says that a part is, when it is no model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The state of an optimizer.
    Optimizer,
    /// States of random number generators.
    Random,
    /// Schedulers, scalers, callbacks, loops, arguments, data: what a training run needs to go on.
    Bookkeeping,
    /// Metrics, which a model may hold.
    Metric,
    /// Losses, statistics, normalizers: mostly beside a model, at times a module or a part of one.
    Beside,
    /// The same, but a layer is called that as often.
    MaybeBeside,
}

/// Words, in their singular, and with how they begin: `optim*`.
const WORDS: &[(Part, &[&str])] = &[
    (Part::Optimizer, &["optim*"]),
    (Part::Random, &["rng", "rngstate*"]),
    (
        Part::Bookkeeping,
        &[
            "sched*",
            "lrsched*",
            "gradscaler*",
            "callback",
            "datamodule",
            "dataloader",
            "hparam",
            "hyperparameter",
            "replay",
            "scaler",
        ],
    ),
    (Part::Metric, &["metric"]),
    (Part::Beside, &["criterion", "grad", "gradient", "loss", "normalizer", "statistic", "stat"]),
    (Part::MaybeBeside, &["accuracy", "normalization", "random", "score"]),
];

/// Several words in a row, the last of them in its singular.
const PHRASES: &[(Part, &[&str])] = &[
    (Part::Optimizer, &["exp", "avg"]),
    (Part::Optimizer, &["momentum", "buffer"]),
    (Part::Optimizer, &["opt", "state"]),
    (Part::Optimizer, &["param", "group"]),
    (Part::Random, &["random", "state"]),
    (Part::Bookkeeping, &["grad", "scaler"]),
    (Part::Bookkeeping, &["hyper", "param"]),
    (Part::Bookkeeping, &["hyper", "parameter"]),
    (Part::Beside, &["class", "weight"]),
    (Part::Beside, &["obs", "rms"]),
    (Part::Beside, &["ret", "rms"]),
    (Part::Beside, &["return", "rms"]),
    (Part::Beside, &["reward", "rms"]),
    (Part::Beside, &["mean", "std"]),
];

/// Words at the end of a name, in their singular: `train_config`, but not `config_encoder`.
const LAST_WORDS: &[(Part, &[&str])] = &[
    (Part::Bookkeeping, &["arg", "argument", "cfg", "config"]),
    (Part::Beside, &["fisher", "history", "log", "logging", "mask"]),
];

/// Whole names, in their singular: words of them are in names of models too.
const NAMES: &[(Part, &[&str])] = &[(
    Part::Bookkeeping,
    &[
        "amp", "dataset", "hyper", "logger", "loop", "meter", "opt", "optD", "optG", "opt_d", "opt_g", "sampler",
        "scalar", "seed",
    ],
)];

/// Names of roles are short.
const MAX_NAME_CHARS: usize = 80;

/// The words of a name: `optimizerG_state` is `optimizer`, `g`, `state`.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_is_lower = false;
    for c in name.chars().take(MAX_NAME_CHARS) {
        let begins = !c.is_alphanumeric() || before_is_lower && c.is_uppercase();
        if begins && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        before_is_lower = c.is_lowercase() || c.is_ascii_digit();
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `model2` is a `model`.
pub(super) fn without_number(word: &str) -> &str {
    let stem = word.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.is_empty() { word } else { stem }
}

/// Whether a word is this one, or more of it.
fn is_word(word: &str, known: &str) -> bool {
    let word = without_number(word);
    match known.strip_suffix('*') {
        Some(beginning) => word.starts_with(beginning),
        None => word.strip_prefix(known).is_some_and(|rest| matches!(rest, "" | "s" | "es")),
    }
}

fn has_phrase(words: &[String], phrase: &[&str]) -> bool {
    let Some((last, first)) = phrase.split_last() else { return false };
    words.windows(phrase.len()).any(|part| {
        part.iter().zip(first).all(|(word, known)| word == known) && part.last().is_some_and(|word| is_word(word, last))
    })
}

/// What a name says, nothing where it may be a model's. Of several, what is the least of a model counts.
pub(super) fn part(name: &str) -> Option<Part> {
    if let Some((part, _)) = NAMES.iter().find(|(_, names)| names.iter().any(|known| is_word(name, known))) {
        return Some(*part);
    }
    let words = words(name);
    let of_last = |(part, known): &(Part, &[&str])| {
        words.last().is_some_and(|last| known.iter().any(|known| is_word(last, known))).then_some(*part)
    };
    let of_word = |(part, known): &(Part, &[&str])| {
        let is_loss = |word: &String| *part == Part::Beside && word.ends_with("loss");
        words.iter().any(|word| is_loss(word) || known.iter().any(|known| is_word(word, known))).then_some(*part)
    };
    let of_phrase = |(part, phrase): &(Part, &[&str])| has_phrase(&words, phrase).then_some(*part);
    let found = WORDS.iter().filter_map(of_word).chain(PHRASES.iter().filter_map(of_phrase));
    found.chain(LAST_WORDS.iter().filter_map(of_last)).min_by_key(|part| *part as u8)
}

/// Bytes of the states of torch's generators (`torch/csrc/Generator.cpp`, `ATen/cuda/CUDAGeneratorImpl.cpp`): the CPU's
/// until 1.4 and since; CUDA's until 1.4, and until 1.12.
const RANDOM_BYTES: [i64; 4] = [5048, 5056, 816_016, 816];
/// The most bytes of a generator's state on an accelerator: 16 on CUDA and XPU, 44 on MPS.
const MAX_DEVICE_BYTES: i64 = 64;

/// How surely a tensor is the state of a random number generator, by its shape and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RandomState {
    /// Bytes in a number that hardly a parameter has.
    Likely,
    /// Few bytes, as the states of accelerators are.
    Possible,
    /// It is none.
    No,
}

/// Whether a tensor may be the state of one of torch's random number generators.
pub(super) fn random_state(tensor: &Tensor) -> RandomState {
    match (&tensor.dtype, tensor.shape.as_slice()) {
        (Some(DType::Known(Known::UInt8)), [bytes]) if RANDOM_BYTES.contains(bytes) => RandomState::Likely,
        (Some(DType::Known(Known::UInt8)), [1..=MAX_DEVICE_BYTES]) => RandomState::Possible,
        _ => RandomState::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_names() {
        assert_eq!(words("optimizerG_state-dict2"), ["optimizer", "g", "state", "dict2"]);
        assert_eq!(words("lrSchedulers_2"), ["lr", "schedulers", "2"]);
        assert_eq!(words("EMACallback{'monitor': 1}"), ["emacallback", "monitor", "1"]);
        assert_eq!(words("G_ema"), ["g", "ema"]);
        assert_eq!(words("netD"), ["net", "d"]);
        assert_eq!(words("..").len(), 0);
    }

    #[test]
    fn parts_of_checkpoints() {
        let cases = [
            ("optimizer", Some(Part::Optimizer)),
            ("last_optimizer_state", Some(Part::Optimizer)),
            ("optimG", Some(Part::Optimizer)),
            ("opt_states", Some(Part::Optimizer)),
            ("opt", Some(Part::Bookkeeping)),
            ("opt_model", None),
            ("cuda_rng_state", Some(Part::Random)),
            ("random_states", Some(Part::Random)),
            ("random", Some(Part::MaybeBeside)),
            ("lr_schedulers", Some(Part::Bookkeeping)),
            ("hyper_parameters", Some(Part::Bookkeeping)),
            ("hyper_encoder", None),
            ("amp", Some(Part::Bookkeeping)),
            ("amp_net", None),
            ("metrics", Some(Part::Metric)),
            ("dinoLoss", Some(Part::Beside)),
            ("losses", Some(Part::Beside)),
            ("loss_optimizer", Some(Part::Optimizer)),
            ("class_weights", Some(Part::Beside)),
            ("lossless", None),
            ("state_dict", None),
            ("model_state_dict", None),
            ("seed2", Some(Part::Bookkeeping)),
            ("train_config", Some(Part::Bookkeeping)),
            ("config_encoder", None),
            ("scalar_encoder", None),
            ("history", Some(Part::Beside)),
            ("mask_decoder", None),
            ("reward_mean_std", Some(Part::Beside)),
            ("", None),
        ];
        for (name, wanted) in cases {
            assert_eq!(part(name), wanted, "{name}");
        }
    }
}
