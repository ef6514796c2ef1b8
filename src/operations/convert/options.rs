//! What to convert to, how, and where it goes.

use std::path::PathBuf;

use crate::dtype::DType;
use crate::operations::destination::Sink;
use crate::operations::files::Shard;
use crate::operations::select::Select;
use crate::write::format::Format;

/// What to do with tensors that share memory, in formats without sharing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shared {
    /// Write every tensor in full.
    #[default]
    Duplicate,
    /// Write equal views once and record the other names as aliases in `__metadata__`.
    Drop,
    /// Refuse.
    Error,
}

/// What to convert to, and how.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The format to write.
    pub to: Format,
    /// Reduce to a plain state dict; other formats than torch's hold nothing else.
    pub state_dict: bool,
    /// Keep the whole object and replace what `torch.load(weights_only=True)` refuses by what it holds, in torch's formats.
    pub safe: bool,
    /// Where to progress, and which names to take.
    pub select: Select,
    /// Leave out these elements and everything below them: names or globs.
    pub drop: Vec<String>,
    /// Cast floating weights to this.
    pub dtype: Option<DType>,
    /// The device to record for storages, in torch's formats.
    pub device: Option<String>,
    /// Write only the parts of storages that tensors use, in torch's formats.
    pub compact: bool,
    /// Tensors that share memory, in formats without sharing. Without it they are duplicated, and aliases of a safetensors
    /// input stay such.
    pub shared: Option<Shared>,
    /// Entries for `__metadata__` of safetensors.
    pub set_metadata: Vec<(String, String)>,
    /// The digest that the weights of the input must have, of the same selection, in lower-case hexadecimal.
    pub expect_digest: Option<String>,
}

/// Where a conversion goes.
#[derive(Debug, Clone)]
pub enum Outlet {
    /// One file.
    File(Sink),
    /// Several files and their index.
    Shards(Shards),
}

/// Shards that lie in one directory, which is made when it is not there.
#[derive(Debug, Clone)]
pub struct Shards {
    /// The directory.
    pub directory: PathBuf,
    /// What a shard has at most, unless it holds one tensor.
    pub max_bytes: u64,
    /// Replace files that exist.
    pub force: bool,
    /// The input's file, which is named when it would be replaced.
    pub input: Option<PathBuf>,
    /// Which of the files are written.
    pub part: Portion,
}

/// What of a directory of shards one run writes. Which tensors are in which shard is the same for all runs with the same input
/// and options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Portion {
    /// Everything.
    #[default]
    All,
    /// The shards that fall to one of several jobs. An index that is there goes, as what it names is not whole meanwhile.
    Shard(Shard),
    /// The index, if all shards are there and are those that this run would write.
    Index,
}

impl Outlet {
    pub(super) fn name(&self) -> String {
        match self {
            Outlet::File(sink) => sink.name.clone(),
            Outlet::Shards(shards) => shards.directory.display().to_string(),
        }
    }
}
