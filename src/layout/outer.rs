//! What an archive states of the members that are opened in it: whether their bytes are those of its checksums.

use std::sync::Arc;

use crate::container::archive::Archive;
use crate::error::Result;
use crate::source::{SharedSource, read_vec};

/// A stored member of more bytes is not read for its checksum alone where only its structure is wanted.
const MAX_SUMMED_BYTES: u64 = 256 << 20;
const BLOCK_BYTES: u64 = 1 << 20;

/// A member that was opened.
#[derive(Debug)]
pub(super) struct Outer {
    archive: Arc<Archive>,
    index: usize,
    /// Its bytes, where they have been expanded.
    source: Option<SharedSource>,
}

impl Outer {
    pub(crate) fn new(archive: &Arc<Archive>, index: usize, source: Option<&SharedSource>) -> Self {
        Outer { archive: Arc::clone(archive), index, source: source.map(Arc::clone) }
    }

    pub(crate) fn name(&self) -> &str {
        self.archive.name(self.index).unwrap_or_default()
    }

    /// Whether looking at the checksum means to read much that nobody asked for.
    pub(crate) fn is_large(&self) -> bool {
        self.archive.zip().is_some() && self.archive.size(self.index) > MAX_SUMMED_BYTES
    }

    /// The checksum of the bytes, and the one that the archive states, where these differ. A tar states none.
    pub(crate) fn mismatch(&self) -> Result<Option<(u32, u32)>> {
        let Some(zip) = self.archive.zip() else { return Ok(None) };
        let Some(member) = zip.members.get(self.index) else { return Ok(None) };
        let source = match &self.source {
            Some(source) => Arc::clone(source),
            None => self.archive.contents(self.index)?.source,
        };
        let (mut hasher, mut at) = (crc32fast::Hasher::new(), 0);
        while at < source.len() {
            let block = read_vec(source.as_ref(), at, (source.len() - at).min(BLOCK_BYTES))?;
            hasher.update(&block);
            at += block.len() as u64;
        }
        let sum = hasher.finalize();
        if sum == member.crc32 {
            return Ok(None);
        }
        Ok(zip.stated_crc(member)?.filter(|stated| *stated != sum).map(|stated| (sum, stated)))
    }
}
