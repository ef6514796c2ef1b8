//! Legacy streams, whole files or inside `_load_from_bytes`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::{Opened, Opener, Parts};
use crate::checkpoint::framed::Single;
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::storage::{Bytes, Storages, storage_tuple};
use crate::container::legacy::{self, Announced, Legacy, Located, StoredAt};
use crate::dtype::{ByteOrder, DType};
use crate::error::{Error, ErrorKind, Result};
use crate::pickle::{Graph, Node, NodeId};
use crate::source::SharedSource;

impl Opener<'_> {
    pub(super) fn legacy(&self, parts: &mut Parts) -> Result<Opened> {
        let (from, persistents) = (parts.graph.len(), parts.graph.persistents().len());
        let stream = parts.graph.add_stream(Arc::clone(&self.source), "");
        let found = legacy::read(&mut parts.graph, stream, self.max_objects, &Joblib)?;
        let how = if self.damaged { OnDamage::Salvage } else { OnDamage::Stop };
        let (end, stopped) = resolve(&parts.graph, &mut parts.storages, &self.source, &found, persistents, "", how)?;
        if let Some(e) = stopped.filter(|e| !self.damaged || e.kind() == ErrorKind::Io) {
            return Err(match e.kind() {
                ErrorKind::Truncated => e.advise("`ckpt repair` saves the tensors that are there"),
                _ => e,
            });
        }
        super::read_nested(self, parts, from)?;
        let mut opened = Opened {
            protocol: Some(found.object.protocol),
            byte_order: Some(ByteOrder::Little),
            era: Some("torch 0.1.10 to 1.5, or its legacy format"),
            ..Opened::new(self.file(Single::Legacy), found.object.root)
        };
        let after = self.source.len() - end;
        if after > 0 {
            opened.notes.push(format!("{after} bytes after the last storage (byte {end}) belong to nothing"));
        }
        Ok(opened)
    }
}

/// Reads the stream inside a `_load_from_bytes`; gives its object.
pub(super) fn read_inner(
    opener: &Opener<'_>,
    graph: &mut Graph,
    storages: &mut Storages,
    inner: SharedSource,
    number: usize,
) -> Result<NodeId> {
    let at = inner.absolute(0);
    if !legacy::is_legacy(&inner) {
        return Err(Error::unsupported("torch.storage._load_from_bytes of something else than a legacy stream").at(at));
    }
    let from = graph.persistents().len();
    let stream = graph.add_stream(Arc::clone(&inner), "");
    let found = legacy::read(graph, stream, opener.max_objects, &Joblib)?;
    let prefix = format!("{number}/");
    if let (_, Some(e)) = resolve(graph, storages, &inner, &found, from, &prefix, OnDamage::Stop)? {
        return Err(e);
    }
    Ok(found.object.root)
}

/// What is done where the storages break off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnDamage {
    Stop,
    Salvage,
}

/// Gives the stream's storages their bytes; gives where the last one ends, and why there are no more.
fn resolve(
    graph: &Graph,
    storages: &mut Storages,
    source: &SharedSource,
    found: &Legacy,
    from: usize,
    prefix: &str,
    how: OnDamage,
) -> Result<(u64, Option<Error>)> {
    // the first use of a key decides: the size of an element, and of all
    let mut sizes: HashMap<Cow<'_, str>, (Option<u64>, Option<u64>)> = HashMap::new();
    for node in graph.persistents().get(from..).unwrap_or_default() {
        let Node::Persistent(pid) = graph.node(*node) else { continue };
        if let Some(tuple) = storage_tuple(graph, *pid)? {
            let (of_one, of_all) = (DType::from_storage_class(&tuple.class).size().map(u64::from), tuple.bytes());
            sizes.entry(tuple.key).or_insert((of_one, of_all));
        }
    }
    let Located { stored, mut end, stopped } =
        legacy::locate(source, found, |key| sizes.get(key).and_then(|(of_one, _)| *of_one));
    let mut by_key: HashMap<String, (StoredAt, Option<&str>)> =
        stored.into_iter().map(|stored| (stored.key.clone(), (stored, None))).collect();
    // counts that differ from the pickle's and still lead to the file's end are those of old files
    if how == OnDamage::Salvage && (stopped.is_some() || end < source.len()) {
        let announced = |key: &str| {
            let (of_one, of_all) = sizes.get(key)?;
            let (element_bytes, all) = ((*of_one)?, (*of_all)?);
            Some(Announced { element_bytes, count: all.checked_div(element_bytes)? })
        };
        let (stored, ends) = legacy::locate_damaged(source, found, announced)?;
        by_key = stored.into_iter().map(|(stored, doubt)| (stored.key.clone(), (stored, doubt))).collect();
        end = ends;
    }
    storages.resolve(graph, from, prefix, |key, wanted| {
        let bytes = match by_key.get(key) {
            // torch 2.15 makes an empty storage of it
            Some(_) if sizes.get(key).is_some_and(|(_, first)| *first != wanted) => {
                Bytes::Missing(format!("storage {key} is named with two sizes, and this is the second"))
            }
            Some((stored, None)) => Bytes::Here(Arc::clone(&stored.bytes)),
            Some((stored, Some(doubt))) => {
                Bytes::Doubtful(Arc::clone(&stored.bytes), format!("its storage {key} may be damaged: {doubt}"))
            }
            None => Bytes::Missing(format!("storage {key} is not in the file")),
        };
        (bytes, ByteOrder::Little)
    })?;
    Ok((end, stopped))
}
