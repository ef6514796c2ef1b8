//! `ckpt convert`: from every container that can be read to one that is asked for.

mod arrays;
mod shards;
mod torch;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::checkpoint::selection::{Weight, Weights};
use crate::checkpoint::{Checkpoint, Container, Root};
use crate::commands::Status;
use crate::commands::input::{self, LimitArgs};
use crate::commands::names::{Filter, NameArgs, Subtrees};
use crate::commands::output::OutputArgs;
use crate::dtype::{DType, Known};
use crate::limits::Limits;
use crate::pickle::Scan;
use crate::report::convert::{Conversion, LeftOut, Written};
use crate::write::atomic::{Output, Target};
use crate::write::watch::{self, Watch};

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// torch's zip container (torch 1.6 and newer)
    Torch,
    /// The stream that torch 1.5 and older read
    TorchLegacy,
    /// safetensors
    Safetensors,
    /// numpy's archive
    Npz,
}

impl To {
    fn name(self) -> &'static str {
        match self {
            To::Torch => "torch",
            To::TorchLegacy => "torch-legacy",
            To::Safetensors => "safetensors",
            To::Npz => "npz",
        }
    }
}

/// Types that floating tensors can be cast to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum CastTo {
    Float16,
    Bfloat16,
    Float32,
    Float64,
}

impl CastTo {
    fn dtype(self) -> DType {
        DType::Known(match self {
            CastTo::Float16 => Known::Float16,
            CastTo::Bfloat16 => Known::BFloat16,
            CastTo::Float32 => Known::Float32,
            CastTo::Float64 => Known::Float64,
        })
    }
}

/// What to do with tensors that share memory, in formats without sharing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Shared {
    /// Write each whole
    #[default]
    Duplicate,
    /// Write equal views once; __metadata__ says which names are left out
    Drop,
    /// Refuse
    Error,
}

/// Options of `ckpt convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:\n  ckpt convert model.pth model.safetensors\n  ckpt convert --state-dict --dtype bfloat16 full_model.pth weights.pt\n  \
ckpt convert --root model_state_dict --save-values values.json checkpoint.tar model.safetensors\n  \
ckpt convert --to torch-legacy model.pt old.pth\n  ckpt convert --max-shard-size 5GB model.pt shards/ --to safetensors")]
pub struct Args {
    /// What to convert: a file, or `-` for standard input
    pub input: PathBuf,
    /// Where to write: a file, `-` for standard output, with --max-shard-size a directory
    pub output: PathBuf,
    /// The format to write; the default follows OUTPUT's extension
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub to: Option<To>,
    /// Reduce a module, a TorchScript archive or a checkpoint to a plain state dict
    #[arg(long)]
    pub state_dict: bool,
    /// Leave out an element and everything below it; a name or a glob; repeatable
    #[arg(long, value_name = "NAME")]
    pub drop: Vec<String>,
    /// Cast floating tensors, rounding to nearest even
    #[arg(long, value_enum, value_name = "DTYPE")]
    pub dtype: Option<CastTo>,
    /// The device that storages are to be loaded on (torch formats)
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Write only the parts of storages that tensors use (torch formats)
    #[arg(long)]
    pub compact: bool,
    /// Tensors that share memory, in formats without sharing
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub shared: Shared,
    /// Write the values that a weights-only format leaves out to a JSON file
    #[arg(long, value_name = "FILE")]
    pub save_values: Option<PathBuf>,
    /// Write shards of at most SIZE bytes (5GB, 500MB, 2GiB) and an index into the directory OUTPUT
    #[arg(long, value_name = "SIZE", value_parser = shards::parse_size)]
    pub max_shard_size: Option<u64>,
    /// Replace existing files
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
    pub limits: LimitArgs,
}

const EXTENSIONS: &[(&str, To)] = &[
    ("safetensors", To::Safetensors),
    ("npz", To::Npz),
    ("pt", To::Torch),
    ("pth", To::Torch),
    ("pkl", To::Torch),
    ("tar", To::Torch),
    ("ckpt", To::Torch),
    ("bin", To::Torch),
];

impl To {
    /// The format that a file's extension stands for.
    pub(super) fn of_extension(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_string_lossy().to_lowercase();
        EXTENSIONS.iter().find(|(known, _)| extension == *known).map(|(_, to)| *to)
    }
}

impl Args {
    /// A conversion without any option.
    pub fn of(input: PathBuf, output: PathBuf) -> Self {
        Args {
            input,
            output,
            to: None,
            state_dict: false,
            drop: Vec::new(),
            dtype: None,
            device: None,
            compact: false,
            shared: Shared::default(),
            save_values: None,
            max_shard_size: None,
            force: false,
            names: NameArgs::default(),
            report: OutputArgs::default(),
            limits: LimitArgs::default(),
        }
    }

    fn target_format(&self) -> anyhow::Result<To> {
        if let Some(to) = self.to {
            return Ok(to);
        }
        To::of_extension(&self.output).with_context(|| {
            format!(
                "{}: the extension says no format; --to torch|torch-legacy|safetensors|npz does",
                self.output.display()
            )
        })
    }
}

/// What a conversion goes by.
struct Job<'a> {
    args: &'a Args,
    to: To,
    filter: Filter,
    drops: Subtrees,
    limits: Limits,
    report: Conversion,
    /// The complete outputs that wait for their names, in order.
    outputs: Vec<(PathBuf, Output)>,
    /// Looks at the checksums of what is written.
    watch: Option<Watch>,
}

/// Converts the input.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let to = args.target_format()?;
    if args.output.as_os_str() == "-" && args.report.wants_json() {
        bail!("standard output cannot take the file and the report: name an OUTPUT");
    }
    let from_file = (args.input.as_os_str() != "-").then_some(args.input.as_path());
    let at_output = || args.output.display().to_string();
    // what is wrong with the target is said before a large input is read
    let target = match args.max_shard_size {
        Some(_) => None,
        None => Some(Target::new(&args.output, args.force, from_file).with_context(at_output)?),
    };
    let values = match &args.save_values {
        Some(path) => Some(Target::new(path, args.force, from_file).with_context(|| path.display().to_string())?),
        None => None,
    };
    let mut opened = input::open(&args.input, &args.limits.limits(), args.report.quiet)?;
    convert(args, to, &opened.name, &mut opened.checkpoint, target.as_ref(), values.as_ref())
}

/// Writes an open input in the format `to`: into `target`, or into the shards that `args` asks for.
pub fn convert(
    args: &Args,
    to: To,
    name: &str,
    checkpoint: &mut Checkpoint,
    target: Option<&Target>,
    values: Option<&Target>,
) -> anyhow::Result<Status> {
    let limits = args.limits.limits();
    let report = Conversion {
        schema: "ckpt.convert/1",
        input: name.to_owned(),
        output: args.output.display().to_string(),
        to: to.name(),
        ..Conversion::default()
    };
    let (filter, drops) = (args.names.filter()?, Subtrees::of(&args.drop)?);
    let mut job = Job { args, to, filter, drops, limits, report, outputs: Vec::new(), watch: None };
    let done = match to {
        To::Torch | To::TorchLegacy => job.torch(checkpoint, target, values),
        To::Safetensors | To::Npz => job.arrays(checkpoint, target, values),
    };
    let at_input = |e: anyhow::Error| if e.is::<AtOutput>() { e } else { e.context(name.to_owned()) };
    done.map_err(at_input)?;
    job.report.doubtful = match job.watch.take() {
        Some(watch) => {
            watch.finish().and_then(|wrong| watch::named(checkpoint, &wrong)).map_err(|e| at_input(e.into()))?
        }
        None => Vec::new(),
    };
    job.finish()
}

/// Marks errors that are the output's, whose name is in them already.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.display())]
struct AtOutput(PathBuf);

fn at_output<T>(path: &Path, result: crate::error::Result<T>) -> anyhow::Result<T> {
    result.map_err(|e| match e.kind() {
        crate::error::ErrorKind::Io => anyhow::Error::from(e).context(AtOutput(path.to_owned())),
        _ => e.into(),
    })
}

impl Job<'_> {
    fn takes(&self, name: &str) -> bool {
        self.filter.takes(name) && !self.drops.hold(name)
    }

    /// The weights, for formats that hold nothing else.
    fn weights(&mut self, checkpoint: &Checkpoint) -> anyhow::Result<Weights> {
        let root = match self.args.names.root {
            Some(_) => self.args.names.find_root(checkpoint)?,
            None => checkpoint.weights_root()?,
        };
        let mut weights = checkpoint.select_weights(root, &|name| self.takes(name))?;
        if checkpoint.container == Container::Safetensors && self.to == To::Safetensors {
            weights.left_out.retain(|(name, _)| !name.starts_with("__metadata__"));
            weights.values.retain(|(name, _)| !name.starts_with("__metadata__"));
        }
        if weights.tensors.is_empty() {
            bail!("no tensors are chosen, nothing is written");
        }
        let mut seen = std::collections::HashSet::new();
        for weight in &weights.tensors {
            if !seen.insert(weight.name.as_str()) {
                bail!("two tensors would have the name {}; choose with --root or --exclude", weight.name);
            }
        }
        self.report
            .left_out
            .extend(weights.left_out.iter().map(|(name, tensors)| LeftOut { name: name.clone(), tensors: *tensors }));
        Ok(weights)
    }

    /// Writes what a weights-only target leaves out as one JSON object.
    fn save_values(
        &mut self,
        checkpoint: &Checkpoint,
        weights: &Weights,
        target: Option<&Target>,
    ) -> anyhow::Result<()> {
        let (Some(target), Some(path)) = (target, &self.args.save_values) else { return Ok(()) };
        let mut object = serde_json::Map::new();
        for (name, node) in &weights.values {
            let value = checkpoint.objects().value(*node, usize::MAX);
            let type_name = checkpoint.objects().type_name(*node);
            object.insert(
                name.clone(),
                match value {
                    Some(value) if !value.json.is_null() || type_name == "NoneType" => value.json,
                    Some(value) => serde_json::json!({"type": value.type_name, "repr": value.repr}),
                    None => serde_json::json!({"type": type_name}),
                },
            );
        }
        let mut text = serde_json::to_vec_pretty(&object)?;
        text.push(b'\n');
        let mut output = at_output(path, target.create())?;
        std::io::Write::write_all(&mut output, &text)
            .map_err(|e| anyhow::Error::from(e).context(AtOutput(path.clone())))?;
        self.keep(path.clone(), output)
    }

    /// Refuses what will not fit on the disk.
    fn check_room(&self, target: &Target, bytes: u64) -> anyhow::Result<()> {
        match target.free_bytes() {
            Some(free) if free < bytes => {
                let message = format!("needs {bytes} bytes, {free} are free on this disk");
                Err(anyhow::anyhow!(message).context(AtOutput(self.args.output.clone())))
            }
            _ => Ok(()),
        }
    }

    /// Keeps a complete output until all are. Several, shards mostly, are not left to one long sync at the end.
    fn keep(&mut self, path: PathBuf, mut output: Output) -> anyhow::Result<()> {
        if self.args.max_shard_size.is_some() {
            at_output(&path, output.settle())?;
        }
        self.outputs.push((path, output));
        Ok(())
    }

    /// Gives the outputs their names and says what was done.
    fn finish(mut self) -> anyhow::Result<Status> {
        for (path, output) in self.outputs {
            let bytes = output.position();
            at_output(&path, output.commit())?;
            self.report.files.push(Written { file: path.display().to_string(), bytes });
        }
        let output = &self.args.report;
        let report = &self.report;
        if !report.left_out.is_empty() {
            let names: Vec<String> = report
                .left_out
                .iter()
                .map(|left| match left.tensors {
                    Some(1) => format!("{} (1 tensor)", left.name),
                    Some(tensors) => format!("{} ({tensors} tensors)", left.name),
                    None => left.name.clone(),
                })
                .collect();
            output.note(&report.input, format!("left out: {}", names.join(", ")));
        }
        if !report.shared.is_empty() {
            let dropped = report.shared.iter().filter(|alias| alias.dropped).count();
            let pairs: Vec<String> =
                report.shared.iter().take(8).map(|alias| format!("{} = {}", alias.name, alias.shares_with)).collect();
            let more = report.shared.len().saturating_sub(8);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let what = if dropped > 0 { "left out as aliases" } else { "written each, though they share memory" };
            output.note(&report.input, format!("{what}: {}{more}", pairs.join(", ")));
        }
        for line in watch::told(&report.doubtful) {
            output.note(&report.input, line);
        }
        if report.overflows > 0 {
            let what = if report.overflows == 1 { "value became" } else { "values became" };
            output.note(&report.input, format!("{} {what} infinite by the cast", report.overflows));
        }
        if output.wants_json() {
            output.print(report)?;
        }
        Ok(Status::Success)
    }

    /// Has the checksums of these tensors' storages looked at while they are copied.
    fn watch_weights(&mut self, checkpoint: &Checkpoint, tensors: &[Weight]) {
        let storages = tensors.iter().filter_map(|weight| checkpoint.tensor(weight.id)?.storage());
        self.watch = Some(Watch::start(checkpoint, storages));
    }

    /// The same for every tensor that is left below a node.
    fn watch_all(&mut self, checkpoint: &Checkpoint, scan: &Scan) {
        let tensors = scan.order().iter().filter_map(|node| checkpoint.tensors.of(*node));
        let storages = tensors.filter_map(|id| checkpoint.tensor(id)?.storage());
        self.watch = Some(Watch::start(checkpoint, storages));
    }

    fn root(&self, checkpoint: &Checkpoint) -> anyhow::Result<Root> {
        self.args.names.find_root(checkpoint)
    }
}
