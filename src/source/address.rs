//! Addresses of what lies elsewhere: `https://…`, `s3://…`, `gs://…`, `az://…`, `hf://…`.
//!
//! An address travels through the program as a path, so that a shard is `directory.join(name)` wherever it lies. What in it
//! may be secret does not: a query (signatures are queries) and a user's name and password are taken out where an address
//! comes in ([`given`]) and put back where it is opened ([`whole`]).

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// The services that have addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    /// A server of files.
    Http,
    /// Amazon's S3, and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
    /// The hub of Hugging Face.
    Hub,
}

/// Each scheme and its service.
const SCHEMES: &[(&str, Service)] = &[
    ("https", Service::Http),
    ("http", Service::Http),
    ("s3", Service::S3),
    ("gs", Service::Google),
    ("az", Service::Azure),
    ("hf", Service::Hub),
];

/// The addresses that were given with something secret: how they are shown, and all of them.
static GIVEN: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// The service and what comes after `://`; nothing for what is a path of this machine.
pub(crate) fn service(path: &Path) -> Option<Service> {
    let (scheme, _) = split(path.to_str()?)?;
    SCHEMES.iter().find(|(name, _)| *name == scheme).map(|(_, service)| *service)
}

/// What is wrong with the address of a service that is not known.
pub(crate) fn unknown(path: &Path) -> Option<Error> {
    let (scheme, _) = split(path.to_str()?)?;
    let known = SCHEMES.iter().map(|(name, _)| format!("{name}://")).collect::<Vec<_>>().join(", ");
    SCHEMES
        .iter()
        .all(|(name, _)| *name != scheme)
        .then(|| Error::unsupported(format!("cannot read from {scheme}:// (only from {known}); download it first")))
}

/// Whether a path is the address of something, known or not, and no path of this machine.
pub(crate) fn is_address(path: &Path) -> bool {
    path.to_str().is_some_and(|text| split(text).is_some())
}

/// What is wrong with an address as the place of an output.
pub(crate) fn not_written(path: &Path) -> Option<Error> {
    is_address(path).then(|| Error::unsupported("is an address, which is only read from; write to a file"))
}

/// Scheme and rest of what looks like an address.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, rest))
}

/// An argument as it may be shown: of an address in it (`URL`, `KEY=URL`, `URL::member`) what may be secret is kept aside.
pub(crate) fn given(argument: &OsStr) -> OsString {
    let Some(text) = argument.to_str() else { return argument.to_owned() };
    let found = SCHEMES.iter().filter_map(|(scheme, _)| text.find(&format!("{scheme}://"))).min();
    // `s3://` is found in `https3://`, and in the middle of what is no address
    let Some(at) = found.filter(|at| text.get(..*at).is_some_and(|before| before.is_empty() || before.ends_with('=')))
    else {
        return argument.to_owned();
    };
    let (before, address) = text.split_at(at);
    let (address, member) = address.split_at(address.find("::").unwrap_or(address.len()));
    let shown = without_secrets(address);
    if shown == address {
        return argument.to_owned();
    }
    let shown = register(shown, address);
    format!("{before}{shown}{member}").into()
}

/// Keeps an address by how it is shown: two that differ only in their query are told apart by a number.
fn register(shown: String, address: &str) -> String {
    let mut known = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut name = shown.clone();
    let mut number = 1_usize;
    loop {
        match known.iter().find(|(one, _)| *one == name) {
            None => {
                known.push((name.clone(), address.to_owned()));
                return name;
            }
            Some((_, same)) if same == address => return name,
            Some(_) => {
                number += 1;
                name = format!("{shown}#{number}");
            }
        }
    }
}

/// The address without its query, its fragment, and the user's name and password.
pub(crate) fn without_secrets(address: &str) -> String {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let address = address.get(..end).unwrap_or_default();
    match split(address) {
        Some((scheme @ ("http" | "https"), rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        _ => address.to_owned(),
    }
}

/// All of an address that is a path here.
#[cfg_attr(not(feature = "remote"), allow(dead_code))]
pub(crate) fn whole(path: &Path) -> Result<String> {
    let shown = path.to_str().ok_or_else(|| Error::unsupported("the address is no Unicode"))?;
    let known = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    match known.iter().find(|(one, _)| one == shown) {
        Some((_, address)) => Ok(address.clone()),
        // the name of a file that an index told: nothing in it begins a query
        None => Ok(shown.replace('?', "%3F").replace('#', "%23")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_kept_aside() {
        let shown = |text: &str| given(OsStr::new(text)).into_string().unwrap();
        for same in ["model.pth", "a?b", "https://h/a.pt", "s3://b/k", "--set=x", "ftp://h/?a", "x https://h/?a"] {
            assert_eq!(shown(same), same);
        }
        assert_eq!(shown("https://me:pw@h/a.pt?X-Sig=1"), "https://h/a.pt");
        assert_eq!(whole(Path::new("https://h/a.pt")).unwrap(), "https://me:pw@h/a.pt?X-Sig=1");
        assert_eq!(shown("https://me:pw@h/a.pt?X-Sig=1"), "https://h/a.pt");
        assert_eq!(shown("https://h/a.pt?X-Sig=2"), "https://h/a.pt#2");
        assert_eq!(whole(Path::new("https://h/a.pt#2")).unwrap(), "https://h/a.pt?X-Sig=2");
        assert_eq!(shown("g=https://h/b.zip?s=1::c.pt"), "g=https://h/b.zip::c.pt");
        assert_eq!(whole(Path::new("https://h/d/what?.pt")).unwrap(), "https://h/d/what%3F.pt");
    }

    #[test]
    fn addresses_and_paths() {
        let service = |text: &str| service(Path::new(text));
        assert_eq!(service("s3://bucket/key"), Some(Service::S3));
        assert_eq!(service("hf://o/r/f"), Some(Service::Hub));
        assert_eq!([service("model.pth"), service("c://x"), service("s3:/x"), service("ftp://x/y")], [None; 4]);
        assert!(unknown(Path::new("ftp://x/y")).unwrap().to_string().contains("hf://"));
        assert!(unknown(Path::new("a/b")).is_none() && unknown(Path::new("s3://b/k")).is_none());
    }
}
