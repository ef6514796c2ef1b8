//! `ckpt average`: the mean of the weights of several checkpoints.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::commands::ExitStatus;
use crate::operations::average::{Method, Options, average};
use crate::operations::destination::Sink;
use crate::options::input::{self, OpenArgs};
use crate::options::output::OutputArgs;
use crate::options::values::{WriteArgs, format_to_write};
use crate::terminal::progress_bar::Bars;
use crate::write::atomic::is_same_file;

/// Options of `ckpt average`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Checkpoints to average, at least two
    ///
    /// Files, directories of shards, members of archives (`ARCHIVE::member`), `-` for standard input.
    #[arg(value_name = "INPUT", required = true, value_parser = input::parser())]
    pub inputs: Vec<PathBuf>,
    /// Where to write; `-` is standard output
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: PathBuf,
    /// Weight of each input, in their order
    ///
    /// The numbers are divided by their sum, so 7,3 is 0.7,0.3. By default all inputs weigh the same.
    #[arg(long, value_name = "W,W,...", value_delimiter = ',', allow_negative_numbers = true, conflicts_with = "ema")]
    pub weights: Vec<f64>,
    /// Exponential moving average in the order of the inputs
    ///
    /// It starts with the first input; each further one makes it DECAY * average + (1 - DECAY) * input.
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    pub ema: Option<f64>,
    /// Element that holds the weights, in every input
    ///
    /// `.` is the top object. By default the one model of each input.
    #[arg(long, value_name = "NAME")]
    pub root: Option<String>,
    #[command(flatten)]
    pub write: WriteArgs,
    #[command(flatten)]
    pub report: OutputArgs,
    #[command(flatten)]
    pub limits: OpenArgs,
}

impl Args {
    fn options(&self) -> anyhow::Result<Options> {
        let to = format_to_write(self.write.to, &self.output)?;
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
    let sink = Sink::new(&args.output, args.write.force, args.inputs.iter().map(PathBuf::as_path).find(is_output))?;
    let limits = args.limits.limits();
    let open = |name: &PathBuf| input::open(name, &limits, args.report.quiet);
    let mut inputs = args.inputs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let report = average(&mut inputs, &options, &sink, &Bars::new(args.report.quiet))?;
    args.report.done(&report.notes, &report)?;
    Ok(ExitStatus::Success)
}
