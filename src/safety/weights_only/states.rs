//! The states that objects are given, by `BUILD` or by the functions that rebuild them, and where torch would raise.

use std::rc::Rc;

use super::arguments::{Checked, wrong};
use super::replay::Replay;
use super::tables::TABLES;
use super::value::{Id, Mapping, Tensor, Value};

/// Attributes of tensors that a state cannot set.
const READ_ONLY: &[&str] = &[
    "shape",
    "dtype",
    "device",
    "layout",
    "is_leaf",
    "grad_fn",
    "ndim",
    "T",
    "H",
    "mT",
    "mH",
    "is_cuda",
    "is_sparse",
    "is_quantized",
    "is_meta",
    "itemsize",
    "nbytes",
    "output_nr",
    "_version",
];

impl Replay<'_> {
    /// `BUILD`.
    pub(super) fn build(&mut self, object: Id, state: Id) {
        let answer = match (self.value(object), self.value(state)) {
            (Value::Unknown, _) | (_, Value::Unknown) => Ok(()),
            (Value::Tensor(tensor), _) if tensor.is_parameter => self.parameter_state(&Rc::clone(tensor), state),
            (Value::Tensor(_), _) => self.set_tensor(object, state),
            (Value::Dict(Mapping::OrderedDict, _), _) => self.update(state),
            (Value::Dict(Mapping::Counter, _), Value::Tuple(parts)) if parts.len() == 2 => Ok(()),
            (Value::Dict(Mapping::Counter, _), value) if self.is_false(value) => Ok(()),
            (Value::Dict(Mapping::Counter, _), _) => self.update(state),
            (Value::Set | Value::ByteArray | Value::Complex | Value::Size(_) | Value::Device, value) => {
                match self.is_false(value) {
                    true => Ok(()),
                    false => Err(format!("{} has no attributes", self.value(object).type_name())),
                }
            }
            (Value::Storage { .. } | Value::OtherStorage, _) => Ok(()),
            (Value::Other(name), _) if TABLES.global(name).is_some() => Ok(()),
            (other, _) => Err(format!("of {}", other.type_name())),
        };
        if let Err(why) = answer {
            self.refuse("build", why);
        }
    }

    /// `inst.__dict__.update(state)`.
    fn update(&self, state: Id) -> Checked {
        match self.value(state) {
            Value::Dict(..) => Ok(()),
            Value::Str(text) if !text.is_empty => Err("a state that is a str".into()),
            other => {
                let items = self.unpack(state).map_err(|_| wrong("the state", other))?;
                for item in items.iter().flat_map(|items| items.iter()) {
                    let pair = match self.value(*item) {
                        Value::Tuple(pair) => pair.len() == 2,
                        Value::List(pair) => pair.len() == 2,
                        Value::Str(_) | Value::Unknown => true,
                        _ => false,
                    };
                    if !pair {
                        return Err("a state that holds no pairs".into());
                    }
                }
                Ok(())
            }
        }
    }

    /// `tensor.set_(*state)`.
    fn set_tensor(&mut self, object: Id, state: Id) -> Checked {
        let Some(parts) = self.unpack(state).map_err(|_| "a tensor's state that is no tuple".to_owned())? else {
            return Ok(());
        };
        match parts.as_ref() {
            [] => Ok(()),
            [storage, _, _, _] => {
                let made = self.strided(&parts, None)?;
                let known = matches!(self.value(*storage), Value::Storage { .. });
                let same = match (self.value(object), &made.dtype) {
                    (Value::Tensor(tensor), Some(dtype)) => tensor.dtype.as_ref().is_none_or(|have| have == dtype),
                    _ => true,
                };
                if known && !same { Err("a storage of another dtype".into()) } else { Ok(()) }
            }
            [_] => Ok(()),
            other => Err(format!("a tensor's state of {} parts", other.len())),
        }
    }

    /// `Parameter.__setstate__`, which is `Tensor.__setstate__`.
    fn parameter_state(&self, tensor: &Tensor, state: Id) -> Checked {
        let Some(parts) = self.unpack(state).map_err(|_| "a parameter's state that is no tuple".to_owned())? else {
            return Ok(());
        };
        match parts.len() {
            4 if tensor.requires_grad => Err("a parameter that requires grad is set".into()),
            3..=5 => Ok(()),
            other => Err(format!("a parameter's state of {other} parts")),
        }
    }

    /// `_set_obj_state`: a dict of attributes, or a pair of them.
    pub(super) fn object_state(&self, state: Id) -> Checked {
        let parts: Vec<Id> = match self.value(state) {
            Value::Tuple(parts) if parts.len() == 2 => parts.to_vec(),
            Value::Tuple(_) => return Err("a state that is no pair".into()),
            _ => vec![state],
        };
        for part in parts {
            match self.value(part) {
                Value::Dict(_, entries) => {
                    for (key, _) in entries {
                        match self.value(*key) {
                            Value::Str(text) if READ_ONLY.iter().any(|name| text.is(name)) => {
                                return Err("a state that sets what cannot be set".into());
                            }
                            Value::Str(_) | Value::Unknown => {}
                            other => return Err(wrong("an attribute's name", other)),
                        }
                    }
                }
                value if self.is_false(value) || matches!(value, Value::Unknown) => {}
                other => return Err(wrong("the state", other)),
            }
        }
        Ok(())
    }
}
