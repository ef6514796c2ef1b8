//! `ckpt extract`: one thing taken out of a checkpoint, or several, printed or written.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use crate::commands::ExitStatus;
use crate::data::subscript::Subscript;
use crate::dtype::DType;
use crate::operations::extract::{Destination, Form, Options, Text, choose, show, write};
use crate::options::input::{self, OpenArgs};
use crate::options::names::NameArgs;
use crate::options::output::OutputArgs;
use crate::options::values::formats;
use crate::terminal::progress_bar::Bars;
use crate::terminal::streams::stdout;
use crate::write::format::Format;

/// Options of `ckpt extract`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File, directory, `ARCHIVE::member`, or `-` for standard input
    #[arg(value_name = "INPUT", value_parser = input::parser())]
    pub input: PathBuf,
    /// What to extract (default: everything)
    ///
    /// A name, an element with everything below it, or a glob over whole names (`*` also matches dots).
    #[arg(value_name = "NAME|GLOB")]
    pub names: Vec<String>,
    /// Write to a file or directory instead of printing
    ///
    /// FILE.npy, .npz, .json, .csv, .bin, .png, .safetensors or .pt, a directory (one file each), or `-` for standard output.
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: Option<PathBuf>,
    /// Format to write (default: from OUTPUT's extension)
    ///
    /// For a directory, the format of each file.
    #[arg(long, value_parser = formats(&Format::OF_PARTS), value_name = "FORMAT", requires = "output")]
    pub to: Option<Format>,
    /// Replace existing files
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Print every element
    #[arg(long, conflicts_with = "output")]
    pub full: bool,
    /// Take a part of each tensor, in Python's syntax
    ///
    /// `0:2,:`, `-1`, `...,::-1`. By default all of it.
    #[arg(long, value_name = "SLICE", allow_hyphen_values = true)]
    pub slice: Option<Subscript>,
    /// Cast floating-point tensors: float16, bfloat16, float32, float64
    ///
    /// By default every dtype is kept.
    #[arg(long, value_name = "DTYPE", value_parser = crate::data::cast::target)]
    pub dtype: Option<DType>,
    #[command(flatten)]
    pub picture: PictureArgs,
    #[command(flatten)]
    pub names_chosen: NameArgs,
    #[command(flatten)]
    pub report: OutputArgs,
    #[command(flatten)]
    pub limits: OpenArgs,
}

/// Options for `.png`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Pictures")]
pub(crate) struct PictureArgs {
    /// Values drawn black and white (default: minimum and maximum)
    #[arg(long, value_name = "LO,HI", value_parser = parse_range, allow_hyphen_values = true, requires = "output")]
    pub range: Option<(f64, f64)>,
    /// Draw blue below zero (or the middle of --range), red above
    #[arg(long, requires = "output")]
    pub diverging: bool,
    /// Draw each value as N x N pixels (default: 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096), requires = "output")]
    pub scale: Option<u64>,
}

fn parse_range(text: &str) -> std::result::Result<(f64, f64), String> {
    let bounds =
        text.split_once(',').and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?)));
    let bounds = bounds.filter(|(low, high): &(f64, f64)| low.is_finite() && high.is_finite() && low < high);
    bounds.ok_or_else(|| "expected two numbers, the smaller one first: -1,1".to_owned())
}

/// Prints or writes what was chosen.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let mut input = input::open(&args.input, &args.limits.limits(), args.report.quiet)?;
    let options = args.options();
    let chosen = choose(&input, &options)?;
    for note in &input.checkpoint.notes {
        args.report.note(&input.name, note);
    }
    let Some(output) = &args.output else {
        let text = Text { full: args.full, escaped: io::stdout().is_terminal() };
        let form = if args.report.wants_json() { Form::Json } else { Form::Text(text) };
        args.report.notes(&show(&input, &chosen, &options, form, &mut stdout())?);
        return Ok(ExitStatus::Success);
    };
    args.report.keep_apart(output)?;
    let file = (!input::is_stdin(&args.input)).then_some(args.input.as_path());
    let to = Destination { path: output, format: args.to, force: args.force, input: file };
    let report = write(&mut input, &chosen, &options, &to, &Bars::new(args.report.quiet))?;
    args.report.done(&report.notes, &report)?;
    Ok(ExitStatus::Success)
}

impl Args {
    fn options(&self) -> Options {
        let PictureArgs { range, diverging, scale } = self.picture;
        let (names, select) = (self.names.clone(), self.names_chosen.select());
        Options { names, select, slice: self.slice.clone(), dtype: self.dtype.clone(), range, diverging, scale }
    }
}
