//! Into torch's own containers: the whole object, or a state dict of the weights.

use std::collections::{HashMap, HashSet};

use anyhow::bail;

use crate::checkpoint::names::join;
use crate::checkpoint::resave::{Resave, resave, state_dict};
use crate::checkpoint::selection::{Weight, Weights};
use crate::checkpoint::{Checkpoint, Container, Item, TensorId};
use crate::commands::convert::{CastTo, Job, To, at_output};
use crate::commands::progress_bar::Bar;
use crate::pickle::{Change, Graph, Node, NodeId, Scan};
use crate::report::convert::LeftOut;
use crate::write::atomic::Target;
use crate::write::content::Content;
use crate::write::{torch_legacy, torch_zip};

/// What headers, directory and alignment add for each storage, at most.
const MEMBER_BYTES: u64 = 512;

/// An entry of a state dict: its name, and what tensor it is if it is one.
type Named = (String, NodeId, Option<TensorId>);

impl Job<'_> {
    pub(super) fn torch(
        &mut self,
        checkpoint: &mut Checkpoint,
        target: Option<&Target>,
        values: Option<&Target>,
    ) -> anyhow::Result<()> {
        // TorchScript's classes exist in its archive only
        let reduced = self.args.state_dict || checkpoint.container == Container::TorchScript || target.is_none();
        if !reduced {
            if self.args.save_values.is_some() {
                bail!("--save-values is for weights-only output: add --state-dict");
            }
            let root = self.whole(checkpoint)?;
            return match target {
                Some(target) => self.write_torch(checkpoint, root, target, self.args.output.clone()),
                None => Ok(()),
            };
        }
        let weights = self.weights(checkpoint)?;
        self.save_values(checkpoint, &weights, values)?;
        let Some(target) = target else { return self.torch_shards(checkpoint, &weights) };
        let attributes = metadata_of(checkpoint, &weights);
        let root = match self.saved_values(checkpoint, &weights)? {
            Some(named) => state_dict(checkpoint, &named, attributes)?,
            None => self.state_dict(checkpoint, &weights.tensors, attributes)?,
        };
        self.write_torch(checkpoint, root, target, self.args.output.clone())
    }

    pub(super) fn state_dict(
        &mut self,
        checkpoint: &mut Checkpoint,
        tensors: &[Weight],
        attributes: Option<NodeId>,
    ) -> anyhow::Result<NodeId> {
        let named: Vec<_> = tensors.iter().map(|weight| (weight.name.clone(), weight.node, Some(weight.id))).collect();
        Ok(state_dict(checkpoint, &named, attributes)?)
    }

    /// The weights of a module with what else its `state_dict()` has, each under its whole name; `None` where it has
    /// nothing else.
    fn saved_values(&mut self, checkpoint: &Checkpoint, weights: &Weights) -> anyhow::Result<Option<Vec<Named>>> {
        let mut values = checkpoint.saved_values(weights.root.node)?;
        values.retain(|(name, _)| self.takes(name));
        if values.is_empty() {
            return Ok(None);
        }
        let nodes: HashMap<&str, NodeId> = values.iter().map(|(name, node)| (name.as_str(), *node)).collect();
        let whole = |name: &str| {
            let ends = std::iter::once(name.len()).chain(name.rmatch_indices('.').map(|(at, _)| at));
            ends.filter_map(|end| name.get(..end)).find_map(|whole| nodes.get_key_value(whole))
        };
        // the order of the module: tensors and values as their names are listed
        let mut named: Vec<Named> = Vec::new();
        let mut written = HashSet::new();
        let chosen: HashSet<&str> = weights.tensors.iter().map(|weight| weight.name.as_str()).collect();
        for entry in checkpoint.names(&weights.root)?.entries {
            let name = entry.name();
            match (whole(&name), entry.item) {
                (Some((whole, node)), _) if written.insert(*whole) => named.push(((*whole).to_owned(), *node, None)),
                (Some(_), _) => {}
                (None, Item::Tensor(id, true)) if chosen.contains(name.as_str()) => {
                    named.push((name, entry.node, Some(id)));
                }
                _ => {}
            }
        }
        let prefix = join(&weights.root.path);
        let prefix = if prefix.is_empty() { prefix } else { format!("{prefix}.") };
        self.report.left_out.retain(|left| left.name.strip_prefix(&prefix).is_none_or(|name| whole(name).is_none()));
        Ok(Some(named))
    }

    /// The object with what was not chosen taken out of it.
    fn whole(&mut self, checkpoint: &mut Checkpoint) -> anyhow::Result<NodeId> {
        let root = self.root(checkpoint)?;
        if !self.filter.takes_all() || !self.drops.is_empty() {
            let this = &*self;
            let removed = checkpoint
                .prune(&root, &|name, is_tensor| this.drops.hold(name) || is_tensor && !this.filter.takes(name))?;
            if removed.is_empty() && !self.drops.is_empty() {
                bail!("--drop {}: there is nothing of that name", self.args.drop.join(", "));
            }
            self.report.left_out.extend(removed.into_iter().map(|name| LeftOut { name, tensors: None }));
        }
        Ok(root.node)
    }

    pub(super) fn write_torch(
        &mut self,
        checkpoint: &mut Checkpoint,
        root: NodeId,
        target: &Target,
        path: std::path::PathBuf,
    ) -> anyhow::Result<()> {
        let legacy = self.to == To::TorchLegacy;
        let cast = self.args.dtype.map(CastTo::dtype);
        let options = Resave { legacy, cast, device: self.args.device.clone(), compact: self.args.compact };
        let storages = resave(checkpoint, root, &options)?;
        let scan = Scan::new(&checkpoint.graph, root)?;
        let limits = &self.limits;
        let mut bytes = 0_u64;
        for storage in &storages {
            bytes = bytes.saturating_add(Content::of_storage(storage)?.bytes(limits)?);
        }
        self.check_room(target, bytes.saturating_add(storages.len() as u64 * MEMBER_BYTES))?;
        let tensors = scan.order().iter().filter(|node| checkpoint.tensors.of(**node).is_some()).count();
        self.report.tensors += tensors as u64;
        let bar = Bar::new(&self.report.output, bytes, self.args.report.quiet);
        let write = if legacy { torch_legacy::write } else { torch_zip::write };
        let written = write(target, &checkpoint.graph, &scan, &storages, limits, &bar);
        drop(bar);
        let (output, overflows) = at_output(&path, written)?;
        self.report.overflows += overflows;
        self.keep(path, output)
    }
}

/// The `_metadata` of a state dict that is taken whole, where it consists of plain values.
fn metadata_of(checkpoint: &Checkpoint, weights: &Weights) -> Option<NodeId> {
    let state = checkpoint.graph.changes(weights.root.node).iter().find_map(|change| match change {
        Change::Build(state) => Some(*state),
        _ => None,
    })?;
    checkpoint.objects().items(weights.root.node)?;
    let scan = Scan::new(&checkpoint.graph, state).ok()?;
    let plain = scan.order().iter().all(|node| match checkpoint.graph.node(*node) {
        Node::Global { .. } => checkpoint
            .graph
            .global(*node)
            .is_some_and(|(module, name)| module == "collections" && name == "OrderedDict"),
        Node::Persistent(_) | Node::Foreign(_) => false,
        _ => true,
    });
    (plain && state != Graph::NONE).then_some(state)
}
