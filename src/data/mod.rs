//! The elements of one tensor, read in bounded memory.
//!
//! [`Elements`] says where they lie; [`gather`] streams them in row-major order, little-endian, whatever the strides.
//! What is made of them ([`hash`], [`stats`], [`compare`], [`cast`]) sees only that stream.

pub(crate) mod average;
pub mod cast;
pub(crate) mod casting;
pub mod compare;
pub(crate) mod comparison;
mod difference;
pub(crate) mod digest;
pub mod gather;
pub mod hash;
pub(crate) mod number;
mod order;
mod parts;
pub(crate) mod patch;
pub(crate) mod recast;
pub(crate) mod row;
pub(crate) mod scalar;
pub(crate) mod stats;
pub(crate) mod subscript;
pub(crate) mod summed;
mod tile;
pub(crate) mod unpack;

use std::ops::Range;

use crate::dtype::{ByteOrder, DType};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::Setting;
use crate::source::SharedSource;

/// Where the elements of one strided tensor lie. Sizes and strides are in elements.
#[derive(Debug, Clone)]
pub struct Elements {
    /// The storage's bytes.
    pub source: SharedSource,
    /// The type of an element; its size must be known.
    pub dtype: DType,
    /// Extent of each dimension.
    pub shape: Vec<u64>,
    /// Step of each dimension, never negative.
    pub stride: Vec<u64>,
    /// The first element.
    pub offset: u64,
    /// In which order the bytes of an element lie in the storage.
    pub byte_order: ByteOrder,
    /// The elements stand for their complex conjugates (`torch.conj`).
    pub conj: bool,
    /// The elements stand for their negatives (`Tensor._neg_view`).
    pub neg: bool,
}

/// What [`Elements::validate`] found out: how much there is, and which part of the storage it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes of one element.
    pub element_size: usize,
    /// Elements in all, the product of the shape.
    pub elements: u64,
    /// Bytes of all elements in a row.
    pub bytes: u64,
    /// The storage's bytes from the first element to the end of the furthest; empty when there are no elements.
    pub span: Range<u64>,
}

/// Elements larger than this do not occur; a bound on the block that must hold at least one.
const MAX_ELEMENT_BYTES: usize = 1 << 20;

impl Elements {
    /// A tensor whose elements are all that `source` holds: contiguous, row-major, little-endian.
    pub fn row_major(source: SharedSource, dtype: DType, shape: Vec<u64>) -> Self {
        let mut stride = vec![1; shape.len()];
        let mut step = 1_u64;
        for (stride, extent) in stride.iter_mut().zip(&shape).rev() {
            *stride = step;
            step = step.saturating_mul((*extent).max(1));
        }
        Elements { source, dtype, shape, stride, offset: 0, byte_order: ByteOrder::Little, conj: false, neg: false }
    }

    /// Checks that every element lies inside the storage and that reading them all is allowed.
    ///
    /// `Data` errors for what the file says wrongly, `Limit` when the tensor is larger than its storage (an expanded
    /// one) and than [`Limits::max_read_bytes`]. A tensor without elements is always fine.
    pub(crate) fn validate(&self, limits: &Limits) -> Result<Extent> {
        let name = self.dtype.name();
        let size = self.dtype.size().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
        let size = size.ok_or_else(|| Error::data(format!("the size of a {name} element is not known")))?;
        if size > MAX_ELEMENT_BYTES {
            return Err(Error::data(format!("elements of {size} bytes ({name}) are not read")));
        }
        if self.shape.len() != self.stride.len() {
            let (dims, strides) = (self.shape.len(), self.stride.len());
            return Err(Error::data(format!("{dims} dimensions but {strides} strides")));
        }
        order::check(self)?;
        if self.shape.contains(&0) {
            return Ok(Extent { element_size: size, elements: 0, bytes: 0, span: 0..0 });
        }

        let too_many = || Error::data("the shape has more elements than 64 bits can count");
        let elements = self.shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d)).ok_or_else(too_many)?;
        let bytes = elements.checked_mul(size as u64).ok_or_else(too_many)?;
        let furthest = self.shape.iter().zip(&self.stride).try_fold(self.offset, |at, (dim, stride)| {
            dim.checked_sub(1).and_then(|steps| steps.checked_mul(*stride)).and_then(|far| at.checked_add(far))
        });
        let have = self.source.len() / size as u64;
        let furthest = furthest
            .ok_or_else(|| Error::data(format!("the strides lead far outside the storage with {have} elements")))?;
        if furthest >= have {
            return Err(Error::data(format!("element {furthest} of storage with {have} elements")));
        }
        if bytes > self.source.len() && bytes > limits.max_read_bytes {
            let (len, max) = (self.source.len(), limits.max_read_bytes);
            let message =
                format!("{bytes} bytes of elements in a storage of {len} bytes: more than {max} are not read");
            return Err(Error::limit(message).allowed_by(Setting::MaxReadBytes));
        }
        let span = self.offset * size as u64..(furthest + 1) * size as u64;
        Ok(Extent { element_size: size, elements, bytes, span })
    }

    /// True when the elements lie one after the other in row-major order, so that the bytes of
    /// [`Extent::span`] are the tensor (up to byte order, `conj` and `neg`).
    pub(crate) fn is_contiguous(&self) -> bool {
        self.shape.contains(&0)
            || matches!(gather::coalesce(&self.shape, &self.stride).as_slice(), [] | [tile::Dim { stride: 1, .. }])
    }

    /// True when the bytes of the storage are the elements' bytes as [`gather`] gives them: nothing to swap or negate.
    pub(crate) fn is_plain(&self) -> bool {
        order::is_plain(self)
    }

    /// The part with `len` of the indexes of dimension `dim`, from `start` on, every `step`-th.
    ///
    /// Steps are positive, as in torch. Who wants numpy's negative steps takes `slice(dim, i, 1, 1)` for each index
    /// `i` in falling order. A `Data` error when the dimension does not have these indexes.
    pub(crate) fn slice(&self, dim: usize, start: u64, len: u64, step: u64) -> Result<Elements> {
        let mut part = self.clone();
        let (Some(extent), Some(stride)) = (part.shape.get_mut(dim), part.stride.get_mut(dim)) else {
            return Err(Error::data(format!("no dimension {dim} in a tensor of {} dimensions", self.shape.len())));
        };
        let last = len.saturating_sub(1).checked_mul(step).and_then(|far| far.checked_add(start));
        if step == 0 || start > *extent || (len > 0 && last.is_none_or(|last| last >= *extent)) {
            let what = format!("{len} indexes from {start} on in steps of {step}");
            return Err(Error::data(format!("{what} in dimension {dim} of {extent}")));
        }
        *extent = len;
        if len > 0 {
            let moved = start.checked_mul(*stride).and_then(|by| part.offset.checked_add(by));
            part.offset = moved.ok_or_else(|| Error::data("the slice starts far outside the storage"))?;
        }
        // a step that is never taken may be anything
        *stride = stride.checked_mul(step).unwrap_or(if len > 1 { u64::MAX } else { 1 });
        Ok(part)
    }

    #[cfg(test)]
    /// The indexes, one a dimension, of the element at `position` of the row-major sequence.
    pub(crate) fn index_of(&self, position: u64) -> Vec<u64> {
        let mut left = position;
        let mut index: Vec<u64> = self
            .shape
            .iter()
            .rev()
            .map(|dim| {
                let at = left.checked_rem(*dim).unwrap_or(0);
                left = left.checked_div(*dim).unwrap_or(0);
                at
            })
            .collect();
        index.reverse();
        index
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dtype::Known;
    use crate::error::ErrorKind;
    use crate::source::MemorySource;

    /// A contiguous little-endian tensor of `bytes`.
    pub(crate) fn tensor(dtype: Known, shape: &[u64], bytes: Vec<u8>) -> Elements {
        let mut stride = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            stride[i - 1] = stride[i] * shape[i].max(1);
        }
        Elements {
            source: Arc::new(MemorySource::new(bytes)),
            dtype: dtype.into(),
            shape: shape.to_vec(),
            stride,
            offset: 0,
            byte_order: ByteOrder::Little,
            conj: false,
            neg: false,
        }
    }

    #[test]
    fn validation_finds_what_lies_outside() {
        let limits = Limits::default();
        let good = tensor(Known::Float32, &[2, 5], vec![0; 40]);
        assert_eq!(good.validate(&limits).unwrap().span, 0..40);
        let outside = Elements { offset: 3, ..good.clone() };
        let e = outside.validate(&limits).unwrap_err();
        assert_eq!((e.kind(), e.message().as_str()), (ErrorKind::Data, "element 12 of storage with 10 elements"));
        let empty = Elements { shape: vec![u64::MAX, 0, u64::MAX], stride: vec![u64::MAX; 3], ..outside };
        assert_eq!(empty.validate(&limits).unwrap().elements, 0);
        let huge = Elements { shape: vec![1 << 33, 1 << 33], ..good.clone() };
        assert_eq!(huge.validate(&limits).unwrap_err().kind(), ErrorKind::Data);
        let far = Elements { shape: vec![2, 2], stride: vec![u64::MAX, 1], ..good.clone() };
        assert_eq!(far.validate(&limits).unwrap_err().kind(), ErrorKind::Data);
        let unknown = Elements { dtype: DType::other("foo", None), ..good.clone() };
        assert_eq!(unknown.validate(&limits).unwrap_err().kind(), ErrorKind::Data);
        let ranks = Elements { stride: vec![1], ..good };
        assert_eq!(ranks.validate(&limits).unwrap_err().kind(), ErrorKind::Data);
    }

    #[test]
    fn only_expanded_tensors_meet_the_limit() {
        let limits = Limits { max_read_bytes: 16, ..Limits::default() };
        let stored = tensor(Known::Float32, &[10], vec![0; 40]);
        assert!(stored.validate(&limits).is_ok());
        let expanded = Elements { shape: vec![100, 10], stride: vec![0, 1], ..stored };
        let e = expanded.validate(&limits).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit);
        assert!(e.to_string().ends_with("; max_read_bytes allows more"), "{e}");
    }

    #[test]
    fn slices_stay_inside() {
        let t = tensor(Known::UInt8, &[4, 5], (0..20).collect());
        let part = t.slice(0, 1, 2, 2).unwrap().slice(1, 4, 1, 1).unwrap();
        assert_eq!((part.offset, part.shape.as_slice(), part.stride.as_slice()), (9, &[2, 1][..], &[10, 1][..]));
        assert!(t.slice(0, 1, 2, 3).is_err());
        assert!(t.slice(0, 5, 0, 1).is_err());
        assert!(t.slice(0, 0, 1, 0).is_err());
        assert!(t.slice(2, 0, 1, 1).is_err());
        assert!(t.slice(1, 0, u64::MAX, u64::MAX).is_err());
        assert_eq!(t.slice(1, 5, 0, 1).unwrap().validate(&Limits::default()).unwrap().elements, 0);
        assert_eq!(t.index_of(13), [2, 3]);
    }
}
