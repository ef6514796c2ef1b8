//! From a checkpoint to the report of what it holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use crate::checkpoint::names::Element;
use crate::checkpoint::owners::owners;
use crate::checkpoint::tensor::{Data, View};
use crate::checkpoint::{Checkpoint, Item, Names, Role, Root, StorageId, Tensor, TensorId};
use crate::data::hash::{hex, sha256};
use crate::data::number::Number;
use crate::data::stats::{self, stats};
use crate::dtype::DType;
use crate::error::Result;
use crate::operations::select::Filter;
use crate::progress::Progress;
use crate::report::ls::{Listing, PathElement, Sharing, Stats, TensorRow, Totals, ValueRow};

/// What goes into a listing.
#[derive(Debug)]
pub struct Selection<'a> {
    /// Where to begin.
    pub root: &'a Root,
    /// By name.
    pub filter: &'a Filter,
    /// With tensors.
    pub tensors: bool,
    /// With values.
    pub values: bool,
}

/// What is to be read of the tensors' data.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Their sha256.
    pub hash: bool,
    /// Their statistics.
    pub stats: bool,
}

/// A listing, and the tensor of each of its rows.
#[derive(Debug)]
pub struct Listed {
    /// The report.
    pub listing: Listing,
    /// For each row of `listing.tensors`.
    pub ids: Vec<TensorId>,
}

/// Lists what is chosen of `names`, those below the selection's root. `file` and `bytes` are the input's, as given and
/// on disk.
pub fn list(
    checkpoint: &Checkpoint,
    mut names: Names,
    file: &str,
    bytes: u64,
    selection: &Selection<'_>,
) -> Result<Listed> {
    let has_optimizer = |names: &Names| {
        names.entries.iter().any(|entry| entry.role == Role::Optimizer && matches!(entry.item, Item::Tensor(..)))
    };
    let owners = match selection.tensors && has_optimizer(&names) {
        // the parameters may lie outside of what is listed
        true if selection.root.node != checkpoint.root || selection.root.stem.is_some() => {
            owners(checkpoint, &checkpoint.names(&checkpoint.top())?)
        }
        true => owners(checkpoint, &names),
        false => HashMap::new(),
    };
    let by_filter = |name: &str| selection.filter.takes_all() || selection.filter.takes(name);
    names.entries.retain(|entry| {
        let kind = if matches!(entry.item, Item::Tensor(..)) { selection.tensors } else { selection.values };
        kind && by_filter(&entry.name())
    });
    let groups = Groups::of(checkpoint, &names);
    let mut listing = Listing {
        schema: Listing::SCHEMA,
        file: file.to_owned(),
        file_bytes: None,
        container: checkpoint.container.name(),
        bytes,
        pickle_protocol: checkpoint.protocol,
        byte_order: checkpoint.byte_order.map(|order| order.name()),
        // a node of the tree that is no object has no type
        root_type: selection.root.stem.is_none().then(|| type_name(checkpoint, selection.root.node)),
        compression: checkpoint.compression.map(|compression| compression.name()),
        totals: totals(checkpoint, &names),
        tensors: Vec::new(),
        values: Vec::new(),
        era: checkpoint.era.map(str::to_owned),
        modules: names
            .modules
            .iter()
            .map(|(path, class)| (crate::checkpoint::names::join(path), class.clone()))
            .collect(),
        notes: checkpoint.notes.clone(),
    };
    let mut ids = Vec::new();
    let mut ties = Ties::default();
    for entry in names.entries {
        let name = entry.name();
        match entry.item {
            Item::Tensor(id, in_state_dict) => {
                let Some(tensor) = checkpoint.tensor(id) else { continue };
                let path = entry.path.into_iter().map(path_element).collect();
                let mut row = tensor_row(checkpoint, tensor, name, path);
                row.in_state_dict = in_state_dict;
                row.shares_with = groups.sharing(tensor, listing.tensors.len());
                row.of = owners.get(&id).cloned();
                match entry.role {
                    Role::Parameter => row.parameters = tensor.numel().unwrap_or(0),
                    Role::Buffer => row.buffers = tensor.numel().unwrap_or(0),
                    Role::Optimizer | Role::Neither => {}
                }
                if row.parameters > 0 || row.buffers > 0 {
                    let is_alone = tensor.storage().is_some() && row.shares_with.others() == 0;
                    ties.add(id, tensor.view().filter(|_| !is_alone), is_alone, &mut row, &mut listing.tensors);
                }
                ids.push(id);
                listing.tensors.push(row);
            }
            Item::Value | Item::Recursion => {
                let path = entry.path.into_iter().map(path_element).collect();
                listing.values.push(value_row(checkpoint, entry.node, entry.item, name, path));
                checkpoint.graph.complete()?;
            }
        }
    }
    checkpoint.graph.complete()?;
    listing.count();
    Ok(Listed { listing, ids })
}

/// The bare class name of an object, tensors included.
fn type_name(checkpoint: &Checkpoint, node: crate::pickle::NodeId) -> String {
    let objects = checkpoint.objects();
    let node = objects.unwrap(node);
    match checkpoint.tensors.of(node).and_then(|id| checkpoint.tensor(id)) {
        Some(tensor) => tensor.class.clone().unwrap_or_else(|| {
            match tensor.kind {
                crate::checkpoint::Kind::Tensor => "Tensor",
                crate::checkpoint::Kind::Parameter => "Parameter",
                crate::checkpoint::Kind::NdArray => "ndarray",
            }
            .to_owned()
        }),
        None => objects.type_name(node),
    }
}

fn path_element(element: Element) -> PathElement {
    match element {
        Element::Text(text) => PathElement::Text(text),
        Element::Int(value) => PathElement::Int(value),
        Element::Bool(value) => PathElement::Bool(value),
    }
}

/// The rows that are one tensor under several names: the same object, or the same view of the same storage. Views that
/// only overlap are tensors of their own, as they are for torch.
#[derive(Default)]
struct Ties {
    views: HashMap<View, usize>,
    objects: HashMap<TensorId, usize>,
}

impl Ties {
    /// Notes the next row, which will be `rows[rows.len()]`; one that is `alone` in its storage is tied to nothing.
    fn add(&mut self, id: TensorId, view: Option<View>, alone: bool, row: &mut TensorRow, rows: &mut [TensorRow]) {
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

/// Bytes of a tensor's elements; of a sparse one those of its parts.
fn tensor_bytes(checkpoint: &Checkpoint, tensor: &Tensor) -> u64 {
    match &tensor.data {
        Data::Parts(parts) => {
            let known = parts.iter().filter_map(|node| checkpoint.tensor(checkpoint.tensors.of(*node)?)?.bytes());
            known.fold(0, u64::saturating_add)
        }
        _ => tensor.bytes().unwrap_or(0),
    }
}

fn tensor_row(checkpoint: &Checkpoint, tensor: &Tensor, name: String, path: Vec<PathElement>) -> TensorRow {
    let storage = tensor.storage().and_then(|id| checkpoint.storages.get(id));
    TensorRow {
        name,
        path,
        kind: tensor.kind.name(),
        dtype: tensor.dtype.as_ref().map_or("unknown".into(), DType::shared_name),
        shape: tensor.shape.clone(),
        stride: tensor.stride.clone(),
        storage_offset: tensor.storage_offset,
        layout: tensor.layout,
        device: tensor.device.clone(),
        requires_grad: tensor.requires_grad,
        bytes: tensor_bytes(checkpoint, tensor),
        storage: storage.filter(|_| !checkpoint.container.is_merged()).map(|storage| storage.key.clone()),
        problem: tensor.problem.clone(),
        class: tensor.class.clone(),
        quantizer: tensor.quantizer.as_ref().map(|quantizer| quantizer.text(&checkpoint.objects())),
        conj: tensor.conj,
        neg: tensor.neg,
        storage_bytes: storage.and_then(|storage| storage.available()),
        ..TensorRow::default()
    }
}

fn value_row(
    checkpoint: &Checkpoint,
    node: crate::pickle::NodeId,
    item: Item,
    name: String,
    path: Vec<PathElement>,
) -> ValueRow {
    let objects = checkpoint.objects();
    let value = match item {
        Item::Recursion => None,
        _ => objects.value(node, checkpoint.limits.max_repr_chars),
    };
    match value {
        Some(value) => ValueRow { name, path, class: value.type_name, value: value.json, repr: value.repr },
        None => {
            let repr = match item {
                Item::Recursion if objects.items(node).is_some() => "{...}".to_owned(),
                Item::Recursion if objects.elements(node).is_some() => "[...]".to_owned(),
                Item::Recursion => "...".to_owned(),
                _ => objects.repr(node, checkpoint.limits.max_repr_chars),
            };
            ValueRow { name, path, class: objects.type_name(node), value: serde_json::Value::Null, repr }
        }
    }
}

fn totals(checkpoint: &Checkpoint, names: &Names) -> Totals {
    let mut totals = Totals::default();
    let mut storages = HashSet::new();
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

/// The tensors of each storage.
struct Groups {
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
    fn of(checkpoint: &Checkpoint, names: &Names) -> Self {
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

    fn sharing(&self, tensor: &Tensor, row: usize) -> Sharing {
        match tensor.storage().and_then(|id| self.of.get(&id)) {
            Some(group) => {
                let at = group.rows.iter().position(|r| *r == row).unwrap_or(usize::MAX);
                Sharing::new(Arc::clone(&group.names), at, group.total)
            }
            None => Sharing::default(),
        }
    }
}

/// What reading one tensor's data gave.
type Read = Result<(Option<String>, Option<Stats>)>;

/// How many bytes [`read_data`] will go through.
pub fn bytes_to_read(checkpoint: &Checkpoint, ids: &[TensorId], wanted: Wanted) -> u64 {
    let times = u64::from(wanted.hash) + u64::from(wanted.stats);
    let tensors = ids.iter().filter_map(|id| checkpoint.tensor(*id)).filter(|tensor| tensor.problem.is_none());
    tensors.filter_map(Tensor::bytes).fold(0, u64::saturating_add).saturating_mul(times)
}

/// Fills in hashes and statistics, tensors in parallel, each distinct view once. Gives the rows whose data could not be
/// read, with the reason, in the order of the rows.
pub fn read_data(
    checkpoint: &Checkpoint,
    listed: &mut Listed,
    wanted: Wanted,
    progress: &dyn Progress,
) -> Vec<(String, String)> {
    // views of the same elements are read once
    let mut distinct: HashMap<View, usize> = HashMap::new();
    let mut work: Vec<TensorId> = Vec::new();
    let jobs: Vec<usize> = listed
        .ids
        .iter()
        .map(|id| match checkpoint.tensor(*id).and_then(Tensor::view) {
            Some(key) => *distinct.entry(key).or_insert_with(|| {
                work.push(*id);
                work.len() - 1
            }),
            None => {
                work.push(*id);
                work.len() - 1
            }
        })
        .collect();
    let results: Vec<Read> =
        work.par_iter().with_max_len(1).map(|id| read_one(checkpoint, *id, wanted, progress)).collect();
    let mut troubles = Vec::new();
    for (row, job) in listed.listing.tensors.iter_mut().zip(jobs) {
        let result = results.get(job);
        let (hash, stats) = match result {
            Some(Ok((hash, stats))) => (hash.clone(), stats.clone()),
            Some(Err(e)) => {
                let why = e.to_string();
                row.problem.get_or_insert_with(|| why.clone());
                troubles.push((row.name.clone(), why));
                (None, None)
            }
            None => (None, None),
        };
        row.sha256 = wanted.hash.then_some(hash);
        row.stats = wanted.stats.then(|| stats.map(Box::new));
    }
    troubles
}

fn read_one(checkpoint: &Checkpoint, id: TensorId, wanted: Wanted, progress: &dyn Progress) -> Read {
    let Some(tensor) = checkpoint.tensor(id) else { return Ok((None, None)) };
    // sparse, meta and object tensors have no elements of their own: nothing is wrong with that
    if tensor.problem.is_none() && matches!(tensor.data, Data::Parts(_) | Data::Nothing) && tensor.numel() != Some(0) {
        return Ok((None, None));
    }
    if tensor.problem.is_none() && matches!(tensor.data, Data::Nothing) {
        return Ok((
            wanted.hash.then(|| EMPTY_SHA256.to_owned()).filter(|_| tensor.device.as_deref() != Some("meta")),
            None,
        ));
    }
    let elements = tensor.readable(&checkpoint.storages)?;
    let hash = if wanted.hash { Some(hex(&sha256(&elements, &checkpoint.limits, progress)?)) } else { None };
    let stats = if wanted.stats { stats(&elements, &checkpoint.limits, progress)?.map(report_stats) } else { None };
    Ok((hash, stats))
}

fn report_stats(found: stats::Stats) -> Stats {
    let number = |number: Number| match number {
        Number::Signed(value) => Some(value.into()),
        Number::Unsigned(value) => Some(value.into()),
        Number::Bool(value) => Some(u8::from(value).into()),
        other => serde_json::Number::from_f64(other.to_f64()),
    };
    Stats {
        min: found.min.and_then(number),
        max: found.max.and_then(number),
        mean: found.mean,
        std: found.std,
        zeros: found.zeros,
        nan: found.nan,
        inf: found.inf,
    }
}

/// The sha256 of no bytes.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
