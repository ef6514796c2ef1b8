//! Zip archives of stored members as torch lays them out: data starts aligned to 64 bytes by an extra field `FB`, sizes and
//! CRC in data descriptors, zip64 where needed and a zip64 end record always (`caffe2/serialize/inline_container.cc`,
//! `miniz`; APPNOTE 6.3.10).

use std::io::Write;

use crate::error::{Error, Result};
use crate::write::atomic::{Output, Target};

const ALIGNMENT: u64 = 64;
const LOCAL_HEADER_BYTES: u64 = 30;
const ZIP64_EXTRA_BYTES: u64 = 20;
const PADDING_HEADER_BYTES: u64 = 4;
/// Sizes and offsets from here on need zip64.
const MAX_32: u64 = u32::MAX as u64;
/// UTF-8 names, and sizes in a data descriptor.
const FLAGS: u16 = 0x0808;
/// UTF-8 names: an empty member has no data descriptor.
const FLAGS_EMPTY: u16 = 0x0800;

struct Member {
    name: String,
    crc: u32,
    size: u64,
    header_start: u64,
    flags: u16,
}

/// An archive being written.
pub(crate) struct ZipWriter {
    out: Output,
    members: Vec<Member>,
}

fn limited(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// A record in the making, little-endian.
#[derive(Default)]
struct Record(Vec<u8>);

impl Record {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }
}

impl ZipWriter {
    /// Starts an archive.
    pub(crate) fn create(target: &Target) -> Result<Self> {
        Ok(ZipWriter { out: target.create()?, members: Vec::new() })
    }

    /// Adds a member of at most `max_bytes`, written by `body`, which gives the CRC-32 of what it wrote. `empty` says
    /// that it writes nothing.
    pub(crate) fn member(
        &mut self,
        name: &str,
        max_bytes: u64,
        body: impl FnOnce(&mut Output) -> Result<u32>,
    ) -> Result<()> {
        let header_start = self.out.position();
        let name_len = u16::try_from(name.len()).map_err(|_| Error::limit(format!("the name {name} is too long")))?;
        let large = max_bytes >= MAX_32;
        let flags = if max_bytes == 0 { FLAGS_EMPTY } else { FLAGS };
        let zip64 = if large { ZIP64_EXTRA_BYTES } else { 0 };
        let unpadded = header_start + LOCAL_HEADER_BYTES + u64::from(name_len) + zip64 + PADDING_HEADER_BYTES;
        let padding = u16::try_from(unpadded.next_multiple_of(ALIGNMENT) - unpadded).unwrap_or(0);
        let extra = u16::try_from(zip64 + PADDING_HEADER_BYTES).unwrap_or(0) + padding;
        let size = if large { u32::MAX } else { 0 };
        let mut header = Record::default().bytes(b"PK\x03\x04").u16(if large { 45 } else { 20 }).u16(flags);
        header = header.u16(0).u32(0).u32(0).u32(size).u32(size).u16(name_len).u16(extra).bytes(name.as_bytes());
        if large {
            header = header.u16(1).u16(16).u64(0).u64(0);
        }
        header = header.bytes(b"FB").u16(padding).bytes(&vec![b'Z'; usize::from(padding)]);
        self.out.write_all(&header.0)?;
        let start = self.out.position();
        let crc = body(&mut self.out)?;
        let size = self.out.position() - start;
        if size > max_bytes {
            return Err(Error::data(format!("member {name} became larger than was planned")));
        }
        if max_bytes > 0 {
            let descriptor = Record::default().bytes(b"PK\x07\x08").u32(crc);
            let descriptor = match large {
                true => descriptor.u64(size).u64(size),
                false => descriptor.u32(limited(size)).u32(limited(size)),
            };
            self.out.write_all(&descriptor.0)?;
        }
        self.members.push(Member { name: name.to_owned(), crc, size, header_start, flags });
        Ok(())
    }

    /// Adds a small member.
    pub(crate) fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.member(name, bytes.len() as u64, |out| {
            out.write_all(bytes)?;
            Ok(crc32fast::hash(bytes))
        })
    }

    /// Writes the directory; the output is then complete but not yet under its name. Gives it back with its size.
    pub(crate) fn finish(mut self) -> Result<Output> {
        let start = self.out.position();
        for member in &self.members {
            let mut zip64 = Record::default();
            if member.size >= MAX_32 {
                zip64 = zip64.u64(member.size).u64(member.size);
            }
            if member.header_start >= MAX_32 {
                zip64 = zip64.u64(member.header_start);
            }
            let extra = u16::try_from(zip64.0.len()).unwrap_or(0);
            let total = if extra > 0 { extra + 4 } else { 0 };
            let version = if extra > 0 { 45 } else { 20 };
            let size = limited(member.size);
            let name_len = u16::try_from(member.name.len()).unwrap_or(u16::MAX);
            let mut entry = Record::default().bytes(b"PK\x01\x02").u16(version).u16(version).u16(member.flags).u16(0);
            entry = entry.u32(0).u32(member.crc).u32(size).u32(size).u16(name_len).u16(total).u16(0).u16(0).u16(0);
            entry = entry.u32(0).u32(limited(member.header_start)).bytes(member.name.as_bytes());
            if extra > 0 {
                entry = entry.u16(1).u16(extra).bytes(&zip64.0);
            }
            self.out.write_all(&entry.0)?;
        }
        let end = self.out.position();
        let count = self.members.len() as u64;
        let short_count = u16::try_from(count).unwrap_or(u16::MAX);
        let mut record = Record::default().bytes(b"PK\x06\x06").u64(44).u16(45).u16(45).u32(0).u32(0);
        record = record.u64(count).u64(count).u64(end - start).u64(start);
        record = record.bytes(b"PK\x06\x07").u32(0).u64(end).u32(1);
        record = record.bytes(b"PK\x05\x06").u16(0).u16(0).u16(short_count).u16(short_count);
        record = record.u32(limited(end - start)).u32(limited(start)).u16(0);
        self.out.write_all(&record.0)?;
        Ok(self.out)
    }
}

/// Sums up what passes through to an output.
pub(crate) struct Summed<'a> {
    out: &'a mut Output,
    hasher: crc32fast::Hasher,
}

impl<'a> Summed<'a> {
    /// Passes on to `out`.
    pub(crate) fn new(out: &'a mut Output) -> Self {
        Summed { out, hasher: crc32fast::Hasher::new() }
    }

    /// The CRC-32 of everything so far.
    pub(crate) fn crc(self) -> u32 {
        self.hasher.finalize()
    }
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
