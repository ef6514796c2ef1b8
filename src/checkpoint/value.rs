//! Everything in a checkpoint that is not a tensor: its type, its `repr` and, where that is exact, its JSON.

mod json;

pub(super) use json::MAX_JSON_ITEMS;

use serde_json::Value as Json;

use crate::checkpoint::arguments::torch_dtype;
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::entry::Item;
use crate::checkpoint::numpy;
use crate::checkpoint::object::Objects;
use crate::checkpoint::python2;
use crate::checkpoint::storage::Persistent;
use crate::pickle::{Change, Node, NodeId};

/// A value that is listed as one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Python's bare class name.
    pub type_name: String,
    /// Python 3's `repr`, cut with `...`.
    pub repr: String,
    /// The value, where JSON can say it exactly.
    pub json: Json,
}

impl Objects<'_> {
    /// True for exactly `None`, `bool`, `int`, `float`, `str` and `bytes`.
    pub(crate) fn is_plain_scalar(&self, node: NodeId) -> bool {
        match self.graph.node(node) {
            Node::None
            | Node::Bool(_)
            | Node::Int(_)
            | Node::Long(_)
            | Node::Float(_)
            | Node::Str(_)
            | Node::Bytes(_) => true,
            Node::Object(_) => matches!(self.constructor(node), Some(Constructor::Encode | Constructor::NoBytes)),
            _ => false,
        }
    }

    /// The bare class name of any object.
    pub(crate) fn type_name(&self, node: NodeId) -> String {
        let builtin = match self.graph.node(node) {
            Node::Tuple(_) => "tuple",
            Node::List(_) => "list",
            Node::Dict(_) => "dict",
            Node::Object(_) => {
                let class = || self.class_name(node).unwrap_or_else(|| "object".into());
                return match self.constructor(node) {
                    Some(Constructor::NumpyArray) => "ndarray".into(),
                    Some(Constructor::Encode) => "bytes".into(),
                    _ => class(),
                };
            }
            _ => return self.value_kind(node).map_or_else(|| "object".into(), |(name, _)| name),
        };
        builtin.to_owned()
    }

    /// Whether [`Objects::value`] gives something.
    pub(crate) fn is_value(&self, node: NodeId) -> bool {
        self.value_kind(node).is_some()
    }

    /// The value that a node is, if it is listed as one: scalars, sequences of plain scalars, empty containers, sets,
    /// sizes, dtypes, devices, numpy scalars, bare storages, classes, objects of plain arguments and nothing else.
    pub(crate) fn value(&self, node: NodeId, max_chars: usize) -> Option<Value> {
        let (type_name, json) = self.value_kind(node)?;
        Some(Value { type_name, repr: self.repr(node, max_chars), json })
    }

    /// What is said of anything that is listed and no tensor: a value, an object that is none, what contains itself.
    pub(crate) fn listed(&self, node: NodeId, item: Item, max_chars: usize) -> Value {
        let repr = match item {
            Item::Recursion if self.items(node).is_some() => "{...}".to_owned(),
            Item::Recursion if self.elements(node).is_some() => "[...]".to_owned(),
            Item::Recursion => "...".to_owned(),
            _ => match self.value(node, max_chars) {
                Some(value) => return value,
                None => self.repr(node, max_chars),
            },
        };
        Value { type_name: self.type_name(node), repr, json: Json::Null }
    }

    fn value_kind(&self, node: NodeId) -> Option<(String, Json)> {
        let named = |name: &str| Some((name.to_owned(), Json::Null));
        match self.graph.node(node) {
            Node::Tuple(_) | Node::List(_) => {
                let items = self.graph.sequence(node).filter(|items| self.graph.look_at(items.len()))?;
                let plain = items.iter().all(|item| self.is_plain_scalar(*item)) && self.graph.changes(node).is_empty();
                let name = if self.graph.tuple(node).is_some() { "tuple" } else { "list" };
                plain.then(|| (name.to_owned(), self.json_of_sequence(items)))
            }
            Node::Dict(entries) => (entries.is_empty() && self.graph.changes(node).is_empty())
                .then(|| ("dict".into(), Json::Object(Default::default()))),
            Node::Set(_) => named("set"),
            Node::FrozenSet(_) => named("frozenset"),
            Node::Global { .. } => named(if torch_dtype(self.graph, node).is_some_and(|d| d.class().is_some()) {
                "dtype"
            } else if self
                .graph
                .global(node)
                .is_some_and(|(module, name)| names_a_class(python2::renamed(&module, &name).1))
            {
                "type"
            } else {
                "function"
            }),
            Node::Extension(_) => named("extension"),
            Node::Persistent(_) => Some((self.storage_class(node).unwrap_or_else(|| "persistent".into()), Json::Null)),
            Node::ByteArray(_) => named("bytearray"),
            Node::Buffer | Node::ReadOnlyBuffer(_) => named("PickleBuffer"),
            Node::Foreign(_) => None,
            Node::Object(_) => self.object_kind(node),
            _ => Some((self.scalar_type(node).to_owned(), self.json_of_scalar(node))),
        }
    }

    fn object_kind(&self, node: NodeId) -> Option<(String, Json)> {
        let name = |name: &str| Some((name.to_owned(), Json::Null));
        let class = || self.class_name(node).unwrap_or_else(|| "object".into());
        match self.constructor(node) {
            Some(Constructor::Encode | Constructor::NoBytes) => name("bytes"),
            Some(Constructor::ByteArray) => name("bytearray"),
            Some(Constructor::Complex) => name("complex"),
            Some(Constructor::Set) => Some((class(), Json::Null)),
            Some(Constructor::Size) => {
                let items = self.args(node).first().and_then(|arg| self.graph.sequence(*arg)).unwrap_or_default();
                Some(("Size".into(), self.json_of_sequence(items)))
            }
            Some(Constructor::Device) => name("device"),
            Some(Constructor::Layout) => name("layout"),
            Some(Constructor::LoadFromBytes) => {
                let inner = self.tensors.inner_roots.get(&node)?;
                Some((self.storage_class(*inner)?, Json::Null))
            }
            Some(Constructor::NumpyScalar) => {
                let (kind, bytes) = numpy::scalar(self.graph, self.args(node))?;
                let name = kind.dtype.name();
                let bare =
                    ["datetime64", "timedelta64", "str", "bytes", "void"].iter().find(|bare| name.starts_with(**bare));
                let name = bare.map_or(name.to_owned(), |bare| match *bare {
                    "str" | "bytes" => format!("{bare}_"),
                    bare => bare.to_owned(),
                });
                Some((name, json::numpy_json(&kind.dtype, &bytes)))
            }
            Some(Constructor::NumpyDtype) => name("dtype"),
            Some(Constructor::NumpyArray) => {
                let (list, _) = numpy::object_array(self.graph, node)?;
                let items = self.graph.sequence(list).filter(|items| self.graph.look_at(items.len()))?;
                items.iter().all(|item| self.is_plain_scalar(*item)).then(|| ("ndarray".into(), Json::Null))
            }
            Some(Constructor::Mapping | Constructor::Sequence) => {
                let filled = self.graph.changes(node).iter().any(|change| !matches!(change, Change::Build(_)));
                if filled || !self.children(node).is_empty() {
                    return None;
                }
                let json =
                    if self.items(node).is_some() { Json::Object(Default::default()) } else { Json::Array(Vec::new()) };
                Some((class(), json))
            }
            _ => {
                let args = Some(self.constructor_arguments(node)).filter(|args| self.graph.look_at(args.len()))?;
                let bare = self.graph.changes(node).is_empty() && args.iter().all(|arg| self.is_plain_scalar(*arg));
                let without_kwargs = self.graph.object(node).is_some_and(|object| object.kwargs.is_none());
                let (dicts, others) = self.states(node);
                let nothing_inside = others.is_empty() && dicts.iter().all(|dict| dict.is_empty());
                (without_kwargs && (bare || nothing_inside && self.children(node).is_empty()))
                    .then(|| (class(), Json::Null))
            }
        }
    }

    /// The class of the storage that a persistent id names.
    fn storage_class(&self, node: NodeId) -> Option<String> {
        match self.storages.meaning(node)? {
            Persistent::Storage { id, .. } => self.storages.get(*id).map(|storage| storage.class.to_string()),
            Persistent::Class(_) => Some("type".into()),
            Persistent::Tensor(_) => None,
        }
    }

    fn scalar_type(&self, node: NodeId) -> &'static str {
        match self.graph.node(node) {
            Node::None => "NoneType",
            Node::Bool(_) => "bool",
            Node::Int(_) | Node::Long(_) => "int",
            Node::Float(_) => "float",
            Node::Str(_) => "str",
            _ => "bytes",
        }
    }
}

/// Classes are capitalised, but for those of `builtins` and numpy.
fn names_a_class(name: &str) -> bool {
    const LOWER: &[&str] =
        &["int", "float", "str", "bool", "bytes", "list", "dict", "tuple", "set", "object", "complex", "ndarray"];
    let last = name.rsplit('.').next().unwrap_or(name);
    last.starts_with(|c: char| c.is_uppercase()) || LOWER.iter().any(|lower| last.starts_with(lower))
}
