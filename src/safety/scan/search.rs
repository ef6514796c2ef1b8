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
            self.spend(block.len() as u64 / 4);
            for begin in 0..here {
                let rest = block.get(begin..).unwrap_or_default();
                let found = match rest.first() {
                    Some(&(op::GLOBAL | op::INST)) => lines(rest),
                    Some(&op::STACK_GLOBAL) => strings.dangerous.take(),
                    _ => {
                        if let Some(name) = string(rest) {
                            strings.add(name);
                        }
                        None
                    }
                };
                let Some((module, name)) = found else { continue };
                let place_at = at + begin as u64;
                let is_call = rest.first() == Some(&op::STACK_GLOBAL)
                    || is_named_dangerous(&module, &name) && self.is_called(source, place_at)?;
                if is_call {
                    let where_to = if self.is_row { "between other data" } else { "behind where the pickle breaks" };
                    let message = format!("names {module}.{name} {where_to}");
                    let place = at_byte(place, source.absolute(place_at));
                    self.tell(Severity::Danger, "global-after-break", message, &place);
                    return Ok(true);
                }
            }
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
        self.spend(graph.steps());
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
    fn add(&mut self, string: String) {
        for before in &self.last {
            for (module, name) in [(before, &string), (&string, before)] {
                if is_named_dangerous(module, name) {
                    self.dangerous = Some((module.clone(), name.clone()));
                }
            }
        }
        if self.last.len() == STRINGS {
            self.last.pop_front();
        }
        self.last.push_back(string);
    }
}

/// The module and the name of GLOBAL and INST.
fn lines(rest: &[u8]) -> Option<(String, String)> {
    // no further than a name goes: many of these may stand before one far newline
    let line = |rest: &mut &[u8]| {
        let end = memchr::memchr(b'\n', rest.get(..=MAX_NAME).unwrap_or(rest))?;
        let (line, after) = rest.split_at_checked(end)?;
        *rest = after.get(1..)?;
        name_of(line)
    };
    let mut rest = rest.get(1..)?;
    Some((line(&mut rest)?, line(&mut rest)?))
}

/// A string that an opcode pushes, when it may be a module's or a global's name.
fn string(rest: &[u8]) -> Option<String> {
    let (code, rest) = rest.split_first()?;
    let sized = |width: usize| {
        let (len, rest) = rest.split_at_checked(width)?;
        let (low, high) = len.split_first()?;
        if high.iter().any(|b| *b != 0) { None } else { rest.get(..usize::from(*low)) }
    };
    let line = || rest.get(..rest.iter().take(MAX_NAME + 3).position(|b| *b == b'\n')?);
    let bytes = match *code {
        op::SHORT_BINUNICODE | op::SHORT_BINSTRING => sized(1)?,
        op::BINUNICODE | op::BINSTRING => sized(4)?,
        op::BINUNICODE8 => sized(8)?,
        op::UNICODE => line()?,
        op::STRING => line()?.trim_ascii().trim_ascii_start().get(1..)?.strip_suffix(b"'")?,
        _ => return None,
    };
    name_of(bytes)
}

fn name_of(bytes: &[u8]) -> Option<String> {
    let fits = (1..=MAX_NAME).contains(&bytes.len());
    let begins = bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
    let is_name = fits && begins && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'));
    is_name.then(|| String::from_utf8_lossy(bytes).into_owned())
}
