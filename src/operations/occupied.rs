//! What lies already in a directory that shards go to: it must not be read instead of them; shards of an older cut go once
//! the new index is there.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::layout::{hides, parts_of_shard};
use crate::message::{Note, Setting};
use crate::report::figures::some_of;
use crate::write::atomic::is_same_file;

/// Refuses `-` where a directory is meant.
pub(super) fn is_directory_name(path: &Path) -> Result<()> {
    if path.as_os_str() != "-" {
        return Ok(());
    }
    Err(Error::refused("cannot write several files to standard output").advise("name a directory"))
}

/// Fails where a directory would be read as something else although it had this index.
pub(super) fn is_read_by(directory: &Path, index: &str) -> Result<()> {
    let of_output = |e: Error| e.of_output(&directory.display().to_string());
    match directory.is_dir() {
        true => match hides(directory, index).map_err(of_output)? {
            None => Ok(()),
            Some(other) => {
                let message = format!("holds {other}, which would be read instead of the new shards");
                Err(of_output(Error::refused(message).advise("name another directory")))
            }
        },
        false => Ok(()),
    }
}

/// The files that are called like these shards and are none of them. Fails for such without `force`, and where one is the
/// input.
pub(super) fn stale(directory: &Path, shards: &[String], force: bool, input: Option<&Path>) -> Result<Vec<PathBuf>> {
    let refused = |message: String, advice| {
        Err(Error::refused(message).advise(advice).of_output(&directory.display().to_string()))
    };
    let kinds: Vec<_> = shards.iter().filter_map(|name| parts_of_shard(name)).collect();
    // one that cannot be read is made or refused later
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut stale: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    stale.retain(|name| parts_of_shard(name).is_some_and(|kind| kinds.contains(&kind)) && !shards.contains(name));
    stale.sort();
    let is_input = |name: &&String| input.is_some_and(|input| is_same_file(input, &directory.join(name)));
    if let Some(input) = stale.iter().find(is_input) {
        let message = format!("{input}, the input, is called like a shard and would go");
        return refused(message, "name another directory".into());
    }
    if !stale.is_empty() && !force {
        let are = if stale.len() == 1 { "a shard" } else { "shards" };
        let message = format!("holds {are} of another number: {}", some_of(stale.into_iter()));
        return refused(message, Setting::Force.then(" removes them"));
    }
    Ok(stale.into_iter().map(|name| directory.join(name)).collect())
}

/// Removes what the new index does not name, and says so.
pub(super) fn remove(stale: &[PathBuf], output: &str) -> Result<Option<Note>> {
    for path in stale {
        fs::remove_file(path).map_err(|e| Error::from(e).of_output(&path.display().to_string()))?;
    }
    let names = stale.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
    let names: Vec<String> = names.collect();
    let what = if names.len() == 1 { "it" } else { "them" };
    let said = || format!("removed, as the new index does not name {what}: {}", some_of(names.iter().cloned()));
    Ok((!names.is_empty()).then(|| Note::new(output, said())))
}
