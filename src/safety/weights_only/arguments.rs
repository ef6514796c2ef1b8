//! How the rules read what calls are given: unpacked arguments, integers, sizes, dtypes, what counts as false.

use std::rc::Rc;

use super::replay::Replay;
use super::tables::Kind;
use super::value::{Id, Value};
use crate::dtype::DType;

/// A value, or why torch would raise.
pub(super) type Made = Result<Value, String>;
/// A condition that holds or is not known to fail.
pub(super) type Checked = Result<(), String>;

pub(super) fn dtype_of(name: &str) -> Option<DType> {
    DType::from_torch_name(name.strip_prefix("torch.").unwrap_or(name))
}

pub(super) fn wrong(what: &str, value: &Value) -> String {
    format!("{what} is {}", value.type_name())
}

impl Replay<'_> {
    /// The elements that `*value` gives, where they are known.
    pub(super) fn unpack(&self, id: Id) -> Result<Option<Rc<[Id]>>, String> {
        match self.value(id) {
            Value::Tuple(items) => Ok(Some(Rc::clone(items))),
            Value::List(items) => Ok(Some(items.as_slice().into())),
            Value::Dict(_, entries) => Ok(Some(entries.iter().map(|(key, _)| *key).collect())),
            Value::Str(text) | Value::Bytes(text) if text.is_empty => Ok(Some(Rc::new([]))),
            Value::Str(_) | Value::Bytes(_) | Value::Unknown | Value::Set | Value::ByteArray | Value::Size(_) => {
                Ok(None)
            }
            Value::Tensor(_) | Value::Storage { .. } | Value::OtherStorage | Value::Other(_) => Ok(None),
            other => Err(wrong("what is unpacked as arguments", other)),
        }
    }

    /// Integers in a tuple, list or `torch.Size`; nothing where they are not known.
    pub(super) fn integers(&self, id: Id, what: &str) -> Result<Option<Vec<i64>>, String> {
        let items: &[Id] = match self.value(id) {
            Value::Tuple(items) => items,
            Value::List(items) => items,
            Value::Size(sizes) => return Ok(Some(sizes.to_vec())),
            Value::Unknown => return Ok(None),
            other => return Err(wrong(what, other)),
        };
        let mut out = Vec::new();
        for item in items {
            match self.value(*item) {
                Value::Int(Some(value)) => out.push(*value),
                Value::Unknown => return Ok(None),
                other => return Err(wrong(&format!("an element of the {what}"), other)),
            }
        }
        Ok(Some(out))
    }

    /// `torch.Size(iterable)`: booleans count as integers.
    pub(super) fn size(&self, id: Id) -> Result<Option<Vec<i64>>, String> {
        if let Value::Size(sizes) = self.value(id) {
            return Ok(Some(sizes.to_vec()));
        }
        let items = match self.value(id) {
            Value::Str(text) if !text.is_empty => return Err("an element is str".into()),
            _ => self.unpack(id)?,
        };
        let Some(items) = items else { return Ok(None) };
        let mut out = Vec::new();
        for item in items.iter() {
            match self.value(*item) {
                Value::Int(Some(value)) => out.push(*value),
                Value::Bool(value) => out.push(i64::from(*value)),
                Value::Unknown | Value::Tensor(_) => return Ok(None),
                other => return Err(wrong("an element", other)),
            }
        }
        Ok(Some(out))
    }

    /// A dtype argument; `None` means torch's default.
    pub(super) fn dtype(&self, id: Id) -> Result<Option<DType>, String> {
        match self.value(id) {
            Value::Global(name, Kind::Dtype) => Ok(dtype_of(name)),
            Value::None => Ok(dtype_of("float32")),
            Value::Unknown => Ok(None),
            other => Err(wrong("the dtype", other)),
        }
    }

    pub(super) fn is_false(&self, value: &Value) -> bool {
        match value {
            Value::None | Value::Bool(false) | Value::Int(Some(0)) => true,
            Value::Str(text) | Value::Bytes(text) => text.is_empty,
            Value::Tuple(items) => items.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Dict(_, entries) => entries.is_empty(),
            Value::Size(sizes) => sizes.is_empty(),
            _ => false,
        }
    }
}
