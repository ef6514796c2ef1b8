//! Which rows of a listing lie in one storage, and which are one tensor under several names.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use rustc_hash::FxHashMap;

use crate::checkpoint::tensor::View;
use crate::checkpoint::{Checkpoint, Item, Names, StorageId, Tensor, TensorId};
use crate::report::ls::Sharing;

/// The rows that are one tensor under several names: the same object, or the same view of the same storage. Views that
/// only overlap are tensors of their own, as they are for torch.
#[derive(Default)]
pub(super) struct Ties {
    views: HashMap<View, usize, RandomState>,
    objects: HashMap<TensorId, usize, RandomState>,
}

impl Ties {
    /// The first row that is the same tensor as the next one, number `next`; nothing for one that is tied to no other.
    pub(super) fn first(&mut self, tie: Tie, next: usize) -> Option<usize> {
        match tie {
            Tie::Alone => None,
            Tie::View(view) => Some(*self.views.entry(view).or_insert(next)),
            Tie::Object(id) => Some(*self.objects.entry(id).or_insert(next)),
        }
    }
}

/// What makes a row the same tensor as another.
pub(super) enum Tie {
    /// Nothing: it has a storage of its own, or counts for nothing.
    Alone,
    View(View),
    Object(TensorId),
}

/// The tensors of each storage.
pub(super) struct Groups {
    of: FxHashMap<StorageId, Group>,
}

#[derive(Default)]
struct Group {
    /// Rows and names of the first ones.
    rows: Vec<usize>,
    names: Arc<[String]>,
    total: u64,
}

impl Groups {
    pub(super) fn of(checkpoint: &Checkpoint, names: &Names) -> Self {
        let most = checkpoint.limits.max_shared_names + 1;
        let rows = || {
            let tensors = names.entries.iter().filter_map(|entry| match entry.item {
                Item::Tensor(id, _) => Some((entry, checkpoint.tensor(id).and_then(Tensor::storage))),
                _ => None,
            });
            tensors.enumerate().filter_map(|(row, (entry, storage))| Some((row, entry, storage?)))
        };
        let mut totals: FxHashMap<StorageId, u64> = FxHashMap::default();
        rows().for_each(|(_, _, storage)| *totals.entry(storage).or_default() += 1);
        totals.retain(|_, total| *total > 1);
        let mut first: FxHashMap<StorageId, (Vec<usize>, Vec<String>)> = FxHashMap::default();
        for (row, entry, storage) in rows().filter(|(_, _, storage)| totals.contains_key(storage)) {
            let (rows, names) = first.entry(storage).or_default();
            if rows.len() < most {
                rows.push(row);
                names.push(entry.name());
            }
        }
        let of = first.into_iter().map(|(id, (rows, names))| {
            (id, Group { rows, names: names.into(), total: totals.get(&id).copied().unwrap_or(0) })
        });
        Groups { of: of.collect() }
    }

    /// Whether a storage holds at most one of the tensors.
    pub(super) fn is_alone(&self, storage: StorageId) -> bool {
        !self.of.contains_key(&storage)
    }

    pub(super) fn sharing(&self, tensor: &Tensor, row: usize) -> Sharing {
        match tensor.storage().and_then(|id| self.of.get(&id)) {
            Some(group) => {
                let at = group.rows.iter().position(|r| *r == row).unwrap_or(usize::MAX);
                Sharing::new(Arc::clone(&group.names), at, group.total)
            }
            None => Sharing::default(),
        }
    }
}
