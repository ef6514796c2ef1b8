//! What a transfer as text did to a file, undone: each LF had become CR LF, or each byte from 0x80 on two bytes of UTF-8.

use std::io::Read;

use crate::container::detect::{Framing, detect};
use crate::container::spool::Spool;
use crate::container::zip::Zip;
use crate::error::{ErrorKind, Result};
use crate::limits::Limits;
use crate::source::{Cursor, SharedSource};

/// What had happened, and the bytes as they were before.
pub(crate) type Undoing = (&'static str, SharedSource);

/// What each kind of transfer would have been made of, where the bytes can come from one.
pub(crate) fn undone(source: &SharedSource) -> Result<Vec<Undoing>> {
    let mut found = Vec::new();
    let from = || Cursor::new(SharedSource::clone(source));
    let mut returns = Undone { from: from(), held: false, changed: 0, is_text: true };
    let mut spool = Spool::new(source.len());
    spool.fill(&mut returns)?;
    if returns.is_text && returns.changed > 0 {
        found.push(("a transfer had changed each LF to CR LF", spool.finish()?));
    }
    let mut characters = Latin { from: from(), lead: None, changed: 0, is_text: true };
    let mut spool = Spool::new(source.len());
    spool.fill(&mut characters)?;
    if characters.is_text && characters.lead.is_none() && characters.changed > 0 {
        found.push(("a transfer had read the file as Latin-1 text and written it as UTF-8", spool.finish()?));
    }
    Ok(found)
}

/// Whether an archive is whole as it is: every member has a checksum that is right. Nothing for what is no archive.
pub(crate) fn is_whole_archive(source: &SharedSource, limits: &Limits) -> Result<Option<bool>> {
    match detect(source.as_ref()) {
        Ok(Framing::Zip) => {}
        Err(e) if e.kind() == ErrorKind::Io => return Err(e),
        _ => return Ok(None),
    }
    let Ok(zip) = Zip::salvage(SharedSource::clone(source), limits) else { return Ok(Some(false)) };
    let is_right = zip.damage.is_empty()
        && zip.trailing_bytes == 0
        && zip.members.iter().all(|member| member.doubt.is_none() && (member.size == 0 || member.crc32 != 0))
        && Zip::open(SharedSource::clone(source), limits).is_ok();
    Ok(Some(is_right))
}

/// The bytes that characters up to U+00FF stand for; ends at any other character, and at what is no UTF-8.
struct Latin<R> {
    from: R,
    /// The first byte of a character whose second one has not been read.
    lead: Option<u8>,
    changed: u64,
    is_text: bool,
}

impl<R: Read> Read for Latin<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let mut block = vec![0; out.len().min(64 << 10)];
        while self.is_text && !block.is_empty() {
            let read = self.from.read(&mut block)?;
            let mut places = out.iter_mut();
            let mut written = 0;
            for byte in block.iter().take(read) {
                let made = match (self.lead.take(), byte) {
                    (None, ..=0x7f) => *byte,
                    (None, 0xc2 | 0xc3) => {
                        self.lead = Some(*byte);
                        continue;
                    }
                    (Some(lead), 0x80..=0xbf) => {
                        self.changed += 1;
                        (lead & 3) << 6 | byte & 0x3f
                    }
                    _ => {
                        self.is_text = false;
                        return Ok(0);
                    }
                };
                if let Some(place) = places.next() {
                    *place = made;
                    written += 1;
                }
            }
            if written > 0 || read == 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }
}

/// Bytes without the CR before each LF; ends at an LF without one.
struct Undone<R> {
    from: R,
    /// A CR that was read last.
    held: bool,
    changed: u64,
    is_text: bool,
}

impl<R: Read> Read for Undone<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        // one byte may be held back, and one more given
        let room = out.len().saturating_sub(1);
        let mut block = vec![0; room.min(64 << 10)];
        while self.is_text && !block.is_empty() {
            let read = self.from.read(&mut block)?;
            if read == 0 {
                let Some(last) = out.first_mut().filter(|_| std::mem::take(&mut self.held)) else { return Ok(0) };
                *last = b'\r';
                return Ok(1);
            }
            let mut places = out.iter_mut();
            let mut written = 0;
            let mut put = |byte: u8| {
                if let Some(place) = places.next() {
                    *place = byte;
                    written += 1;
                }
            };
            for byte in block.iter().take(read) {
                let after_return = std::mem::take(&mut self.held);
                match byte {
                    b'\n' if !after_return => {
                        self.is_text = false;
                        return Ok(0);
                    }
                    b'\n' => self.changed += 1,
                    _ if after_return => put(b'\r'),
                    _ => {}
                }
                if *byte == b'\r' { self.held = true } else { put(*byte) }
            }
            if written > 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undone(bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut undone = Undone { from: bytes, held: false, changed: 0, is_text: true };
        let mut out = Vec::new();
        undone.read_to_end(&mut out).unwrap();
        (out, undone.is_text)
    }

    #[test]
    fn characters_are_bytes_again() {
        let all: Vec<u8> = (0..=255).collect();
        let text: String = all.iter().map(|byte| char::from(*byte)).collect();
        let latin = |bytes: &[u8]| {
            let mut latin = Latin { from: bytes, lead: None, changed: 0, is_text: true };
            let mut out = Vec::new();
            latin.read_to_end(&mut out).unwrap();
            (out, latin.is_text && latin.lead.is_none())
        };
        assert_eq!(latin(text.as_bytes()), (all, true));
        assert!(!latin("\u{100}".as_bytes()).1 && !latin(b"a\xc3").1 && !latin(b"\x80").1 && !latin(b"\xc2a").1);
    }

    #[test]
    fn each_return_before_a_line_feed_goes() {
        let cases: &[(&[u8], &[u8])] =
            &[(b"a\r\nb\r\n", b"a\nb\n"), (b"\r\r\n\r", b"\r\n\r"), (b"\r\rx", b"\r\rx"), (b"", b""), (b"\r\n", b"\n")];
        for (bytes, expected) in cases {
            assert_eq!(undone(bytes), (expected.to_vec(), true));
        }
        assert!(!undone(b"a\nb").1 && !undone(b"\r\n\n").1);
    }
}
