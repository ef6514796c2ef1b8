//! The whole command line as clap types. Completions and man pages are made from these.

use clap::{ColorChoice, Parser, Subcommand};

use crate::commands::{check, completions, convert, diff, extract, ls, man, rename, repair, strip_prefix};

/// Inspect and convert PyTorch checkpoints without Python, without torch and without running a pickle.
#[derive(Debug, Parser)]
#[command(name = "ckpt", version, about, max_term_width = 100, disable_help_subcommand = true, color = ColorChoice::Auto)]
#[command(after_help = "\
Exit status: 0 yes or done; 1 the answer is no; 2 trouble (bad usage, cannot be opened or understood, refused).\n\
`-` as INPUT reads standard input. What a file is gets decided by its bytes, never by its extension.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List tensors and other values: names, dtypes, shapes, sizes
    Ls(ls::Args),
    /// Remove a prefix from the names of every state dict, and change nothing else
    StripPrefix(strip_prefix::Args),
    /// Rename tensors: add or remove prefixes, by pattern, by a table
    Rename(rename::Args),
    /// Save what is left of a damaged file; finish or undo an interrupted edit in place
    Repair(repair::Args),
    /// Convert between torch's containers, safetensors and npz
    Convert(convert::Args),
    /// Compare two checkpoints: what changed, where, by how much
    Diff(diff::Args),
    /// Take out tensors, values or subtrees: print them, or write .npy .npz .json .csv .bin .png .safetensors .pt
    Extract(Box<extract::Args>),
    /// Check that a file is safe to load and sound: globals, weights_only, checksums, bounds
    Check(check::Args),
    /// Print a shell's completion script
    Completions(completions::Args),
    /// Print the manual page, or write all pages into a directory
    Man(man::Args),
}
