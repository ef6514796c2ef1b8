//! The files that an operation wrote, and how they are shown.

use serde::Serialize;

use crate::render::Document;

/// A file that was written.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Written {
    /// Its path.
    pub file: String,
    /// Its size.
    pub bytes: u64,
}

/// Each file on a line of its own.
pub(super) fn document(files: &[Written]) -> Document<'_> {
    let mut document = Document::default();
    for written in files {
        document.line(format!("{}: {} bytes", written.file, written.bytes));
    }
    document
}
