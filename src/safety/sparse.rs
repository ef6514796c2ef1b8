//! Whether the indices of sparse tensors keep torch's rules. With `weights_only=True` torch 2.15 looks at each and refuses
//! the file otherwise (`torch/_utils.py`, `_validate_loaded_sparse_tensors`; `ATen/native/sparse/SparseTensor.cpp`,
//! `ATen/native/TensorConversions.cpp`, `validate_compressed_sparse_indices`).

use std::ops::Range;

use crate::checkpoint::tensor::Data;
use crate::checkpoint::{Checkpoint, Item, Tensor};
use crate::data::Elements;
use crate::data::gather::for_each_block_in;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of indices that are read of all tensors together; what is beyond them is taken to be right.
const MAX_BYTES: u64 = 1 << 30;
/// Columns of indices that are looked at together.
const COLUMNS: u64 = 8 << 10;

/// What breaks the rules: each sparse tensor's name, and which rule.
pub(crate) fn broken(checkpoint: &Checkpoint) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    if !checkpoint.tensors.iter().any(Tensor::is_sparse) {
        return Ok(found);
    }
    let mut left = MAX_BYTES;
    let mut seen = std::collections::HashSet::new();
    for entry in checkpoint.names(&checkpoint.top())?.entries {
        let Item::Tensor(id, _) = entry.item else { continue };
        let Some(tensor) = checkpoint.tensor(id).filter(|tensor| tensor.is_sparse() && tensor.problem.is_none()) else {
            continue;
        };
        if !seen.insert(id) {
            continue;
        }
        let is_coalesced = is_coalesced(checkpoint, entry.node);
        match rule_broken(checkpoint, tensor, is_coalesced, &mut left) {
            Ok(None) => {}
            Ok(Some(rule)) => found.push((entry.name(), rule)),
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            // what cannot be read is told elsewhere
            Err(_) => {}
        }
    }
    Ok(found)
}

/// `_rebuild_sparse_tensor(layout, (indices, values, size, is_coalesced))`.
fn is_coalesced(checkpoint: &Checkpoint, node: crate::pickle::NodeId) -> bool {
    let objects = checkpoint.objects();
    let data = objects.args(node).get(1).and_then(|data| checkpoint.graph.sequence(*data));
    data.and_then(|data| data.get(3)).and_then(|flag| checkpoint.graph.bool(*flag)) == Some(true)
}

/// The parts of a tensor of this layout, indices first, values last.
fn parts<'a>(checkpoint: &'a Checkpoint, tensor: &Tensor) -> Option<Vec<&'a Tensor>> {
    let Data::Parts(parts) = &tensor.data else { return None };
    parts.iter().map(|part| checkpoint.tensor(checkpoint.tensors.of(*part)?)).collect()
}

fn rule_broken(checkpoint: &Checkpoint, tensor: &Tensor, is_coalesced: bool, left: &mut u64) -> Result<Option<String>> {
    let Some(parts) = parts(checkpoint, tensor) else { return Ok(None) };
    let Some((values, indices)) = parts.split_last() else { return Ok(None) };
    let shape: Vec<u64> = tensor.shape.iter().map(|size| u64::try_from(*size).unwrap_or(0)).collect();
    let mut read = Vec::new();
    for part in indices {
        let elements = part.elements(&checkpoint.storages)?;
        let bytes = part.bytes().unwrap_or(u64::MAX);
        let Some(after) = left.checked_sub(bytes) else { return Ok(None) };
        *left = after;
        read.push(Indices { elements, checkpoint });
    }
    match (tensor.layout, read.as_slice()) {
        ("sparse_coo", [indices]) => coordinates(indices, &values.shape, &shape, is_coalesced),
        (layout, [compressed, plain]) => compressed_rule(layout, compressed, plain, &values.shape, &shape),
        _ => Ok(None),
    }
}

struct Indices<'a> {
    elements: Elements,
    checkpoint: &'a Checkpoint,
}

impl Indices<'_> {
    fn shape(&self) -> &[u64] {
        &self.elements.shape
    }

    /// Whether it has a type that indices may have.
    fn is_integer(&self) -> bool {
        matches!(self.elements.dtype.name(), "int32" | "int64")
    }

    /// The numbers at these row-major positions.
    fn numbers(&self, range: Range<u64>) -> Result<Vec<i64>> {
        let wide = self.elements.dtype.name() == "int64";
        let mut numbers = Vec::new();
        for_each_block_in(&self.elements, &self.checkpoint.limits, range, &mut |block| {
            match wide {
                true => numbers.extend(block.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes))),
                false => {
                    numbers.extend(block.as_chunks::<4>().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))));
                }
            }
            Ok::<(), Error>(())
        })?;
        Ok(numbers)
    }
}

/// A row of indices for each sparse dimension.
fn coordinates(indices: &Indices<'_>, values: &[i64], shape: &[u64], is_coalesced: bool) -> Result<Option<String>> {
    let [dimensions, count] = indices.shape() else {
        return Ok(Some(format!("indices of {} dimensions instead of 2", indices.shape().len())));
    };
    if indices.elements.dtype.name() != "int64" {
        return Ok(Some(format!("indices of type {}", indices.elements.dtype)));
    }
    // a single value stands for as many as there are indices
    let dense = values.len().saturating_sub(1) as u64;
    if dimensions.checked_add(dense) != Some(shape.len() as u64) {
        return Ok(Some(format!("{dimensions} sparse and {dense} dense dimensions for {} sizes", shape.len())));
    }
    let sparse = usize::try_from(*dimensions).unwrap_or(usize::MAX);
    let dense_sizes = values.iter().skip(1).zip(shape.iter().skip(sparse));
    if dense_sizes.into_iter().any(|(have, want)| u64::try_from(*have) != Ok(*want)) {
        return Ok(Some(format!("values of shape {values:?} for the sizes {shape:?}")));
    }
    if values.first().is_some_and(|values| u64::try_from(*values) != Ok(*count)) {
        return Ok(Some(format!("{count} indices for {} values", values.first().copied().unwrap_or_default())));
    }
    let mut last: Option<Vec<i64>> = None;
    let mut at = 0;
    while at < *count {
        let to = at.saturating_add(COLUMNS).min(*count);
        let mut rows = Vec::new();
        for (row, size) in (0..*dimensions).zip(shape) {
            let start = row.saturating_mul(*count);
            let numbers = indices.numbers(start.saturating_add(at)..start.saturating_add(to))?;
            if let Some(index) =
                numbers.iter().find(|index| u64::try_from(**index).map_or(true, |index| index >= *size))
            {
                return Ok(Some(format!("index {index} is outside size {size} of dimension {row}")));
            }
            rows.push(numbers);
        }
        if is_coalesced {
            for column in 0..usize::try_from(to - at).unwrap_or_default() {
                let now: Vec<i64> = rows.iter().filter_map(|row| row.get(column).copied()).collect();
                if last.as_ref().is_some_and(|last| *last >= now) {
                    return Ok(Some("is called coalesced, and its indices are not in order".to_owned()));
                }
                last = Some(now);
            }
        }
        at = to;
    }
    Ok(None)
}

/// Where each row (or column) begins among the plain indices, and these.
fn compressed_rule(
    layout: &str,
    compressed: &Indices<'_>,
    plain: &Indices<'_>,
    values: &[i64],
    shape: &[u64],
) -> Result<Option<String>> {
    if !compressed.is_integer() || !plain.is_integer() || compressed.elements.dtype != plain.elements.dtype {
        return Ok(Some(format!("indices of type {} and {}", compressed.elements.dtype, plain.elements.dtype)));
    }
    let is_blocked = matches!(layout, "sparse_bsr" | "sparse_bsc");
    let (Some((entries, batch)), Some((count, plain_batch))) =
        (compressed.shape().split_last(), plain.shape().split_last())
    else {
        return Ok(Some("indices without a dimension".to_owned()));
    };
    if batch != plain_batch || values.len() < batch.len() + 1 + if is_blocked { 2 } else { 0 } {
        return Ok(Some("indices and values of different batches".to_owned()));
    }
    let Some([rows, columns]) = shape.get(batch.len()..batch.len() + 2) else {
        return Ok(Some(format!("{} sizes for a batch of {} dimensions", shape.len(), batch.len())));
    };
    let block = |number: usize| match is_blocked {
        true => {
            values.get(batch.len() + 1 + number).and_then(|size| u64::try_from(*size).ok()).filter(|size| *size > 0)
        }
        false => Some(1),
    };
    let (Some(block_rows), Some(block_columns)) = (block(0), block(1)) else {
        return Ok(Some("blocks without extent".to_owned()));
    };
    if rows % block_rows != 0 || columns % block_columns != 0 {
        return Ok(Some(format!("blocks of {block_rows} by {block_columns} for {rows} by {columns}")));
    }
    let (rows, columns) = (rows / block_rows, columns / block_columns);
    let (along, across) = if matches!(layout, "sparse_csr" | "sparse_bsr") { (rows, columns) } else { (columns, rows) };
    if along.checked_add(1) != Some(*entries) {
        return Ok(Some(format!("{entries} compressed indices for {along} rows or columns")));
    }
    let stored = values.get(batch.len()).and_then(|stored| u64::try_from(*stored).ok());
    if stored != Some(*count) {
        return Ok(Some(format!("{count} indices for {} values", stored.unwrap_or_default())));
    }
    let batches = batch.iter().try_fold(1_u64, |product, size| product.checked_mul(*size)).unwrap_or(0);
    for number in 0..batches {
        let (first, plain_first) = (number.saturating_mul(*entries), number.saturating_mul(*count));
        if let Some(rule) = slice_rule(compressed, plain, first..first + entries, plain_first, *count, across)? {
            return Ok(Some(rule));
        }
    }
    Ok(None)
}

/// The rules of one matrix: begins at 0, ends at the count, never goes back, and in each row the indices ascend.
fn slice_rule(
    compressed: &Indices<'_>,
    plain: &Indices<'_>,
    entries: Range<u64>,
    plain_first: u64,
    count: u64,
    across: u64,
) -> Result<Option<String>> {
    let mut before: Option<u64> = None;
    let mut at = entries.start;
    let mut window = Window { numbers: Vec::new(), start: 0 };
    while at < entries.end {
        let to = at.saturating_add(COLUMNS).min(entries.end);
        for number in compressed.numbers(at..to)? {
            let Ok(number) = u64::try_from(number) else {
                return Ok(Some(format!("compressed index {number} is negative")));
            };
            match before {
                None if number != 0 => return Ok(Some(format!("compressed indices begin with {number} instead of 0"))),
                Some(before) if number < before || number - before > across || number > count => {
                    return Ok(Some(format!("compressed index {number} after {before}")));
                }
                Some(before) => {
                    if let Some(rule) = row_rule(plain, &mut window, plain_first, before..number, across)? {
                        return Ok(Some(rule));
                    }
                }
                None => {}
            }
            before = Some(number);
        }
        at = to;
    }
    let end = before.unwrap_or_default();
    Ok((end != count).then(|| format!("compressed indices end with {end} instead of {count}")))
}

/// Some of the plain indices, read ahead.
struct Window {
    numbers: Vec<i64>,
    start: u64,
}

impl Window {
    fn at(&mut self, plain: &Indices<'_>, position: u64) -> Result<i64> {
        let known = |window: &Self| {
            let place = position.checked_sub(window.start).and_then(|place| usize::try_from(place).ok())?;
            window.numbers.get(place).copied()
        };
        if let Some(number) = known(self) {
            return Ok(number);
        }
        self.numbers = plain.numbers(position..position.saturating_add(COLUMNS))?;
        self.start = position;
        known(self).ok_or_else(|| Error::data("fewer indices than were announced"))
    }
}

fn row_rule(
    plain: &Indices<'_>,
    window: &mut Window,
    first: u64,
    row: Range<u64>,
    across: u64,
) -> Result<Option<String>> {
    let mut last = None;
    for position in row {
        let index = window.at(plain, first.saturating_add(position))?;
        if u64::try_from(index).map_or(true, |index| index >= across) {
            return Ok(Some(format!("index {index} is outside size {across}")));
        }
        if last.is_some_and(|last| last >= index) {
            return Ok(Some(format!("index {index} does not ascend in its row or column")));
        }
        last = Some(index);
    }
    Ok(None)
}
