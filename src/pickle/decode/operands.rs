//! What opcodes hold in the stream: lengths, lines, numbers, strings, names, extension codes.

use super::{Decoder, numbers};
use crate::error::Result;
use crate::pickle::graph::{Graph, Node, NodeId, TextId};
use crate::pickle::opcode as op;
use crate::pickle::reader::Line;
use crate::pickle::text::Encoding;
use crate::source::read_vec;

/// Strings up to this many bytes pass through memory; longer ones are only measured.
const KEEP: u64 = 4096;
/// Lines that must be understood at once (numbers, names) may be this long.
const MAX_LINE: usize = 16 << 20;

/// As much of a line as an error shows.
pub(super) fn start_of(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().take(40).collect()
}

impl Decoder<'_> {
    /// A number or a length in `N` bytes, little-endian.
    pub(super) fn unsigned<const N: usize>(&mut self) -> Result<u64> {
        let bytes = self.reader.array::<N>()?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A text of `len` bytes that begins here.
    fn text(&mut self, len: u64, encoding: Encoding) -> Result<TextId> {
        if encoding != Encoding::Raw {
            self.reader.leave_frame(len); // C puts bytes together of what is left and what follows
        }
        let begin = self.reader.position();
        let bytes = self.reader.take(len, KEEP).map_err(|e| {
            e.reworded(|why| format!("{} of {len} bytes: {why}", op::name(self.code))).at(self.source.absolute(self.at))
        })?;
        self.graph.add_text(self.stream, begin, len, bytes, encoding)
    }

    fn line(&mut self, keep: usize) -> Result<Line> {
        let mut line = if self.is_either { self.reader.line_or_rest(keep)? } else { self.reader.line(keep)? };
        self.graph.count_steps(line.len / 16);
        if line.is_cut {
            // `Lib/pickle.py` drops the last byte of a line, whatever it is
            line.len = line.len.saturating_sub(1);
            line.bytes = line.bytes.map(|mut bytes| {
                bytes.pop();
                bytes
            });
        }
        Ok(line)
    }

    pub(super) fn small_line(&mut self) -> Result<(u64, Vec<u8>)> {
        let line = self.line(MAX_LINE)?;
        line.bytes.map(|bytes| (line.begin, bytes)).ok_or_else(|| self.fail("a line of more than 16 MiB"))
    }

    pub(super) fn line_text(&mut self, encoding: Encoding) -> Result<TextId> {
        let line = self.line(usize::try_from(KEEP).unwrap_or(0))?;
        self.graph.add_text(self.stream, line.begin, line.len, line.bytes.as_deref(), encoding)
    }

    pub(super) fn small_int<const N: usize>(&mut self) -> Result<()> {
        let value = self.unsigned::<N>()?;
        self.push_node(Node::Int(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    pub(super) fn number_line(&mut self) -> Result<()> {
        let (begin, line) = self.small_line()?;
        let text = numbers::trimmed(&line);
        let node = match (self.code, text) {
            (op::INT, b"00") => return self.constant(Graph::FALSE),
            (op::INT, b"01") => return self.constant(Graph::TRUE),
            // `strtol` finds no digits, and its end where C's own check looks for the end of the string
            (op::INT, b"") if line.first() == Some(&0) => Some(Node::Int(0)),
            (op::FLOAT, number) => numbers::float(number).map(Node::Float),
            (_, number) => self.integer(number, begin, &line)?,
        };
        match node {
            Some(node) => self.push_node(node),
            None => Err(self.fail(&format!("{:?} is no number", start_of(text)))),
        }
    }

    /// `number` is what counts of `line`, which begins at `begin`.
    fn integer(&mut self, number: &[u8], begin: u64, line: &[u8]) -> Result<Option<Node>> {
        let number = if self.code == op::LONG { number.strip_suffix(b"L").unwrap_or(number) } else { number };
        let plain = number.strip_prefix(b"-").or(number.strip_prefix(b"+")).unwrap_or(number);
        let is_plain = !plain.is_empty() && plain.iter().all(u8::is_ascii_digit);
        if !is_plain {
            let Some(value) = numbers::integer(number) else { return self.long_with_underscores(number) };
            return Ok(Some(match i64::try_from(&value) {
                Ok(value) => Node::Int(value),
                Err(_) => Node::Long(self.graph.add_text_of(&value.to_signed_bytes_le(), Encoding::TwosComplement)?),
            }));
        }
        if let Some(value) = std::str::from_utf8(number).ok().and_then(|digits| digits.parse().ok()) {
            return Ok(Some(Node::Int(value)));
        }
        let before = line.len() - line.trim_ascii_start().len();
        let len = number.len() as u64;
        let text = self.graph.add_text(self.stream, begin + before as u64, len, Some(number), Encoding::Decimal)?;
        Ok(Some(Node::Long(text)))
    }

    /// Pythons before 3.10.7 read any number of digits.
    fn long_with_underscores(&mut self, number: &[u8]) -> Result<Option<Node>> {
        let Some((negative, mut digits)) = numbers::decimal(number) else { return Ok(None) };
        if negative {
            digits.insert(0, b'-');
        }
        Ok(Some(Node::Long(self.graph.add_text_of(&digits, Encoding::Decimal)?)))
    }

    pub(super) fn long<const N: usize>(&mut self) -> Result<()> {
        let len = self.unsigned::<N>()?;
        if N == 4 && len > u64::from(u32::MAX >> 1) {
            return Err(self.fail("a negative length"));
        }
        let text = self.text(len, Encoding::TwosComplement)?;
        let raw =
            if len <= 8 { self.graph.raw_text(text)?.into_owned() } else { return self.push_node(Node::Long(text)) };
        let fill = if raw.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut bytes = [fill; 8];
        bytes.iter_mut().zip(&raw).for_each(|(to, from)| *to = *from);
        self.push_node(Node::Int(i64::from_le_bytes(bytes)))
    }

    pub(super) fn sized<const N: usize>(&mut self, encoding: Encoding, make: fn(TextId) -> Node) -> Result<()> {
        let len = self.unsigned::<N>()?;
        if self.code == op::BINSTRING && len > u64::from(u32::MAX >> 1) {
            return Err(self.fail("a negative length"));
        }
        let text = self.text(len, encoding)?;
        self.push_node(make(text))
    }

    pub(super) fn quoted_string(&mut self) -> Result<()> {
        let Line { begin, len, bytes: line, .. } = self.line(usize::try_from(KEEP).unwrap_or(0))?;
        let quoted = match &line {
            Some(line) => {
                let trimmed = line.trim_ascii_end();
                (trimmed.len() >= 2
                    && matches!(trimmed.first(), Some(b'"' | b'\''))
                    && trimmed.first() == trimmed.last())
                .then_some(trimmed.len() as u64)
            }
            None => {
                let first = read_vec(self.source.as_ref(), begin, 1)?;
                let end = read_vec(self.source.as_ref(), begin + len - KEEP, KEEP)?;
                let quoted = end.trim_ascii_end();
                let is_quoted = matches!(first.first(), Some(b'"' | b'\'')) && first.last() == quoted.last();
                is_quoted.then_some(len - KEEP + quoted.len() as u64)
            }
        };
        let Some(quoted) = quoted else { return Err(self.fail("the string is not in quotes")) };
        let inner = line.as_ref().and_then(|line| line.get(1..usize::try_from(quoted).ok()? - 1));
        let text = self.graph.add_text(self.stream, begin + 1, quoted - 2, inner, Encoding::Python2Escaped)?;
        self.push_node(Node::Str(text))
    }

    pub(super) fn global_lines(&mut self) -> Result<(NodeId, NodeId)> {
        let module = self.line_text(Encoding::Utf8)?;
        let name = self.line_text(Encoding::Utf8)?;
        for text in [module, name] {
            if self.is_either && !self.graph.text(text).is_ok_and(|text| std::str::from_utf8(&text).is_ok()) {
                return Err(self.fail("module and name must be text"));
            }
        }
        Ok((self.graph.push(Node::Str(module))?, self.graph.push(Node::Str(name))?))
    }

    pub(super) fn extension<const N: usize>(&mut self) -> Result<()> {
        let code = self.unsigned::<N>()?;
        match u32::try_from(code) {
            // the codes of copyreg's registry are positive 31-bit integers
            Ok(code @ 1..=0x7fff_ffff) => self.push_node(Node::Extension(code)),
            _ => Err(self.fail("an extension code below 1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pickle::decode::tests::decoded;
    use crate::pickle::decode::{NothingInline, decode_as_either};
    use crate::source::MemorySource;

    #[test]
    fn lines_that_only_one_of_pythons_readers_takes() {
        let either = |bytes: &[u8]| {
            let mut graph = Graph::new();
            let stream = graph.add_stream(Arc::new(MemorySource::new(bytes.to_vec())), "");
            let result = decode_as_either(&mut graph, stream, 0, 1000, &NothingInline);
            let global = graph.ids().find_map(|id| graph.global(id)).map(|(m, n)| format!("{m}.{n}"));
            let calls = graph.ids().filter(|id| graph.object(*id).is_some()).count();
            (result.is_ok(), global, calls)
        };
        // `I\0`: 0 in C
        assert_eq!(either(b"I\0\n0cm\nf\n."), (true, Some("m.f".to_owned()), 0));
        assert!(!either(b"I\n.").0 && !either(b"I \n.").0);
        // the last line without its newline: Lib/pickle.py drops its last byte
        assert_eq!(either(b"cm\nfX"), (false, Some("m.f".to_owned()), 0));
        assert_eq!(either(b"(im\nfX"), (false, Some("m.f".to_owned()), 1));
        assert!(decoded(b"(im\nfX").1.unwrap_err().message().contains("a line without its end"));
        // a string of Python 2 is what the caller's encoding makes of it; a name in UTF-8 is one in both
        assert_eq!(either(b"U\x01\xe9U\x01f\x93."), (true, Some("\u{e9}.f".to_owned()), 0));
        assert_eq!(either(b"c\xe9\nf\n.").1, None);
    }

    #[test]
    fn long_lines_are_read_again_where_they_lie() {
        let digits = format!("{}987", "1".repeat(1199));
        let (graph, result) = decoded(format!("I   {digits}\n.").as_bytes());
        let Node::Long(text) = graph.node(result.unwrap().root) else { panic!("no long") };
        assert_eq!(graph.text(*text).unwrap(), digits.as_bytes());
        // as Windows wrote them in text mode
        for len in [3, 5000] {
            let text = "a".repeat(len);
            let (graph, result) = decoded(format!("S'{text}'\r\n.").as_bytes());
            assert_eq!(graph.str(result.unwrap().root).unwrap(), text);
        }
        for unquoted in [format!("S'{}\n.", "a".repeat(5000)), format!("S'{}\n.", " ".repeat(5000))] {
            assert!(decoded(unquoted.as_bytes()).1.unwrap_err().message().contains("not in quotes"));
        }
    }
}
