//! The texts of a graph: strings and bytes as ranges of the streams they came from, short ones kept in a pool, long
//! ones read again whenever they are looked at, within bounds.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use super::{Graph, StreamId};
use crate::error::{Error, Result};
use crate::pickle::text::{self, Encoding};
use crate::source::read_vec;

/// A string's or byte string's place in the graph's table of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextId(pub(super) u32);

/// Where a text lies, and how it is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) stream: u32,
    pub(super) pooled: u32,
    pub(super) encoding: Encoding,
}

pub(super) const NOT_POOLED: u32 = u32::MAX;
pub(super) const MADE_HERE: u32 = u32::MAX;
/// Strings up to this many bytes are kept in memory as well.
const POOLED_BYTES: usize = 1024;
/// Longer strings are read whenever they are looked at: so many bytes in all, and so many times the streams' length. A
/// name of a mebibyte that a pickle uses a hundred thousand times runs into it.
const REREAD_BYTES: u64 = 64 << 20;
const REREAD_TIMES: u64 = 32;

impl Graph {
    /// Adds text that is in no stream.
    pub(crate) fn add_text_of(&mut self, bytes: &[u8], encoding: Encoding) -> Result<TextId> {
        let pooled = self.add_to_pool(bytes)?;
        self.add(Text { at: 0, len: bytes.len() as u64, stream: MADE_HERE, pooled, encoding })
    }

    /// Adds a text that lies at `at` in `stream`, `len` bytes as stored; `bytes` are those, where they are at hand and
    /// few.
    pub(crate) fn add_text(
        &mut self,
        stream: StreamId,
        at: u64,
        len: u64,
        bytes: Option<&[u8]>,
        encoding: Encoding,
    ) -> Result<TextId> {
        let pooled = match bytes {
            Some(bytes) if bytes.len() <= POOLED_BYTES => self.add_to_pool(bytes)?,
            _ => {
                self.has_long_texts = true;
                NOT_POOLED
            }
        };
        self.add(Text { at, len, stream: stream.0, pooled, encoding })
    }

    fn add(&mut self, text: Text) -> Result<TextId> {
        let id = u32::try_from(self.texts.len()).map_err(|_| Error::limit("more than 4 billion strings"))?;
        self.texts.push(text);
        Ok(TextId(id))
    }

    fn add_to_pool(&mut self, bytes: &[u8]) -> Result<u32> {
        let at = u32::try_from(self.pool.len()).ok().filter(|at| *at != NOT_POOLED);
        self.pool.extend_from_slice(bytes);
        at.ok_or_else(|| Error::limit("more than 4 GiB of short strings"))
    }

    /// The bytes of a text as they are stored, still encoded.
    pub fn raw_text(&self, id: TextId) -> Result<Cow<'_, [u8]>> {
        let Some(text) = self.texts.get(id.0 as usize) else { return Ok(Cow::Borrowed(&[])) };
        if text.pooled != NOT_POOLED {
            let start = text.pooled as usize;
            let end = start.saturating_add(usize::try_from(text.len).unwrap_or(usize::MAX));
            return Ok(Cow::Borrowed(self.pool.get(start..end).unwrap_or_default()));
        }
        self.read_text(text, text.len)
    }

    /// Reads what is not kept in memory. Most callers only want to know whether a text is some name, and take one that
    /// cannot be read for no name: so the first failure is kept, and told by [`Graph::complete`].
    fn read_text(&self, text: &Text, len: u64) -> Result<Cow<'_, [u8]>> {
        let Some(stream) = self.streams.get(text.stream as usize) else { return Ok(Cow::Borrowed(&[])) };
        let so_far = self.reread.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        let read = if so_far > self.max_reread() {
            Err(Error::limit("strings of more than a kibibyte are used too often").at(stream.source.absolute(text.at)))
        } else {
            read_vec(stream.source.as_ref(), text.at, len)
        };
        read.map(Cow::Owned).map_err(|e| e.in_member(&stream.name)).inspect_err(|e| {
            self.refused.get_or_init(|| e.again());
        })
    }

    fn max_reread(&self) -> u64 {
        REREAD_BYTES.saturating_add(self.stream_bytes().saturating_mul(REREAD_TIMES))
    }

    /// At most `max` stored bytes from the beginning of a text, for showing it.
    pub(crate) fn raw_text_prefix(&self, id: TextId, max: usize) -> Result<Cow<'_, [u8]>> {
        let Some(text) = self.texts.get(id.0 as usize) else { return Ok(Cow::Borrowed(&[])) };
        match text.pooled == NOT_POOLED && text.len > max as u64 {
            true => self.read_text(text, max as u64),
            false => self.raw_text(id),
        }
    }

    /// The content of a text: Python's UTF-8 with surrogates passed (a `str`), or the bytes (`bytes`, Python 2's
    /// `str`).
    pub fn text(&self, id: TextId) -> Result<Cow<'_, [u8]>> {
        Ok(text::content(self.raw_text(id)?, self.encoding(id)))
    }

    /// The content as text to show: what is not Unicode becomes U+FFFD, Python 2's strings that are not UTF-8 are
    /// taken for Latin-1 (as `torch.load` falls back to).
    pub(crate) fn text_lossy(&self, id: TextId) -> Result<Cow<'_, str>> {
        Ok(text::lossy(self.text(id)?, self.encoding(id)))
    }

    /// How a text is stored.
    pub fn encoding(&self, id: TextId) -> Encoding {
        self.texts.get(id.0 as usize).map_or(Encoding::Raw, |t| t.encoding)
    }

    /// How many bytes a text takes in its stream, still encoded.
    pub(crate) fn stored_len(&self, id: TextId) -> u64 {
        self.texts.get(id.0 as usize).map_or(0, |t| t.len)
    }

    /// Where a text is stored: stream, first byte, bytes. `None` for a text made here.
    pub(crate) fn place(&self, id: TextId) -> Option<(StreamId, u64, u64)> {
        let text = self.texts.get(id.0 as usize)?;
        (text.stream != MADE_HERE).then_some((StreamId(text.stream), text.at, text.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_small() {
        // as for nodes: their size is the memory of a listing
        assert_eq!(size_of::<Text>(), 32);
    }
}
