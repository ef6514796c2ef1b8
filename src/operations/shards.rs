//! An edit of Hugging Face shards: every shard keeps its tensors, the index gets their new names.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::message::Note;
use crate::operations::change::Edit;
use crate::operations::occupied::{self, is_directory_name, is_read_by, stale};
use crate::operations::sink::Sink;
use crate::progress::Progress;
use crate::source::{FileSource, SharedSource, address};
use crate::write::atomic::{Output, is_same_file};
use crate::write::directory::NewDirectory;
use crate::write::indexed;
use crate::write::rewrite::rewrite;

/// How shards are edited.
pub(super) struct Job<'a> {
    pub edit: Option<&'a dyn Edit>,
    /// All of them together.
    pub checkpoint: &'a Checkpoint,
    /// Files that exist are replaced.
    pub force: bool,
    pub progress: &'a dyn Progress,
}

/// A path in what goes wrong there.
fn at<T, E: Into<Error>>(path: &Path, result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|e| e.into().of_output(&path.display().to_string()))
}

impl Job<'_> {
    /// Writes all shards and their index into `directory`, which is made when it is not there. Gives the bytes written,
    /// and what there is to know.
    /// Nothing has its name before all is written, the index is last.
    pub(super) fn write(&self, index: &Path, shards: &[String], directory: &Path) -> Result<(u64, Option<Note>)> {
        let folder = index.parent().unwrap_or(Path::new(""));
        is_directory_name(directory)?;
        if let Some(url) = address::not_written(directory) {
            return at(directory, Err(url));
        }
        let index_name = index.file_name().unwrap_or_default();
        is_read_by(directory, &index_name.to_string_lossy())?;
        let is_input = is_same_file(directory, if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let stale = if is_input { Vec::new() } else { stale(directory, shards, self.force, None)? };
        let made = directory.parent().map_or(Ok(()), fs::create_dir_all);
        let _fresh = at(directory, made.and_then(|()| NewDirectory::make(directory)))?;
        let sink = |name: &Path| {
            let path = directory.join(name);
            let parent = path.parent().unwrap_or(directory);
            at(parent, fs::create_dir_all(parent))?;
            Sink::new(&path, self.force, Some(&folder.join(name)))
        };
        let sinks = shards.iter().map(|name| sink(Path::new(name))).collect::<Result<Vec<_>>>()?;
        let last = sink(Path::new(index_name))?;
        let mut outputs: Vec<(String, Output)> = Vec::new();
        for (name, sink) in shards.iter().zip(&sinks) {
            let path = folder.join(name);
            let output = self.shard(&path, sink).map_err(|e| e.of_input(&path.display().to_string()))?;
            outputs.push((sink.name.clone(), output));
        }
        let output = self.index(index, &last).map_err(|e| e.of_input(&index.display().to_string()))?;
        outputs.push((last.name.clone(), output));
        let written = indexed::commit(Some(&last.target), outputs)?;
        let note = occupied::remove(&stale, &directory.display().to_string())?;
        Ok((written.into_iter().map(|(_, bytes)| bytes).sum(), note))
    }

    fn shard(&self, path: &Path, sink: &Sink) -> Result<Output> {
        let source: SharedSource = Arc::new(FileSource::open(path)?);
        let mut checkpoint = Checkpoint::open(Arc::clone(&source), &self.checkpoint.limits, self.progress)?;
        checkpoint.restore_aliases()?;
        let change = self.edit.map_or(Ok(None), |edit| edit.change_in_shard(&checkpoint))?;
        let mut output = sink.target.create().map_err(|e| e.of_output(&sink.name))?;
        match change {
            None => output.copy(source.as_ref(), 0, source.len(), &|_| ())?,
            Some(change) => rewrite(&checkpoint, &change, &mut output, self.progress)?,
        }
        Ok(output)
    }

    /// The index with other names, everything else in it as it was.
    fn index(&self, path: &Path, sink: &Sink) -> Result<Output> {
        let malformed = |e: serde_json::Error| Error::from(std::io::Error::from(e));
        let mut index: Map<String, Value> = serde_json::from_str(&fs::read_to_string(path)?).map_err(malformed)?;
        if let Some(Value::Object(weights)) = index.get_mut("weight_map") {
            let renamed = std::mem::take(weights).into_iter();
            let renamed = renamed.map(|(name, shard)| {
                match self.edit.and_then(|edit| edit.name_in_index(self.checkpoint, &name)) {
                    Some(new) => (new.to_owned(), shard),
                    None => (name, shard),
                }
            });
            *weights = renamed.collect();
        }
        let mut text = serde_json::to_vec_pretty(&index).map_err(malformed)?;
        text.push(b'\n');
        let mut output = sink.target.create()?;
        output.write_all(&text)?;
        Ok(output)
    }
}
