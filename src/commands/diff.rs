//! `ckpt diff`: did anything change, where, and by how much.

mod align;
mod pairs;
mod prefix;
mod renames;
mod side;
mod tensors;
mod values;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::checkpoint::Root;
use crate::checkpoint::resolve::Listed;
use crate::commands::Status;
use crate::commands::input::{self, LimitArgs};
use crate::commands::output::{OutputArgs, say};
use crate::commands::progress_bar::Bar;
use crate::message::Setting;
use crate::operations::Input;
use crate::operations::select::{Asked, Filter, Select, find_root, find_weights, shown};
use crate::report::diff::{Diff, OneSided, Problem, SortBy, StripPrefix, View};
use crate::report::figures::counted;
use crate::report::ls::shown_name;
use align::{can_be_stripped, without_prefix};
use pairs::{Pairing, pair};
use side::{Align, Side};
use tensors::{Rules, Tensors};

/// Options of `ckpt diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Equal means equal as numbers, element by element, whatever the dtypes are: NaN equals NaN, 0.0 equals -0.0, infinities equal \
themselves. Integers are exact to 64 bits, all other numbers meet in float64; quantized tensors are compared as stored, with \
their scales; sparse ones by their parts as stored. Values like `epoch` are equal when type and value are; tolerances count \
for plain floats too. When one file has a format for weights only (safetensors, npz, npy, pt2, shards) the weights are compared, by \
name, dtype, shape and elements only; a name that the __metadata__ of a safetensors file records as an alias ({alias: kept name}) \
counts as a tensor there. A module against a mapping is compared by what its state_dict() gives.\n\n\
With --quiet nothing is printed and the first difference ends the comparison.\n\n\
Examples:\n  ckpt diff before.pth after.pth\n  ckpt diff -q model.pth model.safetensors && echo same\n  \
ckpt diff --rtol 1e-5 --atol 1e-8 run1.ckpt run2.ckpt\n  ckpt diff --sort change --top 10 base.pth tuned.pth\n  \
ckpt diff --root-a model_state_dict --strip-prefix module. checkpoint.tar model.pth")]
pub struct Args {
    /// The first file, directory or `ARCHIVE::member`, `-` for standard input
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// The second file; relative differences are relative to its values
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Compare names, shapes, dtypes and other values only; read no tensor data
    #[arg(long)]
    pub structure: bool,
    /// Relative tolerance: |a - b| <= ATOL + RTOL * |b| is equal, as in torch.allclose
    #[arg(long, value_name = "RTOL", default_value_t = 0.0, value_parser = tolerance, allow_negative_numbers = true)]
    pub rtol: f64,
    /// Absolute tolerance
    #[arg(long, value_name = "ATOL", default_value_t = 0.0, value_parser = tolerance, allow_negative_numbers = true)]
    pub atol: f64,
    /// Treat NaN as different from NaN
    #[arg(long)]
    pub nan_differs: bool,
    /// Compare bits: 0.0 differs from -0.0, and a NaN from other NaNs
    #[arg(long, conflicts_with_all = ["rtol", "atol", "nan_differs"])]
    pub bitwise: bool,
    /// Ignore differences in these properties, separated by commas (`values`: elements and other values)
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub ignore: Vec<Ignore>,
    /// Strip this prefix from the names that have it: in both files, or in one only if more names match that way
    #[arg(long, value_name = "PREFIX", help_heading = "Names")]
    pub strip_prefix: Option<String>,
    /// Compare only the part of A under NAME (`.` is the top); names are relative to it
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub root_a: Option<String>,
    /// Compare only the part of B under NAME
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub root_b: Option<String>,
    /// Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable
    #[arg(long, value_name = "NAME|GLOB", help_heading = "Names")]
    pub include: Vec<String>,
    /// Skip matching names; repeatable
    #[arg(long, value_name = "NAME|GLOB", help_heading = "Names")]
    pub exclude: Vec<String>,
    /// Sort order of changed tensors
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    pub sort: SortBy,
    /// Show only the first N entries of each section
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Print a one-line summary
    #[arg(short, long, conflicts_with = "load")]
    pub summary: bool,
    /// Report what load_state_dict(strict=False) of A into B would: keys and shapes of the weights only
    #[arg(long)]
    pub load: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: LimitArgs,
}

/// What may be left out of account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignore {
    /// Device.
    Device,
    /// requires_grad flag.
    RequiresGrad,
    /// Data type; elements are still compared as numbers.
    Dtype,
    /// Elements of tensors, and other values of the same name.
    Values,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value >= 0.0 && value.is_finite() { Ok(value) } else { Err("must be finite and not negative".into()) }
}

/// Compares two checkpoints.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let (a, b) = open_both(args)?;
    let comparing = Comparing::of(args, &a, &b)?;
    comparing.say_notes();
    if args.output.quiet {
        return Ok(comparing.first_difference());
    }
    let diff = comparing.diff();
    read_whole(&a, &b)?;
    say_problems(&diff.problems);
    args.output.print(&diff)?;
    Ok(match (diff.problems.is_empty(), diff.equal) {
        (false, _) => Status::Trouble,
        (true, true) => Status::Success,
        (true, false) => Status::No,
    })
}

/// Everything in which two open inputs differ, as `args` asks for it. Fails when the names cannot be listed.
pub fn compare(args: &Args, a: &Input, b: &Input) -> anyhow::Result<Diff> {
    let diff = Comparing::of(args, a, b)?.diff();
    read_whole(a, b)?;
    Ok(diff)
}

/// Fails when a value was looked at that could not be read.
fn read_whole(a: &Input, b: &Input) -> anyhow::Result<()> {
    for input in [a, b] {
        input.checkpoint.graph.complete().with_context(|| input.name.clone())?;
    }
    Ok(())
}

/// Opens both, and says what is wrong with each that cannot be opened.
fn open_both(args: &Args) -> anyhow::Result<(Input, Input)> {
    if input::is_stdin(&args.a) && input::is_stdin(&args.b) {
        bail!("only one of the two can be standard input");
    }
    let limits = args.limits.limits();
    let open = |path: &Path| {
        let mut input = input::open(path, &limits, args.output.quiet)?;
        input.checkpoint.restore_aliases().with_context(|| input.name.clone())?;
        anyhow::Ok(input)
    };
    match (open(&args.a), open(&args.b)) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => {
            args.output.refuse(&args.a, &a)?;
            Err(b)
        }
        (Err(e), _) | (_, Err(e)) => Err(e),
    }
}

/// What `--include` and `--exclude` choose on each side: among the aligned names of both together, else among all names
/// of the files as they stand there. An argument that matches in neither file is an error.
fn choose(
    asked: &Asked<'_>,
    sides: [(&Input, &Root, bool); 2],
    aligned: [&Side<'_>; 2],
) -> anyhow::Result<[Filter; 2]> {
    let [a, b] = sides;
    let listed = aligned.map(|side| {
        let named = side.tensors.iter().chain(side.values.iter().filter(|named| !named.is_module()));
        Listed::of_names(named.map(|named| (named.name.clone(), named.path.as_slice())))
    });
    let mut resolved = asked.resolve(&listed)?;
    if resolved.missing().next().is_some() {
        // nobody named the part that is compared, so names begin at the top
        let whole = |(input, root, is_found): (&Input, &Root, bool)| {
            let from = if is_found { input.checkpoint.top() } else { root.clone() };
            input.checkpoint.names(&from).with_context(|| input.name.clone())
        };
        let whole = [whole(a)?, whole(b)?];
        let whole = whole.each_ref().map(|names| Listed::of(&names.entries));
        resolved.look_further(&whole)?;
        resolved.missing_is_an_error(&whole).with_context(|| format!("{} and {}", a.0.name, b.0.name))?;
    }
    let filter = |(_, root, is_found): (&Input, &Root, bool)| {
        let filter = resolved.filter()?;
        Ok(if is_found { filter.below(root) } else { filter })
    };
    let filters: anyhow::Result<_> = filter(a).and_then(|a| Ok([a, filter(b)?]));
    filters
}

/// Nothing is not equal to nothing where something was left aside.
fn nothing_left(args: &Args, weights: bool, inputs: [&Input; 2]) -> anyhow::Result<()> {
    if !args.include.is_empty() || !args.exclude.is_empty() {
        bail!("nothing to compare: no names left after --include/--exclude");
    }
    for input in inputs {
        let names = input.checkpoint.names(&input.checkpoint.top()).with_context(|| input.name.clone())?;
        if !names.entries.is_empty() {
            bail!(
                "nothing to compare: {}",
                if weights { "no weights on either side" } else { "no names below the roots" }
            );
        }
    }
    Ok(())
}

/// Two sides on the way to a [`Diff`].
struct Comparing<'a> {
    args: &'a Args,
    left: Side<'a>,
    right: Side<'a>,
    /// The weights that were found, when only those are compared.
    roots: [Option<String>; 2],
    /// Which side lost its prefix, when that was decided.
    note: align::Note,
    rules: Rules,
}

impl<'a> Comparing<'a> {
    /// Aligns the names of both.
    fn of(args: &'a Args, a: &'a Input, b: &'a Input) -> anyhow::Result<Self> {
        let holds_only_weights = |input: &Input| input.checkpoint.container.holds_only_weights();
        let only_weights = args.load || holds_only_weights(a) || holds_only_weights(b);
        let names = Select { root: None, include: args.include.clone(), exclude: args.exclude.clone() };
        let side = |input: &Input, root: &Option<String>, setting: Setting| -> anyhow::Result<Root> {
            match root {
                None if only_weights => find_weights(&input.checkpoint, setting),
                _ => find_root(&input.checkpoint, root.as_deref(), setting),
            }
            .with_context(|| input.name.clone())
        };
        let (root_a, root_b) = (side(a, &args.root_a, Setting::RootA)?, side(b, &args.root_b, Setting::RootB)?);
        // one holds a module, the other what its state_dict() gave, which says nothing of gradients
        let state_dict = only_weights || a.checkpoint.is_module(&root_a) != b.checkpoint.is_module(&root_b);
        let all = Filter::default();
        let align = Align { strip_prefix: None, filter: &all, weights: only_weights, state_dict };
        let open = |input: &'a Input, root: &Root, strip_prefix: Option<&str>, filter: &Filter| {
            Side::new(input, root, &Align { strip_prefix, filter, ..align }).with_context(|| input.name.clone())
        };
        let (mut left, mut right) = (open(a, &root_a, None, &all)?, open(b, &root_b, None, &all)?);
        let (mut note, mut prefixes) = (None, [None; 2]);
        if let Some(prefix) = args.strip_prefix.as_deref() {
            let stripped = (open(a, &root_a, Some(prefix), &all)?, open(b, &root_b, Some(prefix), &all)?);
            let from;
            (left, right, from, note) = without_prefix(prefix, (left, right), stripped)?;
            prefixes = from.map(|is_stripped| is_stripped.then_some(prefix));
        }
        let asked = Asked::of(&names, &[]);
        if !asked.is_empty() {
            let sides = [(a, &root_a, args.root_a.is_none()), (b, &root_b, args.root_b.is_none())];
            let [of_a, of_b] = choose(&asked, sides, [&left, &right])?;
            let [prefix_a, prefix_b] = prefixes;
            (left, right) = (open(a, &root_a, prefix_a, &of_a)?, open(b, &root_b, prefix_b, &of_b)?);
        }
        if !left.has_modules() || !right.has_modules() {
            (left, right) = (left.without_modules(), right.without_modules());
        }
        if left.is_empty() && right.is_empty() {
            nothing_left(args, only_weights, [a, b])?;
        }
        let chosen = |root: &Root, given: &Option<String>| (only_weights && given.is_none()).then(|| shown(root));
        let roots = [chosen(&root_a, &args.root_a), chosen(&root_b, &args.root_b)];
        Ok(Comparing { args, left, right, roots, note, rules: Rules::new(args, only_weights, state_dict) })
    }

    fn say_notes(&self) {
        if let Some((file, note)) = &self.note {
            self.args.output.note(file, note);
        }
        for (side, root) in [&self.left, &self.right].into_iter().zip(&self.roots) {
            for note in &side.checkpoint.notes {
                self.args.output.note(side.name, note);
            }
            if let Some(root) = root.as_ref().filter(|root| *root != ".") {
                let tensors = counted(side.tensors.len() as u64, "tensor");
                self.args.output.note(side.name, format_args!("weights: {root}, {tensors}"));
            }
        }
    }

    /// Reads everything.
    fn diff(&self) -> Diff {
        let args = self.args;
        let tensors = pair(&self.left.tensors, &self.right.tensors);
        let values = pair(&self.left.values, &self.right.values);
        let compare = Tensors { left: &self.left, right: &self.right, rules: &self.rules };
        let jobs = compare.jobs(&tensors);
        let problems = self.known_problems();
        let bar = Bar::new(&format!("{} {}", self.left.name, self.right.name), compare.bytes(&jobs), false);
        let mut diff = Diff {
            schema: Diff::SCHEMA,
            a: self.left.name.to_owned(),
            b: self.right.name.to_owned(),
            problems,
            structure_only: !self.rules.reads_data,
            ..Diff::default()
        };
        compare.run(&tensors, &jobs, &bar, &mut diff);
        self.values(&values, &mut diff);
        let renames = renames::find(&compare, &tensors, &bar, &mut diff.problems);
        drop(bar);
        diff.strip_prefix = self.strip_prefix(&renames);
        diff.renamed = renames.pairs(&self.left, &self.right);
        let (modules_a, modules_b) = self.renamed_modules(&values, renames.prefix.as_ref());
        let one_sided = |side: &Side<'_>, tensors: &[usize], values: &[usize], taken: [&dyn Fn(&usize) -> bool; 2]| {
            let tensors = tensors.iter().filter(|index| !taken[0](index)).filter_map(|i| side.tensors.get(*i));
            let values = values.iter().filter(|index| !taken[1](index)).filter_map(|i| side.values.get(*i));
            let shown = |named: &side::Named| OneSided { name: named.name.clone(), shown: side.shown(named) };
            tensors.chain(values).map(shown).collect()
        };
        diff.only_a = one_sided(
            &self.left,
            &tensors.only_a,
            &values.only_a,
            [&|i| renames.a.contains_key(i), &|i| modules_a.contains(i)],
        );
        diff.only_b = one_sided(
            &self.right,
            &tensors.only_b,
            &values.only_b,
            [&|i| renames.b.contains(i), &|i| modules_b.contains(i)],
        );
        diff.problems.dedup();
        diff.conclude();
        diff.sort(args.sort);
        diff.keep_top(args.top.unwrap_or(usize::MAX));
        diff.view = match (args.load, args.summary) {
            (true, _) => View::Load,
            (false, true) => View::Summary,
            (false, false) => View::Sections,
        };
        diff
    }

    /// Answers with as little reading as possible, and the same way every time: what the files say is wrong comes
    /// first, then what needs no data, then the first tensor in file order.
    fn first_difference(&self) -> Status {
        let problems = self.known_problems();
        if !problems.is_empty() {
            say_problems(&problems);
            return Status::Trouble;
        }
        let tensors = pair(&self.left.tensors, &self.right.tensors);
        let values = pair(&self.left.values, &self.right.values);
        let compare = Tensors { left: &self.left, right: &self.right, rules: &self.rules };
        if [&tensors, &values].iter().any(|pairing| !pairing.only_a.is_empty() || !pairing.only_b.is_empty())
            || compare.facts_differ(&tensors)
        {
            return Status::No;
        }
        let mut diff = Diff::default();
        self.values(&values, &mut diff);
        if diff.values.is_empty() && diff.problems.is_empty() {
            match compare.first_difference(&compare.jobs(&tensors)) {
                None => return Status::Success,
                Some(Ok(())) => return Status::No,
                Some(Err(problem)) => diff.problems.push(problem),
            }
        }
        say_problems(&diff.problems);
        if diff.problems.is_empty() { Status::No } else { Status::Trouble }
    }

    fn values(&self, pairing: &Pairing, diff: &mut Diff) {
        let options = &self.rules.options;
        let compare = values::Values { left: &self.left, right: &self.right, options };
        for (a, b) in pairing.both.iter().filter_map(|(a, b)| self.left.values.get(*a).zip(self.right.values.get(*b))) {
            match compare.change(a, b) {
                Ok(None) => diff.same_values += 1,
                Ok(Some(_)) if self.rules.ignores(Ignore::Values) => diff.same_values += 1,
                Ok(Some(change)) => diff.values.push(change),
                Err(e) => diff.problems.push(Problem {
                    file: self.left.name.to_owned(),
                    name: a.name.clone(),
                    problem: e.to_string(),
                }),
            }
        }
    }

    /// Modules whose names differ by the prefix of the tensors in them: it has been said once.
    fn renamed_modules(&self, pairing: &Pairing, prefix: Option<&prefix::Prefix>) -> (HashSet<usize>, HashSet<usize>) {
        let modules = |side: &Side<'_>, indexes: &[usize]| -> Vec<usize> {
            indexes.iter().copied().filter(|i| side.values.get(*i).is_some_and(side::Named::is_module)).collect()
        };
        let (a, b) = (modules(&self.left, &pairing.only_a), modules(&self.right, &pairing.only_b));
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
        if !self.rules.reads_data {
            return Vec::new();
        }
        let of = |side: &Side<'_>| -> Vec<Problem> {
            let tensors = side.tensors.iter().filter_map(|named| Some((named, side.tensor(named)?)));
            let with = tensors.filter_map(|(named, tensor)| Some((named, tensor.problem.clone()?)));
            with.map(|(named, problem)| side.problem(named, problem)).collect()
        };
        let mut found = of(&self.left);
        found.extend(of(&self.right));
        found
    }

    fn strip_prefix(&self, renames: &renames::Renames) -> Option<StripPrefix> {
        let found = renames.prefix.as_ref()?;
        let file = if found.in_a { self.left.name } else { self.right.name };
        let side = if found.in_a { &self.left } else { &self.right };
        let command = found.command(file).filter(|_| renames.is_proven && can_be_stripped(side.checkpoint, found));
        Some(StripPrefix { file: file.to_owned(), prefix: found.prefix.clone(), command })
    }
}

fn say_problems(problems: &[Problem]) {
    for Problem { file, name, problem } in problems {
        say(format_args!("{file}: {}: {problem}", shown_name(name)));
    }
}
