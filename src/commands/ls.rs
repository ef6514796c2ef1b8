//! `ckpt ls`: what is in a checkpoint, or in an archive of some.

mod lister;

use std::path::PathBuf;

use crate::commands::ExitStatus;
use crate::operations::list::Options;
use crate::options::files::FilesArgs;
use crate::options::input::{self, OpenArgs};
use crate::options::names::NameArgs;
use crate::options::output::OutputArgs;
use crate::report::ls::SortBy;
use crate::terminal::wording::flag;

/// Options of `ckpt ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files, directories, members of archives (`ARCHIVE::member`); `-` is standard input
    ///
    /// A directory holds one checkpoint: shards, DCP, DeepSpeed, files of ranks, an unpacked zip. With --recursive, any
    /// directory. An index of shards and an archive of checkpoints are inputs too.
    #[arg(required_unless_present = "files_from", value_name = "INPUT", value_parser = input::parser())]
    pub inputs: Vec<PathBuf>,
    /// Roll up by module, with parameter counts and class names
    #[arg(long)]
    pub tree: bool,
    /// Fold what is deeper than N levels of the tree (default: nothing)
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
    /// Read tensor data; show min, max, mean, std, zeros, NaN, Inf
    #[arg(long, conflicts_with = "tree")]
    pub stats: bool,
    /// Read tensor data; show the sha256 of each tensor's elements
    ///
    /// Contiguous, row-major, little-endian.
    #[arg(long, conflicts_with = "tree")]
    pub hash: bool,
    #[command(flatten)]
    pub files: FilesArgs,
    #[command(flatten)]
    pub names_chosen: NameArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
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
        let NameArgs { root, matching } = &self.names_chosen;
        !asks && root.is_none() && matching.include.is_empty() && matching.exclude.is_empty()
    }
}
