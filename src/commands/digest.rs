//! `ckpt digest`: what tells two checkpoints of the same weights from others, whatever they lie in.

mod lists;

use std::path::{Path, PathBuf};

use crate::commands::ExitStatus;
use crate::commands::files::FilesArgs;
use crate::commands::input::{self, OpenArgs};
use crate::commands::names::NameArgs;
use crate::commands::output::{OutputArgs, say};
use crate::commands::progress_bar::Bars;
use crate::commands::wording::flag;
use crate::error::Error;
use crate::operations::digest::{Missing, Options, Told, digest_many};
use crate::operations::files::gather;
use crate::report::digest::Digested;
use crate::report::figures::counted;

const EXAMPLES: &str = "\
Examples:\n  ckpt digest model.pth model.safetensors   # one digest: the same weights\n  \
ckpt digest -R models/ > models.digests\n  ckpt digest --check models.digests\n  \
find models -name '*.pt' -print0 | ckpt digest --files-from - --null --shard 3/8";

/// What `--help` says besides.
const DETAILS: &str = "\
The digest is of the weights, which are what `ckpt convert` writes to safetensors: a module's state_dict(), or the state dict \
in a checkpoint. Names (below the weights' root), dtypes, shapes and elements count. Container, order, sharding, compression, \
byte order, strides, devices, requires_grad and shared memory do not. A format that cannot hold a dtype cannot hold the same \
weights: npz has no bfloat16 or float8, safetensors no complex128 and no quantized tensors; cast weights are others.\n\n\
How it is made:\n  \
record = \"tensor\" LF SHA256 LF DTYPE LF SHAPE LF NAME\n  \
digest = sha256(\"ckpt.digest/1\" LF, then the sha256 of every record in\n           \
hexadecimal, each with a LF behind it, in ascending order)\n\
NAME, DTYPE and SHA256 are as in `ckpt ls --json --hash`, SHAPE has commas between the extents (4,3,3,3; empty for a single \
number), text is UTF-8, hexadecimal lower-case. The dtype of a quantized tensor has its quantizer behind it: \
quint8(per_tensor_affine,0.1,10) with Python's numbers, qint8(per_channel_affine,float64:SHA256,int64:SHA256,0) with the hash of \
scales and zero points. Aliases in __metadata__ of safetensors count as the tensors that they stand for.\n\n\
With --all, every tensor and value that `ckpt ls` lists counts, with whole names; of a value:\n  \
record = \"value\" LF SHA256 LF TYPE LF NAME\n\
with the sha256 of its whole Python repr, the elements of a set in the order of theirs. Names are text: `0` and `'0'` are one. \
Attributes of modules that hold no tensors (`training`) do not count.\n\n\
What is truncated, damaged or missing has no digest, nor have sparse and meta tensors: an error, exit status 2.";

/// Options of `ckpt digest`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("{DETAILS}\n\n{EXAMPLES}"), after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files, directories of a checkpoint in several files, members of archives (`ARCHIVE::member`), `-` for standard input
    #[arg(value_name = "INPUT", required_unless_present_any = ["files_from", "check"], value_parser = input::parser())]
    pub inputs: Vec<PathBuf>,
    /// Verify the digests in lists, as `sha256sum -c` does; `-`, or no LIST, is standard input. Give the same --all, --root,
    /// --include and --exclude as when the list was made
    #[arg(short, long, value_name = "LIST", num_args = 0.., conflicts_with_all = ["files_from", "recursive", "shard"])]
    pub check: Option<Vec<PathBuf>>,
    /// With --check, exit with status 2 if a line is no line of a list
    #[arg(long)]
    pub strict: bool,
    /// With --check, pass over files that are not there
    #[arg(long)]
    pub ignore_missing: bool,
    /// Take in every tensor and value, not the weights alone
    #[arg(long)]
    pub all: bool,
    /// Take every checkpoint under each directory, and in each archive
    #[arg(short = 'R', long)]
    pub recursive: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub files: FilesArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub names: NameArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: OpenArgs,
}

/// Prints a line for each input; one that cannot be read does not keep the others from it.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    args.is_consistent()?;
    let mut options = Options::default();
    (options.select, options.all) = (args.names.select(), args.all);
    let missing = Missing::of(&options.select);
    let status = match &args.check {
        None => print(args, &options, &missing)?,
        Some(lists) => lists::verify(args, &args.lists(lists), &options, &missing)?,
    };
    match missing.said() {
        Some(message) => Err(Error::refused(message).into()),
        None => Ok(status),
    }
}

fn print(args: &Args, options: &Options, missing: &Missing<'_>) -> anyhow::Result<ExitStatus> {
    let limits = args.limits.limits();
    let inputs = args.files.inputs(&args.inputs)?;
    let groups = gather(&inputs, args.recursive, args.files.shard, &limits);
    let layout = |name: &Path| input::layout(name, &limits, true);
    let bars = Bars::new(args.output.quiet);
    let (mut status, mut left_aside) = (ExitStatus::Success, 0);
    digest_many(
        &groups,
        args.recursive,
        &layout,
        options,
        missing,
        &limits,
        &bars,
        &mut |many| -> anyhow::Result<()> {
            for told in many {
                match told {
                    Told::Digest(digested) => {
                        args.tell(&digested);
                        args.output.print(&*digested)?;
                    }
                    Told::LeftAside(_) => left_aside += 1,
                    Told::Refused(file, e) => {
                        status = ExitStatus::Trouble;
                        args.output.refuse(&file, &e.into())?;
                    }
                }
            }
            Ok(())
        },
    )?;
    if left_aside > 0 {
        args.output.note("in all", counted(left_aside, "file") + " left aside, which are no checkpoints");
    }
    Ok(status)
}

impl Args {
    /// What clap does not look at, as INPUT stands for lists with --check.
    fn is_consistent(&self) -> anyhow::Result<()> {
        let alone = [(self.strict, "--strict"), (self.ignore_missing, "--ignore-missing")];
        if let Some((_, flag)) = alone.iter().find(|(is_given, _)| *is_given && self.check.is_none()) {
            anyhow::bail!("{flag} is for --check");
        }
        if self.check.is_some() && self.files.null {
            anyhow::bail!("--null is for --files-from; lists of digests have lines");
        }
        Ok(())
    }

    /// The lists that --check names, wherever other options stand; standard input where it names none.
    fn lists(&self, named: &[PathBuf]) -> Vec<PathBuf> {
        let lists: Vec<PathBuf> = named.iter().chain(&self.inputs).cloned().collect();
        if lists.is_empty() { vec![PathBuf::from("-")] } else { lists }
    }

    /// Says what counts and what does not, of a file that somebody has named.
    fn tell(&self, digested: &Digested) {
        digested.notes.iter().for_each(|note| self.output.note(&digested.file, note));
        if !self.recursive && self.files.files_from.is_none() {
            digested.said().iter().for_each(|message| self.output.note(&digested.file, message.spoken(flag)));
        }
    }
}

/// A warning that stands for several lines; not for those who want quiet.
fn warn(args: &Args, what: String) {
    if !args.output.quiet {
        say(format_args!("warning: {what}"));
    }
}
