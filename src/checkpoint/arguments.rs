//! Arguments of torch's constructors that are read on their own: dtypes, devices, layouts, sizes.

use crate::checkpoint::tensor::{Extents, STRIDED};
use crate::dtype::DType;
use crate::pickle::{Graph, NodeId};

/// Dimensions beyond this are no tensor's: torch itself stops at 64 wherever it computes.
const MAX_DIMS: usize = 1024;

const LAYOUTS: &[&str] =
    &[STRIDED, "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "jagged", "_mkldnn"];

/// The dtype that a node names: `torch.float32`, or a storage class.
pub(crate) fn torch_dtype(graph: &Graph, node: NodeId) -> Option<DType> {
    let (module, name) = graph.global(node)?;
    if name.ends_with("Storage") {
        return Some(DType::from_storage_class(&name));
    }
    (module == "torch").then(|| DType::from_torch_name(&name).unwrap_or_else(|| DType::other(&name, None)))
}

/// `torch.device(type[, index])` or a string, as torch prints it.
pub(super) fn device_name(graph: &Graph, node: NodeId) -> Option<String> {
    if let Some(text) = graph.str_or_bytes(node) {
        return Some(text.into_owned());
    }
    let args = graph.sequence(graph.object(node)?.args)?;
    let kind = graph.str_or_bytes(*args.first()?)?;
    Some(match args.get(1).and_then(|index| graph.int(*index)) {
        Some(index) => format!("{kind}:{index}"),
        None => kind.into_owned(),
    })
}

/// The layout that a node names: `torch.strided`, or torch's `_get_layout(name)`.
pub(super) fn layout_name(graph: &Graph, node: NodeId) -> &'static str {
    let name = match graph.object(node) {
        Some(object) => graph.sequence(object.args).and_then(|args| graph.str_or_bytes(*args.first()?)),
        None => graph.global(node).map(|(_, name)| name),
    };
    let name = name.unwrap_or_default();
    let bare = name.strip_prefix("torch.").unwrap_or(&name);
    LAYOUTS.iter().find(|known| **known == bare).unwrap_or(&"sparse")
}

/// Sizes or strides: a tuple, a list or a `torch.Size` of integers.
pub(crate) fn sizes(graph: &Graph, node: NodeId) -> Option<Extents> {
    let items = match graph.object(node) {
        Some(object) => graph.sequence(*graph.sequence(object.args)?.first()?)?,
        None => graph.sequence(node)?,
    };
    items.get(..=MAX_DIMS).is_none().then(|| items.iter().map(|item| graph.int_saturating(*item)).collect()).flatten()
}
