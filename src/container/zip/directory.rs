//! The central directory as bytes: taken apart, changed where it must be, put together again with everything else kept
//! (APPNOTE 4.3.12 to 4.3.16, 4.5.3). The `zip` crate only reads it.

use std::ops::Range;

use super::{CENTRAL_HEADER, END_RECORD, Member, ZIP64_END_RECORD, ZIP64_LOCATOR, Zip};
use crate::error::{Error, Result};
use crate::source::{Source, read_vec};

/// Flags (APPNOTE 4.4.4): sizes stand in a data descriptor; the name is UTF-8.
const DESCRIPTOR: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;
const FIXED_BYTES: usize = 46;
pub(super) const ZIP64_FIELD: u16 = 1;
/// In a 32-bit field: see the zip64 extra field.
const IN_ZIP64: u32 = u32::MAX;
/// The version that made, and that is needed for, zip64: 4.5.
const ZIP64_VERSION: u16 = 45;

/// One entry, with whatever the file says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirectoryEntry {
    /// Version made by, version needed, flags, method, time, date.
    head: [u16; 6],
    /// The CRC-32 as stored.
    pub crc32: u32,
    /// Bytes in the file.
    pub compressed_size: u64,
    /// Bytes once inflated.
    pub size: u64,
    /// The name as it is stored.
    pub name: Vec<u8>,
    /// Extra fields but that of zip64.
    extra: Vec<u8>,
    comment: Vec<u8>,
    /// Disk number, internal attributes; external attributes.
    tail: ([u16; 2], u32),
    /// Where the local header is.
    pub header_start: u64,
}

pub(super) fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Extra fields: (id, content), as far as they are whole.
pub(super) fn fields(mut extra: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = extra.split_at_checked(4)?;
        let (content, rest) = rest.split_at_checked(usize::from(half(head, 2)))?;
        extra = rest;
        Some((half(head, 0), content))
    })
}

impl DirectoryEntry {
    /// Takes the entry at the beginning of `bytes` apart; gives what follows it.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (fixed, rest) =
            bytes.split_at_checked(FIXED_BYTES).filter(|(fixed, _)| fixed.starts_with(&CENTRAL_HEADER))?;
        let (name, rest) = rest.split_at_checked(usize::from(half(fixed, 28)))?;
        let (extra, rest) = rest.split_at_checked(usize::from(half(fixed, 30)))?;
        let (comment, rest) = rest.split_at_checked(usize::from(half(fixed, 32)))?;
        let mut entry = DirectoryEntry {
            head: [4, 6, 8, 10, 12, 14].map(|at| half(fixed, at)),
            crc32: word(fixed, 16),
            compressed_size: u64::from(word(fixed, 20)),
            size: u64::from(word(fixed, 24)),
            name: name.to_vec(),
            extra: Vec::new(),
            comment: comment.to_vec(),
            tail: ([half(fixed, 34), half(fixed, 36)], word(fixed, 38)),
            header_start: u64::from(word(fixed, 42)),
        };
        for (id, content) in fields(extra) {
            if id != ZIP64_FIELD {
                entry.extra.extend(id.to_le_bytes());
                entry.extra.extend(u16::try_from(content.len()).ok()?.to_le_bytes());
                entry.extra.extend(content);
                continue;
            }
            let mut content = content;
            for value in [&mut entry.size, &mut entry.compressed_size, &mut entry.header_start] {
                if *value == u64::from(IN_ZIP64) {
                    let (long, rest) = content.split_first_chunk()?;
                    (*value, content) = (u64::from_le_bytes(*long), rest);
                }
            }
        }
        Some((entry, rest))
    }

    /// The entry at byte `at` of a file, and where what follows it begins.
    pub(super) fn read(source: &dyn Source, at: u64) -> Result<Option<(Self, u64)>> {
        let Some(left) = source.len().checked_sub(at).filter(|left| *left >= FIXED_BYTES as u64) else {
            return Ok(None);
        };
        let fixed = read_vec(source, at, FIXED_BYTES as u64)?;
        let rest: u64 = [28, 30, 32].iter().map(|at| u64::from(half(&fixed, *at))).sum();
        let len = FIXED_BYTES as u64 + rest;
        if len > left {
            return Ok(None);
        }
        let bytes = read_vec(source, at, len)?;
        Ok(Self::parse(&bytes).map(|(entry, _)| (entry, at + len)))
    }

    /// Compression method.
    pub(super) fn method(&self) -> u16 {
        let [.., method, _, _] = self.head;
        method
    }

    /// General purpose flags.
    pub(super) fn flags(&self) -> u16 {
        let [_, _, flags, ..] = self.head;
        flags
    }

    /// Number of the disk that the member is on.
    pub(super) fn disk(&self) -> u16 {
        let ([disk, _], _) = self.tail;
        disk
    }

    fn push_to(&self, out: &mut Vec<u8>) -> Result<()> {
        let mut zip64 = Vec::new();
        let mut short = |value: u64| match u32::try_from(value) {
            Ok(value) if value != IN_ZIP64 => value,
            _ => {
                zip64.extend(value.to_le_bytes());
                IN_ZIP64
            }
        };
        // in the order of the extra field
        let [size, compressed, start] = [self.size, self.compressed_size, self.header_start].map(&mut short);
        let mut head = self.head;
        let mut extra = Vec::new();
        if !zip64.is_empty() {
            let [_, needed, ..] = &mut head;
            *needed = (*needed).max(ZIP64_VERSION);
            push_field(&mut extra, ZIP64_FIELD, &zip64)?;
        }
        extra.extend(&self.extra);
        out.extend(CENTRAL_HEADER);
        head.iter().for_each(|value| out.extend(value.to_le_bytes()));
        [self.crc32, compressed, size].iter().for_each(|value| out.extend(value.to_le_bytes()));
        for part in [&self.name, &extra, &self.comment] {
            let len = u16::try_from(part.len()).map_err(|_| Error::limit("a zip entry's name or extra is too long"))?;
            out.extend(len.to_le_bytes());
        }
        self.tail.0.iter().for_each(|value| out.extend(value.to_le_bytes()));
        out.extend(self.tail.1.to_le_bytes());
        out.extend(start.to_le_bytes());
        [&self.name, &extra, &self.comment].iter().for_each(|part| out.extend(part.as_slice()));
        Ok(())
    }

    /// Gives the entry other content, which will be stored.
    pub(crate) fn set_stored(&mut self, crc32: u32, size: u64) {
        let [.., method, _, _] = &mut self.head;
        *method = 0;
        (self.crc32, self.size, self.compressed_size) = (crc32, size, size);
    }

    /// Whether a data descriptor follows the data.
    pub(crate) fn has_descriptor(&self) -> bool {
        self.flags() & DESCRIPTOR != 0
    }

    /// Gives the entry another name.
    pub(crate) fn set_name(&mut self, name: &str) {
        let [_, _, flags, ..] = &mut self.head;
        if !name.is_ascii() {
            *flags |= UTF8;
        }
        self.name = name.as_bytes().to_vec();
    }

    /// A local header for this entry, with these extra fields, which begin with their ids and lengths. It says the
    /// sizes itself: no data descriptor follows the data.
    pub(crate) fn local_header(&mut self, extra: &[u8]) -> Result<Vec<u8>> {
        let [_, needed, flags, method, time, date] = &mut self.head;
        *flags &= !DESCRIPTOR;
        let mut all = Vec::new();
        let short = |size: u64| u32::try_from(size).ok().filter(|size| *size != IN_ZIP64);
        let (compressed, size) = match (short(self.compressed_size), short(self.size)) {
            (Some(compressed), Some(size)) => (compressed, size),
            // both are there when one of them must be (APPNOTE 4.5.3)
            _ => {
                *needed = (*needed).max(ZIP64_VERSION);
                let both = [self.size.to_le_bytes(), self.compressed_size.to_le_bytes()].concat();
                push_field(&mut all, ZIP64_FIELD, &both)?;
                (IN_ZIP64, IN_ZIP64)
            }
        };
        all.extend(extra);
        let mut out = b"PK\x03\x04".to_vec();
        [*needed, *flags, *method, *time, *date].iter().for_each(|value| out.extend(value.to_le_bytes()));
        [self.crc32, compressed, size].iter().for_each(|value| out.extend(value.to_le_bytes()));
        for part in [&self.name, &all] {
            let len = u16::try_from(part.len()).map_err(|_| Error::limit("a zip entry's name or extra is too long"))?;
            out.extend(len.to_le_bytes());
        }
        out.extend(&self.name);
        out.extend(&all);
        Ok(out)
    }
}

/// CRC-32 and size of a stored member, by its whole local header.
pub(super) fn local_sizes(header: &[u8]) -> Option<(u32, u64)> {
    let size = u64::from(word(header, 22));
    let extra = header.get(30 + usize::from(half(header, 26))..)?;
    let long = fields(extra).find(|(id, _)| *id == ZIP64_FIELD).and_then(|(_, content)| content.first_chunk());
    Some((
        word(header, 14),
        long.filter(|_| size == u64::from(IN_ZIP64)).map_or(size, |long| u64::from_le_bytes(*long)),
    ))
}

/// Appends one extra field.
pub(crate) fn push_field(extra: &mut Vec<u8>, id: u16, content: &[u8]) -> Result<()> {
    let len = u16::try_from(content.len()).map_err(|_| Error::limit("an extra field of more than 65535 bytes"))?;
    extra.extend(id.to_le_bytes());
    extra.extend(len.to_le_bytes());
    extra.extend(content);
    Ok(())
}

/// A central directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Directory(pub Vec<DirectoryEntry>);

impl Directory {
    /// The directory of an archive, in the order of its members.
    pub(crate) fn of(zip: &Zip) -> Result<Self> {
        let end = zip.source.len();
        let bytes = read_vec(zip.source.as_ref(), zip.central_directory_start, end - zip.central_directory_start)?;
        let directory = Self::parse(&bytes, zip.members.len());
        let directory = directory.filter(|d| zip.members.iter().zip(&d.0).all(|(member, e)| member.is(e)));
        directory.ok_or_else(|| odd(zip.central_directory_start))
    }

    /// The first `count` entries of `bytes`.
    pub(crate) fn parse(bytes: &[u8], count: usize) -> Option<Self> {
        let mut entries = Vec::new();
        let mut rest = bytes;
        while entries.len() < count {
            let (entry, after) = DirectoryEntry::parse(rest)?;
            entries.push(entry);
            rest = after;
        }
        Some(Directory(entries))
    }

    /// How many entries `bytes` are, when they are nothing else.
    pub(super) fn count(bytes: &[u8]) -> Option<u64> {
        let mut count = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = DirectoryEntry::parse(rest)?;
            count += 1;
        }
        Some(count)
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.0.iter().try_for_each(|entry| entry.push_to(&mut out))?;
        Ok(out)
    }
}

impl Member {
    fn is(&self, entry: &DirectoryEntry) -> bool {
        self.name_raw() == entry.name && self.header_start == entry.header_start && self.size == entry.size
    }
}

/// Members that promise a layout by which torch computes where storages lie (`torch/serialization.py`,
/// `calculate_storage_offsets`).
pub(crate) const LAYOUT_MEMBERS: [&str; 2] = [".format_version", ".storage_alignment"];

/// A directory of which some entries change and others go; the bytes of all others stay.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    bytes: Vec<u8>,
    /// Where the bytes of each lie, and how the entry is to be, in order; nothing for one that goes.
    changed: Vec<(Range<usize>, Option<DirectoryEntry>)>,
    count: u64,
}

impl Slots {
    /// The entries of the members at `positions`, and without those whose names `goes` names.
    pub(crate) fn of(zip: &Zip, positions: &[usize], goes: impl Fn(&str) -> bool) -> Result<Self> {
        let start = zip.central_directory_start;
        let mut bytes = read_vec(zip.source.as_ref(), start, zip.source.len() - start)?;
        let (mut at, mut changed, mut count) = (0, Vec::new(), 0);
        let mut wanted: Vec<usize> = positions.to_vec();
        wanted.sort_unstable();
        let mut wanted = wanted.into_iter().peekable();
        for (index, member) in zip.members.iter().enumerate() {
            let rest = bytes.get(at..).and_then(DirectoryEntry::parse).filter(|(entry, _)| member.is(entry));
            let Some((entry, rest)) = rest else { return Err(odd(start)) };
            let end = bytes.len() - rest.len();
            let is_wanted = wanted.next_if_eq(&index).is_some();
            let stays = is_wanted || !goes(&member.name);
            if is_wanted || !stays {
                changed.push((at..end, is_wanted.then_some(entry)));
            }
            count += u64::from(stays);
            at = end;
        }
        bytes.truncate(at);
        if wanted.peek().is_some() {
            return Err(Error::malformed("no such member"));
        }
        Ok(Slots { bytes, changed, count })
    }

    /// The entries that change, in the directory's order.
    pub(crate) fn entries(&mut self) -> impl Iterator<Item = &mut DirectoryEntry> {
        self.changed.iter_mut().filter_map(|(_, entry)| entry.as_mut())
    }

    /// How many entries there will be.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The bytes of the directory with the entries as they are now.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.bytes.len() + 64);
        let mut at = 0;
        for (place, entry) in &self.changed {
            out.extend(self.bytes.get(at..place.start).unwrap_or_default());
            if let Some(entry) = entry {
                entry.push_to(&mut out)?;
            }
            at = place.end;
        }
        out.extend(self.bytes.get(at..).unwrap_or_default());
        Ok(out)
    }
}

fn odd(start: u64) -> Error {
    Error::malformed("an odd zip directory").at(start)
}

/// What stands after a directory of `len` bytes that begins at byte `start` and has `count` entries: the zip64 end
/// record and its locator, always, as torch writes them, then the end record with the comment.
pub(crate) fn end_records(start: u64, len: u64, count: u64, comment: &[u8]) -> Result<Vec<u8>> {
    let mut out = ZIP64_END_RECORD.to_vec();
    out.extend(44u64.to_le_bytes());
    [ZIP64_VERSION, ZIP64_VERSION].iter().for_each(|version| out.extend(version.to_le_bytes()));
    out.extend([0; 8]);
    [count, count, len, start].iter().for_each(|value| out.extend(value.to_le_bytes()));
    out.extend(ZIP64_LOCATOR);
    out.extend([0; 4]);
    out.extend(start.saturating_add(len).to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(END_RECORD);
    out.extend([0; 4]);
    let short = u16::try_from(count).unwrap_or(u16::MAX);
    [short, short].iter().for_each(|value| out.extend(value.to_le_bytes()));
    [len, start].iter().for_each(|value| out.extend(u32::try_from(*value).unwrap_or(IN_ZIP64).to_le_bytes()));
    let comment_len =
        u16::try_from(comment.len()).map_err(|_| Error::limit("a zip comment of more than 65535 bytes"))?;
    out.extend(comment_len.to_le_bytes());
    out.extend(comment);
    Ok(out)
}

/// Where a whole end record at byte `at` of `source` says that everything ends, when what it says of the directory is
/// true: the directory lies right before it. Gives the byte after the record and its comment.
pub(super) fn valid_end(source: &dyn Source, at: u64) -> Option<u64> {
    true_end(source, at).map(|(end, _)| end)
}

/// The bytes of the directory that the end record at byte `at` leads to, where it is true and ends the file.
pub(super) fn last_directory(source: &dyn Source, at: u64) -> Option<Range<u64>> {
    true_end(source, at).filter(|(end, _)| *end == source.len()).map(|(_, directory)| directory)
}

fn true_end(source: &dyn Source, at: u64) -> Option<(u64, Range<u64>)> {
    let record = read_vec(source, at, super::END_RECORD_BYTES).ok().filter(|r| r.starts_with(&END_RECORD))?;
    let end = at + super::END_RECORD_BYTES + u64::from(half(&record, 20));
    let (mut len, mut start, mut directory_end) = (u64::from(word(&record, 12)), u64::from(word(&record, 16)), at);
    let locator = at.checked_sub(20).and_then(|locator| read_vec(source, locator, 20).ok());
    if let Some(locator) = locator.filter(|locator| locator.starts_with(&ZIP64_LOCATOR)) {
        directory_end = u64::from_le_bytes(*locator.get(8..)?.first_chunk()?);
        let record = read_vec(source, directory_end, 56).ok().filter(|r| r.starts_with(&ZIP64_END_RECORD))?;
        len = u64::from_le_bytes(*record.get(40..)?.first_chunk()?);
        start = u64::from_le_bytes(*record.get(48..)?.first_chunk()?);
    }
    let lies_there = start.checked_add(len) == Some(directory_end) && end <= source.len();
    let begins = len == 0 || read_vec(source, start, 4).is_ok_and(|bytes| bytes == CENTRAL_HEADER);
    (lies_there && begins).then_some((end, start..directory_end))
}
