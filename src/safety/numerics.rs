//! Health of the numbers: NaN, infinities, tensors of zeros, and of numbers too small for their type.

use std::collections::HashSet;

use rayon::prelude::*;

use super::finding::{Finding, Severity};
use crate::checkpoint::{Checkpoint, Item, TensorId};
use crate::data::Elements;
use crate::data::gather::for_each_block;
use crate::data::stats::stats;
use crate::dtype::{DType, Known};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::Silent;

/// What each tensor of floating type shows. Views of the same storage are looked at one by one, a tensor that has
/// several names once.
pub(crate) fn numerics(checkpoint: &Checkpoint) -> Result<Vec<Finding>> {
    let names = checkpoint.names(&checkpoint.top())?;
    let mut seen = HashSet::new();
    let tensors: Vec<(String, TensorId)> = names
        .entries
        .iter()
        .filter_map(|entry| match entry.item {
            Item::Tensor(id, _) => seen.insert(id).then(|| (entry.name(), id)),
            _ => None,
        })
        .collect();
    let found: Vec<Result<Vec<Finding>>> =
        tensors.par_iter().with_max_len(1).map(|(name, id)| of_tensor(checkpoint, name, *id)).collect();
    Ok(found.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn of_tensor(checkpoint: &Checkpoint, name: &str, id: TensorId) -> Result<Vec<Finding>> {
    let Some(tensor) = checkpoint.tensor(id).filter(|tensor| tensor.problem.is_none()) else { return Ok(Vec::new()) };
    let elements = match tensor.readable(&checkpoint.storages) {
        Ok(elements) => elements,
        Err(e) if e.kind() == ErrorKind::Limit => {
            return Ok(vec![Finding::of_error(Severity::Warning, "numerics-unread", &e, name)]);
        }
        Err(e) if e.kind() == ErrorKind::Io => return Err(e),
        // it has no elements of its own
        Err(_) => return Ok(Vec::new()),
    };
    let numbers = match stats(&elements, &checkpoint.limits, &Silent) {
        Ok(Some(numbers)) => numbers,
        Ok(None) => return Ok(Vec::new()),
        Err(e) if e.kind() == ErrorKind::Io => return Err(e),
        Err(e) => return Ok(vec![Finding::of_error(Severity::Error, "tensor-unreadable", &e, name)]),
    };
    let mut found = Vec::new();
    let mut tell = |severity, code, count: u64, what: &str| {
        if count > 0 {
            let message = format!("{count} of {} elements are {what}", numbers.count);
            found.push(Finding::new(severity, code, message, name));
        }
    };
    tell(Severity::Warning, "numerics-nan", numbers.nan, "NaN");
    tell(Severity::Warning, "numerics-inf", numbers.inf, "infinite");
    if numbers.count > 1 && numbers.zeros == numbers.count {
        tell(Severity::Info, "numerics-zero", numbers.count, "zero");
    }
    tell(Severity::Info, "numerics-subnormal", subnormals(&elements, &checkpoint.limits)?, "subnormal");
    Ok(found)
}

/// Elements that are not zero and too small to have full precision.
fn subnormals(elements: &Elements, limits: &Limits) -> Result<u64> {
    // bytes of an element, its bits without the sign, the first normal one
    let (size, mask, normal): (usize, u64, u64) = match elements.dtype {
        DType::Known(Known::Float64) => (8, u64::MAX >> 1, 1 << 52),
        DType::Known(Known::Float32) => (4, u64::from(u32::MAX >> 1), 1 << 23),
        DType::Known(Known::Float16) => (2, 0x7fff, 1 << 10),
        DType::Known(Known::BFloat16) => (2, 0x7fff, 1 << 7),
        _ => return Ok(0),
    };
    let mut found = 0;
    for_each_block::<Error>(elements, limits, &mut |block| {
        let bits = block
            .chunks_exact(size)
            .map(|element| element.iter().rev().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)) & mask);
        found += bits.filter(|bits| (1..normal).contains(bits)).count() as u64;
        Ok(())
    })?;
    Ok(found)
}
