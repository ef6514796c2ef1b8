//! What `--stats` shows of a tensor: extremes, mean, deviation, zeros, NaN, infinities.
//!
//! Complex elements count by their magnitude, quantized ones as their stored integers, booleans as 0 and 1.

use std::ops::{ControlFlow, Range};

use super::Elements;
use super::gather::{Blocks, part_len};
use super::number::{Number, ToF64, has_numbers, integers, is_wide_integer};
use super::parts::{GO, PART_ELEMENTS, Sum, in_order, larger, reduce, smaller};
use crate::dtype::{Class, DType, Known};
use crate::error::Result;
use crate::limits::Limits;
use crate::progress::Progress;

/// The numbers of one tensor. NaN and infinities are counted, and left out of everything else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stats {
    /// Elements in all.
    pub count: u64,
    /// The smallest finite element: an integer where the dtype is one, `Float` otherwise. `None` when there is none.
    pub min: Option<Number>,
    /// The largest finite element.
    pub max: Option<Number>,
    /// The mean of the finite elements.
    pub mean: Option<f64>,
    /// Their sample standard deviation (divided by n - 1, as `torch.std` does); `None` for fewer than two.
    pub std: Option<f64>,
    /// Elements equal to zero, negative zero too.
    pub zeros: u64,
    /// Elements that are not a number.
    pub nan: u64,
    /// Infinite elements of either sign.
    pub inf: u64,
}

/// The numbers of a tensor; `None` for types without arithmetic (packed bits, types that are only carried).
///
/// Large tensors are shared out to rayon's threads; the result is the same for any number of them. Errors as
/// [`Elements::validate`] and the source.
pub(crate) fn stats(elements: &Elements, limits: &Limits, progress: &dyn Progress) -> Result<Option<Stats>> {
    let extent = elements.validate(limits)?;
    let (DType::Known(dtype), Some(class)) = (&elements.dtype, elements.dtype.class()) else { return Ok(None) };
    let dtype = *dtype;
    if !has_numbers(dtype) {
        return Ok(None);
    }
    let mut all = Moments::default();
    let len = part_len(&elements.shape, PART_ELEMENTS);
    let work = |part: Range<u64>| -> Result<Moments> {
        let moments = part_moments(elements, limits, dtype, part.clone())?;
        progress.advance((part.end - part.start) * extent.element_size as u64);
        Ok(moments)
    };
    in_order(0..extent.elements, len, work, |part| {
        all.merge(&part);
        ControlFlow::Continue(())
    })?;
    Ok(Some(all.finish(extent.elements, class)))
}

fn part_moments(elements: &Elements, limits: &Limits, dtype: Known, part: Range<u64>) -> Result<Moments> {
    let mut blocks = Blocks::in_range(elements, limits, part)?;
    let convert = ToF64::new(dtype);
    let width = convert.values_per_element();
    let size = elements.dtype.size().unwrap_or(1) as usize;
    let mut moments = Moments::default();
    let mut values = vec![0.0; GO * width];
    let mut filled = 0;
    loop {
        let block = blocks.block()?;
        if block.is_empty() {
            moments.absorb(values.split_at_mut(filled * width).0, width);
            return Ok(moments);
        }
        // always the same groups, however the blocks come
        let take = (block.len() / size).min(GO - filled);
        let group = block.split_at(take * size).0;
        convert.convert(group, values.split_at_mut(filled * width).1);
        if is_wide_integer(dtype) {
            moments.absorb_integers(integers(dtype, group));
        }
        filled += take;
        if filled == GO {
            moments.absorb(&mut values, width);
            filled = 0;
        }
        blocks.consume(take * size);
    }
}

#[derive(Debug, Clone, Default)]
struct Moments {
    finite: u64,
    zeros: u64,
    nan: u64,
    inf: u64,
    extremes: Option<(f64, f64)>,
    sum: Sum,
    /// Sum of the squared distances from the mean.
    squares: f64,
    /// Exact smallest, largest and sum of 64-bit integers.
    integers: Option<(i128, i128, i128)>,
}

impl Moments {
    /// Adds a group of values; of pairs, when `width` is 2, their magnitudes.
    fn absorb(&mut self, values: &mut [f64], width: usize) {
        let mut magnitudes = [0.0; GO];
        let mut values = values;
        if width == 2 {
            let (pairs, _) = values.as_chunks::<2>();
            magnitudes.iter_mut().zip(pairs).for_each(|(out, [re, im])| *out = re.hypot(*im));
            values = magnitudes.split_at_mut(pairs.len()).0;
        }
        let odd = values.iter().map(|x| u64::from(!x.is_finite())).sum::<u64>();
        if odd > 0 {
            let nan: u64 = values.iter().map(|x| u64::from(x.is_nan())).sum();
            self.nan += nan;
            self.inf += odd - nan;
            let mut kept = 0;
            for i in 0..values.len() {
                if values.get(i).is_some_and(|x| x.is_finite()) {
                    values.swap(kept, i);
                    kept += 1;
                }
            }
            values = values.split_at_mut(kept).0;
        }
        let Some(first) = values.first().copied() else { return };

        let mut sum = Sum::default();
        sum.add_lanes(reduce(values, values, 0.0, |sum, x, _| sum + x));
        let mean = sum.value() / values.len() as f64;
        let squares = reduce(values, values, 0.0, |sum, x, _| sum + (x - mean) * (x - mean));
        let low = reduce(values, values, first, |low, x, _| smaller(low, x));
        let high = reduce(values, values, first, |high, x, _| larger(high, x));
        self.merge(&Moments {
            finite: values.len() as u64,
            zeros: values.iter().map(|x| u64::from(*x == 0.0)).sum(),
            extremes: Some((low.into_iter().fold(first, smaller), high.into_iter().fold(first, larger))),
            sum,
            squares: squares.iter().sum(),
            ..Moments::default()
        });
    }

    fn absorb_integers(&mut self, integers: impl Iterator<Item = i128>) {
        for n in integers {
            let (low, high, sum) = self.integers.unwrap_or((n, n, 0));
            self.integers = Some((low.min(n), high.max(n), sum + n));
        }
    }

    /// Chan's formula for the squares; sums and extremes as they are.
    fn merge(&mut self, other: &Moments) {
        if self.finite > 0 && other.finite > 0 {
            let (n, m) = (self.finite as f64, other.finite as f64);
            let apart = other.sum.value() / m - self.sum.value() / n;
            self.squares += other.squares + apart * apart * (n / (n + m)) * m;
        } else {
            self.squares += other.squares;
        }
        self.finite += other.finite;
        self.zeros += other.zeros;
        self.nan += other.nan;
        self.inf += other.inf;
        self.sum.merge(other.sum);
        self.extremes = match (self.extremes, other.extremes) {
            (Some((low, high)), Some((l, h))) => Some((smaller(low, l), larger(high, h))),
            (one, other) => one.or(other),
        };
        self.integers = match (self.integers, other.integers) {
            (Some((low, high, sum)), Some((l, h, s))) => Some((low.min(l), high.max(h), sum + s)),
            (one, other) => one.or(other),
        };
    }

    fn finish(&self, count: u64, class: Class) -> Stats {
        let number = |x: f64| match class {
            Class::Float | Class::Complex => Number::Float(x),
            Class::Bool => Number::Bool(x != 0.0),
            _ => Number::Signed(whole(x)),
        };
        let wide = |n: i128| match i64::try_from(n) {
            Ok(n) => Number::Signed(n),
            Err(_) => Number::Unsigned(u64::try_from(n).unwrap_or(u64::MAX)),
        };
        let (min, max, total) = match (self.integers, self.extremes) {
            (Some((low, high, sum)), _) => (Some(wide(low)), Some(wide(high)), sum as f64),
            (None, Some((low, high))) => (Some(number(low)), Some(number(high)), self.sum.value()),
            (None, None) => (None, None, 0.0),
        };
        let n = self.finite as f64;
        Stats {
            count,
            min,
            max,
            mean: (self.finite > 0).then(|| total / n),
            std: (self.finite > 1).then(|| (self.squares / (n - 1.0)).sqrt()),
            zeros: self.zeros,
            nan: self.nan,
            inf: self.inf,
        }
    }
}

/// An integer of at most 32 bits, come back from its `f64`.
#[allow(clippy::cast_possible_truncation)]
fn whole(x: f64) -> i64 {
    x as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::tensor;
    use super::*;
    use crate::progress::Silent;

    fn of(elements: &Elements) -> Stats {
        stats(elements, &Limits::default(), &Silent).unwrap().unwrap()
    }

    fn floats(values: &[f32]) -> Elements {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensor(Known::Float32, &[values.len() as u64], bytes)
    }

    #[test]
    fn odd_values_are_only_counted() {
        let s = of(&floats(&[f32::NAN, -0.0, 3.0, f32::INFINITY, 0.0, -1.5, f32::NEG_INFINITY]));
        assert_eq!((s.count, s.zeros, s.nan, s.inf), (7, 2, 1, 2));
        assert_eq!((s.min, s.max), (Some(Number::Float(-1.5)), Some(Number::Float(3.0))));
        assert_eq!(s.mean, Some(0.375));
        // torch.tensor([-0., 3., 0., -1.5], dtype=torch.float64).std()
        assert!((s.std.unwrap() - 1.887458608817687).abs() < 1e-15);
        let s = of(&floats(&[f32::NAN]));
        assert_eq!((s.min, s.mean, s.std, s.nan), (None, None, None, 1));
        assert_eq!(of(&floats(&[2.0])).std, None);
    }

    #[test]
    fn wide_integers_are_exact() {
        let big = i64::MAX;
        let bytes = [big, big - 1, -big].iter().flat_map(|x| x.to_le_bytes()).collect();
        let s = of(&tensor(Known::Int64, &[3], bytes));
        assert_eq!((s.min, s.max), (Some(Number::Signed(-big)), Some(Number::Signed(big))));
        assert_eq!(s.mean, Some((big - 1) as f64 / 3.0));
        let bytes = [u64::MAX, 0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let s = of(&tensor(Known::UInt64, &[2], bytes));
        assert_eq!((s.min, s.max, s.zeros), (Some(Number::Signed(0)), Some(Number::Unsigned(u64::MAX)), 1));
    }

    #[test]
    fn other_classes() {
        let s = of(&tensor(Known::Bool, &[4], vec![0, 1, 2, 0]));
        assert_eq!((s.min, s.max, s.mean), (Some(Number::Bool(false)), Some(Number::Bool(true)), Some(0.5)));
        let bytes = [3.0_f32, 4.0, 0.0, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let s = of(&tensor(Known::Complex64, &[2], bytes));
        assert_eq!((s.max, s.mean, s.zeros), (Some(Number::Float(5.0)), Some(2.5), 1));
        let bits = tensor(Known::Bits8, &[2], vec![1, 2]);
        assert_eq!(stats(&bits, &Limits::default(), &Silent).unwrap(), None);
    }

    // 1e9 would take long: a large mean and a small spread show the same losses
    #[test]
    fn large_offsets_do_not_drown_the_spread() {
        let values: Vec<f32> = (0..3_000_000_u32).map(|i| 1e6 + f32::from(u8::try_from(i % 3).unwrap())).collect();
        let s = of(&floats(&values));
        assert!((s.mean.unwrap() - 1_000_001.0).abs() < 1e-9);
        let want = (2.0 / 3.0 * 3e6 / (3e6 - 1.0_f64)).sqrt();
        assert!((s.std.unwrap() / want - 1.0).abs() < 1e-12);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn as_in_two_passes(values in prop::collection::vec(prop_oneof![9 => -1e3..1e3_f32, 1 => any::<f32>()], 0..5000)) {
            let s = of(&floats(&values));
            let finite: Vec<f64> = values.iter().filter(|x| x.is_finite()).map(|x| f64::from(*x)).collect();
            let n = finite.len() as f64;
            let mean = finite.iter().sum::<f64>() / n;
            let std = (finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
            let scale = finite.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
            prop_assert_eq!(s.nan + s.inf, (values.len() - finite.len()) as u64);
            prop_assert_eq!(s.min, finite.iter().copied().reduce(f64::min).map(Number::Float));
            prop_assert_eq!(s.max, finite.iter().copied().reduce(f64::max).map(Number::Float));
            prop_assert_eq!(s.mean.is_some(), !finite.is_empty());
            prop_assert!(s.mean.is_none_or(|m| (m - mean).abs() <= 1e-12 * scale));
            prop_assert!(s.std.is_none_or(|d| (d - std).abs() <= 1e-10 * std));
        }
    }
}
