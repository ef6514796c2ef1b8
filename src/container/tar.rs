//! The members of a tar archive: torch's own container before 0.1.10, and archives that only hold checkpoints.
//!
//! The `tar` crate decodes header fields; the walk is ours, so that nothing is read or kept beyond a bound and every
//! error knows its offset. Names too long for a header come from GNU (`L`, `K`) or PAX (`x`, Solaris' `X`) records. A
//! kind of member that nobody knows is a regular file, as for GNU tar and Python. Sparse files are not put together, but
//! named; devices are passed over.

use ::tar::{EntryType, Header, PaxExtensions};

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{SharedSource, Window, read_vec};

/// Headers take one block, data is padded to whole ones.
pub(crate) const BLOCK_BYTES: u64 = 512;
/// Bytes that are looked at at once for what stands behind the end.
const TRAILING_BLOCK: u64 = 1 << 20;
/// Kinds of members that are no files: links, devices, folders, pipes, records about all members.
const NO_FILES: &[u8] = b"123456g";
/// GNU's kind of a file that is stored without its holes.
const SPARSE: u8 = b'S';
/// Solaris' kind of a PAX record.
const SOLARIS_PAX: u8 = b'X';
/// Bytes of a record that only names the next member.
const MAX_NAME_RECORD_BYTES: u64 = 64 << 10;

/// One regular file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name, with what is not UTF-8 replaced.
    pub name: String,
    /// Its first byte in the archive.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// A name for another member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// The name.
    pub name: String,
    /// The member's name: of a hard link from the archive's top on, of a symbolic one from the link's folder on.
    pub target: String,
    /// Whether it is a hard link.
    pub is_hard: bool,
}

/// An archive's table of contents.
#[derive(Debug, Clone)]
pub(crate) struct Tar {
    source: SharedSource,
    /// Where the end mark begins, or the file ends.
    end: u64,
    /// Regular files that cannot be read, as they are stored without their holes.
    pub sparse: Vec<Member>,
    /// The links, in the archive's order.
    pub links: Vec<Link>,
    /// The regular files, in the archive's order.
    pub members: Vec<Member>,
}

impl Tar {
    /// Reads all headers of `source`.
    pub(crate) fn open(source: SharedSource, limits: &Limits) -> Result<Self> {
        let mut tar = Tar { source, end: 0, sparse: Vec::new(), members: Vec::new(), links: Vec::new() };
        let mut next = 0;
        let mut extended = Extended::default();
        while let Some(block) = tar.block(next)? {
            let header = decode(&block).ok_or_else(|| Error::malformed("bad tar header").at(tar.source.absolute(next)));
            let read = header.and_then(|header| tar.record(next, &header, &mut extended));
            next = read.map_err(|e| e.at(tar.source.absolute(next)))?;
            if (tar.members.len() + tar.links.len() + tar.sparse.len()) as u64 > limits.max_members {
                return Err(Error::limit(format!("has more than {} members", limits.max_members)).at(next));
            }
        }
        tar.end = next;
        Ok(tar)
    }

    /// Where bytes begin that stand behind the end mark and are not zero.
    pub(crate) fn trailing(&self) -> Result<Option<u64>> {
        let mut at = self.end;
        while at < self.source.len() {
            let block = read_vec(self.source.as_ref(), at, (self.source.len() - at).min(TRAILING_BLOCK))?;
            if let Some(found) = block.iter().position(|byte| *byte != 0) {
                return Ok(Some(at + found as u64));
            }
            at += block.len() as u64;
        }
        Ok(None)
    }

    /// Members whose names others have too: readers would not agree which one counts.
    pub(crate) fn duplicates(&self) -> Vec<&Member> {
        let mut seen = std::collections::HashSet::new();
        self.members.iter().chain(&self.sparse).filter(|member| !seen.insert(member.name.as_str())).collect()
    }

    /// The header block at `at`; nothing at the end mark or the end of the file.
    fn block(&self, at: u64) -> Result<Option<Vec<u8>>> {
        let left = self.source.len().saturating_sub(at).min(BLOCK_BYTES);
        let block = read_vec(self.source.as_ref(), at, left)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if left < BLOCK_BYTES {
            return Err(Error::truncated("ends inside a tar header").at(self.source.absolute(at)));
        }
        Ok(Some(block))
    }

    /// Takes the record whose header is at `at`; returns where the next one is.
    fn record(&mut self, at: u64, header: &Header, extended: &mut Extended) -> Result<u64> {
        let offset = at + BLOCK_BYTES;
        let kind = header.entry_type();
        let names_next = kind.is_gnu_longname() || kind.is_gnu_longlink() || is_pax(kind);
        let size = extended.size.take_if(|_| !names_next);
        let size =
            size.map_or_else(|| header.entry_size(), Ok).map_err(|_| Error::malformed("bad size in a tar header"))?;
        let name = || String::from_utf8_lossy(&header.path_bytes()).into_owned();
        let end = offset.checked_add(size).filter(|end| *end <= self.source.len()).ok_or_else(|| {
            let message = format!("ends early: tar member `{}` has {size} bytes", name().escape_debug());
            Error::truncated(message)
        })?;
        if names_next {
            if size > MAX_NAME_RECORD_BYTES {
                return Err(Error::limit(format!("a tar name record of {size} bytes")));
            }
            let body = read_vec(self.source.as_ref(), offset, size)?;
            extended.take(kind, &body)?;
        } else {
            let Extended { name: long, link, sparse, sparse_name, .. } = std::mem::take(extended);
            let name = sparse_name.or(long).unwrap_or_else(name);
            if kind.is_hard_link() || kind.is_symlink() {
                let short = || header.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
                let target = link.or_else(short).unwrap_or_default();
                self.links.push(Link { name: name.clone(), target, is_hard: kind.is_hard_link() });
            }
            if !NO_FILES.contains(&kind.as_byte()) && !name.ends_with('/') {
                let is_sparse = sparse || kind.as_byte() == SPARSE;
                let list = if is_sparse { &mut self.sparse } else { &mut self.members };
                list.push(Member { name, offset, size });
            }
            if kind.as_byte() == SPARSE {
                return self.behind_sparse(at, end);
            }
        }
        end.checked_next_multiple_of(BLOCK_BYTES).ok_or_else(|| Error::malformed("bad size in a tar header"))
    }

    /// Where the record behind a sparse file is whose data ends at `end`: more of its map may stand behind its header.
    fn behind_sparse(&self, at: u64, end: u64) -> Result<u64> {
        /// In the header, and in each block that goes on with the map: whether another one does.
        const IS_EXTENDED: [usize; 2] = [482, 504];
        let mut block = read_vec(self.source.as_ref(), at, BLOCK_BYTES)?;
        let (mut flag, mut more) = (IS_EXTENDED[0], 0);
        while block.get(flag).is_some_and(|byte| *byte != 0) {
            more += BLOCK_BYTES;
            flag = IS_EXTENDED[1];
            block = read_vec(self.source.as_ref(), at.saturating_add(more), BLOCK_BYTES)?;
        }
        let end = end.checked_next_multiple_of(BLOCK_BYTES).and_then(|end| end.checked_add(more));
        end.ok_or_else(|| Error::malformed("bad size in a tar header"))
    }

    /// The member of this name; of several the last, as Python's `tarfile` does.
    pub(crate) fn find(&self, name: &str) -> Option<&Member> {
        self.members.iter().rev().find(|member| member.name == name)
    }

    /// The bytes of the whole archive.
    pub(crate) fn source(&self) -> &SharedSource {
        &self.source
    }

    /// The bytes of a member.
    pub(crate) fn member_source(&self, member: &Member) -> Result<SharedSource> {
        Window::shared(&self.source, member.offset, member.size).map_err(|e| e.in_member(&member.name))
    }

    /// The header of a member that is to have `size` bytes.
    pub(crate) fn resized(&self, member: &Member, size: u64) -> Result<Vec<u8>> {
        let at = member.offset - BLOCK_BYTES;
        let header = self.block(at)?.and_then(|block| decode(&block));
        let mut header = header.ok_or_else(|| Error::malformed("bad tar header").at(self.source.absolute(at)))?;
        if header.entry_size().ok() != Some(member.size) {
            return Err(Error::unsupported("a tar member whose size stands in a PAX record").in_member(&member.name));
        }
        header.set_size(size);
        header.set_cksum();
        Ok(header.as_bytes().to_vec())
    }

    /// Whether it is what `torch.save` wrote before 0.1.10 (`torch/serialization.py`, `legacy_load`).
    pub(crate) fn is_torch(&self) -> bool {
        ["pickle", "storages", "tensors"].iter().all(|name| self.find(name).is_some())
    }
}

/// What records before a header say of the member after it.
#[derive(Debug, Default)]
struct Extended {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    sparse: bool,
    /// The name of a sparse file, where its header has another one.
    sparse_name: Option<String>,
}

fn is_pax(kind: EntryType) -> bool {
    kind.is_pax_local_extensions() || kind.as_byte() == SOLARIS_PAX
}

impl Extended {
    fn take(&mut self, kind: EntryType, body: &[u8]) -> Result<()> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if kind.is_gnu_longname() {
            let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
            self.name = body.get(..end).map(text);
        } else if kind.is_gnu_longlink() {
            let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
            self.link = body.get(..end).map(text);
        } else if is_pax(kind) {
            for extension in PaxExtensions::new(body) {
                let extension = extension.map_err(|_| Error::malformed("bad PAX record in a tar archive"))?;
                match extension.key_bytes() {
                    b"path" => self.name = Some(text(extension.value_bytes())),
                    b"linkpath" => self.link = Some(text(extension.value_bytes())),
                    b"size" => {
                        let size = extension.value().ok().and_then(|value| value.parse().ok());
                        self.size = Some(size.ok_or_else(|| Error::malformed("bad size in a PAX record"))?);
                    }
                    key if key.starts_with(b"GNU.sparse.") => {
                        self.sparse = true;
                        if key == b"GNU.sparse.name" {
                            self.sparse_name = Some(text(extension.value_bytes()));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Whether the bytes start with a tar header: `ustar` at 257, or a right checksum for the older format.
pub(crate) fn is_header(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else { return false };
    block.get(257..262) == Some(b"ustar") || decode(block).is_some()
}

/// The header, if its checksum is right; old programs summed signed bytes.
fn decode(block: &[u8]) -> Option<Header> {
    let mut header = Header::new_old();
    if header.as_bytes().len() != block.len() {
        return None;
    }
    header.as_mut_bytes().copy_from_slice(block);
    let stored = i64::from(header.cksum().ok()?);
    let sum = |value: fn(u8) -> i64| {
        let bytes = block.iter().enumerate();
        bytes.map(|(at, byte)| value(if (148..156).contains(&at) { b' ' } else { *byte })).sum::<i64>()
    };
    (stored == sum(i64::from) || stored == sum(|byte| i64::from(byte.cast_signed()))).then_some(header)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::ErrorKind;
    use crate::source::MemorySource;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn open(bytes: Vec<u8>) -> Result<Tar> {
        Tar::open(Arc::new(MemorySource::new(bytes)), &Limits::default())
    }

    #[test]
    fn lists_members_with_their_places() {
        let long = "d/".repeat(80) + "pickle";
        let bytes = archive(&[("pickle", b"one"), (&long, b"second"), ("storages", b"")]);
        let tar = open(bytes).unwrap();
        let names: Vec<&str> = tar.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["pickle", &long, "storages"]);
        let body = tar.member_source(&tar.members[1]).unwrap();
        assert_eq!(read_vec(body.as_ref(), 0, body.len()).unwrap(), b"second");
        assert!(!tar.is_torch());
        assert!(open(archive(&[("tensors", b""), ("pickle", b""), ("storages", b"")])).unwrap().is_torch());
    }

    #[test]
    fn pax_records_name_and_measure_the_next_member() {
        let mut builder = ::tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("path", &b"long name"[..]), ("size", &b"3"[..])]).unwrap();
        let mut header = Header::new_ustar();
        header.set_path("short").unwrap();
        header.set_size(3);
        header.set_cksum();
        builder.append(&header, &b"abc"[..]).unwrap();
        let tar = open(builder.into_inner().unwrap()).unwrap();
        assert_eq!((tar.members[0].name.as_str(), tar.members[0].size), ("long name", 3));
    }

    fn of_kind(kind: u8, name: &str, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_entry_type(EntryType::new(kind));
        header.set_size(size);
        header.set_cksum();
        header
    }

    #[test]
    fn unknown_kinds_are_files_and_sparse_ones_are_named() {
        for kind in *b"0\x007AZDMNV" {
            let mut builder = ::tar::Builder::new(Vec::new());
            builder.append(&of_kind(kind, "a.pt", 3), &b"abc"[..]).unwrap();
            let tar = open(builder.into_inner().unwrap()).unwrap();
            assert_eq!((tar.members.len(), tar.sparse.len()), (1, 0), "{kind}");
        }
        for kind in *b"123456" {
            let mut builder = ::tar::Builder::new(Vec::new());
            builder.append(&of_kind(kind, "a", 0), &b""[..]).unwrap();
            assert!(open(builder.into_inner().unwrap()).unwrap().members.is_empty(), "{kind}");
        }
        let mut builder = ::tar::Builder::new(Vec::new());
        builder.append(&of_kind(b'S', "gnu.pt", 3), &b"abc"[..]).unwrap();
        builder.append_pax_extensions([("GNU.sparse.name", &b"pax.pt"[..])]).unwrap();
        builder.append(&of_kind(b'0', "GNUSparseFile.0/pax.pt", 3), &b"abc"[..]).unwrap();
        builder.append(&of_kind(b'0', "plain.pt", 3), &b"abc"[..]).unwrap();
        let tar = open(builder.into_inner().unwrap()).unwrap();
        let names = |members: &[Member]| members.iter().map(|member| member.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&tar.sparse), names(&tar.members)),
            (vec!["gnu.pt".into(), "pax.pt".into()], vec!["plain.pt".into()])
        );
    }

    #[test]
    fn more_of_a_sparse_map_is_stepped_over() {
        let mut header = of_kind(b'S', "gnu.pt", 512);
        header.as_mut_bytes()[482] = 1;
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend([0; 1024]);
        bytes.extend(archive(&[("a", b"one")]));
        let tar = open(bytes).unwrap();
        assert_eq!((tar.sparse.len(), tar.members.len()), (1, 1));
    }

    #[test]
    fn what_stands_behind_the_end_and_comes_twice_is_found() {
        let bytes = archive(&[("a", b"one"), ("b", b"two"), ("a", b"three")]);
        let tar = open(bytes.clone()).unwrap();
        assert_eq!((tar.duplicates().len(), tar.trailing().unwrap()), (1, None));
        let more = [bytes.clone(), vec![0; 600], b"x".to_vec()].concat();
        assert_eq!(open(more).unwrap().trailing().unwrap(), Some(bytes.len() as u64 + 600));
    }

    #[test]
    fn damage_and_truncation_say_where() {
        let bytes = archive(&[("a", &[1; 700]), ("b", &[2; 700])]);
        let e = open(bytes[..1000].to_vec()).unwrap_err();
        assert_eq!((e.kind(), e.offset()), (ErrorKind::Truncated, Some(0)));
        let e = open(bytes[..1700].to_vec()).unwrap_err();
        assert_eq!((e.kind(), e.offset()), (ErrorKind::Truncated, Some(1536)));
        let mut bad = bytes;
        bad[1536] ^= 1;
        let e = open(bad).unwrap_err();
        assert_eq!((e.kind(), e.offset()), (ErrorKind::Malformed, Some(1536)));
    }

    #[test]
    fn an_archive_without_end_mark_is_complete() {
        let bytes = archive(&[("a", &[1; 512])]);
        assert_eq!(open(bytes[..1024].to_vec()).unwrap().members.len(), 1);
    }
}
