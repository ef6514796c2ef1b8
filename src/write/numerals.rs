//! Numbers as text that reads back as the same number: Python's `repr`, with as few digits as the type needs.

use std::io;

use crate::checkpoint::pyrepr;
use crate::data::Elements;
use crate::data::gather::for_each_block;
use crate::data::number::{Number, decode, numeric};
use crate::dtype::{DType, Known};
use crate::error::Error;
use crate::limits::Limits;

/// Calls `f` with the place in row-major order and the value of each element.
pub(super) fn for_each(
    elements: &Elements,
    limits: &Limits,
    f: &mut dyn FnMut(u64, Number) -> io::Result<()>,
) -> io::Result<()> {
    let dtype = numeric(&elements.dtype)?;
    let size = elements.validate(limits)?.element_size;
    let mut position = 0;
    for_each_block(elements, limits, &mut |block| {
        for element in block.chunks_exact(size) {
            let number = decode(dtype, element).ok_or_else(|| Error::data("an element of an odd size"))?;
            f(position, number)?;
            position += 1;
        }
        Ok(())
    })
}

/// A float of type `dtype`: the shortest digits that give it back, `nan`, `inf` and `-inf` as Python writes them.
pub(super) fn float(dtype: &DType, value: f64) -> String {
    match dtype {
        DType::Known(Known::Float64 | Known::Complex128) => pyrepr::float(value),
        _ => pyrepr::float32(narrow(value)),
    }
}

#[allow(clippy::cast_possible_truncation)] // only values that were floats of 32 bits or fewer come here
fn narrow(value: f64) -> f32 {
    value as f32
}
