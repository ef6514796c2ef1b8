//! Fills one box of a strided tensor: reads the storage in its own order, writes the box row-major.
//!
//! The box is cut into tiles of a few hundred kibibytes that stay in the cache. A tile's bytes are read run by run into
//! a staging buffer (runs with small gaps between them in one read), then copied to their places so that whole cache
//! lines are written. Dimensions of stride 0 are read once and copied many times.

use crate::error::{Error, Result};
use crate::source::Source;

/// One dimension: how many elements, how far apart in the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dim {
    pub(super) len: u64,
    pub(super) stride: u64,
}

/// Bytes of a tile in the staging buffer: within a second-level cache.
const STAGING_BYTES: usize = 512 << 10;

/// Reading this much that is not needed costs about as much as one more read.
const GAP_BYTES: usize = 2 << 10;

/// From this length on, runs that need no reordering are read straight to their place.
const STRAIGHT_BYTES: usize = 8 << 10;

/// Bytes of the output that a tile fills in a row, where the box has that many: a few cache lines.
const LINE_BYTES: usize = 256;

/// A dimension of the box, in units of the copy. `tile` of its `len` indexes are in a tile; a step is `stored` units in
/// the storage, `staged` in the staging buffer and `out` in the box.
#[derive(Debug, Clone, Copy)]
struct Axis {
    len: usize,
    stored: u64,
    out: usize,
    tile: usize,
    staged: usize,
}

/// Reads the box that starts at element `first` of `source` and has the dimensions `shape` (outermost first, strides in
/// elements of `size` bytes) into `out`, which must have its size. `staging` is kept from call to call.
///
/// The caller has checked that the box lies inside the source.
pub(super) fn read_box(
    source: &dyn Source,
    first: u64,
    shape: &[Dim],
    size: usize,
    out: &mut [u8],
    staging: &mut Vec<u8>,
) -> Result<()> {
    // elements of odd sizes are rows of the largest unit that divides them
    let unit = [16, 8, 4, 2].into_iter().find(|unit| size.is_multiple_of(*unit)).unwrap_or(1);
    let units = size / unit;
    let mut axes: Vec<Axis> = Vec::new();
    let mut step = 1;
    let inner = Dim { len: units as u64, stride: 1 };
    let outer = shape.iter().rev().map(|dim| Dim { len: dim.len, stride: dim.stride * units as u64 });
    for dim in std::iter::once(inner).chain(outer).filter(|dim| dim.len > 1) {
        let len = usize::try_from(dim.len).map_err(|_| Error::limit("a block does not fit in memory"))?;
        axes.push(Axis { len, stored: dim.stride, out: step, tile: len, staged: 0 });
        step *= len;
    }
    let first = first * units as u64;
    match unit {
        16 => BoxReader::<16> { source, first, out: out.as_chunks_mut().0 }.read(axes, staging),
        8 => BoxReader::<8> { source, first, out: out.as_chunks_mut().0 }.read(axes, staging),
        4 => BoxReader::<4> { source, first, out: out.as_chunks_mut().0 }.read(axes, staging),
        2 => BoxReader::<2> { source, first, out: out.as_chunks_mut().0 }.read(axes, staging),
        _ => BoxReader::<1> { source, first, out: out.as_chunks_mut().0 }.read(axes, staging),
    }
}

/// How a tile is read: `run` units at a time, once for every index of the `stacked` axes.
struct TilePlan {
    axes: Vec<Axis>,
    /// Positions in `axes` whose runs are read one by one, and whose runs are part of one read.
    stacked: Vec<usize>,
    merged: Vec<usize>,
    staging: usize,
}

/// Chooses tiles. `axes` come innermost of the output first.
fn plan(mut axes: Vec<Axis>, unit: usize) -> TilePlan {
    let mut by_storage: Vec<usize> = (0..axes.len()).collect();
    by_storage.sort_by_key(|&i| axes.get(i).map(|axis| axis.stored));
    let (budget, gap) = (STAGING_BYTES / unit, GAP_BYTES / unit);
    let line = (LINE_BYTES / unit).max(1);
    // until the tile spans the output's innermost axis, leave room for a line of it
    let innermost = axes.first().filter(|axis| axis.stored > 0);
    let mut room = budget / innermost.map_or(1, |axis| axis.len.min(line));
    let (mut stacked, mut merged) = (Vec::new(), Vec::new());
    let mut span = 1;
    for i in by_storage {
        if i == 0 {
            room = budget;
        }
        let Some(axis) = axes.get_mut(i).filter(|axis| axis.stored > 0) else { continue };
        let near = usize::try_from(axis.stored).ok().filter(|stored| *stored <= span + gap && stacked.is_empty());
        match near {
            Some(stored) => {
                axis.tile = (room.saturating_sub(span) / stored + 1).min(axis.len);
                axis.staged = stored;
                span += (axis.tile - 1) * stored;
                merged.push(i);
            }
            None => {
                // off by a line, so that the same places of all runs do not fall on the same lines of the cache
                let slot = span + line;
                axis.tile = (room / slot).clamp(1, axis.len);
                axis.staged = slot;
                span = slot * axis.tile;
                stacked.push(i);
            }
        }
    }
    TilePlan { axes, stacked, merged, staging: span }
}

struct BoxReader<'a, const N: usize> {
    source: &'a dyn Source,
    first: u64,
    out: &'a mut [[u8; N]],
}

impl<const N: usize> BoxReader<'_, N> {
    fn read(mut self, axes: Vec<Axis>, staging: &mut Vec<u8>) -> Result<()> {
        let straight = axes.first().is_none_or(|axis| axis.stored == 1 && axis.len * N >= STRAIGHT_BYTES);
        if straight {
            return self.read_straight(&axes);
        }
        let plan = plan(axes, N);
        if staging.len() < plan.staging * N {
            staging.resize(plan.staging * N, 0);
        }
        // tiles in storage order: the axis that steps farthest turns slowest
        let mut order: Vec<usize> = (0..plan.axes.len()).collect();
        order.sort_by_key(|&i| plan.axes.get(i).map(|axis| axis.stored));
        let steps: Vec<Axis> = order.iter().filter_map(|&i| plan.axes.get(i)).copied().collect();
        let counts: Vec<usize> = steps.iter().map(|axis| axis.len.div_ceil(axis.tile)).collect();
        let mut at = vec![0; counts.len()];
        loop {
            let mut tile = plan.axes.clone();
            let (mut first, mut out) = (self.first, 0);
            for ((&i, axis), &at) in order.iter().zip(&steps).zip(&at) {
                let start = at * axis.tile;
                first += start as u64 * axis.stored;
                out += start * axis.out;
                if let Some(axis) = tile.get_mut(i) {
                    axis.len = axis.tile.min(axis.len - start);
                }
            }
            self.stage(&plan, &tile, first, staging)?;
            scatter(tile, staging.as_chunks().0, self.out.get_mut(out..).unwrap_or_default());
            if !advance(&mut at, &counts) {
                return Ok(());
            }
        }
    }

    /// Reads each innermost run to its place.
    fn read_straight(&mut self, axes: &[Axis]) -> Result<()> {
        let run = axes.first().map_or(1, |axis| axis.len);
        let outer = axes.get(1..).unwrap_or_default();
        let counts: Vec<usize> = outer.iter().map(|axis| axis.len).collect();
        let mut at = vec![0; counts.len()];
        loop {
            let steps = || outer.iter().zip(&at);
            let first = self.first + steps().map(|(axis, at)| axis.stored * *at as u64).sum::<u64>();
            let out: usize = steps().map(|(axis, at)| axis.out * at).sum();
            let place = self.out.get_mut(out..out + run).unwrap_or_default();
            self.source.read_at(first * N as u64, place.as_flattened_mut())?;
            if !advance(&mut at, &counts) {
                return Ok(());
            }
        }
    }

    /// Fills the staging buffer with the tile that starts at unit `first`.
    fn stage(&self, plan: &TilePlan, tile: &[Axis], first: u64, staging: &mut [u8]) -> Result<()> {
        let pick = |indexes: &[usize]| -> Vec<Axis> { indexes.iter().filter_map(|&i| tile.get(i)).copied().collect() };
        let run = 1 + pick(&plan.merged).iter().map(|axis| (axis.len - 1) * axis.staged).sum::<usize>();
        let stacked = pick(&plan.stacked);
        let counts: Vec<usize> = stacked.iter().map(|axis| axis.len).collect();
        let mut at = vec![0; counts.len()];
        loop {
            let steps = || stacked.iter().zip(&at);
            let from = first + steps().map(|(axis, at)| axis.stored * *at as u64).sum::<u64>();
            let to: usize = steps().map(|(axis, at)| axis.staged * at).sum();
            let place = staging.get_mut(to * N..(to + run) * N).unwrap_or_default();
            self.source.read_at(from * N as u64, place)?;
            if !advance(&mut at, &counts) {
                return Ok(());
            }
        }
    }
}

/// Steps an odometer whose first wheel turns fastest; false when it is through.
fn advance(at: &mut [usize], counts: &[usize]) -> bool {
    for (at, count) in at.iter_mut().zip(counts) {
        *at += 1;
        if *at < *count {
            return true;
        }
        *at = 0;
    }
    false
}

/// Copies a staged tile to its places in `out`. `axes` come innermost of the output first.
fn scatter<const N: usize>(mut axes: Vec<Axis>, staged: &[[u8; N]], out: &mut [[u8; N]]) {
    // the two axes of the inner loops: the output's innermost, and the staging buffer's (or else the output's next)
    let inner = if axes.is_empty() { None } else { Some(axes.remove(0)) };
    let inner = inner.unwrap_or(Axis { len: 1, stored: 0, out: 1, tile: 1, staged: 0 });
    let steps = |axis: &Axis| if axis.staged == 0 { usize::MAX } else { axis.staged };
    let nearest = axes.iter().enumerate().min_by_key(|(_, axis)| steps(axis)).map(|(i, axis)| (i, steps(axis)));
    let second = match nearest {
        Some((i, step)) => axes.remove(if step < steps(&inner) { i } else { 0 }),
        None => Axis { len: 1, stored: 0, out: 0, tile: 1, staged: 0 },
    };
    let counts: Vec<usize> = axes.iter().map(|axis| axis.len).collect();
    let mut at = vec![0; counts.len()];
    loop {
        let from: usize = axes.iter().zip(&at).map(|(axis, at)| axis.staged * at).sum();
        let to: usize = axes.iter().zip(&at).map(|(axis, at)| axis.out * at).sum();
        let staged = staged.get(from..).unwrap_or_default();
        copy_plane(&inner, &second, staged, out.get_mut(to..).unwrap_or_default());
        if !advance(&mut at, &counts) {
            return;
        }
    }
}

/// Copies `inner.len` by `second.len` units; `inner` is contiguous in the output.
fn copy_plane<const N: usize>(inner: &Axis, second: &Axis, staged: &[[u8; N]], out: &mut [[u8; N]]) {
    let line = if inner.staged > 1 { (LINE_BYTES / N).max(1) } else { inner.len };
    for start in (0..inner.len).step_by(line.max(1)) {
        let len = line.min(inner.len - start);
        for j in 0..second.len {
            let from = j * second.staged + start * inner.staged;
            let to = j * second.out + start;
            let span = (len - 1) * inner.staged + 1;
            let (Some(row), Some(from)) = (out.get_mut(to..to + len), staged.get(from..from + span)) else { return };
            match (inner.staged, from.first()) {
                (0, Some(unit)) => row.fill(*unit),
                (1, _) => row.copy_from_slice(from),
                (step, _) => {
                    for (to, from) in row.iter_mut().zip(from.iter().step_by(step)) {
                        *to = *from;
                    }
                }
            }
        }
    }
}
