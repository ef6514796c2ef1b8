//! Which part of an input is "the weights", said and asked for in the words of the command line.

use anyhow::bail;

use crate::checkpoint::names::join;
use crate::checkpoint::weights::Found;
use crate::checkpoint::{Checkpoint, Root};
use crate::report::figures::counted;
use crate::report::shell::quoted;

/// Choices that an error lists.
const MAX_CHOICES: usize = 8;

/// The one set of weights. `option` is what chooses among several: `--root`.
pub fn find(checkpoint: &Checkpoint, option: &str) -> anyhow::Result<Root> {
    match checkpoint.find_weights()? {
        Found::One(root) => Ok(root),
        Found::Several(sets) => {
            let shown: Vec<String> =
                sets.iter().take(MAX_CHOICES).map(|set| format!("{option} {}", quoted(&shown(set)))).collect();
            let more = sets.len().saturating_sub(MAX_CHOICES);
            let more = if more > 0 { format!(" ({more} more)") } else { String::new() };
            bail!("holds several sets of weights; choose {}{more}, or {option} . for everything", shown.join(", "))
        }
        Found::Nothing => match checkpoint.tensors.iter().count() as u64 {
            0 => bail!("holds no tensors"),
            tensors => bail!(
                "no model found among its {}: neither a module nor a state dict; {option} . takes them all",
                counted(tensors, "tensor")
            ),
        },
    }
}

/// The name of a set: `.` for the top object.
pub fn shown(root: &Root) -> String {
    if root.path.is_empty() { ".".to_owned() } else { join(&root.path) }
}
