//! The storages of a checkpoint: what persistent ids name, how many bytes each has, which tensors fit into them.

use std::rc::Rc;

use super::arguments::{Checked, Made, dtype_of, wrong};
use super::constructors::class_dtype;
use super::known_storages::Storage;
use super::replay::Replay;
use super::tables::{Kind, TABLES};
use super::value::{Id, OtherStorage, Value};
use crate::dtype::DType;

/// Bytes of an element of a storage, whose elements are bytes where a tensor's share one.
pub(super) fn element_bytes(name: &str) -> u64 {
    dtype_of(name).and_then(|dtype| dtype.size()).map_or(1, u64::from)
}

/// Bytes of so many elements of a tensor; nothing for more than 64 bits can say.
pub(super) fn tensor_bytes(elements: u64, dtype: &DType) -> Option<u64> {
    let bytes = elements.checked_mul(dtype.size().map_or(1, u64::from))?;
    Some(bytes.div_ceil(u64::from(dtype.in_a_byte())))
}

impl Replay<'_> {
    /// `persistent_load(pid)`.
    pub(super) fn persistent(&mut self, pid: Id) -> Value {
        if !self.takes_ids {
            self.refuse("persistent-id", "stands where torch takes none");
            return Value::Unknown;
        }
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
        let (class, key, location, numel, view) = match *items {
            [_, class, key, location, numel] if !legacy => (class, key, location, numel, Self::NONE),
            [_, class, key, location, numel, view] if legacy => (class, key, location, numel, view),
            _ => return Err(format!("has {} parts", items.len())),
        };
        if let Value::Bytes(text) = self.value(location)
            && text.content.as_ref().is_some_and(|content| !content.is_ascii())
        {
            return Err("has a location that is not ASCII".into());
        }
        let dtype = match self.value(class) {
            Value::Global("torch.storage.UntypedStorage", _) if legacy => {
                return Err("UntypedStorage has no dtype: torch cannot read what it writes here".into());
            }
            Value::Global(_, Kind::Storage(Some(dtype))) => *dtype,
            Value::Unknown => return Ok(Value::Unknown),
            // they have a dtype as well
            Value::Storage { dtype, .. } => *dtype,
            Value::OtherStorage(storage) if !storage.is_untyped => match storage.dtype {
                Some(dtype) => dtype,
                None => return Ok(Value::Unknown),
            },
            Value::Global(name, Kind::TensorClass) => class_dtype(name),
            Value::Tensor(tensor) => match tensor.dtype.as_ref().and_then(|dtype| TABLES.dtype(dtype.name())) {
                Some(dtype) => dtype,
                None => return Ok(Value::Unknown),
            },
            other => return Err(wrong("the storage's class", other)),
        };
        if !self.hashable(key) {
            return Ok(Value::Unknown);
        }
        let Some(record) = self.record_name(key) else {
            return match self.value(key) {
                // the name of its record depends on the tensor's value
                Value::Tensor(tensor) if tensor.is_integer() => Ok(Value::Unknown),
                Value::Str(_) | Value::Unknown => Ok(Value::Unknown),
                _ if legacy => Ok(Value::Unknown),
                other => Err(format!("names a record after {}", other.type_name())),
            };
        };
        let Some(key) = self.key(key) else { return Ok(Value::Unknown) };
        let known = self.storages.by_key.get(&key).copied();
        let count = match self.value(numel) {
            Value::Int(Some(value)) => *value,
            Value::Bool(value) => i64::from(*value),
            Value::Unknown => return Ok(Value::Unknown),
            // torch passes its data on as the number
            Value::Tensor(tensor) if !tensor.is_meta && tensor.is_differentiable() => return Ok(Value::Unknown),
            other if known.is_none() || matches!(other, Value::Storage { .. }) => {
                return Err(wrong("the number of elements", other));
            }
            _ => 0,
        };
        let bytes = u64::try_from(count).ok().and_then(|count| count.checked_mul(element_bytes(dtype)));
        let place = match known {
            Some(known) if known.dtype == dtype => known.place,
            Some(known) if bytes == Some(self.storages.bytes(known.place)) => known.place,
            Some(_) if legacy => self.storages.add(0, true),
            _ => {
                let bytes = bytes.ok_or_else(|| format!("announces {count} elements"))?;
                self.fits_record(&record, bytes)?;
                self.storages.add(bytes, legacy)
            }
        };
        self.storages.by_key.entry(key).or_insert(Storage { dtype, place });
        let parts = match self.value(view) {
            Value::None => return Ok(Value::Storage { dtype, place }),
            Value::Tuple(parts) if parts.len() == 3 => Rc::clone(parts),
            Value::Unknown => {
                return Ok(Value::OtherStorage(OtherStorage { dtype: Some(dtype), ..OtherStorage::default() }));
            }
            other => return Err(wrong("the view of a storage", other)),
        };
        let (Some(offset), Some(size)) = (self.int(parts.get(1)), self.int(parts.get(2))) else {
            return Ok(Value::OtherStorage(OtherStorage { dtype: Some(dtype), ..OtherStorage::default() }));
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
    fn record_name(&self, key: Id) -> Option<Vec<u8>> {
        Some(match self.value(key) {
            Value::Str(text) => text.content.as_ref()?.to_vec(),
            Value::Int(Some(value)) => value.to_string().into_bytes(),
            Value::Bool(value) => if *value { "True" } else { "False" }.into(),
            Value::None => "None".into(),
            _ => return None,
        })
    }

    /// What a dict tells keys apart by: a number is another key than its text.
    pub(super) fn key(&self, key: Id) -> Option<Vec<u8>> {
        Some(match self.value(key) {
            Value::Str(text) => text.content.as_ref()?.to_vec(),
            Value::Int(Some(value)) => format!("\0{value}").into_bytes(),
            Value::Bool(value) => format!("\0{}", i64::from(*value)).into_bytes(),
            Value::None => "\0None".into(),
            _ => return None,
        })
    }

    /// Whether the elements lie inside the storage. A legacy stream's storages grow instead, and their bytes, which come
    /// later, do not fit then.
    pub(super) fn reaches(
        &mut self,
        place: usize,
        offset: i64,
        sizes: &[i64],
        strides: &[i64],
        dtype: &DType,
    ) -> Checked {
        if sizes.contains(&0) {
            return Ok(());
        }
        let last = sizes.iter().zip(strides).try_fold(u64::try_from(offset).ok(), |last, (size, stride)| {
            // a single step is never taken, whatever its width
            let stride = if *size == 1 { 0 } else { u64::try_from(*stride).ok()? };
            let steps = u64::try_from(size - 1).ok()?.checked_mul(stride)?;
            Some(last?.checked_add(steps))
        });
        let end = last.flatten().and_then(|last| tensor_bytes(last.checked_add(1)?, dtype));
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
}
