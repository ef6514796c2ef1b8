//! `ckpt convert`: from every container that can be read to one that is asked for.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::checkpoint::device;
use crate::commands::ExitStatus;
use crate::data::cast;
use crate::dtype::DType;
use crate::operations::convert::{Options, Outlet, Portion, Shards, convert};
use crate::operations::destination::Sink;
use crate::operations::files::Shard;
use crate::options::input::{self, OpenArgs};
use crate::options::names::NameArgs;
use crate::options::output::OutputArgs;
use crate::options::values::{WeightsArgs, WriteArgs, format_to_write};
use crate::report::shell::quoted;
use crate::terminal::progress_bar::Bars;

/// Options of `ckpt convert`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File, directory, `ARCHIVE::member`, or `-` for standard input
    #[arg(value_parser = input::parser())]
    pub input: PathBuf,
    /// Where to write; `-` is standard output
    ///
    /// With --max-shard-size a directory.
    #[arg(value_name = "OUTPUT", required_unless_present = "to_output", value_parser = input::parser())]
    pub output: Option<PathBuf>,
    /// Where to write, as an option
    #[arg(id = "to_output", short = 'o', long = "output", value_name = "OUTPUT", conflicts_with = "output")]
    pub output_option: Option<PathBuf>,
    #[command(flatten)]
    pub write: WriteArgs,
    /// Reduce a module or checkpoint to its state dict
    ///
    /// A TorchScript archive too. The parts of wrapper tensors (torchao, quanto, DTensor shards) are written under their own names (`0.weight._data`).
    #[arg(long)]
    pub state_dict: bool,
    /// Make the whole object open with torch.load(weights_only=True)
    ///
    /// Objects of classes that torch does not allow become the dicts, lists, numbers or strings they hold (torch formats).
    #[arg(long, conflicts_with_all = ["state_dict", "max_shard_size"])]
    pub safe: bool,
    /// Cast floating-point weights: float16, bfloat16, float32, float64
    ///
    /// Short names work too (half, fp16, bf16, float, fp32, double, fp64). Rounds to nearest even. By default every dtype is kept.
    #[arg(long, value_name = "DTYPE", value_parser = cast::target)]
    pub dtype: Option<DType>,
    /// Device to record for storages: cpu, cuda, cuda:1, mps, meta
    ///
    /// Any that torch knows; by default that of the input. Torch formats only.
    #[arg(long, value_name = "DEVICE", value_parser = device::location)]
    pub device: Option<String>,
    /// Write only the parts of storages that tensors use
    ///
    /// Torch formats only.
    #[arg(long)]
    pub compact: bool,
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// Write only the I-th of every N shards
    ///
    /// By default all are written. 1/N to N/N, as one of N jobs that may run at the same time, in any order and on any
    /// machine; --index-only completes
    /// OUTPUT. With --force an existing index is removed.
    #[arg(long, value_name = "I/N", value_parser = str::parse::<Shard>, requires = "max_shard_size", conflicts_with_all = ["index_only", "save_values"], hide_short_help = true)]
    pub shard: Option<Shard>,
    /// Write only the index, after all shards
    ///
    /// Every shard must have the size, the header and the elements that INPUT and these options give; of tensors of more than 64 KiB a sample is compared.
    #[arg(long, requires = "max_shard_size", hide_short_help = true)]
    pub index_only: bool,
    /// Set an entry of `__metadata__` (safetensors); repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set_metadata: Vec<(String, String)>,
    /// Save the values that a weights-only format leaves out, as JSON
    #[arg(long, value_name = "FILE")]
    pub save_values: Option<PathBuf>,
    /// Write nothing unless INPUT's weights have this digest
    ///
    /// As `ckpt digest` prints it with the same --root, --include and --exclude.
    #[arg(long, value_name = "HEX", value_parser = digest)]
    pub expect_digest: Option<String>,
    #[command(flatten)]
    pub names: NameArgs,
    #[command(flatten)]
    pub report: OutputArgs,
    #[command(flatten)]
    pub limits: OpenArgs,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("use KEY=VALUE".to_owned()),
    }
}

fn digest(text: &str) -> Result<String, String> {
    let is_one = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| text.to_ascii_lowercase()).ok_or_else(|| "a digest has 64 hexadecimal digits".to_owned())
}

impl Args {
    fn part(&self) -> Portion {
        match self.shard {
            Some(shard) => Portion::Shard(shard),
            None if self.index_only => Portion::Index,
            None => Portion::All,
        }
    }

    /// Where to write, however it was given.
    fn output(&self) -> &Path {
        self.output.as_deref().or(self.output_option.as_deref()).unwrap_or(Path::new(""))
    }

    fn options(&self) -> anyhow::Result<Options> {
        Ok(Options {
            to: format_to_write(self.write.to, self.output())?,
            state_dict: self.state_dict,
            safe: self.safe,
            select: self.names.select(),
            drop: self.weights.drop.clone(),
            dtype: self.dtype.clone(),
            device: self.device.clone(),
            compact: self.compact,
            shared: self.weights.shared,
            set_metadata: self.set_metadata.clone(),
            expect_digest: self.expect_digest.clone(),
        })
    }
}

/// Converts the input.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let is_here = !input::is_stdin(&args.input) && !args.input.to_string_lossy().contains("::");
    let is_missing = is_here && !args.input.to_string_lossy().contains("://") && !args.input.exists();
    if is_missing && args.output().is_file() && !args.write.force {
        let [input, output] = [args.input.as_path(), args.output()].map(|path| quoted(&path.to_string_lossy()));
        bail!("{}: no such file; the input comes first: `ckpt convert {output} {input}`", args.input.display());
    }
    let options = args.options()?;
    args.report.keep_apart(args.output())?;
    let file = (args.input.as_os_str() != "-").then_some(args.input.as_path());
    // what is wrong with the target is said before a large input is read
    let sink = |path: &Path| Sink::new(path, args.write.force, file);
    let shards = args.weights.max_shard_size.map(|max_bytes| Shards {
        directory: args.output().to_owned(),
        max_bytes,
        force: args.write.force,
        input: file.map(Path::to_owned),
        part: args.part(),
    });
    let outlet = match shards {
        Some(shards) => Outlet::Shards(shards),
        None => Outlet::File(sink(args.output())?),
    };
    let values = args.save_values.as_deref().map(sink).transpose()?;
    let mut input = input::open(&args.input, &args.limits.limits(), args.report.quiet)?;
    let converted = convert(&mut input, &options, &outlet, values.as_ref(), &Bars::new(args.report.quiet));
    if converted.is_err() {
        // it may say why
        input.checkpoint.notes.iter().for_each(|note| args.report.note(&input.name, note));
    }
    let report = converted?;
    args.report.done(&report.notes, &report)?;
    Ok(ExitStatus::Success)
}
