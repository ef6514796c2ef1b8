//! Where files lie: on this machine, or behind an address. Whoever opens checkpoints asks here, by path, and sees no difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "remote")]
use super::remote;
use super::{FileSource, SharedSource, address, read_vec};
use crate::error::{Error, Result};

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name in the directory.
    pub name: String,
    /// Whether it is a directory; a link to one, too.
    pub is_dir: bool,
    /// Whether it is a link.
    pub is_link: bool,
    /// Bytes of a regular file.
    pub bytes: Option<u64>,
}

/// Whether a path is an address of what lies elsewhere.
pub(crate) fn is_remote(path: &Path) -> bool {
    address::service(path).is_some()
}

/// Opens a file. Directories, sockets and devices are refused.
pub(crate) fn open(path: &Path) -> Result<SharedSource> {
    if is_remote(path) {
        return remote::open(path);
    }
    Ok(Arc::new(FileSource::open(path)?))
}

/// Whether there is a directory.
pub(crate) fn is_dir(path: &Path) -> bool {
    if !is_remote(path) {
        return path.is_dir();
    }
    match remote::in_known_list(path) {
        Some(listed) => listed.is_some_and(|listed| listed.bytes.is_none()),
        None if remote::is_called_a_directory(path) => true,
        None => matches!(remote::is_file(path), Ok(false)) && remote::list(path).is_ok_and(|list| !list.is_empty()),
    }
}

/// Whether there is a regular file, or a link to one.
pub(crate) fn is_file(path: &Path) -> bool {
    if !is_remote(path) {
        return path.is_file();
    }
    match remote::in_known_list(path) {
        Some(listed) => listed.is_some_and(|listed| listed.bytes.is_some()),
        None => !remote::is_called_a_directory(path) && remote::is_file(path).unwrap_or(false),
    }
}

/// Whether there is something.
pub(crate) fn exists(path: &Path) -> bool {
    if is_remote(path) { is_file(path) || is_dir(path) } else { path.exists() }
}

/// Bytes of a regular file; nothing where there is none.
pub(crate) fn len(path: &Path) -> Option<u64> {
    if !is_remote(path) {
        return fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|meta| meta.len());
    }
    match remote::in_known_list(path) {
        Some(listed) => listed?.bytes,
        None => remote::open(path).ok().map(|source| source.len()),
    }
}

/// All of a small file; an error for one of more than `max` bytes.
pub(crate) fn read(path: &Path, max: u64) -> Result<Vec<u8>> {
    let source = open(path)?;
    if source.len() > max {
        return Err(Error::limit(format!("is {} bytes long; {max} are allowed", source.len())));
    }
    read_vec(source.as_ref(), 0, source.len())
}

/// What lies directly in a directory, in the order of the names; what has a name that is no Unicode is left out.
pub(crate) fn list(path: &Path) -> Result<Vec<Entry>> {
    if is_remote(path) {
        let list = remote::list(path)?;
        let entry = |listed: &remote::Listed| Entry {
            name: listed.name.clone(),
            is_dir: listed.bytes.is_none(),
            is_link: false,
            bytes: listed.bytes,
        };
        return Ok(list.iter().map(entry).collect());
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // a link that leads nowhere is neither
        let meta = fs::metadata(entry.path()).ok();
        let is_link = entry.file_type()?.is_symlink();
        let is_dir = meta.as_ref().is_some_and(fs::Metadata::is_dir);
        let bytes = meta.filter(fs::Metadata::is_file).map(|meta| meta.len());
        entries.push(Entry { name, is_dir, is_link, bytes });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Says that these will be opened: what lies elsewhere is asked for now, many at a time.
pub(crate) fn prepare(paths: impl IntoIterator<Item = PathBuf>) {
    let remote: Vec<PathBuf> = paths.into_iter().filter(|path| is_remote(path)).collect();
    if remote.len() > 1 {
        remote::prepare(remote);
    }
}

/// Bounds the bytes that are transferred from elsewhere.
pub(crate) fn set_max_transfer(bytes: u64) {
    remote::set_max_transfer(bytes);
}

/// Without the feature, every address says how to get it.
#[cfg(not(feature = "remote"))]
mod remote {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use crate::error::{Error, Result};
    use crate::source::SharedSource;

    pub(super) struct Listed {
        pub name: String,
        pub bytes: Option<u64>,
    }

    fn missing() -> Error {
        Error::unsupported("this ckpt was built without the feature `remote`")
            .advise("build it with that feature, or download the file first")
    }

    pub(super) fn open(_: &Path) -> Result<SharedSource> {
        Err(missing())
    }

    pub(super) fn is_file(_: &Path) -> Result<bool> {
        Err(missing())
    }

    pub(super) fn list(_: &Path) -> Result<Arc<Vec<Listed>>> {
        Err(missing())
    }

    pub(super) fn in_known_list(_: &Path) -> Option<Option<Listed>> {
        None
    }

    pub(super) fn is_called_a_directory(_: &Path) -> bool {
        false
    }

    pub(super) fn prepare(_: Vec<PathBuf>) {}

    pub(super) fn set_max_transfer(_: u64) {}
}
