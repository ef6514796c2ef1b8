//! Text files beside weights that make somebody run something: pickles that Stable-Baselines3 keeps in JSON, YAML that
//! builds Python objects, names of functions that Hydra and HyperPyYAML call.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;

use super::{Scanner, at_byte, inside};
use crate::error::Result;
use crate::safety::finding::Severity;
use crate::safety::globals::{Status, classify};
use crate::source::{MemorySource, SharedSource, read_vec};

/// What is looked at in one piece; longer texts are, piece by piece.
const BLOCK: u64 = 16 << 20;
/// Bytes of a piece that stand in the one before it as well.
const OVERLAP: u64 = 64 << 10;
/// What a text begins with is enough to see that it is none.
const HEAD_BYTES: usize = 512;
/// The key of a pickle in the `data` of Stable-Baselines3 (`save_util.py`, `json_to_data`).
const SERIALIZED: &str = ":serialized:";
/// Names that are longer are none.
const MAX_NAME_BYTES: usize = 256;

/// Whether bytes are text, or begin as such.
pub(super) fn is_text(head: &[u8]) -> bool {
    let head = head.get(..HEAD_BYTES).unwrap_or(head);
    let is_whole = match std::str::from_utf8(head) {
        Ok(_) => true,
        // a character that is cut off
        Err(e) => e.error_len().is_none(),
    };
    is_whole && !head.is_empty() && !head.contains(&0)
}

/// What calls functions by their names: the text before the name, and who does it.
const CALLERS: &[(&str, &str)] = &[
    ("_target_", "Hydra calls it"),
    ("!new:", "HyperPyYAML calls it"),
    ("!apply:", "HyperPyYAML calls it"),
    ("!name:", "HyperPyYAML calls it"),
];
/// Tags with which PyYAML's unsafe loaders build objects (`yaml/constructor.py`), short and as they may be spelt out.
const TAGS: &[&str] = &["!!python/", "tag:yaml.org,2002:python/"];

impl Scanner<'_> {
    /// A text: of JSON the pickles in it, of any text the functions that it names.
    pub(super) fn text(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let head = read_vec(source.as_ref(), 0, source.len().min(HEAD_BYTES as u64))?;
        if !is_text(&head) {
            return Ok(());
        }
        let mut at = 0;
        while at < source.len() {
            let bytes = read_vec(source.as_ref(), at, (source.len() - at).min(BLOCK + OVERLAP))?;
            self.spend(bytes.len() as u64 / 64);
            let begin = source.absolute(at);
            self.names(&bytes, begin, place);
            if at + bytes.len() as u64 == source.len() && at == 0 {
                self.serialized(&bytes, place, depth)?;
            } else if memmem::find(&bytes, SERIALIZED.as_bytes()).is_some() {
                self.tell(Severity::Error, "unreadable", "a JSON file with pickles in it is too long to read", place);
            }
            at += BLOCK;
        }
        Ok(())
    }

    /// The pickles in JSON: `{"policy_class": {":serialized:": "gAWV..."}}`.
    fn serialized(&mut self, text: &[u8], place: &str, depth: usize) -> Result<()> {
        // the key may be written with escapes
        let may_have = [SERIALIZED, "\\u00"].iter().any(|key| memmem::find(text, key.as_bytes()).is_some());
        if !may_have {
            return Ok(());
        }
        let found = match serde_json::from_slice::<Encoded>(text) {
            Ok(Encoded(found)) => found,
            // Python reads what JSON does not have (`NaN`)
            Err(_) => by_words(text),
        };
        for (key, encoded) in found {
            let place = inside(place, &key);
            match decoded(&encoded) {
                Some(bytes) => {
                    let source: SharedSource = std::sync::Arc::new(MemorySource::new(bytes));
                    self.stream(&source, &place, depth + 1)?;
                }
                None => self.tell(Severity::Error, "unreadable", "a pickle in base64 that cannot be decoded", &place),
            }
        }
        Ok(())
    }

    /// Functions that a text names for somebody to call.
    fn names(&mut self, text: &[u8], begin: u64, place: &str) {
        for (before, who) in CALLERS {
            for at in memmem::find_iter(text, before.as_bytes()) {
                let name = name_at(text, at + before.len());
                if let Some(why) = danger(&name) {
                    let message = format!("names {name}, which {why}: {who}");
                    self.tell(Severity::Danger, "config-function", message, &at_byte(place, begin + at as u64));
                }
            }
        }
        for tag in TAGS {
            for at in memmem::find_iter(text, tag.as_bytes()) {
                let rest = text.get(at + tag.len()..).unwrap_or_default();
                let kinds = ["object/apply:", "object/new:", "object:", "name:", "module:"];
                // python/tuple, python/str and the like are values
                let Some(kind) = kinds.iter().find(|kind| rest.starts_with(kind.as_bytes())) else { continue };
                let name = name_at(text, at + tag.len() + kind.len());
                let place = at_byte(place, begin + at as u64);
                match danger(&name) {
                    Some(why) => {
                        let message = format!("YAML that makes an unsafe loader call {name}, which {why}");
                        self.tell(Severity::Danger, "yaml-object", message, &place);
                    }
                    None => {
                        let message = format!("YAML that makes an unsafe loader import and build {name}");
                        self.tell(Severity::Warning, "yaml-object", message, &place);
                    }
                }
            }
        }
    }
}

/// Why a function is dangerous.
fn danger(name: &str) -> Option<&'static str> {
    let (module, function) = name.rsplit_once('.').unwrap_or(("builtins", name));
    match classify(module, function) {
        Status::Dangerous(why) => Some(why),
        _ => None,
    }
}

/// The dotted name at or soon after `at`, past quotes, blanks and a colon.
fn name_at(text: &[u8], at: usize) -> String {
    let rest = text.get(at..).unwrap_or_default();
    let begin = rest.iter().position(|byte| !b"\"' \t:\\".contains(byte)).unwrap_or(rest.len());
    let name = rest.get(begin..).unwrap_or_default();
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let end =
        name.iter().take(MAX_NAME_BYTES).position(|byte| !is_part(byte)).unwrap_or(name.len().min(MAX_NAME_BYTES));
    String::from_utf8_lossy(name.get(..end).unwrap_or_default()).into_owned()
}

/// The strings below the key [`SERIALIZED`], each with the key above it. Of two entries of one name both count.
struct Encoded(Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for Encoded {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Finder)
    }
}

struct Finder;

impl<'de> serde::de::Visitor<'de> for Finder {
    type Value = Encoded;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Encoded, A::Error> {
        let mut found = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == SERIALIZED {
                if let serde_json::Value::String(text) = map.next_value::<serde_json::Value>()? {
                    found.push((String::new(), text));
                }
                continue;
            }
            let Encoded(inner) = map.next_value()?;
            let named = |(below, text): (String, String)| {
                (if below.is_empty() { key.clone() } else { format!("{key}/{below}") }, text)
            };
            found.extend(inner.into_iter().map(named));
        }
        Ok(Encoded(found))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Encoded, A::Error> {
        let mut found = Vec::new();
        while let Some(Encoded(inner)) = items.next_element()? {
            found.extend(inner);
        }
        Ok(Encoded(found))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Encoded, E> {
        Ok(Encoded(Vec::new()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Encoded, E> {
        Ok(Encoded(Vec::new()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Encoded, E> {
        Ok(Encoded(Vec::new()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Encoded, E> {
        Ok(Encoded(Vec::new()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Encoded, E> {
        Ok(Encoded(Vec::new()))
    }

    fn visit_unit<E>(self) -> Result<Encoded, E> {
        Ok(Encoded(Vec::new()))
    }
}

/// The same in what is no JSON: the string behind each key.
fn by_words(text: &[u8]) -> Vec<(String, String)> {
    let key = format!("{SERIALIZED}\"");
    let found = memmem::find_iter(text, key.as_bytes()).filter_map(|at| {
        let rest = text.get(at + key.len()..)?.trim_ascii_start().strip_prefix(b":")?;
        let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', rest)?;
        Some((at_byte("", at as u64), String::from_utf8_lossy(rest.get(..end)?).into_owned()))
    });
    found.collect()
}

/// Base64 as Python's `b64decode` takes it: other characters are passed over, and the padding ends it.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'=' if kept.len() % 4 >= 2 => break,
            _ if STANDARD.as_str().as_bytes().contains(&byte) => kept.push(byte),
            _ => {}
        }
    }
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&STANDARD, config).decode(kept).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_python_takes_it() {
        for (text, wanted) in [("gAJO", "\u{80}\u{2}N"), ("g\nA J!O", "\u{80}\u{2}N"), ("Lg==", "."), ("Lg==gAJO", ".")]
        {
            let wanted: Vec<u8> = wanted.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            assert_eq!(decoded(text), Some(wanted), "{text}");
        }
        assert_eq!(decoded("A"), None);
    }

    #[test]
    fn keys_are_found_however_they_are_written() {
        for text in [
            r#"{"a": [{":serialized:": "Lg=="}]}"#,
            r#"{"a": {"\u003aserialized:": "Lg==", "n": 1}, "a": 2}"#,
            r#"{"n": NaN, "a": {":serialized:" : "Lg=="}}"#,
        ] {
            let found =
                serde_json::from_str::<Encoded>(text).map_or_else(|_| by_words(text.as_bytes()), |found| found.0);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0].1, "Lg==");
        }
    }

    #[test]
    fn names_behind_keys() {
        for (text, wanted) in [("_target_: os.system\n", "os.system"), ("_target_\": \"a.b.C\"}", "a.b.C")] {
            assert_eq!(name_at(text.as_bytes(), "_target_".len()), wanted);
        }
        assert!(danger("os.system").is_some() && danger("eval").is_some() && danger("torch.nn.Linear").is_none());
    }
}
