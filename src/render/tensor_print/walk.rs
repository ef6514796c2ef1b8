//! Which elements are printed, and reading just those.
//!
//! A tensor of more than 1000 elements shows three at both ends of every dimension that has more than six
//! (`get_summarized_data` in `torch/_tensor_str.py`). They are read run by run; nothing else of the storage is.

use std::io;

use crate::data::Elements;
use crate::data::gather::for_each_block;
use crate::limits::Limits;

/// Takes an element's index among those that are printed, and its bytes (little-endian).
pub(super) type Visit<'a> = dyn FnMut(&[u64], &[u8]) -> io::Result<()> + 'a;

/// Elements at either end of a dimension that is cut.
pub(super) const EDGE: u64 = 3;
/// Tensors with more elements than this are cut.
const THRESHOLD: u64 = 1000;

/// The shape of what is printed.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// For each dimension, elements printed and elements left out after the first [`EDGE`].
    dims: Vec<(u64, u64)>,
}

impl Shown {
    /// Of a tensor of `shape`, all of it when `full`.
    pub(super) fn new(shape: &[u64], full: bool) -> Self {
        let elements = shape.iter().fold(1_u64, |n, dim| n.saturating_mul(*dim));
        let cut = !full && elements > THRESHOLD;
        let dims = shape.iter().map(|&dim| if cut && dim > 2 * EDGE { (2 * EDGE, dim - 2 * EDGE) } else { (dim, 0) });
        Shown { dims: dims.collect() }
    }

    /// Dimensions.
    pub(super) fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Whether the element printed at `index` of dimension `dim` is the first one after those left out.
    pub(super) fn follows_gap(&self, dim: usize, index: u64) -> bool {
        index == EDGE && self.is_cut(dim)
    }

    /// Whether some of dimension `dim` is left out.
    pub(super) fn is_cut(&self, dim: usize) -> bool {
        self.dims.get(dim).is_some_and(|(_, left_out)| *left_out > 0)
    }

    /// Where in the tensor's dimension `dim` the printed `index` lies.
    pub(super) fn place(&self, dim: usize, index: u64) -> u64 {
        match self.dims.get(dim) {
            Some((_, left_out)) if index >= EDGE => index + left_out,
            _ => index,
        }
    }

    /// The next index in row-major order; the dimension that has moved on, `None` at the end.
    pub(super) fn advance(&self, index: &mut [u64], dims: usize) -> Option<usize> {
        for dim in (0..dims).rev() {
            let (Some(at), Some((extent, _))) = (index.get_mut(dim), self.dims.get(dim)) else { return None };
            *at += 1;
            if *at < *extent {
                return Some(dim);
            }
            *at = 0;
        }
        None
    }

    /// Reads what is printed in row-major order.
    pub(super) fn for_each(&self, elements: &Elements, limits: &Limits, f: &mut Visit<'_>) -> io::Result<()> {
        let mut index = vec![0; self.rank()];
        // dimensions before the last cut one are walked index by index; that one gives two runs, the others all
        let outer = (0..self.rank()).rev().find(|dim| self.is_cut(*dim));
        let Some(cut) = outer else { return self.run(elements, limits, &mut index, f) };
        loop {
            let mut part = elements.clone();
            for (dim, at) in index.iter().enumerate().take(cut) {
                part = part.slice(dim, self.place(dim, *at), 1, 1)?;
            }
            for first in [0, self.place(cut, EDGE)] {
                let part = part.slice(cut, first, EDGE, 1)?;
                self.run(&part, limits, &mut index, f)?;
            }
            // a run leaves the index at the next element, which is zero from the cut dimension on
            if index.iter().all(|at| *at == 0) {
                return Ok(());
            }
        }
    }

    fn run(&self, part: &Elements, limits: &Limits, index: &mut [u64], f: &mut Visit<'_>) -> io::Result<()> {
        let size = part.validate(limits)?.element_size;
        for_each_block(part, limits, &mut |block| {
            for element in block.chunks_exact(size) {
                f(index, element)?;
                self.advance(index, self.rank());
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::tensor;
    use crate::dtype::Known;

    #[test]
    fn only_the_edges_are_read() {
        let t = tensor(Known::Int16, &[8, 2, 70], (0..1120_i16).flat_map(i16::to_le_bytes).collect());
        let shown = Shown::new(&t.shape, false);
        let mut seen = Vec::new();
        shown
            .for_each(&t, &Limits::default(), &mut |index, bytes| {
                let place: Vec<u64> = index.iter().enumerate().map(|(dim, at)| shown.place(dim, *at)).collect();
                let value = u64::from(u16::from_le_bytes(bytes.try_into().unwrap()));
                assert_eq!(value, place[0] * 140 + place[1] * 70 + place[2]);
                seen.push(value);
                Ok(())
            })
            .unwrap();
        assert_eq!(seen.len(), 6 * 2 * 6);
        assert!(seen.is_sorted());
    }

    #[test]
    fn small_tensors_are_whole() {
        let shown = Shown::new(&[10, 100], false);
        assert!(!shown.is_cut(0) && !shown.is_cut(1));
        assert!(Shown::new(&[1001], false).is_cut(0));
        assert!(!Shown::new(&[1001], true).is_cut(0));
    }
}
