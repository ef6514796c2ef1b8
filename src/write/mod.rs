//! One encoder a format, and how output gets to the disk: whole or not at all.

pub mod append;
pub mod atomic;
mod interrupt;
pub mod rewrite;
