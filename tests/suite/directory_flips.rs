//! A small zip of torch's with one bit of its directory or of its end records changed, against what torch says of it:
//! `testdata/generate_directory_flips.py` asks. What torch refuses, or reads as something else, is never "ok".
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::driver::{Dir, for_each, run, testdata};
use ckpt::limits::Limits;
use ckpt::safety::examine::{Examined, examine};
use ckpt::safety::finding::Severity;
use ckpt::safety::integrity::Depth;
use ckpt::source::{MemorySource, SharedSource};
use serde_json::Value;

fn examined(bytes: Vec<u8>) -> Option<Examined> {
    let source: SharedSource = Arc::new(MemorySource::new(bytes));
    examine(Path::new("two.pt"), &source, &Limits::default(), Depth { data: true, numerics: false }).ok()
}

fn as_torch_says(verdicts: &Path) {
    let whole = std::fs::read(testdata("directory_flips/two.pt")).unwrap();
    let answers: Value = serde_json::from_slice(&std::fs::read(verdicts).unwrap()).unwrap();
    let start = usize::try_from(answers["start"].as_u64().unwrap()).unwrap();
    let rows = answers["verdicts"].as_array().unwrap();
    assert_eq!(rows.len(), whole.len() - start);
    let every = std::env::var("CKPT_SWEEP").is_ok_and(|sweep| sweep == "every");
    let places: Vec<(usize, usize, char)> = (start..)
        .zip(rows)
        .flat_map(|(at, row)| row.as_str().unwrap().chars().enumerate().map(move |(bit, torch)| (at, bit, torch)))
        // a quarter of them, or what torch reads in its own way
        .filter(|(at, bit, torch)| every || *torch == 'o' || (at + bit) % 4 == 0)
        .collect();
    let fine = AtomicUsize::new(0);
    for_each(&places, |(at, bit, torch)| {
        let mut bytes = whole.clone();
        bytes[*at] ^= 1 << bit;
        // what cannot be read is no "ok" either
        let Some(examined) = examined(bytes) else { return Ok(()) };
        let is_ok = examined.findings.iter().all(|finding| finding.severity < Severity::Warning);
        let opens = examined.weights_only.as_ref().unwrap().opens;
        fine.fetch_add(usize::from(is_ok && opens), Ordering::Relaxed);
        let is_right = if *torch == '.' { !is_ok || opens } else { !is_ok };
        is_right.then_some(()).ok_or(format!("byte {at}, bit {bit}: torch {torch}, ok {is_ok}, opens {opens}"))
    });
    // dates, versions and the like are nobody's concern
    let fine = fine.into_inner();
    assert!(fine > places.len() / 4, "{fine} of {}", places.len());
}

#[test]
fn what_torch_refuses_of_a_directory_is_a_finding() {
    as_torch_says(&testdata("directory_flips/verdicts.json"));
}

/// Asks the torch at hand.
#[test]
#[ignore = "needs a Python with torch, named by CKPT_TORCH_PYTHON"]
fn torch_agrees_on_directories() {
    let python = std::env::var_os("CKPT_TORCH_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let temp = Dir::new();
    std::fs::copy(testdata("directory_flips/two.pt"), temp.path("two.pt")).unwrap();
    let script = testdata("generate_directory_flips.py");
    assert!(Command::new(python).arg(script).arg(temp.path("")).status().unwrap().success());
    as_torch_says(Path::new(&temp.path("verdicts.json")));
}

/// A storage that torch takes for a folder: `torch.load` gives what the memory held before.
#[test]
fn a_member_marked_as_a_folder_is_found_and_repaired() {
    let temp = Dir::new();
    let mut bytes = std::fs::read(testdata("directory_flips/two.pt")).unwrap();
    let name = memchr::memmem::rfind(&bytes, b"two/data/0").unwrap();
    bytes[name - 46 + 38] |= 0x10;
    let path = temp.path("marked.pt");
    std::fs::write(&path, &bytes).unwrap();
    let told = run(&format!("check {path}")).exits(1);
    assert!(told.text().contains("two/data/0") && told.text().contains("folder"), "{}", told.text());
    let mended = temp.path("mended.pt");
    run(&format!("repair {path} -o {mended}")).exits(0);
    run(&format!("check {mended}")).exits(0);
    run(&format!("diff {path} {mended}")).exits(0);
}
