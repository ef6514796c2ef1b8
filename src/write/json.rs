//! A tensor as JSON: lists in lists, as `tensor.tolist()` gives them.
//!
//! Complex numbers are pairs `[real, imaginary]`. JSON has no NaN and no infinities: they are the strings `"NaN"`,
//! `"Infinity"` and `"-Infinity"`, which Python's `float` reads.

use std::io::{self, Write};

use crate::data::Elements;
use crate::data::number::{Number, numeric};
use crate::dtype::DType;
use crate::error::Error;
use crate::limits::Limits;
use crate::write::numerals;

/// Lists that an empty tensor may become: a shape like `[1000000000, 0]` has no elements and many lists.
const MAX_EMPTY_LISTS: u64 = 1 << 20;

/// Writes the elements without a newline. Errors are those of reading and of `out`.
pub(crate) fn write(elements: &Elements, limits: &Limits, out: &mut dyn Write) -> io::Result<()> {
    if elements.validate(limits)?.elements == 0 {
        numeric(&elements.dtype)?;
        return out.write_all(empty(&elements.shape)?.as_bytes());
    }
    // elements in one list of each depth
    let spans: Vec<u64> = (0..elements.shape.len()).map(|dim| elements.shape.iter().skip(dim).product()).collect();
    numerals::for_each(elements, limits, &mut |position, number| {
        let begun = spans.iter().rev().take_while(|span| position % **span == 0).count();
        if position > 0 {
            repeat(out, b"]", begun)?;
            out.write_all(b",")?;
        }
        repeat(out, b"[", begun)?;
        out.write_all(scalar(&elements.dtype, number).as_bytes())
    })?;
    repeat(out, b"]", elements.shape.len())
}

fn repeat(out: &mut dyn Write, bracket: &[u8], times: usize) -> io::Result<()> {
    (0..times).try_for_each(|_| out.write_all(bracket))
}

fn scalar(dtype: &DType, number: Number) -> String {
    let float = |value: f64| match value {
        _ if value.is_nan() => "\"NaN\"".to_owned(),
        f64::INFINITY => "\"Infinity\"".to_owned(),
        f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
        _ => numerals::float(dtype, value),
    };
    match number {
        Number::Float(value) => float(value),
        Number::Complex(real, imaginary) => format!("[{},{}]", float(real), float(imaginary)),
        Number::Signed(value) => value.to_string(),
        Number::Unsigned(value) => value.to_string(),
        Number::Bool(value) => value.to_string(),
    }
}

/// Lists in lists down to the dimension that has no elements.
fn empty(shape: &[u64]) -> io::Result<String> {
    let outer = shape.iter().position(|dim| *dim == 0).and_then(|at| shape.get(..at)).unwrap_or_default();
    let lists = outer.iter().try_fold(1_u64, |n, dim| n.checked_mul(*dim)).filter(|n| *n <= MAX_EMPTY_LISTS);
    if lists.is_none() {
        return Err(Error::limit("a tensor without elements that has too many empty lists").into());
    }
    let mut text = "[]".to_owned();
    for dim in outer.iter().rev() {
        let items = vec![text; usize::try_from(*dim).unwrap_or_default()];
        text = format!("[{}]", items.join(","));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::tensor;
    use crate::dtype::Known;

    fn json(elements: &Elements) -> String {
        let mut out = Vec::new();
        write(elements, &Limits::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    // json.dumps(torch.tensor(...).tolist(), separators=(',', ':')), but for NaN and infinities
    #[test]
    fn nested_as_tolist() {
        let ints = tensor(Known::Int8, &[2, 1, 3], vec![1, 2, 255, 4, 5, 6]);
        assert_eq!(json(&ints), "[[[1,2,-1]],[[4,5,6]]]");
        let floats = [0.1_f32, f32::NAN, f32::NEG_INFINITY, 1e-7].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(json(&tensor(Known::Float32, &[4], floats)), r#"[0.1,"NaN","-Infinity",1e-07]"#);
        let complex = [1.5_f32, -0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(json(&tensor(Known::Complex64, &[], complex)), "[1.5,-0.0]");
        assert_eq!(json(&tensor(Known::Bool, &[2], vec![1, 0])), "[true,false]");
        assert_eq!(json(&tensor(Known::Float32, &[2, 0, 5], vec![])), "[[],[]]");
    }

    #[test]
    fn no_endless_emptiness() {
        let t = tensor(Known::Float32, &[u64::MAX, 0], vec![]);
        assert!(write(&t, &Limits::default(), &mut Vec::new()).is_err());
    }
}
