//! An archive of checkpoints: what belongs to it and to none of the checkpoints in it.

use std::collections::HashSet;
use std::path::Path;

use rayon::prelude::*;

use super::examine::{Examined, examine, examine_one, examine_several, weights_only};
use super::finding::{Finding, Severity};
use super::integrity::{Depth, checksums_of};
use super::scan::{LIBRARIES, LIBRARY_STARTS, PYTHON as SOURCES, scan_without};
use crate::checkpoint::Checkpoint;
use crate::container::archive::{Archive, Contents};
use crate::container::zip::Flavor;
use crate::error::{Error, Result};
use crate::layout::{Contained, Spot, Step, Walk};
use crate::limits::Limits;
use crate::message::Setting;
use crate::progress::Silent;

/// Findings of one kind that are told one by one.
const MAX_TOLD: usize = 20;

/// An input, or a checkpoint in one, and what there is to say of it.
pub(crate) type Named = (String, Result<Examined>);

/// Checkpoints of an archive that are examined at once.
const BATCH: usize = 32;

/// Examines one file; where it is an archive of checkpoints, the archive itself and each checkpoint in it. `path` is its
/// name, `shown` what people call it. Fails as [`examine`] does.
pub(crate) fn examine_all(path: &Path, contents: &Contents, shown: &str, depth: Depth) -> Result<Vec<Named>> {
    let (source, limits) = (&contents.source, &contents.limits);
    if let Some(examined) = examine_one(path, source, limits, depth)? {
        return Ok(vec![(shown.to_owned(), Ok(examined))]);
    }
    let mut found: Vec<Named> = Vec::new();
    let walk = Walk::of(contents, shown, &Silent)?;
    let Some(mut walk) = walk else { return Ok(vec![(shown.to_owned(), examine(path, source, limits, depth))]) };
    let mut apart = HashSet::new();
    let mut batch = Vec::new();
    loop {
        let step = walk.next();
        let is_last = step.is_none();
        match step {
            Some(Step::Checkpoint(contained)) => {
                apart.extend(contained.spots());
                batch.push(contained);
            }
            Some(Step::Unreadable(name, e)) => found.push((name, Err(e))),
            // the search for pickles tells them
            Some(Step::Encrypted(_)) | None => {}
        }
        if batch.len() == BATCH || is_last {
            let examined = batch
                .par_iter()
                .with_max_len(1)
                .map(|contained| (contained.name.clone(), examine_contained(contained, depth)));
            found.append(&mut examined.collect());
            batch.clear();
        }
        if is_last {
            break;
        }
    }
    if found.is_empty() {
        return Ok(vec![(shown.to_owned(), alone(examine(path, source, limits, depth)?, &walk))]);
    }
    let worst = |examined: &'_ Result<Examined>| -> Option<Finding> {
        examined.as_ref().ok()?.findings.first().filter(|finding| finding.severity > Severity::Info).cloned()
    };
    let members: Vec<(String, Option<Finding>)> =
        found.iter().map(|(name, examined)| (name.clone(), worst(examined))).collect();
    let mut whole = examine_archive(walk.archive(), &apart, &members, depth)?;
    whole.weights_only = Some(weights_only(path, source, limits)?);
    whole.archive = Some(walk.kind);
    found.insert(0, (shown.to_owned(), Ok(whole)));
    Ok(found)
}

/// An archive without any checkpoint is none, unless there is something to warn of.
fn alone(examined: Examined, walk: &Walk) -> Result<Examined> {
    if examined.findings.iter().any(|finding| finding.severity > Severity::Info) {
        return Ok(Examined { archive: Some(walk.kind), ..examined });
    }
    let message = format!("is {} without any checkpoint in it", walk.what);
    Err(Error::not_a_checkpoint(message))
}

fn examine_contained(contained: &Contained, depth: Depth) -> Result<Examined> {
    let mut layout = contained.layout()?;
    let limits = layout.limits(&Limits::default());
    if let Some(contents) = layout.contents(&limits) {
        let path = Path::new(&contained.name);
        let examined = examine(path, &contents.source, &contents.limits, depth)?;
        // what begins like a checkpoint and is none has not been looked at
        if examined.container.is_none() && examined.findings.iter().all(|finding| finding.severity == Severity::Info) {
            return Checkpoint::open(contents.source, &contents.limits, &Silent).map(|_| examined);
        }
        return Ok(examined);
    }
    let (files, are_shards) = (layout.files(), layout.shards().is_some());
    let opened = layout.open(&limits, &Silent);
    // checksums are those of all members, which the archive's own report has: not again with each of its pickles
    let depth = Depth { data: depth.data && !contained.is_pickle_of_package(), ..depth };
    examine_several(files.into_iter(), are_shards, opened, &limits, depth)
}

/// Examines an archive without the members that begin at `apart`, which are examined on their own: `members` are their
/// names and what is the worst of each.
fn examine_archive(
    archive: &Archive,
    apart: &HashSet<Spot>,
    members: &[(String, Option<Finding>)],
    depth: Depth,
) -> Result<Examined> {
    let mut out = Examined::default();
    for (name, worst) in members {
        if let Some(worst) = worst {
            let place = worst.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
            out.findings.push(Finding::new(worst.severity, worst.code, format!("{place}{}", worst.message), name));
        }
    }
    if depth.data {
        out.findings.extend(sums(archive)?);
    }
    if let Some(trailing) = archive.zip().map(|zip| zip.trailing_bytes).filter(|trailing| *trailing > 0) {
        let message = format!("{trailing} bytes stand after the end of the archive");
        out.findings.push(Finding::new(Severity::Warning, "trailing-data", message, ""));
    }
    out.findings.extend(names(archive));
    out.findings.extend(code(archive));
    out.take(scan_without(archive.source(), archive.limits(), apart)?);
    out.finish();
    Ok(out)
}

/// The checksums of a zip's members. What expands to more than the archive explains is not read.
fn sums(archive: &Archive) -> Result<Vec<Finding>> {
    let Some(zip) = archive.zip() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let all = zip.members.iter().fold(0u64, |sum, member| sum.saturating_add(member.size));
    if all > archive.limits().expanded_for(zip.source().len()) {
        let message = "expands to too many bytes: the checksums of its members were not looked at";
        let e = Error::limit(message).allowed_by(Setting::MaxExpandedBytes);
        return Ok(vec![Finding::of_error(Severity::Error, "limit", &e, "")]);
    }
    // what cannot be read is told as such
    checksums_of(zip, |member| !member.is_encrypted() && matches!(member.method, 0 | 8), &mut found)?;
    Ok(found)
}

/// Names that lead out of the folder where an archive is unpacked. (A zip with such names is not opened at all.)
fn names(archive: &Archive) -> Vec<Finding> {
    let Some(tar) = archive.tar() else { return Vec::new() };
    let mut found = Vec::new();
    let escaping = tar.members.iter().filter(|member| leads_out("", &member.name));
    for member in escaping.take(MAX_TOLD) {
        let message = "the name leads out of the folder where the archive is unpacked";
        found.push(Finding::new(Severity::Danger, "name-escapes", message, &member.name));
    }
    for link in tar.links.iter().filter(|link| leads_out("", &link.name)).take(MAX_TOLD) {
        let message = "the name of a link leads out of the folder where the archive is unpacked";
        found.push(Finding::new(Severity::Danger, "name-escapes", message, &link.name));
    }
    let folder = |name: &str, is_hard: bool| match name.rsplit_once('/') {
        Some((folder, _)) if !is_hard => folder.to_owned(),
        _ => String::new(),
    };
    let links = tar.links.iter().filter(|link| leads_out(&folder(&link.name, link.is_hard), &link.target));
    for link in links.take(MAX_TOLD) {
        let message = format!("the link leads out of the archive, to {}", link.target);
        found.push(Finding::new(Severity::Warning, "link-escapes", message, &link.name));
    }
    found
}

fn leads_out(folder: &str, path: &str) -> bool {
    let mut depth = 0_usize;
    for step in folder.split('/').chain(path.split(['/', '\\'])) {
        match step {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    path.starts_with(['/', '\\'])
}

/// Code beside the checkpoints: shared libraries, and Python's, which servers run.
fn code(archive: &Archive) -> Vec<Finding> {
    let is_served = archive.find("MAR-INF/MANIFEST.json").is_some();
    let is_called = |name: &str, endings: &[&str]| {
        let name = name.to_ascii_lowercase();
        endings.iter().any(|ending| name.ends_with(ending))
    };
    let mut found = Vec::new();
    // the search for pickles tells what torch.package runs
    if archive.zip().is_some_and(|zip| matches!(zip.flavor(), Ok(Flavor::Package))) {
        return found;
    }
    let files = || archive.names().enumerate().filter(|(_, name)| !name.ends_with('/'));
    let is_library = |(index, name): &(usize, &str)| {
        let begins = |head: Vec<u8>| LIBRARY_STARTS.iter().any(|start| head.starts_with(start));
        is_called(name, LIBRARIES) || archive.head(*index, 4).is_ok_and(begins)
    };
    for (_, name) in files().filter(is_library).take(MAX_TOLD) {
        let message = "a shared library: who loads what belongs to it runs its code";
        found.push(Finding::new(Severity::Danger, "native-code", message, name));
    }
    let message = match is_served {
        true => "a file of Python code: TorchServe runs what its handler names when it loads the archive",
        false => "a file of Python code: who serves or imports what the archive holds runs it",
    };
    let sources = files().filter(|(_, name)| is_called(name, SOURCES)).take(MAX_TOLD);
    found.extend(sources.map(|(_, name)| Finding::new(Severity::Warning, "python-code", message, name)));
    found
}

#[cfg(test)]
mod tests {
    use super::leads_out;

    #[test]
    fn paths_lead_out_or_stay() {
        for (folder, path) in [("", "../a"), ("", "/etc/passwd"), ("a", "../../b"), ("", "a/../../b"), ("", "..\\a")] {
            assert!(leads_out(folder, path), "{folder} {path}");
        }
        for (folder, path) in [("", "./a"), ("a/b", "../c"), ("", "a/../b"), ("", "..a/b"), ("a", "..")] {
            assert!(!leads_out(folder, path), "{folder} {path}");
        }
    }
}
