use std::io::{Cursor as Bytes, Write};

use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipWriter};

use super::*;
use crate::dtype::ByteOrder;
use crate::source::MemorySource;

/// A member by hand, so that every lie can be told.
#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    local_name: Vec<u8>,
    data: Vec<u8>,
    size: u32,
    method: u16,
    flags: u16,
    header_start: Option<u32>,
}

fn entry(name: &str, data: &[u8]) -> Entry {
    Entry {
        name: name.into(),
        local_name: name.into(),
        data: data.to_vec(),
        size: u32::try_from(data.len()).unwrap(),
        method: 0,
        flags: 0,
        header_start: None,
    }
}

fn build(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    let half = |n: usize| u16::try_from(n).unwrap().to_le_bytes();
    let word = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    for entry in entries {
        let start = entry.header_start.unwrap_or(u32::try_from(out.len()).unwrap());
        let mut common = Vec::new();
        common.extend(20u16.to_le_bytes());
        common.extend(entry.flags.to_le_bytes());
        common.extend(entry.method.to_le_bytes());
        common.extend([0; 8]);
        common.extend(word(entry.data.len()));
        common.extend(entry.size.to_le_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(half(entry.local_name.len()));
        out.extend([0; 2]);
        out.extend(&entry.local_name);
        out.extend(&entry.data);
        directory.extend(CENTRAL_HEADER);
        directory.extend(20u16.to_le_bytes());
        directory.extend(&common);
        directory.extend(half(entry.name.len()));
        directory.extend([0; 12]);
        directory.extend(start.to_le_bytes());
        directory.extend(&entry.name);
    }
    let start = out.len();
    out.extend(&directory);
    out.extend(END_RECORD);
    out.extend([0; 4]);
    out.extend(half(entries.len()));
    out.extend(half(entries.len()));
    out.extend(word(directory.len()));
    out.extend(word(start));
    out.extend([0; 2]);
    out
}

fn open(bytes: Vec<u8>) -> Result<Zip> {
    Zip::open(Arc::new(MemorySource::new(bytes)), &Limits::default())
}

fn bytes_of(zip: &Zip, name: &str) -> Result<Vec<u8>> {
    let source = zip.member_source(zip.find(name).unwrap())?;
    read_vec(source.as_ref(), 0, source.len())
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn stored_and_deflated_members_are_read() {
    let mut writer = ZipWriter::new(Bytes::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let big: Vec<u8> = (0..9_000_000u32).map(|i| u8::try_from(i % 253).unwrap()).collect();
    for (name, options, data) in
        [("a/data.pkl", deflated, &b"pickle"[..]), ("a/byteorder", stored, b"big"), ("a/data/0", deflated, &big)]
    {
        writer.start_file(name, options).unwrap();
        writer.write_all(data).unwrap();
    }
    writer.set_comment("hello").unwrap();
    let mut bytes = writer.finish().unwrap().into_inner();
    bytes.extend(b"tail");
    let zip = open(bytes).unwrap();
    assert_eq!(bytes_of(&zip, "a/data.pkl").unwrap(), b"pickle");
    assert_eq!(bytes_of(&zip, "a/byteorder").unwrap(), b"big");
    assert_eq!(bytes_of(&zip, "a/data/0").unwrap(), big);
    assert_eq!((zip.comment.as_slice(), zip.trailing_bytes), (&b"hello"[..], 4));
    assert_eq!(zip.flavor().unwrap(), Flavor::Torch);
    assert_eq!(zip.top(), "a");
    assert_eq!(zip.byte_order().unwrap(), ByteOrder::Big);
    for member in &zip.members {
        assert_eq!(zip.crc32_of(member).unwrap(), member.crc32, "{}", member.name);
    }
}

#[test]
fn a_wrong_crc_is_no_obstacle_but_can_be_seen() {
    let zip = open(build(&[entry("a/data.pkl", b"abc")])).unwrap();
    assert_eq!(bytes_of(&zip, "a/data.pkl").unwrap(), b"abc");
    assert_eq!((zip.members[0].crc32, zip.crc32_of(&zip.members[0]).unwrap()), (0, 0x3524_41c2));
}

#[test]
fn every_truncation_is_named() {
    let bytes = build(&[entry("a/data.pkl", b"abc"), entry("a/version", b"3\n")]);
    for end in 0..bytes.len() {
        let e = open(bytes[..end].to_vec()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Truncated, "{end}: {e}");
        assert!(e.to_string().contains("no end of central directory"), "{e}");
        assert_eq!(e.offset(), Some(end as u64));
    }
}

#[test]
fn a_zip_inside_a_stored_member_is_not_mistaken_for_the_archive() {
    let inner = build(&[entry("inner/data.pkl", b"x")]);
    let zip = open(build(&[entry("a/data.pkl", b"abc"), entry("a/data/0", &inner)])).unwrap();
    assert_eq!(zip.members.len(), 2);
    let inner = Zip::open(zip.member_source(&zip.members[1]).unwrap(), &Limits::default()).unwrap();
    assert_eq!(bytes_of(&inner, "inner/data.pkl").unwrap(), b"x");
}

#[test]
fn bad_names_are_refused() {
    for name in ["../x", "a/../../x", "/etc/passwd", "a\\b", "a\0b", ""] {
        let e = open(build(&[entry(name, b"")])).unwrap_err();
        assert_eq!((e.kind(), e.offset().is_some()), (ErrorKind::Malformed, true), "{name:?}: {e}");
    }
    assert!(open(build(&[entry("a/..b/c..", b"")])).is_ok());
}

#[test]
fn names_that_are_not_utf8_stay_apart() {
    let mut first = entry("", b"1");
    (first.name, first.local_name) = (b"a/\xff".to_vec(), b"a/\xff".to_vec());
    let mut second = entry("", b"2");
    (second.name, second.local_name) = (b"a/\xfe".to_vec(), b"a/\xfe".to_vec());
    let zip = open(build(&[first, second])).unwrap();
    assert_eq!(zip.members[0].name_raw(), b"a/\xff");
    let name = zip.members[1].name.to_string();
    assert_eq!(bytes_of(&zip, &name).unwrap(), b"2");
}

#[test]
fn a_second_member_of_a_name_is_refused() {
    let e = open(build(&[entry("a/x", b"1"), entry("a/y", b"1"), entry("a/x", b"2")])).unwrap_err();
    assert_eq!((e.kind(), e.member()), (ErrorKind::Malformed, Some("a/x")));
    assert!(e.offset().is_some());
}

#[test]
fn overlapping_members_are_refused() {
    let mut second = entry("a/y", b"1234");
    second.header_start = Some(2);
    let e = open(build(&[entry("a/x", b"1234"), second.clone()])).unwrap_err();
    assert!(e.to_string().contains("overlaps"), "{e}");
    assert_eq!(e.member(), Some("a/x"));
    second.header_start = Some(0);
    assert!(open(build(&[entry("a/x", b"1234"), second])).is_err());
    // into the directory, which only the local header's extra field shows
    let mut bytes = build(&[entry("a/x", b"1234")]);
    bytes[28] = 1;
    let zip = open(bytes).unwrap();
    let e = bytes_of(&zip, "a/x").unwrap_err();
    assert!(e.to_string().contains("overlaps"), "{e}");
}

#[test]
fn members_beyond_the_file_are_refused() {
    let mut outside = entry("a/x", b"1234");
    outside.header_start = Some(5000);
    let e = open(build(&[outside])).unwrap_err();
    assert_eq!((e.kind(), e.member()), (ErrorKind::Truncated, Some("a/x")));
    let mut bytes = build(&[entry("a/x", b"1234")]);
    let directory = bytes.len() - 22 - 46 - 3;
    bytes[directory + 20..directory + 28].fill(0x7f);
    assert_eq!(open(bytes).unwrap_err().kind(), ErrorKind::Truncated);
}

#[test]
fn local_headers_must_agree() {
    let mut other = entry("a/x", b"1234");
    other.local_name = b"a/z".to_vec();
    let zip = open(build(&[other])).unwrap();
    let e = bytes_of(&zip, "a/x").unwrap_err();
    assert!(e.to_string().contains("names another member"), "{e}");

    let mut bytes = build(&[entry("a/x", b"1234")]);
    bytes[0] = 0;
    let zip = open(bytes).unwrap();
    let e = bytes_of(&zip, "a/x").unwrap_err();
    assert!(e.to_string().contains("no local header"), "{e}");
    assert_eq!((e.member(), e.offset()), (Some("a/x"), Some(0)));
}

#[test]
fn sizes_that_lie_are_found() {
    let honest = Entry { method: 8, size: 1000, ..entry("a/x", &deflate(&[7; 1000])) };
    assert_eq!(bytes_of(&open(build(std::slice::from_ref(&honest))).unwrap(), "a/x").unwrap(), [7; 1000]);
    for (size, says) in [(999, "more than the 999 bytes"), (1001, "inflates to 1000 bytes")] {
        let zip = open(build(&[Entry { size, ..honest.clone() }])).unwrap();
        let e = bytes_of(&zip, "a/x").unwrap_err();
        assert!(e.kind() == ErrorKind::Malformed && e.to_string().contains(says), "{e}");
        assert_eq!(zip.crc32_of(&zip.members[0]).unwrap_err().kind(), ErrorKind::Malformed);
    }
    let zip = open(build(&[Entry { size: 5, ..entry("a/x", b"1234") }])).unwrap();
    assert_eq!(bytes_of(&zip, "a/x").unwrap_err().kind(), ErrorKind::Malformed);
    let cut = Entry { data: honest.data[..honest.data.len() - 3].to_vec(), ..honest.clone() };
    let e = bytes_of(&open(build(&[cut])).unwrap(), "a/x").unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::Truncated | ErrorKind::Malformed), "{e}");
}

#[test]
fn a_bomb_is_stopped_before_it_expands() {
    let bomb = Entry { method: 8, size: 64 << 20, ..entry("a/x", &deflate(&vec![0; 64 << 20])) };
    let limits = Limits { min_expanded_bytes: 1 << 20, ..Limits::default() };
    let zip = Zip::open(Arc::new(MemorySource::new(build(&[bomb]))), &limits).unwrap();
    let e = bytes_of(&zip, "a/x").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Limit);
    assert!(e.to_string().contains("max_expanded_bytes"), "{e}");
}

#[test]
fn other_methods_and_encryption_are_named() {
    for (method, flags, says) in [(12, 0, "bzip2"), (93, 0, "Zstandard"), (77, 0, "method 77"), (0, 1, "encrypted")] {
        let zip = open(build(&[Entry { method, flags, ..entry("a/x", b"1234") }])).unwrap();
        let e = bytes_of(&zip, "a/x").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains(says), "{e}");
    }
}

#[test]
fn too_many_members_are_refused_before_they_are_read() {
    let mut bytes = vec![0; 100];
    let record = bytes.len() as u64;
    bytes.extend(ZIP64_END_RECORD);
    bytes.extend(44u64.to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend((1u64 << 40).to_le_bytes());
    bytes.extend((1u64 << 40).to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(ZIP64_LOCATOR);
    bytes.extend([0; 4]);
    bytes.extend(record.to_le_bytes());
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(END_RECORD);
    bytes.extend([0, 0, 0, 0]);
    bytes.extend([0xff; 12]);
    bytes.extend([0; 2]);
    assert_eq!(open(bytes).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn flavors_are_told_by_members() {
    let flavor = |names: &[&str]| {
        let entries: Vec<Entry> = names.iter().map(|name| entry(name, b"")).collect();
        open(build(&entries)).unwrap().flavor()
    };
    assert_eq!(flavor(&["m/data.pkl", "m/constants.pkl"]).unwrap(), Flavor::TorchScript);
    assert_eq!(flavor(&["m/data.pkl", "m/data/0"]).unwrap(), Flavor::Torch);
    assert_eq!(flavor(&["m/archive_format", "m/data/weights/weight_0"]).unwrap(), Flavor::Pt2);
    assert_eq!(flavor(&["m/models/model.json"]).unwrap(), Flavor::Pt2);
    assert_eq!(flavor(&["x.npy", "y/z.npy"]).unwrap(), Flavor::Npz);
    let e = flavor(&["1", "2", "3", "4", "5", "6", "7.npy", "8"]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotACheckpoint);
    assert!(e.to_string().contains("1, 2, 3, 4, 5, 6 and 2 more"), "{e}");
    assert!(flavor(&[]).unwrap_err().to_string().contains("empty zip"));
}

#[test]
fn a_strange_byte_order_is_refused() {
    let zip = open(build(&[entry("a/byteorder", b"middle")])).unwrap();
    let e = zip.byte_order().unwrap_err();
    assert_eq!((e.kind(), e.member()), (ErrorKind::Malformed, Some("a/byteorder")));
}
