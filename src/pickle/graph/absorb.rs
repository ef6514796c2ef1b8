//! Two graphs become one: the objects of another graph are moved behind those of this one, in their order, and whatever
//! refers to them is told how far.
//!
//! That is linear in what is moved, and nothing is decoded or compared: objects of the two never become one object, but
//! for the constants that every graph begins with.

use std::sync::atomic::Ordering;

use super::texts::{MADE_HERE, NOT_POOLED, Text};
use super::{Change, Children, Graph, Node, NodeId, Pair, StreamId, TextId};
use crate::error::{Error, Result};

/// `None`, `True`, `False` and the empty tuple have the same places in every graph.
const CONSTANTS: u32 = 4;

/// Where the objects of a graph have gone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moved {
    nodes: u32,
    children: u32,
    texts: u32,
    pool: u32,
    streams: u32,
}

impl Moved {
    /// The object's place now.
    pub(crate) fn node(&self, id: NodeId) -> NodeId {
        if id.place() < CONSTANTS { id } else { NodeId::at(id.place().saturating_add(self.nodes)) }
    }

    fn text(&self, id: TextId) -> TextId {
        TextId(id.0.saturating_add(self.texts))
    }

    fn stream(&self, id: StreamId) -> StreamId {
        StreamId(id.0.saturating_add(self.streams))
    }

    fn children(&self, children: Children) -> Children {
        let start = if children.len == 0 { 0 } else { children.start.saturating_add(self.children) };
        Children { start, ..children }
    }

    fn entry(&self, entry: Pair) -> Pair {
        Pair { key: self.node(entry.key), value: self.node(entry.value), ..entry }
    }

    fn change(&self, change: Change) -> Change {
        match change {
            Change::Append(node) => Change::Append(self.node(node)),
            Change::Add(node) => Change::Add(self.node(node)),
            Change::Build(node) => Change::Build(self.node(node)),
            Change::Item(entry) => Change::Item(self.entry(entry)),
        }
    }

    fn object(&self, mut node: Node) -> Node {
        match &mut node {
            Node::None
            | Node::Bool(_)
            | Node::Int(_)
            | Node::Float(_)
            | Node::Extension(_)
            | Node::Buffer
            | Node::Foreign(_) => {}
            Node::Long(text) | Node::Str(text) | Node::Bytes(text) | Node::ByteArray(text) => *text = self.text(*text),
            Node::Tuple(children) | Node::FrozenSet(children) => *children = self.children(*children),
            Node::List(items) | Node::Set(items) => items.iter_mut().for_each(|item| *item = self.node(*item)),
            Node::Dict(entries) => entries.iter_mut().for_each(|entry| *entry = self.entry(*entry)),
            Node::Global { module, name } => (*module, *name) = (self.node(*module), self.node(*name)),
            Node::Persistent(inner) | Node::ReadOnlyBuffer(inner) => *inner = self.node(*inner),
            Node::Object(object) => {
                (object.callable, object.args) = (self.node(object.callable), self.node(object.args));
                object.kwargs = object.kwargs.map(|kwargs| self.node(kwargs));
                object.changes.iter_mut().for_each(|change| *change = self.change(*change));
            }
        }
        node
    }

    fn stored(&self, text: Text) -> Result<Text> {
        let pooled = match text.pooled {
            NOT_POOLED => NOT_POOLED,
            at => at.checked_add(self.pool).filter(|at| *at != NOT_POOLED).ok_or_else(too_large)?,
        };
        let stream = if text.stream == MADE_HERE { MADE_HERE } else { text.stream.saturating_add(self.streams) };
        Ok(Text { pooled, stream, ..text })
    }
}

fn too_large() -> Error {
    Error::limit("more than 4 billion objects, or 4 GiB of short strings, in all inputs together")
}

impl Graph {
    /// Takes in all objects of another graph; says where they are now.
    pub(crate) fn absorb(&mut self, other: Graph) -> Result<Moved> {
        let is_new = |graph: &Graph| graph.nodes.len() <= CONSTANTS as usize && graph.streams.is_empty();
        if is_new(self) && self.texts.is_empty() && self.extra.is_empty() {
            *self = other;
            return Ok(Moved::default());
        }
        let offset = |ours: usize, theirs: usize| {
            // the last number of each kind means something else
            let fits = ours.checked_add(theirs).is_some_and(|all| u32::try_from(all).is_ok_and(|all| all < u32::MAX));
            u32::try_from(ours).ok().filter(|_| fits).ok_or_else(too_large)
        };
        let moved = Moved {
            nodes: offset(self.nodes.len(), other.nodes.len())?.saturating_sub(CONSTANTS),
            children: offset(self.children.len(), other.children.len())?,
            texts: offset(self.texts.len(), other.texts.len())?,
            pool: offset(self.pool.len(), other.pool.len())?,
            streams: offset(self.streams.len(), other.streams.len())?,
        };
        // each part is given back before the next one grows
        self.nodes.extend(other.nodes.into_iter().skip(CONSTANTS as usize).map(|node| moved.object(node)));
        self.children.extend(other.children.into_iter().map(|node| moved.node(node)));
        self.texts.reserve(other.texts.len());
        for text in other.texts {
            self.texts.push(moved.stored(text)?);
        }
        self.pool.extend(other.pool);
        self.streams.extend(other.streams);
        for (node, changes) in other.extra {
            let changes = changes.into_iter().map(|change| moved.change(change));
            self.extra.entry(moved.node(node)).or_default().extend(changes);
        }
        self.persistents.extend(other.persistents.into_iter().map(|node| moved.node(node)));
        let bytes = other.inline_bytes.into_iter();
        self.inline_bytes
            .extend(bytes.map(|(node, (stream, at, len))| (moved.node(node), (moved.stream(stream), at, len))));
        let pickles = other.inline_pickles.into_iter();
        self.inline_pickles.extend(pickles.map(|(node, root)| (moved.node(node), moved.node(root))));
        self.first_pushed_at.extend(other.first_pushed_at.into_iter().map(|(node, at)| (moved.node(node), at)));
        self.framed |= other.framed;
        self.items = self.items.saturating_add(other.items);
        self.steps = self.steps.saturating_add(other.steps);
        self.reread.fetch_add(other.reread.load(Ordering::Relaxed), Ordering::Relaxed);
        self.looked_at.fetch_add(other.looked_at.load(Ordering::Relaxed), Ordering::Relaxed);
        for (what, at) in other.oddities {
            self.note_oddity(what, at);
        }
        if let Some(e) = other.refused.into_inner() {
            self.refused.get_or_init(|| e);
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pickle::{Census, NothingInline, decode, encode};
    use crate::source::MemorySource;

    fn read(pickle: &[u8]) -> (Graph, NodeId) {
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::new(MemorySource::new(pickle.to_vec())), "");
        let root = decode(&mut graph, stream, 0, 1 << 20, &NothingInline).unwrap().root;
        (graph, root)
    }

    fn written(graph: &Graph, root: NodeId) -> Vec<u8> {
        let mut out = Vec::new();
        encode(graph, &Census::new(graph, root).unwrap(), &mut out).unwrap();
        out
    }

    /// A list that holds itself, a class with a state and a shared argument, long and short strings, a large integer, a
    /// persistent id, constants, sets.
    fn rich() -> Vec<u8> {
        let long = "x".repeat(3000);
        let mut pickle =
            b"\x80\x04(]q\x00(h\x00X\x01\x00\x00\x00aq\x01h\x01eclib\nThing\nq\x02(h\x01tRq\x03}(X".to_vec();
        pickle.extend(u32::try_from(long.len()).unwrap().to_le_bytes());
        pickle.extend(long.as_bytes());
        pickle.extend(b"N\x8a\x0a\x01\x02\x03\x04\x05\x06\x07\x08\x09\x01I5\nub(X\x01\x00\x00\x00kK\x00tQ)C\x03abc\x8f(K\x01\x90(h\x01\x91G?\xf0\0\0\0\0\0\0t.");
        pickle
    }

    #[test]
    fn each_comes_out_as_it_went_in() {
        let (one, root_of_one) = read(&rich());
        let (two, root_of_two) = read(b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00b)u.");
        let wanted = [written(&one, root_of_one), written(&two, root_of_two)];
        let mut all = Graph::new();
        let mut roots = Vec::new();
        for pickle in [rich(), b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00b)u.".to_vec(), rich()] {
            let (graph, root) = read(&pickle);
            let moved = all.absorb(graph).unwrap();
            roots.push(moved.node(root));
        }
        assert_eq!(written(&all, roots[0]), wanted[0]);
        assert_eq!(written(&all, roots[1]), wanted[1]);
        assert_eq!(written(&all, roots[2]), wanted[0]);
        assert_eq!(all.persistents().len(), 2);
        assert_eq!(all.len(), 2 * one.len() + two.len() - 2 * CONSTANTS as usize);
        assert_eq!(all.held(), 2 * one.held() + two.held() - 2 * u64::from(CONSTANTS));
    }

    #[test]
    fn what_was_refused_is_still_refused() {
        let (mut one, _) = read(b"\x80\x02N.");
        let (two, _) = read(b"\x80\x02N.");
        two.refuse(&Error::from(std::io::Error::other("gone")));
        one.absorb(two).unwrap();
        assert!(one.complete().is_err());
    }
}
