//! The whole command line as clap types, the process around it, and which command does what it says. Completions and man pages are made from
//! these.

pub(crate) mod usage;

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    ExitStatus, average, check, completions, convert, diff, digest, edit, extract, ls, man, merge, output, rename,
    repair, schema, strip_prefix, wording,
};

/// Inspect and convert PyTorch checkpoints without Python, without torch and without running a pickle.
#[derive(Debug, Parser)]
#[command(name = "ckpt", version, about, max_term_width = 100, disable_help_subcommand = true, color = ColorChoice::Auto)]
#[command(after_help = "\
`-` as INPUT reads standard input; https://, s3://, gs://, az:// and hf:// URLs are read in place. The file type is detected from its contents, not its extension.\n\
`ckpt help COMMAND` shows a command's options.")]
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
    /// Print a digest of the weights that is the same in every format, like sha256sum; verify lists of them
    Digest(digest::Args),
    /// Extract tensors, values or subtrees: print them, or write .npy .npz .json .csv .bin .png .safetensors .pt
    Extract(Box<extract::Args>),
    /// Check that a file is safe to load and intact: globals, weights_only, checksums, bounds
    Check(check::Args),
    /// Print the JSON schema of a report, or list the schemas
    Schema(schema::Args),
    /// Print a shell's completion script
    Completions(completions::Args),
    /// Print the manual page, or write all pages into a directory
    Man(man::Args),
}

/// What every `--help` and every man page ends with.
const EXIT_STATUS: &str = "\
Exit status:
  0  done, or the answer is yes
  1  the answer is no: files differ (diff, digest --check), problems found (check),
     nothing to rename (strip-prefix, rename), nothing to repair (repair)
  2  error: bad usage, an input that cannot be opened or understood, something
     named that is not there, refused, disk full";

/// The whole command line; the table of exit statuses is part of every help text.
pub fn command() -> clap::Command {
    let with_table = |command: clap::Command| {
        let below = |help: Option<&StyledStr>| {
            help.map_or(EXIT_STATUS.to_owned(), |help| format!("{}\n\n{EXIT_STATUS}", help.to_string().trim_end()))
        };
        let (short, long) = (command.get_after_help(), command.get_after_long_help());
        let (short, long) = (below(short), long.map(|long| below(Some(long))));
        let command = command.after_help(short);
        match long {
            Some(long) => command.after_long_help(long),
            None => command,
        }
    };
    with_table(Cli::command()).mut_subcommands(with_table)
}

/// The process: arguments in, exit status out, errors on one line.
pub fn main() -> ExitCode {
    let arguments = usage::arguments(std::env::args_os());
    let parsed = command().try_get_matches_from(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => {
            // --help and --version are no errors; a closed pipe is nobody's business
            return match e.print() {
                Err(e) if e.kind() != ErrorKind::BrokenPipe => {
                    output::say(format_args!("standard output: {e}"));
                    ExitStatus::Trouble.into()
                }
                _ => ExitCode::SUCCESS,
            };
        }
        Err(e) => {
            output::say(usage::message(&e, &arguments));
            if e.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                let _ = e.print();
            }
            return ExitStatus::Trouble.into();
        }
    };
    match run(cli) {
        Ok(status) => status.into(),
        Err(e) if output::is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            output::say(wording::worded(&e));
            ExitStatus::Trouble.into()
        }
    }
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitStatus> {
    // how results are written, and the only input where there is one
    let stdin = Some(Path::new("-"));
    let (output, input): (_, Option<&Path>) = match &cli.command {
        Command::Ls(args) => (&args.output, None),
        Command::Diff(args) => (&args.output, None),
        Command::Digest(args) => (&args.output, None),
        Command::Check(args) => (&args.output, None),
        Command::Average(args) => (&args.report, None),
        Command::Merge(args) => (&args.report, None),
        Command::StripPrefix(args) => (&args.edit.report, args.input.as_deref().or(stdin)),
        Command::Rename(args) => (&args.edit.report, Some(&args.input)),
        Command::Edit(args) => (&args.report, Some(&args.input)),
        Command::Repair(args) => (&args.report, Some(&args.input)),
        Command::Convert(args) => (&args.report, Some(&args.input)),
        Command::Extract(args) => (&args.report, Some(&args.input)),
        Command::Schema(args) => return schema::run(args),
        Command::Completions(args) => return completions::run(args, command()),
        Command::Man(args) => return man::run(args, command()),
    };
    let result = match &cli.command {
        Command::Ls(args) => ls::run(args),
        Command::StripPrefix(args) => strip_prefix::run(args),
        Command::Rename(args) => rename::run(args),
        Command::Edit(args) => edit::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Average(args) => average::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Digest(args) => digest::run(args),
        Command::Extract(args) => extract::run(args),
        Command::Check(args) => check::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Completions(args) => completions::run(args, command()),
        Command::Man(args) => man::run(args, command()),
    };
    if let Err(e) = &result
        && !output::is_closed_pipe(e)
    {
        output.ended_with(input, e)?;
    }
    result
}
