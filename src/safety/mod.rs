//! Whether a file may be loaded, and whether it is sound: what its pickles would call, whether
//! `torch.load(weights_only=True)` takes it, whether what it promises is there.

pub mod allow;
pub mod archive;
pub mod examine;
pub mod finding;
pub mod glance;
pub mod globals;
pub mod integrity;
mod numerics;
pub mod scan;
pub mod sparse;
pub mod weights_only;
