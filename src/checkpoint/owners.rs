//! Which parameter each tensor of an optimizer's state belongs to.
//!
//! `optimizer.state_dict()` numbers the parameters in the order of `param_groups` (`torch/optim/optimizer.py`); since
//! torch 2.6 `param_names` may name them, and FSDP and torch.distributed key the state by name. An order says little on
//! its own: frozen parameters are skipped, and several groups take turns. So an answer is given only where shapes leave
//! one way to read it, and for the whole optimizer or not at all.

mod models;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::checkpoint::names::Element;
use crate::checkpoint::tensor::TensorId;
use crate::checkpoint::{Checkpoint, Item, Names, Role};
use crate::pickle::Node;
use models::{Models, Parameter};

/// Optimizers that are looked at; each may be held against every model of the file.
const MAX_OPTIMIZERS: usize = 32;
/// A longer name is not repeated for every tensor of the state.
const MAX_NAME_BYTES: usize = 1024;

/// The parameter of every tensor of an optimizer's state for which it is certain, by its name in the state dict of its
/// model. `names` are those of the whole checkpoint.
pub(crate) fn owners(checkpoint: &Checkpoint, names: &Names) -> HashMap<TensorId, Arc<str>> {
    let optimizers = optimizers(checkpoint, names);
    if optimizers.is_empty() {
        return HashMap::new();
    }
    let models = Models::of(checkpoint, names);
    let mut owners = HashMap::new();
    for optimizer in &optimizers {
        for (slot, name) in optimizer.named(&models).unwrap_or_default() {
            let name: Arc<str> = name.into();
            if name.len() <= MAX_NAME_BYTES {
                owners.extend(slot.moments.iter().map(|moment| (moment.id, Arc::clone(&name))));
            }
        }
    }
    owners
}

/// One tensor of the state.
struct Moment<'a> {
    id: TensorId,
    name: &'a str,
    shape: &'a [i64],
}

/// The state of one parameter.
#[derive(Default)]
struct Slot<'a> {
    moments: Vec<Moment<'a>>,
}

/// What the state is keyed by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'a> {
    Number(i64),
    Name(&'a str),
}

#[derive(Default)]
struct Group<'a> {
    params: Option<Vec<i64>>,
    names: Option<Vec<std::borrow::Cow<'a, str>>>,
}

#[derive(Default)]
struct Optimizer<'a> {
    slots: HashMap<Key<'a>, Slot<'a>>,
    groups: Vec<(i64, Group<'a>)>,
    /// Something in it is keyed by neither numbers nor names.
    is_odd: bool,
}

/// Whether a slot can be the state of a parameter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    /// It holds nothing that has a shape to compare.
    Unknown,
}

impl Slot<'_> {
    /// Moments have the parameter's shape; `step` and other scalars say nothing; Adafactor keeps one of the last two
    /// dimensions, bitsandbytes a table for each block beside its moments.
    fn fit(&self, shape: &[i64]) -> Fit {
        let rows = shape.split_last().map(|(_, rows)| rows);
        let columns = shape.split_last().and_then(|(last, rest)| Some([rest.split_last()?.1, &[*last]].concat()));
        let kept = |dim: usize| -> Option<Vec<i64>> {
            let at = shape.len().checked_sub(dim)?;
            Some(shape.iter().enumerate().map(|(i, size)| if i == at { 1 } else { *size }).collect())
        };
        let (flat_rows, flat_columns) = (kept(1), kept(2));
        let mut fit = Fit::Unknown;
        for moment in &self.moments {
            let is_table = ["qmap", "absmax", "unorm", "new_max"].iter().any(|with| moment.name.starts_with(with));
            let is_scalar = moment.shape.is_empty() && !shape.is_empty();
            if matches!(moment.name, "step" | "RMS") || is_table || is_scalar {
                continue;
            }
            let is_part = match moment.name {
                "exp_avg_sq_row" => rows == Some(moment.shape),
                "exp_avg_sq_col" => columns.as_deref() == Some(moment.shape),
                "row_var" => flat_rows.as_deref() == Some(moment.shape),
                "col_var" => flat_columns.as_deref() == Some(moment.shape),
                _ => false,
            };
            if moment.shape != shape && !is_part {
                return Fit::No;
            }
            fit = Fit::Yes;
        }
        fit
    }
}

impl<'a> Optimizer<'a> {
    /// The name of each slot's parameter; `None` where it is not certain.
    fn named(&self, models: &Models<'_>) -> Option<Vec<(&Slot<'a>, String)>> {
        if self.is_odd {
            return None;
        }
        let by_name: Option<Vec<(&Slot<'a>, String)>> = self
            .slots
            .iter()
            .map(|(key, slot)| match key {
                Key::Name(name) => Some((slot, (*name).to_owned())),
                Key::Number(_) => None,
            })
            .collect();
        match by_name.or_else(|| self.by_param_names()) {
            Some(named) => {
                named.iter().all(|(slot, name)| models.allow(name, |shape| slot.fit(shape))).then_some(named)
            }
            None => self.by_order(models),
        }
    }

    fn by_param_names(&self) -> Option<Vec<(&Slot<'a>, String)>> {
        let mut names = HashMap::new();
        for (_, group) in &self.groups {
            let (params, given) = (group.params.as_ref()?, group.names.as_ref()?);
            if params.len() != given.len() {
                return None;
            }
            names.extend(params.iter().zip(given));
        }
        let name = |key: &Key<'a>| match key {
            Key::Number(number) => names.get(number).map(|name| name.to_string()),
            Key::Name(_) => None,
        };
        self.slots.iter().map(|(key, slot)| Some((slot, name(key)?))).collect()
    }

    /// The slots of each group in the order of its parameters; `None` for a parameter without state.
    fn order(&self) -> Option<Vec<Vec<Option<&Slot<'a>>>>> {
        let slot = |number: &i64| self.slots.get(&Key::Number(*number));
        if self.groups.is_empty() {
            let numbers: BTreeSet<i64> = (0..).take(self.slots.len()).collect();
            return Some(vec![numbers.iter().map(|number| slot(number).map(Some)).collect::<Option<_>>()?]);
        }
        let mut order = Vec::new();
        let mut found = 0;
        for (_, group) in &self.groups {
            let slots: Vec<_> = group.params.as_ref()?.iter().map(slot).collect();
            found += slots.iter().flatten().count();
            order.push(slots);
        }
        (found == self.slots.len()).then_some(order)
    }

    fn by_order(&self, models: &Models<'_>) -> Option<Vec<(&Slot<'a>, String)>> {
        let order = self.order()?;
        let count: usize = order.iter().map(Vec::len).sum();
        // a model of just as many parameters comes before one of which some would be frozen
        for exact in [true, false] {
            for models in models.tiers() {
                let mut found: Option<Vec<(&Slot<'a>, String)>> = None;
                for model in models.iter().filter(|model| (model.len() == count) == exact && model.len() >= count) {
                    let Some(named) = align(&order, model) else { continue };
                    let names = |named: &[(&Slot<'a>, String)]| -> Vec<String> {
                        named.iter().map(|(_, name)| name.clone()).collect()
                    };
                    match &found {
                        // two models that would do, under different names
                        Some(known) if names(known) != names(&named) => return None,
                        _ => found = Some(named),
                    }
                }
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}

/// Reads the groups as parts of the model in its order, if there is only one way to.
fn align<'s, 'a>(order: &[Vec<Option<&'s Slot<'a>>>], model: &[Parameter<'_>]) -> Option<Vec<(&'s Slot<'a>, String)>> {
    let mut taken = vec![false; model.len()];
    let mut named = Vec::new();
    let mut is_certain = false;
    for group in order {
        let places = match order {
            // all of them, one by one
            [_] if group.len() == model.len() => (0..group.len()).collect(),
            _ => only_embedding(group, model)?,
        };
        for (slot, place) in group.iter().zip(places) {
            let Some(slot) = slot else { continue };
            let parameter = model.get(place)?;
            match slot.fit(parameter.shape) {
                Fit::No => return None,
                Fit::Unknown => {}
                Fit::Yes => is_certain = true,
            }
            if std::mem::replace(taken.get_mut(place)?, true) {
                return None;
            }
            named.push((*slot, parameter.name()));
        }
    }
    is_certain.then_some(named)
}

/// Where the slots lie in the model, in its order. The first possible place of each is looked for from the front and the
/// last from the back: where the two agree there is no other.
fn only_embedding(group: &[Option<&Slot<'_>>], model: &[Parameter<'_>]) -> Option<Vec<usize>> {
    let fits = |slot: &Option<&Slot<'_>>, at: usize| {
        let shape = model.get(at).map(|parameter| parameter.shape);
        shape.is_some_and(|shape| slot.is_none_or(|slot| slot.fit(shape) != Fit::No))
    };
    let mut at = 0..model.len();
    let first: Vec<usize> = group.iter().map(|slot| at.find(|at| fits(slot, *at))).collect::<Option<_>>()?;
    let mut at = (0..model.len()).rev();
    let last: Vec<usize> = group.iter().rev().map(|slot| at.find(|at| fits(slot, *at))).collect::<Option<_>>()?;
    let known = group.iter().zip(first.iter().zip(last.iter().rev()));
    known.into_iter().all(|(slot, (first, last))| slot.is_none() || first == last).then_some(first)
}

/// The optimizers of a checkpoint, in file order.
fn optimizers<'a>(checkpoint: &'a Checkpoint, names: &'a Names) -> Vec<Optimizer<'a>> {
    let mut places: HashMap<&[Element], usize> = HashMap::new();
    let mut found: Vec<Optimizer<'a>> = Vec::new();
    let mut at = |prefix: &'a [Element], found: &mut Vec<Optimizer<'a>>| match places.get(prefix) {
        Some(at) => Some(*at),
        None if found.len() < MAX_OPTIMIZERS => {
            found.push(Optimizer::default());
            places.insert(prefix, found.len() - 1);
            Some(found.len() - 1)
        }
        None => None,
    };
    for entry in names.entries.iter().filter(|entry| entry.role == Role::Optimizer) {
        match entry.item {
            Item::Tensor(id, _) => {
                let Some(tensor) = checkpoint.tensor(id) else { continue };
                let Some((prefix, key, name)) = place_in_state(&entry.path) else { continue };
                let Some(optimizer) = at(prefix, &mut found).and_then(|at| found.get_mut(at)) else { continue };
                let Some(key) = key else {
                    optimizer.is_odd = true;
                    continue;
                };
                optimizer.slots.entry(key).or_default().moments.push(Moment { id, name, shape: &tensor.shape });
            }
            Item::Value => {
                let [prefix @ .., Element::Text(groups), Element::Int(number), Element::Text(what)] =
                    entry.path.as_slice()
                else {
                    continue;
                };
                if groups != "param_groups" || !matches!(what.as_str(), "params" | "param_names") {
                    continue;
                }
                let Some(optimizer) = at(prefix, &mut found).and_then(|at| found.get_mut(at)) else { continue };
                if optimizer.groups.last().is_none_or(|(last, _)| last != number) {
                    optimizer.groups.push((*number, Group::default()));
                }
                let Some((_, group)) = optimizer.groups.last_mut() else { continue };
                let items = checkpoint.graph.sequence(checkpoint.objects().unwrap(entry.node)).unwrap_or_default();
                match what.as_str() {
                    "params" => group.params = items.iter().map(|item| int(checkpoint, *item)).collect(),
                    _ => group.names = items.iter().map(|item| checkpoint.graph.str_or_bytes(*item)).collect(),
                }
            }
            Item::Recursion => {}
        }
    }
    found.retain(|optimizer| !optimizer.slots.is_empty());
    found
}

fn int(checkpoint: &Checkpoint, node: crate::pickle::NodeId) -> Option<i64> {
    match checkpoint.graph.node(node) {
        Node::Int(value) => Some(*value),
        _ => None,
    }
}

/// Of a tensor's path: the optimizer, the key of its parameter (`None` for another kind), what it is called.
fn place_in_state(path: &[Element]) -> Option<(&[Element], Option<Key<'_>>, &str)> {
    let is_state = |element: &Element| matches!(element, Element::Text(text) if text == "state");
    let nested = path.iter().rposition(is_state).filter(|at| at + 2 < path.len());
    if let Some(at) = nested {
        let (prefix, rest) = path.split_at_checked(at)?;
        let key = match rest.get(1)? {
            Element::Int(number) => Some(Key::Number(*number)),
            Element::Text(name) => Some(Key::Name(name)),
            Element::Bool(_) => None,
        };
        let name = match rest.get(2)? {
            Element::Text(name) => name.as_str(),
            _ => "",
        };
        return Some((prefix, key, name));
    }
    // `state.fc.weight.exp_avg`, as torch.distributed flattens it
    let (last, prefix) = path.split_last()?;
    let Element::Text(text) = last else { return None };
    let (key, name) = text.strip_prefix("state.")?.rsplit_once('.')?;
    Some((prefix, Some(Key::Name(key)), name))
}
