//! Streams that Python's unpicklers follow and no pickler writes: `ckpt check` names what they come to.
//!
//! Found by `fuzz/against_cpython.py`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::path::Path;
use std::sync::Arc;

use ckpt::limits::Limits;
use ckpt::safety::examine::examine;
use ckpt::safety::integrity::Depth;
use ckpt::source::{MemorySource, SharedSource};

/// The globals that are listed, those that are called with `()`.
fn globals(bytes: &[u8]) -> Vec<String> {
    let source: SharedSource = Arc::new(MemorySource::new(bytes.to_vec()));
    let depth = Depth { data: false, numerics: false };
    let examined = examine(Path::new("a.pkl"), &source, &Limits::default(), depth).unwrap();
    let shown = |called: u64| if called > 0 { "()" } else { "" };
    examined.globals.iter().map(|global| format!("{}{}", global.name, shown(global.used.called))).collect()
}

/// The codes of what is found; nothing in what is no checkpoint.
fn codes(bytes: &[u8]) -> Vec<&'static str> {
    let source: SharedSource = Arc::new(MemorySource::new(bytes.to_vec()));
    let depth = Depth { data: false, numerics: false };
    let examined = examine(Path::new("a.pkl"), &source, &Limits::default(), depth);
    examined.map_or(Vec::new(), |examined| examined.findings.iter().map(|finding| finding.code).collect())
}

fn frame(len: u64) -> Vec<u8> {
    [&[0x95][..], &len.to_le_bytes()].concat()
}

/// `Lib/pickle.py` takes a last line without its newline, and drops its last byte.
#[test]
fn the_last_line_needs_no_newline() {
    assert_eq!(globals(b"\x80\x02(U\x02idim\nfX"), ["m.f()"]);
    assert_eq!(globals(b"\x80\x02cm\nfX"), ["m.f"]);
}

/// `_pickle.c` forgets what is left of a frame where a line reaches past its end.
#[test]
fn a_line_that_reaches_out_of_its_frame_begins_behind_it() {
    let line = [b"\x80\x04".to_vec(), frame(5), b"cjunkm\nf\n)R.".to_vec()].concat();
    assert_eq!(globals(&line), ["junkm.f()", "m.f()"]);
}

/// Whoever loads one pickle after the other from a file has read a frame whole, also where it goes on after STOP.
#[test]
fn a_pickle_behind_a_frame_that_goes_on_after_stop() {
    let first = [b"\x80\x04".to_vec(), frame(4), b"N.\xff\xff".to_vec()].concat();
    assert_eq!(globals(&[&first[..], b"cm\nf\n)R."].concat()), ["m.f()"]);
}

/// A pickle behind another that breaks has imported what it named before.
#[test]
fn a_broken_pickle_behind_another() {
    assert_eq!(globals(b"\x80\x02N.\x80\x02cm\nf\n\xff"), ["m.f"]);
}

/// The first of several pickles may be a number that no PROTO announces, as torch takes it too.
#[test]
fn pickles_behind_one_that_names_nothing() {
    assert_eq!(globals(b"\x8a\x01\x01.K\x02.cm\nf\n)R."), ["m.f()"]);
}

/// `Lib/pickle.py` has a dict for its memo, which takes any number as an index.
#[test]
fn memo_indexes_of_more_than_64_bits() {
    let huge = "9".repeat(25);
    let other = "9".repeat(24);
    assert_eq!(globals(format!("(lp{huge}\n0cm\nf\n)Rg{huge}\n.").as_bytes()), ["m.f()"]);
    // the same number in other digits, and a neighbour that is another one
    let stream = format!("cm\nf\np00{huge}\n0cm\ng\np{other}\n0g+{huge}\n)R.");
    assert_eq!(globals(stream.as_bytes()), ["m.f()", "m.g"]);
    assert_eq!(globals(format!("Np{huge}\n0g{other}\n0(cm\nf\no.").as_bytes()), [""; 0]);
    // Pythons before 3.10.7 read any number of digits
    let (long, apart) = ("1".repeat(5000), format!("1_{}", "1".repeat(5000)));
    assert_eq!(globals(format!("Np{long}\nI{apart}\n0cm\nf\n)R.").as_bytes()), ["m.f()"]);
}

/// One `Unpickler` that loads pickle after pickle keeps its memo.
#[test]
fn pickles_that_share_a_memo() {
    assert_eq!(globals(b"\x80\x02cm\nf\nq\x07.\x80\x02h\x07)R."), ["m.f()"]);
    // and one that breaks without it is not the last one
    assert_eq!(globals(b"\x80\x02Nq\x07.\x80\x02h\x07.\x80\x02cm\nf\n)R."), ["m.f()"]);
    // what a pickle stored itself is its own
    assert_eq!(globals(b"\x80\x02cm\nf\nq\x07.\x80\x02cm\ng\nq\x07h\x07)R."), ["m.f", "m.g()"]);
    // MEMOIZE counts on: the second pickle's name 0 is the first one's
    let first = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94N.";
    let second = b"\x80\x04\x8c\x01m\x94\x8c\x01f\x94h\x00h\x01\x93\x8c\x02id\x85R.";
    assert_eq!(globals(&[&first[..], second].concat()), ["posix.system()", "m.f()"]);
}

/// A module is imported before its attribute is looked for, whatever that is called.
#[test]
fn names_with_lone_surrogates() {
    assert_eq!(globals(b"\x80\x04\x8c\x05probe\x8c\x03\xed\xa0\x80\x930N."), ["probe.\u{fffd}"]);
}

/// What a file names before it breaks counts too when only the bytes behind the break say that it is a pickle.
#[test]
fn names_before_the_break() {
    let found = globals(b"cm\nf\nd(S'id'\niposix\nsystem\n.");
    assert_eq!(found, ["m.f"]);
    assert_eq!(globals(b"(ia\0b\n \ncp\np2\n(tR"), ["a\0b. ()", "p.p2()"]);
    assert_eq!(globals(b"(ia\0b\n\n.0cposix\nsystem\n)R"), ["a\0b.()"]);
}

/// The same where a line reaches out of its frame, as C reads it.
#[test]
fn names_before_the_break_by_frames() {
    let head = [b"\x96\0\0\0\0\0\0\0\0\x88".to_vec(), frame(20), b"cxxxxxxxxxxxxxxxxx\na\tb\n".to_vec()].concat();
    let found = globals(&[&head[..], b"0\nX\x05\0\0\0posix\x94T\x06\0\0\0system\x93I"].concat());
    assert!(found.contains(&"xxxxxxxxxxxxxxxxx.\tb".to_owned()), "{found:?}");
}

/// torch takes what follows the five pickles of a legacy stream for storages; whoever loads pickle after pickle does not.
#[test]
fn a_pickle_behind_a_legacy_stream() {
    let four = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02].";
    let five = [&four[..], b"\x80\x02]."].concat();
    assert_eq!(globals(&[&five[..], b"\x80\x02cm\nf\n)R."].concat()), ["m.f()"]);
    assert_eq!(globals(&[&five[..], b"c\0\0\0\0\0\0\0\n\0\0\0\n\x80\xff"].concat()), [""; 0]);
    // with the memo that one unpickler for all of them has
    let five = [&four[..], b"\x80\x02]q\x07."].concat();
    assert_eq!(globals(&[&five[..], b"h\x070cm\nf\n)R."].concat()), ["m.f()"]);
    assert_eq!(globals(&[&five[..], b"h\x070cm\nf\n\x80\xff"].concat()), [""; 0]);
}

/// A frame that ends inside of a line, as C reads it from a file, where nothing says that it is a pickle.
#[test]
fn a_line_across_a_frame_at_the_beginning() {
    let inside = b"\x80\x02]q\x01(K\x01I";
    let stream = [frame(inside.len() as u64 + 1), inside.to_vec(), b"\x853\ncm\nf\n)R.".to_vec()].concat();
    assert!(globals(&stream).contains(&"m.f()".to_owned()));
    let later = [b"N)".to_vec(), stream].concat();
    assert!(globals(&later).contains(&"m.f()".to_owned()));
    // and one that names nothing, before one that does
    let first = [frame(3), b"\x8a\x02\x01h\x07.".to_vec()].concat();
    assert_eq!(globals(&[&first[..], b"cm\nf\n)R."].concat()), ["m.f()"]);
}

/// A number of copyreg's registry is one byte, which says little; a call of it says that the file is a pickle.
#[test]
fn an_extension_at_the_beginning() {
    assert!(codes(b"\x84\x34\x12\0\0)R").contains(&"global-extension"));
    assert_eq!(codes(b"\x82\x34").as_slice(), [""; 0]);
}

/// The same where no PROTO says that it is a pickle.
#[test]
fn a_pickle_behind_a_frame_at_the_beginning() {
    let first = [frame(4), b"N.\xff\xff".to_vec()].concat();
    assert_eq!(globals(&[&first[..], b"(cm\nf\no0"].concat()), ["m.f()"]);
    let chain = [&first.repeat(40)[..], b"(cm\nf\no0"].concat();
    assert_eq!(globals(&chain), ["m.f()"]);
    // what breaks inside the frame has imported what it names
    let inside = b"N.\x80\x02cm\ng\n\xff";
    let named = [frame(inside.len() as u64), inside.to_vec(), b"(cm\nf\no0".to_vec()].concat();
    assert_eq!(globals(&named), ["m.f()", "m.g"]);
}

/// Where a frame ends, as C reads it, may be inside another one: a pickle behind it begins elsewhere.
#[test]
fn a_pickle_behind_frames_in_frames() {
    let inner = [frame(2), b"N.".to_vec()].concat();
    let outer = [b"\x80\x04".to_vec(), frame(inner.len() as u64 + 1), inner, b"\xff".to_vec()].concat();
    assert_eq!(globals(&[&outer[..], b"cm\nf\n)R."].concat()), ["m.f()"]);
}

/// One unpickler of C goes on in what is left of a frame after STOP.
#[test]
fn a_pickle_in_the_rest_of_a_frame() {
    let stream = [b"\x80\x04".to_vec(), frame(7), b"N.cjunkm\nf\n)R.".to_vec()].concat();
    assert!(globals(&stream).contains(&"m.f()".to_owned()));
    // Python's drops the rest and keeps the memo
    let stream = [b"\x80\x04".to_vec(), frame(8), b"Nq\x07.\xff\xff\xff\xffh\x070cm\nf\n)R.".to_vec()].concat();
    assert!(globals(&stream).contains(&"m.f()".to_owned()));
}

/// The bytes that say whether something may be a pickle can end inside of a line.
#[test]
fn a_long_string_at_the_beginning() {
    assert_eq!(globals(format!("S'{}'\n0cm\nf\n)R.", "y".repeat(600)).as_bytes()), ["m.f()"]);
}

/// A number of copyreg's registry imports something too.
#[test]
fn a_broken_pickle_with_an_extension_behind_another() {
    // the second one reaches it only with the memo of the first
    for bytes in [&b"\x80\x02N.\x82\x01I"[..], b"\x80\x02Nq\x07.\x80\x02h\x07\x82\x01."] {
        assert!(codes(bytes).contains(&"global-extension"), "{bytes:?}");
    }
}

/// An archive at the end of a file makes it a zip for torch; a pickle before it is one for `pickle.load`.
#[test]
fn a_pickle_before_a_zip() {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a/data.pkl", zip::write::SimpleFileOptions::default()).unwrap();
    std::io::Write::write_all(&mut zip, b"\x80\x02}.").unwrap();
    let zip = zip.finish().unwrap().into_inner();
    assert_eq!(globals(&[b"cm\nf\n)R.", &zip[..]].concat()), ["m.f()"]);
    assert_eq!(globals(&[b"PK\x01\x02\ncm\nf\n)R.", &zip[..]].concat()), ["m.f()"]);
    // one that breaks where the archive begins has imported what it names
    assert_eq!(globals(&[b"cm\nf\n0", &zip[..]].concat()), ["m.f"]);
    // what is no pickle imports nothing, and what lies behind it is opened by nobody
    let behind_text = [b"#!/bin/sh\ncm\nf\n0", &zip[..]].concat();
    let source: SharedSource = Arc::new(MemorySource::new(behind_text));
    let depth = Depth { data: false, numerics: false };
    let e = examine(Path::new("a.pkl"), &source, &Limits::default(), depth).unwrap_err();
    assert_eq!(e.kind(), ckpt::error::ErrorKind::NotACheckpoint);
}
