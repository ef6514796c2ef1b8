//! The tensors that `torch._utils._rebuild_*` and `Parameter` make, and where torch would raise instead.

use super::arguments::{Checked, Made, dtype_of, wrong};
use super::replay::Replay;
use super::storages::tensor_bytes;
use super::tables::Kind;
use super::value::{Id, Mapping, Tensor, Value, tensor};
use crate::dtype::{Class, DType};

fn same_length(sizes: &Option<Vec<i64>>, strides: &Option<Vec<i64>>) -> Checked {
    match (sizes, strides) {
        (Some(sizes), Some(strides)) if sizes.len() != strides.len() => {
            Err(format!("{} sizes and {} strides", sizes.len(), strides.len()))
        }
        _ => Ok(()),
    }
}

fn contiguous(sizes: &[i64]) -> Vec<i64> {
    let mut stride = 1i64;
    let mut strides: Vec<i64> = Vec::new();
    for size in sizes.iter().rev() {
        strides.push(stride);
        stride = stride.saturating_mul((*size).max(1));
    }
    strides.reverse();
    strides
}

impl Replay<'_> {
    /// `(storage, offset, size, stride, …)`; `dtype` is that of `_rebuild_tensor_v3`.
    pub(super) fn strided(&mut self, args: &[Id], dtype: Option<Option<DType>>) -> Result<Tensor, String> {
        let [storage, offset, size, stride, ..] = *args else { return Err("too few arguments".into()) };
        let (place, own) = match self.value(storage) {
            Value::Storage { dtype, place } => (Some(*place), dtype_of(dtype)),
            Value::OtherStorage(storage) => (None, storage.dtype.and_then(dtype_of)),
            Value::Unknown => (None, None),
            other => return Err(wrong("the storage", other)),
        };
        let offset = self.integer(offset, "the storage offset")?;
        let sizes = self.integers(size, "size")?;
        let strides = match self.value(stride) {
            Value::None => Some(Vec::new()),
            _ => self.integers(stride, "stride")?,
        };
        if offset.is_some_and(|offset| offset < 0) {
            return Err("a negative storage offset".into());
        }
        if sizes.iter().flatten().any(|size| *size < 0) {
            return Err("a negative size".into());
        }
        // in the order of the sizes, as torch multiplies them: a zero after an overflow does not save it
        if sizes.as_ref().is_some_and(|sizes| sizes.iter().try_fold(1i64, |n, size| n.checked_mul(*size)).is_none()) {
            return Err("more elements than 64 bits can count".into());
        }
        // none at all mean those of a contiguous tensor
        let strides = match (strides, &sizes) {
            (Some(strides), Some(sizes)) if strides.is_empty() => Some(contiguous(sizes)),
            (strides, _) => strides,
        };
        same_length(&sizes, &strides)?;
        let dtype = dtype.unwrap_or(own);
        if let (Some(place), Some(offset), Some(sizes), Some(strides), Some(dtype)) =
            (place, offset, &sizes, &strides, &dtype)
        {
            self.reaches(place, offset, sizes, strides, dtype)?;
        }
        Ok(Tensor { dtype, sizes, ..Tensor::default() })
    }

    /// `requires_grad`, which must be a bool (or, for some, `None`), and true only for floating and complex types.
    pub(super) fn with_grad(&self, mut tensor: Tensor, requires_grad: Id, or_none: bool) -> Result<Tensor, String> {
        match self.value(requires_grad) {
            Value::Bool(value) => tensor.requires_grad = *value,
            Value::None if or_none => {}
            Value::Unknown => {}
            other => return Err(wrong("requires_grad", other)),
        }
        if tensor.requires_grad && !tensor.is_differentiable() {
            return Err("requires_grad of a tensor of integers".into());
        }
        Ok(tensor)
    }

    /// `{'conj': True, 'neg': True}`, or something false.
    pub(super) fn metadata(&self, id: Id, tensor: &Tensor) -> Checked {
        if self.may_be_false(id)? {
            return Ok(());
        }
        let Value::Dict(_, entries) = self.value(id) else { return Err(wrong("the metadata", self.value(id))) };
        for (key, value) in entries {
            let (Value::Str(name) | Value::Bytes(name)) = self.value(*key) else {
                return Err("a key of the metadata is no str".into());
            };
            // what pybind11 takes for a bool
            self.truth(*value)?;
            match self.value(*value) {
                Value::None
                | Value::Bool(_)
                | Value::Int(_)
                | Value::SomeInt
                | Value::HugeInt
                | Value::Magic
                | Value::Unknown => {}
                Value::Float(_) | Value::Complex(_) | Value::Tensor(_) => {}
                other => return Err(wrong("a value of the metadata", other)),
            }
            let real = tensor.dtype.as_ref().and_then(DType::class).is_some_and(|c| c != Class::Complex);
            if name.is("conj") && real {
                return Err("the conjugate of a real tensor".into());
            }
        }
        Ok(())
    }

    /// `torch.nn.Parameter(data, requires_grad)`.
    pub(super) fn parameter(&self, data: Id, requires_grad: Option<Id>) -> Made {
        let from = match self.value(data) {
            Value::Tensor(from) => Tensor::clone(from),
            Value::None => Tensor { dtype: dtype_of("float32"), sizes: Some(vec![0]), ..Tensor::default() },
            Value::Unknown => Tensor::default(),
            other => return Err(wrong("the data", other)),
        };
        let made = match requires_grad {
            // the argument parser takes classes of tensors for false
            Some(flag) if matches!(self.global_of(flag), Some(("torch.Tensor", _) | (_, Kind::TensorClass))) => {
                Tensor { requires_grad: false, ..from }
            }
            Some(flag) => self.with_grad(from, flag, false)?,
            None if !from.is_differentiable() => return Err("requires_grad of a tensor of integers".into()),
            None => Tensor { requires_grad: true, ..from },
        };
        Ok(tensor(Tensor { is_parameter: true, ..made }))
    }

    /// `_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)`.
    pub(super) fn without_storage(&self, dtype: Id, size: Id, stride: Id, requires_grad: Id) -> Made {
        let dtype = self.dtype(dtype)?;
        let (sizes, strides) = (self.integers(size, "size")?, self.integers(stride, "stride")?);
        if sizes.iter().flatten().any(|size| *size < 0) {
            return Err("a negative size".into());
        }
        same_length(&sizes, &strides)?;
        self.with_grad(Tensor { dtype, sizes, is_meta: true, ..Tensor::default() }, requires_grad, true).map(tensor)
    }

    /// `_rebuild_device_tensor_from_cpu_tensor(data, dtype, device, requires_grad)`.
    pub(super) fn device_tensor(&self, data: Id, dtype: Id, requires_grad: Id) -> Made {
        let dtype = self.dtype(dtype)?;
        match self.value(data) {
            Value::Tensor(from) if from.is_meta => Err("a tensor without data".into()),
            Value::Tensor(from) => {
                let made = Tensor { dtype, ..Tensor::clone(from) };
                self.with_grad(made, requires_grad, false).map(tensor)
            }
            Value::Unknown => Ok(Value::Unknown),
            other => Err(wrong("the tensor", other)),
        }
    }

    /// `_rebuild_qtensor(…)`.
    pub(super) fn quantized(&mut self, args: &[Id]) -> Made {
        let [storage, _, size, _, quantizer, requires_grad, _] = *args else { return Ok(Value::Unknown) };
        if let Value::Storage { dtype, .. } = self.value(storage)
            && !dtype.starts_with('q')
        {
            return Err("the storage's dtype is not quantized".into());
        }
        let Some(parts) = self.unpack(quantizer)? else { return Ok(Value::Unknown) };
        let scheme = parts.first().and_then(|id| self.global_of(*id));
        let number = |id: Id| match self.value(id) {
            Value::Int(_) | Value::SomeInt | Value::Magic | Value::Float(_) | Value::Bool(_) | Value::Unknown => true,
            Value::Tensor(tensor) => tensor.sizes.as_ref().is_none_or(Vec::is_empty) && !tensor.requires_grad,
            _ => false,
        };
        match (scheme, parts.as_ref()) {
            (Some(("torch.per_tensor_affine", _)), [_, scale, zero]) => {
                if !number(*scale) {
                    return Err(wrong("the scale", self.value(*scale)));
                }
                self.integer(*zero, "the zero point")?;
            }
            (
                Some(("torch.per_channel_affine" | "torch.per_channel_affine_float_qparams", _)),
                [_, scales, zeros, axis],
            ) => {
                let sizes = self.integers(size, "size")?;
                let axis = match self.value(*axis) {
                    Value::Int(Some(axis)) => *axis,
                    Value::Unknown => return Ok(Value::Unknown),
                    other => return Err(wrong("the axis", other)),
                };
                if let Some(sizes) = sizes {
                    let extent = usize::try_from(axis).ok().and_then(|axis| sizes.get(axis).copied());
                    let extent = extent.ok_or("an axis out of range")?;
                    let is_tensor = |id: &Id| matches!(self.value(*id), Value::Tensor(_) | Value::Unknown);
                    let is_list = |id: &Id| matches!(self.value(*id), Value::List(_) | Value::Unknown);
                    if !(is_tensor(scales) && is_tensor(zeros) || is_list(scales) && is_list(zeros)) {
                        return Err("scales and zero points that are no two tensors or lists".into());
                    }
                    if is_list(scales) && is_list(zeros) {
                        let dtypes = match scheme {
                            Some(("torch.per_channel_affine", _)) => ("float64", "int64"),
                            _ => ("float32", "float32"),
                        };
                        self.numbers(*scales, dtypes.0)?;
                        self.numbers(*zeros, dtypes.1)?;
                    }
                    for list in [scales, zeros] {
                        if self.count_of(*list).is_some_and(|count| count != extent) {
                            return Err("scales or zero points of another number".into());
                        }
                    }
                }
            }
            (None, [first, ..]) if matches!(self.value(*first), Value::Unknown) => return Ok(Value::Unknown),
            _ => return Err("an odd quantizer".into()),
        }
        let made = self.strided(args, None)?;
        // torch makes the tensor whole before it gets its storage
        if let (Some(sizes), Some(dtype)) = (&made.sizes, &made.dtype) {
            let count = sizes.iter().try_fold(1u64, |count, size| count.checked_mul(u64::try_from(*size).ok()?));
            self.allocate(count.and_then(|count| tensor_bytes(count, dtype)))?;
        }
        self.with_grad(made, requires_grad, false).map(tensor)
    }

    fn count_of(&self, id: Id) -> Option<i64> {
        match self.value(id) {
            Value::List(items) => i64::try_from(items.len()).ok(),
            Value::Tensor(tensor) => {
                tensor.sizes.as_ref().and_then(|sizes| sizes.iter().try_fold(1i64, |n, size| n.checked_mul(*size)))
            }
            _ => None,
        }
    }

    pub(super) fn sparse(&mut self, layout: Id, data: Id) -> Made {
        let Some(parts) = self.unpack(data)? else { return Ok(Value::Unknown) };
        let counts: &[usize] = match self.value(layout) {
            Value::Layout(name) => match name.as_ref() {
                b"torch.sparse_coo" => &[3, 4],
                b"torch.sparse_csr" | b"torch.sparse_csc" | b"torch.sparse_bsr" | b"torch.sparse_bsc" => &[4],
                _ => return Err("a layout that is not sparse".into()),
            },
            Value::Unknown => return Ok(Value::Unknown),
            other => return Err(wrong("the layout", other)),
        };
        if !counts.contains(&parts.len()) {
            return Err(format!("{} parts", parts.len()));
        }
        let compressed = counts.len() == 1;
        let (tensors, size) = if compressed { (3, 3) } else { (2, 2) };
        for id in parts.iter().take(tensors) {
            if !matches!(self.value(*id), Value::Tensor(_) | Value::Unknown) {
                return Err(wrong("a part", self.value(*id)));
            }
        }
        let sizes = parts.get(size).map_or(Ok(None), |id| self.integers(*id, "size"))?;
        if sizes.iter().flatten().any(|size| *size < 0) {
            return Err("a negative size".into());
        }
        if let (false, Some(flag)) = (compressed, parts.get(3))
            && !matches!(self.value(*flag), Value::None | Value::Bool(_) | Value::Unknown)
        {
            return Err(wrong("is_coalesced", self.value(*flag)));
        }
        let dtype = parts.get(tensors - 1).and_then(|id| match self.value(*id) {
            Value::Tensor(values) => values.dtype.clone(),
            _ => None,
        });
        Ok(tensor(Tensor { dtype, sizes, is_sparse: true, ..Tensor::default() }))
    }

    pub(super) fn of_subclass(&mut self, callable: Id, class: Id, args: Id, state: Id) -> Made {
        let (name, kind) = match self.value(callable) {
            Value::Global(name, kind) => (*name, *kind),
            Value::Unknown => return Ok(Value::Unknown),
            other => return Err(wrong("the function", other)),
        };
        let Some(args) = self.unpack(args)? else { return Ok(Value::Unknown) };
        // a function may be called with itself as an argument, but torch's own call nothing in turn
        if name == "torch._tensor._rebuild_from_type_v2" {
            if args.len() != 4 {
                return Err(format!("takes 4 arguments, {} given", args.len()));
            }
            return Ok(Value::Unknown);
        }
        let made = self.call(name, kind, &args)?;
        let class = match self.value(class) {
            Value::Global(name, _) => *name,
            Value::Unknown => return Ok(made),
            other => return Err(wrong("the class", other)),
        };
        match &made {
            Value::Unknown => return Ok(made),
            Value::Tensor(_) if matches!(class, "torch.Tensor" | "torch.nn.parameter.Parameter") => {}
            other if class_of(other) == Some(class) => {}
            other => return Err(format!("{class} is no subclass of {}", other.type_name())),
        }
        let made = match made {
            Value::Tensor(from) => {
                let is_parameter = class != "torch.Tensor";
                tensor(Tensor { is_parameter, ..Tensor::clone(&from) })
            }
            other => other,
        };
        self.object_state(&made, state)?;
        Ok(made)
    }
}

/// The allowed class that a value is an instance of.
fn class_of(value: &Value) -> Option<&'static str> {
    Some(match value {
        Value::Dict(Mapping::OrderedDict, _) => "collections.OrderedDict",
        Value::Dict(Mapping::Counter, _) => "collections.Counter",
        Value::Set(_) => "builtins.set",
        Value::ByteArray(_) => "builtins.bytearray",
        Value::Complex(_) => "builtins.complex",
        Value::Size(_) => "torch.Size",
        Value::Device => "torch.device",
        Value::OtherStorage(storage) if storage.is_untyped => "torch.storage.UntypedStorage",
        Value::OtherStorage(_) | Value::Storage { .. } => "torch.storage.TypedStorage",
        Value::Other(name) => name,
        _ => return None,
    })
}
