//! Bytes that lie elsewhere: objects behind addresses, read in few and large parts.
//!
//! An object is asked for its first bytes, which also tell how long it is; every other part is asked for when it is wanted,
//! and must be of the same object (its length and ETag say so). Parts come by HTTP ([`http`]) or by the `object_store`
//! crate ([`bucket`]); what breaks off is asked for again from where it ended.

mod bucket;
mod engine;
mod http;
mod hub;
mod profile;
mod trouble;
mod windows;

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::bucket::BucketObject;
pub(crate) use self::engine::set_max_transfer;
use self::http::HttpObject;
use self::trouble::{Failure, changed, of_request};
use self::windows::{Part, Windows};
use super::address::{Service, service, whole};
use super::{Cache, FileSource, MemorySource, SharedSource, Source, check_range};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of an object that are asked for first.
const FIRST: u64 = 32 << 10;
/// The largest file that is read whole from a server that sends no parts, in bytes, unless more may be transferred.
const MAX_WHOLE: u64 = 256 << 20;
/// Tries one after the other that bring nothing.
const MAX_FRUITLESS: u32 = 5;
/// Tries for one part, fruitless or not.
const MAX_TRIES: u32 = 64;
/// The first pause before another try; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// Objects that stay open.
const MAX_OPEN: usize = 2048;

/// What a list of a directory says of one thing in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name in the directory.
    pub name: String,
    /// Bytes of a file; nothing for a directory.
    pub bytes: Option<u64>,
}

/// What makes an object the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    /// Bytes in all.
    len: u64,
    /// Its ETag, or else when it was changed.
    tag: Option<String>,
}

/// An answer.
#[derive(Debug)]
enum Piece {
    /// A part, from a server of files.
    Part { identity: Identity, body: reqwest::Response },
    /// A part, from a store.
    Object { identity: Identity, body: Box<object_store::GetResult> },
    /// All of it, from a server that sends no parts.
    Whole { len: Option<u64>, body: reqwest::Response },
    /// There are no bytes.
    Empty,
}

/// Where an object is asked for.
#[derive(Debug)]
enum Object {
    Http(HttpObject),
    Bucket(BucketObject),
}

impl Object {
    async fn get(&self, range: &Range<u64>, known: Option<&Identity>) -> Result<Piece, Failure> {
        match self {
            Object::Http(object) => object.get(range, known).await,
            Object::Bucket(object) => object.get(range, known).await,
        }
    }
}

/// An object behind an address.
#[derive(Debug)]
struct RemoteSource {
    object: Arc<Object>,
    identity: Identity,
    windows: Mutex<Windows>,
    cache: Cache,
}

impl Source for RemoteSource {
    fn len(&self) -> u64 {
        self.identity.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let len = buf.len() as u64;
        check_range(self, offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let claim = self.windows.lock().unwrap_or_else(PoisonError::into_inner).claim(&(offset..offset + len));
        for part in claim.asked {
            self.ask(part)?;
        }
        let (mut at, mut rest) = (offset, buf);
        for part in claim.holding {
            let count = part.copy(at, rest)?;
            at += count as u64;
            rest = rest.split_at_mut(count).1;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Io, "a part that was asked for is not here").at(at)),
        }
    }

    fn cache(&self) -> Option<&Cache> {
        Some(&self.cache)
    }

    fn announce(&self, range: Range<u64>) {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).announce(range);
    }
}

impl RemoteSource {
    /// Has a part fetched.
    fn ask(&self, part: Arc<Part>) -> Result<()> {
        let (object, identity) = (Arc::clone(&self.object), self.identity.clone());
        let waiting = Arc::clone(&part);
        let started = engine::spawn(async move {
            let bytes = fetch(&object, &part.range, &identity).await;
            let at = part.range.start;
            part.arrive(bytes.map_err(|e| e.at(at)));
        });
        if let Err(e) = &started {
            waiting.arrive(Err(e.again()));
        }
        started
    }
}

/// The bytes of a part of the object that is known.
async fn fetch(object: &Object, range: &Range<u64>, known: &Identity) -> Result<Vec<u8>> {
    let _turn = engine::turn().await?;
    engine::take(range.end - range.start)?;
    let mut out = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or_default());
    let mut tries = Tries::default();
    loop {
        let before = out.len();
        let rest = range.start + before as u64..range.end;
        let failure = match object.get(&rest, Some(known)).await {
            Err(failure) => failure,
            Ok(piece) => match fill(piece, known, rest.end - rest.start, &mut out).await {
                Ok(()) => return Ok(out),
                Err(failure) => failure,
            },
        };
        tries.again(failure, out.len() > before).await?;
    }
}

/// Adds the bytes of an answer, `wanted` of them; those that came before it broke off stay.
async fn fill(piece: Piece, known: &Identity, wanted: u64, out: &mut Vec<u8>) -> Result<(), Failure> {
    let end = usize::try_from(wanted).unwrap_or(usize::MAX).saturating_add(out.len());
    let mut take = |chunk: &[u8]| -> Result<(), Failure> {
        if chunk.len() > end.saturating_sub(out.len()) {
            return Err(Failure::last(Error::new(ErrorKind::Io, "the server sends more than it was asked for")));
        }
        out.extend_from_slice(chunk);
        Ok(())
    };
    match piece {
        Piece::Part { identity, mut body } => {
            if identity != *known {
                return Err(Failure::last(changed()));
            }
            while let Some(chunk) = body.chunk().await.map_err(|e| of_request(&e))? {
                take(&chunk)?;
            }
        }
        Piece::Object { identity, body } => {
            if identity != *known {
                return Err(Failure::last(changed()));
            }
            bucket::chunks(*body, take).await?;
        }
        Piece::Whole { .. } | Piece::Empty => return Err(Failure::last(changed())),
    }
    match out.len() == end {
        true => Ok(()),
        false => Err(Failure::passing(Error::new(ErrorKind::Io, "the server sends less than it was asked for"))),
    }
}

/// How often something has been tried.
#[derive(Debug, Default)]
struct Tries {
    all: u32,
    fruitless: u32,
}

impl Tries {
    /// Waits until the next try, or says what was wrong with the last.
    async fn again(&mut self, failure: Failure, has_brought_some: bool) -> Result<()> {
        self.all += 1;
        self.fruitless = if has_brought_some { 0 } else { self.fruitless + 1 };
        if !failure.is_passing || self.fruitless >= MAX_FRUITLESS || self.all >= MAX_TRIES {
            return Err(failure.error);
        }
        let pause = PAUSE.saturating_mul(1 << self.fruitless.min(6));
        tokio::time::sleep(failure.pause.unwrap_or(pause)).await;
        Ok(())
    }
}

/// Something that was opened, or why it was not.
#[derive(Debug, Clone)]
enum Opened {
    Object(SharedSource),
    /// There is none of this name.
    Missing(Arc<Error>),
}

type Opening = Arc<Mutex<Option<Opened>>>;

/// The objects that are open, and the order in which they were first asked for; lists of directories.
#[derive(Debug, Default)]
struct Known {
    objects: HashMap<String, Opening>,
    order: std::collections::VecDeque<String>,
    lists: HashMap<String, Arc<Vec<Listed>>>,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the object at an address; the same one for who asks again.
pub(super) fn open(path: &Path) -> Result<SharedSource> {
    match opened(path)? {
        Opened::Object(source) => Ok(source),
        Opened::Missing(e) => Err(e.again()),
    }
}

/// Whether there is an object at an address.
pub(super) fn is_file(path: &Path) -> Result<bool> {
    Ok(matches!(opened(path)?, Opened::Object(_)))
}

fn opened(path: &Path) -> Result<Opened> {
    let address = whole(path)?;
    let opening = {
        let mut known = known();
        if !known.objects.contains_key(&address) {
            while known.order.len() >= MAX_OPEN {
                let oldest = known.order.pop_front().unwrap_or_default();
                known.objects.remove(&oldest);
            }
            known.order.push_back(address.clone());
        }
        Arc::clone(known.objects.entry(address.clone()).or_default())
    };
    let mut opening = opening.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(opened) = &*opening {
        return Ok(opened.clone());
    }
    let opened = engine::wait(first(path, &address))?;
    *opening = Some(opened.clone());
    Ok(opened)
}

/// Asks for the first bytes.
async fn first(path: &Path, address: &str) -> Result<Opened> {
    let object = Arc::new(match service(path) {
        Some(Service::Http) => {
            let login = "the server wants to know who asks: name an address with a signature or a user";
            Object::Http(HttpObject::new(address, None, login)?)
        }
        Some(Service::Hub) => {
            let (address, authorization) = hub::file(address)?;
            Object::Http(HttpObject::new(&address, authorization, hub::LOGIN)?)
        }
        Some(service) => Object::Bucket(BucketObject::new(service, address)?),
        None => return Err(Error::unsupported("is no address")),
    });
    let _turn = engine::turn().await?;
    let asked = FIRST.min(engine::left()).max(1);
    engine::take(asked)?;
    let mut tries = Tries::default();
    loop {
        let failure = match object.get(&(0..asked), None).await {
            Err(failure) if failure.is_missing => return Ok(Opened::Missing(Arc::new(failure.error))),
            Err(failure) => failure,
            Ok(Piece::Empty) => return Ok(Opened::Object(Arc::new(MemorySource::new(Vec::new())))),
            Ok(Piece::Whole { len, body }) => {
                engine::give_back(asked);
                match read_whole(len, body).await {
                    Ok(source) => return Ok(Opened::Object(source)),
                    Err(failure) => {
                        engine::take(asked)?;
                        failure
                    }
                }
            }
            Ok(piece) => {
                let identity = match &piece {
                    Piece::Object { identity, .. } | Piece::Part { identity, .. } => identity.clone(),
                    _ => continue,
                };
                let (mut bytes, wanted) = (Vec::new(), asked.min(identity.len));
                match fill(piece, &identity, wanted, &mut bytes).await {
                    Ok(()) => {
                        let part = Part::new(0..wanted);
                        part.arrive(Ok(bytes));
                        engine::give_back(asked - wanted);
                        let windows = Mutex::new(Windows::new(identity.len, part));
                        let source = RemoteSource { object, identity, windows, cache: Cache::default() };
                        return Ok(Opened::Object(Arc::new(source)));
                    }
                    Err(failure) => failure,
                }
            }
        };
        tries.again(failure, false).await?;
    }
}

/// Keeps all of a file that is not sent in parts.
async fn read_whole(len: Option<u64>, mut body: reqwest::Response) -> Result<SharedSource, Failure> {
    let max = if engine::is_bounded() { u64::MAX } else { MAX_WHOLE };
    let too_long = |len: u64| {
        let message = format!("the server sends no parts of files, and this one is {len} bytes or more");
        Failure::last(Error::unsupported(message).advise("download it first, or allow as much to be transferred"))
    };
    if let Some(len) = len.filter(|len| *len > max) {
        return Err(too_long(len));
    }
    engine::take(len.unwrap_or(0)).map_err(Failure::last)?;
    let of_disk = |e: std::io::Error| Failure::last(e.into());
    let mut file = tempfile::tempfile().map_err(of_disk)?;
    let mut read = 0;
    while let Some(chunk) = body.chunk().await.map_err(|e| of_request(&e))? {
        read += chunk.len() as u64;
        if read > max {
            return Err(too_long(read));
        }
        if len.is_none() {
            engine::take(chunk.len() as u64).map_err(Failure::last)?;
        }
        file.write_all(&chunk).map_err(of_disk)?;
    }
    match FileSource::from_file(file) {
        Ok(source) if len.is_none_or(|len| len == source.len()) => Ok(Arc::new(source)),
        Ok(_) => Err(Failure::passing(Error::new(ErrorKind::Io, "the server sends less than it says"))),
        Err(e) => Err(Failure::last(e)),
    }
}

/// What lies directly in a directory, in the order of the names: what a bucket has below a prefix, what the hub lists.
/// Servers of files have no lists.
pub(super) fn list(path: &Path) -> Result<Arc<Vec<Listed>>> {
    let address = whole(path)?;
    let key = address.trim_end_matches('/').to_owned();
    if let Some(list) = known().lists.get(&key) {
        return Ok(Arc::clone(list));
    }
    let found = engine::wait(listed(path, &address))?;
    let list = Arc::new(found);
    known().lists.insert(key, Arc::clone(&list));
    Ok(list)
}

async fn listed(path: &Path, address: &str) -> Result<Vec<Listed>> {
    let mut tries = Tries::default();
    loop {
        let _turn = engine::turn().await?;
        let found = match service(path) {
            Some(Service::Hub) => hub::list(address).await,
            Some(service @ (Service::S3 | Service::Google | Service::Azure)) => bucket::list(service, address).await,
            _ => {
                let error = Error::unsupported("a server of files does not say what a directory holds");
                return Err(error.advise("name the file, or the index of its shards"));
            }
        };
        match found {
            Ok(found) => return Ok(found),
            Err(failure) => tries.again(failure, false).await?,
        }
    }
}

/// Whether the list of a directory that is known has something, and what; nothing where no list is known.
pub(super) fn in_known_list(path: &Path) -> Option<Option<Listed>> {
    let (parent, name) = (path.parent()?.to_str()?, path.file_name()?.to_str()?);
    let known = known();
    let list = known.lists.get(parent.trim_end_matches('/'))?;
    Some(list.iter().find(|listed| listed.name == name).cloned())
}

/// Whether an address is of a directory by its looks: it ends with a slash, or names a bucket or a repository.
pub(super) fn is_called_a_directory(path: &Path) -> bool {
    let Some(text) = path.to_str() else { return false };
    text.ends_with('/')
        || service(path) == Some(Service::Hub) && hub::is_repository(text)
        || super::address::split(text).is_some_and(|(_, rest)| !rest.contains('/'))
}

/// Opens objects that will be read, many at a time, so that nobody waits for each in turn.
pub(super) fn prepare(paths: Vec<std::path::PathBuf>) {
    let next = Mutex::new(paths.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..engine::MAX_REQUESTS {
            scope.spawn(|| {
                loop {
                    let path = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(path) = path else { return };
                    // whoever reads it hears of the error
                    let _ = opened(&path);
                }
            });
        }
    });
}
