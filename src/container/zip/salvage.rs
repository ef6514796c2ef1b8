//! What is left of a damaged archive: which members are there, and which of them a checksum proves.
//!
//! An archive says everything twice: the directory's entries, and the local headers with their data descriptors. Each
//! directory in the file is tried (an older one may follow a shorter file that was written over it, or come before the
//! one of an edit in place), and the one that most of the file agrees with counts; without any, the local headers alone.
//! A member is whole when one of its CRC-32s is that of its bytes. Where none is stated
//! (`torch.serialization.set_crc32_options(False)` writes 0 in both places), it is when nothing says otherwise.

mod judge;
mod runs;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rayon::prelude::*;

use self::runs::Run;
use super::directory::DirectoryEntry;
use super::walk::{LocalMember, Signatures};
use super::{Member, Zip};
use crate::container::detect::damage::pickled_lengths;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{SharedSource, read_vec};

/// Entries of a directory that are looked at to find out where its archive begins.
const LOOKED_AT: usize = 64;

impl Zip {
    /// What is left of an archive, whatever happened to it; a sound one comes out as [`Zip::open`] reads it, with every
    /// checksum looked at. Members say what casts doubt on them, [`Zip::damage`] what is wrong as a whole.
    pub(crate) fn salvage(source: SharedSource, limits: &Limits) -> Result<Self> {
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
            by_name: super::ByName::with_capacity(found.members.len()),
            comment: Vec::new(),
            central_directory_start: found.directory_start,
            trailing_bytes: source.len().saturating_sub(found.end),
            top_folder: None,
            damage: found.damage,
            is_complete: found.is_complete,
            is_own_file: false,
            inflated: super::Cache::default(),
            limits: limits.clone(),
            source: Arc::clone(&source),
            loose: None,
        };
        for member in found.members {
            match zip.position(&member.name).and_then(|known| zip.members.get_mut(known)) {
                None => {
                    zip.by_name.insert(&zip.members, &member.name);
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
                // an entry may be made of two, where a part of the directory is lost
                let is_elsewhere = self.by_name.get(&*member.name).is_some_and(|there| !there.is_empty());
                // of numpy's arrays nothing else says what they are called
                let is_array = [&member, &other].iter().any(|member| member.name.ends_with(".npy"));
                if is_elsewhere || is_array {
                    member.doubt = Some(format!("its local header calls it {}", other.name).into());
                }
                if is_array {
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
}
