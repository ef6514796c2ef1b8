//! One encoder a format, and how output gets to the disk: whole or not at all.

pub mod append;
pub mod atomic;
pub(crate) mod content;
pub(crate) mod csv;
pub(crate) mod directory;
pub mod format;
mod holes;
pub(crate) mod indexed;
pub(crate) mod interrupt;
pub(crate) mod json;
mod leftovers;
pub(crate) mod npz;
mod numerals;
pub(crate) mod png;
pub(crate) mod redo;
pub mod rewrite;
pub(crate) mod rezip;
pub(crate) mod safetensors;
mod sample;
pub(crate) mod torch_legacy;
pub(crate) mod torch_zip;
pub(crate) mod watch;
mod writeback;
pub(crate) mod zip_writer;
