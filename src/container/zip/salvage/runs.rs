//! The directories in a file, or what is left of them: their entries, what their end records say, where their archives begin.

use std::cmp::Reverse;

use super::super::directory::{DirectoryEntry, half, word};
use super::super::{END_RECORD, END_RECORD_BYTES, ZIP64_END_RECORD, ZIP64_LOCATOR};
use super::{LOOKED_AT, Salvage};
use crate::error::Result;
use crate::source::read_vec;

/// A damaged entry is at most as long as this with a name of a reasonable length.
const MAX_ENTRY_BYTES: u64 = 4096;

/// Entries that follow each other.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) entries: Vec<DirectoryEntry>,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Entries between them were passed over.
    pub(super) has_gap: bool,
}

impl Run {
    /// Whether an entry may belong to it though something lies between: that of another archive has another folder.
    fn has_folder_of(&self, entry: &DirectoryEntry) -> bool {
        fn folder(entry: &DirectoryEntry) -> Option<&[u8]> {
            entry.name.iter().position(|b| *b == b'/').and_then(|end| entry.name.get(..end))
        }
        self.entries.last().is_none_or(|last| folder(last) == folder(entry))
    }
}

impl Salvage<'_> {
    /// Every directory, or what is left of it.
    pub(super) fn runs(&self) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut free_from = 0;
        for at in &self.signatures.entries {
            // a signature in the comment or name of an entry is passed over
            if *at < free_from {
                continue;
            }
            let Some((entry, next)) = DirectoryEntry::read(self.source.as_ref(), *at)? else { continue };
            match runs.last_mut().filter(|run| *at >= run.end && *at - run.end <= MAX_ENTRY_BYTES) {
                Some(run) if run.end == *at || run.has_folder_of(&entry) && !self.has_end(run.end, *at)? => {
                    run.has_gap |= run.end != *at;
                    run.entries.push(entry);
                    run.end = next;
                }
                _ => runs.push(Run { entries: vec![entry], start: *at, end: next, has_gap: false }),
            }
            free_from = next;
        }
        Ok(runs)
    }

    fn has_end(&self, from: u64, to: u64) -> Result<bool> {
        let between = read_vec(self.source.as_ref(), from, to - from)?;
        Ok(between.windows(4).any(|window| window == END_RECORD || window == *b"PK\x03\x04"))
    }

    /// How many entries the end records after a directory announce, and where they end.
    pub(super) fn end_of(&self, run: &Run) -> Result<(Option<u64>, u64)> {
        let source = self.source.as_ref();
        let (mut at, mut count) = (run.end, None);
        let record = read_vec(source, at, 56.min(source.len() - at))?;
        if record.starts_with(&ZIP64_END_RECORD) && record.len() == 56 {
            count = record.get(32..).and_then(|rest| rest.first_chunk()).map(|count| u64::from_le_bytes(*count));
            at += 56;
        }
        if read_vec(source, at, 4.min(source.len() - at))? == ZIP64_LOCATOR {
            at = (at + 20).min(source.len());
        }
        let record = read_vec(source, at, END_RECORD_BYTES.min(source.len() - at))?;
        if !record.starts_with(&END_RECORD) || (record.len() as u64) < END_RECORD_BYTES {
            return Ok((None, at));
        }
        let end = at + END_RECORD_BYTES + u64::from(half(&record, 20));
        Ok((count.or(Some(u64::from(half(&record, 10)))), end.min(source.len())))
    }

    /// Whether everything that the end records say of a whole directory is true; a reader may look at any of it.
    pub(super) fn end_is_right(&self, run: &Run, base: u64) -> Result<bool> {
        let source = self.source.as_ref();
        let (count, len) = (run.entries.len() as u64, run.end - run.start);
        let start = run.start.saturating_sub(base);
        let mut at = run.end;
        let up_to = |at: u64, most: u64| {
            let at = at.min(source.len());
            read_vec(source, at, most.min(source.len() - at))
        };
        let record = up_to(at, 56)?;
        let long = |record: &[u8], at: usize| {
            record.get(at..).and_then(|rest| rest.first_chunk()).map(|value| u64::from_le_bytes(*value))
        };
        if record.starts_with(&ZIP64_END_RECORD) {
            let told = [24, 32, 40, 48].map(|at| long(&record, at));
            let locator = up_to(at + 56, 20)?;
            let leads_there = locator.starts_with(&ZIP64_LOCATOR) && long(&locator, 8) == run.end.checked_sub(base);
            // there is one disk, and it has number 0
            let leads_there = leads_there && long(&record, 16) == Some(0) && word(&locator, 4) == 0;
            let leads_there = leads_there && word(&locator, 16) <= 1;
            if told != [Some(count), Some(count), Some(len), Some(start)] || !leads_there {
                return Ok(false);
            }
            at += 76;
        }
        let record = up_to(at, END_RECORD_BYTES)?;
        // what does not fit is in the longer record
        let halves = [8, 10].iter().all(|at| [u64::from(u16::MAX), count].contains(&u64::from(half(&record, *at))));
        let words = [(12, len), (16, start)];
        let words =
            words.iter().all(|(at, value)| [u64::from(u32::MAX), *value].contains(&u64::from(word(&record, *at))));
        let disks = [4, 6].iter().all(|at| [0, u16::MAX].contains(&half(&record, *at)));
        let is_first = run.entries.iter().all(|entry| [0, u16::MAX].contains(&entry.disk()));
        Ok(record.starts_with(&END_RECORD) && disks && is_first && halves && words)
    }

    /// How many bytes were put before an archive whose end record says where its directory was.
    pub(super) fn shift(&self, run: &Run) -> Result<Option<u64>> {
        let source = self.source.as_ref();
        let record = read_vec(source, run.end, 56.min(source.len() - run.end))?;
        let long = record.get(48..).and_then(|rest| rest.first_chunk()).map(|start| u64::from_le_bytes(*start));
        let short =
            record.get(16..).and_then(|rest| rest.first_chunk()).map(|start| u64::from(u32::from_le_bytes(*start)));
        let stated = match () {
            () if record.starts_with(&ZIP64_END_RECORD) => long,
            () if record.starts_with(&END_RECORD) => short,
            () => None,
        };
        // what has another member before it is the data of that one
        let first = self.locals.first().map_or(0, |local| local.header_start);
        Ok(stated.and_then(|stated| run.start.checked_sub(stated)).filter(|shift| (1..=first).contains(shift)))
    }

    /// Where the archive of a directory begins: at the file's beginning, or after another archive.
    pub(super) fn base(&self, run: &Run, ends: &[u64]) -> Option<u64> {
        let agree = |base: &u64| {
            let looked_at = run.entries.iter().take(LOOKED_AT);
            let there = looked_at.filter(|entry| {
                let local = base.checked_add(entry.header_start).and_then(|start| self.by_start.get(&start));
                local.is_some_and(|local| local.name.as_bytes() == entry.name)
            });
            there.count()
        };
        let best = ends.iter().take(LOOKED_AT).map(|base| (agree(base), Reverse(*base))).max()?;
        (best.0 > 0).then_some(best.1.0)
    }
}
