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
