//! "The weights" of a checkpoint: the one part of it that a person who looks at its tree would call the model.
//!
//! A walk from the top notes every container, and stops at what is a set of weights by its own signs: a module; a mapping
//! on which torch left `_metadata` (`torch/nn/modules/module.py`); a mapping of tensors with dotted names. Then each
//! container is judged by what is in it, from the bottom up: nothing but tensors and mappings of them is one tree of
//! parameters, whole sets side by side are a choice. What has another role (`roles.rs`) is never weights.

pub(super) mod roles;

use std::collections::HashSet;

use crate::checkpoint::names::Element;
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::{Checkpoint, Container, Root, module};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::pickle::{Graph, NodeId};
use roles::{Role, TensorRole};

impl Container {
    /// True for formats that hold named tensors and nothing of the object they came from: no devices, no gradients, no
    /// other values. Shards are put together by name, whatever their own format.
    pub(crate) fn holds_only_weights(self) -> bool {
        matches!(self, Container::Safetensors | Container::Npz | Container::Npy | Container::Pt2 | Container::Sharded)
    }
}

/// What a search for the weights found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// One set.
    One(Root),
    /// Several whole sets, of which somebody has to choose, in the order of the file.
    Several(Vec<Root>),
    /// None: whatever tensors there are have another role.
    Nothing,
}

/// Sets that are found at most.
const MAX_SETS: usize = 1000;

impl Checkpoint {
    /// Finds the weights. Fails when a bound of the limits is met.
    pub(crate) fn find_weights(&self) -> Result<Found> {
        let top = self.top();
        if matches!(self.container(), Container::Safetensors | Container::Npz | Container::Npy | Container::Sharded)
            || self.tensors.of(self.objects().unwrap(top.node)).is_some()
        {
            return Ok(Found::One(top));
        }
        let mut survey = Survey { checkpoint: self, seen: HashSet::new(), places: Vec::new(), open: Vec::new() };
        survey.walk()?;
        survey.judge();
        let (strong, weak) = survey.sets();
        let mut found = if strong.is_empty() { weak } else { strong };
        if found.is_empty() && survey.is_all_tensors() {
            found.push(0);
        }
        let mut sets: Vec<Root> = found.iter().map(|place| survey.root(*place)).collect();
        Ok(match (sets.len(), sets.pop()) {
            (_, None) => Found::Nothing,
            (1, Some(one)) => Found::One(one),
            (_, Some(last)) => {
                sets.push(last);
                Found::Several(sets)
            }
        })
    }

    /// All sets of weights that [`Self::find_weights`] finds.
    pub(crate) fn weights_sets(&self) -> Result<Vec<Root>> {
        Ok(match self.find_weights()? {
            Found::One(set) => vec![set],
            Found::Several(sets) => sets,
            Found::Nothing => Vec::new(),
        })
    }
}

/// What a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Verdict {
    /// It holds no weights.
    #[default]
    Nothing,
    /// A set of weights by its own signs.
    Whole,
    /// A module, which is one too, but no mapping.
    Module,
    /// Mappings of nothing but tensors: a part of whatever tree it stands in.
    Tree {
        /// Tensors in it have names that parameters have.
        parameters: bool,
        /// Or names that say nothing, and several elements.
        solid: bool,
    },
    /// A mapping of nothing but whole sets side by side.
    Sides,
    /// Tensors without any sign: weights only where there is nothing better.
    Weak,
    /// It holds sets besides other things.
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mapping,
    Sequence,
    Object,
}

/// A container of the checkpoint.
#[derive(Debug)]
struct Holder {
    node: NodeId,
    /// The container that it is in, and its element there.
    within: Option<(usize, Element)>,
    depth: usize,
    kind: Kind,
    role: Role,
    /// It is, or lies in, what is called a model: names have no softer role there.
    in_model: bool,
    children: Vec<usize>,
    /// Something directly in it is neither a tensor nor a container that may hold weights.
    has_others: bool,
    /// It directly holds tensors with names of parameters.
    parameters: bool,
    /// Or with names that say nothing, of several elements.
    solid: bool,
    /// Or such ones of a single floating number.
    small: bool,
    /// Or such that have another role.
    loose: bool,
    /// The verdict is by its own signs, whatever lies in it.
    is_by_own_signs: bool,
    verdict: Verdict,
}

struct Survey<'a> {
    checkpoint: &'a Checkpoint,
    seen: HashSet<NodeId>,
    /// Containers, each after the one it is in.
    places: Vec<Holder>,
    /// Containers that have not been looked into yet.
    open: Vec<usize>,
}

impl Survey<'_> {
    fn walk(&mut self) -> Result<()> {
        let checkpoint = self.checkpoint;
        let objects = checkpoint.objects();
        let mut visits = checkpoint.limits.entries_for(checkpoint.graph.held());
        let top = objects.unwrap(checkpoint.root);
        self.seen.insert(top);
        self.add(top, None, Role::Unknown);
        while let Some(at) = self.open.pop() {
            let Some((node, depth, in_model)) = self.places.get(at).map(|p| (p.node, p.depth, p.in_model)) else {
                break;
            };
            let file = checkpoint.tensors.embedded_in(node);
            let children = file.map_or_else(|| objects.children(node), |root| checkpoint.embedded(root));
            visits = visits
                .checked_sub(1 + children.len() as u64)
                .ok_or_else(|| Error::limit("too many objects to find the weights among"))?;
            checkpoint.graph.complete()?;
            if let Some(verdict) = self.own_signs(at, &children) {
                self.settle(at, verdict);
                if let Some(place) = self.places.get_mut(at) {
                    place.is_by_own_signs = true;
                }
                continue;
            }
            if depth >= checkpoint.limits.max_depth {
                continue;
            }
            for child in children {
                self.child(at, in_model, child);
            }
            // what was added last is opened first: the first child
            let added = self.places.get(at).map_or(0, |place| place.children.len());
            let from = self.open.len().saturating_sub(added);
            if let Some(added) = self.open.get_mut(from..) {
                added.reverse();
            }
        }
        Ok(())
    }

    fn settle(&mut self, at: usize, verdict: Verdict) {
        if let Some(place) = self.places.get_mut(at) {
            place.verdict = verdict;
        }
    }

    /// What a container is, when that can be told without looking into what it holds.
    fn own_signs(&self, at: usize, children: &[Child]) -> Option<Verdict> {
        let checkpoint = self.checkpoint;
        let place = self.places.get(at)?;
        if roles::is_other_class(checkpoint, place.node, at == 0) || roles::is_bookkeeping(checkpoint, children) {
            return Some(Verdict::Nothing);
        }
        let when_holding =
            |verdict| Some(if checkpoint.holds_tensors(place.node) { verdict } else { Verdict::Nothing });
        if module::is_module(checkpoint, place.node) {
            return when_holding(Verdict::Module);
        }
        // torch.export keeps each model of an archive by itself
        if checkpoint.container() == Container::Pt2 && place.depth == 1 {
            return when_holding(Verdict::Whole);
        }
        let made_by_torch = || checkpoint.objects().attribute(place.node, "_metadata").is_some();
        if place.kind == Kind::Mapping
            && (made_by_torch() || self.has_dotted_names(children) && !self.has_model(children))
        {
            return when_holding(Verdict::Whole);
        }
        None
    }

    /// Whether there are tensors with names of submodules' parameters: `features.0.weight`, but not a `val.loss`.
    fn has_dotted_names(&self, children: &[Child]) -> bool {
        let checkpoint = self.checkpoint;
        children.iter().any(|child| {
            let Label::Key(key) = child.label else { return false };
            let tensor = checkpoint.tensors.of(checkpoint.objects().unwrap(child.node));
            let Some(tensor) = tensor.and_then(|id| checkpoint.tensors.get(id)) else { return false };
            let name = checkpoint.graph.str_or_bytes(key).unwrap_or_default();
            let is_dotted = name.split('.').filter(|part| !part.is_empty()).count() > 1;
            is_dotted && (roles::of_tensor(&name) == TensorRole::Parameter || tensor.numel().is_none_or(|n| n > 1))
        })
    }

    /// Whether a mapping with tensors of its own is among them, which is called a model: a state dict has no such part.
    fn has_model(&self, children: &[Child]) -> bool {
        let checkpoint = self.checkpoint;
        children.iter().any(|child| {
            let Label::Key(key) = child.label else { return false };
            let is_model = || {
                let name = checkpoint.graph.str_or_bytes(key).unwrap_or_default();
                !name.contains('.') && roles::of_container(&name) == Role::Model
            };
            let node = checkpoint.objects().unwrap(child.node);
            checkpoint.objects().items(node).is_some() && is_model() && checkpoint.holds_tensors(node)
        })
    }

    /// Notes one thing that a container holds.
    fn child(&mut self, at: usize, in_model: bool, child: Child) {
        let checkpoint = self.checkpoint;
        let objects = checkpoint.objects();
        let node = objects.unwrap(child.node);
        let element = checkpoint.element(child.label);
        let name = if matches!(child.label, Label::Index(_)) { String::new() } else { element.to_string() };
        let tensor = checkpoint.tensors.of(node).and_then(|id| checkpoint.tensors.get(id));
        let role = roles::of_container(&name);
        let has_other_role = role == Role::Never || role == Role::Beside && !in_model;
        let is_neutral = node == Graph::NONE || objects.items(node).is_some_and(|items| items.is_empty());
        let is_file = checkpoint.tensors.embedded_in(node).is_some();
        let holds_nothing = || objects.is_plain_scalar(node) || objects.children(node).is_empty();
        let is_leaf = tensor.is_some() || !is_file && holds_nothing();
        let is_known = !is_leaf && !has_other_role && !self.seen.insert(node);
        let Some(place) = self.places.get_mut(at) else { return };
        match tensor {
            Some(tensor) => match roles::of_tensor(&name) {
                TensorRole::Parameter => (place.parameters, place.solid) = (true, true),
                TensorRole::Other if !in_model => place.loose = true,
                _ if roles::is_random_state(tensor) => place.loose = true,
                _ if tensor.numel().is_none_or(|numel| numel > 1) => place.solid = true,
                _ if tensor.dtype.as_ref().is_some_and(DType::is_floating) => place.small = true,
                _ => place.loose = true,
            },
            None if is_neutral || is_known => {}
            None if is_leaf || has_other_role => place.has_others = true,
            None => self.add(node, Some((at, element)), role),
        }
    }

    fn add(&mut self, node: NodeId, within: Option<(usize, Element)>, role: Role) {
        let objects = self.checkpoint.objects();
        let shown = self.checkpoint.tensors.embedded_in(node).unwrap_or(node);
        let kind = match () {
            () if objects.items(shown).is_some() => Kind::Mapping,
            () if objects.elements(node).is_some() => Kind::Sequence,
            () => Kind::Object,
        };
        let at = self.places.len();
        let parent = within.as_ref().and_then(|(parent, _)| self.places.get_mut(*parent));
        let (depth, parent_in_model) = parent.as_ref().map_or((0, false), |parent| (parent.depth + 1, parent.in_model));
        if let Some(parent) = parent {
            parent.children.push(at);
        }
        self.places.push(Holder {
            node,
            within,
            depth,
            kind,
            role,
            in_model: parent_in_model || role == Role::Model,
            children: Vec::new(),
            has_others: false,
            parameters: false,
            solid: false,
            small: false,
            loose: false,
            is_by_own_signs: false,
            verdict: Verdict::Nothing,
        });
        self.open.push(at);
    }

    /// Judges every container that has not told by itself, those inside first.
    fn judge(&mut self) {
        for at in (0..self.places.len()).rev() {
            let Some(place) = self.places.get(at).filter(|place| place.verdict == Verdict::Nothing) else { continue };
            let verdict = match place.kind {
                Kind::Mapping => self.of_mapping(place),
                Kind::Sequence => self.of_sequence(place),
                Kind::Object => self.of_contents(place),
            };
            self.settle(at, verdict);
        }
    }

    fn children<'b>(&'b self, place: &'b Holder) -> impl Iterator<Item = &'b Holder> {
        place.children.iter().filter_map(|child| self.places.get(*child))
    }

    fn of_mapping(&self, place: &Holder) -> Verdict {
        let is = |verdict: fn(&Verdict) -> bool| self.children(place).any(|child| verdict(&child.verdict));
        let is_named_model = matches!(place.role, Role::Model | Role::OneOfSeveral);
        let is_pure = !place.has_others
            && !is(|verdict| matches!(verdict, Verdict::Nothing | Verdict::Module | Verdict::Weak | Verdict::Mixed));
        if !is_pure {
            // a state dict that was made by hand, with values among its tensors
            let is_state_dict = place.parameters || is_named_model && place.solid;
            let is_state_dict = is_state_dict && self.holds_nothing_better(place);
            return if is_state_dict { Verdict::Whole } else { self.of_contents(place) };
        }
        let has_trees_of_parameters = is(|verdict| matches!(verdict, Verdict::Tree { parameters: true, .. }));
        let has_solid_trees = is(|verdict| matches!(verdict, Verdict::Tree { solid: true, .. }));
        if is(|verdict| matches!(verdict, Verdict::Whole | Verdict::Sides)) {
            // what holds one thing alone adds nothing to it
            let holds_sides = is(|verdict| *verdict == Verdict::Sides) && !self.holds_one_thing(place);
            let is_one_tree = place.parameters || has_trees_of_parameters || has_solid_trees || holds_sides;
            let names_models = self.children(place).any(|child| child.role != Role::Unknown);
            let is_model = is_named_model && !self.holds_models(place) || is_one_tree && !names_models;
            return if is_model { Verdict::Whole } else { Verdict::Sides };
        }
        match place.solid || place.small || !place.children.is_empty() {
            false => Verdict::Nothing,
            true if is_named_model => Verdict::Whole,
            true => Verdict::Tree {
                parameters: place.parameters || has_trees_of_parameters,
                solid: place.solid || has_solid_trees,
            },
        }
    }

    /// Whether a mapping that is called a model holds what is: the generator and the discriminator, or a model's state
    /// dict alone.
    fn holds_models(&self, place: &Holder) -> bool {
        let mut several = self.children(place).filter(|child| child.role == Role::OneOfSeveral);
        if self.holds_one_thing(place) {
            let is_model =
                |child: &Holder| child.is_by_own_signs && matches!(child.role, Role::Model | Role::OneOfSeveral);
            return self.children(place).all(is_model);
        }
        !place.parameters && several.nth(1).is_some()
    }

    fn holds_one_thing(&self, place: &Holder) -> bool {
        let has_tensors = place.parameters || place.solid || place.small || place.loose;
        !has_tensors && !place.has_others && place.children.len() == 1
    }

    fn of_sequence(&self, place: &Holder) -> Verdict {
        // the shadow parameters of an EMA
        let is_all_tensors = place.children.is_empty() && !place.has_others && place.solid;
        match place.role {
            Role::Model | Role::OneOfSeveral if is_all_tensors => Verdict::Whole,
            _ if is_all_tensors => Verdict::Weak,
            _ => self.of_contents(place),
        }
    }

    fn holds_nothing_better(&self, place: &Holder) -> bool {
        let weak = |child: &Holder| {
            matches!(child.verdict, Verdict::Nothing | Verdict::Weak | Verdict::Tree { parameters: false, .. })
        };
        self.children(place).all(weak)
    }

    /// What holds other things too.
    fn of_contents(&self, place: &Holder) -> Verdict {
        match () {
            () if place.kind == Kind::Mapping && place.solid && self.holds_nothing_better(place) => Verdict::Weak,
            () if self.children(place).any(|child| child.verdict != Verdict::Nothing) => Verdict::Mixed,
            () => Verdict::Nothing,
        }
    }

    /// Nothing but tensors directly in the top object: whatever their names are, they are what the file holds.
    fn is_all_tensors(&self) -> bool {
        self.places.first().is_some_and(|top| {
            let holds = top.solid || top.small || top.loose;
            holds && !top.has_others && top.children.is_empty() && top.kind != Kind::Object
        })
    }

    /// Sets with all signs of being models, and others, outermost ones, in the order of the file.
    fn sets(&self) -> (Vec<usize>, Vec<usize>) {
        let (mut strong, mut weak) = (Vec::new(), Vec::new());
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            let Some(place) = self.places.get(at) else { continue };
            let in_sides = |place: &Holder| {
                let parent = place.within.as_ref().and_then(|(parent, _)| self.places.get(*parent));
                parent.is_some_and(|parent| parent.verdict == Verdict::Sides)
            };
            match place.verdict {
                Verdict::Whole | Verdict::Module | Verdict::Tree { parameters: true, .. } => strong.push(at),
                // numbers beside models
                Verdict::Tree { .. } if in_sides(place) => {}
                Verdict::Tree { .. } | Verdict::Weak => weak.push(at),
                Verdict::Sides | Verdict::Mixed => open.extend(place.children.iter().rev()),
                Verdict::Nothing => {}
            }
            if strong.len() >= MAX_SETS {
                break;
            }
            weak.truncate(MAX_SETS);
        }
        (strong, weak)
    }

    fn root(&self, at: usize) -> Root {
        let mut path = Vec::new();
        let mut place = self.places.get(at);
        let node = place.map_or(self.checkpoint.root, |place| place.node);
        while let Some((parent, element)) = place.and_then(|place| place.within.as_ref()) {
            path.push(element.clone());
            place = self.places.get(*parent);
        }
        path.reverse();
        Root { node, path, in_optimizer: false, stem: None }
    }
}
