//! The ranks' flat tensors, and parameters as pieces of them.

use std::sync::Arc;

use super::joined::{Joined, Piece};
use super::partition::Place;
use super::reading::{Flat, wrong};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::storage::StorageId;
use crate::data::Elements;
use crate::data::recast::Recast;
use crate::dtype::{Class, DType, Known};
use crate::error::{Error, Result};

/// Flat tensors of the ranks, as sources of a tensor's elements.
pub(super) struct Flats {
    dtype: DType,
    /// By rank, then by group: the first element's source and place, and the storage.
    rows: Vec<Vec<Row>>,
}

struct Row {
    file: Arc<str>,
    elements: Elements,
    storage: Option<StorageId>,
}

impl Flats {
    /// Takes in the ranks' flat tensors, which are of one type.
    pub(super) fn taken_in(checkpoint: &mut Checkpoint, ranks: Vec<(Arc<str>, Vec<Flat>)>) -> Result<Self> {
        let mut dtype: Option<(DType, Arc<str>)> = None;
        let mut rows = Vec::with_capacity(ranks.len());
        for (file, groups) in ranks {
            let mut row = Vec::with_capacity(groups.len());
            for Flat { elements, storage } in groups {
                let (known, other) = dtype.get_or_insert_with(|| (elements.dtype.clone(), Arc::clone(&file)));
                if *known != elements.dtype {
                    let (here, there) = (elements.dtype.name(), known.name());
                    return Err(wrong(&file, format_args!("has weights in {here}, and {other} in {there}")));
                }
                let storage = match storage {
                    Some(storage) => {
                        let key = format!("{file}: {}", storage.key);
                        Some(checkpoint.add_storage(storage, &key)?)
                    }
                    None => None,
                };
                let elements = match elements.is_contiguous() && elements.is_plain() {
                    true => elements,
                    false => {
                        let dtype = elements.dtype.clone();
                        Recast::over(elements, &dtype, &checkpoint.limits)?.0
                    }
                };
                row.push(Row { file: Arc::clone(&file), elements, storage });
            }
            rows.push(row);
        }
        let dtype = dtype.map_or_else(|| Known::Float32.into(), |(dtype, _)| dtype);
        if dtype.class() != Some(Class::Float) || dtype.size().is_none_or(|size| size == 0) {
            let message = format!("has weights in {}, which DeepSpeed does not keep them in", dtype.name());
            return Err(Error::unsupported(message));
        }
        Ok(Flats { dtype, rows })
    }

    /// The elements of the tensor that lies in these places, one after the other, and the storages that they are in.
    pub(super) fn joined(&self, name: &str, shape: &[i64], places: &[Place]) -> Result<(Elements, Vec<StorageId>)> {
        let size = u64::from(self.dtype.size().unwrap_or(1));
        let bytes =
            |elements: u64| elements.checked_mul(size).ok_or_else(|| Error::limit("more bytes than 64 bits count"));
        let mut storages = Vec::new();
        let mut pieces = Vec::with_capacity(places.len());
        for place in places {
            let row = self.rows.get(place.rank).and_then(|row| row.get(place.group));
            let row = row.ok_or_else(|| Error::malformed(format!("{name} lies in no file")))?;
            storages.extend(row.storage.filter(|id| storages.last() != Some(id)));
            pieces.push(Piece {
                source: Arc::clone(&row.elements.source),
                file: Arc::clone(&row.file),
                from: bytes(row.elements.offset.saturating_add(place.from))?,
                len: bytes(place.len)?,
            });
        }
        let extents = shape.iter().map(|extent| u64::try_from(*extent).unwrap_or(0)).collect();
        let elements = Elements::row_major(Arc::new(Joined::new(pieces)?), self.dtype.clone(), extents);
        Ok((elements, storages))
    }
}
