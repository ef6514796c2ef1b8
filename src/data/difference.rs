//! The arithmetic of a comparison: pairs of elements as numbers, what is counted and summed up about them.

use super::comparison::{Comparison, Options};
use super::number::{ToF64, has_numbers, integers, is_wide_integer};
use super::parts::{GO, Sum, larger, reduce};
use crate::dtype::{Class, DType, Known};
use crate::error::{Error, Result};

/// In which numbers two dtypes meet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Arithmetic {
    /// None: types that are only carried.
    Bytes,
    /// `float64`, which holds all elements of both.
    Real(Known, Known),
    /// Two `float64` for each element.
    Complex(Known, Known),
    /// Integers that may have more than 53 bits.
    Integer(Known, Known),
}

impl Arithmetic {
    pub(super) fn of(a: &DType, b: &DType) -> Result<Self> {
        let (Some(x), Some(y)) = (number_type(a), number_type(b)) else {
            let differ = || Error::unsupported(format!("{a} and {b} cannot be compared"));
            return (a == b).then_some(Arithmetic::Bytes).ok_or_else(differ);
        };
        let classes = [a, b].map(|dtype| dtype.class());
        let floating = [a, b].map(DType::is_floating);
        Ok(if classes.contains(&Some(Class::Complex)) {
            Arithmetic::Complex(x, y)
        } else if floating == [false; 2] && (is_wide_integer(x) || is_wide_integer(y)) {
            Arithmetic::Integer(x, y)
        } else {
            Arithmetic::Real(x, y)
        })
    }
}

/// The dtype, if its elements are numbers.
fn number_type(dtype: &DType) -> Option<Known> {
    match dtype {
        DType::Known(known) => has_numbers(*known).then_some(*known),
        DType::Other { .. } => None,
    }
}

/// Elements on their way into a [`Difference`]: always the same groups, however the blocks come.
pub(super) struct Group {
    arithmetic: Arithmetic,
    convert: Option<[ToF64; 2]>,
    /// Values of `a` and `b`, one or two an element, and for integers their exact distances.
    a: Vec<f64>,
    b: Vec<f64>,
    distance: Vec<f64>,
    filled: usize,
    /// Position of the first element of the group.
    start: u64,
}

impl Group {
    pub(super) fn new(arithmetic: Arithmetic, start: u64) -> Self {
        let (convert, width) = match arithmetic {
            Arithmetic::Bytes => (None, 0),
            Arithmetic::Real(x, y) => (Some([ToF64::new(x), ToF64::new(y)]), 1),
            Arithmetic::Complex(x, y) => (Some([ToF64::new(x), ToF64::new(y)]), 2),
            Arithmetic::Integer(..) => (None, 1),
        };
        let values = || vec![0.0; GO * width];
        Group { arithmetic, convert, a: values(), b: values(), distance: values(), filled: 0, start }
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled == GO
    }

    /// Adds `count` elements, for which there is room.
    pub(super) fn add(&mut self, a: &[u8], b: &[u8], count: usize) {
        let width = self.a.len() / GO;
        let (out_a, out_b) = (self.a.split_at_mut(self.filled * width).1, self.b.split_at_mut(self.filled * width).1);
        match (&self.convert, self.arithmetic) {
            (Some([to_a, to_b]), _) => {
                convert(to_a, a, out_a, width);
                convert(to_b, b, out_b, width);
            }
            (None, Arithmetic::Integer(x, y)) => {
                ToF64::new(x).convert(a, out_a);
                ToF64::new(y).convert(b, out_b);
                let distances = self.distance.split_at_mut(self.filled).1;
                for ((x, y), distance) in integers(x, a).zip(integers(y, b)).zip(distances) {
                    let exact = (x - y).unsigned_abs();
                    // what fits 64 bits is much quicker to convert
                    *distance = u64::try_from(exact).map_or(exact as f64, |short| short as f64);
                }
            }
            (None, _) => {}
        }
        self.filled += count;
    }

    /// Moves the group into `found`.
    pub(super) fn flush(&mut self, found: &mut Difference, options: &Options) {
        let count = std::mem::take(&mut self.filled);
        let start = self.start;
        self.start += count as u64;
        let width = self.a.len() / GO;
        let (a, b) = (self.a.split_at_mut(count * width).0, self.b.split_at_mut(count * width).0);
        match self.arithmetic {
            Arithmetic::Bytes => return,
            Arithmetic::Complex(..) => {
                for ((a, b), position) in a.as_chunks().0.iter().zip(b.as_chunks().0).zip(start..) {
                    found.add_one(*a, *b, position, options);
                }
                return;
            }
            Arithmetic::Real(..) => {
                found.pairs += count as u64;
                if !(surely_finite(a) && surely_finite(b)) {
                    found.take_odd_pairs(a, b, start, options);
                }
                for ((a, b), distance) in a.iter().zip(&*b).zip(&mut self.distance) {
                    *distance = (*a - *b).abs();
                }
            }
            Arithmetic::Integer(..) => found.pairs += count as u64,
        }
        found.add_finite(a, b, self.distance.split_at(count).0, start, options);
    }
}

fn convert(to: &ToF64, block: &[u8], out: &mut [f64], width: usize) {
    if to.values_per_element() == width {
        return to.convert(block, out);
    }
    // a real tensor beside a complex one
    let mut reals = [0.0; GO];
    to.convert(block, &mut reals);
    for (pair, re) in out.as_chunks_mut().0.iter_mut().zip(reals) {
        *pair = [re, 0.0];
    }
}

/// False when there may be something to look at more closely: a sum of squares is quicker than as many tests.
fn surely_finite(values: &[f64]) -> bool {
    reduce(values, values, 0.0, |sum, x, _| sum + x * x).iter().sum::<f64>().is_finite()
}

/// Counts and sums over some of the elements.
#[derive(Debug, Clone, Default)]
pub(super) struct Difference {
    /// Elements are told apart by their bytes, by [`Difference::count_bytes`] only.
    bits: bool,
    differing: u64,
    first: Option<u64>,
    /// Pairs without NaN.
    pairs: u64,
    /// Pairs that differ by a NaN.
    nan: u64,
    max_abs: f64,
    max_rel: f64,
    abs: Sum,
    dot: Sum,
    aa: Sum,
    bb: Sum,
}

impl Difference {
    pub(super) fn new(bits: bool) -> Self {
        Difference { bits, ..Difference::default() }
    }

    pub(super) fn differs(&self) -> bool {
        self.first.is_some()
    }

    /// Compares elements of `size` bytes each, the first at position `start`.
    pub(super) fn count_bytes(&mut self, a: &[u8], b: &[u8], size: usize, start: u64) {
        if a == b {
            return;
        }
        for ((a, b), position) in a.chunks_exact(size).zip(b.chunks_exact(size)).zip(start..) {
            if a != b {
                self.differing += 1;
                self.first.get_or_insert(position);
            }
        }
    }

    /// Deals with the pairs that are not finite, and leaves zeros in their places.
    fn take_odd_pairs(&mut self, a: &mut [f64], b: &mut [f64], start: u64, options: &Options) {
        for ((a, b), position) in a.iter_mut().zip(b).zip(start..) {
            if !(a.is_finite() && b.is_finite()) {
                self.add_one([*a, 0.0], [*b, 0.0], position, options);
                (*a, *b) = (0.0, 0.0);
                self.pairs -= 1;
            }
        }
    }

    /// Finite values, several abreast.
    fn add_finite(&mut self, a: &[f64], b: &[f64], distance: &[f64], start: u64, options: &Options) {
        self.abs.add_lanes(reduce(distance, b, 0.0, |sum, d, _| sum + d));
        self.dot.add_lanes(reduce(a, b, 0.0, |sum, a, b| sum + a * b));
        self.aa.add_lanes(reduce(a, a, 0.0, |sum, a, _| sum + a * a));
        self.bb.add_lanes(reduce(b, b, 0.0, |sum, b, _| sum + b * b));
        let max_abs = reduce(distance, b, 0.0, |max, d, _| larger(max, d));
        self.max_abs = max_abs.into_iter().fold(self.max_abs, larger);
        // divisions are slow, and few groups have a new maximum
        let max_rel = self.max_rel;
        if distance.iter().zip(b).map(|(d, b)| u64::from(*d > max_rel * b.abs())).sum::<u64>() > 0 {
            let max_rel = reduce(distance, b, max_rel, |max, d, b| larger(max, d / b.abs()));
            self.max_rel = max_rel.into_iter().fold(self.max_rel, larger);
        }
        if self.bits {
            return;
        }
        let (atol, rtol) = (options.atol, options.rtol);
        let differs = |(d, b): (&f64, &f64)| *d > atol + rtol * b.abs();
        let differing: u64 = distance.iter().zip(b).map(|pair| u64::from(differs(pair))).sum();
        self.differing += differing;
        if differing > 0 && self.first.is_none_or(|first| first > start) {
            let found = distance.iter().zip(b).zip(start..).find(|(pair, _)| differs(*pair));
            let found = found.map(|(_, position)| position);
            self.first = self.first.into_iter().chain(found).min();
        }
    }

    /// One pair of any values, real and imaginary part.
    fn add_one(&mut self, a: [f64; 2], b: [f64; 2], position: u64, options: &Options) {
        let nan = |[re, im]: [f64; 2]| re.is_nan() || im.is_nan();
        let finite = |[re, im]: [f64; 2]| re.is_finite() && im.is_finite();
        let length = |[re, im]: [f64; 2]| f64::hypot(re, im);
        let (nan, finite) = ([nan(a), nan(b)], finite(a) && finite(b));
        let differs = if nan.contains(&true) {
            let differs = nan != [true; 2] || !options.nan_equal;
            self.nan += u64::from(differs);
            differs
        } else {
            let distance = match (a == b, finite) {
                (true, _) => 0.0,
                (false, true) => length([a[0] - b[0], a[1] - b[1]]),
                (false, false) => f64::INFINITY,
            };
            self.pairs += 1;
            self.abs.add(distance);
            self.max_abs = larger(self.max_abs, distance);
            let relative = if distance.is_infinite() { distance } else { distance / length(b) };
            self.max_rel = larger(self.max_rel, relative);
            if finite {
                self.dot.add(a[0] * b[0] + a[1] * b[1]);
                self.aa.add(a[0] * a[0] + a[1] * a[1]);
                self.bb.add(b[0] * b[0] + b[1] * b[1]);
            }
            // an infinity is close to nothing but itself
            let allowed = if finite { options.atol + options.rtol * length(b) } else { 0.0 };
            distance > allowed
        };
        if differs && !self.bits {
            self.differing += 1;
            self.first.get_or_insert(position);
        }
    }

    pub(super) fn merge(&mut self, later: &Difference) {
        self.differing += later.differing;
        self.first = self.first.or(later.first);
        self.pairs += later.pairs;
        self.nan += later.nan;
        self.max_abs = larger(self.max_abs, later.max_abs);
        self.max_rel = larger(self.max_rel, later.max_rel);
        self.abs.merge(later.abs);
        self.dot.merge(later.dot);
        self.aa.merge(later.aa);
        self.bb.merge(later.bb);
    }

    pub(super) fn finish(&self, total: u64) -> Comparison {
        // a NaN is no small change: nothing that is summed up beside it says how large it is
        let number = |x: f64| match self.nan {
            0 => (self.pairs > 0).then_some(x),
            _ => Some(f64::NAN),
        };
        let lengths = self.aa.value().sqrt() * self.bb.value().sqrt();
        let cosine = self.dot.value() / lengths;
        Comparison {
            total,
            differing: self.differing,
            first_difference: self.first,
            max_abs: number(self.max_abs),
            mean_abs: number(self.abs.value() / self.pairs as f64),
            max_rel: number(self.max_rel),
            nan: self.nan,
            cosine: match self.nan {
                0 => (lengths > 0.0 && cosine.is_finite()).then(|| cosine.clamp(-1.0, 1.0)),
                _ => Some(f64::NAN),
            },
        }
    }
}
