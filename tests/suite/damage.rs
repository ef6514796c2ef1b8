//! `repair` of files that lost a part that is known: what is saved is what was there. tests/sweep/repairs.rs damages them
//! anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ckpt::limits::Limits;
use ckpt::report::repair::Repair;

use crate::in_memory::{self, Tensors, list_and_hash, memory, salvaged, tensors};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// What `repair` makes of these bytes, which it must be able to save: the report, and the tensors.
fn saved(bytes: &[u8]) -> (Repair, Tensors) {
    salvaged(bytes, false).unwrap().expect("there is something to repair")
}

fn truth(name: &str) -> (Vec<u8>, Tensors) {
    let bytes = std::fs::read(testdata(name)).unwrap();
    let all = tensors(&list_and_hash(memory(bytes.clone())).unwrap());
    (bytes, all)
}

fn position(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}

const TRUTH: &str = "damage/hand_truth.pt";

/// Zips that people made: those that torch opens are left alone, of the others every tensor is saved.
#[test]
fn archives_made_by_hand() {
    let (_, all) = truth(TRUTH);
    let opens: BTreeMap<String, bool> =
        serde_json::from_slice(&std::fs::read(testdata("damage/opens.json")).unwrap()).unwrap();
    let by_hand: Vec<_> = opens.iter().filter(|(name, _)| name.starts_with("hand_")).collect();
    assert_eq!(by_hand.len(), 8);
    for (name, opens) in by_hand {
        let bytes = std::fs::read(testdata(&format!("damage/{name}"))).unwrap();
        let repaired = salvaged(&bytes, false).unwrap();
        assert_eq!(repaired.is_none(), *opens, "{name}");
        if let Some((report, found)) = repaired {
            assert_eq!(found, all, "{name}");
            assert!(report.lost.is_empty() && !report.notes.is_empty(), "{name}: {report:?}");
        }
    }
}

/// Members that torch reads beside the tensors.
#[test]
fn headers_of_small_members() {
    let (bytes, all) = truth(TRUTH);
    for member in ["version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"] {
        let name = position(&bytes, format!("hand_truth/{member}").as_bytes());
        // the local header's signature, or what it says of the name
        for at in [name - 30, name - 4, name + 12] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0xff;
            let (report, found) = saved(&bytes);
            assert_eq!(found, all, "{member}: {report:?}");
            assert!(report.lost.is_empty() && !report.notes.is_empty(), "{member}: {report:?}");
        }
    }
    let data = position(&bytes, b"little");
    let mut odd = bytes.clone();
    odd[data..data + 6].copy_from_slice(b"middle");
    assert_eq!(saved(&odd).1, all);
}

/// Of a big-endian file the byte order is known by the checksum, whatever became of the member.
#[test]
fn a_damaged_byte_order() {
    let name = "more/big_endian.pt";
    let (bytes, all) = truth(name);
    let data = position(&bytes, b"big");
    for new in [b"bag", b"\0\0\0"] {
        let mut bytes = bytes.clone();
        bytes[data..data + 3].copy_from_slice(new);
        assert_eq!(saved(&bytes).1, all);
    }
}

/// What torch writes without checksums has none to be held against; where its end is lost, the descriptors say so.
#[test]
fn files_without_checksums() {
    let (bytes, all) = truth("more/zip_without_crc.pt");
    assert!(salvaged(&bytes, false).unwrap().is_none());
    let (report, found) = saved(&bytes[..bytes.len() - 10]);
    assert!(found == all && report.lost.is_empty(), "{report:?}");
    // a descriptor that is gone
    let last = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let name = String::from_utf8_lossy(&bytes[..last]).rfind("/data/").unwrap_or(0);
    assert!(name > 0);
    let mut holed = bytes[..bytes.len() - 100].to_vec();
    let descriptor = position(&holed, b"/data/0");
    let descriptor = descriptor + position(&holed[descriptor..], b"PK\x07\x08");
    holed[descriptor..descriptor + 8].fill(0);
    let (report, found) = saved(&holed);
    assert!(!report.lost.is_empty() && found.len() + report.lost.len() == all.len(), "{report:?}");
}

/// A shorter file written over a longer one, one file after another, and an end record that leads elsewhere.
#[test]
fn two_archives() {
    let (short, short_tensors) = truth(TRUTH);
    let (long, long_tensors) = truth("torch-2.15-py311/checkpoint.tar");
    let over = [&short[..], &long[short.len()..]].concat();
    assert_eq!(saved(&over).1, short_tensors);
    assert_eq!(saved(&[&long[..], &short[..]].concat()).1, short_tensors);
    assert_eq!(saved(&[&short[..], &long[..]].concat()).1, long_tensors);
    // the new file was cut before its directory: what is left of the old one is not mixed with it
    let cut = short.len() / 2;
    if let Ok(Some((report, found))) = salvaged(&[&short[..cut], &long[cut..]].concat(), false) {
        for (name, facts) in found {
            assert!(short_tensors.get(&name) == Some(&facts) || long_tensors.get(&name) == Some(&facts), "{report:?}");
        }
    }
    let mut astray = short.clone();
    let end = astray.len() - 22;
    astray[end + 16] ^= 0x40;
    assert_eq!(saved(&astray).1, short_tensors);
}

/// A checkpoint of the same layout written over another one, and interrupted: of each tensor it is known whose it is.
#[test]
fn half_of_a_newer_file() {
    let (old, old_tensors) = truth(TRUTH);
    // as another training step would have been saved: other numbers, right checksums in the descriptors
    let mut new = old.clone();
    let (mut at, mut changed) = (0, 0);
    while let Some(found) = new[at..].windows(4).position(|window| window == b"PK\x07\x08") {
        let descriptor = at + found;
        at = descriptor + 16;
        let size = u32::from_le_bytes(new[descriptor + 8..descriptor + 12].try_into().unwrap()) as usize;
        if size == 256 {
            new[descriptor - 1] ^= 1;
            let crc = crc32fast::hash(&new[descriptor - size..descriptor]);
            new[descriptor + 4..descriptor + 8].copy_from_slice(&crc.to_le_bytes());
            changed += 1;
        }
    }
    assert_eq!(changed, 3);
    let second = position(&old, b"hand_truth/data/1");
    for cut in [second, second + 200] {
        let (report, found) = saved(&[&new[..cut], &old[cut..]].concat());
        assert!(found.iter().all(|(name, facts)| old_tensors.get(name) == Some(facts)), "{report:?}");
    }
}

/// Zeros after the end are dropped, whether torch opens the file or not; no edit is undone where there was none.
#[test]
fn what_follows_the_end() {
    let (bytes, all) = truth(TRUTH);
    for zeros in [1, 512, 70_000] {
        let (report, found) = saved(&[&bytes[..], &vec![0; zeros]].concat());
        assert!(found == all && report.lost.is_empty(), "{zeros}: {report:?}");
    }
    let padded = [&bytes[..], &[0; 512]].concat();
    assert!(in_memory::repaired(memory(padded), false).unwrap().1 == bytes);
}

/// A transfer as text: undone when the checksums are right then, and only then.
#[test]
fn line_ends() {
    let (bytes, _) = truth(TRUTH);
    let text = |bytes: &[u8]| {
        let mut out = Vec::new();
        for byte in bytes {
            out.extend((*byte == b'\n').then_some(b'\r'));
            out.push(*byte);
        }
        out
    };
    let (report, written) = in_memory::repaired(memory(text(&bytes)), false).unwrap();
    assert!(report.notes[0].contains("CR LF") && written == bytes);
    let mut flipped = text(&bytes);
    let data = position(&flipped, b"hand_truth/data/1") + 200;
    flipped[data] ^= 1;
    assert!(
        salvaged(&flipped, false).map_or(true, |repaired| repaired.is_none_or(|(report, _)| !report.lost.is_empty()))
    );
}

/// The pickle names the tensors: when its checksum is wrong, nothing is sure.
#[test]
fn a_damaged_pickle() {
    let (bytes, all) = truth(TRUTH);
    let mut renamed = bytes.clone();
    let name = position(&renamed, b"layer1.w");
    renamed[name] = b'm';
    let e = salvaged(&renamed, false).unwrap_err().to_string();
    assert!(e.contains("data.pkl") && e.contains("keep_damaged"), "{e}");
    let (report, found) = salvaged(&renamed, true).unwrap().unwrap();
    assert!(found.len() == all.len() && report.doubtful.len() == all.len(), "{report:?}");
}

/// safetensors: cut off, and with something behind the end.
#[test]
fn safetensors() {
    let header = br#"{"__metadata__":{"k":"v"},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"I16","shape":[2],"data_offsets":[4,8]}}  "#;
    let whole = [&(header.len() as u64).to_le_bytes()[..], header, b"\x01\x02\x03\x04\x05\x06\x07\x08"].concat();
    let all = tensors(&list_and_hash(memory(whole.clone())).unwrap());
    let (report, found) = saved(&whole[..whole.len() - 1]);
    assert_eq!(found, all.clone().into_iter().filter(|(name, _)| name == "a").collect());
    assert!(report.lost.len() == 1 && report.lost[0].name == "b" && report.tensors == Some(1));
    assert_eq!(saved(&[&whole[..], &[0; 100]].concat()).1, all);
    assert!(salvaged(&whole, false).unwrap().is_none());
    assert!(salvaged(&whole[..whole.len() - 5], false).is_err());
}

/// torch's verdict on each file of testdata/damage.
#[test]
fn torch_opens() {
    let opens: BTreeMap<String, bool> =
        serde_json::from_slice(&std::fs::read(testdata("damage/opens.json")).unwrap()).unwrap();
    assert!(opens.len() > 50);
    for (name, opens) in opens {
        let path = testdata(&format!("damage/{name}"));
        let source = memory(std::fs::read(&path).unwrap());
        let depth = ckpt::safety::integrity::Depth { data: true, numerics: false };
        let examined = ckpt::safety::examine::examine(&path, &source, &Limits::default(), depth).unwrap();
        let verdict = examined.weights_only.unwrap();
        assert_eq!(verdict.opens, opens, "{name}: {:?}", verdict.reasons);
    }
}
