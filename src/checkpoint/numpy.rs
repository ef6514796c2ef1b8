//! numpy's pickles: arrays, scalars and dtypes; and joblib's arrays that lie raw in the stream.
//!
//! Sources: `numpy/core/src/multiarray/methods.c` (`array_setstate`), `descriptor.c` (`arraydescr_setstate`),
//! `joblib/numpy_pickle.py` (`NumpyArrayWrapper`).

use std::sync::Arc;

use crate::checkpoint::arguments::sizes;
use crate::checkpoint::constructors::{Constructor, constructor};
use crate::checkpoint::tensor::{Data, Extents, Kind, STRIDED, Tensor, contiguous, fortran};
use crate::dtype::{ByteOrder, DType};
use crate::error::Result;
use crate::pickle::stored::bytes_of;
use crate::pickle::{Change, Follows, Graph, Inline, Node, NodeId, TextId};
use crate::source::{MemorySource, SharedSource, Window};

/// An array's element type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NumpyType {
    pub dtype: DType,
    pub byte_order: ByteOrder,
    /// Elements are Python objects, pickled one by one.
    pub is_object: bool,
}

/// The last state that `BUILD` gave an object.
pub(super) fn state_of(graph: &Graph, node: NodeId) -> Option<NodeId> {
    graph.changes(node).iter().rev().find_map(|change| match change {
        Change::Build(state) => Some(*state),
        _ => None,
    })
}

/// `numpy.dtype('f4', False, True)`, then `BUILD (3, '<', …)`.
pub(super) fn numpy_type(graph: &Graph, node: NodeId) -> Option<NumpyType> {
    let object = graph.object(node)?;
    let (module, name) = graph.global(object.callable)?;
    if constructor(&module, &name) != Some(Constructor::NumpyDtype) {
        return None;
    }
    let state = state_of(graph, node).and_then(|state| graph.sequence(state)).unwrap_or_default();
    let first = *graph.sequence(object.args)?.first()?;
    if let (Some((_, class)), Some(size)) = (graph.global(first), state.get(5).and_then(|size| graph.int(*size))) {
        // a structured type by its class (`numpy.record`): the state tells its size
        let size = u32::try_from(size).ok()?;
        let dtype = DType::other(&format!("{class}{}", u64::from(size) * 8), Some(size));
        return Some(NumpyType { dtype, byte_order: ByteOrder::Little, is_object: false });
    }
    let code = graph.str_or_bytes(first)?;
    let order = state.get(1).and_then(|order| graph.str_or_bytes(*order));
    let mut dtype = DType::from_numpy(code.trim_start_matches(['<', '>', '|', '=']));
    if let (DType::Other { name, size }, Some(unit)) =
        (&dtype, state.get(8).and_then(|meta| datetime_unit(graph, *meta)))
        && name.ends_with("64")
    {
        dtype = DType::Other { name: format!("{name}[{unit}]").into(), size: *size };
    }
    Some(NumpyType {
        is_object: dtype.name() == "object",
        dtype,
        byte_order: if order.as_deref() == Some(">") || code.starts_with('>') {
            ByteOrder::Big
        } else {
            ByteOrder::Little
        },
    })
}

/// `({}, (b'ns', 1, 1, 1))`: the unit of a datetime64, with its count when that is not 1.
fn datetime_unit(graph: &Graph, metadata: NodeId) -> Option<String> {
    let parts = graph.sequence(*graph.sequence(metadata)?.get(1)?)?;
    let unit = graph.text_lossy(byte_string(graph, *parts.first()?)?).ok()?;
    Some(match parts.get(1).and_then(|count| graph.int(*count)) {
        Some(count) if count != 1 => format!("{count}{unit}"),
        _ => unit.into_owned(),
    })
}

/// The byte string that a node stands for, in any protocol's spelling.
pub(crate) fn byte_string(graph: &Graph, node: NodeId) -> Option<TextId> {
    match graph.node(node) {
        Node::Bytes(text) | Node::ByteArray(text) | Node::Str(text) => Some(*text),
        Node::ReadOnlyBuffer(inner) => match graph.node(*inner) {
            Node::Bytes(text) | Node::ByteArray(text) => Some(*text),
            _ => None,
        },
        Node::Object(object) => {
            let (module, name) = graph.global(object.callable)?;
            let first = graph.sequence(object.args)?.first()?;
            match (constructor(&module, &name)?, graph.node(*first)) {
                (Constructor::Encode, Node::Str(text)) => Some(*text),
                (Constructor::ByteArray, Node::Bytes(text)) => Some(*text),
                _ => None,
            }
        }
        _ => None,
    }
}

fn array(graph: &Graph, kind: NumpyType, shape: Extents, column_major: bool, data: Option<NodeId>) -> Tensor {
    let mut tensor = Tensor {
        kind: Kind::NdArray,
        stride: Some(if column_major { fortran(&shape) } else { contiguous(&shape) }),
        storage_offset: Some(0),
        layout: STRIDED,
        dtype: Some(kind.dtype),
        shape,
        ..Tensor::default()
    };
    let Some(data) = data else { return tensor };
    let wanted = tensor.bytes();
    match byte_string(graph, data).map(|text| bytes_of(graph, text, wanted)) {
        Some(Ok(source)) => tensor.data = Data::Array { source, byte_order: kind.byte_order },
        Some(Err(e)) => tensor.problem = Some(e.to_string()),
        // protocol 2 has `bytes()` for no bytes
        None if wanted == Some(0) => {
            let source = Arc::new(MemorySource::new(Vec::new()));
            tensor.data = Data::Array { source, byte_order: kind.byte_order };
        }
        None => tensor.problem = Some("its data is not in the file (an out-of-band buffer?)".into()),
    }
    tensor
}

/// `_reconstruct(type, (0,), b'b')`, then `BUILD (version, shape, dtype, fortran, data)`. Object arrays are no tensors.
pub(super) fn reconstructed(graph: &Graph, node: NodeId) -> Option<Tensor> {
    let state = graph.sequence(state_of(graph, node)?)?;
    let [shape, dtype, fortran, data] = match state {
        [_, rest @ ..] if state.len() >= 5 => *rest.first_chunk::<4>()?,
        _ => *state.first_chunk::<4>()?,
    };
    let kind = numpy_type(graph, dtype).filter(|kind| !kind.is_object)?;
    let shape = sizes(graph, shape)?;
    let mut tensor = array(graph, kind, shape, graph.int(fortran) == Some(1), Some(data));
    let class = graph.sequence(graph.object(node)?.args)?.first().and_then(|class| graph.global(*class));
    tensor.class = class.map(|(_, name)| name.into_owned()).filter(|name| name != "ndarray");
    Some(tensor)
}

/// The list of an object array's elements, and its shape.
pub(super) fn object_array(graph: &Graph, node: NodeId) -> Option<(NodeId, Extents)> {
    let state = graph.sequence(state_of(graph, node)?)?;
    let [_, shape, dtype, _, data] = *state.first_chunk::<5>()?;
    numpy_type(graph, dtype).filter(|kind| kind.is_object)?;
    graph.sequence(data)?;
    Some((data, sizes(graph, shape)?))
}

/// `_frombuffer(data, dtype, shape, order)`.
pub(super) fn from_buffer(graph: &Graph, args: &[NodeId]) -> Option<Tensor> {
    let [data, dtype, shape, order] = *args.first_chunk::<4>()?;
    let kind = numpy_type(graph, dtype).filter(|kind| !kind.is_object)?;
    let column_major = graph.str_or_bytes(order).as_deref() == Some("F");
    Some(array(graph, kind, sizes(graph, shape)?, column_major, Some(data)))
}

/// The value bytes and type of `scalar(dtype, data)`.
pub(super) fn scalar(graph: &Graph, args: &[NodeId]) -> Option<(NumpyType, Vec<u8>)> {
    let [dtype, data] = *args.first_chunk::<2>()?;
    let kind = numpy_type(graph, dtype)?;
    let read = bytes_of(graph, byte_string(graph, data)?, kind.dtype.size().map(u64::from))
        .and_then(|source| crate::source::read_vec(source.as_ref(), 0, source.len().min(1024)));
    let mut bytes = match read {
        Ok(bytes) => bytes,
        Err(e) => {
            graph.refuse(&e);
            return None;
        }
    };
    if kind.byte_order == ByteOrder::Big {
        bytes.chunks_exact_mut(kind.dtype.swap_unit()).for_each(<[u8]>::reverse);
    }
    Some((kind, bytes))
}

/// A `NumpyArrayWrapper`'s attributes.
struct Wrapper {
    kind: NumpyType,
    shape: Extents,
    column_major: bool,
    aligned: bool,
}

fn wrapper(graph: &Graph, node: NodeId) -> Option<Wrapper> {
    let object = graph.object(node)?;
    let (module, name) = graph.global(object.callable)?;
    if constructor(&module, &name) != Some(Constructor::JoblibArray) {
        return None;
    }
    let Node::Dict(entries) = graph.node(state_of(graph, node)?) else { return None };
    let get = |key: &str| entries.iter().find(|e| graph.str(e.key).as_deref() == Some(key)).map(|e| e.value);
    Some(Wrapper {
        kind: numpy_type(graph, get("dtype")?)?,
        shape: sizes(graph, get("shape")?)?,
        column_major: get("order").and_then(|order| graph.str_or_bytes(order)).as_deref() == Some("F"),
        aligned: get("numpy_array_alignment_bytes").is_some_and(|bytes| graph.int(bytes).is_some()),
    })
}

/// The node of a joblib array's dtype, and whether its elements lie in column-major order.
pub(super) fn joblib_type(graph: &Graph, node: NodeId) -> Option<(NodeId, bool)> {
    let Node::Dict(entries) = graph.node(state_of(graph, node)?) else { return None };
    let dtype = entries.iter().find(|entry| graph.str(entry.key).as_deref() == Some("dtype"))?.value;
    Some((dtype, wrapper(graph, node)?.column_major))
}

/// An array that joblib left in the stream.
pub(super) fn joblib_array(graph: &Graph, node: NodeId) -> Option<Tensor> {
    let found = wrapper(graph, node)?;
    let (stream, at, len) = graph.inline_bytes(node)?;
    let source: SharedSource = Arc::new(Window::new(Arc::clone(graph.stream(stream)?), at, len).ok()?);
    let byte_order = found.kind.byte_order;
    let tensor = array(graph, found.kind, found.shape, found.column_major, None);
    Some(Tensor { data: Data::Array { source, byte_order }, ..tensor })
}

/// Tells the decoder of joblib's arrays.
#[derive(Debug, Clone, Copy)]
pub struct Joblib;

impl Inline for Joblib {
    fn after_build(&self, graph: &Graph, object: NodeId, source: &SharedSource, position: u64) -> Result<Follows> {
        let Some(found) = wrapper(graph, object) else { return Ok(Follows::Opcodes) };
        if found.kind.is_object {
            return Ok(Follows::Pickle);
        }
        let tensor = array(graph, found.kind, found.shape, found.column_major, None);
        let len = tensor.bytes().unwrap_or(u64::MAX);
        let mut padding = [0];
        if found.aligned {
            source.read_at(position, &mut padding)?;
        }
        Ok(Follows::Bytes { padding: u64::from(padding[0]) + u64::from(found.aligned), len })
    }
}
