//! Into torch's own containers: the whole object, or a state dict of the weights.

use std::collections::{HashMap, HashSet};

use super::{Casts, Job, Options, Outlet, at_output};
use crate::checkpoint::casting::Kept;
use crate::checkpoint::names::join;
use crate::checkpoint::prune::Removed;
use crate::checkpoint::resave::{NewStorage, Resave, metadata_below, ordered_dict, resave, state_dict};
use crate::checkpoint::safe::Replaced;
use crate::checkpoint::selection::{Weight, Weights};
use crate::checkpoint::{Checkpoint, Container, Item, Root, TensorId};
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::operations::sink::Sink;
use crate::pickle::{Census, Change, Graph, Node, NodeId, Pair};
use crate::report::convert::{LeftOut, Replacement};
use crate::safety::{sparse, weights_only};
use crate::write::content::Content;
use crate::write::format::Format;
use crate::write::watch::Paced;
use crate::write::{torch_legacy, torch_zip};

/// What headers, directory and alignment add for each storage, at most.
const MEMBER_BYTES: u64 = 512;

/// Reasons that an error tells.
const MAX_REASONS: usize = 8;

/// An entry of a state dict: its name, and what tensor it is if it is one.
type Named = (String, NodeId, Option<TensorId>);

impl Job<'_> {
    pub(super) fn torch(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        if self.options.shared.is_some() {
            let kept = " has no effect on torch's formats, in which tensors that share memory go on sharing it";
            self.note(Setting::Shared.then(kept));
        }
        let is_script = checkpoint.container() == Container::TorchScript;
        if self.options.safe && matches!(checkpoint.container(), Container::TorchScript | Container::Pt2) {
            // what else such an archive holds belongs to its code
            let what = Setting::Safe.then(" does not open a program; ").setting(Setting::StateDict);
            return Err(Error::refused(what.text(" writes its weights")));
        }
        match self.outlet {
            // TorchScript's classes exist in its archive only
            Outlet::File(sink) if !self.options.state_dict && !is_script => return self.object(checkpoint, sink),
            _ => {}
        }
        let mut weights = self.weights(checkpoint)?;
        let sink = match self.outlet {
            Outlet::File(sink) => sink,
            Outlet::Shards(shards) => {
                self.save_values(checkpoint, &weights.values)?;
                return self.torch_shards(shards, checkpoint, &weights);
            }
        };
        self.watch_weights(checkpoint, &weights.tensors);
        let root = self.as_state_dict(checkpoint, &mut weights)?;
        self.save_values(checkpoint, &weights.values)?;
        let casts = self.all_casts(checkpoint, root)?;
        self.write_torch(checkpoint, root, casts, sink)
    }

    /// The state dict that weights are: the one they are in, or a new one.
    pub(super) fn as_state_dict(&mut self, checkpoint: &mut Checkpoint, weights: &mut Weights) -> Result<NodeId> {
        if checkpoint.container() != Container::TorchScript && self.plain(checkpoint, weights)? {
            return Ok(weights.root.node);
        }
        let attributes = self.attributes(checkpoint, &weights.root)?;
        match self.saved_values(checkpoint, weights)? {
            Some(named) => state_dict(checkpoint, &named, attributes),
            None => self.state_dict(checkpoint, &weights.tensors, attributes),
        }
    }

    /// The object as it is, with everything in it.
    fn object(&mut self, checkpoint: &mut Checkpoint, sink: &Sink) -> Result<()> {
        if self.metadata.is_empty() && self.values.is_some() {
            let what = Setting::SaveValues.then(" is for weights-only output: add ");
            return Err(Error::refused(what.setting(Setting::StateDict)));
        }
        self.save_values(checkpoint, &[])?;
        let root = self.root(checkpoint)?;
        let mut casts = Casts::default();
        if self.options.dtype.is_some() {
            casts = self.casts(checkpoint, &root, &checkpoint.weights_sets()?)?;
            casts.kept.tensors.extend(checkpoint.numpy_arrays(&root)?.into_keys());
            self.report.not_cast = self.not_cast(checkpoint, &casts);
        }
        let mut node = self.whole(checkpoint)?;
        if self.options.safe {
            node = self.make_safe(checkpoint, node, &root)?;
        }
        let scan = Census::new(&checkpoint.graph, node)?;
        self.watch_all(checkpoint, &scan)?;
        self.write_torch(checkpoint, node, casts, sink)
    }

    /// Replaces what torch's weights-only unpickler refuses.
    fn make_safe(&mut self, checkpoint: &mut Checkpoint, node: NodeId, root: &Root) -> Result<NodeId> {
        let safe = checkpoint.make_safe(node, &root.path, &weights_only::takes_global)?;
        let left_out = safe.left_out.into_iter().map(|name| LeftOut { name, tensors: None });
        self.report.left_out.extend(left_out);
        let replaced = safe.replaced.into_iter();
        let replaced = replaced.map(|Replaced { name, class, became }| Replacement { name, class, became });
        self.report.replaced = replaced.collect();
        Ok(safe.root)
    }

    /// Refuses to write what torch would not open.
    fn check_safe(&self, checkpoint: &Checkpoint, scan: &Census, storages: &[NewStorage]) -> Result<()> {
        let legacy = self.options.to == Format::TorchLegacy;
        let bytes = |storage: &NewStorage| Content::of_storage(storage)?.bytes(&self.limits);
        let bytes: Vec<u64> = storages.iter().map(bytes).collect::<Result<_>>()?;
        let bytes = Some(bytes.as_slice()).filter(|_| !legacy);
        let verdict = weights_only::of_graph(&checkpoint.graph, scan, bytes)?;
        let sparse = sparse::broken(checkpoint)?;
        if verdict.opens && sparse.is_empty() {
            return Ok(());
        }
        let reasons = verdict.reasons.iter().map(|reason| reason.detail.clone());
        let sparse = sparse.into_iter().map(|(name, why)| format!("{name}: {why}"));
        let reasons: Vec<String> = reasons.chain(sparse).take(MAX_REASONS).collect();
        let message = format!("torch would still not open it with weights_only=True: {}", reasons.join("; "));
        Err(Error::unsupported(message).advise(Setting::Drop.then(" leaves out what is in the way")))
    }

    /// What a cast does to a state dict, all of which is weights.
    pub(super) fn all_casts(&mut self, checkpoint: &Checkpoint, node: NodeId) -> Result<Casts> {
        self.casts(checkpoint, &Root { node, path: Vec::new(), in_optimizer: false, stem: None }, &[])
    }

    pub(super) fn state_dict(
        &mut self,
        checkpoint: &mut Checkpoint,
        tensors: &[Weight],
        attributes: Option<NodeId>,
    ) -> Result<NodeId> {
        let named: Vec<_> = tensors.iter().map(|weight| (weight.name.clone(), weight.node, Some(weight.id))).collect();
        state_dict(checkpoint, &named, attributes)
    }

    /// What torch left on a state dict; what cannot stay is named.
    fn attributes(&mut self, checkpoint: &mut Checkpoint, root: &Root) -> Result<Option<NodeId>> {
        let (attributes, refused) = attributes_of(checkpoint, root)?;
        let prefix = join(&root.path);
        let whole = |name| if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        let refused = refused.into_iter().map(|name| LeftOut { name: whole(name), tensors: None });
        self.report.left_out.splice(self.told..self.told, refused);
        Ok(attributes)
    }

    /// The weights of a module with what else its `state_dict()` has, each under its whole name; `None` where it has
    /// nothing else.
    fn saved_values(&mut self, checkpoint: &Checkpoint, weights: &Weights) -> Result<Option<Vec<Named>>> {
        let mut values = checkpoint.saved_values(weights.root.node)?;
        values.retain(|(name, _)| self.filter.takes(name));
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
    pub(super) fn whole(&mut self, checkpoint: &mut Checkpoint) -> Result<NodeId> {
        let root = self.root(checkpoint)?;
        self.choose(checkpoint, &root)?;
        if !self.filter.takes_all() {
            let entries = checkpoint.names(&root)?.entries;
            if !entries.iter().any(|entry| self.filter.takes(&entry.name())) {
                return Err(Error::refused(self.asked().nothing_left("names").text("; nothing written")));
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
    fn part(&mut self, checkpoint: &mut Checkpoint, root: &Root) -> Result<NodeId> {
        let mut entries = Vec::new();
        for entry in checkpoint.names(root)?.entries {
            let name = entry.name();
            if self.filter.takes(&name) {
                entries.push(Pair { key: checkpoint.graph.push_str(&name)?, value: entry.node, key_at: 0 });
            } else {
                let name = format!("{}.{name}", join(&root.path));
                self.report.left_out.push(LeftOut { name, tensors: None });
            }
        }
        Ok(match self.attributes(checkpoint, root)? {
            Some(attributes) => {
                let items = entries.into_iter().map(Change::Item);
                ordered_dict(checkpoint, items.chain([Change::Build(attributes)]).collect())?
            }
            None => checkpoint.graph.push(Node::Dict(Box::new(entries)))?,
        })
    }

    /// What becomes of storages and tensors, but for those that a cast leaves alone.
    pub(super) fn resave_options(&self, uncast: Kept) -> Resave {
        let Options { to, dtype, device, compact, .. } = self.options;
        let legacy = *to == Format::TorchLegacy;
        Resave { legacy, cast: dtype.clone(), uncast, device: device.clone(), compact: *compact }
    }

    pub(super) fn write_torch(
        &mut self,
        checkpoint: &mut Checkpoint,
        root: NodeId,
        casts: Casts,
        Sink { name, target }: &Sink,
    ) -> Result<()> {
        let legacy = self.options.to == Format::TorchLegacy;
        let storages = resave(checkpoint, root, &self.resave_options(casts.kept))?;
        let scan = Census::new(&checkpoint.graph, root)?;
        if self.options.safe {
            self.check_safe(checkpoint, &scan, &storages)?;
        }
        let limits = &self.limits;
        let mut bytes = 0_u64;
        for storage in &storages {
            bytes = bytes.saturating_add(Content::of_storage(storage)?.bytes(limits)?);
        }
        self.check_room(target, bytes.saturating_add(storages.len() as u64 * MEMBER_BYTES))?;
        let tensors = scan.order().iter().filter(|node| checkpoint.tensors.of(**node).is_some()).count();
        self.report.tensors += tensors as u64;
        self.progress.begin(&self.report.output, bytes);
        let progress = &Paced::new(&self.watch, self.progress);
        let write = if legacy { torch_legacy::write } else { torch_zip::write };
        let written = write(target, &checkpoint.graph, &scan, &storages, limits, progress);
        let (output, overflows) = at_output(name, written)?;
        self.overflowed(&overflows, |place| casts.names.get(&storages.get(place)?.tensor?).cloned());
        self.keep(name, output)
    }
}

/// The attributes of a state dict that consist of plain values, `_metadata` as a rule, and the names of the others; of a part
/// of one those of its modules.
pub(in crate::operations) fn attributes_of(
    checkpoint: &mut Checkpoint,
    root: &Root,
) -> Result<(Option<NodeId>, Vec<String>)> {
    let state = checkpoint.graph.changes(root.node).iter().find_map(|change| match change {
        Change::Build(state) if *state != Graph::NONE => Some(*state),
        _ => None,
    });
    let Some(mut state) = state.filter(|_| checkpoint.objects().items(root.node).is_some()) else {
        return Ok((None, Vec::new()));
    };
    let mut refused = Vec::new();
    if !is_plain(&checkpoint.graph, state) {
        let Node::Dict(attributes) = checkpoint.graph.node(state) else { return Ok((None, vec!["__state__".into()])) };
        let (kept, others): (Vec<Pair>, Vec<Pair>) = attributes
            .iter()
            .partition(|entry| is_plain(&checkpoint.graph, entry.key) && is_plain(&checkpoint.graph, entry.value));
        let name = |entry: &Pair| checkpoint.graph.str(entry.key).unwrap_or_default().into_owned();
        refused = others.iter().map(name).collect();
        if kept.is_empty() {
            return Ok((None, refused));
        }
        state = checkpoint.graph.push(Node::Dict(Box::new(kept)))?;
    }
    Ok(match &root.stem {
        Some(stem) => (metadata_below(checkpoint, state, stem)?, refused),
        None => (Some(state), refused),
    })
}

/// Whether an object consists of plain values and `OrderedDict`s.
fn is_plain(graph: &Graph, node: NodeId) -> bool {
    let Ok(scan) = Census::new(graph, node) else { return false };
    scan.order().iter().all(|node| match graph.node(*node) {
        Node::Global { .. } => {
            graph.global(*node).is_some_and(|(module, name)| module == "collections" && name == "OrderedDict")
        }
        Node::Persistent(_) | Node::Foreign(_) => false,
        _ => true,
    })
}
