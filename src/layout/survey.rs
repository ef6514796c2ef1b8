//! What lies in one directory: which of its files make a checkpoint of several, for who looks through a tree of them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::dcp::Dcp;
use super::sharded::Sharded;
use super::{DCP_DATA, DCP_INDEX, SAFETENSORS, deepspeed, file_names, folder, ranks, unpacked};
use crate::error::Result;
use crate::limits::Limits;
use crate::source::files;

/// What lies in one directory, for who looks through a tree of them.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Checkpoints of several files: the directory itself, or its indexes where it has more than one.
    pub checkpoints: Vec<PathBuf>,
    /// Files that are parts of those.
    pub parts: HashSet<OsString>,
    /// Whether everything below is part of them.
    pub is_whole: bool,
}

/// Looks for checkpoints of several files in a directory.
pub(crate) fn survey(path: &Path, limits: &Limits) -> Result<Survey> {
    let mut survey = Survey::default();
    let names = file_names(path)?;
    if unpacked::is_unpacked(path) {
        survey.checkpoints.push(path.to_owned());
        survey.parts.extend(names.into_iter().map(OsString::from));
        survey.is_whole = true;
        return Ok(survey);
    }
    if ranks::is_megatron(path) {
        // its files lie in directories below
        survey.checkpoints.push(path.to_owned());
        survey.is_whole = true;
        return Ok(survey);
    }
    for name in names.iter().filter(|name| folder::is_index(name)) {
        // an index that cannot be read is listed as a file, and the error with it
        let index = path.join(name);
        let opened = files::open(&index).and_then(|file| Sharded::of_index(&index, &file, limits));
        if let Ok(sharded) = opened {
            survey.parts.extend(sharded.shards().into_iter().chain([name.as_str()]).map(OsString::from));
            survey.checkpoints.push(index);
        }
    }
    let ranks: Vec<&String> = names.iter().filter(|name| name.ends_with(SAFETENSORS)).collect();
    if survey.checkpoints.is_empty() && matches!(Dcp::of_ranks(path, &ranks, limits), Ok(Some(_))) {
        survey.parts.extend(ranks.into_iter().map(OsString::from));
        survey.checkpoints.push(path.to_owned());
    }
    if names.iter().any(|name| deepspeed::is_deepspeed(name)) && deepspeed::are_put_together(&names) {
        survey.parts.extend(names.iter().filter(|name| deepspeed::is_part(name)).map(OsString::from));
        survey.checkpoints.push(path.to_owned());
    }
    if survey.checkpoints.is_empty() && !names.iter().any(|name| name == DCP_INDEX) {
        for (pattern, files) in ranks::survey(&names) {
            survey.parts.extend(files.into_iter().map(OsString::from));
            survey.checkpoints.push(pattern.map_or_else(|| path.to_owned(), |pattern| path.join(pattern)));
        }
        if !survey.checkpoints.is_empty() {
            return Ok(survey);
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
