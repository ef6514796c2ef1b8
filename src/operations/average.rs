//! One checkpoint whose weights are the mean of several.
//!
//! The output is the last input with other elements in its weights: they are made while they are written, so that nothing
//! is held. What the weights of a file are is what a conversion to a format for weights takes.

mod agree;
mod place;
mod proof;

use std::collections::HashSet;
use std::sync::Arc;

use rayon::prelude::*;

use self::agree::Side;
use self::place::Placing;
use self::proof::Sums;
use crate::checkpoint::Checkpoint;
use crate::data::average::{Average, Blend};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, Note, Setting};
use crate::operations::Input;
use crate::operations::convert::{self, Outlet, convert_if};
use crate::operations::select::{self, Select};
use crate::operations::sink::Sink;
use crate::progress::Progress;
use crate::report::average::{Averaging, NotFinite};
use crate::report::figures::{counted, some_of};
use crate::write::atomic::Target;
use crate::write::format::Format;
use crate::write::watch::{Paced, Watch};

/// How the inputs are averaged.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Method {
    /// All count the same.
    #[default]
    Mean,
    /// Each counts by its weight, of which only the proportions matter.
    Weighted(Vec<f64>),
    /// The exponential moving average in the order given, with this decay: it begins with the first input, and each one
    /// after it makes it `decay * average + (1 - decay) * input`.
    Moving(f64),
}

/// What to average, and what to write.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// How the inputs are averaged.
    pub method: Method,
    /// The format to write.
    pub to: Format,
    /// Where the weights lie, in every input; they are found without it.
    pub root: Option<String>,
}

/// The name of what may be the top object.
fn shown(name: &str) -> &str {
    if name.is_empty() { "." } else { name }
}

impl Method {
    fn name(&self) -> &'static str {
        match self {
            Method::Mean => "mean",
            Method::Weighted(_) => "weighted",
            Method::Moving(_) => "ema",
        }
    }

    /// For so many inputs.
    fn blend(&self, count: usize) -> Result<Blend> {
        match self {
            Method::Mean => Ok(Blend::mean(count)),
            Method::Weighted(weights) => {
                let given = weights.len();
                if given != count {
                    let what = format!(" gives {} for {count} inputs", counted(given as u64, "number"));
                    return Err(Error::refused(Setting::Weights.then(what)));
                }
                let sum: f64 = weights.iter().sum();
                if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) || sum <= 0.0 {
                    let what = " takes numbers that are not negative, and not all 0";
                    return Err(Error::refused(Setting::Weights.then(what)));
                }
                // only their ratios count, and the sum of these is finite
                let most = weights.iter().copied().fold(0.0, f64::max);
                let smaller = || weights.iter().map(|weight| weight / most).collect::<Vec<f64>>();
                Ok(if sum.is_finite() { Blend::weighted(weights) } else { Blend::weighted(&smaller()) })
            }
            Method::Moving(decay) if (0.0..=1.0).contains(decay) => Ok(Blend::moving(*decay, count)),
            Method::Moving(_) => Err(Error::refused(Setting::Ema.then(" takes a decay from 0 to 1"))),
        }
    }
}

/// A weight that is averaged, by the first of its names.
struct Made {
    name: String,
    average: Arc<Average>,
}

/// Writes the last input with weights that are the mean of all. Its objects are changed on the way.
///
/// # Errors
/// When the inputs do not hold the same weights, when something in one is missing or damaged, and for what has no mean.
/// Nothing is written then.
pub fn average(inputs: &mut [Input], options: &Options, sink: &Sink, progress: &dyn Progress) -> Result<Averaging> {
    if inputs.len() < 2 {
        return Err(Error::refused("give at least two inputs to average"));
    }
    let blend = Arc::new(options.method.blend(inputs.len())?);
    let mut report = Averaging {
        schema: "ckpt.average/1",
        inputs: inputs.iter().map(|input| input.name.clone()).collect(),
        output: sink.name.clone(),
        to: options.to.name(),
        method: options.method.name(),
        shares: blend.shares(),
        ..Averaging::default()
    };
    for input in &mut *inputs {
        input.checkpoint.restore_aliases().map_err(|e| e.of_input(&input.name))?;
    }
    let sides = inputs.iter().map(|input| Side::of(input, options.root.as_deref())).collect::<Result<Vec<_>>>()?;
    agree::agree(inputs, &sides)?;
    let placed = Placing::new(inputs, &sides, options, &blend)?.place(&mut report)?;
    if matches!(sink.target, Target::Stdout) {
        // what has gone down a pipe cannot be taken back
        let unread = Sums::default();
        inputs.par_iter().zip(&sides).try_for_each(|(input, side)| {
            let checkpoint = &input.checkpoint;
            unread.prove(checkpoint, unread.watch(checkpoint, side)).map_err(|e| e.of_input(&input.name))
        })?;
    }
    let sums = placed.sums();
    let watches = inputs.iter().zip(&sides).zip(sums).map(|((input, side), sums)| sums.watch(&input.checkpoint, side));
    let mut watches: Vec<Watch> = watches.collect();
    let keeps_all = matches!(options.to, Format::Torch | Format::TorchLegacy);
    report.weights = sides.last().map(|side| select::shown(&side.root)).unwrap_or_default();
    if keeps_all && report.weights != "." {
        let tensors = sides.last().map_or(0, |side| side.weights.len() as u64);
        let what = format!("weights: {}, {}", report.weights, counted(tensors, "tensor"));
        report.notes.extend(inputs.last().map(|last| Note::new(&last.name, what)));
    }
    let Some((last, before)) = inputs.split_last_mut() else { return Ok(report) };
    for input in &*before {
        report.notes.extend(input.checkpoint.notes.iter().map(|note| Note::new(&input.name, note.as_str())));
    }
    let (made, sums) = placed.apply(&mut last.checkpoint);
    let select = Select { root: options.root.clone().filter(|_| !keeps_all), ..Select::default() };
    let conversion = convert::Options { to: options.to, select, ..convert::Options::default() };
    let paced = Paced::new(&watches, progress);
    // all inputs are whole before the output is there
    let mut proof = |last: &Checkpoint| {
        let checkpoints = before.iter().map(|input| &input.checkpoint).chain([last]);
        for (((checkpoint, file), sums), watch) in checkpoints.zip(&report.inputs).zip(&sums).zip(watches.drain(..)) {
            sums.prove(checkpoint, watch).map_err(|e| e.of_input(file))?;
        }
        found(&made, &mut report)
    };
    let done = convert_if(last, &conversion, &Outlet::File(sink.clone()), None, &paced, &mut proof).map_err(advised)?;
    (report.files, report.left_out, report.doubtful) = (done.files, done.left_out, done.doubtful);
    report.notes.extend(done.notes);
    say(&mut report);
    Ok(report)
}

/// What a conversion advises is among its own settings.
fn advised(e: Error) -> Error {
    match e.kind() {
        ErrorKind::Io | ErrorKind::Limit => e,
        _ if e.advice().is_none() => e,
        _ => e.advise("leave it out of the inputs first, or write another format"),
    }
}

/// Collects what is not finite.
fn found(made: &[Made], report: &mut Averaging) -> Result<()> {
    for Made { name, average } in made {
        // who has read all of it has written it
        let found = average
            .found()
            .ok_or_else(|| Error::data(format!("{} was not written", shown(name))).of_output(&report.output))?;
        let name = || shown(name).to_owned();
        for (file, values) in report.inputs.iter().zip(&found.not_finite).filter(|(_, values)| **values > 0) {
            report.not_finite.push(NotFinite { file: file.clone(), name: name(), values: *values });
        }
        if found.in_mean > 0 && found.not_finite.iter().all(|values| *values == 0) {
            let file = report.output.clone();
            report.overflowed.push(NotFinite { file, name: name(), values: found.in_mean });
        }
    }
    Ok(())
}

/// What there is to know.
fn say(report: &mut Averaging) {
    let mut notes: Vec<Note> = Vec::new();
    let last = report.inputs.last().cloned().unwrap_or_default();
    let each = |found: &&NotFinite| format!("{} in {}", counted(found.values, "value"), found.name);
    let mut told: HashSet<&str> = HashSet::new();
    for file in report.inputs.iter().filter(|file| told.insert(file)) {
        let of_file: Vec<&NotFinite> = report.not_finite.iter().filter(|found| found.file == *file).collect();
        if !of_file.is_empty() {
            notes.push(Note::new(file, format!("NaN or infinite: {}", some_of(of_file.iter().map(each)))));
        }
    }
    if !report.overflowed.is_empty() {
        let of_output: Vec<&NotFinite> = report.overflowed.iter().collect();
        let what = format!("overflowed and became infinite: {}", some_of(of_output.iter().map(each)));
        notes.push(Note::new(&report.output, what));
    }
    if !report.also_changed.is_empty() {
        let names = some_of(report.also_changed.iter().cloned());
        notes.push(Note::new(&last, format!("averaged too, as they share memory with weights: {names}")));
    }
    if !report.from_last.is_empty() {
        let names = some_of(report.from_last.iter().cloned());
        notes.push(Note::new(&last, format!("taken from this input, not averaged: {names}")));
    }
    let how = match report.method {
        "weighted" => "weighted mean",
        "ema" => "moving average",
        _ => "mean",
    };
    let done = format!("{how} of {} inputs, {} averaged", report.inputs.len(), counted(report.averaged, "tensor"));
    notes.push(Note::new(&report.output, Message::from(done)));
    report.notes.extend(notes);
}
