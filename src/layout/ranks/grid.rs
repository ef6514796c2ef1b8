//! The files of all ranks of Megatron-LM become one checkpoint: tensors by the ranks of a stage, layers by the stages.

use std::collections::HashMap;
use std::sync::Arc;

use super::join::OfRank;
use super::parallel::{Cutter, MEGATRON, Shapes};
use super::placement::Part;
use super::rows::rows;
use super::stages::Offsets;
use super::whole::Wholes;
use crate::checkpoint::names::{Element, join};
use crate::checkpoint::{Checkpoint, Root, TensorId};
use crate::error::{Error, Result};
use crate::layout::dcp::tree::Tree;
use crate::layout::spelled::spelled;
use crate::limits::Limits;
use crate::pickle::{Graph, Node, NodeId, Pair};

/// What a process keeps for itself, or cuts in ways that only it knows.
const OWN: &[&str] = &["optimizer", "rng_state", "random_rng_state", "np_rng_state", "torch_rng_state"];

/// One rank's file.
#[derive(Debug)]
pub(super) struct File {
    name: Arc<str>,
    items: Vec<(String, NodeId)>,
    iteration: Option<i64>,
    version: Option<f64>,
    /// Ranks of tensor parallelism and of the pipeline, and layers, as `args` has them.
    said: [Option<u64>; 3],
    /// The rank that saved it, as `args` has it.
    rank: Option<u64>,
}

impl File {
    pub(crate) fn of(checkpoint: &Checkpoint, name: Arc<str>, root: NodeId) -> Result<Self> {
        let objects = checkpoint.objects();
        let items = objects.items(root).ok_or_else(|| Error::malformed(format!("{name}: holds no dict")))?;
        let item = |Pair { key, value, .. }: Pair| Some((objects.graph.str_or_bytes(key)?.into_owned(), value));
        let items: Vec<(String, NodeId)> = items.into_iter().filter_map(item).collect();
        let of = |key: &str| items.iter().find(|(known, _)| known == key).map(|(_, value)| *value);
        let version = of("checkpoint_version").and_then(|version| match checkpoint.graph.int(version) {
            Some(version) => i32::try_from(version).ok().map(f64::from),
            None => match checkpoint.graph.node(version) {
                Node::Float(version) => Some(*version),
                _ => None,
            },
        });
        let iteration = of("iteration").and_then(|iteration| checkpoint.graph.int(iteration));
        let argument =
            |argument: &str| u64::try_from(checkpoint.graph.int(objects.attribute(of("args")?, argument)?)?).ok();
        let said = ["tensor_model_parallel_size", "pipeline_model_parallel_size", "num_layers"].map(argument);
        let rank = argument("rank");
        Ok(File { name, items, iteration, version, said, rank })
    }

    /// The models in it, in the order of their stages: `model`, or `model0` and so on.
    fn models(&self) -> Vec<(&str, NodeId)> {
        let number = |key: &str| key.strip_prefix("model")?.parse::<u64>().ok();
        let mut found: Vec<(u64, &str, NodeId)> =
            self.items.iter().filter_map(|(key, node)| Some((number(key)?, key.as_str(), *node))).collect();
        found.sort_unstable_by_key(|(number, ..)| *number);
        let one = self.items.iter().find(|(key, _)| key == "model").map(|(key, node)| (key.as_str(), *node));
        one.into_iter().chain(found.into_iter().map(|(_, key, node)| (key, node))).collect()
    }
}

/// The files of all ranks, those of one stage after each other.
pub(super) struct Grid {
    pub files: Vec<File>,
    /// Ranks of each stage.
    pub tensor: usize,
    /// Stages.
    pub pipeline: u64,
}

impl Grid {
    /// Fails where the ranks that saved the files do not follow each other as their directories do. What was converted has
    /// one rank in all files.
    fn check_places(&self) -> Result<()> {
        let Some(first) = self.files.first() else { return Ok(()) };
        if self.files.iter().all(|file| file.rank == first.rank) {
            return Ok(());
        }
        for (index, file) in self.files.iter().enumerate() {
            let beside = if index.is_multiple_of(self.tensor.max(1)) { None } else { index.checked_sub(1) };
            let before = [beside, index.checked_sub(self.tensor)].into_iter().flatten();
            for before in before.filter_map(|at| self.files.get(at)) {
                if let (Some(rank), Some(lower)) = (file.rank, before.rank)
                    && rank <= lower
                {
                    return Err(Error::malformed(format!(
                        "{} was saved by rank {rank}, and {} before it by rank {lower}: files of ranks have changed places",
                        file.name, before.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// Fails where one file is not of the same checkpoint as the first.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_places()?;
        let Some(first) = self.files.first() else { return Ok(()) };
        let names = |file: &File| -> Vec<String> { file.models().iter().map(|(key, _)| (*key).to_owned()).collect() };
        let models = names(first);
        if models.is_empty() {
            return Err(Error::malformed(format!("{} holds no model", first.name)));
        }
        for file in &self.files {
            let (name, before) = (&file.name, &first.name);
            if file.iteration != first.iteration {
                let of = |iteration: Option<i64>| iteration.map_or("none".to_owned(), |number| number.to_string());
                let (here, there) = (of(file.iteration), of(first.iteration));
                return Err(Error::malformed(format!("{name} is of iteration {here} and {before} of {there}")));
            }
            if file.version != first.version {
                return Err(Error::malformed(format!("{name} and {before} are of different checkpoint_version")));
            }
            if names(file) != models {
                return Err(Error::malformed(format!("{name} does not hold the models that {before} does")));
            }
            let [tensor, pipeline, _] = file.said;
            for (said, have, what) in [(tensor, self.tensor as u64, "tensor"), (pipeline, self.pipeline, "pipeline")] {
                if let Some(said) = said.filter(|said| *said != have) {
                    return Err(Error::malformed(format!(
                        "{name} is of {said} {what}-parallel ranks, and {have} are here"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Makes the top object of what all files hold.
    pub(crate) fn put_together(&self, checkpoint: &mut Checkpoint, limits: &Limits) -> Result<()> {
        let stages = self.stages(checkpoint)?;
        let names: Vec<Vec<String>> =
            stages.iter().map(|stage| stage.tensors.iter().map(|(path, ..)| join(path)).collect()).collect();
        let offsets = Offsets::of(&names).map_err(Error::malformed)?;
        self.check_layers(&names)?;
        let mut cutter = Cutter::new(&limits.tensor_parallel, Some(&MEGATRON))?;
        cutter.version = self.files.first().and_then(|file| file.version);
        let mut tree = Tree::new(limits);
        let differing: Vec<String> = stages.iter().flat_map(|stage| stage.differing.iter().cloned()).collect();
        let wholes = gathered(checkpoint, stages, &offsets, &mut cutter, &mut tree)?;
        cutter.check_used()?;
        let limits = Arc::new(limits.clone());
        let mut added = Wholes::new(&limits);
        for Named { path, first, parts } in wholes {
            let node = added.add(checkpoint, &join(&path), first, parts)?;
            tree.add(path, node)?;
        }
        let left_aside = self.others(&mut tree)?;
        checkpoint.root = tree.finish(&mut checkpoint.graph)?;
        checkpoint.notes.extend(cutter.notes(self.tensor));
        if !left_aside.is_empty() {
            let names = left_aside.join(", ");
            checkpoint.notes.push(format!("left aside, as each rank has its own: {names}"));
            checkpoint.left_aside.extend(left_aside);
        }
        if !differing.is_empty() {
            checkpoint.notes.push(format!("the ranks differ in {}: what the first has is taken", spelled(&differing)));
        }
        Ok(())
    }

    /// Fails where `args` says of another number of layers than the files hold.
    fn check_layers(&self, names: &[Vec<String>]) -> Result<()> {
        let said = self.files.first().and_then(|File { said: [.., layers], .. }| *layers);
        match (Offsets::layers(names), said) {
            (Some(have), Some(said)) if have != said => {
                Err(Error::malformed(format!("the files hold {have} layers, where args.num_layers is {said}")))
            }
            _ => Ok(()),
        }
    }

    /// Adds what the first file holds beside the models; gives the names of what is left aside.
    fn others(&self, tree: &mut Tree) -> Result<Vec<String>> {
        let Some(first) = self.files.first() else { return Ok(Vec::new()) };
        let models: Vec<&str> = first.models().into_iter().map(|(key, _)| key).collect();
        let mut left_aside = Vec::new();
        for (key, node) in first.items.iter().filter(|(key, _)| !models.contains(&key.as_str())) {
            match OWN.contains(&key.as_str()) {
                true => left_aside.push(key.clone()),
                false => tree.add(vec![Element::Text(key.clone())], *node)?,
            }
        }
        Ok(left_aside)
    }

    /// What the ranks of each stage have of it; where a process has several, its first ones come before all second ones.
    fn stages(&self, checkpoint: &Checkpoint) -> Result<Vec<Stage>> {
        let mut stages = Vec::new();
        let models = self.files.first().map_or(0, |file| file.models().len());
        for number in 0..models {
            for files in self.files.chunks(self.tensor.max(1)) {
                let root = |file: &File| {
                    let (key, node) = file.models().get(number).copied()?;
                    let path = vec![Element::Text(key.to_owned())];
                    Some((Arc::clone(&file.name), Root { node, path, in_optimizer: false, stem: None }))
                };
                let roots: Vec<(Arc<str>, Root)> = files.iter().filter_map(root).collect();
                stages.push(Stage::of(checkpoint, &roots)?);
            }
        }
        Ok(stages)
    }
}

/// A tensor with its path in the whole checkpoint.
struct Named {
    path: Vec<Element>,
    /// In the first rank.
    first: TensorId,
    parts: Result<Vec<OfRank>, String>,
}

/// The tensors of all stages, and their values, which are added to `tree`. What several stages have is one tensor.
fn gathered(
    checkpoint: &Checkpoint,
    stages: Vec<Stage>,
    offsets: &Offsets,
    cutter: &mut Cutter,
    tree: &mut Tree,
) -> Result<Vec<Named>> {
    let mut wholes: Vec<Named> = Vec::new();
    let mut places: HashMap<Vec<Element>, usize> = HashMap::new();
    for (number, stage) in stages.into_iter().enumerate() {
        for (path, first, parts) in stage.tensors {
            let placed = cutter.place(checkpoint, &format!("model.{}", join(&path)), parts, &stage.shapes);
            let path = global(offsets, number, path);
            match places.get(&path).and_then(|place| wholes.get_mut(*place)) {
                Some(known) => {
                    let before = std::mem::replace(&mut known.parts, Ok(Vec::new()));
                    known.parts = before.and_then(|before| Ok(before.into_iter().chain(placed?).collect()));
                }
                None => {
                    places.insert(path.clone(), wholes.len());
                    wholes.push(Named { path, first, parts: placed });
                }
            }
        }
        for (path, node) in stage.values {
            let path = global(offsets, number, path);
            if places.insert(path.clone(), usize::MAX).is_none() {
                tree.add(path, node)?;
            }
        }
    }
    Ok(wholes)
}

/// A stage of the pipeline, by paths below its model.
struct Stage {
    tensors: Vec<(Vec<Element>, TensorId, Vec<OfRank>)>,
    values: Vec<(Vec<Element>, NodeId)>,
    /// In the first rank.
    shapes: Shapes,
    differing: Vec<String>,
}

impl Stage {
    fn of(checkpoint: &Checkpoint, roots: &[(Arc<str>, Root)]) -> Result<Self> {
        let rows = rows(checkpoint, roots)?;
        let mut stage =
            Stage { tensors: Vec::new(), values: Vec::new(), shapes: Shapes::new(), differing: rows.differing };
        for row in rows.tensors {
            let Some((_, first)) = row.of_ranks.first() else { continue };
            if let Ok(shape) = super::join::shape_of(checkpoint, *first) {
                stage.shapes.insert(format!("model.{}", join(&row.entry.path)), shape);
            }
            let of_rank =
                |((file, _), (_, id)): (&(Arc<str>, Root), &(NodeId, TensorId))| (Arc::clone(file), Part::Plain(*id));
            let parts = roots.iter().zip(&row.of_ranks).map(of_rank).collect();
            stage.tensors.push((row.entry.path, *first, parts));
        }
        stage.values = rows.values.into_iter().map(|entry| (entry.path, entry.node)).collect();
        // modules that keep nothing say so in every layer
        stage.values.retain(|(_, node)| *node != Graph::NONE);
        Ok(stage)
    }
}

/// The path in the whole checkpoint of what a stage has at `path`.
fn global(offsets: &Offsets, stage: usize, path: Vec<Element>) -> Vec<Element> {
    let mut before = String::new();
    let mut whole = vec![Element::Text("model".into())];
    for element in path {
        let name = match &element {
            Element::Text(name) => name.clone(),
            other => other.to_string(),
        };
        let joined = format!("{before}{name}");
        let renamed = offsets.global(stage, &joined);
        // nothing changes but behind what comes before this element
        whole.push(match (element, renamed.get(before.len()..)) {
            (Element::Text(_), Some(own)) => Element::Text(own.to_owned()),
            (element, _) => element,
        });
        before = format!("{joined}.");
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_inside_a_path() {
        let text = |text: &str| Element::Text(text.into());
        let stages = [vec!["encoder.layers.0.w".to_owned()], vec!["encoder.layers.0.w".to_owned()]];
        let offsets = Offsets::of(&stages).unwrap();
        let path = global(&offsets, 1, vec![text("encoder"), text("layers.0.w")]);
        assert_eq!(path, [text("model"), text("encoder"), text("layers.1.w")]);
        let path = global(&offsets, 1, vec![text("encoder.layers.0.w")]);
        assert_eq!(path, [text("model"), text("encoder.layers.1.w")]);
    }
}
