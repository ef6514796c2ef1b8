//! The members of an archive by their local headers alone, for one whose directory is missing or not to be trusted.
//!
//! torch writes local headers without sizes (APPNOTE 4.4.4, bit 3): a member then ends at the data descriptor that
//! tells exactly the bytes between, and what the file's end cuts off is incomplete. One pass over the file finds all
//! signatures; a descriptor is matched to the place where the data it tells of begins, so that signatures inside data
//! mislead nobody and many of them cost no more than reading them.

use std::collections::HashMap;

use memchr::memmem;

use super::directory::{fields, half, word};
use super::{CENTRAL_HEADER, LOCAL_HEADER_BYTES};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{SharedSource, Source, read_vec};

const LOCAL_HEADER: [u8; 4] = *b"PK\x03\x04";
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
const SIZES_FOLLOW: u16 = 1 << 3;
const STORED: u16 = 0;
const BLOCK: u64 = 1 << 20;
/// Of a longer name only so much is kept: torch's readers take 512 bytes at most.
const LONG_NAME_BYTES: u64 = 1024;
/// No version of the format and no method has a number like that.
const NO_NUMBER: u16 = 100;

/// A member as its local header tells it. Offsets and sizes are in bytes of the file.
#[derive(Debug, Clone)]
pub(crate) struct LocalMember {
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
    /// General purpose flags (APPNOTE 4.4.4).
    pub flags: u16,
    /// Whether all of it is there.
    pub is_complete: bool,
    /// Whether its header lies in the data of the member before: an archive in an archive, or a lie.
    pub is_inside: bool,
}

impl LocalMember {}

/// Every member that a local header announces, in the order of the file. One that ends nowhere ends at the next header,
/// or with the file. Fails when the file cannot be read, or has more signatures than [`Limits::max_members`].
pub(crate) fn local_members(source: &SharedSource, limits: &Limits) -> Result<Vec<LocalMember>> {
    Signatures::find(source.as_ref(), limits.max_members)?.local_members(source)
}

/// What a data descriptor says (APPNOTE 4.3.9).
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor {
    /// Where it begins.
    pub start: u64,
    /// The CRC-32 as stored.
    pub crc32: u32,
    /// Bytes once inflated.
    pub size: u64,
    len: u64,
}

/// Where things begin in a file.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    /// What looks like local headers.
    headers: Vec<u64>,
    /// What looks like entries of a central directory.
    pub entries: Vec<u64>,
    /// By where the data begins, the first descriptor of 16 bytes, and of 24, that tells of it.
    descriptors: [HashMap<u64, Descriptor>; 2],
}

impl Signatures {
    /// Every member that a local header announces.
    pub(super) fn local_members(&self, source: &SharedSource) -> Result<Vec<LocalMember>> {
        let mut found = Vec::new();
        let mut covered = 0;
        for (number, start) in self.headers.iter().enumerate() {
            let next = self.headers.get(number + 1).copied();
            if let Some((mut member, end)) = self.member(source.as_ref(), *start, next)? {
                member.is_inside = *start < covered;
                covered = covered.max(end);
                found.push(member);
            }
        }
        Ok(found)
    }

    /// The descriptors that tell of data which begins at byte `start`.
    pub(super) fn descriptors_of(&self, start: u64) -> impl Iterator<Item = &Descriptor> {
        self.descriptors.iter().filter_map(move |of_a_kind| of_a_kind.get(&start))
    }

    pub(super) fn find(source: &dyn Source, most: u64) -> Result<Self> {
        let mut found = Signatures::default();
        let finder = memmem::Finder::new(b"PK");
        let mut at = 0;
        let mut count = 0;
        while at + 4 <= source.len() {
            let block = read_vec(source, at, BLOCK.min(source.len() - at))?;
            for place in finder.find_iter(&block) {
                let signature = block.get(place..place + 4).unwrap_or_default();
                if signature == LOCAL_HEADER {
                    found.headers.push(at + place as u64);
                } else if signature == DESCRIPTOR {
                    found.descriptor(source, at + place as u64)?;
                } else if signature == CENTRAL_HEADER {
                    found.entries.push(at + place as u64);
                    if found.entries.len() as u64 > most {
                        return Err(Error::limit(format!("has more than {most} members")));
                    }
                    continue;
                } else {
                    continue;
                }
                count += 1;
                if count > most {
                    return Err(Error::limit(format!("has more than {most} members")));
                }
            }
            // a signature may begin in the last three bytes
            at += (block.len() as u64 - 3).max(1);
        }
        Ok(found)
    }

    fn descriptor(&mut self, source: &dyn Source, at: u64) -> Result<()> {
        let bytes = read_vec(source, at, 24.min(source.len() - at))?;
        let long = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|n| u64::from_le_bytes(*n));
        let crc32 = word(&bytes, 4);
        let [short, wide] = &mut self.descriptors;
        if bytes.len() >= 16
            && let Some(start) = at.checked_sub(u64::from(word(&bytes, 8)))
        {
            let size = u64::from(word(&bytes, 12));
            short.entry(start).or_insert(Descriptor { start: at, crc32, size, len: 16 });
        }
        if let (Some(compressed), Some(size)) = (long(8), long(16))
            && let Some(start) = at.checked_sub(compressed)
        {
            wide.entry(start).or_insert(Descriptor { start: at, crc32, size, len: 24 });
        }
        Ok(())
    }

    /// The member whose header is at `start`, and where it ends; `next` is where another header begins.
    fn member(&self, source: &dyn Source, start: u64, next: Option<u64>) -> Result<Option<(LocalMember, u64)>> {
        let header = read_vec(source, start, LOCAL_HEADER_BYTES.min(source.len() - start))?;
        let (flags, method) = (half(&header, 6), half(&header, 8));
        let name_start = start + LOCAL_HEADER_BYTES;
        let extra_start = name_start + u64::from(half(&header, 26));
        let data_start = extra_start + u64::from(half(&header, 28));
        if data_start > source.len() || half(&header, 4) >= NO_NUMBER || method >= NO_NUMBER {
            return Ok(None);
        }
        // headers over each other could each claim the longest name there is
        let name_bytes = extra_start - name_start;
        let name =
            read_vec(source, name_start, if name_bytes > LONG_NAME_BYTES { LONG_NAME_BYTES } else { name_bytes })?;
        let left = source.len() - data_start;
        let mut member = LocalMember {
            name: String::from_utf8_lossy(&name).into_owned(),
            header_start: start,
            data_start,
            compressed_size: left,
            size: None,
            crc32: None,
            method,
            flags,
            is_complete: false,
            is_inside: false,
        };
        if flags & SIZES_FOLLOW == 0 {
            let is_long = [18, 22].iter().any(|at| word(&header, *at) == u32::MAX);
            let extra = if is_long { read_vec(source, extra_start, data_start - extra_start)? } else { Vec::new() };
            let (stored, size) = sizes(&header, &extra);
            (member.size, member.crc32) = (Some(size), Some(word(&header, 14)));
            member.is_complete = stored <= left;
            member.compressed_size = stored.min(left);
            let end = data_start + member.compressed_size;
            return Ok(Some((member, end)));
        }
        let mut told = self.descriptors.iter().filter_map(|of_a_kind| of_a_kind.get(&data_start));
        // the first half of a wide one looks like a short one
        if let Some(told) = told.find(|told| method != STORED || told.size == told.start - data_start) {
            (member.compressed_size, member.size) = (told.start - data_start, Some(told.size));
            (member.crc32, member.is_complete) = (Some(told.crc32), true);
            return Ok(Some((member, told.start + told.len)));
        }
        // torch writes no descriptor for an empty member
        let is_empty = next == Some(data_start) || read_vec(source, data_start, left.min(4))? == *b"PK\x01\x02";
        if is_empty {
            (member.compressed_size, member.size, member.crc32, member.is_complete) = (0, Some(0), Some(0), true);
            return Ok(Some((member, data_start)));
        }
        let end = next.filter(|next| *next > data_start).unwrap_or(source.len());
        member.compressed_size = end - data_start;
        Ok(Some((member, end)))
    }
}

/// Bytes in the file and once inflated, by a local header and its extra fields (APPNOTE 4.5.3).
fn sizes(header: &[u8], extra: &[u8]) -> (u64, u64) {
    let (stored, size) = (word(header, 18), word(header, 22));
    let both = fields(extra).find(|(id, _)| *id == super::directory::ZIP64_FIELD).map(|(_, both)| both);
    let long = |at: usize| both.and_then(|both| both.get(at..)?.first_chunk()).map(|n| u64::from_le_bytes(*n));
    let of = |short: u32, long: Option<u64>| match long {
        Some(long) if short == u32::MAX => long,
        _ => u64::from(short),
    };
    (of(stored, long(8)), of(size, long(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;
    use std::sync::Arc;

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
