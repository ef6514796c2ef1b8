//! The members of an archive by their local headers alone, for one whose directory is missing or not to be trusted.
//!
//! torch writes local headers without sizes (APPNOTE 4.4.4, bit 3): a member then ends at the data descriptor that
//! tells exactly the bytes between, and what the file's end cuts off is incomplete.

use std::sync::Arc;

use flate2::bufread::DeflateDecoder;
use std::io::BufReader;

use super::LOCAL_HEADER_BYTES;
use crate::container::spool::Spool;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{Cursor, SharedSource, Window, read_vec};

const LOCAL_HEADER: [u8; 4] = *b"PK\x03\x04";
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
const SIZES_FOLLOW: u16 = 8;
const BLOCK: u64 = 1 << 20;

/// A member as its local header tells it. Offsets and sizes are in bytes of the file.
#[derive(Debug, Clone)]
pub struct LocalMember {
    /// The name.
    pub name: String,
    /// Where the local header starts.
    pub header_start: u64,
    /// Where its data starts.
    pub data_start: u64,
    /// Bytes of data in the file; of an incomplete one, those that are left.
    pub compressed_size: u64,
    /// Bytes once inflated, where the archive says.
    pub size: Option<u64>,
    /// The CRC-32 as stored, where the archive says.
    pub crc32: Option<u32>,
    /// Compression method: 0 stored, 8 deflated.
    pub method: u16,
    /// Whether all of it is there.
    pub is_complete: bool,
}

impl LocalMember {
    /// The data, inflated. Fails for other methods, and for what inflates to more than [`Limits::expanded_for`].
    pub fn data(&self, source: &SharedSource, limits: &Limits) -> Result<SharedSource> {
        let stored = Window::shared(source, self.data_start, self.compressed_size)?;
        match self.method {
            0 => Ok(stored),
            8 => {
                let mut spool = Spool::new(limits.expanded_for(self.compressed_size));
                let mut inflated =
                    DeflateDecoder::new(BufReader::with_capacity(64 << 10, Cursor::new(Arc::clone(&stored))));
                match spool.fill(&mut inflated) {
                    Err(e) if self.is_complete => return Err(e.into()),
                    // of an incomplete member, what inflates
                    _ => {}
                }
                spool.finish()
            }
            method => Err(Error::unsupported(format!("is compressed with method {method}"))),
        }
    }
}

/// Every member that a local header announces, in the order of the file. Where a member does not end at another header,
/// the next one is looked for.
pub fn local_members(source: &SharedSource, limits: &Limits) -> Result<Vec<LocalMember>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = find(source, at, LOCAL_HEADER, &mut |_| Ok(true))? {
        if found.len() as u64 >= limits.max_members {
            return Err(Error::limit(format!("has more than {} members", limits.max_members)));
        }
        at = match local_member(source, start)? {
            Some((member, end)) => {
                found.push(member);
                end
            }
            None => start + 4,
        };
    }
    Ok(found)
}

fn local_member(source: &SharedSource, start: u64) -> Result<Option<(LocalMember, u64)>> {
    let Ok(header) = read_vec(source.as_ref(), start, LOCAL_HEADER_BYTES.min(source.len() - start)) else {
        return Ok(None);
    };
    let half = |at: usize| header.get(at..).and_then(|rest| rest.first_chunk()).map(|n| u16::from_le_bytes(*n));
    let word = |at: usize| header.get(at..).and_then(|rest| rest.first_chunk()).map(|n| u32::from_le_bytes(*n));
    let (Some(flags), Some(method), Some(name), Some(extra)) = (half(6), half(8), half(26), half(28)) else {
        return Ok(None);
    };
    let name_start = start + LOCAL_HEADER_BYTES;
    let data_start = name_start + u64::from(name) + u64::from(extra);
    if data_start > source.len() {
        return Ok(None);
    }
    let name = read_vec(source.as_ref(), name_start, u64::from(name))?;
    let left = source.len() - data_start;
    let mut member = LocalMember {
        name: String::from_utf8_lossy(&name).into_owned(),
        header_start: start,
        data_start,
        compressed_size: left,
        size: None,
        crc32: None,
        method,
        is_complete: false,
    };
    if flags & SIZES_FOLLOW == 0 {
        let stored = word(18).map_or(0, u64::from);
        member.size = word(22).map(u64::from);
        member.crc32 = word(14);
        member.is_complete = stored <= left;
        member.compressed_size = stored.min(left);
        let end = data_start + member.compressed_size;
        return Ok(Some((member, end)));
    }
    let mut sizes = None;
    let end = find(source, data_start, DESCRIPTOR, &mut |at| {
        sizes = descriptor(source, at, at - data_start)?;
        Ok(sizes.is_some())
    })?;
    // torch writes no descriptor for an empty member
    let next = read_vec(source.as_ref(), data_start, left.min(4))?;
    if next == LOCAL_HEADER || next.starts_with(b"PK\x01\x02") {
        (member.compressed_size, member.size, member.is_complete) = (0, Some(0), true);
        return Ok(Some((member, data_start)));
    }
    let Some((end, (crc32, size, bytes))) = end.zip(sizes) else { return Ok(Some((member, source.len()))) };
    (member.compressed_size, member.size, member.crc32) = (end - data_start, Some(size), Some(crc32));
    member.is_complete = true;
    Ok(Some((member, end + bytes)))
}

/// The CRC, the size and the length of a data descriptor at `at`, if it tells `stored` bytes before it (APPNOTE 4.3.9).
fn descriptor(source: &SharedSource, at: u64, stored: u64) -> Result<Option<(u32, u64, u64)>> {
    let bytes = read_vec(source.as_ref(), at, 24.min(source.len() - at))?;
    let word = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|n| u32::from_le_bytes(*n));
    let long = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|n| u64::from_le_bytes(*n));
    Ok(match (word(4), word(8), word(12), long(8), long(16)) {
        (Some(crc), Some(compressed), Some(size), ..) if u64::from(compressed) == stored && stored <= 0xffff_ffff => {
            Some((crc, u64::from(size), 16))
        }
        (Some(crc), _, _, Some(compressed), Some(size)) if compressed == stored => Some((crc, size, 24)),
        _ => None,
    })
}

/// The first place from `from` on where `pattern` stands and that `accept` takes.
fn find(
    source: &SharedSource,
    from: u64,
    pattern: [u8; 4],
    accept: &mut dyn FnMut(u64) -> Result<bool>,
) -> Result<Option<u64>> {
    let mut at = from;
    while at + 4 <= source.len() {
        let block = read_vec(source.as_ref(), at, BLOCK.min(source.len() - at))?;
        for (place, _) in block.windows(4).enumerate().filter(|(_, window)| *window == pattern) {
            let place = at + place as u64;
            if accept(place)? {
                return Ok(Some(place));
            }
        }
        // the pattern may begin in the last three bytes
        at += (block.len() as u64 - 3).max(1);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;

    fn torch_member(name: &str, data: &[u8]) -> Vec<u8> {
        let mut out = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0".to_vec();
        out.extend([0; 12]);
        out.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        out.extend([0, 0]);
        out.extend(name.as_bytes());
        out.extend(data);
        if !data.is_empty() {
            let len = u32::try_from(data.len()).unwrap().to_le_bytes();
            out.extend([b"PK\x07\x08".as_slice(), &[1, 2, 3, 4], &len, &len].concat());
        }
        out
    }

    fn walk(bytes: &[u8]) -> Vec<(String, u64, bool)> {
        let source: SharedSource = Arc::new(MemorySource::new(bytes.to_vec()));
        let found = local_members(&source, &Limits::default()).unwrap();
        found.into_iter().map(|member| (member.name, member.compressed_size, member.is_complete)).collect()
    }

    #[test]
    fn members_without_a_directory() {
        // the data holds the magic of both records
        let data = b"PK\x03\x04 PK\x07\x08 and more bytes than that";
        let bytes =
            [torch_member("a/data.pkl", data), torch_member("a/empty", b""), torch_member("a/0", b"xyz")].concat();
        let expected =
            [("a/data.pkl".to_owned(), 34, true), ("a/empty".to_owned(), 0, true), ("a/0".to_owned(), 3, true)];
        assert_eq!(walk(&bytes), expected);
        // the last one is cut: what is left of it is told, and that it is not all
        assert_eq!(walk(&bytes[..bytes.len() - 17])[2], ("a/0".to_owned(), 2, false));
        for end in 0..bytes.len() {
            walk(&bytes[..end]);
        }
    }
}
