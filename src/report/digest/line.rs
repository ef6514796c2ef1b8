//! Lines of a list of digests, as `sha256sum` writes and reads them: `HEX  NAME`. A backslash before a line says that its
//! name is escaped: `\\`, `\n`, `\r`, and beyond what `sha256sum` does `\xHH` for every byte that is no Unicode or would not
//! be seen as what it is.

use std::borrow::Cow;
use std::fmt::Write;

use crate::render::escape::escape;

/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;

/// A line for a digest.
pub(super) fn of(digest: &str, name: &[u8]) -> String {
    let (escaped, name) = escaped(name);
    format!("{}{digest}  {name}", if escaped { "\\" } else { "" })
}

/// A line for what became of a name that a list has.
pub(super) fn verdict(name: &[u8], what: &str) -> String {
    let (escaped, name) = escaped(name);
    format!("{}{name}: {what}", if escaped { "\\" } else { "" })
}

fn escaped(name: &[u8]) -> (bool, Cow<'_, str>) {
    let is_plain = |text: &str| !text.contains('\\') && matches!(escape(text), Cow::Borrowed(_));
    if let Some(text) = std::str::from_utf8(name).ok().filter(|text| is_plain(text)) {
        return (false, Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(name.len() + 16);
    let bytes = |out: &mut String, bytes: &[u8]| {
        // writing into a string cannot fail
        bytes.iter().for_each(|byte| _ = write!(out, "\\x{byte:02x}"));
    };
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let text: &str = c.encode_utf8(&mut buffer);
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                _ if is_plain(text) => out.push(c),
                _ => bytes(&mut out, text.as_bytes()),
            }
        }
        bytes(&mut out, chunk.invalid());
    }
    (true, Cow::Owned(out))
}

/// What a line of a list says: the digest in lower case, and the bytes of the name. Nothing where it is no such line.
pub(crate) fn read(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let (is_escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (digest, rest) = line.split_at_checked(DIGITS)?;
    let name = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *")).filter(|name| !name.is_empty())?;
    if !digest.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digest = String::from_utf8_lossy(digest).to_ascii_lowercase();
    Some((digest, if is_escaped { unescaped(name)? } else { name.to_vec() }))
}

fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next()? {
            b'\\' => b'\\',
            b'n' => b'\n',
            b'r' => b'\r',
            b'x' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok().filter(|digits| !digits.starts_with('+'))?;
                u8::from_str_radix(digits, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn as_sha256sum_has_them() {
        assert_eq!(of(DIGEST, b"a b/c.pt"), format!("{DIGEST}  a b/c.pt"));
        // what sha256sum 9.1 writes for the file `a\b<newline>c`
        assert_eq!(of(DIGEST, b"a\\b\nc"), format!("\\{DIGEST}  a\\\\b\\nc"));
        assert_eq!(of(DIGEST, b"\xff\x1b[31m"), format!("\\{DIGEST}  \\xff\\x1b[31m"));
        assert_eq!(verdict(b"a\nb", "OK"), "\\a\\nb: OK");
        let upper = DIGEST.to_uppercase();
        assert_eq!(read(format!("{upper} *x").as_bytes()), Some((DIGEST.to_owned(), b"x".to_vec())));
    }

    #[test]
    fn what_is_no_line() {
        let lines = ["", "x", DIGEST, &format!("{DIGEST}  "), &format!("{DIGEST} x"), &format!("{}g  x", &DIGEST[1..])];
        for line in lines.into_iter().chain([&*format!("\\{DIGEST}  a\\q"), &format!("\\{DIGEST}  a\\x+1")]) {
            assert_eq!(read(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in prop::collection::vec(any::<u8>(), 1..20)) {
            let line = of(DIGEST, &name);
            prop_assert!(!line.contains('\n') && matches!(escape(&line), Cow::Borrowed(_)), "{line:?}");
            prop_assert_eq!(read(line.as_bytes()), Some((DIGEST.to_owned(), name)));
        }
    }
}
