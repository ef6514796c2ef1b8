//! The whole object as `torch.load(weights_only=True)` takes it: each object of a class that torch's unpickler refuses
//! becomes what it holds.
//!
//! The walk reads the graph as it is and only plans; edits are made at its end, in place, so that what was shared stays
//! shared and what referred to itself still does. `objects` knows what other objects hold, `arrays` tensors and numpy,
//! `modules` state dicts, and `keys` what has to stay hashable.

mod arrays;
mod keys;
mod modules;
mod objects;

use std::collections::{HashMap, HashSet};

use thin_vec::ThinVec;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::entry::{Budget, Element, join};
use crate::checkpoint::object::Label;
use crate::checkpoint::resave::unfold_nested;
use crate::checkpoint::storage::Persistent;
use crate::checkpoint::tensor::{Kind, TensorId};
use crate::error::{Error, Result};
use crate::pickle::text::Encoding;
use crate::pickle::{Change, Construct, Node, NodeId, Object};

/// Longer byte strings are not spelled anew in memory.
const MAX_BYTES: u64 = 256 << 20;

/// Whether torch's unpickler takes a global: its module and its name.
pub(crate) type Takes<'a> = &'a dyn Fn(&str, &str) -> bool;

/// An object that became what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// Its name, from the top object on.
    pub name: String,
    /// Its class.
    pub class: String,
    /// The class of what stands in its place.
    pub became: String,
}

/// What was done to an object.
#[derive(Debug)]
pub(crate) struct Safe {
    /// The object.
    pub root: NodeId,
    /// What was replaced, in the order in which it is found.
    pub replaced: Vec<Replaced>,
    /// Names of tensors that a module held outside its state dict.
    pub left_out: Vec<String>,
}

/// How an object is reached: from where, and by which step.
struct Step {
    parent: usize,
    label: Option<Label>,
}

/// What becomes of an object.
enum Form {
    /// It stays, and so does what it is made of, but for the parts that are looked at next.
    Keep,
    /// It stays, and nothing below is looked at.
    Whole,
    /// Another object in its place.
    New(Node),
    /// Whatever an object that is there already becomes.
    Move(NodeId),
}

/// The same with the class that is reported; none where the value stays the same.
struct Fate {
    class: Option<String>,
    form: Form,
}

impl Fate {
    const KEEP: Fate = Fate { class: None, form: Form::Keep };
    const WHOLE: Fate = Fate { class: None, form: Form::Whole };

    /// The same value in other opcodes.
    fn same(node: Node) -> Fate {
        Fate { class: None, form: Form::New(node) }
    }

    fn new(class: String, node: Node) -> Fate {
        Fate { class: Some(class), form: Form::New(node) }
    }

    fn moved(class: String, node: NodeId) -> Fate {
        Fate { class: Some(class), form: Form::Move(node) }
    }
}

struct Work<'a> {
    checkpoint: &'a mut Checkpoint,
    takes: Takes<'a>,
    budget: Budget,
    prefix: &'a [Element],
    steps: Vec<Step>,
    seen: HashSet<NodeId>,
    open: Vec<(NodeId, usize)>,
    edits: Vec<(NodeId, Node)>,
    moved: HashMap<NodeId, NodeId>,
    /// Arrays that are tensors of their own from now on.
    arrays: Vec<TensorId>,
    /// Tensors that are none any more.
    forgotten: HashSet<NodeId>,
    found: Vec<(String, String, NodeId)>,
    left_out: Vec<String>,
    globals: HashMap<(&'static str, &'static str), NodeId>,
}

impl Checkpoint {
    /// Replaces everything below `root` that torch's weights-only unpickler refuses. `path` leads to `root`.
    pub(crate) fn make_safe(&mut self, root: NodeId, path: &[Element], takes: Takes<'_>) -> Result<Safe> {
        unfold_nested(self, root)?;
        let mut work = Work {
            budget: Budget::new(&self.limits, &self.graph),
            checkpoint: self,
            takes,
            prefix: path,
            steps: vec![Step { parent: 0, label: None }],
            seen: HashSet::new(),
            open: vec![(root, 0)],
            edits: Vec::new(),
            moved: HashMap::new(),
            arrays: Vec::new(),
            forgotten: HashSet::new(),
            found: Vec::new(),
            left_out: Vec::new(),
            globals: HashMap::new(),
        };
        while let Some((node, at)) = work.open.pop() {
            if work.seen.insert(node) {
                work.visit(node, at)?;
            }
        }
        work.finish(root)
    }
}

impl Work<'_> {
    fn visit(&mut self, node: NodeId, at: usize) -> Result<()> {
        self.budget.visit()?;
        let fate = self.fate(node, at)?;
        self.checkpoint.graph.complete()?;
        if let Some(class) = fate.class {
            let name = self.name(at);
            self.budget.memory(name.len() + class.len() + size_of::<Replaced>())?;
            self.found.push((name, class, node));
        }
        match fate.form {
            Form::Whole => {}
            Form::Keep => {
                let parts = self.parts(node, self.checkpoint.graph.node(node));
                self.push_all(parts, at);
            }
            Form::New(new) => {
                let parts = self.parts(node, &new);
                self.push_all(parts, at);
                self.edits.push((node, new));
            }
            Form::Move(target) => {
                self.moved.insert(node, target);
                self.open.push((target, at));
            }
        }
        Ok(())
    }

    /// What an object consists of, and how each part is reached.
    fn parts(&self, node: NodeId, made: &Node) -> Vec<(NodeId, Option<Label>)> {
        let graph = &self.checkpoint.graph;
        let mut parts: Vec<(NodeId, Option<Label>)> = Vec::new();
        let indexed = |items: &[NodeId]| -> Vec<(NodeId, Option<Label>)> {
            (0..).zip(items).map(|(index, item)| (*item, Some(Label::Index(index)))).collect()
        };
        let entry = |key: NodeId, value: NodeId| [(key, None), (value, Some(Label::Key(key)))];
        match made {
            Node::Tuple(items) => parts.extend(indexed(graph.children(*items))),
            Node::List(items) => parts.extend(indexed(items)),
            Node::Dict(entries) => parts.extend(entries.iter().flat_map(|item| entry(item.key, item.value))),
            Node::Persistent(pid) => parts.push((*pid, None)),
            Node::Object(object) => {
                let args = graph.sequence(object.args).unwrap_or_default();
                parts.extend(args.iter().map(|argument| (*argument, None)));
                if graph.sequence(object.args).is_none() {
                    parts.push((object.args, None));
                }
            }
            _ => {}
        }
        let changes = match made {
            Node::Object(object) => object.changes.as_slice(),
            // what was done to an object that something else stands for
            _ if graph.object(node).is_some() => &[],
            _ => graph.changes(node),
        };
        for change in changes {
            match change {
                Change::Item(item) => parts.extend(entry(item.key, item.value)),
                Change::Append(part) | Change::Add(part) | Change::Build(part) => parts.push((*part, None)),
            }
        }
        parts
    }

    /// Parts are looked at in their order. What no unpickler refuses needs no look.
    fn push_all(&mut self, parts: Vec<(NodeId, Option<Label>)>, parent: usize) {
        for (node, label) in parts.into_iter().rev() {
            let graph = &self.checkpoint.graph;
            let is_plain = match graph.node(node) {
                Node::None | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Long(_) => true,
                Node::Str(text) => graph.encoding(*text) == Encoding::Utf8,
                _ => false,
            };
            if is_plain || self.seen.contains(&node) {
                continue;
            }
            let at = match label {
                None => parent,
                Some(_) => {
                    self.steps.push(Step { parent, label });
                    self.steps.len() - 1
                }
            };
            self.open.push((node, at));
        }
    }

    /// The name of what a step leads to.
    fn name(&self, mut at: usize) -> String {
        let mut path = Vec::new();
        while let Some(Step { parent, label: Some(label) }) = self.steps.get(at) {
            path.push(self.checkpoint.element(*label));
            at = *parent;
        }
        path.extend(self.prefix.iter().rev().cloned());
        path.reverse();
        join(&path)
    }

    fn fate(&mut self, node: NodeId, at: usize) -> Result<Fate> {
        let graph = &self.checkpoint.graph;
        match graph.node(node) {
            Node::Str(text) => {
                let content = graph.text(*text)?.into_owned();
                let is_text = std::str::from_utf8(&content).is_ok();
                // a string of Python 2 that is no UTF-8 is Latin-1, as everywhere here
                let content = if is_text { content } else { graph.text_lossy(*text)?.into_owned().into_bytes() };
                Ok(Fate::same(Node::Str(self.checkpoint.graph.add_text_of(&content, Encoding::Utf8)?)))
            }
            Node::Bytes(text) => {
                let (raw, encoding) = (*text, graph.encoding(*text));
                if encoding != Encoding::Raw {
                    return Ok(Fate::KEEP);
                }
                if graph.stored_len(raw) > MAX_BYTES {
                    return Err(Error::limit(format!(
                        "{}: a byte string of more than {MAX_BYTES} bytes",
                        self.name(at)
                    )));
                }
                let bytes = graph.raw_text(raw)?.into_owned();
                Ok(Fate::same(self.encoded(&bytes)?))
            }
            Node::ByteArray(text) => {
                let bytes = self.checkpoint.graph.push(Node::Bytes(*text))?;
                Ok(Fate::same(self.call("__builtin__", "bytearray", &[bytes])?))
            }
            Node::Set(_) | Node::FrozenSet(_) => {
                let class = matches!(graph.node(node), Node::FrozenSet(_)).then(|| "frozenset".to_owned());
                let items = self.checkpoint.objects().set_elements(node).unwrap_or_default();
                Ok(Fate { class, form: Form::New(self.set(items)?) })
            }
            Node::Global { .. } if self.takes_global(node) => Ok(Fate::WHOLE),
            Node::Global { .. } => {
                let class = self.checkpoint.objects().type_name(node);
                let name = self.dotted(node);
                Ok(Fate::new(class, self.text(&name)?))
            }
            Node::Persistent(_) => match self.checkpoint.storages.meaning(node) {
                Some(Persistent::Class(class)) => {
                    let name = self.dotted(*class);
                    Ok(Fate::new("type".to_owned(), self.text(&name)?))
                }
                Some(_) => Ok(Fate::WHOLE),
                None if self.checkpoint.tensors.of(node).is_some() => Ok(Fate::WHOLE),
                None => Ok(Fate::KEEP),
            },
            Node::Foreign(_) => self.foreign(node),
            Node::Object(_) => self.object(node, at),
            _ => Ok(Fate::KEEP),
        }
    }

    /// Whether a node is a global that the unpickler takes.
    fn takes_global(&self, node: NodeId) -> bool {
        self.checkpoint.graph.global(node).is_some_and(|(module, name)| (self.takes)(&module, &name))
    }

    /// Whether the unpickler calls what an object is made by.
    fn takes_call(&self, node: NodeId) -> bool {
        self.checkpoint.graph.object(node).is_some_and(|object| {
            let plain = matches!(object.how, Construct::Reduce | Construct::NewObj) && object.kwargs.is_none();
            plain && self.takes_global(object.callable)
        })
    }

    /// `module.name` of a global, with Python 3's name for the builtins.
    fn dotted(&self, node: NodeId) -> String {
        let (module, name) = self.checkpoint.graph.global(node).unwrap_or_default();
        dotted(&module, &name)
    }

    /// The class of an object, for the report.
    fn class(&self, node: NodeId) -> String {
        let class = self.checkpoint.objects().class(node);
        class.map_or_else(|| "object".to_owned(), |(module, name)| dotted(&module, &name))
    }

    fn push(&mut self, node: Node) -> Result<NodeId> {
        self.checkpoint.graph.push(node)
    }

    fn text(&mut self, text: &str) -> Result<Node> {
        Ok(Node::Str(self.checkpoint.graph.add_text_of(text.as_bytes(), Encoding::Utf8)?))
    }

    fn global(&mut self, module: &'static str, name: &'static str) -> Result<NodeId> {
        if let Some(node) = self.globals.get(&(module, name)) {
            return Ok(*node);
        }
        let (of, called) = (self.checkpoint.graph.push_str(module)?, self.checkpoint.graph.push_str(name)?);
        let node = self.push(Node::Global { module: of, name: called })?;
        self.globals.insert((module, name), node);
        Ok(node)
    }

    fn call(&mut self, module: &'static str, name: &'static str, args: &[NodeId]) -> Result<Node> {
        let callable = self.global(module, name)?;
        let args = self.checkpoint.graph.push_tuple(args)?;
        let how = Construct::Reduce;
        Ok(Node::Object(Box::new(Object { how, callable, args, kwargs: None, changes: ThinVec::new() })))
    }

    /// Bytes as protocol 2 spells them: `_codecs.encode(text, 'latin1')`.
    fn encoded(&mut self, bytes: &[u8]) -> Result<Node> {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let (text, latin1) = (self.checkpoint.graph.push_str(&text)?, self.checkpoint.graph.push_str("latin1")?);
        self.call("_codecs", "encode", &[text, latin1])
    }

    /// A set as protocol 2 spells it: `set([…])`.
    fn set(&mut self, items: Vec<NodeId>) -> Result<Node> {
        let list = self.push(Node::List(Box::new(items)))?;
        self.call("__builtin__", "set", &[list])
    }

    fn list(items: Vec<NodeId>) -> Node {
        Node::List(Box::new(items))
    }

    /// What has come into an object's place.
    fn now(&self, mut node: NodeId) -> Result<NodeId> {
        for _ in 0..=self.moved.len() {
            match self.moved.get(&node) {
                Some(next) => node = *next,
                None => return Ok(node),
            }
        }
        Err(Error::unsupported("an object that consists of itself and nothing else"))
    }

    /// Makes the edits.
    fn finish(mut self, root: NodeId) -> Result<Safe> {
        let mut touched = HashSet::new();
        for id in std::mem::take(&mut self.arrays) {
            if let Some(tensor) = self.checkpoint.tensors.get_mut(id) {
                tensor.kind = Kind::Tensor;
                (tensor.class, tensor.requires_grad) = (None, tensor.requires_grad.or(Some(false)));
            }
        }
        self.checkpoint.tensors.forget(&self.forgotten);
        for (node, new) in std::mem::take(&mut self.edits) {
            if let Some(place) = self.checkpoint.graph.node_mut(node) {
                *place = new;
            }
        }
        let mut new = HashMap::new();
        for node in self.moved.keys() {
            new.insert(*node, self.now(*node)?);
        }
        self.checkpoint.graph.redirect(&new);
        for (_, _, node) in &self.found {
            touched.insert(self.now(*node)?);
        }
        let root = self.now(root)?;
        self.keep_hashable(root, &touched)?;
        let mut replaced = Vec::new();
        for (name, class, node) in std::mem::take(&mut self.found) {
            let became = self.became(self.now(node)?);
            replaced.push(Replaced { name, class, became });
        }
        Ok(Safe { root, replaced, left_out: self.left_out })
    }

    fn became(&self, node: NodeId) -> String {
        let checkpoint = &self.checkpoint;
        match checkpoint.tensors.of(node).and_then(|id| checkpoint.tensors.get(id)) {
            Some(tensor) if tensor.kind == Kind::Parameter => "Parameter".to_owned(),
            Some(_) => "Tensor".to_owned(),
            None => checkpoint.objects().type_name(node),
        }
    }
}

fn dotted(module: &str, name: &str) -> String {
    match module {
        "" | "builtins" | "__builtin__" => name.to_owned(),
        module => format!("{module}.{name}"),
    }
}
