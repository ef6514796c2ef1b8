//! What an edit does to whatever its input is made of: a file, objects, shards and their index.

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::write::rewrite::Change;

/// What an operation changes.
pub(crate) trait Edit {
    /// In a file, whose container stays: the input itself.
    fn change(&self, checkpoint: &Checkpoint) -> Result<Change>;
    /// In the objects, for who writes them anew.
    fn apply(&self, checkpoint: &mut Checkpoint) -> Result<()>;
    /// In one of several shards; nothing where that stays as it is.
    fn change_in_shard(&self, shard: &Checkpoint) -> Result<Option<Change>>;
    /// The new name of what an index of the shards of `checkpoint` has under this name; nothing where that stays.
    fn name_in_index(&self, checkpoint: &Checkpoint, name: &str) -> Option<&str>;
}
