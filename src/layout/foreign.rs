//! What a directory is that holds no checkpoint of ours, and where to look instead.

use std::path::Path;

use crate::source::files;

use super::folder::parts_of_shard;
use super::{DCP_DATA, DCP_INDEX, deepspeed};

/// Folders that an error names.
const SHOWN: usize = 6;

/// What is wrong with a directory with files of these names.
pub(super) fn directory(path: &Path, names: &[String]) -> String {
    let has = |name: &str| names.iter().any(|found| found == name);
    let ends = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    let is_folder = |name: &str| files::is_dir(&path.join(name));
    if has(deepspeed::SCRIPT) {
        return "is a directory of DeepSpeed's, and none of its checkpoints (global_step*) is in it".into();
    }
    if ends(DCP_DATA) {
        return dcp(names);
    }
    if has("saved_model.pb") || has("saved_model.pbtxt") {
        return "is a SavedModel of TensorFlow; load it with TensorFlow (tf.saved_model.load)".into();
    }
    let is_data = |name: &String| name.contains(".data-") && parts_of_shard(&format!("{name}.")).is_some();
    if names.iter().any(is_data) && ends(".index") {
        return "is a directory of TensorFlow checkpoints; read them with TensorFlow (tf.train.load_checkpoint)".into();
    }
    if has("manifest.ocdbt") || has("_METADATA") || has("_CHECKPOINT_METADATA") {
        return "is a checkpoint of JAX's Orbax; restore it with orbax-checkpoint".into();
    }
    if has("Manifest.json") && is_folder("Data/com.apple.CoreML") {
        return "is a model package of Core ML; open it with coremltools".into();
    }
    if has("model_index.json") {
        return format!("is a pipeline of diffusers, a folder for each model; {}", folders(path));
    }
    if has("MLmodel") {
        return format!("is a model of MLflow, whose weights lie below it; {}", folders(path));
    }
    if let Some((first, count)) = shards(names) {
        return format!(
            "holds {count} shards such as {first} and no index that says what is in them (*.index.json); put them \
             together with `ckpt merge`"
        );
    }
    format!(
        "is a directory without an index: neither {DCP_INDEX} (torch.distributed.checkpoint) nor *.index.json \
         (Hugging Face shards); name a file in it, or list all below it with `ckpt ls -R`"
    )
}

/// Of a directory of DCP without its index. A process that saves without the others (`use_collectives=False`) has an
/// index of its own.
fn dcp(names: &[String]) -> String {
    let own: Vec<&String> = names.iter().filter(|name| name.starts_with("__") && name.ends_with(DCP_INDEX)).collect();
    match own.first() {
        Some(first) => format!(
            "is a directory that each process wrote an index for ({first}, {} in all; use_collectives=False), not one \
             for all ({DCP_INDEX}); only torch.distributed.checkpoint.load with as many processes reads it",
            own.len()
        ),
        None => format!("is a directory of {DCP_DATA} files without the {DCP_INDEX} that says what is in them"),
    }
}

/// The first shard, and how many there are.
fn shards(names: &[String]) -> Option<(&str, usize)> {
    let is_shard = |name: &&String| {
        parts_of_shard(name).is_some_and(|(_, ending)| ending.ends_with(".safetensors") || ending.ends_with(".bin"))
    };
    let mut found = names.iter().filter(is_shard);
    let first = found.next()?;
    Some((first, 1 + found.count()))
}

/// Says which folders to name instead.
fn folders(path: &Path) -> String {
    let below = files::list(path).unwrap_or_default().into_iter();
    let mut found: Vec<String> =
        below.filter(|entry| entry.is_dir && !entry.name.starts_with('.')).map(|entry| entry.name).collect();
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    match found.is_empty() {
        true => "name a file in it, or list all below it with `ckpt ls -R`".to_owned(),
        false => format!("name one of {}{rest}, or list all below it with `ckpt ls -R`", found.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str]) -> String {
        directory(Path::new("/none"), &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn directories_are_named() {
        for (names, part) in [
            (&["saved_model.pb", "keras_metadata.pb"][..], "SavedModel"),
            (&["checkpoint", "model.ckpt-5.data-00000-of-00001", "model.ckpt-5.index"], "TensorFlow checkpoints"),
            (&["_METADATA", "manifest.ocdbt"], "Orbax"),
            (&["model_index.json"], "diffusers"),
            (&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], "2 shards"),
            (&["__0_0.distcp"], "without the .metadata"),
            (&["__0_0.distcp", "__0.metadata", "__1.metadata"], "2 in all"),
            (&["zero_to_fp32.py"], "DeepSpeed"),
            (&["weights.pt"], "without an index"),
        ] {
            let said = said(names);
            assert!(said.contains(part), "{names:?}: {said}");
        }
    }
}
