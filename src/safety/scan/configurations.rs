//! Code that configurations bring: layers of Keras, templates of GGUF.

use memchr::memmem;
use serde_json::Value;

use super::{Scanner, at_byte, inside};
use crate::container::zip::Zip;
use crate::error::Result;
use crate::safety::finding::Severity;
use crate::safety::globals::{Status, classify};
use crate::source::{SharedSource, read_vec};

const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
const GGUF: &[u8] = b"GGUF";
/// The configuration in `.keras`, and what else such an archive holds.
const KERAS_CONFIG: &str = "config.json";
const KERAS_OTHERS: &[&str] = &["model.weights.h5", "metadata.json", "model.weights.npz"];
const MAX_CONFIG_BYTES: u64 = 16 << 20;
const BLOCK: u64 = 1 << 20;
/// Bytes of a block that may belong to something that began before them.
const OVERLAP: u64 = 64;
/// Entries of GGUF's metadata that are gone through, and bytes of a name and of a template that are read.
const MAX_ENTRIES: u64 = 100_000;
const MAX_KEY_BYTES: u64 = 1024;
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;
/// What only templates hold that reach for Python itself.
const REACHES: &[&str] =
    &["__", "|attr", "| attr", "\\x5f", "\\u005f", "import", "lipsum", "cycler", "joiner", "popen"];

impl Scanner<'_> {
    /// What the configuration of a `.keras` archive makes Keras run.
    pub(super) fn keras_in(&mut self, zip: &Zip, place: &str) -> Result<()> {
        let Some(member) = zip.find(KERAS_CONFIG) else { return Ok(()) };
        if KERAS_OTHERS.iter().all(|other| zip.find(other).is_none()) {
            return Ok(());
        }
        let place = inside(place, KERAS_CONFIG);
        let parsed = match zip.member_source(member) {
            Ok(source) if source.len() <= MAX_CONFIG_BYTES => {
                let text = read_vec(source.as_ref(), 0, source.len())?;
                serde_json::from_slice::<Value>(&text).map_err(|e| e.to_string())
            }
            Ok(_) => Err("it is too large".to_owned()),
            // the search for pickles tells what cannot be read
            Err(e) => return super::only_io(e).map(drop),
        };
        let config = match parsed {
            Ok(config) => config,
            Err(why) => {
                let message = format!("the configuration of a Keras model cannot be read: {why}");
                self.tell(Severity::Error, "unreadable", message, &place);
                return Ok(());
            }
        };
        let mut open = vec![&config];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    self.keras_object(fields, &place);
                    open.extend(fields.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        Ok(())
    }

    /// `{"module": "keras.layers", "class_name": "Lambda", "config": ...}`
    fn keras_object(&mut self, fields: &serde_json::Map<String, Value>, place: &str) {
        let text = |key: &str| fields.get(key).and_then(Value::as_str);
        if matches!(text("class_name"), Some("Lambda" | "__lambda__")) {
            self.lambda(place);
            return;
        }
        let module = text("module").unwrap_or_default();
        let is_own = ["keras", "tensorflow", "tf_keras", ""]
            .iter()
            .any(|own| module.split('.').next().unwrap_or_default() == *own);
        let names = ["class_name", "config", "registered_name"].into_iter().filter_map(text);
        for name in names.filter(|_| !is_own) {
            if let Status::Dangerous(why) = classify(module, name) {
                let message = format!("a Keras model names {module}.{name}: it {why}");
                self.tell(Severity::Danger, "keras-function", message, place);
            }
        }
    }

    fn lambda(&mut self, place: &str) {
        let message = "a Keras model with a Lambda layer: Keras runs the Python code in it";
        self.tell(Severity::Danger, "keras-lambda", message, place);
    }

    /// The same in HDF5, which keeps the configuration as JSON in an attribute: wherever the words stand.
    pub(super) fn keras(&mut self, source: &SharedSource, place: &str) -> Result<()> {
        if read_vec(source.as_ref(), 0, source.len().min(8))? != HDF5 {
            return Ok(());
        }
        let key = memmem::Finder::new("\"class_name\"");
        let mut at = 0;
        while at < source.len() {
            let block = read_vec(source.as_ref(), at, source.len().min(at + BLOCK + OVERLAP) - at)?;
            self.spend(block.len() as u64 / 64);
            for found in key.find_iter(&block) {
                let rest = block.get(found..).and_then(|rest| rest.get("\"class_name\"".len()..)).unwrap_or_default();
                let rest = rest.trim_ascii_start();
                let value = rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start).unwrap_or_default();
                if is_lambda(value) {
                    self.lambda(&at_byte(place, source.absolute(at + found as u64)));
                    return Ok(());
                }
            }
            at += BLOCK;
        }
        Ok(())
    }

    /// The templates in GGUF's metadata: programs that chat with the model render them, some of them with all of Python in
    /// reach.
    pub(super) fn template(&mut self, source: &SharedSource, place: &str) -> Result<()> {
        let mut reader = Gguf { source, at: GGUF.len() as u64 };
        if read_vec(source.as_ref(), 0, source.len().min(4))? != GGUF {
            return Ok(());
        }
        let Some((_, entries)) = reader.header()? else { return Ok(()) };
        for _ in 0..entries.min(MAX_ENTRIES) {
            let Some((key, kind)) = reader.entry()? else { return Ok(()) };
            if !key.contains("chat_template") {
                if !reader.skip(kind)? {
                    return Ok(());
                }
                continue;
            }
            let begin = source.absolute(reader.at);
            let Some(template) = reader.string(MAX_TEMPLATE_BYTES)?.filter(|_| kind == STRING) else { return Ok(()) };
            let place = at_byte(place, begin);
            if REACHES.iter().any(|words| template.contains(words)) {
                let message = format!("{key} is a Jinja template that reaches for more than the messages it formats");
                self.tell(Severity::Danger, "template-reaches", message, &place);
            } else {
                let message = format!("{key} is a Jinja template, which who chats with the model renders");
                self.tell(Severity::Warning, "template", message, &place);
            }
        }
        Ok(())
    }
}

/// `"Lambda"`, each letter also as `\u004c`.
fn is_lambda(value: &[u8]) -> bool {
    let Some(end) = value.iter().skip(1).take(48).position(|b| *b == b'"') else { return false };
    let text = value.get(..end + 2).unwrap_or_default();
    serde_json::from_slice::<String>(text).is_ok_and(|name| matches!(name.as_str(), "Lambda" | "__lambda__"))
}

/// The types of GGUF's values (ggml/include/gguf.h).
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a value that is neither a string nor an array.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Goes through the metadata of a GGUF file; nothing where it breaks.
struct Gguf<'a> {
    source: &'a SharedSource,
    at: u64,
}

impl Gguf<'_> {
    fn bytes(&mut self, len: u64) -> Result<Option<Vec<u8>>> {
        if self.at.checked_add(len).is_none_or(|end| end > self.source.len()) {
            return Ok(None);
        }
        let bytes = read_vec(self.source.as_ref(), self.at, len)?;
        self.at += len;
        Ok(Some(bytes))
    }

    fn word(&mut self) -> Result<Option<u32>> {
        Ok(self.bytes(4)?.and_then(|bytes| bytes.first_chunk().map(|word| u32::from_le_bytes(*word))))
    }

    fn long(&mut self) -> Result<Option<u64>> {
        Ok(self.bytes(8)?.and_then(|bytes| bytes.first_chunk().map(|word| u64::from_le_bytes(*word))))
    }

    /// How many tensors and entries there are; nothing for version 1, which has other lengths.
    fn header(&mut self) -> Result<Option<(u64, u64)>> {
        if !self.word()?.is_some_and(|version| (2..=3).contains(&version)) {
            return Ok(None);
        }
        Ok(self.long()?.zip(self.long()?))
    }

    /// As much of a string as is wanted, and past it.
    fn string(&mut self, most: u64) -> Result<Option<String>> {
        let Some(len) = self.long()? else { return Ok(None) };
        let Some(bytes) = self.bytes(len.min(most))? else { return Ok(None) };
        self.at = self.at.saturating_add(len.saturating_sub(most));
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn entry(&mut self) -> Result<Option<(String, u32)>> {
        let Some(key) = self.string(MAX_KEY_BYTES)? else { return Ok(None) };
        Ok(self.word()?.map(|kind| (key, kind)))
    }

    /// Goes past a value; false where that cannot be.
    fn skip(&mut self, kind: u32) -> Result<bool> {
        match kind {
            STRING => Ok(self.string(0)?.is_some()),
            ARRAY => {
                let Some((kind, count)) = self.word()?.zip(self.long()?) else { return Ok(false) };
                if let Some(width) = width(kind) {
                    self.at = self.at.saturating_add(width.saturating_mul(count));
                    return Ok(self.at <= self.source.len());
                }
                for _ in 0..count {
                    if kind != STRING || self.string(0)?.is_none() {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            kind => match width(kind) {
                Some(width) => Ok(self.bytes(width)?.is_some()),
                None => Ok(false),
            },
        }
    }
}
