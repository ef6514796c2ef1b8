//! Megatron-LM's own directories: `iter_0000100/mp_rank_01_002/model_optim_rng.pt`, a file for each rank of tensor
//! parallelism (the first number) and each stage of the pipeline (the second).
//!
//! Source: `megatron/training/checkpointing.py` (`get_checkpoint_name`, `save_checkpoint`, `read_metadata`). What is one
//! model's is put together and its layers are counted through; what each process keeps for itself is left aside.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::join::OfRank;
use super::parallel::{Cutter, MEGATRON, Shapes};
use super::placement::Part;
use super::rows::{rows, shown};
use super::stages::Offsets;
use super::whole::Wholes;
use crate::checkpoint::names::Element;
use crate::checkpoint::{Checkpoint, Container, Root, TensorId};
use crate::error::{Error, Result};
use crate::layout::dcp::tree::Tree;
use crate::layout::directory::{self, Directory};
use crate::limits::Limits;
use crate::pickle::{Graph, Node, NodeId, Pair};
use crate::progress::Progress;
use crate::source::SharedSource;

/// The file that names the last iteration.
const LATEST: &str = "latest_checkpointed_iteration.txt";
/// What the directories of ranks begin with.
const RANK: &str = "mp_rank_";
/// The files in them: with a distributed optimizer the model's is called the other way.
const FILES: &[&str] = &["model_optim_rng.pt", "model_rng.pt"];
/// What a process keeps for itself, or cuts in ways that only it knows.
const OWN: &[&str] = &["optimizer", "rng_state", "random_rng_state", "np_rng_state", "torch_rng_state"];
/// More is no number of an iteration.
const MAX_LATEST_BYTES: u64 = 64;

/// A directory of files of ranks.
#[derive(Debug)]
pub(in crate::layout) struct Megatron {
    directory: Directory,
    /// The files by stage and rank in it.
    files: BTreeMap<(u64, u64), String>,
    tensor: u64,
    pipeline: u64,
    /// Files in the same directories that are left aside.
    others: Vec<String>,
    bytes: u64,
}

/// The directory of the last iteration, where `path` has a file that names it.
pub(in crate::layout) fn latest(path: &Path) -> Result<Option<PathBuf>> {
    let file = path.join(LATEST);
    match fs::metadata(&file) {
        Ok(meta) if meta.is_file() && meta.len() <= MAX_LATEST_BYTES => {}
        _ => return Ok(None),
    }
    let text = String::from_utf8_lossy(&fs::read(&file)?).trim().to_owned();
    let name = match text.parse::<u64>() {
        Ok(iteration) => format!("iter_{iteration:07}"),
        Err(_) if text == "release" => text,
        Err(_) => return Err(Error::malformed(format!("{LATEST} names no iteration: {text:?}"))),
    };
    match path.join(&name) {
        found if found.is_dir() => Ok(Some(found)),
        _ => Err(Error::malformed(format!("{LATEST} names {name}, which is missing"))),
    }
}

/// `mp_rank_01` or `mp_rank_01_002`: tensor and pipeline rank; and what is not understood behind it.
fn parsed(name: &str) -> Option<(u64, Option<u64>, bool)> {
    let mut numbers = name.strip_prefix(RANK)?.split('_').map(str::parse);
    let tensor = numbers.next()?.ok()?;
    let pipeline = match numbers.next() {
        Some(number) => Some(number.ok()?),
        None => None,
    };
    Some((tensor, pipeline, numbers.next().is_some()))
}

/// Whether a directory holds some of ranks.
pub(in crate::layout) fn is_megatron(path: &Path) -> bool {
    directories(path).is_ok_and(|names| names.iter().any(|name| parsed(name).is_some()))
}

fn directories(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

impl Megatron {
    /// The files of ranks below a directory; nothing where there are none.
    pub(crate) fn of_directory(path: &Path) -> Result<Option<Self>> {
        let found: Vec<(String, (u64, Option<u64>, bool))> = directories(path)?
            .into_iter()
            .filter_map(|name| Some((parsed(&name)?, name)))
            .map(|(p, n)| (n, p))
            .collect();
        if found.is_empty() {
            return Ok(None);
        }
        let (mut files, mut others, mut bytes) = (BTreeMap::new(), Vec::new(), 0u64);
        let mut piped: Option<(bool, String)> = None;
        for (name, (tensor, pipeline, is_more)) in found {
            if is_more {
                return Err(Error::unsupported(format!(
                    "{name} is of one rank of several of expert parallelism, whose files are not put together"
                )));
            }
            let (was_piped, first) = piped.get_or_insert((pipeline.is_some(), name.clone()));
            if *was_piped != pipeline.is_some() {
                return Err(Error::malformed(format!("{first} and {name} are not of one checkpoint")));
            }
            let inside = super::super::file_names(&path.join(&name))?;
            let file = FILES.iter().find(|file| inside.iter().any(|name| name == *file));
            let file = file.ok_or_else(|| Error::malformed(format!("{name} holds no {}", FILES.join(" and no "))))?;
            others.extend(inside.iter().filter(|other| other != file).map(|other| format!("{name}/{other}")));
            bytes = bytes.saturating_add(directory::bytes(&path.join(&name))?);
            let place = (pipeline.unwrap_or(0), tensor);
            if files.insert(place, format!("{name}/{file}")).is_some() {
                return Err(Error::malformed(format!("{name} is there twice, with more and fewer zeros")));
            }
        }
        let tensor = files.keys().map(|(_, tensor)| tensor.saturating_add(1)).max().unwrap_or(0);
        let pipeline = files.keys().map(|(stage, _)| stage.saturating_add(1)).max().unwrap_or(0);
        let missing = (0..pipeline).flat_map(|stage| (0..tensor).map(move |tensor| (stage, tensor)));
        // a directory has fewer files than a hostile name has ranks
        if let Some((stage, tensor)) = missing.take(files.len() + 1).find(|place| !files.contains_key(place)) {
            let stage = if piped.is_some_and(|(piped, _)| piped) { format!("_{stage:03}") } else { String::new() };
            return Err(Error::malformed(format!("a rank is missing: {RANK}{tensor:02}{stage}")));
        }
        Ok(Some(Megatron { directory: Directory::new(path), files, tensor, pipeline, others, bytes }))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn files(&mut self) -> Vec<(String, Result<SharedSource>)> {
        let names: Vec<String> = self.files.values().chain(&self.others).cloned().collect();
        names.into_iter().map(|name| (name.clone(), self.directory.file(&name).map_err(Error::malformed))).collect()
    }

    /// Reads the pickles of all files. Fails where they are not of one checkpoint.
    pub(crate) fn open(mut self, limits: &Limits, progress: &dyn Progress) -> Result<Checkpoint> {
        let mut sources = Vec::new();
        for name in self.files.values() {
            sources.push((Arc::from(name.as_str()), self.directory.file(name).map_err(Error::malformed)?));
        }
        let (mut checkpoint, roots) = super::read(&sources, Container::Megatron, limits, progress)?;
        let files =
            roots.into_iter().map(|(file, root)| File::of(&checkpoint, file, root.node)).collect::<Result<_>>()?;
        let grid = Grid { files, tensor: usize::try_from(self.tensor).unwrap_or(usize::MAX), pipeline: self.pipeline };
        grid.check()?;
        grid.put_together(&mut checkpoint, limits)?;
        if !self.others.is_empty() {
            checkpoint.notes.push(format!("left aside: {}", shown(&self.others)));
        }
        Ok(checkpoint)
    }
}

/// One rank's file.
#[derive(Debug)]
struct File {
    name: Arc<str>,
    items: Vec<(String, NodeId)>,
    iteration: Option<i64>,
    version: Option<f64>,
    /// Ranks of tensor parallelism and of the pipeline, and layers, as `args` has them.
    said: [Option<u64>; 3],
}

impl File {
    fn of(checkpoint: &Checkpoint, name: Arc<str>, root: NodeId) -> Result<Self> {
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
        Ok(File { name, items, iteration, version, said })
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
struct Grid {
    files: Vec<File>,
    tensor: usize,
    pipeline: u64,
}

impl Grid {
    /// Fails where one file is not of the same checkpoint as the first.
    fn check(&self) -> Result<()> {
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

    fn put_together(&self, checkpoint: &mut Checkpoint, limits: &Limits) -> Result<()> {
        let stages = self.stages(checkpoint)?;
        let names: Vec<Vec<String>> =
            stages.iter().map(|stage| stage.tensors.iter().map(|(path, ..)| text(path)).collect()).collect();
        let offsets = Offsets::of(&names).map_err(Error::malformed)?;
        let first = self.files.first();
        if let (Some(have), Some([.., Some(said)])) = (Offsets::layers(&names), first.map(|file| file.said))
            && have != said
        {
            return Err(Error::malformed(format!("the files hold {have} layers, where args.num_layers is {said}")));
        }
        let mut cutter = Cutter::new(&limits.tensor_parallel, Some(&MEGATRON))?;
        cutter.version = first.and_then(|file| file.version);
        let mut tree = Tree::new(limits);
        let mut whole: Vec<(Vec<Element>, TensorId, Result<Vec<OfRank>, String>)> = Vec::new();
        let mut places: HashMap<Vec<Element>, usize> = HashMap::new();
        let (mut left_aside, mut differing) = (Vec::new(), Vec::new());
        for (number, stage) in stages.into_iter().enumerate() {
            for (path, id, parts) in stage.tensors {
                let name = format!("model.{}", text(&path));
                let placed = cutter.place(checkpoint, &name, parts, &stage.shapes);
                let path = global(&offsets, number, path);
                match places.get(&path).and_then(|place| whole.get_mut(*place)) {
                    // several stages have it
                    Some((.., known)) => {
                        let before = std::mem::replace(known, Ok(Vec::new()));
                        *known = before.and_then(|before| Ok(before.into_iter().chain(placed?).collect()));
                    }
                    None => {
                        places.insert(path.clone(), whole.len());
                        whole.push((path, id, placed));
                    }
                }
            }
            for (path, node) in stage.values {
                let path = global(&offsets, number, path);
                if places.insert(path.clone(), usize::MAX).is_none() {
                    tree.add(path, node)?;
                }
            }
            differing.extend(stage.differing);
        }
        cutter.check_used()?;
        let limits = Arc::new(limits.clone());
        let mut wholes = Wholes::new(&limits);
        for (path, id, parts) in whole {
            let node = wholes.add(checkpoint, &text(&path), id, parts)?;
            tree.add(path, node)?;
        }
        let models: Vec<&str> = first.map(File::models).unwrap_or_default().into_iter().map(|(key, _)| key).collect();
        for (key, node) in first.into_iter().flat_map(|file| &file.items) {
            if OWN.contains(&key.as_str()) {
                left_aside.push(key.clone());
            } else if !models.contains(&key.as_str()) {
                tree.add(vec![Element::Text(key.clone())], *node)?;
            }
        }
        checkpoint.root = tree.finish(&mut checkpoint.graph)?;
        checkpoint.notes.extend(cutter.notes(self.tensor));
        if !left_aside.is_empty() {
            let names = left_aside.join(", ");
            checkpoint.notes.push(format!("left aside, as each rank has its own: {names}"));
            checkpoint.left_aside.extend(left_aside);
        }
        if !differing.is_empty() {
            checkpoint.notes.push(format!("the ranks differ in {}: what the first has is taken", shown(&differing)));
        }
        Ok(())
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
                stage.shapes.insert(format!("model.{}", text(&row.entry.path)), shape);
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

/// A path as one text, with dots.
fn text(path: &[Element]) -> String {
    crate::checkpoint::names::join(path)
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
    fn names_of_directories() {
        assert_eq!(parsed("mp_rank_01"), Some((1, None, false)));
        assert_eq!(parsed("mp_rank_01_002"), Some((1, Some(2), false)));
        assert_eq!(parsed("mp_rank_01_002_003"), Some((1, Some(2), true)));
        assert_eq!(
            (parsed("mp_rank_"), parsed("mp_rank_00_model_states.pt"), parsed("tp_rank_00")),
            (None, None, None)
        );
    }

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
