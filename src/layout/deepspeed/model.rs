//! `*_model_states.pt`: what the parameters are called and how large they are, and whatever is no parameter.

use super::reading::{Flat, Shapes, count, named, number, shapes, value, wrong};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::object::Objects;
use crate::checkpoint::tensor::Extents;
use crate::error::{Error, Result};
use crate::pickle::NodeId;

/// The keys of a file that say how its weights are put together, and mean nothing once they are.
pub(super) const CONSUMED: [&str; 6] =
    ["module", "buffer_names", "param_shapes", "frozen_param_shapes", "frozen_param_fragments", "shared_params"];

/// What one file says of the weights.
#[derive(Debug)]
pub(super) struct Described {
    /// The trained parameters of each group, in the order of their elements; nothing where no optimizer is partitioned.
    pub groups: Option<Vec<Shapes>>,
    pub frozen: Shapes,
    /// The frozen parameters' elements, or one rank's part of them.
    pub fragments: Vec<(String, NodeId)>,
    pub buffers: Vec<String>,
    /// Names that stand for others; nothing where the file does not say (before DeepSpeed 0.9.3).
    pub shared: Option<Vec<(String, String)>>,
    /// Whether `param_slice_mappings` say where elements lie. With `round_robin_gradients` they do not: DeepSpeed makes them
    /// of another order than that of the elements.
    pub slices_are_places: bool,
    /// Numbers that all ranks have to agree on.
    pub agreed: Vec<(&'static str, Option<i64>)>,
}

/// What all ranks' files say alike.
const AGREED: [&str; 4] = ["global_steps", "global_samples", "skipped_steps", "dp_world_size"];

impl Described {
    /// Reads a file's top object.
    pub(crate) fn read(file: &str, objects: Objects<'_>, root: NodeId) -> Result<Self> {
        if objects.items(root).is_none() {
            return Err(wrong(file, "holds no dict"));
        }
        let get = |key: &str| value(objects, root, key);
        let bad = |key: &str| wrong(file, format_args!("its {key} cannot be read"));
        let groups = get("param_shapes").map(|list| {
            let groups = objects.elements(list).ok_or_else(|| bad("param_shapes"))?;
            groups.into_iter().map(|group| shapes(objects, group).ok_or_else(|| bad("param_shapes"))).collect()
        });
        let dict = |key: &str| match get(key) {
            Some(dict) => named(objects, dict).ok_or_else(|| bad(key)),
            None => Ok(Vec::new()),
        };
        let buffers = match get("buffer_names") {
            Some(list) => {
                let names = objects.elements(list).ok_or_else(|| bad("buffer_names"))?;
                let names = names.iter().map(|name| objects.graph.str_or_bytes(*name).map(|name| name.into_owned()));
                names.collect::<Option<_>>().ok_or_else(|| bad("buffer_names"))?
            }
            None => Vec::new(),
        };
        let shared = get("shared_params").map(|dict| {
            let pairs = named(objects, dict).ok_or_else(|| bad("shared_params"))?;
            let name = |node| objects.graph.str_or_bytes(node).map(|name| name.into_owned());
            let pairs = pairs.into_iter().map(|(other, node)| name(node).map(|name| (other, name)));
            pairs.collect::<Option<Vec<_>>>().ok_or_else(|| bad("shared_params"))
        });
        for key in ["ds_autoep_layers", "autoep_layers"] {
            if get(key).and_then(|list| objects.elements(list)).is_some_and(|layers| !layers.is_empty()) {
                let message = format!("{file}: has expert-parallel layers ({key}), whose parts are not put together");
                return Err(Error::unsupported(message));
            }
        }
        if let Some(ranks) = get("mp_world_size").and_then(|node| number(objects, node)).filter(|ranks| *ranks > 1) {
            let message = format!("{file}: is one of {ranks} tensor-parallel parts, which are not put together");
            return Err(Error::unsupported(message));
        }
        Ok(Described {
            groups: groups.transpose()?,
            frozen: match get("frozen_param_shapes") {
                Some(dict) => shapes(objects, dict).ok_or_else(|| bad("frozen_param_shapes"))?,
                None => Vec::new(),
            },
            fragments: dict("frozen_param_fragments")?,
            buffers,
            shared: shared.transpose()?,
            slices_are_places: get("ds_config").and_then(|config| {
                let round_robin = value(objects, value(objects, config, "zero_optimization")?, "round_robin_gradients");
                Some(round_robin.is_none_or(|set| objects.graph.bool(set) == Some(false)))
            }) == Some(true),
            agreed: AGREED.iter().map(|key| (*key, get(key).and_then(|node| number(objects, node)))).collect(),
        })
    }

    /// Fails where another rank's file says something else.
    pub(crate) fn agrees(&self, file: &str, other: &Described, others: &str) -> Result<()> {
        for ((key, here), (_, there)) in self.agreed.iter().zip(&other.agreed) {
            if let (Some(here), Some(there)) = (here, there)
                && here != there
            {
                return Err(wrong(others, format_args!("its {key} is {there}, and that of {file} is {here}")));
            }
        }
        let names = |described: &Described| described.groups.as_ref().map(Vec::len);
        if names(self) != names(other) {
            return Err(wrong(others, format_args!("its param_shapes are other groups than those of {file}")));
        }
        let both = |described: &Described| -> Shapes {
            described.groups.iter().flatten().flatten().chain(&described.frozen).cloned().collect()
        };
        let (here, there) = (both(self), both(other));
        if here.len() != there.len() {
            let (here, there) = (here.len(), there.len());
            return Err(wrong(others, format_args!("has {there} parameters, and {file} has {here}")));
        }
        if let Some(((name, here), (other, there))) = here.iter().zip(&there).find(|(here, there)| here != there) {
            return Err(wrong(
                others,
                format_args!("has {other} of shape {there:?} where {file} has {name} of shape {here:?}"),
            ));
        }
        Ok(())
    }

    /// The parts of the frozen parameters that lie in one rank's file, in the order of their shapes.
    pub(crate) fn frozen_parts(&self, file: &str, checkpoint: &Checkpoint) -> Result<Vec<Flat>> {
        let nodes: std::collections::HashMap<&str, NodeId> =
            self.fragments.iter().map(|(name, node)| (name.as_str(), *node)).collect();
        let part = |(name, shape): &(String, Extents)| {
            let bad = |what: String| wrong(file, format_args!("the frozen {name} {what}"));
            let node = nodes.get(name.as_str()).ok_or_else(|| bad("has no fragment".into()))?;
            let flat = Flat::of(checkpoint, *node).map_err(bad)?;
            match count(shape) {
                Some(_) => Ok(flat),
                None => Err(bad(format!("has a shape of too many elements: {shape:?}"))),
            }
        };
        self.frozen.iter().map(part).collect()
    }
}
