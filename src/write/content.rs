//! The bytes of one tensor or storage on their way to a file: copied inside the kernel where nothing has to be done to
//! them, else read, cast and summed up in blocks while the block before is written.

use std::sync::mpsc::sync_channel;

use crate::data::Elements;
use crate::data::cast::Caster;
use crate::data::gather::for_each_block;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::source::SharedSource;
use crate::write::atomic::Output;

/// Contents larger than this are read on a thread of their own.
const THREAD_BYTES: u64 = 4 << 20;
/// Blocks that may wait to be written.
const WAITING_BLOCKS: usize = 4;
const BLOCK_BYTES: u64 = 1 << 20;

/// Where the bytes come from.
#[derive(Debug, Clone)]
pub enum Content {
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
pub struct Written {
    /// The CRC-32 of the bytes, where it was asked for.
    pub crc: u32,
    /// Finite elements that a cast made infinite.
    pub overflows: u64,
}

impl Content {
    /// Bytes in all. Errors as [`Elements::validate`].
    pub fn bytes(&self, limits: &Limits) -> Result<u64> {
        match self {
            Content::Raw { source, .. } => Ok(source.len()),
            Content::Elements { elements, cast } => {
                let extent = elements.validate(limits)?;
                let size = cast.as_ref().and_then(DType::size).map_or(extent.element_size as u64, u64::from);
                extent.elements.checked_mul(size).ok_or_else(|| Error::data("too many bytes"))
            }
        }
    }

    /// Writes the bytes. With `with_crc` their CRC-32 is found, which costs a copy through memory where the input does
    /// not state it.
    pub fn write(&self, out: &mut Output, with_crc: bool, limits: &Limits, progress: &dyn Progress) -> Result<Written> {
        let advance = |bytes| progress.advance(bytes);
        match self {
            Content::Raw { source, crc } if !with_crc || crc.is_some() => {
                out.copy(source.as_ref(), 0, source.len(), &advance)?;
                return Ok(Written { crc: crc.unwrap_or(0), overflows: 0 });
            }
            Content::Elements { elements, cast: None }
                if !with_crc && elements.is_contiguous() && elements.is_plain() =>
            {
                let span = elements.validate(limits)?.span;
                out.copy(elements.source.as_ref(), span.start, span.end - span.start, &advance)?;
                return Ok(Written::default());
            }
            _ => {}
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
            false => self.blocks(limits, &mut |block| put(&block))?,
            true => std::thread::scope(|scope| {
                let (sender, receiver) = sync_channel::<Vec<u8>>(WAITING_BLOCKS);
                let reader = scope.spawn(move || {
                    // who waits for blocks no more has its own error to tell
                    let gone = || Error::data("nobody takes the blocks");
                    self.blocks(limits, &mut |block| sender.send(block).map_err(|_| gone()))
                });
                let written = receiver.iter().try_for_each(|block| put(&block));
                drop(receiver);
                let read = reader.join().unwrap_or_else(|_| Err(Error::data("reading failed")));
                written.and(read)
            })?,
        };
        Ok(Written { crc: hasher.finalize(), overflows })
    }

    /// Reads block by block; how many elements overflowed.
    fn blocks(&self, limits: &Limits, f: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<u64> {
        match self {
            Content::Raw { source, .. } => {
                let (mut at, len) = (0, source.len());
                while at < len {
                    let take = (len - at).min(BLOCK_BYTES);
                    f(crate::source::read_vec(source.as_ref(), at, take)?)?;
                    at += take;
                }
                Ok(0)
            }
            Content::Elements { elements, cast: Some(dtype) } => {
                let mut caster = Caster::new(&elements.dtype, dtype)?;
                for_each_block(elements, limits, &mut |block| {
                    let mut cast = Vec::new();
                    caster.cast(block, &mut cast);
                    f(cast)
                })?;
                Ok(caster.overflows())
            }
            Content::Elements { elements, cast: None } => {
                for_each_block(elements, limits, &mut |block| f(block.to_vec()))?;
                Ok(0)
            }
        }
    }
}
