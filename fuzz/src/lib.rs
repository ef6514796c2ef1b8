//! What the targets share: the bounds that every input is held to, and archives made from the parts of an input.

use std::io::{Cursor, Write};
use std::time::Duration;

use cpu_time::ProcessTime;

#[path = "../../tests/suite/in_memory/mod.rs"]
pub mod in_memory;

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// What one input of less than a megabyte may take: bytes, and time on all cores together, where counting the coverage
/// makes three of the one second.
const MOST_MEMORY: usize = 512 << 20;
const LONGEST: Duration = Duration::from_secs(3);
/// Between the parts of an input that stands for several files.
pub const SEPARATOR: &[u8] = b"\0--\xff\n";

/// Runs a target on one input and holds it to the bounds. libFuzzer's own limits are the wall clock's and, without a
/// sanitizer, looked at once a second; these are exact.
pub fn bounded(run: impl FnOnce()) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let begun = ProcessTime::now();
    run();
    let took = begun.elapsed();
    let peak = MEMORY.peak_usage().saturating_sub(before);
    // whoever measures coverage does not measure time
    assert!(took < LONGEST || std::env::var_os("LLVM_PROFILE_FILE").is_some(), "takes {took:?}");
    assert!(peak < MOST_MEMORY, "takes {} MiB", peak >> 20);
}

/// The parts of an input.
pub fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let here = rest?;
        let end = here.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        rest = end.map(|end| &here[end + SEPARATOR.len()..]);
        Some(&here[..end.unwrap_or(here.len())])
    })
}

/// A zip archive of stored members, the CRCs right.
pub fn archive<'a>(members: impl Iterator<Item = (String, &'a [u8])>) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in members {
        // a name that was there already is left out
        if zip.start_file(name, options).is_ok() {
            zip.write_all(content).expect("memory");
        }
    }
    zip.finish().expect("memory").into_inner()
}
