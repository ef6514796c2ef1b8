//! What a transfer as text does to a file, told by the traces that it leaves: looked for when a file cannot be read.

use memchr::memmem;

use super::{Framing, detect, is_known_start, look};
use crate::error::{Error, ErrorKind, Result};
use crate::pickle::opcode as op;
use crate::source::{MemorySource, Source, read_vec};

/// How much is looked at.
const HEAD_BYTES: u64 = 4 << 20;
/// Each line feed after a carriage return by chance is one in 256.
const MIN_LINES: usize = 3;
/// Text has no such characters, two by chance are few.
const MIN_CHARACTERS: usize = 2;
/// Characters of base64 that are decoded to see what they are.
const BASE64_CHARS: usize = 96;

/// The error of a file that cannot be read, with the cause where the bytes tell it.
pub(crate) fn explain(e: Error, source: &dyn Source) -> Error {
    if !matches!(e.kind(), ErrorKind::Malformed | ErrorKind::Truncated | ErrorKind::NotACheckpoint) {
        return e;
    }
    match cause(source, e.kind()) {
        Ok(Some(cause)) => Error::new(e.kind(), cause).advise("get the file again, in binary mode"),
        Ok(None) => e,
        Err(of_reading) => of_reading,
    }
}

/// What a transfer as text did to a file that can be read all the same, where the bytes tell it.
pub(crate) fn of_transfer(source: &dyn Source) -> Result<Option<&'static str>> {
    cause(source, ErrorKind::Malformed)
}

/// Where a legacy stream begins that other bytes were put before: a server's headers, another file's end.
pub(crate) fn embedded_start(source: &dyn Source) -> Result<Option<u64>> {
    let Some(head) = of_unknown(source)? else { return Ok(None) };
    let Some(at) = memmem::find(&head, LEGACY_MAGIC).filter(|at| *at > 0) else { return Ok(None) };
    let (before, rest) = head.split_at(at);
    let (at, least) = (at as u64, rest.len().min(LEGACY_MAGIC.len()) as u64);
    // a byte string in a pickle is no file that something came before
    let is_string = pickled_lengths(before).into_iter().any(|len| len >= least && len <= source.len() - at);
    Ok(Some(at).filter(|_| !is_string))
}

/// The lengths that opcodes before a byte string may state, which ends what is given.
pub(in crate::container) fn pickled_lengths(head: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    if let [.., op::BINBYTES8 | op::BYTEARRAY8, a, b, c, d, e, f, g, h] = *head {
        found.push(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
    if let [.., op::BINBYTES | op::BINSTRING, a, b, c, d] = *head {
        found.push(u64::from(u32::from_le_bytes([a, b, c, d])));
    }
    if let [.., op::SHORT_BINBYTES | op::SHORT_BINSTRING, len] = *head {
        found.push(u64::from(len));
    }
    found
}

/// Whether a file that does not begin as one holds a zip archive: bytes were put before it, or its first ones are lost.
pub(crate) fn holds_zip(source: &dyn Source) -> Result<bool> {
    let Some(head) = of_unknown(source)? else { return Ok(false) };
    let found = memmem::find_iter(&head, b"PK\x03\x04").any(|at| is_member(head.get(at..).unwrap_or_default()));
    Ok(found)
}

/// The first bytes of a file that they say nothing of.
fn of_unknown(source: &dyn Source) -> Result<Option<Vec<u8>>> {
    let head = read_vec(source, 0, source.len().min(HEAD_BYTES))?;
    // text goes before what is none
    let is_unknown = match look(&head, &[], source.len()) {
        None => true,
        Some(framing) => framing.is_err_and(|e| e.kind() == ErrorKind::NotACheckpoint),
    };
    Ok(is_unknown.then_some(head))
}

/// The pickle of the legacy stream's magic number, as `torch/serialization.py` has it written.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// No version of the zip format and no method has a number like that.
const NO_NUMBER: u16 = 100;

/// Whether a local header may be that of a member.
fn is_member(header: &[u8]) -> bool {
    let half =
        |at: usize| header.get(at..).and_then(|rest| rest.first_chunk()).map_or(u16::MAX, |n| u16::from_le_bytes(*n));
    let name = header.get(30..).and_then(|rest| rest.get(..usize::from(half(26)))).unwrap_or_default();
    half(4) < NO_NUMBER && half(8) < NO_NUMBER && !name.is_empty() && std::str::from_utf8(name).is_ok()
}

fn cause(source: &dyn Source, kind: ErrorKind) -> Result<Option<&'static str>> {
    let head = read_vec(source, 0, source.len().min(HEAD_BYTES))?;
    let framing = look(&head, &[], source.len());
    // what is known to be something else, and an archive of other things, have errors of their own
    if framing.is_some() && kind == ErrorKind::NotACheckpoint {
        return Ok(None);
    }
    // a web page is text, and its error says so
    if !head.contains(&0) && !matches!(head.as_slice(), [0x80, ..] | [0xc2, 0x80, ..] | [0xef, 0xbf, 0xbd, ..]) {
        return Ok(None);
    }
    let may_hold_text = match framing {
        Some(Ok(Framing::Tar)) => true,
        Some(Ok(Framing::Zip)) => kind == ErrorKind::Truncated,
        _ => false,
    };
    Ok(as_utf8(&head).or_else(|| {
        let says = "was changed in a transfer as text: every LF byte in it became CR LF";
        every_line_feed_follows_a_return(&head, may_hold_text).then_some(says)
    }))
}

/// Where the lines may be those of text files in an archive, one at least must stand beside what is no text.
fn every_line_feed_follows_a_return(head: &[u8], may_hold_text: bool) -> bool {
    let is_text = |at: Option<usize>| {
        let byte = at.and_then(|at| head.get(at));
        byte.is_none_or(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
    };
    let mut lines = 0;
    let mut beside_binary = !may_hold_text;
    for at in memchr::memchr_iter(b'\n', head) {
        if at.checked_sub(1).and_then(|before| head.get(before)) != Some(&b'\r') {
            return false;
        }
        lines += 1;
        beside_binary |= !is_text(at.checked_sub(2)) || !is_text(at.checked_add(1));
    }
    lines >= MIN_LINES && beside_binary
}

/// Binary data that is UTF-8 all the same was made so.
fn as_utf8(head: &[u8]) -> Option<&'static str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // the window may end inside a character
        Err(e) if head.len() as u64 == HEAD_BYTES && e.valid_up_to() + 4 > head.len() => {
            std::str::from_utf8(head.get(..e.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    if text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count() >= MIN_CHARACTERS {
        return Some(
            "was read as text and written again: each byte that was no UTF-8 became EF BF BD, which nothing can undo",
        );
    }
    // control characters from 0x80 on are in no text
    if text.chars().filter(|c| matches!(c, '\u{80}'..='\u{9f}')).count() < MIN_CHARACTERS {
        return None;
    }
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c))).collect::<Result<_, _>>().ok()?;
    let was = detect(&MemorySource::new(bytes));
    was.is_ok().then_some(
        "was read as Latin-1 text and written as UTF-8: each byte from 0x80 on became two; `iconv -f UTF-8 -t LATIN1` \
         undoes that",
    )
}

/// Whether text is the base64 form of a checkpoint, by its first bytes.
pub(super) fn is_base64(text: &[u8]) -> bool {
    let body = match text.strip_prefix(b"data:") {
        Some(rest) => rest.split(|byte| *byte == b',').nth(1).unwrap_or_default(),
        None => text,
    };
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in body.iter().filter(|byte| !byte.is_ascii_whitespace()).take(BASE64_CHARS) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => return false,
        };
        bits = bits << 6 & 0xff_ffff | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    bytes.len() >= 8 && is_known_start(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(bytes: &[u8]) -> Option<&'static str> {
        cause(&MemorySource::new(bytes.to_vec()), ErrorKind::Malformed).unwrap()
    }

    #[test]
    fn line_feeds_must_all_follow_returns() {
        assert!(says(b"PK\x03\x04\0\r\n\x01\r\n\x02\r\n").unwrap().contains("CR LF"));
        assert_eq!(says(b"PK\x03\x04\0\r\n\x01\r\n\x02\n"), None);
        assert_eq!(says(b"PK\x03\x04\0\r\n\x01\r\n"), None);
        // text with the line ends of Windows
        assert_eq!(says(b"a\r\nb\r\nc\r\nd\r\n"), None);
    }

    #[test]
    fn what_stands_before_a_checkpoint() {
        let start = |bytes: &[u8]| embedded_start(&MemorySource::new(bytes.to_vec())).unwrap();
        let header = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\0\0\0a/data.pkl";
        let zip = |bytes: &[u8]| holds_zip(&MemorySource::new(bytes.to_vec())).unwrap();
        assert!(zip(&[b"HTTP/1.1 200 OK\r\n\r\n", &header[..]].concat()));
        assert_eq!(start(&[&[0, 1, 2, 0xff], LEGACY_MAGIC].concat()), Some(4));
        assert!(!zip(header) && !zip(b"text") && !zip(b"\0\0PK\x03\x04\0") && start(b"text").is_none());
    }

    #[test]
    fn bytes_made_utf_8_are_told() {
        assert!(says(b"\xef\xbf\xbd\x02}q\0\xef\xbf\xbd").unwrap().contains("EF BF BD"));
        assert!(says(b"\xc2\x80\x02}q\0K\xc2\x90").unwrap().contains("iconv"));
        // a name with accents, and data of small numbers
        assert_eq!(says("\u{1}\0\0\0\0\0\0\0{\"\u{e9}\u{e8}\u{fc}\"".as_bytes()), None);
        assert_eq!(says(b"\x80\x02}q\0K\x90."), None);
    }

    #[test]
    fn base64_of_a_checkpoint() {
        assert!(is_base64(b"UEsDBAAACAgAAAAAAAAAAAAAAAAA"));
        assert!(is_base64(b"data:application/octet-stream;base64,gAJ9cQAoWAEAAABh"));
        assert!(!is_base64(b"SGVsbG8gd29ybGQsIHRoaXMgaXMgdGV4dA=="));
        assert!(!is_base64(b"UEsDBA, and more text"));
    }
}
