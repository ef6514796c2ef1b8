//! The file beside the target, under a recognisable name until it is whole.

use std::fs::{self, File, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::write::atomic::target::{directory, exists, fail};
use crate::write::interrupt::{self, Undo};
use crate::write::leftovers;

/// How often somebody may remove what was just made before it is locked.
const MAX_ATTEMPTS: usize = 16;

/// The file beside the target, removed when dropped.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) file: NamedTempFile,
    target: PathBuf,
    force: bool,
    _guard: interrupt::Guard,
}

impl Temporary {
    pub(super) fn beside(target: &Path, force: bool) -> Result<Self> {
        let dir = directory(target);
        leftovers::remove(target, dir);
        let prefix = leftovers::prefix(target);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let make = || {
            let file = builder.tempfile_in(dir)?;
            let path = file.path().to_owned();
            Ok((file, Undo::File(path)))
        };
        let (file, guard) = held(make, |file: &NamedTempFile| leftovers::hold(file.as_file()))
            .map_err(|e| fail(format!("cannot write in {}: {e}", dir.display())))?;
        if let Some(mode) = existing_mode(target) {
            file.as_file().set_permissions(mode)?;
        }
        Ok(Temporary { file, target: target.to_owned(), force, _guard: guard })
    }

    /// The file that it replaces.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    pub(super) fn commit(self) -> Result<()> {
        self.file.as_file().sync_all()?;
        let persisted = match self.force {
            true => self.file.persist(&self.target),
            // somebody else may have made the target meanwhile
            false => self.file.persist_noclobber(&self.target),
        };
        persisted.map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => exists(),
            _ => Error::from(e.error),
        })?;
        sync_directory(directory(&self.target))
    }
}

/// Makes something that a signal undoes, and locks it. Nobody may come between it and the list of what a signal undoes;
/// who removes leftovers may come before the lock.
pub(in crate::write) fn held<T>(
    make: impl Fn() -> io::Result<(T, Undo)>,
    hold: impl Fn(&T) -> io::Result<bool>,
) -> io::Result<(T, interrupt::Guard)> {
    for _ in 0..MAX_ATTEMPTS {
        let (made, guard) = interrupt::guard(&make)?;
        if hold(&made)? {
            return Ok((made, guard));
        }
    }
    Err(io::Error::other("temporary files are removed as soon as they are made"))
}

/// The mode bits of a file that will be replaced.
fn existing_mode(target: &Path) -> Option<Permissions> {
    fs::metadata(target).ok().map(|meta| meta.permissions())
}

#[cfg(unix)]
pub(in crate::write) fn sync_directory(dir: &Path) -> Result<()> {
    Ok(File::open(dir)?.sync_all()?)
}

#[cfg(not(unix))]
pub(in crate::write) fn sync_directory(_: &Path) -> Result<()> {
    Ok(())
}
