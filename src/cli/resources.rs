//! What the process does where the system gives it little: fewer threads under a bound on memory, an error where no thread
//! can be started or a file may grow no further.

use std::panic;

use crate::terminal::streams;
use crate::write::interrupt::{fail_at_file_limit, undo_all};

/// Memory that the program takes whatever it does, and what a thread more takes: its stack, and what it allocates from.
const OWN_BYTES: u64 = 32 << 20;
const THREAD_BYTES: u64 = 16 << 20;
/// What says that a thread could not be started: of the standard library, and of rayon.
const NO_THREAD: [&str; 3] = ["failed to spawn thread", "ThreadPoolBuildError", "global thread pool"];

/// Prepares the process for all of it.
pub(super) fn prepare() {
    fail_at_file_limit();
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default();
        if !NO_THREAD.iter().any(|said| text.contains(said)) {
            return usual(info);
        }
        undo_all();
        streams::say("no thread can be started: the limit on memory or processes is too low (ulimit -v, ulimit -u)");
        std::process::exit(2);
    }));
    if let Some(bound) = address_space() {
        let threads = bound.saturating_sub(OWN_BYTES) / THREAD_BYTES;
        let most = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let threads = usize::try_from(threads.clamp(1, most)).unwrap_or(1);
        // who cannot have them is told by the first work that wants them
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}

/// The bound on the process's memory, in bytes (`getrlimit(2)`, `RLIMIT_AS`).
#[cfg(unix)]
fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

#[cfg(not(unix))]
fn address_space() -> Option<u64> {
    None
}
