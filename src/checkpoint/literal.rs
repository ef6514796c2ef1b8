//! Python's literals, as `ast.literal_eval` takes them, and `inf` and `nan`: text to objects of a graph.
//!
//! None, bools, integers of any size, floats, strings, bytes, lists, tuples, dicts and sets. What is nested lies on a stack
//! of its own, and there is a bound on it.

use num_bigint::BigInt;

use crate::error::{Error, Result};
use crate::pickle::decode::numbers;
use crate::pickle::text::Encoding;
use crate::pickle::{Graph, Node, NodeId, Pair};

/// Brackets inside brackets.
const MAX_DEPTH: usize = 100;

/// Reads one literal.
pub(crate) fn literal(graph: &mut Graph, text: &str) -> Result<NodeId> {
    Parser { graph, text, at: 0, open: Vec::new() }.run()
}

/// A bracket that is open, with what is in it so far.
struct Open {
    close: char,
    items: Vec<NodeId>,
    /// For each item of a dict its key, which stands before it.
    keys: Vec<NodeId>,
    /// A key waits for its value.
    key: Option<NodeId>,
    has_comma: bool,
    /// An item was just read.
    is_full: bool,
    is_dict: bool,
}

struct Parser<'a> {
    graph: &'a mut Graph,
    text: &'a str,
    at: usize,
    open: Vec<Open>,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let is_it = self.peek() == Some(wanted);
        self.at += if is_it { wanted.len_utf8() } else { 0 };
        is_it
    }

    fn wrong(&self, what: &str) -> Error {
        let here: String = self.rest().chars().take(20).collect();
        let place = if here.is_empty() { "at its end".to_owned() } else { format!("at {here:?}") };
        Error::refused(format!("cannot read {:?} as a Python literal: {what} {place}", self.text))
    }

    fn run(mut self) -> Result<NodeId> {
        loop {
            self.blanks();
            let made = match self.peek() {
                Some(bracket @ ('[' | '(' | '{')) => {
                    self.at += 1;
                    if self.open.len() >= MAX_DEPTH {
                        return Err(self.wrong("more than 100 brackets are open"));
                    }
                    let close = match bracket {
                        '[' => ']',
                        '(' => ')',
                        _ => '}',
                    };
                    let (items, keys) = (Vec::new(), Vec::new());
                    self.open.push(Open {
                        close,
                        items,
                        keys,
                        key: None,
                        has_comma: false,
                        is_full: false,
                        is_dict: false,
                    });
                    match self.close()? {
                        Some(made) => made,
                        None => continue,
                    }
                }
                _ => self.atom()?,
            };
            let mut made = made;
            loop {
                match self.put(made)? {
                    Next::Done(node) => return Ok(node),
                    Next::More => break,
                    Next::Closed(node) => made = node,
                }
            }
        }
    }

    /// Puts a value where it belongs, and reads what may follow it.
    fn put(&mut self, value: NodeId) -> Result<Next> {
        self.blanks();
        let Some(open) = self.open.last_mut() else {
            return if self.rest().is_empty() { Ok(Next::Done(value)) } else { Err(self.wrong("nothing may follow")) };
        };
        if let Some(key) = open.key.take() {
            open.keys.push(key);
            open.items.push(value);
        } else if open.close == '}'
            && (open.is_dict || open.items.is_empty())
            && self.text.get(self.at..).is_some_and(|rest| rest.starts_with(':'))
        {
            open.is_dict = true;
            open.key = Some(value);
            self.at += 1;
            self.hashable(value)?;
            return Ok(Next::More);
        } else if open.is_dict {
            return Err(self.wrong("a key without its value"));
        } else {
            open.items.push(value);
        }
        open.is_full = true;
        if self.eat(',') {
            if let Some(open) = self.open.last_mut() {
                (open.has_comma, open.is_full) = (true, false);
            }
            self.blanks();
        }
        Ok(match self.close()? {
            Some(made) => Next::Closed(made),
            None if self.open.last().is_some_and(|open| open.is_full) => return Err(self.wrong("a comma is missing")),
            None => Next::More,
        })
    }

    /// Ends the innermost bracket, if that is what comes next.
    fn close(&mut self) -> Result<Option<NodeId>> {
        self.blanks();
        let Some(close) = self.open.last().map(|open| open.close) else { return Ok(None) };
        if !self.eat(close) {
            return Ok(None);
        }
        let Some(open) = self.open.pop() else { return Ok(None) };
        let made = match (close, open.items.as_slice()) {
            (']', _) => self.graph.push(Node::List(Box::new(open.items)))?,
            // brackets around one value are no tuple
            (')', [one]) if !open.has_comma => *one,
            (')', items) => self.graph.push_tuple(items)?,
            (_, items) if !items.is_empty() && !open.is_dict => {
                for item in items {
                    self.hashable(*item)?;
                }
                self.graph.push(Node::Set(Box::new(open.items)))?
            }
            _ => {
                let pairs = open.keys.into_iter().zip(open.items);
                let entries = pairs.map(|(key, value)| Pair { key, value, key_at: 0 }).collect();
                self.graph.push_dict(entries)?
            }
        };
        Ok(Some(made))
    }

    fn hashable(&self, value: NodeId) -> Result<()> {
        let mut open = vec![value];
        while let Some(node) = open.pop() {
            match self.graph.node(node) {
                Node::List(_) | Node::Dict(_) | Node::Set(_) => return Err(self.wrong("a list, dict or set is no key")),
                _ => open.extend(self.graph.tuple(node).unwrap_or_default()),
            }
        }
        Ok(())
    }

    fn atom(&mut self) -> Result<NodeId> {
        if let Some(node) = self.string()? {
            return Ok(node);
        }
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
        let rest = self.rest();
        let mut end = 0;
        for (at, c) in rest.char_indices() {
            // a sign stands first, or behind the e of an exponent
            let before = rest.get(..at).unwrap_or_default();
            let is_hex = before.trim_start_matches(['+', '-']).starts_with(['0']) && before.contains(['x', 'X']);
            let is_sign_here = at == 0 || before.ends_with(['e', 'E']) && !is_hex;
            if !is_part(c) || matches!(c, '+' | '-') && !is_sign_here {
                break;
            }
            end = at + c.len_utf8();
        }
        let word = rest.get(..end).unwrap_or_default().to_owned();
        let constant = match word.as_str() {
            "None" => Some(Graph::NONE),
            "True" => Some(Graph::TRUE),
            "False" => Some(Graph::FALSE),
            "set" if rest.get(end..).is_some_and(|rest| rest.starts_with("()")) => {
                self.at += 2;
                Some(self.graph.push(Node::Set(Box::default()))?)
            }
            _ => None,
        };
        if let Some(node) = constant {
            self.at += end;
            return Ok(node);
        }
        let digits = word.trim_start_matches(['+', '-']);
        let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || matches!(digits, "inf" | "nan");
        if !is_number {
            let what = if word.is_empty() { "a value is missing" } else { "a string needs quotes of its own" };
            return Err(self.wrong(what));
        }
        // Python takes 00 and 0.0, and no 01
        let plain = digits.trim_start_matches(['0', '_']);
        let is_padded = digits.len() > 1 && digits.starts_with('0') && plain.starts_with(|c: char| c.is_ascii_digit());
        let node = match numbers::integer(word.as_bytes())
            .filter(|_| !is_padded || digits.contains(['x', 'X', 'o', 'O', 'b', 'B']))
        {
            Some(value) => self.integer(&value)?,
            None => match numbers::float(word.as_bytes()).filter(|_| digits.contains(['.', 'e', 'E', 'i', 'n'])) {
                Some(value) => self.graph.push(Node::Float(value))?,
                None => return Err(self.wrong("no number")),
            },
        };
        self.at += end;
        Ok(node)
    }

    fn integer(&mut self, value: &BigInt) -> Result<NodeId> {
        if let Ok(value) = i64::try_from(value) {
            return self.graph.push(Node::Int(value));
        }
        let text = self.graph.add_text_of(&value.to_signed_bytes_le(), Encoding::TwosComplement)?;
        self.graph.push(Node::Long(text))
    }

    /// A string or bytes, if one comes next; several that follow each other are one.
    fn string(&mut self) -> Result<Option<NodeId>> {
        let mut whole: Option<(bool, Vec<u8>)> = None;
        while let Some((prefix, quote)) = self.quote() {
            let (is_raw, is_bytes) = (prefix.contains(['r', 'R']), prefix.contains(['b', 'B']));
            self.at += prefix.len() + quote.len();
            let content = self.content(&quote, is_raw, is_bytes)?;
            match &mut whole {
                None => whole = Some((is_bytes, content)),
                Some((before, all)) if *before == is_bytes => all.extend(content),
                Some(_) => return Err(self.wrong("strings and bytes do not mix")),
            }
            if self.open.is_empty() && self.rest().trim_start().is_empty() {
                break;
            }
            self.blanks();
        }
        let Some((is_bytes, content)) = whole else { return Ok(None) };
        let node = match is_bytes {
            true => Node::Bytes(self.graph.add_text_of(&content, Encoding::Raw)?),
            false => Node::Str(self.graph.add_text_of(&content, Encoding::Utf8)?),
        };
        self.graph.push(node).map(Some)
    }

    /// The prefix and the quotes of a string that comes next.
    fn quote(&self) -> Option<(String, String)> {
        let rest = self.rest();
        let at = rest.find(['\'', '"']).filter(|at| *at <= 2)?;
        let (prefix, quoted) = rest.split_at_checked(at)?;
        let known = ["", "r", "b", "u", "br", "rb"].contains(&prefix.to_ascii_lowercase().as_str());
        let one = quoted.get(..1)?;
        let three = one.repeat(3);
        let quote = if quoted.starts_with(&three) { three } else { one.to_owned() };
        known.then(|| (prefix.to_owned(), quote))
    }

    fn content(&mut self, quote: &str, is_raw: bool, is_bytes: bool) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            if self.rest().starts_with(quote) {
                self.at += quote.len();
                return Ok(out);
            }
            let Some(c) = self.peek() else { return Err(self.wrong("a quote is missing")) };
            if c == '\n' && quote.len() == 1 {
                return Err(self.wrong("a string ends with its line"));
            }
            if is_bytes && !c.is_ascii() {
                return Err(self.wrong("bytes are written in ASCII"));
            }
            self.at += c.len_utf8();
            if c != '\\' {
                push_char(&mut out, u32::from(c));
                continue;
            }
            let Some(escaped) = self.peek() else { return Err(self.wrong("a quote is missing")) };
            self.at += escaped.len_utf8();
            if is_raw {
                out.push(b'\\');
                push_char(&mut out, u32::from(escaped));
                continue;
            }
            let code = match escaped {
                '\n' => continue,
                '\\' | '\'' | '"' => u32::from(escaped),
                'a' => 7,
                'b' => 8,
                'f' => 12,
                'n' => 10,
                'r' => 13,
                't' => 9,
                'v' => 11,
                'x' => self.hex(2)?,
                'u' if !is_bytes => self.hex(4)?,
                'U' if !is_bytes => self.hex(8)?,
                'N' if !is_bytes => return Err(self.wrong("characters by name are not known")),
                '0'..='7' => self.octal(escaped),
                other => {
                    out.push(b'\\');
                    push_char(&mut out, u32::from(other));
                    continue;
                }
            };
            match is_bytes {
                true => out.push(u8::try_from(code & 0xff).unwrap_or(0)),
                false if code > 0x10_ffff => return Err(self.wrong("no character has this number")),
                false => push_char(&mut out, code),
            }
        }
    }

    fn hex(&mut self, digits: usize) -> Result<u32> {
        let text = self.rest().get(..digits).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = text.and_then(|text| u32::from_str_radix(text, 16).ok());
        let code = code.ok_or_else(|| self.wrong("an escape without its digits"))?;
        self.at += digits;
        Ok(code)
    }

    fn octal(&mut self, first: char) -> u32 {
        let mut code = first.to_digit(8).unwrap_or(0);
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.at += 1;
        }
        code
    }
}

enum Next {
    /// That is all.
    Done(NodeId),
    /// Another value has to come.
    More,
    /// A bracket was closed: this is what it holds.
    Closed(NodeId),
}

/// UTF-8, of lone surrogates too.
fn push_char(out: &mut Vec<u8>, code: u32) {
    match char::from_u32(code) {
        Some(c) => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        None => out.extend(
            [code >> 12 | 0xe0, code >> 6 & 0x3f | 0x80, code & 0x3f | 0x80].map(|b| u8::try_from(b).unwrap_or(b'?')),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python 3 prints of it, through the objects of a checkpoint.
    fn read(text: &str) -> Result<String> {
        let source = std::sync::Arc::new(crate::source::MemorySource::new(b"N.".to_vec()));
        let limits = crate::limits::Limits::default();
        let mut checkpoint = crate::checkpoint::Checkpoint::open(source, &limits, &crate::progress::Silent)?;
        let node = literal(&mut checkpoint.graph, text)?;
        Ok(checkpoint.objects().repr(node, 200))
    }

    #[test]
    fn literals_are_what_python_reads() {
        // each with `repr(ast.literal_eval(text))`
        for (text, want) in [
            ("None", "None"),
            (" True ", "True"),
            ("0", "0"),
            ("00", "0"),
            ("-7", "-7"),
            ("0x1F", "31"),
            ("1_000", "1000"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("-9223372036854775809", "-9223372036854775809"),
            ("1e-4", "0.0001"),
            ("-.5", "-0.5"),
            ("1.", "1.0"),
            ("01.5", "1.5"),
            ("inf", "inf"),
            ("-inf", "-inf"),
            ("nan", "nan"),
            ("'a'", "'a'"),
            ("\"it's\"", "\"it's\""),
            (r"'\x41\n\u00e9\101\q'", r"'A\néA\\q'"),
            (r"r'\n'", r"'\\n'"),
            ("'a' \"b\"", "'ab'"),
            ("'''a\nb'''", r"'a\nb'"),
            (r"b'\x00\xff'", r"b'\x00\xff'"),
            ("[]", "[]"),
            ("[1, 2.5, 'x',]", "[1, 2.5, 'x']"),
            ("()", "()"),
            ("(1,)", "(1,)"),
            ("(1)", "1"),
            ("(0.9, 0.999)", "(0.9, 0.999)"),
            ("{}", "{}"),
            ("{'a': [1, {2: None}], 3: (4,)}", "{'a': [1, {2: None}], 3: (4,)}"),
            ("{1, 'b'}", "{1, 'b'}"),
            ("set()", "set()"),
            ("[[], (), {}]", "[[], (), {}]"),
        ] {
            assert_eq!(read(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_said() {
        for text in [
            "",
            "resnet",
            "tru",
            "[",
            "]",
            "[1",
            "[1 2]",
            "[,]",
            "{1: }",
            "{1: 2, 3}",
            "{1, 2: 3}",
            "{[]: 1}",
            "{[1]}",
            "'a",
            "'a' b'b'",
            "1 2",
            "1,2",
            "01",
            "0x",
            "1__0",
            "--1",
            "1+2",
            "1j",
            "b'é'",
            r"'\x4'",
            r"'\U00110000'",
            "f'x'",
            "__import__('os')",
            "{([],): 1}",
            "(,)",
            "1e",
            "é",
        ] {
            let e = read(text).unwrap_err();
            assert!(e.message().contains("as a Python literal"), "{text}: {e}");
        }
        assert!(read(&"[".repeat(1_000_000)).unwrap_err().message().contains("brackets"));
        assert!(read(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_ok());
    }
}
