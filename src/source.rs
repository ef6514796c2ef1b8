//! Where bytes come from: anything with a length that can be read at an offset.
//!
//! Parsers never see files. No memory map: a file that shrinks while it is read must give an error, not a signal.

pub(crate) mod address;
pub(crate) mod files;
mod overlay;
#[cfg(feature = "remote")]
mod remote;

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use self::overlay::Overlay;
use crate::error::{Error, ErrorKind, Result};

/// Random access to a fixed number of bytes.
pub trait Source: Send + Sync + fmt::Debug {
    /// Bytes in all.
    fn len(&self) -> u64;

    /// Fills `buf` with the bytes at `offset`, or fails: `Truncated` when they are not all there.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Where `offset` lies in the outermost bytes that hold this source, for messages.
    fn absolute(&self, offset: u64) -> u64 {
        offset
    }

    /// The open file and the position in it that `offset` stands for, where the bytes lie there as they are, so that
    /// a copy can stay inside the kernel.
    fn as_file(&self, _offset: u64) -> Option<(&File, u64)> {
        None
    }

    /// The same, and how many bytes lie there one after the other.
    fn as_file_run(&self, offset: u64) -> Option<(&File, u64, u64)> {
        let left = self.len().checked_sub(offset)?;
        self.as_file(offset).map(|(file, position)| (file, position, left))
    }

    /// Where to keep what was made of these bytes at some expense; nothing where it is made each time.
    fn cache(&self) -> Option<&Cache> {
        None
    }

    /// Says that these bytes will all be read. What comes from afar is asked for before it is wanted.
    fn announce(&self, _range: Range<u64>) {}

    /// Fails where what must be read to find the bytes is not as it should be.
    fn verify(&self) -> Result<()> {
        Ok(())
    }

    /// True when there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What was made of a source, for whoever reads the same source again.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Option<Arc<dyn Any + Send + Sync>>>);

impl Cache {
    /// What is kept. Others wait for it until this is dropped.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Arc<dyn Any + Send + Sync>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source that several owners read.
pub type SharedSource = Arc<dyn Source>;

/// What a read past the end says; `offset` and `wanted` are in bytes.
pub(crate) fn past_end(source: &dyn Source, offset: u64, wanted: u64) -> Error {
    let have = source.len().saturating_sub(offset);
    Error::truncated(format!("ends early: {wanted} bytes wanted, {have} left")).at(source.absolute(offset))
}

/// Fails for bytes that reach past the end of a source.
pub(crate) fn check_range(source: &dyn Source, offset: u64, len: u64) -> Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= source.len() => Ok(()),
        _ => Err(past_end(source, offset, len)),
    }
}

/// Reads `len` bytes at `offset` into memory; the length is checked against the source before anything is allocated.
pub fn read_vec(source: &dyn Source, offset: u64, len: u64) -> Result<Vec<u8>> {
    check_range(source, offset, len)?;
    let len = usize::try_from(len).map_err(|_| Error::limit(format!("{len} bytes do not fit in memory")))?;
    let mut out = vec![0; len];
    source.read_at(offset, &mut out)?;
    Ok(out)
}

/// A regular file, read with positioned reads.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    len: u64,
    cache: Cache,
}

impl FileSource {
    /// Opens the file at `path`. Directories, sockets and devices are refused.
    pub fn open(path: &Path) -> Result<Self> {
        // asked before it is opened: opening a named pipe waits until somebody writes to it
        let meta = std::fs::metadata(path).map_err(|e| address::unknown(path).unwrap_or_else(|| e.into()))?;
        if meta.is_dir() {
            return Err(Error::not_a_checkpoint("is a directory"));
        }
        if !meta.is_file() {
            return Err(Error::unsupported("is not a regular file; pipe it in and name it `-`"));
        }
        Self::from_file(File::open(path)?)
    }

    /// Takes an open file; its length now is its length from here on.
    pub(crate) fn from_file(file: File) -> Result<Self> {
        let len = file.metadata()?.len();
        Ok(FileSource { file, len, cache: Cache::default() })
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(past_end(self, offset, buf.len() as u64));
        }
        match read_exact_at(&self.file, buf, offset) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                // no fault of what is in it: nobody may take this for the end of something
                Err(Error::new(ErrorKind::Io, "the file became shorter while it was read").at(offset))
            }
            other => other.map_err(|e| Error::from(e).at(offset)),
        }
    }

    fn as_file(&self, offset: u64) -> Option<(&File, u64)> {
        Some((&self.file, offset))
    }

    fn cache(&self) -> Option<&Cache> {
        Some(&self.cache)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buf, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buf, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                buf = buf.split_at_mut(n).1;
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// Bytes in memory.
#[derive(Debug)]
pub struct MemorySource(Vec<u8>, Cache);

impl MemorySource {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        MemorySource(bytes, Cache::default())
    }
}

impl Source for MemorySource {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let found = usize::try_from(offset).ok().and_then(|start| self.0.get(start..start.checked_add(buf.len())?));
        match found {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(past_end(self, offset, buf.len() as u64)),
        }
    }

    fn cache(&self) -> Option<&Cache> {
        Some(&self.1)
    }
}

/// A part of another source.
#[derive(Debug)]
pub(crate) struct Window {
    inner: SharedSource,
    start: u64,
    len: u64,
}

impl Window {
    /// The `len` bytes of `inner` from `start` on; an error when `inner` does not have them.
    pub(crate) fn new(inner: SharedSource, start: u64, len: u64) -> Result<Self> {
        if start.checked_add(len).is_none_or(|end| end > inner.len()) {
            return Err(past_end(inner.as_ref(), start, len));
        }
        Ok(Window { inner, start, len })
    }

    /// The same, shared.
    pub(crate) fn shared(inner: &SharedSource, start: u64, len: u64) -> Result<SharedSource> {
        Ok(Arc::new(Self::new(Arc::clone(inner), start, len)?))
    }
}

impl Source for Window {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(past_end(self, offset, buf.len() as u64));
        }
        self.inner.read_at(self.start + offset, buf)
    }

    fn absolute(&self, offset: u64) -> u64 {
        self.inner.absolute(self.start.saturating_add(offset))
    }

    fn announce(&self, range: Range<u64>) {
        let (start, end) = (range.start.min(self.len), range.end.min(self.len));
        self.inner.announce(self.start.saturating_add(start)..self.start.saturating_add(end));
    }

    fn as_file(&self, offset: u64) -> Option<(&File, u64)> {
        self.inner.as_file(self.start.checked_add(offset)?)
    }

    fn as_file_run(&self, offset: u64) -> Option<(&File, u64, u64)> {
        let left = self.len.checked_sub(offset)?;
        let (file, position, run) = self.inner.as_file_run(self.start.checked_add(offset)?)?;
        Some((file, position, run.min(left)))
    }
}

/// A cursor over a source, for readers that want [`Read`] and [`Seek`].
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    source: SharedSource,
    position: u64,
}

impl Cursor {
    /// Starts at byte 0.
    pub(crate) fn new(source: SharedSource) -> Self {
        Cursor { source, position: 0 }
    }
}

impl Read for Cursor {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.source.len().saturating_sub(self.position);
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        self.source.read_at(self.position, buf.split_at_mut(take).0)?;
        self.position += take as u64;
        Ok(take)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.source.len().checked_add_signed(n),
            SeekFrom::Current(n) => self.position.checked_add_signed(n),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_reads_its_part_and_says_absolute_places() {
        let whole: SharedSource = Arc::new(MemorySource::new((0..100).collect()));
        let part = Window::shared(&whole, 10, 20).unwrap();
        let inner = Window::shared(&part, 5, 10).unwrap();
        assert_eq!(read_vec(inner.as_ref(), 0, 3).unwrap(), [15, 16, 17]);
        assert_eq!(inner.read_at(9, &mut [0; 2]).unwrap_err().offset(), Some(24));
        assert!(Window::shared(&whole, 90, 11).is_err());
        assert!(read_vec(whole.as_ref(), 1, u64::MAX).is_err());
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &[1; 64]).unwrap();
        let source = FileSource::from_file(file.try_clone().unwrap()).unwrap();
        file.set_len(10).unwrap();
        let e = source.read_at(0, &mut [0; 20]).unwrap_err();
        assert!(e.to_string().contains("became shorter") && e.kind() == ErrorKind::Io, "{e}");
    }
}
