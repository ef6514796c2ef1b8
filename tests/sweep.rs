//! Valid and hostile files, cut short at every byte, with every byte changed, and read from a source that fails: never a
//! panic, never long, never much memory, and always an answer or an error.
//!
//! `cargo test` takes a sample of the places; `CKPT_SWEEP=every` takes all of them (in release mode: minutes).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ckpt::checkpoint::Checkpoint;
use ckpt::commands::listing::{Selection, Wanted, list, read_data};
use ckpt::commands::names::NameArgs;
use ckpt::error::{Error, ErrorKind, Result};
use ckpt::limits::Limits;
use ckpt::progress::Silent;
use ckpt::safety::examine::examine;
use ckpt::safety::integrity::Depth;
use ckpt::source::{MemorySource, SharedSource, Source};

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// Memory that one file may take beyond what there was: the bound on names (`Limits::max_name_bytes`) and a bit.
const MOST_MEMORY: usize = 320 << 20;
/// Memory is counted for the process, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());
/// Time that one file may take.
const LONGEST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

/// One file of testdata.
struct File {
    name: String,
    bytes: Vec<u8>,
    /// What listing it takes.
    took: Duration,
}

/// All files but the largest, each listed and hashed once; in a sample the slowest (bombs) are left out.
fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut found = Vec::new();
        let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")];
        while let Some(dir) = open.pop() {
            for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
                let described = path.extension().is_some_and(|e| e == "json" || e == "py" || e == "md");
                if path.is_dir() {
                    open.push(path);
                } else if !described && path.metadata().unwrap().len() <= 128 << 10 {
                    found.push(path);
                }
            }
        }
        found.sort();
        let files = found.into_iter().map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let begun = Instant::now();
            let name = path.display().to_string();
            let answer = bounded(&|| name.clone(), || list_and_hash(memory(bytes.clone())));
            if let Err(e) = answer {
                assert!(!e.message().contains('\n') && e.kind() != ErrorKind::Io, "{name}: {e}");
            }
            File { name, bytes, took: begun.elapsed() }
        });
        files.filter(|file| every_place() || file.took < Duration::from_millis(100)).collect()
    })
}

/// What `ls --hash --stats` does, as far as the process boundary.
fn list_and_hash(source: SharedSource) -> Result<String> {
    let limits = Limits::default();
    let bytes = source.len();
    let checkpoint = Checkpoint::open(source, &limits, &Silent)?;
    let filter = NameArgs::default().filter().unwrap();
    let root = checkpoint.top();
    let selection = Selection { root: &root, filter: &filter, tensors: true, values: true };
    let mut listed = list(&checkpoint, "file", bytes, &selection)?;
    read_data(&checkpoint, &mut listed, Wanted { hash: true, stats: true }, &Silent);
    Ok(serde_json::to_string(&listed.listing).unwrap())
}

/// What `check --numerics` does, as far as the process boundary: damage gives findings or an error, and nothing else.
fn check(source: &SharedSource) -> Result<String> {
    let depth = Depth { data: true, numerics: true };
    let examined = examine(Path::new("file"), source, &Limits::default(), depth)?;
    Ok(format!("{:?}", examined.findings))
}

/// Both.
fn list_and_check(source: SharedSource) {
    let _ = check(&source);
    let _ = list_and_hash(source);
}

/// Runs one case and holds it to the bounds; gives what it answered.
fn bounded<T>(what: &dyn Fn() -> String, run: impl FnOnce() -> T) -> T {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let begun = Instant::now();
    let answer = run();
    let (took, peak) = (begun.elapsed(), MEMORY.peak_usage().saturating_sub(before));
    assert!(took < LONGEST, "{} took {took:?}", what());
    assert!(peak < MOST_MEMORY, "{} took {} MiB", what(), peak >> 20);
    answer
}

fn every_place() -> bool {
    std::env::var("CKPT_SWEEP").is_ok_and(|how| how == "every")
}

/// All places of a file; or a sample of them, a small one where the file takes long.
fn places(file: &File) -> impl Iterator<Item = usize> {
    let sample = (20_000 / file.took.as_micros().max(1)).clamp(2, 16);
    let len = file.bytes.len();
    // a step that shares no factor with the alignments of formats
    let step = if every_place() { 1 } else { (len / usize::try_from(sample).unwrap()) | 1 };
    (0..len).filter(move |at| at % step == 0 || len - at <= 2)
}

fn memory(bytes: Vec<u8>) -> SharedSource {
    Arc::new(MemorySource::new(bytes))
}

#[test]
fn cut_at_every_byte() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for file in files() {
        for end in places(file) {
            let cut = file.bytes[..end].to_vec();
            bounded(&|| format!("{} cut at {end}", file.name), || list_and_check(memory(cut)));
        }
    }
}

#[test]
fn every_byte_changed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for file in files() {
        for at in places(file) {
            // one bit, a sign or length bit, and every bit, in turn
            let change = [0x01, 0x80, 0xff][at % 3];
            let mut changed = file.bytes.clone();
            changed[at] ^= change;
            let what = || format!("{} with byte {at} ^ {change:#x}", file.name);
            bounded(&what, || list_and_check(memory(changed)));
        }
    }
}

/// Fails at the n-th read, as a disk would or as a file that became shorter would.
struct Failing {
    inner: MemorySource,
    reads: AtomicU64,
    fail_at: u64,
    error: fn() -> Error,
}

impl fmt::Debug for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failing")
    }
}

impl Source for Failing {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        // once broken, broken for good
        if self.reads.fetch_add(1, Ordering::Relaxed) >= self.fail_at {
            return Err((self.error)());
        }
        self.inner.read_at(offset, buf)
    }
}

fn disk_error() -> Error {
    std::io::Error::other("Input/output error").into()
}

fn became_shorter() -> Error {
    Error::truncated("the file became shorter while it was read")
}

#[test]
fn a_read_that_fails_is_never_overlooked() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let small = if every_place() { 128 << 10 } else { 4 << 10 };
    for file in files().iter().filter(|file| file.bytes.len() <= small) {
        let whole = list_and_hash(memory(file.bytes.clone()));
        for (error, name) in [(disk_error as fn() -> Error, "an error"), (became_shorter, "too short")] {
            // how many reads there are in all is found out by failing later and later
            for fail_at in 0.. {
                let inner = MemorySource::new(file.bytes.clone());
                let source = Arc::new(Failing { inner, reads: AtomicU64::new(0), fail_at, error });
                let shared: SharedSource = Arc::clone(&source) as SharedSource;
                let what = || format!("{} with {name} at read {fail_at}", file.name);
                let answer = bounded(&what, || list_and_hash(shared));
                if source.reads.load(Ordering::Relaxed) <= fail_at {
                    break;
                }
                let Ok(answer) = answer else { continue };
                // the structure was read, a tensor's data was not: its row says so, or nothing at all was lost
                let told = answer.contains("\"problem\":\"") || whole.as_ref().is_ok_and(|whole| *whole == answer);
                assert!(told, "{} is overlooked", what());
            }
        }
    }
}
