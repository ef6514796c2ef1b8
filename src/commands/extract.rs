//! `ckpt extract`: one thing taken out of a checkpoint, or several, printed or written.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use crate::commands::ExitStatus;
use crate::commands::input::{self, OpenArgs};
use crate::commands::names::NameArgs;
use crate::commands::output::{OutputArgs, stdout};
use crate::commands::progress_bar::Bars;
use crate::commands::values::formats;
use crate::data::subscript::Subscript;
use crate::dtype::DType;
use crate::operations::extract::{Destination, Form, Options, Text, choose, show, write};
use crate::write::format::Format;

/// Options of `ckpt extract`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("\
Without -o the result is printed: tensors as torch prints them, strings raw, other values as Python does, everything as \
JSON with --json, nested as the object is (NaN and infinities as strings, complex numbers as pairs).\n\n\
{PARTS_HELP}\n\n\
In a picture NaN is magenta, or dark where there are three channels; filters (N x C x H x W) are tiled, those with \
neither one nor three channels in one row each.\n\n{EXAMPLES}"))]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The checkpoint: a file, a directory, `ARCHIVE::member`, or `-` for standard input
    #[arg(value_name = "INPUT", value_parser = input::parser())]
    pub input: PathBuf,
    /// What to extract: a name, an element with everything below it, or a glob over whole names (`*` also matches dots);
    /// default: everything
    #[arg(value_name = "NAME|GLOB")]
    pub names: Vec<String>,
    /// Where to write: FILE.npy .npz .json .csv .bin .png .safetensors .pt, a directory, or `-`
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: Option<PathBuf>,
    /// Output format (default: from OUTPUT's extension); for a directory, the format of each file
    #[arg(long, value_parser = formats(&Format::OF_PARTS), value_name = "FORMAT", requires = "output")]
    pub to: Option<Format>,
    /// Overwrite existing files
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Print every element
    #[arg(long, conflicts_with = "output")]
    pub full: bool,
    /// Take a part of each tensor, in Python's syntax: `0:2,:`, `-1`, `...,::-1`
    #[arg(long, value_name = "SLICE", allow_hyphen_values = true)]
    pub slice: Option<Subscript>,
    /// Cast floating-point tensors to float16, bfloat16, float32 or float64
    #[arg(long, value_name = "DTYPE", value_parser = crate::data::cast::target)]
    pub dtype: Option<DType>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub picture: PictureArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub names_chosen: NameArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: OpenArgs,
}

const EXAMPLES: &str = "\
Examples:\n  ckpt extract model.pth fc.bias\n  ckpt extract checkpoint.tar epoch\n  \
ckpt extract model.pth embed.weight --slice 100:200 -o rows.npy\n  ckpt extract model.pth 'layer1.*' -o layer1.npz\n  \
ckpt extract model.pth conv1.weight --scale 8 -o filters.png\n  \
ckpt extract checkpoint.tar --root optimizer_state_dict -o opt.pt";

/// Options for `.png`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Pictures")]
pub(crate) struct PictureArgs {
    /// Values mapped to black and white (default: minimum and maximum)
    #[arg(long, value_name = "LO,HI", value_parser = parse_range, allow_hyphen_values = true, requires = "output")]
    pub range: Option<(f64, f64)>,
    /// Blue below zero (or below the middle of --range), red above
    #[arg(long, requires = "output")]
    pub diverging: bool,
    /// Draw each value as N x N pixels
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096), requires = "output")]
    pub scale: Option<u64>,
}

fn parse_range(text: &str) -> std::result::Result<(f64, f64), String> {
    let bounds =
        text.split_once(',').and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?)));
    let bounds = bounds.filter(|(low, high): &(f64, f64)| low.is_finite() && high.is_finite() && low < high);
    bounds.ok_or_else(|| "expected two numbers, the smaller one first: -1,1".to_owned())
}

/// The names under which the parts of sparse and quantized tensors are written, for `--help`.
const PARTS_HELP: &str = "\
Sparse tensors are written as NAME.indices, NAME.values (or crow_indices, col_indices, …) and NAME.size, quantized ones \
as NAME.int_repr, NAME.scale, NAME.zero_point (and NAME.axis), nested ones as NAME.values, NAME.sizes, NAME.strides and \
NAME.offsets. What a wrapper subclass (torchao, quanto, DTensor) holds has names of its own, which `ckpt ls` shows.";

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
