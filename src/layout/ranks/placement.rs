//! What a rank's own tensor says of the whole it is a part of: DTensors with their mesh and placements, ShardedTensors with
//! their shards.
//!
//! Sources: `torch/distributed/tensor/_api.py`, `_dtensor_spec.py`, `placement_types.py` (2.1 to 2.15),
//! `torch/distributed/_shard/sharded_tensor/api.py`.

use std::collections::HashMap;
use std::rc::Rc;

use super::cut::Pieces;
use super::mesh::{Mesh, integers};
use crate::checkpoint::object::Objects;
use crate::checkpoint::{Checkpoint, TensorId};
use crate::pickle::{Graph, NodeId};

/// How a tensor lies in the files of several ranks.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// Nothing is said: a tensor like any other.
    Plain(TensorId),
    /// Parts of a whole: for each, what of every dimension it is, and its tensor.
    Placed {
        /// The sizes of the mesh of ranks.
        mesh: Vec<u64>,
        /// Of the whole.
        shape: Vec<u64>,
        held: Vec<(Vec<Pieces>, TensorId)>,
        /// The same, where what the file says may mean something else too.
        or_else: Option<Vec<Pieces>>,
    },
}

/// Reads the tensors of one rank's file.
pub(super) struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    objects: Objects<'a>,
    meshes: HashMap<NodeId, Result<Rc<Mesh>, String>>,
    /// Which rank the file's tensors say it is of, once one of them does, and of how many.
    pub rank: Option<u64>,
    pub world: Option<u64>,
    /// How many ranks the largest mesh has.
    pub mesh_ranks: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(checkpoint: &'a Checkpoint) -> Self {
        Reader {
            checkpoint,
            objects: checkpoint.objects(),
            meshes: HashMap::new(),
            rank: None,
            world: None,
            mesh_ranks: 0,
        }
    }

    /// What is said of the tensor that `node` is. The error says why its part of the whole is not known.
    pub(crate) fn part(&mut self, node: NodeId, id: TensorId) -> Result<Part, String> {
        let Some(id) = self.inner(node, id) else { return Ok(Part::Plain(id)) };
        let Some(tensor) = self.checkpoint.tensor(id) else { return Ok(Part::Plain(id)) };
        let Some(state) = tensor.state else { return Ok(Part::Plain(id)) };
        let extent = |size: &i64| u64::try_from(*size).map_err(|_| format!("has a negative size ({size})"));
        let shape = || tensor.shape.iter().map(extent).collect::<Result<Vec<u64>, String>>();
        match tensor.class.as_deref() {
            Some("DTensor") => self.of_mesh(state, shape()?),
            Some("ShardedTensor") => self.of_shards(state, shape()?),
            _ => Ok(Part::Plain(id)),
        }
    }

    /// The tensor that a parameter is made of, where that says more than the parameter does.
    fn inner(&self, node: NodeId, id: TensorId) -> Option<TensorId> {
        let class = self.checkpoint.tensor(id)?.class.as_deref();
        if !matches!(class, Some("DTensor" | "ShardedTensor")) {
            return None;
        }
        match self.objects.args(node) {
            [data, ..] => match self.checkpoint.tensors.of(*data) {
                Some(inner) if self.checkpoint.tensor(inner)?.class.as_deref() == class => Some(inner),
                _ => Some(id),
            },
            [] => Some(id),
        }
    }

    fn of_mesh(&mut self, state: NodeId, shape: Vec<u64>) -> Result<Part, String> {
        let objects = self.objects;
        let local = self.of_state(state, "_local_tensor").and_then(|local| self.checkpoint.tensors.of(local));
        let local = local.ok_or("is a DTensor without a local tensor")?;
        let spec = self.of_state(state, "_spec").ok_or("is a DTensor that does not say how it is placed")?;
        let attribute = |name: &str| objects.attribute(spec, name).filter(|value| *value != Graph::NONE);
        let placements = attribute("placements").and_then(|placements| objects.graph.sequence(placements));
        let (Some(placements), Some(mesh)) = (placements, attribute("mesh")) else {
            return Err("is a DTensor that does not say how it is placed".into());
        };
        let read = self.meshes.entry(mesh).or_insert_with(|| Mesh::read(objects, mesh).map(Rc::new));
        let mesh = Rc::clone(read.as_ref().map_err(Clone::clone)?);
        self.rank = self.rank.or(mesh.rank);
        self.mesh_ranks = self.mesh_ranks.max(mesh.sizes.iter().fold(1, |all, size| size.saturating_mul(all)));
        if placements.len() != mesh.sizes.len() {
            return Err(format!("has {} placements on a mesh of {:?}", placements.len(), mesh.sizes));
        }
        let placements = placements.iter().map(|placement| Placement::read(objects, *placement, shape.len()));
        let placements = placements.collect::<Result<Vec<_>, String>>()?;
        let sizes = mesh.sizes.clone();
        let Some(coordinate) = &mesh.coordinate else {
            return Ok(Part::Placed { mesh: sizes, shape, held: Vec::new(), or_else: None });
        };
        let order = match attribute("shard_order") {
            Some(order) => Some(read_order(objects, order).ok_or("has a shard_order that cannot be read")?),
            None => None,
        };
        let strides_are_order = attribute("use_strided_shard_as_shard_order").and_then(|is| objects.graph.bool(is));
        let (mesh, placements) = (mesh.sizes.as_slice(), placements.as_slice());
        let placed = Placed { shape: &shape, mesh, placements, order, strides_are_order };
        let (pieces, or_else) = placed.pieces(coordinate)?;
        Ok(Part::Placed { mesh: sizes, shape, held: vec![(pieces, local)], or_else })
    }

    fn of_shards(&mut self, state: NodeId, shape: Vec<u64>) -> Result<Part, String> {
        let objects = self.objects;
        let broken = || "is a ShardedTensor that does not say what it is made of".to_owned();
        let Some([shards, _, group, ..]) = objects.graph.sequence(state) else { return Err(broken()) };
        let said = |name: &str| u64::try_from(objects.graph.int(objects.attribute(*group, name)?)?).ok();
        self.rank = self.rank.or(said("global_rank"));
        self.world = self.world.or(said("global_world_size"));
        let mesh = said("local_world_size").into_iter().collect();
        let mut held = Vec::new();
        for shard in objects.elements(*shards).ok_or_else(broken)? {
            let tensor = objects.attribute(shard, "tensor").and_then(|tensor| self.checkpoint.tensors.of(tensor));
            let metadata = objects.attribute(shard, "metadata");
            let numbers = |name: &str| integers(objects, objects.attribute(metadata?, name)?);
            let (Some(tensor), Some(offsets), Some(sizes)) = (tensor, numbers("shard_offsets"), numbers("shard_sizes"))
            else {
                return Err(broken());
            };
            if offsets.len() != shape.len() || sizes.len() != shape.len() {
                return Err(format!("has a shard of shape {sizes:?} at {offsets:?}, outside its shape {shape:?}"));
            }
            held.push((offsets.iter().zip(&sizes).map(|(at, len)| Pieces::range(*at, *len)).collect(), tensor));
        }
        Ok(Part::Placed { mesh, shape, held, or_else: None })
    }

    /// A key of the dict that a DTensor's state is.
    fn of_state(&self, state: NodeId, name: &str) -> Option<NodeId> {
        let graph = self.objects.graph;
        let dicts = graph.tuple(state).map_or_else(|| vec![state], <[NodeId]>::to_vec);
        let entries = dicts.iter().filter_map(|dict| self.objects.items(*dict)).flatten();
        entries.filter(|entry| graph.str(entry.key).as_deref() == Some(name)).map(|entry| entry.value).last()
    }
}

/// How a tensor is placed along one dimension of a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Placement {
    Replicate,
    Shard(usize),
    Strided { dim: usize, factor: u64 },
}

impl Placement {
    fn read(objects: Objects<'_>, node: NodeId, dims: usize) -> Result<Self, String> {
        let class = objects.class_name(node).unwrap_or_default();
        let number = |name: &str| objects.attribute(node, name).and_then(|value| objects.graph.int(value));
        let dim = || {
            let said = number("dim").ok_or_else(|| format!("has a {class} without a dimension"))?;
            let dims = i64::try_from(dims).unwrap_or(i64::MAX);
            let dim = usize::try_from(if said < 0 { said.saturating_add(dims) } else { said });
            dim.ok().filter(|_| said < dims).ok_or_else(|| format!("has a {class}({said}) and {dims} dimensions"))
        };
        Ok(match class.as_str() {
            "Replicate" => Placement::Replicate,
            "Shard" => Placement::Shard(dim()?),
            "_StridedShard" => {
                let factor = number("split_factor").and_then(|factor| u64::try_from(factor).ok());
                let factor = factor.filter(|factor| *factor > 0).ok_or("has a _StridedShard without a split_factor")?;
                Placement::Strided { dim: dim()?, factor }
            }
            name if name.contains("Partial") => {
                return Err(format!(
                    "is placed as {name}: each rank holds a term of a sum, which only the job can add up \
                     (redistribute it before it is saved)"
                ));
            }
            "" => return Err("has a placement that is not known".into()),
            name => return Err(format!("is placed as {name}, which is not known")),
        })
    }

    fn dim(&self) -> Option<usize> {
        match self {
            Placement::Replicate => None,
            Placement::Shard(dim) | Placement::Strided { dim, .. } => Some(*dim),
        }
    }
}

/// For dimensions of the tensor, those of the mesh in the order in which they cut it.
type Order = Vec<(u64, Vec<u64>)>;

/// A DTensor's placements on its mesh.
struct Placed<'a> {
    shape: &'a [u64],
    mesh: &'a [u64],
    placements: &'a [Placement],
    /// `shard_order`, where torch wrote it (2.10).
    order: Option<Order>,
    /// `use_strided_shard_as_shard_order`, where torch wrote it.
    strides_are_order: Option<bool>,
}

impl Placed<'_> {
    /// What the process at `coordinate` has of each dimension. What is strided is a way to write down an order of cuts; torch
    /// itself also cuts by it as it stands, which is not the same where it does not come out even: then both are given.
    fn pieces(&self, coordinate: &[u64]) -> Result<(Vec<Pieces>, Option<Vec<Pieces>>), String> {
        if !self.placements.iter().any(|placement| matches!(placement, Placement::Strided { .. })) {
            return Ok((self.cut(coordinate, self.order.as_ref())?, None));
        }
        let literal = self.cut(coordinate, None)?;
        Ok(match self.order_of_strides().filter(|_| self.strides_are_order != Some(false)) {
            Some(order) => (self.cut(coordinate, Some(&order))?, Some(literal)),
            None => (literal, None),
        })
    }

    /// Cuts from left to right, or as `order` says: then what is strided is a shard like others.
    fn cut(&self, coordinate: &[u64], order: Option<&Order>) -> Result<Vec<Pieces>, String> {
        let mut all: Vec<Pieces> = self.shape.iter().map(|extent| Pieces::whole(*extent)).collect();
        for (dim, pieces) in all.iter_mut().enumerate() {
            let cuts = |at: &u64| self.placement(*at).and_then(Placement::dim) == Some(dim);
            let mut sequence: Vec<u64> = (0..self.placements.len() as u64).filter(cuts).collect();
            let said = order.and_then(|order| order.iter().find(|(said, _)| usize::try_from(*said) == Ok(dim)));
            if let Some((_, said)) = said {
                let mut sorted = said.clone();
                sorted.sort_unstable();
                if sorted != sequence {
                    return Err(format!("has a shard_order that does not fit its placements in dimension {dim}"));
                }
                sequence.clone_from(said);
            }
            for at in sequence {
                let place = usize::try_from(at).unwrap_or(usize::MAX);
                let (Some(of), Some(number)) = (self.mesh.get(place), coordinate.get(place)) else { continue };
                *pieces = match self.placement(at) {
                    Some(Placement::Strided { factor, .. }) if order.is_none() => {
                        pieces.strided(*number, *of, *factor)?
                    }
                    Some(Placement::Shard(_) | Placement::Strided { .. }) => pieces.chunk(*number, *of),
                    Some(Placement::Replicate) | None => continue,
                };
            }
        }
        Ok(all)
    }

    fn placement(&self, at: u64) -> Option<&Placement> {
        self.placements.get(usize::try_from(at).ok()?)
    }

    /// The order that split factors stand for, where they stand for one
    /// (`DTensorSpec._maybe_convert_StridedShard_to_shard_order`).
    fn order_of_strides(&self) -> Option<Order> {
        let mut order: Order = Vec::new();
        for (at, placement) in self.placements.iter().enumerate().rev() {
            let Some(dim) = placement.dim() else { continue };
            let factor = if let Placement::Strided { factor, .. } = placement { *factor } else { 1 };
            let dim = dim as u64;
            if !order.iter().any(|(known, _)| *known == dim) {
                order.push((dim, Vec::new()));
            }
            let (_, sequence) = order.iter_mut().find(|(known, _)| *known == dim)?;
            let mut before = 1u64;
            let mut place = 0;
            while before != factor {
                let mesh_dim = usize::try_from(*sequence.get(place)?).ok()?;
                before = before.checked_mul(*self.mesh.get(mesh_dim)?)?;
                place += 1;
            }
            sequence.insert(place, at as u64);
        }
        Some(order)
    }
}

/// `(ShardOrderEntry(tensor_dim, mesh_dims), …)`.
fn read_order(objects: Objects<'_>, node: NodeId) -> Option<Order> {
    let entry = |entry: &NodeId| {
        let parts = objects.graph.sequence(*entry).unwrap_or_else(|| objects.args(*entry));
        let [dim, sequence] = parts else { return None };
        Some((u64::try_from(objects.graph.int(*dim)?).ok()?, integers(objects, *sequence)?))
    };
    objects.graph.sequence(node)?.iter().map(entry).collect()
}
