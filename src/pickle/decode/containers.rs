//! Tuples, lists, dicts and sets: how they are made of what lies on the stack, and what is put into them later.

use super::Decoder;
use super::stack::Slot;
use crate::error::Result;
use crate::pickle::graph::{Change, Node, NodeId, Pair};
use crate::pickle::opcode as op;

impl Decoder<'_> {
    /// A tuple of what lies on the stack from `from` on.
    pub(super) fn tuple(&mut self, from: usize) -> Result<()> {
        let slots = self.stack.get(from..).unwrap_or_default();
        let node = self.graph.push_tuple_of(slots.iter().map(|slot| slot.node))?;
        if let [first, _] = *slots {
            self.remember_first(node, &[first]);
        }
        self.stack.truncate(from);
        self.constant(node)
    }

    /// A key and a value may come as a list or tuple of two: the place of the key is kept.
    pub(super) fn remember_first(&mut self, sequence: NodeId, slots: &[Slot]) {
        if let Some(first) = slots.first().filter(|first| matches!(self.graph.node(first.node), Node::Str(_))) {
            self.graph.set_first_pushed_at(sequence, first.at);
        }
    }

    pub(super) fn short_tuple(&mut self) -> Result<()> {
        let len = usize::from(self.code - op::TUPLE1) + 1;
        let from = self.stack.len().checked_sub(len).filter(|from| *from >= self.fence());
        let from = from.ok_or_else(|| self.fail("the stack is empty"))?;
        self.tuple(from)
    }

    pub(super) fn extend(&mut self, slots: &[Slot]) -> Result<()> {
        let target = self.top()?;
        if slots.is_empty() {
            return Ok(()); // C looks at nothing then
        }
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

    pub(super) fn pairs(&self, slots: &[Slot]) -> Result<Vec<Pair>> {
        let (pairs, rest) = slots.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.fail("a key without a value"));
        }
        Ok(pairs.iter().map(|[key, value]| Pair { key: key.node, value: value.node, key_at: key.at }).collect())
    }

    pub(super) fn set_items(&mut self, slots: &[Slot]) -> Result<()> {
        let entries = self.pairs(slots)?;
        let target = self.top()?;
        if slots.is_empty() {
            return Ok(());
        }
        self.refuse_plain(target)?;
        if let Some(Node::Dict(dict)) = self.graph.node_mut(target) {
            dict.extend(entries);
            self.graph.count_items(slots.len() / 2);
        } else {
            entries.into_iter().for_each(|entry| self.graph.change(target, Change::Item(entry)));
        }
        Ok(())
    }

    pub(super) fn add_items(&mut self) -> Result<()> {
        let items = self.pop_mark_nodes()?;
        let target = self.top()?;
        if items.is_empty() {
            return Ok(());
        }
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

    /// Whether this state gives nothing to an object without attributes: `Lib/pickle.py` tests it for truth, `_pickle.c`
    /// for None, and both take it apart when it is a pair. What a call gives may be anything.
    pub(super) fn is_no_state(&self, state: NodeId) -> bool {
        let says_nothing = |id: NodeId| match self.graph.node(id) {
            Node::None | Node::Bool(false) | Node::Int(0) | Node::Object(_) | Node::Global { .. } => true,
            Node::Persistent(_) | Node::Extension(_) | Node::Buffer | Node::ReadOnlyBuffer(_) => true,
            Node::Float(value) => *value == 0.0,
            Node::Str(text) | Node::Bytes(text) | Node::ByteArray(text) => self.graph.stored_len(*text) == 0,
            Node::Tuple(items) | Node::FrozenSet(items) => self.graph.children(*items).is_empty(),
            Node::List(items) | Node::Set(items) => items.is_empty(),
            Node::Dict(entries) => entries.is_empty(),
            _ => false,
        };
        match self.graph.tuple(state) {
            Some([one, other]) => says_nothing(*one) && says_nothing(*other),
            _ => says_nothing(state),
        }
    }

    /// Numbers, strings and tuples cannot be changed, and plain containers only in the way of their kind.
    pub(super) fn refuse_plain(&self, target: NodeId) -> Result<()> {
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
}
