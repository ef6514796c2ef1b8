//! Megatron-LM's own directories: `iter_0000100/mp_rank_01_002/model_optim_rng.pt`, a file for each rank of tensor
//! parallelism (the first number) and each stage of the pipeline (the second).
//!
//! Source: `megatron/training/checkpointing.py` (`get_checkpoint_name`, `save_checkpoint`, `read_metadata`). What is one
//! model's is put together and its layers are counted through; what each process keeps for itself is left aside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::grid::{File, Grid};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::framed::Several;
use crate::error::{Error, Result};
use crate::layout::directory::{self, Directory};
use crate::layout::spelled::spelled;
use crate::layout::{file_names, places};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::source::{SharedSource, files};

/// The file that names the last iteration.
const LATEST: &str = "latest_checkpointed_iteration.txt";
/// What the directories of ranks begin with.
const RANK: &str = "mp_rank_";
/// The files in them: with a distributed optimizer the model's is called the other way.
const FILES: &[&str] = &["model_optim_rng.pt", "model_rng.pt"];
/// More is no number of an iteration.
const MAX_LATEST_BYTES: u64 = 64;

/// A directory of files of ranks.
#[derive(Debug)]
pub(in crate::layout) struct Megatron {
    directory: Directory,
    /// The files by stage and rank in it.
    files: BTreeMap<(u64, u64), String>,
    tensor: u64,
    pipeline: u64,
    /// Files in the same directories that are left aside.
    others: Vec<String>,
    bytes: u64,
}

/// The directory of the last iteration, where `path` has a file that names it.
pub(in crate::layout) fn latest(path: &Path) -> Result<Option<PathBuf>> {
    let file = path.join(LATEST);
    if !files::is_file(&file) || files::len(&file).is_none_or(|len| len > MAX_LATEST_BYTES) {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&files::read(&file, MAX_LATEST_BYTES)?).trim().to_owned();
    let name = match text.parse::<u64>() {
        Ok(iteration) => format!("iter_{iteration:07}"),
        Err(_) if text == "release" => text,
        Err(_) => return Err(Error::malformed(format!("{LATEST} names no iteration: {text:?}"))),
    };
    match path.join(&name) {
        found if files::is_dir(&found) => Ok(Some(found)),
        _ => Err(Error::malformed(format!("{LATEST} names {name}, which is missing"))),
    }
}

/// `mp_rank_01` or `mp_rank_01_002`: tensor and pipeline rank; and what is not understood behind it.
fn parsed(name: &str) -> Option<(u64, Option<u64>, bool)> {
    let mut numbers = name.strip_prefix(RANK)?.split('_').map(str::parse);
    let tensor = numbers.next()?.ok()?;
    let pipeline = match numbers.next() {
        Some(number) => Some(number.ok()?),
        None => None,
    };
    Some((tensor, pipeline, numbers.next().is_some()))
}

/// Whether a directory holds some of ranks.
pub(in crate::layout) fn is_megatron(path: &Path) -> bool {
    directories(path).is_ok_and(|names| names.iter().any(|name| parsed(name).is_some()))
}

fn directories(path: &Path) -> Result<Vec<String>> {
    let found = files::list(path)?.into_iter().filter(|entry| entry.is_dir);
    Ok(found.map(|entry| entry.name).collect())
}

impl Megatron {
    /// The files of ranks below a directory; nothing where there are none.
    pub(crate) fn of_directory(path: &Path) -> Result<Option<Self>> {
        let mut found = directories(path)?;
        found.retain(|name| parsed(name).is_some());
        if found.is_empty() {
            return Ok(None);
        }
        let (mut files, mut others, mut bytes) = (BTreeMap::new(), Vec::new(), 0u64);
        let mut piped: Option<(bool, String)> = None;
        for name in found {
            let Some((tensor, pipeline, is_more)) = parsed(&name) else { continue };
            if is_more {
                return Err(Error::unsupported(format!(
                    "{name} is of one rank of several of expert parallelism, whose files are not put together"
                )));
            }
            let (was_piped, first) = piped.get_or_insert((pipeline.is_some(), name.clone()));
            if *was_piped != pipeline.is_some() {
                return Err(Error::malformed(format!("{first} and {name} are not of one checkpoint")));
            }
            let inside = file_names(&path.join(&name))?;
            let file = FILES.iter().find(|file| inside.iter().any(|name| name == *file));
            let file = file.ok_or_else(|| Error::malformed(format!("{name} holds no {}", FILES.join(" and no "))))?;
            others.extend(inside.iter().filter(|other| other != file).map(|other| format!("{name}/{other}")));
            bytes = bytes.saturating_add(directory::bytes(&path.join(&name))?);
            let place = (pipeline.unwrap_or(0), tensor);
            if files.insert(place, format!("{name}/{file}")).is_some() {
                return Err(Error::malformed(format!("{name} is there twice, with more and fewer zeros")));
            }
        }
        let tensor = files.keys().map(|(_, tensor)| tensor.saturating_add(1)).max().unwrap_or(0);
        let pipeline = files.keys().map(|(stage, _)| stage.saturating_add(1)).max().unwrap_or(0);
        let missing = (0..pipeline).flat_map(|stage| (0..tensor).map(move |tensor| (stage, tensor)));
        // a directory has fewer files than a hostile name has ranks
        if let Some((stage, tensor)) = missing.take(files.len() + 1).find(|place| !files.contains_key(place)) {
            let stage = if piped.is_some_and(|(piped, _)| piped) { format!("_{stage:03}") } else { String::new() };
            return Err(Error::malformed(format!("a rank is missing: {RANK}{tensor:02}{stage}")));
        }
        Ok(Some(Megatron { directory: Directory::new(path), files, tensor, pipeline, others, bytes }))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn files(&mut self) -> Vec<(String, Result<SharedSource>)> {
        let names: Vec<String> = self.files.values().chain(&self.others).cloned().collect();
        names.into_iter().map(|name| (name.clone(), self.directory.file(&name).map_err(Error::malformed))).collect()
    }

    /// Reads the pickles of all files. Fails where they are not of one checkpoint.
    pub(crate) fn open(mut self, limits: &Limits, progress: &dyn Progress) -> Result<Checkpoint> {
        let mut sources = Vec::new();
        for name in self.files.values() {
            sources.push((Arc::from(name.as_str()), self.directory.file(name).map_err(Error::malformed)?));
        }
        let (mut checkpoint, roots, zips) = super::read(&sources, Several::Megatron, limits, progress)?;
        places::check_copies(super::placed(&roots, &zips))?;
        let files =
            roots.into_iter().map(|(file, root)| File::of(&checkpoint, file, root.node)).collect::<Result<_>>()?;
        let grid = Grid { files, tensor: usize::try_from(self.tensor).unwrap_or(usize::MAX), pipeline: self.pipeline };
        grid.check()?;
        grid.put_together(&mut checkpoint, limits)?;
        if !self.others.is_empty() {
            checkpoint.notes.push(format!("left aside: {}", spelled(&self.others)));
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_directories() {
        assert_eq!(parsed("mp_rank_01"), Some((1, None, false)));
        assert_eq!(parsed("mp_rank_01_002"), Some((1, Some(2), false)));
        assert_eq!(parsed("mp_rank_01_002_003"), Some((1, Some(2), true)));
        assert_eq!(
            (parsed("mp_rank_"), parsed("mp_rank_00_model_states.pt"), parsed("tp_rank_00")),
            (None, None, None)
        );
    }
}
