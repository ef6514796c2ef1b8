//! An input that could not be read, as a line among the others: the JSON schema `ckpt.error/1`.

use std::io::{self, Write};

use crate::error::{Error, ErrorKind};
use crate::message::Voice;
use crate::render::{Document, Report, json};

/// What is wrong with an input, and where.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Refusal {
    /// Always [`Refusal::SCHEMA`].
    pub schema: &'static str,
    /// The path as given; `-` for standard input.
    pub file: String,
    /// Its bytes in base64, where it is no Unicode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<String>,
    /// `io`, `not_a_checkpoint`, `truncated`, `malformed`, `unsupported`, `limit`, `data`; `refused` for the rest.
    pub kind: &'static str,
    /// What is wrong, without the file and the place.
    pub message: String,
    /// The member of an archive.
    pub member: Option<String>,
    /// The byte, in the member if there is one.
    pub offset: Option<u64>,
}

impl Refusal {
    /// The name of the JSON schema.
    pub(crate) const SCHEMA: &'static str = "ckpt.error/1";

    /// Of an error, outer causes first, that was met while `file` was read; causes that only name the file are left out.
    /// Settings are called as `voice` has them.
    pub(crate) fn new<'e>(
        file: &str,
        causes: impl Iterator<Item = &'e (dyn std::error::Error + 'static)>,
        voice: Voice,
    ) -> Self {
        let mut refusal = Refusal {
            schema: Self::SCHEMA,
            file: file.to_owned(),
            file_bytes: None,
            kind: "refused",
            message: String::new(),
            member: None,
            offset: None,
        };
        let mut said = Vec::new();
        for cause in causes {
            if let Some(ours) = cause.downcast_ref::<Error>() {
                refusal.kind = name_of(ours.kind());
                refusal.member = ours.member().map(str::to_owned);
                refusal.offset = ours.offset();
                said.push(ours.text(voice));
                break;
            }
            if cause.is::<io::Error>() {
                refusal.kind = name_of(ErrorKind::Io);
            }
            said.push(cause.to_string());
        }
        said.retain(|text| text != file);
        refusal.message = said.join(": ");
        refusal
    }
}

fn name_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Io => "io",
        ErrorKind::NotACheckpoint => "not_a_checkpoint",
        ErrorKind::Truncated => "truncated",
        ErrorKind::Malformed => "malformed",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Limit => "limit",
        ErrorKind::Data => "data",
        ErrorKind::Refused => "refused",
    }
}

impl Report for Refusal {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        document.prose(format!("{}: {}", self.file, self.message));
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::fields;

    #[test]
    fn the_place_is_apart_from_the_message() {
        let e = Error::malformed("bad opcode 0xff").at(7).in_member("a/data.pkl").advise("`ckpt repair` may help");
        let outer = io::Error::other("fc.weight");
        let name = io::Error::other("model.pt");
        let causes: [&(dyn std::error::Error + 'static); 3] = [&name, &outer, &e];
        let refusal = Refusal::new("model.pt", causes.into_iter(), fields);
        assert_eq!((refusal.kind, refusal.offset), ("malformed", Some(7)));
        assert_eq!(refusal.member.as_deref(), Some("a/data.pkl"));
        assert_eq!(refusal.message, "fc.weight: bad opcode 0xff; `ckpt repair` may help");
    }
}
