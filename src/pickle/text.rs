//! How pickles store strings, bytes and long integers, and how to read them back.

use std::borrow::Cow;

use num_bigint::BigInt;

/// How a text is stored in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Bytes as they are.
    Raw,
    /// UTF-8 in which lone surrogates may stand (`surrogatepass`).
    Utf8,
    /// A string of Python 2: bytes that are text in practice.
    Python2,
    /// The same as a quoted literal with escapes (opcode `STRING`, without its quotes).
    Python2Escaped,
    /// Latin-1 with `\uXXXX` escapes (opcode `UNICODE`).
    RawUnicodeEscape,
    /// Decimal digits.
    Decimal,
    /// A little-endian two's complement integer.
    TwosComplement,
}

/// The content of a stored text: see [`crate::pickle::Graph::text`].
pub(crate) fn content(raw: Cow<'_, [u8]>, encoding: Encoding) -> Cow<'_, [u8]> {
    match encoding {
        Encoding::Python2Escaped if raw.contains(&b'\\') => Cow::Owned(unescape_string(&raw)),
        Encoding::RawUnicodeEscape if !raw.is_ascii() || raw.contains(&b'\\') => {
            Cow::Owned(decode_raw_unicode_escape(&raw))
        }
        _ => raw,
    }
}

/// Content as text to show.
pub(crate) fn lossy(content: Cow<'_, [u8]>, encoding: Encoding) -> Cow<'_, str> {
    match content {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(lossy_owned(bytes, encoding)),
        },
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Cow::Owned(text),
            Err(e) => Cow::Owned(lossy_owned(e.as_bytes(), encoding)),
        },
    }
}

fn lossy_owned(bytes: &[u8], encoding: Encoding) -> String {
    if matches!(encoding, Encoding::Python2 | Encoding::Python2Escaped) {
        return bytes.iter().map(|b| char::from(*b)).collect();
    }
    code_points(bytes).map(|c| c.ok().unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The characters of UTF-8 in which surrogates may stand: `Err` holds a lone surrogate, or a byte (below 0x100) that
/// belongs to no character.
pub(crate) fn code_points(bytes: &[u8]) -> impl Iterator<Item = Result<char, u32>> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        let len = match first {
            0..0x80 => 1,
            0xc2..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf5 => 4,
            _ => 0,
        };
        if let Some((head, tail)) = rest.split_at_checked(len).filter(|(head, _)| !head.is_empty()) {
            if let Ok(text) = std::str::from_utf8(head) {
                rest = tail;
                return text.chars().next().map(Ok);
            }
            if let [0xed, second @ 0xa0..0xc0, third @ 0x80..0xc0] = *head {
                rest = tail;
                return Some(Err(0xd000 | (u32::from(second) & 0x3f) << 6 | u32::from(third) & 0x3f));
            }
        }
        rest = rest.get(1..).unwrap_or_default();
        Some(Err(u32::from(first)))
    })
}

/// Undoes the escapes of a Python 2 string literal (`codecs.escape_decode`).
pub(crate) fn unescape_string(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match bytes.next() {
            None => out.push(b'\\'),
            Some(b'\n') => {}
            Some(b'a') => out.push(7),
            Some(b'b') => out.push(8),
            Some(b't') => out.push(b'\t'),
            Some(b'n') => out.push(b'\n'),
            Some(b'v') => out.push(11),
            Some(b'f') => out.push(12),
            Some(b'r') => out.push(b'\r'),
            Some(c @ (b'\\' | b'\'' | b'"')) => out.push(c),
            Some(b'x') => {
                let mut value = 0u8;
                for _ in 0..2 {
                    if let Some(digit) = bytes.next_if(u8::is_ascii_hexdigit) {
                        value = value.wrapping_mul(16).wrapping_add(hex_value(digit));
                    }
                }
                out.push(value);
            }
            Some(c @ b'0'..=b'7') => {
                let mut value = c - b'0';
                for _ in 0..2 {
                    if let Some(digit) = bytes.next_if(|d| (b'0'..=b'7').contains(d)) {
                        value = value.wrapping_mul(8).wrapping_add(digit - b'0');
                    }
                }
                out.push(value);
            }
            Some(other) => out.extend([b'\\', other]),
        }
    }
    out
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

/// Undoes the `raw-unicode-escape` codec: Latin-1 in which `\uXXXX` and `\UXXXXXXXX` stand for characters when an odd
/// number of backslashes precedes the `u`. Gives UTF-8 with surrogates passed.
pub(crate) fn decode_raw_unicode_escape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b != b'\\' {
            push_code_point(&mut out, u32::from(b));
            continue;
        }
        let digits = match tail.first() {
            Some(b'u') => 4,
            Some(b'U') => 8,
            Some(b'\\') => {
                out.extend(*b"\\\\");
                rest = tail.get(1..).unwrap_or_default();
                continue;
            }
            _ => 0,
        };
        let parsed = (digits > 0)
            .then(|| tail.get(1..=digits))
            .flatten()
            .filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))
            .map(|hex| hex.iter().fold(0u32, |value, digit| value.wrapping_shl(4) | u32::from(hex_value(*digit))))
            .filter(|code| *code <= 0x10_ffff);
        match parsed {
            Some(code) => {
                push_code_point(&mut out, code);
                rest = tail.get(1 + digits..).unwrap_or_default();
            }
            None => out.push(b'\\'),
        }
    }
    out
}

/// Appends a code point as UTF-8, surrogates included.
pub fn push_code_point(out: &mut Vec<u8>, code: u32) {
    match char::from_u32(code) {
        Some(c) => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            let low = |shift: u32| u8::try_from(code >> shift & 0x3f).unwrap_or(0) | 0x80;
            out.extend([0xe0 | u8::try_from(code >> 12 & 0xf).unwrap_or(0), low(6), low(0)]);
        }
    }
}

/// The integer that a [`Encoding::Decimal`] or [`Encoding::TwosComplement`] text stands for.
pub fn big_integer(raw: &[u8], encoding: Encoding) -> Option<BigInt> {
    match encoding {
        Encoding::TwosComplement => Some(BigInt::from_signed_bytes_le(raw)),
        _ => BigInt::parse_bytes(raw, 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(raw: &[u8], encoding: Encoding) -> String {
        lossy(content(Cow::Borrowed(raw), encoding), encoding).into_owned()
    }

    #[test]
    fn the_encodings_of_all_protocols() {
        assert_eq!(show(b"\xe6\xa8\xa1", Encoding::Utf8), "模");
        assert_eq!(show(b"a\xed\xa0\x80b", Encoding::Utf8), "a\u{fffd}b");
        assert_eq!(show(b"caf\xe9", Encoding::Python2), "café");
        assert_eq!(show(br"\x00\n\\\'\101\q", Encoding::Python2Escaped), "\0\n\\'A\\q");
        assert_eq!(show(br"\u6a21 \\u6a21 \U0001f600 caf\x", Encoding::RawUnicodeEscape), "模 \\\\u6a21 😀 caf\\x");
        assert_eq!(show(b"caf\xe9", Encoding::RawUnicodeEscape), "café");
    }

    #[test]
    fn surrogates_keep_their_bytes() {
        assert_eq!(decode_raw_unicode_escape(br"\ud800"), b"\xed\xa0\x80");
        let points: Vec<_> = code_points(b"a\xed\xb3\x9f\xff\xe6").collect();
        assert_eq!(points, [Ok('a'), Err(0xdcdf), Err(0xff), Err(0xe6)]);
    }

    #[test]
    fn integers_of_any_size() {
        assert_eq!(big_integer(&[0xff; 9], Encoding::TwosComplement), Some(BigInt::from(-1)));
        assert_eq!(
            big_integer(b"1267650600228229401496703205376", Encoding::Decimal),
            Some(BigInt::from(1u128 << 100))
        );
    }
}
