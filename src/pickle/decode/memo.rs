//! The unpickler's memo, and the opcodes that store into it and fetch from it.

use std::collections::HashMap;

use super::operands::start_of;
use super::{Decoder, Does, numbers};
use crate::error::Result;
use crate::pickle::graph::NodeId;

/// Bytes of a huge index that count as an object.
const BYTES_PER_OBJECT: u64 = 32;

/// What PUT stored: a vector as long as indexes come in order, a map for the others, so that a huge index costs nothing.
#[derive(Default)]
pub(super) struct Memo {
    dense: Vec<Option<NodeId>>,
    sparse: HashMap<u64, NodeId>,
    /// By their digits: `Lib/pickle.py` takes indexes of any size.
    huge: HashMap<Vec<u8>, NodeId>,
    huge_bytes: u64,
    stored: u64,
}

impl Memo {
    pub(super) fn len(&self) -> u64 {
        self.stored
    }

    /// What it takes in memory, in objects.
    pub(super) fn held(&self) -> u64 {
        self.stored.saturating_add(self.huge_bytes / BYTES_PER_OBJECT)
    }

    fn put_huge(&mut self, digits: Vec<u8>, node: NodeId) {
        let len = digits.len() as u64;
        if self.huge.insert(digits, node).is_none() {
            self.stored += 1;
            self.huge_bytes = self.huge_bytes.saturating_add(len);
        }
    }

    fn get(&self, index: u64) -> Option<NodeId> {
        let dense = usize::try_from(index).ok().and_then(|index| self.dense.get(index).copied().flatten());
        dense.or_else(|| if self.sparse.is_empty() { None } else { self.sparse.get(&index).copied() })
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

/// A place in the memo as a line of digits names it.
enum Index {
    Small(u64),
    /// More than 64 bits: its digits.
    Huge(Vec<u8>),
}

impl Decoder<'_> {
    fn index_line(&mut self) -> Result<Index> {
        let (_, line) = self.small_line()?;
        let text = numbers::trimmed(&line);
        let digits = numbers::decimal(text).filter(|(negative, digits)| !negative || digits.as_slice() == b"0");
        let Some((_, digits)) = digits else {
            return Err(self.fail(&format!("{:?} is no memo index", start_of(text))));
        };
        match std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok()) {
            Some(index) => Ok(Index::Small(index)),
            None if self.is_either => Ok(Index::Huge(digits)),
            None => Err(self.fail(&format!("{:?} is a memo index of more than 64 bits", start_of(text)))),
        }
    }

    pub(super) fn get_line(&mut self) -> Result<()> {
        match self.index_line()? {
            Index::Small(index) => self.get(index),
            Index::Huge(digits) => match self.memo.huge.get(&digits).copied() {
                Some(node) => {
                    let own = self.own.as_ref().map(|own| own.huge.get(&digits).copied());
                    self.note_sharing(own, node);
                    self.constant(node)
                }
                None => Err(self.fail("nothing was stored in the memo there")),
            },
        }
    }

    pub(super) fn put_line(&mut self) -> Result<()> {
        match self.index_line()? {
            Index::Small(index) => self.put(index),
            Index::Huge(digits) => {
                let top = self.top_slot()?;
                self.odd("a memo index of more than 64 bits");
                if let Some(own) = &mut self.own {
                    own.put_huge(digits.clone(), top.node);
                }
                self.memo.put_huge(digits, top.node);
                Ok(())
            }
        }
    }

    pub(super) fn get(&mut self, index: u64) -> Result<()> {
        match self.memo.get(index) {
            Some(node) => {
                self.note_sharing(self.own.as_ref().map(|own| own.get(index)), node);
                self.trace(Does::Get { index });
                self.constant(node)
            }
            None => Err(self.fail(&format!("nothing was stored in the memo as {index}"))),
        }
    }

    pub(super) fn put(&mut self, index: u64) -> Result<()> {
        let top = self.top_slot()?;
        self.trace(Does::Put { index, pushed_at: top.at });
        if let Some(own) = &mut self.own {
            own.put(index, top.node);
        }
        self.memo.put(index, top.node);
        Ok(())
    }

    pub(super) fn memoize(&mut self) -> Result<()> {
        let top = self.top_slot()?;
        let index = self.memo.len();
        self.trace(Does::Put { index, pushed_at: top.at });
        if let Some(own) = &mut self.own {
            own.put(own.len(), top.node);
        }
        self.memo.put(index, top.node);
        Ok(())
    }

    /// `own` is what a pickle alone would have fetched instead of `node`, where the memo is shared.
    fn note_sharing(&mut self, own: Option<Option<NodeId>>, node: NodeId) {
        match own {
            Some(None) => self.sharing.is_needed = true,
            Some(Some(own)) if own != node => self.sharing.is_other = true,
            _ => {}
        }
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
