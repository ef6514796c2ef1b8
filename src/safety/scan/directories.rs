//! The directories of a zip archive that readers may take instead of the one that `Zip::open` reads.
//!
//! Python's `zipfile` takes the last end record of the last 64 KiB, wherever it lies, and adds what stands before the
//! archive to every offset; miniz (torch) takes offsets as they are. Both follow zip64's records, one by the locator's
//! word, the other by the place before it. Every member that one of these directories lists is read as that one says.

use std::collections::{BTreeSet, HashSet};

use foldhash::fast::RandomState;

use super::Scanner;
use crate::container::zip::{Ahead, Member};
use crate::error::Result;
use crate::safety::finding::Severity;
use crate::source::{SharedSource, Source, Window, read_vec};

const END_RECORD: &[u8] = b"PK\x05\x06";
const END_RECORD_BYTES: u64 = 22;
const ZIP64_LOCATOR: &[u8] = b"PK\x06\x07";
const ZIP64_LOCATOR_BYTES: u64 = 20;
const ZIP64_END_RECORD: &[u8] = b"PK\x06\x06";
const ZIP64_END_RECORD_BYTES: u64 = 56;
const CENTRAL_HEADER: &[u8] = b"PK\x01\x02";
const CENTRAL_HEADER_BYTES: u64 = 46;
const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
const LOCAL_HEADER_BYTES: u64 = 30;
/// An end record may be followed by so long a comment.
const TAIL_BYTES: u64 = END_RECORD_BYTES + 0xffff;
/// End records besides those that readers take.
const MAX_END_RECORDS: usize = 64;
/// Names that places show.
const MAX_NAME_BYTES: u64 = 256;

/// A member as some directory tells it.
#[derive(Debug, Clone, Copy)]
struct Listed {
    header_start: u64,
    compressed_size: u64,
    method: u16,
    /// Where its name is, and how much of it counts.
    name_at: u64,
    name_bytes: u64,
}

impl Listed {
    fn name(&self, source: &dyn Source) -> Result<String> {
        Ok(String::from_utf8_lossy(&read_vec(source, self.name_at, self.name_bytes)?).into_owned())
    }
}

/// Entries of directories that were read, by their places and what was added to the offsets in them. These hashes are
/// seeded for each process: places come from strangers.
type Read = HashSet<(u64, u64), RandomState>;
/// What was looked at: where a member lies, its bytes, its method.
type Seen = HashSet<(u64, u64, u16), RandomState>;

impl Scanner<'_> {
    /// Looks at what directories besides that of `known` list.
    pub(super) fn other_directories(
        &mut self,
        source: &SharedSource,
        known: &[Member],
        place: &str,
        depth: usize,
    ) -> Result<()> {
        let tail_start = source.len().saturating_sub(TAIL_BYTES);
        let tail = read_vec(source.as_ref(), tail_start, source.len() - tail_start)?;
        let taken = end_records(&tail);
        let mut seen: Seen =
            known.iter().map(|member| (member.header_start, member.compressed_size, member.method)).collect();
        let mut read = Read::default();
        let mut is_told = known.is_empty() || self.is_row;
        for at in &taken {
            for listed in self.listed_by(source, &tail, (tail_start, *at), &mut read)? {
                let Some(stored) = self.listed_bytes(source, &listed, &mut seen, place)? else { continue };
                if !is_told {
                    is_told = true;
                    let message = "holds a second zip directory: readers would not agree on what is in it";
                    self.tell(Severity::Error, "zip-ambiguous", message, place);
                }
                self.loose_member(&stored, listed.method, &listed.name(source.as_ref())?, place, depth)?;
            }
        }
        // what other end records list was given up by whoever changed the archive; archives in members have theirs
        let is_data = |at: u64| {
            let inside = |member: &Member| {
                (member.header_start..).contains(&at) && at - member.header_start < member.compressed_size
            };
            known.iter().any(inside)
        };
        let others: Vec<usize> = memchr::memmem::find_iter(&tail, END_RECORD)
            .filter(|at| !taken.contains(at) && !known.is_empty() && !is_data(tail_start + *at as u64))
            .take(MAX_END_RECORDS)
            .collect();
        self.only_danger(|scanner| {
            for at in others {
                for listed in scanner.listed_by(source, &tail, (tail_start, at), &mut read)? {
                    let Some(stored) = scanner.listed_bytes(source, &listed, &mut seen, place)? else { continue };
                    scanner.loose_member(&stored, listed.method, &listed.name(source.as_ref())?, place, depth)?;
                }
            }
            Ok(())
        })
    }

    fn listed_by(
        &self,
        source: &SharedSource,
        tail: &[u8],
        (tail_start, at): (u64, usize),
        read: &mut Read,
    ) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        for (start, shift) in directory_starts(source.as_ref(), tail, tail_start, at)? {
            found.extend(listed(source.as_ref(), start, shift, read, self.limits.max_members)?);
        }
        Ok(found)
    }

    /// What lies where a member is listed, the first time.
    fn listed_bytes(
        &mut self,
        source: &SharedSource,
        listed: &Listed,
        seen: &mut Seen,
        place: &str,
    ) -> Result<Option<SharedSource>> {
        if !seen.insert((listed.header_start, listed.compressed_size, listed.method)) {
            return Ok(None);
        }
        let Some(data_start) = data_start(source.as_ref(), listed.header_start)? else { return Ok(None) };
        if !self.may_begin(place) {
            return Ok(None);
        }
        let len = listed.compressed_size.min(source.len() - data_start);
        Window::shared(source, data_start, len).map(Some)
    }
}

fn half(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |n| u64::from(u16::from_le_bytes(*n)))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |n| u64::from(u32::from_le_bytes(*n)))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |n| u64::from_le_bytes(*n))
}

/// The end records that readers take: one that ends the file without a comment comes first in `zipfile`, else the last
/// that is whole counts.
fn end_records(tail: &[u8]) -> BTreeSet<usize> {
    let len = usize::try_from(END_RECORD_BYTES).unwrap_or(0);
    let last = tail.len().checked_sub(len);
    let is_at_end =
        |at: &usize| tail.get(*at..).is_some_and(|rest| rest.starts_with(END_RECORD) && rest.ends_with(&[0, 0]));
    let found = memchr::memmem::rfind_iter(tail, END_RECORD).find(|at| last.is_some_and(|last| *at <= last));
    last.filter(is_at_end).into_iter().chain(found).collect()
}

/// Where the directory of the end record at `found` in the tail may begin, and what is then added to the offsets in it.
fn directory_starts(source: &dyn Source, tail: &[u8], tail_start: u64, found: usize) -> Result<BTreeSet<(u64, u64)>> {
    let mut starts = BTreeSet::new();
    let record = tail.get(found..).unwrap_or_default();
    let at = tail_start + found as u64;
    // the directory ends where the records begin, so what is missing there stands before the archive
    let mut add = |size: u64, offset: u64, records: u64| {
        if let Some(start) = records.checked_sub(size) {
            starts.insert((start, start.saturating_sub(offset)));
        }
        starts.insert((offset, 0));
    };
    add(word(record, 12), word(record, 16), at);
    let locator = match at.checked_sub(ZIP64_LOCATOR_BYTES) {
        Some(start) => read_vec(source, start, ZIP64_LOCATOR_BYTES)?,
        None => Vec::new(),
    };
    if locator.starts_with(ZIP64_LOCATOR) {
        for start in [long(&locator, 8), at.saturating_sub(ZIP64_LOCATOR_BYTES + ZIP64_END_RECORD_BYTES)] {
            let is_inside = start.checked_add(ZIP64_END_RECORD_BYTES).is_some_and(|end| end <= source.len());
            let record = if is_inside { read_vec(source, start, ZIP64_END_RECORD_BYTES)? } else { continue };
            if record.starts_with(ZIP64_END_RECORD) {
                add(long(&record, 40), long(&record, 48), start);
            }
        }
    }
    starts.retain(|(start, _)| *start < source.len());
    Ok(starts)
}

/// The entries of the directory at `start`; `read` are those that were read before, with what was added.
fn listed(source: &dyn Source, start: u64, shift: u64, read: &mut Read, most: u64) -> Result<Vec<Listed>> {
    let (mut found, mut ahead) = (Vec::new(), Ahead::default());
    let mut at = start;
    while (found.len() as u64) < most && read.insert((at, shift)) {
        if at.checked_add(CENTRAL_HEADER_BYTES).is_none_or(|end| end > source.len()) {
            break;
        }
        let header = ahead.get(source, at, CENTRAL_HEADER_BYTES, true)?;
        let (name_at, name_bytes, extra_bytes) = (at + CENTRAL_HEADER_BYTES, half(header, 28), half(header, 30));
        let next = name_at + name_bytes + extra_bytes + half(header, 32);
        if !header.starts_with(CENTRAL_HEADER) || next > source.len() {
            break;
        }
        let method = u16::try_from(half(header, 10)).unwrap_or(u16::MAX);
        let mut fields = [word(header, 24), word(header, 20), word(header, 42)];
        if fields.contains(&u64::from(u32::MAX)) {
            let extra = read_vec(source, name_at + name_bytes, extra_bytes)?;
            widen(&mut fields, &extra);
        }
        let [_, compressed_size, offset] = fields;
        if let Some(header_start) = offset.checked_add(shift) {
            let name_bytes = name_bytes.min(MAX_NAME_BYTES);
            found.push(Listed { header_start, compressed_size, method, name_at, name_bytes });
        }
        at = next;
    }
    Ok(found)
}

/// What does not fit in 32 bits stands in an extra field, in this order (APPNOTE 4.5.3).
fn widen(fields: &mut [u64; 3], extra: &[u8]) {
    let mut rest = extra;
    while let Some((head, body)) = rest.split_at_checked(4) {
        let Some((content, after)) = body.split_at_checked(usize::try_from(half(head, 2)).unwrap_or(usize::MAX)) else {
            return;
        };
        rest = after;
        if half(head, 0) != 1 {
            continue;
        }
        let mut at = 0;
        for field in fields.iter_mut().filter(|field| **field == u64::from(u32::MAX)) {
            *field = long(content, at);
            at += 8;
        }
        return;
    }
}

/// Where the data begins of the member whose local header should be at `at`.
fn data_start(source: &dyn Source, at: u64) -> Result<Option<u64>> {
    if at.checked_add(LOCAL_HEADER_BYTES).is_none_or(|end| end > source.len()) {
        return Ok(None);
    }
    let header = read_vec(source, at, LOCAL_HEADER_BYTES)?;
    let start = at + LOCAL_HEADER_BYTES + half(&header, 26) + half(&header, 28);
    Ok((header.starts_with(LOCAL_HEADER) && start <= source.len()).then_some(start))
}
