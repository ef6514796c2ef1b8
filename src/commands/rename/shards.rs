//! Renaming in Hugging Face shards: every shard keeps its tensors, the index gets the new names.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::edit::rules::Rules;
use crate::commands::progress_bar::Bar;
use crate::layout::{Layout, address};
use crate::limits::Limits;
use crate::source::{FileSource, SharedSource, url};
use crate::write::atomic::{Output, Target};
use crate::write::directory::NewDirectory;
use crate::write::rewrite::rewrite;

/// The index and the names of the shards of an input that is made of them; nothing for any other.
pub(super) fn of_input(input: &Path, limits: &Limits) -> anyhow::Result<Option<(PathBuf, Vec<String>)>> {
    if address(input).is_some() {
        return Ok(None);
    }
    Ok(Layout::of(input, limits)?.shards().map(|(index, shards)| (index.to_owned(), shards)))
}

/// How shards are renamed in.
pub(super) struct Job<'a> {
    pub rules: &'a Rules,
    /// Which names are meant.
    pub takes: Option<&'a dyn Fn(&str) -> bool>,
    /// What becomes of all names together.
    pub names: &'a HashMap<String, String>,
    /// Files that exist are replaced.
    pub force: bool,
    pub limits: &'a Limits,
    pub bar: &'a Bar,
}

impl Job<'_> {
    /// Writes all shards and their index into the directory `output`, which is made when it is not there. Gives the bytes
    /// written. Nothing has its name before all is written, the index is last.
    pub(super) fn write(&self, (index, shards): &(PathBuf, Vec<String>), output: &Path) -> anyhow::Result<u64> {
        let Job { rules, takes, names, force, limits, bar } = *self;
        let folder = index.parent().unwrap_or(Path::new(""));
        if output.as_os_str() == "-" {
            bail!("cannot write several files to standard output; name a directory with -o");
        }
        if let Some(url) = url(output) {
            return Err(url).with_context(|| output.display().to_string());
        }
        let made = output.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| NewDirectory::make(output));
        let _fresh = made.with_context(|| output.display().to_string())?;
        let target = |name: &Path| -> anyhow::Result<Target> {
            let path = output.join(name);
            let parent = path.parent().unwrap_or(output);
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
            Target::new(&path, force, Some(&folder.join(name))).with_context(|| path.display().to_string())
        };
        let index_name = PathBuf::from(index.file_name().unwrap_or_default());
        let targets = shards.iter().map(|name| target(Path::new(name))).collect::<anyhow::Result<Vec<_>>>()?;
        let index_target = target(&index_name)?;
        let mut outputs: Vec<Output> = Vec::new();
        for (name, target) in shards.iter().zip(&targets) {
            let path = folder.join(name);
            let shard = || -> crate::error::Result<Output> {
                let source: SharedSource = Arc::new(FileSource::open(&path)?);
                let mut checkpoint = Checkpoint::open(Arc::clone(&source), limits, bar)?;
                checkpoint.restore_aliases()?;
                let plan = checkpoint.plan_renames(&checkpoint.top(), rules, takes)?;
                let mut output = target.create()?;
                match plan.renames.is_empty() {
                    true => output.copy(source.as_ref(), 0, source.len(), &|_| ())?,
                    false => rewrite(&checkpoint, &plan, &mut output, bar)?,
                }
                Ok(output)
            };
            outputs.push(shard().with_context(|| path.display().to_string())?);
        }
        let text = fs::read_to_string(index).with_context(|| index.display().to_string())?;
        let mut last = index_target.create().with_context(|| index.display().to_string())?;
        last.write_all(&renamed_index(&text, names)?)?;
        outputs.push(last);
        let bytes = outputs.iter().map(Output::position).sum();
        outputs.into_iter().try_for_each(Output::commit).with_context(|| output.display().to_string())?;
        Ok(bytes)
    }
}

/// The index with other names, everything else in it as it was.
fn renamed_index(text: &str, new: &HashMap<String, String>) -> anyhow::Result<Vec<u8>> {
    let mut index: Map<String, Value> = serde_json::from_str(text)?;
    if let Some(Value::Object(weights)) = index.get_mut("weight_map") {
        let renamed = std::mem::take(weights).into_iter();
        *weights = renamed.map(|(name, shard)| (new.get(&name).cloned().unwrap_or(name), shard)).collect();
    }
    let mut out = serde_json::to_vec_pretty(&index)?;
    out.push(b'\n');
    Ok(out)
}
