//! DeepSpeed: a directory of what each rank saved, of ZeRO stages 1, 2 and 3 or of none.
//!
//! Sources: `deepspeed/runtime/engine.py` (0.9 to 0.19) and `deepspeed/utils/zero_to_fp32.py`. `*_model_states.pt` say what
//! the parameters are called and how large they are; their fp32 elements lie in `*_optim_states.pt`, in flat tensors that
//! the ranks share. Only pickles are read here.

mod flats;
mod joined;
mod merge;
mod model;
mod names;
mod optimizer;
mod partition;
mod placing;
mod reading;

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::directory::{self, Directory, check_name};
use crate::checkpoint::{Checkpoint, Oddity};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{SharedSource, files};
use merge::Merge;
use model::Described;
use names::Names;
use optimizer::Rank;
use reading::{Flat, open, wrong};

pub(super) use names::{are_put_together, is_deepspeed, is_part};

/// The file that names the directory with the last checkpoint.
const LATEST: &str = "latest";
/// Bytes of it that are read.
const MAX_LATEST_BYTES: u64 = 4096;
/// Directories that are named where one of them has to be chosen, and entries that are looked at for that.
const MAX_TAGS: usize = 20;
const MAX_ENTRIES: usize = 10_000;
/// The directory of a universal checkpoint, with one of each parameter in it.
const UNIVERSAL: &str = "zero";
/// What DeepSpeed leaves beside that.
pub(super) const SCRIPT: &str = "zero_to_fp32.py";

/// A directory of DeepSpeed's files.
#[derive(Debug)]
pub(super) struct DeepSpeed {
    directory: Directory,
    /// Whether it has the directory that `ds_to_universal` writes.
    is_universal: bool,
    /// Their names, sorted.
    files: Vec<String>,
    bytes: u64,
}

impl DeepSpeed {
    /// The checkpoint that a directory is or whose directory `latest` names there; `names` are the files in it. Nothing for
    /// directories of other kinds.
    pub(crate) fn of_directory(path: &Path, names: &[String]) -> Result<Option<Self>> {
        if names.iter().any(|name| is_deepspeed(name)) {
            return Self::of_files(path, names).map(Some);
        }
        match below(path, names)? {
            Some(tag) => {
                let inner = path.join(&tag);
                let names = super::file_names(&inner)?;
                Self::of_files(&inner, &names).map(Some)
            }
            None => Ok(None),
        }
    }

    fn of_files(path: &Path, names: &[String]) -> Result<Self> {
        Ok(DeepSpeed {
            directory: Directory::new(path),
            is_universal: files::is_dir(&path.join(UNIVERSAL)),
            files: names.iter().filter(|name| is_part(name)).cloned().collect(),
            bytes: directory::bytes(path)?,
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its files and their bytes.
    pub(crate) fn files(&mut self) -> Vec<(String, Result<SharedSource>)> {
        let file = |name: &String| (name.clone(), self.directory.file(name).map_err(Error::malformed));
        self.files.iter().map(file).collect()
    }

    /// Reads what all ranks' files say, and puts the weights together.
    pub(crate) fn open(mut self, limits: &Limits) -> Result<Checkpoint> {
        let names = Names::of(&self.files)?;
        if self.is_universal && names.optimizers.is_empty() {
            let message = format!("is a universal checkpoint of DeepSpeed ({UNIVERSAL}/), which is not put together");
            return Err(Error::unsupported(message).advise("name the directory that it was made of"));
        }
        let Some(first) = names.first_model().cloned() else {
            let message = "has no *_model_states.pt, which would say what its parameters are called";
            return Err(Error::malformed(message));
        };
        let checkpoint = open(&first, &self.source(&first)?, limits)?;
        let described = Described::read(&first, checkpoint.objects(), checkpoint.root)?;
        if described.groups.is_none() {
            return self.whole(&names, &first, checkpoint);
        }
        let ranks = self.ranks(&names, limits)?;
        let Some(stage) = ranks.first().map(|rank| rank.stage) else {
            let message = "has no *_optim_states.pt, which would hold the fp32 weights";
            return Err(Error::malformed(message).advise("name its *_model_states.pt for what the module holds"));
        };
        check_ranks(&ranks, &described)?;
        let frozen =
            if stage == 3 { self.parts(&names, &described, &checkpoint, ranks.len(), limits)? } else { Vec::new() };
        if let Some(other) = names.models.first().filter(|_| stage < 3) {
            return Err(left_over(other, &format!("ZeRO stage {stage} writes one file for all ranks")));
        }
        let astray = other_step(&ranks, &first, &described);
        let mut merge = Merge::new(&first, checkpoint, described)?;
        merge.buffers()?;
        match stage {
            3 => merge.frozen_parts(frozen)?,
            _ => merge.frozen_whole()?,
        }
        merge.trained(ranks)?;
        merge.shared();
        merge.others(stage)?;
        let mut checkpoint = merge.finish()?;
        checkpoint.notes.push("the optimizer's state is left aside: it stays in *_optim_states.pt".to_owned());
        checkpoint.left_aside.push("optimizer_state_dict".to_owned());
        if let Some(astray) = astray {
            checkpoint.notes.push(format!("{}: {}", astray.place, astray.message));
            checkpoint.oddities.push(astray);
        }
        Ok(checkpoint)
    }

    fn source(&mut self, file: &str) -> Result<SharedSource> {
        self.directory.file(file).map_err(Error::malformed)
    }

    /// A checkpoint whose optimizer was not partitioned: its one file holds all of it.
    fn whole(&self, names: &Names, first: &str, mut checkpoint: Checkpoint) -> Result<Checkpoint> {
        if let Some(other) = names.models.get(usize::from(names.whole.is_none())).or(names.optimizers.first()) {
            return Err(left_over(other, &format!("{first} names no parameters that others hold (param_shapes)")));
        }
        let module = reading::value(checkpoint.objects(), checkpoint.root, "module");
        if module.is_none() {
            return Err(wrong(first, "has no module: it is of a pipeline, whose layers are not put together"));
        }
        reading::becomes_several(&mut checkpoint);
        Ok(checkpoint)
    }

    /// What each rank has of the weights.
    fn ranks(&mut self, names: &Names, limits: &Limits) -> Result<Vec<Rank>> {
        let sources = names.optimizers.iter().map(|file| Ok((file, self.source(file)?))).collect::<Result<Vec<_>>>()?;
        let read: Vec<Result<Rank>> =
            sources.par_iter().map(|(file, source)| Rank::read(file, source, limits)).collect();
        read.into_iter().collect()
    }

    /// What each rank has of the frozen parameters, with stage 3; `first` is rank 0's file.
    fn parts(
        &mut self,
        names: &Names,
        described: &Described,
        first: &Checkpoint,
        ranks: usize,
        limits: &Limits,
    ) -> Result<Vec<(Arc<str>, Vec<Flat>)>> {
        if let Some(other) = &names.whole {
            return Err(left_over(other, "ZeRO stage 3 writes one file for each rank"));
        }
        if names.models.len() != ranks {
            let (models, message) = (names.models.len(), "files are there of");
            return Err(Error::malformed(format!(
                "{models} zero_pp_rank_*_model_states.pt {message} {ranks} ranks: some are missing, or left by another run"
            )));
        }
        let (zero, others) = names.models.split_first().ok_or_else(|| Error::malformed("has no rank"))?;
        let sources = others.iter().map(|file| Ok((file, self.source(file)?))).collect::<Result<Vec<_>>>()?;
        let read: Vec<Result<(Arc<str>, Vec<Flat>)>> = sources
            .par_iter()
            .map(|(file, source)| {
                let checkpoint = open(file, source, limits)?;
                let theirs = Described::read(file, checkpoint.objects(), checkpoint.root)?;
                described.agrees(zero, &theirs, file)?;
                Ok((file.as_str().into(), theirs.frozen_parts(file, &checkpoint)?))
            })
            .collect();
        let mut parts = vec![(zero.as_str().into(), described.frozen_parts(zero, first)?)];
        for part in read {
            parts.push(part?);
        }
        Ok(parts)
    }
}

/// Fails where the ranks' files are not those of one checkpoint.
fn check_ranks(ranks: &[Rank], described: &Described) -> Result<()> {
    let Some((first, others)) = ranks.split_first() else { return Ok(()) };
    others.iter().try_for_each(|rank| first.agrees(rank))?;
    let count = i64::try_from(ranks.len()).unwrap_or(i64::MAX);
    let most = first.counts.iter().max().copied().unwrap_or(count);
    if let Some(fewer) = first.counts.iter().find(|count| **count != most) {
        let message = format!(
            "{}: has groups that {fewer} and {most} ranks share, as expert-parallel ones, which are not put together",
            first.file
        );
        return Err(Error::unsupported(message));
    }
    if most != count {
        let file = &first.file;
        let message = format!("{file}: is of {most} ranks, and there are *_optim_states.pt of {count}");
        let why = if most > count { "some are missing" } else { "some were left by another run" };
        return Err(Error::malformed(format!("{message}: {why}")));
    }
    let agreed = described.agreed.iter().find(|(key, _)| *key == "dp_world_size");
    // ranks that share a sequence may count as one
    let is_other = |stated: i64| stated < 1 || count % stated != 0;
    if let Some((_, Some(stated))) = agreed.filter(|(_, stated)| stated.is_some_and(is_other)) {
        let message = format!("its *_model_states.pt is of {stated} ranks, and there are *_optim_states.pt of {count}");
        return Err(Error::malformed(message));
    }
    Ok(())
}

/// Optimizers that have taken other steps than the module: files of two checkpoints, unless the optimizers began later.
#[allow(clippy::cast_precision_loss)] // both sides are rounded alike
fn other_step(ranks: &[Rank], model: &str, described: &Described) -> Option<Oddity> {
    let number = |key: &str| described.agreed.iter().find(|(name, _)| *name == key).and_then(|(_, number)| *number);
    let skipped = number("skipped_steps").unwrap_or(0);
    let wanted = number("global_steps")?.checked_sub(skipped)? as f64;
    let rank = ranks.first()?;
    let taken = rank.steps().reduce(f64::max)?;
    let message =
        format!("its optimizer is at step {taken}, and {model} is at step {wanted}: they may be of two checkpoints");
    (taken != wanted).then(|| Oddity { code: "step-other", place: rank.file.to_string(), message })
}

fn left_over(file: &str, why: &str) -> Error {
    Error::malformed(format!("{file} is no part of the checkpoint: {why}")).advise("move it out of the directory")
}

/// The directory with DeepSpeed's files that `latest` names. Fails where that leads nowhere, and where there are such
/// directories and no `latest`.
fn below(path: &Path, names: &[String]) -> Result<Option<String>> {
    let has = |name: &str| names.iter().any(|found| found == name);
    let latest = path.join(LATEST);
    if has(LATEST) && files::len(&latest).is_some_and(|len| len <= MAX_LATEST_BYTES) {
        let tag = String::from_utf8(files::read(&latest, MAX_LATEST_BYTES)?).unwrap_or_default();
        let tag = tag.trim();
        if check_name(tag).is_ok() && is_tag(&path.join(tag)) {
            return Ok(Some(tag.to_owned()));
        }
        let tags = tags(path)?;
        if has(SCRIPT) || !tags.is_empty() {
            let there = if tags.is_empty() { "no such directory".to_owned() } else { tags.join(", ") };
            let what = if files::is_dir(&path.join(tag)) { "holds none of DeepSpeed's files" } else { "is not there" };
            let message = format!("its file {LATEST} names {tag:?}, which {what} (there is {there})");
            return Err(Error::malformed(message));
        }
        return Ok(None);
    }
    let tags = tags(path)?;
    match tags.first() {
        Some(first) => {
            let all = tags.join(", ");
            let message =
                format!("holds checkpoints of DeepSpeed ({all}), and no file {LATEST} that names one of them");
            Err(Error::not_a_checkpoint(message).advise(format!("name one, as {}", path.join(first).display())))
        }
        None => Ok(None),
    }
}

/// The directory of DeepSpeed's that `latest` names in a folder with weights of another kind.
pub(crate) fn beside(path: &Path, names: &[String]) -> Result<Option<String>> {
    if !names.iter().any(|name| name == LATEST) {
        return Ok(None);
    }
    // what leads nowhere is no matter there
    Ok(below(path, names).unwrap_or(None))
}

/// Whether a directory holds files that are called like DeepSpeed's.
fn is_tag(dir: &Path) -> bool {
    let Ok(entries) = files::list(dir) else { return false };
    entries.iter().any(|entry| is_deepspeed(&entry.name))
}

/// The first directories with DeepSpeed's files, sorted.
fn tags(path: &Path) -> Result<Vec<String>> {
    let mut tags = Vec::new();
    for entry in files::list(path)?.into_iter().take(MAX_ENTRIES) {
        if tags.len() < MAX_TAGS && entry.is_dir && !entry.is_link && is_tag(&path.join(&entry.name)) {
            tags.push(entry.name);
        }
    }
    Ok(tags)
}
