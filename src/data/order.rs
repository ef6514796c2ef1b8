//! From stored bytes to the elements they stand for: byte order, complex conjugates, negative views.
//!
//! Works in place on a block of whole elements. Only bits move: conjugates and negatives of floats flip signs.

use super::Elements;
use crate::dtype::{ByteOrder, Class, DType};
use crate::error::{Error, Result};

fn class(elements: &Elements) -> Option<Class> {
    elements.dtype.class()
}

/// A negative view of a type that torch cannot negate (`neg_cpu` is not implemented for bool, float8, bits) or flags on
/// a type that is only carried: a `Data` error.
pub(super) fn check(elements: &Elements) -> Result<()> {
    let negates = match class(elements) {
        Some(Class::Float) => elements.dtype.size() > Some(1),
        Some(Class::Complex | Class::Signed | Class::Unsigned) => true,
        _ => false,
    };
    if elements.neg && !negates {
        return Err(Error::data(format!("a negative view of {}", elements.dtype)));
    }
    if elements.conj && matches!(elements.dtype, DType::Other { .. }) {
        return Err(Error::data(format!("a conjugate view of {}", elements.dtype)));
    }
    Ok(())
}

fn swaps(elements: &Elements) -> bool {
    elements.byte_order == ByteOrder::Big && elements.dtype.swap_unit() > 1
}

fn conjugates(elements: &Elements) -> bool {
    elements.conj && class(elements) == Some(Class::Complex)
}

/// True when there is nothing for [`apply`] to do.
pub(super) fn is_plain(elements: &Elements) -> bool {
    !swaps(elements) && !conjugates(elements) && !elements.neg
}

/// Turns a block of stored elements into little-endian ones, conjugated and negated as the tensor says.
pub(super) fn apply(elements: &Elements, block: &mut [u8]) {
    if is_plain(elements) {
        return;
    }
    let unit = elements.dtype.swap_unit();
    if swaps(elements) {
        match unit {
            2 => reverse::<2>(block),
            4 => reverse::<4>(block),
            8 => reverse::<8>(block),
            _ => block.chunks_exact_mut(unit).for_each(<[u8]>::reverse),
        }
    }
    if conjugates(elements) {
        for pair in block.chunks_exact_mut(2 * unit) {
            flip(pair);
        }
    }
    if elements.neg {
        match class(elements) {
            Some(Class::Signed | Class::Unsigned) => block.chunks_exact_mut(unit).for_each(negate),
            _ => block.chunks_exact_mut(unit).for_each(flip),
        }
    }
}

fn reverse<const N: usize>(block: &mut [u8]) {
    for unit in block.as_chunks_mut::<N>().0 {
        unit.reverse();
    }
}

/// Flips the sign bit of a little-endian float, or of the last of several.
fn flip(float: &mut [u8]) {
    if let Some(top) = float.last_mut() {
        *top ^= 0x80;
    }
}

/// Two's complement negation, wrapping.
fn negate(int: &mut [u8]) {
    let mut carry = true;
    for byte in int {
        (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tensor;
    use super::*;
    use crate::dtype::Known;

    #[test]
    fn flags_of_a_complex_tensor() {
        let mut block: Vec<u8> = [1.5_f32, -2.5].iter().flat_map(|x| x.to_be_bytes()).collect();
        let t = tensor(Known::Complex64, &[1], vec![0; 8]);
        let t = Elements { byte_order: ByteOrder::Big, conj: true, neg: true, ..t };
        apply(&t, &mut block);
        let floats: Vec<f32> = block.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(floats, [-1.5, -2.5]);
    }

    #[test]
    fn integers_negate_with_carry() {
        let t = Elements { neg: true, ..tensor(Known::Int16, &[3], vec![0; 6]) };
        let mut block: Vec<u8> = [256_i16, 0, i16::MIN].iter().flat_map(|x| x.to_le_bytes()).collect();
        apply(&t, &mut block);
        let ints: Vec<i16> = block.as_chunks().0.iter().map(|b| i16::from_le_bytes(*b)).collect();
        assert_eq!(ints, [-256, 0, i16::MIN]);
        assert!(check(&Elements { neg: true, ..tensor(Known::Bool, &[1], vec![0]) }).is_err());
    }
}
