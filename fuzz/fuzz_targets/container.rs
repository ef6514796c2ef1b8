//! Any bytes: what they are is decided, they are opened, listed, and all tensors' data is read.
#![no_main]

use ckpt_fuzz::{bounded, in_memory};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bounded(|| _ = in_memory::list_and_hash(in_memory::memory(data.to_vec())));
});
