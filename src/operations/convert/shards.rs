//! Hugging Face shards, and the index that names them, written last. Several processes may write a part of them each: which
//! tensors are in which shard follows from the input and the options alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Job, Portion, Shards, at_output};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::resave::resave;
use crate::checkpoint::selection::{Weight, Weights};
use crate::error::{Error, Result};
use crate::layout::{address, is_index};
use crate::message::{Message, Setting};
use crate::operations::occupied::{is_directory_name, is_read_by, stale};
use crate::operations::sink::Sink;
use crate::pickle::Census;
use crate::write::atomic::is_same_file;
use crate::write::directory::{NewDirectory, make_for_several};
use crate::write::format::Format;
use crate::write::safetensors::{self, NamedTensor, shard_index};

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

/// What the files of all shards are called.
pub(super) struct Plan {
    stem: &'static str,
    extension: &'static str,
    /// How many there are.
    pub(super) count: usize,
}

impl Plan {
    fn name(&self, number: usize) -> String {
        let Plan { stem, extension, count } = self;
        format!("{stem}-{number:05}-of-{count:05}.{extension}")
    }

    /// In their order.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.count).map(|number| self.name(number))
    }

    pub(super) fn index(&self) -> String {
        format!("{}.{}.index.json", self.stem, self.extension)
    }
}

/// Where this run writes to: a shard that others write has no sink.
struct Sinks {
    shards: Vec<(String, Option<Sink>)>,
    index: Option<Sink>,
}

impl Sinks {
    /// The weights of the shards that are written here.
    fn of_ours<'a>(&self, parts: &[std::ops::Range<usize>], weights: &'a [Weight]) -> Vec<&'a Weight> {
        let ours = parts.iter().zip(&self.shards).filter(|(_, (_, sink))| sink.is_some());
        ours.flat_map(|(range, _)| weights.get(range.clone()).unwrap_or_default()).collect()
    }
}

impl Shards {
    /// Looks at what lies in the directory already. Gives what goes once the new index is there.
    fn stale(&self, plan: &Plan) -> Result<Vec<PathBuf>> {
        is_read_by(&self.directory, &plan.index())?;
        match self.part {
            Portion::Shard(_) => self.is_not_input(plan).map(|()| Vec::new()),
            Portion::All | Portion::Index => {
                stale(&self.directory, &plan.names().collect::<Vec<_>>(), self.force, self.input.as_deref())
            }
        }
    }

    /// Fails where the input is the directory, its index or one of its shards: other jobs read it meanwhile.
    fn is_not_input(&self, plan: &Plan) -> Result<()> {
        let Some(input) = &self.input else { return Ok(()) };
        let archive = address(input).map(|address| address.file);
        let input = archive.as_ref().unwrap_or(input);
        let mut ours = plan.names().chain([plan.index()]).map(|name| self.directory.join(name));
        let parent = input.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        let is_index = input.file_name().and_then(|name| name.to_str()).is_some_and(is_index);
        let is_read = is_same_file(input, &self.directory)
            || ours.any(|ours| is_same_file(input, &ours))
            || is_index && parent.is_some_and(|parent| is_same_file(parent, &self.directory));
        if !is_read {
            return Ok(());
        }
        let message = Message::from("is the input, which every job with ").setting(Setting::Shard);
        let error = Error::refused(message.text(" reads until the last one is done")).advise("name another directory");
        Err(error.of_output(&self.directory.display().to_string()))
    }

    fn sink(&self, name: &str) -> Result<Sink> {
        Sink::new(&self.directory.join(name), self.force, self.input.as_deref())
    }
}

impl Job<'_> {
    /// Makes the directory and checks every name before the first shard is written.
    fn sinks(&mut self, shards: &Shards, plan: &Plan) -> Result<Sinks> {
        let of_output = |e: std::io::Error| Error::from(e).of_output(&shards.directory.display().to_string());
        self.report.shards = Some(plan.count as u64);
        is_directory_name(&shards.directory)?;
        if matches!(shards.part, Portion::Index) {
            self.are_there(shards, plan)?;
        }
        self.stale = shards.stale(plan)?;
        match shards.part {
            Portion::All => self.directory = NewDirectory::make(&shards.directory).map_err(of_output)?,
            Portion::Shard(_) => make_for_several(&shards.directory).map_err(of_output)?,
            Portion::Index => {}
        }
        let is_ours = |place: usize| match shards.part {
            Portion::All => true,
            Portion::Shard(shard) => shard.takes(place),
            Portion::Index => false,
        };
        let named = |(place, name): (usize, String)| {
            let sink = is_ours(place).then(|| shards.sink(&name)).transpose()?;
            Ok((name, sink))
        };
        let all: Vec<(String, Option<Sink>)> = plan.names().enumerate().map(named).collect::<Result<_>>()?;
        let index = shards.sink(&plan.index())?;
        // what an index names is whole: it goes before one of its shards is another one
        self.index = Some(index.target.clone());
        let Portion::Shard(shard) = shards.part else { return Ok(Sinks { shards: all, index: Some(index) }) };
        self.report.shard = Some(shard.to_string());
        if all.iter().all(|(_, sink)| sink.is_none()) {
            self.note(format!("no shard falls to {shard}: there are {}", plan.count));
        }
        Ok(Sinks { shards: all, index: None })
    }

    fn write_index(&mut self, sinks: &Sinks, total: u64, files: &BTreeMap<String, String>) -> Result<()> {
        let Some(Sink { name, target }) = &sinks.index else { return Ok(()) };
        let mut output = at_output(name, target.create())?;
        at_output(name, output.write_all(&shard_index(total, files)).map_err(Error::from))?;
        self.keep(name, output)
    }

    fn no_shards<T>() -> Result<T> {
        Err(Error::refused(Setting::MaxShardSize.then(" is for safetensors and torch")))
    }

    /// `tensors` are those of `weights`, in their order.
    pub(super) fn array_shards(
        &mut self,
        shards: &Shards,
        checkpoint: &Checkpoint,
        (weights, tensors): (&[Weight], Vec<NamedTensor>),
        metadata: &BTreeMap<String, String>,
        aliases: &BTreeMap<String, String>,
    ) -> Result<()> {
        if self.options.to == Format::Npz {
            return Self::no_shards();
        }
        let sizes = tensors.iter().map(|t| t.content().bytes(&self.limits)).collect::<Result<Vec<_>>>()?;
        let parts = cut(&sizes, shards.max_bytes);
        let sinks = self.sinks(shards, &Plan { stem: "model", extension: "safetensors", count: parts.len() })?;
        let ours = sinks.of_ours(&parts, weights);
        if let Portion::Shard(_) = shards.part {
            self.report.tensors = ours.len() as u64;
        }
        self.watch_weights(checkpoint, ours);
        let mut files = BTreeMap::new();
        let mut tensors = tensors.into_iter();
        for (range, (name, sink)) in parts.iter().zip(&sinks.shards) {
            let part: Vec<NamedTensor> = tensors.by_ref().take(range.len()).collect();
            files.extend(part.iter().map(|tensor| (tensor.name.clone(), name.clone())));
            let here: HashSet<&str> = part.iter().map(|tensor| tensor.name.as_str()).collect();
            let aliases = aliases.iter().filter(|(_, kept)| here.contains(kept.as_str()));
            let mut metadata = metadata.clone();
            metadata.extend(aliases.map(|(alias, kept)| (alias.clone(), kept.clone())));
            match sink {
                Some(sink) => self.write_arrays(sink, &part, &metadata)?,
                None if matches!(shards.part, Portion::Index) => {
                    self.has_arrays(shards, name, &part, safetensors::header(&part, &metadata, &self.limits)?)?;
                }
                None => {}
            }
        }
        self.write_index(&sinks, sizes.iter().sum(), &files)
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
        let ordered: Vec<Weight> = order.into_iter().map(|(_, weight)| weight.clone()).collect();
        let parts = cut(&sizes, shards.max_bytes);
        let sinks = self.sinks(shards, &Plan { stem: "pytorch_model", extension: "bin", count: parts.len() })?;
        self.watch_weights(checkpoint, sinks.of_ours(&parts, &ordered));
        let mut files = BTreeMap::new();
        for (range, (name, sink)) in parts.iter().zip(&sinks.shards) {
            let part = ordered.get(range.clone()).unwrap_or_default();
            files.extend(part.iter().map(|weight| (weight.name.clone(), name.clone())));
            if sink.is_none() && !matches!(shards.part, Portion::Index) {
                continue;
            }
            let root = self.state_dict(checkpoint, part, None)?;
            let casts = self.all_casts(checkpoint, root)?;
            match sink {
                Some(sink) => self.write_torch(checkpoint, root, casts, sink)?,
                None => {
                    let storages = resave(checkpoint, root, &self.resave_options(casts.kept))?;
                    let scan = Census::new(&checkpoint.graph, root)?;
                    self.has_torch(shards, name, (&checkpoint.graph, &scan), &storages)?;
                    self.report.tensors += part.len() as u64;
                }
            }
        }
        self.write_index(&sinks, total, &files)
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
