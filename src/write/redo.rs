//! A file edited in place whose reader refuses what follows its end: first a log of what goes where, then that, then the
//! log goes (`container/redo.rs`). A crash leaves the old file or one that says how it goes on.

use crate::container::redo::{self, BEGIN, Finish, Unfinished};
use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::source::{SharedSource, Source, read_vec};
use crate::write::append::Medium;

const BLOCK_BYTES: u64 = 1 << 20;

/// Writes at `at`, and sums up.
fn put(medium: &mut dyn Medium, crc: &mut crc32fast::Hasher, at: u64, bytes: &[u8]) -> Result<u64> {
    medium.write_at(at, bytes)?;
    crc.update(bytes);
    Ok(at + bytes.len() as u64)
}

/// Writes a source at `at`, in blocks.
fn copy(source: &dyn Source, mut see: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let mut done = 0;
    while done < source.len() {
        let block = read_vec(source, done, (source.len() - done).min(BLOCK_BYTES))?;
        see(done, &block)?;
        done += block.len() as u64;
    }
    Ok(())
}

/// Writes `writes` over bytes of a file of `old_len` bytes, which has `len` of them afterwards. Gives how many bytes changed.
/// When the log cannot be written, it is cut off again.
pub(crate) fn over(medium: &mut dyn Medium, old_len: u64, writes: &[(u64, SharedSource)], len: u64) -> Result<u64> {
    log(medium, old_len, writes, len).map_err(|e| match medium.set_len(old_len).and_then(|()| medium.sync_all()) {
        Ok(()) => e,
        Err(undo) => mends(&Error::new(e.kind(), format!("{e}; what was written cannot be cut off ({undo})"))),
    })?;
    medium.no_way_back();
    carry_out(medium, writes, len).map_err(|e| mends(&e))?;
    Ok(writes.iter().map(|(_, bytes)| bytes.len()).sum())
}

fn mends(e: &Error) -> Error {
    let advice = Message::from("`ckpt repair ").setting(Setting::InPlace).text("` mends the file");
    e.again().advise(advice)
}

fn log(medium: &mut dyn Medium, old_len: u64, writes: &[(u64, SharedSource)], len: u64) -> Result<()> {
    let mut crc = crc32fast::Hasher::new();
    let mut at = put(medium, &mut crc, old_len, BEGIN)?;
    for (to, bytes) in writes {
        at = put(medium, &mut crc, at, [*to, bytes.len()].map(u64::to_le_bytes).as_flattened())?;
        copy(bytes.as_ref(), |_, block| {
            at = put(medium, &mut crc, at, block)?;
            Ok(())
        })?;
    }
    at = put(medium, &mut crc, at, &redo::end(old_len, len, writes.len() as u64))?;
    medium.write_at(at, &crc.finalize().to_le_bytes())?;
    Ok(medium.sync_all()?)
}

fn carry_out(medium: &mut dyn Medium, writes: &[(u64, SharedSource)], len: u64) -> Result<()> {
    for (to, bytes) in writes {
        copy(bytes.as_ref(), |done, block| Ok(medium.write_at(to + done, block)?))?;
    }
    medium.sync_data()?;
    medium.set_len(len)?;
    Ok(medium.sync_all()?)
}

/// Finishes or undoes an edit that was interrupted.
pub(crate) fn mend(medium: &mut dyn Medium, unfinished: &Unfinished) -> Result<()> {
    match &unfinished.finish {
        Some(Finish { writes, len }) => carry_out(medium, writes, *len),
        None => {
            medium.set_len(unfinished.old_len)?;
            Ok(medium.sync_all()?)
        }
    }
}

#[cfg(test)]
mod tests;
