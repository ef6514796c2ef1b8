//! A file to be written under the name that people know it by.

use std::path::Path;

use crate::error::Result;
use crate::write::atomic::Target;

/// A file to be written, with the name that people know it by.
#[derive(Debug, Clone)]
pub struct Sink {
    /// As whoever asked for it names it.
    pub name: String,
    /// Where it goes.
    pub target: Target,
}

impl Sink {
    /// Checks that `path` can be written ([`Target::new`]). Errors name it.
    pub(crate) fn new(path: &Path, force: bool, input: Option<&Path>) -> Result<Self> {
        let name = path.display().to_string();
        let target = Target::new(path, force, input).map_err(|e| e.of_output(&name))?;
        Ok(Sink { name, target })
    }
}
