//! `ckpt convert`: from every container that can be read to one that is asked for.

use std::path::{Path, PathBuf};

use crate::checkpoint::device;
use crate::commands::ExitStatus;
use crate::commands::input::{self, OpenArgs};
use crate::commands::names::NameArgs;
use crate::commands::output::OutputArgs;
use crate::commands::progress_bar::Bars;
use crate::commands::values::{format_to_write, formats, size};
use crate::data::cast;
use crate::dtype::DType;
use crate::operations::convert::{Options, Outlet, Portion, Shards, Shared, convert};
use crate::operations::destination::Sink;
use crate::operations::files::Shard;
use crate::write::format::Format;

const EXAMPLES: &str = "\
Examples:\n  ckpt convert model.pth model.safetensors\n  ckpt convert --state-dict --dtype bfloat16 full_model.pth weights.pt\n  \
ckpt convert --root model_state_dict --save-values values.json checkpoint.tar model.safetensors\n  \
ckpt convert --to torch-legacy model.pt old.pth\n  ckpt convert --max-shard-size 5GB model.pt shards/ --to safetensors\n  \
seq 8 | xargs -P 4 -I{} ckpt convert --shard {}/8 --max-shard-size 5GB model.pt shards/ --to safetensors &&\n    \
ckpt convert --index-only --max-shard-size 5GB model.pt shards/ --to safetensors";

/// What `--help` says besides.
const DETAILS: &str = "\
--dtype casts the weights, and of an optimizer's state the tensors of their parameter's shape. Everything else keeps its type: \
`step`, other numbers (`decay`, `num_updates`), losses, metrics and all else beside the weights, quantizers' scales and \
zero points, observers. What is not cast, and every tensor that overflows, is named.\n\n\
__metadata__ of a safetensors file goes along to safetensors; other formats have no place for it, which is noted. Its aliases \
({alias: kept name}, as safetensors.torch.save_model and --shared drop write them) become tensors of their own names again: \
shared ones in torch's formats, written twice in npz. save_model also records parts of a tensor as aliases of it, which \
cannot be told apart: restored, they have the shape of the whole. Each alias that is restored is named.\n\n\
--state-dict leaves a plain state dict as it is, with its order, its _metadata and whatever \
torch.load(weights_only=True) opens; numpy scalars in it become Python numbers.";

/// Options of `ckpt convert`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("{DETAILS}\n\n{EXAMPLES}"), after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to convert: a file, a directory, `ARCHIVE::member`, or `-` for standard input
    #[arg(value_parser = input::parser())]
    pub input: PathBuf,
    /// Where to write: a file, `-` for standard output, with --max-shard-size a directory
    #[arg(value_name = "OUTPUT", required_unless_present = "to_output", value_parser = input::parser())]
    pub output: Option<PathBuf>,
    /// Where to write, as an option instead of the second argument
    #[arg(id = "to_output", short = 'o', long = "output", value_name = "OUTPUT", conflicts_with = "output")]
    pub output_option: Option<PathBuf>,
    /// The format to write; the default follows OUTPUT's extension
    #[arg(long, value_parser = formats(&Format::OF_CHECKPOINTS), value_name = "FORMAT")]
    pub to: Option<Format>,
    /// Reduce a module, a TorchScript archive or a checkpoint to a plain state dict; of wrapper tensors (torchao, quanto, DTensor shards) the parts are written under their own names (0.weight._data)
    #[arg(long)]
    pub state_dict: bool,
    /// Keep the whole object and make it open with torch.load(weights_only=True): objects of other classes become the dicts,
    /// lists, numbers or strings that they hold (torch formats)
    #[arg(long, conflicts_with_all = ["state_dict", "max_shard_size"])]
    pub safe: bool,
    /// Leave out an element and everything below it; a name or a glob; repeatable. An element of a list or tuple leaves
    /// None where others follow it
    #[arg(long, value_name = "NAME|GLOB")]
    pub drop: Vec<String>,
    /// Cast floating weights to float16, bfloat16, float32 or float64 (or half, fp16, bf16, float, double, ...), rounding to
    /// nearest even
    #[arg(long, value_name = "DTYPE", value_parser = cast::target)]
    pub dtype: Option<DType>,
    /// Device to record for storages: cpu, cuda, cuda:1, mps, ... (torch formats)
    #[arg(long, value_name = "DEVICE", value_parser = device::location)]
    pub device: Option<String>,
    /// Write only the parts of storages that tensors use (torch formats)
    #[arg(long)]
    pub compact: bool,
    /// Tensors that share memory, in formats without sharing [default: duplicate; aliases in the __metadata__ of a
    /// safetensors input stay aliases]
    #[arg(long, value_enum, value_name = "HOW")]
    pub shared: Option<Shared>,
    /// Add an entry to __metadata__ or replace one (safetensors); repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set_metadata: Vec<(String, String)>,
    /// Write the values that a weights-only format leaves out to a JSON file
    #[arg(long, value_name = "FILE")]
    pub save_values: Option<PathBuf>,
    /// Write shards of at most SIZE bytes (5GB, 500MB, 2GiB) and an index into the directory OUTPUT
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_shard_size: Option<u64>,
    /// Write only the I-th of every N shards (1/N to N/N), as one of N jobs that may run at the same time, in any order and on
    /// any machine; --index-only completes OUTPUT. With --force an index that is there goes
    #[arg(long, value_name = "I/N", value_parser = str::parse::<Shard>, requires = "max_shard_size", conflicts_with_all = ["index_only", "save_values"])]
    pub shard: Option<Shard>,
    /// Write only the index, last: every shard must be there with the size, the header and the elements that INPUT and
    /// these options give (of tensors of more than 64 KiB a sample is compared)
    #[arg(long, requires = "max_shard_size")]
    pub index_only: bool,
    /// Write nothing unless this is the digest of INPUT's weights, as `ckpt digest` prints it with the same --root, --include
    /// and --exclude
    #[arg(long, value_name = "HEX", value_parser = digest)]
    pub expect_digest: Option<String>,
    /// Replace existing files, and remove shards of another number
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub names: NameArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
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
            to: format_to_write(self.to, self.output())?,
            state_dict: self.state_dict,
            safe: self.safe,
            select: self.names.select(),
            drop: self.drop.clone(),
            dtype: self.dtype.clone(),
            device: self.device.clone(),
            compact: self.compact,
            shared: self.shared,
            set_metadata: self.set_metadata.clone(),
            expect_digest: self.expect_digest.clone(),
        })
    }
}

/// Converts the input.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let options = args.options()?;
    args.report.keep_apart(args.output())?;
    let file = (args.input.as_os_str() != "-").then_some(args.input.as_path());
    // what is wrong with the target is said before a large input is read
    let sink = |path: &Path| Sink::new(path, args.force, file);
    let shards = args.max_shard_size.map(|max_bytes| Shards {
        directory: args.output().to_owned(),
        max_bytes,
        force: args.force,
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
