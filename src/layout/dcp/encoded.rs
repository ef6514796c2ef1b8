//! Chunks that torch.distributed.checkpoint compressed with Zstandard (`_extension.py`): expanded tensor by tensor when
//! they are read, and kept for the tensors that were read last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crate::container::compress::{Compression, decode};
use crate::container::spool::Spool;
use crate::container::zip::Zip;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::stitch::{Chunk, Stitched, tiling};
use crate::limits::Limits;
use crate::progress::Silent;
use crate::source::{SharedSource, Source, Window, check_range};

/// Tensors whose expanded chunks are kept.
const MAX_RECENT: usize = 4;

/// The tensors that were read last.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<Arc<Stitched>>>);

impl Recent {
    fn add(&self, tensor: &Arc<Stitched>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_RECENT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(tensor));
    }
}

/// A chunk as it is stored.
#[derive(Debug)]
pub(super) struct Packed {
    pub offsets: Vec<u64>,
    pub sizes: Vec<u64>,
    pub bytes: SharedSource,
    pub file: Arc<str>,
}

/// A tensor of such chunks.
#[derive(Debug)]
pub(super) struct Encoded {
    shape: Vec<u64>,
    dtype: DType,
    len: u64,
    chunks: Vec<Packed>,
    limits: Arc<Limits>,
    recent: Arc<Recent>,
    expanded: Mutex<Weak<Stitched>>,
}

impl Encoded {
    /// As [`Stitched::new`], of chunks that are compressed.
    pub(super) fn new(
        shape: Vec<u64>,
        dtype: DType,
        mut chunks: Vec<Packed>,
        limits: Arc<Limits>,
        recent: Arc<Recent>,
    ) -> Result<Self, String> {
        let size = dtype.size().map(u64::from).filter(|size| *size > 0);
        let size = size.ok_or_else(|| format!("the size of a {} element is not known", dtype.name()))?;
        let numel = tiling(&shape, chunks.iter().map(|chunk| (chunk.offsets.as_slice(), chunk.sizes.as_slice())))?;
        let len = numel.checked_mul(size).ok_or("has more bytes than 64 bits can count")?;
        chunks.retain(|chunk| !chunk.sizes.contains(&0));
        Ok(Encoded { shape, dtype, len, chunks, limits, recent, expanded: Mutex::default() })
    }

    fn stitched(&self) -> Result<Arc<Stitched>> {
        let mut expanded = self.expanded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = expanded.upgrade() {
            return Ok(tensor);
        }
        let tensor = Arc::new(self.expand()?);
        *expanded = Arc::downgrade(&tensor);
        self.recent.add(&tensor);
        Ok(tensor)
    }

    /// Expands all chunks, one behind the other.
    fn expand(&self) -> Result<Stitched> {
        let bounds = self.chunks.iter().map(|chunk| Compression::Zstd.bound(chunk.bytes.len(), &self.limits));
        let mut spool = Spool::new(bounds.fold(0, u64::saturating_add));
        let mut places = Vec::new();
        for chunk in &self.chunks {
            let from = spool.written();
            let done = decode(&chunk.bytes, Compression::Zstd, &mut spool, &Silent);
            done.map_err(|e| Error::new(e.kind(), format!("{}: {e}", chunk.file)))?;
            places.push((from, spool.written() - from));
        }
        let all = spool.finish()?;
        let mut chunks = Vec::new();
        for (chunk, (from, len)) in self.chunks.iter().zip(places) {
            let Packed { offsets, sizes, file, .. } = chunk;
            let saved = Window::shared(&all, from, len)?;
            whole(&saved, &self.limits).map_err(|e| Error::new(e.kind(), format!("{file}: {e}")))?;
            let (offsets, sizes, file) = (offsets.clone(), sizes.clone(), Arc::clone(file));
            chunks.push(Chunk { offsets, sizes, saved, file, opened: OnceLock::new() });
        }
        let (shape, dtype) = (self.shape.clone(), self.dtype.clone());
        Stitched::new(shape, dtype, chunks, Arc::clone(&self.limits)).map_err(Error::data)
    }
}

/// Fails where a checksum of the archive does not match: what was expanded wrongly is not told otherwise.
fn whole(saved: &SharedSource, limits: &Limits) -> Result<()> {
    let zip = Zip::open(Arc::clone(saved), limits)?;
    for member in zip.members.iter().filter(|member| member.is_whole && !member.is_dir()) {
        if zip.is_other_sum(member, zip.crc32_of(member)?)? {
            return Err(Error::data("its checksum does not match").in_member(&member.name));
        }
    }
    Ok(())
}

impl Source for Encoded {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self, offset, buf.len() as u64)?;
        self.stitched()?.read_at(offset, buf)
    }

    fn verify(&self) -> Result<()> {
        self.stitched()?.verify()
    }
}
