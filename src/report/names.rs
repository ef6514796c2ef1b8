//! The names of what an input holds, for programs: the JSON schema `ckpt.names/1`.

use std::io::{self, Write};

use crate::render::json;

/// The names in one input.
#[derive(Debug, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NameList<'a> {
    schema: &'static str,
    /// The input as given.
    file: &'a str,
    /// Its bytes in base64, where it is no Unicode.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<&'a str>,
    /// Tensors, then values; of an archive what names its checkpoints on a command line.
    names: Vec<&'a str>,
}

/// Writes the names of an input.
pub(crate) fn write<'a>(
    file: &'a str,
    file_bytes: Option<&'a str>,
    names: impl Iterator<Item = &'a str>,
    out: &mut dyn Write,
) -> io::Result<()> {
    json::write(&NameList { schema: "ckpt.names/1", file, file_bytes, names: names.collect() }, out)
}
