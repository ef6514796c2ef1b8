//! A zip of torch's that somebody unpacked: the folder with its `data.pkl` and `data/`, or the one above.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::Directory;
use crate::checkpoint::Checkpoint;
use crate::container::zip::Zip;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{SharedSource, files};

/// Folders below an unpacked archive's own; pt2 has three.
const MAX_DEPTH: usize = 16;
/// What macOS puts beside everything.
const NOT_OURS: &[&str] = &["__MACOSX", ".DS_Store"];

/// An archive without a file of its own.
#[derive(Debug)]
pub(super) struct Unpacked {
    zip: Arc<Zip>,
    /// One pickle of a torch.package archive.
    pickle: Option<usize>,
    bytes: u64,
}

impl Unpacked {
    pub(crate) fn new(zip: Arc<Zip>, pickle: Option<usize>) -> Self {
        let bytes = zip.members.iter().fold(0u64, |sum, member| sum.saturating_add(member.compressed_size));
        Unpacked { zip, pickle, bytes }
    }

    /// The unpacked archive that a directory is, or holds and nothing besides; nothing where there is none.
    pub(crate) fn of_directory(path: &Path, limits: &Limits) -> Result<Option<Self>> {
        let Some(folder) = folder(path)? else { return Ok(None) };
        let mut directory = Directory::new(&folder);
        let mut files = Vec::new();
        for name in file_names(&folder, limits)? {
            // what cannot be opened is missing from the archive, as any member may be
            if let Ok(source) = directory.file(&name) {
                files.push((name, source));
            }
        }
        let top = folder.canonicalize().ok().unwrap_or(folder);
        let top = top.file_name().map(|top| top.to_string_lossy().into_owned());
        let zip = Zip::of_files(&top.unwrap_or_default(), files, limits);
        Ok(Some(Unpacked::new(Arc::new(zip), None)))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The files and their bytes; of one pickle of several only that.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, Result<SharedSource>)> {
        let members = self
            .zip
            .members
            .iter()
            .zip(0..)
            .filter(|(member, index)| !member.is_dir() && self.pickle.is_none_or(|pickle| pickle == *index));
        let members = members.map(|(member, _)| member);
        members.map(|member| (member.name.to_string(), self.zip.member_source(member)))
    }

    pub(crate) fn open(self, limits: &Limits) -> Result<Checkpoint> {
        Checkpoint::open_archive(self.zip, self.pickle, self.bytes, limits)
    }
}

/// Whether a directory is what comes out of one of torch's zips.
pub(super) fn is_unpacked(path: &Path) -> bool {
    let has = |name: &str| files::exists(&path.join(name));
    let is_file = |name: &str| files::is_file(&path.join(name));
    is_file("data.pkl") && ["version", "byteorder", "data", "constants.pkl"].iter().any(|name| has(name))
        || is_file("archive_format") && files::is_dir(&path.join("models"))
        || is_file(".data/extern_modules")
}

fn folder(path: &Path) -> Result<Option<PathBuf>> {
    if is_unpacked(path) {
        return Ok(Some(path.to_owned()));
    }
    let mut found = Vec::new();
    for entry in files::list(path)? {
        if NOT_OURS.contains(&entry.name.as_str()) {
            continue;
        }
        if !entry.is_dir {
            return Ok(None);
        }
        let inner = path.join(&entry.name);
        if is_unpacked(&inner) {
            found.push(inner);
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        [first, second, ..] => {
            let (first, second) = (first.display(), second.display());
            Err(Error::unsupported(format!("is a directory of several unpacked archives; name one: {first}, {second}")))
        }
    }
}

/// The files below a directory by their paths in it, sorted. Links to directories are not followed; names that are no
/// Unicode are no member's.
fn file_names(path: &Path, limits: &Limits) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut open = vec![(path.to_owned(), String::new(), 0)];
    while let Some((dir, within, depth)) = open.pop() {
        for entry in files::list(&dir)? {
            let name = format!("{within}{}", entry.name);
            if entry.is_dir && !entry.is_link {
                if depth == MAX_DEPTH {
                    return Err(Error::limit(format!("folders nest more than {MAX_DEPTH} deep: {name}")));
                }
                open.push((dir.join(&entry.name), format!("{name}/"), depth + 1));
            } else if entry.bytes.is_some() {
                names.push(name);
            }
            if names.len() as u64 > limits.max_members {
                return Err(Error::limit(format!("has more than {} files", limits.max_members)));
            }
        }
    }
    names.sort();
    Ok(names)
}
