//! How the command line calls what the library names: a setting by its flag.

use std::io;
use std::path::Path;

use crate::checkpoint::near::near;
use crate::error::Error;
use crate::message::Setting;
use crate::report::shell::quoted;

/// Names in a directory that are looked at for one that was meant.
const MAX_ENTRIES: usize = 10_000;

/// The flag that a setting has.
pub(crate) fn flag(setting: Setting) -> String {
    match setting {
        Setting::Output => "-o FILE".to_owned(),
        other => format!("--{}", other.name().replace('_', "-")),
    }
}

/// An error with everything that it is about, on one line.
pub(crate) fn worded(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| match cause.downcast_ref::<Error>() {
        Some(ours) => ours.spoken(flag),
        None => cause.to_string(),
    });
    let said = causes.collect::<Vec<_>>().join(": ");
    let missing = error.chain().find_map(|cause| cause.downcast_ref::<Error>()).filter(|e| e.output().is_none());
    let missing = missing.filter(|e| e.io_kind() == Some(io::ErrorKind::NotFound)).and_then(Error::input);
    match missing.and_then(near_file) {
        Some(near) => format!("{said}; did you mean `{}`?", quoted(&near)),
        None => said,
    }
}

/// A file beside one that does not exist, of nearly the same name.
fn near_file(missing: &str) -> Option<String> {
    let path = Path::new(missing);
    let (name, folder) = (path.file_name()?.to_str()?, path.parent()?);
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(here).ok()?.take(MAX_ENTRIES);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    // a model without its extension is a model
    let with_extension = names.iter().find(|other| Path::new(other).file_stem().is_some_and(|stem| stem == name));
    let near = with_extension.cloned().or_else(|| near(name, names.iter().map(String::as_str)).into_iter().next())?;
    let is_file = here.join(&near).exists();
    is_file.then(|| folder.join(near).display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn an_error_is_told_with_flags() {
        let e = anyhow::Error::new(Error::limit("objects nest too deep").at(7).allowed_by(Setting::MaxDepth));
        assert_eq!(worded(&e.context("a.pt")), "a.pt: objects nest too deep (byte 7); --max-depth allows more");
        assert_eq!(flag(Setting::Output), "-o FILE");
    }
}
