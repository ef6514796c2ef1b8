//! Edits in place of files whose reader refuses what follows their end (safetensors): a log at the end says what goes over
//! which bytes. It is on the disk before the first of these changes, and is cut off after the last. So a file with a whole
//! log is finished by doing what it says, one with part of a log is as it was before that.

use std::sync::Arc;

use crate::container::zip::tail::crc32_of;
use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::source::{Overlay, SharedSource, Source, Window, read_vec};

/// What a log begins with, and what its last bytes begin with.
pub(crate) const BEGIN: &[u8; 16] = b"ckpt edit begins";
/// The same for its end.
pub(crate) const END: &[u8; 16] = b"ckpt edit ends\0\0";
/// Bytes before each entry: where it goes, and how many they are.
pub(crate) const ENTRY_BYTES: u64 = 16;
/// Bytes at the end: [`END`], bytes of the file before, bytes of it afterwards, entries, CRC-32 of all before it.
pub(crate) const END_BYTES: u64 = 44;
/// Entries of a log.
const MAX_ENTRIES: u64 = 1 << 20;

/// The last bytes of a log that begins at byte `old_len`, but for the checksum.
pub(crate) fn end(old_len: u64, new_len: u64, entries: u64) -> Vec<u8> {
    let numbers = [old_len, new_len, entries].map(u64::to_le_bytes);
    [&END[..], numbers.as_flattened()].concat()
}

/// An edit that did not come to its end.
#[derive(Debug, Clone)]
pub(crate) struct Unfinished {
    /// Bytes of the file as it was.
    pub old_len: u64,
    /// What is to be written, where the log is whole.
    pub finish: Option<Finish>,
}

/// What a log says.
#[derive(Debug, Clone)]
pub(crate) struct Finish {
    /// What goes where.
    pub writes: Vec<(u64, SharedSource)>,
    /// Bytes of the file afterwards.
    pub len: u64,
}

impl Unfinished {
    /// What every command says of such a file.
    pub(crate) fn error(&self) -> Error {
        let message = match self.finish {
            Some(_) => "an edit in place was interrupted before its end",
            None => "an edit in place was interrupted before it changed anything",
        };
        let advice = Message::from("`ckpt repair ").setting(Setting::InPlace).text("` mends the file");
        Error::truncated(message).at(self.old_len).advise(advice)
    }

    /// The file as it is once the edit is finished or undone.
    pub(crate) fn mended(&self, source: &SharedSource) -> Result<SharedSource> {
        match &self.finish {
            None => Window::shared(source, 0, self.old_len),
            Some(Finish { writes, len }) => {
                let all: SharedSource = Arc::new(Overlay::over(Arc::clone(source), writes.clone())?);
                Window::shared(&all, 0, *len)
            }
        }
    }
}

/// Looks for a whole log at the end of a file.
pub(crate) fn whole(source: &SharedSource) -> Result<Option<Unfinished>> {
    let Some(at) = source.len().checked_sub(END_BYTES) else { return Ok(None) };
    let tail = read_vec(source.as_ref(), at, END_BYTES)?;
    let Some(([old_len, new_len, entries], crc32)) = tail.strip_prefix(END).and_then(numbers) else { return Ok(None) };
    let begins = old_len.checked_add(BEGIN.len() as u64).filter(|start| *start <= at && new_len <= old_len);
    let Some(start) = begins.filter(|_| entries <= MAX_ENTRIES) else { return Ok(None) };
    if read_vec(source.as_ref(), old_len, BEGIN.len() as u64)? != BEGIN
        || crc32_of(source.as_ref(), old_len, source.len() - 4)? != crc32
    {
        return Ok(None);
    }
    let (mut next, mut writes) = (start, Vec::new());
    for _ in 0..entries {
        let Some(bytes) = next.checked_add(ENTRY_BYTES).filter(|bytes| *bytes <= at) else { return Ok(None) };
        let head = read_vec(source.as_ref(), next, ENTRY_BYTES)?;
        let Some([to, len]) = pair(&head) else { return Ok(None) };
        let fits =
            bytes.checked_add(len).filter(|end| *end <= at && to.checked_add(len).is_some_and(|to| to <= old_len));
        let Some(end) = fits else { return Ok(None) };
        writes.push((to, Window::shared(source, bytes, len)?));
        next = end;
    }
    if next != at {
        return Ok(None);
    }
    Ok(Some(Unfinished { old_len, finish: Some(Finish { writes, len: new_len }) }))
}

/// Whether what follows byte `end` of a file, where its data ends, is the beginning of a log.
pub(crate) fn begun(source: &dyn Source, end: u64) -> Result<Option<Unfinished>> {
    let left = source.len().saturating_sub(end);
    let head = read_vec(source, end, left.min(BEGIN.len() as u64))?;
    Ok((left > 0 && BEGIN.starts_with(&head)).then_some(Unfinished { old_len: end, finish: None }))
}

fn pair(bytes: &[u8]) -> Option<[u64; 2]> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some([u64::from_le_bytes(*first), u64::from_le_bytes(*rest.first_chunk()?)])
}

fn numbers(bytes: &[u8]) -> Option<([u64; 3], u32)> {
    let (first, rest) = bytes.split_first_chunk()?;
    let [second, third] = pair(rest)?;
    let crc32 = rest.get(16..)?.first_chunk()?;
    Some(([u64::from_le_bytes(*first), second, third], u32::from_le_bytes(*crc32)))
}
