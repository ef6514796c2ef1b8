//! The shared core: a checkpoint is an object graph plus the storages it names.
//!
//! [`open`] turns bytes into a [`Checkpoint`], whatever the container; [`names`] walks it; [`constructors`] knows
//! torch's and numpy's callables, and [`rebuild`] the tensors that they make; [`object`] and [`value`] say what
//! everything else is.

mod absorb;
pub mod alter;
pub(crate) mod arguments;
pub(crate) mod casting;
pub(crate) mod constructors;
pub(crate) mod device;
pub mod edit;
mod entry;
pub(crate) mod equality;
pub(crate) mod flat;
pub(crate) mod framed;
pub(crate) mod literal;
pub(crate) mod metadata;
mod module;
pub(crate) mod names;
pub(crate) mod near;
mod number;
pub mod numpy;
pub(crate) mod object;
pub(crate) mod open;
pub(crate) mod owners;
mod part_names;
mod parts;
pub(crate) mod plain;
pub(crate) mod prune;
pub(crate) mod pyrepr;
mod python2;
mod quantized;
pub(crate) mod rebuild;
mod repr;
pub(crate) mod resave;
pub(crate) mod resolve;
pub(crate) mod role;
pub(crate) mod root;
pub(crate) mod safe;
pub mod salvage;
pub(crate) mod script;
pub(crate) mod selection;
mod state;
mod state_dict;
pub(crate) mod storage;
pub(crate) mod tensor;
pub(crate) mod value;
pub(crate) mod weights;

use std::collections::HashMap;
use std::sync::Arc;

use crate::container::compress::Compression;
use crate::container::zip::Zip;
use crate::data::Elements;
use crate::dtype::ByteOrder;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pickle::{Decoded, Graph, Node, NodeId};
use crate::source::SharedSource;
use object::Objects;
use rebuild::Tensors;
use storage::{Storage, Storages};
use tensor::{Data, Rare, STRIDED, contiguous, plain_tensor};

pub(crate) use absorb::Origin;
pub use framed::Container;
pub(crate) use framed::{Framed, SavedPart};
pub use names::{Entry, Item, Names};
pub use role::Role;
pub use root::{Located, Root};
pub(crate) use storage::StorageId;
pub use tensor::TensorId;
pub(crate) use tensor::{Kind, Tensor};

/// Something that the files of a checkpoint of several say and is not so, or that none of them speaks of.
#[derive(Debug, Clone)]
pub struct Oddity {
    /// Which kind, for programs.
    pub code: &'static str,
    /// What it is about: a file, or a part of one.
    pub place: String,
    /// What is so instead.
    pub message: String,
}

/// What a tensor was put together from.
#[derive(Debug, Clone)]
pub(crate) struct MadeOf {
    /// The storages that its parts lie in.
    pub storages: Box<[StorageId]>,
    /// Some of it lies in several of them, and must be the same there.
    pub has_copies: bool,
}

/// A file that was understood. Tensor data has not been read.
#[derive(Debug)]
pub struct Checkpoint {
    /// What it was read from.
    pub(crate) framed: Framed,
    /// The pickle's protocol, where there is a pickle.
    pub protocol: Option<u8>,
    /// The storages' byte order, where the format has one.
    pub byte_order: Option<ByteOrder>,
    /// Which torch wrote it, as far as the container tells.
    pub era: Option<&'static str>,
    /// Its objects.
    pub graph: Graph,
    /// The top object.
    pub root: NodeId,
    /// Its tensors.
    pub tensors: Tensors,
    /// Its storages.
    pub storages: Storages,
    /// What was left aside or guessed, for people.
    pub notes: Vec<String>,
    /// Names of what lies in the files and is no part of this: tensors of a shard that the index does not name.
    pub left_aside: Vec<String>,
    /// The pickle that all objects are of, and how many there were once it was decoded.
    decoded: Option<(Decoded, usize)>,
    /// What its files say and is not so.
    pub oddities: Vec<Oddity>,
    /// Of tensors that were put together from those of several ranks: what they are made of.
    pub(crate) made_of: HashMap<TensorId, MadeOf>,
    /// The checkpoints that it was put together from, where it was: what they keep for themselves.
    pub origins: Vec<Origin>,
    /// The bounds it was opened with.
    pub limits: Limits,
}

impl Checkpoint {
    /// What kind of file it was.
    pub fn container(&self) -> Container {
        self.framed.container()
    }

    /// The file's bytes, expanded where it was compressed; nothing for checkpoints of several files.
    pub fn source(&self) -> Option<&SharedSource> {
        self.framed.source()
    }

    /// How the whole file was compressed.
    pub(crate) fn compression(&self) -> Option<Compression> {
        self.framed.compression()
    }

    /// The archive, for containers that are one.
    pub fn zip(&self) -> Option<&Arc<Zip>> {
        self.framed.zip()
    }

    /// The graph with what is known of its objects.
    pub fn objects(&self) -> Objects<'_> {
        Objects { graph: &self.graph, tensors: &self.tensors, storages: &self.storages }
    }

    /// The graph of the one pickle it was decoded from, where that is all there is in it: as whoever decodes it again would
    /// find it, as either of Python's unpicklers too.
    pub(crate) fn only_pickle(&self) -> Option<(&Graph, Decoded)> {
        let (decoded, objects) = self.decoded?;
        let is_text = |node: NodeId| match self.graph.node(node) {
            Node::Str(text) => self.graph.text(*text).is_ok_and(|text| std::str::from_utf8(&text).is_ok()),
            _ => true,
        };
        let is_named = |id: NodeId| match self.graph.node(id) {
            Node::Global { module, name } => is_text(*module) && is_text(*name),
            _ => true,
        };
        let is_all = self.graph.len() == objects && self.graph.only_stream().is_some();
        (is_all && self.graph.ids().all(is_named)).then_some((&self.graph, decoded))
    }

    /// Adds a tensor that is in no file: `elements` must be contiguous, row-major and little-endian, from their source's
    /// first byte on.
    pub(crate) fn add_tensor(&mut self, elements: Elements) -> Result<NodeId> {
        let extent = |size: &u64| i64::try_from(*size).map_err(|_| Error::limit("a size of more than 63 bits"));
        let shape = elements.shape.iter().map(extent).collect::<Result<Vec<_>>>()?;
        let data = Data::Array { source: elements.source, byte_order: elements.byte_order };
        self.add(Tensor { data, ..plain_tensor(elements.dtype, shape) })
    }

    /// Adds a tensor that no object of the files describes.
    pub(crate) fn add(&mut self, mut tensor: Tensor) -> Result<NodeId> {
        tensor.inspect(&self.storages);
        let node = self.graph.push(Node::Foreign(0))?;
        self.tensors.add(node, tensor)?;
        Ok(node)
    }

    /// The same of elements that lie in these storages, of this or of other files.
    pub(crate) fn add_tensor_of(&mut self, elements: Elements, storages: Vec<StorageId>) -> Result<NodeId> {
        let node = self.add_tensor(elements)?;
        if let Some(id) = self.tensors.of(node) {
            self.made_of.insert(id, MadeOf { storages: storages.into(), has_copies: false });
        }
        Ok(node)
    }

    /// Adds a tensor of which nothing is known but why it cannot be read.
    pub(crate) fn add_problem(&mut self, problem: &str) -> Result<NodeId> {
        let node = self.graph.push(Node::Foreign(0))?;
        let tensor = Tensor { layout: STRIDED, rare: Rare::of_problem(Some(problem.to_owned())), ..Tensor::default() };
        self.tensors.add(node, tensor)?;
        Ok(node)
    }

    /// Takes in a storage of another file, which is known by `key`.
    pub(crate) fn add_storage(&mut self, storage: Storage, key: &str) -> Result<StorageId> {
        self.storages.add(Storage { key: key.into(), ..storage })
    }

    /// Puts as many other bytes into a storage, in its byte order.
    pub(crate) fn replace_storage(&mut self, id: StorageId, source: SharedSource) {
        self.storages.replace(id, source);
    }

    /// Gives a tensor elements of its own: `elements` must be as [`Checkpoint::add_tensor`] wants them, of its type and
    /// shape.
    pub(crate) fn replace_elements(&mut self, id: TensorId, elements: Elements) {
        if let Some(tensor) = self.tensors.get_mut(id) {
            tensor.data = Data::Array { source: elements.source, byte_order: elements.byte_order };
            tensor.stride = Some(contiguous(&tensor.shape));
            tensor.storage_offset = Some(0);
            (tensor.conj, tensor.neg) = (false, false);
        }
    }

    /// The tensor of an id that this checkpoint gave.
    pub(crate) fn tensor(&self, id: TensorId) -> Option<&Tensor> {
        self.tensors.get(id)
    }

    /// The storages that a tensor and what it is made of (indices and values, scales) lie in.
    pub(crate) fn storages_of(&self, id: TensorId) -> impl Iterator<Item = StorageId> {
        let tensor = self.tensor(id);
        let parts = tensor.into_iter().flat_map(Tensor::parts);
        let parts = parts.filter_map(|part| self.tensor(self.tensors.of(*part)?)?.storage());
        let made_of = self.made_of.get(&id).into_iter().flat_map(|made| made.storages.iter().copied());
        tensor.and_then(Tensor::storage).into_iter().chain(parts).chain(made_of)
    }
}
