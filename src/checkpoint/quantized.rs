//! What torch's quantized modules add to `state_dict()` beside their parameters and buffers: scales and zero points that
//! are numbers in the module, and weights that are packed in a `ScriptObject`.
//!
//! Sources: `_save_to_state_dict` and `__getstate__` in `torch/ao/nn/quantized/modules/{linear,conv,embedding_ops,
//! functional_modules}.py` and `torch/ao/nn/quantized/dynamic/modules/rnn.py`.

use std::sync::Arc;

use crate::checkpoint::object::Objects;
use crate::checkpoint::parts::Parts;
use crate::checkpoint::tensor::{Data, Extents, Quantizer, plain_tensor};
use crate::dtype::{ByteOrder, Known};
use crate::error::Result;
use crate::pickle::{Graph, Node, NodeId};
use crate::source::MemorySource;

/// Where such modules are defined, in old and new versions.
const MODULES: &[&str] = &["torch.ao.nn.", "torch.nn.quantized", "torch.nn.intrinsic.quantized"];

/// Elements of a quantized convolution's state: weight, bias, scale and zero point from the tenth on.
const CONV_STATE: usize = 15;

/// Where a value of `state_dict()` comes from.
enum Saved {
    /// An object of the pickle.
    Node(NodeId),
    /// A number that becomes a tensor without dimensions.
    Number(NodeId),
}

impl Objects<'_> {
    /// `per tensor affine, scale 0.1, zero point 10`; scales that are tensors are not spelled out.
    pub(crate) fn quantizer(&self, quantizer: &Quantizer) -> String {
        let scheme = quantizer.scheme.replace('_', " ");
        let plain = quantizer.arguments.iter().filter(|argument| self.is_plain_scalar(**argument));
        let plain: Vec<String> = plain.map(|argument| self.repr(*argument, 40)).collect();
        match (quantizer.scheme.as_str(), plain.as_slice()) {
            ("per_tensor_affine", [scale, zero]) => format!("{scheme}, scale {scale}, zero point {zero}"),
            (_, [axis]) => format!("{scheme}, axis {axis}"),
            _ => scheme,
        }
    }
}

/// Tells the tensors of every quantized module of the graph what its class adds to `state_dict()`.
pub(super) fn describe(parts: &mut Parts) -> Result<()> {
    let is_there = |parts: &Parts, id: NodeId| {
        let module = match parts.graph.node(id) {
            Node::Global { module, .. } => parts.graph.str_or_bytes(*module),
            _ => None,
        };
        module.is_some_and(|module| MODULES.iter().any(|prefix| module.starts_with(prefix)))
    };
    if !parts.graph.ids().any(|id| is_there(parts, id)) {
        return Ok(());
    }
    let mut found = Vec::new();
    for id in parts.graph.ids() {
        if let Some(saved) = parts.graph.object(id).and_then(|_| saved(&parts.objects(), id)) {
            found.push((id, saved));
        }
    }
    for (module, saved) in found {
        let mut named = Vec::new();
        for (name, value) in saved {
            let node = match value {
                Saved::Node(node) => node,
                Saved::Number(node) => scalar(parts, node)?,
            };
            named.push((name, node));
        }
        parts.tensors.save_in(module, named);
    }
    Ok(())
}

/// `torch.tensor(number)`.
fn scalar(parts: &mut Parts, number: NodeId) -> Result<NodeId> {
    let (dtype, bytes) = match parts.graph.node(number) {
        #[allow(clippy::cast_possible_truncation)] // torch's own conversion
        Node::Float(value) => (Known::Float32, (*value as f32).to_le_bytes().to_vec()),
        node => {
            let value = if let Node::Int(value) = node { *value } else { 0 };
            (Known::Int64, value.to_le_bytes().to_vec())
        }
    };
    let mut tensor = plain_tensor(dtype.into(), Extents::new());
    tensor.data = Data::Array { source: Arc::new(MemorySource::new(bytes)), byte_order: ByteOrder::Little };
    parts.tensor(tensor)
}

/// What a module of a quantized class adds; nothing for other objects.
fn saved(objects: &Objects<'_>, node: NodeId) -> Option<Vec<(&'static str, Saved)>> {
    let (module, class) = objects.class(node)?;
    if !MODULES.iter().any(|prefix| module.starts_with(prefix)) {
        return None;
    }
    let attribute = |name: &'static str| Some((name, objects.attribute(node, name)?));
    let kept = |name: &'static str| attribute(name).map(|(name, node)| (name, Saved::Node(node)));
    let number = |name: &'static str| match attribute(name) {
        Some((name, node)) if is_number(objects.graph, node) => Some((name, Saved::Number(node))),
        _ => None,
    };
    match class.as_ref() {
        "Linear" | "LinearReLU" | "LinearLeakyReLU" | "LinearTanh" | "QFunctional" => {
            Some(vec![number("scale")?, number("zero_point")?])
        }
        "LinearPackedParams" => {
            let (name, packed) = attribute("_packed_params")?;
            Some(vec![kept("dtype")?, (name, Saved::Node(unpacked(objects, packed)?))])
        }
        "EmbeddingPackedParams" => {
            let (name, packed) = attribute("_packed_weight")?;
            // (version, [weight], …)
            let weights = *objects.graph.tuple(unpacked(objects, packed)?)?.get(1)?;
            let weight = *objects.graph.sequence(weights)?.first()?;
            Some(vec![kept("dtype")?, (name, Saved::Node(weight))])
        }
        "PackedParameter" => Some(vec![kept("param")?]),
        "RNNCell" | "LSTMCell" | "GRUCell" => Some(vec![kept("_packed_weight_ih")?, kept("_packed_weight_hh")?]),
        class if class.starts_with("Conv") => {
            let (_, others) = objects.states(node);
            let state = objects.graph.tuple(*others.first()?).filter(|state| state.len() == CONV_STATE)?;
            let [weight, bias, scale, zero_point] = *state.get(10..14)?.first_chunk::<4>()?;
            Some(vec![
                ("weight", Saved::Node(weight)),
                ("bias", Saved::Node(bias)),
                ("scale", Saved::Number(scale)),
                ("zero_point", Saved::Number(zero_point)),
            ])
        }
        _ => None,
    }
}

fn is_number(graph: &Graph, node: NodeId) -> bool {
    matches!(graph.node(node), Node::Int(_) | Node::Float(_))
}

/// The state that a `torch.ScriptObject` was built with: `(state, class name)`.
fn unpacked(objects: &Objects<'_>, packed: NodeId) -> Option<NodeId> {
    let (module, class) = objects.class(packed)?;
    if (module.as_ref(), class.as_ref()) != ("torch", "ScriptObject") {
        return None;
    }
    let (_, others) = objects.states(packed);
    let [state, _] = *objects.graph.tuple(*others.first()?)? else { return None };
    objects.graph.tuple(state)?;
    Some(state)
}
