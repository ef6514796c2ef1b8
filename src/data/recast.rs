//! A tensor in another floating dtype, or with other strides, made while it is read: to whoever reads it, an ordinary
//! contiguous tensor.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::cast::Caster;
use super::{Elements, gather};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{Source, past_end};

/// Elements cast at once. Where the tensor below is strided, reading a few of them costs as much as reading many.
const CONTIGUOUS_ELEMENTS: u64 = 256 << 10;
const STRIDED_ELEMENTS: u64 = 4 << 20;

/// The source of a tensor's elements in another dtype.
#[derive(Debug)]
pub(crate) struct Recast {
    below: Elements,
    limits: Limits,
    elements: u64,
    /// Bytes of an element after the cast.
    size: u64,
    at_once: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None`: only the strides change.
    caster: Option<Caster>,
    /// The elements whose bytes are in `bytes`.
    held: Range<u64>,
    bytes: Vec<u8>,
    /// Elements whose overflows have been counted: a second reading does not count them again.
    counted: u64,
    overflows: u64,
}

impl Recast {
    /// `below` as `dtype`, which may be its own, contiguous and little-endian, and the source that makes it so. Errors
    /// are those of [`Caster::new`] and [`Elements::validate`].
    pub(crate) fn over(below: Elements, dtype: &DType, limits: &Limits) -> Result<(Elements, Arc<Self>)> {
        let caster = if below.dtype == *dtype { None } else { Some(Caster::new(&below.dtype, dtype)?) };
        let elements = below.validate(limits)?.elements;
        let size = u64::from(dtype.size().unwrap_or(1));
        let at_once = if below.is_contiguous() { CONTIGUOUS_ELEMENTS } else { STRIDED_ELEMENTS };
        let shape = below.shape.clone();
        let state = State { caster, held: 0..0, bytes: Vec::new(), counted: 0, overflows: 0 };
        let source =
            Arc::new(Recast { below, limits: limits.clone(), elements, size, at_once, state: Mutex::new(state) });
        let elements = Elements::row_major(source.clone(), dtype.clone(), shape);
        Ok((elements, source))
    }

    /// How many finite elements have become infinite, of those that were read.
    pub(crate) fn overflows(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).overflows
    }

    fn hold(&self, state: &mut State, first: u64) -> Result<()> {
        let range = first..first.saturating_add(self.at_once).min(self.elements);
        state.held = 0..0;
        state.bytes.clear();
        let State { caster, bytes, .. } = state;
        let overflows = |caster: &Option<Caster>| caster.as_ref().map_or(0, Caster::overflows);
        let (before, mut cast) = (overflows(caster), Vec::new());
        gather::for_each_block_in(&self.below, &self.limits, range.clone(), &mut |block| {
            match caster {
                Some(caster) => {
                    caster.cast(block, &mut cast);
                    bytes.extend_from_slice(&cast);
                }
                None => bytes.extend_from_slice(block),
            }
            Ok(())
        })?;
        if range.start == state.counted {
            state.overflows += overflows(&state.caster) - before;
            state.counted = range.end;
        }
        state.held = range;
        Ok(())
    }
}

impl Source for Recast {
    fn len(&self) -> u64 {
        self.elements.saturating_mul(self.size)
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len()) {
            return Err(past_end(self, offset, buf.len() as u64));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !buf.is_empty() {
            let element = offset / self.size;
            if !state.held.contains(&element) {
                self.hold(&mut state, element)?;
            }
            let skip = usize::try_from(offset - state.held.start * self.size).unwrap_or(usize::MAX);
            let held = state.bytes.get(skip..).filter(|held| !held.is_empty());
            let held = held.ok_or_else(|| Error::data("fewer elements than the shape says"))?;
            let take = held.len().min(buf.len());
            let (now, later) = buf.split_at_mut(take);
            now.copy_from_slice(held.get(..take).unwrap_or_default());
            (buf, offset) = (later, offset + take as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tensor;
    use super::*;
    use crate::dtype::Known;
    use crate::source::read_vec;

    #[test]
    fn strides_go() {
        let t = tensor(Known::Int16, &[2, 3], (0..6_i16).flat_map(i16::to_le_bytes).collect());
        let turned = Elements { shape: vec![3, 2], stride: vec![1, 3], ..t };
        let (row_major, _) = Recast::over(turned, &Known::Int16.into(), &Limits::default()).unwrap();
        assert!(row_major.is_contiguous());
        let bytes = read_vec(row_major.source.as_ref(), 0, 12).unwrap();
        assert_eq!(bytes, [0_i16, 3, 1, 4, 2, 5].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    }

    #[test]
    fn cast_while_it_is_read_and_overflows_counted_once() {
        let count = u32::try_from(CONTIGUOUS_ELEMENTS).unwrap() + 7;
        let value = |i: u32| if i.is_multiple_of(1000) { 1e30 } else { i as f32 };
        let bytes = (0..count).flat_map(|i| value(i).to_le_bytes()).collect();
        let below = tensor(Known::Float32, &[count.into()], bytes);
        let (cast, source) = Recast::over(below, &Known::BFloat16.into(), &Limits::default()).unwrap();
        assert_eq!(source.overflows(), 0);
        let want: Vec<u8> = (0..count).flat_map(|i| half::bf16::from_f32(value(i)).to_le_bytes()).collect();
        for _ in 0..2 {
            assert!(read_vec(cast.source.as_ref(), 0, cast.source.len()).unwrap() == want);
        }
        assert_eq!(read_vec(cast.source.as_ref(), 3, 6).unwrap(), want[3..9]);
        assert!(cast.source.read_at(want.len() as u64, &mut [0]).is_err());
        let tensor = tensor(Known::Float64, &[2], [1e300_f64, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect());
        let (cast, source) = Recast::over(tensor, &Known::Float16.into(), &Limits::default()).unwrap();
        read_vec(cast.source.as_ref(), 0, 4).unwrap();
        read_vec(cast.source.as_ref(), 0, 4).unwrap();
        assert_eq!(source.overflows(), 1);
    }
}
