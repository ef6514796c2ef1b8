//! The one error type of the core: what went wrong, in which member, at which byte.
//!
//! Commands add the file's name and print it on one line; nothing matches on the text, only on [`ErrorKind`].

use std::fmt;
use std::io;

use crate::message::{Message, Setting, Voice, fields};

/// The result of everything in the core.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of trouble an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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
    /// What was asked for cannot be done with this checkpoint: a name that is not there, a choice among several.
    Refused,
}

/// An error with its place: the file, the member (of an archive) and the byte offset within it.
#[derive(Debug, thiserror::Error)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: Message,
    /// Innermost first.
    subjects: Vec<Subject>,
    member: Option<String>,
    offset: Option<u64>,
    source: Option<io::Error>,
    advice: Option<Message>,
}

/// What an error is about, in the order in which it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// An input, by the name that its reader was given.
    Input(String),
    /// An output.
    Output(String),
    /// A tensor, value or other part.
    Part(String),
}

impl Subject {
    fn name(&self) -> &str {
        match self {
            Subject::Input(name) | Subject::Output(name) | Subject::Part(name) => name,
        }
    }
}

impl Error {
    /// An error of `kind` that says `message`, without a place yet.
    pub fn new(kind: ErrorKind, message: impl Into<Message>) -> Self {
        Self::of(kind, message.into(), None)
    }

    fn of(kind: ErrorKind, message: Message, source: Option<io::Error>) -> Self {
        let subjects = Vec::new();
        Error(Box::new(Inner { kind, message, subjects, member: None, offset: None, source, advice: None }))
    }

    /// The bytes are no checkpoint.
    pub(crate) fn not_a_checkpoint(message: impl Into<Message>) -> Self {
        Self::new(ErrorKind::NotACheckpoint, message)
    }

    /// The file ends early.
    pub(crate) fn truncated(message: impl Into<Message>) -> Self {
        Self::new(ErrorKind::Truncated, message)
    }

    /// The bytes break their format's rules.
    pub(crate) fn malformed(message: impl Into<Message>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    /// Valid, but not handled.
    pub(crate) fn unsupported(message: impl Into<Message>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A bound was met; [`Error::allowed_by`] says which.
    pub(crate) fn limit(message: impl Into<Message>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    /// A tensor's elements cannot be read.
    pub fn data(message: impl Into<Message>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// What was asked for cannot be done.
    pub(crate) fn refused(message: impl Into<Message>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// Says at which byte, unless a deeper layer has said so already.
    #[must_use]
    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Says in which member, unless a deeper layer has said so already.
    #[must_use]
    pub(crate) fn in_member(mut self, member: &str) -> Self {
        self.0.member.get_or_insert_with(|| member.to_owned());
        self
    }

    /// Says which input it is about, unless a deeper layer has named an input or output already.
    #[must_use]
    pub(crate) fn of_input(mut self, name: &str) -> Self {
        if !self.0.subjects.iter().any(|subject| matches!(subject, Subject::Input(_) | Subject::Output(_))) {
            self.0.subjects.push(Subject::Input(name.to_owned()));
        }
        self
    }

    /// Says which output it is about, unless a deeper layer has named an input or output already.
    #[must_use]
    pub(crate) fn of_output(mut self, name: &str) -> Self {
        if !self.0.subjects.iter().any(|subject| matches!(subject, Subject::Input(_) | Subject::Output(_))) {
            self.0.subjects.push(Subject::Output(name.to_owned()));
        }
        self
    }

    /// Says which tensor, value or other part it is about, unless a deeper layer has named that, by its whole name or the
    /// end of it.
    #[must_use]
    pub(crate) fn of_part(mut self, name: &str) -> Self {
        match self.0.subjects.last_mut() {
            Some(Subject::Part(known)) if is_end_of(name, known) => {}
            Some(Subject::Part(known)) if is_end_of(known, name) => name.clone_into(known),
            _ => self.0.subjects.push(Subject::Part(name.to_owned())),
        }
        self
    }

    /// The same error of a part that whoever tells it names beside it.
    pub(crate) fn beside_its_part(mut self) -> Self {
        self.0.subjects.retain(|subject| !matches!(subject, Subject::Part(_)));
        self
    }

    /// Says what to do about it; no part of the message.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<Message>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Says which setting lifts the bound that was met.
    #[must_use]
    pub(crate) fn allowed_by(self, setting: Setting) -> Self {
        self.advise(setting.then(" allows more"))
    }

    /// The same trouble with another message, which `say` makes of the old one; without its place.
    #[must_use]
    pub(crate) fn reworded(self, say: impl FnOnce(&str) -> String) -> Self {
        let mut message = self.0.message.to_string();
        message.extend(self.0.source.as_ref().map(ToString::to_string));
        let mut new = Error::new(self.0.kind, say(&message));
        new.0.advice = self.0.advice;
        new
    }

    /// The same once more, for telling it in a second place.
    #[must_use]
    pub(crate) fn again(&self) -> Self {
        let Inner { kind, message, subjects, member, offset, source, advice } = &*self.0;
        let message = source.iter().fold(message.clone(), |message, source| message.text(source.to_string()));
        Error(Box::new(Inner {
            kind: *kind,
            message,
            subjects: subjects.clone(),
            member: member.clone(),
            offset: *offset,
            source: None,
            advice: advice.clone(),
        }))
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
    pub fn message(&self) -> String {
        self.0.message.to_string()
    }

    /// What is wrong and what to do about it, without the place.
    pub(crate) fn to_message(&self) -> Message {
        let message = self.0.source.iter().fold(self.0.message.clone(), |all, source| all.text(source.to_string()));
        self.0.advice.iter().fold(message, |all, advice| all.text("; ").message(advice.clone()))
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&Message> {
        self.0.advice.as_ref()
    }

    /// The message with what the operating system said and what to do about it, without its place and without the name of
    /// the input; settings as `voice` calls them.
    pub fn text(&self, voice: Voice) -> String {
        let mut text = String::new();
        for subject in self.0.subjects.iter().rev().filter(|subject| !matches!(subject, Subject::Input(_))) {
            text.push_str(subject.name());
            text.push_str(": ");
        }
        text.push_str(&self.0.message.spoken(voice));
        text.extend(self.0.source.as_ref().map(ToString::to_string));
        text.extend(self.0.advice.iter().map(|advice| format!("; {}", advice.spoken(voice))));
        text
    }

    /// All of it on one line, settings as `voice` calls them.
    pub fn spoken(&self, voice: Voice) -> String {
        Message::from(self).spoken(voice)
    }

    /// What is wrong and where, but not what to do about it.
    pub(crate) fn without_advice(&self, voice: Voice) -> String {
        self.sentence().spoken(voice)
    }

    fn sentence(&self) -> Message {
        let subjects = self.0.subjects.iter().rev().map(|subject| format!("{}: ", subject.name()));
        let message = Message::from(subjects.collect::<String>()).message(self.0.message.clone());
        let mut rest: String = self.0.source.iter().map(ToString::to_string).collect();
        rest.extend(match (&self.0.member, self.0.offset) {
            (Some(member), Some(offset)) => Some(format!(" (in {member}, byte {offset})")),
            (Some(member), None) => Some(format!(" (in {member})")),
            (None, Some(offset)) => Some(format!(" (byte {offset})")),
            (None, None) => None,
        });
        message.text(rest)
    }

    /// What the operating system said, if it refused something.
    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        self.0.source.as_ref().map(io::Error::kind)
    }

    /// The input that it is about, where that has been said.
    pub fn input(&self) -> Option<&str> {
        self.0.subjects.iter().find_map(|subject| match subject {
            Subject::Input(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The output that it is about, where that has been said.
    pub fn output(&self) -> Option<&str> {
        self.0.subjects.iter().find_map(|subject| match subject {
            Subject::Output(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The member of the archive, if the trouble is inside one.
    pub fn member(&self) -> Option<&str> {
        self.0.member.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spoken(fields))
    }
}

/// All of it on one line.
impl From<&Error> for Message {
    fn from(e: &Error) -> Self {
        match e.advice() {
            Some(advice) => e.sentence().text("; ").message(advice.clone()),
            None => e.sentence(),
        }
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
        Error::of(kind, Message::default(), Some(e))
    }
}

impl From<Error> for io::Error {
    fn from(e: Error) -> Self {
        io::Error::other(e)
    }
}

/// Whether a name is another one, or what is behind one of its dots.
fn is_end_of(end: &str, name: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
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
    fn a_part_is_named_once() {
        let of = |names: &[&str]| names.iter().fold(Error::data("differs"), |e, name| e.of_part(name)).to_string();
        assert_eq!(of(&["norm.weight", "norm.weight"]), "norm.weight: differs");
        assert_eq!(of(&["norm.weight", "model.norm.weight"]), "model.norm.weight: differs");
        assert_eq!(of(&["model.norm.weight", "weight"]), "model.norm.weight: differs");
        assert_eq!(of(&["bias", "b.weight", "bias"]), "bias: b.weight: bias: differs");
        assert_eq!(of(&["weight", "prenorm_weight"]), "prenorm_weight: weight: differs");
        assert_eq!(Error::data("differs").of_part("a").beside_its_part().to_string(), "differs");
    }

    #[test]
    fn the_input_is_named_once_and_apart_from_the_message() {
        let e = Error::data("is missing").of_part("fc.weight").of_input("a.pt").of_input("b.pt").of_output("c.pt");
        assert_eq!(e.to_string(), "a.pt: fc.weight: is missing");
        assert_eq!((e.text(fields).as_str(), e.input()), ("fc.weight: is missing", Some("a.pt")));
        let e = Error::limit("too deep").at(3).allowed_by(Setting::MaxDepth).again();
        assert_eq!(e.spoken(|setting| setting.name().to_uppercase()), "too deep (byte 3); MAX_DEPTH allows more");
    }

    #[test]
    fn travels_through_io() {
        let io: io::Error = Error::limit("too much").at(3).into();
        let back = Error::from(io);
        assert_eq!((back.kind(), back.offset()), (ErrorKind::Limit, Some(3)));
    }
}
