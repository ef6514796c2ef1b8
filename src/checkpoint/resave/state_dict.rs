//! A state dict made anew, of tensors wherever they were.

use std::collections::HashMap;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::tensor::{Data, Kind, Tensor, TensorId};
use crate::error::Result;
use crate::pickle::{Change, Construct, Entry, Graph, Node, NodeId, Object};

/// A new `OrderedDict` of the given tensors, as `state_dict()` gives it: plain tensors without grad, views and sharing
/// kept. `attributes` is what `BUILD` gives it (`_metadata`).
pub fn state_dict(
    checkpoint: &mut Checkpoint,
    tensors: &[(String, NodeId, TensorId)],
    attributes: Option<NodeId>,
) -> Result<NodeId> {
    let (module, name) = (checkpoint.graph.push_str("collections")?, checkpoint.graph.push_str("OrderedDict")?);
    let callable = checkpoint.graph.push(Node::Global { module, name })?;
    let mut changes = Vec::new();
    // an array has no storage that says what shares it: under two names it stays one tensor
    let mut arrays: HashMap<TensorId, NodeId> = HashMap::new();
    for (name, node, id) in tensors {
        let tensor = checkpoint.tensors.get(*id).cloned().unwrap_or_default();
        let value = match tensor.data {
            Data::Storage { .. } | Data::Array { .. } if tensor.quantizer.is_none() => match arrays.get(id) {
                Some(made) => *made,
                None => {
                    let made = checkpoint.graph.push(Node::Foreign(0))?;
                    let is_array = tensor.storage().is_none();
                    let plain = Tensor { kind: Kind::Tensor, requires_grad: Some(false), state: None, ..tensor };
                    checkpoint.tensors.add(made, plain)?;
                    arrays.extend(is_array.then_some((*id, made)));
                    made
                }
            },
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
    let object = Object { how: Construct::Reduce, callable, args: Graph::EMPTY_TUPLE, kwargs: None, changes };
    checkpoint.graph.push(Node::Object(Box::new(object)))
}
