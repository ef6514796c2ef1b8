//! Containers that hold named arrays and no objects: safetensors, npz, npy. Their graph is a dict made here.

use std::sync::Arc;

use super::{Opened, Opener, Parts};
use crate::checkpoint::framed::{Archived, Single};
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::tensor::{Data, Extents, Kind, Rare, Tensor, contiguous, fortran, plain_tensor};
use crate::container::zip::Zip;
use crate::container::{npy, safetensors};
use crate::dtype::{ByteOrder, DType};
use crate::error::{Error, ErrorKind, Result};
use crate::pickle::{NodeId, decode};
use crate::source::{SharedSource, Window};

fn extents(shape: &[u64]) -> Result<Extents> {
    let sizes = shape.iter().map(|size| i64::try_from(*size));
    sizes.collect::<Result<_, _>>().map_err(|_| Error::malformed("a size that does not fit in 64 bits"))
}

impl Opener<'_> {
    pub(super) fn safetensors(&self, parts: &mut Parts) -> Result<Opened> {
        let (header, available) = match self.damaged {
            false => match safetensors::read(self.source.as_ref(), self.limits) {
                Err(e) if e.kind() != ErrorKind::Io => {
                    let interrupted = safetensors::interrupted(&self.source, self.limits)?;
                    return Err(interrupted.map_or(e, |found| found.error()));
                }
                header => (header?, u64::MAX),
            },
            true => safetensors::read_damaged(self.source.as_ref(), self.limits)?,
        };
        let mut items = Vec::new();
        for found in &header.tensors {
            let dtype = DType::from_safetensors(&found.dtype);
            let dtype = dtype.unwrap_or_else(|| DType::other(&found.dtype.to_lowercase(), None));
            let (problem, data) = match found.end <= available {
                true => {
                    let bytes = found.end - found.begin;
                    let source = Window::shared(&self.source, header.data_start.saturating_add(found.begin), bytes)?;
                    (None, Data::Array { source, byte_order: ByteOrder::Little })
                }
                false => {
                    let left = available.saturating_sub(found.begin);
                    let all = found.end - found.begin;
                    (Some(format!("only {left} of its {all} bytes are in the file")), Data::Nothing)
                }
            };
            let node = parts.tensor(Tensor {
                data,
                rare: Rare::of_problem(problem),
                ..plain_tensor(dtype, extents(&found.shape)?)
            })?;
            items.push((found.name.as_str(), node));
        }
        if !header.metadata.is_empty() {
            let mut pairs = Vec::new();
            for (key, value) in &header.metadata {
                pairs.push((key.as_str(), parts.graph.push_str(value)?));
            }
            items.push((safetensors::METADATA, parts.dict(pairs)?));
        }
        let root = parts.dict(items)?;
        let end = header.tensors.last().map_or(0, |last| last.end);
        let mut notes = Vec::new();
        if self.damaged && end < available {
            notes.push(format!("{} bytes after the last tensor are left aside", available - end));
        }
        Ok(Opened { notes, byte_order: Some(ByteOrder::Little), ..Opened::new(self.file(Single::Safetensors), root) })
    }

    pub(super) fn npy(&self, parts: &mut Parts) -> Result<Opened> {
        Ok(Opened::new(self.file(Single::Npy), self.array(parts, &self.source, "")?))
    }

    pub(super) fn npz(&self, zip: Arc<Zip>, parts: &mut Parts) -> Result<Opened> {
        let mut items = Vec::new();
        for member in zip.members.iter().filter(|member| !member.is_dir()) {
            let array = |parts: &mut Parts| self.array(parts, &zip.member_source(member)?, &member.name);
            let problem = match (self.damaged, &member.doubt) {
                (true, Some(doubt)) => Some(format!("its member {} may be damaged: {doubt}", member.name)),
                _ => None,
            };
            let node = match problem {
                None => array(parts).map_err(|e| e.in_member(&member.name))?,
                // what its header says may be as wrong as its elements
                problem => {
                    let unknown = plain_tensor(DType::other("unknown", None), Extents::new());
                    let rare = Rare::of_problem(problem);
                    parts.tensor(Tensor { kind: Kind::NdArray, rare, data: Data::Nothing, ..unknown })?
                }
            };
            items.push((member.name.strip_suffix(".npy").unwrap_or(&member.name), node));
        }
        let root = parts.dict(items)?;
        Ok(Opened::new(self.archive(Archived::Npz, zip), root))
    }

    /// One `.npy`: an array, or the pickle of an object array.
    fn array(&self, parts: &mut Parts, source: &SharedSource, name: &str) -> Result<NodeId> {
        let header = npy::read(source.as_ref())?;
        let code = &header.descr.code;
        let size = header.descr.item_bytes.and_then(|bytes| u32::try_from(bytes).ok());
        let dtype = match DType::from_numpy(code) {
            _ if header.descr.structured => DType::other(&format!("void{}", size.unwrap_or(0).saturating_mul(8)), size),
            known => known,
        };
        if dtype.name() == "object" {
            let stream = parts.graph.add_stream(Arc::clone(source), name);
            return Ok(decode(&mut parts.graph, stream, header.data_start, self.max_objects, &Joblib)?.root);
        }
        let shape = extents(&header.shape)?;
        let stride = if header.fortran_order { fortran(&shape) } else { contiguous(&shape) };
        let bytes = source.len().saturating_sub(header.data_start);
        let data = Window::shared(source, header.data_start, bytes)?;
        parts.tensor(Tensor {
            kind: Kind::NdArray,
            stride: Some(stride),
            device: None,
            requires_grad: None,
            data: Data::Array { source: data, byte_order: header.descr.byte_order },
            ..plain_tensor(dtype, shape)
        })
    }
}
