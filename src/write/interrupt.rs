//! What SIGHUP, SIGINT and SIGTERM undo before they end the program as they would have: temporary files and directories
//! go, an edit in place is cut off again. A signal that was ignored when the program began (`nohup`) stays ignored.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::append::Medium;

static LIVE: Mutex<Vec<(u64, Undo)>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

fn live() -> MutexGuard<'static, Vec<(u64, Undo)>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What makes something half written as if it had never been begun.
#[derive(Debug)]
pub(super) enum Undo {
    /// Removes a file.
    File(PathBuf),
    /// Removes a directory with all that is in it.
    Tree(PathBuf),
    /// Removes a directory if nothing is in it.
    Directory(PathBuf),
    /// Cuts off what was appended.
    Append(File, u64),
}

impl Undo {
    fn run(&self) {
        // gone already, or not ours to remove any more: nothing to be done about either
        let _ = match self {
            Undo::File(path) => fs::remove_file(path),
            Undo::Directory(path) => fs::remove_dir(path),
            Undo::Append(file, len) => file.set_len(*len).and_then(|()| file.sync_all()),
            // what another thread has begun may come to lie in it meanwhile
            Undo::Tree(path) => remove_tree(path).or_else(|_| remove_tree(path)),
        };
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}

/// Keeps something on the list.
#[derive(Debug)]
pub(super) struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        live().retain(|(id, _)| *id != self.0);
    }
}

/// Makes something with `create` and puts it on the list, in one go as far as signals are concerned.
pub(super) fn guard<T>(create: impl FnOnce() -> io::Result<(T, Undo)>) -> io::Result<(T, Guard)> {
    watch();
    let mut live = live();
    let (made, undo) = create()?;
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    live.push((id, undo));
    Ok((made, Guard(id)))
}

/// A file that an edit in place appends to. A signal cuts off what was appended, and nothing is written after that.
#[derive(Debug)]
pub(crate) struct Appending<'a> {
    file: &'a mut File,
    /// The list, while signals have to wait. Given back before the guard goes, which takes it.
    held: Option<MutexGuard<'static, Vec<(u64, Undo)>>>,
    guard: Guard,
}

impl<'a> Appending<'a> {
    /// The file as it is now.
    pub(crate) fn to(file: &'a mut File) -> io::Result<Self> {
        let again = file.try_clone()?;
        let len = file.metadata()?.len();
        let ((), guard) = guard(|| Ok(((), Undo::Append(again, len))))?;
        Ok(Appending { file, held: None, guard })
    }

    fn while_live<T>(&mut self, then: impl FnOnce(&mut File) -> T) -> T {
        let _live = self.held.is_none().then(live);
        then(self.file)
    }
}

// whoever undoes it never gives the list back
impl Medium for Appending<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.while_live(|file| file.write_at(offset, bytes))
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Medium::sync_data(self.file)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        Medium::sync_all(self.file)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.while_live(|file| Medium::set_len(file, len))
    }

    fn no_way_back(&mut self) {
        let mut live = live();
        live.retain(|(id, _)| *id != self.guard.0);
        self.held = Some(live);
    }
}

fn undo(live: &[(u64, Undo)]) {
    // newest first: directories after what is in them
    live.iter().rev().for_each(|(_, undo)| undo.run());
}

/// Removes what is half written, before the program ends where nobody can return an error.
pub(crate) fn undo_all() {
    // who ends the program may hold the list
    if let Ok(live) = LIVE.try_lock() {
        undo(&live);
    }
}

/// Waits for the signals on a thread of its own, from the first output on.
#[cfg(unix)]
fn watch() {
    use signal_hook::iterator::Signals;

    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // without the watch a signal ends the program as it always does and leaves the file behind
        let Ok(mut signals) = Signals::new(watched(ignored())) else { return };
        let _ = std::thread::Builder::new().spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // the list stays locked: nothing new can come
                let live = live();
                undo(&live);
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        });
    });
}

#[cfg(not(unix))]
fn watch() {
    let _ = Undo::run;
}

/// Has a write beyond the limit on the size of files fail, instead of ending the program and leaving half a file.
#[cfg(unix)]
pub(crate) fn fail_at_file_limit() {
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    // without it the signal ends the program as it always does
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, flag);
}

#[cfg(not(unix))]
pub(crate) fn fail_at_file_limit() {}

/// The signals to wait for. Where nobody says which are ignored, a hangup is left alone: `nohup` may stand behind it.
#[cfg(unix)]
fn watched(ignored: Option<u64>) -> Vec<i32> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let is_ignored = |signal: i32| match ignored {
        Some(mask) => u32::try_from(signal - 1).ok().and_then(|bit| mask.checked_shr(bit)).is_some_and(|m| m & 1 == 1),
        None => signal == SIGHUP,
    };
    [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal)).collect()
}

/// The signals that the process ignores, one bit each (`proc_pid_status(5)`).
#[cfg(unix)]
fn ignored() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    #[test]
    fn what_is_ignored_is_not_watched() {
        assert_eq!(watched(Some(0)), [SIGHUP, SIGINT, SIGTERM]);
        assert_eq!(watched(Some(1)), [SIGINT, SIGTERM], "nohup");
        assert_eq!(watched(Some(0b10)), [SIGHUP, SIGTERM], "in the background of a shell");
        assert_eq!(watched(None), [SIGINT, SIGTERM]);
    }
}
