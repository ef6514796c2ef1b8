//! Code in archives that is no pickle: shared libraries, Python sources, TorchScript that reaches files.

use super::loaders::{LIBRARIES, LIBRARY_STARTS, PYTHON};
use super::{Scanner, inside};
use crate::container::zip::Zip;
use crate::error::Result;
use crate::safety::finding::Severity;
use crate::source::read_vec;

/// Operators of TorchScript that read or write files.
const FILE_OPERATORS: &[&str] =
    &["torch.save(", "torch.load(", "torch.from_file(", "read_file(", "write_file(", "aten::save", "aten::from_file"];
/// A source of TorchScript that is longer is looked at so far.
const MAX_SOURCE_BYTES: u64 = 4 << 20;

impl Scanner<'_> {
    /// What an archive of torch's holds besides pickles and tensors that somebody runs: AOTInductor loads libraries,
    /// torch.package imports sources, torch.jit runs `code/` (its `__setstate__` on loading).
    pub(super) fn code_in(&mut self, zip: &Zip, place: &str) -> Result<()> {
        let top = |name: &str| name.split_once('/').map_or(String::new(), |(_, rest)| rest.to_ascii_lowercase());
        let is_torch = zip.members.iter().any(|member| {
            let inner = top(&member.name);
            matches!(inner.as_str(), "data.pkl" | "version" | "byteorder" | ".data/version" | "archive_format")
                || inner.ends_with(".pkl")
        });
        if !is_torch {
            return Ok(());
        }
        for member in zip.members.iter().filter(|member| !member.is_dir()) {
            let (name, inner) = (member.name.to_ascii_lowercase(), top(&member.name));
            let place = inside(place, &member.name);
            if inner.starts_with("code/") && name.ends_with(".py") {
                let Ok(source) = zip.member_source(member) else { continue };
                let text = read_vec(source.as_ref(), 0, source.len().min(MAX_SOURCE_BYTES))?;
                let text = String::from_utf8_lossy(&text);
                if let Some(operator) = FILE_OPERATORS.iter().find(|operator| text.contains(**operator)) {
                    let message =
                        format!("TorchScript code calls `{}`, which touches files", operator.trim_end_matches('('));
                    self.tell(Severity::Danger, "script-files", message, &place);
                }
                continue;
            }
            let is_data = inner.starts_with("data/") && !name.contains('.');
            let is_library = LIBRARIES.iter().any(|ending| name.ends_with(ending))
                || !is_data && zip.head(member, 4).is_ok_and(|head| LIBRARY_STARTS.contains(&head.as_slice()));
            if is_library {
                let message = "a shared library: who loads compiled models (AOTInductor) runs it";
                self.tell(Severity::Danger, "native-code", message, &place);
            } else if PYTHON.iter().any(|ending| name.ends_with(ending)) {
                let message = "Python code: torch.package runs it when the archive is loaded";
                self.tell(Severity::Danger, "python-code", message, &place);
            }
        }
        Ok(())
    }
}
