//! Whether two values of two checkpoints are the same value, however their pickles spell them.
//!
//! Types count (`1` is not `1.0`, a tuple is no list), the order of a set does not. Long strings are compared in blocks.

use crate::checkpoint::numpy::byte_string;
use crate::checkpoint::object::Objects;
use crate::checkpoint::storage::{Persistent, Storage};
use crate::data::Elements;
use crate::data::compare::{Options, compare};
use crate::error::Result;
use crate::limits::Limits;
use crate::pickle::stored::bytes_of;
use crate::pickle::text::Encoding;
use crate::pickle::{Graph, Node, NodeId, TextId};
use crate::progress::Silent;
use crate::source::{SharedSource, Source, Window};

/// Everything that is neither a scalar nor a container is told apart by its `repr`, up to this length.
const MAX_REPR_CHARS: usize = 1 << 20;
const BLOCK: usize = 64 << 10;

/// Two objects to compare, each with the checkpoint it lies in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Equality<'a> {
    /// The left side.
    pub a: Objects<'a>,
    /// The right side.
    pub b: Objects<'a>,
    /// What counts as equal, for floats.
    pub options: &'a Options,
    /// Bounds on what is read.
    pub limits: &'a Limits,
}

impl Equality<'_> {
    /// Whether `a` and `b`, of which [`Objects::is_value`] is true, are the same value. Fails when one cannot be read.
    pub(crate) fn same(&self, a: NodeId, b: NodeId) -> Result<bool> {
        let mut open = vec![(a, b)];
        while let Some((a, b)) = open.pop() {
            let (a, b) = (self.a.unwrap(a), self.b.unwrap(b));
            if !self.same_alone(a, b)? {
                return Ok(false);
            }
            let (inside_a, inside_b) = (inside(&self.a, a), inside(&self.b, b));
            if inside_a.len() != inside_b.len() {
                return Ok(false);
            }
            open.extend(inside_a.into_iter().zip(inside_b));
        }
        Ok(true)
    }

    /// Leaves what [`inside`] gives for later.
    fn same_alone(&self, a: NodeId, b: NodeId) -> Result<bool> {
        if let (Some(x), Some(y)) = (storage_of(&self.a, a), storage_of(&self.b, b)) {
            return self.same_storage(x, y);
        }
        if self.a.type_name(a) != self.b.type_name(b) {
            return Ok(false);
        }
        if let (Some(x), Some(y)) = (self.text(&self.a, a), self.text(&self.b, b)) {
            return self.same_text(x, y);
        }
        Ok(match (self.a.graph.node(a), self.b.graph.node(b)) {
            (Node::None, Node::None) => true,
            (Node::Bool(x), Node::Bool(y)) => x == y,
            (Node::Int(x), Node::Int(y)) => x == y,
            (Node::Float(x), Node::Float(y)) => self.same_float(*x, *y),
            (Node::Long(x), Node::Long(y)) if self.a.graph.encoding(*x) == self.b.graph.encoding(*y) => {
                self.a.graph.raw_text(*x)? == self.b.graph.raw_text(*y)?
            }
            _ if has_inside(&self.a, a) && has_inside(&self.b, b) => true,
            _ => match (self.a.set_elements(a), self.b.set_elements(b)) {
                (Some(x), Some(y)) => sorted(&self.a, &x) == sorted(&self.b, &y),
                _ => self.a.sorted_repr(a, MAX_REPR_CHARS) == self.b.sorted_repr(b, MAX_REPR_CHARS),
            },
        })
    }

    fn same_float(&self, a: f64, b: f64) -> bool {
        let options = self.options;
        if options.bitwise {
            return a.to_bits() == b.to_bits();
        }
        match (a.is_nan(), b.is_nan()) {
            (false, false) if a == b => true,
            (false, false) => a.is_finite() && b.is_finite() && (a - b).abs() <= options.atol + options.rtol * b.abs(),
            (a, b) => a && b && options.nan_equal,
        }
    }

    /// The text of a string or of bytes, whichever way they were pickled, and whether it stands for bytes.
    fn text(&self, objects: &Objects<'_>, node: NodeId) -> Option<(TextId, bool)> {
        match objects.graph.node(node) {
            Node::Str(text) => Some((*text, false)),
            _ => byte_string(objects.graph, node).map(|text| (text, true)),
        }
    }

    fn same_text(&self, (a, bytes_a): (TextId, bool), (b, bytes_b): (TextId, bool)) -> Result<bool> {
        let (x, y) = (self.a.graph, self.b.graph);
        if bytes_a && bytes_b {
            return same_bytes(bytes_of(x, a, None)?.as_ref(), bytes_of(y, b, None)?.as_ref());
        }
        let is_verbatim = |encoding| matches!(encoding, Encoding::Utf8 | Encoding::Raw | Encoding::Python2);
        if is_verbatim(x.encoding(a)) && is_verbatim(y.encoding(b)) {
            return match (stored(x, a)?, stored(y, b)?) {
                (Some(a), Some(b)) => same_bytes(a.as_ref(), b.as_ref()),
                _ => Ok(x.raw_text(a)? == y.raw_text(b)?),
            };
        }
        Ok(x.text(a)? == y.text(b)?)
    }

    /// Storages that no tensor shows. The class is not compared: formats that know no untyped ones say that they hold
    /// bytes.
    fn same_storage(&self, a: &Storage, b: &Storage) -> Result<bool> {
        let kind = |storage: &Storage| (storage.dtype.clone(), storage.location.clone(), storage.numel);
        if kind(a) != kind(b) || &*a.location == "meta" {
            return Ok(kind(a) == kind(b));
        }
        let options = Options { stop_at_first: true, ..*self.options };
        Ok(compare(&elements(a)?, &elements(b)?, self.limits, &options, &Silent)?.equal())
    }
}

/// The storage that a value is.
fn storage_of<'a>(objects: &Objects<'a>, node: NodeId) -> Option<&'a Storage> {
    let node = objects.tensors.inner_roots.get(&node).copied().unwrap_or(node);
    match objects.storages.meaning(node)? {
        Persistent::Storage { id, .. } => objects.storages.get(*id),
        _ => None,
    }
}

fn elements(storage: &Storage) -> Result<Elements> {
    Ok(Elements {
        source: storage.source()?,
        dtype: storage.dtype.clone(),
        shape: vec![storage.numel],
        stride: vec![1],
        offset: 0,
        byte_order: storage.byte_order,
        conj: false,
        neg: false,
    })
}

/// The bytes of a text as they lie in its stream; `None` for a text that lies in none.
fn stored(graph: &Graph, text: TextId) -> Result<Option<SharedSource>> {
    let Some((stream, at, len)) = graph.place(text) else { return Ok(None) };
    graph.stream(stream).map(|source| Window::shared(source, at, len)).transpose()
}

fn same_bytes(a: &dyn Source, b: &dyn Source) -> Result<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    let most = usize::try_from(a.len()).unwrap_or(BLOCK).min(BLOCK);
    let (mut x, mut y) = (vec![0; most], vec![0; most]);
    let mut at = 0;
    while at < a.len() {
        let len = usize::try_from(a.len() - at).unwrap_or(BLOCK).min(BLOCK);
        let (x, y) = (x.split_at_mut(len).0, y.split_at_mut(len).0);
        a.read_at(at, x)?;
        b.read_at(at, y)?;
        if x != y {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

fn has_inside(objects: &Objects<'_>, node: NodeId) -> bool {
    objects.elements(node).is_some_and(|items| !items.is_empty())
        || objects.constructor(node).is_none()
            && objects.graph.object(node).is_some()
            && byte_string(objects.graph, node).is_none()
}

/// The parts of a sequence, or the arguments of an object of a class nobody knows.
fn inside(objects: &Objects<'_>, node: NodeId) -> Vec<NodeId> {
    match objects.elements(node) {
        Some(items) => items,
        None if has_inside(objects, node) => objects.constructor_arguments(node).to_vec(),
        None => Vec::new(),
    }
}

/// The elements of a set in an order of their own: hashing gives another one in each process.
fn sorted(objects: &Objects<'_>, items: &[NodeId]) -> Vec<String> {
    let mut shown: Vec<String> = items.iter().map(|item| objects.sorted_repr(*item, MAX_REPR_CHARS)).collect();
    shown.sort();
    shown
}
