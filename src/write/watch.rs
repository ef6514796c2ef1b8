//! Checksums of the storages that are copied, looked at beside the copy: a thread of its own reads what is being copied,
//! while the page cache holds it, so that a copy inside the kernel stays one.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::checkpoint::salvage::Lost;
use crate::checkpoint::{Checkpoint, Item, StorageId, Tensor};
use crate::container::zip::Zip;
use crate::error::{ErrorKind, Result};
use crate::message::{Message, Setting};
use crate::progress::{Progress, Silent};
use crate::source::Window;
use crate::write::content::{crc_of, is_sparse};

const BLOCK_BYTES: u64 = 1 << 20;
/// Bytes that may be read before they are copied: the page cache has to hold them.
const AHEAD_BYTES: u64 = 256 << 20;
/// Tensors that are named on standard error.
const MAX_TOLD: usize = 8;
const PAUSE: Duration = Duration::from_millis(2);

/// Storages being looked at.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Vec<StorageId>>>>,
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

/// One member of an archive.
type Stored = (StorageId, Arc<Zip>, usize);

impl Watch {
    /// Begins to look at the members that these storages are.
    pub fn start(checkpoint: &Checkpoint, storages: impl IntoIterator<Item = StorageId>) -> Self {
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
                Some((id, Arc::clone(zip), index))
            })
            .collect();
        let (later, stored): (Vec<Stored>, Vec<Stored>) = all.into_iter().partition(is_sparse);
        let shared = Arc::new(Shared::default());
        let thread = (!stored.is_empty()).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || look(&stored, &shared))
        });
        Watch { shared, thread, later }
    }

    /// Passes progress on, and hears of it.
    pub fn paced<'a>(&'a self, progress: &'a dyn Progress) -> Paced<'a> {
        Paced { watch: self, progress }
    }

    /// The storages whose bytes are not those that their checksums are of, once all are looked at.
    pub fn finish(mut self) -> Result<Vec<StorageId>> {
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
            if sum != member.crc32 && zip.stated_crc(member)?.is_some_and(|stated| stated != sum) {
                wrong.push(*id);
            }
        }
        wrong.sort_unstable();
        Ok(wrong)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.given_up.store(true, Ordering::Relaxed);
    }
}

/// Progress of what is copied.
pub struct Paced<'a> {
    watch: &'a Watch,
    progress: &'a dyn Progress,
}

impl Progress for Paced<'_> {
    fn advance(&self, bytes: u64) {
        self.watch.shared.copied.fetch_add(bytes, Ordering::Relaxed);
        self.progress.advance(bytes);
    }
}

fn look(stored: &[Stored], shared: &Shared) -> Result<Vec<StorageId>> {
    let mut wrong = Vec::new();
    let mut read = 0;
    for (id, zip, index) in stored {
        let Some(member) = zip.members.get(*index).filter(|member| member.is_whole) else { continue };
        let sum = match member.method {
            0 => summed(zip, member, shared, &mut read),
            _ => zip.crc32_of(member).map(Some),
        };
        // what cannot be read stops the copy, which says so
        let sum = match sum {
            Err(e) if e.kind() == ErrorKind::Io => return Ok(wrong),
            Err(_) => continue,
            Ok(None) => return Ok(wrong),
            Ok(Some(sum)) => sum,
        };
        if sum != member.crc32 && zip.stated_crc(member)?.is_some_and(|stated| stated != sum) {
            wrong.push(*id);
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

/// The names of the tensors that lie in these storages. The file is read again, since what was written may have been edited
/// on the way.
pub fn named(checkpoint: &Checkpoint, storages: &[StorageId]) -> Result<Vec<Lost>> {
    let mut found = Vec::new();
    if storages.is_empty() {
        return Ok(found);
    }
    let member = |id: StorageId| {
        let (zip, index) = checkpoint.storages.get(id)?.member()?;
        zip.members.get(index).map(|member| member.name.to_string())
    };
    let why = |id: StorageId| format!("its checksum does not match (member {})", member(id).unwrap_or_default());
    let Some(source) = &checkpoint.source else {
        let stored = storages.iter().filter_map(|id| Some(Lost { name: member(*id)?, why: why(*id) }));
        return Ok(stored.collect());
    };
    let wrong: HashSet<StorageId> = storages.iter().copied().collect();
    let again = Checkpoint::open(Arc::clone(source), &checkpoint.limits, &Silent)?;
    for entry in again.names(&again.top())?.entries {
        let Item::Tensor(id, _) = entry.item else { continue };
        if let Some(storage) = again.tensor(id).and_then(Tensor::storage).filter(|storage| wrong.contains(storage)) {
            found.push(Lost { name: entry.name(), why: why(storage) });
        }
    }
    Ok(found)
}

/// What a person is told of them.
pub fn told(doubtful: &[Lost]) -> impl Iterator<Item = Message> + '_ {
    let each = |tensor: &Lost| Message::from(format!("warning: {}: {}", tensor.name, tensor.why));
    let more = doubtful.len().saturating_sub(MAX_TOLD);
    let more = (more > 0).then(|| {
        Message::from(format!("warning: and {more} more tensors (")).setting(Setting::Json).text(" names all)")
    });
    doubtful.iter().take(MAX_TOLD).map(each).chain(more)
}
