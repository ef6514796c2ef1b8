//! How numbers of one tensor are written: one width and one style for all of them.
//!
//! The rules are those of `_Formatter` in `torch/_tensor_str.py` with its default options: four digits, scientific when
//! the magnitudes need it. Widths follow from the extremes, because longer numbers are larger or smaller ones.

use crate::data::number::{Number, integer};

/// Digits after the point.
const PRECISION: usize = 4;
/// The ratio of magnitudes beyond which numbers are written scientifically.
const WIDE_RATIO: f64 = 1000.0;
const LARGE: f64 = 1.0e8;
const SMALL: f64 = 1.0e-4;

/// What the numbers of a tensor have in common, gathered one by one.
#[derive(Debug, Clone, Default)]
pub(super) struct Extremes {
    integers: Option<(i128, i128)>,
    /// 4 for `True`, 5 for `False`.
    boolean: usize,
    /// Smallest and largest magnitude of finite numbers above zero.
    positive: Option<(f64, f64)>,
    /// The same of those below zero.
    negative: Option<(f64, f64)>,
    fractional: bool,
    floating: bool,
}

fn widen<T: PartialOrd + Copy>(range: &mut Option<(T, T)>, value: T) {
    let (low, high) = range.get_or_insert((value, value));
    if value < *low {
        *low = value;
    }
    if value > *high {
        *high = value;
    }
}

impl Extremes {
    /// Takes one number into account.
    pub(super) fn see(&mut self, number: Number) {
        match number {
            Number::Bool(value) => self.boolean = self.boolean.max(if value { 4 } else { 5 }),
            Number::Signed(_) | Number::Unsigned(_) => {
                if let Some(value) = integer(number) {
                    widen(&mut self.integers, value);
                }
            }
            Number::Float(value) => self.see_float(value),
            Number::Complex(real, _) => self.see_float(real),
        }
    }

    fn see_float(&mut self, value: f64) {
        self.floating = true;
        if !value.is_finite() || value == 0.0 {
            return;
        }
        widen(if value > 0.0 { &mut self.positive } else { &mut self.negative }, value.abs());
        self.fractional |= value.fract() != 0.0;
    }

    /// The style that shows them all.
    pub(super) fn formatter(&self) -> Formatter {
        if !self.floating {
            let (low, high) = self.integers.unwrap_or_default();
            let digits = low.to_string().len().max(high.to_string().len());
            return Formatter { style: Style::Plain, width: digits.max(self.boolean) };
        }
        let ends: Vec<f64> = [(self.positive, 1.0), (self.negative, -1.0)]
            .into_iter()
            .filter_map(|(range, sign)| range.map(|(low, high)| [low * sign, high * sign]))
            .flatten()
            .collect();
        let magnitudes = || ends.iter().map(|end| end.abs());
        let (low, high) = (magnitudes().fold(f64::INFINITY, f64::min), magnitudes().fold(0.0, f64::max));
        let style = if ends.is_empty() {
            Style::Whole
        } else if high / low > WIDE_RATIO || high > LARGE || low < SMALL {
            Style::Scientific
        } else if self.fractional {
            Style::Fixed
        } else {
            Style::Whole
        };
        let width = ends.iter().map(|end| style.write(*end).len()).max().unwrap_or(1);
        Formatter { style, width }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    /// Integers and booleans.
    Plain,
    /// Floats without a fraction: `3.`
    Whole,
    /// `0.5000`
    Fixed,
    /// `5.0000e-01`
    Scientific,
}

impl Style {
    fn write(self, value: f64) -> String {
        if value.is_nan() {
            return "nan".to_owned();
        }
        if value.is_infinite() {
            return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
        }
        match self {
            Style::Plain | Style::Whole => format!("{value:.0}."),
            Style::Fixed => format!("{value:.PRECISION$}"),
            Style::Scientific => scientific(value, PRECISION),
        }
    }
}

/// C's `%.{precision}e`: a signed exponent of two digits at least.
fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

/// Writes the numbers of one tensor alike.
#[derive(Debug, Clone)]
pub(super) struct Formatter {
    style: Style,
    /// Characters of the widest one.
    pub(super) width: usize,
}

impl Formatter {
    /// One number, padded to the common width. Of complex ones the real part.
    pub(super) fn format(&self, number: Number) -> String {
        let text = match number {
            Number::Bool(value) => if value { "True" } else { "False" }.to_owned(),
            Number::Signed(value) => value.to_string(),
            Number::Unsigned(value) => value.to_string(),
            Number::Float(value) | Number::Complex(value, _) => self.style.write(value),
        };
        format!("{text:>width$}", width = self.width)
    }
}

/// Both parts of complex numbers, or the only one of real ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Survey {
    real: Extremes,
    imaginary: Option<Extremes>,
}

impl Survey {
    /// Takes one number into account.
    pub(super) fn see(&mut self, number: Number) {
        self.real.see(number);
        if let Number::Complex(_, imaginary) = number {
            self.imaginary.get_or_insert_default().see(Number::Float(imaginary));
        }
    }

    /// How to write them.
    pub(super) fn formatters(&self) -> Formatters {
        Formatters { real: self.real.formatter(), imaginary: self.imaginary.as_ref().map(Extremes::formatter) }
    }
}

/// Writes numbers, complex ones as `real+imagj`.
#[derive(Debug, Clone)]
pub(super) struct Formatters {
    real: Formatter,
    imaginary: Option<Formatter>,
}

impl Formatters {
    /// Characters that one number takes in a row, separator included.
    pub(super) fn pitch(&self) -> usize {
        self.real.width + 2 + self.imaginary.as_ref().map_or(0, |imaginary| imaginary.width + 1)
    }

    /// One number.
    pub(super) fn format(&self, number: Number) -> String {
        let real = self.real.format(number);
        let (Some(formatter), Number::Complex(_, imaginary)) = (&self.imaginary, number) else { return real };
        let imaginary = formatter.format(Number::Float(imaginary));
        let imaginary = imaginary.trim_start();
        let plus = if imaginary.starts_with(['+', '-']) { "" } else { "+" };
        format!("{real}{plus}{imaginary}j")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // python3: f'{x:.4e}', f'{x:.4f}', f'{x:.0f}'
    #[test]
    fn numbers_as_python_writes_them() {
        assert_eq!(scientific(1e-9, 4), "1.0000e-09");
        assert_eq!(scientific(-1.5e300, 4), "-1.5000e+300");
        assert_eq!(scientific(0.0, 4), "0.0000e+00");
        // ties go to even: 0.03125 and 0.09375 are exact
        assert_eq!(Style::Fixed.write(0.03125), "0.0312");
        assert_eq!(Style::Fixed.write(0.09375), "0.0938");
        assert_eq!(Style::Whole.write(-0.0), "-0.");
        assert_eq!(Style::Whole.write(f64::NEG_INFINITY), "-inf");
    }

    #[test]
    fn zeros_and_nonfinite_numbers_have_no_say() {
        let mut extremes = Extremes::default();
        for value in [0.0, f64::NAN, f64::INFINITY, -2.0, 7.0] {
            extremes.see(Number::Float(value));
        }
        let formatter = extremes.formatter();
        assert_eq!((formatter.style, formatter.width), (Style::Whole, 3));
        assert_eq!(formatter.format(Number::Float(f64::NEG_INFINITY)), "-inf");
        assert_eq!(formatter.format(Number::Float(7.0)), " 7.");
    }
}
