//! What torch's legacy stream cannot hold: in it storages follow the pickle, so that whatever looks at elements while it
//! is unpickled sees none of them.

use std::collections::HashMap;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::names::join;
use crate::checkpoint::object::Label;
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::pickle::{Census, NodeId};

/// Refuses, by its name below `root`, what torch would read wrongly or not at all: nested tensors (sizes are read at
/// once), packed parameters of quantized modules (weights are packed at once).
pub(super) fn refuse(checkpoint: &Checkpoint, root: NodeId, order: &[NodeId]) -> Result<()> {
    let Some((node, what)) = order.iter().find_map(|node| Some((*node, cannot(checkpoint, *node)?))) else {
        return Ok(());
    };
    let name = name_of(checkpoint, root, node).unwrap_or_default();
    let name = if name.is_empty() { ".".to_owned() } else { name };
    let advice = Setting::To.then(" torch can, ").setting(Setting::Drop).text(" or ").setting(Setting::Exclude);
    let message = format!("{name}: torch's legacy format cannot hold {what}");
    Err(Error::unsupported(message).advise(advice.text(" leaves it out")))
}

fn cannot(checkpoint: &Checkpoint, node: NodeId) -> Option<&'static str> {
    if let Some(tensor) = checkpoint.tensors.of(node).and_then(|id| checkpoint.tensors.get(id)) {
        return (tensor.is_nested()).then_some("nested tensors");
    }
    checkpoint.graph.object(node)?;
    let objects = checkpoint.objects();
    let (module, class) = objects.class(node)?;
    // quantized convolutions pack their weights when their state is set, and have no dict of attributes
    let packs = checkpoint.tensors.saved_in(node).is_some() && objects.states(node).0.is_empty();
    (packs || module == "torch" && class == "ScriptObject").then_some("packed parameters")
}

/// How an object is reached from `root`, or the first on the way that is one as well. What only holds a module's members
/// has no part in it.
fn name_of(checkpoint: &Checkpoint, root: NodeId, wanted: NodeId) -> Option<String> {
    let objects = checkpoint.objects();
    let mut parents: HashMap<NodeId, (NodeId, Label)> = HashMap::new();
    let mut open = vec![root];
    let is_wanted = |node: NodeId| node == wanted || cannot(checkpoint, node).is_some();
    while let Some(node) = open.pop() {
        if is_wanted(node) {
            let (mut at, mut path) = (node, Vec::new());
            while let Some((parent, label)) = parents.get(&at) {
                path.push(checkpoint.element(*label));
                at = *parent;
            }
            path.reverse();
            path.retain(|step| !["_modules", "_parameters", "_buffers"].contains(&step.to_string().as_str()));
            return Some(join(&path));
        }
        for child in objects.children(node).into_iter().rev() {
            let below = objects.unwrap(child.node);
            if below != root && !parents.contains_key(&below) && !objects.is_plain_scalar(below) {
                parents.insert(below, (node, child.label));
                open.push(below);
            }
        }
    }
    None
}

/// All nodes below `root`, in the order they are written.
pub(super) fn order(checkpoint: &Checkpoint, root: NodeId) -> Result<Vec<NodeId>> {
    Ok(Census::new(&checkpoint.graph, root)?.into_order())
}
