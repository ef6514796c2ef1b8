//! The open files of checkpoints of many: as many stay open as the process may spare, the others share a few places.
//!
//! A checkpoint of a thousand ranks has more files than a process may have open, and `ulimit -n` may be low.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::source::{Cache, FileSource, SharedSource, Source};

/// Files that stay open, whatever the process may have.
const MAX_KEPT: usize = 128;
/// Files that are open in turn.
const MAX_IN_TURN: usize = 32;
/// What is taken for the bound of a system that tells none.
const USUAL_LIMIT: usize = 256;

/// How many files of all inputs stay open, and how many are open in turn: well under what the process may have.
static BOUNDS: LazyLock<(usize, usize)> = LazyLock::new(|| bounds(limit()));
/// How many stay open now.
static KEPT: AtomicUsize = AtomicUsize::new(0);
/// Those that are open in turn; the last one was used last.
static IN_TURN: Mutex<Vec<(u64, Arc<FileSource>)>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

fn bounds(limit: usize) -> (usize, usize) {
    ((limit / 4).min(MAX_KEPT), (limit / 8).clamp(1, MAX_IN_TURN))
}

#[cfg(unix)]
fn limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(USUAL_LIMIT)
}

#[cfg(not(unix))]
fn limit() -> usize {
    USUAL_LIMIT
}

/// Opens a file of a checkpoint of many.
pub(super) fn open(path: &Path) -> Result<SharedSource> {
    let file = FileSource::open(path)?;
    if KEPT.fetch_add(1, Ordering::Relaxed) < BOUNDS.0 {
        return Ok(Arc::new(Kept(file)));
    }
    KEPT.fetch_sub(1, Ordering::Relaxed);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(Arc::new(InTurn { path: path.to_owned(), len: file.len(), number, cache: Cache::default() }))
}

/// A file that stays open.
#[derive(Debug)]
struct Kept(FileSource);

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Source for Kept {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_at(offset, buf)
    }

    fn as_file(&self, offset: u64) -> Option<(&File, u64)> {
        self.0.as_file(offset)
    }

    fn cache(&self) -> Option<&Cache> {
        self.0.cache()
    }
}

/// A file that is opened when it is read, and stays open until others were.
#[derive(Debug)]
struct InTurn {
    path: PathBuf,
    len: u64,
    number: u64,
    cache: Cache,
}

impl InTurn {
    fn file(&self, offset: u64) -> Result<Arc<FileSource>> {
        let mut open = IN_TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(number, _)| *number == self.number) {
            let found = open.remove(at);
            let file = Arc::clone(&found.1);
            open.push(found);
            return Ok(file);
        }
        while open.len() >= BOUNDS.1 {
            open.remove(0);
        }
        let file = FileSource::open(&self.path)?;
        if file.len() != self.len {
            return Err(Error::truncated("the file changed while it was read").at(offset));
        }
        let file = Arc::new(file);
        open.push((self.number, Arc::clone(&file)));
        Ok(file)
    }
}

impl Drop for InTurn {
    fn drop(&mut self) {
        IN_TURN.lock().unwrap_or_else(PoisonError::into_inner).retain(|(number, _)| *number != self.number);
    }
}

impl Source for InTurn {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file(offset)?.read_at(offset, buf)
    }

    fn cache(&self) -> Option<&Cache> {
        Some(&self.cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_files_than_may_be_open() {
        let dir = tempfile::tempdir().unwrap();
        let count = MAX_KEPT + MAX_IN_TURN + 2;
        let write = |number: usize, more: &[u8]| {
            let bytes = [&[1, 2, u8::try_from(number).unwrap()], more].concat();
            std::fs::write(dir.path().join(format!("{number}")), bytes).unwrap();
        };
        (0..count).for_each(|number| write(number, &[]));
        let files: Vec<SharedSource> =
            (0..count).map(|number| open(&dir.path().join(format!("{number}"))).unwrap()).collect();
        for _ in 0..2 {
            for (number, file) in files.iter().enumerate() {
                let mut byte = [0];
                file.read_at(2, &mut byte).unwrap();
                assert_eq!(usize::from(byte[0]), number);
            }
        }
        // the last but those that are open now
        let first_closed = count - MAX_IN_TURN - 1;
        write(first_closed, &[4]);
        assert!(files[first_closed].read_at(0, &mut [0]).unwrap_err().message().contains("changed"));
    }

    #[test]
    fn bounds_leave_room_for_two_inputs() {
        assert_eq!(bounds(1024), (128, 32));
        assert_eq!(bounds(64), (16, 8));
        assert_eq!(bounds(0), (0, 1));
    }
}
