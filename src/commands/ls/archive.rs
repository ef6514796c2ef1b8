//! What checkpoints an archive holds, for `ckpt ls ARCHIVE`.

use std::path::Path;

use anyhow::Context;

use crate::commands::input;
use crate::commands::listing::{Selection, list};
use crate::commands::output::say;
use crate::container::zip::DECRYPT;
use crate::layout::{Contained, Step, Walk};
use crate::limits::Limits;
use crate::operations::select::Filter;
use crate::report::file_bytes::file_bytes;
use crate::report::ls_archive::{ArchiveListing, ArchivedRow};
use crate::safety::glance::dangerous;

/// The checkpoints of an archive, each opened for its numbers.
pub(super) fn archive_listing(
    archive: &Path,
    name: String,
    bytes: u64,
    walk: Walk,
    limits: &Limits,
    quiet: bool,
) -> ArchiveListing {
    let (container, members) = (walk.kind, walk.members);
    let in_archive =
        |file: &str| file.strip_prefix(&name).and_then(|rest| rest.strip_prefix("::")).unwrap_or(file).to_owned();
    let unread = |file: String, problem: String| ArchivedRow {
        name: in_archive(&file),
        file_bytes: file_bytes(&input::path_of(archive, &file)),
        file,
        problem: Some(problem),
        ..ArchivedRow::default()
    };
    let rows = walk.map(|step| match step {
        Step::Checkpoint(contained) => match numbers(archive, &contained, limits, quiet) {
            Ok(row) => ArchivedRow { name: in_archive(&contained.name), ..row },
            Err(e) => {
                let said = e.chain().skip(1).map(ToString::to_string).collect::<Vec<_>>().join(": ");
                ArchivedRow { bytes: Some(contained.bytes), ..unread(contained.name, said) }
            }
        },
        Step::Encrypted(file) => ArchivedRow { is_encrypted: true, ..unread(file, format!("is encrypted; {DECRYPT}")) },
        Step::Unreadable(file, e) => unread(file, e.to_string()),
    });
    let checkpoints = rows.collect();
    ArchiveListing {
        schema: ArchiveListing::SCHEMA,
        file: name,
        file_bytes: file_bytes(archive),
        container,
        bytes,
        checkpoints,
        members,
    }
}

fn numbers(archive: &Path, contained: &Contained, limits: &Limits, quiet: bool) -> anyhow::Result<ArchivedRow> {
    let opened = input::open_contained(archive, contained, limits, quiet)?;
    let checkpoint = &opened.checkpoint;
    let root = checkpoint.top();
    let found = checkpoint.names(&root).with_context(|| opened.name.clone())?;
    let selection = Selection { root: &root, filter: &Filter::default(), tensors: true, values: false };
    let listed =
        list(checkpoint, found, &opened.name, opened.bytes, &selection).with_context(|| opened.name.clone())?;
    let totals = listed.listing.totals;
    if let Some((global, why)) = dangerous(&checkpoint.graph) {
        say_danger(quiet, &opened.name, &global, why);
    }
    Ok(ArchivedRow {
        file: opened.name,
        file_bytes: opened.name_bytes,
        container: Some(listed.listing.container),
        tensors: Some(totals.tensors),
        parameters: Some(totals.parameters),
        bytes: Some(contained.bytes),
        ..ArchivedRow::default()
    })
}

/// A note for people who look at a file before they load it.
pub(super) fn say_danger(quiet: bool, file: &str, global: &str, why: &str) {
    if !quiet {
        say(format_args!(
            "{file}: dangerous: names {global}, which {why}; loading the file would run it (`ckpt check`)"
        ));
    }
}
