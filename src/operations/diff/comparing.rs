//! Two files on the way to a report: what their names are, then what lies under them.

use std::collections::HashSet;

use super::align::{can_be_stripped, without_prefix};
use super::choose::{choose, nothing_left};
use super::criteria::Criteria;
use super::pairs::{Pairing, pair};
use super::prefix::Prefix;
use super::renames::{Renames, find_renames};
use super::side::{Aligned, Alignment, Side};
use super::{Answer, Options};
use crate::checkpoint::Root;
use crate::error::Result;
use crate::message::{Note, Setting};
use crate::operations::Input;
use crate::operations::select::{Asked, Filter, Select, find_root, find_weights, shown};
use crate::progress::Progress;
use crate::report::diff::{Diff, OneSided, Problem, StripPrefix};
use crate::report::figures::counted;

/// The key of what a module saves besides its tensors (`torch/nn/modules/module.py`).
const EXTRA_STATE: &str = "_extra_state";

/// Two sides whose names are aligned and paired.
pub(crate) struct Comparing<'a> {
    pub left: Side<'a>,
    pub right: Side<'a>,
    pub criteria: Criteria,
    pub tensors: Pairing,
    pub values: Pairing,
    notes: Vec<Note>,
}

impl<'a> Comparing<'a> {
    /// Aligns the names of both. Fails when they cannot be listed.
    pub(crate) fn of(a: &'a Input, b: &'a Input, options: &Options) -> Result<Self> {
        let holds_only_weights = |input: &Input| input.checkpoint.container().holds_only_weights();
        let only_weights = options.load || holds_only_weights(a) || holds_only_weights(b);
        let begin = |input: &Input, root: &Option<String>, setting: Setting| {
            let found = match root {
                None if only_weights => find_weights(&input.checkpoint, setting),
                _ => find_root(&input.checkpoint, root.as_deref(), setting),
            };
            found.map_err(|e| e.of_input(&input.name))
        };
        let root_a = begin(a, &options.root_a, Setting::RootA)?;
        let root_b = begin(b, &options.root_b, Setting::RootB)?;
        // one holds a module, the other what its state_dict() gave, which says nothing of gradients
        let state_dict = only_weights || a.checkpoint.is_module(&root_a) != b.checkpoint.is_module(&root_b);
        let criteria = Criteria::of(options, &a.checkpoint.limits, only_weights, state_dict)?;
        let all = Filter::default();
        let side = |input: &'a Input, root: &Root, strip_prefix: Option<&str>, filter: &Filter| {
            let alignment =
                Alignment { strip_prefix, filter, weights: only_weights, state_dict, other_keys: options.load };
            Side::new(input, root, &alignment).map_err(|e| e.of_input(&input.name))
        };
        let (mut left, mut right) = (side(a, &root_a, None, &all)?, side(b, &root_b, None, &all)?);
        let (mut note, mut prefixes) = (None, [None; 2]);
        if let Some(prefix) = options.strip_prefix.as_deref() {
            let stripped = (side(a, &root_a, Some(prefix), &all)?, side(b, &root_b, Some(prefix), &all)?);
            let from;
            (left, right, from, note) = without_prefix(prefix, (left, right), stripped)?;
            prefixes = from.map(|is_stripped| is_stripped.then_some(prefix));
        }
        let names = Select { root: None, include: options.include.clone(), exclude: options.exclude.clone() };
        let asked = Asked::of(&names, &[]);
        if !asked.is_empty() {
            let begun = [(a, &root_a, options.root_a.is_none()), (b, &root_b, options.root_b.is_none())];
            let [of_a, of_b] = choose(&asked, begun, [&left, &right])?;
            let [prefix_a, prefix_b] = prefixes;
            (left, right) = (side(a, &root_a, prefix_a, &of_a)?, side(b, &root_b, prefix_b, &of_b)?);
        }
        if !left.has_modules() || !right.has_modules() {
            (left, right) = (left.without_modules(), right.without_modules());
        }
        let is_empty = |side: &Side<'_>| side.is_empty() || options.load && side.tensors.is_empty();
        if is_empty(&left) && is_empty(&right) {
            nothing_left(&asked, only_weights, [a, b])?;
        }
        let mut notes: Vec<Note> = note.into_iter().collect();
        for (side, root, given) in [(&left, &root_a, &options.root_a), (&right, &root_b, &options.root_b)] {
            notes.extend(side.checkpoint.notes.iter().map(|note| Note::new(side.name, note.as_str())));
            if only_weights && given.is_none() && !root.path.is_empty() {
                let tensors = counted(side.tensors.len() as u64, "tensor");
                notes.push(Note::new(side.name, format!("weights: {}, {tensors}", shown(root))));
            }
        }
        let (tensors, mut values) = (pair(&left.tensors, &right.tensors), pair(&left.values, &right.values));
        if options.load {
            // what else lies beside a model's tensors is no key that it wants
            let is_wanted = |value: &Aligned| value.name.rsplit('.').next() == Some(EXTRA_STATE);
            values.only_b.retain(|index| right.values.get(*index).is_some_and(is_wanted));
        }
        Ok(Comparing { left, right, criteria, tensors, values, notes })
    }

    /// Reads everything.
    pub(crate) fn diff(self, progress: &dyn Progress) -> Diff {
        let jobs = self.jobs();
        progress.begin(&format!("{} {}", self.left.name, self.right.name), self.bytes(&jobs));
        let mut diff = Diff {
            schema: Diff::SCHEMA,
            a: self.left.name.to_owned(),
            b: self.right.name.to_owned(),
            problems: self.known_problems(),
            structure_only: !self.criteria.reads_data,
            is_load: self.criteria.load,
            ..Diff::default()
        };
        self.compare_tensors(&jobs, progress, &mut diff);
        let no_tensors = self.compare_others(&mut diff);
        let sides = (&self.left, &self.right);
        let renames = find_renames(sides, &self.tensors, &self.criteria, progress, &mut diff.problems);
        diff.strip_prefix = self.strip_prefix(&renames);
        diff.renamed = renames.pairs(&self.left, &self.right);
        let (modules_a, modules_b) = self.renamed_modules(renames.prefix.as_ref());
        let one_sided =
            |side: &Side<'_>, tensors: &mut dyn Iterator<Item = &usize>, values: &mut dyn Iterator<Item = &usize>| {
                let tensors = tensors.filter_map(|index| side.tensors.get(*index));
                let values = values.filter_map(|index| side.values.get(*index));
                let shown = |named: &Aligned| OneSided { name: named.name.clone(), shown: side.shown(named) };
                tensors.chain(values).map(shown).collect()
            };
        diff.only_a = one_sided(
            &self.left,
            &mut self.tensors.only_a.iter().filter(|index| !renames.a.contains_key(index)),
            &mut self.values.only_a.iter().filter(|index| !modules_a.contains(index) && !no_tensors.a.contains(index)),
        );
        diff.only_b = one_sided(
            &self.right,
            &mut self.tensors.only_b.iter().filter(|index| !renames.b.contains(index) && !no_tensors.b.contains(index)),
            &mut self.values.only_b.iter().filter(|index| !modules_b.contains(index)),
        );
        diff.problems.dedup();
        diff.notes = self.notes;
        diff.conclude();
        diff
    }

    /// Reads until the answer is known.
    pub(crate) fn first_difference(mut self, progress: &dyn Progress) -> Answer {
        self.criteria.elements.stop_at_first = true;
        let problems = self.known_problems();
        if !problems.is_empty() {
            return Answer::Unknown(problems);
        }
        let has_lone = |pairing: &Pairing| !pairing.only_a.is_empty() || !pairing.only_b.is_empty();
        if has_lone(&self.tensors) || has_lone(&self.values) || self.facts_differ() {
            return Answer::Different;
        }
        let mut diff = Diff::default();
        self.compare_others(&mut diff);
        match (diff.problems.is_empty(), diff.values.is_empty()) {
            (false, _) => Answer::Unknown(diff.problems),
            (true, false) => Answer::Different,
            (true, true) => self.first_tensor(&self.jobs(), progress),
        }
    }

    /// Modules whose names differ by the prefix of the tensors in them: it has been said once.
    fn renamed_modules(&self, prefix: Option<&Prefix>) -> (HashSet<usize>, HashSet<usize>) {
        let modules = |side: &Side<'_>, indexes: &[usize]| -> Vec<usize> {
            indexes.iter().copied().filter(|i| side.values.get(*i).is_some_and(Aligned::is_module)).collect()
        };
        let (a, b) = (modules(&self.left, &self.values.only_a), modules(&self.right, &self.values.only_b));
        let names_a: Vec<_> = a.iter().filter_map(|i| self.left.values.get(*i)).collect();
        let names_b: Vec<_> = b.iter().filter_map(|i| self.right.values.get(*i)).collect();
        let aligned = prefix.map(|prefix| prefix.align(&names_a, &names_b)).unwrap_or_default();
        let same = aligned
            .into_iter()
            .filter(|(x, y)| names_a.get(*x).zip(names_b.get(*y)).is_some_and(|(x, y)| x.what == y.what));
        same.filter_map(|(x, y)| Some((a.get(x).copied()?, b.get(y).copied()?))).unzip()
    }

    /// Tensors of which the files themselves say that something is wrong, where their data is to be read.
    fn known_problems(&self) -> Vec<Problem> {
        if !self.criteria.reads_data {
            return Vec::new();
        }
        let sides = [&self.left, &self.right].into_iter();
        let tensors = sides.flat_map(|side| side.tensors.iter().map(move |named| (side, named)));
        let with =
            tensors.filter_map(|(side, named)| Some(side.problem(named, side.tensor(named)?.problem.as_deref()?)));
        with.collect()
    }

    fn strip_prefix(&self, renames: &Renames) -> Option<StripPrefix> {
        let found = renames.prefix.as_ref()?;
        let side = if found.in_a { &self.left } else { &self.right };
        let step = found.step().filter(|step| renames.is_proven && can_be_stripped(side.checkpoint, step));
        Some(StripPrefix { file: side.name.to_owned(), prefix: found.prefix.clone(), step, command: None })
    }
}
