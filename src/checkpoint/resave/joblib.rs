//! What joblib leaves in the stream becomes what it stands for: no other pickle can hold raw bytes between its opcodes.

use super::Work;
use crate::checkpoint::tensor::Tensor;
use crate::checkpoint::{Checkpoint, numpy};
use crate::error::Result;
use crate::pickle::text::Encoding;
use crate::pickle::{Census, Change, Graph, Node, NodeId};

/// joblib's stand-ins for object arrays become the arrays whose pickles follow them in the stream.
pub(in crate::checkpoint) fn unfold_nested(checkpoint: &mut Checkpoint, root: NodeId) -> Result<()> {
    for node in Census::new(&checkpoint.graph, root)?.order() {
        if let Some(nested) = checkpoint.graph.take_inline_pickle(*node) {
            let nested = checkpoint.graph.node(nested).clone();
            if let Some(place) = checkpoint.graph.node_mut(*node) {
                *place = nested;
            }
        }
    }
    Ok(())
}

impl Work<'_> {
    /// joblib's stand-in becomes the array that it stands for: `_reconstruct(ndarray, (0,), b'b')` with its state.
    pub(super) fn unfold_joblib(&mut self, node: NodeId, tensor: &Tensor) -> Result<()> {
        let Some((stream, at, len)) = self.checkpoint.graph.inline_bytes(node) else { return Ok(()) };
        let Some((dtype, column_major)) = numpy::joblib_type(&self.checkpoint.graph, node) else { return Ok(()) };
        let graph = &mut self.checkpoint.graph;
        let data = graph.add_text(stream, at, len, None, Encoding::Raw)?;
        let code = graph.add_text_of(b"b", Encoding::Raw)?;
        let (data, code) = (self.push(Node::Bytes(data))?, self.push(Node::Bytes(code))?);
        let class = self.global("numpy", "ndarray")?;
        let callable = self.global("numpy.core.multiarray", "_reconstruct")?;
        let (empty, version) = (self.ints(&[0])?, self.int(1)?);
        let shape = self.ints(&tensor.shape)?;
        let order = if column_major { Graph::TRUE } else { Graph::FALSE };
        let state = self.checkpoint.graph.push_tuple(&[version, shape, dtype, order, data])?;
        let mut made = self.call(callable, &[class, empty, code])?;
        if let Node::Object(object) = &mut made {
            object.changes.push(Change::Build(state));
        }
        self.set(node, made);
        Ok(())
    }
}
