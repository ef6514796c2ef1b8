//! The whole command line as clap types, the process around it, and which command does what it says. Completions and man pages are made from
//! these.

mod complete;
mod manual;
pub(crate) mod resources;
pub(crate) mod usage;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    ExitStatus, average, check, completions, convert, diff, digest, edit, extract, ls, man, merge, rename, repair,
    schema, strip_prefix,
};
use crate::terminal::{streams, wording};

/// Inspect and convert PyTorch checkpoints without Python, without torch and without running a pickle.
#[derive(Debug, Parser)]
#[command(name = "ckpt", version, about, max_term_width = 100, disable_help_subcommand = true, subcommand_value_name = "COMMAND", color = ColorChoice::Auto)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List tensors and other values: names, dtypes, shapes, sizes
    Ls(ls::Args),
    /// Remove a prefix from the names in every state dict; change nothing else
    StripPrefix(strip_prefix::Args),
    /// Rename tensors by prefix, pattern or table
    Rename(rename::Args),
    /// Set, delete and move values and subtrees; change nothing else
    Edit(edit::Args),
    /// Salvage a damaged file; finish or undo an interrupted edit in place
    Repair(repair::Args),
    /// Convert between torch's containers, safetensors and npz
    Convert(convert::Args),
    /// Merge checkpoints into one: under a key each, or the parts of a state dict
    Merge(merge::Args),
    /// Average the weights of checkpoints: mean, weighted mean, moving average
    Average(average::Args),
    /// Compare two checkpoints: what changed, where, by how much
    Diff(diff::Args),
    /// Print a digest of the weights, the same in every format; verify lists of digests
    Digest(digest::Args),
    /// Extract tensors, values or subtrees: print them, or write them to files
    Extract(Box<extract::Args>),
    /// Check that a file is safe to load and intact, without loading it
    Check(check::Args),
    /// Print the JSON schema of a report, or list the schemas
    Schema(schema::Args),
    /// Print the completion script of a shell
    Completions(completions::Args),
    /// Print the manual page, or write all pages into a directory
    Man(man::Args),
}

/// The whole command line, with the prose of its manual.
pub fn command() -> clap::Command {
    manual::with_prose(Cli::command()).mut_subcommands(manual::with_prose)
}

/// The process: arguments in, exit status out, errors on one line.
pub fn main() -> ExitCode {
    resources::prepare();
    let arguments = usage::arguments(std::env::args_os());
    if let Some(question) = complete::question(&arguments) {
        return complete::answer(&question, Cli::command());
    }
    let parsed = command().try_get_matches_from(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => {
            // --help and --version are no errors; a closed pipe is nobody's business
            return match e.print() {
                Err(e) if e.kind() != ErrorKind::BrokenPipe => {
                    streams::say(format_args!("standard output: {e}"));
                    ExitStatus::Trouble.into()
                }
                _ => ExitCode::SUCCESS,
            };
        }
        Err(e)
            if e.kind() == clap::error::ErrorKind::MissingRequiredArgument
                && let Some(line) = diff::git::unmerged(&arguments) =>
        {
            return match writeln!(streams::stdout(), "{line}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitStatus::Trouble.into(),
            };
        }
        Err(e) => {
            streams::say(usage::message(&e, &arguments));
            if e.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                let _ = e.print();
            }
            return ExitStatus::Trouble.into();
        }
    };
    match run(cli) {
        Ok(status) => status.into(),
        Err(e) if streams::is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            streams::say(wording::worded(&e));
            ExitStatus::Trouble.into()
        }
    }
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitStatus> {
    // how results are written, and the only input where there is one
    let stdin = Some(Path::new("-"));
    let (result, output, input) = match &cli.command {
        Command::Ls(args) => (ls::run(args), &args.output, None),
        Command::Diff(args) => (diff::run(args), &args.output, None),
        Command::Digest(args) => (digest::run(args), &args.output, None),
        Command::Check(args) => (check::run(args), &args.output, None),
        Command::Average(args) => (average::run(args), &args.report, None),
        Command::Merge(args) => (merge::run(args), &args.report, None),
        Command::StripPrefix(args) => (strip_prefix::run(args), &args.edit.report, args.input.as_deref().or(stdin)),
        Command::Rename(args) => (rename::run(args), &args.edit.report, Some(args.input.as_path())),
        Command::Edit(args) => (edit::run(args), &args.report, Some(args.input.as_path())),
        Command::Repair(args) => (repair::run(args), &args.report, Some(args.input.as_path())),
        Command::Convert(args) => (convert::run(args), &args.report, Some(args.input.as_path())),
        Command::Extract(args) => (extract::run(args), &args.report, Some(args.input.as_path())),
        Command::Schema(args) => return schema::run(args),
        Command::Completions(args) => return completions::run(&complete::script(args.shell, command())),
        Command::Man(args) => return man::run(args, &manual::pages(command())?),
    };
    if let Err(e) = &result
        && !streams::is_closed_pipe(e)
    {
        output.ended_with(input, e)?;
    }
    result
}
