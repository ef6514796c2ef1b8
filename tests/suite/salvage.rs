//! `repair` of archives whose directory leads astray, that lie in each other, and of TorchScript without its constants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::path::Path;

use ckpt::report::repair::{Action, Repair};

use crate::in_memory::{self, list_and_hash, memory};

type Tensors = BTreeMap<String, Option<Option<String>>>;

fn testdata(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)).unwrap()
}

fn tensors(bytes: Vec<u8>) -> Tensors {
    let listing = list_and_hash(memory(bytes)).unwrap();
    listing.tensors.iter().map(|row| (row.name.clone(), row.sha256.clone())).collect()
}

fn repaired(bytes: &[u8]) -> anyhow::Result<(Repair, Tensors)> {
    written(bytes).map(|(report, found, _)| (report, found))
}

/// The same, with the new file.
fn written(bytes: &[u8]) -> anyhow::Result<(Repair, Tensors, Vec<u8>)> {
    let (report, written) = in_memory::repaired(memory(bytes.to_vec()), false)?;
    assert_ne!(report.action, Action::Nothing);
    Ok((report, tensors(written.clone()), written))
}

/// Where each entry of the directory begins, and the name in it.
fn entries(bytes: &[u8]) -> Vec<(usize, String)> {
    let number = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let mut at = bytes.windows(4).rposition(|window| window == b"PK\x05\x06").unwrap();
    at = usize::try_from(u32::from_le_bytes(bytes[at + 16..at + 20].try_into().unwrap())).unwrap();
    let mut found = Vec::new();
    while bytes[at..].starts_with(b"PK\x01\x02") {
        let name = String::from_utf8(bytes[at + 46..at + 46 + number(at + 28)].to_vec()).unwrap();
        found.push((at, name));
        at += 46 + number(at + 28) + number(at + 30) + number(at + 32);
    }
    found
}

const FILE: &str = "torch-2.15-py311/cnn_state.pt";

#[test]
fn offsets_that_lead_astray() {
    let bytes = testdata(FILE);
    let truth = tensors(bytes.clone());
    let entries = entries(&bytes);
    for (at, name) in &entries {
        for wrong in [0xffff_fff0_u32, 7, u32::try_from(bytes.len()).unwrap() - 1] {
            let mut bytes = bytes.clone();
            bytes[at + 42..at + 46].copy_from_slice(&wrong.to_le_bytes());
            let (report, found) = repaired(&bytes).unwrap();
            assert_eq!(found, truth, "{name} at {wrong}");
            assert!(report.lost.is_empty(), "{name} at {wrong}: {report:?}");
        }
    }
    // two that lead to each other's place
    let storages: Vec<usize> =
        entries.iter().filter(|(_, name)| name.contains("/data/")).map(|(at, _)| at + 42).collect();
    let mut swapped = bytes.clone();
    swapped[storages[0]..storages[0] + 4].copy_from_slice(&bytes[storages[1]..storages[1] + 4]);
    swapped[storages[1]..storages[1] + 4].copy_from_slice(&bytes[storages[0]..storages[0] + 4]);
    let (report, found) = repaired(&swapped).unwrap();
    assert!(found == truth && report.lost.is_empty(), "{report:?}");
    // a misplaced member whose bytes are damaged as well is lost
    let mut flipped = swapped;
    let header = flipped.windows(7).position(|window| window == b"/data/0").unwrap();
    let data = (header + 7).next_multiple_of(64);
    flipped[data] ^= 1;
    let (report, found) = repaired(&flipped).unwrap();
    assert_eq!((report.lost.len(), found.len()), (1, truth.len() - 1), "{report:?}");
}

#[test]
fn sizes_that_the_descriptor_knows_better() {
    let bytes = testdata(FILE);
    let truth = tensors(bytes.clone());
    for (at, name) in entries(&bytes) {
        for field in [20, 24] {
            let mut bytes = bytes.clone();
            bytes[at + field..at + field + 4].fill(0xff);
            let (report, found) = repaired(&bytes).unwrap();
            assert!(found == truth && report.lost.is_empty(), "{name} {field}: {report:?}");
        }
    }
}

/// A zip (stored, with descriptors as torch writes them) of one file after another.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in members {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let len = u32::try_from(data.len()).unwrap().to_le_bytes();
        out.extend(b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0");
        out.extend([0; 12]);
        out.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        out.extend([0, 0]);
        out.extend(name.as_bytes());
        out.extend(*data);
        out.extend(b"PK\x07\x08");
        out.extend(crc.sum().to_le_bytes());
        out.extend(len);
        out.extend(len);
    }
    out
}

/// The end of a file is lost that holds another archive as the bytes of a tensor: what is saved is the file's own.
#[test]
fn an_archive_in_an_archive() {
    let inner = testdata(FILE);
    let numel = i32::try_from(inner.len()).unwrap().to_le_bytes();
    let mut pickle = b"\x80\x02}(X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n\
        FloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0K\x01\x85K\x01\x85\x89}tRX\x01\0\0\0bctorch._utils\n\
        _rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nByteStorage\nX\x01\0\0\x001X\x03\0\0\0cpuJ"
        .to_vec();
    pickle.extend(numel);
    pickle.extend(b"tQK\0J");
    pickle.extend(numel);
    pickle.extend(b"\x85K\x01\x85\x89}tRu.");
    let members: [(&str, &[u8]); 3] =
        [("outer_file/data.pkl", &pickle), ("outer_file/data/0", b"\0\0\x80\x3f"), ("outer_file/data/1", &inner)];
    let whole = archive(&members);
    // the directory is gone; the descriptor of the last member; its end
    for cut in [0, 16, 40] {
        let (report, found) = repaired(&whole[..whole.len() - cut]).unwrap();
        let lost: Vec<&str> = report.lost.iter().map(|lost| lost.name.as_str()).collect();
        let saved: Vec<&str> = found.keys().map(String::as_str).collect();
        match cut {
            0 => assert_eq!((saved, lost), (vec!["a", "b"], vec![]), "{report:?}"),
            _ => assert_eq!((saved, lost), (vec!["a"], vec!["b"]), "{report:?}"),
        }
    }
}

/// Without its constants a TorchScript archive is still one: its state dict is saved, and the constants are named.
#[test]
fn script_without_constants() {
    let bytes = testdata("torch-2.15-py311/scripted.pt");
    let truth = tensors(bytes.clone());
    let name = bytes.windows(14).position(|window| window == b"/constants.pkl").unwrap();
    let data = (name + 14).next_multiple_of(64);
    let (entry, _) = entries(&bytes).into_iter().find(|(_, name)| name.ends_with("/constants.pkl")).unwrap();
    for damaged in [[data, data], [name + 2, entry + 46 + 10]] {
        let mut bytes = bytes.clone();
        damaged.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().for_each(|at| bytes[at] ^= 0x20);
        let (report, found) = repaired(&bytes).unwrap();
        assert!(found.iter().all(|(name, hash)| truth.get(name) == Some(hash)), "{found:?}");
        let lost: Vec<&str> = report.lost.iter().map(|lost| lost.name.as_str()).collect();
        assert!(!found.is_empty() && lost.contains(&"CONSTANTS"), "{report:?}");
    }
}

/// Without its pickle nothing of it can be saved, and that is said, whether its constants are there or not.
#[test]
fn script_without_its_pickle() {
    let bytes = testdata("torch-2.15-py311/scripted.pt");
    for lost in [&["data.pkl"][..], &["data.pkl", "constants.pkl"]] {
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
        let mut left = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for index in 0..archive.len() {
            let member = archive.by_index_raw(index).unwrap();
            if !lost.iter().any(|name| member.name().unwrap().ends_with(&format!("/{name}"))) {
                left.raw_copy_file(member).unwrap();
            }
        }
        let e = repaired(&left.finish().unwrap().into_inner()).unwrap_err();
        assert!(format!("{e:#}").contains("nothing can be saved: its pickle data.pkl is lost"), "{lost:?}: {e:#}");
    }
}

/// Every member of what torch.export and torch.jit write is whole, so the archive is written again as the program that it is;
/// the archive of example inputs in it is not taken for it.
#[test]
fn programs_stay_programs() {
    for (file, container) in [("layouts/tied.pt2", "pt2"), ("torch-2.15-py311/scripted.pt", "torchscript")] {
        let bytes = testdata(file);
        let truth = tensors(bytes.clone());
        for (at, name) in entries(&bytes) {
            let mut bytes = bytes.clone();
            bytes[at + 42..at + 46].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
            let (report, found, written) = written(&bytes).unwrap();
            assert!(found == truth && report.lost.is_empty(), "{name}: {report:?}");
            assert_eq!(list_and_hash(memory(written)).unwrap().container, container, "{name}");
        }
    }
}

/// An exported program of which a part is lost: its weights are saved, as what `torch.load` opens.
#[test]
fn weights_of_an_exported_program() {
    let bytes = testdata("layouts/tied.pt2");
    let truth = tensors(bytes.clone());
    let (program, _) = entries(&bytes).into_iter().find(|(_, name)| name.ends_with("models/model.json")).unwrap();
    let start = u32::from_le_bytes(bytes[program + 42..program + 46].try_into().unwrap()) as usize;
    let mut holed = bytes.clone();
    holed[start + 200..start + 300].fill(0);
    let (report, found, written) = written(&holed).unwrap();
    assert_eq!(list_and_hash(memory(written)).unwrap().container, "zip");
    assert!(found.iter().all(|(name, hash)| truth.get(name) == Some(hash)) && found.len() >= 4, "{found:?}");
    assert!(report.notes.iter().any(|note| note.contains("models/model.json: ")), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("saved as its state dict")), "{report:?}");
    // one weight is damaged, by name
    let weight = bytes.windows(13).position(|window| window == b"data/weights/").unwrap();
    let mut flipped = bytes.clone();
    flipped[(weight + 22).next_multiple_of(64)] ^= 1;
    let (report, found) = repaired(&flipped).unwrap();
    assert!(found.iter().all(|(name, hash)| truth.get(name) == Some(hash)), "{found:?}");
    assert!(!report.lost.is_empty() && truth.keys().all(|name| found.contains_key(name) || lost(&report, name)));
    // what the weights are called is not known for sure
    let (config, _) =
        entries(&bytes).into_iter().find(|(_, name)| name.ends_with("model_weights_config.json")).unwrap();
    let start = u32::from_le_bytes(bytes[config + 42..config + 46].try_into().unwrap()) as usize;
    let mut renamed = bytes.clone();
    let name = start + bytes[start..].windows(7).position(|window| window == b"a.weigh").unwrap();
    renamed[name] = b'c';
    let e = repaired(&renamed).map(|_| ()).unwrap_err();
    assert!(format!("{e:#}").contains("model_weights_config.json"), "{e:#}");
}

fn lost(report: &Repair, name: &str) -> bool {
    report.lost.iter().any(|lost| lost.name == name)
}

/// numpy's archives: each array is a member, and those that are whole make an archive of their own.
#[test]
fn arrays_of_numpy() {
    let bytes = testdata("diff/run_a.npz");
    let truth = tensors(bytes.clone());
    let last = entries(&bytes).last().map(|(at, _)| *at).unwrap();
    let (report, found) = repaired(&bytes[..last]).unwrap();
    assert!(found == truth && report.lost.is_empty(), "{report:?}");
    let data = bytes.windows(6).position(|window| window == b"\x93NUMPY").unwrap();
    for at in [data, data + 130] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let (report, found) = repaired(&flipped).unwrap();
        assert_eq!((report.lost.len(), found.len()), (1, truth.len() - 1), "{report:?}");
        assert!(found.iter().all(|(name, hash)| truth.get(name) == Some(hash)));
    }
}

/// An entry of the directory that lost its name stands for a member that has it still.
#[test]
fn names_that_are_gone_from_the_directory() {
    let bytes = testdata(FILE);
    let truth = tensors(bytes.clone());
    for (at, name) in entries(&bytes) {
        let mut bytes = bytes.clone();
        bytes[at + 48..at + 52].fill(0);
        let (report, found) = repaired(&bytes).unwrap();
        assert!(found == truth && report.lost.is_empty(), "{name}: {report:?}");
    }
}

/// An entry of the directory that was put together of two has the name of one and the bytes of the other.
#[test]
fn an_entry_made_of_two() {
    let bytes = testdata(FILE);
    let truth = tensors(bytes.clone());
    let entries = entries(&bytes);
    let storages: Vec<&(usize, String)> = entries.iter().filter(|(_, name)| name.contains("/data/")).collect();
    let [(first, _), (last, name)] = [storages[0], storages[storages.len() - 1]];
    let name_at = first + 46;
    let cut = [&bytes[..name_at], &bytes[last + 46..]].concat();
    assert!(cut[name_at..].starts_with(name.as_bytes()));
    let (report, found) = repaired(&cut).unwrap();
    assert!(found.iter().all(|(name, hash)| truth.get(name) == Some(hash)), "{report:?}");
    assert!(truth.keys().all(|name| found.contains_key(name) || lost(&report, name)), "{report:?}");
}

/// Without what is said of the byte order, checksums do not prove numbers.
#[test]
fn a_byte_order_that_is_damaged() {
    let bytes = testdata("average/big_endian.pt");
    let at = bytes.windows(3).position(|window| window == b"big").unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 4;
    // the checksum still tells which of the two it was
    assert!(repaired(&damaged).unwrap().0.verified);
    let sum = crc32fast::hash(b"big").to_le_bytes();
    while let Some(at) = damaged.windows(4).position(|window| window == sum) {
        damaged[at..at + 4].fill(0x5a);
    }
    let (report, _) = repaired(&damaged).unwrap();
    assert!(!report.verified, "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("byte order")), "{report:?}");
}

/// A header that claims a byte of the data, or leaves some of its padding to it, has another length than it says.
#[test]
fn a_header_of_another_length() {
    let bytes = testdata("average/state_9.safetensors");
    let truth = tensors(bytes.clone());
    let length = bytes[0];
    for (other, why) in [(length + 1, "a tab of the data"), (length - 3, "three spaces of the padding")] {
        let mut damaged = bytes.clone();
        damaged[0] = other;
        let (report, found) = repaired(&damaged).unwrap();
        assert!(found == truth && report.lost.is_empty() && !report.verified, "{why}: {report:?}");
    }
    // of a file that was cut off the padding says nothing
    let (report, found) = repaired(&bytes[..bytes.len() - 2]).unwrap();
    assert!(found.len() + 1 == truth.len() && report.lost.len() == 1, "{report:?}");
    assert!(found.iter().all(|(name, hash)| truth.get(name) == Some(hash)));
}

/// Bytes that were inserted into a legacy stream, which has no checksums, show in the count after them.
#[test]
fn legacy_bytes_inserted() {
    let bytes = testdata("torch-2.15-py311/cnn_state.legacy.pt");
    let truth = tensors(bytes.clone());
    let storages = bytes.len() - 600;
    let mut saved = 0;
    for at in (storages..bytes.len() - 200).step_by(7) {
        let longer = [&bytes[..at], &[0x5a; 64][..], &bytes[at..]].concat();
        // nothing that is whole may be left
        let Ok((report, found)) = repaired(&longer) else { continue };
        assert!(found.iter().all(|(name, hash)| truth.get(name) == Some(hash)), "{at}: {report:?}");
        saved += found.len();
    }
    assert!(saved > 0);
}

/// What is left is an archive in the archive, or in a pickle: not the file.
#[test]
fn an_inner_archive_is_not_the_file() {
    let bytes = testdata("numbers/net.pt2");
    let truth = tensors(bytes.clone());
    for len in [8600, 9000, 9400, 10_000] {
        for from in (0..bytes.len() - len).step_by(300) {
            let mut copied = bytes.clone();
            let block = &bytes[from..from + len.min(bytes.len() - 8507)];
            copied[8507..8507 + block.len()].copy_from_slice(block);
            let Ok((report, found)) = repaired(&copied) else { continue };
            for (name, hash) in &found {
                assert!(truth.get(name) == Some(hash), "{from} {len}: {name} {:?}", report.notes);
            }
        }
    }
    for file in ["wrappers/embedded.pt", "wrappers/embedded2.pkl", "wrappers/embedded4.pkl"] {
        let bytes = testdata(file);
        let truth = tensors(bytes.clone());
        for before in [&b"x"[..], b"HTTP/1.1 200 OK\r\n\r\n", &[7; 100]] {
            let Ok((report, found)) = repaired(&[before, &bytes].concat()) else { continue };
            assert!(
                found.iter().all(|(name, hash)| truth.get(name) == Some(hash)),
                "{file} {found:?} {:?}",
                report.notes
            );
        }
    }
}

/// Zeros over the pickle of a legacy file, which has no checksum, make one name of many bytes: what comes of it has other
/// names and places, and nothing of it is saved as whole.
#[test]
fn a_name_of_a_class_that_no_program_writes() {
    let mut bytes = testdata("torch-1.13-py311/quantized.legacy.pt");
    bytes[388..432].fill(0);
    let refused = repaired(&bytes).unwrap_err();
    assert!(refused.to_string().contains("names a class that no program writes"), "{refused}");
}
