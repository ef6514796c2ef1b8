//! `[0:2, :, -1]`: parts of tensors in Python's syntax, numpy's negative steps included.
//!
//! Positive steps are strides and cost nothing. torch has no negative ones, and neither has [`Elements`]: a tensor that
//! is turned round is a source of its own, which reads the one below it backwards.

use std::sync::Arc;

use super::{Elements, gather};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::source::{Source, past_end};

/// What is taken of one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// One index; the dimension goes.
    At(i64),
    /// `start:stop:step`.
    Range(Option<i64>, Option<i64>, i64),
    /// `...`: all of the dimensions that are not mentioned.
    Rest,
}

/// A parsed subscript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscript(Vec<Part>);

impl std::str::FromStr for Subscript {
    type Err = String;

    /// Parses what stands between Python's brackets (or with them): integers, slices and `...`, separated by commas.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let text = text.trim();
        let text = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let mut items: Vec<&str> = text.split(',').map(str::trim).collect();
        // a trailing comma makes no difference
        if items.len() > 1 && items.last() == Some(&"") {
            items.pop();
        }
        let parts = items.iter().map(|item| part(item)).collect::<std::result::Result<Vec<_>, _>>()?;
        match parts.iter().filter(|part| **part == Part::Rest).count() {
            0 | 1 => Ok(Subscript(parts)),
            _ => Err("more than one `...`".to_owned()),
        }
    }
}

fn part(text: &str) -> std::result::Result<Part, String> {
    let number = |text: &str| {
        let digits = text.trim();
        digits.parse::<i64>().map_err(|_| match digits {
            "" => "an index is missing; `:` takes all of a dimension".to_owned(),
            _ => format!("{digits:?} is no integer"),
        })
    };
    let bound = |text: &str| if text.trim().is_empty() { Ok(None) } else { number(text).map(Some) };
    if text == "..." {
        return Ok(Part::Rest);
    }
    match *text.split(':').collect::<Vec<_>>().as_slice() {
        [index] => number(index).map(Part::At),
        [start, stop] => Ok(Part::Range(bound(start)?, bound(stop)?, 1)),
        [start, stop, step] => match bound(step)?.unwrap_or(1) {
            0 => Err("a slice's step cannot be 0".to_owned()),
            step => Ok(Part::Range(bound(start)?, bound(stop)?, step)),
        },
        _ => Err(format!("{text:?} has more than two colons")),
    }
}

/// Start, length, and whether to count down: what `slice(start, stop, step).indices(extent)` walks over.
fn indices(extent: u64, start: Option<i64>, stop: Option<i64>, step: i64) -> (u64, u64) {
    let (extent, step) = (i128::from(extent), i128::from(step));
    let (low, high) = if step > 0 { (0, extent) } else { (-1, extent - 1) };
    let place = |bound: Option<i64>, default: i128| match bound.map(i128::from) {
        None => default,
        Some(at) if at < 0 => (at + extent).clamp(low, high),
        Some(at) => at.clamp(low, high),
    };
    let (start, stop) =
        if step > 0 { (place(start, low), place(stop, high)) } else { (place(start, high), place(stop, low)) };
    let distance = if step > 0 { stop - start } else { start - stop };
    let len = if distance <= 0 { 0 } else { (distance - 1) / step.abs() + 1 };
    (u64::try_from(start).unwrap_or_default(), u64::try_from(len).unwrap_or_default())
}

impl Subscript {
    /// The part of a tensor that it takes. A `Data` error when an index lies outside or there are too many of them.
    pub(crate) fn apply(&self, elements: &Elements, limits: &Limits) -> Result<Elements> {
        let rank = elements.shape.len();
        let named = self.0.iter().filter(|part| **part != Part::Rest).count();
        let Some(unnamed) = rank.checked_sub(named) else {
            return Err(Error::data(format!("{named} indexes for a tensor of {rank} dimensions")));
        };
        let all = Part::Range(None, None, 1);
        let at = self.0.iter().position(|part| *part == Part::Rest).unwrap_or(self.0.len());
        let (before, after) = self.0.split_at(at);
        let parts =
            before.iter().copied().chain(std::iter::repeat_n(all, unnamed)).chain(after.iter().skip(1).copied());
        let mut taken = elements.clone();
        let mut turned = Vec::new();
        let mut dim = 0;
        for (number, part) in parts.enumerate() {
            let extent = taken.shape.get(dim).copied().unwrap_or_default();
            match part {
                Part::At(index) => {
                    let place = if index < 0 { i128::from(index) + i128::from(extent) } else { i128::from(index) };
                    let place = u64::try_from(place).ok().filter(|place| *place < extent).ok_or_else(|| {
                        let what = format!("index {index} is out of bounds for dimension {number} with size {extent}");
                        Error::data(what)
                    })?;
                    taken = taken.slice(dim, place, 1, 1)?;
                    taken.shape.remove(dim);
                    taken.stride.remove(dim);
                }
                Part::Range(start, stop, step) => {
                    let (start, len) = indices(extent, start, stop, step);
                    let pace = step.unsigned_abs();
                    let first = if step > 0 { start } else { start.saturating_sub(len.saturating_sub(1) * pace) };
                    taken = taken.slice(dim, if len == 0 { 0 } else { first }, len, pace)?;
                    turned.push(step < 0 && len > 1);
                    dim += 1;
                }
                Part::Rest => {}
            }
        }
        if turned.contains(&true) { Turned::over(taken, turned, limits) } else { Ok(taken) }
    }
}

/// The elements of a tensor with some dimensions in falling order, as contiguous little-endian bytes.
#[derive(Debug)]
struct Turned {
    forward: Elements,
    turned: Vec<bool>,
    /// Elements in dimensions after the last one that is turned.
    inner: u64,
    size: u64,
    len: u64,
    limits: Limits,
}

impl Turned {
    fn over(forward: Elements, turned: Vec<bool>, limits: &Limits) -> Result<Elements> {
        let extent = forward.validate(limits)?;
        let shape = forward.shape.clone();
        let last = turned.iter().rposition(|turned| *turned).unwrap_or_default();
        let inner = shape.iter().skip(last + 1).product();
        let dtype = forward.dtype.clone();
        let (size, len) = (extent.element_size as u64, extent.bytes);
        let source = Arc::new(Turned { forward, turned, inner, size, len, limits: limits.clone() });
        Ok(Elements::row_major(source, dtype, shape))
    }

    /// The elements that can be read in one go at `position` (of `wanted`): where they begin in the tensor below, how
    /// many they are, and whether they come in falling order.
    fn run(&self, position: u64, wanted: u64) -> (u64, u64, bool) {
        let (mut rest, mut scale, mut below) = (position / self.inner, self.inner, position % self.inner);
        let mut run = (self.inner - below, false);
        let mut innermost = self.inner == 1;
        for (extent, turned) in self.forward.shape.iter().zip(&self.turned).rev().skip_while(|(_, turned)| !**turned) {
            let at = rest % extent;
            rest /= extent;
            let place = if *turned { extent - 1 - at } else { at };
            if innermost {
                run = (extent - at, true);
                innermost = false;
            }
            below += place * scale;
            scale *= extent;
        }
        let count = run.0.min(wanted);
        (if run.1 { below + 1 - count } else { below }, count, run.1)
    }
}

impl Source for Turned {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let Some(end) = end else { return Err(past_end(self, offset, buf.len() as u64)) };
        let size = usize::try_from(self.size).map_err(|_| Error::limit("elements too large"))?;
        let mut bytes = Vec::with_capacity(buf.len() + 2 * size);
        let (mut position, last) = (offset / self.size, end.div_ceil(self.size));
        while position < last {
            let (first, count, falling) = self.run(position, last - position);
            let before = bytes.len();
            gather::for_each_block_in(&self.forward, &self.limits, first..first + count, &mut |block| {
                bytes.extend_from_slice(block);
                Ok(())
            })?;
            if falling {
                turn(bytes.get_mut(before..).unwrap_or_default(), size);
            }
            position += count;
        }
        let skipped = usize::try_from(offset % self.size).unwrap_or_default();
        let wanted = bytes.get(skipped..skipped + buf.len());
        buf.copy_from_slice(wanted.ok_or_else(|| Error::new(ErrorKind::Data, "fewer elements than the shape says"))?);
        Ok(())
    }
}

/// Reverses the order of elements of `size` bytes.
fn turn(bytes: &mut [u8], size: usize) {
    bytes.reverse();
    bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::tensor;
    use super::*;
    use crate::dtype::Known;

    fn numbers(shape: &[u64]) -> Elements {
        let count = u32::try_from(shape.iter().product::<u64>()).unwrap();
        tensor(Known::Int32, shape, (0..count).flat_map(u32::to_le_bytes).collect())
    }

    fn take(elements: &Elements, subscript: &str) -> (Vec<u64>, Vec<u32>) {
        let part = subscript.parse::<Subscript>().unwrap().apply(elements, &Limits::default()).unwrap();
        let mut out = Vec::new();
        gather::for_each_block::<Error>(&part, &Limits::default(), &mut |block| {
            out.extend(block.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)));
            Ok(())
        })
        .unwrap();
        (part.shape, out)
    }

    // numpy.arange(24).reshape(2, 3, 4)[...]
    #[test]
    fn as_numpy() {
        let t = numbers(&[2, 3, 4]);
        let cases: &[(&str, &[u64], &[u32])] = &[
            ("1,-1", &[4], &[20, 21, 22, 23]),
            ("0,0,0", &[], &[0]),
            (":,1,::2", &[2, 2], &[4, 6, 16, 18]),
            ("...,-1", &[2, 3], &[3, 7, 11, 15, 19, 23]),
            ("0,...", &[3, 4], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
            ("[1, 5:, :]", &[0, 4], &[]),
            ("0,0,::-1", &[4], &[3, 2, 1, 0]),
            ("0,::-2,1:3", &[2, 2], &[9, 10, 1, 2]),
            ("::-1,-1,3:0:-2", &[2, 2], &[23, 21, 11, 9]),
            ("0,0,-100:100", &[4], &[0, 1, 2, 3]),
            ("0,0,100:-100:-3", &[2], &[3, 0]),
            ("0,0,2:2:-1,", &[0], &[]),
            (
                "::-1,::-1,::-1",
                &[2, 3, 4],
                &[23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
            ),
        ];
        for (subscript, shape, values) in cases {
            assert_eq!(take(&t, subscript), (shape.to_vec(), values.to_vec()), "{subscript}");
        }
    }

    #[test]
    fn refusals() {
        for bad in ["", "a", "1,,2", "::0", "1:2:3:4", "...,...", "99999999999999999999", "1.5", "None"] {
            assert!(bad.parse::<Subscript>().is_err(), "{bad:?}");
        }
        let t = numbers(&[2, 3]);
        for (outside, why) in [
            ("2", "index 2 is out of bounds for dimension 0 with size 2"),
            ("0,-4", "index -4 is out of bounds for dimension 1 with size 3"),
            ("0,0,0", "3 indexes for a tensor of 2 dimensions"),
        ] {
            let e = outside.parse::<Subscript>().unwrap().apply(&t, &Limits::default()).unwrap_err();
            assert_eq!(e.message(), why);
        }
    }

    proptest! {
        #[test]
        fn turned_twice_is_as_before(shape in prop::collection::vec(1_u64..7, 1..5), turns in any::<u8>(), at in 0_usize..9) {
            let t = numbers(&shape);
            let turn: Vec<&str> = (0..shape.len()).map(|i| if turns >> i & 1 == 1 { "::-1" } else { ":" }).collect();
            let turn: Subscript = turn.join(",").parse().unwrap();
            let limits = Limits::default();
            let there = turn.apply(&t, &limits).unwrap();
            let back = turn.apply(&there, &limits).unwrap();
            prop_assert_eq!(take(&back, "...").1, take(&t, "...").1);
            // at any byte, not only where an element begins
            let source = there.source.as_ref();
            let whole = crate::source::read_vec(source, 0, source.len()).unwrap();
            let part = crate::source::read_vec(source, at.min(whole.len()) as u64, (whole.len().saturating_sub(at)) as u64);
            prop_assert_eq!(&part.unwrap()[..], whole.get(at..).unwrap_or_default());
        }
    }
}
