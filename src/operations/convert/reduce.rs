//! What a conversion would write of an input, chosen and not written: for who writes several inputs as one.

use std::collections::HashSet;

use super::{Job, Options, Outlet};
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::selection::Weight;
use crate::checkpoint::{Checkpoint, Container, Tensor};
use crate::error::Result;
use crate::operations::Input;
use crate::pickle::{Census, NodeId};
use crate::progress::Progress;
use crate::report::convert::Conversion;

/// What is to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operations) enum Reduced {
    /// The whole object; of TorchScript, whose classes exist in its archive only, the state dict.
    Object,
    /// The weights as a state dict, with what else stands in it and torch opens with `weights_only=True`.
    StateDict,
    /// The weights, tensor by tensor.
    Weights,
}

/// What was chosen.
#[derive(Debug)]
pub(in crate::operations) enum Top {
    /// An object.
    Object(NodeId),
    /// Tensors, each with its name.
    Weights(Vec<Weight>),
}

/// What was chosen of an input, and what there is to say.
#[derive(Debug)]
pub(in crate::operations) struct Chosen {
    pub top: Top,
    /// The strings of `__metadata__`.
    pub metadata: Vec<(String, String)>,
    pub report: Conversion,
}

/// Chooses, and says what is left out. The input's objects are changed on the way.
pub(in crate::operations) fn reduce(
    input: &mut Input,
    to: Reduced,
    options: &Options,
    outlet: &Outlet,
    progress: &dyn Progress,
) -> Result<Chosen> {
    let Input { name, checkpoint, .. } = input;
    let job = Job::new(name, checkpoint, options, outlet, None, progress);
    job.reduce(checkpoint, to).map_err(|e| e.of_input(name))
}

/// How many tensors lie below an object, each once: a parameter and the tensor that it is made of are one.
pub(in crate::operations) fn tensors_below(checkpoint: &Checkpoint, node: NodeId) -> Result<u64> {
    let scan = Census::new(&checkpoint.graph, node)?;
    let objects = checkpoint.objects();
    let is_tensor = |node: &NodeId| checkpoint.tensors.of(*node).is_some();
    let tensors: Vec<NodeId> = scan.order().iter().copied().filter(is_tensor).collect();
    let inner = tensors.iter().filter(|node| objects.constructor(**node) == Some(Constructor::Parameter));
    let mut inner: HashSet<NodeId> = inner.filter_map(|node| objects.args(*node).first().copied()).collect();
    // what a sparse one or a wrapper is made of is no tensor beside it
    let parts = tensors.iter().filter_map(|node| checkpoint.tensor(checkpoint.tensors.of(*node)?));
    inner.extend(parts.flat_map(Tensor::parts));
    Ok(tensors.iter().filter(|node| !inner.contains(node)).count() as u64)
}

impl Job<'_> {
    fn reduce(mut self, checkpoint: &mut Checkpoint, to: Reduced) -> Result<Chosen> {
        let aliases = checkpoint.restore_aliases()?;
        self.metadata = checkpoint.take_metadata();
        self.leave_out_metadata();
        let is_script = checkpoint.container() == Container::TorchScript;
        let top = match to {
            Reduced::Object if !is_script => {
                let node = self.whole(checkpoint)?;
                self.report.tensors = tensors_below(checkpoint, node)?;
                Top::Object(node)
            }
            Reduced::Object | Reduced::StateDict => {
                let mut weights = self.weights(checkpoint)?;
                self.report.tensors = weights.tensors.len() as u64;
                Top::Object(self.as_state_dict(checkpoint, &mut weights)?)
            }
            Reduced::Weights => {
                let weights = self.weights(checkpoint)?;
                self.report.tensors = weights.tensors.len() as u64;
                Top::Weights(weights.tensors)
            }
        };
        self.restored(&aliases);
        self.say_what_was_done();
        Ok(Chosen { top, metadata: self.metadata, report: self.report })
    }
}
