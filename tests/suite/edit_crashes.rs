//! `ckpt edit --in-place` that is cut short at any byte, killed at any moment, or meets a full disk: the old file or the new
//! one, or one that `ckpt repair` makes one of them.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;

use crate::driver::{ckpt, run_with, testdata};
use crate::faults::{killed_at_every_moment, on_full_disk};
use crate::in_memory::memory;
use ckpt::container::archive::Contents;
use ckpt::limits::Limits;
use ckpt::operations::destination::Sink;
use ckpt::operations::repair::{Options, SaveTo, repair};
use ckpt::progress::Silent;
use ckpt::report::repair::Action;
use ckpt::write::atomic::{Memory, Target};

const ZIP: &str = "torch-2.15-py311/cnn_state.pt";
const LEGACY: &str = "torch-2.15-py311/cnn_state.legacy.pt";
const TAR: &str = "tar/one_layer_state.tar";
const SAFETENSORS: &str = "frameworks/cnn_state.safetensors";

/// An `.npy` of `count` float32s.
fn npy(path: &Path, count: usize) {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count},), }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let head = [&b"\x93NUMPY\x01\x00"[..], &u16::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat();
    fs::write(path, [head, vec![0x3f; count * 4]].concat()).unwrap();
}

/// A directory with an array of four numbers and a file in it; what edits the file in place.
fn prepared(dir: &Path, file: &str) -> (String, Vec<u8>, Vec<String>) {
    npy(&dir.join("x.npy"), 4);
    let path = dir.join("model").to_str().unwrap().to_owned();
    let old = fs::read(testdata(file)).unwrap();
    let set = format!("features.0.bias={}", dir.join("x.npy").display());
    let mut words = vec!["edit".to_owned(), "--in-place".to_owned(), path.clone(), "--set-tensor".to_owned(), set];
    match file {
        SAFETENSORS => words.extend(["--move".to_owned(), "features.0.weight=w".to_owned()]),
        TAR => {
            words =
                vec!["edit".to_owned(), "--in-place".to_owned(), path.clone(), "--move".to_owned(), ".=w".to_owned()]
        }
        _ => words.extend(["--set".to_owned(), "new=1".to_owned()]),
    }
    (path, old, words)
}

fn edit(path: &str, old: &[u8], words: &[String]) -> Vec<u8> {
    fs::write(path, old).unwrap();
    run_with(ckpt().args(words), b"").exits(0);
    fs::read(path).unwrap()
}

/// What `ckpt repair` makes of bytes, and what it says it did.
fn repaired(bytes: &[u8]) -> (Action, Vec<u8>) {
    let contents = Contents { source: memory(bytes.to_vec()), limits: Limits::default() };
    let saved = Memory::default();
    let to = || Ok(Sink { name: "saved".into(), target: Target::Memory(saved.clone()) });
    let report = repair(&contents, "cut", &Options::default(), &mut SaveTo::File(&to), &Silent).unwrap();
    (report.action, saved.take())
}

#[test]
fn a_zip_cut_at_any_byte_of_what_was_appended_is_old_or_new() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old, words) = prepared(dir.path(), ZIP);
    let new = edit(&path, &old, &words);
    assert!(new.starts_with(&old));
    let (mut undone, mut finished) = (0, 0);
    for cut in old.len() + 1..new.len() {
        let (action, saved) = repaired(&new[..cut]);
        match action {
            Action::Undone | Action::Trimmed if saved == old => undone += 1,
            Action::Finished if saved == new => finished += 1,
            action => panic!("{cut} of {}: {action:?}", new.len()),
        }
    }
    assert!(undone > 500 && finished > 90, "{undone} {finished}");
    // members that never reached the disk before a directory that did
    for hole in [old.len() + 150, old.len() + 400] {
        let mut holed = new[..new.len() - 10].to_vec();
        holed[hole..hole + 64].fill(0);
        assert_eq!(repaired(&holed), (Action::Undone, old.clone()), "{hole}");
    }
}

#[test]
fn killed_at_any_moment_an_edit_is_old_new_or_repaired() {
    for file in [ZIP, LEGACY, SAFETENSORS, TAR] {
        let dir = tempfile::tempdir().unwrap();
        let (path, old, words) = prepared(dir.path(), file);
        let new = edit(&path, &old, &words);
        assert!(new != old, "{file}");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        killed_at_every_moment(
            &words,
            || fs::write(&path, &old).unwrap(),
            |after| {
                let now = fs::read(&path).unwrap();
                if now != old && now != new {
                    let listed = run_with(ckpt().args(["ls", &path]), b"").exits(2);
                    assert!(listed.stderr.contains("ckpt repair"), "{file} after {after:?}: {}", listed.stderr);
                    run_with(ckpt().args(["repair", "--in-place", &path]), b"").exits(0);
                    let now = fs::read(&path).unwrap();
                    assert!(now == old || now == new, "{file}: a mix after {after:?}");
                }
            },
        );
    }
}

#[test]
fn a_safetensors_file_with_part_of_a_log_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old, words) = prepared(dir.path(), SAFETENSORS);
    let new = edit(&path, &old, &words);
    assert_eq!(new.len(), old.len(), "the header fits over the old one");
    for begun in [&b"ckpt edit begins"[..], b"ckpt", b"ckpt edit begins\0\0\0\0\0\0\0\0"] {
        let cut = [&old, begun].concat();
        fs::write(&path, &cut).unwrap();
        let said = run_with(ckpt().args(["ls", &path]), b"").exits(2).stderr;
        assert!(said.contains("an edit in place was interrupted") && said.contains("ckpt repair"), "{said}");
        assert_eq!(repaired(&cut), (Action::Undone, old.clone()));
        run_with(ckpt().args(["repair", "--in-place", &path]), b"").exits(0);
        assert!(fs::read(&path).unwrap() == old);
    }
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    for file in [ZIP, LEGACY, SAFETENSORS, TAR] {
        let dir = tempfile::tempdir().unwrap();
        let (path, old, words) = prepared(dir.path(), file);
        fs::write(&path, &old).unwrap();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for blocks in [0, 1, 4] {
            let run = on_full_disk(blocks, &words);
            assert_eq!((run.status, run.stderr.lines().count()), (2, 1), "{file} {blocks}: {}", run.stderr);
            assert!(fs::read(&path).unwrap() == old, "{file} {blocks}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{file} {blocks}");
        }
    }
}
