//! The arithmetic of a comparison: pairs of elements as numbers, what is counted and summed up about them.

use super::compare::{Comparison, Options};
use super::number::{ToF64, decode, has_numbers, integer, is_wide_integer};
use super::parts::{GO, LANES, Sum, larger};
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
                let integers = |known, block: &[u8]| -> Vec<i128> {
                    let size = (block.len() / count.max(1)).max(1);
                    block.chunks_exact(size).filter_map(|element| integer(decode(known, element)?)).collect()
                };
                let distances = self.distance.split_at_mut(self.filled).1;
                let out = out_a.iter_mut().zip(out_b).zip(distances);
                for ((x, y), ((a, b), distance)) in integers(x, a).into_iter().zip(integers(y, b)).zip(out) {
                    (*a, *b, *distance) = (x as f64, y as f64, (x - y).unsigned_abs() as f64);
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
            Arithmetic::Real(..) if !(all_finite(a) && all_finite(b)) => {
                for ((a, b), position) in a.iter().zip(b).zip(start..) {
                    found.add_one([*a, 0.0], [*b, 0.0], position, options);
                }
                return;
            }
            Arithmetic::Real(..) => {
                for ((a, b), distance) in a.iter().zip(b).zip(&mut self.distance) {
                    *distance = (*a - *b).abs();
                }
            }
            Arithmetic::Integer(..) => {}
        }
        // zeros up to a full row of lanes change nothing
        let padded = count.next_multiple_of(LANES);
        for values in [&mut self.a, &mut self.b, &mut self.distance] {
            values.iter_mut().take(padded).skip(count).for_each(|x| *x = 0.0);
        }
        let rows = padded / LANES;
        let (a, b, distance) = (self.a.as_chunks().0, self.b.as_chunks().0, self.distance.as_chunks().0);
        found.pairs += count as u64;
        found.add_lanes(a.split_at(rows).0, b.split_at(rows).0, distance.split_at(rows).0, start, options);
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

fn all_finite(values: &[f64]) -> bool {
    values.iter().map(|x| u32::from(!x.is_finite())).sum::<u32>() == 0
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

    /// Finite values, eight abreast.
    fn add_lanes(
        &mut self,
        a: &[[f64; LANES]],
        b: &[[f64; LANES]],
        distance: &[[f64; LANES]],
        start: u64,
        options: &Options,
    ) {
        let zero = [0.0; LANES];
        let (mut abs, mut dot, mut aa, mut bb) = (zero, zero, zero, zero);
        let (mut max_abs, mut max_rel, mut differing) = (zero, zero, [0_u64; LANES]);
        let (atol, rtol) = (options.atol, options.rtol);
        let differs = |distance: f64, b: f64| distance > atol + rtol * b.abs();
        for ((a, b), distance) in a.iter().zip(b).zip(distance) {
            let sums = abs.iter_mut().zip(&mut dot).zip(&mut aa).zip(&mut bb);
            let maxima = max_abs.iter_mut().zip(&mut max_rel).zip(&mut differing);
            for (((a, b), d), ((((abs, dot), aa), bb), ((max_abs, max_rel), differing))) in
                a.iter().zip(b).zip(distance).zip(sums.zip(maxima))
            {
                *abs += *d;
                *dot += *a * *b;
                *aa += *a * *a;
                *bb += *b * *b;
                *max_abs = larger(*max_abs, *d);
                *max_rel = larger(*max_rel, *d / b.abs());
                *differing += u64::from(differs(*d, *b));
            }
        }
        self.abs.add_lanes(abs);
        self.dot.add_lanes(dot);
        self.aa.add_lanes(aa);
        self.bb.add_lanes(bb);
        self.max_abs = max_abs.into_iter().fold(self.max_abs, larger);
        self.max_rel = max_rel.into_iter().fold(self.max_rel, larger);
        let differing: u64 = differing.iter().sum();
        if self.bits || differing == 0 {
            return;
        }
        self.differing += differing;
        if self.first.is_none() {
            let pairs = distance.as_flattened().iter().zip(b.as_flattened());
            self.first = pairs.zip(start..).find(|((d, b), _)| differs(**d, **b)).map(|(_, position)| position);
        }
    }

    /// One pair of any values, real and imaginary part.
    fn add_one(&mut self, a: [f64; 2], b: [f64; 2], position: u64, options: &Options) {
        let nan = |[re, im]: [f64; 2]| re.is_nan() || im.is_nan();
        let finite = |[re, im]: [f64; 2]| re.is_finite() && im.is_finite();
        let length = |[re, im]: [f64; 2]| f64::hypot(re, im);
        let (nan, finite) = ([nan(a), nan(b)], finite(a) && finite(b));
        let differs = if nan.contains(&true) {
            nan != [true; 2] || !options.nan_equal
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
        self.max_abs = larger(self.max_abs, later.max_abs);
        self.max_rel = larger(self.max_rel, later.max_rel);
        self.abs.merge(later.abs);
        self.dot.merge(later.dot);
        self.aa.merge(later.aa);
        self.bb.merge(later.bb);
    }

    pub(super) fn finish(&self, total: u64) -> Comparison {
        let number = |x: f64| (self.pairs > 0).then_some(x);
        let lengths = self.aa.value().sqrt() * self.bb.value().sqrt();
        let cosine = self.dot.value() / lengths;
        Comparison {
            total,
            differing: self.differing,
            first_difference: self.first,
            max_abs: number(self.max_abs),
            mean_abs: number(self.abs.value() / self.pairs as f64),
            max_rel: number(self.max_rel),
            cosine: (lengths > 0.0 && cosine.is_finite()).then(|| cosine.clamp(-1.0, 1.0)),
        }
    }
}
