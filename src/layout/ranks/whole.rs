//! Tensors of several ranks become tensors of the checkpoint that they are together.

use std::collections::HashMap;
use std::sync::Arc;

use super::cut::Pieces;
use super::join::{self, OfRank};
use super::placement::Part;
use crate::checkpoint::tensor::{Data, Kind, Rare, View, plain_tensor};
use crate::checkpoint::{Checkpoint, MadeOf, Tensor, TensorId};
use crate::dtype::{ByteOrder, DType};
use crate::error::Result;
use crate::limits::Limits;
use crate::pickle::NodeId;

/// What two tensors have in common that are one: the same parts of the same storages in every file.
type Identity = (Kind, Option<bool>, Vec<u64>, Vec<(Vec<Pieces>, View)>);

/// Adds whole tensors to a checkpoint, those that every rank tied to each other once.
pub(super) struct Wholes {
    limits: Arc<Limits>,
    known: HashMap<Identity, NodeId>,
}

impl Wholes {
    pub(crate) fn new(limits: &Arc<Limits>) -> Self {
        Wholes { limits: Arc::clone(limits), known: HashMap::new() }
    }

    /// The object that stands for the tensor `name` whose parts `ranks` are, `first` in the first of them. Why it cannot be put
    /// together is its problem.
    pub(crate) fn add(
        &mut self,
        checkpoint: &mut Checkpoint,
        name: &str,
        first: TensorId,
        ranks: Result<Vec<OfRank>, String>,
    ) -> Result<NodeId> {
        let Some(described) = checkpoint.tensor(first) else { return checkpoint.add(Tensor::default()) };
        let (kind, requires_grad, device) = (described.kind, described.requires_grad, described.device.clone());
        let (shape, dtype) = (described.shape.clone(), described.dtype.clone());
        let identity = ranks.as_ref().ok().and_then(|ranks| identity(checkpoint, kind, requires_grad, ranks));
        if let Some(known) = identity.as_ref().and_then(|identity| self.known.get(identity)) {
            return Ok(*known);
        }
        let whole = ranks.and_then(|ranks| {
            let whole = join::join(checkpoint, name, &ranks, &self.limits)?;
            let extent = |size: &u64| i64::try_from(*size).map_err(|_| "has a size of more than 63 bits".to_owned());
            Ok((whole.shape.iter().map(extent).collect::<Result<Vec<i64>, String>>()?, whole))
        });
        let node = match whole {
            Ok((shape, whole)) => {
                let data = Data::Array { source: whole.source, byte_order: ByteOrder::Little };
                let tensor = Tensor { kind, requires_grad, device, data, ..plain_tensor(whole.dtype, shape) };
                let node = checkpoint.add(tensor)?;
                if let Some(id) = checkpoint.tensors.of(node) {
                    let made = MadeOf { storages: whole.storages.into(), has_copies: whole.has_copies };
                    checkpoint.made_of.insert(id, made);
                }
                node
            }
            Err(problem) => {
                let plain = plain_tensor(DType::other("unknown", None), shape);
                let rare = Rare::of_problem(Some(problem));
                checkpoint.add(Tensor { kind, requires_grad, device, dtype, rare, ..plain })?
            }
        };
        if let Some(identity) = identity {
            self.known.insert(identity, node);
        }
        Ok(node)
    }
}

/// What tells a tensor from others; nothing where that is not known, or there is nothing to tell by.
fn identity(checkpoint: &Checkpoint, kind: Kind, requires_grad: Option<bool>, ranks: &[OfRank]) -> Option<Identity> {
    let mut views = Vec::new();
    let mut whole = Vec::new();
    for (_, part) in ranks {
        let held = match part {
            Part::Plain(id) => vec![(Vec::new(), *id)],
            Part::Placed { shape, held, .. } => {
                whole.clone_from(shape);
                held.clone()
            }
        };
        for (pieces, id) in held {
            let tensor = checkpoint.tensor(id)?;
            // what is empty has a storage of its own, or none
            if tensor.numel() != Some(0) {
                views.push((pieces, tensor.view()?));
            }
        }
    }
    (!views.is_empty()).then_some((kind, requires_grad, whole, views))
}
