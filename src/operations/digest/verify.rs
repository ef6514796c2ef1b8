//! A list of digests, against what its files have now.

use std::path::{Path, PathBuf};

use super::{Missing, Options, Told, digest_many};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::limits::Limits;
use crate::operations::files::{gather, os_name};
use crate::progress::Silent;
use crate::report::digest::{Digested, line};

/// What a line of a list comes to.
#[derive(Debug)]
pub enum Verified {
    /// The file has a digest: the expected one or another.
    Digest(Box<Digested>),
    /// The file cannot be read.
    Unread(PathBuf, Error),
    /// The line of this number, counted from 1, is not a digest and a name.
    Malformed(usize),
}

/// How many lines of a list came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Digests that are as the list has them.
    pub matched: u64,
    /// Digests that are not.
    pub differing: u64,
    /// Files that cannot be read.
    pub unread: u64,
    /// Lines that are not a digest and a name.
    pub malformed: u64,
}

/// Verifies the lines of a list, in their order. With `ignore_missing`, files that do not exist are passed over; `layout`
/// gives what a name stands for.
///
/// # Errors
/// When no line has a digest and a name; and what `tell` answers.
#[allow(clippy::too_many_arguments)] // those of `digest_many`
pub fn verify<E: From<Error>>(
    text: &[u8],
    ignore_missing: bool,
    layout: &(dyn Fn(&Path) -> Result<Layout> + Sync),
    options: &Options,
    missing: &Missing<'_>,
    limits: &Limits,
    tell: &mut dyn FnMut(Verified) -> Result<(), E>,
) -> Result<Tally, E> {
    let mut tally = Tally::default();
    let (mut wanted, mut paths, mut malformed) = (Vec::new(), Vec::new(), Vec::new());
    for (place, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match line::read(line).and_then(|(digest, name)| Some((digest, PathBuf::from(os_name(&name)?)))) {
            Some((digest, path)) => {
                wanted.push(digest);
                paths.push(path);
            }
            None => malformed.push(place + 1),
        }
    }
    if paths.is_empty() {
        return Err(Error::refused("has no line of a digest and a name").into());
    }
    tally.malformed = malformed.len() as u64;
    malformed.into_iter().try_for_each(|line| tell(Verified::Malformed(line)))?;
    let mut wanted = wanted.into_iter();
    let groups = gather(&paths, false, None, limits);
    digest_many(&groups, false, layout, options, missing, limits, &Silent, &mut |many| -> Result<(), E> {
        for told in many {
            let expected = wanted.next().unwrap_or_default();
            match told {
                Told::Digest(mut digested) => {
                    let matches = digested.digest == expected;
                    (digested.matches, digested.expected) = (Some(matches), Some(expected));
                    *(if matches { &mut tally.matched } else { &mut tally.differing }) += 1;
                    tell(Verified::Digest(digested))?;
                }
                Told::Refused(file, _) if ignore_missing && is_gone(&file) => {}
                Told::Refused(file, e) => {
                    tally.unread += 1;
                    tell(Verified::Unread(file, e))?;
                }
                // only what lies below a directory is left aside
                Told::LeftAside(_) => {}
            }
        }
        Ok(())
    })?;
    Ok(tally)
}

/// Whether nothing has this name.
fn is_gone(file: &Path) -> bool {
    std::fs::symlink_metadata(file).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}
