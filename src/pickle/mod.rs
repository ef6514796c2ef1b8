//! Python's pickle, read without Python: bytes to an object graph, nothing executed.
//!
//! This layer knows opcodes and Python's types. What a global or a persistent id means to torch is said above.

pub mod decode;
pub mod graph;
pub mod opcode;
pub(crate) mod reader;
pub mod stored;
pub mod text;

pub use decode::{Decoded, Follows, Inline, NothingInline, decode};
pub use graph::{Change, Construct, Entry, Graph, Node, NodeId, Object, StreamId, TextId};
