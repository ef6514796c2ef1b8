//! Whether two inputs mean the same by one name: tensors bit by bit, values by what they are pickled as.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::checkpoint::equality::Equality;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::data::compare::{Options, compare};
use crate::error::Result;
use crate::pickle::{Census, Node, NodeId, encode};
use crate::progress::Progress;

/// Compares two objects of one checkpoint.
pub(super) struct Comparing<'a> {
    pub checkpoint: &'a Checkpoint,
    pub progress: &'a dyn Progress,
}

impl Comparing<'_> {
    /// How two objects differ; nothing where they do not. Fails when one cannot be read.
    pub(crate) fn differs(&self, a: NodeId, b: NodeId) -> Result<Option<String>> {
        let objects = self.checkpoint.objects();
        let (a, b) = (objects.unwrap(a), objects.unwrap(b));
        let tensor = |node| self.checkpoint.tensors.of(node).and_then(|id| self.checkpoint.tensor(id));
        match (tensor(a), tensor(b)) {
            (Some(a), Some(b)) => self.tensors(a, b),
            (None, None) => self.values(a, b),
            _ => Ok(Some("a tensor and a value".to_owned())),
        }
    }

    fn tensors(&self, a: &Tensor, b: &Tensor) -> Result<Option<String>> {
        if a.shape != b.shape {
            return Ok(Some("shapes differ".to_owned()));
        }
        if a.dtype != b.dtype {
            return Ok(Some("dtypes differ".to_owned()));
        }
        if [a, b].iter().any(|tensor| tensor.is_sparse() || tensor.is_quantized() || tensor.wraps) {
            return Ok(Some("such tensors cannot be compared".to_owned()));
        }
        let storages = &self.checkpoint.storages;
        let (a, b) = (a.readable(storages)?, b.readable(storages)?);
        let options = Options { bitwise: true, stop_at_first: true, ..Options::default() };
        let compared = compare(&a, &b, &self.checkpoint.limits, &options, self.progress)?;
        Ok((!compared.equal()).then(|| "elements differ".to_owned()))
    }

    fn values(&self, a: NodeId, b: NodeId) -> Result<Option<String>> {
        let objects = self.checkpoint.objects();
        let options = Options { bitwise: true, ..Options::default() };
        let are_equal = if objects.is_value(a) && objects.is_value(b) {
            Equality { a: objects, b: objects, options: &options, limits: &self.checkpoint.limits }.same(a, b)?
        } else {
            let (a, b) = (self.pickled(a)?, self.pickled(b)?);
            a.is_some() && a == b
        };
        Ok((!are_equal).then(|| "values differ".to_owned()))
    }

    /// A digest of an object's pickle; nothing for what holds tensors.
    fn pickled(&self, node: NodeId) -> Result<Option<[u8; 32]>> {
        let graph = &self.checkpoint.graph;
        let scan = Census::new(graph, node)?;
        if scan.order().iter().any(|node| matches!(graph.node(*node), Node::Persistent(_) | Node::Foreign(_))) {
            return Ok(None);
        }
        let mut hashed = Hashed(Sha256::new());
        encode(graph, &scan, &mut hashed)?;
        Ok(Some(hashed.0.finalize().into()))
    }
}

struct Hashed(Sha256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
