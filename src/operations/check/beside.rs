//! What else lies in a directory that is a checkpoint: loaders open it too (`training_args.bin`, `optimizer.pt`), so every
//! pickle in it is looked at, as `-R` does.

use std::path::{Path, PathBuf};

use crate::checkpoint::Container;
use crate::error::{Error, Result};
use crate::layout::{BelowKind, below};
use crate::limits::Limits;
use crate::safety::examine::Examined;
use crate::safety::finding::{Finding, Severity};
use crate::source::{SharedSource, files};

/// Other files that are looked at.
const MOST: usize = 1000;

/// What a directory holds besides the files of its checkpoint.
pub(super) struct Beside {
    files: Vec<PathBuf>,
    /// Directories that are checkpoints, and how many files there are that are not looked at.
    checkpoints: Vec<PathBuf>,
    left: usize,
    unreadable: Vec<(PathBuf, Error)>,
}

impl Beside {
    /// Of a directory whose checkpoint has files that are its `own`. Nothing of anything else.
    pub(super) fn of(input: &Path, own: impl Fn(&Path) -> bool, limits: &Limits) -> Option<Self> {
        if !files::is_dir(input) {
            return None;
        }
        let mut found = Beside { files: Vec::new(), checkpoints: Vec::new(), left: 0, unreadable: Vec::new() };
        for other in below(input, limits) {
            let path = other.path;
            if path == input || own(&path) {
                continue;
            }
            match other.kind {
                BelowKind::Input if files::is_dir(&path) => found.checkpoints.push(path),
                // files of ranks by one name, all of which are looked at with the others
                BelowKind::Input if path.to_str().is_some_and(|name| name.contains('*')) && !path.exists() => {}
                BelowKind::Input if found.files.len() < MOST => found.files.push(path),
                BelowKind::Input => found.left += 1,
                BelowKind::Unreadable(e) => found.unreadable.push((path, e)),
                BelowKind::LinkedDirectory => {}
            }
        }
        Some(found)
    }

    /// Adds what there is to say of it.
    pub(super) fn examine(self, input: &Path, examined: &mut Examined, limits: &Limits) -> Result<()> {
        let name = |path: &Path| path.strip_prefix(input).unwrap_or(path).display().to_string();
        let mut scans: Vec<(String, SharedSource)> = Vec::new();
        for path in &self.files {
            match files::open(path) {
                Ok(file) => scans.push((name(path), file)),
                Err(e) => examined.findings.push(unreadable(&e, &name(path))),
            }
        }
        examined.take_beside(scans, limits)?;
        examined.findings.extend(self.unreadable.iter().map(|(path, e)| unreadable(e, &name(path))));
        // of a directory with one for each iteration, one is what was looked at
        let has_iterations = matches!(examined.container, Some(Container::DeepSpeed | Container::Megatron));
        let mut tell = |severity, message: String| {
            let message = format!("{message} not looked at here; `ckpt check -R` does that");
            examined.findings.push(Finding::new(severity, "not-checked", message, ""));
        };
        if let Some(first) = self.checkpoints.first().filter(|_| !has_iterations) {
            let others = match self.checkpoints.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            tell(Severity::Info, format!("other checkpoints lie in the directory: {}{others},", name(first)));
        }
        if self.left > 0 {
            tell(Severity::Warning, format!("{} more files of the directory were", self.left));
        }
        examined.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(())
    }
}

fn unreadable(e: &Error, place: &str) -> Finding {
    Finding::of_error(Severity::Warning, "unreadable", e, place)
}
