//! Temporary files that SIGINT and SIGTERM remove before they end the program as they would have.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn live() -> MutexGuard<'static, Vec<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a path on the list.
#[derive(Debug)]
pub(super) struct Guard(PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        live().retain(|path| *path != self.0);
    }
}

/// Makes a file with `create` and puts its path on the list, in one go as far as signals are concerned.
pub(super) fn guard<T>(create: impl FnOnce() -> io::Result<(T, PathBuf)>) -> io::Result<(T, Guard)> {
    watch();
    let mut live = live();
    let (made, path) = create()?;
    live.push(path.clone());
    Ok((made, Guard(path)))
}

fn remove(path: &Path) {
    // gone already, or not ours to remove any more: nothing to be done about either
    let _ = std::fs::remove_file(path);
}

/// Waits for the signals on a thread of its own, from the first output on.
#[cfg(unix)]
fn watch() {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // without the watch a signal ends the program as it always does and leaves the file behind
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // the list stays locked: no new file can come
                let live = live();
                live.iter().for_each(|path| remove(path));
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        });
    });
}

#[cfg(not(unix))]
fn watch() {
    let _ = remove;
}
