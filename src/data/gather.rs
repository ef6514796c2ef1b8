//! The elements of a tensor as one row-major stream of little-endian blocks, whatever its strides.
//!
//! Contiguous tensors are read straight. Others are cut into boxes of some mebibytes of output (a range of one
//! dimension, all of the inner ones), and `tile` fills each box reading the storage in its own order.

use std::ops::Range;

use super::tile::{self, Dim};
use super::{Elements, order};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Bytes of one block, about: always whole elements. It stays in a core's cache on its way through.
const BLOCK_BYTES: usize = 256 << 10;

/// Bytes of one box of a strided tensor; shared out among the threads that may be gathering at once.
const BOX_BYTES: usize = 32 << 20;
const MIN_BOX_BYTES: usize = 2 << 20;
const ALL_BOXES_BYTES: usize = 64 << 20;

/// The dimensions that matter: those of one element dropped, neighbours that step alike joined.
pub(super) fn coalesce(shape: &[u64], stride: &[u64]) -> Vec<Dim> {
    let mut dims: Vec<Dim> = Vec::new();
    for (&len, &stride) in shape.iter().zip(stride).filter(|(len, _)| **len != 1) {
        match dims.last_mut() {
            Some(outer) if stride.checked_mul(len) == Some(outer.stride) => {
                *outer = Dim { len: outer.len.saturating_mul(len), stride };
            }
            _ => dims.push(Dim { len, stride }),
        }
    }
    dims
}

/// Streams all elements in row-major order, contiguous, little-endian, `conj` and `neg` applied, in blocks of about a
/// quarter of a mebibyte (whole elements). Memory stays bounded: some 35 MiB for strided tensors, a block for others.
///
/// Errors are those of [`Elements::validate`], of the source, and of `f`.
pub fn for_each_block<E: From<Error>>(
    elements: &Elements,
    limits: &Limits,
    f: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    drain(Blocks::new(elements, limits)?, f)
}

/// The same for the elements at the positions `range` of the row-major sequence, so that several threads can share one
/// tensor. [`part_len`] says where cutting costs least.
pub(crate) fn for_each_block_in(
    elements: &Elements,
    limits: &Limits,
    range: Range<u64>,
    f: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    drain(Blocks::in_range(elements, limits, range)?, f)
}

fn drain<E: From<Error>>(mut blocks: Blocks<'_>, f: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    loop {
        let block = blocks.block()?;
        if block.is_empty() {
            return Ok(());
        }
        let len = block.len();
        f(block)?;
        blocks.consume(len);
    }
}

/// A number of elements, at least 1 and about `target`, in whose multiples a tensor of `shape` is best cut: whole rows,
/// planes and so on where they fit. Depends on nothing else, so that results by parts are the same everywhere.
pub(crate) fn part_len(shape: &[u64], target: u64) -> u64 {
    let mut inner = 1_u64;
    for dim in shape.iter().rev() {
        match inner.checked_mul(*dim) {
            Some(more) if more <= target => inner = more,
            _ => break,
        }
    }
    let inner = inner.max(1);
    (target / inner * inner).max(inner)
}

/// A pulled stream of blocks, for who reads two tensors in step: like [`std::io::BufRead`], `block` shows what comes
/// next and `consume` goes on.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    elements: &'a Elements,
    dims: Vec<Dim>,
    size: usize,
    /// Positions in the row-major sequence that are not in `buffer` yet.
    left: Range<u64>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are consumed, and that are in their final form.
    consumed: usize,
    finished: usize,
    staging: Vec<u8>,
    box_bytes: usize,
}

impl<'a> Blocks<'a> {
    /// All elements. Errors as [`Elements::validate`].
    pub(crate) fn new(elements: &'a Elements, limits: &Limits) -> Result<Self> {
        Self::in_range(elements, limits, 0..u64::MAX)
    }

    /// The elements at the positions `range` of the row-major sequence, as far as there are any.
    pub(crate) fn in_range(elements: &'a Elements, limits: &Limits, range: Range<u64>) -> Result<Self> {
        let extent = elements.validate(limits)?;
        let end = range.end.min(extent.elements);
        elements.source.announce(extent.span.clone());
        let dims = if extent.elements == 0 { Vec::new() } else { coalesce(&elements.shape, &elements.stride) };
        let contiguous = matches!(dims.as_slice(), [] | [Dim { stride: 1, .. }]);
        let box_bytes = if contiguous || extent.bytes <= MIN_BOX_BYTES as u64 { MIN_BOX_BYTES } else { box_bytes() };
        Ok(Blocks {
            elements,
            dims,
            size: extent.element_size,
            left: range.start.min(end)..end,
            buffer: Vec::new(),
            consumed: 0,
            finished: 0,
            staging: Vec::new(),
            box_bytes,
        })
    }

    /// Leaves room for another stream in the same thread.
    pub(super) fn one_of(mut self, streams: usize) -> Self {
        self.box_bytes = (self.box_bytes / streams.max(1)).max(MIN_BOX_BYTES);
        self
    }

    /// The next elements, at least one and a block at most; empty at the end.
    pub(crate) fn block(&mut self) -> Result<&[u8]> {
        if self.consumed == self.finished {
            if self.finished == self.buffer.len() {
                self.refill()?;
            }
            let most = (BLOCK_BYTES / self.size).max(1) * self.size;
            let end = self.buffer.len().min(self.finished + most);
            if let Some(block) = self.buffer.get_mut(self.finished..end) {
                order::apply(self.elements, block);
            }
            self.finished = end;
        }
        Ok(self.buffer.get(self.consumed..self.finished).unwrap_or_default())
    }

    /// Goes on by `bytes`, a multiple of the element size and no more than the last block had.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.consumed = self.consumed.saturating_add(bytes).min(self.finished);
    }

    fn refill(&mut self) -> Result<()> {
        (self.consumed, self.finished) = (0, 0);
        let wanted = self.left.end - self.left.start;
        if wanted == 0 {
            self.buffer.clear();
            return Ok(());
        }
        let count = match self.dims.as_slice() {
            [] | [Dim { stride: 1, .. }] => {
                let count = wanted.min((BLOCK_BYTES / self.size).max(1) as u64);
                resize(&mut self.buffer, count, self.size)?;
                let first = (self.elements.offset + self.left.start) * self.size as u64;
                self.elements.source.read_at(first, &mut self.buffer)?;
                count
            }
            dims => {
                let target = (self.box_bytes / self.size).max(1) as u64;
                let (first, shape) = next_box(dims, self.left.clone(), target);
                let count = shape.iter().map(|dim| dim.len).product();
                resize(&mut self.buffer, count, self.size)?;
                let first = self.elements.offset + first;
                let source = self.elements.source.as_ref();
                tile::read_box(source, first, &shape, self.size, &mut self.buffer, &mut self.staging)?;
                count
            }
        };
        self.left.start += count;
        Ok(())
    }
}

/// What one gatherer may use when every core runs one.
fn box_bytes() -> usize {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    (ALL_BOXES_BYTES / threads).clamp(MIN_BOX_BYTES, BOX_BYTES)
}

fn resize(buffer: &mut Vec<u8>, count: u64, size: usize) -> Result<()> {
    let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
    buffer.resize(bytes.ok_or_else(|| Error::limit("a block does not fit in memory"))?, 0);
    Ok(())
}

/// The largest box of at most `target` elements (at least one) that starts at position `left.start` and ends by
/// `left.end`: its first element, counted from the tensor's first in the storage, and its dimensions.
fn next_box(dims: &[Dim], left: Range<u64>, target: u64) -> (u64, Vec<Dim>) {
    let last = left.end - left.start <= target;
    let budget = if last { left.end - left.start } else { target };
    let (mut position, mut first) = (left.start, 0);
    let mut inner = 1_u64;
    let mut shape: Vec<Dim> = Vec::new();
    let mut growing = true;
    for dim in dims.iter().rev() {
        let at = position % dim.len;
        position /= dim.len;
        first += at * dim.stride;
        if growing {
            let (rest, most) = (dim.len - at, budget / inner);
            // several boxes of about the same size rather than full ones and a crumb
            let len = if last { rest.min(most) } else { rest.div_ceil(rest.div_ceil(most)) };
            shape.push(Dim { len, stride: dim.stride });
            growing = len == dim.len;
            inner *= len;
        }
    }
    shape.reverse();
    (first, shape)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::tests::tensor;
    use super::*;
    use crate::dtype::{ByteOrder, DType, Known};
    use crate::source::MemorySource;

    fn gather(elements: &Elements, range: Range<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        for_each_block_in(elements, &Limits::default(), range, &mut |block| {
            out.extend_from_slice(block);
            Ok(())
        })
        .unwrap();
        out
    }

    fn pulled(elements: &Elements, range: Range<u64>, box_bytes: usize) -> Vec<u8> {
        let mut blocks = Blocks::in_range(elements, &Limits::default(), range).unwrap();
        blocks.box_bytes = box_bytes;
        let mut out = Vec::new();
        drain::<Error>(blocks, &mut |block| {
            out.extend_from_slice(block);
            Ok(())
        })
        .unwrap();
        out
    }

    /// One element at a time, as numpy's strides are defined.
    fn naive(elements: &Elements, bytes: &[u8]) -> Vec<u8> {
        let size = elements.dtype.size().unwrap() as usize;
        let total: u64 = elements.shape.iter().product();
        let mut out = Vec::new();
        for position in 0..total {
            let steps = elements.index_of(position).iter().zip(&elements.stride).map(|(i, s)| i * s).sum::<u64>();
            let at = usize::try_from(elements.offset + steps).unwrap() * size;
            let mut element = bytes[at..at + size].to_vec();
            if elements.byte_order == ByteOrder::Big {
                element.chunks_mut(elements.dtype.swap_unit()).for_each(<[u8]>::reverse);
            }
            out.extend(element);
        }
        out
    }

    fn dtypes() -> impl Strategy<Value = DType> {
        prop_oneof![
            Just(Known::UInt8.into()),
            Just(Known::Float16.into()),
            Just(Known::Float32.into()),
            Just(Known::Complex64.into()),
            Just(Known::Complex128.into()),
            Just(DType::from_numpy("U3")),
            Just(DType::from_numpy("V7")),
        ]
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    /// Any strides at all: permuted, expanded, overlapping, with gaps.
    fn strided() -> impl Strategy<Value = (Elements, Vec<u8>)> {
        let dims =
            prop::collection::vec((1_u64..14, prop_oneof![3 => 0_u64..40, 1 => Just(1), 1 => 0_u64..3000]), 0..5);
        (dtypes(), dims, 0_u64..9, any::<bool>()).prop_map(|(dtype, dims, offset, big)| {
            let furthest: u64 = offset + dims.iter().map(|(len, stride)| (len - 1) * stride).sum::<u64>();
            let bytes = noise(usize::try_from(furthest + 1).unwrap() * dtype.size().unwrap() as usize);
            let (shape, stride) = dims.into_iter().unzip();
            let byte_order = if big { ByteOrder::Big } else { ByteOrder::Little };
            let source = Arc::new(MemorySource::new(bytes.clone()));
            (Elements { source, dtype, shape, stride, offset, byte_order, conj: false, neg: false }, bytes)
        })
    }

    /// A contiguous tensor with its dimensions in another order, larger than a staging buffer.
    fn permuted() -> impl Strategy<Value = (Elements, Vec<u8>)> {
        let shapes = prop_oneof![
            Just(vec![700_u64, 900]),
            Just(vec![3, 200_000]),
            Just(vec![200_000, 3]),
            Just(vec![2, 300, 400]),
            Just(vec![40, 3, 3, 500]),
            Just(vec![5, 64, 33, 31]),
        ];
        (shapes, dtypes()).prop_flat_map(|(shape, dtype)| {
            let order: Vec<usize> = (0..shape.len()).collect();
            (Just(shape), Just(dtype), Just(order).prop_shuffle()).prop_map(|(shape, dtype, order)| {
                let total: u64 = shape.iter().product();
                let bytes = noise(usize::try_from(total).unwrap() * dtype.size().unwrap() as usize);
                let plain = tensor(Known::UInt8, &shape, bytes.clone());
                let shape = order.iter().map(|&i| plain.shape[i]).collect();
                let stride = order.iter().map(|&i| plain.stride[i]).collect();
                (Elements { dtype, shape, stride, ..plain }, bytes)
            })
        })
    }

    proptest! {
        #[test]
        fn any_strides_as_one_by_one((elements, bytes) in strided(), cut in 0_u64..=100, box_bytes in 1_usize..4000) {
            let want = naive(&elements, &bytes);
            prop_assert_eq!(&gather(&elements, 0..u64::MAX), &want);
            let size = elements.dtype.size().unwrap() as usize;
            let middle = (want.len() / size) as u64 * cut / 100;
            let mut parts = pulled(&elements, 0..middle, box_bytes);
            prop_assert_eq!(parts.len() as u64, middle * size as u64);
            parts.extend(pulled(&elements, middle..u64::MAX, box_bytes));
            prop_assert_eq!(&parts, &want);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10))]
        #[test]
        fn large_permutations((elements, bytes) in permuted(), box_bytes in prop_oneof![Just(16_usize << 20), Just(300_000)]) {
            prop_assert!(pulled(&elements, 0..u64::MAX, box_bytes) == naive(&elements, &bytes));
        }
    }

    #[test]
    fn parts_are_whole_rows() {
        assert_eq!(part_len(&[1000, 300, 7], 10_000), 8400);
        assert_eq!(part_len(&[1000, 300, 7], 100), 98);
        assert_eq!(part_len(&[3], 100), 99);
        assert_eq!(part_len(&[0, 5], 100), 100);
        assert_eq!(part_len(&[u64::MAX, u64::MAX], 100), 100);
    }

    #[test]
    fn blocks_are_small_and_whole() {
        let t = tensor(Known::Float32, &[1 << 10, 1 << 10], vec![7; 4 << 20]);
        let transposed = Elements { stride: vec![1, 1 << 10], ..t.clone() };
        for elements in [t, transposed] {
            let mut blocks = 0;
            for_each_block::<Error>(&elements, &Limits::default(), &mut |block| {
                assert!(block.len() <= BLOCK_BYTES && block.len() % 4 == 0);
                blocks += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(blocks, (4 << 20) / BLOCK_BYTES);
        }
    }
}
