//! Checkpoints of several files that lie in an archive: shards beside their index, a directory of torch.distributed.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::dcp::Dcp;
use super::directory::Directory;
use super::folder::{self, Weights};
use super::sharded::Sharded;
use super::{DCP_DATA, DCP_INDEX, Kind};
use crate::container::archive::Archive;
use crate::container::detect::{Framing, detect};
use crate::error::Result;
use crate::limits::Limits;

/// Indexes of one archive that are read to find the shards.
const MAX_INDEXES: usize = 256;
/// Bytes of an index of shards that is read for that.
const MAX_INDEX_BYTES: u64 = 16 << 20;

/// A checkpoint of several members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The index of shards, or `.metadata`.
    pub index: usize,
    /// The members that belong to it, the index too.
    pub parts: Vec<usize>,
}

/// The folder in which a member lies, with its slash; empty for the top.
fn folder_of(name: &str) -> &str {
    name.rfind('/').and_then(|at| name.get(..=at)).unwrap_or("")
}

/// The checkpoints of several members that an archive holds.
pub(super) fn groups(archive: &Archive) -> Vec<Group> {
    let is_index = |name: &str| folder::is_index(name) || name.rsplit('/').next() == Some(DCP_INDEX);
    let indexes: Vec<usize> =
        archive.names().enumerate().filter(|(_, name)| is_index(name)).map(|(index, _)| index).collect();
    let found = indexes.into_iter().take(MAX_INDEXES).map(|index| Group { index, parts: parts(archive, index) });
    found.filter(|group| group.parts.len() > 1).collect()
}

/// The members of the checkpoint whose index is the member `index`.
pub(super) fn parts(archive: &Archive, index: usize) -> Vec<usize> {
    let is_shards = archive.name(index).is_some_and(folder::is_index);
    let parts = if is_shards { shards(archive, index) } else { chunks(archive, index) };
    parts.unwrap_or_default()
}

fn shards(archive: &Archive, index: usize) -> Option<Vec<usize>> {
    if archive.size(index) > MAX_INDEX_BYTES {
        return None;
    }
    let contents = archive.contents(index).ok()?;
    if !matches!(detect(contents.source.as_ref()), Ok(Framing::ShardIndex)) {
        return None;
    }
    let name = archive.name(index)?;
    let directory = Directory::new(Path::new(""));
    let sharded = Sharded::in_directory(Path::new(name), directory, &contents.source, &contents.limits).ok()?;
    let folder = folder_of(name);
    let found = sharded.shards().into_iter().filter_map(|shard| archive.find(&format!("{folder}{shard}")));
    Some([index].into_iter().chain(found).collect())
}

fn chunks(archive: &Archive, index: usize) -> Option<Vec<usize>> {
    let folder = folder_of(archive.name(index)?);
    let is_chunk =
        |name: &str| name.strip_prefix(folder).is_some_and(|rest| !rest.contains('/') && rest.ends_with(DCP_DATA));
    let chunks = archive.names().enumerate().filter(|(_, name)| is_chunk(name)).map(|(index, _)| index);
    Some([index].into_iter().chain(chunks).collect())
}

/// The checkpoint whose index the member `index` is; `shown` is what people call that. Nothing where it is no index.
pub(super) fn open(archive: &Arc<Archive>, index: usize, shown: &str, limits: &Limits) -> Result<Option<Kind>> {
    let Some(name) = archive.name(index) else { return Ok(None) };
    let directory = Directory::in_archive(archive, folder_of(name));
    if name.rsplit('/').next() == Some(DCP_INDEX) {
        let parts = chunks(archive, index).unwrap_or_default();
        if parts.len() < 2 {
            return Ok(None);
        }
        let bytes = parts.iter().fold(0u64, |sum, part| sum.saturating_add(archive.size(*part)));
        let source = archive.contents(index)?.source;
        return Ok(Some(Kind::Dcp(Dcp::in_archive(directory, source, bytes, limits)?)));
    }
    let contents = archive.contents(index)?;
    if !matches!(detect(contents.source.as_ref()), Ok(Framing::ShardIndex)) {
        return Ok(None);
    }
    Sharded::in_directory(Path::new(shown), directory, &contents.source, limits).map(|it| Some(Kind::Sharded(it)))
}

/// The index in a folder of an archive that is the directory of a checkpoint.
pub(super) fn index_of_folder(archive: &Archive, folder: &str) -> Result<Option<usize>> {
    let folder = match folder.trim_start_matches("./").trim_end_matches('/') {
        "" | "." => String::new(),
        folder => format!("{folder}/"),
    };
    if let Some(index) = archive.find(&format!("{folder}{DCP_INDEX}")) {
        return Ok(Some(index));
    }
    let in_folder = |name: &str| name.strip_prefix(&folder).filter(|rest| !rest.contains('/')).map(str::to_owned);
    let names: HashSet<String> = archive.names().filter_map(in_folder).collect();
    Ok(match folder::weights(&names.into_iter().collect::<Vec<_>>())? {
        Some((Weights::Index(name), _)) => archive.find(&format!("{folder}{name}")),
        _ => None,
    })
}
