//! Elements as Rust's own types, where every value of theirs is one.

use half::{bf16, f16};

use super::Elements;
use super::gather::for_each_block;
use super::number::{Number, decode, narrow};
use crate::dtype::{Class, DType, Known};
use crate::error::{Error, Result};
use crate::limits::Limits;

mod sealed {
    /// Nobody else knows how elements lie in a file.
    pub trait Sealed {}
}

/// A type that the elements of a tensor can be read as: that of the same name as their dtype, or a float that is wider.
pub trait Scalar: Copy + sealed::Sealed {
    /// What Rust calls it.
    const NAME: &'static str;

    /// Whether all elements of this dtype are values of it.
    fn holds(dtype: Known) -> bool;

    /// One little-endian element; nothing where it is not of the dtype's size, or not held.
    fn of(dtype: Known, element: &[u8]) -> Option<Self>;
}

/// Types whose elements lie in the file as they are.
macro_rules! exact {
    ($($type:ty, $known:ident;)*) => {$(
        impl sealed::Sealed for $type {}

        impl Scalar for $type {
            const NAME: &'static str = stringify!($type);

            fn holds(dtype: Known) -> bool {
                dtype == Known::$known
            }

            fn of(_dtype: Known, element: &[u8]) -> Option<Self> {
                Some(<$type>::from_le_bytes(element.try_into().ok()?))
            }
        }
    )*};
}

exact! {
    f16, Float16;
    bf16, BFloat16;
    i64, Int64;
    i32, Int32;
    i16, Int16;
    i8, Int8;
    u64, UInt64;
    u32, UInt32;
    u16, UInt16;
    u8, UInt8;
}

impl sealed::Sealed for f64 {}

impl Scalar for f64 {
    const NAME: &'static str = "f64";

    fn holds(dtype: Known) -> bool {
        DType::from(dtype).class() == Some(Class::Float)
    }

    fn of(dtype: Known, element: &[u8]) -> Option<Self> {
        match decode(dtype, element)? {
            Number::Float(value) => Some(value),
            _ => None,
        }
    }
}

impl sealed::Sealed for f32 {}

impl Scalar for f32 {
    const NAME: &'static str = "f32";

    fn holds(dtype: Known) -> bool {
        f64::holds(dtype) && dtype != Known::Float64
    }

    fn of(dtype: Known, element: &[u8]) -> Option<Self> {
        match dtype {
            // every bit of a NaN stays
            Known::Float32 => Some(f32::from_le_bytes(element.try_into().ok()?)),
            _ => f64::of(dtype, element).map(narrow),
        }
    }
}

impl sealed::Sealed for bool {}

impl Scalar for bool {
    const NAME: &'static str = "bool";

    fn holds(dtype: Known) -> bool {
        dtype == Known::Bool
    }

    fn of(_dtype: Known, element: &[u8]) -> Option<Self> {
        element.first().map(|byte| *byte != 0)
    }
}

/// All elements in row-major order. `Refused` for a dtype that `T` does not hold; other errors are those of
/// [`Elements::validate`] and of the source.
pub(crate) fn read<T: Scalar>(elements: &Elements, limits: &Limits) -> Result<Vec<T>> {
    let dtype = match elements.dtype {
        DType::Known(known) if T::holds(known) => known,
        _ => return Err(Error::refused(format!("{} elements cannot be read as {}", elements.dtype, T::NAME))),
    };
    let extent = elements.validate(limits)?;
    let mut values = Vec::new();
    let reserved = usize::try_from(extent.elements).ok().and_then(|count| values.try_reserve_exact(count).ok());
    reserved.ok_or_else(|| Error::limit(format!("no memory for {} elements", extent.elements)))?;
    for_each_block(elements, limits, &mut |block: &[u8]| -> Result<()> {
        values.extend(block.chunks_exact(extent.element_size).filter_map(|element| T::of(dtype, element)));
        Ok(())
    })?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::tensor;
    use crate::error::ErrorKind;

    #[test]
    fn floats_widen_and_nothing_else_changes_its_type() {
        let limits = Limits::default();
        let halves = tensor(Known::Float16, &[2], vec![0, 0x3c, 0, 0xfc]);
        assert_eq!(read::<f32>(&halves, &limits).unwrap(), [1.0, f32::NEG_INFINITY]);
        assert_eq!(read::<f64>(&halves, &limits).unwrap(), [1.0, f64::NEG_INFINITY]);
        assert_eq!(read::<f16>(&halves, &limits).unwrap(), [f16::ONE, f16::NEG_INFINITY]);
        let brain = tensor(Known::BFloat16, &[1], vec![0x80, 0x3f]);
        assert_eq!(read::<f32>(&brain, &limits).unwrap(), [1.0]);
        let bytes = tensor(Known::Float8E4M3fn, &[2], vec![0x38, 0x7e]);
        assert_eq!(read::<f32>(&bytes, &limits).unwrap(), [1.0, 448.0]);
        let doubles = tensor(Known::Float64, &[1], 0.1_f64.to_le_bytes().to_vec());
        assert_eq!(read::<f64>(&doubles, &limits).unwrap(), [0.1]);
        let e = read::<f32>(&doubles, &limits).unwrap_err();
        assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::Refused, "float64 elements cannot be read as f32"));
        for refused in [&brain, &bytes] {
            assert!(read::<f16>(refused, &limits).is_err());
        }
        assert!(read::<i64>(&halves, &limits).is_err());
        let quantized = tensor(Known::QInt8, &[1], vec![1]);
        assert!(read::<i8>(&quantized, &limits).is_err());
        let complex = tensor(Known::Complex64, &[1], vec![0; 8]);
        assert!(read::<f64>(&complex, &limits).is_err());
    }

    #[test]
    fn integers_and_booleans() {
        let limits = Limits::default();
        let longs = tensor(Known::Int64, &[2], [(-1_i64).to_le_bytes(), i64::MAX.to_le_bytes()].concat());
        assert_eq!(read::<i64>(&longs, &limits).unwrap(), [-1, i64::MAX]);
        assert!(read::<i32>(&longs, &limits).is_err() && read::<f64>(&longs, &limits).is_err());
        let bytes = tensor(Known::UInt8, &[3], vec![0, 7, 255]);
        assert_eq!(read::<u8>(&bytes, &limits).unwrap(), [0, 7, 255]);
        assert!(read::<bool>(&bytes, &limits).is_err());
        let flags = tensor(Known::Bool, &[3], vec![0, 1, 2]);
        assert_eq!(read::<bool>(&flags, &limits).unwrap(), [false, true, true]);
        let none = tensor(Known::Float32, &[0, 3], Vec::new());
        assert_eq!(read::<f32>(&none, &limits).unwrap(), [0.0; 0]);
    }

    #[test]
    fn the_order_is_row_major_whatever_the_strides() {
        let stored = tensor(Known::Int16, &[2, 3], (0..6_i16).flat_map(i16::to_le_bytes).collect());
        let transposed = Elements { shape: vec![3, 2], stride: vec![1, 3], ..stored };
        assert_eq!(read::<i16>(&transposed, &Limits::default()).unwrap(), [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn more_than_the_storage_holds_meets_the_limit() {
        let limits = Limits { max_read_bytes: 16, ..Limits::default() };
        let one = tensor(Known::Float32, &[1], vec![0; 4]);
        let expanded = Elements { shape: vec![100], stride: vec![0], ..one };
        assert_eq!(read::<f32>(&expanded, &limits).unwrap_err().kind(), ErrorKind::Limit);
    }
}
