//! The files of a checkpoint's directory, by the names that its index gives them.
//!
//! A name in an index is input like any other: it must stay in the directory. Links are followed, as Hugging Face's
//! cache is made of them.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::open_files;
use crate::container::archive::Archive;
use crate::error::{Error, Result};
use crate::source::{SharedSource, files};

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
        let opened = match &self.place {
            Base::Disk(path) => open(&path.join(name)),
            Base::Archive { archive, folder } => match archive.find(&format!("{folder}{name}")) {
                Some(index) => archive.contents(index).map(|contents| contents.source).map_err(|e| e.to_string()),
                None => Err("is missing".into()),
            },
        };
        let opened = opened.map_err(|why| format!("{name}: {why}"));
        self.files.insert(name.to_owned(), opened.clone());
        opened
    }

    /// Says which files will be opened.
    pub(crate) fn prepare<'a>(&self, names: impl Iterator<Item = &'a str>) {
        if let Base::Disk(path) = &self.place {
            files::prepare(names.map(|name| path.join(name)));
        }
    }

    /// The names of the files that lie directly in it, sorted; what cannot be listed has none.
    pub(crate) fn names(&self) -> Vec<String> {
        match &self.place {
            Base::Disk(path) => {
                let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
                super::file_names(path).unwrap_or_default()
            }
            Base::Archive { archive, folder } => {
                let within = archive.names().filter_map(|name| name.strip_prefix(folder.as_str()));
                let mut names: Vec<String> =
                    within.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect();
                names.sort();
                names
            }
        }
    }

    /// Bytes of a file, where there is one.
    pub(crate) fn bytes_of(&self, name: &str) -> u64 {
        match &self.place {
            Base::Disk(path) => files::len(&path.join(name)).unwrap_or(0),
            Base::Archive { archive, folder } => {
                archive.find(&format!("{folder}{name}")).map_or(0, |index| archive.size(index))
            }
        }
    }
}

fn open(path: &Path) -> Result<SharedSource, String> {
    if files::is_remote(path) {
        return match files::exists(path) {
            true => files::open(path).map_err(|e| e.to_string()),
            false => Err("is missing".into()),
        };
    }
    // opening a pipe would wait for a writer, so look first
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err("is missing".into()),
        Err(e) => return Err(e.to_string()),
        Ok(meta) if !meta.is_file() => return Err("is not a regular file".into()),
        Ok(_) => {}
    }
    open_files::open(path).map_err(|e| e.to_string())
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
    let sizes = files::list(path)?.into_iter().filter_map(|entry| entry.bytes);
    Ok(sizes.fold(0u64, u64::saturating_add))
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
}
