//! What `-o OUTPUT` means: one file, or a directory of them.

use std::path::Path;

use anyhow::bail;

use crate::write::format::{Format, extension};

/// Where output goes and in which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One file, or standard output.
    File(Format),
    /// A file for each tensor and value.
    Directory(Format),
}

/// What `-o OUTPUT [--to FORMAT]` means for one thing (`single`) or several. A directory is one that exists, a name that
/// ends in a separator, or one without an extension when no file of that format can hold what there is.
pub fn place(output: &Path, to: Option<Format>, single: bool) -> anyhow::Result<Place> {
    if output.as_os_str() == "-" {
        return match to {
            Some(format) => Ok(Place::File(format)),
            None => bail!("-o - needs --to FORMAT"),
        };
    }
    let separated = output.as_os_str().as_encoded_bytes().last().is_some_and(|b| std::path::is_separator((*b).into()));
    if separated || output.is_dir() {
        return Ok(Place::Directory(to.unwrap_or(Format::Npy)));
    }
    match (to.or(Format::of_part(output)), extension(output)) {
        (Some(format), None) if !single && !format.is_collection() => Ok(Place::Directory(format)),
        (Some(format), _) => Ok(Place::File(format)),
        (None, None) => Ok(Place::Directory(Format::Npy)),
        (None, Some(extension)) => {
            let all: Vec<String> = Format::extensions_of_parts().map(|known| format!(".{known}")).collect();
            bail!("unknown output extension .{extension}; use one of {}, or --to FORMAT", all.join(" "))
        }
    }
}
