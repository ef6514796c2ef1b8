//! What the weights-only unpickler would hold: objects, as far as its rules look at them.

use std::rc::Rc;

use super::tables::Kind;
use crate::dtype::{Class, DType};

/// A value's place among all of one replay.
pub(super) type Id = usize;

/// One value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// What a step would have given that torch refuses; every rule lets it pass, so that a reason is told once.
    Unknown,
    None,
    Bool(bool),
    /// Nothing when it does not fit in 64 bits.
    Int(Option<i64>),
    /// The integer that legacy streams begin with.
    Magic,
    Float,
    Str(Text),
    Bytes(Text),
    Tuple(Rc<[Id]>),
    List(Vec<Id>),
    /// A `dict`, `OrderedDict` or `Counter`, with its assignments in order.
    Dict(Mapping, Vec<(Id, Id)>),
    Set,
    ByteArray,
    Complex,
    /// An allowed global.
    Global(&'static str, Kind),
    Storage {
        dtype: &'static str,
        /// Its place among the storages, which may grow.
        place: usize,
    },
    /// A `torch.UntypedStorage` or `TypedStorage` made by a call: not looked into.
    OtherStorage,
    Tensor(Rc<Tensor>),
    Size(Rc<[i64]>),
    Device,
    Layout(Rc<[u8]>),
    /// An instance of an allowed class that no rule says more of.
    Other(&'static str),
}

/// Which of Python's mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    Dict,
    OrderedDict,
    Counter,
}

/// A text, with its content where it is short.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub content: Option<Rc<[u8]>>,
    pub is_empty: bool,
    /// The largest code point.
    pub largest: u32,
}

/// A tensor; nothing for a fact that is not known.
#[derive(Debug, Clone, Default)]
pub(super) struct Tensor {
    pub dtype: Option<DType>,
    pub sizes: Option<Vec<i64>>,
    pub is_parameter: bool,
    pub requires_grad: bool,
}

impl Text {
    pub fn of(bytes: &[u8]) -> Self {
        let points = crate::pickle::text::code_points(bytes);
        let largest = points.map(|point| point.map_or_else(|code| code, u32::from)).max().unwrap_or(0);
        Text { content: Some(bytes.into()), is_empty: bytes.is_empty(), largest }
    }

    pub fn is(&self, wanted: &str) -> bool {
        self.content.as_deref() == Some(wanted.as_bytes())
    }
}

impl Value {
    /// Python's name for its type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Unknown => "object",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Magic => "int",
            Value::Float => "float",
            Value::Str(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::Tuple(_) => "tuple",
            Value::List(_) => "list",
            Value::Dict(Mapping::Dict, _) => "dict",
            Value::Dict(Mapping::OrderedDict, _) => "OrderedDict",
            Value::Dict(Mapping::Counter, _) => "Counter",
            Value::Set => "set",
            Value::ByteArray => "bytearray",
            Value::Complex => "complex",
            Value::Global(_, Kind::Dtype) => "torch.dtype",
            Value::Global(_, Kind::QScheme) => "torch.qscheme",
            Value::Global(_, Kind::Storage(Some(_))) => "StorageType",
            Value::Global(_, Kind::Function) => "function",
            Value::Global(..) => "type",
            Value::Storage { .. } | Value::OtherStorage => "TypedStorage",
            Value::Tensor(tensor) if tensor.is_parameter => "Parameter",
            Value::Tensor(_) => "Tensor",
            Value::Size(_) => "torch.Size",
            Value::Device => "torch.device",
            Value::Layout(_) => "torch.layout",
            Value::Other(name) => name,
        }
    }
}

impl Tensor {
    /// Whether its elements may require gradients, as far as is known.
    pub fn is_differentiable(&self) -> bool {
        self.dtype.as_ref().is_none_or(differentiable)
    }
}

/// Floating point and complex types.
fn differentiable(dtype: &DType) -> bool {
    dtype.class().is_none_or(|class| matches!(class, Class::Float | Class::Complex))
}
