//! The digest of the weights beside a listing whose hashes are read anyway.

use std::collections::HashMap;

use super::chosen::{Chosen, weights};
use super::{Missing, each_once, elements};
use crate::checkpoint::{Checkpoint, TensorId};
use crate::data::digest::{Digester, Record};
use crate::error::{Error, Result};
use crate::operations::select::Select;
use crate::progress::Silent;
use crate::write::watch::{self, Watch};

/// A digest that waits for the hashes of its tensors.
pub(in crate::operations) struct Beside {
    tensors: Vec<(String, TensorId)>,
    watch: Watch,
}

impl Beside {
    /// Of the weights; nothing where what is listed is chosen by name, or nobody can tell what the weights are.
    pub(in crate::operations) fn of(checkpoint: &Checkpoint, select: &Select) -> Option<Self> {
        if !select.include.is_empty() || !select.exclude.is_empty() {
            return None;
        }
        let Chosen { mut tensors, .. } = weights(checkpoint, select, &Missing::of(select)).ok()?;
        let aliases = checkpoint.aliases();
        if !aliases.is_empty() {
            let ids: HashMap<&str, TensorId> = tensors.iter().map(|(name, id)| (name.as_str(), *id)).collect();
            let kept = aliases.iter().map(|(_, kept)| ids.get(kept.as_str()).copied());
            let kept: Vec<TensorId> = kept.collect::<Option<_>>()?;
            tensors.extend(aliases.into_iter().map(|(alias, _)| alias).zip(kept));
        }
        each_once(tensors.iter().map(|(name, _)| name.as_str())).ok()?;
        for (_, id) in &tensors {
            elements::has_elements(checkpoint.tensor(*id)?).ok()?;
        }
        let storages = tensors.iter().flat_map(|(_, id)| checkpoint.storages_of(*id));
        let watch = Watch::start(checkpoint, storages, &tensors.iter().map(|(name, _)| name.clone()).collect());
        Some(Beside { tensors, watch })
    }

    /// Whoever watches beside the reading.
    pub(in crate::operations) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The digest; nothing where a hash is not there. Fails when bytes are not those that their checksum is of.
    pub(in crate::operations) fn finish(
        self,
        checkpoint: &Checkpoint,
        hashes: &HashMap<TensorId, &str>,
    ) -> Result<Option<String>> {
        if let Some(lost) = watch::named(checkpoint, &self.watch.finish()?)?.first() {
            return Err(Error::data(lost.why.clone()).of_part(&lost.name));
        }
        let mut digester = Digester::default();
        for (name, id) in &self.tensors {
            let (Some(tensor), Some(sha256)) = (checkpoint.tensor(*id), hashes.get(id)) else { return Ok(None) };
            let dtype = elements::dtype(checkpoint, tensor, &Silent)?;
            digester.add(&Record::Tensor { name, dtype: &dtype, shape: &tensor.shape, sha256 });
        }
        checkpoint.graph.complete()?;
        Ok(Some(digester.finish()))
    }
}
