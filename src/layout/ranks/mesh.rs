//! Meshes of processes, as DTensors name them.
//!
//! Source: `torch/distributed/device_mesh.py` (2.1 to 2.15), `torch/distributed/_mesh_layout.py`.

use crate::checkpoint::object::Objects;
use crate::pickle::{Graph, NodeId};

/// A mesh of processes as one of them saw it.
#[derive(Debug)]
pub(super) struct Mesh {
    pub sizes: Vec<u64>,
    /// Where the process is in it; nothing for one that is not.
    pub coordinate: Option<Vec<u64>>,
    /// The process.
    pub rank: Option<u64>,
}

/// A tuple, a list or a `torch.Size` of numbers that are not negative.
pub(super) fn integers(objects: Objects<'_>, node: NodeId) -> Option<Vec<u64>> {
    let number = |item: &NodeId| u64::try_from(objects.graph.int(*item)?).ok();
    let items = match objects.graph.object(node) {
        // torch.Size
        Some(_) => objects.graph.sequence(*objects.args(node).first()?)?,
        None => objects.graph.sequence(node)?,
    };
    items.iter().map(number).collect()
}

impl Mesh {
    pub(crate) fn read(objects: Objects<'_>, node: NodeId) -> Result<Self, String> {
        let attribute = |name: &str| objects.attribute(node, name).filter(|value| *value != Graph::NONE);
        let sizes = attribute("mesh").and_then(|mesh| of_tensor(objects, mesh));
        let sizes = sizes.or_else(|| of_layout(objects, attribute("_layout")?));
        let sizes = sizes.ok_or("lies on a mesh that does not say how large it is")?;
        let coordinate = attribute("_coordinate_on_dim").map(|at| integers(objects, at));
        let coordinate = match (coordinate, objects.attribute(node, "_coordinate_on_dim")) {
            (Some(Some(at)), _) => Some(at),
            // a process outside the mesh
            (None, Some(_)) => None,
            _ => return Err("lies on a mesh that does not say where its process is".into()),
        };
        if let Some(at) = &coordinate
            && (at.len() != sizes.len() || at.iter().zip(&sizes).any(|(at, size)| at >= size))
        {
            return Err(format!("lies at {at:?} of a mesh of {sizes:?}"));
        }
        let said = attribute("_rank").and_then(|rank| u64::try_from(objects.graph.int(rank)?).ok());
        let listed = || {
            let ranks = integers(objects, attribute("_flatten_mesh_list")?)?;
            let at = coordinate
                .as_ref()?
                .iter()
                .zip(&sizes)
                .fold(0, |place: u64, (at, size)| place.saturating_mul(*size).saturating_add(*at));
            ranks.get(usize::try_from(at).ok()?).copied()
        };
        let rank = said.or_else(listed);
        Ok(Mesh { sizes, coordinate, rank })
    }
}

/// The shape of the tensor of ranks that a mesh was until torch 2.9.
fn of_tensor(objects: Objects<'_>, node: NodeId) -> Option<Vec<u64>> {
    let tensor = objects.tensors.get(objects.tensors.of(node)?)?;
    tensor.shape.iter().map(|size| u64::try_from(*size).ok()).collect()
}

/// `_MeshLayout(axes)`, each `_FlatLayout(shape, stride)`; before, of `shape` and `stride` with a number or nested ones for
/// each dimension.
fn of_layout(objects: Objects<'_>, node: NodeId) -> Option<Vec<u64>> {
    if let Some(axes) = objects.attribute(node, "axes") {
        let axes = objects.graph.sequence(axes)?.iter();
        return axes.map(|axis| product(objects, objects.attribute(*axis, "shape")?)).collect();
    }
    let shape = objects.attribute(node, "shape")?;
    match objects.graph.sequence(shape) {
        Some(dims) => dims.iter().map(|dim| product(objects, *dim)).collect(),
        None => Some(vec![product(objects, shape)?]),
    }
}

/// The product of a number, or of numbers nested a little.
fn product(objects: Objects<'_>, node: NodeId) -> Option<u64> {
    let (mut open, mut product, mut looked_at) = (vec![node], 1u64, 0);
    while let Some(node) = open.pop() {
        looked_at += 1;
        if looked_at > 1024 {
            return None;
        }
        match objects.graph.sequence(node) {
            Some(items) => open.extend(items.iter().copied()),
            None => product = product.checked_mul(u64::try_from(objects.graph.int(node)?).ok()?)?,
        }
    }
    Some(product)
}
