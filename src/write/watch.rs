//! Checksums of the storages that are copied, looked at beside the copy: a thread of its own reads what is being copied,
//! while the page cache holds it, so that a copy inside the kernel stays one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::checkpoint::salvage::Lost;
use crate::checkpoint::tensor::Tensor;
use crate::checkpoint::{Checkpoint, Container, Entry, Framed, Item, Origin, StorageId};
use crate::container::zip::Zip;
use crate::error::{ErrorKind, Result};
use crate::limits::Limits;
use crate::message::{Message, Setting};
use crate::progress::{Progress, Silent};
use crate::source::{Window, read_vec};
use crate::write::content::{crc_of, is_sparse};

const BLOCK_BYTES: u64 = 1 << 20;
/// Bytes that may be read before they are copied: the page cache has to hold them.
const AHEAD_BYTES: u64 = 256 << 20;
/// Tensors that are named on standard error.
const MAX_TOLD: usize = 8;
const PAUSE: Duration = Duration::from_millis(2);

/// Storages being looked at.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Vec<Stored>>>>,
    /// In files with holes, which are found with the file's cursor: these wait until it is not used any more.
    later: Vec<Stored>,
}

#[derive(Debug, Default)]
struct Shared {
    copied: AtomicU64,
    /// Nothing more will be copied: no need to wait.
    at_end: AtomicBool,
    /// Nobody wants to know any more.
    given_up: AtomicBool,
}

/// One member of an archive, and what it is: a storage, or something else.
pub(crate) type Stored = (Option<StorageId>, Arc<Zip>, usize);

/// What is wanted of a checkpoint beside its storages: npz arrays and chunks of a distributed checkpoint, by name.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<String>);

impl FromIterator<String> for Names {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        Names(names.into_iter().collect())
    }
}

impl Names {
    /// Those of `fqns`, which an index has for its chunks, that are tensors of these. The names of a listing are paths
    /// below a root, or have a key before them, and the index knows whole ones.
    fn among<'a>(&self, fqns: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
        let all: HashSet<&str> = fqns.collect();
        let longer = self.0.iter().flat_map(|name| ends(name)).filter_map(|end| all.get(end).copied());
        let mut found: HashSet<&str> = longer.collect();
        found.extend(all.iter().filter(|fqn| ends(fqn).any(|end| self.0.contains(end))));
        found
    }
}

impl Watch {
    /// Begins to look at the members that these storages and arrays are, and at those that say what they are: the pickle,
    /// `version`, `byteorder` and the like.
    pub(crate) fn start(checkpoint: &Checkpoint, storages: impl IntoIterator<Item = StorageId>, names: &Names) -> Self {
        let mut seen = HashSet::new();
        let is_sparse = |(_, zip, index): &Stored| {
            let stored = zip.members.get(*index).filter(|member| member.method == 0);
            stored.is_some_and(|member| is_sparse(zip.source().as_ref(), member.header_start))
        };
        let all: Vec<Stored> = storages
            .into_iter()
            .filter(|id| seen.insert(*id))
            .filter_map(|id| {
                let (zip, index) = checkpoint.storages.get(id)?.member().filter(|(zip, _)| !zip.is_loose())?;
                Some((Some(id), Arc::clone(zip), index))
            })
            .chain(others(checkpoint, names))
            .collect();
        let (later, stored): (Vec<Stored>, Vec<Stored>) = all.into_iter().partition(is_sparse);
        let shared = Arc::new(Shared::default());
        let stored = Arc::new(stored);
        let thread = (!stored.is_empty()).then(|| {
            let (stored, shared) = (Arc::clone(&stored), Arc::clone(&shared));
            std::thread::Builder::new().spawn(move || look(&stored, &shared))
        });
        match thread {
            Some(Ok(thread)) => Watch { shared, thread: Some(thread), later },
            // without a thread all are looked at in the end
            Some(Err(_)) => {
                let stored = stored.iter().map(|(id, zip, index)| (*id, Arc::clone(zip), *index));
                Watch { shared, thread: None, later: stored.chain(later).collect() }
            }
            None => Watch { shared, thread: None, later },
        }
    }

    /// The members whose bytes are not those that their checksums are of, once all are looked at.
    pub(crate) fn finish(mut self) -> Result<Vec<Stored>> {
        self.shared.at_end.store(true, Ordering::Relaxed);
        let mut wrong = match self.thread.take() {
            Some(thread) => thread.join().unwrap_or_else(|_| Ok(Vec::new()))?,
            None => Vec::new(),
        };
        for (id, zip, index) in &self.later {
            let Some(member) = zip.members.get(*index).filter(|member| member.is_whole) else { continue };
            // what cannot be read was not copied either
            let Ok(start) = zip.data_start(member) else { continue };
            let sum = crc_of(zip.source().as_ref(), start, member.compressed_size)?;
            if zip.is_other_sum(member, sum)? {
                wrong.push((*id, Arc::clone(zip), *index));
            }
        }
        wrong.sort_by_key(|(id, _, index)| (id.is_none(), *id, *index));
        Ok(wrong)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.given_up.store(true, Ordering::Relaxed);
    }
}

/// Progress of what is copied, which those who watch hear of.
pub(crate) struct Paced<'a> {
    watching: Vec<Arc<Shared>>,
    progress: &'a dyn Progress,
}

impl<'a> Paced<'a> {
    /// Passes progress on, and has these hear of it.
    pub(crate) fn new<'w>(watches: impl IntoIterator<Item = &'w Watch>, progress: &'a dyn Progress) -> Self {
        Paced { watching: watches.into_iter().map(|watch| Arc::clone(&watch.shared)).collect(), progress }
    }
}

impl Progress for Paced<'_> {
    fn begin(&self, what: &str, bytes: u64) {
        self.progress.begin(what, bytes);
    }

    fn advance(&self, bytes: u64) {
        for shared in &self.watching {
            shared.copied.fetch_add(bytes, Ordering::Relaxed);
        }
        self.progress.advance(bytes);
    }
}

/// Of these entries, the tensors whose data is not what it should be, and that are copied as they are: arrays inside the
/// pickle.
pub(crate) fn broken<'a>(checkpoint: &Checkpoint, entries: impl IntoIterator<Item = &'a Entry>) -> Vec<Lost> {
    // what several files are put together from is read by who writes it
    let is_read = checkpoint.container().is_merged();
    let in_pickle = |tensor| move || if is_read { None } else { why_no_bytes(tensor) };
    let found = entries.into_iter().filter_map(|entry| {
        let Item::Tensor(id, _) = entry.item else { return None };
        let tensor = checkpoint.tensor(id)?;
        Some(Lost { name: entry.name(), why: tensor.problem.clone().or_else(in_pickle(tensor))? })
    });
    found.collect()
}

/// Why an array that a pickle spells as text does not come to bytes: nobody reads it who copies it.
fn why_no_bytes(tensor: &Tensor) -> Option<String> {
    // what lies in the file as it is can be read, and of escaped text only reading tells
    let source = tensor.array().filter(|source| source.as_file(0).is_none())?;
    let mut at = 0;
    while at < source.len() {
        let len = (source.len() - at).min(BLOCK_BYTES);
        if let Err(e) = read_vec(source.as_ref(), at, len) {
            return Some(e.to_string());
        }
        at += len;
    }
    None
}

/// The members that are no storages and say something of what is wanted.
fn others(checkpoint: &Checkpoint, names: &Names) -> Vec<Stored> {
    let mut found = Vec::new();
    if let (Container::Npz, Some(zip)) = (checkpoint.container(), checkpoint.zip()) {
        let arrays = names.0.iter().filter_map(|name| zip.position(&format!("{name}.npy")));
        found.extend(arrays.map(|index| (None, Arc::clone(zip), index)));
        return found;
    }
    let (of_arrays, of_objects): (Vec<_>, Vec<_>) =
        checkpoint.origins.iter().partition(|origin| origin.framed.container() == Container::Npz);
    // a key may stand before the name
    let names_of_arrays: HashSet<&str> = match of_arrays.is_empty() {
        true => HashSet::new(),
        false => names.0.iter().flat_map(|name| ends(name)).collect(),
    };
    for zip in of_arrays.into_iter().filter_map(|origin| origin.framed.zip()) {
        let is_wanted = |index: &usize| {
            let array = zip.members.get(*index).and_then(|member| member.name.strip_suffix(".npy"));
            array.is_some_and(|array| names_of_arrays.contains(array))
        };
        found.extend((0..zip.members.len()).filter(is_wanted).map(|index| (None, Arc::clone(zip), index)));
    }
    let zips = checkpoint.zip().into_iter().chain(of_objects.iter().filter_map(|origin| origin.framed.zip()));
    let mut zips: Vec<Arc<Zip>> = zips.map(Arc::clone).collect();
    let mut stored: HashSet<(*const Zip, usize)> = HashSet::new();
    let mut seen: HashSet<*const Zip> = zips.iter().map(Arc::as_ptr).collect();
    for (zip, index) in checkpoint.storages.iter().filter_map(|(_, storage)| storage.member()) {
        stored.insert((Arc::as_ptr(zip), index));
        if seen.insert(Arc::as_ptr(zip)) {
            zips.push(Arc::clone(zip));
        }
    }
    for zip in zips.into_iter().filter(|zip| !zip.is_loose()) {
        let describes = |index: &usize| {
            let is_data = zip.members.get(*index).is_none_or(|member| member.is_dir() || is_data(&zip, &member.name));
            !is_data && !stored.contains(&(Arc::as_ptr(&zip), *index))
        };
        found.extend((0..zip.members.len()).filter(describes).map(|index| (None, Arc::clone(&zip), index)));
    }
    // each chunk of a distributed checkpoint is an archive of its own
    let mut seen = HashSet::new();
    let saved = checkpoint.framed.saved().iter().chain(of_objects.iter().flat_map(|origin| origin.framed.saved()));
    let wanted = names.among(saved.clone().map(|part| &*part.fqn));
    for part in saved.filter(|part| wanted.contains(&*part.fqn)) {
        if seen.insert((Arc::clone(&part.file), part.bytes.absolute(0)))
            && let Ok(zip) = Zip::open(Arc::clone(&part.bytes), &checkpoint.limits)
        {
            let zip = Arc::new(zip);
            found.extend((0..zip.members.len()).map(|index| (None, Arc::clone(&zip), index)));
        }
    }
    found
}

/// A name, and what is behind each of its dots.
fn ends(name: &str) -> impl Iterator<Item = &str> {
    let behind = name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..));
    std::iter::once(name).chain(behind)
}

/// Whether a member lies where storages do.
fn is_data(zip: &Zip, name: &str) -> bool {
    let name = name.strip_prefix(zip.top()).map_or(name, |name| name.trim_start_matches('/'));
    let is_described = [".json", ".pkl", ".pt"].iter().any(|end| name.ends_with(end));
    !is_described
        && (["data/", "constants/"].iter().any(|folder| name.starts_with(folder)) || name.ends_with(".storage"))
}

fn look(stored: &[Stored], shared: &Shared) -> Result<Vec<Stored>> {
    let mut wrong = Vec::new();
    let mut read = 0;
    for (id, zip, index) in stored {
        let Some(member) = zip.members.get(*index).filter(|member| member.is_whole) else { continue };
        let sum = match member.method {
            0 => summed(zip, member, shared, &mut read),
            _ => zip.crc32_of(member).map(Some),
        };
        let sum = match sum {
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            // what cannot be expanded stops the copy, which says so
            Err(_) => continue,
            Ok(None) => return Ok(wrong),
            Ok(Some(sum)) => sum,
        };
        if zip.is_other_sum(member, sum)? {
            wrong.push((*id, Arc::clone(zip), *index));
        }
    }
    Ok(wrong)
}

/// The CRC-32 of a stored member; nothing when nobody wants it any more.
fn summed(zip: &Zip, member: &crate::container::zip::Member, shared: &Shared, read: &mut u64) -> Result<Option<u32>> {
    let bytes = Window::shared(zip.source(), zip.data_start(member)?, member.compressed_size)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut block = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        while *read > shared.copied.load(Ordering::Relaxed).saturating_add(AHEAD_BYTES)
            && !shared.at_end.load(Ordering::Relaxed)
            && !shared.given_up.load(Ordering::Relaxed)
        {
            std::thread::sleep(PAUSE);
        }
        if shared.given_up.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let take = (bytes.len() - at).min(BLOCK_BYTES);
        block.resize(usize::try_from(take).unwrap_or_default(), 0);
        bytes.read_at(at, &mut block)?;
        hasher.update(&block);
        at += take;
        *read += take;
    }
    Ok(Some(hasher.finalize()))
}

/// The names of the tensors that lie in these members, and of those that hold none. The file is read again, since what was
/// written may have been edited on the way.
pub(crate) fn named(checkpoint: &Checkpoint, wrong: &[Stored]) -> Result<Vec<Lost>> {
    if wrong.is_empty() {
        return Ok(Vec::new());
    }
    if checkpoint.origins.is_empty() {
        return File::of(checkpoint).named(wrong);
    }
    let mut found = Vec::new();
    for origin in &checkpoint.origins {
        let file = File::of_origin(origin);
        let zips = checkpoint.storages.iter().filter(|(id, _)| origin.storage(*id).is_some());
        let mut zips: HashSet<*const Zip> =
            zips.filter_map(|(_, storage)| Some(Arc::as_ptr(storage.member()?.0))).collect();
        zips.extend(origin.framed.zip().map(Arc::as_ptr));
        let is_of_it = |zip: &Arc<Zip>| {
            zips.contains(&Arc::as_ptr(zip))
                || file.framed.saved().iter().any(|part| Arc::ptr_eq(&part.bytes, zip.source()))
        };
        let wrong = wrong.iter().filter(|(_, zip, _)| is_of_it(zip));
        let wrong: Vec<Stored> =
            wrong.map(|(id, zip, at)| (id.and_then(|id| origin.storage(id)), Arc::clone(zip), *at)).collect();
        let lost = file.named(&wrong)?.into_iter();
        found.extend(lost.map(|Lost { name, why }| Lost { name, why: format!("{why}, in {}", origin.name) }));
    }
    Ok(found)
}

/// A file whose members are to be told by the tensors that lie in them.
struct File<'a> {
    framed: &'a Framed,
    limits: &'a Limits,
}

impl<'a> File<'a> {
    fn of(checkpoint: &'a Checkpoint) -> Self {
        File { framed: &checkpoint.framed, limits: &checkpoint.limits }
    }

    fn of_origin(origin: &'a Origin) -> Self {
        File { framed: &origin.framed, limits: &origin.limits }
    }

    fn named(&self, wrong: &[Stored]) -> Result<Vec<Lost>> {
        let mut found = Vec::new();
        if wrong.is_empty() {
            return Ok(found);
        }
        let member =
            |zip: &Zip, index: usize| zip.members.get(index).map(|member| member.name.to_string()).unwrap_or_default();
        let why = |member: &str| format!("its checksum does not match (member {member})");
        let mut storages: HashMap<StorageId, String> = HashMap::new();
        for (id, zip, index) in wrong {
            let name = member(zip, *index);
            match id {
                Some(id) => drop(storages.insert(*id, name)),
                None => {
                    let part = self.framed.saved().iter().find(|part| Arc::ptr_eq(&part.bytes, zip.source()));
                    found.push(match (part, name.strip_suffix(".npy").filter(|_| self.framed.container() == Container::Npz)) {
                        (Some(part), _) => {
                            let at = part.bytes.absolute(0);
                            let place = format!("{}, the archive at byte {at}, member {name}", part.file);
                            Lost { name: part.fqn.to_string(), why: format!("its checksum does not match ({place})") }
                        }
                        (None, Some(array)) => Lost { name: array.to_owned(), why: why(&name) },
                        (None, None) if name.ends_with(".pkl") || name.ends_with(".json") => {
                            let why =
                                "its checksum does not match: names, types and values may not be those that were saved";
                            Lost { name, why: why.to_owned() }
                        }
                        (None, None) => Lost { name, why: "its checksum does not match".to_owned() },
                    });
                }
            }
        }
        let Some(source) = self.framed.source().filter(|_| !storages.is_empty()) else {
            let stored = storages.into_iter().map(|(id, name)| (id, Lost { why: why(&name), name }));
            let mut stored: Vec<(StorageId, Lost)> = stored.collect();
            stored.sort_by_key(|(id, _)| *id);
            return Ok(stored.into_iter().map(|(_, lost)| lost).chain(found).collect());
        };
        let again = Checkpoint::open(Arc::clone(source), self.limits, &Silent)?;
        for entry in again.names(&again.top())?.entries {
            let Item::Tensor(id, _) = entry.item else { continue };
            if let Some(name) = again.storages_of(id).find_map(|storage| storages.get(&storage)) {
                found.push(Lost { name: entry.name(), why: why(name) });
            }
        }
        Ok(found)
    }
}

/// What a person is told of them.
pub(crate) fn told(doubtful: &[Lost]) -> impl Iterator<Item = Message> + '_ {
    let each = |tensor: &Lost| Message::from(format!("warning: {}: {}", tensor.name, tensor.why));
    let more = doubtful.len().saturating_sub(MAX_TOLD);
    let more = (more > 0).then(|| {
        Message::from(format!("warning: and {more} more tensors (")).setting(Setting::Json).text(" names all)")
    });
    doubtful.iter().take(MAX_TOLD).map(each).chain(more)
}
