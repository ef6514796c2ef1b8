//! Everything in a checkpoint that is not a tensor: its type, its `repr` and, where that is exact, its JSON.

mod stdlib;

use std::borrow::Cow;

use serde_json::Value as Json;

use crate::checkpoint::arguments::{device_name, torch_dtype};
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::entry::Item;
use crate::checkpoint::numpy;
use crate::checkpoint::object::Objects;
use crate::checkpoint::pyrepr;
use crate::checkpoint::storage::Persistent;
use crate::dtype::Class;
use crate::pickle::{Change, Graph, Node, NodeId, TextId, text};

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

/// Strings longer than this have no `value`, and only their beginning is read.
const MAX_STRING_BYTES: u64 = 1 << 20;
/// Sequences of more elements have no `value` either: it would take fifty times the memory.
pub(super) const MAX_JSON_ITEMS: usize = 1 << 20;
/// Integers beyond this are not exact in every JSON reader.
const MAX_EXACT_INT: i64 = 1 << 53;
/// Python refuses to print integers of more digits (`sys.int_info.default_max_str_digits`); so do we, to stay linear.
const MAX_INT_BYTES: u64 = 1800;

impl Objects<'_> {
    /// True for exactly `None`, `bool`, `int`, `float`, `str` and `bytes`.
    pub fn is_plain_scalar(&self, node: NodeId) -> bool {
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
    pub fn type_name(&self, node: NodeId) -> String {
        let builtin = match self.graph.node(node) {
            Node::Tuple(_) => "tuple",
            Node::List(_) => "list",
            Node::Dict(_) => "dict",
            Node::Object(_) => {
                let class = || self.class_name(node).unwrap_or_else(|| "object".into());
                let made = self.constructor(node) == Some(Constructor::NumpyArray);
                return if made { "ndarray".into() } else { class() };
            }
            _ => return self.value_kind(node).map_or_else(|| "object".into(), |(name, _)| name),
        };
        builtin.to_owned()
    }

    /// Whether [`Objects::value`] gives something.
    pub fn is_value(&self, node: NodeId) -> bool {
        self.value_kind(node).is_some()
    }

    /// The value that a node is, if it is listed as one: scalars, sequences of plain scalars, empty containers, sets,
    /// sizes, dtypes, devices, numpy scalars, bare storages, classes, objects of plain arguments and nothing else.
    pub fn value(&self, node: NodeId, max_chars: usize) -> Option<Value> {
        let (type_name, json) = self.value_kind(node)?;
        let mut repr = Repr { objects: self, out: String::new(), max: max_chars, depth: 0 };
        repr.write(node);
        Some(Value { type_name, repr: cut(repr.out, max_chars), json })
    }

    /// What is said of anything that is listed and no tensor: a value, an object that is none, what contains itself.
    pub fn listed(&self, node: NodeId, item: Item, max_chars: usize) -> Value {
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
            } else if self.graph.global(node).is_some_and(|(_, name)| names_a_class(&name)) {
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
                Some((name, numpy_json(&kind.dtype, &bytes)))
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

    fn json_of_sequence(&self, items: &[NodeId]) -> Json {
        if items.len() > MAX_JSON_ITEMS {
            return Json::Null;
        }
        let values: Vec<Json> = items.iter().map(|item| self.json_of_scalar(*item)).collect();
        let exact = values.iter().zip(items).all(|(value, item)| !value.is_null() || *item == Graph::NONE);
        if exact { Json::Array(values) } else { Json::Null }
    }

    fn json_of_scalar(&self, node: NodeId) -> Json {
        match self.graph.node(node) {
            Node::Bool(value) => Json::Bool(*value),
            Node::Int(value) if value.abs_diff(0) <= MAX_EXACT_INT.unsigned_abs() => Json::from(*value),
            Node::Float(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Node::Str(id) if self.graph.stored_len(*id) <= MAX_STRING_BYTES => {
                let content = self.graph.text(*id).ok();
                match content.map(|content| String::from_utf8(content.into_owned())) {
                    Some(Ok(text)) => Json::String(text),
                    _ => Json::Null,
                }
            }
            _ => Json::Null,
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

fn cut(text: String, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

fn numpy_json(dtype: &crate::dtype::DType, bytes: &[u8]) -> Json {
    match (dtype.class(), numpy_number(dtype, bytes)) {
        (Some(Class::Bool), Some(value)) => Json::Bool(value.int() != 0),
        (Some(Class::Float), Some(Number::Float(value))) => {
            serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number)
        }
        (Some(Class::Signed | Class::Unsigned), Some(value))
            if value.int().unsigned_abs() <= MAX_EXACT_INT.unsigned_abs().into() =>
        {
            i64::try_from(value.int()).map_or(Json::Null, Json::from)
        }
        _ => Json::Null,
    }
}

pub(super) enum Number {
    Int(i128),
    Float(f64),
    Float32(f32),
}

impl Number {
    fn int(&self) -> i128 {
        match self {
            Number::Int(value) => *value,
            _ => 0,
        }
    }
}

/// A little-endian element as a number.
pub(super) fn numpy_number(dtype: &crate::dtype::DType, bytes: &[u8]) -> Option<Number> {
    let bytes = bytes.get(..dtype.size()? as usize)?;
    Some(match (dtype.class()?, bytes.len()) {
        (Class::Float, 8) => Number::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
        (Class::Float, 4) => Number::Float32(f32::from_le_bytes(bytes.try_into().ok()?)),
        (Class::Float, 2) => Number::Float32(half::f16::from_le_bytes(bytes.try_into().ok()?).to_f32()),
        (Class::Signed, _) => {
            let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
            let mut wide = [fill; 16];
            wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            Number::Int(i128::from_le_bytes(wide))
        }
        (Class::Unsigned | Class::Bool, _) => {
            let mut wide = [0; 16];
            wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            Number::Int(i128::from_le_bytes(wide))
        }
        _ => return None,
    })
}

/// `repr` in the making: stops soon after `max` characters, whatever there is to show.
struct Repr<'a, 'b> {
    objects: &'a Objects<'b>,
    out: String,
    max: usize,
    depth: usize,
}

const MAX_REPR_DEPTH: usize = 20;

impl Repr<'_, '_> {
    fn full(&self) -> bool {
        self.out.len() > self.max.saturating_mul(4)
    }

    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn write(&mut self, node: NodeId) {
        if self.full() {
            return;
        }
        if self.depth >= MAX_REPR_DEPTH {
            return self.push("...");
        }
        self.depth += 1;
        self.write_node(node);
        self.depth -= 1;
    }

    fn write_node(&mut self, node: NodeId) {
        let graph = self.objects.graph;
        match graph.node(node) {
            Node::None => self.push("None"),
            Node::Bool(value) => self.push(if *value { "True" } else { "False" }),
            Node::Int(value) => self.push(&value.to_string()),
            Node::Float(value) => self.push(&pyrepr::float(*value)),
            Node::Long(id) => self.long(*id),
            Node::Str(id) => self.string(*id),
            Node::Bytes(id) => self.bytes(*id),
            Node::ByteArray(id) => {
                self.push("bytearray(");
                self.bytes(*id);
                self.push(")");
            }
            Node::Tuple(_) | Node::List(_) => {
                let (open, close) = if graph.tuple(node).is_some() { ("(", ")") } else { ("[", "]") };
                let items = graph.sequence(node).unwrap_or_default();
                self.push(open);
                self.items(items);
                self.push(if open == "(" && items.len() == 1 { ",)" } else { close });
            }
            Node::Dict(entries) if entries.is_empty() => self.push("{}"),
            Node::Dict(_) => {
                self.push("{");
                self.pairs(node);
                self.push("}");
            }
            Node::Set(_) | Node::FrozenSet(_) => self.set(node, matches!(graph.node(node), Node::FrozenSet(_))),
            Node::Global { .. } => {
                let (module, name) = graph.global(node).unwrap_or_default();
                let text = if module.is_empty() { name.into_owned() } else { format!("{module}.{name}") };
                self.push(&text);
            }
            Node::Extension(code) => self.push(&format!("<extension {code}>")),
            Node::Persistent(_) => self.storage(node),
            Node::Buffer | Node::ReadOnlyBuffer(_) => self.push("<out-of-band buffer>"),
            Node::Foreign(_) => self.push("..."),
            Node::Object(_) => self.object(node),
        }
    }

    fn object(&mut self, node: NodeId) {
        let objects = self.objects;
        let args = objects.args(node);
        let class = || objects.class_name(node).unwrap_or_else(|| "object".into());
        match objects.constructor(node) {
            Some(Constructor::NoBytes) => self.push("b''"),
            Some(Constructor::Encode) => match numpy::byte_string(objects.graph, node) {
                Some(id) => self.latin1(id),
                None => self.push("b''"),
            },
            Some(Constructor::ByteArray) => {
                self.push("bytearray(");
                match args.first() {
                    Some(first) => self.write(*first),
                    None => self.push("b''"),
                }
                self.push(")");
            }
            Some(Constructor::Complex) => {
                let part = |index: usize| match args.get(index).map(|node| objects.graph.node(*node)) {
                    Some(Node::Float(value)) => *value,
                    #[allow(clippy::cast_precision_loss)] // Python's own conversion
                    Some(Node::Int(value)) => *value as f64,
                    _ => 0.0,
                };
                self.push(&pyrepr::complex(part(0), part(1)));
            }
            Some(Constructor::Set) => self.set(node, objects.class_name(node).as_deref() == Some("frozenset")),
            Some(Constructor::Size) => {
                self.push("torch.Size([");
                self.items(args.first().and_then(|arg| objects.graph.sequence(*arg)).unwrap_or_default());
                self.push("])");
            }
            Some(Constructor::Device) => {
                let name = device_name(objects.graph, node).unwrap_or_default();
                let text = match name.split_once(':') {
                    Some((kind, index)) => format!("device(type='{kind}', index={index})"),
                    None => format!("device(type='{name}')"),
                };
                self.push(&text);
            }
            Some(Constructor::Layout) => {
                let name = args.first().and_then(|arg| objects.graph.str_or_bytes(*arg)).unwrap_or_default();
                self.push(&name);
            }
            Some(Constructor::LoadFromBytes) => {
                if let Some(inner) = objects.tensors.inner_roots.get(&node) {
                    self.storage(*inner);
                }
            }
            Some(Constructor::NumpyScalar) => self.numpy_scalar(node),
            Some(Constructor::NumpyDtype) => {
                let name = numpy::numpy_type(objects.graph, node).map(|kind| kind.dtype.name().to_owned());
                self.push(&format!("dtype('{}')", name.unwrap_or_default()));
            }
            Some(Constructor::NumpyArray) => {
                let list = numpy::object_array(objects.graph, node).map(|(list, _)| list);
                self.push("array([");
                self.items(list.and_then(|list| objects.graph.sequence(list)).unwrap_or_default());
                self.push("], dtype=object)");
            }
            Some(Constructor::Mapping) => {
                self.push(&class());
                self.push("(");
                if !objects.children(node).is_empty() {
                    self.push("{");
                    self.pairs(node);
                    self.push("}");
                }
                self.push(")");
            }
            Some(Constructor::Sequence) => {
                self.push(&class());
                self.push("([");
                self.items(&objects.elements(node).unwrap_or_default());
                self.push("])");
            }
            None if self.stdlib(node).is_some() => {}
            _ => {
                self.push(&class());
                self.push("(");
                self.items(objects.constructor_arguments(node));
                self.push(")");
            }
        }
    }

    fn items(&mut self, items: &[NodeId]) {
        for (index, item) in items.iter().enumerate() {
            if self.full() {
                return;
            }
            if index > 0 {
                self.push(", ");
            }
            self.write(*item);
        }
    }

    fn pairs(&mut self, node: NodeId) {
        for (index, entry) in self.objects.items(node).unwrap_or_default().iter().enumerate() {
            if self.full() {
                return;
            }
            if index > 0 {
                self.push(", ");
            }
            self.write(entry.key);
            self.push(": ");
            self.write(entry.value);
        }
    }

    fn set(&mut self, node: NodeId, frozen: bool) {
        let items = self.objects.set_elements(node).unwrap_or_default();
        let (open, close) = match (frozen, items.is_empty()) {
            (true, true) => ("frozenset(", ")"),
            (true, false) => ("frozenset({", "})"),
            (false, true) => ("set(", ")"),
            (false, false) => ("{", "}"),
        };
        self.push(open);
        self.items(&items);
        self.push(close);
    }

    /// The first bytes of a text that is too long to read, or all of it.
    fn content(&self, id: TextId) -> Cow<'_, [u8]> {
        let graph = self.objects.graph;
        if graph.stored_len(id) <= MAX_STRING_BYTES {
            return graph.text(id).unwrap_or_default();
        }
        let raw = graph.raw_text_prefix(id, self.max.saturating_mul(8)).unwrap_or_default();
        text::content(raw, graph.encoding(id))
    }

    fn string(&mut self, id: TextId) {
        let content = self.content(id);
        let shown = match self.objects.graph.encoding(id) {
            // a string of Python 2 is text when it is UTF-8, and else Latin-1
            text::Encoding::Python2 | text::Encoding::Python2Escaped => {
                let lossy = text::lossy(content, self.objects.graph.encoding(id));
                pyrepr::string(lossy.as_bytes())
            }
            _ => pyrepr::string(&content),
        };
        self.push(&shown);
    }

    fn bytes(&mut self, id: TextId) {
        let shown = pyrepr::bytes(&self.content(id));
        self.push(&shown);
    }

    /// The bytes that a text's characters stand for.
    fn latin1(&mut self, id: TextId) {
        let bytes: Vec<u8> = text::code_points(&self.content(id))
            .map(|point| u8::try_from(point.map_or(0x3f, u32::from)).unwrap_or(b'?'))
            .collect();
        self.push(&pyrepr::bytes(&bytes));
    }

    fn long(&mut self, id: TextId) {
        let graph = self.objects.graph;
        let len = graph.stored_len(id);
        if len > MAX_INT_BYTES {
            return self.push(&format!("<int of {len} bytes>"));
        }
        let raw = graph.raw_text(id).unwrap_or_default();
        let value = text::big_integer(&raw, graph.encoding(id));
        self.push(&value.map_or_else(|| "?".into(), |value| value.to_string()));
    }

    fn storage(&mut self, node: NodeId) {
        match self.objects.storages.meaning(node) {
            Some(Persistent::Storage { id, .. }) => {
                if let Some(storage) = self.objects.storages.get(*id) {
                    let text = format!("<{} of {} elements on {}>", storage.class, storage.numel, storage.location);
                    self.push(&text);
                }
            }
            Some(Persistent::Class(class)) => self.write(*class),
            _ => match self.objects.graph.node(node) {
                Node::Persistent(pid) => {
                    self.push("<persistent ");
                    self.write(*pid);
                    self.push(">");
                }
                _ => self.push("<persistent>"),
            },
        }
    }

    /// `np.float64(2.5)`, as numpy 2 prints it.
    fn numpy_scalar(&mut self, node: NodeId) {
        let Some((kind, bytes)) = numpy::scalar(self.objects.graph, self.objects.args(node)) else {
            return self.push("<numpy scalar>");
        };
        let name = kind.dtype.name();
        let text = match (kind.dtype.class(), numpy_number(&kind.dtype, &bytes)) {
            (Some(Class::Bool), Some(value)) => format!("np.{}_", if value.int() != 0 { "True" } else { "False" }),
            (_, Some(Number::Int(value))) => format!("np.{name}({value})"),
            (_, Some(Number::Float(value))) => format!("np.{name}({})", pyrepr::float(value)),
            (_, Some(Number::Float32(value))) => format!("np.{name}({})", pyrepr::float32(value)),
            _ if name.starts_with("str") => {
                let units = bytes
                    .chunks_exact(4)
                    .map(|unit| unit.iter().rev().fold(0u32, |value, b| value << 8 | u32::from(*b)));
                let mut content = Vec::new();
                units.for_each(|code| text::push_code_point(&mut content, code));
                let end = content.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
                content.truncate(end);
                format!("np.str_({})", pyrepr::string(&content))
            }
            _ if name.starts_with("bytes") => {
                let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
                format!("np.bytes_({})", pyrepr::bytes(bytes.get(..end).unwrap_or_default()))
            }
            _ => format!("np.{name}({})", pyrepr::bytes(&bytes)),
        };
        self.push(&text);
    }
}

impl Objects<'_> {
    /// Python's `repr` of any object, for keys of dicts: bounded in length and depth.
    pub fn repr(&self, node: NodeId, max_chars: usize) -> String {
        let mut repr = Repr { objects: self, out: String::new(), max: max_chars, depth: 0 };
        repr.write(node);
        cut(repr.out, max_chars)
    }
}
