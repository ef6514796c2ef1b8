//! JSON: one report is one compact object on one line. Characters that would move the cursor or change the direction of
//! writing are written as `\u` escapes, which say the same: a terminal may be what reads it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::escape::is_hostile;
use super::{Renderer, Report};

/// Writes reports for programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json;

impl Renderer for Json {
    fn render(&self, report: &dyn Report, out: &mut dyn Write) -> io::Result<()> {
        report.write_json(out)?;
        out.write_all(b"\n")
    }
}

/// Writes `value` compactly; what [`Report::write_json`] does for most reports.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, out: &mut dyn Write) -> io::Result<()> {
    let mut gathered = Gathered { bytes: Vec::with_capacity(GATHERED_BYTES), out };
    value.serialize(&mut Serializer::with_formatter(&mut gathered, Visible)).map_err(io::Error::from)?;
    gathered.hand_on()
}

/// Bytes that are handed on at once: JSON is made of fragments of a few bytes.
const GATHERED_BYTES: usize = 32 << 10;

struct Gathered<'a> {
    bytes: Vec<u8>,
    out: &'a mut dyn Write,
}

impl Gathered<'_> {
    fn hand_on(&mut self) -> io::Result<()> {
        self.out.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}

impl Write for Gathered<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > GATHERED_BYTES {
            self.hand_on()?;
        }
        match bytes {
            // quotes, colons and commas are most of the fragments
            [byte] => self.bytes.push(*byte),
            bytes => self.bytes.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_on()?;
        self.out.flush()
    }
}

/// Compact, with every hostile character escaped (serde_json itself escapes those below U+0020).
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        // names and dtypes: nearly all there is
        if fragment.bytes().fold(true, |plain, b| plain & (0x20..0x7f).contains(&b)) {
            return out.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hostile) {
            let (plain, tail) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut tail = tail.chars();
            for unit in tail.next().into_iter().flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec()) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = tail.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn hostile_characters_are_escaped_and_read_back_the_same() {
        let text = "a\u{202e}b\u{85}c\x7f\n\x1b模型🔥\u{e0041}\"\\";
        let mut out = Vec::new();
        super::write(text, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out, r#""a\u202eb\u0085c\u007f\n\u001b模型🔥\udb40\udc41\"\\""#);
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
    }
}
