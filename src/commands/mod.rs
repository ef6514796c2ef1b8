//! One file a subcommand: its `Args` and its `run`. What they share: how output is chosen, how inputs are opened, which
//! names are meant.

pub mod average;
pub mod check;
pub mod completions;
pub mod convert;
pub mod diff;
pub mod edit;
pub mod edited;
pub mod extract;
pub mod in_order;
pub mod input;
pub mod keyed;
pub mod ls;
pub mod man;
pub mod merge;
pub mod names;
pub mod output;
pub mod progress_bar;
pub mod rename;
pub mod repair;
pub mod strip_prefix;
pub mod values;
pub mod wording;

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitStatus {
    /// Yes, or done.
    Success,
    /// The answer is no.
    No,
    /// Something could not be opened, understood or done; it has been said on standard error.
    Trouble,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Success => ExitCode::SUCCESS,
            ExitStatus::No => ExitCode::from(1),
            ExitStatus::Trouble => ExitCode::from(2),
        }
    }
}
