//! Directories that are made for output: whole or not at all, or gone again while nothing is in them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::Result;
use crate::source::address;
use crate::write::atomic::{directory, held};
use crate::write::interrupt::{self, Undo};
use crate::write::leftovers;

/// A new directory that appears with all its files or not at all. Removed when dropped.
#[derive(Debug)]
pub(crate) struct NewTree {
    made: TempDir,
    target: PathBuf,
    _lock: Option<File>,
    _guard: interrupt::Guard,
}

impl NewTree {
    /// Begins a directory for `target`, which must not be there.
    pub(crate) fn beside(target: &Path) -> Result<Self> {
        if let Some(url) = address::not_written(target) {
            return Err(url);
        }
        let dir = directory(target);
        leftovers::remove(target, dir);
        let prefix = leftovers::prefix(target);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let make = || {
            let made = builder.tempdir_in(dir)?;
            let path = made.path().to_owned();
            // directories cannot be opened everywhere
            let lock = File::open(&path).ok();
            Ok(((made, lock), Undo::Tree(path)))
        };
        let hold = |(_, lock): &(TempDir, Option<File>)| lock.as_ref().map_or(Ok(true), leftovers::hold);
        let ((made, lock), guard) = held(make, hold)?;
        Ok(NewTree { made, target: target.to_owned(), _lock: lock, _guard: guard })
    }

    /// Where its files go meanwhile.
    pub(crate) fn path(&self) -> &Path {
        self.made.path()
    }

    /// Gives it its name.
    pub(crate) fn commit(self) -> Result<()> {
        fs::rename(self.made.path(), &self.target)?;
        // it has another name now, so there is nothing left to remove
        let _ = self.made.keep();
        Ok(())
    }
}

/// A directory that was made for files to come: removed again while nothing is in it.
#[derive(Debug)]
pub(crate) struct NewDirectory {
    path: PathBuf,
    stays: bool,
    _guard: interrupt::Guard,
}

impl NewDirectory {
    /// Makes the directory; nothing when it is there already.
    pub(crate) fn make(path: &Path) -> io::Result<Option<Self>> {
        if path.is_dir() {
            return Ok(None);
        }
        if let Some(url) = address::not_written(path) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, url));
        }
        match interrupt::guard(|| fs::create_dir(path).map(|()| ((), Undo::Directory(path.to_owned())))) {
            Ok(((), guard)) => Ok(Some(NewDirectory { path: path.to_owned(), stays: false, _guard: guard })),
            // another process made it meanwhile
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl NewDirectory {
    /// Lets it stay, whatever becomes of what goes into it.
    fn keep(mut self) {
        self.stays = true;
    }
}

/// Makes a directory for several processes, of which each may come first: it stays.
pub(crate) fn make_for_several(path: &Path) -> io::Result<()> {
    if let Some(made) = NewDirectory::make(path)? {
        made.keep();
    }
    Ok(())
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        // one that holds files stays
        if !self.stays {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("folder");
        let names = || fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        let tree = NewTree::beside(&target).unwrap();
        fs::write(tree.path().join("x"), "half").unwrap();
        assert!(names()[0].to_str().unwrap().starts_with(".folder.ckpt-tmp-"), "{:?}", names());
        drop(tree);
        assert!(names().is_empty());
        let tree = NewTree::beside(&target).unwrap();
        fs::write(tree.path().join("x"), "whole").unwrap();
        tree.commit().unwrap();
        assert_eq!((names(), fs::read(target.join("x")).unwrap()), (vec!["folder".into()], b"whole".to_vec()));
    }

    #[test]
    fn gone_again_while_nothing_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("folder");
        drop(NewDirectory::make(&target).unwrap().unwrap());
        assert!(!target.exists());
        let made = NewDirectory::make(&target).unwrap();
        assert!(NewDirectory::make(&target).unwrap().is_none(), "it is there already");
        fs::write(target.join("x"), "").unwrap();
        drop(made);
        assert!(target.join("x").exists());
    }
}
