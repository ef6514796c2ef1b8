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
