//! Tensors as torch 2 prints them (`torch/_tensor_str.py`, default options), read and written as a stream: twice over
//! the elements, first for the width of the numbers, then for the text.

mod number;
mod walk;

use std::io::{self, Write};

use crate::checkpoint::pyrepr;
use crate::data::Elements;
use crate::data::number::{Number, decode, numeric};
use crate::dtype::{DType, Known};
use crate::error::Error;
use crate::limits::Limits;
use number::Survey;
use walk::Shown;

/// Characters of a line.
const LINE_WIDTH: usize = 80;
/// What a bare `torch.tensor([1.5])` has.
const DEFAULT: Known = Known::Float32;
/// Types that are not named because literals have them.
const UNNAMED: &[Known] = &[DEFAULT, Known::Complex64, Known::Int64, Known::Bool];

/// One tensor, ready to be printed.
#[derive(Debug, Clone)]
pub(crate) struct TensorText {
    /// The class, `tensor` for torch's own.
    pub class: String,
    /// It is a `torch.nn.Parameter`.
    pub parameter: bool,
    /// Where it was saved from.
    pub device: String,
    /// As pickled.
    pub requires_grad: bool,
    /// The type of its elements.
    pub dtype: DType,
    /// Extents.
    pub shape: Vec<u64>,
    /// Its elements, in whatever form it has them.
    pub contents: Contents,
}

/// In what form a tensor has its elements.
#[derive(Debug, Clone)]
pub(crate) enum Contents {
    /// One after the other.
    Strided(Elements),
    /// As integers with a scale.
    Quantized(Elements, Box<Scale>),
    /// In other tensors: the layout's name, and each part's name and elements; the one before the last holds one index
    /// for each value that is stored.
    Sparse(&'static str, Vec<(&'static str, Elements)>),
    /// None: a tensor on the meta device.
    Meta,
}

impl Contents {
    fn elements(&self) -> Vec<&Elements> {
        match self {
            Contents::Strided(elements) => vec![elements],
            Contents::Quantized(elements, scale) => match scale.as_ref() {
                Scale::PerTensor { .. } => vec![elements],
                Scale::PerChannel { scales, zero_points, .. } => vec![elements, scales, zero_points],
            },
            Contents::Sparse(_, parts) => parts.iter().map(|(_, elements)| elements).collect(),
            Contents::Meta => Vec::new(),
        }
    }
}

/// What the integers of a quantized tensor stand for.
#[derive(Debug, Clone)]
pub(crate) enum Scale {
    /// One scale and zero point for all.
    PerTensor {
        /// torch's name of the scheme: `per_tensor_affine`.
        scheme: String,
        /// Real value of one step.
        scale: f64,
        /// The integer that stands for 0.
        zero_point: i64,
    },
    /// One for each index of a dimension.
    PerChannel {
        /// torch's name of the scheme: `per_channel_affine`.
        scheme: String,
        /// One-dimensional.
        scales: Elements,
        /// One-dimensional.
        zero_points: Elements,
        /// The dimension.
        axis: usize,
    },
}

/// Prints a tensor to `out`, every element of it when `full`, with a newline at the end. Errors are those of reading
/// (a [`crate::error::Error`] inside) and of `out`; what can be known before is found before anything is printed.
pub(crate) fn print(tensor: &TensorText, full: bool, limits: &Limits, out: &mut dyn Write) -> io::Result<()> {
    for elements in tensor.contents.elements() {
        elements.validate(limits)?;
        numeric(&elements.dtype)?;
    }
    let mut printer = Printer { out, column: 0, full, limits };
    if tensor.parameter {
        printer.write("Parameter containing:\n")?;
    }
    printer.tensor(tensor)?;
    printer.write("\n")
}

/// Writes text and knows how long the line is.
struct Printer<'a> {
    out: &'a mut dyn Write,
    column: usize,
    full: bool,
    limits: &'a Limits,
}

impl Printer<'_> {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.column = match text.rsplit_once('\n') {
            Some((_, last)) => last.chars().count(),
            None => self.column + text.chars().count(),
        };
        self.out.write_all(text.as_bytes())
    }

    fn tensor(&mut self, tensor: &TensorText) -> io::Result<()> {
        let prefix = format!("{}(", tensor.class);
        let indent = prefix.chars().count();
        self.write(&prefix)?;
        match &tensor.contents {
            Contents::Strided(elements) => self.elements(elements, None, indent)?,
            Contents::Quantized(elements, scale) => {
                let scale = Dequantize::new(scale, self.limits)?;
                self.elements(elements, Some(&scale), indent)?;
            }
            Contents::Sparse(_, parts) => self.parts(parts, indent)?,
            Contents::Meta => self.write("...")?,
        }
        let of_its_own_line = matches!(tensor.contents, Contents::Sparse("sparse_coo", _));
        self.suffixes(&suffixes(tensor, self.limits)?, indent, of_its_own_line)
    }

    /// `indices=tensor([...])` and so on, below each other.
    fn parts(&mut self, parts: &[(&'static str, Elements)], indent: usize) -> io::Result<()> {
        for (at, (name, elements)) in parts.iter().enumerate() {
            if at > 0 {
                self.write(&format!(",\n{:indent$}", ""))?;
            }
            let prefix = format!("{name}=tensor(");
            self.write(&prefix)?;
            self.elements(elements, None, indent + prefix.len())?;
            if elements.shape.contains(&0) {
                self.write(&format!(", size={}", tuple(&elements.shape)))?;
            }
            self.write(")")?;
        }
        Ok(())
    }

    /// What stands after the elements, in the same line while there is room.
    fn suffixes(&mut self, suffixes: &[String], indent: usize, mut newline: bool) -> io::Result<()> {
        // torch counts two characters more than the line has
        let mut length = self.column + 2;
        for suffix in suffixes {
            let width = suffix.chars().count();
            if newline || length + width + 2 > LINE_WIDTH {
                self.write(&format!(",\n{:indent$}{suffix}", ""))?;
                length = indent + width;
                newline = false;
            } else {
                self.write(&format!(", {suffix}"))?;
                length += width + 2;
            }
        }
        self.write(")")
    }

    /// The numbers in their brackets.
    fn elements(&mut self, elements: &Elements, scale: Option<&Dequantize>, indent: usize) -> io::Result<()> {
        if elements.validate(self.limits)?.elements == 0 {
            return self.write("[]");
        }
        let values = Values { elements, shown: Shown::new(&elements.shape, self.full), scale, limits: self.limits };
        let mut survey = Survey::default();
        values.for_each(&mut |_, number| {
            survey.see(number);
            Ok(())
        })?;
        let formatters = survey.formatters();
        let rank = values.shown.rank();
        let mut nesting = Nesting { shown: &values.shown, indent, per_line: 1, previous: None };
        let inner_indent = indent + rank.saturating_sub(1);
        nesting.per_line = (LINE_WIDTH.saturating_sub(inner_indent) / formatters.pitch()).max(1) as u64;
        values.for_each(&mut |index, number| {
            let before = nesting.before(index);
            self.write(&before)?;
            self.write(&formatters.format(number))
        })?;
        self.write(&"]".repeat(rank))
    }
}

/// The numbers that are printed.
struct Values<'a> {
    elements: &'a Elements,
    shown: Shown,
    scale: Option<&'a Dequantize>,
    limits: &'a Limits,
}

impl Values<'_> {
    fn for_each(&self, f: &mut dyn FnMut(&[u64], Number) -> io::Result<()>) -> io::Result<()> {
        let dtype = numeric(&self.elements.dtype)?;
        self.shown.for_each(self.elements, self.limits, &mut |index, bytes| {
            let number = decode(dtype, bytes).ok_or_else(|| Error::data("an element of an odd size"))?;
            let number = match self.scale {
                Some(scale) => {
                    scale.value(number, |axis| self.shown.place(axis, index.get(axis).copied().unwrap_or_default()))
                }
                // torch shows its bytes, but as floats
                None if dtype == Known::Float4E2M1fnX2 => Number::Float(number.to_f64()),
                None => number,
            };
            f(index, number)
        })
    }
}

/// Brackets and separators between elements.
struct Nesting<'a> {
    shown: &'a Shown,
    indent: usize,
    per_line: u64,
    previous: Option<Vec<u64>>,
}

impl Nesting<'_> {
    /// What stands before the element at `index`.
    fn before(&mut self, index: &[u64]) -> String {
        let rank = index.len();
        let Some(previous) = &mut self.previous else {
            self.previous = Some(index.to_vec());
            return "[".repeat(rank);
        };
        // the outermost dimension that has moved on; all inner ones begin anew
        let moved = previous.iter().zip(index).position(|(was, is)| was != is).unwrap_or_default();
        previous.copy_from_slice(index);
        let at = index.get(moved).copied().unwrap_or_default();
        let gap = self.shown.follows_gap(moved, at);
        let closed = rank.saturating_sub(moved + 1);
        let mut text = "]".repeat(closed);
        if closed == 0 {
            // elements of a row; what is left out counts as one
            let place = if self.shown.is_cut(moved) && at >= walk::EDGE { at + 1 } else { at };
            if gap {
                text += &self.between(place - 1);
                text += " ...";
            }
            text += &self.between(place);
        } else {
            let separator = format!(",{}{:width$}", "\n".repeat(closed), "", width = self.indent + moved + 1);
            text += &separator;
            if gap {
                text += "...";
                text += &separator;
            }
            text += &"[".repeat(closed);
        }
        text
    }

    /// What stands before the element at `place` of a row.
    fn between(&self, place: u64) -> String {
        if place.is_multiple_of(self.per_line) {
            format!(",\n{:width$}", "", width = self.indent + self.shown.rank())
        } else {
            ", ".to_owned()
        }
    }
}

/// From stored integers to `float32`, as `Tensor.dequantize` does.
struct Dequantize {
    scales: Vec<f32>,
    zero_points: Vec<f32>,
    axis: Option<usize>,
}

impl Dequantize {
    fn new(scale: &Scale, limits: &Limits) -> io::Result<Self> {
        match scale {
            Scale::PerTensor { scale, zero_point, .. } => Ok(Dequantize {
                scales: vec![narrow(*scale)],
                zero_points: vec![narrow(*zero_point as f64)],
                axis: None,
            }),
            Scale::PerChannel { scales, zero_points, axis, .. } => Ok(Dequantize {
                scales: floats(scales, limits)?,
                zero_points: floats(zero_points, limits)?,
                axis: Some(*axis),
            }),
        }
    }

    fn value(&self, stored: Number, index: impl Fn(usize) -> u64) -> Number {
        let channel = self.axis.map_or(0, |axis| usize::try_from(index(axis)).unwrap_or(usize::MAX));
        match (self.scales.get(channel), self.zero_points.get(channel)) {
            (Some(scale), Some(zero)) => Number::Float((scale * (narrow(stored.to_f64()) - zero)).into()),
            _ => Number::Float(f64::NAN),
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // torch computes in float32
fn narrow(value: f64) -> f32 {
    value as f32
}

fn floats(elements: &Elements, limits: &Limits) -> io::Result<Vec<f32>> {
    let mut out = Vec::new();
    let whole = Shown::new(&elements.shape, true);
    Values { elements, shown: whole, scale: None, limits }.for_each(&mut |_, number| {
        out.push(narrow(number.to_f64()));
        Ok(())
    })?;
    Ok(out)
}

/// What is said of a tensor after its elements.
fn suffixes(tensor: &TensorText, limits: &Limits) -> io::Result<Vec<String>> {
    let mut said = Vec::new();
    let size = format!("size={}", tuple(&tensor.shape));
    let dtype = format!("dtype=torch.{}", tensor.dtype);
    let is = |known: &Known| tensor.dtype == DType::Known(*known);
    let unnamed = UNNAMED.iter().any(is);
    if tensor.device != "cpu" {
        said.push(format!("device='{}'", tensor.device));
    }
    match &tensor.contents {
        Contents::Strided(_) if tensor.shape.contains(&0) => {
            said.extend((tensor.shape.len() != 1).then_some(size));
            said.extend((!is(&DEFAULT)).then_some(dtype));
        }
        Contents::Strided(_) => said.extend((!unnamed).then_some(dtype)),
        Contents::Meta => {
            said.push(size);
            said.extend((!is(&DEFAULT)).then_some(dtype));
        }
        Contents::Sparse(layout, parts) => {
            said.push(size);
            let indices = parts.len().checked_sub(2).and_then(|at| parts.get(at));
            let stored = indices.and_then(|(_, elements)| elements.shape.last()).copied().unwrap_or_default();
            said.push(format!("nnz={stored}"));
            said.extend((!unnamed).then_some(dtype));
            said.push(format!("layout=torch.{layout}"));
        }
        Contents::Quantized(_, scale) => {
            said.extend([size, dtype]);
            said.extend(scale_suffixes(scale, limits)?);
        }
    }
    if tensor.requires_grad {
        said.push("requires_grad=True".to_owned());
    }
    Ok(said)
}

fn scale_suffixes(scale: &Scale, limits: &Limits) -> io::Result<Vec<String>> {
    let scheme = |name: &str| format!("quantization_scheme=torch.{name}");
    Ok(match scale {
        Scale::PerTensor { scheme: name, scale, zero_point } => {
            vec![scheme(name), format!("scale={}", pyrepr::float(*scale)), format!("zero_point={zero_point}")]
        }
        Scale::PerChannel { scheme: name, scales, zero_points, axis } => vec![
            scheme(name),
            format!("scale={}", plain(scales, limits)?),
            format!("zero_point={}", plain(zero_points, limits)?),
            format!("axis={axis}"),
        ],
    })
}

/// A tensor on its own, as text.
fn plain(elements: &Elements, limits: &Limits) -> io::Result<String> {
    let tensor = TensorText {
        class: "tensor".to_owned(),
        parameter: false,
        device: "cpu".to_owned(),
        requires_grad: false,
        dtype: elements.dtype.clone(),
        shape: elements.shape.clone(),
        contents: Contents::Strided(elements.clone()),
    };
    let mut text = Vec::new();
    Printer { out: &mut text, column: 0, full: false, limits }.tensor(&tensor)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Python's `str(tuple)` of sizes.
fn tuple(shape: &[u64]) -> String {
    let items: Vec<String> = shape.iter().map(u64::to_string).collect();
    match items.as_slice() {
        [one] => format!("({one},)"),
        items => format!("({})", items.join(", ")),
    }
}
