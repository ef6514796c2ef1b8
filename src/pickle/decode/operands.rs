//! What opcodes hold in the stream: lengths, lines, numbers, strings, names, extension codes.

use super::Decoder;
use crate::error::{Error, Result};
use crate::pickle::graph::{Graph, Node, NodeId, TextId};
use crate::pickle::opcode as op;
use crate::pickle::text::Encoding;
use crate::source::read_vec;

/// Strings up to this many bytes pass through memory; longer ones are only measured.
const KEEP: u64 = 4096;
/// Lines that must be understood at once (numbers, names) may be this long.
const MAX_LINE: usize = 1 << 20;

impl Decoder<'_> {
    /// A number or a length in `N` bytes, little-endian.
    pub(super) fn unsigned<const N: usize>(&mut self) -> Result<u64> {
        let bytes = self.reader.array::<N>()?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A text of `len` bytes that begins here.
    fn text(&mut self, len: u64, encoding: Encoding) -> Result<TextId> {
        let begin = self.reader.position();
        let bytes = self.reader.take(len, KEEP).map_err(|e| {
            Error::new(e.kind(), format!("{} of {len} bytes: {}", op::name(self.code), e.message()))
                .at(self.source.absolute(self.at))
        })?;
        self.graph.add_text(self.stream, begin, len, bytes, encoding)
    }

    fn small_line(&mut self) -> Result<Vec<u8>> {
        let (_, line) = self.reader.line(MAX_LINE)?;
        line.ok_or_else(|| self.fail("a line of more than a mebibyte"))
    }

    pub(super) fn line_text(&mut self, encoding: Encoding) -> Result<TextId> {
        let begin = self.reader.position();
        let (len, line) = self.reader.line(usize::try_from(KEEP).unwrap_or(0))?;
        self.graph.add_text(self.stream, begin, len, line.as_deref(), encoding)
    }

    pub(super) fn index_line(&mut self) -> Result<u64> {
        let line = self.small_line()?;
        let text = String::from_utf8_lossy(&line);
        text.trim()
            .parse()
            .map_err(|_| self.fail(&format!("{:?} is no memo index", text.chars().take(40).collect::<String>())))
    }

    pub(super) fn small_int<const N: usize>(&mut self) -> Result<()> {
        let value = self.unsigned::<N>()?;
        self.push_node(Node::Int(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    pub(super) fn number_line(&mut self) -> Result<()> {
        let begin = self.reader.position();
        let line = self.small_line()?;
        let text = String::from_utf8_lossy(&line).into_owned();
        let trimmed = text.trim();
        let node = match (self.code, trimmed) {
            (op::INT, "00") => Some(Node::Bool(false)),
            (op::INT, "01") => Some(Node::Bool(true)),
            (op::FLOAT, number) => number.parse().ok().map(Node::Float),
            (code, number) => {
                let digits = if code == op::LONG { number.strip_suffix('L').unwrap_or(number) } else { number };
                let plain = digits.strip_prefix(['-', '+']).unwrap_or(digits);
                if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
                    None
                } else if let Ok(value) = digits.parse::<i64>() {
                    Some(Node::Int(value))
                } else {
                    let begin = begin + (text.len() - text.trim_start().len()) as u64;
                    let (bytes, encoding) = (digits.as_bytes(), Encoding::Decimal);
                    let text = self.graph.add_text(self.stream, begin, bytes.len() as u64, Some(bytes), encoding)?;
                    Some(Node::Long(text))
                }
            }
        };
        match node {
            Some(Node::Bool(value)) => self.constant(if value { Graph::TRUE } else { Graph::FALSE }),
            Some(node) => self.push_node(node),
            None => Err(self.fail(&format!("{:?} is no number", trimmed.chars().take(40).collect::<String>()))),
        }
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
        let begin = self.reader.position();
        let (len, line) = self.reader.line(usize::try_from(KEEP).unwrap_or(0))?;
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
    use super::*;
    use crate::pickle::decode::tests::decoded;

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
