//! `ckpt merge`: several checkpoints in one file.

use std::path::{Path, PathBuf};

use crate::commands::ExitStatus;
use crate::commands::input::{self, OpenArgs};
use crate::commands::keyed::{Keyed, taken_apart};
use crate::commands::output::OutputArgs;
use crate::commands::progress_bar::Bars;
use crate::commands::values::{format_to_write, formats, size};
use crate::operations::convert::{Outlet, Portion, Shards, Shared};
use crate::operations::destination::Sink;
use crate::operations::merge::{OnConflict, Options, Part, merge};
use crate::write::atomic::is_same_file;
use crate::write::format::Format;

const EXAMPLES: &str = "\
Examples:\n  ckpt merge generator=G.pth discriminator=D.pth -o gan.pth\n  \
ckpt merge part_1.pt part_2.pt part_3.pt -o model.pt\n  \
ckpt merge --on-conflict last base.safetensors tuned_head.pt -o model.safetensors\n  \
ckpt merge --root state_dict encoder.ckpt decoder.ckpt -o model.pt";

/// What `--help` says besides.
const DETAILS: &str = "\
With keys, OUTPUT is a dict of the whole objects: whatever else they hold (optimizer, epoch, unknown classes) stays, as in \
`ckpt convert`; of TorchScript the state dict is taken. safetensors, npz and shards hold nothing but weights: their names get \
KEY and a dot before them.\n\n\
Without keys, the weights of all inputs are joined in one state dict, in order, with its _metadata; everything beside them is \
left out, which is noted. Names must be in one input only, unless --on-conflict says what to do. --include, --exclude and \
--drop are about names of the output.\n\n\
What is a file is an INPUT, even where its name contains `=`; where KEY=INPUT would be one as well, write ./KEY=INPUT for the \
file or KEY=./INPUT for the key. An argument is split at its first `=`.\n\n\
Storages are copied as they are. Tensors that share memory in one input go on sharing it; those of two inputs never do, be \
they the same file.";

/// Options of `ckpt merge`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("{DETAILS}\n\n{EXAMPLES}"), after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to merge: files, directories of shards, `ARCHIVE::member`, `-` for standard input; either all with a key or none
    #[arg(value_name = "[KEY=]INPUT", required = true, value_parser = input::parser())]
    pub inputs: Vec<PathBuf>,
    /// Where to write: a file, `-` for standard output, with --max-shard-size a directory
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: PathBuf,
    /// The format to write; the default follows OUTPUT's extension
    #[arg(long, value_parser = formats(&Format::OF_CHECKPOINTS), value_name = "FORMAT")]
    pub to: Option<Format>,
    /// What to do with a name that several inputs have, for inputs without keys [default: refuse]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub on_conflict: Option<OnConflict>,
    /// Start at this element of every input (`.` is the top): the object that its KEY gets, or the one that holds the weights
    #[arg(long, value_name = "NAME")]
    pub root: Option<String>,
    /// Write only matching names: a name, an element with everything below it, or a glob; repeatable
    #[arg(long, value_name = "NAME|GLOB")]
    pub include: Vec<String>,
    /// Skip matching names, values as well as tensors; repeatable
    #[arg(long, value_name = "NAME|GLOB")]
    pub exclude: Vec<String>,
    /// Leave out an element and everything below it; a name or a glob; repeatable
    #[arg(long, value_name = "NAME|GLOB")]
    pub drop: Vec<String>,
    /// Tensors that share memory, in formats without sharing [default: duplicate; aliases in the __metadata__ of a
    /// safetensors input stay aliases]
    #[arg(long, value_enum, value_name = "HOW")]
    pub shared: Option<Shared>,
    /// Write shards of at most SIZE bytes (5GB, 500MB, 2GiB) and an index into the directory OUTPUT
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_shard_size: Option<u64>,
    /// Replace existing files
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
        let mut options = Options::default();
        (options.to, options.on_conflict, options.root) = (to, self.on_conflict, self.root.clone());
        (options.include, options.exclude) = (self.include.clone(), self.exclude.clone());
        (options.drop, options.shared) = (self.drop.clone(), self.shared);
        Ok(options)
    }

    fn outlet(&self, paths: &[PathBuf]) -> anyhow::Result<Outlet> {
        let files = || paths.iter().map(PathBuf::as_path).filter(|path| !input::is_stdin(path));
        if let Some(max_bytes) = self.max_shard_size {
            let (directory, force) = (self.output.clone(), self.force);
            return Ok(Outlet::Shards(Shards {
                directory,
                max_bytes,
                force,
                input: files().next().map(Path::to_owned),
                part: Portion::All,
            }));
        }
        let same = files().find(|path| is_same_file(path, &self.output));
        Ok(Outlet::File(Sink::new(&self.output, self.force, same)?))
    }
}

/// Merges the inputs.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let named =
        args.inputs.iter().map(|argument| taken_apart(argument.as_os_str())).collect::<anyhow::Result<Vec<Keyed>>>()?;
    let paths: Vec<PathBuf> = named.iter().map(|keyed| keyed.path.clone()).collect();
    input::stdin_once(&paths)?;
    let options = args.options()?;
    args.report.keep_apart(&args.output)?;
    // what is wrong with the target is said before large inputs are read
    let outlet = args.outlet(&paths)?;
    let limits = args.limits.limits();
    let open = |Keyed { key, path }: Keyed| -> anyhow::Result<Part> {
        Ok(Part { key, input: input::open(&path, &limits, args.report.quiet)? })
    };
    let parts = named.into_iter().map(open).collect::<anyhow::Result<Vec<Part>>>()?;
    let report = merge(parts, &options, &outlet, &limits, &Bars::new(args.report.quiet))?;
    args.report.done(&report.notes, &report)?;
    Ok(ExitStatus::Success)
}
