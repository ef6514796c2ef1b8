//! `FILE::member`: a checkpoint in an archive, or in an archive in an archive, named like a file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::grouped;
use super::inside::{self, SEPARATOR, quoted};
use super::outer::Outer;
use crate::container::archive::{Archive, Contents};
use crate::container::detect::{Framing, detect};
use crate::container::zip::{Flavor, Zip};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::source::{SharedSource, files};

/// Archives in archives that are opened for one name.
pub(super) const MAX_NESTED: usize = 16;

/// A name taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The file, or `-`.
    pub file: PathBuf,
    /// The member, maybe with further ones behind it.
    pub member: String,
}

/// Takes `FILE::member` apart; nothing where the name is that of a file, or no part before a `::` is one.
pub(crate) fn address(name: &Path) -> Option<Address> {
    let bytes = name.as_os_str().as_encoded_bytes();
    if !bytes.windows(SEPARATOR.len()).any(|window| window == SEPARATOR.as_bytes()) || name.symlink_metadata().is_ok() {
        return None;
    }
    let places = bytes.windows(SEPARATOR.len()).enumerate().rev();
    places.filter(|(_, window)| *window == SEPARATOR.as_bytes()).find_map(|(at, _)| {
        let (file, member) = (bytes.get(..at)?, bytes.get(at + SEPARATOR.len()..)?);
        let file = PathBuf::from(os_str(file)?);
        let member = String::from_utf8_lossy(member).into_owned();
        (file.as_os_str() == "-" || files::is_remote(&file) || file.exists()).then_some(Address { file, member })
    })
}

impl Address {
    /// The bytes of the file; not of standard input.
    pub(crate) fn open(&self) -> Result<SharedSource> {
        if !files::is_remote(&self.file) && self.file.is_dir() {
            let path = quoted(&self.file.join(&self.member).display().to_string());
            return Err(Error::unsupported(format!("is in a directory, which is no archive; name the file as {path}")));
        }
        files::open(&self.file)
    }
}

#[cfg(unix)]
fn os_str(bytes: &[u8]) -> Option<&OsStr> {
    Some(std::os::unix::ffi::OsStrExt::from_bytes(bytes))
}

#[cfg(not(unix))]
fn os_str(bytes: &[u8]) -> Option<&OsStr> {
    std::str::from_utf8(bytes).ok().map(OsStr::new)
}

/// What a member is.
#[derive(Debug)]
pub(super) enum Found {
    /// A file.
    File(Contents),
    /// The member of this number, which is the index of a checkpoint of several.
    Group { archive: Arc<Archive>, index: usize },
    /// An archive without a file of its own, or the pickle of this number in one of torch.package.
    Archive { zip: Arc<Zip>, pickle: Option<usize>, limits: Limits },
}

/// Finds the member `wanted` of an archive that people know as `shown`. Fails with `NotACheckpoint` for what is no archive
/// and for a member that is not there, with the names of the checkpoints that are. `outer` gets the members on the way.
pub(super) fn find(
    contents: Contents,
    shown: &str,
    wanted: &str,
    outer: &mut Vec<Outer>,
    progress: &dyn Progress,
) -> Result<Found> {
    let (mut contents, mut shown, mut rest) = (contents, shown.to_owned(), wanted);
    for _ in 0..MAX_NESTED {
        let archive = Archive::open(&contents, progress)?
            .ok_or_else(|| Error::not_a_checkpoint(format!("{} is neither a zip nor a tar archive", quoted(&shown))))?;
        let archive = Arc::new(archive);
        let Some((index, name, after)) = longest(&archive, rest) else {
            // the folder of an empty name is the archive itself
            let index = if rest.is_empty() { None } else { grouped::index_of_folder(&archive, rest)? };
            if let Some(index) = index {
                outer.extend(grouped::parts(&archive, index).into_iter().map(|part| Outer::new(&archive, part, None)));
                return Ok(Found::Group { archive, index });
            }
            return unpacked(&archive, rest)?.ok_or_else(|| inside::no_member(&archive, &shown, rest));
        };
        if after.is_none()
            && let Some(found) = part_of_archive(&archive, index, name)?
        {
            return Ok(found);
        }
        contents = archive.contents(index)?;
        let Some(after) = after else {
            if name.rsplit('/').next() == Some(super::DCP_INDEX)
                || matches!(detect(contents.source.as_ref()), Ok(Framing::ShardIndex))
            {
                outer.extend(grouped::parts(&archive, index).into_iter().map(|part| Outer::new(&archive, part, None)));
                return Ok(Found::Group { archive, index });
            }
            outer.push(Outer::new(&archive, index, Some(&contents.source)));
            return Ok(Found::File(contents));
        };
        outer.push(Outer::new(&archive, index, Some(&contents.source)));
        shown = format!("{shown}{SEPARATOR}{name}");
        rest = after;
    }
    Err(Error::limit(format!("archives nest more than {MAX_NESTED} deep")))
}

/// The member whose name is the longest beginning of `rest` before a `::`, as names may hold one: its place, its name and
/// what follows.
fn longest<'a>(archive: &Archive, rest: &'a str) -> Option<(usize, &'a str, Option<&'a str>)> {
    let whole = archive.find(rest).map(|index| (index, rest, None));
    let mut places = rest.rmatch_indices(SEPARATOR);
    whole.or_else(|| {
        places.find_map(|(at, _)| {
            let (name, after) = (rest.get(..at)?, rest.get(at + SEPARATOR.len()..)?);
            Some((archive.find(name)?, name, Some(after)))
        })
    })
}

/// A folder that is an unpacked archive.
pub(super) fn unpacked(archive: &Archive, folder: &str) -> Result<Option<Found>> {
    if let Some(zip) = archive.zip().filter(|zip| matches!(zip.flavor(), Ok(Flavor::Package))) {
        // relative to the top folder, as torch.package names its resources
        if let Some(index) = zip.position(&format!("{}/{folder}", zip.top())) {
            return Ok(packaged(archive, zip, index));
        }
    }
    let Some(zip) = archive.folder(folder)? else { return Ok(None) };
    match zip.flavor() {
        Ok(_) => Ok(Some(Found::Archive { zip: Arc::new(zip), pickle: None, limits: archive.limits().clone() })),
        Err(e) if e.kind() == ErrorKind::NotACheckpoint => Ok(None),
        Err(e) => Err(e),
    }
}

/// The pickle of a torch.package archive, where the member is not source code.
fn packaged(archive: &Archive, zip: &Arc<Zip>, index: usize) -> Option<Found> {
    let found = Found::Archive { zip: Arc::clone(zip), pickle: Some(index), limits: archive.limits().clone() };
    zip.members.get(index).filter(|member| !member.name.ends_with(".py")).map(|_| found)
}

/// A pickle that means nothing without the members beside it: of a torch.package archive, or of an unpacked one.
fn part_of_archive(archive: &Archive, index: usize, name: &str) -> Result<Option<Found>> {
    if let Some(zip) = archive.zip().filter(|zip| matches!(zip.flavor(), Ok(Flavor::Package))) {
        return Ok(packaged(archive, zip, index));
    }
    let folder = match name.rsplit_once('/') {
        Some((folder, "data.pkl")) => folder,
        None if name == "data.pkl" => "",
        _ => return Ok(None),
    };
    unpacked(archive, folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_exists_wins() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        std::fs::write(place("a.zip"), "").unwrap();
        std::fs::write(place("b::c.zip"), "").unwrap();
        let split = |name: &str| address(&place(name)).map(|found| (found.file, found.member));
        assert_eq!(split("b::c.zip"), None);
        assert_eq!(split("none::c.zip"), None);
        assert_eq!(split("a.zip"), None);
        assert_eq!(split("a.zip::x/y.pt"), Some((place("a.zip"), "x/y.pt".into())));
        assert_eq!(split("a.zip::b.zip::c.pt"), Some((place("a.zip"), "b.zip::c.pt".into())));
        assert_eq!(split("b::c.zip::d.pt"), Some((place("b::c.zip"), "d.pt".into())));
        assert_eq!(split("a.zip::"), Some((place("a.zip"), String::new())));
        assert_eq!(address(Path::new("-::a.pt")).unwrap().file, Path::new("-"));
    }
}
