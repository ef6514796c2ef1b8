//! What can be done with checkpoints, each in a module of its own: options in, an outcome out. An operation knows no
//! command line: what it has to say is in its outcome, as data, and who called it decides what becomes of that.

pub mod average;
mod change;
pub mod check;
pub mod convert;
pub mod destination;
pub mod diff;
pub mod digest;
pub mod edit;
pub mod extract;
pub mod files;
pub mod list;
pub mod merge;
mod occupied;
pub mod open;
pub mod read;
pub mod rename;
pub mod repair;
pub mod select;
mod shards;
mod sink;

use crate::checkpoint::Checkpoint;

pub use crate::message::Note;

/// A checkpoint with its name.
#[derive(Debug)]
pub struct Input {
    /// As whoever opened it names it.
    pub name: String,
    /// The same in base64 where that is no Unicode ([`file_bytes`](crate::report::file_bytes)).
    pub name_bytes: Option<String>,
    /// Bytes on disk.
    pub bytes: u64,
    /// What is in it.
    pub checkpoint: Checkpoint,
}
