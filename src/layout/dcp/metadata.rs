//! DCP's index: a pickle of `torch.distributed.checkpoint.metadata.Metadata`, read into what it says.
//!
//! Chunks find their place by name and offset, as `MetadataIndex` compares; its `index` is only a hint.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::checkpoint::arguments::{sizes, torch_dtype};
use crate::checkpoint::names::Element;
use crate::checkpoint::object::Objects;
use crate::checkpoint::open::Parts;
use crate::checkpoint::tensor::Extents;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::Setting;
use crate::pickle::{Graph, Node, NodeId, NothingInline, decode};
use crate::source::SharedSource;

/// What the index says.
#[derive(Debug)]
pub(super) struct Metadata {
    /// In the order of `state_dict_metadata`.
    pub entries: Vec<MetadataEntry>,
    /// The index's pickle protocol, where it is a pickle.
    pub protocol: Option<u8>,
    /// Objects and elements that the index takes.
    pub held: usize,
    /// What the index has a place for and says nothing else of.
    pub undescribed: Vec<Undescribed>,
}

/// One tensor or object.
#[derive(Debug)]
pub(super) struct MetadataEntry {
    /// Its name in the flattened dict.
    pub fqn: String,
    /// Its path in the dict that was saved, where the planner kept it, else the name alone.
    pub path: Vec<Element>,
    pub stored: Stored,
}

#[derive(Debug)]
pub(super) enum Stored {
    Tensor(TensorAt),
    Object(Option<FileRange>),
}

/// A tensor (`TensorStorageMetadata`).
#[derive(Debug)]
pub(super) struct TensorAt {
    pub dtype: DType,
    pub size: Extents,
    pub requires_grad: bool,
    pub chunks: Vec<ChunkAt>,
    /// Where chunks without an element are stored.
    pub empty: Vec<FileRange>,
}

/// A box of a tensor, and where it is stored; `None` when the index does not say.
#[derive(Debug)]
pub(super) struct ChunkAt {
    pub offsets: Vec<u64>,
    pub sizes: Vec<u64>,
    pub place: Option<FileRange>,
}

/// Bytes in a file of the directory.
#[derive(Debug, Clone)]
pub(super) struct FileRange {
    pub file: Arc<str>,
    pub offset: u64,
    pub length: u64,
    /// Whether they are compressed with Zstandard (`torch/distributed/checkpoint/_extension.py`).
    pub is_zstd: bool,
}

/// A name that the index has a place for, and the place.
pub(super) type Undescribed = (String, FileRange);

/// What the data says that is compressed so: the name of the extension, before its version.
const ZSTD: &str = "stream.zstd/1";

/// Places by name and, for chunks, offset; and whether something was found to lie there.
type Places = HashMap<(String, Option<Vec<u64>>), (FileRange, Cell<bool>)>;

/// The place of a chunk or an object.
fn place_of(places: &Places, key: &(String, Option<Vec<u64>>)) -> Option<FileRange> {
    let (place, is_described) = places.get(key)?;
    is_described.set(true);
    Some(place.clone())
}

impl Metadata {
    /// Reads the index. Malformed is what is no such index; data that was encoded when it was written is
    /// `Unsupported`, but for Zstandard.
    pub(crate) fn read(source: SharedSource, limits: &Limits) -> Result<Self> {
        let max_objects = limits.objects_for(source.len());
        let mut parts = Parts::new();
        let stream = parts.graph.add_stream(source, "");
        let decoded = decode(&mut parts.graph, stream, 0, max_objects, &NothingInline)?;
        let held = usize::try_from(parts.graph.held()).unwrap_or(usize::MAX);
        let index = Index { objects: parts.objects(), limits };
        let (entries, undescribed) = index.entries(decoded.root)?;
        Ok(Metadata { entries, protocol: Some(decoded.protocol), held, undescribed })
    }

    /// The files that the index names; some more than once.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().flat_map(|entry| {
            let (chunks, place): (&[ChunkAt], _) = match &entry.stored {
                Stored::Tensor(tensor) => (&tensor.chunks, None),
                Stored::Object(place) => (&[], place.as_ref()),
            };
            chunks.iter().filter_map(|chunk| chunk.place.as_ref()).chain(place).map(|place| &*place.file)
        })
    }
}

struct Index<'a> {
    objects: Objects<'a>,
    limits: &'a Limits,
}

impl Index<'_> {
    /// The entries, and what has a place and no entry.
    fn entries(&self, root: NodeId) -> Result<(Vec<MetadataEntry>, Vec<Undescribed>)> {
        if self.objects.class_name(root).as_deref() != Some("Metadata") {
            return Err(Error::not_a_checkpoint("is no index of torch.distributed.checkpoint"));
        }
        let described = self.items(root, "state_dict_metadata");
        let described = described.ok_or_else(|| Error::malformed("the index has no state_dict_metadata"))?;
        let places = self.places(root)?;
        let mut paths = self.paths(root)?;
        let mut entries = Vec::new();
        for item in described {
            let fqn = self.name(item.key)?;
            let path = paths.remove(&fqn).unwrap_or_else(|| vec![Element::Text(fqn.clone())]);
            let stored = match self.objects.attribute(item.value, "chunks") {
                Some(chunks) => Stored::Tensor(
                    self.tensor(item.value, chunks, &|offsets| place_of(&places, &(fqn.clone(), Some(offsets))))
                        .map_err(|what| Error::malformed(format!("{fqn}: {what}")))?,
                ),
                None => Stored::Object(place_of(&places, &(fqn.clone(), None))),
            };
            entries.push(MetadataEntry { fqn, path, stored });
        }
        let left = places.into_iter().filter(|(_, (_, is_described))| !is_described.get());
        let left = left.map(|((fqn, _), (place, _))| (fqn, place));
        let mut undescribed: Vec<Undescribed> = left.collect();
        undescribed.sort_by(|(a, x), (b, y)| (a, &x.file, x.offset).cmp(&(b, &y.file, y.offset)));
        Ok((entries, undescribed))
    }

    /// The items of a dict that is an attribute; nothing where the attribute is `None` or no dict.
    fn items(&self, node: NodeId, attribute: &str) -> Option<Vec<crate::pickle::Pair>> {
        self.objects.items(self.objects.attribute(node, attribute)?)
    }

    fn name(&self, node: NodeId) -> Result<String> {
        let name = self.objects.graph.str(node).map(|name| name.into_owned());
        name.ok_or_else(|| Error::malformed("a name in the index is no text"))
    }

    /// `storage_data`: `MetadataIndex(fqn, offset)` to `_StorageInfo(relative_path, offset, length)`.
    fn places(&self, root: NodeId) -> Result<Places> {
        let mut files: HashMap<String, Arc<str>> = HashMap::new();
        let mut places = Places::new();
        for item in self.items(root, "storage_data").unwrap_or_default() {
            let broken = || Error::malformed("the index has a broken entry in storage_data");
            let fqn = self.name(self.objects.attribute(item.key, "fqn").ok_or_else(broken)?)?;
            let offset = match self.objects.attribute(item.key, "offset").filter(|node| *node != Graph::NONE) {
                Some(node) => Some(self.extents(node).ok_or_else(broken)?),
                None => None,
            };
            let is_zstd = self.is_zstd(item.value, &fqn)?;
            let number = |attribute| {
                let value = self.objects.graph.int(self.objects.attribute(item.value, attribute)?)?;
                u64::try_from(value).ok()
            };
            let file = self.objects.attribute(item.value, "relative_path").ok_or_else(broken)?;
            let file = self.name(file)?;
            let file = Arc::clone(files.entry(file).or_insert_with_key(|file| file.as_str().into()));
            let (offset_in_file, length) = number("offset").zip(number("length")).ok_or_else(broken)?;
            let place = FileRange { file, offset: offset_in_file, length, is_zstd };
            places.insert((fqn, offset), (place, Cell::new(false)));
        }
        Ok(places)
    }

    /// `transform_descriptors`: what the bytes went through when they were written.
    fn is_zstd(&self, place: NodeId, fqn: &str) -> Result<bool> {
        let graph = self.objects.graph;
        let encoded = self.objects.attribute(place, "transform_descriptors").filter(|node| *node != Graph::NONE);
        let Some(encoded) = encoded else { return Ok(false) };
        let names: Option<Vec<_>> =
            graph.sequence(encoded).map(|all| all.iter().filter_map(|name| graph.str(*name)).collect());
        match names.as_deref() {
            Some([]) if graph.sequence(encoded) == Some(&[]) => Ok(false),
            // a version is `1` or `1.2`
            Some([name]) if name.strip_prefix(ZSTD).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) => {
                Ok(true)
            }
            _ => {
                let with = self.objects.repr(encoded, 80);
                Err(Error::unsupported(format!("the data of {fqn} is encoded ({with}); only torch can undo that")))
            }
        }
    }

    /// `planner_data`: name to path. Paths may be shared in the pickle, so what they come to is bounded.
    fn paths(&self, root: NodeId) -> Result<HashMap<String, Vec<Element>>> {
        let mut left = self.limits.max_entries;
        let mut paths = HashMap::new();
        for item in self.items(root, "planner_data").unwrap_or_default() {
            let fqn = self.name(item.key)?;
            let parts = self.objects.graph.sequence(item.value).unwrap_or_default();
            if parts.is_empty() {
                continue;
            }
            if parts.len() > self.limits.max_depth {
                let max = self.limits.max_depth;
                let message = format!("{fqn}: its path is more than {max} deep");
                return Err(Error::limit(message).allowed_by(Setting::MaxDepth));
            }
            // most paths have two elements or three: what they share is counted generously
            left = left.checked_sub(parts.len().saturating_sub(8) as u64).ok_or_else(|| {
                Error::limit("the paths in the index are too long to list").allowed_by(Setting::MaxEntries)
            })?;
            let path = parts.iter().map(|part| self.element(*part)).collect::<Result<_>>();
            paths.insert(fqn, path?);
        }
        Ok(paths)
    }

    fn element(&self, node: NodeId) -> Result<Element> {
        match self.objects.graph.node(node) {
            Node::Str(_) => self.name(node).map(Element::Text),
            Node::Int(index) => Ok(Element::Int(*index)),
            Node::Bool(value) => Ok(Element::Bool(*value)),
            _ => Err(Error::malformed("a path in the index holds something else than text and numbers")),
        }
    }

    /// `TensorStorageMetadata(properties, size, chunks)`; the state of `TensorProperties` is a tuple
    /// `(dtype, layout, requires_grad, …)`.
    fn tensor(
        &self,
        node: NodeId,
        chunks: NodeId,
        place_of: &dyn Fn(Vec<u64>) -> Option<FileRange>,
    ) -> Result<TensorAt, &'static str> {
        let graph = self.objects.graph;
        let properties = self.objects.attribute(node, "properties").ok_or("the index gives no properties")?;
        let (_, states) = self.objects.states(properties);
        let state = states.first().and_then(|state| graph.tuple(*state)).ok_or("its properties are no tuple")?;
        let dtype = state.first().and_then(|dtype| torch_dtype(graph, *dtype)).ok_or("its dtype is no dtype")?;
        let size = self.objects.attribute(node, "size").and_then(|size| sizes(graph, size)).ok_or("it has no size")?;
        let (mut found, mut empty) = (Vec::new(), Vec::new());
        for chunk in graph.sequence(chunks).ok_or("its chunks are no list")? {
            let sides = |name| self.objects.attribute(*chunk, name).and_then(|node| self.extents(node));
            let (offsets, sizes) = sides("offsets").zip(sides("sizes")).ok_or("a chunk has no place or no size")?;
            // a process without a part of the tensor writes nothing, or a file of nothing
            if sizes.contains(&0) {
                empty.extend(place_of(offsets));
                continue;
            }
            found.push(ChunkAt { place: place_of(offsets.clone()), offsets, sizes });
        }
        let requires_grad = state.get(2).and_then(|flag| graph.bool(*flag)).unwrap_or(false);
        Ok(TensorAt { dtype, size, requires_grad, chunks: found, empty })
    }

    /// A `torch.Size` of numbers that are not negative.
    fn extents(&self, node: NodeId) -> Option<Vec<u64>> {
        sizes(self.objects.graph, node)?.into_iter().map(|size| u64::try_from(size).ok()).collect()
    }
}
