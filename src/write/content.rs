//! The bytes of one tensor or storage on their way to a file: copied inside the kernel where nothing has to be found out of
//! them, summed up in passing where only that has to be, else read and cast in blocks while the block before is written.

use std::sync::mpsc::sync_channel;

use crate::checkpoint::resave::NewStorage;
use crate::data::Elements;
use crate::data::cast::Caster;
use crate::data::gather::for_each_block;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::source::{SharedSource, Source, Window};
use crate::write::atomic::Output;
use crate::write::holes;

/// Contents larger than this are read on a thread of their own.
const THREAD_BYTES: u64 = 4 << 20;
/// Blocks that may wait to be written.
const WAITING_BLOCKS: usize = 8;
/// Small enough to stay in a core's cache on its way through.
const BLOCK_BYTES: usize = 256 << 10;

/// Where the bytes come from.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Bytes as they are.
    Raw {
        /// All of it is copied.
        source: SharedSource,
        /// Their CRC-32 as the input states it; it is kept, not computed again.
        crc: Option<u32>,
    },
    /// Elements in row-major order, little-endian.
    Elements {
        /// Where they lie.
        elements: Elements,
        /// To which type they are cast.
        cast: Option<DType>,
    },
}

/// What writing a content found out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    /// The CRC-32 of the bytes, where it was asked for.
    pub crc: u32,
    /// Finite elements that a cast made infinite.
    pub overflows: u64,
}

/// Finite elements of one of the contents of a file that a cast made infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow {
    /// Which content, in the order in which they were given.
    pub place: usize,
    /// How many elements.
    pub elements: u64,
}

impl Overflow {
    /// Notes what one content lost, if anything.
    pub(super) fn note(overflows: &mut Vec<Self>, place: usize, elements: u64) {
        overflows.extend((elements > 0).then_some(Overflow { place, elements }));
    }
}

impl Content {
    /// A storage that a checkpoint was found to need, copied as it lies there where that is possible.
    pub(crate) fn of_storage(storage: &NewStorage) -> Result<Self> {
        let elements = storage.elements();
        if storage.cast.is_some() || !elements.is_plain() || !elements.is_contiguous() {
            return Ok(Content::Elements { elements, cast: storage.cast.clone() });
        }
        let size = u64::from(elements.dtype.size().unwrap_or(1));
        let len = elements.shape.iter().product::<u64>().saturating_mul(size);
        let source = Window::shared(&elements.source, elements.offset.saturating_mul(size), len)?;
        Ok(Content::Raw { source, crc: storage.crc })
    }

    /// Bytes in all. Errors as [`Elements::validate`].
    pub(crate) fn bytes(&self, limits: &Limits) -> Result<u64> {
        match self {
            Content::Raw { source, .. } => Ok(source.len()),
            Content::Elements { elements, cast } => {
                let extent = elements.validate(limits)?;
                let size = cast.as_ref().and_then(DType::size).map_or(extent.element_size as u64, u64::from);
                extent.elements.checked_mul(size).ok_or_else(|| Error::data("too many bytes"))
            }
        }
    }

    /// The bytes as they lie in a source, where nothing has to be done to them: source, first byte, how many.
    fn as_bytes(&self, limits: &Limits) -> Result<Option<(&dyn Source, u64, u64)>> {
        Ok(match self {
            Content::Raw { source, .. } => Some((source.as_ref(), 0, source.len())),
            Content::Elements { elements, cast: None } if elements.is_contiguous() && elements.is_plain() => {
                let span = elements.validate(limits)?.span;
                Some((elements.source.as_ref(), span.start, span.end - span.start))
            }
            Content::Elements { .. } => None,
        })
    }

    /// Writes the bytes. With `with_crc` their CRC-32 is found where the input does not state it.
    pub(crate) fn write(
        &self,
        out: &mut Output,
        with_crc: bool,
        limits: &Limits,
        progress: &dyn Progress,
    ) -> Result<Written> {
        let advance = |bytes| progress.advance(bytes);
        let stated = match self {
            Content::Raw { crc, .. } => *crc,
            Content::Elements { .. } => None,
        };
        // what must be decoded to be read is summed up while another thread decodes
        let at_hand =
            |place: &(&dyn Source, u64, u64)| !with_crc || stated.is_some() || place.0.as_file_run(place.1).is_some();
        if let Some((source, offset, len)) = self.as_bytes(limits)?.filter(at_hand) {
            let crc = match stated {
                None if with_crc && !is_sparse(source, offset) => {
                    // once through a small buffer costs less than a copy inside the kernel and reading it all besides
                    let mut hasher = crc32fast::Hasher::new();
                    read_blocks(source, offset, len, &mut |block| {
                        hasher.update(block);
                        std::io::Write::write_all(out, block)?;
                        advance(block.len() as u64);
                        Ok(())
                    })?;
                    hasher.finalize()
                }
                _ => {
                    out.copy(source, offset, len, &advance)?;
                    match stated {
                        None if with_crc => crc_of(source, offset, len)?,
                        stated => stated.unwrap_or(0),
                    }
                }
            };
            return Ok(Written { crc, overflows: 0 });
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut put = |block: &[u8]| -> Result<()> {
            if with_crc {
                hasher.update(block);
            }
            std::io::Write::write_all(out, block)?;
            progress.advance(block.len() as u64);
            Ok(())
        };
        let overflows = match self.bytes(limits)? > THREAD_BYTES {
            false => self.blocks(limits, &mut |block| put(block))?,
            true => std::thread::scope(|scope| {
                let (sender, receiver) = sync_channel::<Vec<u8>>(WAITING_BLOCKS);
                let (returning, returned) = sync_channel::<Vec<u8>>(2 * WAITING_BLOCKS);
                let reader = std::thread::Builder::new().spawn_scoped(scope, move || {
                    self.blocks(limits, &mut |block| {
                        let block = std::mem::replace(block, returned.try_recv().unwrap_or_default());
                        // who waits for blocks no more has its own error to tell
                        sender.send(block).map_err(|_| Error::data("nobody takes the blocks"))
                    })
                });
                let reader = reader.map_err(|e| Error::from(e).of_part("no thread can be started"))?;
                let written = receiver.iter().try_for_each(|block| {
                    put(&block)?;
                    // a block that finds no place is let go
                    let _ = returning.try_send(block);
                    Ok(())
                });
                drop(receiver);
                let read = reader.join().unwrap_or_else(|_| Err(Error::data("reading failed")));
                written.and(read)
            })?,
        };
        Ok(Written { crc: hasher.finalize(), overflows })
    }

    /// Reads block by block; how many elements overflowed. `f` may keep a block and put another in its place.
    pub(super) fn blocks(&self, limits: &Limits, f: &mut dyn FnMut(&mut Vec<u8>) -> Result<()>) -> Result<u64> {
        match self {
            Content::Raw { source, .. } => {
                read_blocks(source.as_ref(), 0, source.len(), f)?;
                Ok(0)
            }
            Content::Elements { elements, cast: Some(dtype) } => {
                let mut caster = Caster::new(&elements.dtype, dtype)?;
                let mut cast = Vec::new();
                for_each_block(elements, limits, &mut |block| {
                    caster.cast(block, &mut cast);
                    f(&mut cast)
                })?;
                Ok(caster.overflows())
            }
            Content::Elements { elements, cast: None } => {
                let mut copy = Vec::new();
                for_each_block(elements, limits, &mut |block| {
                    copy.clear();
                    copy.extend_from_slice(block);
                    f(&mut copy)
                })?;
                Ok(0)
            }
        }
    }
}

/// Reads `len` bytes in blocks; `f` may keep a block and put another in its place.
fn read_blocks(
    source: &dyn Source,
    offset: u64,
    len: u64,
    f: &mut dyn FnMut(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let mut block = Vec::new();
    let (mut at, end) = (offset, offset.saturating_add(len));
    source.announce(at..end);
    while at < end {
        let take = usize::try_from(end - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        block.resize(take, 0);
        source.read_at(at, &mut block)?;
        f(&mut block)?;
        at += take as u64;
    }
    Ok(())
}

/// Whether the file that the bytes from `offset` on lie in has holes.
pub(super) fn is_sparse(source: &dyn Source, offset: u64) -> bool {
    source.as_file(offset).is_some_and(|(file, _)| holes::is_sparse(file))
}

/// The CRC-32 of a part of a source. Of a sparse file only the data is read; nobody else may use its cursor meanwhile.
pub(super) fn crc_of(source: &dyn Source, offset: u64, len: u64) -> Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let (mut at, end) = (offset, offset.saturating_add(len));
    while at < end {
        let data = match source.as_file(at).filter(|(file, _)| holes::is_sparse(file)) {
            Some((file, position)) => {
                let data = holes::next_data(file, position..position + (end - at))?;
                at + (data.start - position)..at + (data.end - position)
            }
            None => at..end,
        };
        hasher.combine(&zeros(data.start - at));
        read_blocks(source, data.start, data.end - data.start, &mut |block| {
            hasher.update(block);
            Ok(())
        })?;
        at = data.end;
    }
    Ok(hasher.finalize())
}

/// What so many zero bytes sum up to, by doubling.
fn zeros(len: u64) -> crc32fast::Hasher {
    let (mut all, mut power) = (crc32fast::Hasher::new(), crc32fast::Hasher::new());
    power.update(&[0]);
    let mut left = len;
    while left > 0 {
        if left % 2 == 1 {
            all.combine(&power);
        }
        let half = power.clone();
        power.combine(&half);
        left /= 2;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_zeros() {
        for len in [0, 1, 2, 3, 1000, 65_537] {
            assert_eq!(zeros(len).finalize(), crc32fast::hash(&vec![0; usize::try_from(len).unwrap()]));
        }
        // python3 -c "import zlib; c = 0
        // for i in range(5 << 10): c = zlib.crc32(bytes(1 << 20), c)
        // print(c)"
        assert_eq!(zeros(5 << 30).finalize(), 0x1938_38c3);
    }
}
