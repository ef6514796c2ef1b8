//! `hf://owner/repo[@revision]/path`: files of the hub of Hugging Face, through the addresses from which its own library loads.
//!
//! Source: `huggingface_hub/file_download.py` (`hf_hub_url`), `constants.py` (environment variables), the hub's tree API.

use std::path::PathBuf;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, LINK};
use serde::Deserialize;

use super::trouble::{Failure, of_request};
use super::{Listed, engine};
use crate::error::{Error, ErrorKind, Result};
use crate::source::address::split;

/// The hub, where nothing else is set.
const ENDPOINT: &str = "https://huggingface.co";
/// What would help where the hub refuses.
pub(super) const LOGIN: &str = "set HF_TOKEN, or log in (`hf auth login`), and accept the model's terms on its page";
/// The longest list of files that is read, in bytes.
const MAX_LIST_BYTES: usize = 64 << 20;
/// What may stand before `owner/repo`, and what else than a model it means.
const KINDS: &[&str] = &["datasets", "spaces"];

/// An address of the hub, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// `models`, `datasets` or `spaces`.
    kind: &'static str,
    repo: String,
    revision: String,
    /// In the repository; empty for all of it.
    path: String,
}

/// Where a file lies, and the header that says who asks.
pub(super) fn file(address: &str) -> Result<(String, Option<String>)> {
    let place = place(address)?;
    let mut url = endpoint()?;
    {
        let mut parts = url.path_segments_mut().map_err(|()| no_endpoint())?;
        parts.pop_if_empty();
        parts.extend((place.kind != "models").then_some(place.kind));
        parts.extend(place.repo.split('/')).push("resolve").push(&place.revision).extend(place.path.split('/'));
    }
    Ok((url.into(), authorization()))
}

/// Whether an address is of a repository, and of no file in it.
pub(super) fn is_repository(address: &str) -> bool {
    place(address).is_ok_and(|place| place.path.is_empty())
}

/// A file or folder, as the hub lists it.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
}

/// What lies directly in a repository or a folder of it, in the order of the names.
pub(super) async fn list(address: &str) -> Result<Vec<Listed>, Failure> {
    let place = place(address).map_err(Failure::last)?;
    let mut url = endpoint().map_err(Failure::last)?;
    {
        let mut parts = url.path_segments_mut().map_err(|()| Failure::last(no_endpoint()))?;
        parts.pop_if_empty().push("api").push(place.kind).extend(place.repo.split('/'));
        parts.push("tree").push(&place.revision);
        parts.extend(place.path.split('/').filter(|part| !part.is_empty()));
    }
    let mut all = Vec::new();
    let mut next = Some(url);
    let mut read = 0;
    while let Some(url) = next.take() {
        let (entries, link, bytes) = page(&url).await?;
        read += bytes;
        if read > MAX_LIST_BYTES {
            return Err(Failure::last(Error::limit("the hub lists too many files")));
        }
        all.extend(entries.into_iter().map(|entry| Listed {
            name: entry.path.rsplit('/').next().unwrap_or_default().to_owned(),
            bytes: (entry.kind != "directory").then_some(entry.size),
        }));
        // further pages are on the same host
        next = link.and_then(|link| url.join(&link).ok()).filter(|link| link.origin() == url.origin());
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// One page of a list, where the next one is, and how long it was.
async fn page(url: &Url) -> Result<(Vec<Entry>, Option<String>, usize), Failure> {
    let say = |message: String| Error::new(ErrorKind::Io, message);
    let client = engine::CLIENT.as_ref().map_err(|e| Failure::last(say(e.clone())))?;
    let mut request = client.get(url.clone());
    if let Some(value) = authorization() {
        request = request.header(AUTHORIZATION, value);
    }
    let mut response = request.send().await.map_err(|e| of_request(&e))?;
    let status = response.status();
    if !status.is_success() {
        let error = say(format!("the hub does not list it (HTTP {})", status.as_u16()));
        return Err(match status.as_u16() {
            404 => Failure::refusal(
                say(format!("there is no such file or repository (HTTP {})", status.as_u16())).advise(LOGIN),
                true,
            ),
            401 | 403 => Failure::refusal(error.advise(LOGIN), false),
            429 | 500..=504 => Failure::passing(error),
            _ => Failure::last(error),
        });
    }
    let link = response.headers().get(LINK).and_then(|link| link.to_str().ok()).and_then(next_link).map(str::to_owned);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| of_request(&e))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_LIST_BYTES {
            return Err(Failure::last(Error::limit("the hub lists too many files")));
        }
    }
    let entries =
        serde_json::from_slice(&body).map_err(|e| Failure::last(say(format!("the hub's list is no list: {e}"))))?;
    Ok((entries, link, body.len()))
}

/// The address in `<…>; rel="next"`.
fn next_link(link: &str) -> Option<&str> {
    let part = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    part.split_once('<')?.1.split_once('>').map(|(address, _)| address)
}

fn place(address: &str) -> Result<Place> {
    let wrong =
        || Error::unsupported("is no address of the hub: use hf://owner/repo/path or hf://owner/repo@revision/path");
    let rest = split(address).map_or(address, |(_, rest)| rest).trim_end_matches('/');
    let kind = KINDS.iter().find(|kind| rest.strip_prefix(**kind).is_some_and(|rest| rest.starts_with('/')));
    let rest = kind.map_or(rest, |kind| rest.get(kind.len() + 1..).unwrap_or_default());
    let (owner, rest) = rest.split_once('/').ok_or_else(wrong)?;
    let (name, mut path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, revision) = match name.split_once('@') {
        None => (name, "main".to_owned()),
        // `refs/pr/3` and `refs/convert/parquet` have slashes in them
        Some((name, "refs")) => {
            let mut parts = path.splitn(3, '/');
            let (kind, number) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            path = parts.next().unwrap_or_default();
            (name, format!("refs/{kind}/{number}"))
        }
        Some((name, revision)) => (name, revision.replace("%2F", "/")),
    };
    if owner.is_empty() || name.is_empty() || revision.is_empty() {
        return Err(wrong());
    }
    let repo = format!("{owner}/{name}");
    Ok(Place { kind: kind.copied().unwrap_or("models"), repo, revision, path: path.to_owned() })
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn endpoint() -> Result<Url> {
    Url::parse(&set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned())).map_err(|_| no_endpoint())
}

fn no_endpoint() -> Error {
    Error::refused("HF_ENDPOINT is no address of a server")
}

/// The token of the environment, else the one that a login left.
fn authorization() -> Option<String> {
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    let file = || {
        let cache = || set("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        let hub = || set("HF_HOME").map(PathBuf::from).or_else(|| Some(cache()?.join("huggingface")));
        let path = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(hub()?.join("token")))?;
        std::fs::read_to_string(path).ok()
    };
    let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")).or_else(file)?;
    Some(token.trim()).filter(|token| !token.is_empty()).map(|token| format!("Bearer {token}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_hub() {
        let said = |address: &str| {
            let Place { kind, repo, revision, path } = place(address).unwrap();
            format!("{kind} {repo} {revision} {path}")
        };
        assert_eq!(said("hf://o/r"), "models o/r main ");
        assert_eq!(said("hf://o/r/a/b.pt"), "models o/r main a/b.pt");
        assert_eq!(said("hf://o/r@v1/b.pt"), "models o/r v1 b.pt");
        assert_eq!(said("hf://o/r@refs/pr/3/b.pt"), "models o/r refs/pr/3 b.pt");
        assert_eq!(said("hf://datasets/o/r@a%2Fb/x/y"), "datasets o/r a/b x/y");
        assert!(place("hf://o").is_err() && place("hf://o/@x/y").is_err() && place("hf:///r/x").is_err());
        assert!(is_repository("hf://o/r@v1/") && !is_repository("hf://o/r/x"));
    }

    #[test]
    fn links_to_the_next_page() {
        assert_eq!(next_link("<https://h/a?cursor=x>; rel=\"next\""), Some("https://h/a?cursor=x"));
        assert_eq!(next_link("<https://h/a>; rel=\"prev\""), None);
    }
}
