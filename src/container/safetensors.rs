//! The header of a safetensors file: 8 bytes of length, JSON, then the tensors' bytes without a gap
//! (<https://github.com/huggingface/safetensors#format>).
//!
//! Ours, not the `safetensors` crate's: that one forgets the order of `__metadata__` and wants the whole file in
//! memory. The rules are its `Metadata::validate`.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::container::ordered::{Ordered, json_error, twice};
use crate::container::redo::{self, Unfinished};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::source::{SharedSource, Source, read_vec};

const LENGTH_BYTES: u64 = 8;
/// Headers are padded to a multiple of eight bytes, and those that edits leave room for are padded to more.
const MOST_PADDING: u64 = 4096;
/// The key under which the header holds strings instead of a tensor.
pub(crate) const METADATA: &str = "__metadata__";

/// Why no tensor has that name: it would be read as text, or not at all.
pub(crate) fn reserved() -> Error {
    Error::refused("a tensor of a safetensors file cannot be called `__metadata__`")
}
/// The entry of [`METADATA`] that says which framework the tensors are meant for.
pub(crate) const FORMAT: &str = "format";

/// Whether an entry of `__metadata__` says that the tensor `value` was also called `key`, as
/// `safetensors.torch.save_model` records it: `value` is a tensor of the file and `key` is none. (`format` never does:
/// `pt` may be a tensor's name.)
pub(crate) fn is_alias(key: &str, value: &str, is_tensor: impl Fn(&str) -> bool) -> bool {
    key != FORMAT && is_tensor(value) && !is_tensor(key)
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// `__metadata__`, in the header's order.
    pub metadata: Vec<(String, String)>,
    /// The tensors by the place of their data; those without any keep the header's order.
    pub tensors: Vec<Tensor>,
    /// Where the data starts in the file.
    pub data_start: u64,
}

/// One tensor's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor {
    /// Its name.
    pub name: String,
    /// The type as the file spells it (`F32`).
    pub dtype: String,
    /// Extent of each dimension; the elements lie in row-major order.
    pub shape: Vec<u64>,
    /// First byte, from [`Header::data_start`] on.
    pub begin: u64,
    /// The byte after the last one, from [`Header::data_start`] on.
    pub end: u64,
}

/// Reads and checks the header. `Malformed` are: JSON that is wrong or has a key twice, offsets that leave a gap,
/// overlap or do not fit the shape, and data that no tensor claims; `Truncated`: data that is not all there.
pub(crate) fn read(source: &dyn Source, limits: &Limits) -> Result<Header> {
    let header = read_header(source, limits)?;
    header.check(source)?;
    Ok(header)
}

/// Reads the header of a file whose data is cut off, or followed by something: the header, and where the data ends that is
/// there.
pub(crate) fn read_damaged(source: &dyn Source, limits: &Limits) -> Result<(Header, u64)> {
    let mut header = read_header(source, limits)?;
    let bytes = header.check_within(source, u64::MAX)?;
    header.data_start = where_data_begins(source, header.data_start, bytes)?;
    let available = source.len().saturating_sub(header.data_start);
    Ok((header, available))
}

/// Where so many bytes of data begin in a file in which the length of the header, which leads to byte `stated`, may be damaged:
/// headers are padded with spaces, so these are not data, and other white space is.
fn where_data_begins(source: &dyn Source, stated: u64, bytes: u64) -> Result<u64> {
    let Some(start) = source.len().checked_sub(bytes).filter(|start| start.abs_diff(stated) <= MOST_PADDING) else {
        return Ok(stated);
    };
    let between = read_vec(source, start.min(stated), start.abs_diff(stated))?;
    let are_spaces = between.iter().all(|byte| *byte == b' ');
    let is_damaged = match start < stated {
        true => !are_spaces && between.iter().all(u8::is_ascii_whitespace),
        false => are_spaces,
    };
    Ok(if is_damaged { start } else { stated })
}

/// Looks for an edit in place that was interrupted, in a file that cannot be read.
pub(crate) fn interrupted(source: &SharedSource, limits: &Limits) -> Result<Option<Unfinished>> {
    if let Some(found) = redo::whole(source)? {
        return Ok(Some(found));
    }
    // before the log is whole nothing else has changed
    let header = match read_header(source.as_ref(), limits) {
        Err(e) if e.kind() == ErrorKind::Io => return Err(e),
        header => header.ok(),
    };
    let end = header.and_then(|header| {
        let data = header.check_within(source.as_ref(), source.len().saturating_sub(header.data_start)).ok()?;
        header.data_start.checked_add(data)
    });
    end.map_or(Ok(None), |end| redo::begun(source.as_ref(), end))
}

fn read_header(source: &dyn Source, limits: &Limits) -> Result<Header> {
    let place = |e: Error| e.at(source.absolute(0));
    let length = read_vec(source, 0, LENGTH_BYTES).map_err(place)?;
    let length = length.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if length > limits.max_header_bytes {
        let message = format!("a safetensors header of {length} bytes; {} are allowed", limits.max_header_bytes);
        return Err(place(Error::limit(message)));
    }
    let json = read_vec(source, LENGTH_BYTES, length)?;
    let Entries { metadata, mut tensors } = serde_json::from_slice(&json).map_err(|e| {
        let (offset, what) = json_error(&json, &e);
        let place = source.absolute(LENGTH_BYTES.saturating_add(offset));
        Error::malformed(format!("bad safetensors header: {what}")).at(place)
    })?;
    tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
    Ok(Header { metadata, tensors, data_start: LENGTH_BYTES + length })
}

impl Header {
    fn check(&self, source: &dyn Source) -> Result<()> {
        let available = source.len().saturating_sub(self.data_start);
        let expected = self.check_within(source, available)?;
        if expected < available {
            let message = format!("{} bytes after the last tensor", available - expected);
            return Err(Error::malformed(message).at(source.absolute(self.data_start.saturating_add(expected))));
        }
        Ok(())
    }

    /// Checks the entries against each other and so many bytes of data; gives where the last one ends.
    fn check_within(&self, source: &dyn Source, available: u64) -> Result<u64> {
        let mut expected = 0;
        for tensor in &self.tensors {
            let at = self.data_start.saturating_add(tensor.begin);
            let fail = |e: Error| Err(e.in_member(&tensor.name).at(source.absolute(at)));
            if tensor.begin != expected || tensor.end < tensor.begin {
                let (begin, end) = (tensor.begin, tensor.end);
                let message = format!("invalid offsets {begin} to {end}: the tensor before ends at {expected}");
                return fail(Error::malformed(message));
            }
            let bytes = match tensor.bytes() {
                Ok(bytes) => bytes,
                Err(e) => return fail(e),
            };
            let given = tensor.end - tensor.begin;
            if bytes.is_some_and(|bytes| bytes != given) {
                let Tensor { dtype, shape, .. } = tensor;
                return fail(Error::malformed(format!("{given} bytes do not fit {dtype} of shape {shape:?}")));
            }
            if tensor.end > available {
                let message = format!("ends early: the tensor has {given} bytes");
                return fail(Error::truncated(message));
            }
            expected = tensor.end;
        }
        Ok(expected)
    }
}

impl Tensor {
    /// Bytes that shape and type ask for; nothing for a type of unknown size.
    fn bytes(&self) -> Result<Option<u64>> {
        let elements = self.shape.iter().try_fold(1u64, |product, extent| product.checked_mul(*extent));
        let size = DType::from_safetensors(&self.dtype).and_then(|dtype| dtype.size());
        match (elements, size) {
            (None, _) => None,
            (Some(_), None) => Some(None),
            (Some(elements), Some(size)) => elements.checked_mul(u64::from(size)).map(Some),
        }
        .ok_or_else(|| Error::malformed(format!("the size of shape {:?} overflows", self.shape)))
    }
}

struct Entries {
    metadata: Vec<(String, String)>,
    tensors: Vec<Tensor>,
}

#[derive(Deserialize)]
struct HeaderEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut seen = HashSet::new();
                let mut entries = Entries { metadata: Vec::new(), tensors: Vec::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(twice(&name));
                    }
                    if name == METADATA {
                        entries.metadata = map.next_value::<Option<Ordered<String>>>()?.unwrap_or_default().0;
                        continue;
                    }
                    let HeaderEntry { dtype, shape, data_offsets: (begin, end) } = map.next_value()?;
                    entries.tensors.push(Tensor { name, dtype, shape, begin, end });
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;

    fn parse(json: &str, data: usize) -> Result<Header> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.extend(vec![0; data]);
        read(&MemorySource::new(bytes), &Limits::default())
    }

    #[test]
    fn order_and_metadata_are_kept() {
        let json = r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},"__metadata__":{"z":"1","a":"2"},
            "y":{"dtype":"F32","shape":[0,3],"data_offsets":[4,4]},"x":{"dtype":"I8","shape":[0],"data_offsets":[4,4]},
            "a":{"dtype":"I16","shape":[2,1],"data_offsets":[0,4]},"s":{"dtype":"F9","shape":[],"data_offsets":[12,19]}}  "#;
        let header = parse(json, 19).unwrap();
        let names: Vec<&str> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a", "y", "x", "b", "s"]);
        assert_eq!(header.metadata, [("z".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())]);
        assert_eq!(header.data_start, 8 + json.len() as u64);
        assert!(parse("{}", 0).unwrap().tensors.is_empty());
        assert!(parse(r#"{"__metadata__":null}"#, 0).unwrap().metadata.is_empty());
    }

    fn one(shape: &str, offsets: &str) -> String {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    }

    #[test]
    fn every_rule_is_kept() {
        let pair = |first: &str, second: &str| {
            format!(
                r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{first}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#
            )
        };
        let cases = [
            (one("[1]", "[4,8]"), 8, "invalid offsets"),
            (one("[1]", "[4,0]"), 4, "invalid offsets"),
            (pair("[0,4]", "[2,6]"), 8, "invalid offsets"),
            (pair("[0,4]", "[0,4]"), 4, "invalid offsets"),
            (pair("[0,4]", "[5,9]"), 9, "invalid offsets"),
            (one("[2]", "[0,4]"), 4, "4 bytes do not fit F32 of shape [2]"),
            (one("[4294967296,4294967296]", "[0,0]"), 0, "overflows"),
            (one("[4611686018427387904]", "[0,0]"), 0, "overflows"),
            (one("[1]", "[0,4]"), 5, "1 bytes after the last tensor"),
            ("{}".to_owned(), 1, "1 bytes after"),
            (one("[-1]", "[0,4]"), 4, "bad safetensors header: invalid value"),
            (one("[1.5]", "[0,4]"), 4, "bad safetensors header"),
            (r#"{"a":1}"#.to_owned(), 0, "bad safetensors header: invalid type"),
            ("[]".to_owned(), 0, "bad safetensors header"),
            ("{} x".to_owned(), 0, "bad safetensors header: trailing characters"),
            (r#"{"__metadata__":{"a":1}}"#.to_owned(), 0, "bad safetensors header: invalid type"),
            (r#"{"__metadata__":{"a":"1","a":"2"}}"#.to_owned(), 0, "`a` is there twice"),
            (r#"{"__metadata__":{},"__metadata__":{}}"#.to_owned(), 0, "is there twice"),
        ];
        for (json, data, says) in cases {
            let e = parse(&json, data).expect_err(&json);
            assert!(e.kind() == ErrorKind::Malformed && e.to_string().contains(says), "{json}: {e}");
            assert!(e.offset().is_some(), "{json}");
        }
    }

    #[test]
    fn what_is_not_there_is_truncated() {
        let e = parse(&one("[2]", "[0,8]"), 7).unwrap_err();
        assert_eq!((e.kind(), e.member()), (ErrorKind::Truncated, Some("a")));
        for bytes in [&b"\x01\x02"[..], b"\xff\0\0\0\0\0\0\0{}"] {
            let e = read(&MemorySource::new(bytes.to_vec()), &Limits::default()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Truncated, "{e}");
        }
        let e = read(&MemorySource::new(vec![0xff; 20]), &Limits::default()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit);
    }

    #[test]
    fn json_errors_know_their_byte() {
        let e = parse("{\n\"a\"\n  ?}", 0).unwrap_err();
        assert_eq!(e.offset(), Some(8 + 8));
        let mut bytes = 4u64.to_le_bytes().to_vec();
        bytes.extend(b"{\"\xff\"");
        assert!(read(&MemorySource::new(bytes), &Limits::default()).unwrap_err().offset().is_some());
    }
}
