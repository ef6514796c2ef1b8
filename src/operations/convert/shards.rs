//! Hugging Face shards, and the index that names them, written last.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use super::{Job, Shards, at_output};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::selection::{Weight, Weights};
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::operations::sink::Sink;
use crate::write::directory::NewDirectory;
use crate::write::format::Format;
use crate::write::safetensors::{NamedTensor, shard_index};

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

impl Shards {
    fn sink(&self, name: &str) -> Result<Sink> {
        Sink::new(&self.directory.join(name), self.force, self.input.as_deref())
    }
}

impl Job<'_> {
    /// Makes the directory and checks every name before the first shard is written.
    fn sinks(&mut self, shards: &Shards, (stem, extension): (&str, &str), count: usize) -> Result<Vec<(String, Sink)>> {
        let made = NewDirectory::make(&shards.directory);
        self.directory = made.map_err(|e| Error::from(e).of_output(&self.report.output))?;
        let names = (1..=count).map(|number| format!("{stem}-{number:05}-of-{count:05}.{extension}"));
        names.map(|name| shards.sink(&name).map(|sink| (name, sink))).collect()
    }

    fn write_index(
        &mut self,
        Sink { name, target }: &Sink,
        total: u64,
        files: &BTreeMap<String, String>,
    ) -> Result<()> {
        let mut output = at_output(name, target.create())?;
        at_output(name, output.write_all(&shard_index(total, files)).map_err(Error::from))?;
        self.keep(name, output)
    }

    fn no_shards<T>() -> Result<T> {
        Err(Error::refused(Setting::MaxShardSize.then(" is for safetensors and torch")))
    }

    pub(super) fn array_shards(
        &mut self,
        shards: &Shards,
        tensors: Vec<NamedTensor>,
        metadata: &BTreeMap<String, String>,
        aliases: &BTreeMap<String, String>,
    ) -> Result<()> {
        if self.options.to == Format::Npz {
            return Self::no_shards();
        }
        let sizes = tensors.iter().map(|t| t.content().bytes(&self.limits)).collect::<Result<Vec<_>>>()?;
        let parts = cut(&sizes, shards.max_bytes);
        let sinks = self.sinks(shards, ("model", "safetensors"), parts.len())?;
        let index = shards.sink("model.safetensors.index.json")?;
        let mut files = BTreeMap::new();
        let mut tensors = tensors.into_iter();
        for (range, (name, sink)) in parts.iter().zip(&sinks) {
            let part: Vec<NamedTensor> = tensors.by_ref().take(range.len()).collect();
            files.extend(part.iter().map(|tensor| (tensor.name.clone(), name.clone())));
            let here: HashSet<&str> = part.iter().map(|tensor| tensor.name.as_str()).collect();
            let aliases = aliases.iter().filter(|(_, kept)| here.contains(kept.as_str()));
            let mut metadata = metadata.clone();
            metadata.extend(aliases.map(|(alias, kept)| (alias.clone(), kept.clone())));
            self.write_arrays(sink, &part, &metadata)?;
        }
        self.write_index(&index, sizes.iter().sum(), &files)
    }

    pub(super) fn torch_shards(
        &mut self,
        shards: &Shards,
        checkpoint: &mut Checkpoint,
        weights: &Weights,
    ) -> Result<()> {
        if self.options.to == Format::TorchLegacy {
            return Self::no_shards();
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
        let parts = cut(&sizes, shards.max_bytes);
        let sinks = self.sinks(shards, ("pytorch_model", "bin"), parts.len())?;
        let index = shards.sink("pytorch_model.bin.index.json")?;
        let mut files = BTreeMap::new();
        let mut rest = order.iter().map(|(_, weight)| (*weight).clone());
        for (range, (name, sink)) in parts.iter().zip(&sinks) {
            let part: Vec<Weight> = rest.by_ref().take(range.len()).collect();
            files.extend(part.iter().map(|weight| (weight.name.clone(), name.clone())));
            let root = self.state_dict(checkpoint, &part, None)?;
            let casts = self.all_casts(checkpoint, root)?;
            self.write_torch(checkpoint, root, casts, sink)?;
        }
        self.write_index(&index, total, &files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_cut_before_they_are_too_large() {
        assert_eq!(cut(&[4, 4, 4], 8), [0..2, 2..3]);
        assert_eq!(cut(&[9, 1, 9], 8), [0..1, 1..2, 2..3]);
        assert_eq!(cut(&[1, 0, 5], 1), [0..2, 2..3]);
    }
}
