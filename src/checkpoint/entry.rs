//! One name of a checkpoint: the path to it and what it stands for; and what a walk may spend on names.

use std::borrow::Cow;

use crate::checkpoint::role::Role;
use crate::checkpoint::tensor::TensorId;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::Setting;
use crate::pickle::{Graph, NodeId};

/// One step from an object to a part of it, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Element {
    /// A dict's string key, an attribute, a whole name of a module, or the `repr` of another key.
    Text(String),
    /// A place in a sequence, or an integer key.
    Int(i64),
    /// A boolean key.
    Bool(bool),
}

impl Element {
    /// About what it costs to keep: its place in a path, the heap's share of a text, the text in the path and in the
    /// joined name.
    fn memory_bytes(&self) -> usize {
        match self {
            Element::Text(text) => 64 + 2 * text.len(),
            _ => 40,
        }
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Element::Text(text) => f.write_str(text),
            Element::Int(value) => write!(f, "{value}"),
            Element::Bool(value) => f.write_str(if *value { "True" } else { "False" }),
        }
    }
}

/// A path's elements joined with `.`: the name.
pub(crate) fn join(path: &[Element]) -> String {
    let texts = path.iter().map(|element| match element {
        Element::Text(text) => Cow::Borrowed(text.as_str()),
        element => Cow::Owned(element.to_string()),
    });
    let len = path.iter().map(|element| if let Element::Text(text) = element { text.len() + 1 } else { 8 }).sum();
    let mut name = String::with_capacity(len);
    for (text, number) in texts.zip(0..) {
        if number > 0 {
            name.push('.');
        }
        name.push_str(&text);
    }
    name
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A tensor; whether `state_dict()` would give it, where it is a module's.
    Tensor(TensorId, bool),
    /// A value.
    Value,
    /// A list, dict or object that contains itself.
    Recursion,
}

/// One name of a checkpoint.
#[derive(Debug, Clone)]
pub struct Entry {
    /// How to get there from the root of the walk.
    pub path: Vec<Element>,
    /// The object.
    pub node: NodeId,
    /// What it is.
    pub item: Item,
    /// It lies in an optimizer's state: a dict with `state` and `param_groups`.
    pub in_optimizer: bool,
    /// What a tensor counts as.
    pub role: Role,
    /// The outermost tensor in whose state it lies: a wrapper whose part it is, or a parameter with a state.
    pub inside: Option<TensorId>,
}

impl Entry {
    /// The name.
    pub fn name(&self) -> String {
        join(&self.path)
    }
}

/// About what a listing keeps for a tensor or value besides its name.
pub(super) const ROW_BYTES: usize = 300;

/// Bytes of memory that an entry may take on average, its path and its row.
const MEAN_ENTRY_BYTES: u64 = 256;
/// And for each object and element of the graph: an honest file has several for an entry.
const BYTES_AN_OBJECT: u64 = 128;
/// A key of the file is kept in the path of its entry and in the joined name.
const TIMES_A_TEXT: u64 = 2;

/// What one walk may spend.
#[derive(Debug)]
pub(super) struct Budget {
    visits: u64,
    name_bytes: u64,
    max_visits: u64,
}

impl Budget {
    pub(super) fn new(limits: &Limits, graph: &Graph) -> Self {
        let (held, unexplained) = (graph.held(), limits.unexplained_entries());
        let for_texts = graph.pooled_bytes().saturating_mul(TIMES_A_TEXT);
        let for_objects = held.saturating_mul(BYTES_AN_OBJECT).saturating_add(for_texts);
        let name_bytes = unexplained.saturating_mul(MEAN_ENTRY_BYTES).saturating_add(for_objects);
        let visits = limits.entries_for(held);
        Budget { visits, name_bytes, max_visits: visits }
    }

    /// One more object is looked at.
    pub(super) fn visit(&mut self) -> Result<()> {
        self.visits = self.visits.checked_sub(1).ok_or_else(|| self.spent("tensors and values"))?;
        Ok(())
    }

    /// One more path is kept.
    pub(super) fn path(&mut self, path: &[Element]) -> Result<()> {
        self.memory(path.iter().map(Element::memory_bytes).sum())
    }

    /// Something is kept that takes `bytes` of memory.
    pub(super) fn memory(&mut self, bytes: usize) -> Result<()> {
        let left = self.name_bytes.checked_sub(bytes as u64);
        self.name_bytes = left.ok_or_else(|| self.spent("names and values of that length"))?;
        Ok(())
    }

    fn spent(&self, on: &str) -> Error {
        Error::limit(format!("more {on} than {} entries allow for", self.max_visits)).allowed_by(Setting::MaxEntries)
    }
}
