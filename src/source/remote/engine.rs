//! What all remote objects share: the threads that move bytes, how many requests are under way, how many bytes may move.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Error, ErrorKind, Result};
use crate::message::Setting;

/// Requests of all objects that are under way at the same time.
pub(super) const MAX_REQUESTS: usize = 32;
/// Threads that move bytes.
const THREADS: usize = 2;
/// How long a connection may take to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may be silent.
pub(super) const SILENCE: Duration = Duration::from_secs(30);
/// How the program names itself to servers.
pub(super) const AGENT: &str = concat!("ckpt/", env!("CARGO_PKG_VERSION"));

static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
static REQUESTS: Semaphore = Semaphore::const_new(MAX_REQUESTS);
static MAX_MOVED: AtomicU64 = AtomicU64::new(u64::MAX);
static MOVED: AtomicU64 = AtomicU64::new(0);

/// The one client of all servers of files: connections are used again.
pub(super) static CLIENT: LazyLock<std::result::Result<reqwest::Client, String>> = LazyLock::new(|| {
    use_ring();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(AGENT)
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE);
    client.build().map_err(|e| e.to_string())
});

/// Chooses what TLS is made of, once.
pub(super) fn use_ring() {
    // an error says that it has been chosen
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Bounds the bytes that all objects may move.
pub(crate) fn set_max_transfer(bytes: u64) {
    MAX_MOVED.store(bytes, Ordering::Relaxed);
}

/// Whether there is a bound on all bytes.
pub(super) fn is_bounded() -> bool {
    MAX_MOVED.load(Ordering::Relaxed) != u64::MAX
}

/// Takes `bytes` from what may be moved, before they are.
pub(super) fn take(bytes: u64) -> Result<()> {
    let max = MAX_MOVED.load(Ordering::Relaxed);
    let before = MOVED.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) <= max {
        return Ok(());
    }
    MOVED.fetch_sub(bytes, Ordering::Relaxed);
    let message = format!("needs more than the {max} bytes that may be transferred");
    Err(Error::limit(message).allowed_by(Setting::MaxTransfer))
}

/// What may still be moved, in bytes.
pub(super) fn left() -> u64 {
    MAX_MOVED.load(Ordering::Relaxed).saturating_sub(MOVED.load(Ordering::Relaxed))
}

/// Gives back what was taken and not moved.
pub(super) fn give_back(bytes: u64) {
    MOVED.fetch_sub(bytes, Ordering::Relaxed);
}

/// Waits for the turn of a request.
pub(super) async fn turn() -> Result<SemaphorePermit<'static>> {
    REQUESTS.acquire().await.map_err(|e| Error::new(ErrorKind::Io, e.to_string()))
}

fn runtime() -> Result<&'static Runtime> {
    let make = || Builder::new_multi_thread().worker_threads(THREADS).thread_name("remote").enable_all().build();
    RUNTIME.get_or_init(make).as_ref().map_err(|e| Error::new(ErrorKind::Io, format!("cannot start threads: {e}")))
}

/// Runs to the end, and waits for it. Not for those who run on the threads themselves.
pub(super) fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(work)
}

/// Runs beside everything else.
pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    runtime()?.spawn(work);
    Ok(())
}
