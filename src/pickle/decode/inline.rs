//! Raw data and whole pickles that lie among a pickle's opcodes, and who knows of them.

use crate::error::Result;
use crate::pickle::graph::{Graph, NodeId};
use crate::source::SharedSource;

/// Knows of raw data that some libraries (joblib) put into the stream right after an object's `BUILD`.
pub trait Inline {
    /// Looks at an object that has just been built; `position` is the next byte of its stream.
    fn after_build(&self, graph: &Graph, object: NodeId, source: &SharedSource, position: u64) -> Result<Follows>;
}

/// What follows an object in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// The next opcode.
    Opcodes,
    /// `padding` bytes, then `len` bytes of data.
    Bytes {
        /// Bytes to skip.
        padding: u64,
        /// Bytes of data.
        len: u64,
    },
    /// A whole pickle.
    Pickle,
}

/// Nothing is ever inline: plain pickles.
#[derive(Debug, Clone, Copy)]
pub struct NothingInline;

impl Inline for NothingInline {
    fn after_build(&self, _: &Graph, _: NodeId, _: &SharedSource, _: u64) -> Result<Follows> {
        Ok(Follows::Opcodes)
    }
}
