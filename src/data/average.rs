//! The mean of tensors of one shape, made while it is read: to whoever reads it, an ordinary contiguous tensor. Only the
//! elements around the place that is read are held, whatever the size and the number of the tensors.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::cast::Caster;
use super::number::ToF64;
use super::parts::{GO, LANES};
use super::{Elements, gather};
use crate::dtype::{ByteOrder, Class, DType, Known};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{Source, past_end};

/// Elements made at once, and by one core. Where a tensor is strided, reading a few of them costs as much as reading many.
const ROWS: Cut = Cut { at_once: 1 << 20, part: 32 << 10 };
const STRIDED: Cut = Cut { at_once: 4 << 20, part: 1 << 20 };

#[derive(Debug, Clone, Copy)]
struct Cut {
    at_once: u64,
    part: u64,
}

/// How several values become one, in `float64`, in their order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Blend {
    /// What becomes of the sum so far, and how much of the next value is added.
    steps: Vec<(f64, f64)>,
    divisor: f64,
}

impl Blend {
    /// The mean of `count` values.
    pub(crate) fn mean(count: usize) -> Self {
        Blend { steps: vec![(1.0, 1.0); count], divisor: count as f64 }
    }

    /// The mean weighted by these: what counts is how they compare, for the sum is divided by theirs.
    pub(crate) fn weighted(weights: &[f64]) -> Self {
        let divisor = weights.iter().sum();
        Blend { steps: weights.iter().map(|weight| (1.0, *weight)).collect(), divisor }
    }

    /// The exponential moving average: it begins with the first value, and each one after it makes it
    /// `decay * average + (1 - decay) * value`.
    pub(crate) fn moving(decay: f64, count: usize) -> Self {
        Blend { steps: vec![(decay, 1.0 - decay); count], divisor: 1.0 }.beginning()
    }

    fn beginning(mut self) -> Self {
        if let Some(first) = self.steps.first_mut() {
            *first = (0.0, 1.0);
        }
        self
    }

    /// How much of each value is in the result.
    pub(crate) fn shares(&self) -> Vec<f64> {
        let mut left = 1.0 / self.divisor;
        let mut shares: Vec<f64> = Vec::with_capacity(self.steps.len());
        for (keep, take) in self.steps.iter().rev() {
            shares.push(take * left);
            left *= keep;
        }
        shares.reverse();
        shares
    }
}

/// One of the tensors, and whose it is.
#[derive(Debug)]
pub(crate) struct Part {
    /// The file that errors name.
    pub file: Arc<str>,
    /// Its elements.
    pub elements: Elements,
}

/// The source of the mean's elements.
#[derive(Debug)]
pub(crate) struct Average {
    parts: Vec<Part>,
    blend: Arc<Blend>,
    limits: Limits,
    elements: u64,
    /// Bytes of an element, and of a number in it: half of it for complex ones.
    sizes: (usize, usize),
    byte_order: ByteOrder,
    cut: Cut,
    to_f64: ToF64,
    caster: Caster,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The elements whose bytes are in `bytes`.
    held: Range<u64>,
    bytes: Vec<u8>,
    /// How far the elements have been counted: a second reading does not count them again.
    counted: u64,
    found: Found,
}

/// Numbers that are not finite.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// In each of the tensors.
    pub not_finite: Vec<u64>,
    /// In the mean.
    pub in_mean: u64,
}

/// The type of the numbers that elements of this type are made of, where there is a mean of them: the four common floating
/// types, and complex ones.
pub(crate) fn averaged_as(dtype: &DType) -> Option<Known> {
    match dtype {
        DType::Known(Known::Float64 | Known::Complex128) => Some(Known::Float64),
        DType::Known(Known::Float32 | Known::Complex64) => Some(Known::Float32),
        DType::Known(Known::Float16 | Known::Complex32) => Some(Known::Float16),
        DType::Known(Known::BFloat16) => Some(Known::BFloat16),
        _ => None,
    }
}

impl Average {
    /// The mean of `parts` as a row of elements of their type and of this byte order. They must have one shape and one type,
    /// and as many as the blend has values. Errors are those of [`Elements::validate`], and for types without a mean.
    pub(crate) fn over(
        parts: Vec<Part>,
        blend: &Arc<Blend>,
        byte_order: ByteOrder,
        limits: &Limits,
    ) -> Result<Arc<Self>> {
        let first = parts.first().map(|part| &part.elements).ok_or_else(|| Error::data("nothing to average"))?;
        let (dtype, shape) = (first.dtype.clone(), first.shape.clone());
        let (DType::Known(known), Some(number)) = (&dtype, averaged_as(&dtype)) else {
            return Err(Error::unsupported(format!("{dtype} elements cannot be averaged")));
        };
        let (mut elements, mut size, mut cut) = (0, 1, ROWS);
        for Part { file, elements: part } in &parts {
            let extent = part.validate(limits).map_err(|e| e.of_input(file))?;
            if part.dtype != dtype || part.shape != shape {
                return Err(Error::data(format!("{} {:?} beside {dtype} {shape:?}", part.dtype, part.shape)));
            }
            (elements, size) = (extent.elements, extent.element_size);
            if !part.is_contiguous() {
                cut = STRIDED;
            }
        }
        let number_size = if dtype.class() == Some(Class::Complex) { size / 2 } else { size };
        let found = Found { not_finite: vec![0; parts.len()], in_mean: 0 };
        let state = State { held: 0..0, bytes: Vec::new(), counted: 0, found };
        Ok(Arc::new(Average {
            to_f64: ToF64::new(*known),
            caster: Caster::new(&Known::Float64.into(), &number.into())?,
            parts,
            blend: Arc::clone(blend),
            limits: limits.clone(),
            elements,
            sizes: (size, number_size),
            byte_order,
            cut,
            state: Mutex::new(state),
        }))
    }

    /// Bytes of an element.
    pub(crate) fn element_size(&self) -> u64 {
        self.sizes.0 as u64
    }

    /// What was found in the elements that were read; nothing unless all of them were.
    pub(crate) fn found(&self) -> Option<Found> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.counted == self.elements).then(|| state.found.clone())
    }

    fn hold(&self, state: &mut State, first: u64) -> Result<()> {
        let range = first..first.saturating_add(self.cut.at_once).min(self.elements);
        let size = self.sizes.0;
        let too_large = || Error::limit("a block does not fit in memory");
        let part = usize::try_from(self.cut.part).map_err(|_| too_large())?;
        let count = usize::try_from(range.end - range.start).map_err(|_| too_large())?;
        state.held = 0..0;
        state.bytes.resize(count.checked_mul(size).ok_or_else(too_large)?, 0);
        let starts = (range.start..range.end).step_by(part);
        let mut work: Vec<(u64, &mut [u8])> = starts.zip(state.bytes.chunks_mut(part * size)).collect();
        // the first error in order is told, whatever the number of cores
        let made: Vec<Result<Found>> =
            work.par_iter_mut().with_max_len(1).map(|(start, out)| self.fill(*start, out)).collect();
        let made = made.into_iter().collect::<Result<Vec<Found>>>()?;
        if range.start == state.counted {
            for found in made {
                state.found.in_mean += found.in_mean;
                state.found.not_finite.iter_mut().zip(found.not_finite).for_each(|(sum, count)| *sum += count);
            }
            state.counted = range.end;
        }
        state.held = range;
        Ok(())
    }

    /// Makes the elements from number `start` on.
    fn fill(&self, start: u64, out: &mut [u8]) -> Result<Found> {
        let (size, number) = self.sizes;
        let mut sums = vec![0.0; out.len() / number];
        let range = start..start + (out.len() / size) as u64;
        let mut found = Found::default();
        for ((place, part), (keep, take)) in self.parts.iter().enumerate().zip(&self.blend.steps) {
            let (mut at, mut not_finite) = (0, 0);
            let mut floats = [0.0; GO];
            gather::for_each_block_in(&part.elements, &self.limits, range.clone(), &mut |block| {
                for piece in block.chunks(GO * number) {
                    let floats = floats.split_at_mut(piece.len() / number).0;
                    self.to_f64.convert(piece, floats);
                    let sums = sums.get_mut(at..at + floats.len()).unwrap_or_default();
                    match place {
                        0 => sums.iter_mut().zip(&*floats).for_each(|(sum, x)| *sum = x * take),
                        _ => sums.iter_mut().zip(&*floats).for_each(|(sum, x)| *sum = *sum * keep + x * take),
                    }
                    not_finite += not_finite_in(floats);
                    at += floats.len();
                }
                Ok(())
            })
            .map_err(|e| e.of_input(&part.file))?;
            if at != sums.len() {
                return Err(Error::data("fewer elements than the shape says").of_input(&part.file));
            }
            found.not_finite.push(not_finite);
        }
        let (mut caster, mut cast) = (self.caster.clone(), Vec::new());
        let mut bytes = [0; 8 * GO];
        for (sums, out) in sums.chunks_mut(GO).zip(out.chunks_mut(GO * number)) {
            sums.iter_mut().for_each(|sum| *sum /= self.blend.divisor);
            found.in_mean += not_finite_in(sums);
            let bytes = bytes.split_at_mut(8 * sums.len()).0;
            bytes.as_chunks_mut().0.iter_mut().zip(&*sums).for_each(|(out, sum)| *out = sum.to_le_bytes());
            caster.cast(bytes, &mut cast);
            out.copy_from_slice(&cast);
        }
        found.in_mean += caster.overflows();
        if self.byte_order == ByteOrder::Big {
            out.chunks_exact_mut(number).for_each(<[u8]>::reverse);
        }
        Ok(found)
    }
}

fn not_finite_in(floats: &[f64]) -> u64 {
    // mostly there are none: times 0 all others are 0
    let (chunks, rest) = floats.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x * 0.0);
    }
    if lanes.iter().sum::<f64>() == 0.0 && rest.iter().all(|x| x.is_finite()) {
        return 0;
    }
    floats.iter().map(|x| u32::from(!x.is_finite())).fold(0, u32::wrapping_add).into()
}

impl Source for Average {
    fn len(&self) -> u64 {
        self.elements.saturating_mul(self.element_size())
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len()) {
            return Err(past_end(self, offset, buf.len() as u64));
        }
        let size = self.element_size();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !buf.is_empty() {
            let element = offset / size;
            if !state.held.contains(&element) {
                self.hold(&mut state, element)?;
            }
            let skip = usize::try_from(offset - state.held.start * size).unwrap_or(usize::MAX);
            let held = state.bytes.get(skip..).filter(|held| !held.is_empty());
            let held = held.ok_or_else(|| Error::data("fewer elements than the shape says"))?;
            let take = held.len().min(buf.len());
            let (now, later) = buf.split_at_mut(take);
            now.copy_from_slice(held.get(..take).unwrap_or_default());
            (buf, offset) = (later, offset + take as u64);
        }
        if offset == self.len() {
            // who has read to the end goes on to the next tensor; there may be thousands
            (state.held, state.bytes) = (0..0, Vec::new());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::number::narrow;
    use super::super::tests::tensor;
    use super::*;
    use crate::source::read_vec;

    fn over(tensors: Vec<Elements>, blend: Blend) -> Arc<Average> {
        let parts = tensors.into_iter().map(|elements| Part { file: "f".into(), elements }).collect();
        Average::over(parts, &Arc::new(blend), ByteOrder::Little, &Limits::default()).unwrap()
    }

    fn floats(values: &[f32]) -> Elements {
        tensor(Known::Float32, &[values.len() as u64], values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn read(average: &Average) -> Vec<f32> {
        let bytes = read_vec(average, 0, average.len()).unwrap();
        bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn three_ways_to_blend() {
        let tensors = || vec![floats(&[1.0, -0.0]), floats(&[3.0, -0.0]), floats(&[8.0, -0.0])];
        assert_eq!(read(&over(tensors(), Blend::mean(3))), [4.0, 0.0]);
        assert_eq!(read(&over(tensors(), Blend::weighted(&[2.0, 1.0, 1.0]))), [3.25, 0.0]);
        assert_eq!(read(&over(tensors(), Blend::moving(0.5, 3))), [5.0, 0.0]);
        assert_eq!(Blend::mean(4).shares(), [0.25; 4]);
        assert_eq!(Blend::weighted(&[3.0, 1.0]).shares(), [0.75, 0.25]);
        assert_eq!(Blend::moving(0.5, 3).shares(), [0.25, 0.25, 0.5]);
    }

    #[test]
    fn what_is_not_finite_is_counted_once() {
        let average = over(vec![floats(&[1.0, f32::NAN, 2.0]), floats(&[f32::INFINITY, 0.0, 0.0])], Blend::mean(2));
        assert_eq!(average.found(), None);
        for _ in 0..2 {
            let read = read(&average);
            assert!(read[0].is_infinite() && read[1].is_nan() && read[2] == 1.0);
            assert_eq!(average.found(), Some(Found { not_finite: vec![1, 1], in_mean: 2 }));
        }
    }

    #[test]
    fn other_byte_orders_shapes_and_types() {
        let parts = || vec![Part { file: "f".into(), elements: floats(&[1.0, 2.0]) }];
        let big = Average::over(parts(), &Arc::new(Blend::mean(1)), ByteOrder::Big, &Limits::default()).unwrap();
        assert_eq!(read_vec(big.as_ref(), 4, 4).unwrap(), 2.0_f32.to_be_bytes());
        let refused = |elements: Elements| {
            let parts = parts().into_iter().chain([Part { file: "g".into(), elements }]).collect();
            Average::over(parts, &Arc::new(Blend::mean(2)), ByteOrder::Little, &Limits::default()).is_err()
        };
        assert!(refused(floats(&[1.0])) && refused(tensor(Known::Int32, &[2], vec![0; 8])));
        assert!(averaged_as(&Known::Float8E5M2.into()).is_none() && averaged_as(&Known::QInt8.into()).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn any_part_of_a_large_mean(rows in 1_u64..40, from in 0_u64..1000, len in 0_u64..5000) {
            let shape = [rows * 1000, 41];
            let count = u32::try_from(shape[0] * shape[1]).unwrap();
            let value = |i: u32| f32::from_bits(0x3f80_0000 | i.wrapping_mul(2_654_435_761) >> 9);
            let bytes = |shift: u32| (0..count).flat_map(|i| value(i + shift).to_le_bytes()).collect();
            let plain = tensor(Known::Float32, &shape, bytes(0));
            // the same shape with its columns in storage order
            let turned = Elements { stride: vec![1, shape[0]], ..tensor(Known::Float32, &shape, bytes(7)) };
            let want: Vec<f32> = (0..count).map(|i| {
                let (row, column) = (i / 41, i % 41);
                let other = column * u32::try_from(shape[0]).unwrap() + row + 7;
                narrow((f64::from(value(i)) + f64::from(value(other))) / 2.0)
            }).collect();
            let average = over(vec![plain, turned], Blend::mean(2));
            prop_assert!(read(&average) == want);
            let (from, len) = (from * 4, len.min(u64::from(count) - from) * 4);
            let some = read_vec(average.as_ref(), from, len).unwrap();
            let want: Vec<u8> = want.iter().flat_map(|x| x.to_le_bytes()).collect();
            let at = |place: u64| usize::try_from(place).unwrap();
            prop_assert!(some == want[at(from)..at(from + len)]);
        }
    }
}
