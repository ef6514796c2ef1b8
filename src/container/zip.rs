//! Zip archives: the members as the central directory tells them, checked so that every reader would agree on them.
//!
//! The `zip` crate reads the directory and is then let go: its entries are large, and its readers check CRCs, which
//! torch does not (`torch.serialization.set_crc32_options(False)` writes wrong ones). Local headers are read when a
//! member is (`member.rs`); what the archive is for, `flavor.rs` says.

mod ahead;
mod by_name;
pub(crate) mod directory;
mod ends;
mod flavor;
mod member;
mod salvage;
pub(crate) mod tail;
mod torch_reader;
mod view;
pub(crate) mod walk;

use std::io::BufReader;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use ::zip::read::{ArchiveOffset, Config};
use ::zip::result::ZipError;

pub(crate) use self::ahead::Ahead;
use self::by_name::ByName;
pub(crate) use self::flavor::{DECRYPT, Flavor};
pub(crate) use self::torch_reader::TorchReading;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::source::{Cache, Cursor, SharedSource, read_vec};

const LOCAL_HEADER_BYTES: u64 = 30;
const END_RECORD: [u8; 4] = *b"PK\x05\x06";
const END_RECORD_BYTES: u64 = 22;
/// The end record may be followed by a comment of as many bytes.
const MAX_COMMENT_BYTES: u64 = u16::MAX as u64;
const ZIP64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const ZIP64_END_RECORD: [u8; 4] = *b"PK\x06\x06";
const CENTRAL_HEADER: [u8; 4] = *b"PK\x01\x02";

/// One entry of the central directory. Sizes are in bytes.
#[derive(Debug, Clone)]
pub struct Member {
    /// The name; code page 437 where it is not UTF-8, so that it names one member only.
    pub name: Arc<str>,
    /// Where the local header is.
    pub header_start: u64,
    /// Bytes in the file.
    pub compressed_size: u64,
    /// Bytes once inflated.
    pub size: u64,
    /// The CRC-32 as stored; not always the data's.
    pub crc32: u32,
    /// Compression method: 0 stored, 8 deflated (APPNOTE 4.4.5).
    pub method: u16,
    /// General purpose flags (APPNOTE 4.4.4).
    pub flags: u16,
    /// False for what is left of a member that was cut off ([`Zip::salvage`]).
    pub is_whole: bool,
    /// Where the next thing in the file starts.
    bound: u64,
    /// What few members have.
    odd: Option<Box<Odd>>,
}

/// What few members have: apart, as an archive may have very many.
#[derive(Debug, Clone, Default)]
pub struct Odd {
    /// The name's bytes where they are not those of `name`.
    other_name: Option<Box<[u8]>>,
    /// Why its bytes may not be what was written ([`Zip::salvage`] only looks).
    pub doubt: Option<Box<str>>,
    /// Where its data is, when that was found without the local header.
    data_at: Option<u64>,
}

impl Deref for Member {
    type Target = Odd;

    fn deref(&self) -> &Odd {
        const NONE: &Odd = &Odd { other_name: None, doubt: None, data_at: None };
        self.odd.as_deref().unwrap_or(NONE)
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut Odd {
        self.odd.get_or_insert_default()
    }
}

impl Member {
    /// The name's bytes as the file has them.
    pub(crate) fn name_raw(&self) -> &[u8] {
        self.other_name.as_deref().unwrap_or(self.name.as_bytes())
    }

    /// Whether a password is needed to read it.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.flags & member::ENCRYPTED != 0
    }

    /// Whether it stands for a folder.
    pub(crate) fn is_dir(&self) -> bool {
        self.name.ends_with('/')
    }

    /// The least that the local header and the data take; the extra field's length is not known yet.
    fn least_end(&self) -> Option<u64> {
        self.header_start
            .checked_add(LOCAL_HEADER_BYTES + self.name_raw().len() as u64)?
            .checked_add(self.compressed_size)
    }
}

/// A zip archive's table of contents.
#[derive(Debug)]
pub struct Zip {
    source: SharedSource,
    limits: Limits,
    /// The members, in the directory's order.
    pub members: Vec<Member>,
    by_name: ByName,
    /// The archive's comment.
    pub comment: Vec<u8>,
    /// Where the central directory starts.
    pub central_directory_start: u64,
    /// Bytes after the end record and its comment.
    pub trailing_bytes: u64,
    /// The members' bytes where each is a file of its own, not in `source`.
    loose: Option<Vec<SharedSource>>,
    /// The folder that everything is in, where that is not the first member's.
    top_folder: Option<Box<str>>,
    /// What was wrong with the archive as a whole ([`Zip::salvage`] only looks).
    pub damage: Vec<String>,
    /// The member that was inflated last: its local header's place, and its bytes.
    inflated: Cache,
    /// Whether the source is the archive, as a reader of zips finds it.
    is_own_file: bool,
    /// Whether these are all the members that there were; of an archive that lost its directory nobody knows.
    pub is_complete: bool,
}

impl Zip {
    /// Reads the central directory of `source`. Refused are: no end record and an edit in place that was interrupted
    /// (`Truncated`), members outside the file, two of one name, members that overlap, names that step out of the
    /// archive (`Malformed`).
    pub fn open(source: SharedSource, limits: &Limits) -> Result<Self> {
        match Self::open_whole(Arc::clone(&source), limits) {
            Ok(zip) if zip.trailing_bytes == 0 => Ok(zip),
            opened => match tail::interrupted(&source)? {
                // zeros after a directory that can be read are only padding
                // what torch opens all the same is left to `check`
                Some(unfinished) if opened.is_err() || unfinished.tail != tail::Tail::Padding => {
                    Err(unfinished.error())
                }
                _ => opened,
            },
        }
    }

    fn open_whole(source: SharedSource, limits: &Limits) -> Result<Self> {
        let end_record = check_end_records(&source, limits)?;
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let reader = BufReader::with_capacity(64 << 10, Cursor::new(Arc::clone(&source)));
        let archive = ::zip::ZipArchive::with_config(config, reader)
            .map_err(|e| directory_error(e).at(source.absolute(end_record)))?;
        if archive.len() as u64 > limits.max_members {
            return Err(too_many(limits).at(source.absolute(end_record)));
        }
        let central_directory_start = archive.central_directory_start();
        if archive.offset() != 0 {
            let message = format!("{} bytes stand before the zip archive", archive.offset());
            return Err(Error::malformed(message).at(source.absolute(0)));
        }
        if archive.has_duplicate_names() {
            return Err(duplicate(&source, central_directory_start));
        }
        let comment = archive.comment().to_vec();
        let after = end_record + END_RECORD_BYTES + comment.len() as u64;
        let mut zip = Zip {
            members: Vec::with_capacity(archive.len()),
            by_name: ByName::with_capacity(archive.len()),
            comment,
            central_directory_start,
            trailing_bytes: source.len().saturating_sub(after),
            top_folder: None,
            damage: Vec::new(),
            is_complete: true,
            inflated: Cache::default(),
            limits: limits.clone(),
            source,
            loose: None,
            is_own_file: true,
        };
        for index in 0..archive.len() {
            let entry = archive.by_index_data(index).map_err(directory_error)?;
            zip.add(&entry).map_err(|e| e.at(zip.source.absolute(entry.central_header_start())))?;
        }
        drop(archive);
        zip.find_bounds()?;
        Ok(zip)
    }

    #[allow(deprecated)] // the only way to the number of a method that the crate does not implement
    fn add(&mut self, entry: &::zip::read::ZipFileEntry<'_>) -> Result<()> {
        let raw = entry.name_raw();
        let name: Arc<str> = entry.name().map_err(directory_error)?.as_ref().into();
        check_name(&name)?;
        let other_name: Option<Box<[u8]>> = (name.as_bytes() != raw).then(|| raw.into());
        let member = Member {
            odd: other_name.map(|other_name| Box::new(Odd { other_name: Some(other_name), ..Odd::default() })),
            header_start: entry.header_start(),
            compressed_size: entry.compressed_size(),
            size: entry.size(),
            crc32: entry.crc32(),
            method: entry.compression().to_u16(),
            flags: entry.flags().as_u16(),
            is_whole: true,
            bound: self.source.len(),
            name,
        };
        if member.least_end().is_none_or(|end| end > self.source.len()) {
            let message = format!(
                "the member's {} bytes at {} do not fit in the file",
                member.compressed_size, member.header_start
            );
            return Err(Error::truncated(message).in_member(&member.name));
        }
        if self.by_name.insert(&self.members, &member.name).is_some() {
            return Err(Error::malformed("a second member has this name").in_member(&member.name));
        }
        self.members.push(member);
        Ok(())
    }

    /// Tells each member where the next one starts, and refuses those that reach beyond that.
    fn find_bounds(&mut self) -> Result<()> {
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_unstable_by_key(|index| self.members.get(*index).map(|member| member.header_start));
        let mut next = None;
        for index in order.into_iter().rev() {
            let Some(member) = self.members.get_mut(index) else { continue };
            let directory = Some(self.central_directory_start).filter(|start| member.header_start < *start);
            let bound = [next, directory].into_iter().flatten().min().unwrap_or(member.bound);
            member.bound = bound;
            next = Some(member.header_start);
            if member.least_end().is_none_or(|end| end > bound) {
                let at = self.source.absolute(member.header_start);
                let message = format!("overlaps what starts at byte {bound}");
                return Err(Error::malformed(message).in_member(&member.name).at(at));
            }
        }
        Ok(())
    }

    /// The place in [`Zip::members`] of the member of this name.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(&self.members, name)
    }

    /// The bytes of the whole archive.
    pub(crate) fn source(&self) -> &SharedSource {
        &self.source
    }

    /// The member of this name.
    pub fn find(&self, name: &str) -> Option<&Member> {
        self.position(name).and_then(|index| self.members.get(index))
    }
}

/// Finds the last end record, and checks what the directory announces before anything is allocated for it.
fn check_end_records(source: &SharedSource, limits: &Limits) -> Result<u64> {
    let check = |at: u64| match announced(source, at)? > limits.max_members {
        true => Err(too_many(limits).at(source.absolute(at))),
        false => Ok(()),
    };
    // an end record that ends the file and tells the truth is the one that every reader takes
    let at_end = source.len().checked_sub(END_RECORD_BYTES);
    if let Some((at, directory)) = at_end.and_then(|at| Some((at, directory::last_directory(source.as_ref(), at)?))) {
        check(at)?;
        source.announce(directory);
        return Ok(at);
    }
    let tail_bytes = source.len().min(END_RECORD_BYTES + MAX_COMMENT_BYTES);
    let tail_start = source.len() - tail_bytes;
    let tail = read_vec(source.as_ref(), tail_start, tail_bytes)?;
    let mut last = None;
    for (at, _) in tail.windows(4).enumerate().filter(|(_, window)| *window == END_RECORD) {
        let at = tail_start + at as u64;
        check(at)?;
        if source.len() - at >= END_RECORD_BYTES {
            last = Some(at);
        }
    }
    last.ok_or_else(|| {
        let message = "truncated zip: no end of central directory; was it copied or downloaded whole?";
        let advice = "`ckpt repair` saves the tensors that are there";
        Error::truncated(message).at(source.absolute(source.len())).advise(advice)
    })
}

fn too_many(limits: &Limits) -> Error {
    Error::limit(format!("announces more than {} members", limits.max_members))
}

/// How many members the zip64 end record before the end record at `end` announces (APPNOTE 4.3.14); the plain record
/// cannot announce too many.
fn announced(source: &SharedSource, end: u64) -> Result<u64> {
    let Some(locator_start) = end.checked_sub(20) else { return Ok(0) };
    let locator = read_vec(source.as_ref(), locator_start, 20)?;
    let Some((start, _)) = locator.strip_prefix(&ZIP64_LOCATOR).and_then(|rest| rest.get(4..)?.split_first_chunk())
    else {
        return Ok(0);
    };
    // the crate looks from there on for a record, so the one right before the locator counts as well
    let mut most = 0;
    for start in [u64::from_le_bytes(*start), locator_start.saturating_sub(56)] {
        let Ok(record) = read_vec(source.as_ref(), start, 56) else { continue };
        if let Some((count, _)) =
            record.strip_prefix(&ZIP64_END_RECORD).and_then(|rest| rest.get(28..)?.split_first_chunk())
        {
            most = most.max(u64::from_le_bytes(*count));
        }
    }
    Ok(most)
}

/// Refuses names that mean different things to different readers.
pub fn check_name(name: &str) -> Result<()> {
    let steps_out = name.split('/').any(|part| part == "..");
    let why = if name.is_empty() {
        "is empty"
    } else if name.contains('\0') {
        "holds a NUL"
    } else if name.contains('\\') {
        "holds a backslash"
    } else if name.starts_with('/') || steps_out {
        "leads out of the archive"
    } else {
        return Ok(());
    };
    Err(Error::malformed(format!("the member's name {why}")).in_member(name))
}

fn directory_error(e: ZipError) -> Error {
    match e {
        ZipError::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::truncated("the zip directory ends early")
        }
        ZipError::Io(e) => Error::from(e),
        ZipError::UnsupportedArchive(what) => Error::unsupported(format!("zip: {what}")),
        ZipError::InvalidArchive(what) => Error::malformed(format!("bad zip directory: {what}")),
        e => Error::new(ErrorKind::Malformed, format!("bad zip directory: {e}")),
    }
}

/// Names the member that is there twice; the crate only knows that there is one.
fn duplicate(source: &SharedSource, central_directory_start: u64) -> Error {
    let mut at = central_directory_start;
    let mut seen = std::collections::HashSet::new();
    while let Ok(header) = read_vec(source.as_ref(), at, 46) {
        let length =
            |at: usize| header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |n| u16::from_le_bytes(*n));
        let Ok(name) = read_vec(source.as_ref(), at + 46, u64::from(length(28))) else { break };
        if !header.starts_with(&CENTRAL_HEADER) {
            break;
        }
        if seen.contains(&name) {
            let name = String::from_utf8_lossy(&name).into_owned();
            return Error::malformed("a second member has this name").in_member(&name).at(source.absolute(at));
        }
        seen.insert(name);
        at += 46 + u64::from(length(28)) + u64::from(length(30)) + u64::from(length(32));
    }
    Error::malformed("two members of the zip have one name").at(source.absolute(central_directory_start))
}

#[cfg(test)]
mod tests;
