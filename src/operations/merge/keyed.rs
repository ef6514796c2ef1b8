//! `KEY=INPUT` on the command line, where names of files may contain `=` too.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::layout::address;
use crate::source::address::is_address;

/// An argument taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed {
    /// The key; nothing for a bare input.
    pub key: Option<String>,
    /// The input.
    pub path: PathBuf,
}

/// Takes `[KEY=]INPUT` apart. What is there under the whole argument is an input; else the first `=` ends the key. Where both
/// could be meant, neither is.
pub(crate) fn taken_apart(argument: &OsStr) -> Result<Keyed> {
    let whole = Path::new(argument);
    let bare = || Keyed { key: None, path: whole.to_owned() };
    let Some((key, rest)) = split(argument) else { return Ok(bare()) };
    let shown = argument.to_string_lossy();
    let path = PathBuf::from(&rest);
    let is_file = is_there(whole);
    // a key that looks like a directory is the way to a file
    if is_file && (key.as_encoded_bytes().contains(&b'/') || !is_there(&path)) {
        return Ok(bare());
    }
    if is_file {
        let (key, rest) = (key.to_string_lossy(), rest.to_string_lossy());
        return Err(Error::refused(format!(
            "{shown}: both this and {rest} are files; use ./{shown} for the one, {key}=./{rest} for the other with a key"
        )));
    }
    if is_address(whole) {
        return Ok(bare());
    }
    if rest.is_empty() {
        return Err(Error::refused(format!("{shown}: no such file, and no INPUT behind the `=`")));
    }
    let Some(key) = key.to_str() else { return Err(Error::refused(format!("{shown}: a key is Unicode text"))) };
    if key.is_empty() {
        return Err(Error::refused(format!("{shown}: no such file, and no KEY before the `=`")));
    }
    if !is_there(&path) && !is_address(&path) {
        let message = format!("no such file, and neither is {} for the key {key:?}", path.display());
        return Err(Error::new(ErrorKind::Io, message).of_input(&shown));
    }
    Ok(Keyed { key: Some(key.to_owned()), path })
}

/// Whether something can be read there: a file or directory, a member of one, standard input.
fn is_there(path: &Path) -> bool {
    path.as_os_str() == "-" || path.exists() || address(path).is_some()
}

#[cfg(unix)]
fn split(argument: &OsStr) -> Option<(OsString, OsString)> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = argument.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let (key, rest) = (bytes.get(..at)?, bytes.get(at.checked_add(1)?..)?);
    Some((OsString::from_vec(key.to_vec()), OsString::from_vec(rest.to_vec())))
}

#[cfg(not(unix))]
fn split(argument: &OsStr) -> Option<(OsString, OsString)> {
    let (key, rest) = argument.to_str()?.split_once('=')?;
    Some((key.into(), rest.into()))
}
