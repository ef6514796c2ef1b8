//! The unpickler's memo, and the opcodes that store into it and fetch from it.

use std::collections::HashMap;

use super::{Decoder, Does};
use crate::error::Result;
use crate::pickle::graph::NodeId;

/// What PUT stored: a vector as long as indexes come in order, a map for the others, so that a huge index costs nothing.
#[derive(Default)]
pub(super) struct Memo {
    dense: Vec<Option<NodeId>>,
    sparse: HashMap<u64, NodeId>,
    stored: u64,
}

impl Memo {
    pub(super) fn len(&self) -> u64 {
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

impl Decoder<'_> {
    pub(super) fn get(&mut self, index: u64) -> Result<()> {
        match self.memo.get(index) {
            Some(node) => {
                self.trace(Does::Get { index });
                self.constant(node)
            }
            None => Err(self.fail(&format!("nothing was stored in the memo as {index}"))),
        }
    }

    pub(super) fn put(&mut self, index: u64) -> Result<()> {
        let top = self.top_slot()?;
        self.trace(Does::Put { index, pushed_at: top.at });
        self.memo.put(index, top.node);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pickle::decode::tests::decoded;
    use crate::pickle::graph::Graph;

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
}
