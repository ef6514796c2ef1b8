//! Which floating tensors a cast is meant for, and which are numbers: the one rule of `--dtype`.
//!
//! Cast are the weights, and of an optimizer's state the tensors of its parameter's shape: that of the largest tensor of the
//! parameter's entry, if it is the shape of some tensor outside optimizers (of any, where no entry has such a one, as flat
//! parameters have not). As they are stay
//! - everything beside the weights: losses, metrics, schedulers, statistics of the data;
//! - in optimizers `step` and everything of another shape (`torch.optim.Optimizer.load_state_dict` casts the others to
//!   their parameter's type by itself);
//! - among the weights counters and settings of one element, known by their names (`decay`, `num_updates`);
//! - what says how integers are to be read: observers' and fake-quantizers' buffers, scales and zero points beside packed
//!   or 8-bit weights, everything in a module that holds a quantized tensor, whose kernels want `float32`.
//!
//! Where a file has nothing that is known for weights, all of it counts as such.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::names::{Element, Entry, Item, join};
use crate::checkpoint::storage::StorageId;
use crate::checkpoint::tensor::{Extents, Kind, Tensor, TensorId};
use crate::checkpoint::weights::roles::is_beside;
use crate::checkpoint::{Checkpoint, Root};
use crate::dtype::{Class, DType, Known};
use crate::error::Result;
use crate::pickle::Node;

/// What a cast makes of the tensors below an object.
#[derive(Debug, Default)]
pub(crate) struct Casting {
    /// The name of every tensor, the first where it has several.
    pub names: HashMap<TensorId, String>,
    /// What stays as it is.
    pub kept: Kept,
}

/// What a cast does not touch. A storage has one type: what shares it with a weight goes with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    /// Tensors, the parts of sparse ones included.
    pub tensors: HashSet<TensorId>,
    /// Storages.
    pub storages: HashSet<StorageId>,
}

/// Words in the names of numbers that a module keeps in its state dict.
const NUMBER_WORDS: [&str; 21] = [
    "step",
    "steps",
    "count",
    "counter",
    "num",
    "epoch",
    "epochs",
    "iter",
    "iters",
    "iteration",
    "iterations",
    "updates",
    "decay",
    "loss",
    "best",
    "tracked",
    "averaged",
    "initted",
    "initialized",
    "momentum",
    "lr",
];
/// Names beside packed weights that say how to unpack them, besides those with `scale` in them.
const UNPACKING: [&str; 8] =
    ["scb", "absmax", "quant_map", "nested_absmax", "nested_quant_map", "zero_point", "zero_points", "zeros"];

/// What is known of the tensors whose names differ in the last part only.
#[derive(Debug, Default, Clone, Copy)]
struct Group {
    has_minimum: bool,
    has_maximum: bool,
    has_switch: bool,
    has_zero_point: bool,
    has_packed: bool,
    has_quantized: bool,
}

impl Checkpoint {
    /// Sorts the tensors below `root`. `places` are where the weights lie, seen from the top object.
    pub(crate) fn casting(&self, root: &Root, places: &[Root]) -> Result<Casting> {
        let entries = self.names(root)?.entries;
        let inside = |path: &[Element]| {
            let whole: Vec<&Element> = root.path.iter().chain(path).collect();
            let below =
                |place: &Root| place.path.len() <= whole.len() && place.path.iter().zip(&whole).all(|(a, b)| a == *b);
            places.iter().any(below)
        };
        // what is neither above nor below the weights was asked for by name
        let all = places.is_empty()
            || !places.iter().any(|place| {
                let shorter = place.path.len().min(root.path.len());
                place.path.get(..shorter) == root.path.get(..shorter)
            });
        let groups = self.groups(&entries);
        let moments = self.moments(&entries);
        let mut casting = Casting::default();
        let mut cast = HashSet::new();
        for entry in &entries {
            let Item::Tensor(id, _) = entry.item else { continue };
            let Some(tensor) = self.tensor(id) else { continue };
            let name = entry.name();
            let is_cast = match entry.in_optimizer {
                true => moments.take(entry, tensor),
                false => {
                    (all || inside(&entry.path))
                        && !is_beside(&root.path, &entry.path)
                        && !is_number(&name, tensor, &groups)
                }
            };
            let list = if is_cast { &mut cast } else { &mut casting.kept.tensors };
            list.insert(id);
            list.extend(tensor.parts().filter_map(|part| self.tensors.of(*part)));
            casting.names.entry(id).or_insert(name);
        }
        let storage = |id: &TensorId| self.tensor(*id).and_then(Tensor::storage);
        let shared: HashSet<StorageId> = cast.iter().filter_map(storage).collect();
        casting.kept.tensors.retain(|id| !cast.contains(id) && storage(id).is_none_or(|id| !shared.contains(&id)));
        casting.kept.storages = casting.kept.tensors.iter().filter_map(storage).collect();
        Ok(casting)
    }

    /// The names of arrays below `root` that stay numpy's when the whole object is written: those are not cast.
    pub(crate) fn numpy_arrays(&self, root: &Root) -> Result<HashMap<TensorId, String>> {
        let entries = self.names(root)?.entries;
        let array = |entry: &Entry| match entry.item {
            Item::Tensor(id, _) if matches!(self.graph.node(entry.node), Node::Object(_)) => {
                (self.tensor(id)?.kind == Kind::NdArray).then(|| (id, entry.name()))
            }
            _ => None,
        };
        Ok(entries.iter().filter_map(array).collect())
    }

    fn groups(&self, entries: &[Entry]) -> HashMap<String, Group> {
        let mut groups: HashMap<String, Group> = HashMap::new();
        for entry in entries.iter().filter(|entry| !entry.in_optimizer) {
            let Item::Tensor(id, _) = entry.item else { continue };
            let Some(tensor) = self.tensor(id) else { continue };
            let name = entry.name();
            let (module, last) = split(&name);
            let (packed, quantized) = (is_packed(tensor), tensor.is_quantized());
            let group = groups.entry(module.to_owned()).or_default();
            group.has_minimum |= matches!(last, "min_val" | "min_vals");
            group.has_maximum |= matches!(last, "max_val" | "max_vals");
            group.has_switch |= matches!(last, "fake_quant_enabled" | "observer_enabled");
            group.has_zero_point |= matches!(last, "zero_point" | "zero_points" | "qzeros");
            group.has_packed |= packed && !matches!(last, "fake_quant_enabled" | "observer_enabled");
            group.has_quantized |= quantized;
            if packed {
                // bitsandbytes: `weight.absmax` beside `weight`
                groups.entry(name.clone()).or_default().has_packed = true;
            }
        }
        groups
    }

    fn moments(&self, entries: &[Entry]) -> Moments {
        let mut moments = Moments::default();
        let mut parameters: HashSet<Extents> = HashSet::new();
        for entry in entries {
            let Item::Tensor(id, _) = entry.item else { continue };
            let Some(tensor) = self.tensor(id) else { continue };
            if !entry.in_optimizer {
                parameters.insert(tensor.shape.clone());
                continue;
            }
            let shape = moments.largest.entry(parent(entry)).or_default();
            let count = |shape: &[i64]| shape.iter().fold(1_i64, |product, extent| product.saturating_mul(*extent));
            if shape.is_empty() || count(&tensor.shape) > count(shape) {
                shape.clone_from(&tensor.shape);
            }
        }
        let of_parameters = moments.largest.values().any(|shape| !shape.is_empty() && parameters.contains(shape));
        moments.parameters = of_parameters.then_some(parameters);
        moments
    }
}

/// What tells an optimizer's tensors that go with a parameter from its numbers.
#[derive(Debug, Default)]
struct Moments {
    /// The shape of the largest tensor that lies directly in each object of an optimizer.
    largest: HashMap<String, Extents>,
    /// Shapes of the tensors outside optimizers, if any of an optimizer's is among them: flat ones are not.
    parameters: Option<HashSet<Extents>>,
}

impl Moments {
    /// Whether a tensor of an optimizer has its parameter's shape and is none of its settings.
    fn take(&self, entry: &Entry, tensor: &Tensor) -> bool {
        let is_text = |element: &Element, text: &str| matches!(element, Element::Text(found) if found == text);
        let in_state = entry.path.iter().any(|element| is_text(element, "state"));
        let is_step = entry.path.last().is_some_and(|last| is_text(last, "step"));
        in_state
            && !is_step
            && !tensor.shape.is_empty()
            && self.largest.get(&parent(entry)) == Some(&tensor.shape)
            && self.parameters.as_ref().is_none_or(|shapes| shapes.contains(&tensor.shape))
    }
}

fn parent(entry: &Entry) -> String {
    join(entry.path.split_last().map_or(&[], |(_, parent)| parent))
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

fn is_number(name: &str, tensor: &Tensor, groups: &HashMap<String, Group>) -> bool {
    let (module, last) = split(name);
    let lower = last.to_lowercase();
    if tensor.numel() == Some(1) && tensor.shape.len() <= 1 && lower.split('_').any(|word| NUMBER_WORDS.contains(&word))
    {
        return true;
    }
    let group = groups.get(module).copied().unwrap_or_default();
    let bare = lower.trim_start_matches('_');
    let says_how = bare.contains("scale") || UNPACKING.contains(&bare);
    group.has_quantized
        || group.has_switch
        || group.has_minimum && group.has_maximum
        || says_how && (group.has_packed || group.has_zero_point)
}

/// Integers or 8-bit floats that weights are packed into: not counters and indexes, which are `int64`.
fn is_packed(tensor: &Tensor) -> bool {
    let small = match &tensor.dtype {
        Some(DType::Known(known)) => matches!(known, Known::Int8 | Known::UInt8 | Known::Int32),
        _ => false,
    };
    let float8 = tensor.dtype.as_ref().is_some_and(|d| d.class() == Some(Class::Float) && d.size() == Some(1));
    !tensor.shape.is_empty() && tensor.numel().is_some_and(|count| count > 1) && (small || float8)
}
