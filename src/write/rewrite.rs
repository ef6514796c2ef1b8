//! A file with some of it changed: the container, the storages and every other byte as they were.
//!
//! Pickles are spliced, headers rewritten, and all else is copied, inside the kernel where it can be.

mod flat;

use std::io::Write;
use std::sync::Arc;

use crate::checkpoint::edit::RenamePlan;
use crate::checkpoint::flat::Flat;
use crate::checkpoint::framed::{Archived, Framed, Place, Single};
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::{Checkpoint, Container};
use crate::container::tar::{BLOCK_BYTES, Tar};
use crate::container::zip::Zip;
use crate::container::zip::directory::{Directory, DirectoryEntry, end_records};
use crate::container::zip::tail::{crc32_of, prove};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pickle::splice::{Spliced, splice};
use crate::progress::Progress;
use crate::source::{Overlay, SharedSource, Source, read_vec};
use crate::write::append::{NewMember, alignment, padding, promises_layout};
use crate::write::atomic::Output;

pub use self::flat::InPlace;
pub(crate) use self::flat::in_place;

/// Parts of a pickle that are copied on their own; smaller ones are gathered.
const LARGE_PART_BYTES: u64 = 1 << 20;

/// What an edit changes in a file.
#[derive(Debug)]
pub enum Change {
    /// In one that holds objects.
    Objects(Objects),
    /// In one that holds named arrays and nothing else: all that it is to hold.
    Arrays(Flat),
}

/// What changes in a file of objects.
#[derive(Debug, Default)]
pub struct Objects {
    /// The pickle: its bytes with others in them.
    pub pickle: Option<Arc<Spliced>>,
    /// Storages with other bytes, by the place of their member in the zip.
    pub storages: Vec<(usize, SharedSource)>,
    /// Other bytes over those of a file that is no zip, or of a zip's pickle, by where they begin.
    pub over: Vec<(u64, SharedSource)>,
}

impl Change {
    /// What a renaming is in this checkpoint's container.
    pub fn of_renames(checkpoint: &Checkpoint, plan: &RenamePlan) -> Result<Self> {
        Ok(match checkpoint.container() {
            Container::Safetensors | Container::Npz => {
                let top = plan.renames.iter().filter(|rename| rename.within.is_empty());
                let mut flat = Flat::of(checkpoint)?;
                flat.rename(&top.map(|rename| checkpoint.shown(rename)).collect())?;
                Change::Arrays(flat)
            }
            Container::Zip | Container::Legacy | Container::Pickle | Container::Tar => {
                let pickle = Some(Arc::new(spliced(checkpoint, plan)?));
                Change::Objects(Objects { pickle, ..Objects::default() })
            }
            _ => return Err(fixed(checkpoint)),
        })
    }

    /// The members of torch's zip that change.
    pub fn members(&self, zip: &Zip) -> Result<Vec<NewMember>> {
        let Change::Objects(objects) = self else { return Ok(Vec::new()) };
        let mut members = Vec::with_capacity(objects.storages.len() + 1);
        if let Some(pickle) = &objects.pickle {
            let content: SharedSource = Arc::<Spliced>::clone(pickle);
            members.push(NewMember { position: pickle_member(zip)?, content, is_storage: false });
        }
        if !objects.over.is_empty() {
            let position = pickle_member(zip)?;
            let old = zip.members.get(position).ok_or_else(|| Error::malformed("no such member"))?;
            let content: SharedSource = Arc::new(Overlay::over(zip.member_source(old)?, objects.over.clone())?);
            members.push(NewMember { position, content, is_storage: false });
        }
        members.extend(objects.storages.iter().map(|(position, content)| NewMember {
            position: *position,
            content: Arc::clone(content),
            is_storage: true,
        }));
        members.sort_unstable_by_key(|member| member.position);
        Ok(members)
    }
}

/// The stream that holds the pickle, with the plan's edits made.
fn spliced(checkpoint: &Checkpoint, plan: &RenamePlan) -> Result<Spliced> {
    let mut streams = plan.edits.iter();
    let (Some((stream, edits)), None) = (streams.next(), streams.next()) else {
        return Err(Error::unsupported("the names lie in several pickles, one of them inside another"));
    };
    let source = checkpoint.graph.stream(*stream).ok_or_else(|| Error::malformed("no such stream"))?;
    let outer = checkpoint.source().map_or(0, |source| source.len());
    let max_objects = checkpoint.limits.objects_for(outer.max(source.len()));
    splice(source, &checkpoint.graph, edits, max_objects, checkpoint.limits.max_new_name_bytes, &Joblib)
}

/// The place of the member that holds the pickle, in torch's zip.
pub fn pickle_member(zip: &Zip) -> Result<usize> {
    let name = match zip.top() {
        "" => "data.pkl".to_owned(),
        top => format!("{top}/data.pkl"),
    };
    zip.position(&name).ok_or_else(|| Error::malformed("the archive has no data.pkl"))
}

/// Writes the checkpoint with what changes in its own container, uncompressed.
pub(crate) fn rewrite(
    checkpoint: &Checkpoint,
    change: &Change,
    output: &mut Output,
    progress: &dyn Progress,
) -> Result<()> {
    let mut writer = Writer { output, progress };
    match (&checkpoint.framed, change) {
        (Framed::Archive { kind, zip, place: Place::File(_) }, change) => match (kind, change) {
            (Archived::Torch | Archived::TorchScript { .. }, Change::Objects(_)) => {
                writer.zip(zip, &change.members(zip)?)
            }
            (Archived::Npz, Change::Arrays(flat)) => writer.npz(zip, flat, &checkpoint.limits),
            _ => Err(fixed(checkpoint)),
        },
        (Framed::File { kind: Single::Safetensors, bytes, .. }, Change::Arrays(flat)) => {
            writer.safetensors(bytes, flat, &checkpoint.limits)
        }
        (
            Framed::File { kind: kind @ (Single::Legacy | Single::Pickle | Single::Tar), bytes, .. },
            Change::Objects(objects),
        ) => {
            let source: SharedSource = match objects.over.as_slice() {
                [] => Arc::clone(bytes),
                over => Arc::new(Overlay::over(Arc::clone(bytes), over.to_vec())?),
            };
            match (&objects.pickle, kind) {
                (None, _) => writer.copy(source.as_ref(), 0, source.len()),
                (Some(pickle), Single::Tar) => writer.tar(&source, &checkpoint.limits, pickle.as_ref()),
                (Some(pickle), _) => writer.spliced(&source, &pickle.in_other(Arc::clone(&source))?),
            }
        }
        _ => Err(fixed(checkpoint)),
    }
}

fn fixed(checkpoint: &Checkpoint) -> Error {
    Error::unsupported(format!("names in {} files cannot be changed", checkpoint.container().name()))
}

struct Writer<'a> {
    output: &'a mut Output,
    progress: &'a dyn Progress,
}

impl Writer<'_> {
    fn copy(&mut self, source: &dyn Source, offset: u64, len: u64) -> Result<()> {
        self.output.copy(source, offset, len, &|bytes| self.progress.advance(bytes))
    }

    /// Bytes with others in them, which come from `inner`: large runs of those are copied as they lie there.
    fn spliced(&mut self, inner: &SharedSource, spliced: &Spliced) -> Result<()> {
        let (mut written, mut at) = (0, 0);
        for part in spliced.parts() {
            if part.len >= LARGE_PART_BYTES {
                self.copy(spliced, written, at - written)?;
                self.copy(inner.as_ref(), part.from, part.len)?;
                written = at + part.len;
            }
            at += part.len + part.then.len() as u64;
        }
        self.copy(spliced, written, at - written)
    }

    /// The archive with some members replaced, which come in the directory's order. What follows one moves by a multiple of
    /// the alignment, so that every other member is copied as it is, its local header included, and storages stay aligned.
    fn zip(&mut self, zip: &Zip, members: &[NewMember]) -> Result<()> {
        members.iter().try_for_each(|member| prove(zip, member.position))?;
        let source = zip.source();
        let mut directory = Directory::of(zip)?;
        let end = zip.central_directory_start;
        let mut starts: Vec<u64> = directory.0.iter().map(|entry| entry.header_start).collect();
        starts.sort_unstable();
        let alignment = alignment(zip)?;
        let start_of = |member: &NewMember| zip.members.get(member.position).map_or(0, |old| old.header_start);
        let mut order: Vec<&NewMember> = members.iter().collect();
        order.sort_unstable_by_key(|member| start_of(member));
        // where what lay from some byte on lies now
        let mut moves: Vec<(u64, i128)> = Vec::new();
        let (mut at, mut keeps_layout) = (0, true);
        for member in order {
            let begin = start_of(member);
            let next = starts.get(starts.partition_point(|start| *start <= begin)).copied().unwrap_or(end).min(end);
            self.copy(source.as_ref(), at, begin - at)?;
            moves.push((begin, i128::from(self.output.position()) - i128::from(begin)));
            let entry = directory.0.get_mut(member.position).ok_or_else(|| Error::malformed("no such member"))?;
            let replaced = Replaced { zip, member, begin, next, alignment };
            match replaced.as_it_lies(entry)? {
                Some((before, after)) => {
                    self.output.write_all(&before)?;
                    self.copy(member.content.as_ref(), 0, member.content.len())?;
                    self.output.write_all(&after)?;
                }
                None => keeps_layout &= self.new_record(&replaced, entry)?,
            }
            at = next;
            moves.push((next, i128::from(self.output.position()) - i128::from(next)));
        }
        self.copy(source.as_ref(), at, end - at)?;
        // beyond 4 GiB torch's headers have another size
        let far = |start: u64| start >= u64::from(u32::MAX);
        for entry in &mut directory.0 {
            let before = moves.partition_point(|(from, _)| *from <= entry.header_start);
            let by = before.checked_sub(1).and_then(|last| moves.get(last)).map_or(0, |(_, by)| *by);
            let moved = u64::try_from(i128::from(entry.header_start) + by).unwrap_or(u64::MAX);
            keeps_layout &= far(entry.header_start) == far(moved);
            entry.header_start = moved;
        }
        if !keeps_layout {
            directory.0.retain(|entry| !std::str::from_utf8(&entry.name).is_ok_and(|name| promises_layout(zip, name)));
        }
        self.finish_zip(&directory, &zip.comment)
    }

    /// A member's new content behind a new header. Whether what follows keeps its distances, and a storage the layout that
    /// torch computes.
    fn new_record(&mut self, replaced: &Replaced<'_>, entry: &mut DirectoryEntry) -> Result<bool> {
        let Replaced { member, begin, next, alignment, .. } = *replaced;
        let len = member.content.len();
        entry.set_stored(crc32_of(member.content.as_ref(), 0, len)?, len);
        let start = self.output.position();
        let bare = entry.local_header(&[])?.len() as u64;
        // a storage begins where it should, of a pickle only the end matters
        let goal = (next - begin) % alignment;
        let extra = match member.is_storage {
            true => padding(start + bare, alignment)?,
            false => padding(bare + len + (alignment - goal), alignment)?,
        };
        let header = entry.local_header(&extra)?;
        self.output.write_all(&header)?;
        self.copy(member.content.as_ref(), 0, len)?;
        let gap = (alignment + goal - (self.output.position() - start) % alignment) % alignment;
        self.output.write_all(&vec![0; usize::try_from(gap).unwrap_or(0)])?;
        Ok(!member.is_storage && gap == 0)
    }

    fn finish_zip(&mut self, directory: &Directory, comment: &[u8]) -> Result<()> {
        let start = self.output.position();
        let encoded = directory.encode()?;
        self.output.write_all(&encoded)?;
        let end = end_records(start, encoded.len() as u64, directory.0.len() as u64, comment)?;
        Ok(self.output.write_all(&end)?)
    }

    /// The tar of torch < 0.1.10 with its member `pickle` replaced.
    fn tar(&mut self, source: &SharedSource, limits: &Limits, content: &dyn Source) -> Result<()> {
        let tar = Tar::open(Arc::clone(source), limits)?;
        let member = tar.find("pickle").ok_or_else(|| Error::malformed("the archive has no pickle"))?;
        self.copy(source.as_ref(), 0, member.offset - BLOCK_BYTES)?;
        self.output.write_all(&tar.resized(member, content.len())?)?;
        self.copy(content, 0, content.len())?;
        let padding = content.len().next_multiple_of(BLOCK_BYTES) - content.len();
        self.output.write_all(&vec![0; usize::try_from(padding).unwrap_or(0)])?;
        let rest = (member.offset + member.size).next_multiple_of(BLOCK_BYTES).min(source.len());
        self.copy(source.as_ref(), rest, source.len() - rest)
    }
}

/// A member of a zip and what comes in its place.
struct Replaced<'a> {
    zip: &'a Zip,
    member: &'a NewMember,
    /// Where its local header lies, and what follows it.
    begin: u64,
    next: u64,
    alignment: u64,
}

impl Replaced<'_> {
    /// Of a storage that keeps its size: what stands before and after its bytes, with another checksum. Nothing where its
    /// record has to be made anew.
    fn as_it_lies(&self, entry: &mut DirectoryEntry) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Some(old) = self.zip.members.get(self.member.position) else { return Ok(None) };
        let len = self.member.content.len();
        if !self.member.is_storage || old.method != 0 || old.size != len {
            return Ok(None);
        }
        let source = self.zip.source().as_ref();
        let start = self.zip.data_start(old)?;
        let mut before = read_vec(source, self.begin, start - self.begin)?;
        let mut after = read_vec(source, start + len, self.next - start - len)?;
        let crc32 = crc32_of(self.member.content.as_ref(), 0, len)?;
        let crc32_bytes = crc32.to_le_bytes();
        if entry.has_descriptor() {
            let at = if after.starts_with(b"PK\x07\x08") { 4 } else { 0 };
            let stated = old.crc32.to_le_bytes();
            let Some(place) = after.get_mut(at..at + 4).filter(|place| **place == stated) else { return Ok(None) };
            place.copy_from_slice(&crc32_bytes);
        }
        if let Some(place) = before.get_mut(14..18).filter(|_| !entry.has_descriptor()) {
            place.copy_from_slice(&crc32_bytes);
        }
        entry.crc32 = crc32;
        Ok(Some((before, after)))
    }
}
