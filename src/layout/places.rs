//! Whether the files of several ranks are in their places.
//!
//! `torch.save` names the folder in its archive after the file that it writes (`caffe2/serialize/inline_container.cc`): a file
//! that was saved under the name of another rank has changed places with it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::container::zip::Zip;
use crate::error::{Error, Result};

/// A file of a rank: its name, and the archive that it is.
pub(super) type Placed<'a> = (&'a str, Option<&'a Arc<Zip>>);

/// What `torch.save` calls the folder in the archive that it writes under this name.
pub(super) fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// Fails where a file was saved under the name of another one of these.
pub(super) fn check_names<'a>(files: impl Iterator<Item = Placed<'a>> + Clone) -> Result<()> {
    let names: HashMap<&str, &str> = files.clone().map(|(name, _)| (stem(name), name)).collect();
    for (name, zip) in files {
        let saved = zip.map_or("", |zip| zip.top());
        if let Some(other) = names.get(saved).filter(|_| saved != stem(name)) {
            return Err(changed(name, other));
        }
    }
    Ok(())
}

/// The error for a file that was saved as another.
pub(super) fn changed(name: &str, other: &str) -> Error {
    Error::malformed(format!("{name} was saved as {other}: files of ranks have changed places"))
}

/// Fails where a file is a copy of another one, of ranks that each have their own part.
pub(super) fn check_copies<'a>(files: impl Iterator<Item = Placed<'a>>) -> Result<()> {
    let mut seen: HashMap<Vec<(&str, u32, u64)>, &str> = HashMap::new();
    for (name, zip) in files {
        let Some(zip) = zip else { continue };
        let top = zip.top();
        let inside = |name: &'a str| name.strip_prefix(top).unwrap_or(name);
        let mut members: Vec<(&str, u32, u64)> =
            zip.members.iter().map(|member| (inside(&member.name), member.crc32, member.size)).collect();
        members.sort_unstable();
        if let Some(other) = seen.insert(members, name) {
            return Err(Error::malformed(format!(
                "{name} is a copy of {other}, where each rank has a part of its own"
            )));
        }
    }
    Ok(())
}
