//! Plain pickles: one or several in a row, with numpy arrays, joblib's raw arrays and whole torch streams inside.

use std::sync::Arc;

use super::Opener;
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::storage::{Bytes, Storages};
use crate::checkpoint::{Checkpoint, Container};
use crate::dtype::ByteOrder;
use crate::error::Result;
use crate::pickle::{Graph, decode};

/// Pickles in a row that are read; a file of more is no checkpoint but a log.
const MAX_PICKLES: usize = 10_000;

impl Opener<'_> {
    pub(super) fn bare(&self) -> Result<Checkpoint> {
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::clone(&self.source), "");
        let first = decode(&mut graph, stream, 0, self.max_objects, &Joblib)?;
        let mut roots = vec![first.root];
        let mut end = first.end;
        let mut notes = Vec::new();
        while end < self.source.len() && roots.len() < MAX_PICKLES {
            match decode(&mut graph, stream, end, self.max_objects, &Joblib) {
                Ok(next) => {
                    roots.push(next.root);
                    end = next.end;
                }
                Err(_) => break,
            }
        }
        if end < self.source.len() {
            let after = self.source.len() - end;
            notes.push(format!("{after} bytes after the pickle (byte {}) are no pickle", self.source.absolute(end)));
        }
        let root = match roots.as_slice() {
            [root] => *root,
            roots => graph.push_tuple(roots)?,
        };
        let mut storages = Storages::default();
        storages.resolve(&graph, 0, "", |key, _, _| {
            let why = format!("storage {key} is not in the file: a plain pickle holds none");
            (Bytes::Missing(why), ByteOrder::Little)
        })?;
        let mut tensors = Default::default();
        super::read_nested(self, &mut graph, &mut storages, &mut tensors)?;
        let mut checkpoint = self.finish_with(Container::Pickle, graph, root, storages, tensors)?;
        checkpoint.protocol = Some(first.protocol);
        checkpoint.byte_order = None;
        checkpoint.notes = notes;
        Ok(checkpoint)
    }
}
