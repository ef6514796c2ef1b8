//! What a digest is of.

use std::collections::HashSet;
use std::sync::PoisonError;

use super::Missing;
use crate::checkpoint::resolve::Listed;
use crate::checkpoint::{Checkpoint, Item, Root, TensorId};
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::operations::select::{Asked, Filter, Resolved, Select, choose, find_weights};
use crate::pickle::NodeId;
use crate::report::convert::LeftOut;

/// What counts of a checkpoint.
pub(super) struct Chosen {
    /// Where the names begin.
    pub root: Root,
    pub tensors: Vec<(String, TensorId)>,
    pub values: Vec<(String, NodeId, Item)>,
    /// What lies in the file besides.
    pub left_out: Vec<LeftOut>,
}

/// The weights, as a conversion to a format for weights takes them.
pub(super) fn weights(checkpoint: &Checkpoint, select: &Select, missing: &Missing<'_>) -> Result<Chosen> {
    let is_named = select.root.is_some();
    let root = if is_named { select.find_root(checkpoint)? } else { find_weights(checkpoint, Setting::Root)? };
    let filter = filter(checkpoint, select, &root, is_named, missing)?;
    let found = checkpoint.select_weights(root, &|name| filter.takes(name))?;
    if found.tensors.is_empty() {
        return Err(nothing_left(select, "tensors"));
    }
    let left_out = found.left_out.into_iter().map(|(name, tensors)| LeftOut { name, tensors }).collect();
    let tensors = found.tensors.into_iter().map(|weight| (weight.name, weight.id)).collect();
    Ok(Chosen { root: found.root, tensors, values: Vec::new(), left_out })
}

/// Every tensor and value, as a listing has them. What a wrapper holds stands below it.
pub(super) fn everything(checkpoint: &Checkpoint, select: &Select, missing: &Missing<'_>) -> Result<Chosen> {
    let root = select.find_root(checkpoint)?;
    let filter = filter(checkpoint, select, &root, true, missing)?;
    let (mut tensors, mut values) = (Vec::new(), Vec::new());
    for entry in checkpoint.names(&root)?.entries {
        let name = entry.name();
        if !filter.takes(&name) {
            continue;
        }
        match entry.item {
            Item::Tensor(id, _) if checkpoint.tensor(id).is_some_and(|tensor| tensor.wraps) => {}
            Item::Tensor(id, _) => tensors.push((name, id)),
            item => values.push((name, entry.node, item)),
        }
    }
    if tensors.is_empty() && values.is_empty() {
        return Err(nothing_left(select, "names"));
    }
    Ok(Chosen { root, tensors, values, left_out: Vec::new() })
}

fn nothing_left(select: &Select, what: &str) -> Error {
    let asked = Asked::of(select, &[]);
    Error::refused(if asked.is_empty() { format!("holds no {what}").into() } else { asked.nothing_left(what) })
}

fn filter(
    checkpoint: &Checkpoint,
    select: &Select,
    root: &Root,
    is_named: bool,
    missing: &Missing<'_>,
) -> Result<Filter> {
    choose(Asked::of(select, &[]), checkpoint, root, is_named, &mut |resolved: &Resolved<'_>, files: &[Listed<'_>]| {
        let nowhere: HashSet<_> = resolved.missing().collect();
        let mut unmatched = missing.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listed) = files.first() {
            unmatched.look_at(listed, |setting, argument| nowhere.contains(&(setting, argument)));
        }
        Ok(())
    })
}
