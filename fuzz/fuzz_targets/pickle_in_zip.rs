//! The input is data.pkl in a sound archive of torch's, with storages that its tensors can name: listed, examined,
//! converted and stripped. Checksums and directories cannot stop what is changed in the pickle.
#![no_main]

use ckpt_fuzz::in_memory::{self, FORMATS};
use ckpt_fuzz::{archive, bounded};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let storage: Vec<u8> = (0..=255).collect();
    let mut members = vec![("a/data.pkl".to_owned(), data), ("a/version".to_owned(), b"3\n")];
    members.extend((0..12).map(|key| (format!("a/data/{key}"), storage.as_slice())));
    let bytes = archive(members.into_iter());
    let source = in_memory::memory(bytes.clone());
    bounded(|| _ = in_memory::list_and_hash(source.clone()));
    bounded(|| _ = in_memory::check(&source));
    bounded(|| _ = in_memory::strip_and_reread(&bytes, "m"));
    for to in FORMATS {
        bounded(|| _ = in_memory::convert_and_reread(&bytes, to));
    }
});
