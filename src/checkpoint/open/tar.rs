//! The tar container of torch before 0.1.10: `storages`, `tensors`, `pickle`.
//!
//! Source: `torch/serialization.py` (`legacy_load`). Integers are little-endian.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Opened, Opener, Parts};
use crate::checkpoint::framed::Single;
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::storage::{Bytes, Persistent, Storage, StorageId, Storages};
use crate::checkpoint::tensor::{Data, Extents, STRIDED, Tensor};
use crate::container::tar::Tar;
use crate::dtype::{ByteOrder, DType};
use crate::error::{Error, Result};
use crate::pickle::{Graph, Node, NodeId, NothingInline, StreamId, decode};
use crate::source::{SharedSource, Window};

/// Members that an error lists.
const NAMES_SHOWN: usize = 6;
/// Dimensions of a tensor: numpy and torch stop at 64.
const MAX_DIMS: i32 = 64;

impl Opener<'_> {
    pub(super) fn tar(&self, parts: &mut Parts) -> Result<Opened> {
        let tar = Tar::open(Arc::clone(&self.source), self.limits)?;
        if !tar.is_torch() {
            let names = tar.members.iter().map(|member| member.name.escape_debug().to_string());
            let shown = names.take(NAMES_SHOWN).collect::<Vec<_>>().join(", ");
            let more = tar.members.len().saturating_sub(NAMES_SHOWN);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Err(Error::not_a_checkpoint(format!("not a checkpoint: a tar archive of {shown}{rest}")));
        }
        let described = self.tar_tables(&tar, parts)?;
        let Parts { graph, storages, tensors } = parts;
        let from = graph.persistents().len();
        let (_, stream) = member(&tar, graph, "pickle")?;
        let object = decode(graph, stream, 0, self.max_objects, &Joblib)?;
        storages.resolve(graph, from, "", |key, _| {
            (Bytes::Missing(format!("storage {key} is not in the archive")), ByteOrder::Little)
        })?;
        for node in graph.persistents().get(from..).unwrap_or_default() {
            if let Some(Persistent::Tensor(key)) = storages.meaning(*node) {
                let tensor = described.get(&key.to_string()).cloned();
                let tensor = tensor.ok_or_else(|| Error::malformed(format!("tensor {key} is not in the archive")));
                tensors.add(*node, tensor?)?;
            }
        }
        Ok(Opened {
            protocol: Some(object.protocol),
            byte_order: Some(ByteOrder::Little),
            era: Some("torch before 0.1.10"),
            ..Opened::new(self.file(Single::Tar), object.root)
        })
    }

    /// The tensors by key, of the members `storages` and `tensors`. What was read of them before an error is in `parts`.
    pub(crate) fn tar_tables(&self, tar: &Tar, parts: &mut Parts) -> Result<HashMap<String, Tensor>> {
        let Parts { graph, storages, .. } = parts;
        let by_key = self.tar_storages(tar, graph, storages)?;
        self.tar_tensors(tar, graph, storages, &by_key)
    }

    /// A count, then for each storage a pickle `(key, location, class)`, an int64 count and the bytes; at last a pickled
    /// list of views `(target, root, offset, numel)`.
    fn tar_storages(
        &self,
        tar: &Tar,
        graph: &mut Graph,
        storages: &mut Storages,
    ) -> Result<HashMap<String, (StorageId, u64)>> {
        let mut items = Items { opener: self, at: 0, member: member(tar, graph, "storages")?, name: "storages" };
        let mut by_key: HashMap<String, (StorageId, u64)> = HashMap::new();
        for _ in 0..items.count(graph)? {
            let parts = items.tuple(graph, 3)?;
            let [key, location, class] = *parts.first_chunk().ok_or_else(|| items.bad("too short a tuple"))?;
            let key = items.key(graph, key)?;
            let class = graph.global(class).map(|(_, name)| name.into_owned()).ok_or_else(|| items.bad("no class"))?;
            let dtype = DType::from_storage_class(&class);
            let numel = u64::try_from(items.int64()?).map_err(|_| items.bad("a negative count"))?;
            let size = dtype.size().ok_or_else(|| items.bad("a storage of unknown element size"))?;
            let len = numel.checked_mul(u64::from(size)).ok_or_else(|| items.bad("too large a count"))?;
            let bytes = Bytes::Here(items.window(len)?);
            let location = graph.str_or_bytes(location).unwrap_or_default().into_owned();
            let byte_order = ByteOrder::Little;
            let (class, location) = (class.into(), location.into());
            let storage = Storage { key: key.as_str().into(), class, dtype, location, numel, byte_order, bytes };
            by_key.insert(key, (storages.add(storage)?, 0));
        }
        let views = items.pickle(graph)?;
        for view in graph.sequence(views).unwrap_or_default() {
            let Some([target, root, offset, _]) = graph.sequence(*view) else { return Err(items.bad("an odd view")) };
            let (target, root) = (items.key(graph, *target)?, items.key(graph, *root)?);
            let offset = graph.int(*offset).and_then(|offset| u64::try_from(offset).ok());
            let known =
                by_key.get(&root).zip(offset).and_then(|((id, base), offset)| Some((*id, base.checked_add(offset)?)));
            by_key.insert(target, known.ok_or_else(|| items.bad("a view of an unknown storage"))?);
        }
        Ok(by_key)
    }

    /// A count, then for each tensor a pickle `(key, storage key, class)`, an int32 count of dimensions, 4 bytes of
    /// padding, int64 sizes and strides, and an int64 offset.
    fn tar_tensors(
        &self,
        tar: &Tar,
        graph: &mut Graph,
        storages: &Storages,
        by_key: &HashMap<String, (StorageId, u64)>,
    ) -> Result<HashMap<String, Tensor>> {
        let mut items = Items { opener: self, at: 0, member: member(tar, graph, "tensors")?, name: "tensors" };
        let mut found = HashMap::new();
        for _ in 0..items.count(graph)? {
            let parts = items.tuple(graph, 3)?;
            let [key, storage, _] = *parts.first_chunk().ok_or_else(|| items.bad("too short a tuple"))?;
            let key = items.key(graph, key)?;
            let storage = items.key(graph, storage)?;
            let (id, base) = *by_key.get(&storage).ok_or_else(|| items.bad("a tensor of an unknown storage"))?;
            let dims = i32::from_le_bytes(items.array()?);
            let _padding: [u8; 4] = items.array()?;
            if !(0..=MAX_DIMS).contains(&dims) {
                return Err(items.bad(&format!("a tensor of {dims} dimensions")));
            }
            let shape = (0..dims).map(|_| items.int64()).collect::<Result<Extents>>()?;
            let stride = (0..dims).map(|_| items.int64()).collect::<Result<Extents>>()?;
            let offset = items.int64()?;
            let described = storages.get(id);
            let mut tensor = Tensor {
                dtype: described.map(|storage| storage.dtype.clone()),
                device: described.map(|storage| storage.location.clone()),
                shape,
                stride: Some(stride),
                storage_offset: Some(offset),
                layout: STRIDED,
                requires_grad: Some(false),
                data: Data::Storage { id, offset: base.saturating_add(u64::try_from(offset).unwrap_or(0)) },
                ..Tensor::default()
            };
            tensor.inspect(storages);
            found.insert(key, tensor);
        }
        Ok(found)
    }
}

fn member(tar: &Tar, graph: &mut Graph, name: &str) -> Result<(SharedSource, StreamId)> {
    let member = tar.find(name).ok_or_else(|| Error::malformed(format!("the archive has no {name}")))?;
    let source = tar.member_source(member)?;
    let stream = graph.add_stream(Arc::clone(&source), name);
    Ok((source, stream))
}

/// A cursor over a member that mixes pickles and raw integers.
struct Items<'a, 'b> {
    opener: &'a Opener<'b>,
    member: (SharedSource, StreamId),
    at: u64,
    name: &'static str,
}

impl Items<'_, '_> {
    fn bad(&self, what: &str) -> Error {
        Error::malformed(what).at(self.member.0.absolute(self.at)).in_member(self.name)
    }

    fn pickle(&mut self, graph: &mut Graph) -> Result<NodeId> {
        let decoded = decode(graph, self.member.1, self.at, self.opener.max_objects, &NothingInline)?;
        self.at = decoded.end;
        Ok(decoded.root)
    }

    fn count(&mut self, graph: &mut Graph) -> Result<i64> {
        let node = self.pickle(graph)?;
        graph.int(node).filter(|count| *count >= 0).ok_or_else(|| self.bad("no count of entries"))
    }

    fn tuple(&mut self, graph: &mut Graph, len: usize) -> Result<Vec<NodeId>> {
        let node = self.pickle(graph)?;
        let parts = graph.sequence(node).filter(|parts| parts.len() >= len);
        parts.map(<[NodeId]>::to_vec).ok_or_else(|| self.bad("an entry is no tuple"))
    }

    fn key(&self, graph: &Graph, node: NodeId) -> Result<String> {
        match graph.node(node) {
            Node::Int(value) => Ok(value.to_string()),
            _ => graph.str_or_bytes(node).map(|key| key.into_owned()).ok_or_else(|| self.bad("an odd key")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.member.0.read_at(self.at, &mut out).map_err(|e| e.in_member(self.name))?;
        self.at += N as u64;
        Ok(out)
    }

    fn int64(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn window(&mut self, len: u64) -> Result<SharedSource> {
        let window = Window::shared(&self.member.0, self.at, len).map_err(|e| e.in_member(self.name))?;
        self.at += len;
        Ok(window)
    }
}
