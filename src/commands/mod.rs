//! One file a subcommand: its `Args` and its `run`. What they share: how output is chosen, how inputs are opened, which
//! names are meant.

pub mod check;
pub mod completions;
pub mod convert;
pub mod diff;
pub mod extract;
pub mod input;
pub mod ls;
pub mod man;
pub mod names;
pub mod output;
pub mod progress_bar;
pub mod rename;
pub mod repair;
pub mod strip_prefix;
pub mod usage;
pub mod values;
pub mod wording;

use std::path::Path;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Yes, or done.
    Success,
    /// The answer is no.
    No,
    /// Something could not be opened, understood or done; it has been said on standard error.
    Trouble,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => ExitCode::SUCCESS,
            Status::No => ExitCode::from(1),
            Status::Trouble => ExitCode::from(2),
        }
    }
}

/// Does what the command line says.
pub fn run(cli: crate::cli::Cli) -> anyhow::Result<Status> {
    use crate::cli::Command;
    // how results are written, and the only input where there is one
    let stdin = Some(Path::new("-"));
    let (output, input): (_, Option<&Path>) = match &cli.command {
        Command::Ls(args) => (&args.output, None),
        Command::Diff(args) => (&args.output, None),
        Command::Check(args) => (&args.output, None),
        Command::StripPrefix(args) => (&args.edit.report, args.input.as_deref().or(stdin)),
        Command::Rename(args) => (&args.edit.report, Some(&args.input)),
        Command::Repair(args) => (&args.report, Some(&args.input)),
        Command::Convert(args) => (&args.report, Some(&args.input)),
        Command::Extract(args) => (&args.report, Some(&args.input)),
        Command::Completions(args) => return completions::run(args),
        Command::Man(args) => return man::run(args),
    };
    let result = match &cli.command {
        Command::Ls(args) => ls::run(args),
        Command::StripPrefix(args) => strip_prefix::run(args),
        Command::Rename(args) => rename::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Extract(args) => extract::run(args),
        Command::Check(args) => check::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    };
    if let Err(e) = &result
        && !output::is_closed_pipe(e)
    {
        output.ended_with(input, e)?;
    }
    result
}
