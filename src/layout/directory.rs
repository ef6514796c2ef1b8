//! The files of a checkpoint's directory, by the names that its index gives them.
//!
//! A name in an index is input like any other: it must stay in the directory. Links are followed, as Hugging Face's
//! cache is made of them.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::container::archive::Archive;
use crate::error::{Error, Result};
use crate::source::{FileSource, SharedSource, Source};

/// Files kept open at once, well under what a process may have; the others are opened for every read.
const MAX_OPEN: usize = 128;

/// A directory, or a folder of an archive, and the files of it that were asked for.
#[derive(Debug)]
pub(super) struct Directory {
    place: Base,
    files: HashMap<String, Result<SharedSource, String>>,
}

#[derive(Debug)]
enum Base {
    Disk(PathBuf),
    Archive {
        archive: Arc<Archive>,
        /// With the slash at its end; empty for the top.
        folder: String,
    },
}

impl Directory {
    pub(crate) fn new(path: &Path) -> Self {
        Directory { place: Base::Disk(path.to_owned()), files: HashMap::new() }
    }

    /// A folder of an archive.
    pub(crate) fn in_archive(archive: &Arc<Archive>, folder: &str) -> Self {
        let folder = match folder.trim_end_matches('/') {
            "" | "." => String::new(),
            folder => format!("{folder}/"),
        };
        Directory { place: Base::Archive { archive: Arc::clone(archive), folder }, files: HashMap::new() }
    }

    /// The bytes of the file `name`, or why there are none: `model.bin: is missing`. Each file is opened once.
    pub(crate) fn file(&mut self, name: &str) -> Result<SharedSource, String> {
        if let Some(known) = self.files.get(name) {
            return known.clone();
        }
        let keep = self.files.len() < MAX_OPEN;
        let opened = match &self.place {
            Base::Disk(path) => open(&path.join(name), keep),
            Base::Archive { archive, folder } => match archive.find(&format!("{folder}{name}")) {
                Some(index) => archive.contents(index).map(|contents| contents.source).map_err(|e| e.to_string()),
                None => Err("is missing".into()),
            },
        };
        let opened = opened.map_err(|why| format!("{name}: {why}"));
        self.files.insert(name.to_owned(), opened.clone());
        opened
    }

    /// Bytes of a file, where there is one.
    pub(crate) fn bytes_of(&self, name: &str) -> u64 {
        match &self.place {
            Base::Disk(path) => fs::metadata(path.join(name)).map_or(0, |meta| meta.len()),
            Base::Archive { archive, folder } => {
                archive.find(&format!("{folder}{name}")).map_or(0, |index| archive.size(index))
            }
        }
    }
}

fn open(path: &Path, keep: bool) -> Result<SharedSource, String> {
    // opening a pipe would wait for a writer, so look first
    match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err("is missing".into()),
        Err(e) => return Err(e.to_string()),
        Ok(meta) if !meta.is_file() => return Err("is not a regular file".into()),
        Ok(_) => {}
    }
    let file = FileSource::open(path).map_err(|e| e.to_string())?;
    Ok(if keep { Arc::new(file) } else { Arc::new(Reopened { path: path.to_owned(), len: file.len() }) })
}

/// Fails for a name that could lead out of the directory: absolute ones, and those with `..`.
pub(super) fn check_name(name: &str) -> Result<()> {
    let path = Path::new(name);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !inside {
        return Err(Error::malformed(format!("the index names {name:?}, which is not a file in its directory")));
    }
    Ok(())
}

/// The sum of a directory's files, in bytes.
pub(super) fn bytes(path: &Path) -> Result<u64> {
    let mut sum = 0u64;
    for entry in fs::read_dir(path)? {
        // a link that leads nowhere has no bytes
        let meta = fs::metadata(entry?.path());
        sum = sum.saturating_add(meta.ok().filter(fs::Metadata::is_file).map_or(0, |meta| meta.len()));
    }
    Ok(sum)
}

/// A file that is opened for each read: a checkpoint of a thousand ranks has more files than a process may have open.
#[derive(Debug)]
struct Reopened {
    path: PathBuf,
    len: u64,
}

impl Source for Reopened {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let file = FileSource::open(&self.path)?;
        if file.len() != self.len {
            return Err(Error::truncated("the file changed while it was read").at(offset));
        }
        file.read_at(offset, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for good in ["model.bin", "sub/model.bin", "..model", "a..b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "..", "../model.bin", "sub/../../model.bin", "/etc/passwd", "."] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn more_files_than_may_be_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(dir.path());
        for number in 0..MAX_OPEN + 2 {
            let name = format!("{number}");
            fs::write(dir.path().join(&name), [1, 2, u8::try_from(number).unwrap()]).unwrap();
            let mut byte = [0];
            directory.file(&name).unwrap().read_at(2, &mut byte).unwrap();
            assert_eq!(usize::from(byte[0]), number);
        }
        let last = directory.file(&format!("{}", MAX_OPEN + 1)).unwrap();
        fs::write(dir.path().join(format!("{}", MAX_OPEN + 1)), [1, 2, 3, 4]).unwrap();
        assert!(last.read_at(0, &mut [0]).unwrap_err().message().contains("changed"));
        assert_eq!(directory.file("none").unwrap_err(), "none: is missing");
    }
}
