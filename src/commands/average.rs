//! `ckpt average`: the mean of the weights of several checkpoints.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::commands::ExitStatus;
use crate::commands::input::{self, OpenArgs};
use crate::commands::output::OutputArgs;
use crate::commands::progress_bar::Bars;
use crate::commands::values::{format_to_write, formats};
use crate::operations::average::{Method, Options, average};
use crate::operations::destination::Sink;
use crate::write::atomic::is_same_file;
use crate::write::format::Format;

const EXAMPLES: &str = "\
Examples:\n  ckpt average epoch_8.pt epoch_9.pt epoch_10.pt -o mean.pt\n  \
ckpt average --weights 0.7,0.3 base.safetensors tuned.safetensors -o merged.safetensors\n  \
ckpt average --ema 0.999 step_1000.pt step_2000.pt step_3000.pt -o ema.pt";

/// What `--help` says besides.
const DETAILS: &str = "\
Names, shapes and dtypes of the weights must agree; containers need not. Everything beside the weights (optimizer, epoch, \
unknown classes) comes from the last input, and so do integer and boolean tensors (num_batches_tracked) and numbers that are \
no weights (scales of quantized weights, counters), which are named. A tied tensor is averaged once and stays tied.\n\n\
Sums are made in float64, element by element in the order of the inputs, and rounded as torch's .to(dtype) rounds float64 \
(to float16 and bfloat16 by way of float32). Memory does not grow with the size of the inputs.";

/// Options of `ckpt average`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("{DETAILS}\n\n{EXAMPLES}"), after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to average, at least two: files, directories of shards, `ARCHIVE::member`, `-` for standard input
    #[arg(value_name = "INPUT", required = true, value_parser = input::parser())]
    pub inputs: Vec<PathBuf>,
    /// Where to write; `-` for standard output
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: PathBuf,
    /// How much each input counts, in their order; the numbers are divided by their sum, so 7,3 is 0.7,0.3
    #[arg(long, value_name = "W,W,...", value_delimiter = ',', allow_negative_numbers = true, conflicts_with = "ema")]
    pub weights: Vec<f64>,
    /// Exponential moving average in the order of the inputs: it begins with the first, and each one after it makes it
    /// DECAY * average + (1 - DECAY) * input
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    pub ema: Option<f64>,
    /// The element that holds the weights, in every input (`.` is the top); without it, the one model of each input
    #[arg(long, value_name = "NAME")]
    pub root: Option<String>,
    /// The format to write; the default follows OUTPUT's extension
    #[arg(long, value_parser = formats(&Format::OF_CHECKPOINTS), value_name = "FORMAT")]
    pub to: Option<Format>,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: OpenArgs,
}

impl Args {
    fn options(&self) -> anyhow::Result<Options> {
        let to = format_to_write(self.to, &self.output)?;
        let method = match (self.ema, self.weights.as_slice()) {
            (Some(decay), _) => Method::Moving(decay),
            (None, []) => Method::Mean,
            (None, weights) => Method::Weighted(weights.to_vec()),
        };
        let mut options = Options::default();
        (options.method, options.to, options.root) = (method, to, self.root.clone());
        Ok(options)
    }
}

/// Averages the inputs.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    if args.inputs.len() < 2 {
        bail!("give at least two inputs to average");
    }
    input::stdin_once(&args.inputs)?;
    let options = args.options()?;
    args.report.keep_apart(&args.output)?;
    // what is wrong with the target is said before large inputs are read
    let is_output = |input: &&Path| !input::is_stdin(input) && is_same_file(input, &args.output);
    let sink = Sink::new(&args.output, args.force, args.inputs.iter().map(PathBuf::as_path).find(is_output))?;
    let limits = args.limits.limits();
    let open = |name: &PathBuf| input::open(name, &limits, args.report.quiet);
    let mut inputs = args.inputs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let report = average(&mut inputs, &options, &sink, &Bars::new(args.report.quiet))?;
    args.report.done(&report.notes, &report)?;
    Ok(ExitStatus::Success)
}
