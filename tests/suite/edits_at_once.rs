//! Two edits in place of one file: one is made, the other says that it is not.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::driver::{Run, ckpt, run_with, testdata};
use ckpt::checkpoint::edit::rules::Step;
use ckpt::layout::Layout;
use ckpt::limits::Limits;
use ckpt::operations::destination::{Destination, InPlace, Original};
use ckpt::operations::rename::{Named, Options, rename};
use ckpt::progress::Silent;

const STATE: &str = "torch-2.15-py311/dataparallel_state.pth";
/// Appended to, a header written over, and replaced as a whole.
const FILES: [&str; 3] = [STATE, "frameworks/cnn_state.safetensors", "torch-2.15-py311/dataparallel_state.legacy.pth"];

fn copy(file: &str, dir: &Path) -> PathBuf {
    let path = dir.join("model");
    fs::write(&path, fs::read(testdata(file)).unwrap()).unwrap();
    path
}

fn edit(path: &Path, words: &[&str]) -> Run {
    run_with(ckpt().arg(words[0]).arg(path).args(&words[1..]).args(["-q", "--in-place"]), b"")
}

#[test]
fn who_comes_second_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for file in FILES {
        let path = copy(file, dir.path());
        let before = fs::read(&path).unwrap();
        let held = File::open(&path).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        for words in [&["rename", "--add-prefix", "x."][..], &["repair"]] {
            let refused = edit(&path, words).exits(2);
            assert!(
                refused.stderr.contains("is being edited in place by another process; run it again"),
                "{}",
                refused.stderr
            );
            assert!(fs::read(&path).unwrap() == before, "{file}");
        }
        run_with(ckpt().args(["ls", "-q"]).arg(&path), b"").exits(0);
        drop(held);
        edit(&path, &["rename", "--add-prefix", "x."]).exits(0);
    }
}

/// Whoever takes no lock is noticed all the same.
#[test]
fn what_was_changed_since_it_was_read_is_not_written() {
    let limits = Limits::default();
    for file in FILES {
        for change in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let path = copy(file, dir.path());
            let in_place = InPlace::open(&path).unwrap();
            let mut original =
                Original::open(Layout::of(&path, &limits).unwrap(), "model", &path, &limits, &Silent).unwrap();
            let open = || OpenOptions::new().write(true).open(&path).unwrap();
            let len = fs::metadata(&path).unwrap().len();
            match change {
                0 => open().set_len(len + 1).unwrap(),
                1 => open().set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap(),
                2 => {
                    fs::copy(&path, dir.path().join("other")).unwrap();
                    fs::rename(dir.path().join("other"), &path).unwrap();
                }
                _ => {}
            }
            let now = fs::read(&path).unwrap();
            let step = Named::new(Step::AddPrefix("x.".to_owned()), "x.");
            let done = rename(&mut original, &Options::of(vec![step]), &mut Destination::InPlace(in_place), &Silent);
            if change == 3 {
                assert_ne!(done.unwrap().changes, 0);
                continue;
            }
            let said = done.unwrap_err().to_string();
            assert!(said.contains("was changed by another process meanwhile"), "{file} {change}: {said}");
            assert!(fs::read(&path).unwrap() == now, "{file} {change}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }
}

/// As many edits are in the file as processes say.
#[test]
fn no_edit_that_says_done_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    for file in FILES {
        for _ in 0..4 {
            let path = copy(file, dir.path());
            let start = |number: usize| {
                let mut command = ckpt();
                let step = format!("s/^/{}./", "x".repeat(number));
                command.arg("rename").arg(&path).args(["-q", "--in-place", "--regex", &step]);
                command.stderr(std::process::Stdio::null()).spawn().unwrap()
            };
            let children: Vec<_> = (1..5).map(start).collect();
            let statuses = children.into_iter().map(|mut child| child.wait().unwrap().code().unwrap());
            let statuses: Vec<i32> = statuses.collect();
            assert!(statuses.iter().all(|status| [0, 2].contains(status)) && statuses.contains(&0), "{statuses:?}");
            let listed = run_with(ckpt().args(["ls", "--names"]).arg(&path), b"").exits(0);
            let first = listed.lines()[0].to_owned();
            let made: Vec<&str> = first.split('.').filter(|part| part.chars().all(|c| c == 'x')).collect();
            assert_eq!(made.len(), statuses.iter().filter(|status| **status == 0).count(), "{first} {statuses:?}");
            run_with(ckpt().args(["check", "-q"]).arg(&path), b"").exits(0);
        }
    }
}
