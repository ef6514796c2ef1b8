//! What the allowed callables make besides tensors and storages: mappings, sets, byte strings, sizes, devices, layouts.

use std::rc::Rc;

use super::arguments::{Made, wrong};
use super::literals;
use super::replay::Replay;
use super::value::{Bytes, Id, Mapping, Value};
use crate::checkpoint::device::DEVICE_TYPES;

/// Content of a `bytearray` that is kept.
const MAX_KEPT: u64 = 4096;

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

impl Replay<'_> {
    /// `OrderedDict(items)`, `Counter(items)`.
    pub(super) fn mapping(&mut self, which: Mapping, items: Option<Id>) -> Made {
        let Some(items) = items else { return Ok(Value::Dict(which, Vec::new())) };
        if which == Mapping::OrderedDict || matches!(self.value(items), Value::Dict(..)) {
            let pairs = self.pairs(items)?;
            return Ok(pairs.map_or(Value::Unknown, |pairs| Value::Dict(which, pairs)));
        }
        if matches!(self.value(items), Value::None) {
            return Ok(Value::Dict(which, Vec::new()));
        }
        let Some(items) = self.iterate(items)? else { return Ok(Value::Unknown) };
        self.all_hashable(&items);
        Ok(Value::Dict(which, items.iter().map(|item| (*item, Self::UNKNOWN)).collect()))
    }

    /// `set(items)`.
    pub(super) fn set(&mut self, items: Option<Id>) -> Made {
        let Some(items) = items else { return Ok(Value::Set(Vec::new())) };
        let Some(items) = self.iterate(items)? else { return Ok(Value::Unknown) };
        self.all_hashable(&items);
        Ok(Value::Set(items.to_vec()))
    }

    /// `complex(real, imag)`.
    pub(super) fn complex(&self, args: &[Id]) -> Made {
        let mut is_true = Some(false);
        for id in args {
            match self.value(*id) {
                Value::Str(text) => {
                    let content = text.content.as_deref().map(String::from_utf8_lossy);
                    if args.len() > 1 || !content.is_some_and(|text| literals::is_complex(&text)) {
                        return Err("a text that is no complex number".into());
                    }
                    is_true = None;
                    continue;
                }
                Value::HugeInt => return Err("a number that is too large".into()),
                Value::Bool(_)
                | Value::Int(_)
                | Value::SomeInt
                | Value::Magic
                | Value::Float(_)
                | Value::Complex(_) => {}
                Value::Tensor(tensor) if !tensor.is_meta && tensor.count().is_none_or(|count| count == 1) => {}
                Value::Unknown => {}
                other => return Err(wrong("an argument", other)),
            }
            is_true = match (is_true, self.truth(*id)?) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
        }
        Ok(Value::Complex(is_true))
    }

    /// `bytearray(source, encoding, errors)`.
    pub(super) fn byte_array(&mut self, args: &[Id]) -> Made {
        let array = |len: u64, content: Option<Rc<[u8]>>| Value::ByteArray(Bytes { len, content });
        let Some(source) = args.first().copied() else { return Ok(array(0, Some(Rc::new([])))) };
        match self.value(source) {
            Value::Str(text) if matches!(args.len(), 2 | 3) => {
                let is_empty = text.is_empty;
                self.encoded_array(text, args)?;
                return Ok(if is_empty { array(0, Some(Rc::new([]))) } else { array(1, None) });
            }
            Value::Str(_) => return Err("a text with no encoding".into()),
            _ if args.len() > 1 => return Err("an encoding without a text".into()),
            Value::Bytes(text) => {
                let len = text.content.as_ref().map_or(u64::from(!text.is_empty), |content| content.len() as u64);
                return Ok(array(len, text.content.clone()));
            }
            Value::ByteArray(bytes) => return Ok(Value::ByteArray(bytes.clone())),
            Value::Bool(value) => return Ok(array(u64::from(*value), Some(vec![0; usize::from(*value)].into()))),
            _ => {}
        }
        if self.is_integer(source) {
            let Some(len) = self.integer(source, "the size")? else { return Ok(Value::Unknown) };
            let len = u64::try_from(len).map_err(|_| "a negative size")?;
            self.allocate(Some(len))?;
            let content = usize::try_from(len).ok().filter(|_| len <= MAX_KEPT).map(|len| vec![0; len].into());
            return Ok(array(len, content));
        }
        let Some(items) = self.iterate(source)? else { return Ok(Value::Unknown) };
        let mut content = Some(Vec::new());
        for item in items.iter() {
            let byte = match self.value(*item) {
                Value::Bool(value) => Some(i64::from(*value)),
                _ => self.integer(*item, "an element")?,
            };
            let byte = byte.map(|byte| u8::try_from(byte).map_err(|_| format!("an element is {byte}"))).transpose()?;
            content = content.zip(byte).map(|(mut content, byte)| {
                content.push(byte);
                content
            });
        }
        Ok(array(items.len() as u64, content.map(Rc::from)))
    }

    /// `torch.Size(items)`.
    pub(super) fn torch_size(&mut self, items: Option<Id>) -> Made {
        match items {
            Some(items) => Ok(self.size(items)?.map_or(Value::Unknown, |sizes| Value::Size(sizes.into()))),
            None => Ok(Value::Size(Rc::new([]))),
        }
    }

    /// `torch.device(device)`, `torch.device(index)`, `torch.device(name, index)`.
    pub(super) fn device(&self, args: &[Id]) -> Made {
        let (first, index) = match *args {
            [first] => (first, None),
            [first, index] => (first, Some(index)),
            _ => return Err(format!("takes 1 to 2 arguments, {} given", args.len())),
        };
        let name = match self.value(first) {
            Value::Str(text) | Value::Bytes(text) => text,
            Value::Unknown => return Ok(Value::Device),
            Value::Device if index.is_none() => return Ok(Value::Device),
            Value::Int(_) | Value::HugeInt | Value::SomeInt | Value::Magic if index.is_none() => {
                return self.device_index(first).map(|()| Value::Device);
            }
            other => return Err(wrong("the device", other)),
        };
        let content = name.content.clone().unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        let (kind, suffix) = text.split_once(':').map_or((text.as_ref(), None), |(kind, index)| (kind, Some(index)));
        let suffix_is_fine = suffix.is_none_or(|text| {
            let is_index = text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok();
            is_index && (text == "0" || !text.starts_with('0')) && index.is_none()
        });
        if !DEVICE_TYPES.contains(&kind) || !suffix_is_fine {
            return Err("an unknown device".into());
        }
        match index.map(|index| self.value(index)) {
            None | Some(Value::None) => {}
            _ => self.device_index(index.unwrap_or(Self::NONE))?,
        }
        Ok(Value::Device)
    }

    fn device_index(&self, index: Id) -> Result<(), String> {
        match self.integer(index, "the index")? {
            Some(index) if index < 0 => Err("a negative index".into()),
            _ => Ok(()),
        }
    }

    /// `torch.serialization._get_layout(name)`.
    pub(super) fn layout(&self, name: Id) -> Made {
        match self.value(name) {
            Value::Str(text) if LAYOUTS.iter().any(|known| text.is(known)) => {
                Ok(Value::Layout(text.content.clone().unwrap_or_default()))
            }
            Value::Unknown => Ok(Value::Unknown),
            _ => Err("an unknown layout".into()),
        }
    }
}
