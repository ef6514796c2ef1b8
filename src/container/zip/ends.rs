//! Whether readers that go by the last end record find the directory that was read.
//!
//! miniz (torch) takes the place of the directory as the record says it; Python's `zipfile` takes what stands right before
//! the record, as long as it says, so that bytes before the archive are no matter to it.

use super::{END_RECORD, END_RECORD_BYTES, MAX_COMMENT_BYTES, Zip};
use crate::error::Result;
use crate::source::read_vec;

/// What a plain end record says where a zip64 record has the number.
const IN_ZIP64: u32 = u32::MAX;
/// Bytes of a zip64 end record and of its locator, which stand before the plain one.
const ZIP64_BYTES: u64 = 56 + 20;

/// The last end record of a file.
struct LastEnd {
    at: u64,
    directory_bytes: u32,
    directory_start: u32,
}

impl Zip {
    fn last_end(&self) -> Result<Option<LastEnd>> {
        let source = self.source();
        let tail = source.len().min(END_RECORD_BYTES + MAX_COMMENT_BYTES);
        let start = source.len() - tail;
        let bytes = read_vec(source.as_ref(), start, tail)?;
        let records = bytes.windows(usize::try_from(END_RECORD_BYTES).unwrap_or(usize::MAX)).enumerate();
        let last = records.rev().find(|(_, record)| record.starts_with(&END_RECORD));
        let number = |record: &[u8], at: usize| {
            record.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        Ok(last.map(|(at, record)| LastEnd {
            at: start + at as u64,
            directory_bytes: number(record, 12),
            directory_start: number(record, 16),
        }))
    }

    /// Whether torch's reader finds the directory.
    pub(crate) fn is_found_by_miniz(&self) -> Result<bool> {
        let start = self.last_end()?.map(|end| end.directory_start);
        Ok(start.is_some_and(|start| start == IN_ZIP64 || u64::from(start) == self.central_directory_start))
    }

    /// Whether one of both readers finds it. There is nothing to find in an archive that was unpacked.
    pub(crate) fn is_found(&self) -> Result<bool> {
        Ok(self.loose.is_some() || self.is_found_by_miniz()? || self.is_found_by_zipfile()?)
    }

    /// Whether Python's `zipfile` finds it.
    fn is_found_by_zipfile(&self) -> Result<bool> {
        let Some(end) = self.last_end()? else { return Ok(false) };
        if end.directory_start == IN_ZIP64 || end.directory_bytes == IN_ZIP64 {
            return Ok(true);
        }
        let bytes = u64::from(end.directory_bytes);
        // one that says the same stands there though nothing is too large for the plain record
        let starts = [0, ZIP64_BYTES].map(|zip64| end.at.checked_sub(bytes + zip64));
        Ok(starts.contains(&Some(self.central_directory_start)))
    }
}
