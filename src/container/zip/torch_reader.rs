//! What torch's own reader makes of a directory (miniz 3.0.2, `mz_zip_reader_read_central_dir`, built into torch): it takes
//! fields for true that other readers never look at, and refuses the archive, or gives a member no bytes, for what they say.

use super::directory::{ZIP64_FIELD, half, word};
use super::{CENTRAL_HEADER, END_RECORD, END_RECORD_BYTES, LOCAL_HEADER_BYTES, MAX_COMMENT_BYTES};
use super::{ZIP64_END_RECORD, ZIP64_LOCATOR, Zip};
use crate::error::{Error, Result};
use crate::source::{Source, read_vec};

const LOCATOR_BYTES: u64 = 20;
const ZIP64_END_BYTES: u64 = 56;
/// What the zip64 end record says of its own size, at least.
const ZIP64_END_REST: u64 = ZIP64_END_BYTES - 12;
const ENTRY_BYTES: usize = 46;
/// In a 32-bit field: see the zip64 extra field.
const IN_ZIP64: u64 = u32::MAX as u64;
/// External attributes (APPNOTE 4.4.15): MS-DOS's bit of a directory.
const DIRECTORY: u32 = 0x10;
/// Flags (APPNOTE 4.4.4): the directory is encrypted; the member is, or is a patch.
const MASKED: u16 = 1 << 13;
const UNREADABLE: u16 = 1 | 1 << 5 | 1 << 6;

/// What is wrong with an archive for torch's reader alone.
#[derive(Debug, Default)]
pub(crate) struct TorchReading {
    /// Why it does not open the archive.
    pub refused: Option<Error>,
    /// Members that it takes for folders although they have bytes: it leaves what memory held in their place.
    pub as_folders: Vec<Error>,
    /// Members that it does not read.
    pub unread: Vec<Error>,
}

/// What the end records say of the directory.
struct End {
    total: u64,
    on_disk: u64,
    disk: u64,
    directory_disk: u64,
    len: u64,
    start: u64,
}

impl Zip {
    /// Reads the directory as torch does. Nothing is wrong with archives that torch never sees as such: a folder of another
    /// one, files that were unpacked.
    pub(crate) fn as_torch_reads(&self) -> Result<TorchReading> {
        let mut reading = TorchReading::default();
        if !self.is_own_file {
            return Ok(reading);
        }
        if let Err(e) = self.read_as_torch(&mut reading)? {
            reading.refused = Some(e);
        }
        Ok(reading)
    }

    /// The outer error is the device's, the inner one what torch says.
    fn read_as_torch(&self, reading: &mut TorchReading) -> Result<Result<()>> {
        let source = self.source.as_ref();
        let refuse = |what: &str, at: u64| Ok(Err(Error::malformed(what).at(source.absolute(at))));
        let Some(at) = last_end_record(source)? else { return refuse("no end record where torch looks for one", 0) };
        let end = match End::read(source, at)? {
            Ok(end) => end,
            Err(what) => return refuse(what, at),
        };
        if let Some(what) = end.refused(source.len()) {
            return refuse(what, at);
        }
        if end.start != self.central_directory_start {
            return refuse("the last end record does not lead to this directory", at);
        }
        let bytes = read_vec(source, end.start, end.len)?;
        let mut rest = bytes.as_slice();
        let mut has_zip64 = false;
        for _ in 0..end.total {
            let at = end.start + (bytes.len() - rest.len()) as u64;
            let entry = match Entry::parse(rest) {
                Ok((entry, after)) => {
                    rest = after;
                    entry
                }
                Err(what) => return refuse(what, at),
            };
            let name = String::from_utf8_lossy(entry.name);
            let of_member = |what: &str| Error::malformed(what).in_member(&name).at(source.absolute(at));
            if let Some(what) = entry.refused(&end, source.len(), &mut has_zip64) {
                return Ok(Err(of_member(what)));
            }
            let is_folder = entry.attributes & DIRECTORY != 0 && !entry.name.ends_with(b"/");
            if is_folder && entry.size > 0 {
                reading.as_folders.push(of_member(
                    "is marked as a folder (external attributes 0x10): torch does not read its bytes, and \
                     takes what the memory held before",
                ));
            }
            // what everyone calls encrypted is told as such
            if entry.flags & UNREADABLE & !1 != 0 && entry.flags & 1 == 0 {
                reading.unread.push(of_member("is marked as encrypted or as a patch, which torch does not read"));
            }
        }
        Ok(Ok(()))
    }
}

/// Where the last end record is that torch finds: looking back from the end, past the longest comment.
fn last_end_record(source: &dyn Source) -> Result<Option<u64>> {
    let len = source.len().min(END_RECORD_BYTES + MAX_COMMENT_BYTES);
    let from = source.len() - len;
    let tail = read_vec(source, from, len)?;
    let has_room = |at: &usize| (tail.len() - at) as u64 >= END_RECORD_BYTES;
    Ok(memchr::memmem::rfind_iter(&tail, &END_RECORD).find(has_room).map(|at| from + at as u64))
}

impl End {
    fn read(source: &dyn Source, at: u64) -> Result<std::result::Result<Self, &'static str>> {
        let record = read_vec(source, at, END_RECORD_BYTES)?;
        let [disk, directory_disk, on_disk, total] = [4, 6, 8, 10].map(|at| u64::from(half(&record, at)));
        let [len, start] = [12, 16].map(|at| u64::from(word(&record, at)));
        let plain = End { total, on_disk, disk, directory_disk, len, start };
        let Some(locator_at) = at.checked_sub(LOCATOR_BYTES).filter(|at| *at >= ZIP64_END_BYTES) else {
            return Ok(Ok(plain));
        };
        let locator = read_vec(source, locator_at, LOCATOR_BYTES)?;
        if !locator.starts_with(&ZIP64_LOCATOR) {
            return Ok(Ok(plain));
        }
        let zip64_at = long(&locator, 8);
        if zip64_at > source.len() - ZIP64_END_BYTES {
            return Ok(Err("the zip64 end record is not in the file"));
        }
        let record = read_vec(source, zip64_at, ZIP64_END_BYTES)?;
        if !record.starts_with(&ZIP64_END_RECORD) {
            return Ok(Ok(plain));
        }
        if long(&record, 4) < ZIP64_END_REST {
            return Ok(Err("the zip64 end record says that it is shorter than it can be"));
        }
        if word(&locator, 16) != 1 {
            return Ok(Err("the zip64 end record locator says that the archive is on several disks"));
        }
        let [on_disk, total, len, start] = [24, 32, 40, 48].map(|at| long(&record, at));
        if total.max(on_disk).max(len) > u64::from(u32::MAX) {
            return Ok(Err("the zip64 end record announces more than torch reads"));
        }
        let [disk, directory_disk] = [16, 20].map(|at| u64::from(word(&record, at)));
        Ok(Ok(End { total, on_disk, disk, directory_disk, len, start }))
    }

    /// Why torch goes no further.
    fn refused(&self, file_len: u64) -> Option<&'static str> {
        let is_one_disk = matches!((self.disk, self.directory_disk), (0, 0) | (1, 1));
        let end = self.start.checked_add(self.len);
        match () {
            () if self.total != self.on_disk => Some("the end record counts other members on this disk than in all"),
            () if !is_one_disk => Some("the end record says that the archive is on several disks"),
            () if self.len < self.total * ENTRY_BYTES as u64 => {
                Some("the end record says that the directory is too short for its members")
            }
            () if end.is_none_or(|end| end > file_len) => {
                Some("the end record says that the directory ends behind the end of the file")
            }
            () if self.total == 0 => Some("the archive has no members"),
            () => None,
        }
    }
}

/// What torch looks at in an entry of the directory.
struct Entry<'a> {
    flags: u16,
    /// Method, and the time behind it: both are looked at when torch asks whether a member is stored.
    method: u32,
    compressed_size: u64,
    size: u64,
    disk: u64,
    attributes: u32,
    header_start: u64,
    name: &'a [u8],
    extra: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Takes the entry at the beginning of `bytes` apart; gives what follows it.
    fn parse(bytes: &'a [u8]) -> std::result::Result<(Self, &'a [u8]), &'static str> {
        let fixed = bytes.split_at_checked(ENTRY_BYTES).filter(|(fixed, _)| fixed.starts_with(&CENTRAL_HEADER));
        let (fixed, rest) = fixed.ok_or("no entry where the directory should have one")?;
        let too_long = "an entry is longer than the directory";
        let (name, rest) = rest.split_at_checked(usize::from(half(fixed, 28))).ok_or(too_long)?;
        let (extra, rest) = rest.split_at_checked(usize::from(half(fixed, 30))).ok_or(too_long)?;
        let (_, rest) = rest.split_at_checked(usize::from(half(fixed, 32))).ok_or(too_long)?;
        let entry = Entry {
            flags: half(fixed, 8),
            method: word(fixed, 10),
            compressed_size: u64::from(word(fixed, 20)),
            size: u64::from(word(fixed, 24)),
            disk: u64::from(half(fixed, 34)),
            attributes: word(fixed, 38),
            header_start: u64::from(word(fixed, 42)),
            name,
            extra,
        };
        Ok((entry, rest))
    }

    /// Why torch goes no further. It looks for one zip64 field in the archive, and then for none.
    fn refused(&self, end: &End, file_len: u64, has_zip64: &mut bool) -> Option<&'static str> {
        let largest = self.compressed_size.max(self.size).max(self.header_start);
        if !*has_zip64 && largest == IN_ZIP64 && !self.extra.is_empty() {
            match has_zip64_field(self.extra) {
                Some(found) => *has_zip64 |= found,
                None => return Some("its extra fields are longer than what holds them"),
            }
        }
        let (compressed, size) = (self.compressed_size, self.size);
        if compressed != IN_ZIP64
            && size != IN_ZIP64
            && ((self.method == 0 && size != compressed) || (size > 0 && compressed == 0))
        {
            return Some("its size is not that of its data");
        }
        if self.disk == u64::from(u16::MAX) || (self.disk != end.disk && self.disk != 1) {
            return Some("the directory says that it is on another disk");
        }
        if compressed != IN_ZIP64 && self.header_start + LOCAL_HEADER_BYTES + compressed > file_len {
            return Some("the directory says that it ends behind the end of the file");
        }
        (self.flags & MASKED != 0).then_some("the directory is marked as encrypted")
    }
}

/// Whether there is a zip64 field; nothing where the fields before it are longer than what holds them.
fn has_zip64_field(mut extra: &[u8]) -> Option<bool> {
    while !extra.is_empty() {
        let (head, rest) = extra.split_at_checked(4)?;
        let (_, rest) = rest.split_at_checked(usize::from(half(head, 2)))?;
        if half(head, 0) == ZIP64_FIELD {
            return Some(true);
        }
        extra = rest;
    }
    Some(false)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
