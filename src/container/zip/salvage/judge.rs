//! One member: what the directory, its local header and its data descriptor say of it, and which of them its bytes prove.

use std::collections::HashSet;
use std::io::{BufReader, Read};
use std::sync::atomic::Ordering;

use flate2::bufread::DeflateDecoder;

use super::super::directory::DirectoryEntry;
use super::super::walk::LocalMember;
use super::super::{LOCAL_HEADER_BYTES, Member, Odd, check_name};
use super::{LOOKED_AT, Salvage};
use crate::error::{ErrorKind, Result};
use crate::source::{Cursor, Window};

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const SIZES_FOLLOW: u16 = 1 << 3;
/// Where torch aligns the data of a member.
const ALIGNMENT: u64 = 64;

/// What a place in the file says of a member's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    stored: u64,
    size: u64,
    crc32: u32,
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Directory,
    Descriptor,
    Header,
}

/// Where data begins, how many bytes it has, and how many inflated; and its CRC-32, where it has one.
type Sum = ((u64, u64, u64), Option<u32>);

/// What is wrong around a member's data.
pub(super) type Wrong = Option<&'static str>;

impl Salvage<'_> {
    /// The same as [`Self::judge_at`], of a member that may lie elsewhere than the directory says: where a header with its
    /// name is, and the checksum that the directory states is right.
    pub(super) fn judge(&self, at: u64, entry: Option<&DirectoryEntry>, next: u64) -> Result<Option<(Member, Wrong)>> {
        let found = self.judge_at(at, entry, next)?;
        let Some(entry) = entry.filter(|_| found.as_ref().is_none_or(|(member, _)| member.doubt.is_some())) else {
            return Ok(found);
        };
        let name = std::str::from_utf8(&entry.name).unwrap_or_default();
        let elsewhere = self.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        if elsewhere.iter().any(|local| local.header_start == at) {
            return Ok(found);
        }
        for local in elsewhere.iter().take(LOOKED_AT) {
            let start = local.header_start;
            if let Some((member, _)) = self.judge_at(start, Some(entry), next)?
                && member.doubt.is_none()
                && (member.crc32, member.size) == (entry.crc32, entry.size)
                && (member.crc32 != 0 || elsewhere.len() == 1)
            {
                return Ok(Some((member, Some("the zip directory leads to another place"))));
            }
        }
        Ok(found)
    }

    /// What is to be thought of the member whose local header is, or was, at byte `at`; and what is wrong around data that
    /// is right. Nothing where there is neither name nor header.
    pub(super) fn judge_at(
        &self,
        at: u64,
        entry: Option<&DirectoryEntry>,
        next: u64,
    ) -> Result<Option<(Member, Wrong)>> {
        let there = self.by_start.get(&at).copied();
        let agreeing = there.filter(|local| entry.is_none_or(|entry| local.name.as_bytes() == entry.name));
        let name = match (entry, there) {
            (Some(entry), _) => String::from_utf8_lossy(&entry.name).into_owned(),
            (None, Some(local)) => local.name.clone(),
            (None, None) => return Ok(None),
        };
        if check_name(&name).is_err() {
            return Ok(None);
        }
        let method = entry.map_or_else(|| there.map_or(STORED, |local| local.method), DirectoryEntry::method);
        let flags = entry.map_or_else(|| there.map_or(0, |local| local.flags), DirectoryEntry::flags);
        let mut stated = 0;
        let mut first: Option<(u64, Claim)> = None;
        let mut unstated: Option<(u64, Claim)> = None;
        let mut sums: Vec<Sum> = Vec::new();
        for start in self.starts(at, agreeing, there, entry, next) {
            let claims = self.claims(start, entry, there.filter(|local| local.data_start == start), method);
            // what follows another member's data is not said of this one
            for claim in claims.iter().filter(|claim| claim.by == By::Directory || agreeing.is_some()) {
                first.get_or_insert((start, *claim));
                if claim.crc32 == 0 && claim.size > 0 {
                    // what says nothing of its checksum must say as much in both places
                    if agreeing.is_some() && is_agreed(&claims, flags) {
                        unstated.get_or_insert((start, *claim));
                    }
                    continue;
                }
                stated += 1;
                let bytes = (start, claim.stored, claim.size);
                let known = sums.iter().find(|(known, _)| *known == bytes);
                let sum = match known {
                    Some((_, sum)) => *sum,
                    None => {
                        let sum = self.sum(start, claim, method)?;
                        sums.push((bytes, sum));
                        sum
                    }
                };
                if sum == Some(claim.crc32) {
                    let mut member = self.member(name, at, start, claim, method, flags);
                    let told =
                        claims.iter().find(|other| other.by == By::Directory).filter(|_| claim.by != By::Directory);
                    if told.is_some_and(|told| told.crc32 != 0 && is_of_another(told.crc32, claim.crc32)) {
                        let why = "its data descriptor and the zip directory state different checksums: bytes of two files \
                                   may be mixed";
                        member.doubt = Some(why.into());
                    }
                    let wrong = match told {
                        Some(_) => Some("what the zip directory says of it is damaged"),
                        None if agreeing.is_none() => Some("its local header is damaged"),
                        None => None,
                    };
                    return Ok(Some((member, wrong)));
                }
            }
        }
        if let Some((start, claim)) = unstated.filter(|_| stated == 0)
            && start.checked_add(claim.stored).is_some_and(|end| end <= self.source.len())
        {
            return Ok(Some((self.member(name, at, start, &claim, method, flags), None)));
        }
        Ok(Some((self.doubtful(name, at, agreeing, there, first, &sums, method, flags), None)))
    }

    /// Where the data may begin: where the local header says; without one, where torch would put it, and where it ends
    /// right before a data descriptor or the next header.
    fn starts(
        &self,
        at: u64,
        agreeing: Option<&LocalMember>,
        there: Option<&LocalMember>,
        entry: Option<&DirectoryEntry>,
        next: u64,
    ) -> Vec<u64> {
        let mut starts = Vec::new();
        starts.extend(there.map(|local| local.data_start));
        if agreeing.is_none()
            && let Some(entry) = entry
        {
            let named = at.saturating_add(LOCAL_HEADER_BYTES + entry.name.len() as u64);
            starts.push(named.saturating_add(4).checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX));
            starts.push(named);
            let before = |tail: u64| next.checked_sub(entry.compressed_size.saturating_add(tail));
            starts.extend([16, 24, 0].into_iter().filter_map(before).filter(|start| *start >= named));
        }
        let mut seen = HashSet::new();
        starts.retain(|start| *start <= self.source.len() && seen.insert(*start));
        starts
    }

    /// What the file says of data that begins at byte `start`.
    fn claims(
        &self,
        start: u64,
        entry: Option<&DirectoryEntry>,
        local: Option<&LocalMember>,
        method: u16,
    ) -> Vec<Claim> {
        let mut claims = Vec::new();
        claims.extend(entry.map(|entry| Claim {
            stored: entry.compressed_size,
            size: entry.size,
            crc32: entry.crc32,
            by: By::Directory,
        }));
        if let Some(local) = local.filter(|local| local.flags & SIZES_FOLLOW == 0 || local.compressed_size == 0)
            && let (Some(size), Some(crc32), true) = (local.size, local.crc32, local.is_complete)
        {
            claims.push(Claim { stored: local.compressed_size, size, crc32, by: By::Header });
        }
        let told = self.signatures.descriptors_of(start).filter_map(|told| {
            let stored = told.start.checked_sub(start)?;
            let fits = method != STORED || told.size == stored;
            fits.then_some(Claim { stored, size: told.size, crc32: told.crc32, by: By::Descriptor })
        });
        claims.extend(told);
        claims
    }

    /// The CRC-32 of the data that a claim speaks of; nothing when it is not all there or does not inflate.
    fn sum(&self, start: u64, claim: &Claim, method: u16) -> Result<Option<u32>> {
        let is_there = start.checked_add(claim.stored).is_some_and(|end| end <= self.source.len());
        let most = if method == DEFLATED { self.limits.expanded_for(claim.stored) } else { claim.stored };
        if !is_there || claim.size > most || (method != STORED && method != DEFLATED) {
            return Ok(None);
        }
        let spent = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(claim.size));
        if spent.is_err() {
            return Ok(None);
        }
        let stored = Window::shared(self.source, start, claim.stored)?;
        let mut reader: Box<dyn Read> = match method {
            STORED => Box::new(Cursor::new(stored)),
            _ => {
                let inflated = DeflateDecoder::new(BufReader::with_capacity(64 << 10, Cursor::new(stored)));
                Box::new(inflated.take(claim.size.saturating_add(1)))
            }
        };
        let (mut hasher, mut total, mut block) = (crc32fast::Hasher::new(), 0_u64, vec![0; 256 << 10]);
        loop {
            match reader.read(&mut block) {
                Ok(0) => break,
                Ok(read) => {
                    hasher.update(block.get(..read).unwrap_or_default());
                    total += read as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let e = crate::container::compress::stream_error("deflate", e);
                    return if e.kind() == ErrorKind::Io { Err(e) } else { Ok(None) };
                }
            }
        }
        Ok((total == claim.size).then(|| hasher.finalize()))
    }

    fn member(&self, name: String, at: u64, start: u64, claim: &Claim, method: u16, flags: u16) -> Member {
        Member {
            header_start: at,
            compressed_size: claim.stored,
            size: claim.size,
            crc32: claim.crc32,
            method,
            flags,
            is_whole: true,
            bound: self.source.len(),
            odd: Some(Box::new(Odd { data_at: Some(start), ..Odd::default() })),
            name: name.into(),
        }
    }

    /// The member with what speaks against it.
    #[allow(clippy::too_many_arguments)]
    fn doubtful(
        &self,
        name: String,
        at: u64,
        agreeing: Option<&LocalMember>,
        there: Option<&LocalMember>,
        first: Option<(u64, Claim)>,
        sums: &[Sum],
        method: u16,
        flags: u16,
    ) -> Member {
        let len = self.source.len();
        let cut = there.map(|local| (local.data_start, local.compressed_size));
        let (start, claim) = first.unwrap_or_else(|| {
            let (start, left) = cut.unwrap_or((len, 0));
            (start, Claim { stored: left, size: left, crc32: 0, by: By::Header })
        });
        let sum = sums.iter().find_map(|(_, sum)| *sum);
        let left = len.saturating_sub(start);
        let why = if agreeing.is_none() {
            "its local header is damaged".to_owned()
        } else if first.is_none() {
            "its data descriptor is missing or wrong".to_owned()
        } else if claim.stored > left {
            format!("only {left} of its {} bytes are in the file", claim.stored)
        } else {
            match sum {
                Some(sum) => format!("its bytes have CRC-32 {sum:08x} where the archive says {:08x}", claim.crc32),
                None => "what the archive says of its size and checksum is not true".to_owned(),
            }
        };
        let is_whole = first.is_some() && claim.stored <= left;
        let stored = claim.stored.min(left);
        let size = if is_whole { claim.size } else { stored };
        let claim = Claim { stored, size, ..claim };
        let mut member = self.member(name, at, start.min(len), &claim, method, flags);
        member.is_whole = is_whole;
        member.doubt = Some(why.into());
        member
    }
}

/// Whether two checksums are those of different bytes. One of which a bit or two were flipped differs in no more.
fn is_of_another(a: u32, b: u32) -> bool {
    (a ^ b).count_ones() > 2
}

/// Whether everything that is said of a member says that it has no checksum, in as many places as there have to be.
fn is_agreed(claims: &[Claim], flags: u16) -> bool {
    let Some(first) = claims.first() else { return false };
    let second = if flags & SIZES_FOLLOW == 0 { By::Header } else { By::Descriptor };
    claims.iter().all(|claim| (claim.crc32, claim.size, claim.stored) == (0, first.size, first.stored))
        && claims.iter().any(|claim| claim.by == second)
}
