//! One large tensor worked on by all cores, with a result that does not depend on how many there are.
//!
//! The row-major sequence is cut the same way everywhere, the parts' results are merged in order, and sums keep what
//! rounding would lose.

use std::ops::{ControlFlow, Range};

use rayon::prelude::*;

use crate::error::Result;

/// Elements of a part, about: enough that starting one costs nothing.
pub(super) const PART_ELEMENTS: u64 = 4 << 20;

/// Elements that are looked at in one go, within a first-level cache.
pub(super) const GO: usize = 1024;

/// Independent sums side by side, so that loops over them become vector instructions.
pub(super) const LANES: usize = 8;

/// Works on `range` in parts of `len`, on all of rayon's threads, and merges the results in order until `merge` breaks
/// off. The first error in order is returned.
pub(super) fn in_order<T: Send>(
    range: Range<u64>,
    len: u64,
    work: impl Fn(Range<u64>) -> Result<T> + Sync,
    mut merge: impl FnMut(T) -> ControlFlow<()>,
) -> Result<()> {
    let len = len.max(1);
    let mut start = range.start;
    let part = |start: u64| start..start.saturating_add(len).min(range.end);
    while start < range.end {
        if range.end - start <= len {
            let _ = merge(work(part(start))?);
            return Ok(());
        }
        // a few parts a thread, so that a slow one holds up little
        let most = 4 * rayon::current_num_threads() as u64;
        let wave = (range.end - start).div_ceil(len).min(most);
        let starts: Vec<u64> = (0..wave).map(|i| start + i * len).collect();
        let results: Vec<Result<T>> = starts.into_par_iter().with_max_len(1).map(|start| work(part(start))).collect();
        for result in results {
            if merge(result?).is_break() {
                return Ok(());
            }
        }
        start = part(start + (wave - 1) * len).end;
    }
    Ok(())
}

/// A sum with its rounding error (Neumaier's variant of Kahan's).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    total: f64,
    lost: f64,
}

impl Sum {
    pub(super) fn add(&mut self, x: f64) {
        let total = self.total + x;
        if total.is_finite() {
            let (large, small) = if self.total.abs() >= x.abs() { (self.total, x) } else { (x, self.total) };
            self.lost += (large - total) + small;
        }
        self.total = total;
    }

    /// Adds what independent lanes have summed up.
    pub(super) fn add_lanes(&mut self, lanes: [f64; LANES]) {
        for lane in lanes {
            self.add(lane);
        }
    }

    pub(super) fn merge(&mut self, other: Sum) {
        self.add(other.total);
        self.lost += other.lost;
    }

    pub(super) fn value(self) -> f64 {
        self.total + self.lost
    }
}

/// Folds pairs of `a` and `b` into independent lanes, all of them starting at `start`.
pub(super) fn reduce(a: &[f64], b: &[f64], start: f64, f: impl Fn(f64, f64, f64) -> f64) -> [f64; LANES] {
    let mut lanes = [start; LANES];
    let ((rows_a, rest_a), (rows_b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut fold = |a: &[f64], b: &[f64]| {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = f(*lane, *a, *b);
        }
    };
    rows_a.iter().zip(rows_b).for_each(|(a, b)| fold(a, b));
    fold(rest_a, rest_b);
    lanes
}

/// The larger, or the old one where that cannot be said (NaN).
pub(super) fn larger(old: f64, new: f64) -> f64 {
    if new > old { new } else { old }
}

/// The smaller, or the old one where that cannot be said (NaN).
pub(super) fn smaller(old: f64, new: f64) -> f64 {
    if new < old { new } else { old }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn parts_come_in_order_and_the_first_error_wins() {
        let mut seen = Vec::new();
        let gather =
            |part: Range<u64>| if part.start < 900 { Ok(part) } else { Err(Error::data(part.start.to_string())) };
        let e = in_order(3..1000, 7, gather, |part| {
            seen.push(part);
            ControlFlow::Continue(())
        });
        assert_eq!(e.unwrap_err().message(), "906");
        assert!(seen.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((seen[0].start, seen.len()), (3, 129));
    }

    #[test]
    fn sums_keep_small_parts() {
        let mut sum = Sum::default();
        for x in [1e16, 1.0, -1e16, 1e-3] {
            sum.add(x);
        }
        assert_eq!(sum.value(), 1.001);
        sum.add(f64::INFINITY);
        assert_eq!(sum.value(), f64::INFINITY);
    }
}
