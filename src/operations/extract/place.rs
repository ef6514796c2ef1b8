//! What the name of an output means: one file, or a directory of them.

use std::path::Path;

use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::write::format::{Format, extension};

/// Where output goes and in which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputForm {
    /// One file, or standard output.
    File(Format),
    /// A file for each tensor and value.
    Directory(Format),
}

/// What `output` means for one thing (`single`) or several, written in the format `to` or that of its extension. A directory is one that exists, a name that
/// ends in a separator, or one without an extension when no file of that format can hold what there is.
pub(super) fn place(output: &Path, to: Option<Format>, single: bool) -> Result<OutputForm> {
    if output.as_os_str() == "-" {
        let no_format = || Error::refused(Message::from("standard output needs ").setting(Setting::To).text(" FORMAT"));
        return to.map(OutputForm::File).ok_or_else(no_format);
    }
    let separated = output.as_os_str().as_encoded_bytes().last().is_some_and(|b| std::path::is_separator((*b).into()));
    if separated || output.is_dir() {
        return Ok(OutputForm::Directory(to.unwrap_or(Format::Npy)));
    }
    match (to.or(Format::of_part(output)), extension(output)) {
        (Some(format), None) if !single && !format.is_collection() => Ok(OutputForm::Directory(format)),
        (Some(format), _) => Ok(OutputForm::File(format)),
        (None, None) => Ok(OutputForm::Directory(Format::Npy)),
        (None, Some(extension)) => {
            let all: Vec<String> = Format::extensions_of_parts().map(|known| format!(".{known}")).collect();
            let message = format!("unknown output extension .{extension}; use one of {}, or ", all.join(" "));
            Err(Error::refused(Message::from(message).setting(Setting::To).text(" FORMAT")))
        }
    }
}
