//! Which rows of a listing lie in one storage, and which are one tensor under several names.

use std::collections::HashMap;
use std::sync::Arc;

use crate::checkpoint::tensor::View;
use crate::checkpoint::{Checkpoint, Item, Names, StorageId, Tensor, TensorId};
use crate::report::ls::{Sharing, TensorRow};

/// The rows that are one tensor under several names: the same object, or the same view of the same storage. Views that
/// only overlap are tensors of their own, as they are for torch.
#[derive(Default)]
pub(super) struct Ties {
    views: HashMap<View, usize>,
    objects: HashMap<TensorId, usize>,
}

impl Ties {
    /// Looks at the next row, which will be `rows[rows.len()]`; one that is `alone` in its storage is tied to nothing.
    pub(super) fn add(
        &mut self,
        id: TensorId,
        view: Option<View>,
        alone: bool,
        row: &mut TensorRow,
        rows: &mut [TensorRow],
    ) {
        if alone {
            return;
        }
        let next = rows.len();
        let first = match view {
            Some(view) => *self.views.entry(view).or_insert(next),
            None => *self.objects.entry(id).or_insert(next),
        };
        if let Some(first_row) = rows.get_mut(first) {
            (first_row.tied, row.tied) = (Some(first), Some(first));
        }
    }
}

/// The tensors of each storage.
pub(super) struct Groups {
    of: HashMap<StorageId, Group>,
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
        let mut totals: HashMap<StorageId, u64> = HashMap::new();
        rows().for_each(|(_, _, storage)| *totals.entry(storage).or_default() += 1);
        totals.retain(|_, total| *total > 1);
        let mut first: HashMap<StorageId, (Vec<usize>, Vec<String>)> = HashMap::new();
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
