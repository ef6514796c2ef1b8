//! Small archives of thousands of members that are pickles: what all of them cost together is bounded, and what is left
//! unread for that is never `ok`.
//!
//! The bombs are made here, of less than a megabyte each. The time is a generous one: it tells what is a hundred times too
//! much from what is not, on a busy machine too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use crate::driver::schemas::output;

/// Time that the check of one bomb may take.
const LONGEST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 120 } else { 10 });

fn archive(method: CompressionMethod, members: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        zip.start_file(name, options).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// `{'a': 1}`
fn small() -> Vec<u8> {
    b"\x80\x02}X\x01\0\0\0aK\x01s.".to_vec()
}

/// A list of `count` lists.
fn lists(count: usize) -> Vec<u8> {
    [b"\x80\x02](".as_slice(), &vec![b']'; count], b"e."].concat()
}

/// A list of `count` objects of a class that is named anew for each.
fn objects(count: usize) -> Vec<u8> {
    [b"\x80\x02](".as_slice(), &b"cargparse\nNamespace\n)\x81}X\x01\0\0\0aK\x01sb".repeat(count), b"e."].concat()
}

fn package(pickles: usize) -> Vec<u8> {
    let about = [(".data/version", "3\n"), (".data/extern_modules", ""), (".data/python_version", "3.11")];
    let about = about.map(|(name, text)| (format!("p/{name}"), text.as_bytes().to_vec()));
    let pickles = (0..pickles).map(|number| (format!("p/m{number}/x.pkl"), small()));
    archive(CompressionMethod::Stored, about.into_iter().chain(pickles))
}

/// Checks a bomb: its exit status and what was printed.
fn check(name: &str, bytes: &[u8]) -> (Option<i32>, String) {
    assert!(bytes.len() < 1_000_000, "{name} is no small file: {} bytes", bytes.len());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let begun = Instant::now();
    let out = check_file(&path);
    assert!(begun.elapsed() < LONGEST, "{name} took {:?}", begun.elapsed());
    out
}

fn check_file(path: &Path) -> (Option<i32>, String) {
    let out = output(Command::new(env!("CARGO_BIN_EXE_ckpt")).args(["check", "--json"]).arg(path));
    (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

#[test]
fn a_package_of_thousands_of_pickles() {
    let (status, told) = check("pkg.zip", &package(7000));
    assert_eq!(status, Some(2));
    assert!(told.contains("of which 256 were looked at"), "{}", &told[..told.len().min(2000)]);
}

#[test]
fn the_checksums_of_a_package_are_looked_at_once_and_all() {
    let mut bytes = package(3);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pkg.zip");
    std::fs::write(&path, &bytes).unwrap();
    assert!(!check_file(&path).1.contains("crc-mismatch"));
    // the number in the last of the pickles, which stays one
    let at = bytes.windows(6).rposition(|window| window == b"aK\x01s.P").unwrap() + 2;
    bytes[at] = 2;
    std::fs::write(&path, &bytes).unwrap();
    let (status, told) = check_file(&path);
    assert_eq!(status, Some(1), "{told}");
    assert_eq!(told.matches("crc-mismatch").count(), 1, "{told}");
}

#[test]
fn members_that_expand_to_lists() {
    let members = (0..4000).map(|number| (format!("m{number:05}.pkl"), lists(20_000)));
    let (status, told) = check("lists.zip", &archive(CompressionMethod::Deflated, members));
    assert_eq!(status, Some(2));
    assert!(told.contains("limit"), "{}", &told[..told.len().min(2000)]);
}

#[test]
fn members_that_expand_to_objects() {
    let members = (0..4000).map(|number| (format!("m{number:05}.pt"), objects(500)));
    let (status, _) = check("objs.zip", &archive(CompressionMethod::Deflated, members));
    assert_ne!(status, Some(0));
}

#[test]
fn a_stream_of_thousands_of_streams() {
    let one = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let bytes = [one(b"\x80\x02"), one(b"N0").repeat(40_000), one(b"N.")].concat();
    let (status, told) = check("multi.pkl.gz", &bytes);
    assert_eq!(status, Some(0), "{told}");
}

#[test]
fn a_million_beginnings_of_names_without_an_end() {
    let bytes = [vec![0xff; 8], vec![b'c'; 900_000]].concat();
    let (status, told) = check("begins.bin", &bytes);
    assert_eq!(status, Some(2), "{told}");
    // the name is found behind them all the same
    let bytes = [vec![0xff; 8], vec![b'c'; 900_000], b"\0cos\nsystem\n(S'true'\ntR.".to_vec()].concat();
    let (status, told) = check("begins.bin", &bytes);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("os.system"), "{told}");
}

#[test]
fn what_many_members_name_is_the_same_as_what_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let globals = |count: usize| {
        let path = dir.path().join(format!("{count}.pkl"));
        std::fs::write(&path, objects(count)).unwrap();
        let told: serde_json::Value = serde_json::from_str(check_file(&path).1.lines().next().unwrap()).unwrap();
        let global = &told["globals"][0];
        assert_eq!(global["uses"], count, "{told}");
        (global["name"].clone(), global["status"].clone(), told["verdict"].clone())
    };
    assert_eq!(globals(1), globals(3000));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Every byte of a name is the opcode of another name, and each of those is judged with the ones before it.
#[test]
fn names_in_names_behind_a_break() {
    let line = [b"V".repeat(250).as_slice(), b"\n"].concat();
    let globals = [b"c".repeat(250).as_slice(), b"\n"].concat();
    for (name, line) in [("strings.pkl.gz", line), ("globals.pkl.gz", globals)] {
        let broken = [b"\x80\x02q".as_slice(), &line.repeat(1 << 16)].concat();
        let (status, told) = check(name, &gzip(&broken));
        assert_eq!(status, Some(1), "{told}");
        assert!(told.contains("too-much-work"), "{told}");
    }
    // what is dangerous is found all the same
    let broken = [b"\x80\x02q".as_slice(), b"VVos\nVsystem\n\x93"].concat();
    assert!(check("found.pkl", &broken).1.contains("os.system"));
}

/// Opcodes that leave nothing behind are bounded by what the file's size explains, for each reader of it.
#[test]
fn opcodes_that_make_nothing() {
    for (name, opcodes) in [("n0.pt", b"N0".as_slice()), ("mark.pt", b"(1"), ("global.pt", b"cos\nsystem\n0")] {
        let count = (32 << 20) / opcodes.len();
        let pickle = [b"\x80\x02".as_slice(), &opcodes.repeat(count), b"}."].concat();
        let members = [("a/data.pkl", pickle), ("a/version", b"3\n".to_vec())];
        let members = members.map(|(name, bytes)| (name.to_owned(), bytes));
        let (status, told) = check(name, &archive(CompressionMethod::Deflated, members));
        assert_eq!(status, Some(1), "{told}");
        let verdict = &told[told.find("\"weights_only\":").unwrap()..];
        assert!(verdict.contains("more opcodes than its size explains"), "{name}: {told}");
    }
}
