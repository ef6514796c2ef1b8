//! Bytes to a checkpoint: one file for each kind of container, all ending in the same graph, storages and tensors.
//!
//! Several files can be read into the same `Parts`: that is how shards become one checkpoint (`crate::layout`).

mod arrays;
mod bare;
mod embedded;
mod legacy;
mod pt2;
mod tar;
mod zip;

use std::collections::HashMap;
use std::sync::Arc;

use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::framed::{Archived, Framed, Place, Single};
use crate::checkpoint::object::Objects;
pub(crate) use crate::checkpoint::parts::Parts;
use crate::checkpoint::quantized;
use crate::checkpoint::tensor::Tensor;
use crate::checkpoint::{Checkpoint, Oddity};
use crate::container::compress::expand;
use crate::container::detect::{Framing, damage, detect};
use crate::container::legacy::is_legacy;
use crate::container::zip::{Flavor, Zip};
use crate::dtype::ByteOrder;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::pickle::{Decoded, Node, NodeId, Pair};
use crate::progress::Progress;
use crate::source::SharedSource;

/// What reading one file into [`Parts`] gave.
#[derive(Debug)]
pub(crate) struct Opened {
    pub framed: Framed,
    pub root: NodeId,
    pub protocol: Option<u8>,
    pub byte_order: Option<ByteOrder>,
    pub era: Option<&'static str>,
    pub notes: Vec<String>,
    pub left_aside: Vec<String>,
    /// The pickle that all objects are of, and how many there were once it was decoded.
    pub decoded: Option<(Decoded, usize)>,
    pub oddities: Vec<Oddity>,
}

impl Opened {
    pub(crate) fn new(framed: Framed, root: NodeId) -> Self {
        Opened {
            framed,
            root,
            protocol: None,
            byte_order: None,
            era: None,
            notes: Vec::new(),
            left_aside: Vec::new(),
            decoded: None,
            oddities: Vec::new(),
        }
    }
}

impl Parts {
    /// Adds a tensor that no pickle describes.
    pub(crate) fn tensor(&mut self, mut tensor: Tensor) -> Result<NodeId> {
        tensor.inspect(&self.storages);
        let number = u32::try_from(self.graph.len()).unwrap_or(u32::MAX);
        let node = self.graph.push(Node::Foreign(number))?;
        self.tensors.add(node, tensor)?;
        Ok(node)
    }

    /// Adds a dict with text keys.
    pub(crate) fn dict<'a>(&mut self, items: impl IntoIterator<Item = (&'a str, NodeId)>) -> Result<NodeId> {
        let mut entries = Vec::new();
        for (key, value) in items {
            entries.push(Pair { key: self.graph.push_str(key)?, value, key_at: 0 });
        }
        self.graph.push_dict(entries)
    }

    /// A checkpoint of all that has been read: finds the tensors that the pickles describe.
    pub(crate) fn finish(mut self, opened: Opened, limits: &Limits) -> Result<Checkpoint> {
        self.tensors.rebuild(&self.graph, &self.storages, limits)?;
        quantized::describe(&mut self)?;
        self.graph.complete()?;
        Ok(Checkpoint {
            framed: opened.framed,
            protocol: opened.protocol,
            byte_order: opened.byte_order,
            era: opened.era,
            graph: self.graph,
            root: opened.root,
            tensors: self.tensors,
            storages: self.storages,
            notes: opened.notes,
            left_aside: opened.left_aside,
            decoded: opened.decoded,
            oddities: opened.oddities,
            made_of: HashMap::new(),
            origins: Vec::new(),
            limits: limits.clone(),
        })
    }
}

/// What the openers share: the file's bytes, the bounds.
pub(crate) struct Opener<'a> {
    pub source: SharedSource,
    pub limits: &'a Limits,
    /// Objects that the graph may have.
    pub max_objects: u64,
    /// What is cut off or cannot be read is missing, instead of an error: of torch's zip and legacy files and of safetensors.
    pub damaged: bool,
    /// Where the archive is, of which the bytes are.
    pub place: Place,
}

impl<'a> Opener<'a> {
    /// Reads a file as it is; `max_objects` is what its graph may have.
    pub(crate) fn new(source: SharedSource, limits: &'a Limits, max_objects: u64) -> Self {
        Opener { source, limits, max_objects, damaged: false, place: Place::File(None) }
    }

    /// A file of this kind, whose bytes are these.
    fn file(&self, kind: Single) -> Framed {
        Framed::File { kind, bytes: Arc::clone(&self.source), compression: self.place.compression() }
    }

    fn archive(&self, kind: Archived, zip: Arc<Zip>) -> Framed {
        Framed::Archive { kind, zip, place: self.place }
    }
}

impl Checkpoint {
    /// Reads the structure of a checkpoint of one file, not its tensors' data. `progress` hears of bytes that must be
    /// expanded. Fails, with the place, for anything that is no checkpoint or breaks its format's rules.
    pub fn open(source: SharedSource, limits: &Limits, progress: &dyn Progress) -> Result<Self> {
        let max_objects = limits.objects_for(source.len());
        let mut parts = Parts::new();
        let opener = Opener::new(Arc::clone(&source), limits, max_objects);
        let opened = opener.read(progress, &mut parts).map_err(|e| damage::explain(e, source.as_ref()))?;
        parts.finish(opened, limits)
    }

    /// The same of a zip archive whose directory has been read.
    pub(crate) fn open_zip(zip: Arc<Zip>, limits: &Limits) -> Result<Self> {
        let source = Arc::clone(zip.source());
        let max_objects = limits.objects_for(source.len());
        let mut parts = Parts::new();
        let opener = Opener::new(Arc::clone(&source), limits, max_objects);
        let from = parts.graph.len();
        let opened = opener.of_zip(zip, &mut parts).and_then(|opened| {
            embedded::read(&opener, &mut parts, from)?;
            Ok(opened)
        });
        let opened = opened.map_err(|e| damage::explain(e, source.as_ref()))?;
        parts.finish(opened, limits)
    }

    /// Reads an archive that is no file of its own, or one pickle of a torch.package archive, the member number `pickle`.
    /// `disk_bytes` is what it takes on the disk.
    pub(crate) fn open_archive(zip: Arc<Zip>, pickle: Option<usize>, disk_bytes: u64, limits: &Limits) -> Result<Self> {
        let max_objects = limits.objects_for(disk_bytes);
        let mut parts = Parts::new();
        let opener = Opener { place: Place::Folder, ..Opener::new(Arc::clone(zip.source()), limits, max_objects) };
        let opened = match pickle {
            Some(_) => opener.package(zip, pickle, &mut parts),
            None => opener.of_zip(zip, &mut parts),
        }?;
        parts.finish(opened, limits)
    }

    /// Reads what is left of torch's zip or legacy file, or of a safetensors file: an archive without its directory by its
    /// local headers, with every checksum looked at; the others as far as they go. Tensors whose bytes are not all there
    /// have a [`Tensor::problem`]; [`Checkpoint::doubtful`] names those that may be damaged. Other containers are read as
    /// ever. Fails when the pickle itself breaks off.
    pub(crate) fn open_damaged(source: SharedSource, limits: &Limits, progress: &dyn Progress) -> Result<Self> {
        let max_objects = limits.objects_for(source.len());
        let mut parts = Parts::new();
        let opener = Opener { damaged: true, ..Opener::new(Arc::clone(&source), limits, max_objects) };
        let opened = opener.read(progress, &mut parts).map_err(|e| damage::explain(e, source.as_ref()))?;
        parts.finish(opened, limits)
    }
}

impl Opener<'_> {
    /// Reads a whole file, whatever it is.
    pub(crate) fn read(mut self, progress: &dyn Progress, parts: &mut Parts) -> Result<Opened> {
        let mut framing = match detect(self.source.as_ref()) {
            // an archive is known by its end too
            Err(e) if e.kind() == ErrorKind::NotACheckpoint && self.damaged => {
                let is_zip = damage::holds_zip(self.source.as_ref())?;
                if is_zip { Framing::Zip } else { return Err(e) }
            }
            framing => framing?,
        };
        if let Framing::Compressed(kind) = framing {
            self.source = expand(&self.source, kind, self.limits, progress)?;
            self.place = Place::File(Some(kind));
            framing =
                detect(self.source.as_ref()).map_err(|e| e.reworded(|why| format!("inside {}: {why}", kind.name())))?;
        }
        let from = parts.graph.len();
        let opened = match framing {
            Framing::Zip => self.zip(parts),
            Framing::Tar => self.tar(parts),
            Framing::Npy => self.npy(parts),
            Framing::Safetensors => self.safetensors(parts),
            Framing::Pickle if is_legacy(&self.source) => self.legacy(parts),
            Framing::Pickle => self.bare(parts),
            Framing::ShardIndex => Err(Error::unsupported(
                "is a Hugging Face index of shards; name the index file itself or its directory, the shards beside it",
            )),
            Framing::Compressed(kind) => {
                Err(Error::unsupported(format!("is compressed twice ({} in another)", kind.name())))
            }
        }?;
        embedded::read(&self, parts, from)?;
        Ok(opened)
    }

    /// Reads what `torch.save` wrote inside a file of another format: its zip or its legacy stream, nothing else, so
    /// that archives in archives end here.
    pub(crate) fn saved(&self, parts: &mut Parts) -> Result<Opened> {
        match detect(self.source.as_ref())? {
            Framing::Zip => {
                let zip = Arc::new(Zip::open(Arc::clone(&self.source), self.limits)?);
                match zip.flavor()? {
                    Flavor::Torch => self.torch_zip(zip, parts),
                    _ => Err(Error::unsupported("is no torch.save file").at(self.source.absolute(0))),
                }
            }
            Framing::Pickle if is_legacy(&self.source) => self.legacy(parts),
            _ => Err(Error::unsupported("is no torch.save file").at(self.source.absolute(0))),
        }
    }
}

/// Streams inside `_load_from_bytes` may hold others; torch writes one level.
const MAX_NESTED_STREAMS: usize = 4;

/// Reads every legacy stream that a `torch.storage._load_from_bytes(b'…')` among the nodes from number `from` on holds,
/// each once.
fn read_nested(opener: &Opener<'_>, parts: &mut Parts, mut from: usize) -> Result<()> {
    let Parts { graph, storages, tensors } = parts;
    let mut roots = std::collections::HashMap::new();
    for level in 0.. {
        tensors.learn_constructors(graph, from);
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
