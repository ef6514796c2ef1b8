//! The parts of the input are members of a sound archive, a name on the first line of each: torch's zip, TorchScript,
//! pt2, npz, archives with hidden pickles. Listed, examined and converted.
#![no_main]

use ckpt_fuzz::in_memory::{self, FORMATS};
use ckpt_fuzz::{archive, bounded, parts};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let members = parts(data).map(|part| {
        let end = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        (String::from_utf8_lossy(&part[..end]).into_owned(), part.get(end + 1..).unwrap_or_default())
    });
    let bytes = archive(members);
    let source = in_memory::memory(bytes.clone());
    bounded(|| _ = in_memory::list_and_hash(source.clone()));
    bounded(|| _ = in_memory::check(&source));
    for to in FORMATS {
        bounded(|| _ = in_memory::convert_and_reread(&bytes, to));
    }
});
