//! Any bytes, examined with `--numerics`.
#![no_main]

use ckpt_fuzz::{bounded, in_memory};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bounded(|| _ = in_memory::check(&in_memory::memory(data.to_vec())));
});
