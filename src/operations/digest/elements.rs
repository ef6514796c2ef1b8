//! What of a tensor goes into a digest: its elements, read once for all views that are the same, and its dtype. Checksums of
//! what is read are looked at beside it.

use rayon::prelude::*;

use crate::checkpoint::tensor::Data;
use crate::checkpoint::{Checkpoint, Tensor, TensorId};
use crate::data::hash::{EMPTY_SHA256, hex, sha256};
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::operations::list::distinct;
use crate::progress::Progress;
use crate::report::ls::shown_name;
use crate::write::watch::{self, Paced, Watch};

/// Characters of what may be shown in a file of few objects: an object that is in many others is shown in each.
const FREE_CHARS: u64 = 16 << 20;
/// Characters that each byte of a graph explains.
const CHARS_OF_A_BYTE: u64 = 8;

/// How much of a checkpoint's values may be shown to be digested.
pub(super) struct Chars(usize);

impl Chars {
    /// Of all values.
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        let explained = checkpoint.graph.held().saturating_mul(CHARS_OF_A_BYTE);
        Chars(usize::try_from(explained.saturating_add(FREE_CHARS)).unwrap_or(usize::MAX / 2))
    }

    pub(super) fn left(&self) -> usize {
        self.0
    }

    /// Fails for what is not all shown.
    pub(super) fn take(&mut self, repr: &str, is_whole: bool) -> Result<()> {
        let left = self.0.checked_sub(repr.chars().count()).filter(|_| is_whole);
        self.0 = left.ok_or_else(|| Error::limit("too much to be shown whole, so it has no digest"))?;
        Ok(())
    }
}

/// The sha256 of each tensor's elements. Fails for the first whose elements are not all there, or not those that were saved.
pub(super) fn hashes(
    checkpoint: &Checkpoint,
    ids: &[TensorId],
    names: &[&str],
    file: &str,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    let tensors = ids.iter().zip(names).filter_map(|(id, name)| Some((checkpoint.tensor(*id)?, name)));
    // what has none is said before gigabytes are read
    for (tensor, name) in tensors.clone() {
        has_elements(tensor).map_err(|e| e.of_part(shown_name(name)))?;
    }
    let (work, jobs) = distinct(checkpoint, ids);
    let bytes = work.iter().filter_map(|id| checkpoint.tensor(*id)?.bytes()).fold(0, u64::saturating_add);
    progress.begin(file, bytes);
    let storages = ids.iter().flat_map(|id| checkpoint.storages_of(*id));
    let watch = Watch::start(checkpoint, storages, &names.iter().map(|name| (*name).to_owned()).collect());
    let paced = Paced::new([&watch], progress);
    let read: Vec<Result<String>> =
        work.par_iter().with_max_len(1).map(|id| read_one(checkpoint, *id, &paced)).collect();
    let mut hashes = Vec::with_capacity(ids.len());
    for (job, name) in jobs.into_iter().zip(names) {
        match read.get(job) {
            Some(Ok(hash)) => hashes.push(hash.clone()),
            Some(Err(e)) => return Err(e.again().of_part(shown_name(name))),
            None => return Err(Error::data("not read").of_part(shown_name(name))),
        }
    }
    match watch::named(checkpoint, &watch.finish()?)?.first() {
        None => Ok(hashes),
        Some(lost) => Err(Error::data(lost.why.clone()).of_part(&lost.name)),
    }
}

/// Refuses what has a problem, and what has no elements of its own.
pub(super) fn has_elements(tensor: &Tensor) -> Result<()> {
    let leave_out = |what: String| Err(Error::refused(what).advise(Setting::Exclude.then(" leaves it out")));
    match &tensor.problem {
        Some(problem) => Err(Error::data(problem.clone())),
        None if tensor.is_sparse() => leave_out(format!("a {} tensor has no digest", tensor.layout)),
        None if tensor.device.as_deref() == Some("meta") => leave_out("a meta tensor has no data".to_owned()),
        None => Ok(()),
    }
}

fn read_one(checkpoint: &Checkpoint, id: TensorId, progress: &dyn Progress) -> Result<String> {
    let tensor = checkpoint.tensor(id).ok_or_else(|| Error::data("no such tensor"))?;
    if matches!(tensor.data, Data::Nothing) && tensor.numel() == Some(0) {
        return Ok(EMPTY_SHA256.to_owned());
    }
    let elements = tensor.readable(&checkpoint.storages)?;
    Ok(hex(&sha256(&elements, &checkpoint.limits, progress)?))
}

/// The dtype, of a quantized tensor with what its integers stand for: `quint8(per_tensor_affine,0.1,10)`.
pub(super) fn dtype(checkpoint: &Checkpoint, tensor: &Tensor, progress: &dyn Progress) -> Result<String> {
    let name = tensor.dtype.as_ref().map_or("unknown", |dtype| dtype.name());
    let Some(quantizer) = &tensor.quantizer else { return Ok(name.to_owned()) };
    let mut said = vec![quantizer.scheme.clone()];
    let mut chars = Chars::of(checkpoint);
    for argument in &quantizer.arguments {
        let part = checkpoint.tensors.of(checkpoint.objects().unwrap(*argument));
        said.push(match part.and_then(|id| checkpoint.tensor(id)) {
            None => {
                let repr = checkpoint.objects().repr(*argument, chars.left());
                chars.take(&repr, checkpoint.objects().is_repr_whole(*argument, chars.left()))?;
                repr
            }
            Some(part) => {
                has_elements(part)?;
                let elements = part.readable(&checkpoint.storages)?;
                format!("{}:{}", elements.dtype, hex(&sha256(&elements, &checkpoint.limits, progress)?))
            }
        });
    }
    Ok(format!("{name}({})", said.join(",")))
}
