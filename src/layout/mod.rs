//! Checkpoints made of several files: Hugging Face shards beside an index, directories of torch.distributed.checkpoint.
//!
//! [`Layout::of`] decides what a path stands for. However many files there are, what comes out is one
//! [`Checkpoint`]: everything above sees no difference.

mod dcp;
mod directory;
mod sharded;
mod stitch;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::container::detect::{Framing, detect};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::source::{FileSource, SharedSource};
use dcp::Dcp;
use sharded::Sharded;

/// What a path stands for.
#[derive(Debug)]
pub struct Layout(Kind);

#[derive(Debug)]
enum Kind {
    File(SharedSource),
    Sharded(Sharded),
    Dcp(Dcp),
}

/// The index of a DCP directory (`torch/distributed/checkpoint/filesystem.py`).
const DCP_INDEX: &str = ".metadata";
/// The suffix of DCP's data files.
const DCP_DATA: &str = ".distcp";
/// The suffix of an index of Hugging Face shards.
const SHARD_INDEX: &str = ".index.json";

impl Layout {
    /// Looks at a file, an index of shards, or a directory that holds a checkpoint. Errors of the kind `NotACheckpoint`
    /// say what a directory is without.
    pub fn of(path: &Path, limits: &Limits) -> Result<Self> {
        if path.is_dir() {
            return Self::of_directory(path, limits);
        }
        let source: SharedSource = Arc::new(FileSource::open(path)?);
        match detect(source.as_ref()) {
            Ok(Framing::ShardIndex) => Ok(Layout(Kind::Sharded(Sharded::of_index(path, &source, limits)?))),
            _ => Ok(Layout(Kind::File(source))),
        }
    }

    /// One file's bytes, from wherever they come.
    pub fn of_source(source: SharedSource) -> Self {
        Layout(Kind::File(source))
    }

    fn of_directory(path: &Path, limits: &Limits) -> Result<Self> {
        if path.join(DCP_INDEX).is_file() {
            return Ok(Layout(Kind::Dcp(Dcp::of_directory(path, limits)?)));
        }
        let names = file_names(path)?;
        let indexes: Vec<&String> = names.iter().filter(|name| name.ends_with(SHARD_INDEX)).collect();
        match indexes.as_slice() {
            [] => Err(Error::not_a_checkpoint(missing_index(&names))),
            [index] => {
                let index = path.join(index);
                let source: SharedSource = Arc::new(FileSource::open(&index)?);
                let sharded = Sharded::of_index(&index, &source, limits)?;
                Ok(Layout(Kind::Sharded(sharded.with_bytes(directory::bytes(path)?))))
            }
            [first, second, ..] => {
                let message = format!("is a directory with several indexes of shards; name one: {first}, {second}");
                Err(Error::unsupported(message))
            }
        }
    }

    /// The index of Hugging Face shards, and the shards' names, where it is such.
    pub fn shards(&self) -> Option<(&Path, Vec<String>)> {
        match &self.0 {
            Kind::Sharded(sharded) => Some((sharded.path(), sharded.shards().into_iter().map(str::to_owned).collect())),
            _ => None,
        }
    }

    /// Bytes on disk: of the file, of all files of the directory, of the index and its shards.
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Kind::File(source) => source.len(),
            Kind::Sharded(sharded) => sharded.bytes(),
            Kind::Dcp(dcp) => dcp.bytes(),
        }
    }

    /// Reads the structure. `progress` hears of bytes that must be expanded.
    pub fn open(self, limits: &Limits, progress: &dyn Progress) -> Result<Checkpoint> {
        match self.0 {
            Kind::File(source) => Checkpoint::open(source, limits, progress),
            Kind::Sharded(sharded) => sharded.open(limits, progress),
            Kind::Dcp(dcp) => dcp.open(limits),
        }
    }
}

/// Names of the regular files in a directory, sorted; what is no Unicode is no index of ours.
fn file_names(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.path().is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

fn missing_index(names: &[String]) -> String {
    let of_deepspeed = |name: &String| name.ends_with("_model_states.pt") || name.ends_with("_optim_states.pt");
    if names.iter().any(of_deepspeed) || names.iter().any(|name| name == "zero_to_fp32.py") {
        return "is a directory of DeepSpeed ZeRO, whose parts are not put together: name one of its .pt files, or \
                merge them first with the zero_to_fp32.py that DeepSpeed leaves beside them"
            .into();
    }
    if names.iter().any(|name| name.ends_with(DCP_DATA)) {
        return format!("is a directory of {DCP_DATA} files without the {DCP_INDEX} that says what is in them");
    }

    format!(
        "is a directory without an index: neither {DCP_INDEX} (torch.distributed.checkpoint) nor *{SHARD_INDEX} \
         (Hugging Face shards); name a file in it, or list all below it with `ckpt ls -R`"
    )
}

/// What lies in one directory, for who looks through a tree of them.
#[derive(Debug, Default)]
pub struct Survey {
    /// Checkpoints of several files: the directory itself, or its indexes where it has more than one.
    pub checkpoints: Vec<PathBuf>,
    /// Files that are parts of those.
    pub parts: HashSet<OsString>,
}

/// Looks for checkpoints of several files in a directory.
pub fn survey(path: &Path, limits: &Limits) -> Result<Survey> {
    let mut survey = Survey::default();
    let names = file_names(path)?;
    for name in names.iter().filter(|name| name.ends_with(SHARD_INDEX)) {
        // an index that cannot be read is listed as a file, and the error with it
        let index = path.join(name);
        let opened =
            FileSource::open(&index).and_then(|file| Sharded::of_index(&index, &(Arc::new(file) as _), limits));
        if let Ok(sharded) = opened {
            survey.parts.extend(sharded.shards().into_iter().chain([name.as_str()]).map(OsString::from));
            survey.checkpoints.push(index);
        }
    }
    let is_dcp = names.iter().any(|name| name == DCP_INDEX);
    if is_dcp {
        let parts = names.iter().filter(|name| *name == DCP_INDEX || name.ends_with(DCP_DATA));
        survey.parts.extend(parts.map(OsString::from));
    }
    match (is_dcp, survey.checkpoints.as_mut_slice()) {
        (true, _) => survey.checkpoints.push(path.to_owned()),
        (false, [only]) => *only = path.to_owned(),
        _ => {}
    }
    Ok(survey)
}
