//! The weights-only verdict against torch's own: every file of testdata, and hundreds of them with bytes changed.
//!
//! `testdata/weights_only.json` holds torch's answers; `generate_weights_only.py` beside it asks, and
//! `generate_weights_only_calls.py` about generated calls (`weights_only_calls.json`). `CKPT_WEIGHTS_ONLY`
//! names another file of answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ckpt::limits::Limits;
use ckpt::safety::examine::weights_only;
use ckpt::source::{MemorySource, SharedSource};
use serde_json::Value;

fn answers() -> (PathBuf, Value) {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let file = std::env::var_os("CKPT_WEIGHTS_ONLY").map_or_else(|| testdata.join("weights_only.json"), PathBuf::from);
    (testdata, serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
}

fn opens(name: &Path, bytes: Vec<u8>) -> (bool, String) {
    let source: SharedSource = Arc::new(MemorySource::new(bytes));
    let verdict = weights_only(name, &source, &Limits::default()).unwrap();
    (verdict.opens, format!("{:?}", verdict.reasons))
}

#[test]
fn every_file_as_torch_says() {
    let (testdata, answers) = answers();
    let mut wrong = Vec::new();
    for (name, wanted) in answers["files"].as_object().unwrap() {
        let path = testdata.join(name);
        let (opens, why) = opens(&path, std::fs::read(&path).unwrap());
        if opens != wanted.as_bool().unwrap() {
            wrong.push(format!("{name}: torch says {wanted}; {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mutated_pickles_as_torch_says() {
    let (testdata, answers) = answers();
    let mut wrong = Vec::new();
    let mutated = answers["mutated"].as_array().unwrap();
    assert!(mutated.len() >= 500);
    for row in mutated {
        let path = testdata.join(row[0].as_str().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        for change in row[1].as_array().unwrap() {
            let at = usize::try_from(change[0].as_u64().unwrap()).unwrap();
            bytes[at] = u8::try_from(change[1].as_u64().unwrap()).unwrap();
        }
        let (opens, why) = opens(&path, bytes);
        if opens != row[2].as_bool().unwrap() {
            wrong.push(format!("{row}; {why}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), mutated.len(), wrong.join("\n"));
}

/// The archive that `generate_weights_only_calls.py` makes around a pickle.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let members: [(&str, &[u8]); 3] =
        [("a/data.pkl", &[b"\x80\x02", pickle, b"."].concat()), ("a/data/0", &[0; 16]), ("a/version", b"3")];
    for (name, bytes) in members {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Calls that no checkpoint holds, so that only the generated ones tell what torch makes of them.
#[test]
fn generated_calls_as_torch_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/weights_only_calls.json");
    let answers: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let fragment = |name: &str| -> Vec<u8> {
        let hex = answers["fragments"][name].as_str().unwrap().as_bytes();
        hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    let calls = answers["calls"].as_array().unwrap();
    assert!(calls.len() >= 5000);
    let mut wrong = Vec::new();
    for call in calls {
        let names = call[0].as_str().unwrap();
        let pickle: Vec<u8> = names.split(' ').flat_map(fragment).collect();
        let (opens, why) = opens(Path::new("a.pt"), archive(&pickle));
        if opens != call[1].as_bool().unwrap() {
            wrong.push(format!("{names}: torch says {}; {why}", call[1]));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), calls.len(), wrong.join("\n"));
}

/// `_rebuild_qtensor(…)` of 24 bytes in an archive: elements of quint4x2 and quint2x4 share a byte. The answers are torch
/// 2.15's.
#[test]
fn elements_that_share_a_byte() {
    let number = |n: i64| [&[0x8a, 8][..], &n.to_le_bytes()].concat();
    let tuple = |items: &[i64]| [b"(", &items.iter().flat_map(|n| number(*n)).collect::<Vec<_>>()[..], b"t"].concat();
    let storage = |dtype: &str| {
        let class = format!("ctorch\n{dtype}Storage\n");
        [b"(X\x07\0\0\0storage", class.as_bytes(), b"X\x01\0\0\x000X\x03\0\0\0cpuK\x18tQ"].concat()
    };
    let file = |pickle: &[u8]| {
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", &[0; 24]), ("a/version", b"3")] {
            zip.start_file(name, stored).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    for (dtype, offset, sizes, strides, wanted) in [
        ("QUInt8", 0, &[6, 4][..], &[4, 1][..], true),
        ("QUInt8", 0, &[25], &[1], false),
        ("QUInt8", 24, &[1], &[1], false),
        ("QUInt4x2", 0, &[6, 7], &[7, 1], true),
        ("QUInt4x2", 0, &[6, 8], &[8, 1], true),
        ("QUInt4x2", 0, &[6, 9], &[9, 1], false),
        ("QUInt4x2", 0, &[49], &[1], false),
        ("QUInt4x2", 24, &[1], &[1], true),
        ("QUInt4x2", 100_000, &[1], &[1], false),
        ("QUInt2x4", 0, &[6, 9], &[9, 1], true),
        ("QUInt2x4", 0, &[96], &[1], true),
        ("QUInt2x4", 0, &[97], &[1], false),
        // the tensor is made before it gets its storage
        ("QUInt2x4", 0, &[1_000_000, 1_000_000], &[0, 0], false),
    ] {
        let (place, shape) = (number(offset), [tuple(sizes), tuple(strides)].concat());
        let end = b"(ctorch\nper_tensor_affine\nG?\xf0\0\0\0\0\0\0K\0t\x89ccollections\nOrderedDict\n)RtR.";
        let begin = b"\x80\x02ctorch._utils\n_rebuild_qtensor\n(";
        let pickle = [begin, &storage(dtype)[..], &place, &shape, end].concat();
        let (opens, why) = opens(Path::new("a.pt"), file(&pickle));
        assert_eq!(opens, wanted, "{dtype} {offset} {sizes:?} {strides:?}: {why}");
    }
}
