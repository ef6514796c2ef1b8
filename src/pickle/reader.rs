//! A buffered cursor over a source: opcodes and short arguments come from a block in memory, long ones are skipped.

use crate::error::{Error, Result};
use crate::source::{SharedSource, past_end};

const BLOCK: u64 = 64 << 10;
/// The first block: many small pickles lie in one stream, each read anew.
const FIRST_BLOCK: u64 = 2 << 10;

pub(crate) struct Reader<'a> {
    source: &'a SharedSource,
    block: Vec<u8>,
    /// Where `block` begins in the source.
    start: u64,
    /// The next byte, in the source.
    position: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a SharedSource, position: u64) -> Self {
        Reader { source, block: Vec::new(), start: position, position }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.source.len().saturating_sub(self.position)
    }

    fn buffered(&self) -> &[u8] {
        let from = usize::try_from(self.position.wrapping_sub(self.start)).unwrap_or(usize::MAX);
        self.block.get(from..).unwrap_or_default()
    }

    /// Has at least `wanted` bytes in the block, or fails.
    fn fill(&mut self, wanted: u64) -> Result<()> {
        if self.buffered().len() as u64 >= wanted {
            return Ok(());
        }
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

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
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

    /// Passes over a line; gives its length without the newline and, when it is at most `keep`, its bytes.
    pub(crate) fn line(&mut self, keep: usize) -> Result<(u64, Option<Vec<u8>>)> {
        let begin = self.position;
        let mut line = Some(Vec::new());
        loop {
            if self.remaining() == 0 {
                return Err(Error::truncated("ends early: a line without its end").at(self.source.absolute(begin)));
            }
            self.fill(1)?;
            let here = self.buffered();
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
                return Ok((self.position - 1 - begin, line));
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
