//! Any bytes, as they are and cut in the middle, repaired: what is saved is read again.
#![no_main]

use ckpt_fuzz::{bounded, in_memory};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for end in [data.len(), data.len() / 4 * 3] {
        let cut = in_memory::memory(data[..end].to_vec());
        bounded(|| _ = in_memory::repair(cut));
    }
});
