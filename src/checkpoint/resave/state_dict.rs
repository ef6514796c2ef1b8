//! A state dict made anew, of tensors wherever they were.

use std::collections::HashMap;

use thin_vec::ThinVec;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::tensor::{Data, Kind, STRIDED, Tensor, TensorId};
use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::pickle::{Change, Construct, Graph, Node, NodeId, Object, Pair};

/// What `BUILD` gives a state dict that is made of a part of another: the `_metadata` of the modules below `stem`, whose
/// versions decide how they are loaded. `None` where there is none.
pub(crate) fn metadata_below(checkpoint: &mut Checkpoint, state: NodeId, stem: &str) -> Result<Option<NodeId>> {
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
        changes.push(Change::Item(Pair { key: checkpoint.graph.push_str(&name)?, value, key_at: 0 }));
    }
    let value = ordered_dict(checkpoint, changes)?;
    let entry = Pair { key: metadata.key, value, key_at: 0 };
    Ok(Some(checkpoint.graph.push(Node::Dict(Box::new(vec![entry])))?))
}

/// A new `collections.OrderedDict`.
pub(crate) fn ordered_dict(checkpoint: &mut Checkpoint, changes: Vec<Change>) -> Result<NodeId> {
    let (module, name) = (checkpoint.graph.push_str("collections")?, checkpoint.graph.push_str("OrderedDict")?);
    let callable = checkpoint.graph.push(Node::Global { module, name })?;
    let object =
        Object { how: Construct::Reduce, callable, args: Graph::EMPTY_TUPLE, kwargs: None, changes: changes.into() };
    checkpoint.graph.push(Node::Object(Box::new(object)))
}

/// A new `OrderedDict` of the given tensors, as `state_dict()` gives it: plain tensors without grad, views and sharing
/// kept; what is no tensor stays as it is. `attributes` is what `BUILD` gives it (`_metadata`).
pub(crate) fn state_dict(
    checkpoint: &mut Checkpoint,
    tensors: &[(String, NodeId, Option<TensorId>)],
    attributes: Option<NodeId>,
) -> Result<NodeId> {
    let mut changes = Vec::new();
    // an array has no storage that says what shares it: under two names it stays one tensor
    let mut arrays: HashMap<TensorId, NodeId> = HashMap::new();
    for (name, node, id) in tensors {
        let Some(id) = id else {
            refuse_packed(checkpoint, name, *node)?;
            let key = checkpoint.graph.push_str(name)?;
            changes.push(Change::Item(Pair { key, value: *node, key_at: 0 }));
            continue;
        };
        let tensor = checkpoint.tensors.get(*id).cloned().unwrap_or_default();
        let value = match tensor.data {
            Data::Storage { .. } | Data::Array { .. } if tensor.quantizer.is_none() => match arrays.get(id) {
                Some(made) => *made,
                None => {
                    let made = checkpoint.graph.push(Node::Foreign(0))?;
                    let is_array = tensor.storage().is_none();
                    let plain = Tensor { kind: Kind::Tensor, requires_grad: Some(false), ..tensor.without_state() };
                    checkpoint.tensors.add(made, plain)?;
                    arrays.extend(is_array.then_some((*id, made)));
                    made
                }
            },
            // without a storage there is nothing to keep
            Data::Nothing if tensor.layout == STRIDED && !tensor.wraps && tensor.device.as_deref() == Some("meta") => {
                let made = checkpoint.graph.push(Node::Foreign(0))?;
                let plain = Tensor { kind: Kind::Tensor, requires_grad: Some(false), ..tensor.without_class() };
                checkpoint.tensors.add(made, plain)?;
                made
            }
            _ if tensor.wraps || tensor.is_nested() => {
                let what = if tensor.is_nested() { "nested tensor" } else { "wrapper of other tensors" };
                let message = format!("{name}: torch opens no {what} with weights_only=True");
                return Err(Error::unsupported(message).advise(leave_out()));
            }
            _ => plain_call(checkpoint, *node, tensor)?,
        };
        let key = checkpoint.graph.push_str(name)?;
        changes.push(Change::Item(Pair { key, value, key_at: 0 }));
    }
    changes.extend(attributes.map(Change::Build));
    ordered_dict(checkpoint, changes)
}

/// What only its own constructor can make keeps it, without the parameter or the subclass around it.
fn plain_call(checkpoint: &mut Checkpoint, mut node: NodeId, tensor: Tensor) -> Result<NodeId> {
    if checkpoint.objects().constructor(node) == Some(Constructor::Parameter) {
        node = checkpoint.objects().args(node).first().copied().unwrap_or(node);
    }
    let [func, _, args, ..] = *checkpoint.objects().args(node) else { return Ok(node) };
    if checkpoint.objects().constructor(node) != Some(Constructor::FromType) {
        return Ok(node);
    }
    let object = Object { how: Construct::Reduce, callable: func, args, kwargs: None, changes: ThinVec::new() };
    let made = checkpoint.graph.push(Node::Object(Box::new(object)))?;
    checkpoint.tensors.add(made, Tensor { kind: Kind::Tensor, ..tensor.without_class() })?;
    Ok(made)
}

/// What to do about a tensor that cannot be written.
pub(super) fn leave_out() -> Message {
    Message::from("leave it out with ").setting(Setting::Exclude)
}

/// torch packs weights of quantized recurrent layers in objects that it does not open with `weights_only=True`.
fn refuse_packed(checkpoint: &Checkpoint, name: &str, node: NodeId) -> Result<()> {
    match checkpoint.objects().class(node) {
        Some((_, class)) if class == "ScriptObject" => {
            let message = format!("{name}: torch does not open packed parameters with weights_only=True");
            Err(Error::unsupported(message).advise(leave_out()))
        }
        _ => Ok(()),
    }
}
