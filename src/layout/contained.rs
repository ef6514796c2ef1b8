//! Every checkpoint of an archive, those of archives in it too, each as an input of its own.
//!
//! One after the other, so that no more than the archives around the present one are open. What all of them together may
//! expand to follows from the size of the outermost archive; a member that is left out for that is told.

use std::sync::Arc;
use std::vec::IntoIter;

use super::grouped;
use super::inside::SEPARATOR;
use super::inside::{self, At, Inside, MAX_LOOKED_AT, archive_kind, checkpoints_of, kind_of_archive};
use super::member::{Found, MAX_NESTED};
use super::outer::Outer;
use super::unpacked::Unpacked;
use super::{Kind, Layout};
use crate::container::archive::{Archive, Contents};
use crate::container::zip::Flavor;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::Setting;
use crate::progress::Progress;

/// Checkpoints that an archive may hold whatever its size.
const FREE_CHECKPOINTS: u64 = 1000;
/// Bytes of an archive that explain one more: smaller ones come out of a bomb.
const BYTES_OF_A_CHECKPOINT: u64 = 512;
/// Unpacked archives, and pickles of a package, that are gone through in one archive: each looks at all its members.
const MAX_FOLDERS: usize = 256;

/// What to do about members that are not put together here.
const UNPACK: &str = "unpack the archive first (`tar -x`) and name what comes out";
/// Encrypted and sparse members of one archive that are told.
const MAX_ENCRYPTED: usize = 100;

/// Where a member of an archive begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Spot {
    /// The names of the members that lead to its archive, joined with `/`; empty for the outermost.
    pub archive: String,
    /// The byte in that archive: of a zip's local header, of a tar member's data.
    pub at: u64,
}

/// A checkpoint in an archive.
#[derive(Debug)]
pub struct Contained {
    /// As the command line names it: `ARCHIVE::member`.
    pub name: String,
    /// Bytes in its archive, once expanded.
    pub bytes: u64,
    archive: Arc<Archive>,
    place: String,
    inside: Inside,
    limits: Limits,
}

/// What a walk through an archive comes to.
#[derive(Debug)]
pub enum Step {
    /// A checkpoint.
    Checkpoint(Box<Contained>),
    /// A member of this name that is called like one, and encrypted.
    Encrypted(String),
    /// A member of this name that is or holds one, and cannot be read.
    Unreadable(String, Error),
}

/// An archive that is no checkpoint itself.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Who makes such archives: `a zip archive`.
    pub what: &'static str,
    /// `zip archive`, `tar archive`.
    pub kind: &'static str,
    /// Members of the outermost archive.
    pub members: u64,
    outermost: Arc<Archive>,
    open: Vec<Level>,
    /// Members that may still be looked at.
    left_members: usize,
    /// Bytes that may still be expanded.
    left_bytes: u64,
    /// Checkpoints so far, and how many there may be.
    count: u64,
    max_count: u64,
    waiting: Vec<Step>,
}

#[derive(Debug)]
struct Level {
    archive: Arc<Archive>,
    shown: String,
    place: String,
    left: IntoIter<Inside>,
}

impl Walk {
    /// Of the archive that a file is; nothing for what is none, or itself a checkpoint. `shown` is what people call it.
    pub(crate) fn of(contents: &Contents, shown: &str, progress: &dyn Progress) -> Result<Option<Self>> {
        let archive = match Archive::open(contents, progress) {
            Ok(Some(archive)) if kind_of_archive(&archive).is_none() => Arc::new(archive),
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            // what is wrong with an archive is said by who opens it
            _ => return Ok(None),
        };
        let mut walk = Walk {
            what: archive_kind(&archive),
            kind: match (archive.zip().map(|zip| zip.flavor()), archive.tar()) {
                (Some(Ok(Flavor::Package)), _) => "package",
                (_, Some(_)) => inside::TAR_ARCHIVE,
                _ => inside::ZIP_ARCHIVE,
            },
            members: archive.names().filter(|name| !name.ends_with('/')).count() as u64,
            outermost: Arc::clone(&archive),
            open: Vec::new(),
            left_members: MAX_LOOKED_AT,
            left_bytes: contents.limits.expanded_in_all_for(contents.source.len()),
            max_count: FREE_CHECKPOINTS + contents.source.len() / BYTES_OF_A_CHECKPOINT,
            count: 0,
            waiting: Vec::new(),
        };
        walk.enter(archive, shown.to_owned(), String::new());
        Ok(Some(walk))
    }

    /// The outermost archive.
    pub(crate) fn archive(&self) -> &Archive {
        &self.outermost
    }

    fn enter(&mut self, archive: Arc<Archive>, shown: String, place: String) {
        // of an archive that is encrypted as a whole nothing can be read
        let is_encrypted =
            archive.zip().is_some_and(|zip| zip.flavor().is_err_and(|e| e.kind() == ErrorKind::Unsupported));
        let found = if is_encrypted { Vec::new() } else { checkpoints_of(&archive, self.left_members) };
        let files = archive.names().filter(|name| !name.ends_with('/')).count();
        if files > self.left_members {
            let (all, most) = (files, self.left_members);
            let message = format!("has {all} members, of which {most} were looked at for checkpoints; unpack it first");
            self.waiting.push(Step::Unreadable(shown.clone(), Error::limit(message)));
        }
        self.left_members = self.left_members.saturating_sub(files);
        let mut folders = 0;
        let found = found.into_iter().filter(|inside| {
            folders += usize::from(matches!(inside.at, At::Folder | At::Pickle(_) | At::Group(_)));
            matches!(inside.at, At::Member(_)) || folders <= MAX_FOLDERS
        });
        let found: Vec<Inside> = found.collect();
        if folders > MAX_FOLDERS {
            let message =
                format!("holds {folders} folders that are checkpoints, of which {MAX_FOLDERS} were looked at");
            self.waiting.push(Step::Unreadable(shown.clone(), Error::limit(message)));
        }
        let encrypted = inside::encrypted(&archive).map(|name| Step::Encrypted(format!("{shown}{SEPARATOR}{name}")));
        self.waiting.extend(encrypted.take(MAX_ENCRYPTED));
        let sparse = archive.tar().map_or(&[][..], |tar| &tar.sparse).iter().map(|member| {
            let e = Error::unsupported("is stored as a sparse file, without its holes").advise(UNPACK);
            Step::Unreadable(format!("{shown}{SEPARATOR}{}", member.name), e)
        });
        self.waiting.extend(sparse.take(MAX_ENCRYPTED));
        self.open.push(Level { archive, shown, place, left: found.into_iter() });
    }

    /// Bytes that opening a member expands, taken from what is left; fails when that is not enough.
    fn spend(&mut self, archive: &Archive, inside: &Inside) -> Result<()> {
        let expands = match inside.at {
            At::Member(index) if archive.is_compressed(index) => archive.size(index),
            At::Member(_) => 0,
            At::Group(index) => {
                grouped_bytes(archive, index, |part| if archive.is_compressed(part) { archive.size(part) } else { 0 })
            }
            _ => archive
                .below(&inside.name)
                .filter(|index| archive.is_compressed(*index))
                .map(|index| archive.size(index))
                .sum(),
        };
        self.left_bytes = self.left_bytes.checked_sub(expands).ok_or_else(|| {
            Error::limit("the archive expands to too many bytes in all").allowed_by(Setting::MaxExpandedBytes)
        })?;
        Ok(())
    }

    /// What a member that looks like an archive is: one to walk through, or a checkpoint after all.
    fn nested(&mut self, archive: &Archive, inside: &Inside) -> Result<Option<Archive>> {
        let At::Member(index) = inside.at else { return Ok(None) };
        let contents = archive.contents(index)?;
        let before = contents.source.len();
        let limits = Limits {
            max_expanded_bytes: contents.limits.max_expanded_bytes.min(self.left_bytes),
            ..contents.limits.of_one_of_many(self.count + 1, before)
        };
        let contents = Contents { source: contents.source, limits };
        let opened = Archive::open(&contents, &crate::progress::Silent)?;
        if let Some(inner) = &opened {
            self.left_bytes = self.left_bytes.saturating_sub(inner.expanded_bytes());
        }
        Ok(opened.filter(|inner| kind_of_archive(inner).is_none()))
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.waiting.pop() {
                return Some(step);
            }
            let level = self.open.last_mut()?;
            let Some(inside) = level.left.next() else {
                self.open.pop();
                continue;
            };
            let archive = Arc::clone(&level.archive);
            let name = format!("{}{SEPARATOR}{}", level.shown, inside.name);
            let place = level.place.clone();
            if let Err(e) = self.spend(&archive, &inside) {
                return Some(Step::Unreadable(name, e));
            }
            if inside.is_archive() {
                if self.open.len() >= MAX_NESTED {
                    return Some(Step::Unreadable(
                        name,
                        Error::limit(format!("archives nest more than {MAX_NESTED} deep")),
                    ));
                }
                match self.nested(&archive, &inside) {
                    Ok(Some(inner)) => {
                        let place = joined(&place, &raw_name(&archive, &inside));
                        self.enter(Arc::new(inner), name, place);
                        continue;
                    }
                    Ok(None) => {}
                    Err(e) => return Some(Step::Unreadable(name, e)),
                }
            }
            if self.count >= self.max_count {
                self.open.clear();
                let most = self.max_count;
                let message =
                    format!("the archive holds more than {most} checkpoints; unpack it to look at the others");
                return Some(Step::Unreadable(name, Error::limit(message)));
            }
            self.count += 1;
            let (bytes, disk_bytes) = match inside.at {
                At::Member(index) | At::Pickle(index) => (archive.size(index), archive.stored_bytes(index)),
                At::Group(index) => (
                    grouped_bytes(&archive, index, |part| archive.size(part)),
                    grouped_bytes(&archive, index, |part| archive.stored_bytes(part)),
                ),
                At::Folder => archive.below(&inside.name).fold((0, 0), |(all, stored): (u64, u64), index| {
                    (all.saturating_add(archive.size(index)), stored.saturating_add(archive.stored_bytes(index)))
                }),
            };
            let limits = archive.limits().of_one_of_many(self.count, disk_bytes);
            let limits = match inside.at {
                At::Member(index) if archive.is_compressed(index) => limits.of_expanded(disk_bytes),
                _ => limits,
            };
            let found = Contained { name, bytes, archive, place, inside, limits };
            return Some(Step::Checkpoint(Box::new(found)));
        }
    }
}

impl Contained {
    /// Whether it is one of the pickles of a torch.package archive, which share the other members.
    pub(crate) fn is_pickle_of_package(&self) -> bool {
        matches!(self.inside.at, At::Pickle(_))
    }

    /// Where its bytes begin, where nothing outside of them counts.
    pub(crate) fn spots(&self) -> Vec<Spot> {
        match self.inside.at {
            At::Member(index) => {
                self.archive.start(index).map(|at| Spot { archive: self.place.clone(), at }).into_iter().collect()
            }
            At::Folder => {
                let starts = self.archive.below(&self.inside.name).filter_map(|index| self.archive.start(index));
                starts.map(|at| Spot { archive: self.place.clone(), at }).collect()
            }
            At::Group(index) => {
                let parts = grouped::parts(&self.archive, index).into_iter();
                let starts = parts.filter_map(|part| self.archive.start(part));
                starts.map(|at| Spot { archive: self.place.clone(), at }).collect()
            }
            At::Pickle(_) => Vec::new(),
        }
    }

    /// What it stands for.
    pub(crate) fn layout(&self) -> Result<Layout> {
        let of = |kind| Layout {
            beside: None,
            kind,
            limits: Some(self.limits.clone()),
            name: self.name.clone(),
            single: None,
            outer: Vec::new(),
        };
        match self.inside.at {
            At::Member(index) => {
                let source = self.archive.contents(index)?.source;
                let outer = vec![Outer::new(&self.archive, index, Some(&source))];
                Ok(Layout { outer, ..of(Kind::File(source)) })
            }
            At::Group(index) => match grouped::open(&self.archive, index, &self.name, &self.limits)? {
                Some(kind) => Ok(of(kind)),
                None => Err(Error::not_a_checkpoint("holds no checkpoint")),
            },
            At::Pickle(index) => match self.archive.zip() {
                Some(zip) => Ok(of(Kind::Unpacked(Unpacked::new(Arc::clone(zip), Some(index))))),
                None => Err(Error::not_a_checkpoint("holds no checkpoint")),
            },
            At::Folder => match super::member::unpacked(&self.archive, &self.inside.name)? {
                Some(Found::Archive { zip, pickle, .. }) => Ok(of(Kind::Unpacked(Unpacked::new(zip, pickle)))),
                _ => Err(Error::not_a_checkpoint("holds no checkpoint")),
            },
        }
    }
}

fn grouped_bytes(archive: &Archive, index: usize, of: impl Fn(usize) -> u64) -> u64 {
    grouped::parts(archive, index).into_iter().fold(0, |sum, part| sum.saturating_add(of(part)))
}

/// The name of a member as the archive has it.
fn raw_name(archive: &Archive, inside: &Inside) -> String {
    match inside.at {
        At::Member(index) => archive.raw_name(index).unwrap_or(&inside.name).to_owned(),
        _ => inside.name.clone(),
    }
}

fn joined(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
}
