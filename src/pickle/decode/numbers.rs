//! Numbers as Python reads them from a line: `int(line, 0)` and `float(line)`, in what `Lib/pickle.py` or
//! `Modules/_pickle.c` takes.

use num_bigint::BigInt;

/// `sys.int_info.default_max_str_digits`: to compute with longer ones takes quadratic time.
const MAX_DECIMAL_DIGITS: usize = 4300;

/// The line up to a NUL, where C's readers stop, without the blanks around it.
pub(super) fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.split(|b| *b == 0).next().unwrap_or_default();
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0x1c..=0x1f);
    let from = line.iter().position(|b| !blank(b)).unwrap_or(line.len());
    let to = line.iter().rposition(|b| !blank(b)).map_or(from, |last| last + 1);
    line.get(from..to).unwrap_or_default()
}

/// An integer, in decimal digits, of which there are few, or with Python's `0x`, `0o`, `0b`; `_` may stand between digits.
pub(crate) fn integer(text: &[u8]) -> Option<BigInt> {
    let (negative, digits) = signed(text);
    let (radix, digits) = match digits {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest.strip_prefix(b"_").unwrap_or(rest)),
        [b'0', b'o' | b'O', rest @ ..] => (8, rest.strip_prefix(b"_").unwrap_or(rest)),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest.strip_prefix(b"_").unwrap_or(rest)),
        _ => (10, digits),
    };
    let digits = plain_digits(digits, radix)?;
    if radix == 10 && digits.len() > MAX_DECIMAL_DIGITS {
        return None;
    }
    let value = BigInt::parse_bytes(&digits, radix)?;
    Some(if negative { -value } else { value })
}

/// Whether an integer in decimal digits has a minus sign, and its digits without zeros in front.
pub(super) fn decimal(text: &[u8]) -> Option<(bool, Vec<u8>)> {
    let (negative, digits) = signed(text);
    Some((negative, plain_digits(digits, 10)?))
}

fn signed(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

fn plain_digits(text: &[u8], radix: u32) -> Option<Vec<u8>> {
    let mut digits = without_underscores(text, |b| char::from(b).is_digit(radix))?;
    if !digits.iter().all(|b| char::from(*b).is_digit(radix)) {
        return None;
    }
    let zeros = digits.iter().take_while(|b| **b == b'0').count().min(digits.len().saturating_sub(1));
    drop(digits.drain(..zeros));
    Some(digits)
}

/// A float: digits with `_` between them, an exponent, `inf`, `nan`.
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    let text = without_underscores(text, |b| b.is_ascii_digit())?;
    let text = std::str::from_utf8(&text).ok()?;
    text.parse().ok()
}

/// Single underscores between two digits say nothing.
fn without_underscores(text: &[u8], is_digit: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    for (at, b) in text.iter().enumerate() {
        if *b != b'_' {
            out.push(*b);
            continue;
        }
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        let is_between = before.is_some_and(|b| is_digit(*b)) && text.get(at + 1).is_some_and(|b| is_digit(*b));
        if !is_between {
            return None;
        }
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_every_form_that_python_takes() {
        // what CPython 3.11's `int(text, 0)` and `int(text, 10)` say
        for (text, any, decimal) in [
            (&b"10"[..], Some(10), Some(10)),
            (b"-7", Some(-7), Some(-7)),
            (b"+7", Some(7), Some(7)),
            (b"0x10", Some(16), None),
            (b"-0X1f", Some(-31), None),
            (b"0o17", Some(15), None),
            (b"0b101", Some(5), None),
            (b"0x_ff", Some(255), None),
            (b"1_000", Some(1000), Some(1000)),
            (b"1__0", None, None),
            (b"_1", None, None),
            (b"1_", None, None),
            (b"", None, None),
            (b"-", None, None),
            (b"0x", None, None),
            (b"1e5", None, None),
        ] {
            assert_eq!(integer(text), any.map(BigInt::from), "{text:?}");
            let digits = super::decimal(text).map(|(negative, digits)| {
                let value = BigInt::parse_bytes(&digits, 10).unwrap();
                if negative { -value } else { value }
            });
            assert_eq!(digits, decimal.map(BigInt::from), "{text:?}");
        }
        assert_eq!(trimmed(b" \t12 \x0b\r"), b"12");
        assert_eq!(trimmed(b"12\0junk"), b"12");
    }

    #[test]
    fn floats_in_every_form_that_python_takes() {
        assert_eq!(float(b"1_0.5"), Some(10.5));
        assert_eq!(float(b"1e_5"), None);
        assert_eq!(float(b"inf"), Some(f64::INFINITY));
        assert_eq!(float(b"-Infinity"), Some(f64::NEG_INFINITY));
        assert!(float(b"nan").is_some_and(f64::is_nan));
        assert_eq!(float(b"0x1p3"), None);
    }
}
