//! Numbers as people read them: sizes, counts, shapes.

use serde_json::Number;

const UNITS: &[&str] = &["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A size with three digits: `432 B`, `5.92 KiB`, `1.44 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // exact enough for three digits
    let mut scaled = bytes as f64;
    let mut shown = "B";
    for unit in UNITS {
        // what would round to 1024 is one of the next unit
        if scaled < 1023.5 {
            break;
        }
        scaled /= 1024.0;
        shown = unit;
    }
    let decimals = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
    format!("{scaled:.decimals$} {shown}")
}

/// A count with its thousands apart: `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count and what is counted: `1 tensor`, `40 tensors`.
pub(crate) fn counted(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Names that a message spells out.
pub(crate) const SOME: usize = 8;

/// The first few, and how many more: `a, b and 3 more`.
pub(crate) fn some_of(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(SOME);
    let shown = names.take(SOME).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// A shape as torch writes it: `[4, 3, 3, 3]`.
pub(crate) fn shape(dims: &[i64]) -> String {
    use std::fmt::Write;
    let mut text = String::from("[");
    for (i, dim) in dims.iter().enumerate() {
        // writing into a string cannot fail
        _ = write!(text, "{}{dim}", if i > 0 { ", " } else { "" });
    }
    text.push(']');
    text
}

/// A number with four significant digits, as C's `%.4g` has it, but whole numbers below a million in full.
pub(crate) fn significant(x: f64) -> String {
    if !x.is_finite() {
        return x.to_string();
    }
    if x == x.trunc() && x.abs() < 1e6 {
        // no sign for a negative zero
        return format!("{:.0}", x + 0.0);
    }
    let scientific = format!("{x:.3e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    match usize::try_from(3 - exponent) {
        Ok(decimals) if exponent >= -4 => trim(&format!("{x:.decimals$}")),
        _ => format!("{}e{}{:02}", trim(mantissa), if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs()),
    }
}

/// A JSON number with four significant digits; whole numbers below a million in full.
pub(crate) fn number(n: &Number) -> String {
    n.as_f64().map_or_else(|| n.to_string(), significant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (6064, "5.92 KiB"),
            (10_235, "10.0 KiB"),
            (17_909, "17.5 KiB"),
            (1_048_064, "1.00 MiB"),
            (1_048_000, "1023 KiB"),
            (30 << 30, "30.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn counts_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
        assert_eq!((counted(1, "tensor"), counted(0, "tensor")), ("1 tensor".into(), "0 tensors".into()));
    }

    #[test]
    fn shapes_are_torchs() {
        assert_eq!((shape(&[]), shape(&[4]), shape(&[4, 3])), ("[]".into(), "[4]".into(), "[4, 3]".into()));
    }

    #[test]
    fn four_significant_digits() {
        // what Python's '%.4g' says, but for whole numbers
        let cases = [
            (-0.0, "0"),
            (-1.0, "-1"),
            (0.5, "0.5"),
            (0.123456, "0.1235"),
            (12.3456, "12.35"),
            (999.96, "1000"),
            (123456.0, "123456"),
            (1234567.0, "1.235e+06"),
            (12345.6, "1.235e+04"),
            (0.000123456, "0.0001235"),
            (0.0000123456, "1.235e-05"),
            (-3.0e-45, "-3e-45"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "NaN"),
        ];
        for (x, text) in cases {
            assert_eq!(significant(x), text, "{x}");
        }
    }
}
