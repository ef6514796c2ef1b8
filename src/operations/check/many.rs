//! Many files: inputs, and what is below those that are directories, in parallel.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Checked, Options, check_with};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Below, BelowKind, Layout, is_called_a_checkpoint};
use crate::limits::Limits;
use crate::operations::files::Group;
use crate::operations::open::no_checkpoint_below;
use crate::report::check::{Check, Summary};
use crate::safety::allow::Allow;

/// Files that are checked before they are told of.
const BATCH: usize = 256;

/// What one of many files comes to.
#[derive(Debug)]
pub enum Told {
    /// What was found.
    Checked(Box<Check>),
    /// It cannot be read, or should be a checkpoint and is none.
    Refused(PathBuf, Error),
    /// It is no checkpoint, and nothing says that it should be one.
    LeftAside(Error),
}

/// Checks the files of inputs. `tell` hears of them in the order of their names, of many
/// at once; `layout` gives what a name stands for. What is below a directory and no checkpoint is counted, and refused
/// where it is called like one.
pub fn check_many<E>(
    groups: &[Group],
    layout: &(dyn Fn(&Path) -> Result<Layout> + Sync),
    options: &Options,
    allow: &Allow,
    limits: &Limits,
    tell: &mut dyn FnMut(Vec<Told>) -> std::result::Result<(), E>,
) -> std::result::Result<Summary, E> {
    let mut summary = Summary::default();
    let check_below = |below: &Below, alone: bool| -> Vec<Checked> {
        let path = &below.path;
        let refused = |e: Error| vec![(path.clone(), Err(e.of_input(&path.display().to_string())))];
        match &below.kind {
            BelowKind::Input => check_with(layout(path), path, options, allow, limits, alone),
            BelowKind::Unreadable(e) => refused(e.again()),
            BelowKind::LinkedDirectory => {
                refused(Error::not_a_checkpoint("is a link to a directory, which is not followed"))
            }
        }
    };
    for Group { input, found, is_empty, is_shared, is_recursive } in groups {
        let left_aside = summary.left_aside;
        for batch in found.chunks(BATCH) {
            let checked: Vec<Vec<Checked>> =
                batch.par_iter().with_max_len(1).map(|below| check_below(below, !is_recursive)).collect();
            let told = checked.into_iter().flatten().map(|(file, check)| match check {
                Ok(check) => Told::Checked(Box::new(check)),
                Err(e) if file != *input && is_other(&file, &e) => Told::LeftAside(e),
                Err(e) => Told::Refused(file, e),
            });
            let told: Vec<Told> = told.collect();
            told.iter().for_each(|told| count(&mut summary, told));
            tell(told)?;
        }
        // those that have the other files know more
        if *is_empty || !is_shared && summary.left_aside - left_aside == found.len() as u64 {
            let told = Told::Refused(input.clone(), no_checkpoint_below(input));
            count(&mut summary, &told);
            tell(vec![told])?;
        }
    }
    Ok(summary)
}

/// Whether nobody would take it for a checkpoint.
fn is_other(file: &Path, e: &Error) -> bool {
    e.kind() == ErrorKind::NotACheckpoint && !is_called_a_checkpoint(file)
}

fn count(summary: &mut Summary, told: &Told) {
    match told {
        Told::Checked(check) => summary.add(check.verdict),
        Told::Refused(..) => summary.unreadable += 1,
        Told::LeftAside(_) => summary.left_aside += 1,
    }
}
