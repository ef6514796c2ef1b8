//! Whether a file may be loaded, and whether it is sound: what its pickles would call, whether
//! `torch.load(weights_only=True)` takes it, whether what it promises is there.

pub mod allow;
pub(crate) mod archive;
pub mod examine;
pub mod finding;
pub(crate) mod glance;
pub mod globals;
pub mod integrity;
mod numerics;
pub(crate) mod scan;
pub(crate) mod sparse;
pub(crate) mod weights_only;
