//! `ckpt diff`: did anything change, where, and by how much.

pub(crate) mod git;
mod proposal;

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::commands::ExitStatus;
use crate::operations::Input;
use crate::operations::diff::{Answer, Ignore, Options, diff, first_difference};
use crate::options::input::{self, OpenArgs};
use crate::options::names::MatchArgs;
use crate::options::output::OutputArgs;
use crate::report::diff::{Diff, Problem, SortBy};
use crate::report::ls::shown_name;
use crate::terminal::progress_bar::Bars;
use crate::terminal::streams::say;
use crate::terminal::wording::flag;

/// Options of `ckpt diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// First file, directory or `ARCHIVE::member`; `-` is standard input
    #[arg(value_name = "A", value_parser = input::parser())]
    pub a: PathBuf,
    /// Second file; relative differences are relative to its values
    #[arg(value_name = "B", value_parser = input::parser())]
    pub b: PathBuf,
    /// What else git gives to the command of a diff driver
    #[arg(hide = true, num_args = 0..)]
    pub git: Vec<PathBuf>,
    /// Compare names, shapes, dtypes and values; read no tensor data
    #[arg(long)]
    pub structure: bool,
    /// Relative tolerance
    ///
    /// |a - b| <= ATOL + RTOL * |b| is equal, as in torch.allclose.
    #[arg(long, value_name = "RTOL", default_value_t = 0.0, value_parser = tolerance, allow_negative_numbers = true)]
    pub rtol: f64,
    /// Absolute tolerance
    #[arg(long, value_name = "ATOL", default_value_t = 0.0, value_parser = tolerance, allow_negative_numbers = true)]
    pub atol: f64,
    /// Treat NaN as different from NaN
    #[arg(long)]
    pub nan_differs: bool,
    /// Compare bits: 0.0 differs from -0.0, a NaN from other NaNs
    #[arg(long, conflicts_with_all = ["rtol", "atol", "nan_differs"])]
    pub bitwise: bool,
    /// Ignore differences in these properties, separated by commas
    ///
    /// By default all of them count.
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub ignore: Vec<Ignore>,
    /// Report what load_state_dict(strict=False) of A into B would
    ///
    /// Keys and shapes of the weights only.
    #[arg(long)]
    pub load: bool,
    /// Print a one-line summary
    #[arg(short, long, conflicts_with = "load")]
    pub summary: bool,
    /// Sort order of changed tensors
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    pub sort: SortBy,
    /// Show only the first N entries of each section (default: all)
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Strip this prefix from the names that have it
    ///
    /// In both files, or in one only if more names match that way.
    #[arg(long, value_name = "PREFIX", help_heading = "Names")]
    pub strip_prefix: Option<String>,
    /// Compare only the part of A under NAME
    ///
    /// `.` is the top object. By default the top, or the weights where only weights count.
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub root_a: Option<String>,
    /// Compare only the part of B under NAME
    ///
    /// `.` is the top object. By default the top, or the weights where only weights count.
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub root_b: Option<String>,
    #[command(flatten)]
    pub names: MatchArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
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
        (options.include, options.exclude) = (self.names.include.clone(), self.names.exclude.clone());
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
