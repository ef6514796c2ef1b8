//! The constructors of tensors and storages: `torch.Tensor(…)`, `torch.FloatTensor(…)`, `torch.sparse.FloatTensor(…)`,
//! `UntypedStorage(…)`, `TypedStorage(…)`.
//!
//! Sources: `torch/csrc/utils/tensor_new.cpp` (`legacy_tensor_generic_ctor_new`, `legacy_sparse_tensor_generic_ctor_new`,
//! `internal_new_from_data`), `torch/csrc/Storage.cpp` (`THPStorage_pynew`), `torch/storage.py` (`TypedStorage.__init__`).

use super::arguments::{Checked, Made, dtype_of, wrong};
use super::replay::Replay;
use super::tables::{Kind, TABLES};
use super::value::{Id, OtherStorage, Tensor, Value, tensor};
use crate::dtype::{Class, DType};

/// Dimensions that nested sequences may make (`MAX_DIMS`).
const MAX_DIMENSIONS: usize = 128;
/// Elements of nested sequences that are looked at.
const MAX_ELEMENTS: u64 = 1 << 16;

/// The dtype of `torch.FloatTensor` and the like; `torch.Tensor` makes the default one.
pub(super) fn class_dtype(class: &str) -> &'static str {
    let name = class.strip_suffix("Tensor").unwrap_or(class).replace("sparse.", "");
    match TABLES.global(&format!("{name}Storage")) {
        Some((_, Kind::Storage(Some(dtype)))) => dtype,
        _ => "float32",
    }
}

impl Replay<'_> {
    /// `torch.Tensor(…)` and `torch.FloatTensor(…)`: a storage, a tensor, sizes, or data.
    pub(super) fn legacy_tensor(&mut self, class: &str, args: &[Id]) -> Made {
        let dtype = dtype_of(class_dtype(class));
        let of = |sizes: Option<Vec<i64>>| tensor(Tensor { dtype: dtype.clone(), sizes, ..Tensor::default() });
        let [argument] = *args else {
            let sizes = self.sizes_of(args, dtype.as_ref())?;
            return Ok(of(if args.is_empty() { Some(vec![0]) } else { sizes }));
        };
        let same = |have: Option<DType>| match (&have, &dtype) {
            (Some(have), Some(want)) if have != want => Err(format!("takes {want}, not {have}")),
            _ => Ok(()),
        };
        match self.value(argument) {
            Value::Storage { dtype, .. } => same(dtype_of(dtype)).map(|()| of(None)),
            Value::OtherStorage(storage) => same(storage.dtype.and_then(dtype_of)).map(|()| of(None)),
            Value::Tensor(from) if class == "torch.Tensor" => Ok(tensor(Tensor::clone(from))),
            Value::Tensor(from) if from.is_meta => Err("a tensor on another device".into()),
            Value::Tensor(from) => same(from.dtype.clone()).map(|()| of(from.sizes.clone())),
            Value::Size(sizes) => {
                let sizes = sizes.to_vec();
                self.allocate_tensor(&sizes, dtype.as_ref())?;
                Ok(of(Some(sizes)))
            }
            Value::Int(_) | Value::HugeInt | Value::SomeInt | Value::Magic => {
                let sizes = self.sizes_of(args, dtype.as_ref())?;
                Ok(of(sizes))
            }
            Value::Unknown => Ok(of(None)),
            Value::Tuple(_) | Value::List(_) | Value::ByteArray(_) => Ok(of(self.data(argument, dtype.as_ref())?)),
            other => Err(wrong("the data", other)),
        }
    }

    /// Arguments that are each a size.
    fn sizes_of(&mut self, args: &[Id], dtype: Option<&DType>) -> Result<Option<Vec<i64>>, String> {
        let sizes = self.integers_in(args, "size")?;
        if let Some(sizes) = &sizes {
            self.allocate_tensor(sizes, dtype)?;
        }
        Ok(sizes)
    }

    fn allocate_tensor(&mut self, sizes: &[i64], dtype: Option<&DType>) -> Checked {
        if sizes.iter().any(|size| *size < 0) {
            return Err("a negative size".into());
        }
        let count = sizes.iter().try_fold(1i64, |count, size| count.checked_mul(*size));
        let count = count.ok_or("more elements than 64 bits can count")?;
        let element = u64::from(dtype.and_then(DType::size).unwrap_or(1));
        self.allocate(u64::try_from(count).ok().and_then(|count| count.checked_mul(element)))
    }

    /// `torch.sparse.FloatTensor(…)`: sizes, or indices and values with or without a size.
    pub(super) fn legacy_sparse_tensor(&mut self, class: &str, args: &[Id]) -> Made {
        let dtype = dtype_of(class_dtype(class));
        let sizes = match *args {
            [] => Some(vec![0]),
            [indices, values, ref size @ ..] if size.len() <= 1 && !self.is_size(indices) => {
                for part in [indices, values] {
                    if !matches!(self.value(part), Value::Tensor(_) | Value::Unknown) {
                        return Err(wrong("a part", self.value(part)));
                    }
                }
                match (self.value(values), &dtype) {
                    (Value::Tensor(values), Some(want)) if values.dtype.as_ref().is_some_and(|have| have != want) => {
                        return Err("values of another dtype".into());
                    }
                    _ => {}
                }
                size.first().map_or(Ok(None), |size| self.integers(*size, "size"))?
            }
            [size] if matches!(self.value(size), Value::Size(_) | Value::Unknown) => self.integers(size, "size")?,
            _ => self.integers_in(args, "size")?,
        };
        if sizes.iter().flatten().any(|size| *size < 0) {
            return Err("a negative size".into());
        }
        Ok(tensor(Tensor { dtype, sizes, is_sparse: true, ..Tensor::default() }))
    }

    fn is_size(&self, id: Id) -> bool {
        self.is_integer(id) && !matches!(self.value(id), Value::Unknown)
    }

    /// The shape of nested sequences of numbers of one dtype.
    fn data(&mut self, data: Id, dtype: Option<&DType>) -> Result<Option<Vec<i64>>, String> {
        let mut level = vec![data];
        let mut sizes = Vec::new();
        loop {
            let Some(first) = level.first().copied() else { return Ok(Some(sizes)) };
            if !self.is_sequence(first) {
                break;
            }
            if sizes.len() == MAX_DIMENSIONS {
                return Err("too many dimensions".into());
            }
            let mut below = Vec::new();
            let mut size = None;
            for item in level {
                let Some(items) = self.iterate(item).map_err(|_| "no rectangular data".to_owned())? else {
                    return Ok(None);
                };
                if size.is_some_and(|size| size != items.len()) {
                    return Err("rows of different lengths".into());
                }
                size = Some(items.len());
                if below.len() as u64 + items.len() as u64 > MAX_ELEMENTS {
                    return Ok(None);
                }
                below.extend_from_slice(&items);
            }
            sizes.push(i64::try_from(size.unwrap_or(0)).unwrap_or(i64::MAX));
            level = below;
        }
        level.iter().try_for_each(|id| self.scalar(*id, dtype))?;
        Ok(Some(sizes))
    }

    fn is_sequence(&self, id: Id) -> bool {
        matches!(
            self.value(id),
            Value::Tuple(_)
                | Value::List(_)
                | Value::Str(_)
                | Value::Bytes(_)
                | Value::ByteArray(_)
                | Value::Size(_)
                | Value::Storage { .. }
                | Value::OtherStorage(_)
        )
    }

    /// Whether a value may be an element of a tensor of this dtype.
    fn scalar(&self, id: Id, dtype: Option<&DType>) -> Checked {
        let class = dtype.and_then(DType::class).unwrap_or(Class::Float);
        let has_parts = matches!(class, Class::Float | Class::Complex);
        match (self.value(id), class) {
            (Value::Unknown | Value::SomeInt | Value::Bool(_), _) => Ok(()),
            (Value::Int(_) | Value::HugeInt | Value::Magic | Value::Float(_) | Value::Complex(_), Class::Bool) => {
                Ok(())
            }
            (Value::Tensor(tensor), _) if tensor.is_meta => Err("a tensor without data".into()),
            (Value::Tensor(tensor), _) if !has_parts => match tensor.dtype.as_ref().and_then(DType::class) {
                Some(Class::Signed | Class::Unsigned | Class::Bool) | None => one(tensor),
                _ => Err("a tensor of another type as an integer".into()),
            },
            (Value::Tensor(tensor), _) => one(tensor),
            (Value::Complex(_), Class::Complex) => Ok(()),
            (Value::HugeInt, _) => Err("a number that is too large".into()),
            (Value::Int(_) | Value::Magic | Value::Float(_), _) if has_parts => Ok(()),
            (Value::Int(Some(number)), _) if fits(*number, class, dtype) => Ok(()),
            (Value::Int(_) | Value::Magic, _) => Err("a number that does not fit".into()),
            (Value::Float(Some(number)), _) if !number.is_finite() => Err("a number that is no integer".into()),
            (Value::Float(_), _) => Ok(()),
            (other, _) => Err(wrong("an element", other)),
        }
    }

    /// Whether a list of numbers makes a tensor of one dimension and this dtype.
    pub(super) fn numbers(&mut self, list: Id, dtype: &str) -> Checked {
        match self.data(list, dtype_of(dtype).as_ref())? {
            Some(sizes) if sizes.len() != 1 => Err(format!("numbers in {} dimensions", sizes.len())),
            _ => Ok(()),
        }
    }

    /// `UntypedStorage(…)`: a size, or a sequence of integers.
    pub(super) fn untyped_storage(&mut self, args: &[Id]) -> Made {
        let untyped = |len: Option<u64>| Value::OtherStorage(OtherStorage { is_untyped: true, dtype: None, len });
        let argument = match *args {
            [] => return Ok(untyped(Some(0))),
            [argument] => argument,
            _ => return Err(format!("takes 0 to 1 arguments, {} given", args.len())),
        };
        if self.is_integer(argument) {
            let len = self.integer(argument, "the size")?;
            return self.allocate_storage(len, 1).map(untyped);
        }
        if !self.is_sequence(argument) {
            return Err(wrong("the data", self.value(argument)));
        }
        let Some(items) = self.iterate(argument)? else { return Ok(untyped(None)) };
        for item in items.iter() {
            match self.value(*item) {
                Value::Int(Some(_)) | Value::SomeInt | Value::Bool(_) | Value::Unknown => {}
                other => return Err(wrong("an element", other)),
            }
        }
        Ok(untyped(Some(items.len() as u64)))
    }

    /// `TypedStorage(…)`: a size, or a sequence of numbers of the default dtype.
    pub(super) fn typed_storage(&mut self, args: &[Id]) -> Made {
        let typed =
            |len: Option<u64>| Value::OtherStorage(OtherStorage { is_untyped: false, dtype: Some("float32"), len });
        let argument = match *args {
            [] => return Ok(typed(Some(0))),
            [argument] => argument,
            _ => return Err(format!("takes 0 to 1 arguments, {} given", args.len())),
        };
        match self.value(argument) {
            Value::Bool(value) => Ok(typed(Some(u64::from(*value)))),
            Value::Int(_) | Value::HugeInt | Value::SomeInt | Value::Magic => {
                let len = self.integer(argument, "the size")?;
                self.allocate_storage(len, 4).map(typed)
            }
            Value::Tuple(_) | Value::List(_) | Value::ByteArray(_) | Value::Size(_) => {
                let sizes = self.data(argument, dtype_of("float32").as_ref())?;
                let count = sizes.and_then(|sizes| sizes.iter().try_fold(1i64, |n, size| n.checked_mul(*size)));
                Ok(typed(count.and_then(|count| u64::try_from(count).ok())))
            }
            Value::Unknown => Ok(typed(None)),
            other => Err(wrong("the data", other)),
        }
    }

    fn allocate_storage(&mut self, len: Option<i64>, element: u64) -> Result<Option<u64>, String> {
        let Some(len) = len else { return Ok(None) };
        let len = u64::try_from(len).map_err(|_| "a negative size")?;
        self.allocate(len.checked_mul(element))?;
        Ok(Some(len))
    }
}

fn one(tensor: &Tensor) -> Checked {
    match tensor.count() {
        Some(1) | None => Ok(()),
        Some(_) => Err("a tensor of several elements as a number".into()),
    }
}

/// Whether an integer fits; negative ones wrap around where all are positive.
fn fits(number: i64, class: Class, dtype: Option<&DType>) -> bool {
    let bits = 8 * dtype.and_then(DType::size).unwrap_or(8);
    let magnitude = number.unsigned_abs();
    match (class, bits) {
        (_, 64..) => true,
        (Class::Unsigned, _) => magnitude < 1 << bits,
        _ => number.checked_shr(bits - 1).is_some_and(|rest| rest == 0 || rest == -1),
    }
}
