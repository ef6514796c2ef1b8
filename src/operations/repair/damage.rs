//! What is wrong with a file, and what nobody can say of it.

use std::sync::Arc;

use crate::checkpoint::{Checkpoint, Container};
use crate::container::compress::Compression;
use crate::container::crlf;
use crate::container::zip::Member;
use crate::error::{ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::report::figures::counted;
use crate::safety::weights_only::container_reasons;
use crate::source::SharedSource;

/// Why nobody can say whether the numbers in a file are those that were written.
pub(super) fn unverified(checkpoint: &Checkpoint) -> Option<String> {
    let values = "values that were changed cannot be told from right ones";
    // a compressed file as a whole has one, but in the oldest form
    if checkpoint.compression().is_some_and(|compression| compression != Compression::Lzma) {
        return None;
    }
    let Some(zip) = checkpoint.zip() else {
        return Some(format!("{} files have no checksums: {values}", checkpoint.container().name()));
    };
    if !zip.salvaged_byte_order().1 {
        return Some("the numbers may be those of the other byte order".to_owned());
    }
    let is_without = |member: &&Member| member.size > 0 && member.crc32 == 0 && member.doubt.is_none();
    let without = zip.members.iter().filter(is_without).count() as u64;
    (without > 0).then(|| format!("{} of the archive have no checksums: {values}", counted(without, "member")))
}

/// What is wrong with an archive beside its tensors.
pub(super) fn beside_tensors(checkpoint: &Checkpoint) -> Vec<String> {
    let Some(zip) = checkpoint.zip() else { return Vec::new() };
    let storages = match zip.top() {
        "" => "data/".to_owned(),
        top => format!("{top}/data/"),
    };
    let told = zip.members.iter().filter(|member| !member.name.starts_with(&storages));
    let told = told.filter_map(|member| Some(format!("{}: {}", member.name, member.doubt.as_deref()?)));
    zip.damage.iter().cloned().chain(told).collect()
}

/// Why the file does not open as it is, here or in torch.
pub(super) fn refused(source: &SharedSource, limits: &Limits, progress: &dyn Progress) -> Result<Vec<String>> {
    let opened = match Checkpoint::open(Arc::clone(source), limits, progress) {
        Err(e) if e.kind() == ErrorKind::Io => return Err(e),
        Err(e) => return Ok(vec![e.to_string()]),
        Ok(opened) => opened,
    };
    let zip = opened.zip().filter(|_| matches!(opened.container(), Container::Zip | Container::TorchScript));
    let reasons = zip.map_or(Ok(Vec::new()), |zip| container_reasons(zip))?;
    Ok(reasons.into_iter().map(|reason| reason.detail).collect())
}

/// A file as it was before a transfer as text.
pub(super) struct Restored {
    pub source: SharedSource,
    /// What is said of it.
    pub notes: Vec<String>,
    /// Whether checksums prove it.
    pub verified: bool,
}

/// The file as it was before a transfer as text, when it is whole then.
pub(super) fn before_transfer(
    source: &SharedSource,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Option<Restored>> {
    for (what, source) in crlf::undone(source)? {
        if let Some(is_whole) = crlf::is_whole_archive(&source, limits)? {
            if is_whole {
                let notes = vec![format!("{what}; with that undone every checksum is right")];
                return Ok(Some(Restored { source, notes, verified: true }));
            }
            continue;
        }
        // without checksums, that all lengths are right and nothing is left over
        let opened = match Checkpoint::open(Arc::clone(&source), limits, progress) {
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            Ok(opened) if opened.notes.is_empty() && opened.compression().is_none() => opened,
            _ => continue,
        };
        let has_lengths = matches!(opened.container(), Container::Legacy | Container::Safetensors | Container::Pickle);
        if has_lengths && opened.lost()?.is_empty() {
            let mut notes = vec![format!("{what}; with that undone every length is right")];
            notes.extend(unverified(&opened));
            return Ok(Some(Restored { source, notes, verified: false }));
        }
    }
    Ok(None)
}
