//! What files are read into: an object graph, the storages it names, and which of its objects are tensors.

use crate::checkpoint::object::Objects;
use crate::checkpoint::rebuild::Tensors;
use crate::checkpoint::storage::Storages;
use crate::pickle::Graph;

/// Objects in the making: those of one file, or of several that become one checkpoint.
#[derive(Debug)]
pub(crate) struct Parts {
    pub graph: Graph,
    pub storages: Storages,
    pub tensors: Tensors,
}

impl Parts {
    pub(crate) fn new() -> Self {
        Parts { graph: Graph::new(), storages: Storages::default(), tensors: Tensors::default() }
    }

    /// The graph with what is known of its objects so far.
    pub(crate) fn objects(&self) -> Objects<'_> {
        Objects { graph: &self.graph, tensors: &self.tensors, storages: &self.storages }
    }
}
