//! Opcodes to the object graph: an unpickler that builds descriptions instead of calling anything.
//!
//! The rules are CPython's `Lib/pickle.py` (`_Unpickler`) and `Modules/_pickle.c`. One loop, one explicit stack; every
//! error says at which byte.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::pickle::graph::{Change, Construct, Entry, Graph, Node, NodeId, Object, StreamId};
use crate::pickle::opcode::{self as op};
use crate::pickle::reader::Reader;
use crate::pickle::text::Encoding;
use crate::source::SharedSource;

/// Strings up to this many bytes pass through memory; longer ones are only measured.
const KEEP: u64 = 4096;
/// Bytes of one pickle that room is made for at once.
const MOST_EXPECTED_BYTES: u64 = 64 << 20;
/// Lines that must be understood at once (numbers, names) may be this long.
const MAX_LINE: usize = 1 << 20;

/// The opcodes that push a string they hold.
const STRINGS: [u8; 7] = [
    op::STRING,
    op::UNICODE,
    op::BINSTRING,
    op::SHORT_BINSTRING,
    op::BINUNICODE,
    op::SHORT_BINUNICODE,
    op::BINUNICODE8,
];

/// What one pickle gave.
#[derive(Debug, Clone, Copy)]
pub struct Decoded {
    /// The object.
    pub root: NodeId,
    /// The byte after `STOP`, in the stream.
    pub end: u64,
    /// The protocol that `PROTO` announces, else 1 when an opcode of protocol 1 was used, else 0.
    pub protocol: u8,
}

/// Knows of raw data that some libraries (joblib) put into the stream right after an object's `BUILD`.
pub trait Inline {
    /// Looks at an object that has just been built; `position` is the next byte of its stream.
    fn after_build(&self, graph: &Graph, object: NodeId, source: &SharedSource, position: u64) -> Result<Follows>;
}

/// What follows an object in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// The next opcode.
    Opcodes,
    /// `padding` bytes, then `len` bytes of data.
    Bytes {
        /// Bytes to skip.
        padding: u64,
        /// Bytes of data.
        len: u64,
    },
    /// A whole pickle.
    Pickle,
}

/// Nothing is ever inline: plain pickles.
#[derive(Debug, Clone, Copy)]
pub struct NothingInline;

impl Inline for NothingInline {
    fn after_build(&self, _: &Graph, _: NodeId, _: &SharedSource, _: u64) -> Result<Follows> {
        Ok(Follows::Opcodes)
    }
}

/// Hears of the opcodes that make and repeat strings, for what the graph does not keep: where they lie.
pub trait Trace {
    /// The opcode `code` lies from byte `at` to before byte `end` of its stream.
    fn opcode(&mut self, code: u8, at: u64, end: u64, does: Does);
}

/// What an opcode does, as far as a [`Trace`] wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Pushes a string that it holds.
    Push,
    /// Pushes what the memo has at `index`.
    Get {
        /// The place in the memo.
        index: u64,
    },
    /// Pushes once more what the opcode at `pushed_at` had pushed.
    Repeat {
        /// Where that opcode lies.
        pushed_at: u64,
    },
    /// Puts what the opcode at `pushed_at` had pushed into the memo.
    Put {
        /// The place in the memo.
        index: u64,
        /// Where that opcode lies.
        pushed_at: u64,
    },
    /// Begins a frame of `len` bytes, which start at the opcode's end.
    Frame {
        /// Bytes.
        len: u64,
    },
    /// Is followed by a whole other pickle, with a memo of its own, up to the next [`Does::Leave`].
    Enter,
    /// Ends it.
    Leave,
}

struct NoTrace;

impl Trace for NoTrace {
    fn opcode(&mut self, _: u8, _: u64, _: u64, _: Does) {}
}

/// Reads one pickle at `position` of a stream into the graph. `max_objects` bounds the nodes of the whole graph.
pub fn decode(
    graph: &mut Graph,
    stream: StreamId,
    position: u64,
    max_objects: u64,
    inline: &dyn Inline,
) -> Result<Decoded> {
    decode_traced(graph, stream, position, max_objects, inline, &mut NoTrace)
}

/// The same, with somebody who watches.
pub fn decode_traced(
    graph: &mut Graph,
    stream: StreamId,
    position: u64,
    max_objects: u64,
    inline: &dyn Inline,
    trace: &mut dyn Trace,
) -> Result<Decoded> {
    let source = graph.stream(stream).cloned().ok_or_else(|| Error::malformed("no such stream"))?;
    let name = graph.stream_name(stream).to_owned();
    graph.expect(source.len().saturating_sub(position).min(MOST_EXPECTED_BYTES));
    let decoded = Decoder::new(graph, stream, &source, position, max_objects, inline, trace).run();
    decoded.map_err(|e| if name.is_empty() { e } else { e.in_member(&name) })
}

#[derive(Clone, Copy)]
struct Slot {
    node: NodeId,
    /// Where the opcode lies that pushed it.
    at: u64,
}

/// Picklers begin a new frame once one has this many bytes (`pickle._Framer._FRAME_SIZE_TARGET`).
const FRAME_TARGET_BYTES: u64 = 64 << 10;

struct Decoder<'a> {
    graph: &'a mut Graph,
    stream: StreamId,
    source: &'a SharedSource,
    reader: Reader<'a>,
    inline: &'a dyn Inline,
    trace: &'a mut dyn Trace,
    max_objects: u64,
    stack: Vec<Slot>,
    marks: Vec<usize>,
    memo: Memo,
    protocol: u8,
    /// Where the opcode in hand lies.
    at: u64,
    /// Its code.
    code: u8,
    /// Where the pickle begins.
    start: u64,
    /// Where the frame ends that the opcode in hand lies in, 0 outside of one, and its length.
    frame_end: u64,
    frame_len: u64,
    /// Where an opcode began that follows a short frame and has none of its own.
    unframed: Option<u64>,
}

impl<'a> Decoder<'a> {
    fn new(
        graph: &'a mut Graph,
        stream: StreamId,
        source: &'a SharedSource,
        position: u64,
        max_objects: u64,
        inline: &'a dyn Inline,
        trace: &'a mut dyn Trace,
    ) -> Self {
        Decoder {
            graph,
            stream,
            source,
            reader: Reader::new(source, position),
            inline,
            trace,
            max_objects,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Memo::default(),
            protocol: 0,
            at: position,
            code: 0,
            start: position,
            frame_end: 0,
            frame_len: 0,
            unframed: None,
        }
    }

    fn run(mut self) -> Result<Decoded> {
        loop {
            self.at = self.reader.position();
            let before = self.code;
            self.code = self.reader.byte().map_err(|e| match self.reader.remaining() {
                0 => Error::truncated("the pickle ends without STOP").at(self.source.absolute(self.at)),
                _ => e,
            })?;
            self.note_oddities(before);
            if self.code == op::STOP {
                let root = self.pop()?;
                return Ok(Decoded { root, end: self.reader.position(), protocol: self.protocol });
            }
            self.step()?;
            if STRINGS.contains(&self.code) {
                self.trace(Does::Push);
            }
            if self.held() > self.max_objects {
                let message =
                    format!("the pickle makes more than {} objects; --max-objects raises it", self.max_objects);
                return Err(Error::limit(message).at(self.source.absolute(self.at)));
            }
        }
    }

    /// What CPython's unpicklers take in silence, and no pickler writes: frames that do not end between two opcodes (where
    /// its readers differ), a second PROTO, objects fetched to be thrown away.
    fn note_oddities(&mut self, before: u8) {
        let frame_ends = self.frame_end != 0 && self.at >= self.frame_end;
        // picklers end a short frame only for the sake of something long that follows it
        let was_short = |start: u64| self.at - start < FRAME_TARGET_BYTES;
        let is_unframed = frame_ends && self.code != op::FRAME && self.frame_len < FRAME_TARGET_BYTES;
        let unframed = self.unframed.take().is_some_and(was_short) || is_unframed && self.code == op::STOP;
        self.unframed = is_unframed.then_some(self.at);
        let odd = match self.code {
            _ if frame_ends && self.at > self.frame_end => "a frame ends inside an opcode",
            op::FRAME if self.frame_end != 0 && !frame_ends => "a frame begins inside another",
            op::STOP if self.frame_end > self.at + 1 => "a frame goes on after STOP",
            _ if unframed => "an opcode outside of the frames",
            op::PROTO if self.at != self.start => "a PROTO inside the pickle",
            op::DUP => "DUP",
            op::POP if matches!(before, op::GET | op::BINGET | op::LONG_BINGET) => "a GET whose object is thrown away",
            _ => "",
        };
        if frame_ends {
            self.frame_end = 0;
        }
        if !odd.is_empty() {
            self.graph.note_oddity(odd, self.source.absolute(self.at));
        }
    }

    /// Everything that takes memory: one opcode of one byte can add to the stack, the marks or the memo alone.
    fn held(&self) -> u64 {
        let here = self.stack.len().saturating_add(self.marks.len()) as u64;
        self.graph.held().saturating_add(here).saturating_add(self.memo.len())
    }

    fn fail(&self, what: &str) -> Error {
        Error::malformed(format!("{}: {what}", op::name(self.code))).at(self.source.absolute(self.at))
    }

    fn trace(&mut self, does: Does) {
        self.trace.opcode(self.code, self.at, self.reader.position(), does);
    }

    // ---- the stack

    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn push(&mut self, node: NodeId) {
        self.stack.push(Slot { node, at: self.at });
    }

    fn push_node(&mut self, node: Node) -> Result<()> {
        let id = self.graph.push(node)?;
        self.push(id);
        Ok(())
    }

    fn pop_slot(&mut self) -> Result<Slot> {
        if self.stack.len() <= self.fence() {
            return Err(self.fail("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| self.fail("the stack is empty"))
    }

    fn pop(&mut self) -> Result<NodeId> {
        self.pop_slot().map(|slot| slot.node)
    }

    fn top_slot(&self) -> Result<Slot> {
        match self.stack.last() {
            Some(slot) if self.stack.len() > self.fence() => Ok(*slot),
            _ => Err(self.fail("the stack is empty")),
        }
    }

    fn top(&self) -> Result<NodeId> {
        self.top_slot().map(|slot| slot.node)
    }

    fn pop_mark(&mut self) -> Result<Vec<Slot>> {
        let mark = self.marks.pop().ok_or_else(|| self.fail("there is no MARK on the stack"))?;
        if mark > self.stack.len() {
            return Err(self.fail("the stack is shorter than its MARK"));
        }
        Ok(self.stack.split_off(mark))
    }

    fn pop_mark_nodes(&mut self) -> Result<Vec<NodeId>> {
        Ok(self.pop_mark()?.into_iter().map(|slot| slot.node).collect())
    }

    // ---- arguments

    /// The length that stands before a text, in `N` bytes, little-endian.
    fn length<const N: usize>(&mut self) -> Result<u64> {
        let bytes = self.reader.array::<N>()?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn unsigned<const N: usize>(&mut self) -> Result<u64> {
        self.length::<N>()
    }

    /// A text of `len` bytes that begins here.
    fn text(&mut self, len: u64, encoding: Encoding) -> Result<crate::pickle::TextId> {
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

    fn line_text(&mut self, encoding: Encoding) -> Result<crate::pickle::TextId> {
        let begin = self.reader.position();
        let (len, line) = self.reader.line(usize::try_from(KEEP).unwrap_or(0))?;
        self.graph.add_text(self.stream, begin, len, line.as_deref(), encoding)
    }

    fn index_line(&mut self) -> Result<u64> {
        let line = self.small_line()?;
        let text = String::from_utf8_lossy(&line);
        text.trim()
            .parse()
            .map_err(|_| self.fail(&format!("{:?} is no memo index", text.chars().take(40).collect::<String>())))
    }

    // ---- the opcodes

    fn step(&mut self) -> Result<()> {
        match self.code {
            op::PROTO => self.proto(),
            op::FRAME => {
                let len = self.length::<8>()?;
                self.graph.set_framed();
                self.trace(Does::Frame { len });
                if len > self.reader.remaining() {
                    let what = format!("announces a frame of {len} bytes, {} are left", self.reader.remaining());
                    return Err(Error::truncated(format!("FRAME: {what}")).at(self.source.absolute(self.at)));
                }
                (self.frame_end, self.frame_len) = (self.reader.position().saturating_add(len), len);
                Ok(())
            }
            op::NONE => self.constant(Graph::NONE),
            op::NEWTRUE => self.constant(Graph::TRUE),
            op::NEWFALSE => self.constant(Graph::FALSE),
            op::EMPTY_TUPLE => self.constant(Graph::EMPTY_TUPLE),
            op::INT | op::LONG | op::FLOAT => self.number_line(),
            op::BININT => {
                let value = i32::from_le_bytes(self.reader.array()?);
                self.push_node(Node::Int(i64::from(value)))
            }
            op::BININT1 => self.small_int::<1>(),
            op::BININT2 => self.small_int::<2>(),
            op::LONG1 => self.long::<1>(),
            op::LONG4 => self.long::<4>(),
            op::BINFLOAT => {
                let value = f64::from_be_bytes(self.reader.array()?);
                self.push_node(Node::Float(value))
            }
            op::STRING => self.quoted_string(),
            op::UNICODE => {
                let text = self.line_text(Encoding::RawUnicodeEscape)?;
                self.push_node(Node::Str(text))
            }
            op::BINSTRING => self.sized::<4>(Encoding::Python2, Node::Str),
            op::SHORT_BINSTRING => self.sized::<1>(Encoding::Python2, Node::Str),
            op::BINUNICODE => self.sized::<4>(Encoding::Utf8, Node::Str),
            op::SHORT_BINUNICODE => self.sized::<1>(Encoding::Utf8, Node::Str),
            op::BINUNICODE8 => self.sized::<8>(Encoding::Utf8, Node::Str),
            op::BINBYTES => self.sized::<4>(Encoding::Raw, Node::Bytes),
            op::SHORT_BINBYTES => self.sized::<1>(Encoding::Raw, Node::Bytes),
            op::BINBYTES8 => self.sized::<8>(Encoding::Raw, Node::Bytes),
            op::BYTEARRAY8 => self.sized::<8>(Encoding::Raw, Node::ByteArray),
            op::NEXT_BUFFER => self.push_node(Node::Buffer),
            op::READONLY_BUFFER => {
                let buffer = self.pop()?;
                self.push_node(Node::ReadOnlyBuffer(buffer))
            }
            op::MARK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP => match self.stack.len() > self.fence() {
                true => self.pop().map(drop),
                false => self.pop_mark().map(drop),
            },
            op::POP_MARK => self.pop_mark().map(drop),
            op::DUP => {
                let top = self.top_slot()?;
                self.trace(Does::Repeat { pushed_at: top.at });
                self.constant(top.node)
            }
            op::EMPTY_LIST => self.push_node(Node::List(Box::default())),
            op::EMPTY_DICT => self.push_node(Node::Dict(Box::default())),
            op::EMPTY_SET => self.push_node(Node::Set(Box::default())),
            op::LIST => {
                let slots = self.pop_mark()?;
                let list = self.graph.push(Node::List(Box::new(slots.iter().map(|slot| slot.node).collect())))?;
                self.graph.count_items(slots.len());
                self.remember_first(list, &slots);
                self.constant(list)
            }
            op::DICT => {
                let slots = self.pop_mark()?;
                let entries = self.pairs(&slots)?;
                self.graph.count_items(entries.len());
                self.push_node(Node::Dict(Box::new(entries)))
            }
            op::FROZENSET => {
                let items = self.pop_mark_nodes()?;
                let node = self.graph.push_frozenset(&items)?;
                self.constant(node)
            }
            op::TUPLE => {
                let slots = self.pop_mark()?;
                self.tuple(&slots)
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => self.short_tuple(),
            op::APPEND => {
                let item = self.pop_slot()?;
                self.extend(&[item])
            }
            op::APPENDS => {
                let items = self.pop_mark()?;
                self.extend(&items)
            }
            op::SETITEM => {
                let value = self.pop_slot()?;
                let key = self.pop_slot()?;
                self.set_items(&[key, value])
            }
            op::SETITEMS => {
                let slots = self.pop_mark()?;
                self.set_items(&slots)
            }
            op::ADDITEMS => self.add_items(),
            op::GLOBAL => {
                let (module, name) = self.global_lines()?;
                self.push_node(Node::Global { module, name })
            }
            op::STACK_GLOBAL => {
                let name = self.pop()?;
                let module = self.pop()?;
                // what a call gives may be a string as well; nobody but the call knows which
                let may_name = |node| matches!(self.graph.node(node), Node::Str(_) | Node::Object(_));
                if !may_name(module) || !may_name(name) {
                    return Err(self.fail("module and name must be strings"));
                }
                // Python imports nothing by such a name
                let is_text = |node| match self.graph.node(node) {
                    Node::Str(text) => self.graph.text(*text).is_ok_and(|text| std::str::from_utf8(&text).is_ok()),
                    _ => true,
                };
                if !is_text(module) || !is_text(name) {
                    return Err(self.fail("module and name must be text"));
                }
                self.push_node(Node::Global { module, name })
            }
            op::EXT1 => self.extension::<1>(),
            op::EXT2 => self.extension::<2>(),
            op::EXT4 => self.extension::<4>(),
            op::PERSID => {
                let text = self.line_text(Encoding::Utf8)?;
                let pid = self.graph.push(Node::Str(text))?;
                let node = self.graph.push_persistent(pid)?;
                self.constant(node)
            }
            op::BINPERSID => {
                let pid = self.pop()?;
                let node = self.graph.push_persistent(pid)?;
                self.constant(node)
            }
            op::REDUCE | op::NEWOBJ | op::NEWOBJ_EX | op::INST | op::OBJ => self.construct(),
            op::BUILD => self.build(),
            op::GET => {
                let index = self.index_line()?;
                self.get(index)
            }
            op::BINGET => {
                let index = self.unsigned::<1>()?;
                self.get(index)
            }
            op::LONG_BINGET => {
                let index = self.unsigned::<4>()?;
                self.get(index)
            }
            op::PUT => {
                let index = self.index_line()?;
                self.put(index)
            }
            op::BINPUT => {
                let index = self.unsigned::<1>()?;
                self.put(index)
            }
            op::LONG_BINPUT => {
                let index = self.unsigned::<4>()?;
                self.put(index)
            }
            op::MEMOIZE => {
                let index = self.memo.len();
                self.put(index)
            }
            code => {
                Err(Error::malformed(format!("0x{code:02x} is no pickle opcode")).at(self.source.absolute(self.at)))
            }
        }?;
        if self.protocol == 0 && op::describe(self.code).is_some_and(|(_, protocol)| protocol == 1) {
            self.protocol = 1;
        }
        Ok(())
    }

    fn proto(&mut self) -> Result<()> {
        let version = self.reader.byte()?;
        if version > 5 {
            let message = format!("pickle protocol {version}; 5 is the newest there is");
            return Err(Error::unsupported(message).at(self.source.absolute(self.at)));
        }
        self.protocol = version;
        Ok(())
    }

    fn constant(&mut self, node: NodeId) -> Result<()> {
        self.push(node);
        Ok(())
    }

    fn small_int<const N: usize>(&mut self) -> Result<()> {
        let value = self.unsigned::<N>()?;
        self.push_node(Node::Int(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn number_line(&mut self) -> Result<()> {
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
                    let bytes = digits.as_bytes();
                    Some(Node::Long(self.graph.add_text(
                        self.stream,
                        begin,
                        bytes.len() as u64,
                        Some(bytes),
                        Encoding::Decimal,
                    )?))
                }
            }
        };
        match node {
            Some(Node::Bool(value)) => self.constant(if value { Graph::TRUE } else { Graph::FALSE }),
            Some(node) => self.push_node(node),
            None => Err(self.fail(&format!("{:?} is no number", trimmed.chars().take(40).collect::<String>()))),
        }
    }

    fn long<const N: usize>(&mut self) -> Result<()> {
        let len = self.length::<N>()?;
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

    fn sized<const N: usize>(&mut self, encoding: Encoding, make: fn(crate::pickle::TextId) -> Node) -> Result<()> {
        let len = self.length::<N>()?;
        if self.code == op::BINSTRING && len > u64::from(u32::MAX >> 1) {
            return Err(self.fail("a negative length"));
        }
        let text = self.text(len, encoding)?;
        self.push_node(make(text))
    }

    fn quoted_string(&mut self) -> Result<()> {
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
                let mut ends = [0; 2];
                let (first, last) = ends.split_at_mut(1);
                self.source.read_at(begin, first)?;
                self.source.read_at(begin + len - 1, last)?;
                (first == last && matches!(first, [b'"' | b'\''])).then_some(len)
            }
        };
        let Some(quoted) = quoted else { return Err(self.fail("the string is not in quotes")) };
        let inner = line.as_ref().and_then(|line| line.get(1..usize::try_from(quoted).ok()? - 1));
        let text = self.graph.add_text(self.stream, begin + 1, quoted - 2, inner, Encoding::Python2Escaped)?;
        self.push_node(Node::Str(text))
    }

    fn global_lines(&mut self) -> Result<(NodeId, NodeId)> {
        let module = self.line_text(Encoding::Utf8)?;
        let name = self.line_text(Encoding::Utf8)?;
        Ok((self.graph.push(Node::Str(module))?, self.graph.push(Node::Str(name))?))
    }

    fn extension<const N: usize>(&mut self) -> Result<()> {
        let code = self.unsigned::<N>()?;
        match u32::try_from(code) {
            // the codes of copyreg's registry are positive 31-bit integers
            Ok(code @ 1..=0x7fff_ffff) => self.push_node(Node::Extension(code)),
            _ => Err(self.fail("an extension code below 1")),
        }
    }

    fn tuple(&mut self, slots: &[Slot]) -> Result<()> {
        let items: Vec<NodeId> = slots.iter().map(|slot| slot.node).collect();
        let node = self.graph.push_tuple(&items)?;
        if slots.len() == 2 {
            self.remember_first(node, slots);
        }
        self.constant(node)
    }

    /// A key and a value may come as a list or tuple of two: the place of the key is kept.
    fn remember_first(&mut self, sequence: NodeId, slots: &[Slot]) {
        if let Some(first) = slots.first().filter(|first| matches!(self.graph.node(first.node), Node::Str(_))) {
            self.graph.set_first_pushed_at(sequence, first.at);
        }
    }

    fn short_tuple(&mut self) -> Result<()> {
        let len = usize::from(self.code - op::TUPLE1) + 1;
        let from = self.stack.len().checked_sub(len).filter(|from| *from >= self.fence());
        let from = from.ok_or_else(|| self.fail("the stack is empty"))?;
        let slots = self.stack.split_off(from);
        self.tuple(&slots)
    }

    fn extend(&mut self, slots: &[Slot]) -> Result<()> {
        let target = self.top()?;
        self.refuse_plain(target)?;
        if let Some(Node::List(list)) = self.graph.node_mut(target) {
            let was_empty = list.is_empty();
            list.extend(slots.iter().map(|slot| slot.node));
            self.graph.count_items(slots.len());
            if was_empty {
                self.remember_first(target, slots);
            }
        } else {
            slots.iter().for_each(|slot| self.graph.change(target, Change::Append(slot.node)));
        }
        Ok(())
    }

    fn pairs(&self, slots: &[Slot]) -> Result<Vec<Entry>> {
        let (pairs, rest) = slots.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.fail("a key without a value"));
        }
        Ok(pairs.iter().map(|[key, value]| Entry { key: key.node, value: value.node, key_at: key.at }).collect())
    }

    fn set_items(&mut self, slots: &[Slot]) -> Result<()> {
        let entries = self.pairs(slots)?;
        let target = self.top()?;
        self.refuse_plain(target)?;
        if let Some(Node::Dict(dict)) = self.graph.node_mut(target) {
            dict.extend(entries);
            self.graph.count_items(slots.len() / 2);
        } else {
            entries.into_iter().for_each(|entry| self.graph.change(target, Change::Item(entry)));
        }
        Ok(())
    }

    fn add_items(&mut self) -> Result<()> {
        let items = self.pop_mark_nodes()?;
        let target = self.top()?;
        self.refuse_plain(target)?;
        let count = items.len();
        if let Some(Node::Set(set)) = self.graph.node_mut(target) {
            set.extend(items);
            self.graph.count_items(count);
        } else {
            items.into_iter().for_each(|item| self.graph.change(target, Change::Add(item)));
        }
        Ok(())
    }

    /// Numbers, strings and tuples cannot be changed, and plain containers only in the way of their kind.
    fn refuse_plain(&self, target: NodeId) -> Result<()> {
        let kind = match self.graph.node(target) {
            Node::List(_) if self.code == op::ADDITEMS => "a list",
            Node::Dict(_) if matches!(self.code, op::ADDITEMS | op::APPEND | op::APPENDS) => "a dict",
            Node::Set(_) if !matches!(self.code, op::ADDITEMS | op::BUILD) => "a set",
            Node::None => "None",
            Node::Bool(_) => "a bool",
            Node::Int(_) | Node::Long(_) => "an int",
            Node::Float(_) => "a float",
            Node::Str(_) => "a str",
            Node::Bytes(_) => "bytes",
            Node::Tuple(_) => "a tuple",
            Node::FrozenSet(_) => "a frozenset",
            _ => return Ok(()),
        };
        Err(self.fail(&format!("{kind} cannot be changed so")))
    }

    fn construct(&mut self) -> Result<()> {
        let mut kwargs = None;
        let (how, callable, args) = match self.code {
            op::REDUCE => {
                let args = self.pop()?;
                (Construct::Reduce, self.pop()?, args)
            }
            op::NEWOBJ => {
                let args = self.pop()?;
                (Construct::NewObj, self.pop()?, args)
            }
            op::NEWOBJ_EX => {
                kwargs = Some(self.pop()?);
                let args = self.pop()?;
                (Construct::NewObjEx, self.pop()?, args)
            }
            op::INST => {
                let (module, name) = self.global_lines()?;
                let args = self.pop_mark_nodes()?;
                (Construct::Inst, self.graph.push(Node::Global { module, name })?, self.graph.push_tuple(&args)?)
            }
            _ => {
                let items = self.pop_mark_nodes()?;
                let (class, args) = items.split_first().ok_or_else(|| self.fail("no class after MARK"))?;
                (Construct::Obj, *class, self.graph.push_tuple(args)?)
            }
        };
        if self.graph.tuple(args).is_none()
            && !matches!(self.graph.node(args), Node::None | Node::List(_) | Node::Object(_))
        {
            return Err(self.fail("the arguments are not a tuple"));
        }
        self.push_node(Node::Object(Box::new(Object { how, callable, args, kwargs, changes: Vec::new() })))
    }

    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let target = self.top()?;
        self.refuse_plain(target)?;
        self.graph.change(target, Change::Build(state));
        let position = self.reader.position();
        match self.inline.after_build(self.graph, target, self.source, position)? {
            Follows::Opcodes => {}
            Follows::Bytes { padding, len } => {
                let begin = position.saturating_add(padding);
                if begin.checked_add(len).is_none_or(|end| end > self.source.len()) {
                    let message = format!("an array of {len} bytes in the stream reaches past its end");
                    return Err(Error::truncated(message).at(self.source.absolute(position)));
                }
                self.graph.set_inline_bytes(target, self.stream, begin, len);
                self.frame_end = 0;
                self.reader.seek(begin + len);
            }
            Follows::Pickle => {
                // a plain pickle by its library's rules: nothing inline in it, so this goes one level deep
                self.trace(Does::Enter);
                let (graph, max_objects) = (&mut *self.graph, self.max_objects);
                let inner = decode_traced(graph, self.stream, position, max_objects, &NothingInline, &mut *self.trace)?;
                self.graph.set_inline_pickle(target, inner.root);
                self.frame_end = 0;
                self.reader.seek(inner.end);
                self.trace(Does::Leave);
            }
        }
        Ok(())
    }

    fn get(&mut self, index: u64) -> Result<()> {
        match self.memo.get(index) {
            Some(node) => {
                self.trace(Does::Get { index });
                self.constant(node)
            }
            None => Err(self.fail(&format!("nothing was stored in the memo as {index}"))),
        }
    }

    fn put(&mut self, index: u64) -> Result<()> {
        let top = self.top_slot()?;
        self.trace(Does::Put { index, pushed_at: top.at });
        self.memo.put(index, top.node);
        Ok(())
    }
}

/// What PUT stored: a vector as long as indexes come in order, a map for the others, so that a huge index costs nothing.
#[derive(Default)]
struct Memo {
    dense: Vec<Option<NodeId>>,
    sparse: HashMap<u64, NodeId>,
    stored: u64,
}

impl Memo {
    fn len(&self) -> u64 {
        self.stored
    }

    fn get(&self, index: u64) -> Option<NodeId> {
        let dense = usize::try_from(index).ok().and_then(|index| self.dense.get(index).copied().flatten());
        dense.or_else(|| self.sparse.get(&index).copied())
    }

    fn put(&mut self, index: u64, node: NodeId) {
        self.stored += u64::from(self.get(index).is_none());
        match usize::try_from(index).ok().filter(|index| (*index as u64) < 2 * self.stored + 1024) {
            Some(place) => {
                if place >= self.dense.len() {
                    self.dense.resize(place + 1, None);
                }
                if let Some(slot) = self.dense.get_mut(place) {
                    *slot = Some(node);
                }
            }
            None => drop(self.sparse.insert(index, node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::ErrorKind;
    use crate::source::MemorySource;

    fn decoded(bytes: &[u8]) -> (Graph, Result<Decoded>) {
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::new(MemorySource::new(bytes.to_vec())), "");
        let result = decode(&mut graph, stream, 0, 1000, &NothingInline);
        (graph, result)
    }

    #[test]
    fn errors_say_what_is_wrong_and_at_which_byte() {
        let bomb = [&[b']'; 1200][..], b"."].concat();
        for (bytes, kind, words, at) in [
            (&b""[..], ErrorKind::Truncated, "without STOP", 0),
            (b"\x80\x02N", ErrorKind::Truncated, "without STOP", 3),
            (b"\x80\x06N.", ErrorKind::Unsupported, "protocol 6", 0),
            (b"N\xff.", ErrorKind::Malformed, "0xff is no pickle opcode", 1),
            (b".", ErrorKind::Malformed, "the stack is empty", 0),
            (b"N(.", ErrorKind::Malformed, "the stack is empty", 2),
            (b"Ne.", ErrorKind::Malformed, "APPENDS", 1),
            (b"K\x01(Ne.", ErrorKind::Malformed, "an int cannot be changed so", 4),
            (b"}(Nu.", ErrorKind::Malformed, "a key without a value", 3),
            (b"N\x86.", ErrorKind::Malformed, "the stack is empty", 1),
            (b"h\x07.", ErrorKind::Malformed, "memo as 7", 0),
            (b"g-1\n.", ErrorKind::Malformed, "GET", 0),
            (b"I12x\n.", ErrorKind::Malformed, "is no number", 0),
            (b"S'abc\n.", ErrorKind::Malformed, "not in quotes", 0),
            (b"Vabc", ErrorKind::Truncated, "a line without its end", 1),
            (b"NK\x01\x81.", ErrorKind::Malformed, "not a tuple", 3),
            (b"\x82\0.", ErrorKind::Malformed, "extension code", 0),
            (b"NN\x93.", ErrorKind::Malformed, "must be strings", 2),
            (b"T\xff\xff\xff\xff.", ErrorKind::Malformed, "negative length", 0),
            (b"\x8b\xff\xff\xff\xff.", ErrorKind::Malformed, "negative length", 0),
            (b"X\x05\0\0\0abc.", ErrorKind::Truncated, "5 bytes wanted, 4 left", 0),
            (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", ErrorKind::Truncated, "1 left", 0),
            (b"\x95\x09\0\0\0\0\0\0\0N.", ErrorKind::Truncated, "frame of 9 bytes, 2 are left", 0),
            (&bomb, ErrorKind::Limit, "--max-objects", 498),
        ] {
            let (_, result) = decoded(bytes);
            let Err(error) = result else { panic!("{bytes:?} was decoded") };
            let text = error.to_string();
            assert_eq!(error.kind(), kind, "{bytes:?}: {text}");
            assert!(text.contains(words) && text.contains(&format!("byte {at}")), "{bytes:?}: {text}");
        }
    }

    #[test]
    fn memo_indexes_far_apart_cost_nothing() {
        let (graph, result) = decoded(b"]r\xfe\xff\xff\xffK\x07r\x00\x00\x00\x80p4000000000000\n0j\x00\x00\x00\x80a.");
        let root = result.unwrap().root;
        assert_eq!(graph.sequence(root).and_then(|items| graph.int(items[0])), Some(7));
        let mut memo = Memo::default();
        memo.put(u64::MAX, Graph::NONE);
        memo.put(0, Graph::TRUE);
        memo.put(0, Graph::FALSE);
        assert_eq!((memo.get(u64::MAX), memo.get(0), memo.get(1)), (Some(Graph::NONE), Some(Graph::FALSE), None));
        assert_eq!((memo.len(), memo.dense.len()), (2, 1));
    }

    #[test]
    fn changes_of_objects_are_kept_in_order() {
        // m.C() made by NEWOBJ, then append, item, state
        let (graph, result) = decoded(b"cm\nC\n)\x81K\x01aK\x02K\x03s}b.");
        let object = graph.object(result.unwrap().root).unwrap();
        assert_eq!(object.how, Construct::NewObj);
        let [Change::Append(one), Change::Item(item), Change::Build(state)] = object.changes[..] else {
            panic!("{:?}", object.changes)
        };
        assert_eq!([one, item.key, item.value].map(|node| graph.int(node)), [Some(1), Some(2), Some(3)]);
        assert_eq!((graph.node(state), item.key_at), (&Node::Dict(Box::default()), 10));
    }
}
