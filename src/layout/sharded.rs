//! Hugging Face shards: an index says which tensor is in which file beside it.
//!
//! Source: `transformers/modeling_utils.py` (`save_pretrained`): `{"metadata": {…}, "weight_map": {name: file}}`. The
//! files are safetensors or what torch.save writes. A shard that is missing or broken spoils its own tensors only.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use foldhash::fast::RandomState;
use serde::Deserialize;

use super::directory::{Directory, check_name};
use super::folder::parts_of_shard;
use super::spelled::spelled;
use crate::checkpoint::framed::{Framed, Several};
use crate::checkpoint::open::{Opened, Opener, Parts};
use crate::checkpoint::tensor::{Rare, STRIDED, Tensor};
use crate::checkpoint::{Checkpoint, Container, Oddity};
use crate::container::ordered::{Ordered, json_error};
use crate::container::safetensors::METADATA;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pickle::{NodeId, Pair};
use crate::progress::Progress;
use crate::source::{SharedSource, read_vec};

/// What a process says in a shard of the chunks that it wrote (`layout/dcp/in_safetensors.rs`).
const OF_CHUNKS: &str = "DCP_SHARDING_INFO";

#[derive(Deserialize)]
struct Index {
    weight_map: Ordered<String>,
    metadata: Option<serde_json::Value>,
}

/// An index that has been read.
#[derive(Debug)]
pub(super) struct Sharded {
    path: PathBuf,
    directory: Directory,
    /// Tensor and shard, in the index's order.
    weights: Vec<(String, String)>,
    /// Bytes of all tensors, as the index says.
    total_size: Option<f64>,
    bytes: u64,
    notes: Vec<String>,
}

impl Sharded {
    /// Reads the index at `path`. `Malformed` when it is no index or a shard's name leads out of its directory.
    pub(crate) fn of_index(path: &Path, source: &SharedSource, limits: &Limits) -> Result<Self> {
        Self::in_directory(path, Directory::new(path.parent().unwrap_or(Path::new(""))), source, limits)
    }

    /// The same of shards that lie in `directory`.
    pub(crate) fn in_directory(
        path: &Path,
        directory: Directory,
        source: &SharedSource,
        limits: &Limits,
    ) -> Result<Self> {
        if source.len() > limits.max_header_bytes {
            let (len, max) = (source.len(), limits.max_header_bytes);
            return Err(Error::limit(format!("an index of {len} bytes; {max} are allowed")));
        }
        let json = read_vec(source.as_ref(), 0, source.len())?;
        let index: Index = serde_json::from_slice(&json).map_err(|e| {
            let (at, what) = json_error(&json, &e);
            Error::malformed(format!("bad index of shards: {what}")).at(at)
        })?;
        let total_size = index.metadata.as_ref().and_then(|metadata| metadata.get("total_size")?.as_f64());
        let (path, weights) = (path.to_owned(), index.weight_map.0);
        let mut sharded = Sharded { path, directory, weights, total_size, bytes: 0, notes: Vec::new() };
        let shards = sharded.shards();
        shards.iter().try_for_each(|name| check_name(name))?;
        sharded.directory.prepare(shards.iter().copied());
        let bytes = shards.iter().map(|name| sharded.directory.bytes_of(name));
        sharded.bytes = bytes.fold(source.len(), u64::saturating_add);
        Ok(sharded)
    }

    /// The same, of a folder with so many bytes, of which there may be something to say.
    pub(crate) fn of_folder(self, bytes: u64, note: Option<String>) -> Self {
        Sharded { bytes, notes: note.into_iter().collect(), ..self }
    }

    /// The shards and their bytes.
    pub(crate) fn files(&mut self) -> Vec<(String, Result<SharedSource>)> {
        let names: Vec<String> = self.shards().into_iter().map(str::to_owned).collect();
        let file = |name: String| {
            let opened = self.directory.file(&name).map_err(Error::malformed);
            (name, opened)
        };
        names.into_iter().map(file).collect()
    }

    /// Where the index is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The shards' names in the order in which the index first mentions them.
    pub(crate) fn shards(&self) -> Vec<&str> {
        let mut seen: HashSet<&str, RandomState> = HashSet::default();
        self.weights.iter().map(|(_, shard)| shard.as_str()).filter(|shard| seen.insert(*shard)).collect()
    }

    /// Files that are called like its shards, and that the index does not name.
    fn strays(&self) -> Vec<String> {
        let named: HashSet<&str, RandomState> = self.weights.iter().map(|(_, shard)| shard.as_str()).collect();
        let kinds: HashSet<(&str, &str)> = named.iter().filter_map(|name| parts_of_shard(name)).collect();
        let mut names = self.directory.names();
        names.retain(|name| {
            !named.contains(name.as_str()) && parts_of_shard(name).is_some_and(|kind| kinds.contains(&kind))
        });
        names
    }

    /// Reads every shard. Fails when none can be read.
    pub(crate) fn open(mut self, limits: &Limits, progress: &dyn Progress) -> Result<Checkpoint> {
        let shards: Vec<String> = self.shards().into_iter().map(str::to_owned).collect();
        let strays = self.strays();
        let mut merge = Merge {
            max_objects: limits.objects_for(self.bytes),
            limits,
            progress,
            parts: Parts::new(),
            opened: Opened::new(Framed::Several(Several::Sharded), crate::pickle::Graph::NONE),
            places: self.weights.iter().zip(0..).map(|((name, _), place)| (name.as_str(), place)).collect(),
            weights: &self.weights,
            found: vec![None; self.weights.len()],
            metadata: BTreeMap::new(),
        };
        merge.opened.notes.append(&mut self.notes);
        if !strays.is_empty() {
            let (what, names) = (if strays.len() == 1 { "it" } else { "them" }, spelled(&strays));
            merge.opened.notes.push(format!("left aside, as the index does not name {what}: {names}"));
        }
        merge.opened.oddities.extend(strays.into_iter().map(|place| Oddity {
            code: "file-unnamed",
            place,
            message: "is called like a shard, and the index does not name it".into(),
        }));
        let mut broken: HashMap<&str, String> = HashMap::new();
        let mut first = None;
        for shard in &shards {
            let read = match self.directory.file(shard) {
                Ok(source) => {
                    merge.shard(shard, source).map_err(|e| Error::new(e.kind(), format!("shard {shard}: {e}")))
                }
                Err(why) => Err(Error::malformed(format!("shard {why}"))),
            };
            if let Err(e) = read {
                broken.insert(shard, e.to_string());
                first.get_or_insert(e);
            }
        }
        match first {
            Some(e) if broken.len() == shards.len() => Err(e),
            _ => {
                let mut checkpoint = merge.finish(&broken)?;
                if broken.is_empty() {
                    let index = self.path.file_name().unwrap_or_default().to_string_lossy();
                    checkpoint.oddities.extend(self.total_size.and_then(|size| other_size(&checkpoint, size, &index)));
                }
                Ok(checkpoint)
            }
        }
    }
}

/// That the tensors have another size than the index says. Libraries count what tensors share once or each time, and a
/// boolean as a byte or as a bit (`transformers.utils.dtype_byte_size`).
fn other_size(checkpoint: &Checkpoint, stated: f64, index: &str) -> Option<Oddity> {
    let (mut each, mut once, mut bits) = (0u64, 0u64, 0u64);
    let mut seen = HashSet::new();
    let tensors = checkpoint.objects().items(checkpoint.root)?.into_iter();
    for tensor in tensors.filter_map(|item| checkpoint.tensor(checkpoint.tensors.of(item.value)?)) {
        let bytes = tensor.bytes()?;
        each = each.checked_add(bytes)?;
        let is_bool = tensor.dtype.as_ref().is_some_and(|dtype| dtype.name() == "bool");
        bits = bits.checked_add(if is_bool { bytes } else { bytes.checked_mul(8)? })?;
        match tensor.storage() {
            Some(id) if !seen.insert(id) => {}
            Some(id) => once = once.checked_add(checkpoint.storages.get(id)?.available().unwrap_or(bytes))?,
            None => once = once.checked_add(bytes)?,
        }
    }
    #[allow(clippy::cast_precision_loss)] // as JSON's readers have numbers of that size
    let is_so = [each as f64, once as f64, bits as f64 / 8.0].contains(&stated);
    (!is_so).then(|| Oddity {
        code: "size-stated",
        place: index.to_owned(),
        message: format!("says that the tensors have {stated} bytes in all (total_size); they have {each}"),
    })
}

/// Shards becoming one checkpoint.
struct Merge<'a> {
    limits: &'a Limits,
    max_objects: u64,
    progress: &'a dyn Progress,
    parts: Parts,
    opened: Opened,
    weights: &'a [(String, String)],
    /// Places in `weights` by name.
    places: HashMap<&'a str, usize, RandomState>,
    /// The objects of `weights`.
    found: Vec<Option<NodeId>>,
    /// What the shards' `__metadata__` say together.
    metadata: BTreeMap<String, NodeId>,
}

impl Merge<'_> {
    /// Reads one shard and takes from it what the index says is there.
    fn shard(&mut self, shard: &str, source: SharedSource) -> Result<()> {
        let opener = Opener::new(source, self.limits, self.max_objects);
        let opened = opener.read(self.progress, &mut self.parts)?;
        let container = opened.framed.container();
        if !matches!(container, Container::Zip | Container::Legacy | Container::Pickle | Container::Safetensors) {
            return Err(Error::unsupported(format!("is no shard but a file of the kind {}", container.name())));
        }
        let objects = self.parts.objects();
        let items = objects.items(opened.root).ok_or_else(|| Error::malformed("holds no dict of tensors"))?;
        let mut unnamed = Vec::new();
        let mut metadata = None;
        for Pair { key, value, .. } in items {
            let Some(name) = self.parts.graph.str_or_bytes(key) else { continue };
            let place = self.places.get(name.as_ref()).copied();
            match place.filter(|place| self.weights.get(*place).is_some_and(|(_, named)| named == shard)) {
                Some(place) => self.found.iter_mut().skip(place).take(1).for_each(|found| *found = Some(value)),
                None if name == METADATA && container == Container::Safetensors => metadata = Some(value),
                None => unnamed.push(name.into_owned()),
            }
        }
        if let Some(metadata) = metadata {
            self.add_metadata(shard, metadata);
        }
        self.opened.left_aside.extend(unnamed.iter().cloned());
        if !unnamed.is_empty() {
            let names = spelled(&unnamed);
            self.opened.notes.push(format!("left aside in {shard}, as the index says nothing of it: {names}"));
        }
        self.opened.oddities.extend(unnamed.into_iter().map(|name| Oddity {
            code: "tensor-unnamed",
            place: shard.to_owned(),
            message: format!("holds {name}, which the index does not name"),
        }));
        self.opened.notes.extend(opened.notes.into_iter().map(|note| format!("{shard}: {note}")));
        self.opened.protocol = self.opened.protocol.or(opened.protocol);
        self.opened.byte_order = self.opened.byte_order.or(opened.byte_order);
        Ok(())
    }

    /// The first shard that says something of a key is right; one that says something else is mentioned.
    fn add_metadata(&mut self, shard: &str, metadata: NodeId) {
        let objects = self.parts.objects();
        for Pair { key, value, .. } in objects.items(metadata).unwrap_or_default() {
            let graph = &self.parts.graph;
            // of the one shard's chunks
            let Some(name) = graph.str_or_bytes(key).filter(|name| name != OF_CHUNKS) else { continue };
            let before = *self.metadata.entry(name.clone().into_owned()).or_insert(value);
            if graph.str_or_bytes(before) != graph.str_or_bytes(value) {
                self.opened.notes.push(format!("{shard} disagrees with the shards before it on {METADATA}.{name}"));
            }
        }
    }

    fn finish(mut self, broken: &HashMap<&str, String>) -> Result<Checkpoint> {
        let mut items = Vec::new();
        for ((name, shard), found) in self.weights.iter().zip(&self.found) {
            let node = match found {
                Some(node) => *node,
                None => {
                    let why = broken.get(shard.as_str()).cloned();
                    let problem = why.unwrap_or_else(|| format!("shard {shard} does not hold it"));
                    let rare = Rare::of_problem(Some(problem));
                    self.parts.tensor(Tensor { layout: STRIDED, rare, ..Tensor::default() })?
                }
            };
            items.push((name.as_str(), node));
        }
        if !self.metadata.is_empty() {
            let metadata = self.parts.dict(self.metadata.iter().map(|(key, value)| (key.as_str(), *value)))?;
            items.push((METADATA, metadata));
        }
        self.opened.root = self.parts.dict(items)?;
        self.parts.finish(self.opened, self.limits)
    }
}
