//! Names of files that are no Unicode, for JSON: `file` shows them with replacements, `file_bytes` has them as they are.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The bytes of a name in base64; nothing where it is UTF-8 and needs none.
pub(crate) fn file_bytes(name: &Path) -> Option<String> {
    match name.to_str() {
        Some(_) => None,
        None => Some(STANDARD.encode(name.as_os_str().as_encoded_bytes())),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn only_what_is_no_unicode_has_bytes() {
        assert_eq!(file_bytes(Path::new("é.pt")), None);
        assert_eq!(file_bytes(Path::new(OsStr::from_bytes(b"\xff.pt"))).as_deref(), Some("/y5wdA=="));
    }
}
