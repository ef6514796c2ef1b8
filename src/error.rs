//! The one error type of the core: what went wrong, in which member, at which byte.
//!
//! Commands add the file's name and print it on one line; nothing matches on the text, only on [`ErrorKind`].

use std::fmt;
use std::io;

/// The result of everything in the core.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of trouble an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The operating system refused a read or a write.
    Io,
    /// The bytes are no checkpoint at all (text, HTML, an empty file, a zip of something else).
    NotACheckpoint,
    /// The file ends before what it announces.
    Truncated,
    /// The bytes break the rules of their format.
    Malformed,
    /// Valid, but of a kind that is not handled.
    Unsupported,
    /// A bound of [`crate::limits::Limits`] was met.
    Limit,
    /// A tensor's elements cannot be read: outside their storage, or the storage is missing.
    Data,
}

/// An error with its place: the member (of an archive) and the byte offset within it.
#[derive(Debug, thiserror::Error)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    member: Option<String>,
    offset: Option<u64>,
    source: Option<io::Error>,
    advice: Option<&'static str>,
}

impl Error {
    /// An error of `kind` that says `message`, without a place yet.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), member: None, offset: None, source: None, advice: None }))
    }

    /// The bytes are no checkpoint.
    pub fn not_a_checkpoint(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotACheckpoint, message)
    }

    /// The file ends early.
    pub fn truncated(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Truncated, message)
    }

    /// The bytes break their format's rules.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    /// Valid, but not handled.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A bound was met; the message says which option raises it.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    /// A tensor's elements cannot be read.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// Says at which byte, unless a deeper layer has said so already.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Says in which member, unless a deeper layer has said so already.
    #[must_use]
    pub fn in_member(mut self, member: &str) -> Self {
        self.0.member.get_or_insert_with(|| member.to_owned());
        self
    }

    /// Says what to do about it; no part of the message.
    #[must_use]
    pub fn advise(mut self, advice: &'static str) -> Self {
        self.0.advice = Some(advice);
        self
    }

    /// The same once more, for telling it in a second place.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut message = self.0.message.clone();
        if let Some(source) = &self.0.source {
            message.push_str(&source.to_string());
        }
        let (kind, member, offset) = (self.0.kind, self.0.member.clone(), self.0.offset);
        Error(Box::new(Inner { kind, message, member, offset, source: None, advice: self.0.advice }))
    }

    /// What sort of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The byte offset, in the member if there is one, else in the file.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The message without its place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The message with what the operating system said and what to do about it, without its place.
    pub fn text(&self) -> String {
        let mut text = self.0.message.clone();
        text.extend(self.0.source.as_ref().map(ToString::to_string));
        text.extend(self.0.advice.map(|advice| format!("; {advice}")));
        text
    }

    /// What the operating system said, if it refused something.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.0.source.as_ref().map(io::Error::kind)
    }

    /// The member of the archive, if the trouble is inside one.
    pub fn member(&self) -> Option<&str> {
        self.0.member.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, "{source}")?;
        }
        match (&self.0.member, self.0.offset) {
            (Some(member), Some(offset)) => write!(f, " (in {member}, byte {offset})"),
            (Some(member), None) => write!(f, " (in {member})"),
            (None, Some(offset)) => write!(f, " (byte {offset})"),
            (None, None) => Ok(()),
        }?;
        self.0.advice.map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        // an error of ours that travelled through an `io::Read` comes out as it went in
        if e.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            if let Some(Ok(ours)) = e.into_inner().map(|inner| inner.downcast::<Error>()) {
                return *ours;
            }
            return Error::new(ErrorKind::Io, "reading failed");
        }
        let kind = if e.kind() == io::ErrorKind::UnexpectedEof { ErrorKind::Truncated } else { ErrorKind::Io };
        Error(Box::new(Inner {
            kind,
            message: String::new(),
            member: None,
            offset: None,
            source: Some(e),
            advice: None,
        }))
    }
}

impl From<Error> for io::Error {
    fn from(e: Error) -> Self {
        io::Error::other(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_place_wins() {
        let e = Error::malformed("bad opcode 0xff").at(7).at(99).in_member("a/data.pkl").in_member("outer");
        assert_eq!(e.to_string(), "bad opcode 0xff (in a/data.pkl, byte 7)");
    }

    #[test]
    fn travels_through_io() {
        let io: io::Error = Error::limit("too much").at(3).into();
        let back = Error::from(io);
        assert_eq!((back.kind(), back.offset()), (ErrorKind::Limit, Some(3)));
    }
}
