//! The weights of each input, and where those of several do not agree.

use std::collections::HashMap;

use super::shown;
use crate::checkpoint::selection::Weight;
use crate::checkpoint::{Root, Tensor};
use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::operations::Input;
use crate::operations::select::{find_root, find_weights};
use crate::report::figures;

/// The weights of one input.
pub(crate) struct Side {
    pub root: Root,
    pub weights: Vec<Weight>,
    of: HashMap<String, usize>,
}

impl Side {
    /// Finds them. Errors name the input.
    pub(crate) fn of(input: &Input, root: Option<&str>) -> Result<Self> {
        Self::find(input, root).map_err(|e| e.of_input(&input.name))
    }

    fn find(input: &Input, root: Option<&str>) -> Result<Self> {
        let checkpoint = &input.checkpoint;
        let root = match root {
            Some(_) => find_root(checkpoint, root, Setting::Root)?,
            None => find_weights(checkpoint, Setting::Root)?,
        };
        let found = checkpoint.select_weights(root, &|_| true)?;
        checkpoint.graph.complete()?;
        let mut of = HashMap::with_capacity(found.tensors.len());
        for (place, weight) in found.tensors.iter().enumerate() {
            if of.insert(weight.name.clone(), place).is_some() {
                let what = format!("two tensors would have the name {}; choose one with ", weight.name);
                return Err(Error::refused(Message::from(what).setting(Setting::Root)));
            }
        }
        if of.is_empty() {
            return Err(Error::refused("holds no weights"));
        }
        Ok(Side { root: found.root, weights: found.tensors, of })
    }

    /// The weight of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Weight> {
        self.weights.get(*self.of.get(name)?)
    }

    /// The tensor of this name.
    pub(crate) fn tensor<'a>(&self, input: &'a Input, name: &str) -> Result<&'a Tensor> {
        let weight = self.get(name).ok_or_else(|| Error::data(format!("no weight {name}")))?;
        input.checkpoint.weight(weight)
    }
}

/// Fails with where names, shapes and types differ.
pub(crate) fn agree(inputs: &[Input], sides: &[Side]) -> Result<()> {
    let (Some(last), Some(wanted)) = (inputs.last(), sides.last()) else { return Ok(()) };
    let mut differ: Vec<String> = Vec::new();
    let mut more = 0_usize;
    let mut differs = |what: String| match differ.len() < figures::SOME {
        true => differ.push(what),
        false => more += 1,
    };
    for (input, side) in inputs.iter().zip(sides).take(inputs.len().saturating_sub(1)) {
        for weight in &wanted.weights {
            let name = shown(&weight.name);
            let Some(other) = side.get(&weight.name) else {
                differs(format!("{name}: in {}, not in {}", last.name, input.name));
                continue;
            };
            let (ours, theirs) = (last.checkpoint.weight(weight)?, input.checkpoint.weight(other)?);
            let dtype = |tensor: &Tensor| tensor.dtype.as_ref().map_or("unknown", |dtype| dtype.name()).to_owned();
            let shape = |tensor: &Tensor| figures::shape(&tensor.shape);
            for (ours, theirs) in [(dtype(ours), dtype(theirs)), (shape(ours), shape(theirs))] {
                if ours != theirs {
                    differs(format!("{name}: {ours} in {}, {theirs} in {}", last.name, input.name));
                }
            }
        }
        for weight in side.weights.iter().filter(|weight| wanted.get(&weight.name).is_none()) {
            differs(format!("{}: in {}, not in {}", shown(&weight.name), input.name, last.name));
        }
    }
    if differ.is_empty() {
        return Ok(());
    }
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(Error::refused(format!("the weights do not agree: {}{more}", differ.join("; "))))
}
