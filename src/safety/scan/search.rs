//! The bytes behind a break: searched for globals that would be dangerous, should some unpickler go on there.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Scanner, at_byte};
use crate::error::Result;
use crate::pickle::{Graph, NothingInline, decode_as_either, opcode as op};
use crate::safety::finding::Severity;
use crate::safety::globals::is_named_dangerous;
use crate::source::{MemorySource, SharedSource, read_vec};

const BLOCK: u64 = 1 << 20;
/// The longest name that is looked for, in bytes.
const MAX_NAME: usize = 255;
/// Bytes of a block that may belong to something that began before them: two names and what introduces them.
const OVERLAP: usize = 2 * MAX_NAME + 24;
/// Bytes in which something must be called: searching stays linear.
const MAX_CALL_BYTES: u64 = 1024;
/// Strings that STACK_GLOBAL may take, of those before it.
const STRINGS: usize = 8;
/// Bytes that are passed over for one step.
const BYTES_A_STEP: u64 = 16;
/// Steps for each object of the pickles that are tried, which are many and short.
const STEPS_A_NODE: u64 = 16;
/// Opcodes that are looked at for one step.
const OPCODES_A_STEP: u64 = 4;

impl Scanner<'_> {
    /// Looks for the first dangerous global from `from` on, in at most `most` bytes. True when there is one.
    pub(super) fn search(&mut self, source: &SharedSource, from: u64, most: Option<u64>, place: &str) -> Result<bool> {
        let end = most.map_or(source.len(), |most| source.len().min(from.saturating_add(most)));
        let mut strings = Strings::default();
        let mut at = from;
        while at < end {
            let block = read_vec(source.as_ref(), at, (end - at).min(BLOCK))?;
            let is_last = at + block.len() as u64 >= end;
            let here = if is_last { block.len() } else { block.len().saturating_sub(OVERLAP).max(1) };
            self.spend(block.len() as u64 / BYTES_A_STEP);
            let mut names = Names::new(&block);
            let mut opcodes = 0;
            for (begin, code) in block.iter().enumerate().take(here) {
                let found = match *code {
                    op::GLOBAL | op::INST => names.lines(begin),
                    op::STACK_GLOBAL => strings.dangerous.take(),
                    op::SHORT_BINUNICODE
                    | op::SHORT_BINSTRING
                    | op::BINUNICODE
                    | op::BINSTRING
                    | op::BINUNICODE8
                    | op::UNICODE
                    | op::STRING => {
                        if let Some(name) = names.string(*code, begin) {
                            self.spend(strings.add(name));
                        }
                        None
                    }
                    _ => continue,
                };
                opcodes += 1;
                if self.left_steps == 0 {
                    self.may_begin(place);
                    return Ok(false);
                }
                let Some((module, name)) = found else { continue };
                let place_at = at + begin as u64;
                let is_call = *code == op::STACK_GLOBAL || {
                    self.spend(judged(&module, &name));
                    is_named_dangerous(&module, &name) && self.is_called(source, place_at)?
                };
                if is_call {
                    let where_to = if self.is_row { "between other data" } else { "behind where the pickle breaks" };
                    let message = format!("names {module}.{name} {where_to}");
                    let place = at_byte(place, source.absolute(place_at));
                    self.tell(Severity::Danger, "global-after-break", message, &place);
                    return Ok(true);
                }
            }
            self.spend(opcodes / OPCODES_A_STEP);
            at += here as u64;
        }
        Ok(false)
    }

    /// Whether a pickle that goes on with the GLOBAL at `at` calls something: two lines of text alone may be just text.
    fn is_called(&mut self, source: &SharedSource, at: u64) -> Result<bool> {
        if !self.may_begin("") {
            return Ok(false);
        }
        let is_inst = read_vec(source.as_ref(), at, 1)? == [op::INST];
        let rest = read_vec(source.as_ref(), at, (source.len() - at).min(MAX_CALL_BYTES))?;
        // INST takes what lies above a mark: one in front of it serves
        let mark: &[u8] = if is_inst { &[op::MARK] } else { &[] };
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::new(MemorySource::new([mark, rest.as_slice()].concat())), "");
        let decoded = decode_as_either(&mut graph, stream, 0, self.left, &NothingInline);
        self.spend(graph.steps() + graph.len() as u64 * STEPS_A_NODE);
        if let Err(e) = decoded {
            super::only_io(e)?;
            if is_inst {
                return Ok(false);
            }
        }
        Ok(graph.ids().any(|id| graph.object(id).is_some()))
    }
}

/// The strings before a STACK_GLOBAL, and two of them that name something dangerous.
#[derive(Default)]
struct Strings {
    last: VecDeque<String>,
    dangerous: Option<(String, String)>,
}

impl Strings {
    /// Takes a string; gives the steps that it took. Pairs that were judged before are not judged again.
    fn add(&mut self, string: &str) -> u64 {
        let mut steps = 1;
        if self.last.back().is_some_and(|before| before == string) {
            return steps;
        }
        if let Some(at) = self.last.iter().position(|before| before == string) {
            let known = self.last.remove(at);
            self.last.extend(known);
            return steps;
        }
        for before in &self.last {
            for (module, name) in [(before.as_str(), string), (string, before.as_str())] {
                steps += judged(module, name);
                if is_named_dangerous(module, name) {
                    self.dangerous = Some((module.to_owned(), name.to_owned()));
                }
            }
        }
        if self.last.len() == STRINGS {
            self.last.pop_front();
        }
        self.last.push_back(string.to_owned());
        steps
    }
}

/// The steps that it takes to judge a global.
fn judged(module: &str, name: &str) -> u64 {
    16 + (module.len() + name.len()) as u64
}

/// The names in a block, as opcodes give them. Every byte is looked at a fixed number of times, however many opcodes seem to
/// stand before one name.
struct Names<'a> {
    block: &'a [u8],
    /// Stretches of characters that names are made of: for each distance from its opcode, the last one looked at.
    runs: [(usize, usize); RUNS],
    /// Where the last quoted string ended, and where the line does that ends with it.
    quoted: (usize, Option<usize>),
}

/// Distances: lines, what a byte or four or eight say the length of, second lines, quoted strings.
const RUNS: usize = 6;

impl<'a> Names<'a> {
    fn new(block: &'a [u8]) -> Self {
        Names { block, runs: [(0, 0); RUNS], quoted: (0, None) }
    }

    /// Where the characters of names end that begin at `at`.
    fn end(&mut self, run: usize, at: usize) -> usize {
        let Some((from, to)) = self.runs.get_mut(run) else { return at };
        if !(*from..*to).contains(&at) {
            let rest = self.block.get(at..).unwrap_or_default();
            let is_part = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
            (*from, *to) = (at, at + rest.iter().take_while(is_part).count());
        }
        *to
    }

    /// What is a name from `at` to `end`.
    fn name(&self, at: usize, end: usize) -> Option<&'a str> {
        let bytes = self.block.get(at..end).filter(|bytes| bytes.len() <= MAX_NAME)?;
        let begins = bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
        begins.then(|| std::str::from_utf8(bytes).ok()).flatten()
    }

    /// A name on a line of its own, which begins at `at`.
    fn line(&mut self, run: usize, at: usize) -> Option<&'a str> {
        let end = self.end(run, at);
        if self.block.get(end) == Some(&b'\n') { self.name(at, end) } else { None }
    }

    /// The module and the name of the GLOBAL or INST at `at`.
    fn lines(&mut self, at: usize) -> Option<(String, String)> {
        let module = self.line(0, at + 1)?;
        let name = self.line(1, at + 1 + module.len() + 1)?;
        Some((module.to_owned(), name.to_owned()))
    }

    /// The string that the opcode `code` at `at` pushes, when it may be a module's or a global's name.
    fn string(&mut self, code: u8, at: usize) -> Option<&'a str> {
        match code {
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING => self.sized(2, at, 1),
            op::BINUNICODE | op::BINSTRING => self.sized(3, at, 4),
            op::BINUNICODE8 => self.sized(4, at, 8),
            op::UNICODE => self.line(0, at + 1),
            _ => self.quoted(at),
        }
    }

    /// A string behind its length, which takes `width` bytes.
    fn sized(&mut self, run: usize, at: usize, width: usize) -> Option<&'a str> {
        let (low, high) = self.block.get(at + 1..at + 1 + width)?.split_first()?;
        let start = at + 1 + width;
        let end = start + usize::from(*low);
        if high.iter().any(|b| *b != 0) || self.end(run, start) < end { None } else { self.name(start, end) }
    }

    /// A quoted string on a line that may have blanks around it.
    fn quoted(&mut self, at: usize) -> Option<&'a str> {
        let blanks = |from: usize| {
            let rest = self.block.get(from..).unwrap_or_default();
            from + rest.iter().take(MAX_NAME).take_while(|b| b.is_ascii_whitespace() && **b != b'\n').count()
        };
        let start = blanks(at + 1) + 1;
        let end = self.end(RUNS - 1, start);
        if self.quoted.0 != end {
            let closed = (self.block.get(end) == Some(&b'\'')).then(|| blanks(end + 1));
            self.quoted = (end, closed.filter(|line| self.block.get(*line) == Some(&b'\n')));
        }
        self.quoted.1.filter(|line| *line <= at + MAX_NAME + 3)?;
        self.name(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(bytes: &[u8]) -> Vec<&str> {
        let mut names = Names::new(bytes);
        let opcodes = b"\x8cUXT\x8dVS";
        let found = (0..bytes.len()).filter_map(|at| match bytes[at] {
            code if opcodes.contains(&code) => names.string(code, at),
            _ => None,
        });
        found.collect()
    }

    #[test]
    fn names_are_read_as_each_opcode_gives_them() {
        assert_eq!(strings(b"\x8c\x02osU\x06systemX\x02\0\0\0ntT\x02\0\0\0ab"), ["os", "system", "nt", "ab"]);
        assert_eq!(
            strings(b"\x8d\x05\0\0\0\0\0\0\0posixVos.path\nS'eval'\nS \"exec'  \n"),
            ["posix", "os.path", "eval", "exec"]
        );
        // no names, too long, cut off
        assert_eq!(strings(b"U\x02o-U\x011U\x09systemX\x02\0\0\x01ntV\nV9\nS'a\nS'b"), [""; 0]);
        let long = [b"V", [b'a'; MAX_NAME + 1].as_slice(), b"\n"].concat();
        assert_eq!(strings(&long), [""; 0]);
        assert_eq!(strings(&[&long[..1], &long[2..]].concat()).len(), 1);
    }

    #[test]
    fn globals_are_two_lines() {
        let bytes = b"ccos\nsystem\nios\n";
        let mut names = Names::new(bytes);
        let pair = |module: &str, name: &str| Some((module.to_owned(), name.to_owned()));
        assert_eq!(names.lines(0), pair("cos", "system"));
        assert_eq!(names.lines(1), pair("os", "system"));
        assert_eq!(names.lines(12), None);
    }

    #[test]
    fn strings_in_any_order_before_a_stack_global_name_something() {
        let mut strings = Strings::default();
        for name in ["os", "a", "a", "b", "c", "system"] {
            strings.add(name);
        }
        assert_eq!(strings.dangerous.take(), Some(("os".to_owned(), "system".to_owned())));
        // the same again has been told
        strings.add("a");
        assert_eq!(strings.dangerous.take(), None);
    }
}
