//! What a command found, as plain serde types (the JSON schemas), each also laid out as a
//! [`Document`](crate::render::Document).

pub(crate) mod arrows;
pub(crate) mod average;
pub(crate) mod check;
pub(crate) mod convert;
pub mod diff;
pub mod digest;
pub mod edit;
pub(crate) mod extract;
pub(crate) mod figures;
pub(crate) mod file_bytes;
pub mod ls;
pub(crate) mod ls_archive;
pub(crate) mod merge;
pub(crate) mod names;
pub(crate) mod refusal;
pub mod rename;
pub mod repair;
pub mod sarif;
pub mod schema;
pub(crate) mod shell;
pub(crate) mod tree;
pub(crate) mod value;
pub(crate) mod written;
