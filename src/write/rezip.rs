//! The members of a salvaged archive in a new one, each as it was: a new directory, new headers, one top folder.

use std::collections::HashSet;

use crate::container::zip::{Member, Zip};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::source::read_vec;
use crate::write::atomic::{Output, Target};
use crate::write::zip_writer::ZipWriter;
use std::io::Write;

const BLOCK_BYTES: u64 = 1 << 20;
/// They promise torch's exact layout of a file, which is not kept.
const LAYOUT: [&str; 2] = [".format_version", ".storage_alignment"];

/// The members with their names in the top folder, where there is one: what folders beside it hold is another matter.
fn wanted(zip: &Zip, has_top: bool) -> impl Iterator<Item = (&Member, String)> {
    let top = if has_top { zip.top() } else { "" };
    let within = if top.is_empty() { String::new() } else { format!("{top}/") };
    let members = zip.members.iter().filter(|member| !member.is_dir());
    let within = members.filter_map(move |member| Some((member, member.name.strip_prefix(&within)?.to_owned())));
    within.filter(|(_, name)| !LAYOUT.contains(&name.as_str()) && !name.starts_with("__MACOSX/"))
}

/// Writes every whole member below the folder `folder`, or below none; gives the complete output.
pub(crate) fn rezip(zip: &Zip, folder: Option<&str>, target: &Target, progress: &dyn Progress) -> Result<Output> {
    let mut writer = ZipWriter::create(target)?;
    let mut seen = HashSet::new();
    for (member, name) in wanted(zip, folder.is_some()).filter(|(member, _)| member.is_whole && member.doubt.is_none())
    {
        if !seen.insert(name.clone()) {
            continue;
        }
        let name = folder.map_or_else(|| name.clone(), |folder| format!("{folder}/{name}"));
        let source = zip.member_source(member)?;
        writer.member(&name, source.len(), |out| {
            let (mut crc, mut at) = (crc32fast::Hasher::new(), 0);
            while at < source.len() {
                let block = read_vec(source.as_ref(), at, (source.len() - at).min(BLOCK_BYTES))?;
                crc.update(&block);
                out.write_all(&block)?;
                at += block.len() as u64;
                progress.advance(block.len() as u64);
            }
            let sum = crc.finalize();
            // between the look at it and the copy the file may have become another
            match sum == member.crc32 || member.crc32 == 0 {
                true => Ok(sum),
                false => Err(Error::data("changed while it was copied").in_member(&member.name)),
            }
        })?;
    }
    writer.finish()
}

/// Whether every member that would be written is whole, as far as checksums say.
pub(crate) fn is_whole(zip: &Zip) -> bool {
    zip.is_complete && wanted(zip, true).all(|(member, _)| member.is_whole && member.doubt.is_none())
}
