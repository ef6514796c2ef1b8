//! Bytes to a checkpoint: one file for each kind of container, all ending in the same graph, storages and tensors.

mod arrays;
mod bare;
mod legacy;
mod tar;
mod zip;

use crate::checkpoint::object::Objects;
use crate::checkpoint::rebuild::{Constructor, Tensors};
use crate::checkpoint::storage::Storages;
use crate::checkpoint::{Checkpoint, Container};
use crate::container::compress::{Compression, expand};
use crate::container::detect::{Framing, detect};
use crate::container::legacy::is_legacy;
use crate::dtype::ByteOrder;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pickle::{Graph, NodeId};
use crate::progress::Progress;
use crate::source::SharedSource;

/// What the openers share: the file's bytes, its size on disk, the bounds.
pub(super) struct Opener<'a> {
    pub source: SharedSource,
    pub limits: &'a Limits,
    /// Objects that the pickles may make.
    pub max_objects: u64,
}

impl Checkpoint {
    /// Reads the structure of a checkpoint, not its tensors' data. `progress` hears of bytes that must be expanded.
    /// Fails, with the place, for anything that is no checkpoint or breaks its format's rules.
    pub fn open(source: SharedSource, limits: &Limits, progress: &dyn Progress) -> Result<Self> {
        let max_objects = limits.objects_for(source.len());
        let mut opener = Opener { source, limits, max_objects };
        let mut framing = detect(opener.source.as_ref())?;
        let mut compression: Option<Compression> = None;
        if let Framing::Compressed(kind) = framing {
            opener.source = expand(&opener.source, kind, limits, progress)?;
            compression = Some(kind);
            framing = detect(opener.source.as_ref())
                .map_err(|e| Error::new(e.kind(), format!("inside {}: {}", kind.name(), e.message())))?;
        }
        let mut checkpoint = match framing {
            Framing::Zip => opener.zip(),
            Framing::Tar => opener.tar(),
            Framing::Npy => opener.npy(),
            Framing::Safetensors => opener.safetensors(),
            Framing::Pickle if is_legacy(&opener.source) => opener.legacy(),
            Framing::Pickle => opener.bare(),
            Framing::ShardIndex => Err(Error::unsupported(
                "is a Hugging Face index of shards; reading shards together is not possible yet, list them one by one",
            )),
            Framing::Compressed(kind) => {
                Err(Error::unsupported(format!("is compressed twice ({} in another)", kind.name())))
            }
        }?;
        checkpoint.compression = compression;
        Ok(checkpoint)
    }
}

impl Opener<'_> {
    /// A checkpoint of a graph whose persistent ids have their meaning: finds the tensors.
    fn finish(&self, container: Container, graph: Graph, root: NodeId, storages: Storages) -> Result<Checkpoint> {
        self.finish_with(container, graph, root, storages, Tensors::default())
    }

    fn finish_with(
        &self,
        container: Container,
        graph: Graph,
        root: NodeId,
        storages: Storages,
        mut tensors: Tensors,
    ) -> Result<Checkpoint> {
        tensors.rebuild(&graph, &storages, self.max_objects)?;
        graph.complete()?;
        let max_name_bytes = self.limits.names_for(self.source.len());
        Ok(Checkpoint {
            container,
            compression: None,
            protocol: None,
            byte_order: Some(ByteOrder::Little),
            era: None,
            graph,
            root,
            tensors,
            storages,
            zip: None,
            script: None,
            attached: Vec::new(),
            notes: Vec::new(),
            limits: Limits { max_name_bytes, ..self.limits.clone() },
        })
    }
}

/// Streams inside `_load_from_bytes` may hold others; torch writes one level.
const MAX_NESTED_STREAMS: usize = 4;

/// Reads every legacy stream that a `torch.storage._load_from_bytes(b'…')` of the graph holds, each once.
fn read_nested(opener: &Opener<'_>, graph: &mut Graph, storages: &mut Storages, tensors: &mut Tensors) -> Result<()> {
    let mut from = 0;
    let mut roots = std::collections::HashMap::new();
    for level in 0.. {
        let calls: Vec<NodeId> = {
            let objects = Objects { graph, tensors, storages };
            graph.ids().skip(from).filter(|id| objects.constructor(*id) == Some(Constructor::LoadFromBytes)).collect()
        };
        if calls.is_empty() {
            return Ok(());
        }
        if level == MAX_NESTED_STREAMS {
            return Err(Error::limit("torch.save streams nest more than four deep"));
        }
        from = graph.len();
        for call in calls {
            let text = {
                let objects = Objects { graph, tensors, storages };
                objects.args(call).first().and_then(|arg| crate::checkpoint::numpy::byte_string(graph, *arg))
            };
            let Some(text) = text else { continue };
            let root = match roots.get(&text) {
                Some(root) => *root,
                None => {
                    let inner = crate::pickle::stored::bytes_of(graph, text, None)?;
                    let root = legacy::read_inner(opener, graph, storages, inner, roots.len())?;
                    roots.insert(text, root);
                    root
                }
            };
            tensors.inner_roots.insert(call, root);
        }
    }
    Ok(())
}
