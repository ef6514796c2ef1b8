//! A Hugging Face folder: which of its files are the weights that its library takes, and what is left aside for them.
//!
//! Sources: `transformers/modeling_utils.py` and `transformers/utils/hub.py`, `diffusers/models/modeling_utils.py`,
//! `peft/utils/save_and_load.py`: safetensors before `.bin`, one file before an index of shards, and a variant (`fp16`)
//! only where it is asked for. It stands before the last ending of a file's name, and of an index's too
//! (`model.safetensors.index.fp16.json`); some write it into the name of what the index is of
//! (`model.fp16.safetensors.index.json`).

use crate::error::{Error, Result};

/// The libraries' names for one file of weights, as safetensors and as what `torch.save` writes.
const STEMS: &[[&str; 2]] = &[
    ["model", "pytorch_model"],
    ["diffusion_pytorch_model", "diffusion_pytorch_model"],
    ["adapter_model", "adapter_model"],
];
/// What names of indexes have before their variant and ending.
const INDEX: &str = ".index.";

/// What is read of a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Weights {
    /// One file.
    File(String),
    /// An index of shards.
    Index(String),
}

/// A file that could be the weights, or the index of those. The first in this order is taken, of one family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// The name of the safetensors file, without ending and variant.
    family: String,
    /// `fp16` and the like; none comes first.
    variant: Option<String>,
    is_bin: bool,
    is_index: bool,
    name: String,
}

/// Whether a file's name is that of an index of shards.
pub(crate) fn is_index(name: &str) -> bool {
    index_of(name).is_some()
}

/// What an index of that name is an index of, and its variant.
fn index_of(name: &str) -> Option<(&str, Option<&str>)> {
    let (of, ending) = name.rsplit_once(INDEX)?;
    match ending.strip_suffix("json")?.strip_suffix('.') {
        None if ending == "json" => Some((of, None)),
        Some(variant) if !variant.is_empty() && !variant.contains('.') => Some((of, Some(variant))),
        _ => None,
    }
}

impl Candidate {
    fn of(name: &str) -> Option<Self> {
        let index = index_of(name);
        let (of, outer) = index.unwrap_or((name, None));
        let (stem, ending) = of.rsplit_once('.')?;
        let (stem, inner) = match stem.split_once('.') {
            Some((stem, variant)) => (stem, Some(variant)),
            None => (stem, None),
        };
        let is_bin = ending == "bin";
        let family = STEMS.iter().find(|stems| stems.get(usize::from(is_bin)) == Some(&stem));
        let is_file = (is_bin || ending == "safetensors") && parts_of_shard(name).is_none();
        if index.is_none() && (family.is_none() || !is_file) {
            return None;
        }
        let family = family.and_then(|stems| stems.first()).copied().unwrap_or(stem);
        let variant = outer.or(inner).map(str::to_owned);
        Some(Candidate { family: family.to_owned(), variant, is_bin, is_index: index.is_some(), name: name.to_owned() })
    }
}

/// What is read of a folder with files of these names, and what is to say of that; nothing where there are no weights.
/// `Unsupported` when no library would know which to take.
pub(super) fn weights(names: &[String]) -> Result<Option<(Weights, Option<String>)>> {
    let mut found: Vec<Candidate> = names.iter().filter_map(|name| Candidate::of(name)).collect();
    found.sort();
    let Some((first, others)) = found.split_first() else { return Ok(None) };
    let is_of_another =
        |other: &&Candidate| other.family != first.family || first.variant.is_some() && other.variant != first.variant;
    if let Some(other) = others.iter().find(is_of_another) {
        let what = if first.is_index && other.is_index { "indexes of shards" } else { "files of weights" };
        let (first, second) = (&first.name, &other.name);
        return Err(Error::unsupported(format!("is a directory with several {what}; name one: {first}, {second}")));
    }
    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
    let are = if names.len() == 1 { "is" } else { "are" };
    let note = (!names.is_empty()).then(|| {
        format!("{} is read, as its library does; {} beside it {are} left aside", first.name, names.join(", "))
    });
    let name = first.name.clone();
    Ok(Some((if first.is_index { Weights::Index(name) } else { Weights::File(name) }, note)))
}

/// The parts of a shard's name: what comes before its number, and its ending (`model-00001-of-00002.safetensors`).
pub(crate) fn parts_of_shard(name: &str) -> Option<(&str, &str)> {
    let (before, count) = name.rsplit_once("-of-")?;
    let (stem, number) = before.rsplit_once('-')?;
    let (count, ending) = count.split_at_checked(count.find(|c: char| !c.is_ascii_digit())?)?;
    let is_number = |text: &str| text.len() >= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(number) && is_number(count)).then_some((stem, ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<Option<(Weights, Option<String>)>> {
        weights(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_file_that_the_library_takes() {
        let name = |names: &[&str]| {
            of(names).unwrap().map(|(Weights::File(name) | Weights::Index(name), note)| (name, note.is_some()))
        };
        let taken = |name: &str, noted| Some((name.to_owned(), noted));
        for (names, wanted) in [
            (&["config.json", "model.safetensors", "training_args.bin"][..], taken("model.safetensors", false)),
            (&["pytorch_model.bin", "optimizer.pt"], taken("pytorch_model.bin", false)),
            (&["pytorch_model.bin", "model.safetensors"], taken("model.safetensors", true)),
            (&["weights.pt", "config.json", "model-00001-of-00002.safetensors"], None),
            (&["a.safetensors.index.json"], taken("a.safetensors.index.json", false)),
            (
                &["model.safetensors.index.json", "pytorch_model.bin.index.json"],
                taken("model.safetensors.index.json", true),
            ),
            (&["model.safetensors", "pytorch_model.bin.index.json"], taken("model.safetensors", true)),
            (&["model.safetensors.index.json", "pytorch_model.bin"], taken("model.safetensors.index.json", true)),
            (
                &["model.safetensors.index.fp16.json", "model.fp16-00001-of-00002.safetensors"],
                taken("model.safetensors.index.fp16.json", false),
            ),
            (
                &["model.fp16.safetensors.index.json", "model.safetensors.index.json"],
                taken("model.safetensors.index.json", true),
            ),
            (
                &["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.fp16.bin"],
                taken("diffusion_pytorch_model.fp16.safetensors", true),
            ),
        ] {
            assert_eq!(name(names), wanted, "{names:?}");
        }
        assert!(of(&["model.safetensors", "adapter_model.bin"]).is_err());
        assert!(of(&["model.fp16.safetensors", "model.bf16.safetensors"]).is_err());
        let several = of(&["a.safetensors.index.json", "b.safetensors.index.json"]).unwrap_err().message();
        assert!(several.contains("several indexes of shards"), "{several}");
    }

    #[test]
    fn names_of_indexes_and_shards() {
        for name in ["model.safetensors.index.json", "a.index.json", "pytorch_model.bin.index.fp16.json"] {
            assert!(is_index(name), "{name}");
        }
        for name in ["index.json", "model.index.txt", "a.index.x.y.json", "a.index.xjson", "a.index..json"] {
            assert!(!is_index(name), "{name}");
        }
        assert_eq!(parts_of_shard("model-00001-of-00002.safetensors"), Some(("model", ".safetensors")));
        assert_eq!(parts_of_shard("a.fp16-00001-of-00002.bin"), Some(("a.fp16", ".bin")));
        assert_eq!(parts_of_shard("a-00001-of-00002.fp16.bin"), Some(("a", ".fp16.bin")));
        for name in ["model.safetensors", "one-of-two.bin", "a-00001-of-00002", "a-1-of-2.bin"] {
            assert_eq!(parts_of_shard(name), None, "{name}");
        }
    }
}
