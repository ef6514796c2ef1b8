//! Renaming: one input, steps that change names, one destination. Stripping a prefix is a renaming of one step.

mod unmatched;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::checkpoint::edit::rules::{Rules, Step};
use crate::checkpoint::edit::{RenamePlan, weights_first};
use crate::checkpoint::{Checkpoint, Root};
use crate::error::{Error, Result};
use crate::message::{Message, Note, Setting};
use crate::operations::destination::{Destination, Edit, Edited, Original};
use crate::operations::select::{Filter, Select, root_if_there};
use crate::progress::Progress;
use crate::report::figures::counted;
use crate::report::rename::{Renaming, Row};
use crate::report::shell::quoted;
use crate::write::rewrite::Change;

/// Which names change, and how.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// What happens to each name, one after the other. Every step has to change a name, and every row of a table to match
    /// one.
    pub steps: Vec<Named>,
    /// Where to progress, and which names are meant.
    pub select: Select,
    /// Steps, rows and choices that match nothing are ignored; if none match, the input is written as it is.
    pub if_present: bool,
    /// List every name that changes, although something is written.
    pub list: bool,
}

/// A step, and what it is called.
#[derive(Debug, Clone)]
pub struct Named {
    /// What it does.
    pub step: Step,
    /// What messages show of it: the prefix, the expression, where the table lies.
    pub text: String,
}

impl Named {
    /// A step that messages show as `text`.
    pub fn new(step: Step, text: impl Into<String>) -> Self {
        Named { step, text: text.into() }
    }

    fn shown(&self) -> Message {
        let setting = match self.step {
            Step::AddPrefix(_) => Setting::AddPrefix,
            Step::StripPrefix(_) | Step::StripAnywhere(_) => Setting::StripPrefix,
            Step::Replace { .. } => Setting::Regex,
            Step::Table(_) => Setting::Map,
        };
        setting.then(format!(" {}", quoted(&self.text)))
    }
}

impl Options {
    /// These steps, one after the other.
    pub fn of(steps: Vec<Named>) -> Self {
        Options { steps, ..Options::default() }
    }
}

/// Plans, and writes when something changes. Where no name does that should, the report says why and nothing is written.
pub fn rename(
    original: &mut Original,
    options: &Options,
    destination: &mut Destination,
    progress: &dyn Progress,
) -> Result<Renaming> {
    let file = original.input.name.clone();
    renamed(original, options, destination, progress).map_err(|e| e.of_input(&file))
}

fn renamed(
    original: &mut Original,
    options: &Options,
    destination: &mut Destination,
    progress: &dyn Progress,
) -> Result<Renaming> {
    let rules = Rules(options.steps.iter().map(|named| named.step.clone()).collect());
    let mut notes = Vec::new();
    let names = Names::of(original, options, &mut notes)?;
    let plan = match &names {
        Some(names) => names.plan(&original.input.checkpoint, &rules)?,
        None => RenamePlan::default(),
    };
    let renaming = Steps { checkpoint: &original.input.checkpoint, names: names.as_ref(), rules: &rules, options };
    let mut report = Renaming {
        schema: Renaming::SCHEMA,
        file: original.input.name.clone(),
        state_dicts: plan.state_dicts,
        changes: plan.renames.len() as u64,
        summary: summary(&original.input.checkpoint, &plan),
        ..Renaming::default()
    };
    if plan.renames.is_empty() && !options.if_present {
        if let Some(module) = plan.modules.first().filter(|_| plan.state_dicts == 0) {
            let message = format!("{} is a module pickled whole, whose names come from its code", or_top(module));
            return Err(Error::refused(message).advise(weights_first()));
        }
        report.nothing = Some(renaming.why_nothing(&plan)?);
    } else if !options.if_present
        && let Some(idle) = renaming.idle_step(&plan)?
    {
        let advice = Setting::IfPresent.then(" ignores such steps");
        return Err(Error::refused(idle.text("; nothing written")).advise(advice));
    }
    let modules = plan.modules.iter();
    notes.extend(modules.map(|module| {
        Note::new(&report.file, format!("{} is left unchanged: a module pickled whole", or_top(module)))
    }));
    if report.nothing.is_none() {
        if options.list || matches!(destination, Destination::Nowhere) {
            report.renamed = rows(&original.input.checkpoint, &plan);
        }
        if matches!(destination, Destination::Shards { .. }) && options.select.root.is_some() {
            return Err(Error::refused(Setting::Root.then(" cannot be used with shards, which have one level")));
        }
        let edit = Renames { plan: &plan, rules: &rules, names: names.as_ref(), in_index: OnceLock::new() };
        let edit: Option<&dyn Edit> = if plan.renames.is_empty() { None } else { Some(&edit) };
        let Edited { output, in_place, bytes, notes: more } = destination.write(original, edit, progress)?;
        (report.output, report.in_place, report.bytes) = (output, in_place, bytes);
        notes.extend(more);
    }
    report.notes = notes;
    Ok(report)
}

fn or_top(name: &str) -> &str {
    if name.is_empty() { "the top object" } else { name }
}

/// Where to rename, and which names.
struct Names {
    root: Root,
    filter: Filter,
}

impl Names {
    /// Nothing where the root is not there and need not be.
    fn of(original: &Original, options: &Options, notes: &mut Vec<Note>) -> Result<Option<Self>> {
        let (select, checkpoint) = (&options.select, &original.input.checkpoint);
        let root = match &select.root {
            Some(name) if options.if_present => root_if_there(checkpoint, name)?,
            _ => Some(select.find_root(checkpoint)?),
        };
        let Some(root) = root else { return Ok(None) };
        let asks = !select.include.is_empty() || !select.exclude.is_empty();
        let entries = if asks { checkpoint.names(&root)?.entries } else { Vec::new() };
        let (filter, missing) = select.filter_if_there(&entries)?;
        match missing {
            Err(e) if options.if_present => notes.push(Note::new(&original.input.name, e.to_message())),
            missing => missing?,
        }
        Ok(Some(Names { root, filter }))
    }

    /// Which names are meant, where not all are.
    fn with_takes<T>(&self, then: impl FnOnce(Option<&dyn Fn(&str) -> bool>) -> T) -> T {
        let takes = |name: &str| self.filter.takes(name);
        then(if self.filter.takes_all() { None } else { Some(&takes) })
    }

    fn plan(&self, checkpoint: &Checkpoint, rules: &Rules) -> Result<RenamePlan> {
        self.with_takes(|takes| checkpoint.plan_renames(&self.root, rules, takes))
    }
}

/// The steps among the names that they see.
struct Steps<'a> {
    checkpoint: &'a Checkpoint,
    names: Option<&'a Names>,
    rules: &'a Rules,
    options: &'a Options,
}

/// What changed in one sentence.
fn summary(checkpoint: &Checkpoint, plan: &RenamePlan) -> String {
    let Some(first) = plan.renames.first() else { return "nothing to rename".to_owned() };
    let mut dicts: Vec<&str> = plan.renames.iter().map(|rename| &*rename.within).collect();
    dicts.sort_unstable();
    dicts.dedup();
    let (names, dicts) = (counted(plan.renames.len() as u64, "name"), counted(dicts.len() as u64, "state dict"));
    let (old, new) = checkpoint.shown(first);
    let within = if first.within.is_empty() { String::new() } else { format!("{}.", first.within) };
    let more = if plan.renames.len() > 1 { ", …" } else { "" };
    format!("renamed {names} in {dicts} ({within}{old} -> {within}{new}{more})")
}

fn rows(checkpoint: &Checkpoint, plan: &RenamePlan) -> Vec<Row> {
    let rows = plan.renames.iter().map(|rename| {
        let (old, new) = checkpoint.shown(rename);
        Row { within: Arc::clone(&rename.within), old, new }
    });
    rows.collect()
}

/// A planned renaming as an edit.
struct Renames<'a> {
    plan: &'a RenamePlan,
    rules: &'a Rules,
    names: Option<&'a Names>,
    /// New names by old ones, of an input of several files.
    in_index: OnceLock<HashMap<String, String>>,
}

impl Edit for Renames<'_> {
    fn change(&self, checkpoint: &Checkpoint) -> Result<Change> {
        Change::of_renames(checkpoint, self.plan)
    }

    fn apply(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        checkpoint.apply(self.plan)
    }

    fn change_in_shard(&self, shard: &Checkpoint) -> Result<Option<Change>> {
        let Some(names) = self.names else { return Ok(None) };
        let plan = names.with_takes(|takes| shard.plan_renames(&shard.top(), self.rules, takes))?;
        if plan.renames.is_empty() { Ok(None) } else { Change::of_renames(shard, &plan).map(Some) }
    }

    fn name_in_index(&self, checkpoint: &Checkpoint, name: &str) -> Option<&str> {
        let all = || self.plan.renames.iter().map(|rename| checkpoint.shown(rename)).collect();
        self.in_index.get_or_init(all).get(name).map(String::as_str)
    }
}
