//! Edits in place: what is appended to an archive, and how one that was interrupted is recognised.
//!
//! An edit appends members, a new directory and new end records behind the old ones. Nothing before them changes, so that
//! until the last byte is on the disk the old archive is whole, only followed by something unfinished. An extra field in
//! each appended member's local header says where that begins and what it will be.

use std::sync::Arc;

use super::directory::{Directory, LAYOUT_MEMBERS, end_records, push_field, valid_end};
use super::{END_RECORD, END_RECORD_BYTES, LOCAL_HEADER_BYTES, Zip};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::{Message, Setting};
use crate::source::{SharedSource, Source, Window, read_vec};

/// The extra field's id (none of APPNOTE's) and what its content begins with.
const FIELD: u16 = 0x4b43;
const MAGIC: &[u8; 4] = b"ckpt";
/// An unfinished tail that is searched for its beginning. A new directory and pickle of more would not be found.
const MAX_TAIL_BYTES: u64 = 1 << 30;
const SEARCH_BLOCK: u64 = 1 << 20;

/// What the extra field of an appended member says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Bytes of the file before the edit.
    pub old_len: u64,
    /// Bytes of the new directory, which follows the last member.
    pub directory_len: u64,
    /// Its CRC-32.
    pub directory_crc32: u32,
}

impl Mark {
    /// The extra field, with its id and length.
    pub(crate) fn field(&self) -> Result<Vec<u8>> {
        let mut content = MAGIC.to_vec();
        content.extend(self.old_len.to_le_bytes());
        content.extend(self.directory_len.to_le_bytes());
        content.extend(self.directory_crc32.to_le_bytes());
        let mut field = Vec::new();
        push_field(&mut field, FIELD, &content)?;
        Ok(field)
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let (old_len, rest) = content.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (directory_len, rest) = rest.split_first_chunk()?;
        Some(Mark {
            old_len: u64::from_le_bytes(*old_len),
            directory_len: u64::from_le_bytes(*directory_len),
            directory_crc32: u32::from_le_bytes(rest.try_into().ok()?),
        })
    }
}

/// What follows the end of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// An edit in place that did not come to its end: its mark is there.
    Edit,
    /// An edit in place that came to its end, and whose directory or end record was damaged later.
    DamagedEdit,
    /// The beginning of a zip member, too short to tell whose it is.
    Unknown,
    /// Zeros: never written, or padding.
    Padding,
}

/// An edit in place that did not come to its end, or what may be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interrupted {
    /// Bytes of the file as it was before.
    pub old_len: u64,
    /// Bytes after them.
    pub tail_len: u64,
    /// When the new members and directory are complete: how to finish.
    pub finish: Option<Finish>,
    /// What they are.
    pub tail: Tail,
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finish {
    /// Where it goes.
    pub at: u64,
    /// The directory and the end records.
    pub bytes: Vec<u8>,
}

impl Interrupted {
    /// What every command says of such a file.
    pub(crate) fn error(&self) -> Error {
        let (old, tail) = (self.old_len, self.tail_len);
        let drops = |message| Error::truncated(message).at(old).advise("`ckpt repair` drops them");
        match self.tail {
            Tail::Padding => return drops(format!("{tail} zero bytes follow the {old} bytes of the zip archive")),
            Tail::Unknown => {
                return drops(format!(
                    "{tail} bytes follow the {old} bytes of the zip archive: the beginning of another one, or of an edit in \
                     place that was interrupted"
                ));
            }
            Tail::DamagedEdit => {
                let message = "the zip directory that an edit in place wrote is damaged; `ckpt repair` restores it";
                return Error::malformed(message).at(old);
            }
            Tail::Edit => {}
        }
        Error::truncated(format!(
            "an edit in place was interrupted: {tail} unfinished bytes follow the {old} bytes of the file as it was; \
             `ckpt repair --in-place` mends it"
        ))
        .at(old)
    }
}

/// Looks for an unfinished edit at the end of a file whose directory cannot be read, or is followed by something; and for
/// one that was finished, and whose directory is damaged.
pub(crate) fn interrupted(source: &SharedSource) -> Result<Option<Interrupted>> {
    let Some(end) = last_valid_end(source.as_ref(), source.len())? else { return Ok(None) };
    if end < source.len() {
        return unfinished(source, end);
    }
    // the archive ends as it should: one that was edited has the older one's end before it
    let Some(old_len) = last_valid_end(source.as_ref(), end - 1)? else { return Ok(None) };
    let found = unfinished(source, old_len)?.filter(|found| found.tail == Tail::DamagedEdit && found.finish.is_some());
    Ok(found.filter(|found| found.finish.as_ref().is_none_or(|finish| !finish.is_there(source).unwrap_or(false))))
}

/// What follows an archive that ends at byte `old_len`.
fn unfinished(source: &SharedSource, old_len: u64) -> Result<Option<Interrupted>> {
    let tail_len = source.len() - old_len;
    let found = |tail, finish| Ok(Some(Interrupted { old_len, tail_len, finish, tail }));
    let fixed = read_vec(source.as_ref(), old_len, tail_len.min(LOCAL_HEADER_BYTES))?;
    let known = fixed.len().min(4);
    if fixed.get(..known) != b"PK\x03\x04".get(..known) {
        // a file whose length is on the disk, but none of the bytes
        return if is_zero(source.as_ref(), old_len)? { found(Tail::Padding, None) } else { Ok(None) };
    }
    let short = |at: usize| fixed.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |n| u16::from_le_bytes(*n));
    let (name_len, extra_len) = (u64::from(short(26)), u64::from(short(28)));
    let data_start = old_len + LOCAL_HEADER_BYTES + name_len + extra_len;
    if data_start > source.len() {
        return found(Tail::Unknown, None);
    }
    let extra = read_vec(source.as_ref(), data_start - extra_len, extra_len)?;
    let Some(mark) = mark_in(&extra).filter(|mark| mark.old_len == old_len) else { return Ok(None) };
    let finish = finish(source, &mark)?;
    // an end of its own, whatever it says, was written after everything else was on the disk
    let tail = match &finish {
        Some(finish) if source.len() >= finish.end() => Tail::DamagedEdit,
        _ => Tail::Edit,
    };
    found(tail, finish)
}

fn mark_in(extra: &[u8]) -> Option<Mark> {
    super::directory::fields(extra).find(|(id, _)| *id == FIELD).and_then(|(_, field)| Mark::parse(field))
}

/// A member that an edit appended.
struct Appended {
    name: Vec<u8>,
    header_start: u64,
    crc32: u32,
    size: u64,
    end: u64,
}

/// The member of an edit at byte `at`; nothing where none begins.
fn appended(source: &SharedSource, at: u64, mark: &Mark) -> Result<Option<Appended>> {
    let Some(left) = source.len().checked_sub(at).filter(|left| *left >= LOCAL_HEADER_BYTES) else { return Ok(None) };
    let fixed = read_vec(source.as_ref(), at, LOCAL_HEADER_BYTES)?;
    let [name_len, extra_len] = [26, 28].map(|at| u64::from(super::directory::half(&fixed, at)));
    let header_len = LOCAL_HEADER_BYTES + name_len + extra_len;
    if !fixed.starts_with(b"PK\x03\x04") || header_len > left {
        return Ok(None);
    }
    let header = read_vec(source.as_ref(), at, header_len)?;
    let (name, extra) = usize::try_from(LOCAL_HEADER_BYTES)
        .ok()
        .and_then(|from| header.get(from..)?.split_at_checked(usize::try_from(name_len).ok()?))
        .unwrap_or_default();
    if mark_in(extra) != Some(*mark) {
        return Ok(None);
    }
    let Some((crc32, size)) = super::directory::local_sizes(&header) else { return Ok(None) };
    let end = at.saturating_add(header_len).saturating_add(size);
    Ok(Some(Appended { name: name.to_vec(), header_start: at, crc32, size, end }))
}

/// The directory and the end records that an edit writes, when the members before them are there and whole. The directory is
/// that of the archive before but for their entries, and the mark has its checksum: when it is not in the file, it can be
/// made.
fn finish(source: &SharedSource, mark: &Mark) -> Result<Option<Finish>> {
    let old_len = mark.old_len;
    let (mut members, mut start) = (Vec::new(), old_len);
    while let Some(member) = appended(source, start, mark)? {
        let is_whole = member.end <= source.len()
            && crc32_of(source.as_ref(), member.end - member.size, member.end)? == member.crc32;
        if !is_whole {
            return Ok(None);
        }
        start = member.end;
        members.push(member);
    }
    let is_it =
        |bytes: &[u8]| bytes.len() as u64 == mark.directory_len && crc32fast::hash(bytes) == mark.directory_crc32;
    let end = start.checked_add(mark.directory_len).filter(|end| *end <= source.len());
    let there = match end {
        Some(end) if crc32_of(source.as_ref(), start, end)? == mark.directory_crc32 => {
            Some(read_vec(source.as_ref(), start, mark.directory_len)?)
        }
        _ => made_again(source, old_len, &members)?.into_iter().find(|made| is_it(made)),
    };
    let Some(directory) = there else { return Ok(None) };
    let Some(count) = Directory::count(&directory) else { return Ok(None) };
    let comment = comment(source.as_ref(), old_len)?;
    let records = end_records(start, mark.directory_len, count, &comment)?;
    Ok(Some(Finish { at: start, bytes: [directory, records].concat() }))
}

/// The directories that an edit may have written: that of the archive before, with the entries of the appended members, with
/// and without those that promise a layout.
fn made_again(source: &SharedSource, old_len: u64, members: &[Appended]) -> Result<Vec<Vec<u8>>> {
    let old = Window::shared(source, 0, old_len)?;
    let old = match Zip::open_whole(old, &Limits::default()) {
        Err(e) if e.kind() == ErrorKind::Io => return Err(e),
        opened => opened.ok().and_then(|zip| Some((Directory::of(&zip).ok()?, zip.top().to_owned()))),
    };
    let Some((mut directory, top)) = old else { return Ok(Vec::new()) };
    for member in members {
        let Some(entry) = directory.0.iter_mut().find(|entry| entry.name == member.name) else { return Ok(Vec::new()) };
        entry.header_start = member.header_start;
        entry.set_stored(member.crc32, member.size);
        // the header says the sizes itself, which is one of the entry's flags
        entry.local_header(&[])?;
    }
    let all = directory.encode()?;
    let promises = |name: &[u8]| LAYOUT_MEMBERS.iter().any(|member| name == format!("{top}/{member}").as_bytes());
    directory.0.retain(|entry| !promises(&entry.name));
    Ok(vec![all, directory.encode()?])
}

impl Finish {
    /// Where the finished archive ends.
    pub(crate) fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes.len() as u64)
    }

    /// Whether the bytes are in the file already.
    fn is_there(&self, source: &SharedSource) -> Result<bool> {
        Ok(self.end() == source.len() && read_vec(source.as_ref(), self.at, self.bytes.len() as u64)? == self.bytes)
    }
}

/// The file as it will be: up to `at` as it is, then other bytes.
#[derive(Debug)]
struct Mended {
    source: SharedSource,
    at: u64,
    bytes: Vec<u8>,
}

impl Source for Mended {
    fn len(&self) -> u64 {
        self.at.saturating_add(self.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let here = usize::try_from(self.at.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        let (before, after) = buf.split_at_mut(here);
        if !before.is_empty() {
            self.source.read_at(offset, before)?;
        }
        let from = usize::try_from(offset.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(from..).and_then(|rest| rest.get(..after.len()));
        let bytes = bytes.ok_or_else(|| Error::truncated("ends early").at(offset))?;
        after.copy_from_slice(bytes);
        Ok(())
    }
}

impl Interrupted {
    /// The file as it is once the edit is finished or undone.
    pub(crate) fn mended(&self, source: &SharedSource) -> SharedSource {
        let (at, bytes) = match &self.finish {
            Some(finish) => (finish.at, finish.bytes.clone()),
            None => (self.old_len, Vec::new()),
        };
        Arc::new(Mended { source: Arc::clone(source), at, bytes })
    }
}

fn comment(source: &dyn Source, old_len: u64) -> Result<Vec<u8>> {
    let from = old_len.saturating_sub(END_RECORD_BYTES + u64::from(u16::MAX));
    let tail = read_vec(source, from, old_len - from)?;
    let ends = tail.windows(4).enumerate().rev().filter(|(_, window)| *window == END_RECORD);
    for (at, _) in ends {
        if valid_end(source, from + at as u64) == Some(old_len) {
            let after = at + usize::try_from(END_RECORD_BYTES).unwrap_or(usize::MAX);
            return Ok(tail.get(after..).unwrap_or_default().to_vec());
        }
    }
    Ok(Vec::new())
}

/// Fails for a member whose bytes are not what its checksum says: a new one over what was read of it would hide that. 0
/// stands where none was computed.
pub(crate) fn prove(zip: &Zip, position: usize) -> Result<()> {
    let Some(member) = zip.members.get(position).filter(|member| member.crc32 != 0) else { return Ok(()) };
    let source = zip.member_source(member)?;
    if crc32_of(source.as_ref(), 0, source.len())? == member.crc32 {
        return Ok(());
    }
    let message = "its checksum does not match: what would be written again may not be what was saved";
    let advice = Message::from("`ckpt repair ").setting(Setting::KeepDamaged).text("` writes what is there");
    Err(Error::data(message).in_member(&member.name).advise(advice))
}

/// The CRC-32 of the bytes from `from` to before `to`.
pub(crate) fn crc32_of(source: &dyn Source, from: u64, to: u64) -> Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut at = from;
    while at < to {
        let block = read_vec(source, at, (to - at).min(SEARCH_BLOCK))?;
        crc.update(&block);
        at += block.len() as u64;
    }
    Ok(crc.finalize())
}

fn is_zero(source: &dyn Source, from: u64) -> Result<bool> {
    let mut at = from;
    while at < source.len() {
        let block = read_vec(source, at, (source.len() - at).min(SEARCH_BLOCK))?;
        if block.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += block.len() as u64;
    }
    Ok(true)
}

/// Searches backwards for an end record that is one; gives where what it ends, ends: at byte `most` or before.
fn last_valid_end(source: &dyn Source, most: u64) -> Result<Option<u64>> {
    let least = source.len().saturating_sub(MAX_TAIL_BYTES);
    let mut to = source.len();
    while to > least {
        let from = to.saturating_sub(SEARCH_BLOCK).max(least);
        // a signature may reach into the block that was searched before
        let block = read_vec(source, from, (to - from + 3).min(source.len() - from))?;
        let found = block.windows(4).enumerate().rev().filter(|(_, window)| *window == END_RECORD);
        for (at, _) in found {
            if let Some(end) = valid_end(source, from + at as u64).filter(|end| *end <= most) {
                return Ok(Some(end));
            }
        }
        to = from;
    }
    Ok(None)
}
