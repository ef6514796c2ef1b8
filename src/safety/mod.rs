//! Whether a file may be loaded: what its pickles would call, and whether `torch.load(weights_only=True)` takes it.

pub mod finding;
pub mod globals;
pub mod scan;
pub mod weights_only;
