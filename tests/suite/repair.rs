//! `ckpt repair` of files that were cut off or lost members: what is whole is saved, bit by bit, and what is lost is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::driver::{ckpt, run_with, testdata};
use ckpt::limits::Limits;
use ckpt::source::{FileSource, SharedSource};
use serde_json::Value;

/// Names of tensors and the hashes of their elements.
fn hashes(path: &Path) -> BTreeMap<String, String> {
    let listed = run_with(ckpt().args(["ls", "--json", "--hash"]).arg(path), b"").exits(0).json();
    let tensors = listed["tensors"].as_array().unwrap().iter();
    tensors.map(|t| (t["name"].as_str().unwrap().to_owned(), t["sha256"].to_string())).collect()
}

/// What a data descriptor takes, without which nothing says that the data before it is all there.
const DESCRIPTOR_BYTES: u64 = 16;

/// Names of tensors, and the byte of the file where the storage that holds each ends, with its descriptor.
fn ends(path: &Path) -> BTreeMap<String, u64> {
    let listed = run_with(ckpt().args(["ls", "--json"]).arg(path), b"").exits(0).json();
    let source: SharedSource = std::sync::Arc::new(FileSource::open(path).unwrap());
    let zip = ckpt::container::zip::Zip::open(source, &Limits::default()).unwrap();
    let end = |tensor: &Value| {
        let member = zip.in_top(&format!("data/{}", tensor["storage"].as_str().unwrap())).unwrap();
        zip.data_start(member).unwrap() + member.size + DESCRIPTOR_BYTES
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
    // its checksum in the directory proves where its bytes are
    let (report, kept) = repaired(&bytes, bytes.len()).unwrap();
    assert_eq!((lost(&report).len(), kept.len()), (0, 40));
    assert!(report["notes"][0].as_str().unwrap().contains("local header is damaged"), "{report}");
    bytes[name + 60] ^= 1;
    let end = bytes[name..].windows(4).position(|window| window == b"PK\x07\x08").unwrap();
    bytes[name + end - 1] ^= 1;
    let (report, kept) = repaired(&bytes, bytes.len()).unwrap();
    assert_eq!((lost(&report).len(), kept.len()), (1, 39));
    let why = report["lost"][0]["why"].as_str().unwrap();
    assert!(why.contains("local header is damaged"), "{why}");
}

/// A tensor whose checksum does not match is left out and named, or kept and named.
#[test]
fn a_changed_byte_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = testdata("torch-2.15-py311/checkpoint.tar");
    let mut bytes = std::fs::read(&path).unwrap();
    let place = usize::try_from(ends(&path)["model_state_dict.features.0.weight"]).unwrap() - 1;
    let place = place - usize::try_from(DESCRIPTOR_BYTES).unwrap();
    bytes[place] ^= 1;
    // cut in the directory
    let (report, kept) = repaired(&bytes, bytes.len() - 30).unwrap();
    let why = report["lost"][0]["why"].as_str().unwrap();
    assert!(why.contains("checkpoint/data/") && why.contains(" CRC-32 "), "{why}");
    assert_eq!((lost(&report).len(), kept.len()), (1, 39));
    let (input, output) = (dir.path().join("in.pt"), dir.path().join("out.pt"));
    std::fs::write(&input, &bytes[..bytes.len() - 30]).unwrap();
    let run = run_with(ckpt().args(["repair", "--keep-damaged", "--json"]).arg(&input).arg("-o").arg(&output), b"");
    let report = run.exits(0).json();
    assert_eq!(report["tensors"], 40);
    assert_eq!(report["doubtful"][0]["name"], "model_state_dict.features.0.weight");
    // its bytes have a checksum of their own now
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

/// A TorchScript archive stays one while all its members are whole, and becomes its state dict where code is lost.
#[test]
fn scripted_modules() {
    let path = testdata("torch-2.15-py311/scripted.pt");
    let bytes = std::fs::read(&path).unwrap();
    let all = hashes(&path);
    let (report, kept) = repaired(&bytes, bytes.len() - 30).unwrap();
    assert!(!report["notes"].to_string().contains("TorchScript"));
    assert_eq!(kept, all);
    let code = bytes.windows(5).position(|window| window == b"code/").unwrap();
    let mut holed = bytes.clone();
    holed[code + 60..code + 100].fill(0);
    let (report, kept) = repaired(&holed, bytes.len()).unwrap();
    assert!(report["notes"].to_string().contains("a TorchScript archive of which not all is whole"), "{report}");
    assert!(!kept.is_empty() && kept.iter().all(|(name, hash)| all[name] == *hash));
}

/// The edit is one thing, what else was damaged another; and what is no edit is not called one.
#[test]
fn interrupted_edits_and_other_damage() {
    let dir = tempfile::tempdir().unwrap();
    let whole = testdata("torch-2.15-py311/checkpoint.tar");
    let (path, output) = (dir.path().join("model.pt"), dir.path().join("out.pt"));
    std::fs::copy(&whole, &path).unwrap();
    run_with(ckpt().args(["rename", "--in-place", "--add-prefix", "net."]).arg(&path), b"").exits(0);
    let (old, edited) = (std::fs::read(&whole).unwrap(), std::fs::read(&path).unwrap());
    let names = hashes(&path);
    let repair = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        run_with(ckpt().args(["repair", "--json", "--force"]).arg(&path).arg("-o").arg(&output), b"").exits(0)
    };
    let name = "model_state_dict.features.0.weight";
    let place = usize::try_from(ends(&whole)[name] - DESCRIPTOR_BYTES).unwrap() - 1;
    for cut in [old.len() + 500, edited.len() - 5] {
        let mut flipped = edited[..cut].to_vec();
        flipped[place] ^= 1;
        let run = repair(&flipped);
        assert_eq!(lost(&run.json()).len(), 1, "{}", run.stderr);
        assert!(run.stderr.contains("the interrupted edit") && run.stderr.contains("CRC-32"), "{}", run.stderr);
    }
    // a hole in the directory that the edit wrote
    let directory = edited.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let mut holed = edited.clone();
    holed[directory - 300..directory + 60].fill(0);
    let run = repair(&holed);
    assert_eq!(run.json()["action"], "restored", "{}", run.stderr);
    assert!(std::fs::read(&output).unwrap() == edited && hashes(&output) == names);
    // the beginning of some other archive
    let run = repair(&[&old[..], &old[..20]].concat());
    assert!(run.stderr.contains("dropped 20 unfinished bytes") && !run.stderr.contains("edit"), "{}", run.stderr);
    assert!(std::fs::read(&output).unwrap() == old);
}

/// Where a format has no checksums, that is said, whether there is something to repair or not.
#[test]
fn formats_without_checksums() {
    for file in ["torch-2.15-py311/cnn_state.legacy.pt", "frameworks/cnn_state.safetensors"] {
        let bytes = std::fs::read(testdata(file)).unwrap();
        let run = run_with(ckpt().args(["repair", "--json", "-o", "never.pt"]).arg(testdata(file)), b"").exits(1);
        assert_eq!(run.json()["verified"], false);
        assert!(run.stderr.contains("have no checksums") && !run.stderr.contains("no checksum says"), "{}", run.stderr);
        let (report, _) = repaired(&bytes, bytes.len() - 8).unwrap();
        assert_eq!(report["verified"], false);
        assert_eq!(report["notes"].to_string().matches("have no checksums").count(), 1, "{report}");
        // a transfer as text
        let all = hashes(&testdata(file));
        let latin: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let (report, kept) = repaired(latin.as_bytes(), latin.len()).unwrap();
        assert!(kept == all && report["notes"].to_string().contains("Latin-1"), "{report}");
    }
}

/// A damaged member that is no tensor is noted by whoever copies what it says.
#[test]
fn convert_and_extract_note_other_members() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.pt"), dir.path().join("out.pt"));
    let cases = [
        ("torch-2.15-py311/checkpoint.tar", "epoch", "checkpoint/data.pkl: its checksum does not match"),
        ("torch-2.15-py311/checkpoint.tar", "checkpoint/version", "checkpoint/version: its checksum does not match"),
        ("diff/run_a.npz", "\u{0}\u{0}", ".npy)"),
    ];
    for (file, place, says) in cases {
        let mut bytes = std::fs::read(testdata(file)).unwrap();
        let at = bytes.windows(place.len()).position(|window| window == place.as_bytes()).unwrap();
        match place {
            "epoch" => bytes[at] ^= 1,
            "checkpoint/version" => bytes[(at + place.len()).next_multiple_of(64)] ^= 1,
            _ => {
                let header = bytes.windows(6).position(|window| window == b"\x93NUMPY").unwrap();
                bytes[header + 129] ^= 1;
            }
        }
        std::fs::write(&input, bytes).unwrap();
        let convert = ["convert", "--force", "--json", "--to", "torch"];
        let run = run_with(ckpt().args(convert).arg(&input).arg(&output), b"").exits(0);
        assert!(run.stderr.contains(says), "{}", run.stderr);
        assert_eq!(run.json()["doubtful"].as_array().unwrap().len(), 1);
        let run =
            run_with(ckpt().args(["extract", "--force"]).arg(&input).arg("*").arg("-o").arg(&output), b"").exits(0);
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }
    // a chunk of a distributed checkpoint
    let chunk = testdata("damage/dcp_flipped");
    let run = run_with(ckpt().args(["convert", "--force"]).arg(&chunk).arg(&output), b"").exits(0);
    assert!(run.stderr.contains("its checksum does not match (__0_0.distcp"), "{}", run.stderr);
}

/// An array in a pickle of text, which is copied as it is spelt.
#[test]
fn convert_and_extract_note_text_that_is_no_array() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.pkl"), dir.path().join("out.pt"));
    let pickle = |data: &str| {
        let array =
            "cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntc_codecs\nencode\n(Vb\nVlatin1\ntRtR";
        let dtype = "cnumpy\ndtype\n(Vu1\nI00\nI01\ntR(I3\nV|\nNNNI-1\nI-1\nI0\ntb";
        format!("(dVw\n{array}(I1\n(I4\nt{dtype}I00\nc_codecs\nencode\n(V{data}\nVlatin1\ntRtbs.")
    };
    for (data, is_right) in [("ab\\u000ac", true), ("ab\\u0fffc", false), ("ab\\u000acd", false), ("ab\\u00zzc", false)]
    {
        std::fs::write(&input, pickle(data)).unwrap();
        let convert = ["convert", "--force", "--json", "--to", "torch"];
        let run = run_with(ckpt().args(convert).arg(&input).arg(&output), b"").exits(0);
        assert_eq!(run.stderr.contains("warning: w: "), !is_right, "{data}: {}", run.stderr);
        assert_eq!(run.json()["doubtful"].as_array().unwrap().is_empty(), is_right);
        let extract = ["extract", "--force", "--root", "."];
        let run = run_with(ckpt().args(extract).arg(&input).arg("-o").arg(&output), b"").exits(0);
        assert_eq!(run.stderr.contains("warning: w: "), !is_right, "{data}: {}", run.stderr);
    }
}

/// Whoever copies a tensor whose checksum does not match is warned, and only then.
#[test]
fn convert_and_extract_warn() {
    let dir = tempfile::tempdir().unwrap();
    let path = testdata("torch-2.15-py311/checkpoint.tar");
    let mut bytes = std::fs::read(&path).unwrap();
    let name = "model_state_dict.features.0.weight";
    bytes[usize::try_from(ends(&path)[name] - DESCRIPTOR_BYTES).unwrap() - 1] ^= 1;
    let input = dir.path().join("in.pt");
    std::fs::write(&input, bytes).unwrap();
    for output in ["out.pt", "out.legacy", "out.safetensors", "out.npz"] {
        let to = if output == "out.legacy" { "torch-legacy" } else { output.rsplit('.').next().unwrap() };
        let to = if to == "pt" { "torch" } else { to };
        let output = dir.path().join(output);
        let convert = |input: &Path| {
            let mut command = ckpt();
            command
                .args(["convert", "--force", "--json", "--root", "model_state_dict", "--to", to])
                .arg(input)
                .arg(&output);
            run_with(&mut command, b"").exits(0)
        };
        let run = convert(&input);
        assert!(run.stderr.contains("features.0.weight: its checksum does not match"), "{to}: {}", run.stderr);
        assert!(run.json()["doubtful"].to_string().contains("features.0.weight"), "{to}");
        let run = convert(&path);
        assert!(
            !run.stderr.contains("checksum") && run.json()["doubtful"] == serde_json::json!([]),
            "{to}: {}",
            run.stderr
        );
    }
    let extract = |name: &str| run_with(ckpt().arg("extract").arg(&input).arg(name), b"").exits(0).stderr;
    assert!(extract(name).contains("its checksum does not match"));
    assert!(!extract("model_state_dict.features.0.bias").contains("checksum"));
    let output = dir.path().join("out.npy");
    let run = run_with(ckpt().args(["extract", "--json"]).arg(&input).arg(name).arg("-o").arg(&output), b"").exits(0);
    assert_eq!(run.json()["doubtful"][0]["name"], name);
}

/// One byte of a chunk is not what its archive says.
#[test]
fn a_chunk_of_a_distributed_checkpoint() {
    let run = run_with(ckpt().args(["check", "--json"]).arg(testdata("damage/dcp_flipped")), b"").exits(1);
    let report = run.json();
    let finding = &report["findings"][0];
    assert_eq!((finding["severity"].as_str(), finding["code"].as_str()), (Some("error"), Some("crc-mismatch")));
    assert!(finding["where"].as_str().unwrap().contains("__0_0.distcp"));
}

/// The report and the file cannot both go to standard output.
#[test]
fn standard_output_takes_one_thing() {
    let run =
        run_with(ckpt().args(["repair", "--json", "-o", "-"]).arg(testdata("damage/hand_truth.pt")), b"").exits(2);
    assert!(run.stdout.is_empty());
    assert!(run.stderr.contains("--json and OUTPUT `-` both write to standard output"), "{}", run.stderr);
}

#[cfg(unix)]
#[test]
fn a_repair_in_place_keeps_owner_and_mode() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.pt");
    let bytes = std::fs::read(testdata("torch-2.15-py311/cnn_state.pt")).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    // only root may give files away; others keep their own
    let _ = std::os::unix::fs::chown(&path, Some(12), Some(34));
    let before = std::fs::metadata(&path).unwrap();
    run_with(ckpt().args(["repair", "--in-place"]).arg(&path), b"").exits(0);
    let after = std::fs::metadata(&path).unwrap();
    assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
    assert_ne!(after.ino(), before.ino(), "it was replaced");
}
