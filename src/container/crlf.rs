//! Zip archives in which a transfer as text changed each LF to CR LF: undone, when the checksums prove that this is all.

use std::io::Read;

use crate::container::spool::Spool;
use crate::container::zip::Zip;
use crate::error::Result;
use crate::limits::Limits;
use crate::source::{Cursor, SharedSource};

/// The archive as it was before, when every LF follows a CR and, without these, every member has a checksum that is right.
pub fn without_carriage_returns(source: &SharedSource, limits: &Limits) -> Result<Option<SharedSource>> {
    let mut head = [0; 4];
    if source.len() < 4 || source.read_at(0, &mut head).is_err() || head != *b"PK\x03\x04" {
        return Ok(None);
    }
    let mut undone = Undone { from: Cursor::new(SharedSource::clone(source)), held: false, changed: 0, is_text: true };
    let mut spool = Spool::new(source.len());
    spool.fill(&mut undone)?;
    if !undone.is_text || undone.changed == 0 {
        return Ok(None);
    }
    let restored = spool.finish()?;
    let Ok(zip) = Zip::salvage(SharedSource::clone(&restored), limits) else { return Ok(None) };
    let is_right = zip.damage.is_empty()
        && zip.trailing_bytes == 0
        && zip.members.iter().all(|member| member.doubt.is_none() && (member.size == 0 || member.crc32 != 0))
        && Zip::open(SharedSource::clone(&restored), limits).is_ok();
    Ok(is_right.then_some(restored))
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
    fn each_return_before_a_line_feed_goes() {
        let cases: &[(&[u8], &[u8])] =
            &[(b"a\r\nb\r\n", b"a\nb\n"), (b"\r\r\n\r", b"\r\n\r"), (b"\r\rx", b"\r\rx"), (b"", b""), (b"\r\n", b"\n")];
        for (bytes, expected) in cases {
            assert_eq!(undone(bytes), (expected.to_vec(), true));
        }
        assert!(!undone(b"a\nb").1 && !undone(b"\r\n\n").1);
    }
}
