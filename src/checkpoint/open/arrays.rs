//! Containers that hold named arrays and no objects: safetensors, npz, npy. Their graph is a dict made here.

use std::sync::Arc;

use super::Opener;
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::rebuild::{Tensors, plain_tensor};
use crate::checkpoint::storage::Storages;
use crate::checkpoint::tensor::{Data, Kind, Tensor, contiguous, fortran};
use crate::checkpoint::{Checkpoint, Container};
use crate::container::zip::Zip;
use crate::container::{npy, safetensors};
use crate::dtype::{ByteOrder, DType};
use crate::error::{Error, Result};
use crate::pickle::{Entry, Graph, Node, NodeId, decode};
use crate::source::{SharedSource, Window};

/// A dict in the making, of tensors that no pickle describes.
#[derive(Default)]
struct Made {
    graph: Graph,
    tensors: Tensors,
    entries: Vec<Entry>,
}

impl Made {
    fn new() -> Self {
        Made { graph: Graph::new(), ..Made::default() }
    }

    fn tensor(&mut self, mut tensor: Tensor) -> Result<NodeId> {
        tensor.inspect(&Storages::default());
        let number = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let node = self.graph.push(Node::Foreign(number))?;
        self.tensors.add(node, tensor)?;
        Ok(node)
    }

    fn entry(&mut self, name: &str, value: NodeId) -> Result<()> {
        let key = self.graph.push_str(name)?;
        self.entries.push(Entry { key, value, key_at: 0 });
        Ok(())
    }

    fn finish(mut self, opener: &Opener<'_>, container: Container) -> Result<Checkpoint> {
        let root = self.graph.push(Node::Dict(Box::new(std::mem::take(&mut self.entries))))?;
        opener.finish_with(container, self.graph, root, Storages::default(), self.tensors)
    }
}

fn extents(shape: &[u64]) -> Result<Vec<i64>> {
    let sizes = shape.iter().map(|size| i64::try_from(*size));
    sizes.collect::<Result<_, _>>().map_err(|_| Error::malformed("a size that does not fit in 64 bits"))
}

impl Opener<'_> {
    pub(super) fn safetensors(&self) -> Result<Checkpoint> {
        let header = safetensors::read(self.source.as_ref(), self.limits)?;
        let mut made = Made::new();
        for found in &header.tensors {
            let dtype = DType::from_safetensors(&found.dtype);
            let dtype = dtype.unwrap_or_else(|| DType::other(&found.dtype.to_lowercase(), None));
            let source = Window::shared(&self.source, header.data_start + found.begin, found.end - found.begin)?;
            let data = Data::Array { source, byte_order: ByteOrder::Little };
            let node = made.tensor(Tensor { data, ..plain_tensor(dtype, extents(&found.shape)?) })?;
            made.entry(&found.name, node)?;
        }
        if !header.metadata.is_empty() {
            let mut entries = Vec::new();
            for (key, value) in &header.metadata {
                let (key, value) = (made.graph.push_str(key)?, made.graph.push_str(value)?);
                entries.push(Entry { key, value, key_at: 0 });
            }
            let metadata = made.graph.push(Node::Dict(Box::new(entries)))?;
            made.entry("__metadata__", metadata)?;
        }
        made.finish(self, Container::Safetensors)
    }

    pub(super) fn npy(&self) -> Result<Checkpoint> {
        let mut made = Made::new();
        let root = self.array(&mut made, &self.source, "")?;
        let mut checkpoint = self.finish_with(Container::Npy, made.graph, root, Storages::default(), made.tensors)?;
        checkpoint.byte_order = None;
        Ok(checkpoint)
    }

    pub(super) fn npz(&self, zip: &Arc<Zip>) -> Result<Checkpoint> {
        let mut made = Made::new();
        for member in zip.members.iter().filter(|member| !member.is_dir()) {
            let source = zip.member_source(member)?;
            let node = self.array(&mut made, &source, &member.name).map_err(|e| e.in_member(&member.name))?;
            made.entry(member.name.strip_suffix(".npy").unwrap_or(&member.name), node)?;
        }
        let mut checkpoint = made.finish(self, Container::Npz)?;
        checkpoint.byte_order = None;
        checkpoint.zip = Some(Arc::clone(zip));
        Ok(checkpoint)
    }

    /// One `.npy`: an array, or the pickle of an object array.
    fn array(&self, made: &mut Made, source: &SharedSource, name: &str) -> Result<NodeId> {
        let header = npy::read(source.as_ref())?;
        let code = &header.descr.code;
        let size = header.descr.item_bytes.and_then(|bytes| u32::try_from(bytes).ok());
        let dtype = match DType::from_numpy(code) {
            _ if header.descr.structured => DType::other(&format!("void{}", size.unwrap_or(0).saturating_mul(8)), size),
            known => known,
        };
        if dtype.name() == "object" {
            let stream = made.graph.add_stream(Arc::clone(source), name);
            return Ok(decode(&mut made.graph, stream, header.data_start, self.max_objects, &Joblib)?.root);
        }
        let shape = extents(&header.shape)?;
        let stride = if header.fortran_order { fortran(&shape) } else { contiguous(&shape) };
        let bytes = source.len().saturating_sub(header.data_start);
        let data = Window::shared(source, header.data_start, bytes)?;
        made.tensor(Tensor {
            kind: Kind::NdArray,
            stride: Some(stride),
            device: None,
            requires_grad: None,
            data: Data::Array { source: data, byte_order: header.descr.byte_order },
            ..plain_tensor(dtype, shape)
        })
    }
}
