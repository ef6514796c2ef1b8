//! `ckpt convert`: from every container that can be read to one that is asked for.

mod arrays;
mod plain;
mod shards;
mod torch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::checkpoint::casting::{Casting, Kept};
use crate::checkpoint::resolve::Listed;
use crate::checkpoint::selection::{Weight, Weights};
use crate::checkpoint::{Checkpoint, Entry, Root, TensorId, device};
use crate::commands::Status;
use crate::commands::input::{self, LimitArgs};
use crate::commands::names::NameArgs;
use crate::commands::output::OutputArgs;
use crate::commands::values::formats;
use crate::container::safetensors::METADATA;
use crate::data::cast;
use crate::dtype::{Class, DType};
use crate::error::Error;
use crate::limits::Limits;
use crate::message::Setting;
use crate::operations::select::{self, Asked, Filter, Select, find_weights};
use crate::pickle::{NodeId, Scan};
use crate::report::convert::{Conversion, LeftOut, Overflowed, Written};
use crate::report::figures::counted;
use crate::write::atomic::{Output, Target};
use crate::write::content::Overflow;
use crate::write::directory::NewDirectory;
use crate::write::format::Format;
use crate::write::watch::{self, Watch};

/// What to do with tensors that share memory, in formats without sharing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shared {
    /// Write every tensor in full
    #[default]
    Duplicate,
    /// Write equal views once and record the other names as aliases in __metadata__
    Drop,
    /// Refuse
    Error,
}

const EXAMPLES: &str = "\
Examples:\n  ckpt convert model.pth model.safetensors\n  ckpt convert --state-dict --dtype bfloat16 full_model.pth weights.pt\n  \
ckpt convert --root model_state_dict --save-values values.json checkpoint.tar model.safetensors\n  \
ckpt convert --to torch-legacy model.pt old.pth\n  ckpt convert --max-shard-size 5GB model.pt shards/ --to safetensors";

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
pub struct Args {
    /// What to convert: a file, a directory, `ARCHIVE::member`, or `-` for standard input
    pub input: PathBuf,
    /// Where to write: a file, `-` for standard output, with --max-shard-size a directory
    #[arg(value_name = "OUTPUT", required_unless_present = "to_output")]
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

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("use KEY=VALUE".to_owned()),
    }
}

impl Args {
    /// A conversion without any option.
    pub fn of(input: PathBuf, output: PathBuf) -> Self {
        Args {
            input,
            output: Some(output),
            output_option: None,
            to: None,
            state_dict: false,
            drop: Vec::new(),
            dtype: None,
            device: None,
            compact: false,
            shared: None,
            set_metadata: Vec::new(),
            save_values: None,
            max_shard_size: None,
            force: false,
            names: NameArgs::default(),
            report: OutputArgs::default(),
            limits: LimitArgs::default(),
        }
    }

    /// Where to write, however it was given.
    fn output(&self) -> &Path {
        self.output.as_deref().or(self.output_option.as_deref()).unwrap_or(Path::new(""))
    }

    fn target_format(&self) -> anyhow::Result<Format> {
        if let Some(to) = self.to {
            return Ok(to);
        }
        Format::of_checkpoint(self.output()).with_context(|| {
            format!(
                "{}: cannot tell the output format from the extension; add --to torch|torch-legacy|safetensors|npz",
                self.output().display()
            )
        })
    }
}

/// Wrapper tensors that a note names.
const MAX_WRAPPERS: usize = 8;

/// Names of shared tensors that a note shows.
const MAX_SHARED: usize = 8;

/// What a conversion goes by.
struct Job<'a> {
    args: &'a Args,
    to: Format,
    select: Select,
    /// Of names below the root, as soon as that is known.
    filter: Filter,
    limits: Limits,
    report: Conversion,
    /// `__metadata__` of a safetensors input, without aliases.
    metadata: Vec<(String, String)>,
    /// How many names that are left out have been noted.
    told: usize,
    /// The complete outputs that wait for their names, in order.
    outputs: Vec<(PathBuf, Output)>,
    /// What was made for them, to go again when they come to nothing.
    directory: Option<NewDirectory>,
    /// Looks at the checksums of what is written.
    watch: Option<Watch>,
}

/// Converts the input.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let to = args.target_format()?;
    if args.output().as_os_str() == "-" && args.report.wants_json() {
        bail!("--json and OUTPUT `-` both write to standard output; name a file");
    }
    let from_file = (args.input.as_os_str() != "-").then_some(args.input.as_path());
    let at_output = || args.output().display().to_string();
    // what is wrong with the target is said before a large input is read
    let target = match args.max_shard_size {
        Some(_) => None,
        None => Some(Target::new(args.output(), args.force, from_file).with_context(at_output)?),
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
    to: Format,
    name: &str,
    checkpoint: &mut Checkpoint,
    target: Option<&Target>,
    values: Option<&Target>,
) -> anyhow::Result<Status> {
    if to != Format::Safetensors && !args.set_metadata.is_empty() {
        bail!("--set-metadata is for safetensors; {} has no metadata", to.name());
    }
    let limits = args.limits.limits();
    for note in &checkpoint.notes {
        args.report.note(name, note);
    }
    // the notes have just named them
    let left_out = checkpoint.left_aside.iter().map(|name| LeftOut { name: name.clone(), tensors: None }).collect();
    let report = Conversion {
        schema: "ckpt.convert/1",
        input: name.to_owned(),
        output: args.output().display().to_string(),
        to: to.name(),
        left_out,
        ..Conversion::default()
    };
    let aliases = checkpoint.restore_aliases().with_context(|| name.to_owned())?;
    let metadata = checkpoint.take_metadata();
    let (filter, outputs, told) = (Filter::default(), Vec::new(), report.left_out.len());
    let mut job = Job {
        args,
        to,
        select: args.names.select(),
        filter,
        limits,
        report,
        metadata,
        told,
        outputs,
        directory: None,
        watch: None,
    };
    job.leave_out_metadata();
    let done = match to {
        Format::Torch | Format::TorchLegacy => job.torch(checkpoint, target, values),
        Format::Safetensors | Format::Npz => job.arrays(checkpoint, target, values),
        other => bail!("{other} holds no whole checkpoint"),
    };
    let at_input = |e: anyhow::Error| if e.is::<AtOutput>() { e } else { e.context(name.to_owned()) };
    done.map_err(at_input)?;
    job.restored(&aliases);
    if let Some(watch) = job.watch.take() {
        let wrong = watch.finish().and_then(|wrong| watch::named(checkpoint, &wrong));
        job.report.doubtful.extend(wrong.map_err(|e| at_input(e.into()))?);
    }
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
    /// Resolves what was asked for among the names below `root`; where that is the weights, which nobody named, among all
    /// names of the file too.
    fn choose(&mut self, checkpoint: &Checkpoint, root: &Root) -> anyhow::Result<()> {
        let select = self.select.clone();
        let asked = Asked::of(&select, &self.args.drop);
        if asked.is_empty() {
            return Ok(());
        }
        let entries = checkpoint.names(root)?.entries;
        let mut listed = vec![Listed::of(&entries)];
        let mut resolved = asked.resolve(&listed)?;
        let whole;
        if resolved.missing().next().is_some() && self.args.names.root.is_none() && !root.path.is_empty() {
            whole = checkpoint.names(&checkpoint.top())?.entries;
            listed.push(Listed::of(&whole));
            resolved.look_further(listed.get(1..).unwrap_or_default())?;
        }
        resolved.missing_is_an_error(&listed)?;
        self.filter = resolved.filter()?.below(root);
        Ok(())
    }

    /// The weights, for formats that hold nothing else.
    fn weights(&mut self, checkpoint: &Checkpoint) -> anyhow::Result<Weights> {
        let root = match self.args.names.root {
            Some(_) => self.select.find_root(checkpoint)?,
            None => find_weights(checkpoint, Setting::Root)?,
        };
        self.choose(checkpoint, &root)?;
        let weights = checkpoint.select_weights(root, &|name| self.filter.takes(name))?;
        if !weights.by_parts.is_empty() {
            let shown = weights.by_parts.iter().take(MAX_WRAPPERS).map(|(name, class, parts)| {
                let name = if name.is_empty() { "." } else { name };
                format!("{name} ({class}: {})", parts.join(", "))
            });
            let shown: Vec<String> = shown.collect();
            let more = weights.by_parts.len().saturating_sub(MAX_WRAPPERS);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let written = format!("written as the tensors that they wrap: {}{more}", shown.join(", "));
            self.args.report.note(&self.report.input, written);
        }
        let asked = Asked::of(&self.select, &self.args.drop);
        if weights.tensors.is_empty() {
            match asked.is_empty() {
                true => bail!("no tensors selected; nothing written"),
                false => return Err(Error::refused(asked.nothing_left("tensors").text("; nothing written")).into()),
            }
        }
        if self.args.names.root.is_none() {
            self.report.weights = Some(select::shown(&weights.root));
        }
        let mut seen = std::collections::HashSet::new();
        for weight in &weights.tensors {
            if !seen.insert(weight.name.as_str()) {
                bail!("two tensors would have the name {}; choose one with --root or --exclude", weight.name);
            }
        }
        self.report
            .left_out
            .extend(weights.left_out.iter().map(|(name, tensors)| LeftOut { name: name.clone(), tensors: *tensors }));
        Ok(weights)
    }

    /// Names the aliases that are tensors again: what was a part of another tensor has not its own shape.
    fn restored(&self, aliases: &[(String, String)]) {
        let is_dropped = |alias: &str| self.report.shared.iter().any(|shared| shared.dropped && shared.name == alias);
        let restored = aliases.iter().filter(|(alias, _)| self.filter.takes(alias) && !is_dropped(alias));
        let mut shown: Vec<String> = restored.map(|(alias, kept)| format!("{alias} = {kept}")).collect();
        if shown.is_empty() {
            return;
        }
        let more = shown.len().saturating_sub(MAX_SHARED);
        shown.truncate(MAX_SHARED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = "restored from __metadata__, each with the shape of the tensor it stands for (if it was part of that, its \
                    own shape is lost)";
        self.args.report.note(&self.report.input, format_args!("{what}: {}{more}", shown.join(", ")));
    }

    /// safetensors' strings have a place in safetensors only.
    fn leave_out_metadata(&mut self) {
        if self.to != Format::Safetensors && !self.metadata.is_empty() {
            self.report.left_out.push(LeftOut { name: METADATA.to_owned(), tensors: None });
        }
    }

    /// Writes what a weights-only target leaves out as one JSON object.
    fn save_values(
        &mut self,
        checkpoint: &Checkpoint,
        values: &[(String, NodeId)],
        target: Option<&Target>,
    ) -> anyhow::Result<()> {
        let (Some(target), Some(path)) = (target, &self.args.save_values) else { return Ok(()) };
        let mut object = serde_json::Map::new();
        let metadata = self.metadata.iter().filter(|_| self.to != Format::Safetensors);
        object.extend(metadata.map(|(key, value)| (format!("{METADATA}.{key}"), value.as_str().into())));
        for (name, node) in values.iter().filter(|(name, _)| self.filter.takes_whole(name)) {
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
                let message = format!("not enough space: {bytes} bytes needed, {free} free");
                Err(anyhow::anyhow!(message).context(AtOutput(self.args.output().to_owned())))
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
        if let Some(root) = report.weights.as_ref().filter(|root| *root != ".") {
            output.note(&report.input, format!("weights: {root}, {}", counted(report.tensors, "tensor")));
        }
        let names: Vec<String> = report
            .left_out
            .iter()
            .skip(self.told)
            .map(|left| match left.tensors {
                Some(1) => format!("{} (1 tensor)", left.name),
                Some(tensors) => format!("{} ({tensors} tensors)", left.name),
                None => left.name.clone(),
            })
            .collect();
        if !names.is_empty() {
            output.note(&report.input, format!("left out: {}", names.join(", ")));
        }
        if !report.shared.is_empty() {
            let dropped = report.shared.iter().filter(|alias| alias.dropped).count();
            let pairs: Vec<String> = report
                .shared
                .iter()
                .take(MAX_SHARED)
                .map(|alias| format!("{} = {}", alias.name, alias.shares_with))
                .collect();
            let more = report.shared.len().saturating_sub(MAX_SHARED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let what = if dropped > 0 { "left out as aliases" } else { "written each, though they share memory" };
            output.note(&report.input, format!("{what}: {}{more}", pairs.join(", ")));
        }
        if let Some(note) = report.overflow_note() {
            output.note(&report.input, note);
        }
        if let Some(note) = report.not_cast_note() {
            output.note(&report.input, note);
        }
        for line in watch::told(&report.doubtful) {
            output.note(&report.input, line);
        }
        if output.wants_json() {
            output.print(report)?;
        }
        Ok(Status::Success)
    }

    /// Has the checksums of these tensors' storages looked at while they are copied.
    fn watch_weights(&mut self, checkpoint: &Checkpoint, tensors: &[Weight]) {
        let storages = tensors.iter().flat_map(|weight| checkpoint.storages_of(weight.id));
        let names = tensors.iter().map(|weight| weight.name.clone()).collect();
        self.watch = Some(Watch::start(checkpoint, storages, &names));
    }

    /// The same for every tensor that is left below a node.
    fn watch_all(&mut self, checkpoint: &Checkpoint, scan: &Scan) -> anyhow::Result<()> {
        let tensors = scan.order().iter().filter_map(|node| checkpoint.tensors.of(*node));
        let storages = tensors.filter_map(|id| checkpoint.tensor(id)?.storage());
        let entries = checkpoint.names(&checkpoint.top())?.entries;
        self.report.doubtful = watch::broken(checkpoint, &entries);
        let names = entries.iter().map(Entry::name).collect();
        self.watch = Some(Watch::start(checkpoint, storages, &names));
        Ok(())
    }

    fn root(&self, checkpoint: &Checkpoint) -> anyhow::Result<Root> {
        Ok(self.select.find_root(checkpoint)?)
    }
}

/// What a cast leaves alone, found before anything is written.
#[derive(Default)]
struct Casts {
    names: HashMap<TensorId, String>,
    kept: Kept,
}

impl Job<'_> {
    /// Notes what a file's contents lost in the cast, by the names of its contents.
    fn overflowed(&mut self, overflows: &[Overflow], name: impl Fn(usize) -> Option<String>) {
        for overflow in overflows {
            let name = name(overflow.place).filter(|name| !name.is_empty()).unwrap_or_else(|| ".".to_owned());
            self.report.overflows += overflow.elements;
            self.report.overflowed.push(Overflowed { name, values: overflow.elements });
        }
    }

    /// Sorts the tensors below `root` for `--dtype`. `places`: where the weights lie; none if all of it is weights.
    fn casts(&mut self, checkpoint: &Checkpoint, root: &Root, places: &[Root]) -> anyhow::Result<Casts> {
        let Some(to) = &self.args.dtype else { return Ok(Casts::default()) };
        let dtype = Some(to.to_string());
        let Casting { names, kept } = checkpoint.casting(root, places)?;
        let casts = Casts { names, kept };
        let kept = self.not_cast(checkpoint, &casts);
        self.report.not_cast.extend(kept);
        self.report.dtype = dtype;
        Ok(casts)
    }

    /// The names of what `--dtype` would change and does not.
    fn not_cast(&self, checkpoint: &Checkpoint, casts: &Casts) -> Vec<String> {
        let changes = |id: &TensorId| {
            let dtype = checkpoint.tensor(*id).and_then(|tensor| tensor.dtype.as_ref());
            dtype.is_some_and(|dtype| dtype.class() == Some(Class::Float) && self.args.dtype.as_ref() != Some(dtype))
        };
        let mut stay: Vec<&TensorId> = casts.kept.tensors.iter().filter(|id| changes(id)).collect();
        stay.sort();
        stay.into_iter().filter_map(|id| casts.names.get(id).cloned()).collect()
    }
}
