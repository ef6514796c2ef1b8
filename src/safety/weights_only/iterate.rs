//! What Python gets when it iterates over a value, unpacks it as arguments, or asks whether it is true.

use std::rc::Rc;

use super::replay::Replay;
use super::storages::element_bytes;
use super::value::{Id, Tensor, Text, Value};
use crate::dtype::{Class, DType};

/// What iterating gives: the elements, nothing where they are not known, or why Python raises.
pub(super) type Elements = Result<Option<Rc<[Id]>>, String>;

/// Elements that are made for one iteration over a tensor or storage; more than any call takes.
const MAX_MADE: u64 = 4096;

impl Replay<'_> {
    /// What `for element in value` gives.
    pub(super) fn iterate(&mut self, id: Id) -> Elements {
        let made: Vec<Value> = match self.value(id) {
            Value::Tuple(items) => return self.charged(Rc::clone(items)),
            Value::List(items) => return self.charged(items.as_slice().into()),
            Value::Dict(_, entries) => return self.charged(entries.iter().map(|(key, _)| *key).collect()),
            // in an order that is not Python's
            Value::Set(items) if self.are_different(items) => return self.charged(items.as_slice().into()),
            Value::Str(text) => match characters(text) {
                Some(characters) => characters,
                None => return Ok(None),
            },
            Value::Bytes(text) => match &text.content {
                Some(content) => integers(content),
                None if text.is_empty => Vec::new(),
                None => return Ok(None),
            },
            Value::ByteArray(bytes) => match &bytes.content {
                Some(content) => integers(content),
                None => return Ok(None),
            },
            Value::Size(sizes) => sizes.iter().map(|size| Value::Int(Some(*size))).collect(),
            Value::Tensor(tensor) => match rows(tensor)? {
                Some(rows) => rows,
                None => return Ok(None),
            },
            Value::Storage { dtype, place } => {
                repeated(element(Some(dtype)), self.storages.bytes(*place) / element_bytes(dtype))
            }
            Value::OtherStorage(storage) => match storage.len {
                Some(len) if storage.is_untyped => repeated(Value::SomeInt, len),
                Some(len) => repeated(element(storage.dtype), len),
                None => return Ok(None),
            },
            Value::Unknown | Value::Set(_) => return Ok(None),
            other => return Err(format!("{} is not iterable", other.type_name())),
        };
        let elements: Vec<Id> = made.into_iter().map(|value| self.add(value)).collect();
        Ok(Some(elements.into()))
    }

    /// What `*value` gives a call.
    pub(super) fn unpack(&mut self, id: Id) -> Elements {
        self.iterate(id).map_err(|why| format!("what is unpacked as arguments: {why}"))
    }

    /// Whether values are so plain that they are known to be different.
    fn are_different(&self, items: &[Id]) -> bool {
        let mut seen = std::collections::HashSet::new();
        items.len() <= 1
            || items.iter().all(|id| match self.value(*id) {
                Value::Str(Text { content: Some(content), .. }) => seen.insert((Some(Rc::clone(content)), None)),
                Value::Int(Some(number)) => seen.insert((None, Some(*number))),
                _ => false,
            })
    }

    /// Elements that were there already; they count, so that no stream makes us copy them for nothing.
    fn charged(&mut self, items: Rc<[Id]>) -> Elements {
        self.items += items.len() as u64;
        Ok(Some(items))
    }

    /// `bool(value)`, where it is known.
    pub(super) fn truth(&self, id: Id) -> Result<Option<bool>, String> {
        Ok(match self.value(id) {
            Value::Unknown | Value::SomeInt => None,
            Value::None => Some(false),
            Value::Bool(value) => Some(*value),
            Value::Int(value) => Some(*value != Some(0)),
            Value::Float(value) => value.map(|value| value != 0.0),
            Value::Complex(value) => *value,
            Value::Str(text) | Value::Bytes(text) => Some(!text.is_empty),
            Value::Tuple(items) => Some(!items.is_empty()),
            Value::List(items) | Value::Set(items) => Some(!items.is_empty()),
            Value::Dict(_, entries) => Some(!entries.is_empty()),
            Value::Size(sizes) => Some(!sizes.is_empty()),
            Value::ByteArray(bytes) => Some(bytes.len > 0),
            Value::Storage { place, .. } => Some(self.storages.bytes(*place) > 0),
            Value::OtherStorage(storage) => storage.len.map(|len| len > 0),
            Value::Tensor(tensor) if tensor.is_meta => return Err("the truth of a tensor without data".into()),
            Value::Tensor(tensor) => match tensor.count() {
                None | Some(1) => None,
                Some(_) => return Err("the truth of a tensor of several elements or none is ambiguous".into()),
            },
            _ => Some(true),
        })
    }

    /// Whether a value is not known to be true; says so where Python cannot tell either.
    pub(super) fn may_be_false(&self, id: Id) -> Result<bool, String> {
        Ok(self.truth(id)? != Some(true))
    }

    /// The pairs that `dict.update(items)` takes; nothing where they are not known.
    pub(super) fn pairs(&mut self, items: Id) -> Result<Option<Vec<(Id, Id)>>, String> {
        if let Value::Dict(_, entries) = self.value(items) {
            return Ok(Some(entries.clone()));
        }
        let Some(items) = self.iterate(items)? else { return Ok(None) };
        let mut pairs = Vec::new();
        for item in items.iter() {
            // sets of two are pairs in an order that only Python knows
            let Some(parts) = self.iterate(*item)? else { continue };
            let [key, value] = *parts else {
                return Err(format!("an element of length {} where pairs should be", parts.len()));
            };
            self.hashable(key);
            pairs.push((key, value));
        }
        Ok(Some(pairs))
    }
}

fn characters(text: &Text) -> Option<Vec<Value>> {
    let content = match &text.content {
        Some(content) => content,
        None if text.is_empty => return Some(Vec::new()),
        None => return None,
    };
    let mut made = Vec::new();
    let mut rest: &[u8] = content;
    while let Some(first) = rest.first() {
        let len = match first {
            0..0xc0 => 1,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
        };
        let (character, after) = rest.split_at(len.min(rest.len()));
        made.push(Value::Str(Text::of(character)));
        rest = after;
    }
    Some(made)
}

fn integers(content: &[u8]) -> Vec<Value> {
    content.iter().map(|byte| Value::Int(Some(i64::from(*byte)))).collect()
}

fn repeated(value: Value, count: u64) -> Vec<Value> {
    (0..count.min(MAX_MADE)).map(|_| value.clone()).collect()
}

/// An element of a storage, which is not read.
fn element(dtype: Option<&str>) -> Value {
    let class = dtype.and_then(DType::from_torch_name).and_then(|dtype| dtype.class());
    match class {
        Some(Class::Float) => Value::Float(None),
        Some(Class::Complex) => Value::Complex(None),
        Some(Class::Bool) => Value::Unknown,
        _ => Value::SomeInt,
    }
}

/// The tensors along the first dimension.
fn rows(tensor: &Tensor) -> Result<Option<Vec<Value>>, String> {
    let Some(sizes) = &tensor.sizes else { return Ok(None) };
    let Some((count, rest)) = sizes.split_first() else {
        return Err("a tensor without dimensions is not iterable".into());
    };
    let row = Tensor { sizes: Some(rest.to_vec()), is_parameter: false, ..tensor.clone() };
    Ok(Some(repeated(Value::Tensor(Rc::new(row)), u64::try_from(*count).unwrap_or(0))))
}
