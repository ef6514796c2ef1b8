//! What the files of several ranks have under the same name, side by side.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::checkpoint::equality::Equality;
use crate::checkpoint::names::{Element, Entry, Item};
use crate::checkpoint::{Checkpoint, Role, Root, TensorId};
use crate::data::compare::Options;
use crate::error::{Error, Result};
use crate::layout::spelled::spelled;
use crate::pickle::NodeId;

/// A tensor by its name.
#[derive(Debug)]
pub(super) struct Row {
    /// As the first rank has it.
    pub entry: Entry,
    /// In the files of all ranks, in their order; fewer where one does not have it.
    pub of_ranks: Vec<(NodeId, TensorId)>,
}

/// What the files of several ranks have.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Tensors, in the order of the first rank's file.
    pub tensors: Vec<Row>,
    /// Values, likewise.
    pub values: Vec<Entry>,
    /// Names of values of which another rank has another one, and of an optimizer's tensors that the first does not have.
    pub differing: Vec<String>,
    pub left_aside: Vec<String>,
}

/// Looks below a root of each file. Fails where one has tensors that another does not, but for what an optimizer keeps.
pub(super) fn rows(checkpoint: &Checkpoint, roots: &[(Arc<str>, Root)]) -> Result<Rows> {
    let mut rows = Rows::default();
    let Some(((first, root), others)) = roots.split_first() else { return Ok(rows) };
    let mut places: HashMap<Vec<Element>, Place> = HashMap::new();
    for entry in listed(checkpoint, root, first)? {
        match entry.item {
            Item::Tensor(id, _) => {
                places.insert(entry.path.clone(), Place::Tensor(rows.tensors.len()));
                rows.tensors.push(Row { of_ranks: vec![(entry.node, id)], entry });
            }
            Item::Value => {
                places.insert(entry.path.clone(), Place::Value(rows.values.len()));
                rows.values.push(entry);
            }
            Item::Recursion => {}
        }
    }
    let mut differing = HashSet::new();
    for (number, (file, root)) in (1..).zip(others) {
        let (mut more, mut seen) = (Vec::new(), HashSet::new());
        for entry in listed(checkpoint, root, file)? {
            match (entry.item, places.get(&entry.path)) {
                (Item::Tensor(id, _), Some(Place::Tensor(place))) => {
                    let row = rows.tensors.iter_mut().skip(*place).take(1);
                    row.filter(|row| row.of_ranks.len() == number).for_each(|row| row.of_ranks.push((entry.node, id)));
                }
                (Item::Value, Some(Place::Value(place))) => {
                    seen.insert(*place);
                    let same = match rows.values.get(*place) {
                        Some(ours) => is_same(checkpoint, ours.node, entry.node)?,
                        None => false,
                    };
                    if !same && differing.insert(entry.path.clone()) {
                        let ours = rows.values.get(*place).map(|ours| ours.node);
                        if let Some(e) = other_step(checkpoint, &entry, ours, (first, file)) {
                            return Err(e);
                        }
                        rows.differing.push(entry.name());
                    }
                }
                (Item::Tensor(..), _) if is_of_optimizer(&entry) => rows.left_aside.push(entry.name()),
                (Item::Tensor(..), _) => more.push(entry.name()),
                (_, Some(Place::Value(_))) | (Item::Recursion, _) => {}
                (_, place) => {
                    // a tensor here and a value there is a missing tensor, which is told below
                    if place.is_none() && differing.insert(entry.path.clone()) {
                        rows.differing.push(entry.name());
                    }
                }
            }
        }
        for (_, ours) in rows.values.iter().enumerate().filter(|(place, _)| !seen.contains(place)) {
            if differing.insert(ours.path.clone()) {
                rows.differing.push(ours.name());
            }
        }
        let lacking = rows.tensors.iter().filter(|row| row.of_ranks.len() == number && !is_of_optimizer(&row.entry));
        let lacking: Vec<String> = lacking.map(|row| row.entry.name()).collect();
        if let Some(e) = unlike(first, file, &lacking, &more) {
            return Err(e);
        }
    }
    Ok(rows)
}

enum Place {
    Tensor(usize),
    Value(usize),
}

/// What lies below a root, without what tensors are made of.
fn listed(checkpoint: &Checkpoint, root: &Root, file: &str) -> Result<impl Iterator<Item = Entry>> {
    let names = checkpoint.names(root).map_err(|e| e.in_member(file))?;
    Ok(names.entries.into_iter().filter(|entry| entry.inside.is_none()))
}

fn is_of_optimizer(entry: &Entry) -> bool {
    entry.in_optimizer || entry.role == Role::Optimizer
}

fn is_same(checkpoint: &Checkpoint, a: NodeId, b: NodeId) -> Result<bool> {
    let objects = checkpoint.objects();
    let options = Options { bitwise: true, ..Options::default() };
    Equality { a: objects, b: objects, options: &options, limits: &checkpoint.limits }.same(a, b)
}

/// What programs call the number of the step that they are at.
const STEPS: [&str; 7] = ["step", "steps", "global_step", "global_steps", "iteration", "epoch", "current_epoch"];
/// What stands in the names of what each rank counts for itself.
const OWN: [&str; 4] = ["loader", "sampler", "data", "rng"];

/// An error for a file that is of another step than the first: what counts steps, near the top, is the same for all ranks.
fn other_step(checkpoint: &Checkpoint, entry: &Entry, ours: Option<NodeId>, files: (&str, &str)) -> Option<Error> {
    let [.., last] = entry.path.as_slice() else { return None };
    let text = |element: &Element| element.to_string().to_ascii_lowercase();
    let is_own = |element: &Element| OWN.iter().any(|own| text(element).contains(own));
    if entry.path.len() > 2 || !STEPS.contains(&text(last).as_str()) || entry.path.iter().any(is_own) {
        return None;
    }
    let (here, there) = (checkpoint.graph.int(ours?)?, checkpoint.graph.int(entry.node)?);
    let ((first, file), name) = (files, entry.name());
    Some(Error::malformed(format!("{file} is of {name} {there} and {first} of {here}")))
}

/// An error for files that do not hold tensors of the same names.
fn unlike(first: &str, file: &str, lacking: &[String], more: &[String]) -> Option<Error> {
    let (names, holder, other) = match (lacking, more) {
        ([], []) => return None,
        ([], more) => (more, file, first),
        (lacking, _) => (lacking, first, file),
    };
    Some(Error::malformed(format!("{other} does not hold what {holder} does: {}", spelled(names))))
}
