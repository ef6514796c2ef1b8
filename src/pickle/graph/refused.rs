//! What was asked of a graph and not given, so that whoever relied on it learns that something is missing.

use std::sync::atomic::Ordering;

use super::Graph;
use crate::error::{Error, ErrorKind, Result};

/// A container is small where it is used and large where it is: so many elements may be looked at in all, and so many
/// times what the graph holds. Two bytes each make a hundred thousand uses of one list of a hundred thousand elements.
const LOOKS: u64 = 16 << 20;
const LOOKS_TIMES: u64 = 48;

impl Graph {
    /// Counts `elements` that are about to be looked at; false when that is no longer linear in the graph's size. What
    /// the caller then leaves out, [`Graph::complete`] tells.
    pub(crate) fn look_at(&self, elements: usize) -> bool {
        let elements = elements as u64;
        let so_far = self.looked_at.fetch_add(elements, Ordering::Relaxed).saturating_add(elements);
        let allowed = so_far <= LOOKS.saturating_add(self.held().saturating_mul(LOOKS_TIMES));
        if !allowed {
            self.refused.get_or_init(|| Error::limit("large objects are used too often to look at every use"));
        }
        allowed
    }

    /// Fails when a text could not be read, or a bound was met, since the graph was made, though nobody may have minded
    /// at the time: what was made of the graph since then lacks something.
    pub(crate) fn complete(&self) -> Result<()> {
        self.refused.get().map_or(Ok(()), |e| Err(e.again()))
    }

    /// Notes that something was asked for and could not be read, for [`Graph::complete`]; what the file says wrongly is no
    /// such thing.
    pub(crate) fn refuse(&self, e: &Error) {
        if e.kind() == ErrorKind::Io {
            self.refused.get_or_init(|| e.again());
        }
    }
}
