//! Several checkpoints in one file: a dict of the whole objects, each under a key, or one state dict of all their weights.
//!
//! What is taken of each input is what a conversion takes of it ([`reduce`]). Then all live in one arena
//! ([`Checkpoint::absorb`]), where a new top object is put over them, and that is converted as one input is: what can be
//! written, and how, is the same here and there.

mod attributes;
mod equal;
mod join;
mod keyed;
mod strings;

use std::collections::HashSet;

use self::join::Joined;
use crate::checkpoint::framed::{Framed, Several};
use crate::checkpoint::{Checkpoint, Container};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::{Message, Note, Setting};
use crate::operations::Input;
use crate::operations::convert::{self, Outlet, Reduced, Shared, Top, convert, reduce, tensors_below};
use crate::operations::select::Select;
use crate::pickle::{NodeId, Pair};
use crate::progress::Progress;
use crate::report::convert::Conversion;
use crate::report::figures::counted;
use crate::report::merge::{Merged, Merging};
use crate::write::format::Format;

pub use self::join::OnConflict;
pub(crate) use self::keyed::{Keyed, taken_apart};

/// One input, and the key that its object gets; without keys the weights of all are joined.
#[derive(Debug)]
pub struct Part {
    /// The key.
    pub key: Option<String>,
    /// The input.
    pub input: Input,
}

/// How inputs become one, and what to write.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The format to write.
    pub to: Format,
    /// What becomes of a name that several inputs have; without it that is an error. For inputs without keys.
    pub on_conflict: Option<OnConflict>,
    /// Where to begin in every input; without it the top of an input with a key, and the weights of one without.
    pub root: Option<String>,
    /// Of the names of the output, take what these match.
    pub include: Vec<String>,
    /// Of the names of the output, skip what these match.
    pub exclude: Vec<String>,
    /// Of the names of the output, leave out these elements with everything below them.
    pub drop: Vec<String>,
    /// Tensors that share memory, in formats without sharing.
    pub shared: Option<Shared>,
}

/// What was taken of one input, in the arena of all.
#[derive(Debug)]
struct Taken {
    name: String,
    key: Option<String>,
    top: Taking,
}

#[derive(Debug)]
enum Taking {
    Object(NodeId),
    /// Names and tensors.
    Weights(Vec<(String, NodeId)>),
}

/// Names of inputs that an error about all of them spells out.
const MAX_NAMES: usize = 3;

/// Writes the inputs as one checkpoint.
///
/// # Errors
/// When an input cannot be read, when two have the same key or, without keys, the same name, and for what a conversion of
/// them would refuse. Nothing is written then.
pub fn merge(
    parts: Vec<Part>,
    options: &Options,
    outlet: &Outlet,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Merging> {
    let is_keyed = keyed(&parts, options)?;
    let of_arrays = matches!(options.to, Format::Safetensors | Format::Npz) || matches!(outlet, Outlet::Shards(_));
    let reduced = match (is_keyed, of_arrays) {
        (_, true) => Reduced::Weights,
        (true, false) => Reduced::Object,
        (false, false) => Reduced::StateDict,
    };
    let mut report = Merging { schema: "ckpt.merge/1", to: options.to.name(), ..Merging::default() };
    let mut checkpoint = Checkpoint::of_several(limits)?;
    let mut strings = strings::Strings::default();
    let mut taken = Vec::with_capacity(parts.len());
    let select = Select { root: options.root.clone(), ..Select::default() };
    let alone = convert::Options { to: options.to, select, ..convert::Options::default() };
    for Part { key, mut input } in parts {
        let chosen = reduce(&mut input, reduced, &alone, outlet, progress).map_err(advised)?;
        strings.add(&input.name, chosen.metadata);
        let Input { name, checkpoint: other, .. } = input;
        let moved = checkpoint.absorb(other, &name).map_err(|e| e.of_input(&name))?;
        let top = match chosen.top {
            Top::Object(node) => Taking::Object(moved.node(node)),
            Top::Weights(weights) => {
                Taking::Weights(weights.into_iter().map(|weight| (weight.name, moved.node(weight.node))).collect())
            }
        };
        told(&mut report, &name, key.as_deref(), chosen.report);
        taken.push(Taken { name, key, top });
    }
    let joined = Joined::of(&mut checkpoint, taken, options.on_conflict, progress)?;
    checkpoint.unify_globals()?;
    checkpoint.root = joined.root;
    // all that is below the top is meant, where only weights are written
    checkpoint.framed = if of_arrays { Framed::Several(Several::Sharded) } else { Framed::Joined };
    joined.told(&mut report);
    if options.to == Format::Safetensors {
        report.notes.extend(strings.disagreeing());
    }
    write(checkpoint, options, outlet, strings, report, progress)
}

/// Whether the inputs have keys.
fn keyed(parts: &[Part], options: &Options) -> Result<bool> {
    let Some(first) = parts.first() else { return Err(Error::refused("give at least one input to merge")) };
    let is_keyed = first.key.is_some();
    if let Some(other) = parts.iter().find(|part| part.key.is_some() != is_keyed) {
        let (with, without) = if is_keyed { (first, other) } else { (other, first) };
        let key = with.key.as_deref().unwrap_or_default();
        let what = format!("{} has the key {key:?} and {} has none", with.input.name, without.input.name);
        return Err(Error::refused(what).advise("give every input a key, or none"));
    }
    let mut seen = HashSet::new();
    for part in parts {
        let Some(key) = &part.key else { continue };
        if key.is_empty() {
            return Err(Error::refused("the key is empty").of_input(&part.input.name));
        }
        if !seen.insert(key) {
            return Err(Error::refused(format!("two inputs have the key {key:?}")).of_input(&part.input.name));
        }
    }
    if is_keyed && options.on_conflict.is_some() {
        let what = " is for inputs without keys, whose names may be the same";
        return Err(Error::refused(Setting::OnConflict.then(what)));
    }
    if !is_keyed && parts.len() < 2 {
        return Err(Error::refused("give at least two inputs to merge, or a key for the one"));
    }
    Ok(is_keyed)
}

/// What a conversion advises and is no setting here.
const ELSEWHERE: [Setting; 4] = [Setting::Dtype, Setting::Device, Setting::StateDict, Setting::SaveValues];

/// An error about one input, with advice that can be followed here: names to leave out are those of the output.
fn advised(e: Error) -> Error {
    let names = [Setting::Include, Setting::Exclude, Setting::Drop];
    let is_about_input = e.advice().is_some_and(|advice| advice.names(&ELSEWHERE) || advice.names(&names));
    if is_about_input { e.advise("change the input first with `ckpt convert`") } else { e }
}

/// The same of what is written.
fn advised_of_output(e: Error) -> Error {
    let is_elsewhere = e.advice().is_some_and(|advice| advice.names(&ELSEWHERE));
    if is_elsewhere { e.advise("change the input first with `ckpt convert`") } else { e }
}

/// Says what was taken of one input.
fn told(report: &mut Merging, name: &str, key: Option<&str>, of_input: Conversion) {
    let Conversion { tensors, weights, left_out, notes, .. } = of_input;
    let key = key.map(str::to_owned);
    report.inputs.push(Merged { file: name.to_owned(), key, weights, tensors, left_out });
    report.notes.extend(notes);
}

fn write(
    checkpoint: Checkpoint,
    options: &Options,
    outlet: &Outlet,
    strings: strings::Strings,
    mut report: Merging,
    progress: &dyn Progress,
) -> Result<Merging> {
    let of_arrays = checkpoint.container() == Container::Sharded;
    let root = of_arrays.then(|| ".".to_owned());
    let select = Select { root, include: options.include.clone(), exclude: options.exclude.clone() };
    let set_metadata = if options.to == Format::Safetensors { strings.into_all() } else { Vec::new() };
    let conversion = convert::Options {
        to: options.to,
        select,
        drop: options.drop.clone(),
        shared: options.shared,
        set_metadata,
        ..convert::Options::default()
    };
    let names: Vec<&str> = report.inputs.iter().take(MAX_NAMES).map(|input| input.file.as_str()).collect();
    let more = report.inputs.len().saturating_sub(MAX_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let name = format!("{}{more}", names.join(", "));
    let mut input = Input { name, name_bytes: None, bytes: 0, checkpoint };
    let done = convert(&mut input, &conversion, outlet, None, progress).map_err(advised_of_output)?;
    let count = counted(report.inputs.len() as u64, "input");
    report.notes.extend(done.notes.into_iter().map(|note| Note { file: done.output.clone(), ..note }));
    let tensors = if of_arrays { done.tensors } else { tensors_below(&input.checkpoint, input.checkpoint.root)? };
    let what = format!("merged {count}, {}", counted(tensors, "tensor"));
    report.notes.push(Note::new(&done.output, Message::from(what)));
    (report.output, report.files, report.tensors) = (done.output, done.files, tensors);
    (report.left_out, report.shared, report.doubtful) = (done.left_out, done.shared, done.doubtful);
    Ok(report)
}

/// An entry of a new dict.
fn entry(checkpoint: &mut Checkpoint, key: &str, value: NodeId) -> Result<Pair> {
    Ok(Pair { key: checkpoint.graph.push_str(key)?, value, key_at: 0 })
}
