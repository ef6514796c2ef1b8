//! Parts of files on servers: plain HTTP with ranges (RFC 9110).
//!
//! Not by `object_store`, whose HTTP store takes no address with a query and follows a redirect with every request: hubs
//! redirect to an address that is signed for a while, which is kept here until it is refused.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_MATCH,
    LAST_MODIFIED, LOCATION, RANGE, RETRY_AFTER, TRANSFER_ENCODING,
};
use reqwest::{Response, StatusCode, Url, Version};

use super::engine;
use super::trouble::{Failure, changed, of_request};
use super::{Identity, Piece};
use crate::error::{Error, ErrorKind, Result};

/// Redirects that are followed one after the other.
const MAX_HOPS: usize = 10;
/// The longest that a server may ask to be left alone.
const MAX_PAUSE: Duration = Duration::from_secs(20);

/// A file on a server.
#[derive(Debug)]
pub(super) struct HttpObject {
    origin: Url,
    /// The value of the header that says who asks; sent to the origin's host only.
    authorization: Option<String>,
    /// What would help where the server refuses.
    login: &'static str,
    /// Where the origin's redirects lead, until that is refused.
    target: Mutex<Option<Url>>,
}

impl HttpObject {
    /// The file at `address`. `login` says what would help where the server refuses.
    pub(super) fn new(address: &str, authorization: Option<String>, login: &'static str) -> Result<Self> {
        let origin = Url::parse(address).map_err(|e| Error::unsupported(format!("is no valid address: {e}")))?;
        Ok(HttpObject { origin, authorization, login, target: Mutex::new(None) })
    }

    /// Asks for a part. What is known of the file makes a part of another one an error.
    pub(super) async fn get(&self, range: &Range<u64>, known: Option<&Identity>) -> Result<Piece, Failure> {
        let first = self.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_kept = first.is_some();
        let response = match self.follow(first, range, known).await {
            // the signature may have ended
            Err(failure) if is_kept && failure.is_refusal => {
                *self.target.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.follow(None, range, known).await?
            }
            other => other?,
        };
        piece(response, range, known)
    }

    /// Asks, and follows redirects.
    async fn follow(
        &self,
        first: Option<Url>,
        range: &Range<u64>,
        known: Option<&Identity>,
    ) -> Result<Response, Failure> {
        let client = engine::CLIENT.as_ref().map_err(|e| Failure::last(Error::new(ErrorKind::Io, e.clone())))?;
        let mut url = first.unwrap_or_else(|| self.origin.clone());
        for _ in 0..=MAX_HOPS {
            let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
            if let Some(tag) = known.and_then(|known| known.tag.as_ref()).filter(|tag| tag.starts_with('"')) {
                request = request.header(IF_MATCH, tag);
            }
            if let Some(value) = self.authorization.as_ref().filter(|_| url.origin() == self.origin.origin()) {
                request = request.header(AUTHORIZATION, value);
            }
            let response = request.send().await.map_err(|e| of_request(&e))?;
            let status = response.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                self.check(&response)?;
                return Ok(response);
            }
            let location = text(response.headers(), &LOCATION).unwrap_or_default();
            let next =
                url.join(&location).map_err(|_| failed(format!("redirects to what is no address ({status})")))?;
            if !matches!(next.scheme(), "http" | "https") || url.scheme() == "https" && next.scheme() == "http" {
                let message =
                    format!("redirects from {}:// to {}://, which is not followed", url.scheme(), next.scheme());
                return Err(failed(message));
            }
            url = next;
            *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(url.clone());
        }
        Err(failed(format!("redirects more than {MAX_HOPS} times")))
    }

    /// Fails where the server has refused.
    fn check(&self, response: &Response) -> Result<(), Failure> {
        let status = response.status();
        let pause = || {
            let seconds = text(response.headers(), &RETRY_AFTER).and_then(|text| text.trim().parse().ok());
            seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_PAUSE))
        };
        let said = |what: &str| format!("{what} (HTTP {})", status.as_u16());
        let error = match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => return Ok(()),
            StatusCode::PRECONDITION_FAILED => return Err(Failure::last(changed())),
            StatusCode::NOT_FOUND | StatusCode::GONE => Error::new(ErrorKind::Io, said("there is no such file")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Failure::refusal(
                    Error::new(ErrorKind::Io, said("access denied")).advise(self.login),
                    false,
                ));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let error = Error::new(ErrorKind::Io, said("too many requests"));
                return Err(Failure { pause: pause(), ..Failure::passing(error.advise(self.login)) });
            }
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let error = Error::new(ErrorKind::Io, said("the server has trouble"));
                return Err(Failure { pause: pause(), ..Failure::passing(error) });
            }
            // a signature that has ended is told as any of these
            other if other.is_client_error() => {
                return Err(Failure::refusal(Error::new(ErrorKind::Io, said("the server refuses")), false));
            }
            _ => Error::new(ErrorKind::Io, said("the server's answer is not understood")),
        };
        Err(Failure::refusal(error, matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)))
    }
}

fn failed(message: String) -> Failure {
    Failure::last(Error::new(ErrorKind::Io, message))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// What an answer holds.
fn piece(response: Response, range: &Range<u64>, known: Option<&Identity>) -> Result<Piece, Failure> {
    let headers = response.headers();
    let tag = text(headers, &ETAG).or_else(|| text(headers, &LAST_MODIFIED));
    let part = text(headers, &CONTENT_RANGE);
    if let Some(coding) = text(headers, &CONTENT_ENCODING).filter(|coding| coding != "identity") {
        let message = format!("the server sends it compressed ({coding}) though asked not to");
        return Err(failed(format!("{message}: the bytes of the file cannot be asked for in parts")));
    }
    let identity = |len: u64| Identity { len, tag };
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let unclear = || failed("the server does not say which part of the file it sends".to_owned());
            let (start, end, len) = part.as_deref().and_then(content_range).ok_or_else(unclear)?;
            if start != range.start || end > range.end || start >= end || end > len {
                return Err(failed(format!(
                    "the server sends bytes {start} to {end} of {len} where {} to {} were asked for",
                    range.start, range.end
                )));
            }
            if end < range.end.min(len) {
                return Err(Failure::passing(Error::new(ErrorKind::Io, "the server sends less than it was asked for")));
            }
            let stated = response.content_length().is_none_or(|bytes| bytes == end - start);
            if !stated {
                return Err(failed("the server sends a part of another length than it says".to_owned()));
            }
            Ok(Piece::Part { identity: identity(len), body: response })
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let len = part.as_deref().and_then(|part| part.strip_prefix("bytes */")).and_then(|len| len.parse().ok());
            match (len, known) {
                (Some(0), None) => Ok(Piece::Empty),
                _ => Err(Failure::last(changed())),
            }
        }
        _ if known.is_some() => Err(failed("the server no longer sends parts of the file".to_owned())),
        _ => {
            // without a length or chunks, an answer that breaks off looks like one that ends
            let is_framed = response.version() >= Version::HTTP_2 || headers.contains_key(TRANSFER_ENCODING);
            match response.content_length() {
                None if !is_framed => Err(failed("the server does not say how long the file is".to_owned())),
                len => Ok(Piece::Whole { len, body: response }),
            }
        }
    }
}

/// First byte, end and all bytes of `bytes 0-99/1234`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, len) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    Some((start.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?, len.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_servers_say_them() {
        assert_eq!(content_range("bytes 0-99/1234"), Some((0, 100, 1234)));
        for bad in ["bytes 0-99/*", "bytes */1234", "0-99/1234", "bytes 0-18446744073709551615/5", "bytes a-b/c"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
