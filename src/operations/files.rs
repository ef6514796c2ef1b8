//! Which files a job is about: inputs, lists of inputs, what lies below directories, and the part of all of them that falls
//! to one job of several.
//!
//! A part is every N-th of the files, each once, in the order of their paths, those that are called like checkpoints first:
//! jobs that see the same files share them out without a word between them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::layout::{Below, BelowKind, below, is_called_a_checkpoint};
use crate::limits::Limits;
use crate::message::Setting;
use crate::source::address::given;
use crate::source::files;

/// One of several jobs: `3/8` is the third of eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    count: u64,
}

impl Shard {
    /// Whether this job takes the thing of this place, counted from 0.
    pub fn takes(self, place: usize) -> bool {
        place as u64 % self.count == self.index - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = |part: &str| Some(part).filter(is_number).and_then(|part| part.parse::<u64>().ok());
        let parts = text.split_once('/').and_then(|(index, count)| Some((number(index)?, number(count)?)));
        match parts {
            None => Err("use I/N: 3/8 is the third of eight jobs".to_owned()),
            Some((_, 0)) => Err("there is no job of 0".to_owned()),
            Some((0, count)) => Err(format!("jobs are counted from 1: 1/{count} to {count}/{count}")),
            Some((index, count)) if index > count => Err(format!("there is no job {index} of {count}")),
            Some((index, count)) => Ok(Shard { index, count }),
        }
    }
}

/// An input, and the files that it stands for.
#[derive(Debug)]
pub struct Group {
    /// As it was given.
    pub input: PathBuf,
    /// What is to be looked at: the input, or what lies below a directory, as far as it falls to this job.
    pub found: Vec<Below>,
    /// Whether nothing lies below the directory, whoever's job it is.
    pub is_empty: bool,
    /// Whether others may have files of it.
    pub is_shared: bool,
    /// Whether it is all that lies below a directory.
    pub is_recursive: bool,
}

/// The files of all inputs; with `recursive` those below directories. Of a shard, those that fall to it.
pub fn gather(inputs: &[PathBuf], recursive: bool, shard: Option<Shard>, limits: &Limits) -> Vec<Group> {
    files::set_max_transfer(limits.max_transfer);
    let group = |input: &PathBuf| {
        let is_recursive = recursive && files::is_dir(input);
        let found = match is_recursive {
            true => below(input, limits),
            false => vec![Below { path: input.clone(), kind: BelowKind::Input }],
        };
        Group { input: input.clone(), is_empty: found.is_empty(), found, is_shared: shard.is_some(), is_recursive }
    };
    let mut groups: Vec<Group> = inputs.iter().map(group).collect();
    let Some(shard) = shard else { return groups };
    // what lies beside checkpoints costs nothing: it must not bring all of them to one job
    let is_other = |path: &PathBuf| !is_called_a_checkpoint(path) && (files::is_remote(path) || !path.is_dir());
    let found = groups.iter().flat_map(|group| &group.found);
    let mut all: Vec<(bool, PathBuf)> = found.map(|found| (is_other(&found.path), found.path.clone())).collect();
    all.sort();
    all.dedup();
    let ours = all.into_iter().enumerate().filter(|(place, _)| shard.takes(*place));
    let mut ours: HashSet<PathBuf> = ours.map(|(_, (_, path))| path).collect();
    for group in &mut groups {
        group.found.retain(|found| ours.remove(&found.path));
    }
    groups
}

/// The names in a list: one a line, or with `null` each ended by a NUL. Empty lines are passed over.
pub fn names_in(list: &[u8], null: bool) -> Result<Vec<PathBuf>> {
    let end = if null { 0 } else { b'\n' };
    let mut names = Vec::new();
    for (place, name) in list.split(|byte| *byte == end).enumerate().filter(|(_, name)| !name.is_empty()) {
        // as lists from Windows have it; whose name ends so is ended by a NUL
        let name = if null { name } else { name.strip_suffix(b"\r").unwrap_or(name) };
        if name.is_empty() {
            continue;
        }
        if name.contains(&0) {
            let message = format!("line {} has a NUL in it", place + 1);
            return Err(Error::refused(message).advise(Setting::Null.then(" reads names that NULs end")));
        }
        let name = os_name(name)
            .map(|name| given(&name))
            .ok_or_else(|| Error::refused(format!("name {} is no Unicode", place + 1)))?;
        names.push(PathBuf::from(name));
    }
    match names.is_empty() {
        true => Err(Error::refused("names no files")),
        false => Ok(names),
    }
}

#[cfg(unix)]
pub(crate) fn os_name(bytes: &[u8]) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec()))
}

#[cfg(not(unix))]
pub(crate) fn os_name(bytes: &[u8]) -> Option<OsString> {
    Some(std::str::from_utf8(bytes).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_one_of_several() {
        let shard: Shard = "3/8".parse().unwrap();
        assert_eq!(shard.to_string(), "3/8");
        assert_eq!((0..20).filter(|place| shard.takes(*place)).collect::<Vec<_>>(), [2, 10, 18]);
        for (text, why) in [
            ("", "use I/N"),
            ("3", "use I/N"),
            ("3/", "use I/N"),
            ("/8", "use I/N"),
            ("+3/8", "use I/N"),
            ("-1/8", "use I/N"),
            ("3/8/9", "use I/N"),
            ("1.5/8", "use I/N"),
            ("99999999999999999999/8", "use I/N"),
            ("0/8", "counted from 1: 1/8 to 8/8"),
            ("9/8", "no job 9 of 8"),
            ("0/0", "no job of 0"),
        ] {
            let said = text.parse::<Shard>().unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn every_file_falls_to_one_job() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.pt", "a.pt", "d/c.pt", "e.pt", "f.pt"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        // the same file twice, in a directory and by itself
        let inputs = [dir.path().join("e.pt"), dir.path().to_owned(), dir.path().join("e.pt")];
        let files = |shard: Option<Shard>| -> Vec<PathBuf> {
            let groups = gather(&inputs, true, shard, &Limits::default());
            groups.into_iter().flat_map(|group| group.found).map(|found| found.path).collect()
        };
        assert_eq!(files(None).len(), 7);
        for count in 1..9_u64 {
            let mut all: Vec<PathBuf> = (1..=count).flat_map(|index| files(Some(Shard { index, count }))).collect();
            let jobs: Vec<usize> = (1..=count).map(|index| files(Some(Shard { index, count })).len()).collect();
            assert!(jobs.iter().max().unwrap() - jobs.iter().min().unwrap() <= 1, "{jobs:?}");
            all.sort();
            assert_eq!(all, ["a.pt", "b.pt", "d/c.pt", "e.pt", "f.pt"].map(|name| dir.path().join(name)), "{count}");
        }
    }

    #[test]
    fn lists_of_names() {
        let names = |list: &[u8], null| names_in(list, null).map_err(|e| e.to_string());
        assert_eq!(names(b"a b.pt\n\n./-x\n", false), Ok(vec!["a b.pt".into(), "./-x".into()]));
        assert_eq!(names(b"a\nb\0c\0", true), Ok(vec!["a\nb".into(), "c".into()]));
        assert_eq!(names(b"last", false), Ok(vec!["last".into()]));
        assert_eq!(names(b"a.pt\r\n\r\nb.pt\r\n", false), Ok(vec!["a.pt".into(), "b.pt".into()]));
        assert_eq!(names(b"a\r\0", true), Ok(vec!["a\r".into()]));
        assert!(names(b"a\0b\0", false).unwrap_err().contains("null reads"));
        assert!(names(b"\n\n", false).unwrap_err().contains("names no files"));
        #[cfg(unix)]
        assert!(names_in(b"\xff.pt\n", false).unwrap()[0].to_str().is_none());
    }
}
