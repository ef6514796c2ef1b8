//! `ckpt ls`: what is in a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::checkpoint::Checkpoint;
use crate::commands::Status;
use crate::commands::input::{self, Input, LimitArgs};
use crate::commands::listing::{Selection, Wanted, bytes_to_read, list, read_data};
use crate::commands::names::NameArgs;
use crate::commands::output::{OutputArgs, say};
use crate::commands::progress_bar::Bar;
use crate::error::ErrorKind;
use crate::limits::Limits;
use crate::report::ls::{Names, SortBy};
use crate::report::tree::Tree;

/// Options of `ckpt ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:\n  ckpt ls model.pth\n  ckpt ls --tree --depth 2 model.pth\n  ckpt ls --json --hash checkpoint.tar | jq '.tensors[].name'\n  \
ckpt ls --root optimizer_state_dict --values checkpoint.tar\n  zcat model.pth.gz | ckpt ls -")]
pub struct Args {
    /// Files, directories of shards, indexes of shards, `-` for standard input; with --recursive any directory
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
    /// List every checkpoint under each directory
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
    let mut status = Status::Success;
    let mut listed = 0;
    for input in &args.inputs {
        let files = match args.recursive && input.is_dir() {
            true => match input::below(input, &limits) {
                Ok(files) => files,
                Err(e) => {
                    args.output.refuse(input, &e)?;
                    status = Status::Trouble;
                    continue;
                }
            },
            false => vec![input.clone()],
        };
        let searched = args.recursive && input.is_dir();
        let before = listed;
        for file in files {
            let result = input::open(&file, &limits, args.output.quiet).and_then(|opened| {
                if listed > 0 && !args.output.wants_json() && !args.names {
                    println_blank()?;
                }
                list_one(args, &opened, &limits)
            });
            match result {
                Ok(one) => {
                    status = status.max(one);
                    listed += 1;
                }
                Err(e) if crate::commands::output::is_closed_pipe(&e) => return Err(e),
                // below a directory, what is no checkpoint is passed over
                Err(e) if searched && is_other_file(&e) => {}
                Err(e) => {
                    args.output.refuse(&file, &e)?;
                    status = Status::Trouble;
                }
            }
        }
        if searched && listed == before && status == Status::Success {
            args.output.refuse(input, &no_checkpoint_below(input))?;
            status = Status::Trouble;
        }
    }
    Ok(status)
}

fn println_blank() -> io::Result<()> {
    use io::Write;
    writeln!(io::stdout())
}

/// What is wrong with a directory in which nothing was found.
pub(super) fn no_checkpoint_below(dir: &Path) -> anyhow::Error {
    let none = crate::error::Error::not_a_checkpoint("no checkpoint in this directory");
    anyhow::Error::new(none).context(dir.display().to_string())
}

fn is_other_file(e: &anyhow::Error) -> bool {
    let ours = e.chain().find_map(|cause| cause.downcast_ref::<crate::error::Error>());
    ours.is_some_and(|e| e.kind() == ErrorKind::NotACheckpoint)
}

fn list_one(args: &Args, input: &Input, limits: &Limits) -> anyhow::Result<Status> {
    let context = || input.name.clone();
    let checkpoint: &Checkpoint = &input.checkpoint;
    let root = args.names_chosen.find_root(checkpoint).with_context(context)?;
    let filter = args.names_chosen.filter()?;
    let selection = Selection { root: &root, filter: &filter, tensors: !args.values, values: !args.tensors };
    let mut listed = list(checkpoint, &input.name, input.bytes, &selection).with_context(context)?;
    let wanted = Wanted { hash: args.hash, stats: args.stats };
    let mut status = Status::Success;
    if args.hash || args.stats {
        let bar = Bar::new(&input.name, bytes_to_read(checkpoint, &listed.ids, wanted), args.output.quiet);
        let troubles = read_data(checkpoint, &mut listed, wanted, &bar);
        drop(bar);
        for (name, why) in &troubles {
            say(format_args!("{}: {}: {why}", input.name, crate::report::ls::shown_name(name)));
            status = Status::Trouble;
        }
    }
    let mut listing = listed.listing;
    for note in &listing.notes {
        args.output.note(&input.name, note);
    }
    listing.sort(args.sort, args.reverse);
    if args.names {
        args.output.print(&Names(&listing))?;
    } else if args.tree {
        args.output.print(&Tree::new(&listing, args.depth, limits.max_entries).with_context(context)?)?;
    } else {
        args.output.print(&listing)?;
    }
    Ok(status)
}
