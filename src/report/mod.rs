//! What a command found, as plain serde types (the JSON schemas), each also laid out as a
//! [`Document`](crate::render::Document).

pub mod arrows;
pub mod average;
pub mod check;
pub mod convert;
pub mod diff;
pub mod edit;
pub mod extract;
pub mod figures;
pub mod file_bytes;
pub mod ls;
pub mod ls_archive;
pub mod merge;
pub mod refusal;
pub mod rename;
pub mod repair;
pub mod shell;
pub mod tree;
pub mod written;
