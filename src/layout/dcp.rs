//! torch.distributed.checkpoint: a directory with an index and what each process saved.
//!
//! Sources: `torch/distributed/checkpoint/filesystem.py`, `default_planner.py`, `_nested_dict.py`. Each chunk of a
//! tensor, and each object that is none, is a whole `torch.save` file somewhere in a `.distcp` file; or chunks are tensors
//! of safetensors files.

mod coverage;
mod encoded;
mod in_safetensors;
mod metadata;
pub(super) mod tree;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::DCP_INDEX;
use super::directory::{self, Directory, check_name};
use super::stitch::{Chunk, Stitched};
use crate::checkpoint::framed::{Framed, Several};
use crate::checkpoint::open::{Opened, Opener, Parts};
use crate::checkpoint::tensor::{Data, Tensor, plain_tensor};
use crate::checkpoint::{Checkpoint, SavedPart};
use crate::container::compress::{Compression, expand};
use crate::data::Elements;
use crate::dtype::{ByteOrder, DType};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pickle::NodeId;
use crate::progress::Silent;
use crate::source::{SharedSource, Window, files};
use coverage::Coverage;
use encoded::{Encoded, Packed, Recent};
use metadata::{ChunkAt, FileRange, Metadata, Stored, TensorAt};
use tree::Tree;

/// Files beside an index, and whose they are.
const BESIDE: &[(&str, &str)] = &[("meta.pt", "Lightning"), ("common.pt", "Megatron")];
/// Keys of such a file that are named.
const KEYS_SHOWN: usize = 8;

/// A directory whose index has been read.
#[derive(Debug)]
pub(super) struct Dcp {
    directory: Directory,
    metadata: Metadata,
    bytes: u64,
    notes: Vec<String>,
}

impl Dcp {
    /// The safetensors files `names` of a directory, one or more a rank and without an index, where that is what they are.
    pub(crate) fn of_ranks(path: &Path, names: &[&String], limits: &Limits) -> Result<Option<Self>> {
        let mut directory = Directory::new(path);
        let open = |name: &&String| Some(((*name).clone(), directory.file(name).ok()?));
        let Some(files) = names.iter().map(open).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let Some(metadata) = in_safetensors::index_of(&files, limits)? else { return Ok(None) };
        let mut notes = vec![format!(
            "put together from {} files that no index lists: each tensor is as large as the parts that are here",
            files.len()
        )];
        notes.extend(in_safetensors::not_there(&files));
        Ok(Some(Dcp { directory, metadata, bytes: directory::bytes(path)?, notes }))
    }

    /// The same of a folder of an archive, which has so many bytes; `source` is its index.
    pub(crate) fn in_archive(directory: Directory, source: SharedSource, bytes: u64, limits: &Limits) -> Result<Self> {
        let metadata = Metadata::read(source, limits).map_err(|e| e.in_member(DCP_INDEX))?;
        metadata.files().try_for_each(check_name)?;
        Ok(Dcp { directory, metadata, bytes, notes: Vec::new() })
    }

    /// The files that the index names, and their bytes.
    pub(crate) fn files(&mut self) -> Vec<(String, Result<SharedSource>)> {
        let mut names: Vec<String> = self.metadata.files().map(str::to_owned).collect();
        names.sort();
        names.dedup();
        let file = |name: String| {
            let opened = self.directory.file(&name).map_err(Error::malformed);
            (name, opened)
        };
        names.into_iter().map(file).collect()
    }

    /// Reads the index of a directory.
    pub(crate) fn of_directory(path: &Path, limits: &Limits) -> Result<Self> {
        let source = files::open(&path.join(DCP_INDEX))?;
        let metadata = Metadata::read(source, limits).map_err(|e| e.in_member(DCP_INDEX))?;
        metadata.files().try_for_each(check_name)?;
        Ok(Dcp { directory: Directory::new(path), metadata, bytes: directory::bytes(path)?, notes: Vec::new() })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The nested dict that was saved. What lies in a file that is missing or too short is a tensor's problem; an object
    /// that is no tensor is then left out and noted.
    pub(crate) fn open(self, limits: &Limits) -> Result<Checkpoint> {
        let Dcp { directory, mut metadata, bytes, mut notes } = self;
        let coverage = Coverage::of(&mut metadata);
        let shared = Arc::new(limits.clone());
        let max_objects = limits.objects_for(bytes);
        let mut reader = Reader {
            directory,
            parts: Parts::new(),
            limits: shared,
            max_objects,
            safetensors: HashMap::new(),
            saved: Vec::new(),
            recent: Arc::default(),
        };
        let mut tree = Tree::new(limits);
        let mut names = Vec::with_capacity(metadata.entries.len());
        for entry in metadata.entries {
            let node = match entry.stored {
                Stored::Tensor(tensor) => reader.tensor(&entry.fqn, tensor)?,
                Stored::Object(place) => match reader.object(&entry.fqn, place) {
                    Ok(node) => node,
                    Err(why) => {
                        notes.push(format!("{} is left out: {why}", entry.fqn));
                        names.push(entry.fqn);
                        continue;
                    }
                },
            };
            tree.add(entry.path, node)?;
            names.push(entry.fqn);
        }
        let Reader { mut parts, saved, mut directory, safetensors, .. } = reader;
        let (oddities, aside) = coverage.oddities(&names, &mut directory, &safetensors);
        notes.extend(aside);
        notes.extend(beside(&mut directory, limits));
        let root = tree.finish(&mut parts.graph)?;
        parts.graph.count_items(metadata.held);
        let opened = Opened {
            protocol: metadata.protocol,
            byte_order: Some(ByteOrder::Little),
            notes,
            oddities,
            ..Opened::new(Framed::Several(Several::Dcp(saved)), root)
        };
        parts.finish(opened, limits)
    }
}

/// What is said of the files in which programs keep the rest of a checkpoint (`lightning/fabric/strategies/fsdp.py`,
/// `megatron/core/dist_checkpointing`).
fn beside(directory: &mut Directory, limits: &Limits) -> Vec<String> {
    let names = directory.names();
    let here = BESIDE.iter().filter(|(name, _)| names.iter().any(|found| found == name));
    let mut notes = Vec::new();
    for (name, whose) in here {
        let keys = directory.file(name).ok().and_then(|source| keys_of(source, limits)).unwrap_or_default();
        let keys = if keys.is_empty() { String::new() } else { format!(" ({keys})") };
        notes.push(format!("left aside: {name} beside it, in which {whose} keeps the rest{keys}; name it to read it"));
    }
    notes
}

/// The first keys of the dict that a file is.
fn keys_of(source: SharedSource, limits: &Limits) -> Option<String> {
    let checkpoint = Checkpoint::open(source, limits, &Silent).ok()?;
    let items = checkpoint.objects().items(checkpoint.root)?;
    let key = |item: &crate::pickle::Pair| Some(checkpoint.graph.str_or_bytes(item.key)?.into_owned());
    let mut keys: Vec<String> = items.iter().filter_map(key).take(KEYS_SHOWN).collect();
    if items.len() > keys.len() {
        keys.push("…".into());
    }
    Some(keys.join(", "))
}

struct Reader {
    directory: Directory,
    parts: Parts,
    limits: Arc<Limits>,
    max_objects: u64,
    /// By file, where its safetensors data begins and what is in it; nothing for files of `torch.save`.
    safetensors: HashMap<Arc<str>, Option<(u64, in_safetensors::File)>>,
    /// What lies in the parts.
    saved: Vec<SavedPart>,
    /// Tensors that were expanded last.
    recent: Arc<Recent>,
}

impl Reader {
    /// The bytes at a place, or why there are none.
    fn bytes(&mut self, fqn: &str, place: Option<FileRange>) -> Result<SharedSource, String> {
        let place = place.ok_or("the index does not say where it is stored")?;
        let file = self.directory.file(&place.file)?;
        let bytes = Window::shared(&file, place.offset, place.length).map_err(|e| format!("{}: {e}", place.file))?;
        self.saved.push(SavedPart { file: place.file, bytes: SharedSource::clone(&bytes), fqn: fqn.into() });
        Ok(bytes)
    }

    fn tensor(&mut self, fqn: &str, described: TensorAt) -> Result<NodeId> {
        let TensorAt { dtype, size, requires_grad, chunks, .. } = described;
        let mut tensor = Tensor { requires_grad: Some(requires_grad), ..plain_tensor(dtype.clone(), size.clone()) };
        // a negative size has its own problem
        if let Ok(shape) = size.iter().map(|extent| u64::try_from(*extent)).collect::<Result<Vec<u64>, _>>() {
            let zstd = chunks.iter().filter(|chunk| chunk.place.as_ref().is_some_and(|place| place.is_zstd)).count();
            let source = match zstd {
                0 => self.stitched(fqn, shape, dtype, chunks),
                all if all == chunks.len() => self.encoded(fqn, shape, dtype, chunks),
                _ => Err("only some of its chunks are compressed".into()),
            };
            match source {
                Ok(source) => tensor.data = Data::Array { source, byte_order: ByteOrder::Little },
                Err(problem) => tensor.problem = Some(problem),
            }
        }
        self.parts.tensor(tensor)
    }

    fn stitched(
        &mut self,
        fqn: &str,
        shape: Vec<u64>,
        dtype: DType,
        chunks: Vec<ChunkAt>,
    ) -> Result<SharedSource, String> {
        let chunks: Vec<Chunk> =
            chunks.into_iter().map(|chunk| self.chunk(fqn, &dtype, chunk)).collect::<Result<_, _>>()?;
        Ok(Arc::new(Stitched::new(shape, dtype, chunks, Arc::clone(&self.limits))?))
    }

    fn encoded(
        &mut self,
        fqn: &str,
        shape: Vec<u64>,
        dtype: DType,
        chunks: Vec<ChunkAt>,
    ) -> Result<SharedSource, String> {
        let packed = |ChunkAt { offsets, sizes, place }: ChunkAt| {
            let file = place.as_ref().map_or_else(|| "".into(), |place| Arc::clone(&place.file));
            let bytes = self.bytes(fqn, place).map_err(|why| format!("the chunk at {offsets:?}: {why}"))?;
            Ok::<_, String>(Packed { offsets, sizes, bytes, file })
        };
        let chunks = chunks.into_iter().map(packed).collect::<Result<_, _>>()?;
        let (limits, recent) = (Arc::clone(&self.limits), Arc::clone(&self.recent));
        Ok(Arc::new(Encoded::new(shape, dtype, chunks, limits, recent)?))
    }

    fn chunk(&mut self, fqn: &str, dtype: &DType, chunk: ChunkAt) -> Result<Chunk, String> {
        let ChunkAt { offsets, sizes, place } = chunk;
        let file = place.as_ref().map_or_else(|| "".into(), |place| Arc::clone(&place.file));
        let opened = OnceLock::new();
        let within = |why: String| format!("the chunk at {offsets:?}: {why}");
        let saved = match self.in_safetensors(place.as_ref()).map_err(within)? {
            Some(found) => {
                let place = |why: String| within(format!("{file}: {why}"));
                let saved = found.chunk(fqn, dtype, &offsets, &sizes).map_err(place)?;
                opened.get_or_init(|| Elements::row_major(Arc::clone(&saved), dtype.clone(), sizes.clone()));
                saved
            }
            None => self.bytes(fqn, place).map_err(within)?,
        };
        Ok(Chunk { offsets, sizes, saved, file, opened })
    }

    /// The safetensors data that begins where a chunk is said to be. All chunks of a file have that one place, so that the
    /// first one tells what the file is.
    fn in_safetensors(&mut self, place: Option<&FileRange>) -> Result<Option<&mut in_safetensors::File>, String> {
        let Some(place) = place else { return Ok(None) };
        if !self.safetensors.contains_key(&place.file) {
            let file = self.directory.file(&place.file)?;
            let found = in_safetensors::File::at(&file, place.offset, &self.limits);
            let found = found.map_err(|e| format!("{}: {e}", place.file))?;
            self.safetensors.insert(Arc::clone(&place.file), found.map(|found| (place.offset, found)));
        }
        let found = self.safetensors.get_mut(&place.file).and_then(Option::as_mut);
        Ok(found.filter(|(at, _)| *at == place.offset).map(|(_, file)| file))
    }

    fn object(&mut self, fqn: &str, place: Option<FileRange>) -> Result<NodeId, String> {
        let is_zstd = place.as_ref().is_some_and(|place| place.is_zstd);
        let mut source = self.bytes(fqn, place)?;
        if is_zstd {
            source = expand(&source, Compression::Zstd, &self.limits, &Silent).map_err(|e| e.to_string())?;
        }
        let opener = Opener::new(source, &self.limits, self.max_objects);
        opener.saved(&mut self.parts).map(|opened| opened.root).map_err(|e| e.to_string())
    }
}
