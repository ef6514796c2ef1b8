//! A Hugging Face folder whose weights are one file: no index, and the files of a tokenizer or a training beside it.

use crate::error::{Error, Result};

/// The names of such files, each kind in the order in which the libraries look for them (`transformers/modeling_utils.py`,
/// `diffusers/models/modeling_utils.py`, `peft/utils/save_and_load.py`).
const KINDS: &[[&str; 2]] = &[
    ["model.safetensors", "pytorch_model.bin"],
    ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"],
    ["adapter_model.safetensors", "adapter_model.bin"],
];

/// The file with the weights among those of a folder, and what there is to say of the others; nothing where none is called
/// so.
pub(super) fn weights(names: &[String]) -> Result<Option<(&'static str, Option<String>)>> {
    let has = |name: &str| names.iter().any(|found| found == name);
    let mut found = KINDS.iter().filter(|kind| kind.iter().any(|name| has(name)));
    let Some(kind) = found.next() else { return Ok(None) };
    let [safetensors, bin] = *kind;
    if let Some(other) = found.next() {
        let first = if has(safetensors) { safetensors } else { bin };
        let second = other.iter().find(|name| has(name)).copied().unwrap_or_default();
        let message = format!("is a directory with several files of weights; name one: {first}, {second}");
        return Err(Error::unsupported(message));
    }
    Ok(Some(match (has(safetensors), has(bin)) {
        (true, true) => {
            (safetensors, Some(format!("{safetensors} is read, as its library does; {bin} beside it is left aside")))
        }
        (true, false) => (safetensors, None),
        _ => (bin, None),
    }))
}

/// Whether any file is called so.
pub(super) fn has_weights(names: &[String]) -> bool {
    names.iter().any(|name| KINDS.as_flattened().contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_the_library_takes() {
        let of = |names: &[&str]| weights(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let name = |names: &[&str]| of(names).unwrap().map(|(name, _)| name);
        assert_eq!(name(&["config.json", "model.safetensors", "training_args.bin"]), Some("model.safetensors"));
        assert_eq!(name(&["pytorch_model.bin", "optimizer.pt"]), Some("pytorch_model.bin"));
        assert!(of(&["pytorch_model.bin", "model.safetensors"]).unwrap().unwrap().1.is_some());
        assert_eq!(name(&["weights.pt", "config.json"]), None);
        assert!(of(&["model.safetensors", "adapter_model.bin"]).is_err());
    }
}
