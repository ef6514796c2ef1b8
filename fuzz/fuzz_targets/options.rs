//! Any bytes, converted with the options that choose, cast and compact; what was written is read again.
#![no_main]

use ckpt_fuzz::{bounded, in_memory};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for number in 0..in_memory::WAYS.len() {
        bounded(|| _ = in_memory::convert_with(in_memory::memory(data.to_vec()), number));
    }
});
