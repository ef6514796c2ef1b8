//! What the weights-only unpickler would hold: objects, as far as its rules look at them.

use std::rc::Rc;

use super::tables::Kind;
use crate::dtype::{Class, DType};

/// A value's place among all of one replay.
pub(super) type Id = u32;

/// One value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// What a step would have given that torch refuses; every rule lets it pass, so that a reason is told once.
    Unknown,
    None,
    Bool(bool),
    /// Nothing when it does not fit in 64 bits.
    Int(Option<i64>),
    /// An integer that a double cannot hold either.
    HugeInt,
    /// The integer that legacy streams begin with.
    Magic,
    /// An element of a storage, which is not read.
    SomeInt,
    /// Nothing where an element of a storage is meant, which is not read.
    Float(Option<f64>),
    Str(Text),
    Bytes(Text),
    Tuple(Rc<[Id]>),
    List(Vec<Id>),
    /// A `dict`, `OrderedDict` or `Counter`, with its assignments in order.
    Dict(Mapping, Vec<(Id, Id)>),
    Set(Vec<Id>),
    ByteArray(Bytes),
    /// Whether it is another number than zero, where that is known.
    Complex(Option<bool>),
    /// An allowed global.
    Global(&'static str, Kind),
    Storage {
        dtype: &'static str,
        /// Its place among the storages, which may grow.
        place: usize,
    },
    /// A storage made by a call, or a view of which little is known.
    OtherStorage(OtherStorage),
    Tensor(Rc<Tensor>),
    Size(Rc<[i64]>),
    Device,
    Layout(Rc<[u8]>),
    /// An instance of an allowed class that no rule says more of.
    Other(&'static str),
}

/// A `bytearray`, with its content where it is short.
#[derive(Debug, Clone)]
pub(super) struct Bytes {
    pub len: u64,
    pub content: Option<Rc<[u8]>>,
}

/// A storage that no persistent id names.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OtherStorage {
    /// `torch.UntypedStorage`, not a `TypedStorage`.
    pub is_untyped: bool,
    pub dtype: Option<&'static str>,
    /// Its elements, where their number is known.
    pub len: Option<u64>,
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
    pub is_meta: bool,
    pub is_sparse: bool,
}

impl Text {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let largest = match bytes.is_ascii() {
            true => bytes.iter().copied().max().map_or(0, u32::from),
            false => {
                let points = crate::pickle::text::code_points(bytes);
                points.map(|point| point.map_or_else(|code| code, u32::from)).max().unwrap_or(0)
            }
        };
        Text { content: Some(bytes.into()), is_empty: bytes.is_empty(), largest }
    }

    pub(crate) fn is(&self, wanted: &str) -> bool {
        self.content.as_deref() == Some(wanted.as_bytes())
    }
}

/// What a call that makes a tensor gives.
pub(super) fn tensor(tensor: Tensor) -> Value {
    Value::Tensor(Rc::new(tensor))
}

impl Value {
    /// Python's name for its type, for messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Unknown => "object",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::HugeInt | Value::SomeInt | Value::Magic => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::Tuple(_) => "tuple",
            Value::List(_) => "list",
            Value::Dict(Mapping::Dict, _) => "dict",
            Value::Dict(Mapping::OrderedDict, _) => "OrderedDict",
            Value::Dict(Mapping::Counter, _) => "Counter",
            Value::Set(_) => "set",
            Value::ByteArray(_) => "bytearray",
            Value::Complex(_) => "complex",
            Value::Global(_, Kind::Dtype) => "torch.dtype",
            Value::Global(_, Kind::QScheme) => "torch.qscheme",
            Value::Global(_, Kind::Storage(Some(_))) => "StorageType",
            Value::Global(_, Kind::Function) => "function",
            Value::Global(..) => "type",
            Value::OtherStorage(storage) if storage.is_untyped => "UntypedStorage",
            Value::Storage { .. } | Value::OtherStorage(_) => "TypedStorage",
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
    /// Whether Python may use it as an integer: an integer type, and a single element in `dimensions` dimensions.
    pub(crate) fn is_integer(&self) -> bool {
        let one = self.sizes.as_ref().is_some_and(Vec::is_empty);
        one && self
            .dtype
            .as_ref()
            .and_then(DType::class)
            .is_some_and(|class| matches!(class, Class::Signed | Class::Unsigned))
    }

    /// How many elements it has, where that is known.
    pub(crate) fn count(&self) -> Option<i64> {
        self.sizes.as_ref()?.iter().try_fold(1i64, |count, size| count.checked_mul(*size))
    }

    /// Whether its elements may require gradients, as far as is known.
    pub(crate) fn is_differentiable(&self) -> bool {
        self.dtype.as_ref().is_none_or(differentiable)
    }
}

/// Floating point and complex types.
fn differentiable(dtype: &DType) -> bool {
    dtype.class().is_none_or(|class| matches!(class, Class::Float | Class::Complex))
}
