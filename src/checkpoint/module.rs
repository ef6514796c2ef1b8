//! `nn.Module` objects, pickled whole or by TorchScript: what their `state_dict()` would give, and what else they hold.
//!
//! Sources: `torch/nn/modules/module.py` (`_save_to_state_dict`), `torch/csrc/jit/serialization/import.cpp`. Hooks and
//! `get_extra_state()` are code: they cannot be run.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::entry::{Budget, Element, ROW_BYTES, join};
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::role::Role;
use crate::checkpoint::tensor::TensorId;
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::pickle::{Census, Graph, Node, NodeId};

/// One tensor of a module.
#[derive(Debug)]
pub(super) struct ModuleTensor {
    /// Below the module: the whole name as one element, then elements inside attributes.
    pub path: Vec<Element>,
    pub node: NodeId,
    /// `None` for what else `state_dict()` gives: the values and containers of quantized modules.
    pub id: Option<TensorId>,
    pub in_state_dict: bool,
    pub role: Role,
}

/// What a module holds.
#[derive(Debug, Default)]
pub(super) struct ModuleContents {
    pub tensors: Vec<ModuleTensor>,
    /// Names (empty for the module itself) and classes, outer ones first.
    pub modules: Vec<(String, String)>,
}

/// True for objects with the three dicts every `nn.Module` has, and for TorchScript's modules.
pub(super) fn is_module(checkpoint: &Checkpoint, node: NodeId) -> bool {
    let objects = checkpoint.objects();
    if checkpoint.graph.object(node).is_none() {
        return false;
    }
    if let Some(script) = checkpoint.framed.script() {
        return objects.class(node).is_some_and(|(module, name)| script.is_module(&module, &name));
    }
    if checkpoint.tensors.saved_in(node).is_some() {
        return true;
    }
    let (dicts, _) = objects.states(node);
    if !checkpoint.graph.look_at(dicts.iter().map(|dict| dict.len()).sum()) {
        return false;
    }
    let has = |name: &str| {
        dicts
            .iter()
            .any(|dict| dict.iter().any(|entry| checkpoint.graph.str_or_bytes(entry.key).as_deref() == Some(name)))
    };
    !dicts.is_empty() && has("_parameters") && has("_buffers") && has("_modules")
}

/// A module's own tensors and submodules by name, in `state_dict()` order, and its other attributes.
#[derive(Default)]
struct Own {
    /// Parameters.
    parameters: Vec<(String, NodeId)>,
    /// Buffers of the state dict.
    buffers: Vec<(String, NodeId)>,
    /// Non-persistent buffers.
    hidden: Vec<(String, NodeId)>,
    /// What the module's class adds to its state dict, values too.
    saved: Vec<(String, NodeId)>,
    modules: Vec<(String, NodeId)>,
    others: Vec<(String, NodeId)>,
}

fn own(checkpoint: &Checkpoint, node: NodeId) -> Own {
    match checkpoint.framed.script() {
        Some(_) => own_of_script(checkpoint, node),
        None => own_of_pickle(checkpoint, node),
    }
}

/// A dict's string keys with their values, `None`s left out.
fn named_items(checkpoint: &Checkpoint, node: Option<NodeId>) -> Vec<(String, NodeId)> {
    let objects = checkpoint.objects();
    let items = node.and_then(|node| objects.items(node)).unwrap_or_default();
    let named = items.iter().filter(|entry| entry.value != Graph::NONE);
    named.map(|entry| (checkpoint.element(Label::Key(entry.key)).to_string(), objects.unwrap(entry.value))).collect()
}

fn own_of_pickle(checkpoint: &Checkpoint, node: NodeId) -> Own {
    let objects = checkpoint.objects();
    let set = objects.attribute(node, "_non_persistent_buffers_set");
    let hidden: HashSet<String> = set
        .and_then(|set| objects.set_elements(set))
        .unwrap_or_default()
        .iter()
        .filter_map(|name| checkpoint.graph.str_or_bytes(*name).map(|name| name.into_owned()))
        .collect();
    let parameters = named_items(checkpoint, objects.attribute(node, "_parameters"));
    let buffers = named_items(checkpoint, objects.attribute(node, "_buffers"));
    let (hidden, buffers) = buffers.into_iter().partition(|(name, _)| hidden.contains(name));
    let saved = checkpoint.tensors.saved_in(node).unwrap_or_default();
    let mut others = Vec::new();
    for Child { label, node } in objects.children(node) {
        let name = checkpoint.element(label).to_string();
        let is_saved = saved.iter().any(|(saved, _)| *saved == name);
        if !is_saved && !["_parameters", "_buffers", "_modules"].contains(&name.as_str()) {
            others.push((name, node));
        }
    }
    let modules = named_items(checkpoint, objects.attribute(node, "_modules"));
    let saved = saved.iter().map(|(name, node)| ((*name).to_owned(), objects.unwrap(*node))).collect();
    Own { parameters, buffers, saved, hidden, modules, others }
}

fn own_of_script(checkpoint: &Checkpoint, node: NodeId) -> Own {
    let objects = checkpoint.objects();
    let described = checkpoint.framed.script().zip(objects.class(node));
    let described = described.and_then(|(script, (module, name))| script.class(&module, &name));
    let mut out = Own::default();
    let mut left = Vec::new();
    for Child { label, node } in objects.children(node) {
        let name = checkpoint.element(label).to_string();
        match objects.unwrap(node) {
            node if is_module(checkpoint, node) => out.modules.push((name, node)),
            node => left.push((name, node)),
        }
    }
    let is_tensor = |node: NodeId| checkpoint.tensors.of(node).is_some();
    let (parameters, buffers) = match described {
        Some(class) => (class.parameters.clone(), class.buffers.clone()),
        None => (Vec::new(), None),
    };
    // files without `__buffers__` count every other tensor attribute as a buffer
    let buffers = buffers.unwrap_or_else(|| {
        let others = left.iter().filter(|(name, node)| is_tensor(*node) && !parameters.contains(name));
        others.map(|(name, _)| name.clone()).collect()
    });
    let tensors = left.iter().enumerate().filter(|(_, (_, node))| is_tensor(*node));
    let mut places: HashMap<&str, usize> = tensors.map(|(at, (name, _))| (name.as_str(), at)).collect();
    let parameters: Vec<_> = parameters.iter().filter_map(|name| places.remove(name.as_str())).collect();
    let buffers: Vec<_> = buffers.iter().filter_map(|name| places.remove(name.as_str())).collect();
    let mut left: Vec<_> = left.into_iter().map(Some).collect();
    let mut take = |places: &[usize]| places.iter().filter_map(|at| left.get_mut(*at)?.take()).collect();
    (out.parameters, out.buffers) = (take(&parameters), take(&buffers));
    out.others = left.into_iter().flatten().collect();
    out
}

fn qualified(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// Everything a module holds: the tensors of `state_dict()` in its order, then every other tensor once.
pub(super) fn walk(checkpoint: &Checkpoint, root: NodeId, budget: &mut Budget) -> Result<ModuleContents> {
    let mut out = ModuleContents::default();
    let mut seen = HashSet::new();
    let mut others = Vec::new();
    // a submodule under two names gives its tensors twice, as state_dict() does; one inside itself ends there
    let mut stack = vec![(root, String::new(), 0)];
    let mut open: Vec<NodeId> = Vec::new();
    while let Some((node, prefix, depth)) = stack.pop() {
        budget.visit()?;
        budget.memory(ROW_BYTES + 2 * prefix.len())?;
        checkpoint.graph.complete()?;
        open.truncate(depth);
        if open.contains(&node) {
            continue;
        }
        if depth >= checkpoint.limits.max_depth {
            let max = checkpoint.limits.max_depth;
            return Err(Error::limit(format!("modules nest more than {max} deep")).allowed_by(Setting::MaxDepth));
        }
        open.push(node);
        let own = own(checkpoint, node);
        let saved = checkpoint.tensors.saved_in(node).unwrap_or_default();
        let is_saved = |node: NodeId| saved.iter().any(|(_, saved)| checkpoint.objects().unwrap(*saved) == node);
        out.modules.push((prefix.clone(), class_name(checkpoint, node)));
        let parameters = own.parameters.into_iter().map(|(name, node)| (name, node, None));
        let buffers = own.buffers.into_iter().map(|(name, node)| (name, node, Some(Role::Buffer)));
        let saved = own.saved.into_iter().map(|(name, node)| (name, node, Some(Role::Neither)));
        for (name, node, role) in parameters.chain(buffers).chain(saved) {
            let id = checkpoint.tensors.of(node);
            if id.is_none() && !is_saved(node) {
                continue;
            }
            seen.insert(node);
            let tensor = id.and_then(|id| checkpoint.tensor(id));
            let role = role.or_else(|| tensor.map(Role::of_parameter)).unwrap_or(Role::Neither);
            let path = vec![Element::Text(qualified(&prefix, &name))];
            budget.path(&path)?;
            out.tensors.push(ModuleTensor { path, node, id, in_state_dict: true, role });
        }
        others.extend(own.hidden.into_iter().map(|(name, node)| (qualified(&prefix, &name), node, Role::Buffer)));
        others.extend(own.others.into_iter().map(|(name, node)| (qualified(&prefix, &name), node, Role::Neither)));
        let submodules = own.modules.into_iter().rev().map(|(name, node)| (node, qualified(&prefix, &name), depth + 1));
        stack.extend(submodules);
    }
    for (name, node, role) in others {
        hold(checkpoint, name, (node, role), &mut seen, budget, &mut out)?;
    }
    Ok(out)
}

/// A TorchScript class is mangled when two share a name: `___torch_mangle_3` is no part of it.
fn class_name(checkpoint: &Checkpoint, node: NodeId) -> String {
    checkpoint.objects().class_name(node).unwrap_or_default()
}

/// The tensors below an attribute that have not been listed yet; each object is looked at once.
fn hold(
    checkpoint: &Checkpoint,
    name: String,
    (node, role): (NodeId, Role),
    seen: &mut HashSet<NodeId>,
    budget: &mut Budget,
    out: &mut ModuleContents,
) -> Result<()> {
    let objects = checkpoint.objects();
    let mut stack = vec![(node, vec![Element::Text(name)])];
    while let Some((node, path)) = stack.pop() {
        let node = objects.unwrap(node);
        if matches!(
            checkpoint.graph.node(node),
            Node::None | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Str(_)
        ) || !seen.insert(node)
        {
            continue;
        }
        budget.visit()?;
        if let Some(id) = checkpoint.tensors.of(node) {
            budget.path(&path)?;
            out.tensors.push(ModuleTensor { path, node, id: Some(id), in_state_dict: false, role });
            continue;
        }
        if path.len() >= checkpoint.limits.max_depth {
            return Err(Error::limit("a module's attributes nest too deep").allowed_by(Setting::MaxDepth));
        }
        for child in objects.children(node).into_iter().rev() {
            // what holds no more objects needs no path
            if !objects.is_plain_scalar(child.node) {
                let mut path = path.clone();
                path.push(checkpoint.element(child.label));
                budget.path(&path)?;
                stack.push((child.node, path));
            }
        }
    }
    Ok(())
}

impl Checkpoint {
    /// What a module's `state_dict()` has beside tensors, by whole names: the dtypes and the pairs of weight and bias of
    /// torch's quantized modules. Of a state dict that torch made, its own values, as far as `weights_only=True` takes
    /// them.
    pub(crate) fn saved_values(&self, module: NodeId) -> Result<Vec<(String, NodeId)>> {
        let module = self.objects().unwrap(module);
        if !is_module(self, module) {
            return self.values_of_state_dict(module);
        }
        let found = walk(self, module, &mut Budget::new(&self.limits, &self.graph))?;
        let values = found.tensors.into_iter().filter(|found| found.id.is_none());
        Ok(values.map(|found| (join(&found.path), found.node)).collect())
    }

    fn values_of_state_dict(&self, node: NodeId) -> Result<Vec<(String, NodeId)>> {
        let objects = self.objects();
        if objects.attribute(node, "_metadata").is_none() {
            return Ok(Vec::new());
        }
        let mut values = Vec::new();
        for entry in objects.items(node).unwrap_or_default() {
            if self.tensors.of(objects.unwrap(entry.value)).is_none() && self.is_plain(entry.value)? {
                values.push((self.element(Label::Key(entry.key)).to_string(), entry.value));
            }
        }
        Ok(values)
    }

    /// Whether everything below is made by what torch opens with `weights_only=True`.
    fn is_plain(&self, node: NodeId) -> Result<bool> {
        const MODULES: &[&str] = &["torch", "torch._utils", "torch.serialization", "collections", "_codecs"];
        const NOT: &[&str] = &["ScriptObject", "defaultdict", "deque", "_rebuild_nested_tensor"];
        let scan = Census::new(&self.graph, node)?;
        Ok(scan.order().iter().all(|node| match self.graph.global(*node) {
            Some((module, name)) => MODULES.contains(&module.as_ref()) && !NOT.contains(&name.as_ref()),
            None => !matches!(self.graph.node(*node), Node::Extension(_) | Node::Buffer | Node::ReadOnlyBuffer(_)),
        }))
    }
}

/// A module's own tensors, submodules and other attributes by name.
pub(super) fn parts(checkpoint: &Checkpoint, node: NodeId) -> Vec<(Element, NodeId)> {
    let own = own(checkpoint, node);
    let tensors = own.parameters.into_iter().chain(own.buffers);
    let parts = tensors.chain(own.saved).chain(own.modules).chain(own.hidden).chain(own.others);
    parts.map(|(name, node)| (Element::Text(name), node)).collect()
}
