//! One encoder a format, and how output gets to the disk: whole or not at all.

pub mod append;
pub mod atomic;
pub mod content;
pub mod csv;
pub mod directory;
pub mod format;
mod holes;
pub mod interrupt;
pub mod json;
mod leftovers;
pub mod npz;
mod numerals;
pub mod png;
pub mod redo;
pub mod rewrite;
pub mod rezip;
pub mod safetensors;
pub mod torch_legacy;
pub mod torch_zip;
pub mod watch;
mod writeback;
pub mod zip_writer;
