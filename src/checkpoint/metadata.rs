//! safetensors' `__metadata__`: strings beside the tensors, and the aliases among them.
//!
//! `safetensors.torch.save_model` writes tensors that share memory once and records each name that it drops as
//! `{alias: kept name}`. In a checkpoint the strings are one more item of the top dict, so that they are listed; who goes
//! on to work with the tensors takes them out, and turns the aliases into names again.

use std::collections::HashMap;

use crate::checkpoint::{Checkpoint, Container};
use crate::container::safetensors::{METADATA, is_alias};
use crate::error::Result;
use crate::pickle::{Node, NodeId, Pair};

impl Checkpoint {
    /// The strings of `__metadata__`, in order; of shards what they say together. Empty for every other format.
    pub(crate) fn metadata(&self) -> Vec<(String, String)> {
        let Some(dict) = self.metadata_dict() else { return Vec::new() };
        let text = |node| self.graph.str(node).unwrap_or_default().into_owned();
        let entries = self.objects().items(dict).unwrap_or_default();
        entries.iter().map(|entry| (text(entry.key), text(entry.value))).collect()
    }

    /// Makes each alias a name of the top dict beside the one it stands for, one tensor under both, and no entry of
    /// `__metadata__`. Gives the aliases and the names they stand for.
    pub fn restore_aliases(&mut self) -> Result<Vec<(String, String)>> {
        let metadata = self.metadata();
        if metadata.is_empty() {
            return Ok(Vec::new());
        }
        let tensors = self.top_tensors();
        let is_tensor = |name: &str| tensors.contains_key(name);
        let (aliases, rest): (Vec<_>, Vec<_>) =
            metadata.into_iter().partition(|(key, value)| is_alias(key, value, is_tensor));
        if aliases.is_empty() {
            return Ok(aliases);
        }
        let mut entries = self.top_entries();
        let listed = entries.pop();
        for (alias, kept) in &aliases {
            let Some(value) = tensors.get(kept).copied() else { continue };
            entries.push(Pair { key: self.graph.push_str(alias)?, value, key_at: 0 });
        }
        if let Some(listed) = listed.filter(|_| !rest.is_empty()) {
            let mut strings = Vec::new();
            for (key, value) in &rest {
                strings.push(Pair { key: self.graph.push_str(key)?, value: self.graph.push_str(value)?, key_at: 0 });
            }
            let value = self.graph.push(Node::Dict(Box::new(strings)))?;
            entries.push(Pair { value, ..listed });
        }
        self.set_top(entries);
        Ok(aliases)
    }

    /// The aliases that [`restore_aliases`](Self::restore_aliases) would restore.
    pub(crate) fn aliases(&self) -> Vec<(String, String)> {
        let metadata = self.metadata();
        if metadata.is_empty() {
            return metadata;
        }
        let tensors = self.top_tensors();
        let is_tensor = |name: &str| tensors.contains_key(name);
        metadata.into_iter().filter(|(key, value)| is_alias(key, value, is_tensor)).collect()
    }

    /// Takes the strings out of the top dict.
    pub(crate) fn take_metadata(&mut self) -> Vec<(String, String)> {
        let metadata = self.metadata();
        if self.metadata_dict().is_some() {
            let mut entries = self.top_entries();
            entries.pop();
            self.set_top(entries);
        }
        metadata
    }

    /// The dict of strings: the last item, where a safetensors file or shards of such had one.
    fn metadata_dict(&self) -> Option<NodeId> {
        if !matches!(self.container(), Container::Safetensors | Container::Sharded) {
            return None;
        }
        let Node::Dict(entries) = self.graph.node(self.root) else { return None };
        let last = entries.last().filter(|entry| self.graph.str(entry.key).as_deref() == Some(METADATA))?;
        matches!(self.graph.node(last.value), Node::Dict(_)).then_some(last.value)
    }

    fn top_entries(&self) -> Vec<Pair> {
        match self.graph.node(self.root) {
            Node::Dict(entries) => entries.to_vec(),
            _ => Vec::new(),
        }
    }

    fn set_top(&mut self, entries: Vec<Pair>) {
        if let Some(top) = self.graph.node_mut(self.root) {
            *top = Node::Dict(Box::new(entries));
        }
    }

    fn top_tensors(&self) -> HashMap<String, NodeId> {
        let entries = self.top_entries().into_iter().filter(|entry| self.tensors.of(entry.value).is_some());
        let named = entries.filter_map(|entry| Some((self.graph.str(entry.key)?.into_owned(), entry.value)));
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::limits::Limits;
    use crate::progress::Silent;
    use crate::source::MemorySource;

    fn open(metadata: &str) -> Checkpoint {
        let json = format!(
            r#"{{"__metadata__":{metadata},"w":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}},"pt":{{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}}}"#
        );
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.extend([1, 2]);
        Checkpoint::open(Arc::new(MemorySource::new(bytes)), &Limits::default(), &Silent).unwrap()
    }

    fn names(checkpoint: &Checkpoint) -> Vec<String> {
        checkpoint.names(&checkpoint.top()).unwrap().entries.iter().map(|entry| entry.name()).collect()
    }

    #[test]
    fn aliases_become_names_and_other_strings_do_not() {
        // `format` says what wrote the file, even where a tensor is called so; `pt` is a tensor itself
        let mut checkpoint = open(r#"{"head":"w","format":"pt","pt":"w","a":"v","b":"head"}"#);
        checkpoint.restore_aliases().unwrap();
        let restored = ["w", "pt", "head"];
        assert_eq!(names(&checkpoint)[..3], restored);
        let entries = checkpoint.names(&checkpoint.top()).unwrap().entries;
        assert_eq!(entries[0].node, entries[2].node);
        let rest: Vec<(String, String)> =
            [("format", "pt"), ("pt", "w"), ("a", "v"), ("b", "head")].map(|(k, v)| (k.into(), v.into())).to_vec();
        assert_eq!(checkpoint.metadata(), rest);
        let before = names(&checkpoint);
        // the second time `b` would be an alias of `head`, which was none in the file
        checkpoint.take_metadata();
        checkpoint.restore_aliases().unwrap();
        assert_eq!((names(&checkpoint), before.len()), (restored.map(str::to_owned).to_vec(), 7));
    }

    #[test]
    fn metadata_of_aliases_alone_goes_with_them() {
        let mut checkpoint = open(r#"{"head":"w"}"#);
        checkpoint.restore_aliases().unwrap();
        assert_eq!(names(&checkpoint), ["w", "pt", "head"]);
        assert!(checkpoint.take_metadata().is_empty());
        assert_eq!(names(&checkpoint), ["w", "pt", "head"]);
    }
}
