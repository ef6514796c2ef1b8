//! The inputs of `ckpt ls`, one after the other: files, what lies below directories, what archives hold.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Args;
use crate::commands::ExitStatus;
use crate::error::{Error, ErrorKind};
use crate::layout::BelowKind;
use crate::limits::Limits;
use crate::operations::Input;
use crate::operations::files::{Group, gather};
use crate::operations::list::{Options, Outcome, Rows, Streamed, danger, list, list_archive, list_rows};
use crate::operations::open::{ArchiveInput, Found, no_checkpoint_below};
use crate::operations::select::Unmatched;
use crate::options::input;
use crate::render::Report;
use crate::report::ls::{Listing, Names, SortBy, shown_name};
use crate::report::ls_archive::Addresses;
use crate::report::tree::Tree;
use crate::terminal::progress_bar::Bars;
use crate::terminal::streams::{is_closed_pipe, say};
use crate::terminal::wording::flag;

struct Lister<'a> {
    args: &'a Args,
    inputs: &'a [PathBuf],
    options: &'a Options,
    limits: Limits,
    unmatched: Unmatched<'a>,
    /// Listings that are not shown before every argument has matched in some input.
    waiting: Vec<Listing>,
    status: ExitStatus,
    /// Inputs that were checkpoints.
    opened: usize,
    /// Those in which something was chosen.
    listed: usize,
    has_printed: bool,
}

/// Lists all inputs.
pub(super) fn list_all(args: &Args, inputs: &[PathBuf], options: &Options) -> anyhow::Result<ExitStatus> {
    let (limits, unmatched) = (args.limits.limits(), Unmatched::of(&options.select));
    let (waiting, status, opened, listed, has_printed) = (Vec::new(), ExitStatus::Success, 0, 0, false);
    let mut lister = Lister { args, inputs, options, limits, unmatched, waiting, status, opened, listed, has_printed };
    let limits = lister.limits.clone();
    for group in gather(inputs, args.files.recursive, args.files.shard, &limits) {
        match args.files.recursive && group.input.is_dir() {
            true => lister.list_below(&group)?,
            false => {
                for input in &group.found {
                    let listed = lister.list_file(&input.path);
                    lister.settle(&input.path, listed)?;
                }
            }
        }
    }
    lister.finish()
}

impl Lister<'_> {
    /// An input that cannot be read does not keep the others from being listed.
    fn settle(&mut self, input: &Path, listed: anyhow::Result<()>) -> anyhow::Result<()> {
        match listed {
            Err(e) if is_closed_pipe(&e) => Err(e),
            Err(e) => {
                self.status = ExitStatus::Trouble;
                Ok(self.args.output.refuse(input, &e)?)
            }
            Ok(()) => Ok(()),
        }
    }

    fn list_below(&mut self, group: &Group) -> anyhow::Result<()> {
        let before = (self.opened, self.status);
        for found in &group.found {
            let listed = match &found.kind {
                BelowKind::Input => match self.list_file(&found.path) {
                    // what is no checkpoint is passed over
                    Err(e) if e.downcast_ref().map(Error::kind) == Some(ErrorKind::NotACheckpoint) => Ok(()),
                    listed => listed,
                },
                BelowKind::Unreadable(e) => Err(e.again().of_input(&found.path.display().to_string()).into()),
                BelowKind::LinkedDirectory => Ok(()),
            };
            self.settle(&found.path, listed)?;
        }
        // those that have the other files know more
        let is_nothing = before == (self.opened, ExitStatus::Success) && self.status == ExitStatus::Success;
        if group.is_empty || is_nothing && !group.is_shared {
            self.settle(&group.input, Err(no_checkpoint_below(&group.input).into()))?;
        }
        Ok(())
    }

    fn list_file(&mut self, file: &Path) -> anyhow::Result<()> {
        match input::open_or_walk(file, &self.limits, self.args.output.quiet)? {
            Found::Checkpoint(opened) => {
                let listed = self.list_opened(&opened);
                // of the only one the system takes the memory at once, with that of the process
                if !self.args.files.recursive && self.args.inputs.len() == 1 {
                    std::mem::forget(opened);
                }
                listed
            }
            Found::Archive(archive, e) if self.args.files.recursive => self.list_each(*archive, e),
            Found::Archive(archive, e) if self.args.may_be_archive() => self.list_archive(*archive, e),
            Found::Archive(_, e) => Err(e.into()),
        }
    }

    /// With `--recursive`, an archive is gone through like a directory.
    fn list_each(&mut self, mut archive: ArchiveInput, e: Error) -> anyhow::Result<()> {
        let mut is_empty = true;
        loop {
            // no bar is left when something is printed
            let next = archive.open_next(&self.limits, &Bars::new(self.args.output.quiet));
            let Some((path, opened)) = next else { return if is_empty { Err(e.into()) } else { Ok(()) } };
            is_empty = false;
            let listed = opened.map_err(Into::into).and_then(|opened| self.list_opened(&opened));
            self.settle(&path, listed)?;
        }
    }

    fn list_archive(&mut self, mut archive: ArchiveInput, e: Error) -> anyhow::Result<()> {
        let args = self.args;
        let mut listing = list_archive(&mut archive, &self.limits, flag, &Bars::new(args.output.quiet));
        args.output.notes(&listing.notes);
        if !listing.says_more_than_encrypted() {
            return Err(e.into());
        }
        self.opened += 1;
        self.listed += 1;
        self.part_from_the_last()?;
        for row in &listing.checkpoints {
            if let Some(problem) = &row.problem {
                self.trouble(format_args!("{}: {problem}", row.file));
            }
        }
        listing.sort(args.sort, args.reverse);
        let addresses = Addresses(&listing);
        let report: &dyn Report = if args.names { &addresses } else { &listing };
        Ok(args.output.print(report)?)
    }

    fn list_opened(&mut self, opened: &Input) -> anyhow::Result<()> {
        self.opened += 1;
        self.args.output.notes(danger(opened).as_slice());
        if self.may_stream() {
            return match list_rows(opened, self.options, &mut self.unmatched)? {
                Streamed::Listed(listing) => self.stream(*listing),
                Streamed::Nothing(why) => {
                    self.chose_nothing(opened, why);
                    Ok(())
                }
            };
        }
        let bars = Bars::new(self.args.output.quiet);
        let outcome = list(opened, self.options, &mut self.unmatched, &bars)?;
        drop(bars);
        let (listing, unread) = match outcome {
            Outcome::Listed(listing, unread) => (*listing, unread),
            Outcome::Nothing(why) => {
                self.chose_nothing(opened, why);
                return Ok(());
            }
        };
        for (name, why) in &unread {
            self.trouble(format_args!("{}: {}: {why}", opened.name, shown_name(name)));
        }
        self.listed += 1;
        if self.must_wait() {
            self.waiting.push(listing);
            return Ok(());
        }
        self.print_waiting()?;
        self.print(listing)
    }

    /// With one input it is an error in the end; below directories it is nothing to be said of each file.
    fn chose_nothing(&self, opened: &Input, why: String) {
        if !self.args.files.recursive && self.inputs.len() > 1 {
            self.args.output.note(&opened.name, why);
        }
    }

    /// What is found below a directory may be too much to be kept.
    fn must_wait(&self) -> bool {
        !self.unmatched.is_empty() && !self.args.files.recursive
    }

    /// Whether rows are written as they are made: in file order, with nothing of the tensors' data.
    fn may_stream(&self) -> bool {
        let Args { sort, reverse, tree, names, .. } = self.args;
        let is_plain = *sort == SortBy::File && !reverse && !tree && !names;
        self.args.output.wants_json() && is_plain && !self.options.hash && !self.options.stats
    }

    fn stream(&mut self, listing: Listing<Rows<'_>>) -> anyhow::Result<()> {
        self.listed += 1;
        if self.must_wait() {
            self.waiting.push(listing.whole().0);
            return Ok(());
        }
        self.print_waiting()?;
        self.has_printed = true;
        self.say_notes(&listing);
        Ok(self.args.output.print_json(&listing)?)
    }

    fn say_notes<T>(&self, listing: &Listing<T>) {
        listing.notes.iter().for_each(|note| self.args.output.note(&listing.file, note));
    }

    fn trouble(&mut self, message: impl Display) {
        say(message);
        self.status = ExitStatus::Trouble;
    }

    fn print_waiting(&mut self) -> anyhow::Result<()> {
        std::mem::take(&mut self.waiting).into_iter().try_for_each(|listing| self.print(listing))
    }

    fn print(&mut self, mut listing: Listing) -> anyhow::Result<()> {
        let args = self.args;
        self.part_from_the_last()?;
        self.say_notes(&listing);
        listing.sort(args.sort, args.reverse);
        if args.tree {
            let tree = Tree::new(&listing, args.depth, self.limits.max_entries);
            return Ok(args.output.print(&tree.with_context(|| listing.file.clone())?)?);
        }
        let names = Names(&listing);
        let report: &dyn Report = if args.names { &names } else { &listing };
        Ok(args.output.print(report)?)
    }

    /// A blank line between tables.
    fn part_from_the_last(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.has_printed, true) && !self.args.output.wants_json() && !self.args.names {
            true => writeln!(io::stdout()),
            false => Ok(()),
        }
    }

    /// Arguments that have matched nowhere, and choices that left nothing, are errors.
    fn finish(mut self) -> anyhow::Result<ExitStatus> {
        let mut wrong = self.unmatched.said();
        if wrong.is_none() {
            self.print_waiting()?;
            let nothing = self.listed == 0 && self.opened > 0 && self.status == ExitStatus::Success;
            wrong = nothing.then(|| self.options.nothing_left());
        }
        let Some(wrong) = wrong else { return Ok(self.status) };
        let inputs = match self.inputs {
            [one] => one.display().to_string(),
            several => format!("{} inputs", several.len()),
        };
        Err(anyhow::Error::new(Error::refused(wrong)).context(inputs))
    }
}
