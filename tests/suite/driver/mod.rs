//! Runs the binary as a person would, with a time limit, and knows where the test data lies.
#![allow(dead_code)] // each test file uses its part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

pub mod schemas;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Generous: a debug build on a busy machine. What hangs or does quadratic work runs into it all the same.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A finished run.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Run {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8 on standard output")
    }

    pub fn lines(&self) -> Vec<&str> {
        self.text().lines().collect()
    }

    /// The run ended as wanted, or the test fails with what it said.
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", String::from_utf8_lossy(&self.stdout), self.stderr);
        self
    }

    /// The one JSON object on standard output.
    pub fn json(&self) -> Value {
        assert_eq!(self.text().lines().count(), 1, "one object on one line: {}\n{}", self.text(), self.stderr);
        serde_json::from_str(self.text()).expect("JSON")
    }

    /// The names of the tensors in the JSON.
    pub fn tensor_names(&self) -> Vec<String> {
        names_of(&self.json()["tensors"])
    }
}

/// The `name` of each row.
pub fn names_of(rows: &Value) -> Vec<String> {
    rows.as_array().expect("a list").iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

/// A folder for what a test writes.
pub struct Dir(tempfile::TempDir);

impl Dir {
    pub fn new() -> Self {
        Dir(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a path that is text").to_owned()
    }

    /// What lies in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("the folder");
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name().into_string();
        let mut names: Vec<String> = entries.map(|entry| name(entry).expect("a name that is text")).collect();
        names.sort();
        names
    }

    pub fn is_empty(&self) -> bool {
        self.names().is_empty()
    }
}

/// A zip archive of these members.
pub fn zip_of(members: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).expect("a zip in memory");
        writer.write_all(bytes).expect("a zip in memory");
    }
    writer.finish().expect("a zip in memory").into_inner()
}

/// The folder of the test data.
pub fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(path)
}

/// The binary, run in `testdata/` (so that messages and listings name files as the tests do), free of the caller's
/// environment where that changes what is shown.
pub fn ckpt() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt"));
    command.current_dir(testdata("")).env_remove("NO_COLOR").env_remove("TERM").env_remove("CLICOLOR_FORCE");
    command
}

/// `ckpt ARGS`, words split at spaces.
pub fn run(words: &str) -> Run {
    run_with(ckpt().args(words.split_whitespace()), b"")
}

/// A command with bytes on its standard input.
pub fn run_with(command: &mut Command, stdin: &[u8]) -> Run {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut to = child.stdin.take().expect("a pipe");
    let mut out = child.stdout.take().expect("a pipe");
    let mut err = child.stderr.take().expect("a pipe");
    thread::scope(|scope| {
        // who does not read its input closes the pipe
        scope.spawn(move || to.write_all(stdin));
        let stdout = scope.spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).map(|_| bytes)
        });
        let stderr = scope.spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).map(|_| bytes)
        });
        let status = wait(&mut child);
        let stdout = stdout.join().expect("no panic").expect("standard output");
        let stderr = stderr.join().expect("no panic").expect("standard error");
        let stderr = String::from_utf8(stderr).expect("UTF-8 on standard error");
        let Some(status) = status else { panic!("no end after {TIME_LIMIT:?}: {command:?}\n{stderr}") };
        assert!(!stderr.contains("panicked"), "{command:?}: {stderr}");
        let status = status.code().unwrap_or_else(|| panic!("{command:?}: {status}: {stderr}"));
        schemas::hold(command, Some(status), &stdout);
        Run { status, stdout, stderr }
    })
}

fn wait(child: &mut std::process::Child) -> Option<ExitStatus> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    while begun.elapsed() < TIME_LIMIT {
        if let Some(status) = child.try_wait().expect("a child") {
            return Some(status);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    child.kill().expect("a child");
    child.wait().expect("a child");
    None
}

/// Does `check` for every item on all cores and fails with everything that went wrong.
pub fn for_each<T: Sync>(items: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(message) = check(item) {
                        wrong.lock().expect("no panic").push(message);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), items.len(), wrong.join("\n"));
}

/// Compares `found` with the file `name` of testdata/golden/, or writes it there when CKPT_BLESS is set.
pub fn golden(name: &str, found: &str) {
    bless_or_compare(&testdata("golden").join(name), found.as_bytes());
}

/// Compares with a checked-in file, or writes it when CKPT_BLESS is set.
pub fn bless_or_compare(path: &Path, found: &[u8]) {
    if std::env::var_os("CKPT_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder to write to");
        return std::fs::write(path, found).expect("a file to write to");
    }
    let wanted = std::fs::read(path).unwrap_or_default();
    assert!(
        wanted == found,
        "{} differs (CKPT_BLESS=1 writes it); wanted:\n{}\nfound:\n{}",
        path.display(),
        String::from_utf8_lossy(&wanted),
        String::from_utf8_lossy(found)
    );
}
