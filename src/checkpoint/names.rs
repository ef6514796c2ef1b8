//! Names: walking the object graph in file order, giving every tensor and value its path.
//!
//! A graph is small where the tree it stands for may be endless (shared lists of shared lists, lists that contain
//! themselves): the walk is iterative, and depth, visits and bytes of names are bounded.

use std::collections::HashSet;

pub(crate) use crate::checkpoint::entry::Element;
pub(crate) use crate::checkpoint::entry::join;
use crate::checkpoint::entry::{Budget, ROW_BYTES};
pub use crate::checkpoint::entry::{Entry, Item};
use crate::checkpoint::module::{self, ModuleTensor};
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::role::{Role, names_optimizer};
use crate::checkpoint::tensor::TensorId;
use crate::checkpoint::value::MAX_JSON_ITEMS;
use crate::checkpoint::{Checkpoint, Root};
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::pickle::{Node, NodeId};

/// Everything a checkpoint names, in file order.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Tensors and values.
    pub entries: Vec<Entry>,
    /// Modules: path and class name, outer ones first.
    pub modules: Vec<(Vec<Element>, String)>,
}

struct Frame {
    node: NodeId,
    children: Vec<Child>,
    next: usize,
    in_optimizer: bool,
    /// What every tensor below counts as, where what holds it decides.
    every: Option<Role>,
    /// Whether it is a state dict, once somebody asked.
    is_state_dict: Option<bool>,
    /// The outermost tensor in whose state it lies.
    inside: Option<TensorId>,
    in_state_dict: bool,
}

impl Checkpoint {
    /// Every tensor and value below `root`, with paths relative to it. Fails when a bound of [`crate::limits::Limits`]
    /// is met.
    pub fn names(&self, root: &Root) -> Result<Names> {
        let mut walk = Walk {
            checkpoint: self,
            budget: Budget::new(&self.limits, &self.graph),
            out: Names::default(),
            path: Vec::new(),
            frames: Vec::new(),
            open: HashSet::new(),
            every: None,
            inside: None,
            in_state_dict: true,
            in_module: false,
        };
        let named = |element: &Element| matches!(element, Element::Text(key) if names_optimizer(key));
        let is_optimizer = root.in_optimizer || root.path.iter().any(named);
        walk.every = is_optimizer.then_some(Role::Optimizer);
        walk.visit(root.node, root.in_optimizer)?;
        walk.below(0)?;
        for (path, node) in self.framed.attached() {
            let below = match root.node == self.root {
                true => path.as_slice(),
                false if root.path.is_empty() => continue,
                false => match path.strip_prefix(root.path.as_slice()) {
                    Some(below) => below,
                    None => continue,
                },
            };
            walk.path = below.to_vec();
            if let Some(id) = self.tensors.of(*node) {
                walk.push(*node, Item::Tensor(id, false), false, Role::Neither)?;
            }
        }
        self.graph.complete()?;
        Ok(match &root.stem {
            Some(stem) => walk.out.below(stem),
            None => walk.out,
        })
    }

    /// A label as it is shown.
    pub(crate) fn element(&self, label: Label) -> Element {
        let key = match label {
            Label::Index(index) => return Element::Int(i64::try_from(index).unwrap_or(i64::MAX)),
            Label::State => return Element::Text("__state__".into()),
            Label::Key(key) | Label::Attribute(key) => key,
        };
        match self.graph.node(key) {
            Node::Str(text) => Element::Text(self.graph.text_lossy(*text).unwrap_or_default().into_owned()),
            Node::Int(value) => Element::Int(*value),
            Node::Bool(value) => Element::Bool(*value),
            _ => Element::Text(self.objects().repr(key, MAX_KEY_CHARS)),
        }
    }
}

const MAX_KEY_CHARS: usize = 4096;

struct Walk<'a> {
    checkpoint: &'a Checkpoint,
    budget: Budget,
    out: Names,
    path: Vec<Element>,
    frames: Vec<Frame>,
    /// Objects on the way from the root to here.
    open: HashSet<NodeId>,
    /// What every tensor counts as: the root itself lies in an optimizer.
    every: Option<Role>,
    /// The outermost tensor in whose state the walk is, and whether `state_dict()` gives that tensor.
    inside: Option<TensorId>,
    in_state_dict: bool,
    /// The walk is in what a module lists.
    in_module: bool,
}

impl Walk<'_> {
    /// Walks on until only the first `frames` are open.
    fn below(&mut self, frames: usize) -> Result<()> {
        while self.frames.len() > frames {
            let Some(frame) = self.frames.last_mut() else { break };
            // an open frame stands for the last element of the path, but for the root's
            let Some(child) = frame.children.get(frame.next).copied() else {
                let node = frame.node;
                self.frames.pop();
                self.open.remove(&node);
                self.path.pop();
                continue;
            };
            frame.next += 1;
            let in_optimizer = frame.in_optimizer;
            self.inside = frame.inside;
            self.in_state_dict = frame.in_state_dict;
            self.path.push(self.checkpoint.element(child.label));
            let depth = self.frames.len();
            self.visit(child.node, in_optimizer)?;
            self.checkpoint.graph.complete()?;
            if self.frames.len() == depth {
                self.path.pop();
            }
        }
        Ok(())
    }

    /// Lists the object, or opens a frame for what lies below it.
    fn visit(&mut self, node: NodeId, in_optimizer: bool) -> Result<()> {
        self.budget.visit()?;
        let objects = self.checkpoint.objects();
        let node = objects.unwrap(node);
        if let Some(id) = self.checkpoint.tensors.of(node) {
            let role = self.role(id);
            self.push(node, Item::Tensor(id, self.in_state_dict), in_optimizer, role)?;
            return self.visit_state(node, id, in_optimizer);
        }
        if self.open.contains(&node) {
            return self.push(node, Item::Recursion, in_optimizer, Role::Neither);
        }
        if module::is_module(self.checkpoint, node) {
            return self.visit_module(node, in_optimizer);
        }
        if objects.is_value(node) {
            self.push_value(node, in_optimizer)?;
            return match self.checkpoint.tensors.embedded_in(node) {
                Some(root) => self.open_file(node, self.checkpoint.embedded(root)),
                None => Ok(()),
            };
        }
        let mut children = objects.children(node);
        if children.is_empty() {
            return self.push_value(node, in_optimizer);
        }
        if let Some(root) = self.checkpoint.tensors.embedded_in(node) {
            children.extend(self.checkpoint.embedded(root));
            return self.open_file(node, children);
        }
        let in_optimizer = in_optimizer || self.checkpoint.is_optimizer(&children);
        self.open_frame(node, children, in_optimizer)
    }

    fn open_frame(&mut self, node: NodeId, children: Vec<Child>, in_optimizer: bool) -> Result<()> {
        if self.frames.len() >= self.checkpoint.limits.max_depth {
            let depth = self.checkpoint.limits.max_depth;
            return Err(Error::limit(format!("objects nest more than {depth} deep")).allowed_by(Setting::MaxDepth));
        }
        self.open.insert(node);
        let is_named = matches!(self.path.last(), Some(Element::Text(key)) if names_optimizer(key));
        let every = match self.every_here() {
            // what a subclass is made of has been counted with it
            None if self.checkpoint.tensors.of(node).is_some() => Some(Role::Neither),
            None if is_named || self.checkpoint.holds_optimizer(&children) => Some(Role::Optimizer),
            every => every,
        };
        self.frames.push(Frame {
            node,
            children,
            next: 0,
            in_optimizer,
            every,
            is_state_dict: None,
            inside: self.inside,
            in_state_dict: self.in_state_dict,
        });
        Ok(())
    }

    /// What a file holds that is a byte string is listed below it: no part of any state dict.
    fn open_file(&mut self, node: NodeId, children: Vec<Child>) -> Result<()> {
        if children.is_empty() {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.in_state_dict, false);
        self.open_frame(node, children, false)?;
        self.in_state_dict = before;
        Ok(())
    }

    fn every_here(&self) -> Option<Role> {
        self.frames.last().map_or(self.every, |frame| frame.every)
    }

    /// What a tensor counts as that is no module's.
    fn role(&mut self, id: TensorId) -> Role {
        if let Some(role) = self.every_here() {
            return role;
        }
        // what a module saves beside its parameters and buffers is neither
        if self.in_module {
            return Role::Neither;
        }
        let Some(tensor) = self.checkpoint.tensors.get(id) else { return Role::Neither };
        let name = match self.path.last() {
            Some(Element::Text(name)) => name.as_str(),
            _ => "",
        };
        let checkpoint = self.checkpoint;
        let frame = self.frames.last_mut();
        Role::by_name(checkpoint, tensor, name, || {
            frame.is_some_and(|frame| {
                let ask = || checkpoint.is_state_dict(frame.node, &frame.children);
                *frame.is_state_dict.get_or_insert_with(ask)
            })
        })
    }

    fn push_value(&mut self, node: NodeId, in_optimizer: bool) -> Result<()> {
        let role = self.every_here().unwrap_or_default();
        self.push(node, Item::Value, in_optimizer, role)
    }

    fn push(&mut self, node: NodeId, item: Item, in_optimizer: bool, role: Role) -> Result<()> {
        self.budget.path(&self.path)?;
        self.budget.memory(ROW_BYTES + self.value_bytes(node))?;
        let (path, inside) = (self.path.clone(), self.inside);
        self.out.entries.push(Entry { path, node, item, in_optimizer, role, inside });
        Ok(())
    }

    /// About what the texts of a value take once it is listed.
    fn value_bytes(&self, node: NodeId) -> usize {
        let graph = &self.checkpoint.graph;
        match graph.node(node) {
            Node::Str(text) | Node::Bytes(text) => usize::try_from(graph.stored_len(*text).min(1 << 20)).unwrap_or(0),
            _ => match graph.sequence(node).map_or(0, <[NodeId]>::len) {
                len if len <= MAX_JSON_ITEMS => len * size_of::<serde_json::Value>(),
                _ => 0,
            },
        }
    }

    /// A parameter or subclass lists its state where that holds other tensors.
    fn visit_state(&mut self, node: NodeId, id: TensorId, in_optimizer: bool) -> Result<()> {
        let Some(tensor) = self.checkpoint.tensors.get(id) else { return Ok(()) };
        if self.open.contains(&node) {
            return Ok(());
        }
        let holding = self.checkpoint.state_children(tensor);
        if holding.is_empty() {
            return Ok(());
        }
        let before = self.inside;
        self.inside = self.inside.or(Some(id));
        self.open_frame(node, holding, in_optimizer)?;
        self.inside = before;
        Ok(())
    }

    fn visit_module(&mut self, node: NodeId, in_optimizer: bool) -> Result<()> {
        let found = module::walk(self.checkpoint, node, &mut self.budget)?;
        if found.tensors.is_empty() {
            return self.push_value(node, in_optimizer);
        }
        let depth = self.path.len();
        for (name, class) in found.modules {
            self.path.extend((!name.is_empty()).then_some(Element::Text(name)));
            self.budget.path(&self.path)?;
            self.out.modules.push((self.path.clone(), class));
            self.path.truncate(depth);
        }
        for tensor in found.tensors {
            self.path.extend(tensor.path.iter().cloned());
            self.visit_of_module(&tensor, in_optimizer)?;
            self.path.truncate(depth);
        }
        Ok(())
    }
}

impl Walk<'_> {
    /// Lists a tensor of a module with its state, or another value of its `state_dict()`, whose path is set.
    fn visit_of_module(&mut self, found: &ModuleTensor, in_optimizer: bool) -> Result<()> {
        if let Some(id) = found.id {
            let role = self.every_here().unwrap_or(found.role);
            let item = Item::Tensor(id, found.in_state_dict && self.in_state_dict);
            self.push(found.node, item, in_optimizer, role)?;
        }
        // modules in the state of a module's tensor could go on and on
        if self.in_module {
            return if found.id.is_none() { self.push_value(found.node, in_optimizer) } else { Ok(()) };
        }
        let (frames, inside, before) = (self.frames.len(), self.inside, self.in_state_dict);
        (self.in_module, self.in_state_dict) = (true, before && found.in_state_dict);
        match found.id {
            Some(id) => self.visit_state(found.node, id, in_optimizer)?,
            None => self.visit(found.node, in_optimizer)?,
        }
        self.below(frames)?;
        (self.in_module, self.in_state_dict, self.inside) = (false, before, inside);
        Ok(())
    }
}

impl Checkpoint {
    /// True for the children of a dict with `state` and `param_groups`: what `optimizer.state_dict()` gives.
    pub(super) fn is_optimizer(&self, children: &[Child]) -> bool {
        let has = |name: &str| {
            children.iter().any(|child| match child.label {
                Label::Key(key) => self.graph.str_or_bytes(key).as_deref() == Some(name),
                _ => false,
            })
        };
        children.len() < 64 && has("state") && has("param_groups")
    }

    /// The parts of the object that a file inside a byte string holds; a tensor or a module is its only one.
    pub(super) fn embedded(&self, root: NodeId) -> Vec<Child> {
        let objects = self.objects();
        let root = objects.unwrap(root);
        let is_whole = self.tensors.of(root).is_some() || module::is_module(self, root);
        if is_whole { vec![Child { label: Label::Index(0), node: root }] } else { objects.children(root) }
    }

    /// Whether a tensor lies anywhere below an object.
    pub(super) fn holds_tensors(&self, node: NodeId) -> bool {
        let objects = self.objects();
        let mut seen = HashSet::from([node]);
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if self.tensors.of(node).is_some() {
                return true;
            }
            let below = objects.children(node).into_iter().map(|child| objects.unwrap(child.node));
            open.extend(below.filter(|child| seen.insert(*child)));
        }
        false
    }
}
/// A path with its elements apart: `["a", "b.c"]`.
pub(crate) fn show_path(path: &[Element]) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let shown: Vec<String> = path
        .iter()
        .map(|element| match element {
            Element::Text(text) => format!("{text:?}"),
            other => other.to_string(),
        })
        .collect();
    format!("{} [{}]", join(path), shown.join(", "))
}

/// Says that a name has two things.
pub(crate) fn ambiguous(name: &str, first: &[Element], second: &[Element]) -> String {
    format!("`{name}` is ambiguous: {} or {}", show_path(first), show_path(second))
}
