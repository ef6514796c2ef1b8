//! Chunks of tensors in safetensors files: what torch.distributed.checkpoint writes with
//! `SerializationFormat.SAFETENSORS`, and `HuggingFaceStorageWriter` for each rank.
//!
//! Sources: `torch/distributed/checkpoint/filesystem.py` (`_write_files_from_queue`), `hf_storage.py`, `_hf_utils.py`. A
//! file holds at most one chunk of a tensor, under the tensor's own name; `DCP_SHARDING_INFO` in `__metadata__` says where
//! in the tensor it begins.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use super::metadata::{ChunkAt, FileRange, Metadata, MetadataEntry, Stored, TensorAt};
use crate::checkpoint::names::Element;
use crate::checkpoint::tensor::Extents;
use crate::container::detect::{Framing, detect};
use crate::container::ordered::Ordered;
use crate::container::safetensors::{self, Tensor};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::spelled::spelled;
use crate::limits::Limits;
use crate::source::{SharedSource, Window};

/// Objects that headers take for each tensor: names, numbers, lists.
const HELD_OF_AN_ENTRY: usize = 8;
/// The entry of `__metadata__` that says where chunks begin.
const SHARDING: &str = "DCP_SHARDING_INFO";

#[derive(Deserialize)]
struct Sharding {
    saved_offsets: Vec<u64>,
}

/// A file of chunks.
#[derive(Debug)]
pub(super) struct File {
    data: SharedSource,
    data_start: u64,
    /// In the file's order.
    tensors: Vec<Tensor>,
    places: HashMap<String, usize>,
    /// Which of them were asked for.
    taken: HashSet<usize>,
    /// Where chunks begin; nothing for a file that no process of several wrote.
    offsets: Option<HashMap<String, Vec<u64>>>,
}

impl File {
    /// The safetensors data that begins at byte `at` and ends with the file; nothing where something else does.
    pub(crate) fn at(file: &SharedSource, at: u64, limits: &Limits) -> Result<Option<Self>> {
        let Some(left) = file.len().checked_sub(at) else { return Ok(None) };
        let data = Window::shared(file, at, left)?;
        match detect(data.as_ref()) {
            Ok(Framing::Safetensors) => {}
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            _ => return Ok(None),
        }
        let header = safetensors::read(data.as_ref(), limits)?;
        let sharding = header.metadata.iter().find(|(key, _)| key == SHARDING);
        let offsets = match sharding {
            None => None,
            Some((_, text)) => {
                let all: Ordered<Sharding> = serde_json::from_str(text)
                    .map_err(|e| Error::malformed(format!("bad {SHARDING}: {e}")).at(data.absolute(0)))?;
                Some(all.0.into_iter().map(|(name, sharding)| (name, sharding.saved_offsets)).collect())
            }
        };
        let tensors = header.tensors;
        let places = tensors.iter().zip(0..).map(|(tensor, place)| (tensor.name.clone(), place)).collect();
        Ok(Some(File { data, data_start: header.data_start, tensors, places, taken: HashSet::new(), offsets }))
    }

    /// The elements of the chunk of `name` at `offsets`, or why they are not there.
    pub(crate) fn chunk(
        &mut self,
        name: &str,
        dtype: &DType,
        offsets: &[u64],
        sizes: &[u64],
    ) -> Result<SharedSource, String> {
        let place = self.places.get(name).copied();
        self.taken.extend(place);
        let tensor = place.and_then(|place| self.tensors.get(place));
        let tensor = tensor.ok_or("is not in the file that the index names")?;
        let saved = self.offsets.as_ref().and_then(|all| all.get(name));
        if let Some(other) = saved.filter(|saved| *saved != offsets) {
            return Err(format!("the file holds the chunk at {other:?} in its place"));
        }
        let have = DType::from_safetensors(&tensor.dtype);
        if have.as_ref() != Some(dtype) || tensor.shape != sizes {
            let (have, want) = (&tensor.dtype, dtype.name());
            return Err(format!("is {have} of shape {:?} in the file, not {want} of shape {sizes:?}", tensor.shape));
        }
        Window::shared(&self.data, self.data_start + tensor.begin, tensor.end - tensor.begin).map_err(|e| e.to_string())
    }

    /// The names of tensors in it that nobody asked for. A rank without a part of a tensor writes an empty one.
    pub(crate) fn unnamed(&self) -> impl Iterator<Item = &str> {
        let left = self.tensors.iter().enumerate().filter(|(place, _)| !self.taken.contains(place));
        left.filter(|(_, tensor)| self.offsets.is_none() || tensor.begin < tensor.end)
            .map(|(_, tensor)| tensor.name.as_str())
    }
}

/// Ranks times files that are counted.
const MOST_COUNTED: u64 = 1 << 20;

/// The rank, the file and the number of files of `shard-00003-model-00001-of-00002.safetensors` (`_hf_utils.py`).
fn numbered(name: &str) -> Option<[u64; 3]> {
    let (rank, file) = name.strip_prefix("shard-")?.split_once("-model-")?;
    let (file, files) = file.strip_suffix(".safetensors")?.split_once("-of-")?;
    Some([rank.parse().ok()?, file.parse().ok()?, files.parse().ok()?])
}

/// Which files the others' numbers leave room for. A rank that has nothing for a file need not write it.
pub(super) fn not_there(files: &[(String, SharedSource)]) -> Option<String> {
    let numbers: HashSet<[u64; 3]> = files.iter().map(|(name, _)| numbered(name)).collect::<Option<_>>()?;
    let [.., count] = *numbers.iter().next()?;
    let ranks = numbers.iter().map(|[rank, ..]| *rank).max()?;
    if numbers.iter().any(|[.., other]| *other != count) || ranks.checked_mul(count)? > MOST_COUNTED {
        return None;
    }
    let all = (1..=ranks).flat_map(|rank| (1..=count).map(move |file| [rank, file, count]));
    let missing: Vec<String> = all
        .filter(|place| !numbers.contains(place))
        .map(|[rank, file, count]| format!("shard-{rank:05}-model-{file:05}-of-{count:05}.safetensors"))
        .collect();
    let what = "what a rank kept there, if anything, is missing";
    (!missing.is_empty()).then(|| format!("not there: {}; {what}", spelled(&missing)))
}

/// The index that the files of several ranks are together (`HuggingFaceStorageReader.read_metadata`): tensors are as large
/// as their chunks reach. Nothing where one of them says nothing of chunks.
pub(super) fn index_of(files: &[(String, SharedSource)], limits: &Limits) -> Result<Option<Metadata>> {
    let mut entries: Vec<MetadataEntry> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (name, source) in files {
        let file = File::at(source, 0, limits).map_err(|e| e.in_member(name))?;
        let Some(File { tensors, offsets: Some(offsets), .. }) = file else { return Ok(None) };
        let file: Arc<str> = name.as_str().into();
        for tensor in tensors {
            let fail = |what: &str| Error::malformed(format!("{}: {what}", tensor.name)).in_member(name);
            let at = offsets.get(&tensor.name).filter(|at| at.len() == tensor.shape.len());
            let at = at.ok_or_else(|| fail("the file does not say where its chunk begins"))?;
            let reach = tensor.shape.iter().zip(at).map(|(size, at)| size.checked_add(*at)?.try_into().ok());
            let reach: Extents = reach.collect::<Option<_>>().ok_or_else(|| fail("a size of more than 63 bits"))?;
            let dtype = DType::from_safetensors(&tensor.dtype);
            let dtype = dtype.unwrap_or_else(|| DType::other(&tensor.dtype.to_lowercase(), None));
            let number = *known.entry(tensor.name.clone()).or_insert(entries.len());
            if number == entries.len() {
                let described = TensorAt {
                    dtype: dtype.clone(),
                    size: reach.clone(),
                    requires_grad: false,
                    chunks: Vec::new(),
                    empty: Vec::new(),
                };
                let path = vec![Element::Text(tensor.name.clone())];
                entries.push(MetadataEntry { fqn: tensor.name.clone(), path, stored: Stored::Tensor(described) });
            }
            let Some(MetadataEntry { stored: Stored::Tensor(described), .. }) = entries.get_mut(number) else {
                continue;
            };
            if described.dtype != dtype || described.size.len() != reach.len() {
                return Err(fail("has another dtype or number of dimensions than in the files before"));
            }
            described.size.iter_mut().zip(reach).for_each(|(size, reach)| *size = reach.max(*size));
            // a process without a part of the tensor writes nothing
            if !tensor.shape.contains(&0) {
                let place =
                    FileRange { file: Arc::clone(&file), offset: 0, length: tensor.end - tensor.begin, is_zstd: false };
                described.chunks.push(ChunkAt { offsets: at.clone(), sizes: tensor.shape, place: Some(place) });
            }
        }
    }
    let held = entries.len().saturating_mul(HELD_OF_AN_ENTRY);
    Ok((!entries.is_empty()).then_some(Metadata { entries, protocol: None, held, undescribed: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;

    #[test]
    fn files_that_numbers_leave_room_for() {
        let of = |names: &[&str]| {
            let file = |name: &&str| ((*name).to_owned(), Arc::new(MemorySource::new(Vec::new())) as SharedSource);
            not_there(&names.iter().map(file).collect::<Vec<_>>())
        };
        let name = |rank: u64, file: u64| format!("shard-{rank:05}-model-{file:05}-of-00002.safetensors");
        let (a, b, c) = (name(1, 1), name(1, 2), name(2, 2));
        assert_eq!(of(&[&a, &b, &c, &name(2, 1)]), None);
        assert!(of(&[&a, &b, &c]).unwrap().starts_with(&format!("not there: {};", name(2, 1))));
        assert_eq!(of(&[&a, &b, "other.safetensors"]), None);
        assert_eq!(of(&[&a, "shard-00002-model-00001-of-00003.safetensors"]), None);
        assert_eq!(of(&["shard-99999999999-model-00001-of-00001.safetensors"]), None);
    }
}
