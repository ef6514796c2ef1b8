//! The unpickler's stack and its marks: what is pushed and popped, never below the last mark.

use super::Decoder;
use crate::error::Result;
use crate::pickle::graph::{Node, NodeId};

/// An object on the stack.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) node: NodeId,
    /// Where the opcode lies that pushed it.
    pub(super) at: u64,
}

impl Decoder<'_> {
    pub(super) fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn push(&mut self, node: NodeId) {
        self.stack.push(Slot { node, at: self.at });
    }

    pub(super) fn push_node(&mut self, node: Node) -> Result<()> {
        let id = self.graph.push(node)?;
        self.push(id);
        Ok(())
    }

    pub(super) fn constant(&mut self, node: NodeId) -> Result<()> {
        self.push(node);
        Ok(())
    }

    pub(super) fn pop_slot(&mut self) -> Result<Slot> {
        if self.stack.len() <= self.fence() {
            return Err(self.fail("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| self.fail("the stack is empty"))
    }

    pub(super) fn pop(&mut self) -> Result<NodeId> {
        self.pop_slot().map(|slot| slot.node)
    }

    pub(super) fn top_slot(&self) -> Result<Slot> {
        match self.stack.last() {
            Some(slot) if self.stack.len() > self.fence() => Ok(*slot),
            _ => Err(self.fail("the stack is empty")),
        }
    }

    pub(super) fn top(&self) -> Result<NodeId> {
        self.top_slot().map(|slot| slot.node)
    }

    /// Takes the last MARK away; what lies above it is on the stack from there on.
    pub(super) fn take_mark(&mut self) -> Result<usize> {
        let mark = self.marks.pop().ok_or_else(|| self.fail("there is no MARK on the stack"))?;
        if mark > self.stack.len() {
            return Err(self.fail("the stack is shorter than its MARK"));
        }
        Ok(mark)
    }

    pub(super) fn pop_mark(&mut self) -> Result<Vec<Slot>> {
        let mark = self.take_mark()?;
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn pop_mark_nodes(&mut self) -> Result<Vec<NodeId>> {
        Ok(self.pop_mark()?.into_iter().map(|slot| slot.node).collect())
    }
}
