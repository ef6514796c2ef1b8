//! Valid and hostile files, cut short at every byte, with every byte changed, and read from a source that fails: never a
//! panic, never long, never much memory, and always an answer or an error. Every command that reads checkpoints, in
//! process.
//!
//! `cargo test` takes a sample of the places. `CKPT_SWEEP=every cargo test --release --test sweep`, as in CI, takes every
//! place of files up to two kilobytes and as many of a larger one as go into 150 milliseconds, in two or three
//! minutes. What a file is converted to changes from place to place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

#[path = "suite/in_memory/mod.rs"]
mod in_memory;
#[path = "sweep/repairs.rs"]
mod repairs;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ckpt::error::{Error, ErrorKind, Result};
use ckpt::source::{MemorySource, SharedSource, Source};
use in_memory::{FORMATS, memory};

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// Memory that the cases in hand may take together beyond what there was.
const MOST_MEMORY: usize = 320 << 20;
/// Memory is counted for the process, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());
/// Time that one case may take.
const LONGEST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

/// One file of testdata.
struct File {
    name: String,
    bytes: Vec<u8>,
    /// What all commands take on it.
    took: Duration,
}

/// All files but the largest, each tried once as it is.
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
        let files = Mutex::new(Vec::new());
        on_all_cores(&found, |path| {
            if let Some(file) = tried(path) {
                files.lock().unwrap().push(file);
            }
        });
        let mut files = files.into_inner().unwrap();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    })
}

/// A file on which every command was tried as it is; nothing for bombs where a sample is taken.
fn tried(path: &Path) -> Option<File> {
    let bytes = std::fs::read(path).unwrap();
    let name = path.display().to_string();
    let begun = Instant::now();
    if let Err(e) = in_memory::list_and_hash(memory(bytes.clone())) {
        assert!(!e.message().contains('\n') && e.kind() != ErrorKind::Io, "{name}: {e}");
    }
    if !every_place() && begun.elapsed() > Duration::from_millis(50) {
        return None;
    }
    let formats = if every_place() { FORMATS.len() } else { 1 };
    (0..formats).for_each(|number| every_command(&|| name.clone(), &bytes, &bytes, number));
    Some(File { name, bytes, took: begun.elapsed() / u32::try_from(formats).unwrap() })
}

/// Every command on `bytes`, `diff` against what they were before they were broken. `number` chooses what to convert to.
fn every_command(what: &dyn Fn() -> String, bytes: &[u8], whole: &[u8], number: usize) {
    bounded(what, || _ = in_memory::check(&memory(bytes.to_vec())));
    bounded(what, || _ = in_memory::repair(memory(bytes.to_vec())));
    // what cannot be opened is refused by all others in the same way
    if bounded(what, || in_memory::list_and_hash(memory(bytes.to_vec()))).is_ok() {
        bounded(what, || _ = in_memory::convert_and_reread(bytes, FORMATS[number % FORMATS.len()]));
        bounded(what, || _ = in_memory::convert_with(memory(bytes.to_vec()), number));
        bounded(what, || _ = in_memory::diff(memory(whole.to_vec()), memory(bytes.to_vec())));
        bounded(what, || _ = in_memory::strip_and_reread(bytes, "module."));
    }
}

/// Runs one case and holds it to the bounds; gives what it answered. One that takes too long beside others is run again
/// with the cores to itself: a machine may be busy, but not three times.
fn bounded<T>(what: &dyn Fn() -> String, run: impl Fn() -> T) -> T {
    static BESIDE: RwLock<()> = RwLock::new(());
    let timed = || {
        let begun = Instant::now();
        let answer = run();
        let peak = MEMORY.peak_usage();
        assert!(peak < MOST_MEMORY, "{} took {} MiB, or what ran beside it", what(), peak >> 20);
        (answer, begun.elapsed())
    };
    let beside = BESIDE.read().unwrap_or_else(PoisonError::into_inner);
    let (mut answer, mut took) = timed();
    drop(beside);
    if took >= LONGEST {
        let _alone = BESIDE.write().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..2 {
            if took >= LONGEST {
                (answer, took) = timed();
            }
        }
    }
    assert!(took < LONGEST, "{} took {took:?}", what());
    answer
}

fn every_place() -> bool {
    std::env::var("CKPT_SWEEP").is_ok_and(|how| how == "every")
}

/// All places of a file; or a sample of them, a small one where the file takes long.
fn places(file: &File) -> impl Iterator<Item = usize> {
    let len = file.bytes.len();
    let time = if every_place() { Duration::from_millis(150) } else { Duration::from_millis(20) };
    let most = if every_place() { 1 << 20 } else { 16 };
    let small = every_place() && len <= 2048 && file.took < Duration::from_millis(2);
    let sample = (time.as_micros() / file.took.as_micros().max(1)).clamp(2, most);
    // a step that shares no factor with the alignments of formats
    let step = if small { 1 } else { (len / usize::try_from(sample).unwrap()) | 1 };
    (0..len).filter(move |at| at % step == 0 || len - at <= 2)
}

/// Does `run` for every file, on all cores.
fn for_each_file(run: impl Fn(&File) + Sync) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let files = files();
    MEMORY.reset_peak_usage();
    on_all_cores(files, run);
}

fn on_all_cores<T: Sync>(items: &[T], run: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(item);
                }
            });
        }
    });
}

#[test]
fn cut_at_every_byte() {
    for_each_file(|file| {
        for end in places(file) {
            let what = || format!("{} cut at {end}", file.name);
            every_command(&what, &file.bytes[..end], &file.bytes, end);
        }
    });
}

#[test]
fn every_byte_changed() {
    for_each_file(|file| {
        let mut changed = file.bytes.clone();
        for at in places(file) {
            // one bit, a sign or length bit, and every bit, in turn
            let change = [0x01, 0x80, 0xff][at % 3];
            changed[at] ^= change;
            let what = || format!("{} with byte {at} ^ {change:#x}", file.name);
            every_command(&what, &changed, &file.bytes, at / 3);
            changed[at] ^= change;
        }
    });
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
    Error::new(ErrorKind::Io, "the file became shorter while it was read")
}

/// What a command answers: text to compare, `Err` for an error.
type Answer = std::result::Result<String, String>;

/// A command, run on a source.
type Run = fn(SharedSource) -> Answer;

/// Every command's answer in full, and what in it says that not all could be read.
const COMMANDS: [(&str, Run, &str); 9] = [
    (
        "ls",
        |source| answer(in_memory::list_and_hash(source), |list| serde_json::to_string(&list).unwrap()),
        "\"problem\":\"",
    ),
    ("check", |source| answer(in_memory::check(&source), |found| found), "Finding {"),
    ("repair", |source| answer(in_memory::repair(source), |saved| format!("{saved:?}")), "never"),
    (
        "convert to torch",
        |source| answer(in_memory::convert(source, FORMATS[0]), |bytes| format!("{bytes:?}")),
        "never",
    ),
    (
        "convert to legacy",
        |source| answer(in_memory::convert(source, FORMATS[1]), |bytes| format!("{bytes:?}")),
        "never",
    ),
    (
        "convert to safetensors",
        |source| answer(in_memory::convert(source, FORMATS[2]), |bytes| format!("{bytes:?}")),
        "never",
    ),
    ("convert to npz", |source| answer(in_memory::convert(source, FORMATS[3]), |bytes| format!("{bytes:?}")), "never"),
    ("diff", |source| answer(in_memory::diff(source.clone(), source), |diff| format!("{diff:?}")), "Problem {"),
    (
        "strip-prefix",
        |source| {
            answer(in_memory::strip_prefix(&source, "module."), |done| {
                format!("{:?}", done.map(|d| (d.new, d.in_place)))
            })
        },
        "never",
    ),
];

fn answer<T, E: fmt::Display>(result: std::result::Result<T, E>, shown: impl Fn(T) -> String) -> Answer {
    result.map(shown).map_err(|e| e.to_string())
}

#[test]
fn a_read_that_fails_is_never_overlooked() {
    let small = if every_place() { 16 << 10 } else { 2 << 10 };
    let most_reads = if every_place() { 200 } else { 6 };
    for_each_file(|file| {
        if file.bytes.len() > small || file.took > Duration::from_millis(20) {
            return;
        }
        for (command, run, says) in COMMANDS {
            let whole = run(memory(file.bytes.clone()));
            for (error, name) in [(disk_error as fn() -> Error, "an error"), (became_shorter, "too short")] {
                // how many reads there are in all is found out by failing later and later
                let mut next = 0;
                loop {
                    let fail_at = next;
                    let inner = MemorySource::new(file.bytes.clone());
                    let source = Arc::new(Failing { inner, reads: AtomicU64::new(0), fail_at, error });
                    let what = || format!("{command} of {} with {name} at read {fail_at}", file.name);
                    let answer = bounded(&what, || {
                        source.reads.store(0, Ordering::Relaxed);
                        run(Arc::clone(&source) as SharedSource)
                    });
                    let reads = source.reads.load(Ordering::Relaxed);
                    if reads <= fail_at {
                        break;
                    }
                    // all of them while there are few
                    next += 1 + fail_at / most_reads;
                    let Ok(answer) = answer else { continue };
                    // the structure was read, some data was not: that is said, or nothing at all was lost; to `check` it
                    // is nothing about the file
                    let said = command != "check" && answer.contains(says);
                    let told = said || whole.as_ref().is_ok_and(|whole| *whole == answer);
                    assert!(told, "{} is overlooked: {answer}", what());
                }
            }
        }
    });
}
