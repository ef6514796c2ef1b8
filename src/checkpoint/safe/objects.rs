//! What objects of the standard library, of configurations and of classes nobody knows hold.

use std::collections::HashMap;

use super::{Fate, Form, Work};
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::module;
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::storage::Persistent;
use crate::error::Result;
use crate::pickle::{Change, Construct, Node, NodeId, Pair};

impl Work<'_> {
    pub(super) fn object(&mut self, node: NodeId, at: usize) -> Result<Fate> {
        if let Some(id) = self.checkpoint.tensors.of(node) {
            return self.tensor(node, id);
        }
        let objects = self.checkpoint.objects();
        let first = objects.args(node).first().copied();
        match (objects.constructor(node), first) {
            (Some(Constructor::NoBytes), _) => return Ok(Fate::same(self.encoded(b"")?)),
            (Some(Constructor::Unwrapped), Some(inner)) => {
                return Ok(Fate { class: None, form: Form::Move(inner) });
            }
            (Some(Constructor::LoadFromBytes), _) => {
                let inner = self.checkpoint.tensors.inner_roots.get(&node).copied();
                let is_storage =
                    |inner| matches!(self.checkpoint.storages.meaning(inner), Some(Persistent::Storage { .. }));
                return Ok(match inner {
                    Some(inner) if !is_storage(inner) => Fate { class: None, form: Form::Move(inner) },
                    _ => Fate::WHOLE,
                });
            }
            (Some(Constructor::Set), _) => return self.set_object(node),
            (Some(Constructor::NumpyScalar), _) => {
                if let Some(made) = self.numpy_scalar(node)? {
                    return Ok(Fate::new(self.numpy_class(node), made));
                }
            }
            (Some(Constructor::NumpyDtype), _) => {
                let name = self.numpy_dtype(node);
                return Ok(Fate::new("numpy.dtype".to_owned(), self.text(&name)?));
            }
            (Some(Constructor::NumpyArray), _) => {
                if let Some(form) = self.object_array(node)? {
                    return Ok(Fate { class: Some("numpy.ndarray".to_owned()), form });
                }
            }
            _ => {}
        }
        if self.takes_call(node) {
            return Ok(Fate::KEEP);
        }
        if module::is_module(self.checkpoint, node) {
            return self.module(node, at);
        }
        let class = self.class(node);
        if let Some(form) = self.configuration(node) {
            return Ok(Fate { class: Some(class), form });
        }
        if let Some((module, name)) = self.checkpoint.objects().nested_class(node) {
            let name = super::dotted(&module, &name);
            return Ok(Fate::new("type".to_owned(), self.text(&name)?));
        }
        if let Some(text) = self.checkpoint.objects().plain_text(node) {
            return Ok(Fate::new(class, self.text(&text)?));
        }
        let form = self.contents(node)?;
        Ok(Fate { class: Some(class), form })
    }

    /// `set([…])` stays; a frozenset becomes one.
    fn set_object(&mut self, node: NodeId) -> Result<Fate> {
        let objects = self.checkpoint.objects();
        let frozen = objects.class_name(node).as_deref() == Some("frozenset");
        if !frozen && self.takes_call(node) && self.checkpoint.graph.changes(node).is_empty() {
            return Ok(Fate::KEEP);
        }
        let items = objects.set_elements(node).unwrap_or_default();
        let class = frozen.then(|| "frozenset".to_owned());
        Ok(Fate { class, form: Form::New(self.set(items)?) })
    }

    /// What OmegaConf's nodes hold: the content of containers, the value of all others.
    fn configuration(&self, node: NodeId) -> Option<Form> {
        let objects = self.checkpoint.objects();
        let (module, _) = objects.class(node)?;
        if module != "omegaconf" && !module.starts_with("omegaconf.") {
            return None;
        }
        let Some(content) = objects.attribute(node, "_content") else {
            return objects.attribute(node, "_val").map(Form::Move);
        };
        Some(match (objects.items(content), objects.elements(content)) {
            (Some(entries), _) => Form::New(Node::Dict(Box::new(entries))),
            (_, Some(items)) => Form::New(Self::list(items)),
            // missing, or the interpolation of another key
            _ => Form::Move(content),
        })
    }

    /// What any object holds, by the names that its parts are listed under.
    fn contents(&mut self, node: NodeId) -> Result<Form> {
        let objects = self.checkpoint.objects();
        if let Some(entries) = objects.items(node) {
            return Ok(Form::New(Node::Dict(Box::new(entries))));
        }
        if let Some(items) = objects.elements(node) {
            return Ok(Form::New(Self::list(items)));
        }
        let mut children = objects.children(node);
        // a dict that is its own attributes
        children.retain(|child| !(child.label == Label::State && child.node == node));
        let changes = self.checkpoint.graph.changes(node);
        let is_built = changes.iter().any(|change| matches!(change, Change::Build(_)));
        let appends = changes.iter().any(|change| matches!(change, Change::Append(_)));
        let adds = changes.iter().any(|change| matches!(change, Change::Add(_)));
        let arguments = objects.constructor_arguments(node).to_vec();
        let is_indexed = children.iter().all(|child| matches!(child.label, Label::Index(_)));
        let items = || children.iter().map(|child| child.node).collect::<Vec<_>>();
        if is_indexed && !children.is_empty() {
            if adds && arguments.is_empty() && !appends {
                return Ok(Form::New(self.set(items())?));
            }
            if appends || adds {
                return Ok(Form::New(Self::list(items())));
            }
            let is_new = self.checkpoint.graph.object(node).is_some_and(|object| object.how == Construct::NewObj);
            return match *arguments.as_slice() {
                // an enum of its value, a string's subclass
                [value] if !is_new || self.checkpoint.objects().is_plain_scalar(value) => Ok(Form::Move(value)),
                _ => {
                    let tuple = self.checkpoint.graph.push_tuple(&arguments)?;
                    Ok(Form::New(self.checkpoint.graph.node(tuple).clone()))
                }
            };
        }
        if children.is_empty() && !is_built && self.lists_nothing(node) {
            return Ok(Form::New(Self::list(Vec::new())));
        }
        self.by_label(&children)
    }

    /// An empty list's subclass cannot be told from any other object without parts.
    fn lists_nothing(&self, node: NodeId) -> bool {
        let class = self.checkpoint.objects().class_name(node).unwrap_or_default();
        class.ends_with("List")
    }

    /// A dict of parts by their labels; attributes of a mapping that has keys of the same names become attributes of an
    /// `OrderedDict`.
    fn by_label(&mut self, children: &[Child]) -> Result<Form> {
        let mut attributes: HashMap<String, NodeId> = HashMap::new();
        for child in children {
            if let Label::Attribute(key) = child.label {
                let name = self.checkpoint.graph.str_or_bytes(key).unwrap_or_default().into_owned();
                attributes.insert(name, child.node);
            }
        }
        let is_attribute = |work: &Self, key: NodeId| {
            let name = work.checkpoint.graph.str(key)?;
            attributes.get(name.as_ref()).copied()
        };
        let hides = children.iter().any(|child| match child.label {
            Label::Key(key) => is_attribute(self, key).is_some_and(|other| other != child.node),
            _ => false,
        });
        let (mut entries, mut state) = (Vec::new(), Vec::new());
        for Child { label, node } in children {
            let key = match label {
                Label::Key(key) if !hides && is_attribute(self, *key).is_some() => continue,
                Label::Attribute(key) | Label::Key(key) => *key,
                Label::Index(index) => self.push(Node::Int(i64::try_from(*index).unwrap_or(i64::MAX)))?,
                Label::State => self.checkpoint.graph.push_str("__state__")?,
            };
            let to = if hides && matches!(label, Label::Attribute(_)) { &mut state } else { &mut entries };
            to.push(Pair { key, value: *node, key_at: 0 });
        }
        if !hides {
            return Ok(Form::New(Node::Dict(Box::new(entries))));
        }
        let state = self.push(Node::Dict(Box::new(state)))?;
        let mut made = self.call("collections", "OrderedDict", &[])?;
        if let Node::Object(object) = &mut made {
            object.changes.extend(entries.into_iter().map(Change::Item));
            object.changes.push(Change::Build(state));
        }
        Ok(Form::New(made))
    }
}
