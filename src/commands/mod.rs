//! One file a subcommand: its `Args` and its `run`. What several share is in [`options`](crate::options).

pub(crate) mod average;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod diff;
pub(crate) mod digest;
pub(crate) mod edit;
pub(crate) mod extract;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod merge;
pub(crate) mod rename;
pub(crate) mod repair;
pub(crate) mod schema;
pub(crate) mod strip_prefix;

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ExitStatus {
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
