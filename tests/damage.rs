//! `repair` of files that were cut, of which bits were flipped or blocks became zeros, at any place: each tensor that it
//! saves is, bit by bit, the one that was there, and each that it does not save is named.
//!
//! `cargo test` takes a sample of the places; `CKPT_SWEEP=every cargo test --release --test damage` takes all of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

mod in_memory;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ckpt::checkpoint::salvage::Lost;
use ckpt::checkpoint::{Checkpoint, Container};
use ckpt::commands::repair::save_rest;
use ckpt::limits::Limits;
use ckpt::progress::Silent;
use ckpt::report::ls::Listing;
use ckpt::report::repair::Repair;
use ckpt::write::atomic::{Memory, Target};
use rayon::prelude::*;

use in_memory::{list_and_hash, memory};

/// Larger files say nothing more.
const MAX_BYTES: u64 = 64 << 10;
/// Places of a file that a sample takes of each kind of damage.
const SAMPLE: usize = 12;

fn every_place() -> bool {
    std::env::var_os("CKPT_SWEEP").is_some_and(|wanted| wanted == "every")
}

/// The files of testdata that torch or safetensors wrote, and are whole.
fn files() -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.metadata().unwrap().len() <= MAX_BYTES && !path.starts_with(root.join("hostile")) {
                let bytes = std::fs::read(&path).unwrap();
                if is_whole(&bytes) {
                    found.push((path, bytes));
                }
            }
        }
    }
    found.sort();
    found
}

/// Of a kind that is repaired, and with nothing to repair.
fn is_whole(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = Checkpoint::open(memory(bytes.to_vec()), &Limits::default(), &Silent) else { return false };
    let is_kind = matches!(
        checkpoint.container,
        Container::Zip | Container::TorchScript | Container::Legacy | Container::Safetensors
    );
    is_kind
        && matches!(repaired(bytes, false), Ok(None))
        && !tensors(&list_and_hash(memory(bytes.to_vec())).unwrap()).is_empty()
}

/// What tells one tensor from another.
type Facts = (String, Vec<i64>, Option<Option<String>>);

/// What there is under each name; keys of several types may look alike.
type Tensors = BTreeMap<String, Vec<Facts>>;

fn tensors(listing: &Listing) -> Tensors {
    let facts = |row: &ckpt::report::ls::TensorRow| (row.dtype.to_string(), row.shape.clone(), row.sha256.clone());
    let mut all = Tensors::new();
    listing.tensors.iter().for_each(|row| all.entry(row.name.clone()).or_default().push(facts(row)));
    all
}

type Repaired = anyhow::Result<Option<(Repair, Tensors)>>;

fn repaired(bytes: &[u8], keep_damaged: bool) -> Repaired {
    let target = Memory::default();
    let mut to = || Ok(Target::Memory(target.clone()));
    let Some(report) = save_rest(memory(bytes.to_vec()), "file", &Limits::default(), keep_damaged, true, &mut to)?
    else {
        return Ok(None);
    };
    let listing = list_and_hash(memory(target.take())).expect("what repair writes opens");
    let problem = listing.tensors.iter().find_map(|row| row.problem.as_ref());
    anyhow::ensure!(problem.is_none() || !report.doubtful.is_empty(), "SAVED WITH A PROBLEM: {problem:?} {report:?}");
    Ok(Some((report, tensors(&listing))))
}

/// Holds one repair against the truth; gives how many tensors it saved, or what is wrong.
fn judge(bytes: &[u8], truth: &Tensors) -> Result<usize, String> {
    let mut saved = 0;
    let is_legacy = bytes.first() == Some(&0x80);
    for keep_damaged in [false, true] {
        let (report, found) = match repaired(bytes, keep_damaged) {
            Ok(Some(repaired)) => repaired,
            Err(e) if e.to_string().contains("SAVED") => return Err(e.to_string()),
            _ => continue,
        };
        let names = |all: &[Lost]| all.iter().map(|lost| lost.name.clone()).collect::<BTreeSet<_>>();
        let (lost, doubtful) = (names(&report.lost), names(&report.doubtful));
        let trusted = found.iter().filter(|(name, _)| !doubtful.contains(*name));
        let is_true = |name: &str, facts: &Vec<Facts>| {
            truth.get(name).is_some_and(|truth| facts.iter().all(|facts| truth.contains(facts)))
        };
        if let Some((name, facts)) = trusted.into_iter().find(|(name, facts)| !is_true(name, facts)) {
            return Err(format!("{name} is saved as {facts:?} instead of {:?}: {report:?}", truth.get(name)));
        }
        // no checksum says whether the names of a legacy stream are those that there were
        let names_are_sure = !is_legacy && !report.notes.iter().any(|note| note.contains("/data.pkl: "));
        let vanished = truth.keys().filter(|name| !found.contains_key(*name) && !lost.contains(*name));
        if let Some(name) = vanished.into_iter().next().filter(|_| names_are_sure) {
            return Err(format!("{name} is neither saved nor named: {report:?}"));
        }
        if !keep_damaged {
            saved = found.len();
            if !doubtful.is_empty() {
                return Err(format!("doubtful is what should be left out: {report:?}"));
            }
        }
    }
    Ok(saved)
}

/// Places to damage: a sample, or all.
fn places(len: usize, seed: usize) -> Vec<usize> {
    if every_place() {
        return (0..len).collect();
    }
    // spread over the file, at other places for each file and kind of damage
    let step = (len / SAMPLE).max(1);
    (0..len).skip((seed * 7919) % step).step_by(step).collect()
}

fn sweep(kind: &str, seed: usize, damage: impl Fn(&[u8], usize) -> Vec<u8> + Sync) {
    let files = files();
    assert!(files.len() > 20, "{}", files.len());
    let saved = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    files.par_iter().with_max_len(1).for_each(|(path, bytes)| {
        let truth = tensors(&list_and_hash(memory(bytes.clone())).unwrap());
        for place in places(bytes.len(), seed + bytes.len()) {
            let damaged = damage(bytes, place);
            if damaged == *bytes {
                continue;
            }
            match judge(&damaged, &truth) {
                Ok(count) => drop(saved.fetch_add(count, Ordering::Relaxed)),
                Err(what) => wrong.lock().unwrap().push(format!("{} {kind} at {place}: {what}", path.display())),
            }
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(saved.into_inner() > 100);
}

#[test]
fn cut() {
    sweep("cut", 1, |bytes, place| bytes[..place].to_vec());
}

#[test]
fn flipped() {
    sweep("flipped", 2, |bytes, place| {
        let mut bytes = bytes.to_vec();
        bytes[place] ^= 1 << (place % 8);
        bytes
    });
}

#[test]
fn zeros_to_the_end() {
    sweep("zeros to the end", 3, |bytes, place| {
        let mut bytes = bytes.to_vec();
        bytes[place..].fill(0);
        bytes
    });
}

#[test]
fn holes() {
    sweep("a hole", 4, |bytes, place| {
        let mut bytes = bytes.to_vec();
        let end = (place + 16 + (place * 31) % 2000).min(bytes.len());
        bytes[place..end].fill(0);
        bytes
    });
}
