//! A state dict made anew, of tensors wherever they were.

use crate::checkpoint::Checkpoint;
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::tensor::{Data, Kind, Tensor, TensorId};
use crate::error::Result;
use crate::pickle::{Change, Construct, Entry, Graph, Node, NodeId, Object};

/// What `BUILD` gives a state dict that is made of a part of another: the `_metadata` of the modules below `stem`, whose
/// versions decide how they are loaded. `None` where there is none.
pub fn metadata_below(checkpoint: &mut Checkpoint, state: NodeId, stem: &str) -> Result<Option<NodeId>> {
    let objects = checkpoint.objects();
    let named = |node: NodeId| objects.items(node).unwrap_or_default();
    let name = |key: NodeId| checkpoint.graph.str(key).map(|name| name.into_owned());
    let metadata = named(state).into_iter().find(|entry| name(entry.key).as_deref() == Some("_metadata"));
    let Some(metadata) = metadata else { return Ok(None) };
    let below = named(metadata.value).into_iter().filter_map(|entry| {
        let name = name(entry.key)?;
        let rest = name.strip_prefix(stem)?;
        let rest = if rest.is_empty() { "" } else { rest.strip_prefix('.')? };
        Some((rest.to_owned(), entry.value))
    });
    let below: Vec<_> = below.collect();
    if below.is_empty() {
        return Ok(None);
    }
    let mut changes = Vec::new();
    for (name, value) in below {
        changes.push(Change::Item(Entry { key: checkpoint.graph.push_str(&name)?, value, key_at: 0 }));
    }
    let value = ordered_dict(checkpoint, changes)?;
    let entry = Entry { key: metadata.key, value, key_at: 0 };
    Ok(Some(checkpoint.graph.push(Node::Dict(Box::new(vec![entry])))?))
}

/// A new `collections.OrderedDict`.
pub fn ordered_dict(checkpoint: &mut Checkpoint, changes: Vec<Change>) -> Result<NodeId> {
    let (module, name) = (checkpoint.graph.push_str("collections")?, checkpoint.graph.push_str("OrderedDict")?);
    let callable = checkpoint.graph.push(Node::Global { module, name })?;
    let object = Object { how: Construct::Reduce, callable, args: Graph::EMPTY_TUPLE, kwargs: None, changes };
    checkpoint.graph.push(Node::Object(Box::new(object)))
}

/// A new `OrderedDict` of the given tensors, as `state_dict()` gives it: plain tensors without grad, views and sharing
/// kept. `attributes` is what `BUILD` gives it (`_metadata`).
pub fn state_dict(
    checkpoint: &mut Checkpoint,
    tensors: &[(String, NodeId, TensorId)],
    attributes: Option<NodeId>,
) -> Result<NodeId> {
    let mut changes = Vec::new();
    for (name, node, id) in tensors {
        let tensor = checkpoint.tensors.get(*id).cloned().unwrap_or_default();
        let value = match tensor.data {
            Data::Storage { .. } | Data::Array { .. } if tensor.quantizer.is_none() => {
                let made = checkpoint.graph.push(Node::Foreign(0))?;
                let plain = Tensor { kind: Kind::Tensor, requires_grad: Some(false), state: None, ..tensor };
                checkpoint.tensors.add(made, plain)?;
                made
            }
            // what only its own constructor can make keeps it, without the parameter around it
            _ => match checkpoint.objects().constructor(*node) {
                Some(Constructor::Parameter) => checkpoint.objects().args(*node).first().copied().unwrap_or(*node),
                _ => *node,
            },
        };
        let key = checkpoint.graph.push_str(name)?;
        changes.push(Change::Item(Entry { key, value, key_at: 0 }));
    }
    changes.extend(attributes.map(Change::Build));
    ordered_dict(checkpoint, changes)
}
