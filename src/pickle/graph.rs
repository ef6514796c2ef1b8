//! The object graph: an arena in which every object of a pickle is one node, however often it is used.
//!
//! Dicts keep their order and their duplicate keys, unknown globals, objects and states stay as they are, so that
//! decode, edit and encode lose nothing. Strings and bytes are ranges of the stream they came from; short ones are also
//! kept in memory. Several pickles, of several streams, can live in one graph.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::pickle::text::{self, Encoding};
use crate::source::{SharedSource, read_vec};

/// A node's place in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// The place as a number: less than the graph's length.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A string's or byte string's place in the graph's table of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextId(u32);

/// A stream that pickles were read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(u32);

/// A tuple's elements: a run in the graph's table of children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Children {
    start: u32,
    len: u32,
}

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// A larger integer: decimal digits or two's complement, as the text's encoding says.
    Long(TextId),
    /// A float.
    Float(f64),
    /// A `str`, of Python 2 too.
    Str(TextId),
    /// A `bytes`.
    Bytes(TextId),
    /// A `bytearray`.
    ByteArray(TextId),
    /// A `tuple`.
    Tuple(Children),
    /// A `frozenset`, in pickled order.
    FrozenSet(Children),
    /// A `list`.
    List(Box<Vec<NodeId>>),
    /// A `set`, in pickled order.
    Set(Box<Vec<NodeId>>),
    /// A `dict`: its assignments in order, a key assigned twice included.
    Dict(Box<Vec<Entry>>),
    /// A class or function by module and qualified name (two `Str` nodes).
    Global {
        /// The module's name.
        module: NodeId,
        /// The name in it, with dots for nested ones.
        name: NodeId,
    },
    /// A global by its number in `copyreg`'s extension registry.
    Extension(u32),
    /// What `persistent_load` of this id would give.
    Persistent(NodeId),
    /// The result of a call or a construction, with what was done to it afterwards.
    Object(Box<Object>),
    /// An out-of-band buffer (protocol 5).
    Buffer,
    /// The same, read-only.
    ReadOnlyBuffer(NodeId),
    /// A value that the layer above made and knows by number.
    Foreign(u32),
}

/// One assignment in a dict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: NodeId,
    /// The value.
    pub value: NodeId,
    /// Where in its stream the opcode lies that pushed the key: a string opcode or a memo get.
    pub key_at: u64,
}

/// How an [`Object`] was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Construct {
    /// `callable(*args)`.
    Reduce,
    /// `cls.__new__(cls, *args)`.
    NewObj,
    /// `cls.__new__(cls, *args, **kwargs)`.
    NewObjEx,
    /// Protocol 0's `INST`.
    Inst,
    /// Protocol 1's `OBJ`.
    Obj,
}

/// The result of a call or a construction.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// How it was made.
    pub how: Construct,
    /// What was called.
    pub callable: NodeId,
    /// Its positional arguments: a tuple (whatever the pickle gave, for `REDUCE`).
    pub args: NodeId,
    /// Its keyword arguments (`NEWOBJ_EX` only).
    pub kwargs: Option<NodeId>,
    /// What was done to it afterwards, in order.
    pub changes: Vec<Change>,
}

/// What a pickle does to an object that it has made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// `obj.append(x)` or a part of `obj.extend`.
    Append(NodeId),
    /// `obj[key] = value`.
    Item(Entry),
    /// `obj.add(x)`.
    Add(NodeId),
    /// `obj.__setstate__(state)` or its default.
    Build(NodeId),
}

#[derive(Debug, Clone, Copy)]
struct Text {
    at: u64,
    len: u64,
    stream: u32,
    pooled: u32,
    encoding: Encoding,
}

const NOT_POOLED: u32 = u32::MAX;
const MADE_HERE: u32 = u32::MAX;
/// Strings up to this many bytes are kept in memory as well.
const POOLED_BYTES: usize = 1024;
/// Longer strings are read whenever they are looked at: so many bytes in all, and so many times the streams' length. A
/// name of a mebibyte that a pickle uses a hundred thousand times runs into it.
const REREAD_BYTES: u64 = 64 << 20;
const REREAD_TIMES: u64 = 32;
/// A container is small where it is used and large where it is: so many elements may be looked at in all, and so many
/// times what the graph holds. Two bytes each make a hundred thousand uses of one list of a hundred thousand elements.
const LOOKS: u64 = 16 << 20;
const LOOKS_TIMES: u64 = 48;

#[derive(Debug)]
struct Stream {
    source: SharedSource,
    name: String,
}

/// The arena.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    children: Vec<NodeId>,
    texts: Vec<Text>,
    pool: Vec<u8>,
    streams: Vec<Stream>,
    /// Changes to nodes that are not [`Object`]s (a `BUILD` of a dict, a `SETITEM` of a persistent object).
    extra: HashMap<NodeId, Vec<Change>>,
    /// Every [`Node::Persistent`], in the order of the streams.
    persistents: Vec<NodeId>,
    /// Raw bytes that follow an object in its stream: (stream, first byte, bytes).
    inline_bytes: HashMap<NodeId, (StreamId, u64, u64)>,
    /// Pickles that follow an object in its stream.
    inline_pickles: HashMap<NodeId, NodeId>,
    /// Where the opcode lies that pushed the first element of a list or a pair, when that is a string.
    first_pushed_at: HashMap<NodeId, u64>,
    /// A pickle was cut into frames.
    framed: bool,
    /// Elements of all containers, and changes to objects.
    items: u64,
    /// Bytes of long texts that were read again from their streams.
    reread: AtomicU64,
    /// What no pickler writes, and where it stands first.
    oddities: BTreeMap<&'static str, u64>,
    /// Elements that were looked at.
    looked_at: AtomicU64,
    /// Why something that was asked for was not given: a long text that could not be read, a bound that was met.
    refused: OnceLock<Error>,
}

impl Graph {
    /// `None`'s node in every graph.
    pub const NONE: NodeId = NodeId(0);
    /// `True`'s node.
    pub const TRUE: NodeId = NodeId(1);
    /// `False`'s node.
    pub const FALSE: NodeId = NodeId(2);
    /// The empty tuple's node.
    pub const EMPTY_TUPLE: NodeId = NodeId(3);

    /// A graph with only the constants in it.
    pub fn new() -> Self {
        Graph {
            nodes: vec![Node::None, Node::Bool(true), Node::Bool(false), Node::Tuple(Children { start: 0, len: 0 })],
            ..Graph::default()
        }
    }

    /// Adds a stream that pickles will be read from; `name` is for messages (a member's name, or empty).
    pub fn add_stream(&mut self, source: SharedSource, name: &str) -> StreamId {
        self.streams.push(Stream { source, name: name.to_owned() });
        StreamId(u32::try_from(self.streams.len() - 1).unwrap_or(u32::MAX))
    }

    /// The bytes of a stream.
    pub fn stream(&self, id: StreamId) -> Option<&SharedSource> {
        self.streams.get(id.0 as usize).map(|s| &s.source)
    }

    /// The name a stream was added with.
    pub fn stream_name(&self, id: StreamId) -> &str {
        self.streams.get(id.0 as usize).map_or("", |s| &s.name)
    }

    /// Gives dicts, and pairs that dicts are made of, other keys: by the key's node and where it was pushed.
    pub fn replace_keys(&mut self, new: &HashMap<(NodeId, u64), NodeId>) {
        let entry = |entry: &mut Entry| {
            entry.key = new.get(&(entry.key, entry.key_at)).copied().unwrap_or(entry.key);
        };
        let change = |change: &mut Change| {
            if let Change::Item(item) = change {
                entry(item);
            }
        };
        for node in &mut self.nodes {
            match node {
                Node::Dict(entries) => entries.iter_mut().for_each(entry),
                Node::Object(object) => object.changes.iter_mut().for_each(change),
                _ => {}
            }
        }
        self.extra.values_mut().flatten().for_each(change);
        for (sequence, at) in &self.first_pushed_at {
            let first = match self.nodes.get_mut(sequence.0 as usize) {
                Some(Node::List(items)) => items.first_mut(),
                Some(Node::Tuple(children)) => self.children.get_mut(children.start as usize),
                _ => None,
            };
            if let Some(first) = first {
                *first = new.get(&(*first, *at)).copied().unwrap_or(*first);
            }
        }
    }

    /// Hears of every reference from one object to another, in no order.
    pub fn for_each_reference(&self, mut see: impl FnMut(NodeId)) {
        fn entry(entry: &Entry, see: &mut impl FnMut(NodeId)) {
            see(entry.key);
            see(entry.value);
        }
        fn change(change: &Change, see: &mut impl FnMut(NodeId)) {
            match change {
                Change::Append(node) | Change::Add(node) | Change::Build(node) => see(*node),
                Change::Item(item) => entry(item, see),
            }
        }
        for node in &self.nodes {
            match node {
                Node::List(items) | Node::Set(items) => items.iter().for_each(|item| see(*item)),
                Node::Dict(entries) => entries.iter().for_each(|item| entry(item, &mut see)),
                Node::Persistent(node) | Node::ReadOnlyBuffer(node) => see(*node),
                Node::Global { module, name } => [module, name].into_iter().for_each(|node| see(*node)),
                Node::Object(object) => {
                    [object.callable, object.args].into_iter().chain(object.kwargs).for_each(&mut see);
                    object.changes.iter().for_each(|item| change(item, &mut see));
                }
                _ => {}
            }
        }
        // of tuples and frozensets
        self.children.iter().for_each(|node| see(*node));
        self.extra.values().flatten().for_each(|item| change(item, &mut see));
        self.inline_pickles.values().for_each(|node| see(*node));
    }

    /// Makes room for what a pickle of so many bytes is likely to hold, in one piece. Room that is not used takes no
    /// memory, only addresses, and there is a bound on them.
    pub(super) fn expect(&mut self, pickle_bytes: u64) {
        let room = |bytes_each: u64, most: usize| usize::try_from(pickle_bytes / bytes_each).unwrap_or(most).min(most);
        self.nodes.reserve(room(12, 1 << 21));
        self.texts.reserve(room(48, 1 << 19));
        self.children.reserve(room(16, 1 << 21));
        self.pool.reserve(room(4, 1 << 24));
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How much there is to hold: nodes, elements of containers and changes to objects.
    pub fn held(&self) -> u64 {
        self.items.saturating_add(self.nodes.len() as u64)
    }

    /// Counts elements that were put into a list, dict or set.
    pub(super) fn count_items(&mut self, items: usize) {
        self.items = self.items.saturating_add(items as u64);
    }

    /// Never: the constants are always there.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All nodes in the order they were made.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// The node of `id`; `None`'s for an id of another graph.
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.0 as usize).unwrap_or(&Node::None)
    }

    /// The node of `id`, to change.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.0 as usize)
    }

    /// Adds a node.
    pub fn push(&mut self, node: Node) -> Result<NodeId> {
        let id = u32::try_from(self.nodes.len()).map_err(|_| Error::limit("more than 4 billion objects"))?;
        self.nodes.push(node);
        Ok(NodeId(id))
    }

    /// Adds a tuple.
    pub fn push_tuple(&mut self, items: &[NodeId]) -> Result<NodeId> {
        if items.is_empty() {
            return Ok(Self::EMPTY_TUPLE);
        }
        let children = self.add_children(items)?;
        self.push(Node::Tuple(children))
    }

    /// Adds a frozenset.
    pub fn push_frozenset(&mut self, items: &[NodeId]) -> Result<NodeId> {
        let children = self.add_children(items)?;
        self.push(Node::FrozenSet(children))
    }

    fn add_children(&mut self, items: &[NodeId]) -> Result<Children> {
        let start = u32::try_from(self.children.len());
        let len = u32::try_from(items.len());
        let (Ok(start), Ok(len)) = (start, len) else {
            return Err(Error::limit("more than 4 billion tuple elements"));
        };
        self.children.extend_from_slice(items);
        self.count_items(items.len());
        Ok(Children { start, len })
    }

    /// Adds a `str` that is in no stream.
    pub fn push_str(&mut self, value: &str) -> Result<NodeId> {
        let text = self.add_text_of(value.as_bytes(), Encoding::Utf8)?;
        self.push(Node::Str(text))
    }

    /// Adds text that is in no stream.
    pub fn add_text_of(&mut self, bytes: &[u8], encoding: Encoding) -> Result<TextId> {
        let pooled = self.add_to_pool(bytes)?;
        self.add(Text { at: 0, len: bytes.len() as u64, stream: MADE_HERE, pooled, encoding })
    }

    /// Adds a text that lies at `at` in `stream`, `len` bytes as stored; `bytes` are those, where they are at hand and
    /// few.
    pub fn add_text(
        &mut self,
        stream: StreamId,
        at: u64,
        len: u64,
        bytes: Option<&[u8]>,
        encoding: Encoding,
    ) -> Result<TextId> {
        let pooled = match bytes {
            Some(bytes) if bytes.len() <= POOLED_BYTES => self.add_to_pool(bytes)?,
            _ => NOT_POOLED,
        };
        self.add(Text { at, len, stream: stream.0, pooled, encoding })
    }

    fn add(&mut self, text: Text) -> Result<TextId> {
        let id = u32::try_from(self.texts.len()).map_err(|_| Error::limit("more than 4 billion strings"))?;
        self.texts.push(text);
        Ok(TextId(id))
    }

    fn add_to_pool(&mut self, bytes: &[u8]) -> Result<u32> {
        let at = u32::try_from(self.pool.len()).ok().filter(|at| *at != NOT_POOLED);
        self.pool.extend_from_slice(bytes);
        at.ok_or_else(|| Error::limit("more than 4 GiB of short strings"))
    }

    /// Remembers a node that `persistent_load` would make.
    pub(super) fn push_persistent(&mut self, pid: NodeId) -> Result<NodeId> {
        let id = self.push(Node::Persistent(pid))?;
        self.persistents.push(id);
        Ok(id)
    }

    /// Every [`Node::Persistent`] in the order they were read.
    pub fn persistents(&self) -> &[NodeId] {
        &self.persistents
    }

    /// The elements of a tuple or frozenset.
    pub fn children(&self, children: Children) -> &[NodeId] {
        let start = children.start as usize;
        self.children.get(start..start + children.len as usize).unwrap_or_default()
    }

    /// The elements of a tuple or list.
    pub fn sequence(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::Tuple(children) => Some(self.children(*children)),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// The elements of a tuple.
    pub fn tuple(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::Tuple(children) => Some(self.children(*children)),
            _ => None,
        }
    }

    /// The object of `id`, if it was made by a call.
    pub fn object(&self, id: NodeId) -> Option<&Object> {
        match self.node(id) {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// What was done to the object or container after it was made (but the elements of plain lists, dicts and sets).
    pub fn changes(&self, id: NodeId) -> &[Change] {
        match self.node(id) {
            Node::Object(object) => &object.changes,
            _ => self.extra.get(&id).map_or(&[], Vec::as_slice),
        }
    }

    /// Records a change to any node.
    pub(super) fn change(&mut self, id: NodeId, change: Change) {
        self.count_items(1);
        match self.nodes.get_mut(id.0 as usize) {
            Some(Node::Object(object)) => object.changes.push(change),
            _ => self.extra.entry(id).or_default().push(change),
        }
    }

    pub(super) fn set_inline_bytes(&mut self, id: NodeId, stream: StreamId, at: u64, len: u64) {
        self.inline_bytes.insert(id, (stream, at, len));
    }

    pub(super) fn set_inline_pickle(&mut self, id: NodeId, root: NodeId) {
        self.inline_pickles.insert(id, root);
    }

    pub(super) fn set_framed(&mut self) {
        self.framed = true;
    }

    /// Whether a pickle that was read has `FRAME`s.
    pub fn is_framed(&self) -> bool {
        self.framed
    }

    pub(super) fn set_first_pushed_at(&mut self, id: NodeId, at: u64) {
        self.first_pushed_at.insert(id, at);
    }

    /// Where in its stream the opcode lies that pushed the first element of a list or of a tuple of two, when that is
    /// a string: the key of a pair.
    pub fn first_pushed_at(&self, id: NodeId) -> Option<u64> {
        self.first_pushed_at.get(&id).copied()
    }

    /// Raw bytes that followed the object in its stream: stream, first byte, bytes.
    pub fn inline_bytes(&self, id: NodeId) -> Option<(StreamId, u64, u64)> {
        self.inline_bytes.get(&id).copied()
    }

    /// Notes something that unpicklers accept and no pickler writes.
    pub(super) fn note_oddity(&mut self, what: &'static str, at: u64) {
        self.oddities.entry(what).or_insert(at);
    }

    /// What unpicklers accept and no pickler writes, with the offset of the first of each kind.
    pub fn oddities(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.oddities.iter().map(|(what, at)| (*what, *at))
    }

    /// Whether anything but opcodes stood in the streams.
    pub fn has_inline(&self) -> bool {
        !self.inline_bytes.is_empty() || !self.inline_pickles.is_empty()
    }

    /// The root of the pickle that followed the object in its stream.
    pub fn inline_pickle(&self, id: NodeId) -> Option<NodeId> {
        self.inline_pickles.get(&id).copied()
    }

    /// The integer, of 64 bits, that a node is (`bool` is one too, as in Python).
    pub fn int(&self, id: NodeId) -> Option<i64> {
        match self.node(id) {
            Node::Int(value) => Some(*value),
            Node::Bool(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    /// The same, with what does not fit in 64 bits as the largest or smallest there is.
    pub fn int_saturating(&self, id: NodeId) -> Option<i64> {
        let Node::Long(text) = self.node(id) else { return self.int(id) };
        // the sign is in the last byte of two's complement, or the first of digits
        let raw = self.raw_text(*text).ok()?;
        let negative = match self.encoding(*text) {
            Encoding::TwosComplement => raw.last().is_some_and(|b| b & 0x80 != 0),
            _ => raw.first() == Some(&b'-'),
        };
        Some(if negative { i64::MIN } else { i64::MAX })
    }

    /// The boolean a node is.
    pub fn bool(&self, id: NodeId) -> Option<bool> {
        match self.node(id) {
            Node::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The text of a `str` node, with anything that is not Unicode replaced by U+FFFD; `None` for other nodes and for
    /// strings that cannot be read.
    pub fn str(&self, id: NodeId) -> Option<Cow<'_, str>> {
        match self.node(id) {
            Node::Str(text) => self.text_lossy(*text).ok(),
            _ => None,
        }
    }

    /// The same for `bytes` nodes too, as Python 2's strings may come as either.
    pub fn str_or_bytes(&self, id: NodeId) -> Option<Cow<'_, str>> {
        match self.node(id) {
            Node::Str(text) | Node::Bytes(text) => self.text_lossy(*text).ok(),
            _ => None,
        }
    }

    /// Module and name of a `Global` node.
    pub fn global(&self, id: NodeId) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
        match self.node(id) {
            Node::Global { module, name } => Some((self.str_or_bytes(*module)?, self.str_or_bytes(*name)?)),
            _ => None,
        }
    }

    /// The bytes of a text as they are stored, still encoded.
    pub fn raw_text(&self, id: TextId) -> Result<Cow<'_, [u8]>> {
        let Some(text) = self.texts.get(id.0 as usize) else { return Ok(Cow::Borrowed(&[])) };
        if text.pooled != NOT_POOLED {
            let start = text.pooled as usize;
            let end = start.saturating_add(usize::try_from(text.len).unwrap_or(usize::MAX));
            return Ok(Cow::Borrowed(self.pool.get(start..end).unwrap_or_default()));
        }
        self.read_text(text, text.len)
    }

    /// Reads what is not kept in memory. Most callers only want to know whether a text is some name, and take one that
    /// cannot be read for no name: so the first failure is kept, and told by [`Graph::complete`].
    fn read_text(&self, text: &Text, len: u64) -> Result<Cow<'_, [u8]>> {
        let Some(stream) = self.streams.get(text.stream as usize) else { return Ok(Cow::Borrowed(&[])) };
        let so_far = self.reread.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        let read = if so_far > self.max_reread() {
            Err(Error::limit("strings of more than a kibibyte are used too often").at(stream.source.absolute(text.at)))
        } else {
            read_vec(stream.source.as_ref(), text.at, len)
        };
        read.map(Cow::Owned).map_err(|e| e.in_member(&stream.name)).inspect_err(|e| {
            self.refused.get_or_init(|| e.again());
        })
    }

    /// Counts `elements` that are about to be looked at; false when that is no longer linear in the graph's size. What
    /// the caller then leaves out, [`Graph::complete`] tells.
    pub fn look_at(&self, elements: usize) -> bool {
        let elements = elements as u64;
        let so_far = self.looked_at.fetch_add(elements, Ordering::Relaxed).saturating_add(elements);
        let allowed = so_far <= LOOKS.saturating_add(self.held().saturating_mul(LOOKS_TIMES));
        if !allowed {
            self.refused.get_or_init(|| Error::limit("large objects are used too often to look at every use"));
        }
        allowed
    }

    /// Bytes of all streams.
    pub fn stream_bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.source.len()).fold(0, u64::saturating_add)
    }

    fn max_reread(&self) -> u64 {
        REREAD_BYTES.saturating_add(self.stream_bytes().saturating_mul(REREAD_TIMES))
    }

    /// Fails when a text could not be read, or a bound was met, since the graph was made, though nobody may have minded
    /// at the time: what was made of the graph since then lacks something.
    pub fn complete(&self) -> Result<()> {
        self.refused.get().map_or(Ok(()), |e| Err(e.again()))
    }

    /// Notes that something was asked for and could not be read, for [`Graph::complete`]; what the file says wrongly is no
    /// such thing.
    pub fn refuse(&self, e: &Error) {
        if e.kind() == ErrorKind::Io {
            self.refused.get_or_init(|| e.again());
        }
    }

    /// At most `max` stored bytes from the beginning of a text, for showing it.
    pub fn raw_text_prefix(&self, id: TextId, max: usize) -> Result<Cow<'_, [u8]>> {
        let Some(text) = self.texts.get(id.0 as usize) else { return Ok(Cow::Borrowed(&[])) };
        match text.pooled == NOT_POOLED && text.len > max as u64 {
            true => self.read_text(text, max as u64),
            false => self.raw_text(id),
        }
    }

    /// The content of a text: Python's UTF-8 with surrogates passed (a `str`), or the bytes (`bytes`, Python 2's
    /// `str`).
    pub fn text(&self, id: TextId) -> Result<Cow<'_, [u8]>> {
        Ok(text::content(self.raw_text(id)?, self.encoding(id)))
    }

    /// The content as text to show: what is not Unicode becomes U+FFFD, Python 2's strings that are not UTF-8 are
    /// taken for Latin-1 (as `torch.load` falls back to).
    pub fn text_lossy(&self, id: TextId) -> Result<Cow<'_, str>> {
        Ok(text::lossy(self.text(id)?, self.encoding(id)))
    }

    /// How a text is stored.
    pub fn encoding(&self, id: TextId) -> Encoding {
        self.texts.get(id.0 as usize).map_or(Encoding::Raw, |t| t.encoding)
    }

    /// How many bytes a text takes in its stream, still encoded.
    pub fn stored_len(&self, id: TextId) -> u64 {
        self.texts.get(id.0 as usize).map_or(0, |t| t.len)
    }

    /// Where a text is stored: stream, first byte, bytes. `None` for a text made here.
    pub fn place(&self, id: TextId) -> Option<(StreamId, u64, u64)> {
        let text = self.texts.get(id.0 as usize)?;
        (text.stream != MADE_HERE).then_some((StreamId(text.stream), text.at, text.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_stay_small() {
        // a state dict makes about fifteen nodes a tensor: their size is the memory of a listing
        assert_eq!(size_of::<Node>(), 16);
        assert_eq!(size_of::<Text>(), 32);
    }
}
