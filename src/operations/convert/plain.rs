//! The state dict of what is a plain one already: it stays the object it is.

use std::collections::HashSet;

use super::Job;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::selection::Weights;
use crate::error::Result;
use crate::safety::weights_only;

impl Job<'_> {
    /// Takes out of a plain state dict what was not chosen and what `torch.load(weights_only=True)` would not open, and puts
    /// numbers in the place of numpy's scalars. False, and nothing done, where the weights are something else.
    pub(super) fn plain(&mut self, checkpoint: &mut Checkpoint, weights: &mut Weights) -> Result<bool> {
        let root = weights.root.clone();
        let Some(values) = checkpoint.values_of_plain_state_dict(&root)? else { return Ok(false) };
        if !weights_only::opens_mapping(checkpoint, root.node)? {
            return Ok(false);
        }
        let (mut kept, mut refused, mut unboxed) = (Vec::new(), HashSet::new(), 0);
        for (name, node) in values {
            unboxed += checkpoint.unbox_numpy_scalars(node)?;
            match !checkpoint.is_optimizer_state(node) && weights_only::opens_object(checkpoint, node)? {
                true => kept.push(name),
                false => drop(refused.insert(name)),
            }
        }
        if unboxed > 0 {
            let what =
                if unboxed == 1 { "numpy scalar is a Python number" } else { "numpy scalars are Python numbers" };
            self.note(format!("{unboxed} {what} now"));
        }
        let filter = &self.filter;
        let is_refused = |name: &str| {
            let heads = name.match_indices('.').filter_map(|(dot, _)| name.get(..dot));
            heads.chain([name]).any(|head| refused.contains(head))
        };
        checkpoint.prune(&root, &|name| !is_refused(name) && filter.takes(name))?;
        // what was said to be left out is not, where it lies in a value that stays
        let prefix = crate::checkpoint::names::join(&root.path);
        let stays = |name: &str| {
            let name = match prefix.as_str() {
                "" => name,
                prefix => name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default(),
            };
            let is_in =
                |kept: &String| name.strip_prefix(kept).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            filter.takes(name) && kept.iter().any(is_in)
        };
        weights.values.retain(|(name, _)| !stays(name));
        self.report.left_out.retain(|left| !stays(&left.name));
        Ok(true)
    }
}
