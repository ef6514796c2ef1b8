//! Plain state dicts, which need no reduction: a dict, or torch's ordered one, of tensors and whatever else modules put in.

use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::number::{Number, numpy_number};
use crate::checkpoint::{Checkpoint, Root, module, numpy};
use crate::error::Result;
use crate::pickle::{Census, Node, NodeId};

impl Checkpoint {
    /// The keys of a mapping that directly holds tensors whose values are none, with those values. `None` for everything
    /// else: a module, a mapping of mappings, a part of a mapping.
    pub(crate) fn values_of_plain_state_dict(&self, root: &Root) -> Result<Option<Vec<(String, NodeId)>>> {
        let objects = self.objects();
        if root.in_optimizer || root.stem.is_some() || module::is_module(self, root.node) {
            return Ok(None);
        }
        let Some(items) = objects.items(root.node) else { return Ok(None) };
        let mut values = Vec::new();
        let mut tensors = 0_u64;
        for entry in items {
            if self.tensors.of(objects.unwrap(entry.value)).is_some() {
                tensors += 1;
                continue;
            }
            let Some(name) = self.graph.str(entry.key) else { return Ok(None) };
            values.push((name.into_owned(), entry.value));
        }
        self.graph.complete()?;
        Ok((tensors > 0).then_some(values))
    }

    /// Whether an object is what `optimizer.state_dict()` gave.
    pub(crate) fn is_optimizer_state(&self, node: NodeId) -> bool {
        self.is_optimizer(&self.objects().children(node))
    }

    /// Makes the numbers that they hold of numpy's scalars below `root`, where Python has such numbers; says how many.
    pub(crate) fn unbox_numpy_scalars(&mut self, root: NodeId) -> Result<usize> {
        let mut unboxed = Vec::new();
        for node in Census::new(&self.graph, root)?.order() {
            let objects = self.objects();
            if objects.constructor(*node) != Some(Constructor::NumpyScalar) {
                continue;
            }
            let Some((kind, bytes)) = numpy::scalar(&self.graph, objects.args(*node)) else { continue };
            let is_bool = kind.dtype.name() == "bool";
            let number = match numpy_number(&kind.dtype, &bytes) {
                Some(Number::Int(value)) if is_bool => Some(Node::Bool(value != 0)),
                Some(Number::Int(value)) => i64::try_from(value).ok().map(Node::Int),
                Some(Number::Float(value)) => Some(Node::Float(value)),
                Some(Number::Float32(value)) => Some(Node::Float(f64::from(value))),
                None => None,
            };
            unboxed.extend(number.map(|number| (*node, number)));
        }
        let count = unboxed.len();
        for (node, number) in unboxed {
            if let Some(place) = self.graph.node_mut(node) {
                *place = number;
            }
        }
        Ok(count)
    }
}
