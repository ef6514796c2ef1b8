//! What is left of a damaged archive: which members are there, and which of them a checksum proves.
//!
//! An archive says everything twice: the directory's entries, and the local headers with their data descriptors. Each
//! directory in the file is tried (an older one may follow a shorter file that was written over it, or come before the
//! one of an edit in place), and the one that most of the file agrees with counts; without any, the local headers alone.
//! A member is whole when one of its CRC-32s is that of its bytes. Where none is stated
//! (`torch.serialization.set_crc32_options(False)` writes 0 in both places), it is when nothing says otherwise.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::DeflateDecoder;
use rayon::prelude::*;

use super::directory::{DirectoryEntry, half, word};
use super::walk::{LocalMember, Signatures};
use super::{
    END_RECORD, END_RECORD_BYTES, LOCAL_HEADER_BYTES, Member, ZIP64_END_RECORD, ZIP64_LOCATOR, Zip, check_name,
};
use crate::container::detect::damage::pickled_lengths;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::source::{Cursor, SharedSource, Window, read_vec};

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const SIZES_FOLLOW: u16 = 1 << 3;
/// Entries of a directory that are looked at to find out where its archive begins.
const LOOKED_AT: usize = 64;
/// A damaged entry is at most as long as this with a name of a reasonable length.
const MAX_ENTRY_BYTES: u64 = 4096;
/// Where torch aligns the data of a member.
const ALIGNMENT: u64 = 64;

impl Zip {
    /// What is left of an archive, whatever happened to it; a sound one comes out as [`Zip::open`] reads it, with every
    /// checksum looked at. Members say what casts doubt on them, [`Zip::damage`] what is wrong as a whole.
    pub fn salvage(source: SharedSource, limits: &Limits) -> Result<Self> {
        let signatures = Signatures::find(source.as_ref(), limits.max_members)?;
        let locals = signatures.local_members(&source)?;
        let by_start = locals.iter().map(|local| (local.header_start, local)).collect();
        let mut by_name: HashMap<&str, Vec<&LocalMember>> = HashMap::with_capacity(locals.len());
        for local in &locals {
            by_name.entry(&local.name).or_default().push(local);
        }
        let budget = AtomicU64::new(source.len().saturating_mul(4).saturating_add(64 << 20));
        let work =
            Salvage { source: &source, limits, signatures: &signatures, locals: &locals, by_start, by_name, budget };
        let found = work.best()?;
        let mut zip = Zip {
            members: Vec::with_capacity(found.members.len()),
            by_name: super::ByName::with_capacity_and_hasher(found.members.len(), Default::default()),
            comment: Vec::new(),
            central_directory_start: found.directory_start,
            trailing_bytes: source.len().saturating_sub(found.end),
            top_folder: None,
            damage: found.damage,
            is_complete: found.is_complete,
            inflated: super::Cache::default(),
            limits: limits.clone(),
            source: Arc::clone(&source),
            loose: None,
        };
        for member in found.members {
            match zip.position(&member.name).and_then(|known| zip.members.get_mut(known)) {
                None => {
                    zip.by_name.insert(Arc::clone(&member.name), zip.members.len());
                    zip.members.push(member);
                }
                Some(known) if known.is_same(&member) => {}
                // the later one counts, and a proven one more than another
                Some(known) => {
                    let both_proven = known.doubt.is_none() && member.doubt.is_none();
                    if member.doubt.is_none() || known.doubt.is_some() {
                        *known = member;
                    }
                    if both_proven {
                        known.doubt = Some("the file has two members of this name".into());
                    }
                }
            }
        }
        zip.find_top();
        Ok(zip)
    }

    /// Archives that people made by hand have no folder, one folder more, or another thing before it. An archive that is
    /// the data of a member, whose end is lost, comes after what it is in.
    fn find_top(&mut self) {
        let folders = self.members.iter().filter_map(|member| main_folder(&member.name));
        let first: Option<Box<str>> = folders.min_by_key(|folder| depth(folder)).map(Into::into);
        self.top_folder = first.filter(|folder| **folder != *self.top());
    }
}

impl Member {
    /// Whether both are the same bytes as far as checksums go.
    fn is_same(&self, other: &Member) -> bool {
        self.doubt.is_none() && other.doubt.is_none() && (self.crc32, self.size) == (other.crc32, other.size)
    }
}

/// The folder of an archive that a member is the main thing of: the pickle, or what torch.export writes first.
fn main_folder(name: &str) -> Option<&str> {
    if name.starts_with("__MACOSX/") {
        return None;
    }
    let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
    match last {
        "data.pkl" | "archive_format" => Some(folder),
        last if last.ends_with(".json") => folder.strip_suffix("/models"),
        _ => None,
    }
}

fn depth(folder: &str) -> usize {
    folder.split('/').filter(|step| !step.is_empty()).count()
}

/// Entries that follow each other.
#[derive(Debug, Default)]
struct Run {
    entries: Vec<DirectoryEntry>,
    start: u64,
    end: u64,
    /// Entries between them were passed over.
    has_gap: bool,
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

/// One way to read the archive.
#[derive(Debug, Default)]
struct Candidate {
    members: Vec<Member>,
    damage: Vec<String>,
    directory_start: u64,
    end: u64,
    /// Whether no member can be missing.
    is_complete: bool,
}

impl Candidate {
    /// Whether it lies between the members of another one and its directory, and has no member in common with it, as the
    /// archive before an edit in place or under a shorter one has.
    fn is_inside(&self, other: &Candidate) -> bool {
        let first = |one: &Candidate| one.members.iter().map(|member| member.header_start).min();
        let (Some(start), Some(outer)) = (first(self), first(other)) else { return false };
        let starts: HashSet<u64> = other.members.iter().map(|member| member.header_start).collect();
        start > outer
            && self.directory_start < other.directory_start
            && self.members.iter().all(|member| !starts.contains(&member.header_start))
    }

    /// The main member first, then how much is right, then what was written last.
    fn rank(&self) -> (bool, Reverse<usize>, u64) {
        let is_main = |member: &Member| member.doubt.is_none() && main_folder(&member.name).is_some();
        let doubtful = self.members.iter().filter(|member| member.doubt.is_some()).count();
        (self.members.iter().any(is_main), Reverse(doubtful), self.end)
    }
}

/// What an archive is a part of.
#[derive(Debug, Clone, Copy)]
enum Around {
    Archive,
    /// Where it begins.
    Pickle(u64),
}

/// `BINBYTES8` and its length.
const MAX_LENGTH_BYTES: u64 = 9;

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
type Wrong = Option<&'static str>;

struct Salvage<'a> {
    source: &'a SharedSource,
    limits: &'a Limits,
    signatures: &'a Signatures,
    locals: &'a [LocalMember],
    by_start: HashMap<u64, &'a LocalMember>,
    by_name: HashMap<&'a str, Vec<&'a LocalMember>>,
    /// Bytes that may still be summed up: directories can claim the same bytes any number of times.
    budget: AtomicU64,
}

impl Salvage<'_> {
    fn best(&self) -> Result<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        let mut ends = vec![0];
        for run in self.runs()? {
            let (count, end) = self.end_of(&run)?;
            ends.extend(self.shift(&run)?);
            let Some(base) = self.base(&run, &ends) else { continue };
            let is_complete = !run.has_gap && count == Some(run.entries.len() as u64);
            let mut candidate = self.of_run(&run, base, is_complete, end)?;
            if is_complete && !self.end_is_right(&run, base)? {
                candidate.damage.push("what the zip directory's end records say is not true of it".to_owned());
            }
            if is_complete {
                ends.push(end);
            }
            found.push(candidate);
        }
        // an archive that is the data of a member is not the file
        let inner: Vec<bool> = found.iter().map(|one| found.iter().any(|other| one.is_inside(other))).collect();
        let mut inner = inner.into_iter();
        found.retain(|_| !inner.next().unwrap_or(false));
        // nor is what lies in the data of something else, whose own directory is lost
        let mut outside = Vec::new();
        let mut in_pickle = None;
        for one in found {
            match self.around(&one, &ends)? {
                None => outside.push(one),
                Some(Around::Archive) => {}
                Some(Around::Pickle(at)) => in_pickle = in_pickle.or(Some(at)),
            }
        }
        let mut found = outside;
        if let Some(at) = in_pickle.filter(|_| found.is_empty()) {
            let message = "the archive that is left was part of a pickle, whose beginning is lost";
            return Err(Error::malformed(message).at(self.source.absolute(at)));
        }
        let best = found.iter().map(Candidate::rank).enumerate().max_by_key(|(_, rank)| *rank);
        if let Some((at, (true, ..))) = best {
            let mut best = found.swap_remove(at);
            if !found.is_empty() && best.end < self.source.len() {
                let after = self.source.len() - best.end;
                best.damage
                    .push(format!("the last {after} bytes, of another archive that is not all there, are left aside"));
            }
            return Ok(best);
        }
        let walked = self.walked()?;
        let is_better = |found: &Candidate| found.is_complete || found.rank() >= walked.rank();
        let at = best.map(|(at, _)| at).filter(|at| found.get(*at).is_some_and(is_better));
        Ok(at.map_or(walked, |at| found.swap_remove(at)))
    }

    /// What a candidate is a part of: the archive whose member's data it is, or between whose members it lies; or a pickle,
    /// which says how long its byte strings are.
    fn around(&self, one: &Candidate, ends: &[u64]) -> Result<Option<Around>> {
        let starts: HashSet<u64> = one.members.iter().map(|member| member.header_start).collect();
        let Some(start) = starts.iter().copied().min().filter(|start| *start > 0) else { return Ok(None) };
        let before = || self.locals.iter().filter(|local| local.header_start < start);
        // of archives that follow each other the last one ends the file
        let is_between = one.end < self.source.len() && before().any(|local| !local.is_inside);
        if is_between || before().any(|local| local.data_start == start) {
            return Ok(Some(Around::Archive));
        }
        let from = start.saturating_sub(MAX_LENGTH_BYTES);
        let head = read_vec(self.source.as_ref(), from, start - from)?;
        // the directory may be that of another one like it
        let is_end = |len: u64| start.checked_add(len).is_some_and(|end| end == one.end || ends.contains(&end));
        let is_length = pickled_lengths(&head).into_iter().any(is_end);
        Ok(is_length.then_some(Around::Pickle(start)))
    }

    /// Every directory, or what is left of it.
    fn runs(&self) -> Result<Vec<Run>> {
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
    fn end_of(&self, run: &Run) -> Result<(Option<u64>, u64)> {
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
    fn end_is_right(&self, run: &Run, base: u64) -> Result<bool> {
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
    fn shift(&self, run: &Run) -> Result<Option<u64>> {
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
    fn base(&self, run: &Run, ends: &[u64]) -> Option<u64> {
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

    /// The archive as one directory tells it.
    fn of_run(&self, run: &Run, base: u64, is_complete: bool, end: u64) -> Result<Candidate> {
        let mut starts: Vec<u64> =
            run.entries.iter().filter_map(|entry| base.checked_add(entry.header_start)).collect();
        starts.sort_unstable();
        let next = |start: u64| {
            let after = starts.partition_point(|other| *other <= start);
            starts.get(after).copied().unwrap_or(run.start)
        };
        let entries: Vec<(&DirectoryEntry, u64)> =
            run.entries.iter().filter_map(|entry| Some((entry, base.checked_add(entry.header_start)?))).collect();
        let judged: Result<Vec<_>> =
            entries.par_iter().map(|(entry, start)| self.judge(*start, Some(entry), next(*start))).collect();
        let (mut members, mut damage) = (Vec::new(), Vec::new());
        let judged = judged?;
        // an entry whose name is damaged speaks of nothing; what it stood for has a local header
        let is_complete = is_complete && judged.iter().all(Option::is_some);
        let told = judged.iter().zip(&entries).filter(|(judged, _)| judged.is_some());
        let named: HashSet<u64> = told.map(|(_, (_, start))| *start).collect();
        for (mut member, wrong) in judged.into_iter().flatten() {
            if let Some(wrong) = wrong.filter(|_| member.doubt.is_none()) {
                damage.push(format!("{}: {wrong}", member.name));
            }
            if let Some(mut other) = self.by_its_header(&member)? {
                damage.push(format!("{}: its local header calls it {}", member.name, other.name));
                // of numpy's arrays nothing else says what they are called
                if [&member, &other].iter().any(|member| member.name.ends_with(".npy")) {
                    member.doubt = Some(format!("its local header calls it {}", other.name).into());
                    other.doubt = Some(format!("the zip directory calls it {}", member.name).into());
                }
                members.push(other);
            }
            members.push(member);
        }
        if !is_complete {
            damage.push("the zip directory or its end record is damaged".to_owned());
            let names: HashSet<Arc<str>> = members.iter().map(|member: &Member| Arc::clone(&member.name)).collect();
            let unnamed: Vec<&LocalMember> = self
                .locals
                .iter()
                .filter(|local| !local.is_inside && (base..run.start).contains(&local.header_start))
                .filter(|local| !named.contains(&local.header_start) && !names.contains(local.name.as_str()))
                .collect();
            let more: Result<Vec<_>> =
                unnamed.par_iter().map(|local| self.judge(local.header_start, None, run.start)).collect();
            members.extend(more?.into_iter().flatten().map(|(member, _)| member));
        }
        if base > 0 {
            let what = if self.by_start.contains_key(&0) { ", another archive," } else { "" };
            damage.push(format!("{base} bytes before the archive{what} are left aside"));
        }
        let is_complete = is_complete || self.fill(base, run.start);
        Ok(Candidate { members, damage, directory_start: run.start, end, is_complete })
    }

    /// A whole member under the name that its local header has, where the directory has another one for the same bytes: one of
    /// the two is damaged.
    fn by_its_header(&self, member: &Member) -> Result<Option<Member>> {
        let there = self.by_start.get(&member.header_start).filter(|local| *local.name != *member.name);
        let Some(local) = there.filter(|_| member.doubt.is_none()) else { return Ok(None) };
        let found = self.judge_at(local.header_start, None, self.source.len())?.map(|(found, _)| found);
        let is_same = |found: &Member| {
            let agrees = (found.crc32, found.size, found.data_at) == (member.crc32, member.size, member.data_at);
            agrees && found.doubt.is_none() && found.name != member.name
        };
        Ok(found.filter(is_same))
    }

    /// Whether the members with a local header lie end to end between two places, so that there can be no other.
    fn fill(&self, from: u64, to: u64) -> bool {
        let mut at = from;
        let inside = self.locals.iter().filter(|local| !local.is_inside && (from..to).contains(&local.header_start));
        for local in inside {
            // a data descriptor is not part of the data, and not every member has one
            if !local.header_start.checked_sub(at).is_some_and(|after| [0, 16, 24].contains(&after)) {
                return false;
            }
            at = local.data_start.saturating_add(local.compressed_size);
        }
        at > from && to.checked_sub(at).is_some_and(|after| [0, 16, 24].contains(&after))
    }

    /// The archive as its local headers alone tell it.
    fn walked(&self) -> Result<Candidate> {
        let locals: Vec<&LocalMember> = self.locals.iter().filter(|local| !local.is_inside).collect();
        let end = self.source.len();
        let judged: Result<Vec<_>> = locals.par_iter().map(|local| self.judge(local.header_start, None, end)).collect();
        let members = judged?.into_iter().flatten().map(|(member, _)| member).collect();
        let damage = vec!["the zip directory is missing".to_owned()];
        Ok(Candidate { members, damage, directory_start: end, end, is_complete: false })
    }

    /// The same as [`Self::judge_at`], of a member that may lie elsewhere than the directory says: where a header with its
    /// name is, and the checksum that the directory states is right.
    fn judge(&self, at: u64, entry: Option<&DirectoryEntry>, next: u64) -> Result<Option<(Member, Wrong)>> {
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
    fn judge_at(&self, at: u64, entry: Option<&DirectoryEntry>, next: u64) -> Result<Option<(Member, Wrong)>> {
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
            other_name: None,
            header_start: at,
            compressed_size: claim.stored,
            size: claim.size,
            crc32: claim.crc32,
            method,
            flags,
            is_whole: true,
            doubt: None,
            data_at: Some(start),
            bound: self.source.len(),
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
        Member { is_whole, doubt: Some(why.into()), ..self.member(name, at, start.min(len), &claim, method, flags) }
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
