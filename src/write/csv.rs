//! A tensor as comma-separated values: one line a row, no header; what `numpy.loadtxt(delimiter=',')` and pandas read.

use std::io::{self, Write};

use crate::checkpoint::pyrepr;
use crate::data::Elements;
use crate::data::number::{Number, numeric};
use crate::dtype::{DType, Known};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::Setting;
use crate::write::numerals;

/// Fails when a tensor is no table: more than two dimensions, or elements that are no numbers.
pub(crate) fn check(elements: &Elements) -> Result<()> {
    let rank = elements.shape.len();
    if rank > 2 {
        let what = format!("a tensor of {rank} dimensions is no table");
        return Err(Error::unsupported(what).advise(Setting::Slice.then(" takes a part of two or fewer for .csv")));
    }
    numeric(&elements.dtype).map(|_| ())
}

/// Writes rows; a tensor of one dimension has one value in each. Complex numbers are Python's `(1+2j)`. Errors are those
/// of [`check`], of reading and of `out`.
pub(crate) fn write(elements: &Elements, limits: &Limits, out: &mut dyn Write) -> io::Result<()> {
    check(elements)?;
    let columns = elements.shape.get(1).copied().unwrap_or(1);
    numerals::for_each(elements, limits, &mut |position, number| {
        out.write_all(field(&elements.dtype, number).as_bytes())?;
        out.write_all(if (position + 1) % columns == 0 { b"\n" } else { b"," })
    })
}

fn field(dtype: &DType, number: Number) -> String {
    match number {
        Number::Float(value) => numerals::float(dtype, value),
        Number::Complex(real, imaginary) if *dtype == DType::Known(Known::Complex128) => {
            pyrepr::complex(real, imaginary)
        }
        Number::Complex(real, imaginary) => {
            let (real, imaginary) = (numerals::float(dtype, real), numerals::float(dtype, imaginary));
            let plus = if imaginary.starts_with('-') { "" } else { "+" };
            format!("({real}{plus}{imaginary}j)")
        }
        Number::Signed(value) => value.to_string(),
        Number::Unsigned(value) => value.to_string(),
        Number::Bool(value) => if value { "True" } else { "False" }.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::tensor;

    fn csv(elements: &Elements) -> String {
        let mut out = Vec::new();
        write(elements, &Limits::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_and_columns() {
        assert_eq!(csv(&tensor(Known::UInt8, &[2, 3], vec![1, 2, 3, 4, 5, 6])), "1,2,3\n4,5,6\n");
        assert_eq!(csv(&tensor(Known::Int8, &[2], vec![1, 0xfe])), "1\n-2\n");
        assert_eq!(csv(&tensor(Known::Bool, &[], vec![1])), "True\n");
        let complex = [0.1_f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(csv(&tensor(Known::Complex64, &[1], complex)), "(0.1-2.0j)\n");
        assert_eq!(csv(&tensor(Known::UInt8, &[3, 0], vec![])), "");
        assert!(check(&tensor(Known::UInt8, &[1, 1, 1], vec![1])).is_err());
    }
}
