//! Archives that are not one file of their own: a folder of another archive, or an unpacked one, file by file.

use std::sync::Arc;

use super::by_name::ByName;
use super::{Member, Odd, Zip, check_name};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{Cache, MemorySource, SharedSource};

/// The top folder of what lies in none.
const NO_FOLDER: &str = "archive";

impl Zip {
    /// What lies in `folder` (`outer/model`), as an archive whose top folder it is. The data stays where it is.
    pub(crate) fn below(&self, folder: &str) -> Zip {
        let folder = folder.trim_matches('/');
        let within = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let top = top_of(folder);
        let inside = self.members.iter().filter_map(|member| {
            let name: Arc<str> = format!("{top}/{}", member.name.strip_prefix(&within)?).into();
            let odd = Odd { other_name: Some(member.name_raw().into()), ..Odd::clone(member) };
            Some(Member { name, odd: Some(Box::new(odd)), ..member.clone() })
        });
        let members: Vec<Member> = inside.filter(|member| !member.is_dir()).collect();
        Zip {
            source: Arc::clone(&self.source),
            limits: self.limits.clone(),
            by_name: ByName::of(&members),
            members,
            comment: Vec::new(),
            central_directory_start: self.central_directory_start,
            trailing_bytes: 0,
            top_folder: None,
            damage: Vec::new(),
            is_complete: true,
            is_own_file: false,
            inflated: Cache::default(),
            loose: None,
        }
    }

    /// Files by their names in `folder` and their bytes, as the archive that they were unpacked from. There are no checksums.
    pub(crate) fn of_files(folder: &str, files: Vec<(String, SharedSource)>, limits: &Limits) -> Zip {
        let top = top_of(folder.trim_matches('/'));
        let (mut members, mut loose) = (Vec::with_capacity(files.len()), Vec::with_capacity(files.len()));
        for (name, source) in files {
            // no archive has a member of such a name
            if check_name(&name).is_err() {
                continue;
            }
            members.push(Member {
                name: format!("{top}/{name}").into(),
                header_start: loose.len() as u64,
                compressed_size: source.len(),
                size: source.len(),
                crc32: 0,
                method: 0,
                flags: 0,
                is_whole: true,
                bound: 0,
                odd: None,
            });
            loose.push(source);
        }
        Zip {
            source: Arc::new(MemorySource::new(Vec::new())),
            limits: limits.clone(),
            by_name: ByName::of(&members),
            members,
            comment: Vec::new(),
            central_directory_start: 0,
            trailing_bytes: 0,
            top_folder: None,
            damage: Vec::new(),
            is_complete: true,
            is_own_file: false,
            inflated: Cache::default(),
            loose: Some(loose),
        }
    }

    /// Whether the members are files of their own, which no checksum goes with.
    pub(crate) fn is_loose(&self) -> bool {
        self.loose.is_some()
    }

    /// The bytes of a member that is a file of its own.
    pub(super) fn loose(&self, member: &Member) -> Option<Result<SharedSource>> {
        let files = self.loose.as_ref()?;
        let file = usize::try_from(member.header_start).ok().and_then(|number| files.get(number));
        Some(file.map(Arc::clone).ok_or_else(|| Error::data("no such file").in_member(&member.name)))
    }
}

/// The last step of a folder's path.
fn top_of(folder: &str) -> &str {
    match folder.rsplit('/').next() {
        None | Some("" | "." | "..") => NO_FOLDER,
        Some(top) => top,
    }
}
