//! Signals in the middle of a write, kills, and what the next run finds: nothing half written stays, nothing of another
//! process goes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::driver::{ckpt, run_with, testdata};

const STATE: &str = "torch-2.15-py311/dataparallel_state.pth";
const SIGNALS: [(&str, i32); 3] = [("HUP", 1), ("INT", 2), ("TERM", 15)];

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A file of two tensors with so many zeros, which take no room: to cast them takes a while.
fn large(dir: &Path, elements: u64) -> PathBuf {
    let path = dir.join("large.safetensors");
    let tensor = |from: u64| {
        format!(r#"{{"dtype":"F32","shape":[{}],"data_offsets":[{from},{}]}}"#, elements / 2, from + elements * 2)
    };
    let header = format!(r#"{{"v":{},"w":{}}}"#, tensor(0), tensor(elements * 2));
    let mut file = File::create(&path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + elements * 4).unwrap();
    path
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success());
}

/// Waits until something lies in `dir` that was not there before, and has grown.
fn wait_for_output(dir: &Path, before: &[String], child: &mut Child) -> String {
    let begun = Instant::now();
    loop {
        let new = names(dir).into_iter().find(|name| !before.contains(name));
        if let Some(name) = new.filter(|name| size(&dir.join(name)) > 0) {
            return name;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended before anything was seen");
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes of a file, or of the files in a directory.
fn size(path: &Path) -> u64 {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => names(path).iter().map(|name| size(&path.join(name))).sum(),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    }
}

fn wait(mut child: Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

const ELEMENTS: u64 = 48 << 20;

#[test]
fn a_signal_in_the_middle_of_a_write_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let input = large(dir.path(), ELEMENTS);
    let (input, old) = (input.to_str().unwrap(), dir.path().join("old.safetensors"));
    fs::write(&old, "old").unwrap();
    let before = names(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let old_path = path("old.safetensors");
    for (signal, number) in SIGNALS {
        for arguments in [
            &["convert", "--force", "--dtype", "float16", input, &old_path][..],
            &["convert", "--dtype", "float16", input, &path("new.pt")],
            &[
                "convert",
                "--dtype",
                "float16",
                "--to",
                "safetensors",
                "--max-shard-size",
                "16MB",
                input,
                &path("shards"),
            ],
            &["extract", "--dtype", "float16", "--to", "npy", input, "*", "-o", &path("folder")],
        ] {
            let mut child = start(ckpt().args(arguments));
            wait_for_output(dir.path(), &before, &mut child);
            send(&child, signal);
            let status = wait(child);
            assert_eq!(status.signal(), Some(number), "{arguments:?}: {status}");
            assert_eq!(names(dir.path()), before, "{signal} {arguments:?}");
            assert_eq!(fs::read(&old).unwrap(), b"old", "{signal} {arguments:?}");
        }
    }
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let input = large(dir.path(), ELEMENTS / 8);
    let before = names(dir.path());
    let output = dir.path().join("out.pt");
    let run = |trap: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", trap, env!("CARGO_BIN_EXE_ckpt"), "convert", "--force", "--dtype", "float16"]);
        let mut child = start(command.arg(&input).arg(&output));
        wait_for_output(dir.path(), &before, &mut child);
        child
    };
    // as `nohup` does it, and as a shell starts what it puts into the background
    for (trap, signal) in [("trap '' HUP; exec \"$0\" \"$@\"", "HUP"), ("trap '' INT; exec \"$0\" \"$@\"", "INT")] {
        let child = run(trap);
        send(&child, signal);
        assert!(wait(child).success(), "{signal}");
        assert!(output.exists());
        fs::remove_file(&output).unwrap();
        // the others still count
        let child = run(trap);
        send(&child, "TERM");
        assert_eq!(wait(child).signal(), Some(15));
        assert_eq!(names(dir.path()), before);
    }
}

#[test]
fn what_a_kill_leaves_goes_with_the_next_run_to_the_same_target() {
    let dir = tempfile::tempdir().unwrap();
    let input = large(dir.path(), ELEMENTS);
    let state = testdata(STATE);
    for (output, next) in [
        ("out.pt", &["convert", state.to_str().unwrap()][..]),
        ("folder", &["extract", "--to", "npy", state.to_str().unwrap(), "*", "-o"]),
    ] {
        let before = names(dir.path());
        let output = dir.path().join(output);
        let mut command = ckpt();
        match output.extension() {
            Some(_) => command.args(["convert", "--dtype", "float16"]).arg(&input).arg(&output),
            None => command
                .args(["extract", "--dtype", "float16", "--to", "npy"])
                .arg(&input)
                .args(["*", "-o"])
                .arg(&output),
        };
        let mut child = start(&mut command);
        let leftover = wait_for_output(dir.path(), &before, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(dir.path().join(&leftover).exists() && leftover.contains(".ckpt-tmp-"), "{leftover}");
        // another target's run leaves it alone
        let other = dir.path().join("other.pt");
        run_with(ckpt().args(["convert", "--force"]).arg(&state).arg(&other), b"").exits(0);
        assert!(dir.path().join(&leftover).exists());
        fs::remove_file(&other).unwrap();
        run_with(ckpt().args(next).arg(&output), b"").exits(0);
        let mut wanted = before.clone();
        wanted.push(output.file_name().unwrap().to_str().unwrap().to_owned());
        wanted.sort();
        assert_eq!(names(dir.path()), wanted);
    }
}

#[test]
fn what_a_living_process_writes_stays() {
    let dir = tempfile::tempdir().unwrap();
    let input = large(dir.path(), ELEMENTS / 4);
    let before = names(dir.path());
    let output = dir.path().join("out.pt");
    let mut child = start(ckpt().args(["convert", "--force", "--dtype", "float16"]).arg(&input).arg(&output));
    let held = wait_for_output(dir.path(), &before, &mut child);
    // stopped, it lives and holds its file
    send(&child, "STOP");
    // not ours, whatever it looks like
    let strange = dir.path().join(".out.pt.ckpt-tmp-notes.txt");
    fs::write(&strange, "mine").unwrap();
    run_with(ckpt().args(["convert", "--force"]).arg(testdata(STATE)).arg(&output), b"").exits(0);
    assert!(dir.path().join(&held).exists() && strange.exists());
    let first = fs::read(&output).unwrap();
    send(&child, "CONT");
    assert!(wait(child).success());
    assert!(fs::read(&output).unwrap() != first, "the one that ended last");
    fs::remove_file(&strange).unwrap();
    assert_eq!(names(dir.path()), ["large.safetensors", "out.pt"]);
}

#[test]
fn a_signal_at_any_moment_of_an_edit_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.pth");
    let old = fs::read(testdata(STATE)).unwrap();
    let start_edit = || {
        fs::write(&path, &old).unwrap();
        (start(ckpt().args(["strip-prefix", "module.", "--in-place"]).arg(&path)), Instant::now())
    };
    let (child, begun) = start_edit();
    assert!(wait(child).success());
    let (whole, new) = (begun.elapsed(), fs::read(&path).unwrap());
    const MOMENTS: u32 = 30;
    for moment in 0..MOMENTS {
        let signal = SIGNALS[moment as usize % SIGNALS.len()].0;
        let (child, begun) = start_edit();
        std::thread::sleep((whole * moment / (MOMENTS - 4)).saturating_sub(begun.elapsed()));
        let _ =
            Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).stderr(Stdio::null()).status();
        wait(child);
        let now = fs::read(&path).unwrap();
        assert!(now == old || now == new, "a mix after {signal}");
        assert_eq!(names(dir.path()), ["model.pth"]);
    }
}

#[test]
fn a_filter_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(testdata(STATE)).unwrap();
    for (signal, _) in SIGNALS {
        let mut command = ckpt();
        command.current_dir(dir.path()).env("TMPDIR", dir.path()).args(["strip-prefix", "module."]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut to = child.stdin.take().unwrap();
        to.write_all(&bytes[..bytes.len() / 2]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        send(&child, signal);
        assert!(!wait(child).success());
        drop(to);
        assert!(names(dir.path()).is_empty(), "{signal}: {:?}", names(dir.path()));
    }
}

fn limited(limit: &str, args: &[&str]) -> std::process::Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_ckpt")]).args(args);
    command.current_dir(testdata("")).output().unwrap()
}

#[test]
fn a_file_that_may_not_grow_is_an_error_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.pt");
    for target in [vec!["-o", output.to_str().unwrap()], vec!["-o", output.to_str().unwrap(), "--to", "safetensors"]] {
        let run = limited("-f 4", &[&["convert", "torch-2.15-py311/checkpoint.tar"], &target[..]].concat());
        assert_eq!(run.status.code(), Some(2), "{}", String::from_utf8_lossy(&run.stderr));
        assert!(String::from_utf8_lossy(&run.stderr).contains("too large"), "{}", String::from_utf8_lossy(&run.stderr));
        assert_eq!(names(dir.path()), [""; 0]);
    }
}

#[test]
fn a_bound_on_memory_is_one_on_threads() {
    let run = |threads: &str| {
        let mut command = Command::new("sh");
        let script = "ulimit -v 500000; exec \"$0\" ls --hash torch-2.15-py311/checkpoint.tar";
        command.args(["-c", script, env!("CARGO_BIN_EXE_ckpt")]).env("RAYON_NUM_THREADS", threads);
        command.current_dir(testdata("")).output().unwrap()
    };
    let (few, many) = (run("1"), run("5000"));
    assert_eq!(many.status.code(), Some(0), "{}", String::from_utf8_lossy(&many.stderr));
    assert_eq!(few.stdout, many.stdout);
}
