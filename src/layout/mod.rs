//! Checkpoints that are not one file: Hugging Face shards beside an index, directories of torch.distributed.checkpoint
//! and of DeepSpeed, the files of ranks, unpacked archives, members of archives.
//!
//! [`Layout::of`] decides what a path stands for. However many files there are, what comes out is one
//! [`Checkpoint`]: everything above sees no difference.

mod below;
mod contained;
mod dcp;
mod deepspeed;
mod directory;
mod folder;
mod foreign;
mod grouped;
mod inside;
mod member;
mod open_files;
mod outer;
mod places;
mod ranks;
mod sharded;
mod spelled;
mod stitch;
mod survey;
mod unpacked;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::container::archive::Contents;
use crate::container::detect::{Framing, detect};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::{Progress, Silent};
use crate::source::{SharedSource, files};
use dcp::Dcp;
use deepspeed::DeepSpeed;
use folder::Weights;
use member::Found;
use outer::Outer;
use ranks::{Megatron, Ranks};
use sharded::Sharded;
use unpacked::Unpacked;

pub use below::below;
pub(crate) use below::{Below, Kind as BelowKind, is_called_a_checkpoint};
pub use contained::Step;
pub(crate) use contained::{Contained, Spot, Walk};
pub(crate) use folder::{is_index, parts_of_shard};
pub(crate) use inside::explain;
pub(crate) use member::{Address, address};

/// What a path stands for.
#[derive(Debug)]
pub struct Layout {
    kind: Kind,
    /// Tighter bounds, for what has been expanded on the way.
    limits: Option<Limits>,
    /// As the command line names it.
    name: String,
    /// Of a directory whose weights are one file.
    single: Option<Single>,
    /// The members of archives that it is, and that lie around it.
    outer: Vec<Outer>,
    /// The checkpoint of DeepSpeed beside a folder's weights.
    beside: Option<String>,
}

/// A member of an archive whose bytes are not those that the archive's checksum is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Its name.
    pub member: String,
    /// The checksum of its bytes.
    pub sum: u32,
    /// What the archive says.
    pub stated: u32,
}

/// The file with the weights of a directory.
#[derive(Debug)]
struct Single {
    path: PathBuf,
    /// Of all files of the directory.
    bytes: u64,
    note: Option<String>,
}

#[derive(Debug)]
enum Kind {
    File(SharedSource),
    Sharded(Sharded),
    Dcp(Dcp),
    DeepSpeed(DeepSpeed),
    Ranks(Box<Ranks>),
    Megatron(Box<Megatron>),
    Unpacked(Unpacked),
}

/// The index of a DCP directory (`torch/distributed/checkpoint/filesystem.py`).
const DCP_INDEX: &str = ".metadata";
/// The suffix of DCP's data files.
const DCP_DATA: &str = ".distcp";
/// The suffix of the files that ranks write without an index (`torch/distributed/checkpoint/_hf_utils.py`).
const SAFETENSORS: &str = ".safetensors";

impl Layout {
    fn new(kind: Kind, name: &Path) -> Self {
        Layout { kind, limits: None, name: name.display().to_string(), single: None, outer: Vec::new(), beside: None }
    }

    /// Looks at a file, an index of shards, a directory that holds a checkpoint, or a member of an archive
    /// (`FILE::member`). Errors of the kind `NotACheckpoint` say what a directory is without.
    pub fn of(path: &Path, limits: &Limits) -> Result<Self> {
        files::set_max_transfer(limits.max_transfer);
        if let Some(address) = address(path) {
            return Self::of_member(address.open()?, &address, limits, &Silent);
        }
        if files::is_dir(path) {
            return Self::of_directory(path, limits);
        }
        if let Some(ranks) = Ranks::of_pattern(path)? {
            return Ok(Self::new(Kind::Ranks(Box::new(ranks)), path));
        }
        let source = files::open(path)?;
        let kind = match detect(source.as_ref()) {
            Ok(Framing::ShardIndex) => Kind::Sharded(Sharded::of_index(path, &source, limits)?),
            _ => Kind::File(source),
        };
        Ok(Self::new(kind, path))
    }

    /// One file's bytes, from wherever they come; people know them by `name`.
    pub fn of_source(source: SharedSource, name: &Path) -> Self {
        Self::new(Kind::File(source), name)
    }

    /// The member of an archive whose bytes `source` are. `progress` hears of bytes that must be expanded to find it.
    pub(crate) fn of_member(
        source: SharedSource,
        address: &Address,
        limits: &Limits,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let (shown, member) = (address.file.display().to_string(), &address.member);
        let contents = Contents { source, limits: limits.clone() };
        let mut outer = Vec::new();
        let (kind, limits) = match member::find(contents, &shown, member, &mut outer, progress)? {
            Found::Group { archive, index } => {
                let limits = archive.limits().clone();
                let name = format!("{shown}{}{member}", inside::SEPARATOR);
                let kind = grouped::open(&archive, index, &name, &limits)?;
                (kind.ok_or_else(|| Error::not_a_checkpoint("is no index of a checkpoint"))?, limits)
            }
            Found::File(Contents { source, limits }) => (Kind::File(source), limits),
            Found::Archive { zip, pickle, limits } => (Kind::Unpacked(Unpacked::new(zip, pickle)), limits),
        };
        let name = format!("{shown}{}{member}", inside::SEPARATOR);
        Ok(Layout { kind, limits: Some(limits), name, single: None, outer, beside: None })
    }

    fn of_directory(path: &Path, limits: &Limits) -> Result<Self> {
        if let Some(latest) = ranks::latest(path)? {
            let layout = Self::of_iteration(&latest, limits)?;
            return Ok(Layout { name: path.display().to_string(), ..layout });
        }
        Self::of_iteration(path, limits)
    }

    /// A directory without those of other iterations.
    fn of_iteration(path: &Path, limits: &Limits) -> Result<Self> {
        if files::is_file(&path.join(DCP_INDEX)) {
            return Ok(Self::new(Kind::Dcp(Dcp::of_directory(path, limits)?), path));
        }
        if let Some(megatron) = Megatron::of_directory(path)? {
            return Ok(Self::new(Kind::Megatron(Box::new(megatron)), path));
        }
        let names = file_names(path)?;
        let weights = folder::weights(&names)?;
        if !matches!(weights, Some((Weights::Index(_), _))) {
            if let Some(unpacked) = Unpacked::of_directory(path, limits)? {
                return Ok(Self::new(Kind::Unpacked(unpacked), path));
            }
            let ranks: Vec<&String> = names.iter().filter(|name| name.ends_with(SAFETENSORS)).collect();
            if let Some(dcp) = Dcp::of_ranks(path, &ranks, limits)? {
                return Ok(Self::new(Kind::Dcp(dcp), path));
            }
            if weights.is_none()
                && let Some(deepspeed) = DeepSpeed::of_directory(path, &names)?
            {
                return Ok(Self::new(Kind::DeepSpeed(deepspeed), path));
            }
            // files of ranks may be of something else than the weights
            let ranks = Ranks::of_directory(path, &names)?;
            if let Some(ranks) = ranks.filter(|ranks| ranks.is_model() || weights.is_none()) {
                return Ok(Self::new(Kind::Ranks(Box::new(ranks)), path));
            }
        }
        match weights {
            None => Err(Error::not_a_checkpoint(foreign::directory(path, &names))),
            Some((Weights::File(name), note)) => {
                let file = path.join(name);
                let source = files::open(&file)?;
                let single = Single { path: file, bytes: directory::bytes(path)?, note };
                let beside = deepspeed::beside(path, &names)?;
                Ok(Layout { single: Some(single), beside, ..Self::new(Kind::File(source), path) })
            }
            Some((Weights::Index(name), note)) => {
                let index = path.join(name);
                let source = files::open(&index)?;
                let sharded = Sharded::of_index(&index, &source, limits)?;
                let beside = deepspeed::beside(path, &names)?;
                let kind = Kind::Sharded(sharded.of_folder(directory::bytes(path)?, note));
                Ok(Layout { beside, ..Self::new(kind, path) })
            }
        }
    }

    /// The file with the weights, of a directory that has but one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.single.as_ref().map(|single| single.path.as_path())
    }

    /// The bytes and their bounds, where it is one file.
    pub(crate) fn contents(&self, limits: &Limits) -> Option<Contents> {
        let Kind::File(source) = &self.kind else { return None };
        Some(Contents { source: Arc::clone(source), limits: self.limits.clone().unwrap_or_else(|| limits.clone()) })
    }

    /// The bounds on what is in it, which are no wider than `limits`.
    pub(crate) fn limits(&self, limits: &Limits) -> Limits {
        self.limits.clone().unwrap_or_else(|| limits.clone())
    }

    /// Refuses what is more than one file.
    pub(crate) fn of_one_file(self) -> Result<Self> {
        match self.kind {
            Kind::File(_) => Ok(self),
            _ => Err(Error::unsupported("made of several files; merge them first with `ckpt convert`")),
        }
    }

    /// The files of a checkpoint of several, by the names that its index gives them.
    pub(crate) fn files(&mut self) -> Vec<(String, Result<SharedSource>)> {
        match &mut self.kind {
            Kind::File(_) => Vec::new(),
            Kind::Sharded(sharded) => sharded.files(),
            Kind::Dcp(dcp) => dcp.files(),
            Kind::DeepSpeed(deepspeed) => deepspeed.files(),
            Kind::Ranks(ranks) => ranks.files(),
            Kind::Megatron(megatron) => megatron.files(),
            Kind::Unpacked(unpacked) => unpacked.files().collect(),
        }
    }

    /// The files of an unpacked archive, with their names in it, and those that ranks wrote.
    pub(crate) fn listed_files(&mut self) -> Option<Vec<(String, Result<SharedSource>)>> {
        match &self.kind {
            Kind::Unpacked(_) | Kind::DeepSpeed(_) | Kind::Ranks(_) | Kind::Megatron(_) => Some(self.files()),
            _ => None,
        }
    }

    /// Whether each of its files could be opened on its own.
    pub(crate) fn is_of_checkpoints(&self) -> bool {
        matches!(self.kind, Kind::Sharded(_) | Kind::DeepSpeed(_) | Kind::Ranks(_) | Kind::Megatron(_))
    }

    /// Whether all files that lie directly in its directory are looked at with it.
    pub(crate) fn is_all_of_directory(&self) -> bool {
        matches!(self.kind, Kind::Dcp(_))
    }

    /// The index of Hugging Face shards, and the shards' names, where it is such.
    pub(crate) fn shards(&self) -> Option<(&Path, Vec<String>)> {
        match &self.kind {
            Kind::Sharded(sharded) => Some((sharded.path(), sharded.shards().into_iter().map(str::to_owned).collect())),
            _ => None,
        }
    }

    /// Bytes on disk: of the file, of all files of the directory, of the index and its shards.
    pub fn bytes(&self) -> u64 {
        match &self.kind {
            Kind::File(source) => self.single.as_ref().map_or(source.len(), |single| single.bytes),
            Kind::Sharded(sharded) => sharded.bytes(),
            Kind::Dcp(dcp) => dcp.bytes(),
            Kind::DeepSpeed(deepspeed) => deepspeed.bytes(),
            Kind::Ranks(ranks) => ranks.bytes(),
            Kind::Megatron(megatron) => megatron.bytes(),
            Kind::Unpacked(unpacked) => unpacked.bytes(),
        }
    }

    /// The members around it that are damaged, as their archives' checksums say.
    pub(crate) fn mismatches(&self) -> Result<Vec<Mismatch>> {
        let mut found = Vec::new();
        for outer in &self.outer {
            let mismatch = outer.mismatch()?;
            found.extend(mismatch.map(|(sum, stated)| Mismatch { member: outer.name().to_owned(), sum, stated }));
        }
        Ok(found)
    }

    /// Fails where a member around it is damaged.
    pub(crate) fn is_whole(&self) -> Result<()> {
        match self.mismatches()?.first() {
            None => Ok(()),
            Some(Mismatch { member, sum, stated }) => {
                let message = format!("its bytes have CRC-32 {sum:08x} where the archive says {stated:08x}");
                Err(Error::data(message).in_member(member))
            }
        }
    }

    /// The same for people, of members that are not too large for it.
    fn notes_on_members(&self) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for outer in &self.outer {
            let name = outer.name();
            if outer.is_large() {
                notes.push(format!("the archive's checksum of {name} was not looked at, `ckpt check` does"));
            } else if outer.mismatch()?.is_some() {
                notes.push(format!("{name} is damaged: the archive's checksum is another one"));
            }
        }
        Ok(notes)
    }

    /// Reads the structure. `progress` hears of bytes that must be expanded.
    pub fn open(self, limits: &Limits, progress: &dyn Progress) -> Result<Checkpoint> {
        let mut notes = self.notes_on_members()?;
        notes.extend(self.beside.as_ref().map(|tag| {
            format!("{tag} beside it is a checkpoint of DeepSpeed, which has the weights in float32: it is left aside")
        }));
        let is_of_ranks = matches!(self.kind, Kind::Ranks(_) | Kind::Megatron(_));
        if !is_of_ranks && !limits.tensor_parallel.rules.is_empty() {
            notes.push("is not of several ranks: rules that say how tensors are cut among them do not matter".into());
        }
        let mut checkpoint = self.open_as_it_is(limits, progress)?;
        checkpoint.notes.extend(notes);
        Ok(checkpoint)
    }

    fn open_as_it_is(self, limits: &Limits, progress: &dyn Progress) -> Result<Checkpoint> {
        let limits = self.limits.as_ref().unwrap_or(limits);
        match self.kind {
            Kind::File(source) => {
                let mut checkpoint = Checkpoint::open(Arc::clone(&source), limits, progress)
                    .map_err(|e| explain(e, &Contents { source, limits: limits.clone() }, &self.name))?;
                checkpoint.notes.extend(self.single.and_then(|single| single.note));
                checkpoint.notes.extend(ranks::note_of_one(&checkpoint));
                Ok(checkpoint)
            }
            Kind::Unpacked(unpacked) => unpacked.open(limits),
            Kind::Sharded(sharded) => sharded.open(limits, progress),
            Kind::Dcp(dcp) => dcp.open(limits),
            Kind::DeepSpeed(deepspeed) => deepspeed.open(limits),
            Kind::Ranks(ranks) => ranks.open(limits, progress),
            Kind::Megatron(megatron) => megatron.open(limits, progress),
        }
    }
}

/// What a directory would be read as although it had an index of shards of this name.
pub(crate) fn hides(path: &Path, index: &str) -> Result<Option<String>> {
    if ranks::latest(path)?.is_some() || path.join(DCP_INDEX).is_file() || Megatron::of_directory(path)?.is_some() {
        return Ok(Some("a checkpoint of another layout".to_owned()));
    }
    let mut names = file_names(path)?;
    names.retain(|name| name != index);
    let others = names.clone();
    names.push(index.to_owned());
    match folder::weights(&names) {
        Ok(Some((Weights::Index(name) | Weights::File(name), _))) => Ok((name != index).then_some(name)),
        Ok(None) => Ok(None),
        // which of several is meant is not ours to say
        Err(_) => Ok(Some(match folder::weights(&others) {
            Ok(Some((Weights::Index(name) | Weights::File(name), _))) => name,
            _ => "several files of weights".to_owned(),
        })),
    }
}

/// Names of the regular files in a directory, sorted; what is no Unicode is no index of ours.
fn file_names(path: &Path) -> Result<Vec<String>> {
    let found = files::list(path)?.into_iter().filter(|entry| entry.bytes.is_some());
    Ok(found.map(|entry| entry.name).collect())
}
