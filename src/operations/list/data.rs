//! What is read of the tensors' data: hashes and statistics.

use std::collections::HashMap;

use rayon::prelude::*;

use super::Options;
use crate::checkpoint::tensor::{Data, View};
use crate::checkpoint::{Checkpoint, Tensor, TensorId};
use crate::data::hash::{EMPTY_SHA256, hex, sha256};
use crate::data::number::Number;
use crate::data::stats::{self, stats};
use crate::error::Result;
use crate::progress::Progress;
use crate::report::ls::{Stats, TensorRow};

/// What reading one tensor's data gave.
type Read = Result<(Option<String>, Option<Stats>)>;

/// How many bytes [`read_data`] will go through.
pub(super) fn bytes_to_read(checkpoint: &Checkpoint, ids: &[TensorId], wanted: &Options) -> u64 {
    let times = u64::from(wanted.hash) + u64::from(wanted.stats);
    let tensors = ids.iter().filter_map(|id| checkpoint.tensor(*id)).filter(|tensor| tensor.problem.is_none());
    tensors.filter_map(Tensor::bytes).fold(0, u64::saturating_add).saturating_mul(times)
}

/// Views of the same elements once: the tensors to read, and for each of `ids` its place among them.
pub(crate) fn distinct(checkpoint: &Checkpoint, ids: &[TensorId]) -> (Vec<TensorId>, Vec<usize>) {
    let mut distinct: HashMap<View, usize> = HashMap::new();
    let mut work: Vec<TensorId> = Vec::new();
    let jobs = ids.iter().map(|id| match checkpoint.tensor(*id).and_then(Tensor::view) {
        Some(key) => *distinct.entry(key).or_insert_with(|| {
            work.push(*id);
            work.len() - 1
        }),
        None => {
            work.push(*id);
            work.len() - 1
        }
    });
    let jobs = jobs.collect();
    (work, jobs)
}

/// Fills in hashes and statistics, tensors in parallel, each distinct view once; `ids` are the tensors of the rows. Gives
/// the names of the rows whose data could not be read, with the reason, in the order of the rows.
pub(super) fn read_data(
    checkpoint: &Checkpoint,
    rows: &mut [TensorRow],
    ids: &[TensorId],
    wanted: &Options,
    progress: &dyn Progress,
) -> Vec<(String, String)> {
    let (work, jobs) = distinct(checkpoint, ids);
    let results: Vec<Read> =
        work.par_iter().with_max_len(1).map(|id| read_one(checkpoint, *id, wanted, progress)).collect();
    let mut troubles = Vec::new();
    for (row, job) in rows.iter_mut().zip(jobs) {
        let result = results.get(job);
        let (hash, stats) = match result {
            Some(Ok((hash, stats))) => (hash.clone(), stats.clone()),
            Some(Err(e)) => {
                let why = e.again().beside_its_part().spoken(wanted.voice);
                row.problem.get_or_insert_with(|| why.clone());
                troubles.push((row.name.clone(), why));
                (None, None)
            }
            None => (None, None),
        };
        row.sha256 = wanted.hash.then_some(hash);
        row.stats = wanted.stats.then(|| stats.map(Box::new));
    }
    troubles
}

fn read_one(checkpoint: &Checkpoint, id: TensorId, wanted: &Options, progress: &dyn Progress) -> Read {
    let Some(tensor) = checkpoint.tensor(id) else { return Ok((None, None)) };
    // sparse, meta and object tensors have no elements of their own: nothing is wrong with that
    if tensor.problem.is_none() && matches!(tensor.data, Data::Parts(_) | Data::Nothing) && tensor.numel() != Some(0) {
        return Ok((None, None));
    }
    if tensor.problem.is_none() && matches!(tensor.data, Data::Nothing) {
        return Ok((
            wanted.hash.then(|| EMPTY_SHA256.to_owned()).filter(|_| tensor.device.as_deref() != Some("meta")),
            None,
        ));
    }
    let elements = tensor.readable(&checkpoint.storages)?;
    let hash = if wanted.hash { Some(hex(&sha256(&elements, &checkpoint.limits, progress)?)) } else { None };
    let stats = if wanted.stats { stats(&elements, &checkpoint.limits, progress)?.map(report_stats) } else { None };
    Ok((hash, stats))
}

fn report_stats(found: stats::Stats) -> Stats {
    let number = |number: Number| match number {
        Number::Signed(value) => Some(value.into()),
        Number::Unsigned(value) => Some(value.into()),
        Number::Bool(value) => Some(u8::from(value).into()),
        other => serde_json::Number::from_f64(other.to_f64()),
    };
    Stats {
        min: found.min.and_then(number),
        max: found.max.and_then(number),
        mean: found.mean,
        std: found.std,
        zeros: found.zeros,
        nan: found.nan,
        inf: found.inf,
    }
}
