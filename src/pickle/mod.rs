//! Python's pickle, read without Python: bytes to an object graph, nothing executed.
//!
//! This layer knows opcodes and Python's types. What a global or a persistent id means to torch is said above.

pub mod decode;
pub mod encode;
pub(crate) mod graph;
pub mod opcode;
pub(crate) mod reader;
pub(crate) mod splice;
pub(crate) mod stored;
pub mod text;

pub(crate) use decode::most_steps;
pub use decode::{
    Decoded, Does, Follows, Inline, NothingInline, Rest, Trace, decode, decode_as_either, decode_by_frames, decode_row,
    decode_traced,
};
pub use encode::{Census, encode};
pub use graph::Pair;
pub use graph::{Change, Graph, NodeId, StreamId, TextId};
pub use graph::{Construct, Node};
pub(crate) use graph::{Moved, Object};
