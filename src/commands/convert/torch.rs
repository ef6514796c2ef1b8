//! Into torch's own containers: the whole object, or a state dict of the weights.

use anyhow::bail;

use crate::checkpoint::resave::{Resave, resave, state_dict};
use crate::checkpoint::selection::{Weight, Weights};
use crate::checkpoint::{Checkpoint, Container, Root};
use crate::commands::convert::{Casts, Job, To, at_output};
use crate::commands::progress_bar::Bar;
use crate::pickle::{Change, Graph, Node, NodeId, Scan};
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
        if let (false, Some(target)) = (reduced, target) {
            match self.metadata.is_empty() {
                true if self.args.save_values.is_some() => {
                    bail!("--save-values is for weights-only output: add --state-dict")
                }
                _ => self.save_values(checkpoint, &[], values)?,
            }
            let root = self.root(checkpoint)?;
            let mut casts = Casts::default();
            if self.args.dtype.is_some() {
                casts = self.casts(checkpoint, &root, &checkpoint.weights_places()?)?;
                casts.kept.tensors.extend(checkpoint.numpy_arrays(&root)?.into_keys());
                self.report.not_cast = self.not_cast(checkpoint, &casts);
            }
            let node = self.whole(checkpoint)?;
            return self.write_torch(checkpoint, node, casts, target, self.args.output().to_owned());
        }
        let mut weights = self.weights(checkpoint)?;
        let plain = match target {
            Some(_) if checkpoint.container != Container::TorchScript => self.plain(checkpoint, &mut weights)?,
            _ => false,
        };
        self.save_values(checkpoint, &weights.values, values)?;
        let Some(target) = target else { return self.torch_shards(checkpoint, &weights) };
        let root = match plain {
            true => weights.root.node,
            false => {
                let attributes = metadata_of(checkpoint, &weights);
                self.state_dict(checkpoint, &weights.tensors, attributes)?
            }
        };
        let casts = self.all_casts(checkpoint, root)?;
        self.write_torch(checkpoint, root, casts, target, self.args.output().to_owned())
    }

    /// What a cast does to a state dict, all of which is weights.
    pub(super) fn all_casts(&mut self, checkpoint: &Checkpoint, node: NodeId) -> anyhow::Result<Casts> {
        self.casts(checkpoint, &Root { node, path: Vec::new(), in_optimizer: false }, &[])
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
        casts: Casts,
        target: &Target,
        path: std::path::PathBuf,
    ) -> anyhow::Result<()> {
        let legacy = self.to == To::TorchLegacy;
        let (cast, uncast) = (self.args.dtype.clone(), casts.kept);
        let options = Resave { legacy, cast, uncast, device: self.args.device.clone(), compact: self.args.compact };
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
        self.overflowed(&overflows, |place| casts.names.get(&storages.get(place)?.tensor?).cloned());
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
