//! Bytes that arrive in order and must be read out of order: kept in memory while few, else in an unlinked temporary
//! file, and never more of them than a bound says.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::Setting;
use crate::source::{FileSource, MemorySource, SharedSource};

/// Bytes that stay in memory; what grows beyond them goes to a temporary file.
const MEMORY_BYTES: usize = 8 << 20;
const BLOCK_BYTES: usize = 64 << 10;
/// A stream's first block, which is one of many for short streams.
const FIRST_BLOCK_BYTES: usize = 2 << 10;

/// Collects a stream.
#[derive(Debug)]
pub(crate) struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    written: u64,
    bound: u64,
}

impl Spool {
    /// Takes up to `bound` bytes.
    pub(crate) fn new(bound: u64) -> Self {
        Spool { memory: Vec::new(), file: None, written: 0, bound }
    }

    /// Bytes taken so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Takes all that `reader` gives. An error of ours comes out as [`Error`] inside of [`io::Error`].
    pub(crate) fn fill(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        // most streams of an archive of thousands hold less than a block
        let mut block = vec![0; FIRST_BLOCK_BYTES];
        loop {
            let read = match reader.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            self.push(block.get(..read).unwrap_or_default())?;
            if read == block.len() && read < BLOCK_BYTES {
                block.resize(BLOCK_BYTES, 0);
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written > self.bound {
            return Err(over(self.bound));
        }
        if self.file.is_none() && self.memory.len() + bytes.len() <= MEMORY_BYTES {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        self.spill(bytes).map_err(|e| Error::new(ErrorKind::Io, format!("cannot write a temporary file: {e}")))
    }

    fn spill(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => {
                let mut file = tempfile::tempfile()?;
                file.write_all(&self.memory)?;
                self.memory = Vec::new();
                empty.insert(file)
            }
        };
        file.write_all(bytes)
    }

    /// What was taken, to be read at will.
    pub(crate) fn finish(self) -> Result<SharedSource> {
        Ok(match self.file {
            Some(file) => Arc::new(FileSource::from_file(file)?),
            None => Arc::new(MemorySource::new(self.memory)),
        })
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is said when data expands to more than `bound` bytes.
pub(crate) fn over(bound: u64) -> Error {
    Error::limit(format!("expands to more than {bound} bytes")).allowed_by(Setting::MaxExpandedBytes)
}

/// Takes a stream of unknown length (standard input) whole, up to [`Limits::max_expanded_bytes`].
pub(crate) fn spool(mut reader: impl Read, limits: &Limits) -> Result<SharedSource> {
    let mut spool = Spool::new(limits.max_expanded_bytes);
    spool.fill(&mut reader)?;
    spool.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::read_vec;

    #[test]
    fn small_streams_stay_in_memory_and_large_ones_go_to_a_file() {
        let small = spool(&b"abc"[..], &Limits::default()).unwrap();
        assert!(small.as_file(0).is_none());
        assert_eq!(read_vec(small.as_ref(), 1, 2).unwrap(), b"bc");
        let bytes: Vec<u8> = (0..MEMORY_BYTES + 100).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let large = spool(&bytes[..], &Limits::default()).unwrap();
        assert!(large.as_file(0).is_some());
        assert_eq!(read_vec(large.as_ref(), 0, large.len()).unwrap(), bytes);
    }

    #[test]
    fn the_bound_is_kept_and_names_its_option() {
        let limits = Limits { max_expanded_bytes: 1000, ..Limits::default() };
        let e = spool(io::repeat(0), &limits).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit);
        assert!(e.to_string().contains("max_expanded_bytes"), "{e}");
        assert_eq!(spool(io::repeat(0).take(1000), &limits).unwrap().len(), 1000);
    }
}
