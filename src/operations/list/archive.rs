//! What checkpoints an archive holds.

use std::path::Path;

use super::{Options, danger, listing};
use crate::container::zip::DECRYPT;
use crate::error::Result;
use crate::layout::{Contained, Step};
use crate::limits::Limits;
use crate::message::Voice;
use crate::operations::Note;
use crate::operations::open::{ArchiveInput, open_contained, path_of};
use crate::operations::select::Filter;
use crate::progress::Progress;
use crate::report::file_bytes::file_bytes;
use crate::report::ls_archive::{ArchiveListing, ArchivedRow};

/// The checkpoints of an archive, each opened for its numbers. The report calls settings as `voice` has them.
pub(crate) fn list_archive(
    archive: &mut ArchiveInput,
    limits: &Limits,
    voice: Voice,
    progress: &dyn Progress,
) -> ArchiveListing {
    let ArchiveInput { path, bytes, walk } = archive;
    let file = path.display().to_string();
    let (container, members) = (walk.kind, walk.members);
    let in_archive =
        |name: &str| name.strip_prefix(&file).and_then(|rest| rest.strip_prefix("::")).unwrap_or(name).to_owned();
    let unread = |file: String, problem: String| ArchivedRow {
        name: in_archive(&file),
        file_bytes: file_bytes(&path_of(path, &file)),
        file,
        problem: Some(problem),
        ..ArchivedRow::default()
    };
    let mut notes = Vec::new();
    let rows = walk.map(|step| match step {
        Step::Checkpoint(found) => match numbers(path, &found, limits, progress) {
            Ok((row, note)) => {
                notes.extend(note);
                ArchivedRow { name: in_archive(&found.name), ..row }
            }
            Err(e) => ArchivedRow { bytes: Some(found.bytes), ..unread(found.name, e.spoken(voice)) },
        },
        Step::Encrypted(file) => ArchivedRow { is_encrypted: true, ..unread(file, format!("is encrypted; {DECRYPT}")) },
        Step::Unreadable(file, e) => unread(file, e.spoken(voice)),
    });
    let checkpoints = rows.collect();
    let file_bytes = file_bytes(path);
    let schema = ArchiveListing::SCHEMA;
    ArchiveListing { schema, file, file_bytes, container, bytes: *bytes, checkpoints, members, notes }
}

fn numbers(
    archive: &Path,
    found: &Contained,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(ArchivedRow, Option<Note>)> {
    let opened = open_contained(archive, found, limits, progress)?;
    let root = opened.checkpoint.top();
    let names = opened.checkpoint.names(&root)?;
    let only_tensors = Options { values: false, ..Options::default() };
    let (container, totals) = {
        let listing = listing(&opened, &root, names, &Filter::default(), &only_tensors)?;
        (listing.container, listing.totals)
    };
    let note = danger(&opened);
    let row = ArchivedRow {
        file: opened.name,
        file_bytes: opened.name_bytes,
        container: Some(container),
        tensors: Some(totals.tensors),
        parameters: Some(totals.parameters),
        bytes: Some(found.bytes),
        ..ArchivedRow::default()
    };
    Ok((row, note))
}
