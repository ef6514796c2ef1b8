//! Whether what a file promises is there: checksums, storages, the bounds of tensors, members that nothing names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use rayon::prelude::*;

use super::finding::{Finding, Severity};
use super::numerics::numerics;
use crate::checkpoint::{Checkpoint, Container, Item, Oddity, SavedPart, TensorId};
use crate::container::compress::expand;
use crate::container::detect::{Framing, detect};
use crate::container::zip::{Ahead, Flavor, Member, Zip};
use crate::data::gather::for_each_block;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::Silent;
use crate::source::SharedSource;

/// Findings of one kind that are told one by one; the rest is counted.
const MAX_TOLD: usize = 20;

/// How much of a file is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Depth {
    /// Checksums: all bytes are read.
    pub data: bool,
    /// Tensors' numbers: all bytes are read and looked at.
    pub numerics: bool,
}

/// What is wrong with a checkpoint that could be opened.
pub(crate) fn of_checkpoint(checkpoint: &Checkpoint, depth: Depth) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    storages(checkpoint, &mut found);
    tensors(checkpoint, depth, &mut found)?;
    if let Some(zip) = checkpoint.zip() {
        archive(checkpoint, zip, depth, &mut found)?;
    }
    parts(checkpoint, depth, &mut found)?;
    oddities(checkpoint, &mut found);
    if depth.data {
        copies(checkpoint, &mut found)?;
    }
    if checkpoint.container() == Container::Legacy {
        found.extend(checkpoint.notes.iter().map(|note| Finding::new(Severity::Warning, "trailing-data", note, "")));
    }
    if depth.numerics {
        found.extend(numerics(checkpoint)?);
    }
    Ok(found)
}

/// The code of the finding that an error is.
pub(crate) fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Truncated => "truncated",
        ErrorKind::Limit => "limit",
        ErrorKind::Unsupported => "unsupported",
        _ => "malformed",
    }
}

/// What a file that could not be opened tells, and how much of an archive without its end is there.
pub(crate) fn of_broken(source: &SharedSource, e: &Error, limits: &Limits) -> Result<Vec<Finding>> {
    let place = match (e.member(), e.offset()) {
        (Some(member), Some(offset)) => format!("{member}, byte {offset}"),
        (Some(member), None) => member.to_owned(),
        (None, Some(offset)) => format!("byte {offset}"),
        (None, None) => String::new(),
    };
    let code = code(e.kind());
    let mut message = e.message();
    // a bound that was met is met again
    let left = if e.kind() == ErrorKind::Limit { None } else { or_nothing(left(source, limits))? };
    if let Some((whole, all)) = left.filter(|(_, all)| *all > 0) {
        message.push_str(&match whole {
            0 => "; no tensor is whole".to_owned(),
            whole if whole == all => "; all tensors are whole, `ckpt repair` saves them".to_owned(),
            whole => format!("; {whole} of {all} tensors are whole, `ckpt repair` saves them"),
        });
    }
    // what else could be advised has just been said
    let advice = e.advice().filter(|_| e.kind() == ErrorKind::Limit).cloned();
    Ok(vec![Finding { advice, ..Finding::new(Severity::Error, code, message, &place) }])
}

/// How many tensors of a damaged file are whole, and how many it had.
fn left(source: &SharedSource, limits: &Limits) -> Result<(u64, u64)> {
    let mut checkpoint = Checkpoint::open_damaged(Arc::clone(source), limits, &Silent)?;
    let names = checkpoint.names(&checkpoint.top())?;
    let all = names.entries.iter().filter(|entry| matches!(entry.item, Item::Tensor(..))).count() as u64;
    if checkpoint.pickle_doubt().is_some() {
        return Ok((0, all));
    }
    checkpoint.distrust();
    Ok((all.saturating_sub(checkpoint.lost()?.len() as u64), all))
}

/// What cannot be understood has nothing to give; what cannot be read is an error.
fn or_nothing<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(e) if e.kind() == ErrorKind::Io => Err(e),
        other => Ok(other.ok()),
    }
}

/// Adds the first findings of one kind, and how many more there are.
fn tell(found: &mut Vec<Finding>, severity: Severity, code: &'static str, all: Vec<(String, String)>) {
    let more = all.len().saturating_sub(MAX_TOLD);
    found.extend(all.into_iter().take(MAX_TOLD).map(|(place, message)| Finding::new(severity, code, message, &place)));
    if more > 0 {
        found.push(Finding::new(severity, code, format!("and {more} more like these"), ""));
    }
}

fn storages(checkpoint: &Checkpoint, found: &mut Vec<Finding>) {
    let (mut missing, mut short, mut long, mut retyped) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut classes: HashMap<(Option<*const Zip>, &str), &str, RandomState> = HashMap::default();
    for (_, storage) in checkpoint.storages.iter() {
        let place = || format!("storage {}", storage.key);
        // several files have storages of the same key
        let archive = storage.member().map(|(zip, _)| Arc::as_ptr(zip));
        let first = *classes.entry((archive, &storage.key)).or_insert(&storage.class);
        // what holds nothing may be anything: torch itself writes such
        if first != &*storage.class && storage.numel > 0 && &*storage.location != "meta" {
            let message =
                format!("is named as {first} and as {}: older versions of torch read only the first", storage.class);
            retyped.push((place(), message));
        }
        let wanted = storage.dtype.size().and_then(|size| storage.numel.checked_mul(u64::from(size)));
        match (storage.available(), wanted) {
            // nobody reads them
            _ if &*storage.location == "meta" => {}
            (None, _) if storage.numel == 0 => {}
            (None, _) => {
                let why = storage.missing().unwrap_or("its bytes are missing");
                // the place says already which one
                let why = why.strip_prefix(&place()).map_or(why, str::trim_start).to_owned();
                missing.push((place(), why));
            }
            (Some(have), Some(want)) if have < want => {
                short.push((place(), format!("has {have} bytes where the pickle says {want}")));
            }
            (Some(have), Some(want)) if have > want => {
                long.push((place(), format!("has {have} bytes where the pickle says {want}")));
            }
            _ => {}
        }
    }
    tell(found, Severity::Error, "storage-missing", missing);
    tell(found, Severity::Error, "storage-short", short);
    tell(found, Severity::Warning, "storage-size", long);
    tell(found, Severity::Warning, "storage-retyped", retyped);
}

fn tensors(checkpoint: &Checkpoint, depth: Depth, found: &mut Vec<Finding>) -> Result<()> {
    let names = checkpoint.names(&checkpoint.top())?;
    let (mut problems, mut to_verify) = (Vec::new(), Vec::new());
    for entry in &names.entries {
        let Item::Tensor(id, _) = entry.item else { continue };
        let Some(tensor) = checkpoint.tensor(id) else { continue };
        match &tensor.problem {
            Some(problem) => problems.push((entry.name(), problem.clone())),
            None => to_verify.extend(tensor.array().filter(|_| depth.data).map(|source| (entry, source))),
        }
    }
    tell(found, Severity::Error, "tensor-outside", problems);
    tell(found, Severity::Error, "dtype-unknown", unknown_dtypes(checkpoint, &names));
    let verified: Vec<Result<()>> = to_verify.par_iter().map(|(_, source)| source.verify()).collect();
    let mut broken = Vec::new();
    for ((entry, _), verified) in to_verify.iter().zip(verified) {
        match verified {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            Err(e) => broken.push((entry.name(), e.message())),
        }
    }
    tell(found, Severity::Error, "chunk-invalid", broken);
    Ok(())
}

/// Tensors of safetensors files whose dtype this program does not know, and carries as bytes.
fn unknown_dtypes(checkpoint: &Checkpoint, names: &crate::checkpoint::names::Names) -> Vec<(String, String)> {
    let tensors = names.entries.iter().filter_map(|entry| match entry.item {
        Item::Tensor(id, _) => Some((entry, checkpoint.tensor(id)?)),
        _ => None,
    });
    // a pickle names its dtypes by the classes of torch
    let unknown = tensors.filter_map(|(entry, tensor)| {
        let dtype = tensor.dtype.as_ref().filter(|dtype| dtype.size().is_none())?;
        let message = format!("safetensors has no dtype {}: the file does not load", dtype.name().to_uppercase());
        Some((entry.name(), message))
    });
    match checkpoint.container() {
        Container::Safetensors | Container::Sharded => unknown.collect(),
        _ => Vec::new(),
    }
}

fn archive(checkpoint: &Checkpoint, zip: &Arc<Zip>, depth: Depth, found: &mut Vec<Finding>) -> Result<()> {
    if zip.trailing_bytes > 0 {
        let message = format!("{} bytes stand after the end of the archive", zip.trailing_bytes);
        found.push(Finding::new(Severity::Warning, "trailing-data", message, ""));
    }
    if zip.trailing_bytes == 0 && !zip.is_found()? {
        let message = "the last end record does not lead to the zip directory: neither torch nor zipfile opens the file; \
                       `ckpt repair` writes it again";
        found.push(Finding::new(Severity::Error, "zip-end-record", message, ""));
    }
    if matches!(checkpoint.container(), Container::Zip | Container::TorchScript) {
        unreferenced(checkpoint, zip, found);
    }
    if checkpoint.container() != Container::Npz {
        directory(zip, found)?;
    }
    if depth.data { checksums(zip, found) } else { Ok(()) }
}

/// What torch's reader of zips refuses, or takes for something else than it is.
fn directory(zip: &Zip, found: &mut Vec<Finding>) -> Result<()> {
    let reading = zip.as_torch_reads()?;
    for (code, all) in [
        ("zip-directory", reading.refused.into_iter().collect::<Vec<_>>()),
        ("member-unreadable", reading.as_folders),
        ("member-unreadable", reading.unread),
    ] {
        let place = |e: &Error| match (e.member(), e.offset()) {
            (Some(member), Some(offset)) => format!("{member}, byte {offset}"),
            (member, offset) => member.map_or(offset.map_or(String::new(), |at| format!("byte {at}")), str::to_owned),
        };
        tell(found, Severity::Error, code, all.iter().map(|e| (place(e), told(e, code))).collect());
    }
    Ok(())
}

fn told(e: &Error, code: &str) -> String {
    if code == "zip-directory" { format!("torch refuses the archive: {}", e.message()) } else { e.message() }
}

/// What the files of a checkpoint of several say and is not so, of each kind the first ones.
fn oddities(checkpoint: &Checkpoint, found: &mut Vec<Finding>) {
    let mut kinds: Vec<(&'static str, Vec<(String, String)>)> = Vec::new();
    for Oddity { code, place, message } in &checkpoint.oddities {
        let told = (place.clone(), message.clone());
        match kinds.iter_mut().find(|(kind, _)| kind == code) {
            Some((_, all)) => all.push(told),
            None => kinds.push((code, vec![told])),
        }
    }
    kinds.into_iter().for_each(|(code, all)| tell(found, Severity::Warning, code, all));
}

/// Storages that no object names: left over, or hidden.
fn unreferenced(checkpoint: &Checkpoint, zip: &Zip, found: &mut Vec<Finding>) {
    let prefix = if zip.top().is_empty() { String::new() } else { format!("{}/", zip.top()) };
    let named: HashSet<&str, RandomState> = checkpoint.storages.iter().map(|(_, storage)| &*storage.key).collect();
    let members = zip.members.iter().filter(|member| !member.is_dir());
    let left = members.filter(|member| {
        let name = member.name.strip_prefix(&prefix);
        name.and_then(|name| name.strip_prefix("data/")).is_some_and(|key| !named.contains(key))
    });
    let left = left.map(|member| (member.name.to_string(), format!("no object names these {} bytes", member.size)));
    tell(found, Severity::Info, "member-unreferenced", left.collect());
}

/// A member's CRC-32, and the one that is stated of it.
type Sum = Result<(u32, Option<u32>)>;

/// Members of which one is as good as another, and how many of them are read by one core at a time.
const MANY: usize = 4096;
const TOGETHER: usize = 64;

/// Every member's data against its CRC-32, members in parallel. `torch.serialization.set_crc32_options(False)` has 0
/// written for it, in the directory and in the data descriptor.
pub(crate) fn checksums(zip: &Zip, found: &mut Vec<Finding>) -> Result<()> {
    checksums_of(zip, |_| true, found)
}

/// The same of the members that are `wanted`.
pub(crate) fn checksums_of(zip: &Zip, wanted: impl Fn(&Member) -> bool, found: &mut Vec<Finding>) -> Result<()> {
    let has_data = |member: &&Member| member.is_whole && !member.is_dir() && member.size > 0;
    let members: Vec<_> = zip.members.iter().filter(has_data).filter(|member| wanted(member)).collect();
    let sum = |ahead: &mut Ahead, member: &&Member| -> Sum {
        let sum = zip.crc32_ahead(ahead, member)?;
        Ok((sum, if sum == member.crc32 { Some(sum) } else { zip.stated_crc(member)? }))
    };
    // large members one by one, so that all cores have some; of many small ones, those that lie together
    let together = if members.len() > MANY { TOGETHER } else { 1 };
    let sums: Vec<Vec<Sum>> = members
        .par_chunks(together)
        .with_max_len(1)
        .map(|members| {
            let mut ahead = Ahead::default();
            members.iter().map(|member| sum(&mut ahead, member)).collect()
        })
        .collect();
    let (mut wrong, mut unreadable, mut unused) = (Vec::new(), Vec::new(), 0u64);
    for (member, sum) in members.iter().zip(sums.into_iter().flatten()) {
        match sum {
            Ok((_, None)) => unused += 1,
            Ok((sum, Some(_))) if sum == member.crc32 => {}
            Ok((sum, Some(_))) => {
                let message = format!("CRC-32 {sum:08x} where the archive says {:08x}", member.crc32);
                wrong.push((member.name.to_string(), message));
            }
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            Err(e) => unreadable.push((member.name.to_string(), e.message())),
        }
    }
    if unused > 0 {
        let message = match unused == members.len() as u64 {
            true => "no member has a CRC-32: it was written without (set_crc32_options(False))".to_owned(),
            false => format!("{unused} members have no CRC-32: they were written without (set_crc32_options(False))"),
        };
        found.push(Finding::new(Severity::Info, "crc-unused", message, ""));
    }
    tell(found, Severity::Error, "crc-mismatch", wrong);
    tell(found, Severity::Error, "member-unreadable", unreadable);
    Ok(())
}

/// Whether what several ranks have is the same.
fn copies(checkpoint: &Checkpoint, found: &mut Vec<Finding>) -> Result<()> {
    let is_copied = |id: &TensorId| checkpoint.made_of.get(id).is_some_and(|made| made.has_copies);
    if !checkpoint.made_of.values().any(|made| made.has_copies) {
        return Ok(());
    }
    let mut seen = HashSet::new();
    let mut differing = Vec::new();
    for entry in &checkpoint.names(&checkpoint.top())?.entries {
        let Item::Tensor(id, _) = entry.item else { continue };
        let Some(tensor) = checkpoint.tensor(id).filter(|_| is_copied(&id) && seen.insert(id)) else { continue };
        // what cannot be read at all has been told
        let Ok(elements) = tensor.readable(&checkpoint.storages) else { continue };
        match for_each_block(&elements, &checkpoint.limits, &mut |_| Ok::<(), Error>(())) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            Err(e) => differing.push((entry.name(), e.message())),
        }
    }
    tell(found, Severity::Error, "ranks-differ", differing);
    Ok(())
}

/// The checksums of the archives that the parts of a checkpoint of several files hold, one for each chunk.
fn parts(checkpoint: &Checkpoint, depth: Depth, found: &mut Vec<Finding>) -> Result<()> {
    if !depth.data {
        return Ok(());
    }
    let mut seen = HashSet::new();
    let each_once: Vec<_> = checkpoint
        .framed
        .saved()
        .iter()
        .filter(|part| seen.insert((&part.file, part.bytes.absolute(0), part.bytes.len())))
        .collect();
    let of_each: Vec<Result<Vec<Finding>>> = each_once
        .par_iter()
        .map(|SavedPart { file, bytes: saved, .. }| {
            let mut found = Vec::new();
            let opened = match detect(saved.as_ref()) {
                Ok(Framing::Zip) => Zip::open(Arc::clone(saved), &checkpoint.limits),
                Ok(Framing::Compressed(kind)) => expand(saved, kind, &checkpoint.limits, &Silent)
                    .and_then(|expanded| Zip::open(expanded, &checkpoint.limits)),
                _ => return Ok(found),
            };
            match opened {
                Ok(zip) => {
                    if !matches!(zip.flavor(), Ok(Flavor::Npz)) {
                        directory(&zip, &mut found)?;
                    }
                    checksums(&zip, &mut found)?;
                }
                Err(e) if e.kind() == ErrorKind::Io => return Err(e),
                Err(e) => found.push(Finding::of_error(Severity::Error, code(e.kind()), &e, "")),
            }
            for finding in &mut found {
                let begins = format!("{file}, the archive at byte {}", saved.absolute(0));
                finding.place = Some(match finding.place.take().filter(|place| !place.is_empty()) {
                    Some(place) => format!("{begins}, {place}"),
                    None => begins,
                });
            }
            Ok(found)
        })
        .collect();
    let mut told: HashMap<&str, usize> = HashMap::new();
    let mut more = 0;
    for finding in of_each.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        let count = told.entry(finding.code).or_default();
        *count += 1;
        if *count <= MAX_TOLD { found.push(finding) } else { more += 1 }
    }
    if more > 0 {
        found.push(Finding::new(Severity::Error, "crc-mismatch", format!("and {more} more like these"), ""));
    }
    Ok(())
}
