//! `ckpt diff`: did anything change, where, and by how much.

mod git;
mod proposal;

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::commands::ExitStatus;
use crate::commands::input::{self, OpenArgs};
use crate::commands::output::{OutputArgs, say};
use crate::commands::progress_bar::Bars;
use crate::commands::wording::flag;
use crate::operations::Input;
use crate::operations::diff::{Answer, Ignore, Options, diff, first_difference};
use crate::report::diff::{Diff, Problem, SortBy};
use crate::report::ls::shown_name;

/// Options of `ckpt diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Equal means equal as numbers, element by element, whatever the dtypes are: NaN equals NaN, 0.0 equals -0.0, infinities equal \
themselves. Integers are exact to 64 bits, all other numbers meet in float64; quantized tensors are compared as stored, with \
their scales; sparse ones by their parts as stored. Values like `epoch` are equal when type and value are; tolerances count \
for plain floats too. When one file has a format for weights only (safetensors, npz, npy, pt2, shards) the weights are compared, by \
name, dtype, shape and elements only; a name that the __metadata__ of a safetensors file records as an alias ({alias: kept name}) \
counts as a tensor there. A module against a mapping is compared by what its state_dict() gives. Of two modules the tensors, the classes and \
the values of their state_dict() are compared, and no other attributes (`training`, the `p` of a dropout). A key that is a number \
is not its text (`0`, `'0'`); where a name is split into elements, and whether a list or a mapping holds them, does not count.\n\n\
With --quiet nothing is printed and the first difference ends the comparison.\n\n\
As the command of a git diff driver (git config diff.ckpt.command 'ckpt diff', and `*.pth diff=ckpt` in .gitattributes) it \
takes git's seven arguments, names the files as the repository does, and ends with 0 when they differ.\n\n\
Examples:\n  ckpt diff before.pth after.pth\n  ckpt diff -q model.pth model.safetensors && echo same\n  \
ckpt diff --rtol 1e-5 --atol 1e-8 run1.ckpt run2.ckpt\n  ckpt diff --sort change --top 10 base.pth tuned.pth\n  \
ckpt diff --root-a model_state_dict --strip-prefix module. checkpoint.tar model.pth")]
pub(crate) struct Args {
    /// The first file, directory or `ARCHIVE::member`, `-` for standard input
    #[arg(value_name = "A", value_parser = input::parser())]
    pub a: PathBuf,
    /// The second file; relative differences are relative to its values
    #[arg(value_name = "B", value_parser = input::parser())]
    pub b: PathBuf,
    /// What else git gives to the command of a diff driver
    #[arg(hide = true, num_args = 0..)]
    pub git: Vec<PathBuf>,
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
    pub limits: OpenArgs,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value >= 0.0 && value.is_finite() { Ok(value) } else { Err("must be finite and not negative".into()) }
}

impl Args {
    fn options(&self) -> Options {
        let mut options = Options::default();
        (options.root_a, options.root_b) = (self.root_a.clone(), self.root_b.clone());
        (options.include, options.exclude) = (self.include.clone(), self.exclude.clone());
        options.strip_prefix = self.strip_prefix.clone();
        (options.structure, options.load) = (self.structure, self.load);
        (options.rtol, options.atol) = (self.rtol, self.atol);
        (options.nan_differs, options.bitwise) = (self.nan_differs, self.bitwise);
        options.ignore = self.ignore.clone();
        options
    }
}

/// Compares two checkpoints.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    if !args.git.is_empty() {
        return git::run(args);
    }
    let (mut a, mut b) = open_both(&args.a, &args.b, args)?;
    if args.output.quiet {
        return Ok(match first_difference(&mut a, &mut b, &args.options())? {
            Answer::Equal => ExitStatus::Success,
            Answer::Different => ExitStatus::No,
            Answer::Unknown(problems) => {
                problems.into_iter().map(worded).for_each(|problem| say_problem(&problem));
                ExitStatus::Trouble
            }
        });
    }
    let diff = compare(&mut a, &mut b, args)?;
    args.output.print(&diff)?;
    Ok(status(&diff))
}

/// The whole comparison, as it is shown.
fn compare(a: &mut Input, b: &mut Input, args: &Args) -> anyhow::Result<Diff> {
    let bars = Bars::new(false);
    let mut diff = diff(a, b, &args.options(), &bars)?;
    drop(bars);
    args.output.notes(&diff.notes);
    diff.problems = std::mem::take(&mut diff.problems).into_iter().map(worded).collect();
    diff.problems.iter().for_each(say_problem);
    diff.sort(args.sort);
    diff.keep_top(args.top.unwrap_or(usize::MAX));
    diff.summary_only = args.summary;
    if let Some(found) = &mut diff.strip_prefix {
        found.command = proposal::command(found);
    }
    Ok(diff)
}

fn status(diff: &Diff) -> ExitStatus {
    match (diff.problems.is_empty(), diff.equal) {
        (false, _) => ExitStatus::Trouble,
        (true, true) => ExitStatus::Success,
        (true, false) => ExitStatus::No,
    }
}

/// Opens both, and says what is wrong with each that cannot be opened.
fn open_both(a: &Path, b: &Path, args: &Args) -> anyhow::Result<(Input, Input)> {
    if input::is_stdin(a) && input::is_stdin(b) {
        bail!("only one of the two can be standard input");
    }
    let limits = args.limits.limits();
    let open = |path: &Path| Ok(input::open(path, &limits, args.output.quiet)?);
    match (open(a), open(b)) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(e), Err(b)) => {
            args.output.refuse(a, &e)?;
            Err(b)
        }
        (Err(e), _) | (_, Err(e)) => Err(e),
    }
}

/// A problem as the command line says it.
fn worded(problem: Problem) -> Problem {
    Problem { problem: problem.problem.spoken(flag).into(), ..problem }
}

fn say_problem(Problem { file, name, problem }: &Problem) {
    say(format_args!("{file}: {}: {problem}", shown_name(name)));
}
