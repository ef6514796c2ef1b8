//! Python 3's `repr` of plain values, digit for digit and quote for quote.
//!
//! Source: CPython's `Objects/unicodeobject.c` (`unicode_repr`), `bytesobject.c`, `floatobject.c` (`float_repr_style
//! 'short'`).

use std::fmt::Write;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::pickle::text::code_points;

/// `repr(float)`: the shortest digits that read back the same.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    shortest(&format!("{value:e}"))
}

/// `repr(numpy.float32)`'s digits: the shortest that read back as the same float of 32 bits.
pub(crate) fn float32(value: f32) -> String {
    if value.is_finite() { shortest(&format!("{value:e}")) } else { float(f64::from(value)) }
}

/// Python's layout of `d.ddde±n`: plain from 1e-4 to below 1e16.
fn shortest(scientific: &str) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    if !(-4..16).contains(&exponent) {
        let (first, rest) = digits.split_at_checked(1).unwrap_or((&digits, ""));
        let dot = if rest.is_empty() { "" } else { "." };
        let mark = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{dot}{rest}e{mark}{:02}", exponent.abs());
    }
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    if exponent < 0 {
        format!("{sign}0.{}{digits}", zeros(-exponent - 1))
    } else if count <= exponent + 1 {
        format!("{sign}{digits}{}.0", zeros(exponent + 1 - count))
    } else {
        let (whole, part) = digits.split_at(usize::try_from(exponent + 1).unwrap_or(0));
        format!("{sign}{whole}.{part}")
    }
}

/// Which quotes `repr` takes: single ones unless there are single and no double ones inside.
fn quote(content: &[u8]) -> char {
    if content.contains(&b'\'') && !content.contains(&b'"') { '"' } else { '\'' }
}

/// `repr(str)` of UTF-8 with surrogates passed.
pub(crate) fn string(content: &[u8]) -> String {
    let quote = quote(content);
    let mut out = String::with_capacity(content.len() + 2);
    out.push(quote);
    for point in code_points(content) {
        match point {
            Ok(c) if c == quote || c == '\\' => out.extend(['\\', c]),
            Ok('\n') => out.push_str("\\n"),
            Ok('\r') => out.push_str("\\r"),
            Ok('\t') => out.push_str("\\t"),
            Ok(c) if is_printable(c) => out.push(c),
            Ok(c) => escape(&mut out, u32::from(c)),
            Err(code) => escape(&mut out, code),
        }
    }
    out.push(quote);
    out
}

fn escape(out: &mut String, code: u32) {
    // writing to a String cannot fail
    let _ = match code {
        0..0x100 => write!(out, "\\x{code:02x}"),
        0x100..0x1_0000 => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

/// `str.isprintable` of one character.
fn is_printable(c: char) -> bool {
    use GeneralCategory as G;
    c == ' '
        || !matches!(
            c.general_category(),
            G::Control
                | G::Format
                | G::Surrogate
                | G::PrivateUse
                | G::Unassigned
                | G::LineSeparator
                | G::ParagraphSeparator
                | G::SpaceSeparator
        )
}

/// `repr(bytes)`.
pub(crate) fn bytes(content: &[u8]) -> String {
    let quote = quote(content);
    let mut out = String::with_capacity(content.len() + 3);
    out.push('b');
    out.push(quote);
    for b in content {
        match b {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            0x20..0x7f if char::from(*b) != quote => out.push(char::from(*b)),
            0x20..0x7f => out.extend(['\\', quote]),
            _ => escape(&mut out, u32::from(*b)),
        }
    }
    out.push(quote);
    out
}

/// `repr(complex)`.
pub(crate) fn complex(real: f64, imag: f64) -> String {
    let part = |value: f64| {
        let text = float(value);
        text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
    };
    if real == 0.0 && real.is_sign_positive() {
        return format!("{}j", part(imag));
    }
    let sign = if imag.is_sign_negative() && !imag.is_nan() { "" } else { "+" };
    format!("({}{sign}{}j)", part(real), part(imag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_python_prints_them() {
        // python3 -c "print(*map(repr, [...]))"
        let cases: &[(f64, &str)] = &[
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (5e-324, "5e-324"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (96.0, "96.0"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
        ];
        for (value, wanted) in cases {
            assert_eq!(float(*value), *wanted);
        }
        assert_eq!(float32(0.1), "0.1");
        assert_eq!(float32(16_777_216.0), "16777216.0");
    }

    #[test]
    fn strings_as_python_prints_them() {
        assert_eq!(string("it's".as_bytes()), "\"it's\"");
        assert_eq!(string("it's \"q\"".as_bytes()), "'it\\'s \"q\"'");
        assert_eq!(string("a\n\t\\\0\x7f".as_bytes()), "'a\\n\\t\\\\\\x00\\x7f'");
        assert_eq!(
            string("模型 ✓ \u{a0}\u{202e}\u{e000}\u{10ffff}".as_bytes()),
            "'模型 ✓ \\xa0\\u202e\\ue000\\U0010ffff'"
        );
        assert_eq!(string(b"\xed\xa0\x80"), "'\\ud800'");
        assert_eq!(bytes(b"\x00\xff raw'"), "b\"\\x00\\xff raw'\"");
    }

    #[test]
    fn complex_as_python_prints_it() {
        assert_eq!(complex(1.0, 2.0), "(1+2j)");
        assert_eq!(complex(0.0, -1.5), "-1.5j");
        assert_eq!(complex(-0.0, 1.0), "(-0+1j)");
        assert_eq!(complex(1.0, f64::NAN), "(1+nanj)");
    }
}
