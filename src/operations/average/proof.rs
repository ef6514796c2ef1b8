//! Whether the bytes that are averaged are those that their checksums are of. What is read for the mean is summed up on the
//! way, what is not is looked at beside it: the input is read once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::agree::Side;
use crate::checkpoint::{Checkpoint, StorageId};
use crate::data::summed::Summed;
use crate::error::{Error, Result};
use crate::source::SharedSource;
use crate::write::watch::{self, Stored, Watch};

/// The storages of one input that the mean reads, and the members that they are.
#[derive(Debug, Default)]
pub(crate) struct Sums(HashMap<StorageId, (Arc<Summed>, Stored)>);

impl Sums {
    /// The bytes of a storage, which are summed up when they are read; as they are where they have no checksum.
    pub(crate) fn source(&mut self, checkpoint: &Checkpoint, id: StorageId) -> Result<SharedSource> {
        let storage = checkpoint.storages.get(id).ok_or_else(|| Error::data("no such storage"))?;
        let source = storage.source()?;
        let Some((zip, index)) = storage.member().filter(|(zip, _)| !zip.is_loose()) else { return Ok(source) };
        Ok(match self.0.entry(id) {
            Entry::Occupied(known) => Arc::clone(&known.get().0) as SharedSource,
            Entry::Vacant(place) => {
                let stored = (Some(id), Arc::clone(zip), index);
                Arc::clone(&place.insert((Summed::over(source), stored)).0) as SharedSource
            }
        })
    }

    /// Begins to look at all else that the weights are: integers, chunks of a distributed checkpoint, npz arrays, the
    /// pickle.
    pub(crate) fn watch(&self, checkpoint: &Checkpoint, side: &Side) -> Watch {
        let storages = side.weights.iter().flat_map(|weight| checkpoint.storages_of(weight.id));
        let names = side.weights.iter().map(|weight| weight.name.clone()).collect();
        Watch::start(checkpoint, storages.filter(|id| !self.0.contains_key(id)), &names)
    }

    /// Fails for the first of what has another sum, once all is read. What nobody has read of a storage is read now.
    pub(crate) fn prove(&self, checkpoint: &Checkpoint, watch: Watch) -> Result<()> {
        let mut wrong = watch.finish()?;
        for (summed, (id, zip, index)) in self.0.values() {
            // the rest of one that was cut off has a problem of its own
            let Some(member) = zip.members.get(*index).filter(|member| member.is_whole) else { continue };
            if zip.is_other_sum(member, summed.sum()?)? {
                wrong.push((*id, Arc::clone(zip), *index));
            }
        }
        match watch::named(checkpoint, &wrong)?.first() {
            None => Ok(()),
            Some(lost) => Err(Error::data(lost.why.clone()).of_part(&lost.name)),
        }
    }
}
