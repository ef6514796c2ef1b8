//! What goes wrong around a file while it is read or written: a full disk, a file that becomes shorter, a directory that
//! goes away, a pipe that trickles, a kill at any moment. The answer is an error, and targets are old or new.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::{Run, ckpt, run_with, testdata};
use ckpt::operations::diff::Answer;
use ckpt::source::{FileSource, SharedSource};
use ckpt::write::atomic::Target;

const STATE: &str = "torch-2.15-py311/dataparallel_state.pth";
const LEGACY: &str = "torch-2.15-py311/dataparallel_state.legacy.pth";

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy(file: &str, path: &Path) -> Vec<u8> {
    let bytes = fs::read(testdata(file)).unwrap();
    fs::write(path, &bytes).unwrap();
    bytes
}

fn strip(path: &Path) -> Run {
    run_with(ckpt().args(["strip-prefix", "module.", "--in-place"]).arg(path), b"")
}

/// On a disk that takes no file of more than so many blocks (of 512 bytes or a kilobyte, as the shell counts).
pub fn on_full_disk(blocks: u32, arguments: &[&str]) -> Run {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"",
        &blocks.to_string(),
        env!("CARGO_BIN_EXE_ckpt"),
    ]);
    run_with(command.args(arguments), b"")
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (state, legacy, cut) = (path("state.pth"), path("legacy.pth"), path("cut.pth"));
    let (zip_bytes, legacy_bytes) = (copy(STATE, Path::new(&state)), copy(LEGACY, Path::new(&legacy)));
    fs::write(&cut, &zip_bytes).unwrap();
    strip(Path::new(&cut)).exits(0);
    let edited = fs::read(&cut).unwrap();
    let unfinished = &edited[..edited.len() - 5];
    fs::write(&cut, unfinished).unwrap();
    let old = path("old");
    fs::write(&old, "old").unwrap();
    let before = names(dir.path());
    for blocks in [0, 1, 4] {
        for arguments in [
            &["convert", "--force", &state, &old, "--to", "torch"][..],
            &["convert", "--force", &state, &old, "--to", "torch-legacy"],
            &["convert", "--force", &state, &old, "--to", "safetensors"],
            &["convert", "--force", &state, &old, "--to", "npz"],
            &["strip-prefix", "module.", "--force", &state, "-o", &old],
            &["strip-prefix", "module.", "--force", &legacy, "-o", &old],
            &["strip-prefix", "module.", "--in-place", &state],
            &["strip-prefix", "module.", "--in-place", &legacy],
            &["extract", "--force", &state, "-o", &path("new.npz")],
            &["repair", "--force", &cut, "-o", &old],
        ] {
            let run = on_full_disk(blocks, arguments);
            assert_eq!((run.status, run.stderr.lines().count()), (2, 1), "{arguments:?}: {}", run.stderr);
            assert!(run.stderr.contains("too large") || run.stderr.contains("os error"), "{}", run.stderr);
            assert_eq!(names(dir.path()), before, "{arguments:?}");
            assert!(fs::read(&old).unwrap() == b"old", "{arguments:?}");
            assert!(fs::read(&state).unwrap() == zip_bytes && fs::read(&legacy).unwrap() == legacy_bytes);
            assert!(fs::read(&cut).unwrap() == unfinished);
        }
        // what a repair in place could not write can be repaired again
        assert_eq!(on_full_disk(blocks, &["repair", "--in-place", &cut]).status, 2);
        run_with(ckpt().args(["repair", "--in-place", &cut]), b"").exits(0);
        assert!(fs::read(&cut).unwrap() == edited);
        fs::write(&cut, unfinished).unwrap();
    }
}

#[test]
fn a_file_that_becomes_shorter_after_it_was_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.pth");
    for file in [STATE, LEGACY, "frameworks/cnn_state.safetensors", "more/arrays.npz"] {
        let len = copy(file, &path).len() as u64;
        for left in [0, 1, len / 2, len - 1] {
            copy(file, &path);
            let source: SharedSource = Arc::new(FileSource::open(&path).unwrap());
            OpenOptions::new().write(true).open(&path).unwrap().set_len(left).unwrap();
            for to in crate::in_memory::FORMATS {
                assert!(crate::in_memory::convert(Arc::clone(&source), to).is_err(), "{file} at {left}");
            }
            let listed = crate::in_memory::list_and_hash(Arc::clone(&source));
            assert!(listed.err_or(|list| list.tensors.iter().any(|tensor| tensor.problem.is_some())), "{file} {left}");
            let found = crate::in_memory::check(&source);
            assert!(found.err_or(|found| found.contains("Finding {")), "{file} at {left}");
            let compared = crate::in_memory::diff(Arc::clone(&source), Arc::clone(&source));
            assert!(compared.err_or(|diff| !diff.problems.is_empty()), "{file} at {left}");
            let answer = crate::in_memory::first_difference(Arc::clone(&source), Arc::clone(&source));
            assert!(answer.err_or(|answer| matches!(answer, Answer::Unknown(_))), "{file} at {left}");
            let stripped = crate::in_memory::strip_prefix(&source, "module.");
            assert!(stripped.err_or(|done| done.is_none()), "{file} at {left}");
        }
    }
}

/// An error, or a value of which something is true.
trait ErrOr<T> {
    fn err_or(self, what: impl FnOnce(T) -> bool) -> bool;
}

impl<T, E> ErrOr<T> for Result<T, E> {
    fn err_or(self, what: impl FnOnce(T) -> bool) -> bool {
        self.map_or(true, what)
    }
}

#[test]
fn a_directory_that_goes_away_during_the_write() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("dir");
    fs::create_dir(&dir).unwrap();
    let mut output = Target::new(&dir.join("out.pt"), false, None).unwrap().create().unwrap();
    output.write_all(b"abc").unwrap();
    fs::remove_dir_all(&dir).unwrap();
    output.write_all(b"def").unwrap();
    assert!(output.commit().is_err());
    assert!(names(above.path()).is_empty());
}

#[test]
fn standard_input_that_trickles() {
    for file in [STATE, LEGACY, "more/joblib.pkl.xz"] {
        let bytes = fs::read(testdata(file)).unwrap();
        let whole = run_with(ckpt().args(["ls", "--json", "--hash", "-"]), &bytes).exits(0);
        let mut child =
            ckpt().args(["ls", "--json", "--hash", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut to = child.stdin.take().unwrap();
        for (piece, number) in bytes.chunks(7).zip(0..) {
            to.write_all(piece).unwrap();
            if number % 100 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        drop(to);
        assert!(child.wait_with_output().unwrap().stdout == whole.stdout, "{file}");
    }
}

/// Runs a command over and over, killed a little later each time; `look` is told after each.
pub fn killed_at_every_moment(arguments: &[&str], prepare: impl Fn(), look: impl Fn(Duration)) {
    let start = || {
        prepare();
        let mut command = ckpt();
        (command.args(arguments).stderr(Stdio::null()).spawn().unwrap(), Instant::now())
    };
    let (mut child, begun) = start();
    assert!(child.wait().unwrap().success(), "{arguments:?}");
    let whole = begun.elapsed();
    const MOMENTS: u32 = 40;
    for moment in 0..MOMENTS {
        let (mut child, begun) = start();
        let after = whole * moment / (MOMENTS - 4);
        std::thread::sleep(after.saturating_sub(begun.elapsed()));
        // one that has ended already cannot be killed
        let _ = child.kill();
        child.wait().unwrap();
        look(after);
    }
}

#[test]
fn killed_at_any_moment_a_target_is_old_or_new() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (testdata(STATE), dir.path().join("out.pt"));
    let (source, shown) = (source.to_str().unwrap(), out.to_str().unwrap());
    run_with(ckpt().args(["convert", source, shown]), b"").exits(0);
    let new = fs::read(&out).unwrap();
    let old = copy(LEGACY, &out);
    assert!(old != new);
    let prepare = || {
        for name in names(dir.path()) {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        fs::write(&out, &old).unwrap();
    };
    killed_at_every_moment(&["convert", "--force", source, shown], prepare, |after| {
        let now = fs::read(&out).unwrap();
        assert!(now == old || now == new, "a mix after {after:?}");
        // what a kill leaves beside it has a name that tells what it is
        let others = names(dir.path()).into_iter().filter(|name| name != "out.pt");
        assert!(others.into_iter().all(|name| name.starts_with(".out.pt.ckpt-tmp-")));
    });
}

#[test]
fn killed_at_any_moment_an_edit_in_place_is_old_new_or_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("model.pth");
    let shown = path.to_str().unwrap();
    for file in [STATE, LEGACY] {
        let old = copy(file, &path);
        strip(&path).exits(0);
        let new = fs::read(&path).unwrap();
        let prepare = || drop(copy(file, &path));
        killed_at_every_moment(&["strip-prefix", "module.", "--in-place", shown], prepare, |after| {
            let now = fs::read(&path).unwrap();
            if now != old && now != new {
                assert!(now.starts_with(&old), "a mix after {after:?}");
                run_with(ckpt().args(["repair", "--in-place", shown]), b"").exits(0);
                let repaired = fs::read(&path).unwrap();
                assert!(repaired == old || repaired == new, "repaired to a mix after {after:?}");
            }
        });
    }
}
