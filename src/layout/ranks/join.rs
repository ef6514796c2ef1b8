//! One tensor out of what each rank has of it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::agree::Agreed;
use super::cut::Pieces;
use super::placement::Part;
use crate::checkpoint::{Checkpoint, StorageId, TensorId};
use crate::data::Elements;
use crate::dtype::DType;
use crate::layout::stitch::{Chunk, Stitched};
use crate::limits::Limits;
use crate::source::SharedSource;

/// Boxes that one tensor may be put together from.
const MAX_CHUNKS: usize = 1 << 20;

/// What one rank has of a tensor, and the file it lies in.
pub(super) type OfRank = (Arc<str>, Part);

/// A whole tensor.
#[derive(Debug)]
pub(super) struct Whole {
    pub shape: Vec<u64>,
    pub dtype: DType,
    pub source: SharedSource,
    /// The storages that its parts lie in.
    pub storages: Vec<StorageId>,
    /// Some of it lies in several of them.
    pub has_copies: bool,
}

/// A part of a tensor: what of each dimension it is, and which ranks have it.
type Held = (Vec<Pieces>, Vec<(Arc<str>, TensorId)>);

/// Puts the tensor `name` together. What several ranks have must be the same, which is found out when it is read; the error
/// says what else does not fit.
pub(super) fn join(
    checkpoint: &Checkpoint,
    name: &str,
    ranks: &[OfRank],
    limits: &Arc<Limits>,
) -> Result<Whole, String> {
    let whole = join_as_it_is(checkpoint, name, ranks, limits);
    let Some(others) = or_else(ranks) else { return whole };
    match (whole, join_as_it_is(checkpoint, name, &others, limits)) {
        (Ok(_), Ok(_)) => Err("is cut unevenly by _StridedShard, and its sizes do not say in which order".into()),
        (Err(_), Ok(other)) => Ok(other),
        (whole, Err(_)) => whole,
    }
}

/// The parts as they may be meant, too; nothing where that is the same.
fn or_else(ranks: &[OfRank]) -> Option<Vec<OfRank>> {
    let mut is_other = false;
    let other = |(file, part): &OfRank| {
        let part = match part {
            Part::Placed { mesh, shape, held, or_else: Some(other) } => {
                let held: Vec<_> = held
                    .iter()
                    .map(|(pieces, id)| {
                        is_other |= pieces != other;
                        (other.clone(), *id)
                    })
                    .collect();
                Part::Placed { mesh: mesh.clone(), shape: shape.clone(), held, or_else: None }
            }
            part => part.clone(),
        };
        (Arc::clone(file), part)
    };
    let others = ranks.iter().map(other).collect();
    is_other.then_some(others)
}

fn join_as_it_is(checkpoint: &Checkpoint, name: &str, ranks: &[OfRank], limits: &Arc<Limits>) -> Result<Whole, String> {
    let (shape, held) = gathered(checkpoint, ranks)?;
    let mut dtype: Option<(DType, Arc<str>)> = None;
    let mut chunks = Vec::new();
    let (mut storages, mut has_copies) = (Vec::new(), false);
    for (pieces, copies) in held {
        let mut elements = Vec::new();
        for (file, id) in copies {
            let found = elements_of(checkpoint, id).map_err(|why| format!("{file}: {why}"))?;
            let (known, first) = dtype.get_or_insert_with(|| (found.dtype.clone(), Arc::clone(&file)));
            if *known != found.dtype {
                let (known, here) = (known.name(), found.dtype.name());
                return Err(format!("is {known} in {first} and {here} in {file}"));
            }
            let wanted: Vec<u64> = pieces.iter().map(Pieces::len).collect();
            if found.shape != wanted {
                let have = &found.shape;
                return Err(format!("{file} has {have:?} of it, where it is placed as {wanted:?} of {shape:?}"));
            }
            storages.extend(checkpoint.storages_of(id));
            elements.push((file, found));
        }
        let file = elements.first().map_or_else(|| "".into(), |(file, _)| Arc::clone(file));
        if pieces.iter().any(|pieces| pieces.len() == 0) {
            continue;
        }
        has_copies |= elements.len() > 1;
        let elements = Agreed::over(name, elements, limits)?;
        boxes(&pieces, &elements, &file, &mut chunks)?;
    }
    let (dtype, _) = dtype.ok_or("no rank has a part of it")?;
    let source = Arc::new(Stitched::new(shape.clone(), dtype.clone(), chunks, Arc::clone(limits))?);
    Ok(Whole { shape, dtype, source, storages, has_copies })
}

/// The shape of the whole, and its parts in the order of the ranks that have them first.
fn gathered(checkpoint: &Checkpoint, ranks: &[OfRank]) -> Result<(Vec<u64>, Vec<Held>), String> {
    let mut whole: Option<(Vec<u64>, Option<&[u64]>)> = None;
    let first = ranks.first().map_or("", |(file, _)| file);
    let mut held: Vec<Held> = Vec::new();
    let mut places: HashMap<Vec<Pieces>, usize> = HashMap::new();
    for (file, part) in ranks {
        let (shape, mesh, parts) = match part {
            Part::Plain(id) => {
                let shape = shape_of(checkpoint, *id).map_err(|why| format!("{file}: {why}"))?;
                let all = shape.iter().map(|extent| Pieces::whole(*extent)).collect();
                (shape, None, vec![(all, *id)])
            }
            Part::Placed { mesh, shape, held, .. } => (shape.clone(), Some(mesh.as_slice()), held.clone()),
        };
        let (known, known_mesh) = whole.get_or_insert_with(|| (shape.clone(), mesh));
        match (*known_mesh, mesh) {
            (Some(known), Some(mesh)) if known != mesh => {
                return Err(format!("lies on a mesh of {known:?} in {first} and of {mesh:?} in {file}"));
            }
            (Some(_), None) => return Err(format!("is a part of a whole in {first} and says nothing of it in {file}")),
            (None, Some(_)) => return Err(format!("is a part of a whole in {file} and says nothing of it in {first}")),
            _ => {}
        }
        if *known != shape {
            return Err(format!("is of shape {known:?} in {first} and {shape:?} in {file}"));
        }
        for (pieces, id) in parts {
            let place = *places.entry(pieces).or_insert_with_key(|pieces| {
                held.push((pieces.clone(), Vec::new()));
                held.len() - 1
            });
            held.iter_mut().skip(place).take(1).for_each(|(_, copies)| copies.push((Arc::clone(file), id)));
        }
    }
    let (shape, ..) = whole.ok_or("no rank has a part of it")?;
    Ok((shape, held))
}

/// The shape of a tensor that has elements of its own.
pub(super) fn shape_of(checkpoint: &Checkpoint, id: TensorId) -> Result<Vec<u64>, String> {
    let tensor = checkpoint.tensor(id).ok_or("is no tensor")?;
    let extent = |size: &i64| u64::try_from(*size).map_err(|_| format!("has a negative size ({size})"));
    tensor.shape.iter().map(extent).collect()
}

/// A rank's own tensor, whose data is looked for when it is needed.
fn elements_of(checkpoint: &Checkpoint, id: TensorId) -> Result<Elements, String> {
    let tensor = checkpoint.tensor(id).ok_or("is no tensor")?;
    if tensor.quantizer.is_some() {
        return Err("quantized tensors of several ranks are not put together".into());
    }
    let elements = tensor.deferred(&checkpoint.storages).map_err(|e| e.message())?;
    if elements.shape.len() != tensor.shape.len() {
        return Err("elements that share bytes are not put together".into());
    }
    Ok(elements)
}

/// Adds the boxes of the whole that a rank's tensor consists of.
fn boxes(pieces: &[Pieces], elements: &Elements, file: &Arc<str>, chunks: &mut Vec<Chunk>) -> Result<(), String> {
    let mut parts = vec![(Vec::new(), elements.clone())];
    for (dim, pieces) in pieces.iter().enumerate() {
        let mut next = Vec::new();
        for (offsets, elements) in &parts {
            for (begin, own, len) in pieces.iter() {
                if next.len() + chunks.len() >= MAX_CHUNKS {
                    return Err(format!("is cut into too many boxes; up to {MAX_CHUNKS} are put together"));
                }
                let part = elements.slice(dim, own, len, 1).map_err(|e| e.message())?;
                next.push(([offsets.as_slice(), &[begin]].concat(), part));
            }
        }
        parts = next;
    }
    chunks.extend(parts.into_iter().map(|(offsets, elements)| {
        let (sizes, saved) = (elements.shape.clone(), Arc::clone(&elements.source));
        Chunk { offsets, sizes, saved, file: Arc::clone(file), opened: OnceLock::from(elements) }
    }));
    Ok(())
}
