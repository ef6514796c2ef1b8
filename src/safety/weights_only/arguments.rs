//! How torch's argument parser reads what calls are given: integers, sizes, dtypes.

use super::replay::Replay;
use super::tables::Kind;
use super::value::{Id, Value};
use crate::dtype::DType;

/// A value, or why torch would raise.
pub(super) type Made = Result<Value, String>;
/// A condition that holds or is not known to fail.
pub(super) type Checked = Result<(), String>;

/// Memory that a file may ask for by calls, in bytes. What torch answers depends on the machine; more than this counts as
/// more than there is.
const MAX_ALLOCATED: u64 = 8 << 30;

pub(super) fn dtype_of(name: &str) -> Option<DType> {
    DType::from_torch_name(name.strip_prefix("torch.").unwrap_or(name))
}

pub(super) fn wrong(what: &str, value: &Value) -> String {
    format!("{what} is {}", value.type_name())
}

impl Replay<'_> {
    /// Counts memory that a call asks for; nothing for more than 64 bits can say.
    pub(super) fn allocate(&mut self, bytes: Option<u64>) -> Checked {
        self.allocated = self.allocated.saturating_add(bytes.unwrap_or(u64::MAX));
        match self.allocated > MAX_ALLOCATED {
            true => Err(format!("asks for more than {} GiB of memory", MAX_ALLOCATED >> 30)),
            false => Ok(()),
        }
    }

    /// Whether an argument may stand for one integer: an `int` or a tensor of one, but no `bool`.
    pub(super) fn is_integer(&self, id: Id) -> bool {
        match self.value(id) {
            Value::Int(_) | Value::HugeInt | Value::SomeInt | Value::Magic | Value::Unknown => true,
            Value::Tensor(tensor) => tensor.is_integer(),
            _ => false,
        }
    }

    /// One integer argument; nothing where its value is not known.
    pub(super) fn integer(&self, id: Id, what: &str) -> Result<Option<i64>, String> {
        match self.value(id) {
            Value::Int(Some(value)) => Ok(Some(*value)),
            Value::Int(None) | Value::HugeInt | Value::Magic => Err(format!("{what} is more than 64 bits")),
            other if self.is_integer(id) || matches!(other, Value::Unknown) => Ok(None),
            other => Err(wrong(what, other)),
        }
    }

    /// Integers in a tuple, list or `torch.Size`; nothing where they are not known.
    pub(super) fn integers(&self, id: Id, what: &str) -> Result<Option<Vec<i64>>, String> {
        match self.value(id) {
            Value::Tuple(items) => self.integers_in(items, what),
            Value::List(items) => self.integers_in(items, what),
            Value::Size(sizes) => Ok(Some(sizes.to_vec())),
            Value::Unknown => Ok(None),
            other => Err(wrong(what, other)),
        }
    }

    /// Integers in a sequence, where a bool may stand for one but in the first place.
    pub(super) fn integers_in(&self, items: &[Id], what: &str) -> Result<Option<Vec<i64>>, String> {
        let mut numbers = items.iter().map(|item| self.value(*item));
        if what == "size" && numbers.any(|value| matches!(value, Value::Int(Some(..0)))) {
            return Err("a negative size".into());
        }
        let mut known = Some(Vec::with_capacity(items.len()));
        for (index, item) in items.iter().enumerate() {
            let number = match self.value(*item) {
                Value::Bool(value) if index > 0 => Some(i64::from(*value)),
                // the words are put together only where they are needed
                _ => match self.integer(*item, what) {
                    Ok(number) => number,
                    Err(_) => self.integer(*item, &format!("an element of the {what}"))?,
                },
            };
            known = known.zip(number).map(|(mut known, number)| {
                known.push(number);
                known
            });
        }
        Ok(known)
    }

    /// `torch.Size(iterable)`: whatever Python takes for an integer.
    pub(super) fn size(&mut self, id: Id) -> Result<Option<Vec<i64>>, String> {
        let Some(items) = self.iterate(id)? else { return Ok(None) };
        let mut known = Some(Vec::new());
        for item in items.iter() {
            let number = match self.value(*item) {
                Value::Bool(value) => Some(i64::from(*value)),
                Value::Int(None) | Value::HugeInt | Value::Magic => None,
                _ => self.integer(*item, "an element")?,
            };
            known = known.zip(number).map(|(mut known, number)| {
                known.push(number);
                known
            });
        }
        Ok(known)
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
}
