//! Python 3's `repr` of any object, bounded in length and depth.

mod stdlib;

use std::borrow::Cow;

use crate::checkpoint::arguments::device_name;
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::number::{Number, numpy_number};
use crate::checkpoint::numpy;
use crate::checkpoint::object::Objects;
use crate::checkpoint::pyrepr;
use crate::checkpoint::python2;
use crate::checkpoint::storage::Persistent;
use crate::dtype::Class;
use crate::pickle::{Node, NodeId, TextId, text};

/// Strings longer than this have no `value`, and only their beginning is read.
pub(super) const MAX_STRING_BYTES: u64 = 1 << 20;
/// Python refuses to print integers of more digits (`sys.int_info.default_max_str_digits`); so do we, to stay linear.
const MAX_INT_BYTES: u64 = 1800;

impl Objects<'_> {
    /// Python's `repr` of any object, cut with `...` after so many characters.
    pub fn repr(&self, node: NodeId, max_chars: usize) -> String {
        let mut repr = Repr::new(self, max_chars);
        repr.write(node);
        cut(repr.out, max_chars)
    }

    /// The same with the elements of sets sorted by their own: hashing gives them another order in each process.
    pub(crate) fn sorted_repr(&self, node: NodeId, max_chars: usize) -> String {
        let mut repr = Repr { sorts_sets: true, ..Repr::new(self, max_chars) };
        repr.write(node);
        cut(repr.out, max_chars)
    }

    /// Whether [`repr`](Self::repr) leaves nothing out: no deep nesting, no long integer, no text behind so many characters.
    pub(crate) fn is_repr_whole(&self, node: NodeId, max_chars: usize) -> bool {
        let mut repr = Repr::new(self, max_chars);
        repr.write(node);
        !repr.is_cut && repr.out.chars().count() <= max_chars
    }
}

fn cut(text: String, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

/// `repr` in the making: stops soon after `max` characters, whatever there is to show.
struct Repr<'a, 'b> {
    objects: &'a Objects<'b>,
    out: String,
    max: usize,
    depth: usize,
    /// Something was left out.
    is_cut: bool,
    sorts_sets: bool,
}

const MAX_REPR_DEPTH: usize = 20;

impl<'a, 'b> Repr<'a, 'b> {
    fn new(objects: &'a Objects<'b>, max: usize) -> Self {
        Repr { objects, out: String::new(), max, depth: 0, is_cut: false, sorts_sets: false }
    }
}

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
            self.is_cut = true;
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
                let (module, name) = python2::renamed(&module, &name);
                let text = if module.is_empty() { name.to_owned() } else { format!("{module}.{name}") };
                self.push(&text);
            }
            Node::Extension(code) => self.push(&format!("<extension {code}>")),
            Node::Persistent(_) => self.storage(node),
            Node::Buffer | Node::ReadOnlyBuffer(_) => self.push("<out-of-band buffer>"),
            Node::Foreign(_) => {
                self.is_cut = true;
                self.push("...");
            }
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
        match self.sorts_sets {
            true => self.sorted(&items),
            false => self.items(&items),
        }
        self.push(close);
    }

    fn sorted(&mut self, items: &[NodeId]) {
        let begun = self.out.len();
        let mut shown = Vec::with_capacity(items.len());
        for item in items {
            if self.full() {
                self.is_cut = true;
                break;
            }
            let from = self.out.len();
            self.write(*item);
            shown.push(self.out.get(from..).unwrap_or_default().to_owned());
        }
        shown.sort_unstable();
        self.out.truncate(begun);
        self.push(&shown.join(", "));
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
            self.is_cut = true;
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
