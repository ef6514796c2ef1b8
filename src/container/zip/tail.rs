//! Edits in place: what is appended to an archive, and how one that was interrupted is recognised.
//!
//! An edit appends one member, a new directory and new end records behind the old ones. Nothing before them changes, so
//! that until the last byte is on the disk the old archive is whole, only followed by something unfinished. An extra
//! field in the appended member's local header says where that begins and what it will be.

use super::directory::{Directory, end_records, push_field, valid_end};
use super::{END_RECORD, END_RECORD_BYTES, LOCAL_HEADER_BYTES};
use crate::error::{Error, Result};
use crate::source::{SharedSource, Source, read_vec};

/// The extra field's id (none of APPNOTE's) and what its content begins with.
const FIELD: u16 = 0x4b43;
const MAGIC: &[u8; 4] = b"ckpt";
/// An unfinished tail that is searched for its beginning. A new directory and pickle of more would not be found.
const MAX_TAIL_BYTES: u64 = 1 << 30;
const SEARCH_BLOCK: u64 = 1 << 20;

/// What the extra field of an appended member says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Bytes of the file before the edit.
    pub old_len: u64,
    /// Bytes of the new directory, which follows the member.
    pub directory_len: u64,
    /// Its CRC-32.
    pub directory_crc32: u32,
}

impl Mark {
    /// The extra field, with its id and length.
    pub fn field(&self) -> Result<Vec<u8>> {
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

/// An edit in place that did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    /// Bytes of the file as it was before.
    pub old_len: u64,
    /// Bytes after them.
    pub tail_len: u64,
    /// When the new member and directory are complete: how to finish.
    pub finish: Option<Finish>,
    /// The bytes after them are all zero: never written, or padding.
    pub is_padding: bool,
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// Where it goes.
    pub at: u64,
    /// The end records.
    pub bytes: Vec<u8>,
}

impl Interrupted {
    /// What every command says of such a file.
    pub fn error(&self) -> Error {
        let (old, tail) = (self.old_len, self.tail_len);
        if self.is_padding {
            let message = format!("{tail} zero bytes follow the {old} bytes of the zip archive");
            return Error::truncated(message).at(old).advise("`ckpt repair` drops them");
        }
        Error::truncated(format!(
            "an edit in place was interrupted: {tail} unfinished bytes follow the {old} bytes of the file as it was; \
             `ckpt repair --in-place` mends it"
        ))
        .at(old)
    }
}

/// Looks for an unfinished edit at the end of a file whose directory cannot be read, or is followed by something.
pub fn interrupted(source: &SharedSource) -> Result<Option<Interrupted>> {
    let Some(old_len) = last_valid_end(source.as_ref())?.filter(|end| *end < source.len()) else { return Ok(None) };
    let tail_len = source.len() - old_len;
    let fixed = read_vec(source.as_ref(), old_len, tail_len.min(LOCAL_HEADER_BYTES))?;
    let known = fixed.len().min(4);
    if fixed.get(..known) != b"PK\x03\x04".get(..known) {
        // a file whose length is on the disk, but none of the bytes
        let is_padding = is_zero(source.as_ref(), old_len)?;
        return Ok(is_padding.then_some(Interrupted { old_len, tail_len, finish: None, is_padding }));
    }
    let short = |at: usize| fixed.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |n| u16::from_le_bytes(*n));
    let (name_len, extra_len) = (u64::from(short(26)), u64::from(short(28)));
    let data_start = old_len + LOCAL_HEADER_BYTES + name_len + extra_len;
    if data_start > source.len() {
        return Ok(Some(Interrupted { old_len, tail_len, finish: None, is_padding: false }));
    }
    let extra = read_vec(source.as_ref(), data_start - extra_len, extra_len)?;
    let mark = super::directory::fields(&extra).find(|(id, _)| *id == FIELD).and_then(|(_, field)| Mark::parse(field));
    let Some(mark) = mark.filter(|mark| mark.old_len == old_len) else { return Ok(None) };
    let finish = finish(source, old_len, data_start, &mark)?;
    Ok(Some(Interrupted { old_len, tail_len, finish, is_padding: false }))
}

/// The end records, when the member and the directory before them are there and whole.
fn finish(source: &SharedSource, old_len: u64, data_start: u64, mark: &Mark) -> Result<Option<Finish>> {
    // the directory says how long the member is, so it is looked for at the end of the bytes that can be there
    let header = read_vec(source.as_ref(), old_len, data_start - old_len)?;
    let Some((crc32, size)) = super::directory::local_sizes(&header) else { return Ok(None) };
    let Some(start) = data_start.checked_add(size) else { return Ok(None) };
    let Some(end) = start.checked_add(mark.directory_len).filter(|end| *end <= source.len()) else { return Ok(None) };
    let directory = read_vec(source.as_ref(), start, mark.directory_len)?;
    if crc32_of(source.as_ref(), start, end)? != mark.directory_crc32
        || crc32_of(source.as_ref(), data_start, start)? != crc32
    {
        return Ok(None);
    }
    let count = Directory::count(&directory);
    let comment = comment(source.as_ref(), old_len)?;
    let Some(count) = count else { return Ok(None) };
    Ok(Some(Finish { at: end, bytes: end_records(start, mark.directory_len, count, &comment)? }))
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

/// The CRC-32 of the bytes from `from` to before `to`.
pub fn crc32_of(source: &dyn Source, from: u64, to: u64) -> Result<u32> {
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

/// Searches backwards for an end record that is one; gives where what it ends, ends.
fn last_valid_end(source: &dyn Source) -> Result<Option<u64>> {
    let least = source.len().saturating_sub(MAX_TAIL_BYTES);
    let mut to = source.len();
    while to > least {
        let from = to.saturating_sub(SEARCH_BLOCK).max(least);
        // a signature may reach into the block that was searched before
        let block = read_vec(source, from, (to - from + 3).min(source.len() - from))?;
        let found = block.windows(4).enumerate().rev().filter(|(_, window)| *window == END_RECORD);
        for (at, _) in found {
            if let Some(end) = valid_end(source, from + at as u64) {
                return Ok(Some(end));
            }
        }
        to = from;
    }
    Ok(None)
}
