//! A progress bar on standard error for work that lasts: shown after half a second, and only to a person.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::Progress;

const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes done of a total, drawn when it takes long.
#[derive(Debug)]
pub struct Bar {
    what: String,
    total: u64,
    begun: Instant,
    wanted: bool,
    done: AtomicU64,
    bar: OnceLock<ProgressBar>,
}

impl Bar {
    /// A bar for `total` bytes of work on `what`; a `quiet` one is never drawn.
    pub fn new(what: &str, total: u64, quiet: bool) -> Self {
        Bar {
            what: crate::render::escape::escape(what).into_owned(),
            total,
            begun: Instant::now(),
            wanted: !quiet && io::stderr().is_terminal(),
            done: AtomicU64::new(0),
            bar: OnceLock::new(),
        }
    }
}

impl Progress for Bar {
    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if !self.wanted || self.begun.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_init(|| {
            let bar = ProgressBar::new(self.total).with_message(self.what.clone());
            let style = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {eta}";
            bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
