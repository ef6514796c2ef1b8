//! `ckpt digest`: what tells two checkpoints of the same weights from others, whatever they lie in.

mod lists;

use std::path::{Path, PathBuf};

use crate::commands::ExitStatus;
use crate::error::Error;
use crate::operations::digest::{Missing, Options, Told, digest_many};
use crate::operations::files::gather;
use crate::options::files::FilesArgs;
use crate::options::input::{self, OpenArgs};
use crate::options::names::NameArgs;
use crate::options::output::OutputArgs;
use crate::report::digest::Digested;
use crate::report::figures::counted;
use crate::terminal::progress_bar::Bars;
use crate::terminal::wording::flag;

/// Options of `ckpt digest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files, directories, members of archives (`ARCHIVE::member`); `-` is standard input
    #[arg(value_name = "INPUT", required_unless_present_any = ["files_from", "check"], value_parser = input::parser())]
    pub inputs: Vec<PathBuf>,
    /// Verify the digests in lists, as `sha256sum -c` does
    ///
    /// `-`, or no LIST, is standard input. Use the same --all, --root, --include and --exclude as when the list was made.
    #[arg(short, long, value_name = "LIST", num_args = 0.., conflicts_with_all = ["files_from", "recursive", "shard"])]
    pub check: Option<Vec<PathBuf>>,
    /// With --check, exit with status 2 if a line is malformed
    #[arg(long)]
    pub strict: bool,
    /// With --check, skip files that do not exist
    #[arg(long)]
    pub ignore_missing: bool,
    /// Include every tensor and value, not only the weights
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub files: FilesArgs,
    #[command(flatten)]
    pub names: NameArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
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
        Some(lists) => lists::verify_all(args, &args.lists(lists), &options, &missing)?,
    };
    match missing.said() {
        Some(message) => Err(Error::refused(message).into()),
        None => Ok(status),
    }
}

fn print(args: &Args, options: &Options, missing: &Missing<'_>) -> anyhow::Result<ExitStatus> {
    let limits = args.limits.limits();
    let inputs = args.files.inputs(&args.inputs)?;
    let groups = gather(&inputs, args.files.recursive, args.files.shard, &limits);
    let layout = |name: &Path| input::layout(name, &limits, true);
    let bars = Bars::new(args.output.quiet);
    let (mut status, mut left_aside) = (ExitStatus::Success, 0);
    digest_many(
        &groups,
        args.files.recursive,
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
        if !self.files.recursive && self.files.files_from.is_none() {
            digested.said().iter().for_each(|message| self.output.note(&digested.file, message.spoken(flag)));
        }
    }
}
