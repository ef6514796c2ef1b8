//! Opcodes to the object graph: an unpickler that builds descriptions instead of calling anything.
//!
//! The rules are CPython's `Lib/pickle.py` (`_Unpickler`) and `Modules/_pickle.c`. One loop, one explicit stack; every
//! error says at which byte.
//!
//! The loop and the table of opcodes are here; where it begins, and what the opcodes do, lies in a file each.

mod begin;
mod containers;
mod inline;
mod memo;
pub(crate) mod numbers;
mod objects;
mod operands;
mod stack;
mod trace;

pub(crate) use self::begin::most_steps;
pub use self::begin::{Decoded, Rest, Sharing, decode, decode_as_either, decode_by_frames, decode_row, decode_traced};
pub use self::inline::{Follows, Inline, NothingInline};
use self::memo::Memo;
use self::stack::Slot;
pub use self::trace::{Does, Trace};
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::pickle::graph::{Graph, Node, StreamId};
use crate::pickle::opcode as op;
use crate::pickle::reader::Reader;
use crate::pickle::text::Encoding;
use crate::source::SharedSource;

/// Picklers begin a new frame once one has this many bytes (`pickle._Framer._FRAME_SIZE_TARGET`).
const FRAME_TARGET_BYTES: u64 = 64 << 10;

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

/// An unpickler at work.
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
    /// What the memo would be without the pickles before this one, where it is shared with them.
    own: Option<Memo>,
    sharing: Sharing,
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
    /// Whether it is followed where only one of Python's unpicklers goes on.
    is_either: bool,
    /// Whether frames are read as from a file.
    is_by_frames: bool,
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
            own: None,
            sharing: Sharing::default(),
            protocol: 0,
            at: position,
            code: 0,
            start: position,
            frame_end: 0,
            frame_len: 0,
            unframed: None,
            is_either: false,
            is_by_frames: false,
        }
    }

    fn run(&mut self) -> Result<Decoded> {
        loop {
            self.at = self.reader.position();
            self.graph.count_steps(1);
            let before = self.code;
            self.code = self.reader.byte().map_err(|e| match self.reader.remaining() {
                0 => Error::truncated("the pickle ends without STOP").at(self.source.absolute(self.at)),
                _ => e,
            })?;
            self.note_oddities(before);
            if self.code == op::STOP {
                let root = self.pop()?;
                let end = self.reader.position();
                let read_to = if self.is_by_frames { self.reader.frame_end() } else { self.frame_end };
                return Ok(Decoded { root, end, read_to: end.max(read_to), protocol: self.protocol });
            }
            self.step()?;
            if STRINGS.contains(&self.code) {
                self.trace(Does::Push);
            }
            let depth = self.stack.len().saturating_add(self.marks.len());
            self.trace.step(self.code, self.at, self.reader.position(), depth);
            if self.graph.steps() > most_steps(self.max_objects) {
                let message = "the pickle has more opcodes than its size explains";
                return Err(Error::limit(message).allowed_by(Setting::MaxObjects).at(self.source.absolute(self.at)));
            }
            if self.held() > self.max_objects {
                let message = format!("the pickle makes more than {} objects", self.max_objects);
                return Err(Error::limit(message).allowed_by(Setting::MaxObjects).at(self.source.absolute(self.at)));
            }
        }
    }

    /// What CPython's unpicklers take in silence, and no pickler writes: frames that do not end between two opcodes (where
    /// its readers differ), a second PROTO, objects fetched to be thrown away.
    fn note_oddities(&mut self, before: u8) {
        let is_usual = !matches!(self.code, op::FRAME | op::STOP | op::PROTO | op::DUP | op::POP);
        if is_usual && self.unframed.is_none() && (self.frame_end == 0 || self.at < self.frame_end) {
            return;
        }
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
        self.graph
            .held()
            .saturating_add(here)
            .saturating_add(self.memo.held())
            .saturating_add(self.own.as_ref().map_or(0, Memo::held))
    }

    /// Notes what one of Python's unpicklers refuses and the other does not.
    fn odd(&mut self, what: &'static str) {
        self.graph.note_oddity(what, self.source.absolute(self.at));
    }

    fn fail(&self, what: &str) -> Error {
        Error::malformed(format!("{}: {what}", op::name(self.code))).at(self.source.absolute(self.at))
    }

    fn trace(&mut self, does: Does) {
        self.trace.opcode(self.code, self.at, self.reader.position(), does);
    }

    fn step(&mut self) -> Result<()> {
        match self.code {
            op::PROTO => self.proto(),
            op::FRAME => {
                let len = self.unsigned::<8>()?;
                self.graph.set_framed();
                if self.is_by_frames {
                    self.reader.enter_frame(len);
                }
                self.trace(Does::Frame { len });
                if len > self.reader.remaining() && self.is_either {
                    self.odd("a frame goes on after the end");
                    return Ok(());
                }
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
                let from = self.take_mark()?;
                self.tuple(from)
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
                // what a call gives, or a global (`random` `_os.name`), may be a string as well: nobody here knows
                let is_open = |node| {
                    matches!(
                        self.graph.node(node),
                        Node::Object(_) | Node::Global { .. } | Node::Extension(_) | Node::Persistent(_)
                    )
                };
                let may_name = |node| matches!(self.graph.node(node), Node::Str(_)) || is_open(node);
                if !may_name(module) || !may_name(name) {
                    return Err(self.fail("module and name must be strings"));
                }
                // Python imports nothing by a name with a lone surrogate; Python 2's strings have the encoding that the
                // caller of `load` says
                let is_text = |node| match self.graph.node(node) {
                    Node::Str(text)
                        if !matches!(self.graph.encoding(*text), Encoding::Python2 | Encoding::Python2Escaped) =>
                    {
                        self.graph.text(*text).is_ok_and(|text| std::str::from_utf8(&text).is_ok())
                    }
                    _ => true,
                };
                if !is_text(module) || !is_text(name) {
                    // of a dotted module, or of a module with such an attribute, the first part is imported all the same
                    if !self.is_either {
                        return Err(self.fail("module and name must be text"));
                    }
                    self.odd("a name with a lone surrogate");
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
            op::GET => self.get_line(),
            op::BINGET => {
                let index = self.unsigned::<1>()?;
                self.get(index)
            }
            op::LONG_BINGET => {
                let index = self.unsigned::<4>()?;
                self.get(index)
            }
            op::PUT => self.put_line(),
            op::BINPUT => {
                let index = self.unsigned::<1>()?;
                self.put(index)
            }
            op::LONG_BINPUT => {
                let index = self.unsigned::<4>()?;
                self.put(index)
            }
            op::MEMOIZE => self.memoize(),
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
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::ErrorKind;
    use crate::source::MemorySource;

    pub(super) fn decoded(bytes: &[u8]) -> (Graph, Result<Decoded>) {
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
            (&bomb, ErrorKind::Limit, "max_objects", 498),
        ] {
            let (_, result) = decoded(bytes);
            let Err(error) = result else { panic!("{bytes:?} was decoded") };
            let text = error.to_string();
            assert_eq!(error.kind(), kind, "{bytes:?}: {text}");
            assert!(text.contains(words) && text.contains(&format!("byte {at}")), "{bytes:?}: {text}");
        }
    }
}
