//! What nodes are as Python's values: sequences, objects, numbers, strings, globals.

use std::borrow::Cow;

use super::{Graph, Node, NodeId, Object};
use crate::error::Result;
use crate::pickle::text::Encoding;

impl Graph {
    /// The elements of a tuple or list.
    pub(crate) fn sequence(&self, id: NodeId) -> Option<&[NodeId]> {
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
    pub(crate) fn object(&self, id: NodeId) -> Option<&Object> {
        match self.node(id) {
            Node::Object(object) => Some(object),
            _ => None,
        }
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
    pub(crate) fn int_saturating(&self, id: NodeId) -> Option<i64> {
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
    pub(crate) fn bool(&self, id: NodeId) -> Option<bool> {
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
    pub(crate) fn str_or_bytes(&self, id: NodeId) -> Option<Cow<'_, str>> {
        match self.node(id) {
            Node::Str(text) | Node::Bytes(text) => self.text_lossy(*text).ok(),
            _ => None,
        }
    }

    /// Module and name of a `Global` node to which nothing was done, as they are.
    pub(crate) fn global_names(&self, id: NodeId) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Node::Global { module, name } = self.node(id) else { return Ok(None) };
        let (Node::Str(module), Node::Str(name), []) = (self.node(*module), self.node(*name), self.changes(id)) else {
            return Ok(None);
        };
        Ok(Some((self.text(*module)?.into_owned(), self.text(*name)?.into_owned())))
    }

    /// Module and name of a `Global` node.
    pub fn global(&self, id: NodeId) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
        match self.node(id) {
            Node::Global { module, name } => Some((self.str_or_bytes(*module)?, self.str_or_bytes(*name)?)),
            _ => None,
        }
    }
}
