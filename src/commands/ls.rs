//! `ckpt ls`: what is in a checkpoint, or in an archive of some.

mod lister;

use std::path::PathBuf;

use crate::commands::ExitStatus;
use crate::commands::files::FilesArgs;
use crate::commands::input::{self, OpenArgs};
use crate::commands::names::NameArgs;
use crate::commands::output::OutputArgs;
use crate::commands::wording::flag;
use crate::operations::list::Options;
use crate::report::ls::SortBy;

/// Options of `ckpt ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An archive (zip, tar, .nemo, .mar, also compressed) lists the checkpoints in it with their containers, tensors and sizes \
(JSON: ckpt.ls-archive/1); --names, --sort and --reverse work on that list, --recursive lists what each of them holds. \
Exit status 2 when an archive holds none, or one that cannot be read.\n\n\
Examples:\n  ckpt ls model.pth\n  ckpt ls --tree --depth 2 model.pth\n  ckpt ls --json --hash checkpoint.tar | jq '.tensors[].name'\n  \
ckpt ls --root optimizer_state_dict --values checkpoint.tar\n  zcat model.pth.gz | ckpt ls -\n  ckpt ls model.tar.gz::weights/model.pth")]
pub(crate) struct Args {
    /// Files, directories of a checkpoint (shards, DCP, DeepSpeed, files of ranks, an unpacked zip), indexes of shards, members of archives
    /// (`ARCHIVE::member`), `-` for standard input; archives of checkpoints; with --recursive any directory
    #[arg(required_unless_present = "files_from", value_name = "INPUT", value_parser = input::parser())]
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
    pub files: FilesArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub names_chosen: NameArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: OpenArgs,
}

/// Lists the inputs one after the other; one that cannot be opened does not keep the others from being listed.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let inputs = args.files.inputs(&args.inputs)?;
    let (tensors, values) = (!args.values, !args.tensors);
    let select = args.names_chosen.select();
    let options = Options { select, tensors, values, hash: args.hash, stats: args.stats, voice: flag };
    lister::list_all(args, &inputs, &options)
}

impl Args {
    /// Whether nothing is asked for that only a checkpoint has.
    fn may_be_archive(&self) -> bool {
        let asks = self.tree || self.tensors || self.values || self.stats || self.hash;
        let NameArgs { root, include, exclude } = &self.names_chosen;
        !asks && root.is_none() && include.is_empty() && exclude.is_empty()
    }
}
