//! The weights-only unpickler, replayed on descriptions of objects: one loop over the opcodes, its rules, its refusals.
//!
//! Source: `torch/_weights_only_unpickler.py` (`Unpickler.load`). torch stops at the first thing it refuses; this goes on
//! with an unknown value in its place, also over opcodes that torch lacks, so that all reasons are told.

use std::rc::Rc;

use super::memo::Memo;
use super::replay::{Replay, STEPS_A_NAME};
use super::tables::TABLES;
use super::value::{Bytes, Id, Mapping, Text, Value};
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::pickle::reader::Reader;
use crate::pickle::text::{code_points, decode_raw_unicode_escape, unescape_string};
use crate::pickle::{most_steps, opcode as op};
use crate::source::SharedSource;

/// Texts up to this length are kept: names, keys, encodings.
const MAX_KEPT_TEXT: u64 = 4096;
/// Texts are checked in blocks of this many bytes.
const BLOCK: u64 = 1 << 20;
const MAX_LINE: usize = 1 << 20;
/// `MAGIC_NUMBER` of `torch/serialization.py` (0x1950a86a20f9469cfc6c), as `LONG1` stores it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The machine for one pickle.
struct Machine<'r, 'a, 's> {
    replay: &'r mut Replay<'a>,
    reader: Reader<'s>,
    source: &'s SharedSource,
    stack: Vec<Id>,
    /// How high the stack was at each MARK.
    marks: Vec<usize>,
    memo: Memo,
    code: u8,
}

/// Why a step ends the replay: torch would fail here, and nothing sensible can follow.
pub(super) enum Stop {
    Refused,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Stop::Failed(e)
    }
}

type Step<T = ()> = Result<T, Stop>;

impl Replay<'_> {
    /// Replays the pickle at `position` of `source`. Gives the object and the byte after `STOP`; nothing when torch
    /// would fail at a place after which there is nothing to go on with. Fails only when reading fails.
    pub(crate) fn load(&mut self, source: &SharedSource, position: u64) -> Result<Option<(Id, u64)>> {
        let mut machine = Machine {
            replay: self,
            reader: Reader::new(source, position),
            source,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Memo::default(),
            code: 0,
        };
        match machine.run() {
            Ok(found) => Ok(Some(found)),
            Err(Stop::Refused) => Ok(None),
            Err(Stop::Failed(e)) if e.kind() == crate::error::ErrorKind::Truncated => {
                self.refuse("truncated", e.message());
                Ok(None)
            }
            Err(Stop::Failed(e)) => Err(e),
        }
    }
}

impl Machine<'_, '_, '_> {
    fn run(&mut self) -> Step<(Id, u64)> {
        loop {
            self.replay.at = self.source.absolute(self.reader.position());
            self.code = self.reader.byte()?;
            self.replay.steps = self.replay.steps.saturating_add(match self.code {
                op::GLOBAL | op::STACK_GLOBAL | op::INST => STEPS_A_NAME,
                _ => 1,
            });
            if self.replay.steps > most_steps(self.replay.max_objects) {
                let e = Error::limit("the pickle has more opcodes than its size explains");
                return Err(e.allowed_by(Setting::MaxObjects).into());
            }
            if !TABLES.has_opcode(self.code) {
                self.replay.refuse("opcode", op::name(self.code));
            }
            if self.code == op::STOP {
                return Ok((self.pop()?, self.reader.position()));
            }
            self.step()?;
            let held = self.replay.values.len() + self.stack.len() + self.marks.len() + self.memo.len();
            if self.replay.items.saturating_add(held as u64) > self.replay.max_objects {
                return Err(Error::limit("the pickle makes too many objects").allowed_by(Setting::MaxObjects).into());
            }
        }
    }

    fn stop<T>(&mut self, detail: &str) -> Step<T> {
        let detail = format!("{}: {detail}", op::name(self.code));
        self.replay.refuse("malformed", detail);
        Err(Stop::Refused)
    }

    fn push(&mut self, value: Value) {
        let id = self.replay.add_shared(value);
        self.stack.push(id);
    }

    /// What lies above the last MARK.
    fn above(&self) -> &[Id] {
        self.stack.get(self.marks.last().copied().unwrap_or(0)..).unwrap_or_default()
    }

    fn pop(&mut self) -> Step<Id> {
        match self.above().is_empty() {
            true => self.stop("the stack is empty"),
            false => Ok(self.stack.pop().unwrap_or(Replay::UNKNOWN)),
        }
    }

    fn top(&mut self) -> Step<Id> {
        match self.above().last() {
            Some(id) => Ok(*id),
            None => self.stop("the stack is empty"),
        }
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => self.stop("there is no MARK"),
        }
    }

    fn length<const N: usize>(&mut self) -> Step<u64> {
        let bytes = self.reader.array::<N>()?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn line(&mut self) -> Step<Vec<u8>> {
        match self.reader.line(MAX_LINE)?.bytes {
            Some(line) => Ok(line),
            None => self.stop("a line of more than a mebibyte"),
        }
    }

    fn step(&mut self) -> Step {
        match self.code {
            op::PROTO => drop(self.reader.byte()?),
            op::FRAME => drop(self.length::<8>()?),
            op::NONE => self.stack.push(Replay::NONE),
            op::NEWTRUE | op::NEWFALSE => self.push(Value::Bool(self.code == op::NEWTRUE)),
            op::EMPTY_TUPLE => self.push(Value::Tuple(Rc::new([]))),
            op::EMPTY_LIST => self.push(Value::List(Vec::new())),
            op::EMPTY_DICT => self.push(Value::Dict(Mapping::Dict, Vec::new())),
            op::EMPTY_SET => self.push(Value::Set(Vec::new())),
            op::BININT => {
                let value = i32::from_le_bytes(self.reader.array()?);
                self.push(Value::Int(Some(value.into())));
            }
            op::BININT1 => self.unsigned::<1>()?,
            op::BININT2 => self.unsigned::<2>()?,
            op::LONG1 => {
                let len = self.length::<1>()?;
                self.long(len)?;
            }
            op::LONG4 => {
                let len = self.length::<4>()?;
                self.long(len)?;
            }
            op::BINFLOAT => {
                let value = f64::from_be_bytes(self.reader.array()?);
                self.push(Value::Float(Some(value)));
            }
            op::INT | op::LONG | op::FLOAT => self.number_line()?,
            op::BINUNICODE => self.text::<4>(true)?,
            op::SHORT_BINUNICODE => self.text::<1>(true)?,
            op::BINUNICODE8 => self.text::<8>(true)?,
            op::SHORT_BINSTRING => self.text::<1>(false)?,
            op::BINSTRING => self.text::<4>(false)?,
            op::STRING | op::UNICODE => self.text_line()?,
            op::SHORT_BINBYTES => self.bytes::<1>()?,
            op::BINBYTES => self.bytes::<4>()?,
            op::BINBYTES8 => self.bytes::<8>()?,
            op::BYTEARRAY8 => {
                let len = self.length::<8>()?;
                self.reader.take(len, 0)?;
                self.push(Value::ByteArray(Bytes { len, content: None }));
            }
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name);
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let content = |id| match self.replay.value(id) {
                    Value::Str(text) => text.content.clone(),
                    _ => None,
                };
                match (content(module), content(name)) {
                    (Some(module), Some(name)) => self.global(&module, &name),
                    _ => self.stack.push(Replay::UNKNOWN),
                }
            }
            op::MARK => self.marks.push(self.stack.len()),
            op::POP => match self.above().is_empty() {
                true => drop(self.pop_mark()?),
                false => drop(self.pop()?),
            },
            op::POP_MARK => drop(self.pop_mark()?),
            op::DUP => {
                let top = self.top()?;
                self.stack.push(top);
            }
            op::TUPLE => match self.marks.pop() {
                Some(mark) => self.tuple(mark),
                None => return self.stop("there is no MARK"),
            },
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let len = usize::from(self.code - op::TUPLE1) + 1;
                if self.above().len() < len {
                    return self.stop("the stack is empty");
                }
                self.tuple(self.stack.len() - len);
            }
            op::LIST => {
                let items = self.pop_mark()?;
                self.replay.items += items.len() as u64;
                self.push(Value::List(items));
            }
            op::DICT => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Mapping::Dict, Vec::new()));
                self.set_items(&items)?;
            }
            op::FROZENSET => {
                self.pop_mark()?;
                self.push(Value::Other("frozenset"));
            }
            op::ADDITEMS => drop(self.pop_mark()?),
            op::APPEND => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            op::APPENDS => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            op::SETITEMS => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            op::BINGET => self.get_length::<1>()?,
            op::LONG_BINGET => self.get_length::<4>()?,
            op::BINPUT => self.put_length::<1>()?,
            op::LONG_BINPUT => self.put_length::<4>()?,
            op::GET | op::PUT => {
                let line = self.line()?;
                let index = std::str::from_utf8(&line).ok().and_then(|text| text.trim().parse().ok());
                let Some(index) = index else { return self.stop("no memo index") };
                if self.code == op::GET { self.get(index)? } else { self.put(index)? }
            }
            op::MEMOIZE => self.put(self.memo.len() as u64)?,
            op::BINPERSID => {
                let id = self.pop()?;
                let value = self.replay.persistent(id);
                self.push(value);
            }
            op::PERSID => {
                self.line()?;
                self.stack.push(Replay::UNKNOWN);
            }
            op::REDUCE => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let value = self.replay.reduce(callable, args);
                self.push(value);
            }
            op::NEWOBJ => {
                let (args, class) = (self.pop()?, self.pop()?);
                let value = self.replay.new_object(class, args);
                self.push(value);
            }
            op::NEWOBJ_EX => {
                let (_, _, _) = (self.pop()?, self.pop()?, self.pop()?);
                self.stack.push(Replay::UNKNOWN);
            }
            op::INST => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name);
                self.pop()?;
                self.pop_mark()?;
                self.stack.push(Replay::UNKNOWN);
            }
            op::OBJ => {
                self.pop_mark()?;
                self.stack.push(Replay::UNKNOWN);
            }
            op::BUILD => {
                let state = self.pop()?;
                let object = self.top()?;
                self.replay.build(object, state);
            }
            op::EXT1 | op::EXT2 | op::EXT4 => {
                self.reader.take(1 << (self.code - op::EXT1), 0)?;
                self.stack.push(Replay::UNKNOWN);
            }
            op::NEXT_BUFFER => self.stack.push(Replay::UNKNOWN),
            op::READONLY_BUFFER => {}
            // no opcode at all: how long it is, nobody knows
            _ => return Err(Stop::Refused),
        }
        Ok(())
    }

    fn unsigned<const N: usize>(&mut self) -> Step {
        let value = self.length::<N>()?;
        self.push(Value::Int(i64::try_from(value).ok()));
        Ok(())
    }

    fn long(&mut self, len: u64) -> Step {
        let raw = self.reader.take(len, MAX_KEPT_TEXT)?.map(<[u8]>::to_vec);
        let value = raw.map_or(Value::HugeInt, |raw| long(&raw));
        self.push(value);
        Ok(())
    }

    fn number_line(&mut self) -> Step {
        let line = self.line()?;
        let text = String::from_utf8_lossy(&line);
        let value = match (self.code, text.trim()) {
            (op::INT, "00") => Value::Bool(false),
            (op::INT, "01") => Value::Bool(true),
            (op::FLOAT, text) => Value::Float(text.parse().ok()),
            (_, digits) => Value::Int(digits.trim_end_matches('L').parse().ok()),
        };
        self.push(value);
        Ok(())
    }

    /// A text with its length before it; `surrogates` may stand in it alone.
    fn text<const N: usize>(&mut self, surrogates: bool) -> Step {
        let len = self.length::<N>()?;
        let at = self.reader.position();
        if let Some(bytes) = self.reader.take(len, MAX_KEPT_TEXT)? {
            let text = Text::of(bytes);
            let valid = bytes.is_ascii() || code_points(bytes).all(|point| is_valid(point, surrogates));
            self.push(Value::Str(text));
            return self.valid_text(valid);
        }
        let (mut largest, mut valid) = (0, true);
        let mut done = 0;
        while valid && done < len {
            let block = crate::source::read_vec(self.source.as_ref(), at + done, BLOCK.min(len - done))?;
            // a character at the end may go on in the next block
            let whole = match done + block.len() as u64 == len {
                true => block.len(),
                false => block.len() - block.iter().rev().take(3).position(|b| b & 0xc0 == 0xc0).map_or(0, |n| n + 1),
            };
            for point in code_points(block.get(..whole).unwrap_or_default()) {
                valid &= is_valid(point, surrogates);
                largest = largest.max(point.map_or_else(|code| code, u32::from));
            }
            done += whole as u64;
        }
        self.push(Value::Str(Text { content: None, is_empty: false, largest }));
        self.valid_text(valid)
    }

    fn valid_text(&mut self, valid: bool) -> Step {
        if !valid {
            let detail = format!("{}: a text that is not UTF-8", op::name(self.code));
            self.replay.refuse("malformed", detail);
        }
        Ok(())
    }

    fn text_line(&mut self) -> Step {
        let content = match self.reader.line(MAX_LINE)?.bytes {
            Some(line) if self.code == op::UNICODE => Text::of(&decode_raw_unicode_escape(&line)),
            Some(line) => {
                let line = line.trim_ascii_end();
                Text::of(&unescape_string(line.get(1..line.len().saturating_sub(1)).unwrap_or_default()))
            }
            None => Text { content: None, is_empty: false, largest: 0 },
        };
        self.push(Value::Str(content));
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Step {
        let len = self.length::<N>()?;
        let content = self.reader.take(len, MAX_KEPT_TEXT)?.map(Rc::from);
        self.push(Value::Bytes(Text { content, is_empty: len == 0, largest: 0 }));
        Ok(())
    }

    /// Makes a tuple of what lies on the stack from `mark` on.
    fn tuple(&mut self, mark: usize) {
        let items: Rc<[Id]> = self.stack.get(mark..).unwrap_or_default().into();
        self.stack.truncate(mark);
        self.replay.items += items.len() as u64;
        self.push(Value::Tuple(items));
    }

    fn append(&mut self, items: &[Id]) -> Step {
        let target = self.top()?;
        self.replay.items += items.len() as u64;
        match self.replay.value_mut(target) {
            Some(Value::List(list)) => list.extend_from_slice(items),
            Some(Value::Unknown) | None => {}
            Some(other) => {
                let detail = format!("appends to {}, not to a list", other.type_name());
                self.replay.refuse("append", detail);
            }
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Step {
        let target = self.top()?;
        self.replay.items += items.len() as u64;
        let (pairs, rest) = items.as_chunks::<2>();
        match self.replay.value(target) {
            Value::Dict(..) | Value::Unknown => {}
            other => {
                let detail = format!("sets items of {}, not of a dict", other.type_name());
                self.replay.refuse("setitem", detail);
                return Ok(());
            }
        }
        for [key, _] in pairs {
            self.replay.hashable(*key);
        }
        if !rest.is_empty() {
            return self.stop("a key without a value");
        }
        if let Some(Value::Dict(_, entries)) = self.replay.value_mut(target) {
            entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        }
        Ok(())
    }

    fn get_length<const N: usize>(&mut self) -> Step {
        let index = self.length::<N>()?;
        self.get(index)
    }

    fn put_length<const N: usize>(&mut self) -> Step {
        let index = self.length::<N>()?;
        self.put(index)
    }

    fn get(&mut self, index: u64) -> Step {
        match self.memo.get(index) {
            Some(id) => self.stack.push(id),
            None => return self.stop("nothing is in the memo there"),
        }
        Ok(())
    }

    fn put(&mut self, index: u64) -> Step {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn global(&mut self, module: &[u8], name: &[u8]) {
        let (Ok(module), Ok(name)) = (std::str::from_utf8(module), std::str::from_utf8(name)) else {
            self.replay.refuse("global", "a name that is not UTF-8");
            return self.stack.push(Replay::UNKNOWN);
        };
        let (module, name) = TABLES.renamed(module, name);
        let full = format!("{module}.{name}");
        match TABLES.global(&full).filter(|_| !TABLES.is_blocked(module)) {
            Some((name, kind)) => self.push(Value::Global(name, kind)),
            None => {
                self.replay.refuse("global", full);
                self.stack.push(Replay::UNKNOWN);
            }
        }
    }
}

/// `pickle.decode_long`: two's complement, the least byte first, as long as it may be.
fn long(raw: &[u8]) -> Value {
    let is_negative = raw.last().is_some_and(|last| last & 0x80 != 0);
    let fill = if is_negative { 0xff } else { 0 };
    let digits = raw.len() - raw.iter().rev().take_while(|byte| **byte == fill).count();
    let digits = raw.get(..digits).unwrap_or_default();
    if digits == MAGIC {
        return Value::Magic;
    }
    let mut bytes = [fill; 8];
    bytes.iter_mut().zip(digits).for_each(|(to, from)| *to = *from);
    let value = i64::from_le_bytes(bytes);
    match digits.len() {
        0..8 => Value::Int(Some(value)),
        8 if (value < 0) == is_negative => Value::Int(Some(value)),
        // 1024 bits are the most that a double takes
        8..=128 => Value::Int(None),
        _ => Value::HugeInt,
    }
}

fn is_valid(point: std::result::Result<char, u32>, surrogates: bool) -> bool {
    point.is_ok() || surrogates && point.is_err_and(|code| code >= 0xd800)
}
