//! Any bytes, stripped of prefixes into a new file and in place; nothing but names changes.
#![no_main]

use ckpt_fuzz::{bounded, in_memory};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for prefix in ["module.", "f"] {
        bounded(|| _ = in_memory::strip_and_reread(data, prefix));
    }
});
