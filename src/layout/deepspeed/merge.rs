//! The weights of all ranks put together, in the order and under the names of `deepspeed/utils/zero_to_fp32.py`: buffers,
//! frozen parameters, trained ones, then what shares its elements with one of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::flats::Flats;
use super::model::{CONSUMED, Described};
use super::optimizer::Rank;
use super::partition::{self, Place};
use super::placing::{self, counted};
use super::reading::{Flat, Shapes, becomes_several, named, value, wrong};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::data::recast::Recast;
use crate::dtype::{Class, DType, Known};
use crate::error::Result;
use crate::layout::spelled::spelled;
use crate::pickle::{NodeId, Pair};

/// The weights in the making.
pub(super) struct Merge {
    /// Rank 0's `*_model_states.pt`, which becomes the checkpoint.
    checkpoint: Checkpoint,
    file: Arc<str>,
    described: Described,
    /// What rank 0's file calls the module, by name.
    module: Vec<(String, NodeId)>,
    weights: Vec<(String, NodeId)>,
    places: HashMap<String, usize>,
    notes: Vec<String>,
}

impl Merge {
    /// Begins with the file of rank 0.
    pub(crate) fn new(file: &str, checkpoint: Checkpoint, described: Described) -> Result<Self> {
        let module = value(checkpoint.objects(), checkpoint.root, "module");
        let module = module.and_then(|module| named(checkpoint.objects(), module));
        let module = module.ok_or_else(|| match described.groups {
            Some(_) => wrong(file, "has no module: it is of a pipeline, whose layers are not put together"),
            None => wrong(file, "has no module, nor shapes of parameters"),
        })?;
        Ok(Merge {
            checkpoint,
            file: file.into(),
            described,
            module,
            weights: Vec::new(),
            places: HashMap::new(),
            notes: Vec::new(),
        })
    }

    /// Puts a tensor under a name that nothing else has.
    fn add(&mut self, name: &str, node: NodeId) -> Result<()> {
        match self.places.entry(name.to_owned()) {
            Entry::Occupied(_) => Err(wrong(&self.file, format_args!("has two tensors of the name {name}"))),
            Entry::Vacant(place) => {
                place.insert(self.weights.len());
                self.weights.push((name.to_owned(), node));
                Ok(())
            }
        }
    }

    fn get(&self, name: &str) -> Option<NodeId> {
        self.places.get(name).and_then(|place| self.weights.get(*place)).map(|(_, node)| *node)
    }

    fn tensor(&self, node: NodeId) -> Option<&Tensor> {
        self.checkpoint.tensor(self.checkpoint.tensors.of(node)?)
    }

    /// The module's buffers, the floating ones in float32.
    pub(crate) fn buffers(&mut self) -> Result<()> {
        let names: std::collections::HashSet<String> = self.described.buffers.iter().cloned().collect();
        let float32 = DType::from(Known::Float32);
        let mut cast: HashMap<NodeId, NodeId> = HashMap::new();
        let mut names_of_cast = Vec::new();
        for (name, node) in self.module.clone().into_iter().filter(|(name, _)| names.contains(name)) {
            let Some(tensor) = self.tensor(node) else {
                return Err(wrong(&self.file, format_args!("its buffer {name} is no tensor")));
            };
            let is_other = |dtype: &DType| dtype.class() == Some(Class::Float) && *dtype != float32;
            let node = if tensor.dtype.as_ref().is_some_and(is_other) && tensor.problem.is_none() {
                names_of_cast.push(name.clone());
                match cast.get(&node) {
                    Some(known) => *known,
                    None => {
                        let storages = tensor.storage().into_iter().collect();
                        let elements = tensor.readable(&self.checkpoint.storages)?;
                        let (elements, _) = Recast::over(elements, &float32, &self.checkpoint.limits)?;
                        let new = self.checkpoint.add_tensor_of(elements, storages)?;
                        cast.insert(node, new);
                        new
                    }
                }
            } else {
                node
            };
            self.add(&name, node)?;
        }
        if !names_of_cast.is_empty() {
            let names = spelled(&names_of_cast);
            self.notes.push(format!("buffers in float32, as DeepSpeed's zero_to_fp32 gives them: {names}"));
        }
        Ok(())
    }

    /// Frozen parameters that lie whole in the file of rank 0.
    pub(crate) fn frozen_whole(&mut self) -> Result<()> {
        let nodes: HashMap<String, NodeId> = self.described.fragments.iter().cloned().collect();
        for (name, shape) in self.described.frozen.clone() {
            let node = nodes.get(&name).copied();
            let found = node.and_then(|node| self.tensor(node)).map(|tensor| &tensor.shape);
            match (node, found) {
                (Some(node), Some(found)) if *found == shape => self.add(&name, node)?,
                (_, Some(found)) => {
                    let message =
                        format!("the frozen {name} is of shape {found:?} where its shape is said to be {shape:?}");
                    return Err(wrong(&self.file, message));
                }
                (_, None) => return Err(wrong(&self.file, format_args!("the frozen {name} has no fragment"))),
            }
        }
        Ok(())
    }

    /// Frozen parameters of which each rank has a part: `parts` are those by rank, in the order of the shapes.
    pub(crate) fn frozen_parts(&mut self, parts: Vec<(Arc<str>, Vec<Flat>)>) -> Result<()> {
        let (shapes, ranks) = (self.described.frozen.clone(), parts.len());
        let mut by_rank: Vec<(Arc<str>, std::vec::IntoIter<Flat>)> =
            parts.into_iter().map(|(file, flats)| (file, flats.into_iter())).collect();
        for (name, shape) in shapes {
            let elements = counted(&self.file, &name, &shape)?;
            let part = partition::part_of(elements, ranks);
            let mut flats = Vec::with_capacity(ranks);
            for (file, rest) in &mut by_rank {
                let flat = rest.next().ok_or_else(|| wrong(file, format_args!("has no fragment of {name}")))?;
                if flat.len() != part {
                    let has = flat.len();
                    return Err(wrong(
                        file,
                        format_args!(
                            "has {has} elements of the frozen {name}, where a rank's part of {shape:?} is {part}"
                        ),
                    ));
                }
                flats.push((Arc::clone(file), vec![flat]));
            }
            let flats = Flats::taken_in(&mut self.checkpoint, flats)?;
            let places = partition::of_all(&[elements], &[part], ranks);
            let places = places.map_err(|what| wrong(&self.file, format_args!("the frozen {name} {what}")))?;
            for places in places {
                self.joined(&name, &shape, &flats, &places)?;
            }
        }
        Ok(())
    }

    /// The trained parameters, out of every rank's flat weights.
    pub(crate) fn trained(&mut self, ranks: Vec<Rank>) -> Result<()> {
        let groups: Vec<Shapes> = self.described.groups.clone().unwrap_or_default();
        let Some(first) = ranks.first() else { return Ok(()) };
        let places = match first.stage {
            3 => vec![placing::of_all(&self.file, &groups, &ranks)?],
            _ => placing::of_groups(&self.file, &groups, &ranks)?,
        };
        let names = match first.stage {
            3 => vec![groups.concat()],
            _ => groups,
        };
        for (group, places) in names.iter().zip(&places).filter(|_| self.described.slices_are_places) {
            for ((name, _), places) in group.iter().zip(places) {
                for place in places {
                    ranks.get(place.rank).map_or(Ok(()), |rank| rank.holds(name, place))?;
                }
            }
        }
        let flats = ranks.into_iter().map(|rank| (rank.file, rank.groups)).collect();
        let flats = Flats::taken_in(&mut self.checkpoint, flats)?;
        for (group, places) in names.into_iter().zip(places) {
            for ((name, shape), places) in group.iter().zip(places) {
                self.joined(name, shape, &flats, &places)?;
            }
        }
        Ok(())
    }

    /// Adds the tensor that lies in these places, one after the other.
    fn joined(&mut self, name: &str, shape: &[i64], flats: &Flats, places: &[Place]) -> Result<()> {
        let (elements, storages) = flats.joined(name, shape, places)?;
        let node = self.checkpoint.add_tensor_of(elements, storages)?;
        self.add(name, node)
    }

    /// Names that share the elements of others.
    pub(crate) fn shared(&mut self) {
        let pairs = match self.described.shared.take() {
            Some(pairs) => pairs,
            None => self.shared_by_storage(),
        };
        for (name, other) in pairs {
            let Some(node) = self.get(&other) else { continue };
            match self.places.get(&name).and_then(|place| self.weights.get_mut(*place)) {
                Some((_, known)) => *known = node,
                None => {
                    self.places.insert(name.clone(), self.weights.len());
                    self.weights.push((name, node));
                }
            }
        }
    }

    /// What old files do not say: module entries that are the same part of the same storage as a parameter.
    fn shared_by_storage(&self) -> Vec<(String, String)> {
        let view = |node: NodeId| self.tensor(node).filter(|tensor| tensor.numel() != Some(0)).and_then(Tensor::view);
        let mut known = HashMap::new();
        for (name, node) in self.module.iter().filter(|(name, _)| self.get(name).is_some()) {
            if let Some(view) = view(*node) {
                known.entry(view).or_insert(name);
            }
        }
        let others = self.module.iter().filter(|(name, _)| self.get(name).is_none());
        others.filter_map(|(name, node)| Some((name.clone(), (*known.get(&view(*node)?)?).clone()))).collect()
    }

    /// What else the module holds: with stages 1 and 2 whole, and with stage 3 nothing where its elements should be.
    pub(crate) fn others(&mut self, stage: i64) -> Result<()> {
        let mut whole = Vec::new();
        for (name, node) in self.module.clone() {
            if self.get(&name).is_some() {
                continue;
            }
            let is_placeholder = stage == 3 && self.tensor(node).is_some_and(|tensor| tensor.numel() == Some(0));
            let mut node = node;
            if is_placeholder {
                node = self.checkpoint.add_problem("the files do not say how it was partitioned")?;
            } else if self.tensor(node).is_some() {
                whole.push(name.clone());
            }
            self.add(&name, node)?;
        }
        if !whole.is_empty() {
            let names = spelled(&whole);
            self.notes
                .push(format!("as the module has them, no optimizer does (zero_to_fp32 leaves them out): {names}"));
        }
        Ok(())
    }

    /// The checkpoint: the weights as its module, and what else the file of rank 0 says.
    pub(crate) fn finish(self) -> Result<Checkpoint> {
        let Merge { mut checkpoint, weights, notes, .. } = self;
        let mut entries = Vec::with_capacity(weights.len());
        for (name, node) in weights {
            entries.push(Pair { key: checkpoint.graph.push_str(&name)?, value: node, key_at: 0 });
        }
        let module = checkpoint.graph.push_dict(entries)?;
        let mut top = Vec::new();
        for item in checkpoint.objects().items(checkpoint.root).unwrap_or_default() {
            let key = checkpoint.graph.str_or_bytes(item.key);
            if key.as_deref() == Some("module") {
                top.push(Pair { value: module, key_at: 0, ..item });
            } else if key.is_none_or(|key| !CONSUMED.contains(&key.as_ref())) {
                top.push(Pair { key_at: 0, ..item });
            }
        }
        checkpoint.root = checkpoint.graph.push_dict(top)?;
        becomes_several(&mut checkpoint);
        checkpoint.notes.extend(notes);
        Ok(checkpoint)
    }
}
