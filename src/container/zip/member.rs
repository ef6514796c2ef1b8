//! One member's bytes: a window where they are stored, inflated where they are deflated.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::{LOCAL_HEADER_BYTES, Member, Zip};
use crate::container::compress::stream_error;
use crate::container::spool::{Spool, over};
use crate::error::{Error, Result};
use crate::source::{Cursor, SharedSource, Window, read_vec};

pub(super) const STORED: u16 = 0;
const DEFLATED: u16 = 8;
pub(super) const ENCRYPTED: u16 = 1;

/// Bytes that are inflated or read at once.
const MAX_BLOCK: usize = 256 << 10;
const MAX_COMPRESSED_BLOCK: usize = 64 << 10;

/// The methods people meet, for the error (APPNOTE 4.4.5).
const METHODS: &[(u16, &str)] =
    &[(9, "Deflate64"), (12, "bzip2"), (14, "LZMA"), (93, "Zstandard"), (95, "xz"), (99, "AES")];

/// The name of a compression method.
fn method_name(method: u16) -> String {
    let known = METHODS.iter().find(|(number, _)| *number == method);
    known.map_or_else(|| format!("method {method}"), |(_, name)| (*name).to_owned())
}

/// How a member is compressed, where nothing here expands it.
pub(super) fn not_expanded(member: &Member) -> Option<String> {
    (!matches!(member.method, STORED | DEFLATED)).then(|| method_name(member.method))
}

impl Zip {
    /// Where the member's data starts in the file, in bytes: its local header is read and must agree with the
    /// directory.
    pub fn data_start(&self, member: &Member) -> Result<u64> {
        let at = self.absolute(member);
        self.data_start_inner(member).map_err(|e| e.in_member(&member.name).at(at))
    }

    fn data_start_inner(&self, member: &Member) -> Result<u64> {
        if let Some(start) = member.data_at {
            return Ok(start);
        }
        let fixed = LOCAL_HEADER_BYTES + member.name_raw().len() as u64;
        let header = read_vec(self.source.as_ref(), member.header_start, fixed)?;
        Self::start_behind(member, &header)
    }

    /// Where the data of a member starts whose local header begins with `header`: up to its name.
    pub(super) fn start_behind(member: &Member, header: &[u8]) -> Result<u64> {
        let name = member.name_raw();
        let half =
            |at: usize| header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |n| u16::from_le_bytes(*n));
        if !header.starts_with(b"PK\x03\x04") {
            return Err(Error::malformed("no local header where the zip directory says"));
        }
        if usize::from(half(26)) != name.len() || !header.ends_with(name) {
            return Err(Error::malformed("the local header names another member than the zip directory"));
        }
        if half(8) != member.method || (half(6) ^ member.flags) & ENCRYPTED != 0 {
            return Err(Error::malformed("the local header and the zip directory disagree on the compression"));
        }
        let start = member.header_start + header.len() as u64 + u64::from(half(28));
        if start.checked_add(member.compressed_size).is_none_or(|end| end > member.bound) {
            return Err(Error::malformed(format!("overlaps what starts at byte {}", member.bound)));
        }
        Ok(start)
    }

    /// The member's bytes, which may be read in any order: a window of the file where they are stored, else inflated
    /// to memory or an unlinked temporary file. Methods other than those two and encryption are `Unsupported`; data
    /// that inflates to another length than announced is `Malformed`. The CRC is not looked at.
    pub(crate) fn member_source(&self, member: &Member) -> Result<SharedSource> {
        let compressed = self.compressed(member)?;
        if member.method == STORED {
            return Ok(compressed);
        }
        if let Some(inflated) = self.inflated_before(member) {
            return Ok(inflated);
        }
        let inflate = || {
            let mut spool = Spool::new(member.size);
            spool.fill(&mut inflated(compressed)).map_err(|e| stream_error("deflate", e))?;
            if spool.written() != member.size {
                return Err(wrong_size(member, spool.written()));
            }
            spool.finish()
        };
        // the bound is the announced size, so running into it is the file's mistake
        let inflated = inflate().map_err(|e| match e.kind() {
            crate::error::ErrorKind::Limit => self.place(wrong_size(member, member.size.saturating_add(1)), member),
            _ => self.place(e, member),
        })?;
        *self.inflated.lock() = Some(Arc::new(Inflated { of: member.header_start, bytes: Arc::clone(&inflated) }));
        Ok(inflated)
    }

    /// The member's bytes, where it was the last one that was inflated: its pickle is read in more than one way.
    fn inflated_before(&self, member: &Member) -> Option<SharedSource> {
        let last = self.inflated.lock();
        let last = last.as_ref()?.downcast_ref::<Inflated>()?;
        let is_same = last.of == member.header_start && last.bytes.len() == member.size;
        is_same.then(|| Arc::clone(&last.bytes))
    }

    /// The first bytes of the member's (inflated) data, at most `most`.
    pub(crate) fn head(&self, member: &Member, most: u64) -> Result<Vec<u8>> {
        let compressed = self.compressed(member)?;
        let most = most.min(member.size);
        if member.method == STORED {
            return read_vec(compressed.as_ref(), 0, most);
        }
        let mut head = Vec::new();
        let read = inflated(compressed).take(most).read_to_end(&mut head);
        read.map_err(|e| self.place(stream_error("deflate", e), member))?;
        Ok(head)
    }

    /// The CRC-32 of the member's (inflated) data, to hold against [`Member::crc32`].
    pub(crate) fn crc32_of(&self, member: &Member) -> Result<u32> {
        let compressed = self.compressed(member)?;
        let mut reader: Box<dyn Read> = match member.method {
            STORED => Box::new(Cursor::new(compressed)),
            _ => Box::new(inflated(compressed).take(member.size.saturating_add(1))),
        };
        let mut crc = Crc::new();
        let most = usize::try_from(member.size).map_or(MAX_BLOCK, |size| size.saturating_add(1).min(MAX_BLOCK));
        let mut block = vec![0; most];
        let mut total = 0;
        loop {
            let read = match reader.read(&mut block) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.place(stream_error("deflate", e), member)),
            };
            crc.update(block.get(..read).unwrap_or_default());
            total += read as u64;
        }
        if total != member.size {
            return Err(self.place(wrong_size(member, total), member));
        }
        Ok(crc.sum())
    }

    /// The CRC-32 that the directory states, else the data descriptor; nothing where both say 0 for what is not empty, as
    /// `torch.serialization.set_crc32_options(False)` has it (PyTorchStreamWriter, `MZ_ZIP_FLAG_DO_NOT_COMPUTE_CRC32`).
    pub(crate) fn stated_crc(&self, member: &Member) -> Result<Option<u32>> {
        if member.crc32 != 0 || member.size == 0 {
            return Ok(Some(member.crc32));
        }
        let at = self.data_start(member)?.saturating_add(member.compressed_size);
        let left = self.source.len().saturating_sub(at);
        let descriptor = read_vec(self.source.as_ref(), at, left.min(8))?;
        let stated = descriptor.strip_prefix(b"PK\x07\x08").and_then(|rest| rest.first_chunk());
        Ok(stated.map(|stated| u32::from_le_bytes(*stated)).filter(|stated| *stated != 0))
    }

    /// Whether a sum is another one than the CRC-32 that is stated for the member's data.
    pub(crate) fn is_other_sum(&self, member: &Member, sum: u32) -> Result<bool> {
        Ok(sum != member.crc32 && self.stated_crc(member)?.is_some_and(|stated| stated != sum))
    }

    /// The bytes as they lie in the file, of a member that can be read.
    fn compressed(&self, member: &Member) -> Result<SharedSource> {
        if let Some(file) = self.loose(member) {
            return file;
        }
        let fail = |e: Error| Err(self.place(e, member));
        if member.flags & ENCRYPTED != 0 {
            return fail(Error::unsupported("is encrypted"));
        }
        match member.method {
            STORED if member.size != member.compressed_size => {
                let (stored, size) = (member.compressed_size, member.size);
                return fail(Error::malformed(format!("is stored in {stored} bytes but announces {size}")));
            }
            DEFLATED if member.size > self.limits.expanded_for(member.compressed_size) => {
                return fail(over(self.limits.expanded_for(member.compressed_size)));
            }
            STORED | DEFLATED => {}
            method => {
                let name = method_name(method);
                return fail(Error::unsupported(format!(
                    "is compressed with {name}; unzip it and zip it with deflate"
                )));
            }
        }
        let start = self.data_start(member)?;
        Window::shared(&self.source, start, member.compressed_size).or_else(fail)
    }

    fn absolute(&self, member: &Member) -> u64 {
        self.source.absolute(member.header_start)
    }

    /// Says in which member and where its local header is.
    fn place(&self, e: Error, member: &Member) -> Error {
        e.in_member(&member.name).at(self.absolute(member))
    }
}

/// A member that was inflated, known by where its local header is.
struct Inflated {
    of: u64,
    bytes: SharedSource,
}

fn inflated(compressed: SharedSource) -> impl Read {
    let most = MAX_COMPRESSED_BLOCK;
    let block = usize::try_from(compressed.len()).map_or(most, |len| len.clamp(1, most));
    DeflateDecoder::new(BufReader::with_capacity(block, Cursor::new(compressed)))
}

fn wrong_size(member: &Member, found: u64) -> Error {
    let size = member.size;
    Error::malformed(match found > size {
        true => format!("inflates to more than the {size} bytes that the zip directory announces"),
        false => format!("inflates to {found} bytes where the zip directory announces {size}"),
    })
}
