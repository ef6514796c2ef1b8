//! Several files and the index that says that they are whole: the old index goes before the first of them gets its name, the
//! new one comes last. Whatever interrupts that leaves no index over files of two kinds.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Setting;
use crate::write::atomic::{Output, Target, directory, sync_directory};

/// Gives complete outputs their names, in order, but that of the index at `index` last. Gives what people call each, and
/// how many bytes it has.
pub(crate) fn commit(index: Option<&Target>, mut outputs: Vec<(String, Output)>) -> Result<Vec<(String, u64)>> {
    let index = index.and_then(Target::path);
    outputs.sort_by_key(|(_, output)| index.is_some() && output.path() == index);
    if let Some(index) = index
        && outputs.first().is_some_and(|(_, output)| output.path() != Some(index))
    {
        remove(index).map_err(|e| e.of_output(&index.display().to_string()))?;
    }
    let mut done = Vec::with_capacity(outputs.len());
    for (name, output) in outputs {
        let bytes = output.position();
        output.commit().map_err(|e| {
            let e = if e.kind() == ErrorKind::Io { e.of_output(&name) } else { e };
            match index.filter(|_| !done.is_empty()) {
                Some(_) => e.advise(Setting::Force.then(" completes what is written in part")),
                None => e,
            }
        })?;
        done.push((name, bytes));
    }
    Ok(done)
}

/// Removes a file that may be there, for good: no loss of power brings it back.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::from(e)),
        Ok(()) => sync_directory(directory(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const NAMES: [&str; 4] = ["one", "index", "two", "three"];

    fn outputs(dir: &Path) -> Vec<(String, Output)> {
        let output = |name: &&str| {
            let mut output = Target::new(&dir.join(name), true, None).unwrap().create().unwrap();
            output.write_all(b"new").unwrap();
            ((*name).to_owned(), output)
        };
        NAMES.iter().map(output).collect()
    }

    /// A name that cannot be given stands for whatever stops the work there.
    #[test]
    fn no_index_stands_over_files_of_two_kinds() {
        for broken in NAMES {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            NAMES.iter().for_each(|name| fs::write(path(name), "old").unwrap());
            let index = Target::new(&path("index"), true, None).unwrap();
            let outputs = outputs(dir.path());
            fs::remove_file(path(broken)).unwrap();
            fs::create_dir(path(broken)).unwrap();
            let e = commit(Some(&index), outputs).unwrap_err();
            assert!(!path("index").is_file(), "{broken}: {e}");
            let advice = e.advice().map(ToString::to_string).unwrap_or_default();
            assert_eq!(advice.contains("completes"), ["two", "three"].contains(&broken), "{broken}: {e}");
        }
    }

    #[test]
    fn the_index_comes_last() {
        let dir = tempfile::tempdir().unwrap();
        let index = Target::new(&dir.path().join("index"), true, None).unwrap();
        let done = commit(Some(&index), outputs(dir.path())).unwrap();
        assert_eq!(done, ["one", "two", "three", "index"].map(|name| (name.to_owned(), 3)));
        let alone = outputs(dir.path()).into_iter().filter(|(name, _)| name == "index").collect();
        fs::write(dir.path().join("index"), "old").unwrap();
        commit(Some(&index), alone).unwrap();
        assert_eq!(fs::read(dir.path().join("index")).unwrap(), b"new");
    }
}
