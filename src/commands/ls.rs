//! `ckpt ls`: what is in a checkpoint, or in an archive of some.

mod archive;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use self::archive::{archive_listing, say_danger};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::resolve::Listed;
use crate::commands::Status;
use crate::commands::input::{self, Found, LimitArgs};
use crate::commands::listing::{Selection, Wanted, bytes_to_read, list, read_data};
use crate::commands::names::NameArgs;
use crate::commands::output::{OutputArgs, say};
use crate::commands::progress_bar::Bar;
use crate::container::zip::DECRYPT;
use crate::error::{Error, ErrorKind};
use crate::layout::{Below, BelowKind, Step, Walk, below};
use crate::limits::Limits;
use crate::operations::Input;
use crate::operations::select::{Asked, Filter, Select, Unmatched, root_if_there};
use crate::report::ls::{Listing, Names, SortBy};
use crate::report::ls_archive::{Addresses, ArchiveListing};
use crate::report::tree::Tree;
use crate::safety::glance::dangerous;

/// Options of `ckpt ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An archive (zip, tar, .nemo, .mar, also compressed) lists the checkpoints in it with their containers, tensors and sizes \
(JSON: ckpt.ls-archive/1); --names, --sort and --reverse work on that list, --recursive lists what each of them holds. \
Exit status 2 when an archive holds none, or one that cannot be read.\n\n\
Examples:\n  ckpt ls model.pth\n  ckpt ls --tree --depth 2 model.pth\n  ckpt ls --json --hash checkpoint.tar | jq '.tensors[].name'\n  \
ckpt ls --root optimizer_state_dict --values checkpoint.tar\n  zcat model.pth.gz | ckpt ls -\n  ckpt ls model.tar.gz::weights/model.pth")]
pub struct Args {
    /// Files, directories of a checkpoint (shards, DCP, an unpacked zip), indexes of shards, members of archives
    /// (`ARCHIVE::member`), `-` for standard input; archives of checkpoints; with --recursive any directory
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Roll up by module, with parameter counts and class names
    #[arg(long)]
    pub tree: bool,
    /// Fold what lies deeper than N levels of the tree
    #[arg(long, value_name = "N", requires = "tree")]
    pub depth: Option<usize>,
    /// Print only names, one per line
    #[arg(long, conflicts_with_all = ["tree", "stats", "hash"])]
    pub names: bool,
    /// Show only tensors
    #[arg(long, conflicts_with = "values")]
    pub tensors: bool,
    /// Show only non-tensor values
    #[arg(long, conflicts_with_all = ["tree", "stats", "hash"])]
    pub values: bool,
    /// Sort order
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    pub sort: SortBy,
    /// Reverse the sort order
    #[arg(short, long)]
    pub reverse: bool,
    /// Read the data: min, max, mean, std, zeros, NaN, Inf
    #[arg(long, conflicts_with = "tree")]
    pub stats: bool,
    /// Read the data: sha256 of each tensor's elements (contiguous, little-endian)
    #[arg(long, conflicts_with = "tree")]
    pub hash: bool,
    /// List every checkpoint under each directory, and in each archive
    #[arg(short = 'R', long)]
    pub recursive: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub names_chosen: NameArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: LimitArgs,
}

/// Lists the inputs one after the other; one that cannot be opened does not keep the others from being listed.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let limits = args.limits.limits();
    input::stdin_once(&args.inputs)?;
    let select = args.names_chosen.select();
    let mut lister = Lister {
        args,
        select: &select,
        limits: &limits,
        unmatched: Unmatched::of(&select),
        waiting: Vec::new(),
        status: Status::Success,
        opened: 0,
        listed: 0,
        has_printed: false,
    };
    for input in &args.inputs {
        let searched = args.recursive && input.is_dir();
        let files = match searched {
            true => below(input, &limits),
            false => vec![Below { path: input.clone(), kind: BelowKind::Input }],
        };
        let before = (lister.opened, lister.status);
        for Below { path: file, kind } in files {
            let listed = match kind {
                BelowKind::Input => lister.list_file(&file),
                BelowKind::Unreadable(e) => {
                    // it is told whatever it may be
                    let e = anyhow::Error::new(e).context(file.display().to_string());
                    lister.refuse(&file, &e)?;
                    continue;
                }
                BelowKind::LinkedDirectory => continue,
            };
            match listed {
                Ok(()) => {}
                Err(e) if crate::commands::output::is_closed_pipe(&e) => return Err(e),
                // below a directory, what is no checkpoint is passed over
                Err(e) if searched && is_other_file(&e) => {}
                Err(e) => lister.refuse(&file, &e)?,
            }
        }
        if searched && before == (lister.opened, Status::Success) && lister.status == Status::Success {
            lister.refuse(input, &no_checkpoint_below(input))?;
        }
    }
    lister.finish()
}

/// Who lists one input after the other.
struct Lister<'a> {
    args: &'a Args,
    select: &'a Select,
    limits: &'a Limits,
    unmatched: Unmatched<'a>,
    /// Listings that are not shown before every argument has matched in some input.
    waiting: Vec<Listing>,
    status: Status,
    /// Inputs that were checkpoints.
    opened: usize,
    /// Those in which something was chosen.
    listed: usize,
    has_printed: bool,
}

impl Lister<'_> {
    fn trouble(&mut self, message: impl std::fmt::Display) {
        say(message);
        self.status = Status::Trouble;
    }

    /// An input that cannot be read does not keep the others from being listed.
    fn refuse(&mut self, input: &Path, e: &anyhow::Error) -> io::Result<()> {
        self.status = Status::Trouble;
        self.args.output.refuse(input, e)
    }

    fn list_file(&mut self, file: &Path) -> anyhow::Result<()> {
        let args = self.args;
        match input::open_or_walk(file, self.limits, args.output.quiet)? {
            Found::Checkpoint(opened) => self.list_opened(&opened),
            Found::Archive { walk, e, .. } if args.recursive => self.list_each(file, walk, e),
            Found::Archive { name, bytes, walk, e } if args.may_be_archive() => {
                let listing = archive_listing(file, name, bytes, walk, self.limits, args.output.quiet);
                if !listing.says_more_than_encrypted() {
                    return Err(e);
                }
                self.opened += 1;
                self.listed += 1;
                self.print_archive(listing)
            }
            Found::Archive { e, .. } => Err(e),
        }
    }

    /// With `--recursive`, an archive is gone through like a directory.
    fn list_each(&mut self, archive: &Path, walk: Walk, e: anyhow::Error) -> anyhow::Result<()> {
        let mut is_empty = true;
        for step in walk {
            let (name, opened) = match step {
                Step::Checkpoint(contained) => {
                    let opened = input::open_contained(archive, &contained, self.limits, self.args.output.quiet);
                    (contained.name, opened)
                }
                Step::Encrypted(name) => {
                    let e = Error::unsupported("is encrypted").advise(DECRYPT);
                    (name.clone(), Err(anyhow::Error::new(e).context(name)))
                }
                Step::Unreadable(name, e) => (name.clone(), Err(anyhow::Error::new(e).context(name))),
            };
            is_empty = false;
            match opened.and_then(|opened| self.list_opened(&opened)) {
                Err(e) if crate::commands::output::is_closed_pipe(&e) => return Err(e),
                Err(e) => self.refuse(&input::path_of(archive, &name), &e)?,
                Ok(()) => {}
            }
        }
        if is_empty { Err(e) } else { Ok(()) }
    }

    fn print_archive(&mut self, mut listing: ArchiveListing) -> anyhow::Result<()> {
        let args = self.args;
        if std::mem::replace(&mut self.has_printed, true) && !args.output.wants_json() && !args.names {
            println_blank()?;
        }
        for row in listing.checkpoints.iter() {
            if let Some(problem) = &row.problem {
                self.status = Status::Trouble;
                say(format_args!("{}: {problem}", row.file));
            }
        }
        listing.sort(args.sort, args.reverse);
        if args.names {
            args.output.print(&Addresses(&listing))?;
        } else {
            args.output.print(&listing)?;
        }
        Ok(())
    }

    fn list_opened(&mut self, opened: &Input) -> anyhow::Result<()> {
        let args = self.args;
        self.opened += 1;
        let context = || opened.name.clone();
        if let Some((global, why)) = dangerous(&opened.checkpoint.graph) {
            say_danger(args.output.quiet, &opened.name, &global, why);
        }
        let Some(listing) = self.chosen(opened).with_context(context)? else { return Ok(()) };
        self.listed += 1;
        // what is found below a directory may be too much to be kept
        if !self.unmatched.is_empty() && !args.recursive {
            self.waiting.push(listing);
            return Ok(());
        }
        for listing in std::mem::take(&mut self.waiting) {
            self.print(listing)?;
        }
        self.print(listing)
    }

    /// What is to be listed of an input; nothing when it has no matching names.
    fn chosen(&mut self, input: &Input) -> anyhow::Result<Option<Listing>> {
        let args = self.args;
        let checkpoint: &Checkpoint = &input.checkpoint;
        let names = self.select;
        let root = match &names.root {
            None => checkpoint.top(),
            Some(name) => match root_if_there(checkpoint, name)? {
                Some(root) => root,
                None => {
                    let entries = checkpoint.names(&checkpoint.top())?.entries;
                    self.unmatched.look_at(&Listed::of(&entries), |_, _| true);
                    self.pass_over(input, format_args!("no element named `{name}`"));
                    return Ok(None);
                }
            },
        };
        let found = checkpoint.names(&root)?;
        let asked = Asked::of(names, &[]);
        let mut filter = Filter::default();
        if names.root.is_some() || !asked.is_empty() {
            let files = [Listed::of(&found.entries)];
            let resolved = asked.resolve(&files)?;
            let missing: HashSet<_> = resolved.missing().collect();
            let [listed] = &files;
            self.unmatched.look_at(listed, |setting, argument| missing.contains(&(setting, argument)));
            filter = resolved.filter()?;
        }
        let selection = Selection { root: &root, filter: &filter, tensors: !args.values, values: !args.tensors };
        let mut listed = list(checkpoint, found, &input.name, input.bytes, &selection)?;
        if !asked.is_empty() && listed.listing.tensors.is_empty() && listed.listing.values.is_empty() {
            self.pass_over(input, "no matching names");
            return Ok(None);
        }
        let wanted = Wanted { hash: args.hash, stats: args.stats };
        if args.hash || args.stats {
            let bar = Bar::new(&input.name, bytes_to_read(checkpoint, &listed.ids, wanted), args.output.quiet);
            let troubles = read_data(checkpoint, &mut listed, wanted, &bar);
            drop(bar);
            for (name, why) in &troubles {
                self.trouble(format_args!("{}: {}: {why}", input.name, crate::report::ls::shown_name(name)));
            }
        }
        listed.listing.file_bytes = input.name_bytes.clone();
        Ok(Some(listed.listing))
    }

    /// With one input what is missing is an error in the end; below directories it is nothing to be said of each file.
    fn pass_over(&self, input: &Input, why: impl std::fmt::Display) {
        if !self.args.recursive && self.args.inputs.len() > 1 {
            self.args.output.note(&input.name, why);
        }
    }

    fn print(&mut self, mut listing: Listing) -> anyhow::Result<()> {
        let args = self.args;
        if std::mem::replace(&mut self.has_printed, true) && !args.output.wants_json() && !args.names {
            println_blank()?;
        }
        for note in &listing.notes {
            args.output.note(&listing.file, note);
        }
        listing.sort(args.sort, args.reverse);
        if args.names {
            args.output.print(&Names(&listing))?;
        } else if args.tree {
            let tree = Tree::new(&listing, args.depth, self.limits.max_entries);
            args.output.print(&tree.with_context(|| listing.file.clone())?)?;
        } else {
            args.output.print(&listing)?;
        }
        Ok(())
    }

    /// Arguments that have matched nowhere, and choices that left nothing, are errors.
    fn finish(mut self) -> anyhow::Result<Status> {
        let inputs = match self.args.inputs.as_slice() {
            [one] => one.display().to_string(),
            several => format!("{} inputs", several.len()),
        };
        if let Some(said) = self.unmatched.said() {
            return Err(anyhow::Error::new(Error::refused(said)).context(inputs));
        }
        for listing in std::mem::take(&mut self.waiting) {
            self.print(listing)?;
        }
        if self.listed == 0 && self.opened > 0 && self.status == Status::Success {
            let kind = match (self.args.tensors, self.args.values) {
                (true, _) => "tensors",
                (_, true) => "values",
                _ => "names",
            };
            let nothing = Asked::of(self.select, &[]).nothing_left(kind);
            return Err(anyhow::Error::new(Error::refused(nothing)).context(inputs));
        }
        Ok(self.status)
    }
}

impl Args {
    /// Whether nothing is asked for that only a checkpoint has.
    fn may_be_archive(&self) -> bool {
        let asks = self.tree || self.tensors || self.values || self.stats || self.hash;
        let NameArgs { root, include, exclude } = &self.names_chosen;
        !asks && root.is_none() && include.is_empty() && exclude.is_empty()
    }
}

fn println_blank() -> io::Result<()> {
    use io::Write;
    writeln!(io::stdout())
}

/// What is wrong with a directory in which nothing was found.
pub(super) fn no_checkpoint_below(dir: &Path) -> anyhow::Error {
    let none = crate::error::Error::not_a_checkpoint("no checkpoints in this directory");
    anyhow::Error::new(none).context(dir.display().to_string())
}

fn is_other_file(e: &anyhow::Error) -> bool {
    let ours = e.chain().find_map(|cause| cause.downcast_ref::<crate::error::Error>());
    ours.is_some_and(|e| e.kind() == ErrorKind::NotACheckpoint)
}
