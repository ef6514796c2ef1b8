//! What a tensor consists of: its elements, or the parts of a sparse or quantized one with their names.

use std::sync::Arc;

use crate::checkpoint::tensor::{Data, NESTED, Quantizer};
use crate::checkpoint::{Checkpoint, Kind, Tensor};
use crate::data::Elements;
use crate::data::subscript::Subscript;
use crate::dtype::{DType, Known};
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::pickle::{Node, NodeId};
use crate::render::tensor_print::{Contents, Scale, TensorText};
use crate::report::extract::Written;
use crate::source::MemorySource;

/// Names of the tensors that a sparse layout consists of, as torch's methods are called.
const SPARSE: &[(&str, &[&str])] = &[
    ("sparse_coo", &["indices", "values"]),
    ("sparse_csr", &["crow_indices", "col_indices", "values"]),
    ("sparse_csc", &["ccol_indices", "row_indices", "values"]),
    ("sparse_bsr", &["crow_indices", "col_indices", "values"]),
    ("sparse_bsc", &["ccol_indices", "row_indices", "values"]),
    (NESTED, &["values", "sizes", "strides", "offsets"]),
];

/// Whether a cast concerns the part of that name: the elements do, scales do not.
pub(super) fn is_cast(part: &str) -> bool {
    matches!(part, "" | "values")
}

/// A tensor of a checkpoint with the part of it that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken<'a> {
    /// Where it lies.
    pub checkpoint: &'a Checkpoint,
    /// The tensor.
    pub tensor: &'a Tensor,
    /// Which part of it.
    pub subscript: Option<&'a Subscript>,
}

impl Taken<'_> {
    fn slice(&self, elements: Elements) -> Result<Elements> {
        match self.subscript {
            Some(subscript) => subscript.apply(&elements, &self.checkpoint.limits),
            None => Ok(elements),
        }
    }

    /// Refuses a wrapper subclass of that name: what it wraps has names of its own.
    pub(crate) fn refuse_wrapper(&self, name: &str) -> Result<()> {
        if !self.tensor.wraps {
            return Ok(());
        }
        let class = self.tensor.class.as_deref().unwrap_or("a wrapper");
        let parts = self.checkpoint.part_names(self.tensor);
        let parts: Vec<String> = parts.iter().map(|part| below(name, part)).collect();
        Err(Error::unsupported(match parts.as_slice() {
            [] => format!("{name} ({class}) wraps other tensors, of which the file holds none"),
            parts => format!("{name} ({class}) wraps other tensors, which have its elements: {}", parts.join(", ")),
        }))
    }

    fn no_slices(&self, what: &str) -> Result<()> {
        match self.subscript {
            Some(_) => Err(Error::unsupported(Setting::Slice.then(format!(" cannot take a part of a {what} tensor")))),
            None => Ok(()),
        }
    }

    /// Where the elements lie, when they lie in one place. `Unsupported` for sparse and quantized tensors.
    pub(crate) fn elements(&self) -> Result<Elements> {
        let tensor = self.tensor;
        let many = |what: &str| {
            let names = "NAME.values, …".to_owned();
            let names = if tensor.is_quantized() { "NAME.int_repr, NAME.scale, …".to_owned() } else { names };
            Err(Error::unsupported(format!("is {what}: .npz, .safetensors and a directory take its parts ({names})")))
        };
        match (&tensor.data, &tensor.quantizer) {
            (Data::Parts(_), _) => many(tensor.layout),
            (_, Some(_)) => many("quantized"),
            _ => self.slice(tensor.elements(&self.checkpoint.storages)?),
        }
    }

    /// The tensors to write for it, each with what its name has after the tensor's own: nothing, or a part's name.
    pub(crate) fn parts(&self) -> Result<Vec<(&'static str, Elements)>> {
        match (&self.tensor.data, &self.tensor.quantizer) {
            (Data::Parts(nodes), _) => {
                self.no_slices(if self.tensor.is_nested() { "nested" } else { "sparse" })?;
                let mut parts = self.sparse(nodes)?;
                parts.push(("size", integers(&self.tensor.shape)));
                Ok(parts)
            }
            (_, Some(quantizer)) => {
                let (stored, scale) = self.quantized(quantizer)?;
                Ok(quantized_parts(stored, scale))
            }
            _ => Ok(vec![("", self.elements()?)]),
        }
    }

    /// What the report says of a tensor that stays the object it is, but for a cast.
    pub(crate) fn as_it_is(&self, name: String, cast: Option<&DType>) -> Written {
        let dtype = self.tensor.dtype.as_ref().map(|dtype| cast.filter(|_| super::is_castable(dtype)).unwrap_or(dtype));
        let shape = self.tensor.shape.iter().map(|size| u64::try_from(*size).unwrap_or_default());
        Written { name, file: None, dtype: dtype.map(ToString::to_string), shape: Some(shape.collect()) }
    }

    /// What is printed.
    pub(crate) fn text(&self) -> Result<TensorText> {
        let tensor = self.tensor;
        if let Some(problem) = &tensor.problem {
            return Err(Error::data(problem.clone()));
        }
        if tensor.is_nested() {
            return Err(Error::unsupported("is a nested tensor: .npz, .safetensors and a directory take its parts"));
        }
        let is_meta = matches!(tensor.data, Data::Nothing) && tensor.device.as_deref() == Some("meta");
        let contents = match (&tensor.data, &tensor.quantizer) {
            (Data::Parts(nodes), _) => {
                self.no_slices("sparse")?;
                Contents::Sparse(tensor.layout, self.sparse(nodes)?)
            }
            (_, Some(quantizer)) => {
                let (stored, scale) = self.quantized(quantizer)?;
                Contents::Quantized(stored, Box::new(scale))
            }
            _ if is_meta => {
                self.no_slices("meta")?;
                Contents::Meta
            }
            _ => Contents::Strided(self.elements()?),
        };
        let shape = match &contents {
            Contents::Strided(elements) | Contents::Quantized(elements, _) => elements.shape.clone(),
            _ => tensor.shape.iter().map(|size| u64::try_from(*size).unwrap_or_default()).collect(),
        };
        let class = tensor.class.clone().filter(|class| class != "Parameter");
        Ok(TensorText {
            class: class.unwrap_or_else(|| "tensor".to_owned()),
            parameter: tensor.kind == Kind::Parameter,
            device: tensor.device.as_deref().unwrap_or("cpu").to_owned(),
            requires_grad: tensor.requires_grad.unwrap_or_default(),
            dtype: tensor.dtype.clone().ok_or_else(|| Error::data("its dtype is unknown"))?,
            shape,
            contents,
        })
    }

    fn known(&self, node: NodeId) -> Option<&Tensor> {
        self.checkpoint.tensor(self.checkpoint.tensors.of(node)?)
    }

    fn sparse(&self, nodes: &[NodeId]) -> Result<Vec<(&'static str, Elements)>> {
        let layout = self.tensor.layout;
        let names = SPARSE.iter().find(|(name, names)| *name == layout && names.len() == nodes.len());
        let (_, names) = names.ok_or_else(|| Error::unsupported(format!("the parts of a {layout} tensor")))?;
        let of = |node: &NodeId| {
            let part = self.known(*node).ok_or_else(|| Error::data("a part of it is no tensor"))?;
            part.elements(&self.checkpoint.storages)
        };
        names.iter().zip(nodes).map(|(name, node)| Ok((*name, of(node)?))).collect()
    }

    /// The stored integers and what they stand for.
    fn quantized(&self, quantizer: &Quantizer) -> Result<(Elements, Scale)> {
        let stored = self.tensor.unpacked(&self.checkpoint.storages)?;
        let scheme = quantizer.scheme.clone();
        let graph = &self.checkpoint.graph;
        let odd = || Error::data(format!("its quantizer ({scheme}) is none that torch writes"));
        match *quantizer.arguments.as_slice() {
            [scale, zero_point] => {
                let scale = match graph.node(scale) {
                    Node::Float(value) => *value,
                    _ => graph.int(scale).map(|value| value as f64).ok_or_else(odd)?,
                };
                let zero_point = graph.int(zero_point).ok_or_else(odd)?;
                Ok((self.slice(stored)?, Scale::PerTensor { scheme, scale, zero_point }))
            }
            [scales, zero_points, axis] => {
                self.no_slices("per-channel quantized")?;
                let axis = graph.int(axis).and_then(|axis| usize::try_from(axis).ok()).ok_or_else(odd)?;
                let scales = self.vector(scales).ok_or_else(odd)??;
                let zero_points = self.vector(zero_points).ok_or_else(odd)??;
                Ok((stored, Scale::PerChannel { scheme, scales, zero_points, axis }))
            }
            _ => Err(odd()),
        }
    }

    /// A tensor, or the list of numbers that old versions wrote instead.
    fn vector(&self, node: NodeId) -> Option<Result<Elements>> {
        if let Some(tensor) = self.known(node) {
            return Some(tensor.elements(&self.checkpoint.storages));
        }
        let graph = &self.checkpoint.graph;
        let items = graph.sequence(node)?;
        if let Some(numbers) = items.iter().map(|item| graph.int(*item)).collect::<Option<Vec<i64>>>() {
            return Some(Ok(integers(&numbers)));
        }
        let float = |item: &NodeId| match graph.node(*item) {
            Node::Float(value) => Some(*value),
            _ => None,
        };
        items.iter().map(float).collect::<Option<Vec<f64>>>().map(|numbers| Ok(floats(&numbers)))
    }
}

/// The name of what is called `part` below `name`.
fn below(name: &str, part: &str) -> String {
    if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") }
}

fn quantized_parts(stored: Elements, scale: Scale) -> Vec<(&'static str, Elements)> {
    let dtype = match stored.dtype {
        DType::Known(Known::QInt8) => Known::Int8,
        DType::Known(Known::QInt32) => Known::Int32,
        _ => Known::UInt8,
    };
    let mut parts = vec![("int_repr", Elements { dtype: dtype.into(), ..stored })];
    match scale {
        Scale::PerTensor { scale, zero_point, .. } => {
            parts.push(("scale", scalar(floats(&[scale]))));
            parts.push(("zero_point", scalar(integers(&[zero_point]))));
        }
        Scale::PerChannel { scales, zero_points, axis, .. } => {
            parts.extend([("scale", scales), ("zero_point", zero_points)]);
            parts.push(("axis", scalar(integers(&[i64::try_from(axis).unwrap_or_default()]))));
        }
    }
    parts
}

fn scalar(vector: Elements) -> Elements {
    Elements { shape: Vec::new(), stride: Vec::new(), ..vector }
}

fn integers(values: &[i64]) -> Elements {
    vector(Known::Int64, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn floats(values: &[f64]) -> Elements {
    vector(Known::Float64, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn vector(dtype: Known, len: usize, bytes: Vec<u8>) -> Elements {
    Elements::row_major(Arc::new(MemorySource::new(bytes)), dtype.into(), vec![len as u64])
}
