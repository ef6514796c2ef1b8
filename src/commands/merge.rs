//! `ckpt merge`: several checkpoints in one file.

use std::path::{Path, PathBuf};

use crate::commands::ExitStatus;
use crate::operations::convert::{Outlet, Portion, Shards};
use crate::operations::destination::Sink;
use crate::operations::merge::{Keyed, OnConflict, Options, Part, merge, taken_apart};
use crate::options::input::{self, OpenArgs};
use crate::options::names::MatchArgs;
use crate::options::output::OutputArgs;
use crate::options::values::{WeightsArgs, WriteArgs, format_to_write};
use crate::terminal::progress_bar::Bars;
use crate::write::atomic::is_same_file;

/// Options of `ckpt merge`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Checkpoints to merge, either all with a key or none
    ///
    /// Files, directories of shards, members of archives (`ARCHIVE::member`), `-` for standard input.
    #[arg(value_name = "[KEY=]INPUT", required = true, value_parser = input::parser())]
    pub inputs: Vec<PathBuf>,
    /// Where to write; `-` is standard output
    ///
    /// With --max-shard-size a directory.
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub write: WriteArgs,
    /// What to do with a name that several inputs have (default: refuse)
    ///
    /// For inputs without keys.
    #[arg(long, value_enum, value_name = "WHICH")]
    pub on_conflict: Option<OnConflict>,
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// Start at this element of every input
    ///
    /// `.` is the top object. By default the top with keys, the weights without. It is the object that gets the KEY, or the one that holds the weights.
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub root: Option<String>,
    #[command(flatten)]
    pub names: MatchArgs,
    #[command(flatten)]
    pub report: OutputArgs,
    #[command(flatten)]
    pub limits: OpenArgs,
}

impl Args {
    fn options(&self) -> anyhow::Result<Options> {
        let to = format_to_write(self.write.to, &self.output)?;
        let mut options = Options::default();
        (options.to, options.on_conflict, options.root) = (to, self.on_conflict, self.root.clone());
        (options.include, options.exclude) = (self.names.include.clone(), self.names.exclude.clone());
        (options.drop, options.shared) = (self.weights.drop.clone(), self.weights.shared);
        Ok(options)
    }

    fn outlet(&self, paths: &[PathBuf]) -> anyhow::Result<Outlet> {
        let files = || paths.iter().map(PathBuf::as_path).filter(|path| !input::is_stdin(path));
        if let Some(max_bytes) = self.weights.max_shard_size {
            let (directory, force) = (self.output.clone(), self.write.force);
            return Ok(Outlet::Shards(Shards {
                directory,
                max_bytes,
                force,
                input: files().next().map(Path::to_owned),
                part: Portion::All,
            }));
        }
        let same = files().find(|path| is_same_file(path, &self.output));
        Ok(Outlet::File(Sink::new(&self.output, self.write.force, same)?))
    }
}

/// Merges the inputs.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let named =
        args.inputs.iter().map(|argument| taken_apart(argument.as_os_str())).collect::<Result<Vec<Keyed>, _>>()?;
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
