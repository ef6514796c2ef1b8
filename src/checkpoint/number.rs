//! Elements of numpy's arrays as numbers.

use crate::dtype::{Class, DType};

/// One element, as wide as it may be.
pub(super) enum Number {
    Int(i128),
    Float(f64),
    Float32(f32),
}

impl Number {
    pub(super) fn int(&self) -> i128 {
        match self {
            Number::Int(value) => *value,
            _ => 0,
        }
    }
}

/// A little-endian element as a number.
pub(super) fn numpy_number(dtype: &DType, bytes: &[u8]) -> Option<Number> {
    let bytes = bytes.get(..dtype.size()? as usize)?;
    Some(match (dtype.class()?, bytes.len()) {
        (Class::Float, 8) => Number::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
        (Class::Float, 4) => Number::Float32(f32::from_le_bytes(bytes.try_into().ok()?)),
        (Class::Float, 2) => Number::Float32(half::f16::from_le_bytes(bytes.try_into().ok()?).to_f32()),
        (Class::Signed, _) => {
            let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
            let mut wide = [fill; 16];
            wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            Number::Int(i128::from_le_bytes(wide))
        }
        (Class::Unsigned | Class::Bool, _) => {
            let mut wide = [0; 16];
            wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            Number::Int(i128::from_le_bytes(wide))
        }
        _ => return None,
    })
}
