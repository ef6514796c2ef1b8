//! Any bytes, converted to every format; what was written is read again and has the same tensors.
#![no_main]

use ckpt_fuzz::{bounded, in_memory};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for to in in_memory::FORMATS {
        bounded(|| _ = in_memory::convert_and_reread(data, to));
    }
});
