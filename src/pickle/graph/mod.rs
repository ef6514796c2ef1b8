//! The object graph: an arena in which every object of a pickle is one node, however often it is used.
//!
//! Dicts keep their order and their duplicate keys, unknown globals, objects and states stay as they are, so that
//! decode, edit and encode lose nothing. Strings and bytes are ranges of the stream they came from; short ones are also
//! kept in memory. Several pickles, of several streams, can live in one graph.

mod absorb;
mod node;
mod refused;
mod texts;
mod values;

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use rustc_hash::FxHashMap;

pub(crate) use self::absorb::Moved;
pub use self::node::Pair;
pub use self::node::{Change, NodeId};
pub(crate) use self::node::{Children, Object};
pub use self::node::{Construct, Node};
use self::texts::Text;
pub use self::texts::TextId;
use crate::error::{Error, Result};
use crate::pickle::text::Encoding;
use crate::source::SharedSource;

/// A stream that pickles were read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(u32);

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
    extra: FxHashMap<NodeId, Vec<Change>>,
    /// Every [`Node::Persistent`], in the order of the streams.
    persistents: Vec<NodeId>,
    /// Raw bytes that follow an object in its stream: (stream, first byte, bytes).
    inline_bytes: FxHashMap<NodeId, (StreamId, u64, u64)>,
    /// Pickles that follow an object in its stream.
    inline_pickles: FxHashMap<NodeId, NodeId>,
    /// Where the opcode lies that pushed the first element of a list or a pair, when that is a string.
    first_pushed_at: FxHashMap<NodeId, u64>,
    /// A pickle was cut into frames.
    framed: bool,
    /// Some text is too long to be kept in memory.
    has_long_texts: bool,
    /// Elements of all containers, and changes to objects.
    items: u64,
    /// Opcodes that were read, and long lines by their length: what the reading cost.
    steps: u64,
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
    pub const NONE: NodeId = NodeId::at(0);
    /// `True`'s node.
    pub(crate) const TRUE: NodeId = NodeId::at(1);
    /// `False`'s node.
    pub(crate) const FALSE: NodeId = NodeId::at(2);
    /// The empty tuple's node.
    pub(crate) const EMPTY_TUPLE: NodeId = NodeId::at(3);

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

    /// The first stream that was added with this name.
    pub(crate) fn stream_named(&self, name: &str) -> Option<StreamId> {
        let place = self.streams.iter().position(|stream| stream.name == name)?;
        u32::try_from(place).ok().map(StreamId)
    }

    /// The bytes and the name of the one stream that there is, where nothing in it has to be read again to be looked at.
    pub(crate) fn only_stream(&self) -> Option<(&SharedSource, &str)> {
        match self.streams.as_slice() {
            [only] if !self.has_long_texts => Some((&only.source, &only.name)),
            _ => None,
        }
    }

    /// The first stream.
    pub fn first_stream(&self) -> Option<StreamId> {
        (!self.streams.is_empty()).then_some(StreamId(0))
    }

    /// The name a stream was added with.
    pub(crate) fn stream_name(&self, id: StreamId) -> &str {
        self.streams.get(id.0 as usize).map_or("", |s| &s.name)
    }

    /// Gives dicts, and pairs that dicts are made of, other keys: by the key's node and where it was pushed.
    pub(crate) fn replace_keys(&mut self, new: &HashMap<(NodeId, u64), NodeId>) {
        let entry = |entry: &mut Pair| {
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
            let first = match self.nodes.get_mut(sequence.index()) {
                Some(Node::List(items)) => items.first_mut(),
                Some(Node::Tuple(children)) => self.children.get_mut(children.start as usize),
                _ => None,
            };
            if let Some(first) = first {
                *first = new.get(&(*first, *at)).copied().unwrap_or(*first);
            }
        }
    }

    /// Has everything that refers to one of these objects refer to another.
    pub(crate) fn redirect(&mut self, new: &HashMap<NodeId, NodeId>) {
        if new.is_empty() {
            return;
        }
        let to = |node: &mut NodeId| *node = new.get(node).copied().unwrap_or(*node);
        let change = |change: &mut Change| match change {
            Change::Append(node) | Change::Add(node) | Change::Build(node) => to(node),
            Change::Item(item) => [&mut item.key, &mut item.value].into_iter().for_each(to),
        };
        for node in &mut self.nodes {
            match node {
                Node::List(items) | Node::Set(items) => items.iter_mut().for_each(to),
                Node::Dict(entries) => {
                    entries.iter_mut().flat_map(|item| [&mut item.key, &mut item.value]).for_each(to);
                }
                Node::Persistent(node) | Node::ReadOnlyBuffer(node) => to(node),
                Node::Object(object) => {
                    [&mut object.callable, &mut object.args].into_iter().chain(&mut object.kwargs).for_each(to);
                    object.changes.iter_mut().for_each(change);
                }
                _ => {}
            }
        }
        // of tuples and frozensets
        self.children.iter_mut().for_each(to);
        self.extra.values_mut().flatten().for_each(change);
    }

    /// Hears of every reference from one object to another, in no order.
    pub(crate) fn for_each_reference(&self, mut see: impl FnMut(NodeId)) {
        fn entry(entry: &Pair, see: &mut impl FnMut(NodeId)) {
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
    #[allow(clippy::len_without_is_empty)] // none is empty: None is in each
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How much there is to hold: nodes, elements of containers and changes to objects.
    pub(crate) fn held(&self) -> u64 {
        self.items.saturating_add(self.nodes.len() as u64)
    }

    /// Bytes of the short strings, and of those that no stream holds.
    pub(crate) fn pooled_bytes(&self) -> u64 {
        self.pool.len() as u64
    }

    /// Opcodes that were read into the graph, and long lines by their length.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn count_steps(&mut self, steps: u64) {
        self.steps = self.steps.saturating_add(steps);
    }

    /// Counts elements that were put into a list, dict or set, or that another graph holds which this one is made of.
    pub(crate) fn count_items(&mut self, items: usize) {
        self.items = self.items.saturating_add(items as u64);
    }

    /// All nodes in the order they were made.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId::at)
    }

    /// The node of `id`; `None`'s for an id of another graph.
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.index()).unwrap_or(&Node::None)
    }

    /// The node of `id`, to change.
    pub(crate) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.index())
    }

    /// Adds a node.
    pub(crate) fn push(&mut self, node: Node) -> Result<NodeId> {
        let id = u32::try_from(self.nodes.len()).map_err(|_| Error::limit("more than 4 billion objects"))?;
        self.nodes.push(node);
        Ok(NodeId::at(id))
    }

    /// Adds a tuple.
    pub(crate) fn push_tuple(&mut self, items: &[NodeId]) -> Result<NodeId> {
        self.push_tuple_of(items.iter().copied())
    }

    /// Adds a tuple.
    pub(super) fn push_tuple_of(&mut self, items: impl ExactSizeIterator<Item = NodeId>) -> Result<NodeId> {
        if items.len() == 0 {
            return Ok(Self::EMPTY_TUPLE);
        }
        let children = self.add_children(items)?;
        self.push(Node::Tuple(children))
    }

    /// Adds a frozenset.
    pub(crate) fn push_frozenset(&mut self, items: &[NodeId]) -> Result<NodeId> {
        let children = self.add_children(items.iter().copied())?;
        self.push(Node::FrozenSet(children))
    }

    fn add_children(&mut self, items: impl ExactSizeIterator<Item = NodeId>) -> Result<Children> {
        let (start, count) = (u32::try_from(self.children.len()), items.len());
        let len = u32::try_from(count);
        let (Ok(start), Ok(len)) = (start, len) else {
            return Err(Error::limit("more than 4 billion tuple elements"));
        };
        self.children.extend(items);
        self.count_items(count);
        Ok(Children { start, len })
    }

    /// Adds a dict.
    pub(crate) fn push_dict(&mut self, entries: Vec<Pair>) -> Result<NodeId> {
        self.count_items(entries.len());
        self.push(Node::Dict(Box::new(entries)))
    }

    /// Adds a `str` that is in no stream.
    pub(crate) fn push_str(&mut self, value: &str) -> Result<NodeId> {
        let text = self.add_text_of(value.as_bytes(), Encoding::Utf8)?;
        self.push(Node::Str(text))
    }

    /// Remembers a node that `persistent_load` would make.
    pub(super) fn push_persistent(&mut self, pid: NodeId) -> Result<NodeId> {
        let id = self.push(Node::Persistent(pid))?;
        self.persistents.push(id);
        Ok(id)
    }

    /// Every [`Node::Persistent`] in the order they were read.
    pub(crate) fn persistents(&self) -> &[NodeId] {
        &self.persistents
    }

    /// The elements of a tuple or frozenset.
    pub fn children(&self, children: Children) -> &[NodeId] {
        let start = children.start as usize;
        self.children.get(start..start + children.len as usize).unwrap_or_default()
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
        match self.nodes.get_mut(id.index()) {
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
    pub(crate) fn is_framed(&self) -> bool {
        self.framed
    }

    pub(super) fn set_first_pushed_at(&mut self, id: NodeId, at: u64) {
        self.first_pushed_at.insert(id, at);
    }

    /// Where in its stream the opcode lies that pushed the first element of a list or of a tuple of two, when that is
    /// a string: the key of a pair.
    pub(crate) fn first_pushed_at(&self, id: NodeId) -> Option<u64> {
        self.first_pushed_at.get(&id).copied()
    }

    /// Raw bytes that followed the object in its stream: stream, first byte, bytes.
    pub(crate) fn inline_bytes(&self, id: NodeId) -> Option<(StreamId, u64, u64)> {
        self.inline_bytes.get(&id).copied()
    }

    /// Notes something that unpicklers accept and no pickler writes.
    pub(super) fn note_oddity(&mut self, what: &'static str, at: u64) {
        self.oddities.entry(what).or_insert(at);
    }

    /// What unpicklers accept and no pickler writes, with the offset of the first of each kind.
    pub(crate) fn oddities(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.oddities.iter().map(|(what, at)| (*what, *at))
    }

    /// Whether anything but opcodes stood in the streams.
    pub(crate) fn has_inline(&self) -> bool {
        !self.inline_bytes.is_empty() || !self.inline_pickles.is_empty()
    }

    /// The same, which then follows it no more.
    pub(crate) fn take_inline_pickle(&mut self, id: NodeId) -> Option<NodeId> {
        self.inline_pickles.remove(&id)
    }

    /// The root of the pickle that followed the object in its stream.
    pub(crate) fn inline_pickle(&self, id: NodeId) -> Option<NodeId> {
        self.inline_pickles.get(&id).copied()
    }

    /// Bytes of all streams.
    pub(crate) fn stream_bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.source.len()).fold(0, u64::saturating_add)
    }
}
