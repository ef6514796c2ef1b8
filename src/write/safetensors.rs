//! safetensors: a length, a JSON header, the tensors' bytes. The order is the `safetensors` library's: larger elements
//! first, then by name, so that everything is aligned.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Map, Value, json};

use crate::container::safetensors::{METADATA, reserved};
use crate::data::Elements;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::write::atomic::{Output, Target};
use crate::write::content::{Content, Overflow};

/// One tensor as it goes into a file of named arrays: its elements in row-major order.
#[derive(Debug)]
pub(crate) struct NamedTensor {
    /// Its name.
    pub name: String,
    /// Where the elements lie.
    pub elements: Elements,
    /// To which type they are cast.
    pub cast: Option<DType>,
}

impl NamedTensor {
    /// The type in the file.
    pub(crate) fn dtype(&self) -> &DType {
        self.cast.as_ref().unwrap_or(&self.elements.dtype)
    }

    /// Its bytes in the file.
    pub(crate) fn content(&self) -> Content {
        Content::Elements { elements: self.elements.clone(), cast: self.cast.clone() }
    }

    /// Refuses shapes whose extents multiply to more than 64 bits. Those with a 0 in them have no elements to torch, but
    /// neither the safetensors library nor numpy takes them.
    pub(super) fn check_shape(&self) -> Result<()> {
        let count = self.elements.shape.iter().try_fold(1_u64, |count, extent| count.checked_mul(*extent));
        let bytes = count.and_then(|count| count.checked_mul(self.dtype().size().map_or(1, u64::from)));
        let (name, shape) = (&self.name, &self.elements.shape);
        bytes.map(drop).ok_or_else(|| Error::unsupported(format!("{name}: the size of shape {shape:?} overflows")))
    }
}

/// The library's rank of a type: the order of its `Dtype`, which puts larger elements last.
const RANKS: &[&str] = &[
    "BOOL",
    "F4",
    "F6_E2M3",
    "F6_E3M2",
    "U8",
    "I8",
    "F8_E5M2",
    "F8_E4M3",
    "F8_E8M0",
    "F8_E4M3FNUZ",
    "F8_E5M2FNUZ",
    "I16",
    "U16",
    "F16",
    "BF16",
    "I32",
    "U32",
    "F32",
    "C64",
    "F64",
    "I64",
    "U64",
];

fn rank(dtype: &DType) -> usize {
    let name = dtype.safetensors().unwrap_or_default();
    RANKS.iter().position(|known| *known == name).unwrap_or(0)
}

/// The header, with its length before it, and the order in which the tensors follow.
pub(crate) fn header(
    tensors: &[NamedTensor],
    metadata: &BTreeMap<String, String>,
    limits: &Limits,
) -> Result<(Vec<u8>, Vec<usize>)> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    let key = |index: &usize| tensors.get(*index).map(|tensor| (Reverse(rank(tensor.dtype())), &tensor.name));
    order.sort_by(|a, b| key(a).cmp(&key(b)));
    // the length goes before it once it is known
    let mut out = vec![0; LENGTH_BYTES];
    out.push(b'{');
    if !metadata.is_empty() {
        write!(out, "\"__metadata__\":{},", json!(metadata))?;
    }
    let mut at = 0_u64;
    for tensor in order.iter().filter_map(|index| tensors.get(*index)) {
        if tensor.name == METADATA {
            return Err(reserved());
        }
        let dtype = tensor.dtype();
        let dtype = dtype
            .safetensors()
            .ok_or_else(|| Error::unsupported(format!("{}: safetensors cannot hold {dtype}", tensor.name)))?;
        tensor.check_shape()?;
        let end = tensor.content().bytes(limits)?.checked_add(at).ok_or_else(|| Error::limit("too many bytes"))?;
        let (name, shape) = (json!(tensor.name), json!(tensor.elements.shape));
        write!(out, "{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{at},{end}]}},")?;
        at = end;
    }
    if out.ends_with(b",") {
        out.pop();
    }
    out.push(b'}');
    out.resize(out.len().next_multiple_of(LENGTH_BYTES), b' ');
    let len = (out.len() - LENGTH_BYTES) as u64;
    if len > limits.max_header_bytes {
        return Err(Error::limit(format!("a header of {len} bytes; safetensors allows 100 MB")));
    }
    let (length, _) = out.split_at_mut(LENGTH_BYTES);
    length.copy_from_slice(&len.to_le_bytes());
    Ok((out, order))
}

/// What the header's length takes; the header is padded to a multiple of it.
const LENGTH_BYTES: usize = 8;

/// Writes the file; gives the complete output and what overflowed.
pub(crate) fn write(
    target: &Target,
    tensors: &[NamedTensor],
    metadata: &BTreeMap<String, String>,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(Output, Vec<Overflow>)> {
    let (head, order) = header(tensors, metadata, limits)?;
    let mut out = target.create()?;
    out.write_all(&head)?;
    let mut overflows = Vec::new();
    for (place, tensor) in order.iter().filter_map(|index| Some((*index, tensors.get(*index)?))) {
        let written = tensor.content().write(&mut out, false, limits, progress);
        let lost = written.map_err(|e| e.in_member(&tensor.name))?.overflows;
        Overflow::note(&mut overflows, place, lost);
    }
    Ok((out, overflows))
}

/// The index of shards that Hugging Face's readers look for.
pub(crate) fn shard_index(total_size: u64, files: &BTreeMap<String, String>) -> Vec<u8> {
    let mut root = Map::new();
    root.insert("metadata".into(), json!({"total_size": total_size}));
    root.insert("weight_map".into(), json!(files));
    let mut text = serde_json::to_vec_pretty(&Value::Object(root)).unwrap_or_default();
    text.push(b'\n');
    text
}
