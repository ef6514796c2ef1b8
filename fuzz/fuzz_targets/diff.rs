//! Two files in one input, compared both ways; and the first with itself.
#![no_main]

use ckpt_fuzz::{bounded, in_memory, parts};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut files = parts(data).map(|part| in_memory::memory(part.to_vec()));
    let Some(a) = files.next() else { return };
    let b = files.next().unwrap_or_else(|| a.clone());
    bounded(|| {
        let there = in_memory::diff(a.clone(), b.clone());
        let back = in_memory::diff(b, a.clone());
        if let (Ok(there), Ok(back)) = (there, back) {
            assert_eq!((there.equal, there.same), (back.equal, back.same));
            assert_eq!((there.only_a.len(), there.only_b.len()), (back.only_b.len(), back.only_a.len()));
        }
    });
    bounded(|| {
        if let Ok(diff) = in_memory::diff(a.clone(), a) {
            assert!(diff.equal || !diff.problems.is_empty(), "differs from itself: {diff:?}");
        }
    });
});
