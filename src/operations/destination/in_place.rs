//! A file that is edited in place: locked against other edits, and written only while it is what was read.

use std::fs::{self, File, Metadata, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Form, one_file};
use crate::checkpoint::framed::{Framed, Single};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::address;
use crate::message::{Message, Setting};
use crate::operations::Input;
use crate::operations::change::Edit;
use crate::progress::Progress;
use crate::source::{FileSource, SharedSource, address as addresses};
use crate::write::append::{self, append};
use crate::write::atomic::{Output, Target};
use crate::write::interrupt::Appending;
use crate::write::redo;
use crate::write::rewrite::{self, Change, rewrite};

/// A file that is edited in place.
#[derive(Debug)]
pub struct InPlace {
    path: PathBuf,
    file: File,
    /// What it was when it was locked.
    stamp: Stamp,
}

/// What tells that a file is still the one that was read.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    /// Device and inode, where there are such.
    id: Option<(u64, u64)>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        #[cfg(unix)]
        let id = Some((std::os::unix::fs::MetadataExt::dev(meta), std::os::unix::fs::MetadataExt::ino(meta)));
        #[cfg(not(unix))]
        let id = None;
        Stamp { len: meta.len(), modified: meta.modified().ok(), id }
    }
}

/// Locks a file against other edits in place, until the process ends. Whether that could be done; where there are no locks,
/// nobody waits for one.
#[cfg(unix)]
fn lock(file: &File) -> bool {
    use rustix::fs::{FlockOperation, flock};
    flock(file, FlockOperation::NonBlockingLockExclusive) != Err(rustix::io::Errno::WOULDBLOCK)
}

#[cfg(not(unix))]
fn lock(_: &File) -> bool {
    true
}

impl InPlace {
    /// Opens the regular file that a path leads to for reading and writing, and locks it. Refused are files that cannot be
    /// written, those that another process edits, and those with several names: an edit would change them all, or part them.
    pub fn open(path: &Path) -> Result<Self> {
        let elsewhere = || Message::from("use ").setting(Setting::Output);
        if address(path).is_some() {
            let message = "a member of an archive cannot be edited in place";
            return Err(Error::refused(message).advise(elsewhere()));
        }
        if addresses::is_address(path) {
            return Err(Error::refused("is an address and cannot be edited in place").advise(elsewhere()));
        }
        let path = fs::canonicalize(path)?;
        let meta = fs::metadata(&path)?;
        if !meta.is_file() {
            return Err(Error::refused("is not a regular file, so it cannot be edited in place"));
        }
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&meta) > 1 {
            let links = std::os::unix::fs::MetadataExt::nlink(&meta);
            let message = format!("has {links} hard links, which an edit in place would change or break");
            return Err(Error::refused(message).advise(elsewhere()));
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| {
            let message = Message::from("cannot be written, so it cannot be edited in place; ").message(elsewhere());
            Error::new(ErrorKind::Io, message.text(format!(": {e}")))
        })?;
        if !lock(&file) {
            let advice = "run it again when that is done";
            return Err(Error::refused("is being edited in place by another process").advise(advice));
        }
        let stamp = Stamp::of(&file.metadata()?);
        let file = InPlace { path, file, stamp };
        // who edited it before the lock may have put another file in its place
        file.is_unchanged()?;
        Ok(file)
    }

    /// Fails unless the file, and what its name leads to, is what was read.
    pub(crate) fn is_unchanged(&self) -> Result<()> {
        let is_same = |meta: std::io::Result<Metadata>| meta.is_ok_and(|meta| Stamp::of(&meta) == self.stamp);
        if is_same(self.file.metadata()) && is_same(fs::metadata(&self.path)) {
            return Ok(());
        }
        Err(Error::refused("was changed by another process meanwhile, so nothing is written").advise("run it again"))
    }

    /// Its bytes, to be read.
    pub(crate) fn source(&self) -> Result<SharedSource> {
        Ok(Arc::new(FileSource::from_file(self.file.try_clone()?)?))
    }

    /// The file, to be written, if it is still what was read.
    pub(crate) fn file(&mut self) -> Result<&mut File> {
        self.is_unchanged()?;
        Ok(&mut self.file)
    }

    /// A new file that replaces it.
    pub(crate) fn target(&self) -> Result<Target> {
        Target::new(&self.path, true, None)
    }

    /// Gives what replaces the file its owner, group and mode.
    pub(crate) fn give_owner(&self, output: &Output) -> Result<()> {
        output.keep_owner(&self.file)
    }

    pub(super) fn write(
        &mut self,
        input: &Input,
        form: &Form,
        edit: &dyn Edit,
        progress: &dyn Progress,
    ) -> Result<u64> {
        one_file(form)?;
        let checkpoint = &input.checkpoint;
        if let Some(compression) = checkpoint.compression() {
            let message = format!("is compressed ({}), so it cannot be edited in place", compression.name());
            let advice = Message::from("use ").setting(Setting::Output).text(" to write it uncompressed");
            return Err(Error::refused(message).advise(advice));
        }
        let change = edit.change(checkpoint)?;
        if let Some(zip) = checkpoint.zip().filter(|_| matches!(change, Change::Objects(_))) {
            let members = change.members(zip)?;
            if members.iter().map(|member| member.content.len()).sum::<u64>() <= append::MAX_BYTES {
                return append(&mut Appending::to(self.file()?)?, zip, &members);
            }
        }
        if let (Change::Arrays(flat), Framed::File { kind: Single::Safetensors, bytes: source, .. }) =
            (&change, &checkpoint.framed)
            && let Some(new) = rewrite::in_place(source, flat, &checkpoint.limits)?
            && new.writes.iter().map(|(_, bytes)| bytes.len()).sum::<u64>() <= append::MAX_BYTES
        {
            return redo::over(&mut Appending::to(self.file()?)?, source.len(), &new.writes, new.len);
        }
        let mut output = self.target()?.create()?;
        self.give_owner(&output)?;
        progress.begin(&input.name, input.bytes);
        rewrite(checkpoint, &change, &mut output, progress)?;
        let written = output.position();
        self.is_unchanged()?;
        output.commit()?;
        Ok(written)
    }
}
