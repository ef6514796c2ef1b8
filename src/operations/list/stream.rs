//! The rows of a listing's tensors, made one by one: where they are only written down, they are never all in memory.

use std::collections::HashMap;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::rows::{path_element, tensor_bytes, tensor_row};
use super::sharing::{Groups, Tie, Ties};
use crate::checkpoint::{Checkpoint, Entry, Item, Role, Tensor, TensorId};
use crate::dtype::DType;
use crate::report::ls::{Listing, TensorRow};

/// What the rows are made of.
pub(crate) struct Rows<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    /// Tensors only.
    pub(super) entries: Vec<Entry>,
    pub(super) groups: Groups,
    /// The parameters that parts of an optimizer's state belong to.
    pub(super) owners: HashMap<TensorId, Arc<str>>,
}

impl<'a> Rows<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn tensor(&self, entry: &Entry) -> Option<(TensorId, bool, &'a Tensor)> {
        match entry.item {
            Item::Tensor(id, in_state_dict) => Some((id, in_state_dict, self.checkpoint.tensor(id)?)),
            Item::Value | Item::Recursion => None,
        }
    }

    /// The row of number `number`, without what ties it to others.
    fn row(&self, number: usize, entry: &Entry) -> Option<TensorRow> {
        let (id, in_state_dict, tensor) = self.tensor(entry)?;
        let path = entry.path.iter().cloned().map(path_element).collect();
        let (parameters, buffers) = counts(entry, tensor);
        Some(TensorRow {
            in_state_dict,
            shares_with: self.groups.sharing(tensor, number),
            of: self.owners.get(&id).cloned(),
            parameters,
            buffers,
            ..tensor_row(self.checkpoint, tensor, entry.name(), path)
        })
    }

    /// How it is found that a row is the same tensor as another.
    fn tie(&self, entry: &Entry, id: TensorId, tensor: &Tensor) -> Tie {
        if counts(entry, tensor) == (0, 0) {
            return Tie::Alone;
        }
        match (tensor.storage(), tensor.view()) {
            (Some(id), _) if self.groups.is_alone(id) => Tie::Alone,
            (_, Some(view)) => Tie::View(view),
            (_, None) => Tie::Object(id),
        }
    }
}

/// What counts of a tensor as parameters and as buffers.
fn counts(entry: &Entry, tensor: &Tensor) -> (u64, u64) {
    match entry.role {
        Role::Parameter => (tensor.numel().unwrap_or(0), 0),
        Role::Buffer => (0, tensor.numel().unwrap_or(0)),
        Role::Optimizer | Role::Neither => (0, 0),
    }
}

impl<'a> Listing<Rows<'a>> {
    /// Counts parameters, buffers and dtypes of the rows into the totals.
    pub(super) fn count_rows(&mut self) {
        let (rows, mut ties) = (&self.tensors, Ties::default());
        let tensors = rows.entries.iter().filter_map(|entry| Some((entry, rows.tensor(entry)?)));
        self.totals.count(tensors.enumerate().map(|(number, (entry, (id, _, tensor)))| {
            let is_first = ties.first(rows.tie(entry, id, tensor), number).is_none_or(|first| first == number);
            let dtype = tensor.dtype.as_ref().map_or("unknown".into(), DType::shared_name);
            (dtype, tensor_bytes(rows.checkpoint, tensor), if is_first { counts(entry, tensor) } else { (0, 0) })
        }));
    }

    /// The listing with all its rows, and the tensor of each.
    pub(crate) fn whole(self) -> (Listing, Vec<TensorId>) {
        let mut ties = Ties::default();
        let (mut made, mut ids) = (Vec::with_capacity(self.tensors.entries.len()), Vec::new());
        for entry in &self.tensors.entries {
            let Some((id, _, tensor)) = self.tensors.tensor(entry) else { continue };
            let Some(mut row) = self.tensors.row(made.len(), entry) else { continue };
            let first = ties.first(self.tensors.tie(entry, id, tensor), made.len());
            if let Some(first_row) = first.and_then(|first| made.get_mut(first)) {
                let first_row: &mut TensorRow = first_row;
                (first_row.tied, row.tied) = (first, first);
            }
            ids.push(id);
            made.push(row);
        }
        (self.with(made), ids)
    }

    fn with(self, tensors: Vec<TensorRow>) -> Listing {
        Listing {
            schema: self.schema,
            file: self.file,
            file_bytes: self.file_bytes,
            container: self.container,
            bytes: self.bytes,
            pickle_protocol: self.pickle_protocol,
            byte_order: self.byte_order,
            root_type: self.root_type,
            compression: self.compression,
            totals: self.totals,
            digest: self.digest,
            tensors,
            values: self.values,
            era: self.era,
            modules: self.modules,
            notes: self.notes,
        }
    }
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(None)?;
        let tensors = self.entries.iter().filter(|entry| self.tensor(entry).is_some());
        for (number, entry) in tensors.enumerate() {
            if let Some(row) = self.row(number, entry) {
                rows.serialize_element(&row)?;
            }
        }
        rows.end()
    }
}
