//! One thing that a check has to say.

use std::fmt;

use crate::error::Error;
use crate::message::{Message, fields};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Unusual: have a look.
    Warning,
    /// Something is broken or missing.
    Error,
    /// Loading it would run code, or do what only an attack needs.
    Danger,
}

impl Severity {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Danger => "danger",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A name for programs: `global-dangerous`, `crc-mismatch`.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The member, the byte, the tensor; null for the whole file.
    #[serde(rename = "where")]
    pub place: Option<String>,
    /// What to do about it, apart from the message: it names settings.
    #[serde(skip)]
    pub advice: Option<Message>,
}

impl Finding {
    /// A finding at `place`; an empty place is the whole file.
    pub(crate) fn new(severity: Severity, code: &'static str, message: impl Into<String>, place: &str) -> Self {
        let place = (!place.is_empty()).then(|| place.to_owned());
        Finding { severity, code, message: message.into(), place, advice: None }
    }

    /// What an error says, at `place`.
    pub(crate) fn of_error(severity: Severity, code: &'static str, e: &Error, place: &str) -> Self {
        Finding { advice: e.advice().cloned(), ..Finding::new(severity, code, e.without_advice(fields), place) }
    }
}
