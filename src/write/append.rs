//! A zip edited in place: the new pickle, a new directory and new end records behind the old ones.
//!
//! Storages stay where they are, so the cost grows with the names and not with the tensors. The old bytes are never
//! touched: the pickle and the directory are on the disk before the end records are written, and what a crash leaves is
//! recognised (`container/zip/tail.rs`).

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use crate::container::zip::Zip;
use crate::container::zip::directory::{Slot, end_records};
use crate::container::zip::tail::{Interrupted, Mark, crc32_of, prove};
use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::source::{Source, read_vec};

const BLOCK_BYTES: u64 = 1 << 20;

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

/// Gives the member at `position` of `zip` new content, by appending to `medium`, which holds the same bytes. Gives how
/// many were appended. When that fails, they are cut off again.
pub fn append(medium: &mut dyn Medium, zip: &Zip, position: usize, content: &dyn Source) -> Result<u64> {
    let old_len = zip.source().len();
    if zip.trailing_bytes > 0 {
        let message = format!("{} bytes follow the zip archive, so nothing is appended to it", zip.trailing_bytes);
        return Err(Error::unsupported(message));
    }
    let planned = plan(zip, position, content)?;
    let written = write(medium, old_len, &planned, content);
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
pub fn mend(medium: &mut dyn Medium, unfinished: &Interrupted) -> Result<()> {
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
    header: Vec<u8>,
    directory: Vec<u8>,
    end: Vec<u8>,
}

fn plan(zip: &Zip, position: usize, content: &dyn Source) -> Result<Planned> {
    prove(zip, position)?;
    let old_len = zip.source().len();
    let size = content.len();
    let (crc32, slot) = rayon::join(|| crc32_of(content, 0, size), || Slot::of(zip, position));
    let (crc32, mut slot) = (crc32?, slot?);
    slot.entry.header_start = old_len;
    slot.entry.set_stored(crc32, size);
    // a header has the same size whatever its mark says, so it can be made before the directory for its size
    let unknown = Mark { old_len, directory_len: 0, directory_crc32: 0 };
    let start = old_len + slot.entry.local_header(&unknown.field()?)?.len() as u64 + size;
    let mut entry = slot.entry.clone();
    let encoded = slot.encode()?;
    let directory_len = encoded.len() as u64;
    let mark = Mark { old_len, directory_len, directory_crc32: crc32fast::hash(&encoded) };
    let header = entry.local_header(&mark.field()?)?;
    let end = end_records(start, directory_len, zip.members.len() as u64, &zip.comment)?;
    Ok(Planned { header, directory: encoded, end })
}

fn write(medium: &mut dyn Medium, old_len: u64, planned: &Planned, content: &dyn Source) -> Result<u64> {
    let mut at = old_len;
    let mut put = |bytes: &[u8]| -> Result<u64> {
        medium.write_at(at, bytes)?;
        at += bytes.len() as u64;
        Ok(at)
    };
    put(&planned.header)?;
    let mut done = 0;
    while done < content.len() {
        let block = read_vec(content, done, (content.len() - done).min(BLOCK_BYTES))?;
        put(&block)?;
        done += block.len() as u64;
    }
    let end = put(&planned.directory)?;
    medium.sync_data()?;
    medium.write_at(end, &planned.end)?;
    medium.sync_all()?;
    Ok(end + planned.end.len() as u64 - old_len)
}

#[cfg(test)]
mod tests;
