//! Where output will go: a file, standard output or memory, checked before anything is written.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, Setting};
use crate::source::address;

/// Where output will go, checked before anything is written.
#[derive(Debug, Clone)]
pub enum Target {
    /// A regular file, existing or new.
    File {
        /// The file, links followed.
        path: PathBuf,
        /// Whether it may exist already.
        force: bool,
    },
    /// Standard output.
    Stdout,
    /// Bytes in memory.
    Memory(Memory),
}

/// Bytes that an output replaces once it is complete, as it would a file's.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// Takes the bytes out; nothing where no output was completed.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, bytes: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }
}

/// Whether a path stands for standard output, by one of its names.
pub(crate) fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path.as_os_str() == *name)
}

impl Target {
    /// Checks that `path` can be written: `-` is standard output (never a terminal); an existing file, `input` itself
    /// included, needs `force`; its directory must exist; what is no regular file is refused.
    pub fn new(path: &Path, force: bool, input: Option<&Path>) -> Result<Self> {
        if is_stdout(path) {
            if io::stdout().is_terminal() {
                return Err(fail("refusing to write a checkpoint to a terminal; redirect it or name a file"));
            }
            return Ok(Target::Stdout);
        }
        if path.file_name().is_none() {
            return Err(fail("is not a file name"));
        }
        let Ok(link) = fs::symlink_metadata(path) else {
            if let Some(url) = address::not_written(path) {
                return Err(url);
            }
            let dir = directory(path);
            return match fs::metadata(dir) {
                Ok(meta) if meta.is_dir() => Ok(Target::File { path: path.to_owned(), force }),
                Ok(_) => Err(fail(format!("{} is not a directory", dir.display()))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    Err(fail(format!("the directory {} does not exist", dir.display())))
                }
                Err(e) => Err(e.into()),
            };
        };
        // through a link, the file it leads to is replaced
        let path = if link.is_symlink() { fs::canonicalize(path)? } else { path.to_owned() };
        let meta = fs::metadata(&path)?;
        if meta.is_dir() {
            return Err(fail("is a directory"));
        }
        if !meta.is_file() {
            return Err(fail("is not a regular file; `-` is standard output"));
        }
        if !force {
            let same = input.is_some_and(|input| is_same_file(input, &path));
            return Err(match same {
                true => fail("is the input itself")
                    .advise(Setting::Force.then(" replaces it once the new file is complete")),
                false => exists(),
            });
        }
        Ok(Target::File { path, force })
    }

    /// The file, links followed.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Target::File { path, .. } => Some(path),
            Target::Stdout | Target::Memory(_) => None,
        }
    }

    /// Bytes that a new file may take where the target lies; `None` where nobody says.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let Target::File { path, .. } = self else { return None };
        free_bytes(directory(path))
    }
}

pub(super) fn fail(message: impl Into<Message>) -> Error {
    Error::new(ErrorKind::Io, message)
}

pub(super) fn exists() -> Error {
    fail("exists already").advise(Setting::Force.then(" replaces it"))
}

/// The directory that holds a file.
pub(in crate::write) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether two paths lead to one file.
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b || same_inode(&a, &b))
}

#[cfg(unix)]
fn same_inode(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    id(a).is_some_and(|of_a| Some(of_a) == id(b))
}

#[cfg(not(unix))]
fn same_inode(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(unix)]
fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_target() {
        let dir = tempfile::tempdir().unwrap();
        let say = |path: &Path| Target::new(path, true, None).unwrap_err().to_string();
        assert!(say(&dir.path().join("no/out.pt")).contains("does not exist"));
        assert_eq!(say(dir.path()), "is a directory");
        assert!(say(Path::new("..")).contains("not a file name"));
        #[cfg(unix)]
        assert!(say(Path::new("/dev/null")).contains("not a regular file"));
    }
}
