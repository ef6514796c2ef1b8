//! One file's framing: which container the bytes are, and where in it the pickles and the raw bytes lie.
//!
//! Nothing here knows of names, tensors or torch's objects; what these modules hand up are [`crate::source::Source`]s
//! and plain descriptions. [`detect::detect`] decides by the bytes alone, since `.pt`, `.pth`, `.tar`, `.ckpt` and
//! `.bin` are all used for every container. A new container is one file here, a [`detect::Framing`] and a line in
//! detection's table.

pub mod archive;
pub(crate) mod compress;
pub(crate) mod crlf;
pub(crate) mod detect;
pub(crate) mod legacy;
pub(crate) mod npy;
pub(crate) mod ordered;
pub(crate) mod redo;
pub(crate) mod safetensors;
pub(crate) mod spool;
pub(crate) mod tar;
pub mod zip;
pub(crate) mod zstd;
