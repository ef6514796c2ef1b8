//! Into torch's own containers: the whole object, or a state dict of the weights.

use anyhow::bail;

use crate::checkpoint::names::join;
use crate::checkpoint::prune::Removed;
use crate::checkpoint::resave::{Resave, metadata_below, ordered_dict, resave, state_dict};
use crate::checkpoint::selection::Weight;
use crate::checkpoint::{Checkpoint, Container, Root};
use crate::commands::convert::{CastTo, Job, To, at_output};
use crate::commands::names::Asked;
use crate::commands::progress_bar::Bar;
use crate::pickle::{Change, Entry, Graph, Node, NodeId, Scan};
use crate::report::convert::LeftOut;
use crate::write::atomic::Target;
use crate::write::content::Content;
use crate::write::{torch_legacy, torch_zip};

/// What headers, directory and alignment add for each storage, at most.
const MEMBER_BYTES: u64 = 512;

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
        let attributes = metadata_of(checkpoint, &weights.root)?;
        let root = self.state_dict(checkpoint, &weights.tensors, attributes)?;
        self.write_torch(checkpoint, root, target, self.args.output.clone())
    }

    pub(super) fn state_dict(
        &mut self,
        checkpoint: &mut Checkpoint,
        tensors: &[Weight],
        attributes: Option<NodeId>,
    ) -> anyhow::Result<NodeId> {
        let named: Vec<_> = tensors.iter().map(|weight| (weight.name.clone(), weight.node, weight.id)).collect();
        Ok(state_dict(checkpoint, &named, attributes)?)
    }

    /// The object with what was not chosen taken out of it.
    fn whole(&mut self, checkpoint: &mut Checkpoint) -> anyhow::Result<NodeId> {
        let root = self.root(checkpoint)?;
        self.choose(checkpoint, &root)?;
        if !self.filter.takes_all() {
            let entries = checkpoint.names(&root)?.entries;
            if !entries.iter().any(|entry| self.filter.takes(&entry.name())) {
                let asked = Asked::of(&self.args.names, &self.args.drop);
                bail!("{}; nothing written", asked.nothing_left("names"));
            }
        }
        if !root.path.is_empty() {
            let outside = checkpoint.outside(&root)?.names.into_iter();
            self.report.left_out.extend(outside.map(|(name, tensors)| LeftOut { name, tensors }));
        }
        if root.stem.is_some() {
            return self.part(checkpoint, &root);
        }
        if !self.filter.takes_all() {
            let filter = &self.filter;
            let removed = checkpoint.prune(&root, &|name| filter.takes(name))?.into_iter();
            let prefix = join(&root.path);
            let whole = |name: String| if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let removed = removed.map(|Removed { name, tensors }| LeftOut { name: whole(name), tensors });
            self.report.left_out.extend(removed);
        }
        Ok(root.node)
    }

    /// A dict of what is chosen below a node of the tree that is no object; of a state dict another one.
    fn part(&mut self, checkpoint: &mut Checkpoint, root: &Root) -> anyhow::Result<NodeId> {
        let mut entries = Vec::new();
        for entry in checkpoint.names(root)?.entries {
            let name = entry.name();
            if self.filter.takes(&name) {
                entries.push(Entry { key: checkpoint.graph.push_str(&name)?, value: entry.node, key_at: 0 });
            } else {
                let name = format!("{}.{name}", join(&root.path));
                self.report.left_out.push(LeftOut { name, tensors: None });
            }
        }
        Ok(match metadata_of(checkpoint, root)? {
            Some(attributes) => {
                let items = entries.into_iter().map(Change::Item);
                ordered_dict(checkpoint, items.chain([Change::Build(attributes)]).collect())?
            }
            None => checkpoint.graph.push(Node::Dict(Box::new(entries)))?,
        })
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

/// The `_metadata` of a state dict, where it consists of plain values; of a part of one that of its modules.
fn metadata_of(checkpoint: &mut Checkpoint, root: &Root) -> anyhow::Result<Option<NodeId>> {
    let state = checkpoint.graph.changes(root.node).iter().find_map(|change| match change {
        Change::Build(state) if *state != Graph::NONE => Some(*state),
        _ => None,
    });
    let Some(state) = state.filter(|_| checkpoint.objects().items(root.node).is_some()) else { return Ok(None) };
    let Ok(scan) = Scan::new(&checkpoint.graph, state) else { return Ok(None) };
    let plain = scan.order().iter().all(|node| match checkpoint.graph.node(*node) {
        Node::Global { .. } => checkpoint
            .graph
            .global(*node)
            .is_some_and(|(module, name)| module == "collections" && name == "OrderedDict"),
        Node::Persistent(_) | Node::Foreign(_) => false,
        _ => true,
    });
    Ok(match &root.stem {
        _ if !plain => None,
        Some(stem) => metadata_below(checkpoint, state, stem)?,
        None => Some(state),
    })
}
