//! A progress bar on standard error for work that lasts: shown after half a second, and only to a person.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::progress::Progress;

const PATIENCE: Duration = Duration::from_millis(500);
/// Characters of the file's name; the end says more than the beginning.
const MAX_NAME: usize = 32;

/// Bytes done of a total, drawn when it takes long.
#[derive(Debug)]
pub(crate) struct Bar {
    what: String,
    total: u64,
    begun: Instant,
    wanted: bool,
    done: AtomicU64,
    bar: OnceLock<ProgressBar>,
}

impl Bar {
    /// A bar for `total` bytes of work on `what`; a `quiet` one is never drawn.
    pub(crate) fn new(what: &str, total: u64, quiet: bool) -> Self {
        Bar {
            what: shortened(&crate::render::escape::escape(what)),
            total,
            begun: Instant::now(),
            wanted: !quiet && io::stderr().is_terminal(),
            done: AtomicU64::new(0),
            bar: OnceLock::new(),
        }
    }

    /// The bar as it stands when it first shows: a good part of the work is behind it.
    fn draw(&self, done: u64) -> ProgressBar {
        let hidden = ProgressDrawTarget::hidden();
        let (bar, template) = match self.total {
            // nobody knows how much there is
            0 => (ProgressBar::with_draw_target(None, hidden), "{msg} {binary_bytes}"),
            total => (
                ProgressBar::with_draw_target(Some(total), hidden),
                "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {left}",
            ),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let style = style.with_key("left", |state: &ProgressState, out: &mut dyn Write| {
            let done = state.pos().min(state.len().unwrap_or(0));
            let left = state.len().unwrap_or(0).saturating_sub(done);
            // writing into the line cannot fail
            _ = out.write_str(&time_left(state.elapsed(), done, left));
        });
        let bar = bar.with_style(style).with_message(self.what.clone()).with_elapsed(self.begun.elapsed());
        let bar = bar.with_position(done);
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar
    }
}

/// The end of a name.
fn shortened(name: &str) -> String {
    match name.char_indices().nth_back(MAX_NAME - 2) {
        Some((at, _)) if at > 0 && name.chars().count() > MAX_NAME => {
            format!("…{}", name.get(at..).unwrap_or_default())
        }
        _ => name.to_owned(),
    }
}

/// What the rest will take at the speed so far: never `0s` while there is a rest.
fn time_left(elapsed: Duration, done: u64, left: u64) -> String {
    if left == 0 || done == 0 {
        return String::new();
    }
    let seconds = (elapsed.as_secs_f64() * left as f64 / done as f64).ceil().max(1.0);
    match seconds {
        s if s < 60.0 => format!("{s:.0}s"),
        s if s < 3600.0 => format!("{:.0}m {:02.0}s", (s / 60.0).floor(), s % 60.0),
        s if s < 360_000.0 => format!("{:.0}h {:02.0}m", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
        _ => String::new(),
    }
}

impl Progress for Bar {
    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if !self.wanted || done == 0 || self.begun.elapsed() < PATIENCE {
            return;
        }
        let known = if self.total == 0 { done } else { done.min(self.total) };
        self.bar.get_or_init(|| self.draw(known)).set_position(known);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// A bar for each piece of work that begins, one after the other.
#[derive(Debug)]
pub(crate) struct Bars {
    quiet: bool,
    bar: RwLock<Option<Bar>>,
}

impl Bars {
    /// No bar yet; `quiet` ones are never drawn.
    pub(crate) fn new(quiet: bool) -> Self {
        Bars { quiet, bar: RwLock::new(None) }
    }
}

impl Progress for Bars {
    fn begin(&self, what: &str, bytes: u64) {
        let mut bar = self.bar.write().unwrap_or_else(PoisonError::into_inner);
        // the old one is cleared before there is another
        drop(bar.take());
        *bar = Some(Bar::new(what, bytes, self.quiet));
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.bar.read().unwrap_or_else(PoisonError::into_inner) {
            bar.advance(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_no_zero_before_the_end() {
        let left = |seconds: f64, done, left| time_left(Duration::from_secs_f64(seconds), done, left);
        assert_eq!(left(0.5, 1 << 30, 1), "1s");
        assert_eq!(left(2.0, 100, 400), "8s");
        assert_eq!(left(10.0, 1, 9), "1m 30s");
        assert_eq!(left(60.0, 1, 90), "1h 30m");
        assert_eq!((left(1.0, 0, 5), left(1.0, 5, 0), left(1.0, 1, u64::MAX)), Default::default());
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(shortened("model.pth"), "model.pth");
        let long = shortened(&format!("{}/model-00001-of-00003.safetensors", "ü".repeat(40)));
        assert!(long.starts_with('…') && long.ends_with("of-00003.safetensors"), "{long}");
        assert_eq!(long.chars().count(), MAX_NAME);
    }
}
