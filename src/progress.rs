//! How long work tells the outside how far it is, without knowing who listens.

/// Hears of work that begins, and how many bytes have been dealt with. Called from several threads.
pub trait Progress: Sync {
    /// Work on `bytes` of `what` begins, and what was begun before is over; 0 where nobody knows how many.
    fn begin(&self, _what: &str, _bytes: u64) {}

    /// `bytes` more are done.
    fn advance(&self, bytes: u64);
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _bytes: u64) {}
}
