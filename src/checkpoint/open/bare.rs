//! Plain pickles: one or several in a row, with numpy arrays, joblib's raw arrays and whole torch streams inside.

use std::sync::Arc;

use super::{Opened, Opener, Parts};
use crate::checkpoint::framed::Single;
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::storage::Bytes;
use crate::dtype::ByteOrder;
use crate::error::{ErrorKind, Result};
use crate::pickle::decode;

/// Pickles in a row that are read; a file of more is no checkpoint but a log.
const MAX_PICKLES: usize = 10_000;

impl Opener<'_> {
    pub(super) fn bare(&self, parts: &mut Parts) -> Result<Opened> {
        let (from, persistents) = (parts.graph.len(), parts.graph.persistents().len());
        let graph = &mut parts.graph;
        let stream = graph.add_stream(Arc::clone(&self.source), "");
        let first = decode(graph, stream, 0, self.max_objects, &Joblib)?;
        let mut roots = vec![first.root];
        let mut end = first.end;
        let mut notes = Vec::new();
        while end < self.source.len() && roots.len() < MAX_PICKLES {
            match decode(graph, stream, end, self.max_objects, &Joblib) {
                Ok(next) => {
                    roots.push(next.root);
                    end = next.end;
                }
                Err(e) if e.kind() == ErrorKind::Io => return Err(e),
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
        parts.storages.resolve(&parts.graph, persistents, "", |key, _| {
            let why = format!("storage {key} is not in the file: a plain pickle holds none");
            (Bytes::Missing(why), ByteOrder::Little)
        })?;
        super::read_nested(self, parts, from)?;
        Ok(Opened { protocol: Some(first.protocol), notes, ..Opened::new(self.file(Single::Pickle), root) })
    }
}
