//! Names and texts out of files, made safe to show: nothing in them moves the cursor, changes the direction of writing
//! or hides.
//!
//! The escapes are those that Rust and most shells read: `\n`, `\x1b`, `\u{202e}`. Backslashes stay as they are, so a
//! text that has been escaped is not changed again.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

// shown as nothing or as a blank, though their general category does not say so (Default_Ignorable_Code_Point, fillers)
const INVISIBLE: &[(char, char)] = &[
    ('\u{34f}', '\u{34f}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{2065}', '\u{2065}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// `text` with everything visible; borrowed when nothing had to change.
pub fn escape(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| (0x20..0x7f).contains(&b);
    if text.bytes().all(plain) || !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // writing into a string cannot fail
            _ if is_hostile(c) && u32::from(c) < 0x100 => _ = write!(shown, "\\x{:02x}", u32::from(c)),
            _ if is_hostile(c) => _ = write!(shown, "\\u{{{:x}}}", u32::from(c)),
            _ => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Whether a character moves the cursor, changes the direction of writing or cannot be seen.
pub(super) fn is_hostile(c: char) -> bool {
    use GeneralCategory as G;
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(
        c.general_category(),
        G::Control | G::Format | G::LineSeparator | G::ParagraphSeparator | G::SpaceSeparator
    ) || INVISIBLE.iter().any(|&(first, last)| (first..=last).contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_characters_become_visible() {
        let cases = [
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\x1b[31mred\x07\0\x7f", "\\x1b[31mred\\x07\\x00\\x7f"),
            ("c1\u{9b}31m", "c1\\x9b31m"),
            ("txt.\u{202e}gnp\u{2066}", "txt.\\u{202e}gnp\\u{2066}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("soft\u{ad}hyphen nbsp\u{a0}", "soft\\xadhyphen nbsp\\xa0"),
            ("line\u{2028}par\u{2029}", "line\\u{2028}par\\u{2029}"),
            ("filler\u{3164}tag\u{e0041}", "filler\\u{3164}tag\\u{e0041}"),
        ];
        for (raw, shown) in cases {
            assert_eq!(escape(raw), shown);
        }
    }

    #[test]
    fn ordinary_text_is_borrowed() {
        for text in ["features.0.weight", "模型.权重", "naïve Ωμέγα", "C:\\new", "e\u{301}", "🔥", "lone \u{fffd}"]
        {
            assert!(matches!(escape(text), Cow::Borrowed(t) if t == text), "{text}");
        }
    }

    #[test]
    fn escaping_twice_changes_nothing() {
        let once = escape("\x1b\u{202e}\n").into_owned();
        assert_eq!(escape(&once), once);
    }
}
