//! What the allowed callables make besides tensors and storages: mappings, sets, byte strings, sizes, devices, layouts.

use std::rc::Rc;

use super::arguments::{Checked, Made, wrong};
use super::replay::Replay;
use super::value::{Id, Mapping, Text, Value};

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

impl Replay<'_> {
    /// `OrderedDict(items)`, `Counter(items)`.
    pub(super) fn mapping(&mut self, which: Mapping, items: Option<Id>) -> Made {
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

    /// `set(items)`.
    pub(super) fn set(&mut self, items: Option<Id>) -> Made {
        if let Some(items) = items {
            self.unpack(items)?.iter().flat_map(|items| items.iter()).for_each(|id| {
                self.hashable(*id);
            });
        }
        Ok(Value::Set)
    }

    /// `complex(real, imag)`.
    pub(super) fn complex(&self, args: &[Id]) -> Made {
        args.iter().try_for_each(|id| match self.value(*id) {
            Value::None | Value::Tuple(_) | Value::List(_) | Value::Dict(..) | Value::Bytes(_) => {
                Err(wrong("an argument", self.value(*id)))
            }
            _ => Ok(()),
        })?;
        Ok(Value::Complex)
    }

    pub(super) fn byte_array(&self, args: &[Id]) -> Made {
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

    pub(super) fn encode(&self, args: &[Id]) -> Made {
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

    /// `torch.Size(items)`.
    pub(super) fn torch_size(&self, items: Option<Id>) -> Made {
        match items {
            Some(items) => Ok(self.size(items)?.map_or(Value::Unknown, |sizes| Value::Size(sizes.into()))),
            None => Ok(Value::Size(Rc::new([]))),
        }
    }

    pub(super) fn device(&self, args: &[Id]) -> Made {
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
