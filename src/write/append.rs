//! A zip edited in place: the members that change, a new directory and new end records behind the old ones.
//!
//! Storages that stay are where they were, so the cost grows with the names and with what changes. The old bytes are never
//! touched: members and directory are on the disk before the end records are written, and what a crash leaves is recognised
//! (`container/zip/tail.rs`).

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use crate::container::zip::Zip;
use crate::container::zip::directory::{LAYOUT_MEMBERS, Slots, end_records, push_field};
use crate::container::zip::tail::{Interrupted, Mark, crc32_of, prove};
use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::source::{SharedSource, read_vec};

const BLOCK_BYTES: u64 = 1 << 20;
/// What is appended at most: an edit that was interrupted is looked for in the last gibibyte of a file.
pub(crate) const MAX_BYTES: u64 = 512 << 20;
/// torch's padding (`caffe2/serialize/inline_container.cc`), and where the bytes of storages begin.
pub(super) const PADDING_FIELD: u16 = u16::from_le_bytes(*b"FB");
const ALIGNMENT: u64 = 64;
const MAX_ALIGNMENT: u64 = 1 << 14;
/// Bytes of an extra field without content.
const FIELD_BYTES: u64 = 4;

/// A member with new content.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// Its place in [`Zip::members`].
    pub position: usize,
    /// Its bytes.
    pub content: SharedSource,
    /// Whether it is a storage, which begins at a multiple of the archive's alignment.
    pub is_storage: bool,
}

/// Multiples of what the bytes of storages begin at.
pub(super) fn alignment(zip: &Zip) -> Result<u64> {
    let stated = zip.text(".storage_alignment")?.and_then(|text| text.parse().ok()).unwrap_or(ALIGNMENT);
    Ok(if (1..=MAX_ALIGNMENT).contains(&stated) { stated } else { ALIGNMENT })
}

/// An extra field of padding, so that what takes `len` bytes without it takes a multiple of `alignment`.
pub(super) fn padding(len: u64, alignment: u64) -> Result<Vec<u8>> {
    let mut missing = len.next_multiple_of(alignment) - len;
    if missing > 0 && missing < FIELD_BYTES {
        missing += FIELD_BYTES.next_multiple_of(alignment);
    }
    let mut field = Vec::new();
    if missing > 0 {
        push_field(&mut field, PADDING_FIELD, &vec![0; usize::try_from(missing - FIELD_BYTES).unwrap_or(0)])?;
    }
    Ok(field)
}

/// Whether a member promises a layout by which torch computes where storages lie.
pub(super) fn promises_layout(zip: &Zip, name: &str) -> bool {
    let within = name.strip_prefix(zip.top()).and_then(|rest| rest.strip_prefix('/'));
    within.is_some_and(|name| LAYOUT_MEMBERS.contains(&name))
}

/// What is written to: a file, or a test that stops somewhere.
pub trait Medium {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Has the bytes and the length on the disk (`fdatasync`).
    fn sync_data(&mut self) -> io::Result<()>;
    /// Has everything on the disk (`fsync`).
    fn sync_all(&mut self) -> io::Result<()>;
    /// Cuts off what follows.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// From here on nothing is undone: a signal waits for the end.
    fn no_way_back(&mut self) {}
}

impl Medium for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        File::sync_all(self)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }
}

/// Gives members of `zip` new content, by appending to `medium`, which holds the same bytes. Gives how many were appended.
/// When that fails, they are cut off again.
pub fn append(medium: &mut dyn Medium, zip: &Zip, members: &[NewMember]) -> Result<u64> {
    let old_len = zip.source().len();
    if zip.trailing_bytes > 0 {
        let message = format!("{} bytes follow the zip archive, so nothing is appended to it", zip.trailing_bytes);
        return Err(Error::unsupported(message));
    }
    let mut members = members.to_vec();
    members.sort_unstable_by_key(|member| member.position);
    let planned = plan(zip, &members)?;
    let written = write(medium, old_len, &planned, &members);
    written.map_err(|e| match medium.set_len(old_len).and_then(|()| medium.sync_all()) {
        Ok(()) => e,
        Err(undo) => {
            let message = format!("{e}; what was written cannot be cut off ({undo})");
            let advice = Message::from("`ckpt repair ").setting(Setting::InPlace).text("` mends the file");
            Error::new(e.kind(), message).advise(advice)
        }
    })
}

/// Finishes or undoes an edit that was interrupted, in the same order.
pub(crate) fn mend(medium: &mut dyn Medium, unfinished: &Interrupted) -> Result<()> {
    match &unfinished.finish {
        Some(finish) => {
            medium.set_len(finish.at)?;
            medium.sync_data()?;
            medium.write_at(finish.at, &finish.bytes)?;
        }
        None => medium.set_len(unfinished.old_len)?,
    }
    Ok(medium.sync_all()?)
}

struct Planned {
    /// Of the members.
    headers: Vec<Vec<u8>>,
    directory: Vec<u8>,
    end: Vec<u8>,
}

/// `members` come in the order of the directory.
fn plan(zip: &Zip, members: &[NewMember]) -> Result<Planned> {
    let old_len = zip.source().len();
    members.iter().try_for_each(|member| prove(zip, member.position))?;
    let positions: Vec<usize> = members.iter().map(|member| member.position).collect();
    let moves_storage = members.iter().any(|member| member.is_storage);
    // torch computes places of storages that follow each other
    let goes = |name: &str| moves_storage && promises_layout(zip, name);
    let sums = || members.iter().map(|member| crc32_of(member.content.as_ref(), 0, member.content.len())).collect();
    let (sums, slots) = rayon::join::<_, _, Result<Vec<u32>>, _>(sums, || Slots::of(zip, &positions, goes));
    let (sums, mut slots) = (sums?, slots?);
    let alignment = alignment(zip)?;
    // a header has the same size whatever its mark says, so it can be made before the directory for its size
    let unknown = Mark { old_len, directory_len: 0, directory_crc32: 0 }.field()?;
    let (mut at, mut paddings) = (old_len, Vec::with_capacity(members.len()));
    for (entry, (member, crc32)) in slots.entries().zip(members.iter().zip(sums)) {
        entry.header_start = at;
        entry.set_stored(crc32, member.content.len());
        let before = at + entry.local_header(&unknown)?.len() as u64;
        let padding = if member.is_storage { padding(before, alignment)? } else { Vec::new() };
        at = before + padding.len() as u64 + member.content.len();
        paddings.push(padding);
    }
    let directory = slots.encode()?;
    let directory_len = directory.len() as u64;
    let mark = Mark { old_len, directory_len, directory_crc32: crc32fast::hash(&directory) }.field()?;
    let headers =
        slots.entries().zip(&paddings).map(|(entry, padding)| entry.local_header(&[&*mark, padding].concat()));
    let headers = headers.collect::<Result<Vec<_>>>()?;
    let end = end_records(at, directory_len, slots.count(), &zip.comment)?;
    Ok(Planned { headers, directory, end })
}

fn write(medium: &mut dyn Medium, old_len: u64, planned: &Planned, members: &[NewMember]) -> Result<u64> {
    let mut at = old_len;
    let mut put = |bytes: &[u8]| -> Result<u64> {
        medium.write_at(at, bytes)?;
        at += bytes.len() as u64;
        Ok(at)
    };
    for (member, header) in members.iter().zip(&planned.headers) {
        put(header)?;
        let (content, mut done) = (member.content.as_ref(), 0);
        while done < content.len() {
            let block = read_vec(content, done, (content.len() - done).min(BLOCK_BYTES))?;
            put(&block)?;
            done += block.len() as u64;
        }
    }
    let end = put(&planned.directory)?;
    medium.sync_data()?;
    medium.write_at(end, &planned.end)?;
    medium.sync_all()?;
    Ok(end + planned.end.len() as u64 - old_len)
}

#[cfg(test)]
mod tests;
