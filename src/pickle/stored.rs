//! The content of a stored byte string as a source: raw ones are a window, encoded ones are decoded while they are read.
//!
//! Before protocol 3 there was no opcode for bytes: Python 3 writes `_codecs.encode(u'…', 'latin1')`, so that every byte
//! above 0x7f takes two, and Python 2 writes its strings, raw or as a literal. Arrays of gigabytes come that way.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::pickle::graph::{Graph, TextId};
use crate::pickle::text::Encoding;
use crate::source::{MemorySource, SharedSource, Source, Window, past_end};

/// The bytes that a text stands for when it is taken as data (a `str` as Latin-1). `len` is how many there should be,
/// where the caller knows; without it an encoded text is read once to count them.
pub(crate) fn bytes_of(graph: &Graph, text: TextId, len: Option<u64>) -> Result<SharedSource> {
    let encoding = graph.encoding(text);
    let Some((stream, at, stored)) = graph.place(text) else {
        return Ok(std::sync::Arc::new(MemorySource::new(graph.raw_text(text)?.into_owned())));
    };
    let inner = graph.stream(stream).ok_or_else(|| Error::malformed("no such stream"))?;
    let window = Window::shared(inner, at, stored)?;
    let style = match encoding {
        Encoding::Raw | Encoding::Python2 if len.is_some_and(|len| stored > len) => {
            let message = format!("{stored} bytes stand for {} bytes of data", len.unwrap_or(0));
            return Err(Error::data(message).at(inner.absolute(at)));
        }
        Encoding::Raw | Encoding::Python2 => return Ok(window),
        Encoding::Utf8 => Style::Utf8,
        Encoding::RawUnicodeEscape => Style::RawUnicodeEscape,
        Encoding::Python2Escaped => Style::Escaped,
        Encoding::Decimal | Encoding::TwosComplement => return Err(Error::malformed("a number is no byte string")),
    };
    let mut source = Encoded { inner: window, style, len: len.unwrap_or(u64::MAX), marks: Mutex::new(vec![(0, 0)]) };
    // the longest form of a byte is `\u00e9` or `\xe9`; a text that cannot hold so many bytes is short
    if len.is_some_and(|len| len > stored || len < stored / style.longest()) {
        let message = format!("{stored} encoded bytes cannot stand for {} bytes of data", source.len);
        return Err(Error::data(message).at(inner.absolute(at)));
    }
    if len.is_none() {
        source.len = source.count()?;
    }
    Ok(std::sync::Arc::new(source))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    Utf8,
    RawUnicodeEscape,
    Escaped,
}

impl Style {
    fn longest(self) -> u64 {
        match self {
            Style::Utf8 => 2,
            Style::RawUnicodeEscape => 10,
            Style::Escaped => 4,
        }
    }
}

/// Encoded bytes with known places (decoded, encoded) to start from.
#[derive(Debug)]
struct Encoded {
    inner: SharedSource,
    style: Style,
    len: u64,
    marks: Mutex<Vec<(u64, u64)>>,
}

const BLOCK: u64 = 256 << 10;
const MARK_EVERY: u64 = 1 << 20;

impl Encoded {
    fn count(&self) -> Result<u64> {
        let mut total = 0;
        let mut at = 0;
        while at < self.inner.len() {
            let (decoded, used) = self.block(at)?;
            total += decoded.len() as u64;
            at += used;
            self.mark(total, at);
        }
        Ok(total)
    }

    fn mark(&self, decoded: u64, encoded: u64) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.last().is_none_or(|last| decoded >= last.0 + MARK_EVERY) {
            marks.push((decoded, encoded));
        }
    }

    fn nearest(&self, decoded: u64) -> (u64, u64) {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let after = marks.partition_point(|mark| mark.0 <= decoded);
        after.checked_sub(1).and_then(|i| marks.get(i).copied()).unwrap_or((0, 0))
    }

    /// Decodes a block that begins at `at`; gives the bytes and how much of the encoded text they took.
    fn block(&self, at: u64) -> Result<(Vec<u8>, u64)> {
        let take = (self.inner.len() - at).min(BLOCK);
        let raw = crate::source::read_vec(self.inner.as_ref(), at, take)?;
        let last = at + take == self.inner.len();
        let mut out = Vec::with_capacity(raw.len());
        let mut rest = raw.as_slice();
        while let Some(&first) = rest.first() {
            // an escape or a character is never split: leave it to the next block
            if !last && rest.len() < 12 {
                break;
            }
            let used = match (self.style, first) {
                (_, b) if b != b'\\' && (b < 0x80 || self.style != Style::Utf8) => {
                    out.push(b);
                    1
                }
                (Style::Utf8, b'\\') => {
                    out.push(b'\\');
                    1
                }
                (Style::Utf8, lead @ (0xc2 | 0xc3)) => match rest.get(1) {
                    Some(next @ 0x80..0xc0) => {
                        out.push((lead & 3) << 6 | next & 0x3f);
                        2
                    }
                    _ => return Err(self.bad(at + (raw.len() - rest.len()) as u64)),
                },
                (Style::RawUnicodeEscape, _) => {
                    let len = match rest.get(1) {
                        Some(b'u') => 6,
                        Some(b'U') => 10,
                        Some(b'\\') => 2,
                        _ => 1,
                    };
                    let head = rest.get(..len).unwrap_or(rest);
                    let decoded = crate::pickle::text::decode_raw_unicode_escape(head);
                    for point in crate::pickle::text::code_points(&decoded) {
                        let byte = point.ok().and_then(|c| u8::try_from(u32::from(c)).ok());
                        out.push(byte.ok_or_else(|| self.bad(at + (raw.len() - rest.len()) as u64))?);
                    }
                    head.len()
                }
                (Style::Escaped, _) => {
                    let len = match rest.get(1) {
                        Some(b'x') => 2 + rest.iter().skip(2).take(2).take_while(|b| b.is_ascii_hexdigit()).count(),
                        Some(b'0'..=b'7') => {
                            1 + rest.iter().skip(1).take(3).take_while(|b| (b'0'..=b'7').contains(b)).count()
                        }
                        _ => 2,
                    };
                    let head = rest.get(..len).unwrap_or(rest);
                    out.extend(crate::pickle::text::unescape_string(head));
                    head.len()
                }
                _ => return Err(self.bad(at + (raw.len() - rest.len()) as u64)),
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok((out, (raw.len() - rest.len()) as u64))
    }

    fn bad(&self, at: u64) -> Error {
        Error::data("a character that is no byte in a string of data").at(self.inner.absolute(at))
    }
}

impl Source for Encoded {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(past_end(self, offset, buf.len() as u64));
        }
        let (mut decoded_at, mut encoded_at) = self.nearest(offset);
        let len = buf.len() as u64;
        let mut rest = buf;
        while !rest.is_empty() {
            if encoded_at >= self.inner.len() {
                let message = format!("the string of data ends after {decoded_at} bytes, {} were promised", self.len);
                return Err(Error::data(message).at(self.inner.absolute(encoded_at)));
            }
            let (decoded, used) = self.block(encoded_at)?;
            let next = decoded_at + decoded.len() as u64;
            let wanted = offset.max(decoded_at);
            if wanted < next {
                let skip = usize::try_from(wanted - decoded_at).unwrap_or(usize::MAX);
                let part = decoded.get(skip..).unwrap_or_default();
                // what was filled before this block ends where this block begins
                let take = part.len().min(rest.len());
                let (now, later) = rest.split_at_mut(take);
                now.copy_from_slice(part.get(..take).unwrap_or_default());
                rest = later;
            }
            (decoded_at, encoded_at) = (next, encoded_at + used);
            self.mark(decoded_at, encoded_at);
        }
        let is_end = offset + len == self.len;
        if is_end && (decoded_at > self.len || encoded_at < self.inner.len()) {
            let message = format!("the string of data goes on after the {} bytes that were promised", self.len);
            return Err(Error::data(message).at(self.inner.absolute(encoded_at)));
        }
        Ok(())
    }

    fn absolute(&self, _offset: u64) -> u64 {
        self.inner.absolute(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pickle::graph::Node;
    use std::sync::Arc;

    /// `bytes` as the string opcode `head` stores them (`line`: with a newline after), read back through the graph.
    fn source(stored: &[u8], encoding: Encoding, len: Option<u64>) -> Result<SharedSource> {
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::new(MemorySource::new(stored.to_vec())), "");
        let text = graph.add_text(stream, 0, stored.len() as u64, None, encoding).unwrap();
        graph.push(Node::Str(text)).unwrap();
        bytes_of(&graph, text, len)
    }

    #[test]
    fn a_long_latin1_array_reads_at_any_place() {
        let data: Vec<u8> = (0..3_000_000u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
        let text: String = data.iter().map(|b| char::from(*b)).collect();
        for source in [
            source(text.as_bytes(), Encoding::Utf8, Some(3_000_000)).unwrap(),
            source(text.as_bytes(), Encoding::Utf8, None).unwrap(),
        ] {
            assert_eq!(source.len(), 3_000_000);
            for at in [2_999_000usize, 0, 1_234_567, 262_143, 1_048_576] {
                let mut buf = [0; 1000];
                source.read_at(at as u64, &mut buf).unwrap();
                assert_eq!(buf, data[at..at + 1000], "{at}");
            }
        }
    }

    #[test]
    fn escapes_of_protocol_0() {
        let s = source(br"\x00\xff\n'A\\ \'\101", Encoding::Python2Escaped, None).unwrap();
        assert_eq!(crate::source::read_vec(s.as_ref(), 0, s.len()).unwrap(), b"\x00\xff\n'A\\ 'A");
        let s = source(b"\\u0000\\u000a\xe9\\u005cx", Encoding::RawUnicodeEscape, None).unwrap();
        assert_eq!(crate::source::read_vec(s.as_ref(), 0, s.len()).unwrap(), b"\0\n\xe9\\x");
    }

    #[test]
    fn what_is_no_byte_string() {
        assert!(source("模".as_bytes(), Encoding::Utf8, None).is_err());
        assert!(source(b"abc", Encoding::Utf8, Some(4)).is_err(), "too short");
        assert!(source(b"abcdefgh", Encoding::Utf8, Some(3)).is_err(), "too long");
        assert!(source(b"abc", Encoding::Raw, Some(2)).is_err(), "too long");
        let long = source(br"\u0041\u0042c", Encoding::RawUnicodeEscape, Some(2)).unwrap();
        long.read_at(0, &mut [0; 1]).unwrap();
        assert!(long.read_at(0, &mut [0; 2]).unwrap_err().to_string().contains("goes on after the 2 bytes"));
        let short = source("éé".as_bytes(), Encoding::Utf8, Some(3)).unwrap();
        assert!(short.read_at(0, &mut [0; 3]).unwrap_err().to_string().contains("ends after 2 bytes"));
    }
}
