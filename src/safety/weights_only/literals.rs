//! Numbers in texts: `complex(text)` (CPython's `complex_from_string_inner`), `int(bytes)`, and C++'s `std::stoull`.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether `complex(text)` takes the text.
pub(super) fn is_complex(text: &str) -> bool {
    let Some(ascii) = simplified(text) else { return false };
    let mut rest = ascii.trim();
    if let Some(inner) = rest.strip_prefix('(') {
        let Some(inner) = inner.strip_suffix(')') else { return false };
        rest = inner.trim();
    }
    let is_imaginary = |rest: &str| matches!(rest, "j" | "J");
    match number(rest) {
        // a number alone, one with `j`, or two of which the second has a sign and a `j`
        Some("") => true,
        Some(after) if is_imaginary(after) => true,
        Some(after) if after.starts_with(['+', '-']) => {
            number(after).or_else(|| after.get(1..)).is_some_and(is_imaginary)
        }
        Some(_) => false,
        None => is_imaginary(rest.strip_prefix(['+', '-']).unwrap_or(rest)),
    }
}

/// Whether Python's `int(bytes)` takes the bytes.
pub(super) fn is_int(bytes: &[u8]) -> bool {
    const MAX_DIGITS: usize = 4300;
    let Some(ascii) = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii()) else { return false };
    let text = ascii.trim_matches(|c| matches!(c, ' ' | '\t'..='\r'));
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        && digits.len() <= MAX_DIGITS
}

/// The number that the bytes begin with, as `std::stoull` reads it: blanks, a sign, digits, and then anything.
pub(super) fn leading_number(bytes: &[u8]) -> Option<u64> {
    let text = bytes.trim_ascii_start();
    let (is_negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let mut number = None;
    for digit in digits {
        number = Some(number.unwrap_or(0u64).checked_mul(10)?.checked_add(u64::from(digit - b'0'))?);
    }
    number.map(|number| if is_negative { number.wrapping_neg() } else { number })
}

/// Digits and blanks of all scripts as ASCII has them, and underscores between digits left out.
fn simplified(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut last = ' ';
    for character in text.chars() {
        let plain = match character {
            '\x1c'..='\x1f' | '\u{85}' => ' ',
            blank if blank.is_whitespace() => ' ',
            ascii if ascii.is_ascii() => ascii,
            digit if digit.general_category() == GeneralCategory::DecimalNumber => '0',
            _ => return None,
        };
        if last == '_' && !plain.is_ascii_digit() || plain == '_' && !last.is_ascii_digit() {
            return None;
        }
        if plain != '_' {
            out.push(plain);
        }
        last = plain;
    }
    (last != '_').then_some(out)
}

/// What follows a floating point number.
fn number(text: &str) -> Option<&str> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    for word in ["infinity", "inf", "nan"] {
        if let Some((head, after)) = unsigned.split_at_checked(word.len())
            && head.eq_ignore_ascii_case(word)
        {
            return Some(after);
        }
    }
    let whole = unsigned.trim_start_matches(|c: char| c.is_ascii_digit());
    let fraction = whole.strip_prefix('.').unwrap_or(whole);
    let after = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    if whole.len() == unsigned.len() && after.len() == fraction.len() {
        return None;
    }
    let Some(exponent) = after.strip_prefix(['e', 'E']) else { return Some(after) };
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let end = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    // an exponent without digits is none
    Some(if end.len() == digits.len() { after } else { end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for text in ["64", " 64\n", "+1", "-1", "0_1", "007"] {
            assert!(is_int(text.as_bytes()), "{text}");
        }
        for text in ["", "x", "0x40", "6 4", "6__4", "_6", "6_", "1.0", "\u{661}"] {
            assert!(!is_int(text.as_bytes()), "{text}");
        }
        assert_eq!(leading_number(b"3\n"), Some(3));
        assert_eq!(leading_number(b" +10abc"), Some(10));
        assert_eq!(leading_number(b"0x3"), Some(0));
        assert_eq!(leading_number(b"-1"), Some(u64::MAX));
        assert_eq!(leading_number(b"x"), None);
        assert_eq!(leading_number(b"99999999999999999999"), None);
    }

    #[test]
    fn as_cpython_takes_them() {
        // each was given to CPython 3.11's `complex`
        for text in [
            "1",
            " 1 ",
            "1j",
            "j",
            "-j",
            "+J",
            "1+2j",
            "1-j",
            "1e5",
            "1e5j",
            "1.",
            ".5",
            ".5e-3+1.e2j",
            "(1+2j)",
            " ( 1 ) ",
            "nan",
            "-inf",
            "Infinity+nanj",
            "1_000",
            "1_0.2_5e1_0j",
            "١",
            "\u{2003}1",
            "1e999",
            "infj",
        ] {
            assert!(is_complex(text), "{text}");
        }
        for text in [
            "", " ", "x", "1 + 2j", "1+2", "j1", "(1", "1)", "((1))", "1__0", "_1", "1_", "1e", "1ej", ".", "+",
            "1+j2", "1j+2", "1+2j+3", "0x1", "()", "1\0", "é", "1._5", "infinit", "--1",
        ] {
            assert!(!is_complex(text), "{text}");
        }
    }
}
