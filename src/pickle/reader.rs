//! A buffered cursor over a source: opcodes and short arguments come from a block in memory, long ones are skipped.

use crate::error::{Error, Result};
use crate::source::{SharedSource, past_end};

const BLOCK: u64 = 64 << 10;
/// The first block: many small pickles lie in one stream, each read anew.
const FIRST_BLOCK: u64 = 2 << 10;

pub(crate) struct Reader<'a> {
    source: &'a SharedSource,
    /// The source's length: asked for at every string.
    len: u64,
    block: Vec<u8>,
    /// Where `block` begins in the source.
    start: u64,
    /// The next byte, in the source.
    position: u64,
    /// What is left before this byte is forgotten when more is wanted at once than that; 0 when nothing is.
    frame_end: u64,
}

/// A line without its newline.
pub(crate) struct Line {
    pub(crate) begin: u64,
    pub(crate) len: u64,
    /// Its bytes, when they are few.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Whether the source ends before the newline.
    pub(crate) is_cut: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a SharedSource, position: u64) -> Self {
        Reader { source, len: source.len(), block: Vec::new(), start: position, position, frame_end: 0 }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.len.saturating_sub(self.position)
    }

    #[inline]
    fn buffered(&self) -> &[u8] {
        let from = usize::try_from(self.position.wrapping_sub(self.start)).unwrap_or(usize::MAX);
        self.block.get(from..).unwrap_or_default()
    }

    /// Has at least `wanted` bytes in the block, or fails.
    #[inline]
    fn fill(&mut self, wanted: u64) -> Result<()> {
        if self.buffered().len() as u64 >= wanted {
            return Ok(());
        }
        self.read_block(wanted)
    }

    #[inline(never)]
    fn read_block(&mut self, wanted: u64) -> Result<()> {
        if self.remaining() < wanted {
            return Err(past_end(self.source.as_ref(), self.position, wanted));
        }
        let block = if self.block.is_empty() { FIRST_BLOCK } else { BLOCK };
        let take = self.remaining().min(wanted.max(block));
        self.block.resize(usize::try_from(take).map_err(|_| Error::limit("too long for memory"))?, 0);
        self.source.read_at(self.position, &mut self.block)?;
        self.start = self.position;
        Ok(())
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[b]| b)
    }

    /// Begins a frame here, of which `_pickle.c` forgets what is left when an argument reaches past its end. One within
    /// another, or of no bytes, is none of its own.
    pub(crate) fn enter_frame(&mut self, len: u64) {
        if len > 0 && self.position.saturating_add(len) > self.frame_end {
            self.leave_frame(len);
            self.frame_end = self.position.saturating_add(len);
        }
    }

    /// Goes on in a frame that began before.
    pub(crate) fn stay_in_frame(&mut self, end: u64) {
        self.frame_end = end;
    }

    pub(crate) fn frame_end(&self) -> u64 {
        self.frame_end
    }

    /// Passes over what is left of the frame when it has fewer than `wanted` bytes.
    pub(crate) fn leave_frame(&mut self, wanted: u64) {
        if self.position.saturating_add(wanted) > self.frame_end {
            self.position = self.position.max(self.frame_end);
        }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        if self.frame_end == 0
            && let Some(bytes) = self.buffered().first_chunk::<N>()
        {
            let bytes = *bytes;
            self.position = self.position.saturating_add(N as u64);
            return Ok(bytes);
        }
        self.array_at_the_edge()
    }

    /// The same at the end of what is in the block, or in a frame.
    #[inline(never)]
    fn array_at_the_edge<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.leave_frame(N as u64);
        self.fill(N as u64)?;
        let mut out = [0; N];
        if let Some(bytes) = self.buffered().first_chunk::<N>() {
            out = *bytes;
        }
        self.position += N as u64;
        Ok(out)
    }

    /// Passes over `len` bytes; gives them when they are at most `keep`.
    pub(crate) fn take(&mut self, len: u64, keep: u64) -> Result<Option<&[u8]>> {
        if self.remaining() < len {
            return Err(past_end(self.source.as_ref(), self.position, len));
        }
        if len > keep {
            self.position += len;
            return Ok(None);
        }
        self.fill(len)?;
        let from = usize::try_from(self.position - self.start).unwrap_or(usize::MAX);
        self.position += len;
        let to = usize::try_from(self.position - self.start).unwrap_or(usize::MAX);
        Ok(self.block.get(from..to))
    }

    /// Passes over a line; gives its bytes when they are at most `keep`.
    pub(crate) fn line(&mut self, keep: usize) -> Result<Line> {
        let line = self.line_or_rest(keep)?;
        if line.is_cut {
            return Err(Error::truncated("ends early: a line without its end").at(self.source.absolute(line.begin)));
        }
        Ok(line)
    }

    /// The same, or what is left of the source where there is no newline.
    pub(crate) fn line_or_rest(&mut self, keep: usize) -> Result<Line> {
        let mut begin = self.position;
        let mut line = Some(Vec::new());
        loop {
            if self.remaining() == 0 {
                return Ok(Line { begin, len: self.position - begin, bytes: line, is_cut: true });
            }
            self.fill(1)?;
            let left = self.frame_end.saturating_sub(self.position);
            let here = self.buffered();
            let here = here.get(..usize::try_from(left).unwrap_or(usize::MAX)).filter(|_| left > 0).unwrap_or(here);
            let end = memchr::memchr(b'\n', here);
            let part = here.get(..end.unwrap_or(here.len())).unwrap_or_default();
            if line.as_ref().is_some_and(|line| line.len() + part.len() > keep) {
                line = None;
            }
            if let Some(line) = &mut line {
                line.extend_from_slice(part);
            }
            self.position += part.len() as u64;
            if end.is_some() {
                self.position += 1;
                return Ok(Line { begin, len: self.position - 1 - begin, bytes: line, is_cut: false });
            }
            if self.position == self.frame_end {
                (begin, line) = (self.position, Some(Vec::new()));
            }
        }
    }

    pub(crate) fn seek(&mut self, position: u64) {
        self.position = position;
        if position < self.start {
            self.block.clear();
            self.start = position;
        }
    }
}
