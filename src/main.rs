//! The process boundary: arguments in, exit status out, errors on one line.

use std::io::ErrorKind as IoErrorKind;
use std::process::ExitCode;

use ckpt::cli::{self, Cli, usage};
use ckpt::commands::{ExitStatus, output, wording};
use clap::FromArgMatches;
use clap::error::ErrorKind;

fn main() -> ExitCode {
    let arguments = usage::arguments(std::env::args_os());
    let parsed = cli::command().try_get_matches_from(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => {
            // --help and --version are no errors; a closed pipe is nobody's business
            return match e.print() {
                Err(e) if e.kind() != IoErrorKind::BrokenPipe => {
                    output::say(format_args!("standard output: {e}"));
                    ExitStatus::Trouble.into()
                }
                _ => ExitCode::SUCCESS,
            };
        }
        Err(e) => {
            output::say(usage::message(&e, &arguments));
            if e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                let _ = e.print();
            }
            return ExitStatus::Trouble.into();
        }
    };
    match cli::run(cli) {
        Ok(status) => status.into(),
        Err(e) if output::is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            output::say(wording::worded(&e));
            ExitStatus::Trouble.into()
        }
    }
}
