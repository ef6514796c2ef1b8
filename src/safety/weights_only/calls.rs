//! What the allowed callables make of their arguments, and where they would raise.
//!
//! Sources: `torch/_utils.py` (`_rebuild_*`), `torch/serialization.py` (`persistent_load`), and what torch 2.15 answered
//! to each kind of wrong argument. Arguments that are unknown pass.

use std::collections::HashMap;
use std::rc::Rc;

use super::replay::Replay;
use super::tables::Kind;
use super::value::{Id, Mapping, Tensor, Text, Value};
use crate::dtype::DType;

/// Says how many bytes the record of a key has, if there is one.
pub(super) type RecordBytes<'a> = &'a dyn Fn(&str) -> Option<u64>;

/// The storages that persistent ids name.
pub(super) struct Storages<'a> {
    /// Bytes of the record with this key, for an archive; a legacy stream has its storages at the end.
    pub record: Option<RecordBytes<'a>>,
    /// By key: the first use decides.
    pub by_key: HashMap<Vec<u8>, Storage>,
    all: Vec<Bytes>,
}

#[derive(Debug, Clone, Copy)]
struct Bytes {
    len: u64,
    /// A legacy stream's storages grow with the tensors made over them; records and views do not.
    grows: bool,
}

/// A storage that was named.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    pub dtype: &'static str,
    pub place: usize,
}

impl<'a> Storages<'a> {
    pub fn new(record: Option<RecordBytes<'a>>) -> Self {
        Storages { record, by_key: HashMap::new(), all: Vec::new() }
    }

    pub fn bytes(&self, place: usize) -> u64 {
        self.all.get(place).map_or(0, |bytes| bytes.len)
    }

    fn add(&mut self, len: u64, grows: bool) -> usize {
        self.all.push(Bytes { len, grows });
        self.all.len() - 1
    }
}

/// A value, or why torch would raise.
type Made = Result<Value, String>;
/// A condition that holds or is not known to fail.
type Checked = Result<(), String>;

const DEVICES: &[&str] = &[
    "cpu",
    "cuda",
    "ipu",
    "xpu",
    "mkldnn",
    "opengl",
    "opencl",
    "ideep",
    "hip",
    "ve",
    "fpga",
    "maia",
    "xla",
    "lazy",
    "vulkan",
    "mps",
    "meta",
    "hpu",
    "mtia",
    "privateuseone",
];
const LAYOUTS: &[&str] = &[
    "torch.strided",
    "torch.sparse_coo",
    "torch.sparse_csr",
    "torch.sparse_csc",
    "torch.sparse_bsr",
    "torch.sparse_bsc",
    "torch._mkldnn",
    "torch.jagged",
];

pub(super) fn dtype_of(name: &str) -> Option<DType> {
    DType::from_torch_name(name.strip_prefix("torch.").unwrap_or(name))
}

/// Bytes of an element; the packed types of a few bits count as one byte.
pub(super) fn element_bytes(name: &str) -> u64 {
    dtype_of(name).and_then(|dtype| dtype.size()).map_or(1, u64::from)
}

fn wrong(what: &str, value: &Value) -> String {
    format!("{what} is {}", value.type_name())
}

impl Replay<'_> {
    /// The elements that `*value` gives, where they are known.
    fn unpack(&self, id: Id) -> Result<Option<Rc<[Id]>>, String> {
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

    /// `persistent_load(pid)`.
    pub(super) fn persistent(&mut self, pid: Id) -> Value {
        let items = match self.value(pid) {
            Value::Tuple(items) => Rc::clone(items),
            Value::Unknown => return Value::Unknown,
            other => {
                let detail = wrong("a persistent id", other);
                self.refuse("persistent-id", detail);
                return Value::Unknown;
            }
        };
        match self.storage_of(&items) {
            Ok(value) => value,
            Err(detail) => {
                self.refuse("persistent-id", detail);
                Value::Unknown
            }
        }
    }

    fn storage_of(&mut self, items: &[Id]) -> Made {
        let tag = |id: Id| match self.value(id) {
            Value::Str(text) | Value::Bytes(text) => text.is("storage"),
            Value::Unknown => true,
            _ => false,
        };
        if !items.first().is_some_and(|id| tag(*id)) {
            return Err("is not that of a storage".into());
        }
        let legacy = self.storages.record.is_none();
        let (class, key, numel, view) = match *items {
            [_, class, key, _, numel] if !legacy => (class, key, numel, Self::NONE),
            [_, class, key, _, numel, view] if legacy => (class, key, numel, view),
            _ => return Err(format!("has {} parts", items.len())),
        };
        let dtype = match self.value(class) {
            Value::Global("torch.storage.UntypedStorage", _) if legacy => {
                return Err("UntypedStorage has no dtype: torch cannot read what it writes here".into());
            }
            Value::Global(_, Kind::Storage(Some(dtype))) => *dtype,
            // classes of tensors have a dtype as well
            Value::Unknown | Value::Tensor(_) | Value::Storage { .. } | Value::OtherStorage => {
                return Ok(Value::Unknown);
            }
            Value::Global(_, Kind::TensorClass | Kind::Type) => return Ok(Value::Unknown),
            other => return Err(wrong("the storage's class", other)),
        };
        if !self.hashable(key) {
            return Ok(Value::Unknown);
        }
        let Some(key) = self.key_text(key) else { return Ok(Value::Unknown) };
        let known = self.storages.by_key.get(&key).copied();
        let count = match self.value(numel) {
            Value::Int(Some(value)) => *value,
            Value::Bool(value) => i64::from(*value),
            Value::Unknown => return Ok(Value::Unknown),
            other if known.is_none() => return Err(wrong("the number of elements", other)),
            _ => 0,
        };
        let bytes = u64::try_from(count).ok().and_then(|count| count.checked_mul(element_bytes(dtype)));
        let place = match known {
            Some(known) if known.dtype == dtype => known.place,
            Some(known) if bytes == Some(self.storages.bytes(known.place)) => known.place,
            Some(_) if legacy => self.storages.add(0, true),
            _ => {
                let bytes = bytes.ok_or_else(|| format!("announces {count} elements"))?;
                self.fits_record(&key, bytes)?;
                self.storages.add(bytes, legacy)
            }
        };
        self.storages.by_key.entry(key).or_insert(Storage { dtype, place });
        let parts = match self.value(view) {
            Value::None => return Ok(Value::Storage { dtype, place }),
            Value::Tuple(parts) if parts.len() == 3 => Rc::clone(parts),
            Value::Unknown => return Ok(Value::OtherStorage),
            other => return Err(wrong("the view of a storage", other)),
        };
        let (Some(offset), Some(size)) = (self.int(parts.get(1)), self.int(parts.get(2))) else {
            return Ok(Value::OtherStorage);
        };
        // a Python slice: `storage[offset : offset + size]`, ends counted from behind when negative, and clamped
        let (whole, element) = (i128::from(self.storages.bytes(place)), i128::from(element_bytes(dtype)));
        let end = |at: i128| if at < 0 { (at + whole).max(0) } else { at.min(whole) };
        let (from, to) = (i128::from(offset) * element, (i128::from(offset) + i128::from(size)) * element);
        let len = u64::try_from(end(to) - end(from)).unwrap_or(0);
        Ok(Value::Storage { dtype, place: self.storages.add(len, false) })
    }

    fn int(&self, id: Option<&Id>) -> Option<i64> {
        match self.value(*id?) {
            Value::Int(value) => *value,
            _ => None,
        }
    }

    fn fits_record(&self, key: &[u8], bytes: u64) -> Checked {
        let Some(record) = self.storages.record else { return Ok(()) };
        let name = String::from_utf8_lossy(key);
        match record(&name) {
            None => Err(format!("names the record data/{name}, which is missing")),
            Some(size) if size != bytes => Err(format!("announces {bytes} bytes, the record data/{name} has {size}")),
            Some(_) => Ok(()),
        }
    }

    /// `str(key)`, as record names are made.
    fn key_text(&self, key: Id) -> Option<Vec<u8>> {
        match self.value(key) {
            Value::Str(text) => text.content.as_ref().map(|text| text.to_vec()),
            Value::Int(Some(value)) => Some(value.to_string().into_bytes()),
            Value::Bool(value) => Some(if *value { b"True".to_vec() } else { b"False".to_vec() }),
            Value::None => Some(b"None".to_vec()),
            _ => None,
        }
    }

    /// `REDUCE`: `callable(*args)`.
    pub(super) fn reduce(&mut self, callable: Id, args: Id) -> Value {
        let (name, kind) = match self.value(callable) {
            Value::Global(name, kind) => (*name, *kind),
            Value::Unknown => return Value::Unknown,
            other => {
                let detail = format!("calls {}, which is no allowed global", other.type_name());
                self.refuse("call", detail);
                return Value::Unknown;
            }
        };
        let made = self.unpack(args).and_then(|args| match args {
            Some(args) => self.call(name, kind, &args),
            None => Ok(Value::Unknown),
        });
        self.told_value(name, made)
    }

    fn told_value(&mut self, name: &str, made: Made) -> Value {
        made.unwrap_or_else(|why| {
            // a sentence about a tensor's bounds differs for each; the first says enough
            self.refuse("argument", format!("{name}: {why}"));
            Value::Unknown
        })
    }

    fn call(&mut self, name: &'static str, kind: Kind, args: &[Id]) -> Made {
        let count = |least: usize, most: usize| match args.len() {
            len if len < least || len > most => Err(format!("takes {least} to {most} arguments, {len} given")),
            _ => Ok(()),
        };
        let arg = |index: usize| args.get(index).copied().unwrap_or(Self::NONE);
        match (kind, name.strip_prefix("torch._utils.").unwrap_or(name)) {
            (Kind::Dtype | Kind::QScheme | Kind::Storage(Some(_)), _) if name != "torch.storage.UntypedStorage" => {
                Err("is not callable".into())
            }
            (Kind::Storage(_), _) => Ok(Value::OtherStorage),
            (Kind::TensorClass, _) if name.starts_with("torch.cuda.") => Err("needs a GPU".into()),
            (Kind::TensorClass, _) | (_, "torch.Tensor") => Ok(tensor(Tensor::default())),
            (_, "_rebuild_tensor") => {
                count(4, 4)?;
                self.strided(args, None).map(tensor)
            }
            (_, "_rebuild_tensor_v2") => {
                count(6, 7)?;
                let made = self.strided(args, None)?;
                let made = self.with_grad(made, arg(4), false)?;
                self.metadata(arg(6), &made)?;
                Ok(tensor(made))
            }
            (_, "_rebuild_tensor_v3") => {
                count(7, 8)?;
                let dtype = self.dtype(arg(6))?;
                let made = self.strided(args, Some(dtype))?;
                let made = self.with_grad(made, arg(4), true)?;
                self.metadata(arg(7), &made)?;
                Ok(tensor(made))
            }
            (_, "_rebuild_parameter") => {
                count(3, 3)?;
                self.parameter(arg(0), Some(arg(1)))
            }
            (_, "_rebuild_parameter_with_state") => {
                count(4, 4)?;
                let made = self.parameter(arg(0), Some(arg(1)))?;
                self.object_state(arg(3))?;
                Ok(made)
            }
            (_, "torch.nn.parameter.Parameter") => {
                count(0, 2)?;
                self.parameter(arg(0), args.get(1).copied())
            }
            (_, "_rebuild_qtensor") => {
                count(7, 7)?;
                self.quantized(args)
            }
            (_, "_rebuild_sparse_tensor") => {
                count(2, 2)?;
                self.sparse(arg(0), arg(1))
            }
            (_, "_rebuild_meta_tensor_no_storage") => {
                count(4, 4)?;
                let dtype = self.dtype(arg(0))?;
                let (sizes, strides) = (self.integers(arg(1), "size")?, self.integers(arg(2), "stride")?);
                if sizes.iter().flatten().any(|size| *size < 0) {
                    return Err("a negative size".into());
                }
                same_length(&sizes, &strides)?;
                self.with_grad(Tensor { dtype, sizes, ..Tensor::default() }, arg(3), true).map(tensor)
            }
            (_, "_rebuild_wrapper_subclass") => {
                count(8, 8)?;
                Err("no allowed class has __torch_dispatch__".into())
            }
            (_, "_rebuild_device_tensor_from_numpy") => {
                count(4, 4)?;
                match self.value(arg(0)) {
                    Value::Unknown => Ok(Value::Unknown),
                    other => Err(wrong("the array", other)),
                }
            }
            (_, "_rebuild_device_tensor_from_cpu_tensor") => {
                count(4, 4)?;
                let dtype = self.dtype(arg(1))?;
                match self.value(arg(0)) {
                    Value::Tensor(from) => {
                        let made = Tensor { dtype, ..Tensor::clone(from) };
                        self.with_grad(made, arg(3), false).map(tensor)
                    }
                    Value::Unknown => Ok(Value::Unknown),
                    other => Err(wrong("the tensor", other)),
                }
            }
            (_, "torch._tensor._rebuild_from_type_v2") => {
                count(4, 4)?;
                self.of_subclass(arg(0), arg(1), arg(2), arg(3))
            }
            (_, "collections.OrderedDict") => {
                count(0, 1)?;
                self.mapping(Mapping::OrderedDict, args.first().copied())
            }
            (_, "collections.Counter") => {
                count(0, 1)?;
                self.mapping(Mapping::Counter, args.first().copied())
            }
            (_, "builtins.set") => {
                count(0, 1)?;
                if let Some(items) = args.first() {
                    self.unpack(*items)?.iter().flat_map(|items| items.iter()).for_each(|id| {
                        self.hashable(*id);
                    });
                }
                Ok(Value::Set)
            }
            (_, "builtins.bytearray") => self.byte_array(args),
            (_, "builtins.complex") => {
                count(0, 2)?;
                args.iter().try_for_each(|id| match self.value(*id) {
                    Value::None | Value::Tuple(_) | Value::List(_) | Value::Dict(..) | Value::Bytes(_) => {
                        Err(wrong("an argument", self.value(*id)))
                    }
                    _ => Ok(()),
                })?;
                Ok(Value::Complex)
            }
            (_, "_codecs.encode") => self.encode(args),
            (_, "torch.Size") => {
                count(0, 1)?;
                match args.first() {
                    Some(items) => Ok(self.size(*items)?.map_or(Value::Unknown, |sizes| Value::Size(sizes.into()))),
                    None => Ok(Value::Size(Rc::new([]))),
                }
            }
            (_, "torch.device") => self.device(args),
            (_, "torch.serialization._get_layout") => {
                count(1, 1)?;
                match self.value(arg(0)) {
                    Value::Str(text) if LAYOUTS.iter().any(|known| text.is(known)) => {
                        Ok(Value::Layout(text.content.clone().unwrap_or_default()))
                    }
                    Value::Unknown => Ok(Value::Unknown),
                    _ => Err("an unknown layout".into()),
                }
            }
            _ => Ok(Value::Other(name)),
        }
    }

    /// Integers in a tuple, list or `torch.Size`; nothing where they are not known.
    fn integers(&self, id: Id, what: &str) -> Result<Option<Vec<i64>>, String> {
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
    fn size(&self, id: Id) -> Result<Option<Vec<i64>>, String> {
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
    fn dtype(&self, id: Id) -> Result<Option<DType>, String> {
        match self.value(id) {
            Value::Global(name, Kind::Dtype) => Ok(dtype_of(name)),
            Value::None => Ok(dtype_of("float32")),
            Value::Unknown => Ok(None),
            other => Err(wrong("the dtype", other)),
        }
    }

    /// `(storage, offset, size, stride, …)`; `dtype` is that of `_rebuild_tensor_v3`.
    fn strided(&mut self, args: &[Id], dtype: Option<Option<DType>>) -> Result<Tensor, String> {
        let [storage, offset, size, stride, ..] = *args else { return Err("too few arguments".into()) };
        let (place, own) = match self.value(storage) {
            Value::Storage { dtype, place } => (Some(*place), dtype_of(dtype)),
            Value::Unknown | Value::OtherStorage => (None, None),
            other => return Err(wrong("the storage", other)),
        };
        let offset = match self.value(offset) {
            Value::Int(Some(value)) => Some(*value),
            Value::Unknown => None,
            other => return Err(wrong("the storage offset", other)),
        };
        let (sizes, strides) = (self.integers(size, "size")?, self.integers(stride, "stride")?);
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
        same_length(&sizes, &strides)?;
        let dtype = dtype.unwrap_or(own);
        if let (Some(place), Some(offset), Some(sizes), Some(strides), Some(dtype)) =
            (place, offset, &sizes, &strides, &dtype)
        {
            self.reaches(place, offset, sizes, strides, u64::from(dtype.size().unwrap_or(1)))?;
        }
        Ok(Tensor { dtype, sizes, ..Tensor::default() })
    }

    /// Whether the elements lie inside the storage. A legacy stream's storages grow instead, and their bytes, which come
    /// later, do not fit then.
    fn reaches(&mut self, place: usize, offset: i64, sizes: &[i64], strides: &[i64], size: u64) -> Checked {
        if sizes.contains(&0) {
            return Ok(());
        }
        let last = sizes.iter().zip(strides).try_fold(u64::try_from(offset).ok(), |last, (size, stride)| {
            let steps = u64::try_from(size - 1).ok()?.checked_mul(u64::try_from(*stride).ok()?)?;
            Some(last?.checked_add(steps))
        });
        let end = last.flatten().and_then(|last| last.checked_add(1)?.checked_mul(size));
        let end = end.ok_or("sizes and strides that overflow")?;
        let have = self.storages.bytes(place);
        if end <= have {
            return Ok(());
        }
        match self.storages.all.get_mut(place) {
            Some(bytes) if bytes.grows => {
                bytes.len = end;
                Ok(())
            }
            _ => Err(format!("a tensor reaches byte {end} of a storage of {have}")),
        }
    }

    /// `requires_grad`, which must be a bool (or, for some, `None`), and true only for floating and complex types.
    fn with_grad(&self, mut tensor: Tensor, requires_grad: Id, or_none: bool) -> Result<Tensor, String> {
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
    fn metadata(&self, id: Id, tensor: &Tensor) -> Checked {
        let entries = match self.value(id) {
            Value::Dict(_, entries) => entries,
            value if self.is_false(value) => return Ok(()),
            Value::Unknown => return Ok(()),
            other => return Err(wrong("the metadata", other)),
        };
        for (key, value) in entries {
            let Value::Str(name) = self.value(*key) else { return Err("a key of the metadata is no str".into()) };
            if !matches!(self.value(*value), Value::Bool(_) | Value::None | Value::Unknown) {
                return Err(wrong("a value of the metadata", self.value(*value)));
            }
            let real = tensor.dtype.as_ref().and_then(DType::class).is_some_and(|c| c != crate::dtype::Class::Complex);
            if name.is("conj") && real {
                return Err("the conjugate of a real tensor".into());
            }
        }
        Ok(())
    }

    fn is_false(&self, value: &Value) -> bool {
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

    /// `torch.nn.Parameter(data, requires_grad)`.
    fn parameter(&self, data: Id, requires_grad: Option<Id>) -> Made {
        let from = match self.value(data) {
            Value::Tensor(from) => Tensor::clone(from),
            Value::None => Tensor { dtype: dtype_of("float32"), sizes: Some(vec![0]), ..Tensor::default() },
            Value::Unknown => Tensor::default(),
            other => return Err(wrong("the data", other)),
        };
        let made = match requires_grad {
            Some(flag) => self.with_grad(from, flag, false)?,
            None if !from.is_differentiable() => return Err("requires_grad of a tensor of integers".into()),
            None => Tensor { requires_grad: true, ..from },
        };
        Ok(tensor(Tensor { is_parameter: true, ..made }))
    }

    /// `_set_obj_state`: a dict of attributes, or a pair of them.
    fn object_state(&self, state: Id) -> Checked {
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

    fn quantized(&mut self, args: &[Id]) -> Made {
        let [storage, _, size, _, quantizer, requires_grad, _] = *args else { return Ok(Value::Unknown) };
        if let Value::Storage { dtype, .. } = self.value(storage)
            && !dtype.starts_with('q')
        {
            return Err("the storage's dtype is not quantized".into());
        }
        let Some(parts) = self.unpack(quantizer)? else { return Ok(Value::Unknown) };
        let scheme = parts.first().and_then(|id| self.global_of(*id));
        let number = |id: Id| matches!(self.value(id), Value::Int(_) | Value::Float | Value::Bool(_) | Value::Unknown);
        match (scheme, parts.as_ref()) {
            (Some(("torch.per_tensor_affine", _)), [_, scale, zero]) => {
                if !number(*scale) || !matches!(self.value(*zero), Value::Int(_) | Value::Unknown) {
                    return Err("an odd scale or zero point".into());
                }
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

    fn sparse(&self, layout: Id, data: Id) -> Made {
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
        let dtype = parts.get(tensors - 1).and_then(|id| match self.value(*id) {
            Value::Tensor(values) => values.dtype.clone(),
            _ => None,
        });
        Ok(tensor(Tensor { dtype, sizes, ..Tensor::default() }))
    }

    fn of_subclass(&mut self, callable: Id, class: Id, args: Id, state: Id) -> Made {
        let (name, kind) = match self.value(callable) {
            Value::Global(name, kind) => (*name, *kind),
            Value::Unknown => return Ok(Value::Unknown),
            other => return Err(wrong("the function", other)),
        };
        let Some(args) = self.unpack(args)? else { return Ok(Value::Unknown) };
        // a function may be called with itself as an argument, but torch's own call nothing in turn
        if name == "torch._tensor._rebuild_from_type_v2" {
            return Ok(Value::Unknown);
        }
        let made = self.call(name, kind, &args)?;
        let class = match self.value(class) {
            Value::Global(name, Kind::Type) => *name,
            Value::Unknown => return Ok(made),
            Value::Global(name, _) => return Err(format!("{name} is no subclass of Tensor")),
            other => return Err(wrong("the class", other)),
        };
        match &made {
            Value::Tensor(_) if matches!(class, "torch.Tensor" | "torch.nn.parameter.Parameter") => {}
            Value::Unknown => {}
            Value::Dict(Mapping::OrderedDict, _) if class == "collections.OrderedDict" => {}
            _ => return Err(format!("{class} is no subclass of Tensor")),
        }
        self.object_state(state)?;
        Ok(made)
    }

    /// `OrderedDict(items)`, `Counter(items)`.
    fn mapping(&mut self, which: Mapping, items: Option<Id>) -> Made {
        let Some(items) = items else { return Ok(Value::Dict(which, Vec::new())) };
        if let Value::Dict(_, entries) = self.value(items) {
            return Ok(Value::Dict(which, entries.clone()));
        }
        if which == Mapping::Counter && matches!(self.value(items), Value::None) {
            return Ok(Value::Dict(which, Vec::new()));
        }
        if let Value::Str(text) = self.value(items)
            && which == Mapping::OrderedDict
            && !text.is_empty
        {
            return Err("a str where pairs should be".into());
        }
        let Some(items) = self.unpack(items)? else { return Ok(Value::Unknown) };
        let mut entries = Vec::new();
        for item in items.iter() {
            if which == Mapping::Counter {
                self.hashable(*item);
                entries.push((*item, Self::UNKNOWN));
                continue;
            }
            match self.unpack(*item)?.as_deref() {
                Some([key, value]) => {
                    self.hashable(*key);
                    entries.push((*key, *value));
                }
                Some(other) => return Err(format!("a pair of {} parts", other.len())),
                None => {}
            }
        }
        Ok(Value::Dict(which, entries))
    }

    fn byte_array(&self, args: &[Id]) -> Made {
        let arg = |index: usize| args.get(index).map(|id| self.value(*id));
        match (arg(0), arg(1), args.len()) {
            (Some(Value::Str(_)), None, _) => Err("a str without an encoding".into()),
            (Some(Value::Str(text)), Some(encoding), 2 | 3) => encodes(text, encoding).map(|()| Value::ByteArray),
            (Some(Value::Unknown), ..) | (_, Some(Value::Unknown), _) => Ok(Value::Unknown),
            (_, Some(_), _) => Err("an encoding without a str".into()),
            (Some(Value::Int(Some(size))), ..) if *size < 0 => Err("a negative size".into()),
            (Some(Value::None | Value::Float | Value::Dict(..)), ..) => {
                Err(wrong("the source", arg(0).unwrap_or(&Value::None)))
            }
            _ => Ok(Value::ByteArray),
        }
    }

    fn encode(&self, args: &[Id]) -> Made {
        let arg = |index: usize| args.get(index).map(|id| self.value(*id));
        let text = match (arg(0), args.len()) {
            (Some(Value::Str(text)), 1..=3) => text,
            (Some(Value::Unknown), 1..=3) => return Ok(Value::Unknown),
            (Some(other), 1..=3) => return Err(wrong("what is encoded", other)),
            _ => return Err(format!("takes 1 to 3 arguments, {} given", args.len())),
        };
        if let Some(encoding) = arg(1) {
            encodes(text, encoding)?;
        }
        Ok(Value::Bytes(Text { content: None, is_empty: text.is_empty, largest: 0 }))
    }

    fn device(&self, args: &[Id]) -> Made {
        let arg = |index: usize| args.get(index).map(|id| self.value(*id));
        let name = match (arg(0), args.len()) {
            (Some(Value::Str(text)), 1 | 2) => text,
            (Some(Value::Int(_) | Value::Device | Value::Unknown), 1) => return Ok(Value::Device),
            (Some(Value::Unknown), 2) => return Ok(Value::Device),
            _ => return Err("takes a device's name and index".into()),
        };
        let content = name.content.clone().unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        let (kind, index) = text.split_once(':').map_or((text.as_ref(), None), |(kind, index)| (kind, Some(index)));
        let index_is_fine = index.is_none_or(|index| {
            index.parse::<u16>().is_ok() && (index == "0" || !index.starts_with('0')) && args.len() == 1
        });
        if !DEVICES.contains(&kind) || !index_is_fine {
            return Err("an unknown device".into());
        }
        match arg(1) {
            None | Some(Value::Unknown | Value::None) => Ok(Value::Device),
            Some(Value::Int(Some(index))) if *index >= 0 => Ok(Value::Device),
            Some(Value::Int(_)) => Err("a negative index".into()),
            Some(other) => Err(wrong("the index", other)),
        }
    }

    /// `NEWOBJ`: `cls.__new__(cls, *args)`.
    pub(super) fn new_object(&mut self, class: Id, args: Id) -> Value {
        let (name, kind) = match self.value(class) {
            Value::Global(name, kind) => (*name, *kind),
            Value::Unknown => return Value::Unknown,
            other => {
                let detail = format!("makes an object of {}, which is no allowed class", other.type_name());
                self.refuse("call", detail);
                return Value::Unknown;
            }
        };
        let args = match self.unpack(args) {
            Ok(Some(args)) => args,
            Ok(None) => return Value::Unknown,
            Err(why) => return self.told_value(name, Err(why)),
        };
        let made = match (kind, name) {
            (Kind::Function | Kind::Dtype | Kind::QScheme, _) => Err("is no class".into()),
            (Kind::Storage(_), "torch.storage.UntypedStorage" | "torch.storage.TypedStorage") => {
                Ok(Value::OtherStorage)
            }
            (Kind::Storage(_), _) => Err("is no class".into()),
            // their `__new__` ignores the arguments
            (_, "collections.OrderedDict") => Ok(Value::Dict(Mapping::OrderedDict, Vec::new())),
            (_, "collections.Counter") => Ok(Value::Dict(Mapping::Counter, Vec::new())),
            (_, "builtins.set") => Ok(Value::Set),
            (_, "builtins.bytearray") => Ok(Value::ByteArray),
            _ => self.call(name, kind, &args),
        };
        self.told_value(name, made)
    }

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
            (Value::Other(name), _) if super::tables::TABLES.global(name).is_some() => Ok(()),
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
}

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

fn tensor(tensor: Tensor) -> Value {
    Value::Tensor(Rc::new(tensor))
}

fn same_length(sizes: &Option<Vec<i64>>, strides: &Option<Vec<i64>>) -> Checked {
    match (sizes, strides) {
        (Some(sizes), Some(strides)) if sizes.len() != strides.len() => {
            Err(format!("{} sizes and {} strides", sizes.len(), strides.len()))
        }
        _ => Ok(()),
    }
}

/// Whether a text can be encoded; encodings other than the common ones are not known here, and pass when Python might
/// have them.
fn encodes(text: &Text, encoding: &Value) -> Checked {
    let name = match encoding {
        Value::Str(name) => name.content.clone().unwrap_or_default(),
        Value::Unknown => return Ok(()),
        other => return Err(wrong("the encoding", other)),
    };
    let name = String::from_utf8_lossy(&name).to_lowercase().replace(['_', ' '], "-");
    let most = match name.as_str() {
        "latin1" | "latin-1" | "latin" | "l1" | "iso-8859-1" | "iso8859-1" | "8859" | "cp819" => 0xff,
        "ascii" | "us-ascii" | "646" => 0x7f,
        "utf8" | "utf-8" | "u8" | "utf" | "utf-16" | "utf-32" | "utf16" | "utf32" | "rot13" | "rot-13" => u32::MAX,
        _ => return Err(format!("an encoding nobody uses here: {name:?}")),
    };
    if text.largest > most {
        return Err(format!("a character that {name} does not have"));
    }
    Ok(())
}
