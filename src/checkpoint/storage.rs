//! Storages: the byte ranges that tensors are views of, and the persistent ids that name them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use rustc_hash::FxHashMap;

use crate::container::zip::Zip;
use crate::dtype::{ByteOrder, DType};
use crate::error::{Error, ErrorKind, Result};
use crate::pickle::{Graph, Moved, Node, NodeId};
use crate::source::{MemorySource, SharedSource, Source};

/// A storage's place in [`Storages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StorageId(pub(super) u32);

impl StorageId {
    /// The same storage, when so many have been put before it.
    pub(super) fn after(self, others: u32) -> Self {
        StorageId(self.0.saturating_add(others))
    }
}

/// One storage.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// Its key in the file; storages of nested streams have the stream's number before it.
    pub key: Arc<str>,
    /// The storage class (`FloatStorage`).
    pub class: Arc<str>,
    /// The type its class stands for.
    pub dtype: DType,
    /// The device tag: `cpu`, `cuda:0`, `meta`.
    pub location: Arc<str>,
    /// Elements, as the pickle says.
    pub numel: u64,
    /// In which order the bytes of an element lie.
    pub byte_order: ByteOrder,
    pub(super) bytes: Bytes,
}

/// Where a storage's bytes lie.
#[derive(Debug, Clone)]
pub(super) enum Bytes {
    /// Known: a part of the file.
    Here(SharedSource),
    /// Known, and maybe not what was written: why.
    Doubtful(SharedSource, String),
    /// A member of a zip, opened when it is needed.
    Member { zip: Arc<Zip>, index: usize, opened: OnceLock<SharedSource> },
    /// Nowhere: why.
    Missing(String),
}

impl Storage {
    /// Bytes that are really there; `None` when they are missing.
    pub(crate) fn available(&self) -> Option<u64> {
        match &self.bytes {
            Bytes::Here(source) | Bytes::Doubtful(source, _) => Some(source.len()),
            Bytes::Member { zip, index, .. } => zip.members.get(*index).map(|member| member.size),
            Bytes::Missing(_) => None,
        }
    }

    /// Bytes that tensors may look at: of those that are there, the elements that the pickle speaks of, as torch has it.
    pub(crate) fn extent(&self) -> Option<u64> {
        let size = self.dtype.size().map_or(u64::MAX, |size| self.numel.saturating_mul(u64::from(size)));
        self.available().map(|available| available.min(size))
    }

    /// Bytes that it takes in the file, which are fewer when it is deflated.
    pub(crate) fn stored(&self) -> Option<u64> {
        match &self.bytes {
            Bytes::Member { zip, index, .. } => zip.members.get(*index).map(|member| member.compressed_size),
            _ => self.available(),
        }
    }

    /// The bytes. Fails when they are missing or their member cannot be opened.
    pub(crate) fn source(&self) -> Result<SharedSource> {
        match &self.bytes {
            Bytes::Here(source) | Bytes::Doubtful(source, _) => Ok(Arc::clone(source)),
            Bytes::Member { zip, index, opened } => {
                if let Some(source) = opened.get() {
                    return Ok(Arc::clone(source));
                }
                let member = zip.members.get(*index).ok_or_else(|| Error::data("no such member"))?;
                let source = zip.member_source(member)?;
                Ok(Arc::clone(opened.get_or_init(|| source)))
            }
            Bytes::Missing(why) => Err(Error::data(why.clone())),
        }
    }

    /// The bytes of a member that is opened, and expanded, when they are first read; other storages as they are.
    pub(crate) fn deferred(&self) -> Result<SharedSource> {
        match &self.bytes {
            Bytes::Member { zip, index, opened } if opened.get().is_none() => {
                let member = zip.members.get(*index).ok_or_else(|| Error::data("no such member"))?;
                Ok(Arc::new(Deferred {
                    zip: Arc::clone(zip),
                    index: *index,
                    len: member.size,
                    opened: OnceLock::new(),
                }))
            }
            _ => self.source(),
        }
    }

    /// The CRC-32 that the file states for the bytes as they lie there.
    pub(crate) fn stated_crc(&self) -> Option<u32> {
        match &self.bytes {
            Bytes::Member { zip, index, .. } => {
                let stored = zip.members.get(*index).filter(|member| member.method == 0);
                // 0 stands where none was computed; what really sums up to it is summed up again
                stored.map(|member| member.crc32).filter(|crc| *crc != 0)
            }
            _ => None,
        }
    }

    /// The member of an archive that it is.
    pub(crate) fn member(&self) -> Option<(&Arc<Zip>, usize)> {
        match &self.bytes {
            Bytes::Member { zip, index, .. } => Some((zip, *index)),
            _ => None,
        }
    }

    /// Why the bytes may not be those that were written, where a damaged file was salvaged.
    pub(crate) fn doubt(&self) -> Option<String> {
        match &self.bytes {
            Bytes::Member { zip, index, .. } => {
                let member = zip.members.get(*index)?;
                let doubt = member.doubt.as_deref()?;
                Some(format!("its storage, member {}, may be damaged: {doubt}", member.name))
            }
            Bytes::Doubtful(_, why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Why the bytes cannot be read, when that is known without reading.
    pub(crate) fn missing(&self) -> Option<&str> {
        match &self.bytes {
            Bytes::Missing(why) => Some(why),
            _ => None,
        }
    }
}

/// A member that has not been opened before somebody reads it.
#[derive(Debug)]
struct Deferred {
    zip: Arc<Zip>,
    index: usize,
    len: u64,
    opened: OnceLock<SharedSource>,
}

impl Deferred {
    fn open(&self) -> Result<&SharedSource> {
        if let Some(source) = self.opened.get() {
            return Ok(source);
        }
        let member = self.zip.members.get(self.index).ok_or_else(|| Error::data("no such member"))?;
        let source = self.zip.member_source(member)?;
        Ok(self.opened.get_or_init(|| source))
    }
}

impl Source for Deferred {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.open()?.read_at(offset, buf)
    }

    fn absolute(&self, offset: u64) -> u64 {
        self.open().map_or(offset, |source| source.absolute(offset))
    }

    fn as_file(&self, offset: u64) -> Option<(&File, u64)> {
        self.open().ok()?.as_file(offset)
    }

    fn announce(&self, range: Range<u64>) {
        if let Ok(source) = self.open() {
            source.announce(range);
        }
    }
}

/// What a persistent id of torch means.
#[derive(Debug, Clone)]
pub(super) enum Persistent {
    /// A storage, or a window of one that begins `view_offset` elements into it.
    Storage { id: StorageId, view_offset: u64 },
    /// A tensor by number (tar of torch < 0.1.10).
    Tensor(u64),
    /// A module class that was saved with its source.
    Class(NodeId),
}

/// `('storage', class, key, location, numel[, view_metadata])`, as `torch/serialization.py` writes it.
pub(super) struct StorageTuple<'a> {
    pub class: Cow<'a, str>,
    pub key: Cow<'a, str>,
    pub location: Cow<'a, str>,
    pub numel: u64,
    /// `(view key, offset, size)`, in elements: this storage is a window of the one with `key`.
    pub view: Option<(Cow<'a, str>, u64, u64)>,
}

impl StorageTuple<'_> {
    /// How many bytes it has, where the size of its elements is known.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.numel.checked_mul(u64::from(DType::from_storage_class(&self.class).size()?))
    }
}

/// Reads a storage's persistent id; an error says what is odd about it.
pub(super) fn storage_tuple(graph: &Graph, pid: NodeId) -> Result<Option<StorageTuple<'_>>> {
    let Some([tag, class, key, location, numel, rest @ ..]) = graph.tuple(pid) else { return Ok(None) };
    if graph.str_or_bytes(*tag).as_deref() != Some("storage") {
        return Ok(None);
    }
    let class = match graph.global(*class) {
        Some((_, name)) if name.contains('.') => Cow::Owned(name.rsplit('.').next().unwrap_or_default().to_owned()),
        Some((_, name)) => name,
        None => return Err(Error::malformed("a storage's persistent id has no class")),
    };
    let text = |node: NodeId| match graph.node(node) {
        Node::Int(value) => Some(Cow::Owned(value.to_string())),
        _ => graph.str_or_bytes(node),
    };
    let key = text(*key).ok_or_else(|| Error::malformed("a storage's persistent id has no key"))?;
    let size = |node: NodeId| {
        let value = graph.int(node);
        value.and_then(|value| u64::try_from(value).ok()).ok_or_else(|| {
            Error::malformed(format!(
                "storage {key:?} has {} elements",
                value.map_or("no number of".into(), |v| v.to_string())
            ))
        })
    };
    let numel = size(*numel)?;
    let view = match rest.first().and_then(|view| graph.sequence(*view)) {
        Some([view_key, offset, len]) => Some((text(*view_key).unwrap_or_default(), size(*offset)?, size(*len)?)),
        _ => None,
    };
    Ok(Some(StorageTuple { class, location: text(*location).unwrap_or_default(), numel, view, key }))
}

/// All storages of a checkpoint, and which persistent ids name them.
#[derive(Debug, Default)]
pub struct Storages {
    all: Vec<Storage>,
    by_node: FxHashMap<NodeId, Persistent>,
    /// A node that names each, by their numbers.
    nodes: Vec<Option<NodeId>>,
    /// Names that many storages share, held once.
    interned: HashSet<Arc<str>, RandomState>,
}

impl Storages {
    /// The storage of `id`.
    pub(crate) fn get(&self, id: StorageId) -> Option<&Storage> {
        self.all.get(id.0 as usize)
    }

    /// All of them, in the order they were first named.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (StorageId, &Storage)> {
        self.all.iter().zip(0..).map(|(storage, id)| (StorageId(id), storage))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Storages from number `from` on whose members cannot be read are missing.
    pub(super) fn probe(&mut self, from: usize) -> Result<()> {
        for storage in self.all.iter_mut().skip(from).filter(|storage| storage.missing().is_none()) {
            match storage.source() {
                Err(e) if e.kind() == ErrorKind::Io => return Err(e),
                Err(e) => storage.bytes = Bytes::Missing(format!("its storage cannot be read: {e}")),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Storages whose bytes may be damaged are missing from here on.
    pub(super) fn distrust(&mut self) {
        for storage in &mut self.all {
            if let Some(why) = storage.doubt() {
                storage.bytes = Bytes::Missing(why);
            }
        }
    }

    /// The keys of storages from number `from` on get a prefix: they are of a file inside the file.
    pub(super) fn prefix_keys(&mut self, from: usize, prefix: &str) {
        for storage in self.all.iter_mut().skip(from) {
            storage.key = format!("{prefix}{}", storage.key).into();
        }
    }

    /// Storages that are missing are empty from here on: no tensor has elements in them.
    pub(super) fn empty_missing(&mut self) {
        for storage in self.all.iter_mut().filter(|storage| storage.missing().is_some()) {
            storage.bytes = Bytes::Here(Arc::new(MemorySource::new(Vec::new())));
        }
    }

    /// Other bytes lie in a storage from here on.
    pub(super) fn replace(&mut self, id: StorageId, source: SharedSource) {
        if let Some(storage) = self.all.get_mut(id.0 as usize) {
            storage.bytes = Bytes::Here(source);
        }
    }

    /// Takes in the storages of another checkpoint, whose objects were moved. They never become one with these, whatever
    /// their keys are. Gives the number of the first.
    pub(super) fn absorb(&mut self, other: Storages, moved: &Moved) -> Result<u32> {
        let all = self.all.len().saturating_add(other.all.len());
        let (Ok(first), Ok(_)) = (u32::try_from(self.all.len()), u32::try_from(all)) else {
            return Err(Error::limit("more than 4 billion storages"));
        };
        self.all.extend(other.all);
        let by_node = other.by_node.into_iter().map(|(node, meaning)| {
            let meaning = match meaning {
                Persistent::Storage { id: theirs, view_offset } => {
                    Persistent::Storage { id: theirs.after(first), view_offset }
                }
                Persistent::Tensor(number) => Persistent::Tensor(number),
                Persistent::Class(class) => Persistent::Class(moved.node(class)),
            };
            (moved.node(node), meaning)
        });
        self.by_node.extend(by_node);
        self.nodes.extend(other.nodes.into_iter().map(|node| node.map(|theirs| moved.node(theirs))));
        self.interned.extend(other.interned);
        Ok(first)
    }

    /// What a storage is called in the stream whose storages all have this prefix.
    fn key(&self, id: StorageId, prefix: &str) -> Option<&str> {
        self.get(id)?.key.strip_prefix(prefix)
    }

    /// A storage has so many elements from here on.
    pub(super) fn set_numel(&mut self, id: StorageId, numel: u64) {
        if let Some(storage) = self.all.get_mut(id.0 as usize) {
            storage.numel = numel;
        }
    }

    /// How many persistent ids name a storage.
    pub(super) fn nodes_of(&self, id: StorageId) -> usize {
        let is_it = |meaning: &&Persistent| matches!(meaning, Persistent::Storage { id: other, .. } if *other == id);
        self.by_node.values().filter(is_it).count()
    }

    pub(super) fn add(&mut self, storage: Storage) -> Result<StorageId> {
        let id = u32::try_from(self.all.len()).map_err(|_| Error::limit("more than 4 billion storages"))?;
        self.all.push(storage);
        self.nodes.push(None);
        Ok(StorageId(id))
    }

    pub(super) fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.interned.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.interned.insert(Arc::clone(&name));
        name
    }

    /// Whether a node is a storage's persistent id.
    pub(crate) fn is_storage(&self, node: NodeId) -> bool {
        matches!(self.meaning(node), Some(Persistent::Storage { .. }))
    }

    pub(super) fn meaning(&self, node: NodeId) -> Option<&Persistent> {
        self.by_node.get(&node)
    }

    /// A node whose persistent id names the storage.
    pub(super) fn node_of(&self, id: StorageId) -> Option<NodeId> {
        self.nodes.get(id.0 as usize).copied().flatten()
    }

    /// Gives the persistent ids from number `from` on their meaning. `locate` says where the bytes of a key lie, of which
    /// the persistent id speaks of so many; it is asked once for each storage.
    ///
    /// A key that is named by classes of different types stands for a storage of each, as in torch 2.15
    /// (`torch/serialization.py`, `persistent_load`); older versions took all for the first.
    pub(super) fn resolve(
        &mut self,
        graph: &Graph,
        from: usize,
        prefix: &str,
        mut locate: impl FnMut(&str, Option<u64>) -> (Bytes, ByteOrder),
    ) -> Result<()> {
        let nodes = graph.persistents().get(from..).unwrap_or_default();
        // the keys are the storages'; the hash is seeded, as they come from strangers
        let (mut by_key, state) = (HashTable::<StorageId>::with_capacity(nodes.len()), RandomState::default());
        let hash_of = |key: &str| state.hash_one(key);
        let mut of_other_types: HashMap<(StorageId, DType), StorageId> = HashMap::new();
        self.all.reserve(nodes.len());
        self.by_node.reserve(nodes.len());
        self.nodes.reserve(nodes.len());
        for node in nodes {
            let Node::Persistent(pid) = graph.node(*node) else { continue };
            let meaning = if let Some(found) = storage_tuple(graph, *pid)? {
                let dtype = DType::from_storage_class(&found.class);
                let hash = hash_of(&found.key);
                let is_it = |id: &StorageId| self.key(*id, prefix) == Some(&*found.key);
                let first = by_key.find(hash, is_it).copied();
                let known = first.and_then(|first| match self.get(first) {
                    Some(storage) if storage.dtype == dtype => Some(first),
                    _ => of_other_types.get(&(first, dtype.clone())).copied(),
                });
                let id = match known {
                    Some(id) => id,
                    None => {
                        let (bytes, byte_order) = locate(&found.key, found.bytes());
                        let (class, location) = (self.intern(&found.class), self.intern(&found.location));
                        let id = self.add(Storage {
                            key: if prefix.is_empty() {
                                (*found.key).into()
                            } else {
                                format!("{prefix}{}", found.key).into()
                            },
                            class,
                            dtype: dtype.clone(),
                            location,
                            numel: found.numel,
                            byte_order,
                            bytes,
                        })?;
                        match first {
                            None => drop(
                                by_key.insert_unique(hash, id, |id| hash_of(self.key(*id, prefix).unwrap_or_default())),
                            ),
                            Some(first) => drop(of_other_types.insert((first, dtype), id)),
                        }
                        id
                    }
                };
                if let Some(first @ None) = self.nodes.get_mut(id.0 as usize) {
                    *first = Some(*node);
                }
                Persistent::Storage { id, view_offset: found.view.map_or(0, |view| view.1) }
            } else if let Some(meaning) = other_meaning(graph, *pid) {
                meaning
            } else {
                continue;
            };
            self.by_node.insert(*node, meaning);
        }
        Ok(())
    }
}

fn other_meaning(graph: &Graph, pid: NodeId) -> Option<Persistent> {
    if let Some([tag, class, ..]) = graph.tuple(pid) {
        return (graph.str_or_bytes(*tag).as_deref() == Some("module")).then_some(Persistent::Class(*class));
    }
    let number = graph.int(pid).map(|n| n.to_string()).or_else(|| graph.str_or_bytes(pid).map(|t| t.into_owned()));
    number?.parse().ok().map(Persistent::Tensor)
}
