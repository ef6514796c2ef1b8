//! The states that objects are given, by `BUILD` or by the functions that rebuild them, and where torch would raise.

use std::rc::Rc;

use super::arguments::{Checked, wrong};
use super::replay::Replay;
use super::tables::TABLES;
use super::value::{Id, Mapping, Tensor, Text, Value};
use crate::dtype::{Class, DType};

/// Attributes of tensors that a state cannot set.
const READ_ONLY: &str = "H T __cuda_array_interface__ __weakref__ _base _cdata _has_symbolic_sizes_strides _python_dispatch _version device dtype grad_fn imag is_cpu is_cuda is_ipu is_leaf is_maia is_meta is_mkldnn is_mps is_mtia is_nested is_quantized is_sparse is_sparse_csr is_vulkan is_xla is_xpu itemsize layout mH mT name nbytes ndim output_nr retains_grad shape";

/// What `BUILD` and `setattr` can do with an object besides tensors.
#[derive(PartialEq)]
enum Attributes {
    /// It has a `__dict__`.
    Any,
    /// It has none: only states that are false pass.
    None,
    /// Its type is no allowed global.
    Refused,
}

impl Replay<'_> {
    fn attributes(&self, object: Id) -> Attributes {
        match self.value(object) {
            Value::Dict(Mapping::OrderedDict | Mapping::Counter, _) => Attributes::Any,
            Value::Storage { .. } | Value::OtherStorage(_) | Value::Tensor(_) => Attributes::Any,
            Value::Set(_) | Value::ByteArray(_) | Value::Complex(_) | Value::Size(_) | Value::Device => {
                Attributes::None
            }
            Value::Other(name) if TABLES.global(name).is_some() => Attributes::Any,
            _ => Attributes::Refused,
        }
    }

    /// `BUILD`.
    pub(super) fn build(&mut self, object: Id, state: Id) {
        let answer = match (self.value(object), self.value(state)) {
            (Value::Unknown, _) | (_, Value::Unknown) => Ok(()),
            (Value::Tensor(tensor), _) if tensor.is_parameter => self.parameter_state(&Rc::clone(tensor), state),
            (Value::Tensor(tensor), _) => self.set_tensor(&Rc::clone(tensor), state),
            (Value::Dict(Mapping::OrderedDict, _), _) => self.pairs(state).map(drop),
            _ => self.plain_state(object, state),
        };
        if let Err(why) = answer {
            let detail = format!("{}: {why}", self.value(object).type_name());
            self.refuse("build", detail);
        }
    }

    /// What `pickle.load_build` does where there is no `__setstate__`.
    fn plain_state(&mut self, object: Id, state: Id) -> Checked {
        let attributes = self.attributes(object);
        if attributes == Attributes::Refused {
            return Err("takes no state".into());
        }
        let (state, slots) = match self.two(state) {
            Some([state, slots]) => (state, slots),
            None => (state, Self::NONE),
        };
        if !self.may_be_false(state)? {
            match attributes {
                Attributes::Any => drop(self.pairs(state)?),
                _ => return Err("has no attributes".into()),
            }
        }
        self.set_attributes(object, slots)
    }

    /// The parts of a tuple of two; a `torch.Size` is a tuple as well.
    fn two(&mut self, id: Id) -> Option<[Id; 2]> {
        match self.value(id) {
            Value::Tuple(parts) => <[Id; 2]>::try_from(parts.as_ref()).ok(),
            Value::Size(sizes) => {
                let [first, second] = <[i64; 2]>::try_from(sizes.as_ref()).ok()?;
                Some([self.add(Value::Int(Some(first))), self.add(Value::Int(Some(second)))])
            }
            _ => None,
        }
    }

    /// `if state: for key, value in state.items(): setattr(object, key, value)`.
    fn set_attributes(&self, object: Id, state: Id) -> Checked {
        if self.may_be_false(state)? {
            return Ok(());
        }
        let Value::Dict(_, entries) = self.value(state) else { return Err(wrong("the state", self.value(state))) };
        let is_tensor = matches!(self.value(object), Value::Tensor(_));
        for (key, value) in entries {
            match self.value(*key) {
                Value::Str(_) | Value::Unknown if self.attributes(object) != Attributes::Any => {
                    return Err("has no attributes".into());
                }
                Value::Str(text) if is_tensor && READ_ONLY.split(' ').any(|name| text.is(name)) => {
                    return Err("a state that sets what cannot be set".into());
                }
                Value::Str(text) if is_tensor => self.tensor_attribute(object, text, *value)?,
                Value::Str(_) | Value::Unknown => {}
                other => return Err(wrong("an attribute's name", other)),
            }
        }
        Ok(())
    }

    /// Attributes of tensors that take some values only.
    fn tensor_attribute(&self, object: Id, name: &Text, value: Id) -> Checked {
        let is_right = match (name.content.as_deref(), self.value(value)) {
            (_, Value::Unknown) => true,
            (Some(b"requires_grad"), Value::Bool(true)) => {
                matches!(self.value(object), Value::Tensor(tensor) if tensor.is_differentiable())
            }
            (Some(b"requires_grad"), value) => matches!(value, Value::Bool(_)),
            (Some(b"data"), value) => matches!(value, Value::Tensor(_)),
            (Some(b"grad" | b"_grad"), value) => matches!(value, Value::None | Value::Tensor(_)),
            (Some(b"__dict__"), value) => matches!(value, Value::Dict(..)),
            (Some(b"__class__"), value) => {
                matches!(value, Value::Global("torch.Tensor" | "torch.nn.parameter.Parameter", _))
            }
            (Some(b"real"), value) => matches!(
                value,
                Value::Bool(_)
                    | Value::Int(Some(_))
                    | Value::SomeInt
                    | Value::Float(_)
                    | Value::Complex(_)
                    | Value::Tensor(_)
            ),
            _ => true,
        };
        match is_right {
            true => Ok(()),
            false => {
                let name = name.content.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                Err(wrong(&format!("the attribute {name}"), self.value(value)))
            }
        }
    }

    /// `tensor.set_(*state)`.
    fn set_tensor(&mut self, tensor: &Tensor, state: Id) -> Checked {
        let Some(parts) = self.unpack(state)? else { return Ok(()) };
        let is_quantized = tensor.dtype.as_ref().and_then(DType::class) == Some(Class::Quantized);
        if tensor.is_sparse || is_quantized {
            return Err("a tensor that is not dense is set".into());
        }
        if tensor.requires_grad {
            return Err("a leaf that requires grad is set in place".into());
        }
        let is_whole = parts.len() == 1;
        let source = match *parts {
            [] => return Ok(()),
            [source] => source,
            [source, offset, size] => {
                self.set_view(&[source, offset, size, Self::NONE])?;
                source
            }
            [source, offset, size, stride] => {
                self.set_view(&[source, offset, size, stride])?;
                source
            }
            _ => return Err(format!("a state of {} parts", parts.len())),
        };
        let dtype = match self.value(source) {
            Value::Unknown => return Ok(()),
            Value::Storage { dtype, .. } => super::arguments::dtype_of(dtype),
            Value::OtherStorage(storage) => storage.dtype.and_then(super::arguments::dtype_of),
            Value::Tensor(source) if source.is_meta != tensor.is_meta => {
                return Err("a source on another device".into());
            }
            Value::Tensor(source) if is_whole => source.dtype.clone(),
            Value::Tensor(_) => None,
            other => return Err(wrong("the source", other)),
        };
        match (&tensor.dtype, dtype) {
            (Some(have), Some(new)) if *have != new => Err("a source of another dtype".into()),
            _ => Ok(()),
        }
    }

    /// `(storage or tensor, offset, size, stride)`.
    fn set_view(&mut self, parts: &[Id; 4]) -> Checked {
        let [source, offset, size, stride] = *parts;
        match self.value(source) {
            Value::Tensor(_) => {
                self.integer(offset, "the storage offset")?;
                self.integers(size, "size")?;
                if !matches!(self.value(stride), Value::None) {
                    self.integers(stride, "stride")?;
                }
                Ok(())
            }
            _ => self.strided(parts, None).map(drop),
        }
    }

    /// `Parameter.__setstate__`, which is `Tensor.__setstate__`.
    fn parameter_state(&mut self, tensor: &Tensor, state: Id) -> Checked {
        if matches!(self.value(state), Value::Set(_)) {
            return Err("a set as a parameter's state".into());
        }
        let Some(parts) = self.unpack(state)? else { return Ok(()) };
        let requires_grad = match *parts {
            [_, _, _, _] => return self.set_tensor(tensor, state),
            [flag, _, _] => flag,
            [data, _, _, flag, _] => {
                if !matches!(self.value(data), Value::Tensor(_) | Value::Unknown) {
                    return Err(wrong("the data", self.value(data)));
                }
                flag
            }
            _ => return Err(format!("a parameter's state of {} parts", parts.len())),
        };
        self.with_grad(tensor.clone(), requires_grad, false).map(drop)
    }

    /// `_set_obj_state`: a dict of attributes, or a pair of them.
    pub(super) fn object_state(&mut self, object: &Value, state: Id) -> Checked {
        let object = self.add(object.clone());
        let pair = self.two(state);
        let parts = match (pair, self.value(state)) {
            (Some(pair), _) => pair,
            (None, Value::Tuple(_) | Value::Size(_)) => return Err("a state that is no pair".into()),
            _ => [state, Self::NONE],
        };
        parts.into_iter().try_for_each(|part| self.set_attributes(object, part))
    }
}
