//! One row for each tensor and value, and their sums.

use rustc_hash::FxHashSet;

use crate::checkpoint::names::Element;
use crate::checkpoint::tensor::Data;
use crate::checkpoint::value::Value;
use crate::checkpoint::{Checkpoint, Item, Kind, Names, Tensor};
use crate::dtype::DType;
use crate::pickle::NodeId;
use crate::report::ls::{PathElement, TensorRow, Totals, ValueRow};

/// The bare class name of an object, tensors included.
pub(super) fn type_name(checkpoint: &Checkpoint, node: NodeId) -> String {
    let objects = checkpoint.objects();
    let node = objects.unwrap(node);
    match checkpoint.tensors.of(node).and_then(|id| checkpoint.tensor(id)) {
        Some(tensor) => tensor.class.clone().unwrap_or_else(|| {
            match tensor.kind {
                Kind::Tensor => "Tensor",
                Kind::Parameter => "Parameter",
                Kind::NdArray => "ndarray",
            }
            .to_owned()
        }),
        None => objects.type_name(node),
    }
}

pub(super) fn path_element(element: Element) -> PathElement {
    match element {
        Element::Text(text) => PathElement::Text(text),
        Element::Int(value) => PathElement::Int(value),
        Element::Bool(value) => PathElement::Bool(value),
    }
}

/// Bytes of a tensor's elements; of a sparse one those of its parts.
pub(super) fn tensor_bytes(checkpoint: &Checkpoint, tensor: &Tensor) -> u64 {
    match &tensor.data {
        Data::Parts(parts) => {
            let known = parts.iter().filter_map(|node| checkpoint.tensor(checkpoint.tensors.of(*node)?)?.bytes());
            known.fold(0, u64::saturating_add)
        }
        _ => tensor.bytes().unwrap_or(0),
    }
}

pub(super) fn tensor_row(checkpoint: &Checkpoint, tensor: &Tensor, name: String, path: Vec<PathElement>) -> TensorRow {
    let storage = tensor.storage().and_then(|id| checkpoint.storages.get(id));
    TensorRow {
        name,
        path,
        kind: tensor.kind.name(),
        dtype: tensor.dtype.as_ref().map_or("unknown".into(), DType::shared_name),
        shape: tensor.shape.to_vec(),
        stride: tensor.stride.as_ref().map(|stride| stride.to_vec()),
        storage_offset: tensor.storage_offset,
        layout: tensor.layout,
        device: tensor.device.clone(),
        requires_grad: tensor.requires_grad,
        bytes: tensor_bytes(checkpoint, tensor),
        storage: storage.filter(|_| !checkpoint.container().is_merged()).map(|storage| storage.key.clone()),
        problem: tensor.problem.clone(),
        class: tensor.class.clone(),
        quantizer: tensor.quantizer.as_ref().map(|quantizer| checkpoint.objects().quantizer(quantizer)),
        conj: tensor.conj,
        neg: tensor.neg,
        storage_bytes: storage.and_then(|storage| storage.available()),
        ..TensorRow::default()
    }
}

pub(super) fn value_row(
    checkpoint: &Checkpoint,
    node: NodeId,
    item: Item,
    name: String,
    path: Vec<PathElement>,
) -> ValueRow {
    let Value { type_name, repr, json } = checkpoint.objects().listed(node, item, checkpoint.limits.max_repr_chars);
    ValueRow { name, path, class: type_name, value: json, repr }
}

pub(super) fn totals(checkpoint: &Checkpoint, names: &Names) -> Totals {
    let mut totals = Totals::default();
    let mut storages = FxHashSet::default();
    let mut disk = 0u64;
    let tensors = names.entries.iter().filter_map(|entry| match entry.item {
        Item::Tensor(id, _) => checkpoint.tensor(id),
        _ => None,
    });
    for tensor in tensors {
        totals.tensors += 1;
        // what a wrapper holds is listed below it
        let bytes = if tensor.wraps { 0 } else { tensor_bytes(checkpoint, tensor) };
        totals.tensor_bytes = totals.tensor_bytes.saturating_add(bytes);
        let mut held = vec![tensor];
        if let Data::Parts(parts) = &tensor.data {
            held = parts.iter().filter_map(|node| checkpoint.tensor(checkpoint.tensors.of(*node)?)).collect();
        }
        for tensor in held {
            match &tensor.data {
                Data::Storage { id, .. } if storages.insert(*id) => {
                    let storage = checkpoint.storages.get(*id);
                    totals.storage_bytes += storage.and_then(|storage| storage.available()).unwrap_or(0);
                    disk += storage.and_then(|storage| storage.stored()).unwrap_or(0);
                }
                Data::Array { source, .. } => {
                    let bytes = tensor.bytes().unwrap_or(0).min(source.len());
                    totals.storage_bytes = totals.storage_bytes.saturating_add(bytes);
                    disk = disk.saturating_add(bytes);
                }
                _ => {}
            }
        }
    }
    totals.disk_bytes = (disk != totals.storage_bytes).then_some(disk);
    totals
}
