//! What there is to open below a directory, and what cannot be: nothing is passed over in silence.

use std::ffi::OsStr;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use super::survey::survey;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::source::files;

/// Something below a directory.
#[derive(Debug)]
pub struct Below {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// What lies below a directory.
#[derive(Debug)]
pub enum Kind {
    /// A file that is no part of a checkpoint of several files, or such a checkpoint.
    Input,
    /// What cannot be opened: a dangling link, a pipe, a directory that may not be read.
    Unreadable(Error),
    /// A link to a directory, which is not followed.
    LinkedDirectory,
}

/// Looks through a directory and those below it, in the order of the names: checkpoints of several files once, then every
/// regular file that is no part of one. Pipes are not opened, links to directories are not followed.
pub fn below(dir: &Path, limits: &Limits) -> Vec<Below> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        if let Err(e) = look_into(&dir, limits, &mut found, &mut open) {
            found.push(Below { path: dir, kind: Kind::Unreadable(e) });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn look_into(dir: &Path, limits: &Limits, found: &mut Vec<Below>, open: &mut Vec<PathBuf>) -> Result<()> {
    let survey = survey(dir, limits)?;
    if files::is_remote(dir) {
        for entry in files::list(dir)? {
            let path = dir.join(&entry.name);
            if entry.is_dir && !survey.is_whole {
                open.push(path);
            } else if !entry.is_dir && !survey.parts.contains(OsStr::new(&entry.name)) {
                found.push(Below { path, kind: Kind::Input });
            }
        }
        found.extend(survey.checkpoints.into_iter().map(|path| Below { path, kind: Kind::Input }));
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            if !survey.is_whole {
                open.push(path);
            }
            continue;
        }
        if survey.parts.contains(&entry.file_name()) {
            continue;
        }
        let kind = kind_of(&path, kind);
        found.push(Below { path, kind });
    }
    found.extend(survey.checkpoints.into_iter().map(|path| Below { path, kind: Kind::Input }));
    Ok(())
}

fn kind_of(path: &Path, kind: FileType) -> Kind {
    if kind.is_file() {
        return Kind::Input;
    }
    match fs::metadata(path) {
        Ok(target) if target.is_file() => Kind::Input,
        Ok(target) if target.is_dir() => Kind::LinkedDirectory,
        Ok(target) => Kind::Unreadable(Error::unsupported(format!("is {}, no file", special(target.file_type())))),
        Err(e) if e.kind() == io::ErrorKind::NotFound && kind.is_symlink() => {
            let target = fs::read_link(path).map_or_else(|_| String::new(), |target| format!(": {}", target.display()));
            Kind::Unreadable(Error::new(ErrorKind::Io, format!("is a link to a file that is not there{target}")))
        }
        Err(e) => Kind::Unreadable(e.into()),
    }
}

#[cfg(unix)]
fn special(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn special(_: FileType) -> &'static str {
    "a device"
}

/// How files are called that somebody takes for a checkpoint, or for an archive of some. Ones that only checkpoints have,
/// and those that people look for checkpoints in; not `.gz` and the like, which say nothing of what is compressed.
const ENDINGS: &[&str] = &[
    "pt",
    "pth",
    "ckpt",
    "bin",
    "pkl",
    "pickle",
    "joblib",
    "safetensors",
    "npz",
    "npy",
    "pt2",
    "pth2",
    "ptl",
    "pte",
    "t7",
    "distcp",
    "nemo",
    "mar",
    "tar",
    "tgz",
    "zip",
];
/// What tells only how the file below is compressed.
const COMPRESSED: &[&str] = &["gz", "bz2", "xz", "lzma", "zst", "z"];

/// Whether a file is called like a checkpoint, compressed or not: one that is none is a mistake.
pub(crate) fn is_called_a_checkpoint(path: &Path) -> bool {
    let ending = |path: &Path| path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    let Some(last) = ending(path) else { return false };
    let stem = path.file_stem().map(Path::new);
    ENDINGS.contains(&last.as_str())
        || COMPRESSED.contains(&last.as_str())
            && stem.and_then(ending).is_some_and(|last| ENDINGS.contains(&last.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_checkpoints() {
        for name in
            ["a.pt", "d/a.PTH", "a.b.ckpt", "x.tar.gz", "model.pth.tar", "model.pt.xz", "w.safetensors", "a.tgz"]
        {
            assert!(is_called_a_checkpoint(Path::new(name)), "{name}");
        }
        for name in ["README.md", "pt", ".pt", "log.gz", "data.csv.gz", "model.py", "config.json", "a.pt~"] {
            assert!(!is_called_a_checkpoint(Path::new(name)), "{name}");
        }
    }
}
