//! What `_codecs.encode` and `bytearray(text, encoding)` encode, with Python's codecs: `encodings.txt`, which `encodings.py`
//! writes.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::arguments::{Checked, Made, wrong};
use super::replay::Replay;
use super::value::{Id, Text, Value};
use crate::pickle::text::code_points;

/// How a codec encodes.
#[derive(Debug)]
enum Codec {
    /// The code points in these ranges.
    Characters(Vec<(u32, u32)>),
    /// All but surrogates.
    Unicode,
    Everything,
    /// ASCII and what is not listed here: other characters are refused, as nobody uses these codecs in checkpoints.
    EastAsian,
    /// From bytes to bytes.
    Bytes,
    Rot13,
    Idna,
    Punycode,
    Undefined,
}

static CODECS: LazyLock<HashMap<&'static str, Codec>> = LazyLock::new(|| {
    let lines = TABLE.lines().filter_map(|line| line.strip_prefix("codec "));
    lines.filter_map(|line| line.split_once(' ')).map(|(name, kind)| (name, Codec::parse(kind))).collect()
});
static ALIASES: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let lines = TABLE.lines().filter_map(|line| line.strip_prefix("alias "));
    lines.filter_map(|line| line.split_once(' ')).collect()
});
/// Codecs that encode `str(object)` where they are given no text.
static OBJECTS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| TABLE.lines().filter_map(|line| line.strip_prefix("objects ")).collect());
const TABLE: &str = include_str!("encodings.txt");

impl Codec {
    fn parse(kind: &str) -> Self {
        match kind.split_once(' ') {
            Some(("characters", ranges)) => Codec::Characters(ranges.split(',').filter_map(range).collect()),
            _ => match kind {
                "unicode" => Codec::Unicode,
                "everything" => Codec::Everything,
                "east_asian" => Codec::EastAsian,
                "bytes" => Codec::Bytes,
                "rot_13" => Codec::Rot13,
                "idna" => Codec::Idna,
                "punycode" => Codec::Punycode,
                _ => Codec::Undefined,
            },
        }
    }

    /// The codec of a name, as `encodings.search_function` finds it.
    fn named(name: &str) -> Option<(&'static str, &'static Codec)> {
        let mut normal = String::new();
        let mut is_apart = false;
        for character in name.chars() {
            match character {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '.' => {
                    if is_apart && !normal.is_empty() {
                        normal.push('_');
                    }
                    is_apart = false;
                    normal.push(character.to_ascii_lowercase());
                }
                '\0' => return None,
                _ => is_apart = true,
            }
        }
        let alias = ALIASES.get(normal.as_str()).or_else(|| ALIASES.get(normal.replace('.', "_").as_str()));
        let known = |name: &str| CODECS.get_key_value(name).map(|(name, codec)| (*name, codec));
        alias.and_then(|name| known(name)).or_else(|| known(&normal))
    }

    fn has(&self, point: u32) -> bool {
        match self {
            Codec::Characters(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&point)),
            Codec::Unicode | Codec::Idna => !(0xd800..0xe000).contains(&point),
            Codec::Everything | Codec::Rot13 | Codec::Punycode => true,
            Codec::EastAsian => point < 0x80,
            Codec::Bytes | Codec::Undefined => false,
        }
    }

    /// Whether a text can be encoded, with this handler of errors.
    fn encodes(&self, text: &Text, errors: &str) -> Checked {
        match self {
            Codec::Bytes => return Err("an encoding of bytes, not of text".into()),
            Codec::Undefined => return Err("an encoding that always fails".into()),
            Codec::Idna if errors != "strict" => return Err("another handler of errors than `strict`".into()),
            Codec::Idna => labels(text)?,
            _ => {}
        }
        let Some(content) = &text.content else {
            // of a long text only the largest code point is known, and most codecs have all that are smaller
            return if self.has(text.largest) || is_lenient(errors) {
                Ok(())
            } else {
                Err("a character it lacks".into())
            };
        };
        let lacking: Vec<u32> = code_points(content)
            .map(|point| point.map_or_else(|code| code, u32::from))
            .filter(|p| !self.has(*p))
            .collect();
        let is_handled = match errors {
            "surrogatepass" => matches!(self, Codec::Unicode),
            "surrogateescape" => lacking.iter().all(|point| (0xdc80..0xdd00).contains(point)),
            _ => is_lenient(errors),
        };
        match lacking.first() {
            Some(point) if !is_handled => Err(format!("the encoding lacks the character U+{point:04X}")),
            _ => Ok(()),
        }
    }
}

fn is_lenient(errors: &str) -> bool {
    matches!(errors, "ignore" | "replace" | "xmlcharrefreplace" | "backslashreplace" | "namereplace")
}

fn range(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-')?;
    Some((u32::from_str_radix(first, 16).ok()?, u32::from_str_radix(last, 16).ok()?))
}

/// IDNA's labels, which have 1 to 63 characters; the last may be empty.
fn labels(text: &Text) -> Checked {
    let Some(content) = &text.content else { return Err("a label of more than 63 characters".into()) };
    let content = String::from_utf8_lossy(content);
    if content.is_empty() {
        return Ok(());
    }
    let labels: Vec<&str> = content.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']).collect();
    let last = labels.len() - 1;
    match labels.iter().enumerate().all(|(at, label)| label.len() < 64 && (at == last || !label.is_empty())) {
        true => Ok(()),
        false => Err("a label that is empty or has more than 63 characters".into()),
    }
}

impl Replay<'_> {
    /// A text argument, `default` where it is left out; nothing where it is not known.
    fn text_argument(&self, id: Option<&Id>, default: &str, what: &str) -> Result<Option<String>, String> {
        match id.map(|id| self.value(*id)) {
            None => Ok(Some(default.to_owned())),
            Some(Value::Str(text)) => match &text.content {
                Some(content) => Ok(Some(String::from_utf8_lossy(content).into_owned())),
                None => Err(format!("{what} is too long")),
            },
            Some(Value::Unknown) => Ok(None),
            Some(other) => Err(wrong(what, other)),
        }
    }

    /// The codec and the handler of errors that arguments name.
    fn codec(&self, args: &[Id]) -> Result<Option<(&'static str, &'static Codec, String)>, String> {
        let name = self.text_argument(args.get(1), "utf-8", "the encoding")?;
        let errors = self.text_argument(args.get(2), "strict", "the handler of errors")?;
        let Some((name, errors)) = name.zip(errors) else { return Ok(None) };
        match Codec::named(&name) {
            Some((name, codec)) => Ok(Some((name, codec, errors))),
            None => Err(format!("{name:?} is no encoding")),
        }
    }

    /// `_codecs.encode(object, encoding, errors)`.
    pub(super) fn encode(&self, args: &[Id]) -> Made {
        let [object, ..] = *args else { return Err("takes 1 to 3 arguments, 0 given".into()) };
        if args.len() > 3 {
            return Err(format!("takes 1 to 3 arguments, {} given", args.len()));
        }
        let Some((name, codec, errors)) = self.codec(args)? else { return Ok(Value::Unknown) };
        let bytes = |content, is_empty| Ok(Value::Bytes(Text { content, is_empty, largest: 0 }));
        match (self.value(object), codec) {
            (Value::Unknown, _) => Ok(Value::Unknown),
            (Value::Str(text), Codec::Rot13) => Ok(Value::Str(Text { content: None, ..text.clone() })),
            (Value::Str(text), _) => {
                codec.encodes(text, &errors)?;
                bytes(self.encoded(text, args), text.is_empty)
            }
            (Value::Bytes(_) | Value::ByteArray(_), Codec::Bytes) if errors == "strict" => bytes(None, false),
            // `str(object)`
            _ if OBJECTS.contains(name) => bytes(None, false),
            // they go on with what is empty before they look what it is
            (other, Codec::Idna) if errors == "strict" && self.truth(object)? == Some(false) && !is_bytes(other) => {
                bytes(None, true)
            }
            (Value::ByteArray(empty), Codec::Idna | Codec::Punycode) if empty.len == 0 => bytes(None, true),
            (other, _) => Err(wrong("what is encoded", other)),
        }
    }

    /// The bytes, where an encoding is used that torch and Python use themselves for `bytes`.
    fn encoded(&self, text: &Text, args: &[Id]) -> Option<std::rc::Rc<[u8]>> {
        let name = self.text_argument(args.get(1), "utf-8", "").ok()??;
        let content = text.content.as_ref()?;
        match name.to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" if text.largest < 0xd800 => Some(std::rc::Rc::clone(content)),
            "latin1" | "latin-1" | "iso-8859-1" if text.largest < 0x100 => {
                let points = code_points(content).map(|point| point.map_or_else(|code| code, u32::from));
                points.map(|point| u8::try_from(point).ok()).collect()
            }
            _ => None,
        }
    }

    /// `bytearray(text, encoding, errors)`: only encodings of text.
    pub(super) fn encoded_array(&self, text: &Text, args: &[Id]) -> Checked {
        match self.codec(args)? {
            Some((_, Codec::Rot13, _)) => Err("an encoding from text to text".into()),
            Some((_, codec, errors)) => codec.encodes(text, &errors),
            None => Ok(()),
        }
    }
}

fn is_bytes(value: &Value) -> bool {
    matches!(value, Value::Bytes(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_python_takes_them() {
        for name in ["utf-8", "UTF8", "U8", "latin 1", "ISO-8859-1", "iso8859-15", "mac-roman", "hex", "cp1252", "8859"]
        {
            assert!(Codec::named(name).is_some(), "{name}");
        }
        for name in ["", "nope", "mbcs", "string-escape", "encodings.utf_8", "utf-8\0"] {
            assert!(Codec::named(name).is_none(), "{name}");
        }
    }
}
