//! How long work tells the outside how far it is, without knowing who listens.

/// Hears how many bytes have been dealt with. Called from several threads.
pub trait Progress: Sync {
    /// `bytes` more are done.
    fn advance(&self, bytes: u64);
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _bytes: u64) {}
}

/// Begins to tell how far a piece of work is: what it is about, and of how many bytes. Dropped, the work is over.
pub type Begin<'a> = dyn Fn(&str, u64) -> Box<dyn Progress> + 'a;

/// Nobody listens to any of it.
pub fn silent(_: &str, _: u64) -> Box<dyn Progress> {
    Box::new(Silent)
}
