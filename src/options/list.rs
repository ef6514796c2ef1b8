//! Lists that the command line names: of files, names, rules. `-` is standard input.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::report::figures::size;

/// Bytes of a list: a few million names.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// Whether a list is standard input.
pub(crate) fn is_stdin(list: &Path) -> bool {
    list.as_os_str() == "-"
}

/// The bytes of a list. Errors do not name it.
pub(crate) fn read(list: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let all = MAX_LIST_BYTES.saturating_add(1);
    match is_stdin(list) {
        false => fs::File::open(list)?.take(all).read_to_end(&mut bytes)?,
        true => io::stdin().lock().take(all).read_to_end(&mut bytes)?,
    };
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("has more than {}", size(MAX_LIST_BYTES))));
    }
    Ok(bytes)
}

/// The text of a list.
pub(crate) fn read_text(list: &Path) -> io::Result<String> {
    String::from_utf8(read(list)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is no UTF-8 text"))
}
