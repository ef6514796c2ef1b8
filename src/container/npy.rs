//! The header of numpy's `.npy` files (`numpy/lib/format.py`, versions 1, 2 and 3): a magic, a length, and a Python
//! dictionary of `descr`, `fortran_order` and `shape` as text; then the elements.

use crate::dtype::ByteOrder;
use crate::error::{Error, Result};
use crate::source::{Source, read_vec};

/// numpy itself writes 64 KiB at most except for record types of hundreds of fields.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// What an array file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The type of an element.
    pub descr: Descr,
    /// Whether the first index varies fastest.
    pub fortran_order: bool,
    /// Extent of each dimension.
    pub shape: Vec<u64>,
    /// Where the elements start in the file.
    pub data_start: u64,
}

/// A numpy type, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descr {
    /// Kind and size without the byte order (`f4`, `U5`, `M8[ns]`), which [`crate::dtype::DType::from_numpy`] takes; of
    /// a structured type the whole Python expression.
    pub code: String,
    /// The byte order of the elements; little for those that have none.
    pub byte_order: ByteOrder,
    /// Whether elements have fields.
    pub structured: bool,
    /// Bytes of an element; nothing for Python objects and for types that nest.
    pub item_bytes: Option<u64>,
}

impl Header {
    /// How many elements there are.
    pub(crate) fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |product, extent| product.checked_mul(*extent))
    }
}

/// Reads the header of `source` and checks that the elements are all there (`Truncated` where not).
pub(crate) fn read(source: &dyn Source) -> Result<Header> {
    let fixed = read_vec(source, 0, 8)?;
    let version = match fixed.as_slice() {
        [0x93, b'N', b'U', b'M', b'P', b'Y', major, minor] => (*major, *minor),
        _ => return Err(Error::malformed("no numpy magic").at(source.absolute(0))),
    };
    let (width, old) = match version {
        (1, 0) => (2, true),
        (2, 0) => (4, true),
        (3, 0) => (4, false),
        (major, minor) => {
            let message = format!("npy version {major}.{minor}; 1.0 to 3.0 are known");
            return Err(Error::unsupported(message).at(source.absolute(6)));
        }
    };
    let length = read_vec(source, 8, width)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let start = 8 + width;
    if length > MAX_HEADER_BYTES {
        let message = format!("an npy header of {length} bytes; {MAX_HEADER_BYTES} are allowed");
        return Err(Error::limit(message).at(source.absolute(8)));
    }
    let text = read_vec(source, start, length)?;
    let parsed = Parser { text: &text, at: 0, old }.header(start + length);
    let header = parsed.map_err(|(what, at)| {
        let message = format!("bad npy header: {what}");
        Error::malformed(message).at(source.absolute(start + at as u64))
    })?;
    let end = header.elements().and_then(|count| {
        let bytes = header.descr.item_bytes.map_or(Some(0), |size| count.checked_mul(size))?;
        header.data_start.checked_add(bytes)
    });
    match end {
        None => {
            Err(Error::malformed(format!("the size of shape {:?} overflows", header.shape)).at(source.absolute(start)))
        }
        Some(end) if end > source.len() => {
            let message = format!("ends early: the array has {} bytes", end - header.data_start);
            Err(Error::truncated(message).at(source.absolute(header.data_start)))
        }
        Some(_) => Ok(header),
    }
}

/// What is wrong and at which byte of the text.
type Parsed<T> = std::result::Result<T, (String, usize)>;

/// Just enough of Python's literals; never recursive.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    /// Versions 1 and 2: the text is latin-1, and Python 2 wrote `3L`.
    old: bool,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, what: impl Into<String>) -> Parsed<T> {
        Err((what.into(), self.at))
    }

    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.len() - rest.trim_ascii_start().len();
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn want(&mut self, byte: u8) -> Parsed<()> {
        if self.eat(byte) { Ok(()) } else { self.fail(format!("`{}` expected", char::from(byte))) }
    }

    fn header(mut self, data_start: u64) -> Parsed<Header> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.want(b'{')?;
        while !self.eat(b'}') {
            let key_at = self.at;
            let key = self.string()?;
            self.want(b':')?;
            let again = match key {
                b"descr" => descr.replace(self.descr()?).is_some(),
                b"fortran_order" => fortran_order.replace(self.boolean()?).is_some(),
                b"shape" => shape.replace(self.shape()?).is_some(),
                _ => true,
            };
            if again {
                return Err((format!("unexpected key `{}`", String::from_utf8_lossy(key).escape_debug()), key_at));
            }
            if !self.eat(b',') && self.peek() != Some(b'}') {
                return self.fail("`,` or `}` expected");
            }
        }
        if self.peek().is_some() {
            return self.fail("text after the dictionary");
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Header { descr, fortran_order, shape, data_start }),
            _ => self.fail("`descr`, `fortran_order` and `shape` must be there"),
        }
    }

    /// A quoted string as it is written; Python 2's `u` prefix may precede it.
    fn string(&mut self) -> Parsed<&'a [u8]> {
        let Some(quote @ (b'\'' | b'"')) = self.peek() else {
            return self.fail("a string expected");
        };
        let start = self.at + 1;
        let mut escaped = false;
        let rest = self.text.get(start..).unwrap_or_default();
        let end = rest.iter().position(|byte| {
            let ends = *byte == quote && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        match end.and_then(|end| rest.get(..end)) {
            Some(body) => {
                self.at = start + body.len() + 1;
                Ok(body)
            }
            None => self.fail("a string without end"),
        }
    }

    fn boolean(&mut self) -> Parsed<bool> {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let found = [(&b"True"[..], true), (b"False", false)].into_iter().find(|(word, _)| rest.starts_with(word));
        match found {
            Some((word, value)) => {
                self.at += word.len();
                Ok(value)
            }
            None => self.fail("True or False expected"),
        }
    }

    /// A tuple of integers.
    fn shape(&mut self) -> Parsed<Vec<u64>> {
        let mut out = Vec::new();
        self.want(b'(')?;
        let mut comma = true;
        while !self.eat(b')') {
            if !comma {
                return self.fail("`,` or `)` expected");
            }
            out.push(self.integer()?);
            comma = self.eat(b',');
        }
        if out.len() == 1 && !comma { self.fail("a tuple expected") } else { Ok(out) }
    }

    fn integer(&mut self) -> Parsed<u64> {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let value = rest.get(..digits).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let Some(value) = value else { return self.fail("an integer of 64 bits expected") };
        self.at += digits;
        self.at += usize::from(self.old && rest.get(digits) == Some(&b'L'));
        Ok(value)
    }

    fn descr(&mut self) -> Parsed<Descr> {
        match self.peek() {
            Some(b'\'' | b'"') => {
                let at = self.at;
                let text = self.string()?;
                simple(text).ok_or_else(|| ("a type like '<f4' expected".to_owned(), at))
            }
            Some(b'[' | b'(') => self.structured(),
            _ => self.fail("a type expected"),
        }
    }

    /// Any bracketed expression is kept as it is written; the size is known when it is a flat list of fields.
    fn structured(&mut self) -> Parsed<Descr> {
        let start = self.at;
        let item_bytes = Parser { text: self.text, at: start, old: self.old }.fields().unwrap_or(None);
        let mut open = Vec::new();
        loop {
            match self.peek() {
                Some(b'\'' | b'"') => {
                    self.string()?;
                    continue;
                }
                Some(byte @ (b'(' | b'[')) => open.push(if byte == b'(' { b')' } else { b']' }),
                Some(byte @ (b')' | b']')) if open.pop() != Some(byte) => return self.fail("unbalanced brackets"),
                None => return self.fail("a type without end"),
                Some(_) => {}
            }
            self.at += 1;
            if open.is_empty() {
                break;
            }
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let code = match self.old {
            true => text.iter().map(|byte| char::from(*byte)).collect(),
            false => String::from_utf8_lossy(text).into_owned(),
        };
        Ok(Descr { code, byte_order: ByteOrder::Little, structured: true, item_bytes })
    }

    /// Bytes of all fields of `[('name', '<f4'), (('title', 'name'), '<f4', (3,)), ...]` together; fields that have
    /// fields are an error here.
    fn fields(mut self) -> Parsed<Option<u64>> {
        let mut total = Some(0u64);
        self.want(b'[')?;
        while !self.eat(b']') {
            self.want(b'(')?;
            if self.eat(b'(') {
                self.string()?;
                self.want(b',')?;
                self.string()?;
                self.want(b')')?;
            } else {
                self.string()?;
            }
            self.want(b',')?;
            let mut size = simple(self.string()?).and_then(|descr| descr.item_bytes);
            if self.eat(b',') && self.peek() == Some(b'(') {
                size =
                    self.shape()?.into_iter().try_fold(size, |size, extent| Some(size?.checked_mul(extent))).flatten();
                self.eat(b',');
            }
            self.want(b')')?;
            total = total.zip(size).and_then(|(total, size)| total.checked_add(size));
            self.eat(b',');
        }
        Ok(total)
    }
}

/// `<f4` and its like; numpy's array protocol type strings.
fn simple(text: &[u8]) -> Option<Descr> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii() && !text.contains('\\'))?;
    let (order, code) = match text.split_at_checked(1)? {
        (order @ ("<" | ">" | "|" | "="), code) => (order, code),
        _ => ("=", text),
    };
    let (kind, size) = code.split_at_checked(1)?;
    let (digits, unit) = size.split_at(size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len()));
    if !kind.contains(|c: char| c.is_ascii_alphabetic() || c == '?') || !(unit.is_empty() || unit.starts_with('[')) {
        return None;
    }
    let item_bytes = match kind {
        "?" => Some(1),
        "O" => None,
        "U" => digits.parse::<u64>().ok().and_then(|characters| characters.checked_mul(4)),
        _ => digits.parse().ok(),
    };
    let byte_order = if order == ">" { ByteOrder::Big } else { ByteOrder::Little };
    Some(Descr { code: code.to_owned(), byte_order, structured: false, item_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::source::MemorySource;

    fn file(version: u8, header: &str, data: usize) -> Vec<u8> {
        let mut out = b"\x93NUMPY".to_vec();
        out.extend([version, 0]);
        match version {
            1 => out.extend(u16::try_from(header.len()).unwrap().to_le_bytes()),
            _ => out.extend(u32::try_from(header.len()).unwrap().to_le_bytes()),
        }
        out.extend(header.as_bytes());
        out.extend(vec![0; data]);
        out
    }

    fn parse(version: u8, header: &str, data: usize) -> Result<Header> {
        read(&MemorySource::new(file(version, header, data)))
    }

    #[test]
    fn what_numpy_writes_is_read() {
        let header = parse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      \n", 24).unwrap();
        assert_eq!((header.shape.as_slice(), header.fortran_order), (&[2, 3][..], false));
        let expected =
            Descr { code: "f4".into(), byte_order: ByteOrder::Little, structured: false, item_bytes: Some(4) };
        assert_eq!(header.descr, expected);
        assert_eq!(header.data_start, 76);

        let header = parse(2, "{'shape': (3L,), 'fortran_order': True, 'descr': \">c16\"}", 48).unwrap();
        assert_eq!((header.descr.byte_order, header.descr.item_bytes), (ByteOrder::Big, Some(16)));
        let scalar = parse(3, "{'descr': '|b1', 'fortran_order': False, 'shape': ()}", 1).unwrap();
        assert_eq!(scalar.elements(), Some(1));
        for (descr, bytes) in [("<U5", 20), ("|S3", 3), ("<M8[ns]", 8), ("|V7", 7), ("?", 1)] {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,)}}");
            assert_eq!(parse(1, &header, 100).unwrap().descr.item_bytes, Some(bytes), "{descr}");
        }
        let objects = parse(1, "{'descr': '|O', 'fortran_order': False, 'shape': (9,)}", 0).unwrap();
        assert_eq!((objects.descr.code.as_str(), objects.descr.item_bytes), ("O", None));
    }

    #[test]
    fn structured_types_are_kept_as_text() {
        let parse = |descr: &str| {
            let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,)}}");
            parse(3, &header, 100).map(|header| header.descr)
        };
        let flat = "[('a', '<f4'), (('t', 'b'), '<i8', (2, 3)), ('c]', '|u1')]";
        let descr = parse(flat).unwrap();
        assert_eq!((descr.code.as_str(), descr.structured, descr.item_bytes), (flat, true, Some(4 + 48 + 1)));
        let nested = "[('a', [('b', '<f4')])]";
        assert_eq!(parse(nested).unwrap().item_bytes, None);
        assert_eq!(parse("[('a', '|O')]").unwrap().item_bytes, None);
        assert!(parse("[('a', '<f4')").is_err());
        assert!(parse("[('a', '<f4'])").is_err());
        assert!(parse(&"[".repeat(500_000)).is_err());
    }

    #[test]
    fn refusals_say_where() {
        let cases = [
            ("", "`{` expected"),
            ("{'descr': '<f4', 'fortran_order': False}", "must be there"),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", "True or False"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3)}", "a tuple"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}", "an integer"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "an integer"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}", "`,` or `)`"),
            ("{'descr': 4, 'fortran_order': False, 'shape': ()}", "a type expected"),
            ("{'descr': '<', 'fortran_order': False, 'shape': ()}", "a type like"),
            ("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", "unexpected key"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}", "unexpected key"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", "text after"),
            ("{'descr': '<f4, 'fortran_order': False, 'shape': ()}", ""),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "overflows"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807,)}", "overflows"),
        ];
        for (header, says) in cases {
            let e = parse(1, header, 8).expect_err(header);
            assert!(e.kind() == ErrorKind::Malformed && e.to_string().contains(says), "{header}: {e}");
            assert!(e.offset().is_some());
        }
    }

    #[test]
    fn truncation_and_versions_are_named() {
        let whole = file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 24);
        for end in 0..whole.len() {
            let e = read(&MemorySource::new(whole[..end].to_vec())).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Truncated, "{end}: {e}");
        }
        assert_eq!(parse(4, "{}", 0).unwrap_err().kind(), ErrorKind::Unsupported);
        let mut long = file(2, "{}", 0);
        long[8..12].fill(0x7f);
        assert_eq!(read(&MemorySource::new(long)).unwrap_err().kind(), ErrorKind::Limit);
    }
}
