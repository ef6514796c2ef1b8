//! Tensors that torch's unpickler refuses, and numpy's arrays, scalars and types.

use std::borrow::Cow;

use super::{Fate, Form, Work};
use thin_vec::ThinVec;

use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::number::{Number, numpy_number};
use crate::checkpoint::numpy;
use crate::checkpoint::tensor::{Data, Kind, STRIDED, Tensor, TensorId, plain_tensor};
use crate::dtype::{ByteOrder, Class, DType, Known};
use crate::error::{Error, Result};
use crate::pickle::text::{Encoding, push_code_point};
use crate::pickle::{Construct, Graph, Node, NodeId, Object, Pair};

/// torch's function that makes a tensor subclass which holds its tensors as attributes.
const WRAPPER: &str = "_rebuild_wrapper_subclass";

impl Work<'_> {
    pub(super) fn tensor(&mut self, node: NodeId, id: TensorId) -> Result<Fate> {
        let Some(tensor) = self.checkpoint.tensors.get(id).cloned() else { return Ok(Fate::KEEP) };
        let objects = self.checkpoint.objects();
        let args = objects.args(node).to_vec();
        match objects.constructor(node) {
            Some(Constructor::NumpyArray | Constructor::NumpyFromBuffer | Constructor::JoblibArray) => {
                self.array(node, id, &tensor)
            }
            Some(Constructor::FromType) => self.subclass(node, &tensor, &args),
            Some(Constructor::Nested) => {
                let names = ["buffer", "sizes", "strides", "storage_offsets"];
                let class = self.class(node);
                self.forgotten.insert(node);
                Ok(Fate::new(class, self.dict(names.into_iter().zip(args))?))
            }
            Some(Constructor::Jagged) => Ok(match args.first() {
                Some(parts) => {
                    self.forgotten.insert(node);
                    Fate::moved(self.class(node), *parts)
                }
                None => Fate::KEEP,
            }),
            Some(Constructor::OnDevice) if !self.takes_call(node) || matches!(tensor.data, Data::Array { .. }) => {
                Ok(self.anew(node, id, &tensor))
            }
            Some(Constructor::Sparse) => match self.older_sparse(&args)? {
                None if self.takes_call(node) => Ok(Fate::KEEP),
                older => {
                    let args = older.unwrap_or(args);
                    Ok(Fate::same(self.call("torch._utils", "_rebuild_sparse_tensor", &args)?))
                }
            },
            // a parameter of what is no tensor any more
            Some(Constructor::Parameter) if tensor.wraps || tensor.is_nested() => Ok(match args.first() {
                Some(inner) => Fate::moved("torch.nn.parameter.Parameter".to_owned(), *inner),
                None => Fate::KEEP,
            }),
            Some(Constructor::TensorClass | Constructor::ParameterClass) => self.old_class(node, id, &tensor),
            _ => Ok(Fate::KEEP),
        }
    }

    /// The arguments as torch before 2.1 knows them, of a tensor that is not coalesced: without saying so.
    fn older_sparse(&mut self, args: &[NodeId]) -> Result<Option<Vec<NodeId>>> {
        let [layout, data] = *args else { return Ok(None) };
        let Node::Tuple(parts) = self.checkpoint.graph.node(data) else { return Ok(None) };
        let [indices, values, size, flag] = *self.checkpoint.graph.children(*parts) else { return Ok(None) };
        if flag != Graph::FALSE {
            return Ok(None);
        }
        Ok(Some(vec![layout, self.checkpoint.graph.push_tuple(&[indices, values, size])?]))
    }

    /// A tensor of its own elements instead of whatever described it.
    fn anew(&mut self, node: NodeId, id: TensorId, tensor: &Tensor) -> Fate {
        let class = self.class(node);
        if tensor.problem.is_none() && tensor.layout == STRIDED && !matches!(tensor.data, Data::Parts(_)) {
            self.arrays.push(id);
            return Fate::new(class, Node::Foreign(0));
        }
        Fate::KEEP
    }

    fn dict(&mut self, items: impl Iterator<Item = (&'static str, NodeId)>) -> Result<Node> {
        let mut entries = Vec::new();
        for (key, value) in items {
            entries.push(Pair { key: self.checkpoint.graph.push_str(key)?, value, key_at: 0 });
        }
        Ok(Node::Dict(Box::new(entries)))
    }

    /// Arrays of other containers become tensors whatever is done; not those of types that torch lacks.
    pub(super) fn foreign(&mut self, node: NodeId) -> Result<Fate> {
        let Some(id) = self.checkpoint.tensors.of(node) else { return Ok(Fate::WHOLE) };
        match self.checkpoint.tensors.get(id).cloned() {
            Some(tensor) if tensor.kind == Kind::NdArray && !matches!(tensor.dtype, Some(DType::Known(_))) => {
                self.array(node, id, &tensor)
            }
            _ => Ok(Fate::WHOLE),
        }
    }

    /// An array becomes a tensor; of a type that torch lacks a dict with its bytes.
    fn array(&mut self, node: NodeId, id: TensorId, tensor: &Tensor) -> Result<Fate> {
        let class = "numpy.ndarray".to_owned();
        let dtype = tensor.dtype.clone();
        let (Some(dtype), Data::Array { source, byte_order }) = (dtype, &tensor.data) else { return Ok(Fate::KEEP) };
        if matches!(dtype, DType::Known(_)) {
            self.arrays.push(id);
            return Ok(Fate::new(class, Node::Foreign(0)));
        }
        let bytes = tensor.bytes().and_then(|bytes| i64::try_from(bytes).ok());
        let bytes = bytes.filter(|bytes| u64::try_from(*bytes).is_ok_and(|bytes| bytes <= source.len()));
        let bytes = bytes.ok_or_else(|| Error::data(format!("an array of {dtype} with a size that is not known")))?;
        let data = Data::Array { source: source.clone(), byte_order: ByteOrder::Little };
        let raw = Tensor { data, ..plain_tensor(DType::Known(Known::UInt8), vec![bytes]) };
        let made = self.push(Node::Foreign(0))?;
        self.checkpoint.tensors.add(made, raw)?;
        let name = self.checkpoint.graph.push_str(dtype.name())?;
        let mut sizes = Vec::new();
        for size in &tensor.shape {
            sizes.push(self.push(Node::Int(*size))?);
        }
        let shape = self.checkpoint.graph.push_tuple(&sizes)?;
        let mut items = vec![("dtype", name), ("shape", shape), ("data", made)];
        if *byte_order == ByteOrder::Big {
            items.push(("byteorder", self.checkpoint.graph.push_str("big")?));
        }
        if tensor.shape.len() > 1 && !tensor.is_contiguous() {
            items.push(("order", self.checkpoint.graph.push_str("F")?));
        }
        self.forgotten.insert(node);
        Ok(Fate::new(class, self.dict(items.into_iter())?))
    }

    /// `_rebuild_from_type_v2(func, type, args, state)`: a tensor with its attributes, without its class. What a wrapper
    /// wraps is in its state.
    fn subclass(&mut self, node: NodeId, tensor: &Tensor, args: &[NodeId]) -> Result<Fate> {
        let [func, class, inner, state, ..] = *args else { return Ok(Fate::KEEP) };
        let (module, name) = self.checkpoint.graph.global(class).unwrap_or_default();
        let shown = super::dotted(&module, &name);
        // of one rank that has all of a tensor, what is wrapped has the wrapper's shape
        let wraps = tensor.wraps || self.checkpoint.graph.global(func).is_some_and(|(_, name)| name == WRAPPER);
        if wraps || tensor.is_nested() || !self.takes_global(func) {
            self.forgotten.insert(node);
            return Ok(Fate::moved(shown, if wraps { state } else { inner }));
        }
        let takes_class = self.takes_global(class);
        let shown_class = (!takes_class).then_some(shown);
        let graph = &self.checkpoint.graph;
        let has_state = match graph.node(state) {
            Node::None => false,
            Node::Dict(items) => !items.is_empty() || !graph.changes(state).is_empty(),
            _ => true,
        };
        let makes_tensor = |(module, name): (Cow<'_, str>, Cow<'_, str>)| {
            module == "torch._utils" && ["_rebuild_tensor", "_rebuild_tensor_v2"].contains(&name.as_ref())
        };
        let is_plain = (!takes_class || (module == "torch" && name == "Tensor")) && graph.changes(node).is_empty();
        if is_plain && !has_state && graph.global(func).is_some_and(makes_tensor) {
            // as torch before 1.13 has it, too
            let how = Construct::Reduce;
            let made = Object { how, callable: func, args: inner, kwargs: None, changes: ThinVec::new() };
            return Ok(Fate { class: shown_class, form: Form::New(Node::Object(Box::new(made))) });
        }
        if takes_class && self.takes_call(node) {
            return Ok(Fate::KEEP);
        }
        let new = if takes_class { class } else { self.global("torch", "Tensor")? };
        let made = self.call("torch._tensor", "_rebuild_from_type_v2", &[func, new, inner, state])?;
        Ok(Fate { class: shown_class, form: Form::New(made) })
    }

    /// torch 0.x: a class with its state in `BUILD`.
    fn old_class(&mut self, node: NodeId, id: TensorId, tensor: &Tensor) -> Result<Fate> {
        let is_reduced = self.checkpoint.graph.object(node).is_some_and(|object| object.how == Construct::Reduce);
        if self.takes_call(node) && is_reduced && self.checkpoint.graph.changes(node).is_empty() {
            return Ok(Fate::KEEP);
        }
        let plain = tensor.layout == STRIDED && !matches!(tensor.data, Data::Parts(_));
        if tensor.kind != Kind::Parameter || !plain {
            return Ok(Fate { class: None, ..self.anew(node, id, tensor) });
        }
        let inner = self.push(Node::Foreign(0))?;
        let plain = tensor.clone().without_class();
        let data = Tensor { kind: Kind::Tensor, requires_grad: Some(false), ..plain };
        self.checkpoint.tensors.add(inner, data)?;
        let grad = if tensor.requires_grad == Some(false) { Graph::FALSE } else { Graph::TRUE };
        let hooks = self.call("collections", "OrderedDict", &[])?;
        let hooks = self.push(hooks)?;
        Ok(Fate::same(self.call("torch._utils", "_rebuild_parameter", &[inner, grad, hooks])?))
    }

    pub(super) fn numpy_class(&self, node: NodeId) -> String {
        let args = self.checkpoint.objects().args(node).first().copied();
        let kind = args.and_then(|dtype| numpy::numpy_type(&self.checkpoint.graph, dtype));
        kind.map_or_else(|| "numpy.generic".to_owned(), |kind| format!("numpy.{}", kind.dtype.name()))
    }

    pub(super) fn numpy_dtype(&self, node: NodeId) -> String {
        let kind = numpy::numpy_type(&self.checkpoint.graph, node);
        kind.map(|kind| kind.dtype.name().to_owned()).unwrap_or_default()
    }

    /// The number, string or bytes that a scalar is, where Python has such.
    pub(super) fn numpy_scalar(&mut self, node: NodeId) -> Result<Option<Node>> {
        let objects = self.checkpoint.objects();
        let Some((kind, bytes)) = numpy::scalar(&self.checkpoint.graph, objects.args(node)) else { return Ok(None) };
        let name = kind.dtype.name();
        let trimmed = |content: &[u8]| content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Ok(Some(match (kind.dtype.class(), numpy_number(&kind.dtype, &bytes)) {
            (Some(Class::Bool), Some(Number::Int(value))) => Node::Bool(value != 0),
            (_, Some(Number::Int(value))) => match i64::try_from(value) {
                Ok(value) => Node::Int(value),
                Err(_) => {
                    let digits = value.to_string();
                    Node::Long(self.checkpoint.graph.add_text_of(digits.as_bytes(), Encoding::Decimal)?)
                }
            },
            (_, Some(Number::Float(value))) => Node::Float(value),
            (_, Some(Number::Float32(value))) => Node::Float(f64::from(value)),
            (Some(Class::Complex), None) => match parts(&bytes) {
                Some([real, imag]) => {
                    let (real, imag) = (self.push(Node::Float(real))?, self.push(Node::Float(imag))?);
                    self.call("__builtin__", "complex", &[real, imag])?
                }
                None => return Ok(None),
            },
            _ if name.starts_with("str") => {
                let mut content = Vec::new();
                for unit in bytes.chunks_exact(4) {
                    let code = unit.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
                    push_code_point(&mut content, code);
                }
                content.truncate(trimmed(&content));
                Node::Str(self.checkpoint.graph.add_text_of(&content, Encoding::Utf8)?)
            }
            _ if name.starts_with("bytes") => {
                let content = bytes.get(..trimmed(&bytes)).unwrap_or_default().to_vec();
                self.encoded(&content)?
            }
            _ if name.starts_with("datetime64[") => match date(name, &bytes) {
                Some(text) => self.text(&text)?,
                None => return self.raw_scalar(name, &bytes).map(Some),
            },
            _ => return self.raw_scalar(name, &bytes).map(Some),
        }))
    }

    /// A scalar that Python has no such value for: its type and its bytes.
    fn raw_scalar(&mut self, dtype: &str, bytes: &[u8]) -> Result<Node> {
        let (name, data) = (self.checkpoint.graph.push_str(dtype)?, self.encoded(bytes)?);
        let data = self.push(data)?;
        self.dict([("dtype", name), ("data", data)].into_iter())
    }

    /// An array of objects becomes lists in lists.
    pub(super) fn object_array(&mut self, node: NodeId) -> Result<Option<Form>> {
        let Some((list, shape)) = numpy::object_array(&self.checkpoint.graph, node) else { return Ok(None) };
        let items = self.checkpoint.graph.sequence(list).unwrap_or_default().to_vec();
        let [_, inner @ ..] = shape.as_slice() else {
            return Ok(items.first().map(|item| Form::Move(*item)));
        };
        let mut level = items;
        for size in inner.iter().rev() {
            let Some(size) = usize::try_from(*size).ok().filter(|size| *size > 0) else { break };
            let rows: Vec<Vec<NodeId>> = level.chunks(size).map(<[NodeId]>::to_vec).collect();
            level.clear();
            for row in rows {
                level.push(self.push(Self::list(row))?);
            }
        }
        Ok(Some(Form::New(Self::list(level))))
    }
}

/// Real and imaginary part.
fn parts(bytes: &[u8]) -> Option<[f64; 2]> {
    let (real, imag) = bytes.split_at_checked(bytes.len() / 2)?;
    let part = |part: &[u8]| match part.len() {
        4 => Some(f64::from(f32::from_le_bytes(part.try_into().ok()?))),
        8 => Some(f64::from_le_bytes(part.try_into().ok()?)),
        _ => None,
    };
    Some([part(real)?, part(imag)?])
}

/// A `datetime64` as numpy shows it; nothing for units that are no days or parts of them.
fn date(dtype: &str, bytes: &[u8]) -> Option<String> {
    let value = i64::from_le_bytes(bytes.try_into().ok()?);
    if value == i64::MIN {
        return Some("NaT".to_owned());
    }
    let unit = dtype.strip_prefix("datetime64[")?.strip_suffix(']')?;
    let (per_day, digits) = match unit {
        "D" => (1, 0),
        "s" => (86_400, 0),
        "ms" => (86_400_000, 3),
        "us" => (86_400_000_000, 6),
        "ns" => (86_400_000_000_000, 9),
        _ => return None,
    };
    let (days, rest) = (value.div_euclid(per_day), value.rem_euclid(per_day));
    let (year, month, day) = civil(days);
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if per_day > 1 {
        let per_second = per_day / 86_400;
        let (seconds, fraction) = (rest / per_second, rest % per_second);
        text += &format!("T{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        if digits > 0 {
            text += &format!(".{fraction:0digits$}");
        }
    }
    Some(text)
}

/// Year, month and day of a day since 1970 in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // from the first of March of the year 0 on, in eras of 400 years
    let days = i128::from(days) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i128::from(month <= 2);
    let narrow = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
    (narrow(year), narrow(month), narrow(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_numpy_shows_them() {
        // str(np.datetime64(value, unit)) of numpy 2
        for (dtype, value, wanted) in [
            ("datetime64[D]", 0, "1970-01-01"),
            ("datetime64[D]", -1, "1969-12-31"),
            ("datetime64[D]", 11_016, "2000-02-29"),
            ("datetime64[s]", 1_583_020_799, "2020-02-29T23:59:59"),
            ("datetime64[ms]", 1, "1970-01-01T00:00:00.001"),
            ("datetime64[ns]", 1_577_934_245_000_000_006, "2020-01-02T03:04:05.000000006"),
            ("datetime64[us]", i64::MIN, "NaT"),
        ] {
            assert_eq!(date(dtype, &value.to_le_bytes()).as_deref(), Some(wanted), "{dtype} {value}");
        }
        assert_eq!(date("datetime64[Y]", &50_i64.to_le_bytes()), None);
    }
}
