//! Has a large file go to the disk while the rest of it is still being made, so that the sync at the end, which a
//! complete output needs, has little left to wait for.

use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes that are left to the system before they are asked for; smaller files are synced once.
const STEP_BYTES: u64 = 64 << 20;

/// Syncs one file from a thread of its own, whenever enough is written.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    asked_at: u64,
    worker: Option<Worker>,
}

#[derive(Debug)]
struct Worker {
    more: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Worker {
    fn start(file: File) -> io::Result<Self> {
        let (more, asked) = sync_channel(1);
        let thread = std::thread::Builder::new().name("writeback".into());
        let thread = thread.spawn(move || asked.iter().try_for_each(|()| file.sync_data()))?;
        Ok(Worker { more, thread })
    }
}

impl Writeback {
    /// Says that `file` has `written` bytes now.
    pub(super) fn reached(&mut self, file: &File, written: u64) {
        if written < self.asked_at.saturating_add(STEP_BYTES) {
            return;
        }
        self.asked_at = written;
        if self.worker.is_none() {
            // without a thread the sync at the end does it all
            self.worker = file.try_clone().and_then(Worker::start).ok();
        }
        if let Some(worker) = &self.worker {
            // one that is busy has more to do already
            let _ = worker.more.try_send(());
        }
    }

    /// Waits for what has been asked for. A disk tells of an error once only: whoever syncs next would not hear of it.
    pub(super) fn finish(self) -> io::Result<()> {
        let Some(Worker { more, thread }) = self.worker else { return Ok(()) };
        drop(more);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs the output failed")))
    }
}
