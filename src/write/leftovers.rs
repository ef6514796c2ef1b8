//! What a kill or a loss of power leaves beside a target, and who may remove it.
//!
//! Whoever writes holds a lock (`flock`) on the temporary file or directory, which ends with the process. The next one
//! with the same target removes every temporary name of that target that nobody holds. Where the file system has no such
//! locks, everything is left alone.

use std::path::Path;

/// What comes between the target's name and six random letters and digits.
const MARK: &str = ".ckpt-tmp-";
/// Bytes of the target's name that go into the temporary one's.
const MAX_NAME_BYTES: usize = 200;

/// What the names of temporary files for `target` begin with: `.model.pt.ckpt-tmp-`.
pub(super) fn prefix(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let mut end = name.len().min(MAX_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!(".{}{MARK}", name.get(..end).unwrap_or_default())
}

#[cfg(unix)]
pub(super) use locked::{hold, remove};

#[cfg(unix)]
mod locked {
    use std::ffi::OsString;
    use std::fs;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, open, statat};

    use super::{MARK, prefix};

    /// Many targets in one directory look once for what lies in it.
    const FRESH: Duration = Duration::from_secs(1);
    /// Letters and digits behind the mark.
    const RANDOM_CHARS: usize = 6;

    /// A directory, when it was read, and its temporary names.
    static LAST: Mutex<Option<(PathBuf, Instant, Vec<OsString>)>> = Mutex::new(None);

    /// Locks what was just made for as long as it is open. False when somebody removed it before it was locked.
    pub(in super::super) fn hold(file: impl AsFd) -> io::Result<bool> {
        match flock(&file, FlockOperation::LockExclusive) {
            // a directory that was removed keeps one link on some systems
            Ok(()) => Ok(fstat(&file)?.st_nlink > 0),
            // no locks here, so nobody removes it either
            Err(_) => Ok(true),
        }
    }

    /// Removes the temporary files and directories of `target` that nobody holds.
    pub(in super::super) fn remove(target: &Path, dir: &Path) {
        let prefix = prefix(target);
        for name in temporary_names(dir) {
            let Some(random) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else { continue };
            if random.len() == RANDOM_CHARS && random.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                // what cannot be removed stays: it is in nobody's way
                let _ = remove_unheld(&dir.join(&name));
            }
        }
    }

    fn temporary_names(dir: &Path) -> Vec<OsString> {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, read, names)) = &*last
            && of == dir
            && read.elapsed() < FRESH
        {
            return names.clone();
        }
        let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let names: Vec<OsString> = entries.filter(|name| name.to_string_lossy().contains(MARK)).collect();
        *last = Some((dir.to_owned(), Instant::now(), names.clone()));
        names
    }

    fn remove_unheld(path: &Path) -> io::Result<()> {
        let before = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(before.st_mode);
        let more = match kind {
            FileType::RegularFile => OFlags::NONBLOCK,
            FileType::Directory => OFlags::DIRECTORY,
            _ => return Ok(()),
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        let held: OwnedFd = open(path, flags, Mode::empty())?;
        flock(&held, FlockOperation::NonBlockingLockExclusive)?;
        // whoever wrote it may have given it its name meanwhile, and another may have taken this one
        let is_same = |other: Stat| fstat(&held).is_ok_and(|it| (it.st_dev, it.st_ino) == (other.st_dev, other.st_ino));
        if !is_same(statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?) {
            return Ok(());
        }
        match kind {
            FileType::Directory => fs::remove_dir_all(path),
            _ => fs::remove_file(path),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::fs::File;

        #[test]
        fn only_what_is_ours_and_nobody_holds() {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            let ours = [".out.pt.ckpt-tmp-aB3dE6", ".out.pt.ckpt-tmp-000000", ".out.pt.ckpt-tmp-folder"];
            let others = [
                ".out.pt.ckpt-tmp-held00",
                ".out.pt.ckpt-tmp-",
                ".out.pt.ckpt-tmp-toolong",
                ".out.pt.ckpt-tmp-a-b_c.",
                ".out2.pt.ckpt-tmp-aB3dE6",
                "out.pt",
                "out.pt.ckpt-tmp-aB3dE6",
                ".out.pt.ckpt-tmp-linked",
            ];
            for name in ours.iter().chain(&others) {
                match *name {
                    ".out.pt.ckpt-tmp-folder" => {
                        fs::create_dir(path(name)).unwrap();
                        fs::write(path(name).join("x.npy"), "half").unwrap();
                    }
                    ".out.pt.ckpt-tmp-linked" => std::os::unix::fs::symlink("out.pt", path(name)).unwrap(),
                    _ => fs::write(path(name), "x").unwrap(),
                }
            }
            let held = File::open(path(".out.pt.ckpt-tmp-held00")).unwrap();
            assert!(hold(&held).unwrap());
            remove(&path("out.pt"), dir.path());
            for name in ours {
                assert!(!path(name).exists(), "{name}");
            }
            for name in others {
                assert!(path(name).symlink_metadata().is_ok(), "{name}");
            }
            drop(held);
            *LAST.lock().unwrap() = None;
            remove(&path("out.pt"), dir.path());
            assert!(!path(".out.pt.ckpt-tmp-held00").exists(), "the lock ends with who held it");
        }

        #[test]
        fn what_was_removed_before_it_was_locked_is_noticed() {
            let dir = tempfile::tempdir().unwrap();
            let file = File::create(dir.path().join("x")).unwrap();
            fs::remove_file(dir.path().join("x")).unwrap();
            assert!(!hold(&file).unwrap());
        }
    }
}

#[cfg(not(unix))]
pub(super) fn remove(_: &Path, _: &Path) {}

#[cfg(not(unix))]
pub(super) fn hold<T>(_: T) -> std::io::Result<bool> {
    Ok(true)
}
