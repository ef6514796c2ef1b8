//! `repair` of files that are damaged at any place: each tensor that it saves is, bit by bit, the one that was there, and
//! each that it does not save is named.
//!
//! `CKPT_SWEEP=every` takes as many places of a file as go into some time; `CKPT_SWEEP=all` takes all of them, for hours.
//! `CKPT_SWEEP_FILES` names a directory whose files are taken instead of those of testdata.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ckpt::checkpoint::salvage::Lost;
use ckpt::checkpoint::{Checkpoint, Container};
use ckpt::limits::Limits;
use ckpt::progress::Silent;

use super::in_memory::{Facts, Tensors, list_and_hash, memory, salvaged, tensors};
use super::{ALONE, bounded, every_place, on_all_cores};

/// Larger files say nothing more.
const MAX_BYTES: u64 = 64 << 10;
/// Places of a file that a sample takes of each kind of damage.
const SAMPLE: usize = 2;
/// Time for each kind of damage to a file, where every place would take longer.
const TIME: Duration = Duration::from_millis(4);

/// A kind of damage: its name, whether what it did shows without checksums, and what it makes of bytes at a place.
type Kind = (&'static str, bool, fn(&[u8], usize) -> Vec<u8>);

const KINDS: &[Kind] = &[
    ("cut", true, |bytes, place| bytes[..place].to_vec()),
    ("a bit flipped", true, |bytes, place| changed(bytes, place, |rest| rest[0] ^= 1 << (place % 8))),
    ("a byte lost its top bit", true, |bytes, place| changed(bytes, place, |rest| rest[0] &= 0x7f)),
    ("zeros to the end", true, |bytes, place| changed(bytes, place, |rest| rest.fill(0))),
    ("a hole", true, |bytes, place| {
        changed(bytes, place, |rest| {
            let len = rest.len().min(16 + (place * 31) % 2000);
            rest[..len].fill(0);
        })
    }),
    ("another part written over", false, |bytes, place| {
        let from = (place * 7919) % bytes.len();
        changed(bytes, place, |rest| {
            let part = &bytes[from..];
            let len = rest.len().min(part.len()).min(512);
            rest[..len].copy_from_slice(&part[..len]);
        })
    }),
    ("a byte put in", false, |bytes, place| [&bytes[..place], b"\r", &bytes[place..]].concat()),
    ("a byte taken out", false, |bytes, place| [&bytes[..place], &bytes[place + 1..]].concat()),
    ("a block put in twice", false, |bytes, place| [&bytes[..place], &bytes[place.saturating_sub(512)..]].concat()),
    ("a block taken out", false, |bytes, place| [&bytes[..place], &bytes[(place + 512).min(bytes.len())..]].concat()),
    ("line ends of Windows from there on", false, |bytes, place| {
        let mut text = bytes[..place].to_vec();
        for byte in &bytes[place..] {
            text.extend((*byte == b'\n').then_some(b'\r'));
            text.push(*byte);
        }
        text
    }),
    ("line ends of Unix from there on", false, |bytes, place| {
        let mut text = bytes[..place].to_vec();
        let rest = &bytes[place..];
        text.extend((0..rest.len()).filter(|at| !rest[*at..].starts_with(b"\r\n")).map(|at| rest[at]));
        text
    }),
];

fn changed(bytes: &[u8], place: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    change(&mut changed[place..]);
    changed
}

/// A file, what is in it, and how long a repair of it takes.
struct File {
    path: PathBuf,
    bytes: Vec<u8>,
    truth: Tensors,
    took: Duration,
}

/// The files that torch or safetensors wrote, and are whole.
fn files() -> Vec<File> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths = Vec::new();
    let mut open = vec![std::env::var_os("CKPT_SWEEP_FILES").map_or_else(|| testdata.clone(), PathBuf::from)];
    while let Some(dir) = open.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.metadata().unwrap().len() <= MAX_BYTES && !path.starts_with(testdata.join("hostile")) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.into_iter().filter_map(whole).collect()
}

/// A file of a kind that is repaired, with nothing to repair.
fn whole(path: PathBuf) -> Option<File> {
    let bytes = std::fs::read(&path).unwrap();
    let checkpoint = Checkpoint::open(memory(bytes.clone()), &Limits::default(), &Silent).ok()?;
    let is_kind = matches!(
        checkpoint.container(),
        Container::Zip
            | Container::TorchScript
            | Container::Pt2
            | Container::Legacy
            | Container::Safetensors
            | Container::Npz
    );
    let begun = Instant::now();
    if !is_kind || !matches!(salvaged(&bytes, false), Ok(None)) {
        return None;
    }
    let took = begun.elapsed();
    let truth = tensors(&list_and_hash(memory(bytes.clone())).unwrap());
    (!truth.is_empty()).then_some(File { path, bytes, truth, took })
}

/// Notes that say that there may be tensors that are not named.
const UNNAMED: [&str; 3] =
    ["/data.pkl: ", "arrays whose headers are lost cannot be named", "other models, if the archive had any"];

/// Holds one repair against the truth; gives how many tensors it saved, or what is wrong.
fn judge(bytes: &[u8], truth: &Tensors, shows: bool) -> Result<usize, String> {
    let mut saved = 0;
    let is_legacy = bytes.first() == Some(&0x80);
    for keep_damaged in [false, true] {
        let (report, found) = match salvaged(bytes, keep_damaged) {
            Ok(Some(salvaged)) => salvaged,
            Err(e) if e.to_string().contains("SAVED") => return Err(e.to_string()),
            _ => continue,
        };
        let names = |all: &[Lost]| all.iter().map(|lost| lost.name.clone()).collect::<BTreeSet<_>>();
        let (lost, doubtful) = (names(&report.lost), names(&report.doubtful));
        let trusted = found.iter().filter(|(name, _)| !doubtful.contains(*name));
        let is_true = |name: &str, facts: &Vec<Facts>| {
            truth.get(name).is_some_and(|truth| facts.iter().all(|facts| truth.contains(facts)))
        };
        // without checksums nobody can say what moved, and that is said
        let is_sure = shows || report.verified;
        if let Some((name, facts)) = trusted.into_iter().find(|(name, facts)| is_sure && !is_true(name, facts)) {
            return Err(format!("{name} is saved as {facts:?} instead of {:?}: {report:?}", truth.get(name)));
        }
        // no checksum says whether the names of a legacy stream are those that there were, and with the directory names may be
        // lost that are nowhere else
        let names_are_lost = |note: &String| UNNAMED.iter().any(|what| note.contains(what));
        let names_are_sure = is_sure && !is_legacy && !report.notes.iter().any(names_are_lost);
        let vanished = truth.keys().filter(|name| !found.contains_key(*name) && !lost.contains(*name));
        if let Some(name) = vanished.into_iter().next().filter(|_| names_are_sure) {
            return Err(format!("{name} is neither saved nor named: {report:?}"));
        }
        if !keep_damaged {
            saved = found.len();
            if !doubtful.is_empty() {
                return Err(format!("doubtful is what should be left out: {report:?}"));
            }
        }
    }
    Ok(saved)
}

/// Places to damage: all, a sample, or as many as there is time for.
fn places(file: &File, seed: usize) -> Vec<usize> {
    let len = file.bytes.len();
    let most = match () {
        () if std::env::var_os("CKPT_SWEEP").is_some_and(|how| how == "all") => len,
        // a damaged file takes a few times as long, and is repaired twice
        () if every_place() => {
            usize::try_from(TIME.as_micros() / (4 * file.took.as_micros()).max(1)).unwrap().max(SAMPLE)
        }
        () => SAMPLE,
    };
    // spread over the file, at other places for each file and kind of damage
    let step = (len / most).max(1);
    (0..len).skip(((seed + len) * 7919) % step).step_by(step).collect()
}

#[test]
fn what_repair_saves_is_what_there_was() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let files = files();
    assert!(files.len() > 20 || std::env::var_os("CKPT_SWEEP_FILES").is_some(), "{}", files.len());
    super::MEMORY.reset_peak_usage();
    let (saved, cases) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    on_all_cores(&files, |file| {
        for (number, (kind, shows, damage)) in KINDS.iter().enumerate() {
            for place in places(file, number) {
                let damaged = damage(&file.bytes, place);
                if damaged == file.bytes {
                    continue;
                }
                let what = || format!("{}: {kind} at {place}", file.path.display());
                cases.fetch_add(1, Ordering::Relaxed);
                match bounded(&what, || judge(&damaged, &file.truth, *shows)) {
                    Ok(count) => drop(saved.fetch_add(count, Ordering::Relaxed)),
                    Err(why) => {
                        eprintln!("{}: {why}", what());
                        wrong.lock().unwrap().push(what());
                    }
                }
            }
        }
    });
    let (saved, cases, wrong) = (saved.into_inner(), cases.into_inner(), wrong.into_inner().unwrap());
    println!("{} files, {cases} repairs, {saved} tensors", files.len());
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(saved > 100);
}
