//! `--max-shard-size`: Hugging Face shards, and the index that names them, written last.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use anyhow::bail;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::selection::{Weight, Weights};
use crate::commands::convert::{AtOutput, Job, at_output};
use crate::write::atomic::Target;
use crate::write::directory::NewDirectory;
use crate::write::format::Format;
use crate::write::safetensors::{NamedTensor, shard_index};

const UNITS: &[(&str, u64)] = &[
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
    ("", 1),
];

/// A size as Hugging Face's tools take it: `5GB` is decimal, `5GiB` binary.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_uppercase();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "a size is a number with B, KB, MB, GB, TB or KiB, MiB, …".to_owned())
}

/// Cuts a row of sizes where a shard would become larger than `max`; one that is larger alone is alone.
fn cut(sizes: &[u64], max: u64) -> Vec<std::ops::Range<usize>> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0_u64);
    for (index, size) in sizes.iter().enumerate() {
        if index > start && bytes.saturating_add(*size) > max {
            shards.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes = bytes.saturating_add(*size);
    }
    shards.push(start..sizes.len());
    shards
}

impl Job<'_> {
    fn make_directory(&mut self) -> anyhow::Result<()> {
        let dir = self.args.output();
        let made = NewDirectory::make(dir);
        self.directory = made.map_err(|e| anyhow::Error::from(e).context(AtOutput(dir.to_owned())))?;
        Ok(())
    }

    fn shard_target(&self, name: &str) -> anyhow::Result<Target> {
        let path = self.args.output().join(name);
        at_output(&path, Target::new(&path, self.args.force, Some(&self.args.input)))
    }

    /// Checks every name before the first shard is written.
    fn shard_names(&mut self, stem: &str, extension: &str, count: usize, index: &str) -> anyhow::Result<Vec<String>> {
        self.make_directory()?;
        let names: Vec<String> =
            (1..=count).map(|number| format!("{stem}-{number:05}-of-{count:05}.{extension}")).collect();
        for name in names.iter().map(String::as_str).chain([index]) {
            self.shard_target(name)?;
        }
        Ok(names)
    }

    fn write_index(&mut self, name: &str, total: u64, files: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let path = self.args.output().join(name);
        let mut output = at_output(&path, self.shard_target(name)?.create())?;
        let written = output.write_all(&shard_index(total, files));
        written.map_err(|e| anyhow::Error::from(e).context(AtOutput(path.clone())))?;
        self.keep(path, output)
    }

    pub(super) fn array_shards(
        &mut self,
        tensors: Vec<NamedTensor>,
        metadata: &BTreeMap<String, String>,
        aliases: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        if self.to == Format::Npz {
            bail!("--max-shard-size is for safetensors and torch");
        }
        const INDEX: &str = "model.safetensors.index.json";
        let sizes =
            tensors.iter().map(|t| t.content().bytes(&self.limits)).collect::<crate::error::Result<Vec<_>>>()?;
        let shards = cut(&sizes, self.args.max_shard_size.unwrap_or(u64::MAX));
        let names = self.shard_names("model", "safetensors", shards.len(), INDEX)?;
        let mut files = BTreeMap::new();
        let mut tensors = tensors.into_iter();
        for (shard, name) in shards.iter().zip(&names) {
            let part: Vec<NamedTensor> = tensors.by_ref().take(shard.len()).collect();
            files.extend(part.iter().map(|tensor| (tensor.name.clone(), name.clone())));
            let here: HashSet<&str> = part.iter().map(|tensor| tensor.name.as_str()).collect();
            let aliases = aliases.iter().filter(|(_, kept)| here.contains(kept.as_str()));
            let mut metadata = metadata.clone();
            metadata.extend(aliases.map(|(alias, kept)| (alias.clone(), kept.clone())));
            let target = self.shard_target(name)?;
            self.write_arrays(&target, self.args.output().join(name), &part, &metadata)?;
        }
        self.write_index(INDEX, sizes.iter().sum(), &files)
    }

    pub(super) fn torch_shards(&mut self, checkpoint: &mut Checkpoint, weights: &Weights) -> anyhow::Result<()> {
        const INDEX: &str = "pytorch_model.bin.index.json";
        if self.to == Format::TorchLegacy {
            bail!("--max-shard-size is for safetensors and torch");
        }
        // who shares a storage goes into the shard of the first that does
        let mut order: Vec<(usize, &Weight)> = Vec::new();
        let (mut homes, mut arrays) = (HashMap::new(), HashMap::new());
        for (index, weight) in weights.tensors.iter().enumerate() {
            let first = match checkpoint.weight(weight)?.storage() {
                Some(id) => homes.entry(id).or_insert(index),
                None => arrays.entry(weight.id).or_insert(index),
            };
            order.push((*first, weight));
        }
        order.sort_by_key(|(group, _)| *group);
        let mut sizes = Vec::new();
        let mut total = 0;
        let mut last = None;
        for (group, weight) in &order {
            let bytes = checkpoint.weight(weight)?.bytes().unwrap_or(0);
            total += bytes;
            sizes.push(if last == Some(*group) { 0 } else { bytes });
            last = Some(*group);
        }
        let shards = cut(&sizes, self.args.max_shard_size.unwrap_or(u64::MAX));
        let names = self.shard_names("pytorch_model", "bin", shards.len(), INDEX)?;
        let mut files = BTreeMap::new();
        let mut rest = order.iter().map(|(_, weight)| (*weight).clone());
        for (shard, name) in shards.iter().zip(&names) {
            let part: Vec<Weight> = rest.by_ref().take(shard.len()).collect();
            files.extend(part.iter().map(|weight| (weight.name.clone(), name.clone())));
            let root = self.state_dict(checkpoint, &part, None)?;
            let casts = self.all_casts(checkpoint, root)?;
            let target = self.shard_target(name)?;
            let path = self.args.output().join(name);
            self.write_torch(checkpoint, root, casts, &target, path)?;
        }
        self.write_index(INDEX, total, &files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_hugging_face_means_them() {
        assert_eq!(parse_size("5GB"), Ok(5_000_000_000));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert_eq!(parse_size("100"), Ok(100));
        assert!(parse_size("GB").is_err() && parse_size("0").is_err() && parse_size("1.5GB").is_err());
    }

    #[test]
    fn shards_are_cut_before_they_are_too_large() {
        assert_eq!(cut(&[4, 4, 4], 8), [0..2, 2..3]);
        assert_eq!(cut(&[9, 1, 9], 8), [0..1, 1..2, 2..3]);
        assert_eq!(cut(&[1, 0, 5], 1), [0..2, 2..3]);
    }
}
