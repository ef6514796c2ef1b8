//! The digests of many files: inputs, and what lies below directories and in archives, in parallel.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Missing, Options, digest, open_whole};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Below, BelowKind, Layout, is_called_a_checkpoint};
use crate::limits::Limits;
use crate::operations::Input;
use crate::operations::files::Group;
use crate::operations::open::{Found, no_checkpoint_below};
use crate::progress::{Progress, Silent};
use crate::report::digest::Digested;

/// Files that are read before they are told of.
const BATCH: usize = 64;

/// What one of many files comes to.
#[derive(Debug)]
pub enum Told {
    /// Its digest.
    Digest(Box<Digested>),
    /// It cannot be read, or should be a checkpoint and is none.
    Refused(PathBuf, Error),
    /// It is no checkpoint, and nothing says that it should be one.
    LeftAside(Error),
}

/// What all files have in common.
struct Job<'a, 'm> {
    layout: &'a (dyn Fn(&Path) -> Result<Layout> + Sync),
    options: &'a Options,
    missing: &'a Missing<'m>,
    limits: &'a Limits,
    /// Whether archives are gone through.
    recursive: bool,
    progress: &'a dyn Progress,
}

/// Gives the digest of every file. `tell` hears of them in their order, of many at once; `layout` gives what a name stands
/// for. With `recursive`, archives are gone through, and what is no checkpoint below a directory is left aside unless it is
/// called like one. `progress` hears of a file that is the only one.
#[allow(clippy::too_many_arguments)]
pub fn digest_many<E>(
    groups: &[Group],
    recursive: bool,
    layout: &(dyn Fn(&Path) -> Result<Layout> + Sync),
    options: &Options,
    missing: &Missing<'_>,
    limits: &Limits,
    progress: &dyn Progress,
    tell: &mut dyn FnMut(Vec<Told>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let files: usize = groups.iter().map(|group| group.found.len()).sum();
    let progress: &dyn Progress = if files == 1 { progress } else { &Silent };
    let job = Job { layout, options, missing, limits, recursive, progress };
    let all: Vec<(usize, &Below)> =
        groups.iter().enumerate().flat_map(|(at, group)| group.found.iter().map(move |below| (at, below))).collect();
    let mut is_nothing: Vec<bool> = groups.iter().map(|group| !group.is_shared || group.is_empty).collect();
    for batch in all.chunks(BATCH) {
        let input = |at: usize| groups.get(at).map_or(Path::new(""), |group| &group.input);
        let told: Vec<(usize, Vec<Told>)> =
            batch.par_iter().with_max_len(1).map(|(at, below)| (*at, job.file(input(*at), below))).collect();
        for (at, of_file) in &told {
            if let Some(is_nothing) = is_nothing.get_mut(*at) {
                *is_nothing &= of_file.iter().all(|told| matches!(told, Told::LeftAside(_)));
            }
        }
        tell(told.into_iter().flat_map(|(_, told)| told).collect())?;
    }
    for (group, _) in groups.iter().zip(is_nothing).filter(|(_, is_nothing)| *is_nothing) {
        tell(vec![Told::Refused(group.input.clone(), no_checkpoint_below(&group.input))])?;
    }
    Ok(())
}

impl Job<'_, '_> {
    fn file(&self, input: &Path, below: &Below) -> Vec<Told> {
        let path = &below.path;
        let named = |e: Error| e.of_input(&path.display().to_string());
        let found = match &below.kind {
            BelowKind::Unreadable(e) => Err(e.again()),
            BelowKind::LinkedDirectory => {
                Err(Error::not_a_checkpoint("is a link to a directory, which is not followed"))
            }
            BelowKind::Input => {
                (self.layout)(path).and_then(|layout| open_whole(path, layout, self.limits, self.progress))
            }
        };
        let is_other =
            |e: &Error| path != input && e.kind() == ErrorKind::NotACheckpoint && !is_called_a_checkpoint(path);
        match found.map_err(named) {
            Err(e) if is_other(&e) => vec![Told::LeftAside(e)],
            Err(e) => vec![Told::Refused(path.clone(), e)],
            Ok(Found::Checkpoint(opened)) => vec![self.opened(path, *opened)],
            Ok(Found::Archive(mut archive, e)) => {
                let mut told = Vec::new();
                while self.recursive
                    && let Some((path, opened)) = archive.open_next_whole(self.limits, self.progress)
                {
                    told.push(match opened {
                        Ok(opened) => self.opened(&path, opened),
                        Err(e) => Told::Refused(path, e),
                    });
                }
                match told.is_empty() {
                    true if is_other(&e) => vec![Told::LeftAside(e)],
                    true => vec![Told::Refused(path.clone(), e)],
                    false => told,
                }
            }
        }
    }

    fn opened(&self, path: &Path, mut input: Input) -> Told {
        match digest(&mut input, self.options, self.missing, self.progress) {
            Ok(mut digested) => {
                digested.notes.splice(0..0, input.checkpoint.notes.iter().cloned());
                Told::Digest(Box::new(digested))
            }
            Err(e) => Told::Refused(path.to_owned(), e),
        }
    }
}
