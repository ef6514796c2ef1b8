//! The memo of a replay: a vector as long as indexes come in order, a map for the others.

use std::collections::HashMap;

use super::value::Id;

/// What PUT stored. The hash is seeded for each process: indexes come from strangers.
#[derive(Default)]
pub(super) struct Memo {
    dense: Vec<Option<Id>>,
    sparse: HashMap<u64, Id, foldhash::fast::RandomState>,
    stored: usize,
}

impl Memo {
    /// How many indexes something is stored at.
    pub(crate) fn len(&self) -> usize {
        self.stored
    }

    pub(crate) fn get(&self, index: u64) -> Option<Id> {
        let dense = usize::try_from(index).ok().and_then(|index| self.dense.get(index).copied().flatten());
        dense.or_else(|| if self.sparse.is_empty() { None } else { self.sparse.get(&index).copied() })
    }

    pub(crate) fn insert(&mut self, index: u64, id: Id) {
        self.stored += usize::from(self.get(index).is_none());
        match usize::try_from(index).ok().filter(|index| *index < 2 * self.stored + 1024) {
            Some(place) => {
                if place >= self.dense.len() {
                    self.dense.resize(place + 1, None);
                }
                if let Some(slot) = self.dense.get_mut(place) {
                    *slot = Some(id);
                }
            }
            None => drop(self.sparse.insert(index, id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_far_apart_cost_nothing() {
        let mut memo = Memo::default();
        memo.insert(u64::MAX, 1);
        memo.insert(0, 2);
        memo.insert(0, 3);
        assert_eq!((memo.get(u64::MAX), memo.get(0), memo.get(1)), (Some(1), Some(3), None));
        assert_eq!((memo.len(), memo.dense.len()), (2, 1));
        // an index that was far away is found when others have come near it
        memo.insert(3000, 4);
        (1..2500).for_each(|index| memo.insert(index, 5));
        memo.insert(3000, 6);
        assert_eq!((memo.get(3000), memo.len()), (Some(6), 2502));
    }
}
