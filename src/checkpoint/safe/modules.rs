//! What a module's `state_dict()` gives, with its `_metadata`; tensors are the module's own objects, parameters included.

use super::{Fate, Work};
use crate::checkpoint::names::join;
use crate::checkpoint::resave::ordered_dict;
use crate::checkpoint::{Item, Root};
use crate::error::Result;
use crate::pickle::{Change, Node, NodeId, Pair};

/// Versions of modules' state dicts (`_version` in `torch/nn/modules` and `torch/ao`); all others have 1.
const VERSIONS: &[(&str, i64)] = &[
    ("BatchNorm1d", 2),
    ("BatchNorm2d", 2),
    ("BatchNorm3d", 2),
    ("SyncBatchNorm", 2),
    ("LazyBatchNorm1d", 2),
    ("LazyBatchNorm2d", 2),
    ("LazyBatchNorm3d", 2),
    ("InstanceNorm1d", 2),
    ("InstanceNorm2d", 2),
    ("InstanceNorm3d", 2),
    ("LazyInstanceNorm1d", 2),
    ("LazyInstanceNorm2d", 2),
    ("LazyInstanceNorm3d", 2),
    ("LinearPackedParams", 3),
    ("MinMaxObserver", 3),
    ("MovingAverageMinMaxObserver", 3),
    ("PerChannelMinMaxObserver", 3),
    ("MovingAveragePerChannelMinMaxObserver", 3),
    ("HistogramObserver", 3),
];

impl Work<'_> {
    pub(super) fn module(&mut self, node: NodeId, at: usize) -> Result<Fate> {
        let root = Root { node, path: Vec::new(), in_optimizer: false, stem: None };
        let names = self.checkpoint.names(&root)?;
        let mut values = self.checkpoint.saved_values(node)?;
        let wholes: Vec<String> = values.iter().map(|(whole, _)| whole.clone()).collect();
        let mut items: Vec<(String, NodeId)> = Vec::new();
        for entry in names.entries {
            let name = entry.name();
            // values of several elements are listed below their names
            let is_of =
                |whole: &str| name.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            if wholes.iter().any(|whole| is_of(whole)) {
                items.extend(values.extract_if(.., |(whole, _)| is_of(whole)));
                continue;
            }
            match entry.item {
                Item::Tensor(_, true) if entry.inside.is_none() => items.push((name, entry.node)),
                Item::Tensor(_, false) => {
                    let whole = [self.name(at), name].into_iter().filter(|part| !part.is_empty());
                    self.left_out.push(whole.collect::<Vec<_>>().join("."));
                }
                _ => {}
            }
        }
        items.extend(values);
        let class = self.class(node);
        let packed: Vec<String> = names
            .modules
            .iter()
            .filter(|(_, class)| class == "LinearPackedParams")
            .map(|(path, _)| join(path))
            .collect();
        let mut versions = Vec::new();
        for (path, class) in &names.modules {
            let name = join(path);
            let is_packed = class == "Linear"
                && packed.iter().any(|packed| {
                    packed.strip_suffix("_packed_params").is_some_and(|stem| stem.trim_end_matches('.') == name)
                });
            let known = VERSIONS.iter().find(|(known, _)| known == class).map_or(1, |(_, version)| *version);
            let version = self.push(Node::Int(if is_packed { 3 } else { known }))?;
            let key = self.checkpoint.graph.push_str("version")?;
            let version = self.push(Node::Dict(Box::new(vec![Pair { key, value: version, key_at: 0 }])))?;
            versions.push(Change::Item(Pair {
                key: self.checkpoint.graph.push_str(&name)?,
                value: version,
                key_at: 0,
            }));
        }
        let versions = ordered_dict(self.checkpoint, versions)?;
        let key = self.checkpoint.graph.push_str("_metadata")?;
        let attributes = self.push(Node::Dict(Box::new(vec![Pair { key, value: versions, key_at: 0 }])))?;
        let mut changes = Vec::new();
        for (name, value) in items {
            changes.push(Change::Item(Pair { key: self.checkpoint.graph.push_str(&name)?, value, key_at: 0 }));
        }
        changes.push(Change::Build(attributes));
        let made = ordered_dict(self.checkpoint, changes)?;
        Ok(Fate::new(class, self.checkpoint.graph.node(made).clone()))
    }
}
