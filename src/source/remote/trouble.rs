//! What goes wrong between here and a server, and whether to try again. No message has an address in it: the reader names
//! the input, and an address of a redirect may be a secret.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What is said of it in the end.
    pub error: Error,
    /// Whether the next try may go better.
    pub is_passing: bool,
    /// How long the server wants to be left alone.
    pub pause: Option<Duration>,
    /// Whether a signature that has ended would look like this.
    pub is_refusal: bool,
    /// Whether there is no such object.
    pub is_missing: bool,
}

impl Failure {
    /// One that the next try would meet too.
    pub(super) fn last(error: Error) -> Self {
        Failure { error, is_passing: false, pause: None, is_refusal: false, is_missing: false }
    }

    /// One that may be gone the next time.
    pub(super) fn passing(error: Error) -> Self {
        Failure { is_passing: true, ..Self::last(error) }
    }

    /// A server that says no.
    pub(super) fn refusal(error: Error, is_missing: bool) -> Self {
        Failure { is_refusal: true, is_missing, ..Self::last(error) }
    }
}

/// An object that is another one now.
pub(super) fn changed() -> Error {
    Error::new(ErrorKind::Io, "the file changed while it was read").advise("run it again")
}

/// A request that got no answer, or an answer that broke off.
pub(super) fn of_request(e: &reqwest::Error) -> Failure {
    let why = innermost(e).to_string();
    let message = if e.is_timeout() {
        "the server does not answer in time".to_owned()
    } else if e.is_connect() {
        format!("cannot connect: {why}")
    } else {
        format!("the connection broke: {why}")
    };
    let error = Error::new(ErrorKind::Io, message);
    match e.is_builder() {
        true => Failure::last(error),
        false => Failure::passing(error),
    }
}

/// What a service of objects says in the middle of an answer.
pub(super) fn of_body(e: &object_store::Error) -> Failure {
    Failure::passing(Error::new(
        ErrorKind::Io,
        format!("the connection broke: {}", first_line(&innermost(e).to_string())),
    ))
}

/// The first cause of an error.
fn innermost<'a>(e: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = e;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// What a service of objects says. `login` says what would help where it refuses.
pub(super) fn of_store(e: &object_store::Error, login: &'static str) -> Failure {
    use object_store::Error as E;
    let say = |message: String| Error::new(ErrorKind::Io, message);
    match e {
        E::NotFound { .. } => Failure::refusal(say("there is no such object".to_owned()), true),
        E::Precondition { .. } => Failure::last(changed()),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            Failure::refusal(say("access denied".to_owned()).advise(login), false)
        }
        E::UnknownConfigurationKey { key, .. } => Failure::last(say(format!("the setting {key} is not known"))),
        other => {
            let why = first_line(&innermost(other).to_string());
            let error = match is_about_connecting(other) {
                true => say(format!("cannot connect: {why}")),
                false => say(why).advise(login),
            };
            // the store has tried again by itself
            Failure::last(error)
        }
    }
}

fn is_about_connecting(e: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(e);
    while let Some(e) = cause {
        if e.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect) {
            return true;
        }
        cause = e.source();
    }
    false
}

/// The first line, cut where an answer of a server would fill the screen.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(200).collect();
    if short.len() < line.len() {
        short.push_str("...");
    }
    short
}
