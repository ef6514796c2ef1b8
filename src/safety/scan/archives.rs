//! The members of zip and tar archives, those too that no directory lists: which of them hold pickles.

use std::sync::Arc;

use super::expand::{BZIP2, LZMA};
use super::hidden::may_be_pickle;
use super::loaders::PICKLES;
use super::texts::is_text;
use super::{Scanner, at_byte, inside, only_io, too_many_bytes};
use crate::checkpoint::open::{Opener, Parts};
use crate::container::detect::{Framing, detect, of_head};
use crate::container::tar::Tar;
use crate::container::zip::walk::local_members;
use crate::container::zip::{Ahead, Member, Zip};
use crate::error::Result;
use crate::pickle::opcode::describe;
use crate::safety::finding::Severity;
use crate::source::{MemorySource, SharedSource, Window, read_vec};

/// What decides whether a member holds a pickle.
const HEAD_BYTES: u64 = 512;

impl Scanner<'_> {
    pub(super) fn zip(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        // the outermost one comes first
        let mut decoded = None;
        let zip = match self.opened.take() {
            Some(zip) => {
                decoded = self.decoded.and_then(|(graph, _)| graph.only_stream());
                Ok(zip)
            }
            None => Zip::open(Arc::clone(source), self.limits).map(Arc::new),
        };
        match zip {
            Ok(zip) => {
                self.code_in(&zip, place)?;
                self.keras_in(&zip, place)?;
                let mut all_read = true;
                let mut ahead = Ahead::default();
                for member in zip.members.iter().filter(|member| !member.is_dir()) {
                    if self.is_apart(place, member.header_start) {
                        continue;
                    }
                    let decoded = decoded.filter(|(_, name)| *name == &*member.name).map(|(source, _)| source);
                    all_read &= self.zip_member((&zip, &mut ahead), (member, decoded), place, depth)?;
                }
                // a flag that says "encrypted" or a wrong size does not keep every reader out
                if !all_read {
                    self.loose_members(source, place, depth)?;
                }
                if !zip.comment.is_empty() {
                    let comment: SharedSource = Arc::new(MemorySource::new(zip.comment.clone()));
                    let place = inside(place, "comment");
                    if !self.hidden(&comment, &place, depth)? {
                        self.search(&comment, 0, None, &place)?;
                    }
                }
                self.other_directories(source, &zip.members, place, depth)
            }
            Err(e) => {
                only_io(e)?;
                self.loose_members(source, place, depth)?;
                self.other_directories(source, &[], place, depth)
            }
        }
    }

    /// The members of an archive that has no directory, or one that readers would not agree on: wherever a local header
    /// stands, something may read what follows. All headers of the file are found at once, those in stored archives inside
    /// of it too.
    pub(super) fn loose_members(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let members = match local_members(source, self.limits) {
            Ok(members) => members,
            Err(e) => return self.unreadable(e, place),
        };
        for found in members {
            if !self.may_begin(place) {
                return Ok(());
            }
            let stored = Window::shared(source, found.data_start, found.compressed_size)?;
            self.loose_member(&stored, found.method, &found.name, place, depth)?;
        }
        Ok(())
    }

    /// One member by its bytes as they are stored. A stored archive in it is no file of its own here.
    pub(super) fn loose_member(
        &mut self,
        stored: &SharedSource,
        method: u16,
        name: &str,
        place: &str,
        depth: usize,
    ) -> Result<()> {
        let bytes = match self.expanded(stored, method) {
            Ok(bytes) => bytes,
            Err(e) => return self.unreadable(e, &inside(place, name)),
        };
        let head = read_vec(bytes.as_ref(), 0, bytes.len().min(HEAD_BYTES))?;
        if method == 0 && matches!(detect(bytes.as_ref()), Ok(Framing::Zip)) {
            return Ok(());
        }
        self.member(name, &head, &mut || Ok(Arc::clone(&bytes)), place, depth)
    }

    /// False for a member that cannot be read. `decoded` are its bytes where they have been read as a pickle.
    fn zip_member(
        &mut self,
        (zip, ahead): (&Zip, &mut Ahead),
        (member, decoded): (&Member, Option<&SharedSource>),
        place: &str,
        depth: usize,
    ) -> Result<bool> {
        if !self.may_begin(place) {
            return Ok(true);
        }
        if matches!(member.method, BZIP2 | LZMA) {
            let start = zip.data_start(member)?;
            let stored = Window::shared(zip.source(), start, member.compressed_size)?;
            return self.loose_member(&stored, member.method, &member.name, place, depth).map(|()| true);
        }
        let before = self.unreadable;
        let expands = if member.method == 0 { 0 } else { member.size };
        let left = self.left_bytes.checked_sub(expands);
        let mut opened = false;
        let mut open = || {
            opened = true;
            match (left, decoded) {
                (Some(_), Some(source)) => Ok(Arc::clone(source)),
                (Some(_), None) => zip.member_source(member),
                (None, _) => Err(too_many_bytes()),
            }
        };
        match zip.head_ahead(ahead, member, HEAD_BYTES) {
            Ok(head) => {
                self.member(&member.name, &head, &mut open, place, depth)?;
                if opened {
                    self.left_bytes = self.left_bytes.saturating_sub(expands);
                }
            }
            Err(e) => self.unreadable(e, &inside(place, &member.name))?,
        }
        Ok(self.unreadable == before)
    }

    pub(super) fn tar(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let tar = match Tar::open(Arc::clone(source), self.limits) {
            Ok(tar) => tar,
            Err(e) => return self.unreadable(e, place),
        };
        for member in &tar.sparse {
            let message =
                "a sparse file, stored without its holes, was not looked at; unpack the archive and check that";
            self.tell(Severity::Error, "unreadable", message, &inside(place, &member.name));
        }
        // torch's own tells its members apart below
        let is_torch = tar.is_torch();
        if !is_torch {
            for member in tar.duplicates() {
                let message = "another member has this name: readers would not agree which one counts";
                self.tell(Severity::Error, "member-duplicate", message, &inside(place, &member.name));
            }
        }
        if let Some(at) = tar.trailing()? {
            let message = format!("{} bytes stand after the end of the archive", source.len() - at);
            self.tell(Severity::Warning, "trailing-data", message, &at_byte(place, source.absolute(at)));
            let rest = Window::shared(source, at, source.len() - at)?;
            self.file(&rest, &inside(place, "after the end"), depth + 1)?;
        }
        if is_torch {
            self.tar_tables(source, &tar, place, depth)?;
        }
        for member in &tar.members {
            if self.is_apart(place, member.offset) {
                continue;
            }
            let bytes = match tar.member_source(member) {
                Ok(bytes) => bytes,
                Err(e) => {
                    self.unreadable(e, &inside(place, &member.name))?;
                    continue;
                }
            };
            if is_torch && matches!(member.name.as_str(), "storages" | "tensors") {
                let is_read = tar.find(&member.name).is_some_and(|read| std::ptr::eq(read, member));
                if !is_read {
                    let place = inside(place, &member.name);
                    let message = "another member has this name: readers would not agree which one counts";
                    self.tell(Severity::Error, "member-duplicate", message, &place);
                    self.mixed(&bytes, &place, depth)?;
                }
                continue;
            }
            let head = read_vec(bytes.as_ref(), 0, bytes.len().min(HEAD_BYTES))?;
            self.member(&member.name, &head, &mut || Ok(Arc::clone(&bytes)), place, depth)?;
        }
        Ok(())
    }

    /// The pickles between the raw integers and data of torch's old tar, where torch reads them. Where one of them is not
    /// what it should be, the rest is searched.
    fn tar_tables(&mut self, source: &SharedSource, tar: &Tar, place: &str, depth: usize) -> Result<()> {
        let mut parts = Parts::new();
        let opener = Opener::new(Arc::clone(source), self.limits, self.left);
        let read = opener.tar_tables(tar, &mut parts);
        self.left = self.left.saturating_sub(parts.graph.held());
        self.scan.pickles += 1;
        self.collect(&parts.graph, place, depth)?;
        if let Err(e) = read {
            only_io(e)?;
            for name in ["storages", "tensors"] {
                let bytes = tar.find(name).map(|member| tar.member_source(member)).transpose();
                match bytes {
                    Ok(Some(bytes)) => self.mixed(&bytes, &inside(place, name), depth)?,
                    Ok(None) => {}
                    Err(e) => self.unreadable(e, &inside(place, name))?,
                }
            }
        }
        Ok(())
    }

    /// A member of an archive: a pickle by its name, or by its beginning.
    fn member(
        &mut self,
        name: &str,
        head: &[u8],
        open: &mut dyn FnMut() -> Result<SharedSource>,
        place: &str,
        depth: usize,
    ) -> Result<()> {
        // torch finds members without regard to case
        let is_pickle = PICKLES.iter().any(|ending| is_called(name, ending)) || name.eq_ignore_ascii_case("pickle");
        let framing = if is_pickle { Some(Framing::Pickle) } else { of_head(head) };
        let is_other = matches!(framing, None | Some(Framing::Pickle | Framing::ShardIndex)) && !is_pickle;
        if is_other && is_text(head) && !is_storage(name) {
            match open() {
                Ok(bytes) => self.text(&bytes, &inside(place, name), depth)?,
                Err(e) => return self.unreadable(e, &inside(place, name)),
            }
        }
        let begins = || head.first().is_some_and(|code| describe(*code).is_some());
        let framing = match framing {
            Some(Framing::Pickle | Framing::Zip | Framing::Tar | Framing::Compressed(_) | Framing::Npy) => framing,
            _ if begins() && may_be_pickle(head) => Some(Framing::Pickle),
            _ => {
                // a tensor's data may begin with anything
                if !is_storage(name) {
                    self.not_expanded(head, &inside(place, name));
                }
                return Ok(());
            }
        };
        let place = inside(place, name);
        let bytes = match open() {
            Ok(bytes) => bytes,
            Err(e) => return self.unreadable(e, &place),
        };
        match framing {
            Some(Framing::Pickle) if is_pickle => self.stream(&bytes, &place, depth + 1),
            Some(Framing::Pickle) => self.hidden(&bytes, &place, depth).map(drop),
            // data may look like the beginning of anything: what does not go on like that is no archive
            Some(Framing::Compressed(kind)) => match self.expand(&bytes, kind)? {
                (inner, None) => self.file(&inner, &place, depth + 1),
                (inner, Some(_)) => self.hidden(&inner, &place, depth + 1).map(drop),
            },
            _ => self.file(&bytes, &place, depth + 1),
        }
    }
}

/// Whether a name ends so, in letters of either case.
fn is_called(name: &str, ending: &str) -> bool {
    let end = name.len().checked_sub(ending.len()).and_then(|at| name.as_bytes().get(at..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(ending.as_bytes()))
}

/// What torch calls the data of a tensor: `archive/data/0`.
fn is_storage(name: &str) -> bool {
    let mut parts = name.rsplit('/');
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    parts.next().is_some_and(is_number) && parts.next() == Some("data")
}
