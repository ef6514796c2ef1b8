//! `ckpt repair` of files that were cut off or lost members: what is whole is saved, bit by bit, and what is lost is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

mod driver;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ckpt::limits::Limits;
use ckpt::source::{FileSource, SharedSource};
use driver::{ckpt, run_with, testdata};
use serde_json::Value;

/// Names of tensors and the hashes of their elements.
fn hashes(path: &Path) -> BTreeMap<String, String> {
    let listed = run_with(ckpt().args(["ls", "--json", "--hash"]).arg(path), b"").exits(0).json();
    let tensors = listed["tensors"].as_array().unwrap().iter();
    tensors.map(|t| (t["name"].as_str().unwrap().to_owned(), t["sha256"].to_string())).collect()
}

/// Names of tensors, and the byte of the file where the storage that holds each ends.
fn ends(path: &Path) -> BTreeMap<String, u64> {
    let listed = run_with(ckpt().args(["ls", "--json"]).arg(path), b"").exits(0).json();
    let source: SharedSource = std::sync::Arc::new(FileSource::open(path).unwrap());
    let zip = ckpt::container::zip::Zip::open(source, &Limits::default()).unwrap();
    let end = |tensor: &Value| {
        let member = zip.in_top(&format!("data/{}", tensor["storage"].as_str().unwrap())).unwrap();
        zip.data_start(member).unwrap() + member.size
    };
    let tensors = listed["tensors"].as_array().unwrap().iter();
    tensors.map(|t| (t["name"].as_str().unwrap().to_owned(), end(t))).collect()
}

/// Repairs the first `cut` bytes of `bytes`; gives the report and the output's tensors, or nothing where it is refused.
fn repaired(bytes: &[u8], cut: usize) -> Option<(Value, BTreeMap<String, String>)> {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("cut.pt"), dir.path().join("rest.pt"));
    std::fs::write(&input, &bytes[..cut]).unwrap();
    let run = run_with(ckpt().args(["repair", "--json"]).arg(&input).arg("-o").arg(&output), b"");
    if run.status == 2 {
        assert!(!output.exists() && run.stderr.lines().count() == 1, "{cut}: {}", run.stderr);
        return None;
    }
    let report = run.exits(0).json();
    Some((report, hashes(&output)))
}

fn lost(report: &Value) -> BTreeSet<String> {
    report["lost"].as_array().unwrap().iter().map(|lost| lost["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_whole_tensor_of_a_cut_zip_is_saved() {
    let path = testdata("torch-2.15-py311/checkpoint.tar");
    let (bytes, all, ends) = (std::fs::read(&path).unwrap(), hashes(&path), ends(&path));
    let last = usize::try_from(*ends.values().max().unwrap()).unwrap();
    let first = usize::try_from(*ends.values().min().unwrap()).unwrap();
    let mut saved = 0;
    for cut in (first..bytes.len()).step_by(977).chain([first - 1, first, last - 1, last, bytes.len() - 1]) {
        let whole = |name: &&String| ends[*name] <= cut as u64;
        let Some((report, kept)) = repaired(&bytes, cut) else {
            assert!(all.keys().all(|name| !whole(&name)), "{cut}");
            continue;
        };
        assert_eq!(report["action"], "salvaged");
        let expected: BTreeMap<_, _> =
            all.iter().filter(|(name, _)| whole(name)).map(|(name, hash)| (name.clone(), hash.clone())).collect();
        assert_eq!(kept, expected, "{cut}");
        assert_eq!(lost(&report), all.keys().filter(|name| !whole(name)).cloned().collect(), "{cut}");
        assert_eq!(report["tensors"], expected.len());
        saved += 1;
    }
    assert!(saved > 10);
}

#[test]
fn a_cut_legacy_file_gives_its_first_tensors() {
    let path = testdata("torch-1.5-py36/checkpoint.tar");
    let (bytes, all) = (std::fs::read(&path).unwrap(), hashes(&path));
    let mut before = usize::MAX;
    for cut in [bytes.len() - 1, bytes.len() - 2000, bytes.len() / 2] {
        let (report, kept) = repaired(&bytes, cut).unwrap();
        assert!(kept.iter().all(|(name, hash)| all[name] == *hash));
        let names: BTreeSet<String> = kept.keys().cloned().collect();
        assert!(names.is_disjoint(&lost(&report)) && names.len() + lost(&report).len() == all.len(), "{cut}");
        assert!(!kept.is_empty() && kept.len() < before);
        before = kept.len();
    }
    assert!(repaired(&bytes, 200).is_none());
}

/// The directory is whole, but storages are gone or cannot be read.
#[test]
fn members_that_are_gone() {
    let path = testdata("torch-2.15-py311/checkpoint.tar");
    let mut bytes = std::fs::read(&path).unwrap();
    // the first storage's local header is no header any more
    let name = bytes.windows(17).position(|window| window == b"checkpoint/data/0").unwrap();
    bytes[name - 30..name - 26].copy_from_slice(b"gone");
    let (report, kept) = repaired(&bytes, bytes.len()).unwrap();
    assert_eq!((lost(&report).len(), kept.len()), (1, 39));
    let why = report["lost"][0]["why"].as_str().unwrap();
    assert!(why.contains("no local header where the zip directory says"), "{why}");
}

/// Checksums that do not match are told; the bytes are kept, and the new file's checksums are right.
#[test]
fn a_changed_byte_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = testdata("torch-2.15-py311/checkpoint.tar");
    let mut bytes = std::fs::read(&path).unwrap();
    let place = usize::try_from(ends(&path)["model_state_dict.features.0.weight"]).unwrap() - 1;
    bytes[place] ^= 1;
    // cut in the directory
    let (report, kept) = repaired(&bytes, bytes.len() - 30).unwrap();
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.starts_with("checkpoint/data/") && note.contains(": CRC-32 "), "{note}");
    assert_eq!(kept.len(), 40);
    let (input, output) = (dir.path().join("in.pt"), dir.path().join("out.pt"));
    std::fs::write(&input, &bytes[..bytes.len() - 30]).unwrap();
    run_with(ckpt().arg("repair").arg(&input).arg("-o").arg(&output), b"").exits(0);
    run_with(ckpt().arg("check").arg(&output), b"").exits(0);
}

#[test]
fn in_place_and_nothing_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let whole = testdata("torch-2.15-py311/checkpoint.tar");
    let path = dir.path().join("model.pt");
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    let run = run_with(ckpt().args(["repair", "--in-place"]).arg(&path), b"").exits(0);
    assert!(run.stderr.contains("saved 40 tensors, none is lost"), "{}", run.stderr);
    assert_eq!(hashes(&path), hashes(&whole));
    let mended = std::fs::read(&path).unwrap();
    let run = run_with(ckpt().args(["repair", "--in-place"]).arg(&path), b"").exits(1);
    assert!(run.stderr.contains("nothing to repair"), "{}", run.stderr);
    assert!(std::fs::read(&path).unwrap() == mended);
    let output = dir.path().join("out.pt");
    let run = run_with(ckpt().args(["repair", "--json"]).arg(&path).arg("-o").arg(&output), b"").exits(1);
    assert_eq!(run.json()["action"], "nothing");
    assert!(!output.exists());
}

/// A module keeps its class and its other tensors.
#[test]
fn a_module_with_lost_tensors() {
    let path = testdata("torch-2.15-py311/cnn_full.pth");
    let (bytes, ends) = (std::fs::read(&path).unwrap(), ends(&path));
    let mut places: Vec<u64> = ends.values().copied().collect();
    places.sort_unstable();
    let cut = places[places.len() / 2];
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("cut.pt"), dir.path().join("rest.pt"));
    std::fs::write(&input, &bytes[..usize::try_from(cut).unwrap()]).unwrap();
    run_with(ckpt().arg("repair").arg(&input).arg("-o").arg(&output), b"").exits(0);
    let (before, after) = [&path, &output]
        .map(|path| run_with(ckpt().args(["ls", "--tree", "--json"]).arg(path), b"").exits(0).json())
        .into();
    assert_eq!(before["root_type"], after["root_type"]);
    let kept: BTreeSet<String> = ends.iter().filter(|(_, end)| **end <= cut).map(|(name, _)| name.clone()).collect();
    assert_eq!(hashes(&output).into_keys().collect::<BTreeSet<_>>(), kept);
}

/// A TorchScript archive becomes its state dict.
#[test]
fn scripted_modules() {
    let path = testdata("torch-2.15-py311/scripted.pt");
    let bytes = std::fs::read(&path).unwrap();
    let all = hashes(&path);
    let (report, kept) = repaired(&bytes, bytes.len() - 30).unwrap();
    assert!(report["notes"][0].as_str().unwrap().contains("TorchScript"));
    assert!(!kept.is_empty() && kept.iter().all(|(name, hash)| all[name] == *hash));
}
