//! `ckpt edit`: what stands beside the weights, set, deleted and moved.

use std::path::PathBuf;

use anyhow::bail;
use clap::{ArgMatches, Command, FromArgMatches};

use crate::checkpoint::alter::Step;
use crate::commands::Status;
use crate::commands::in_order::{Spelling, given, with_options};
use crate::commands::input::LimitArgs;
use crate::commands::output::OutputArgs;
use crate::commands::progress_bar::Bars;
use crate::commands::rename::{EditArgs, open, shown};
use crate::operations::edit::{Options, edit};

/// Options of `ckpt edit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Operations apply in the order given, each to what the one before it left. A NAME is one that `ckpt ls` shows, or the \
beginning of some up to a dot; `.` is the top object. A dict gets a last key that it does not have. In the pickle only what \
changes is written again; torch.load(weights_only=True) opens the result if it opened the file. Names of modules pickled \
whole, of TorchScript and of safetensors cannot be edited.\n\n\
Examples:\n  ckpt edit model.pt --set epoch=0 --set optimizer.param_groups.0.lr=1e-4 --in-place\n  \
ckpt edit best.pt --delete model --move ema=model --delete optimizer --set epoch=-1 -o model.pt\n  \
ckpt edit weights.pt --move .=state_dict --set 'state_dict_version=\"2.1\"' -o checkpoint.pt\n  \
ckpt edit checkpoint.pt --delete epoch --move state_dict=. --dry-run")]
pub struct Args {
    /// The file, or `ARCHIVE::member`; `-` is standard input
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operations: Operations,
    /// Where to write, in the format of INPUT; `-` is standard output
    #[arg(short, long, value_name = "OUTPUT", conflicts_with = "in_place")]
    pub output: Option<PathBuf>,
    /// Edit the file itself: append a new pickle and directory to a zip, replace any other file as a whole
    #[arg(long)]
    pub in_place: bool,
    /// Overwrite an existing OUTPUT
    #[arg(long, conflicts_with = "in_place")]
    pub force: bool,
    /// Show old -> new and write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: LimitArgs,
}

/// `--set`, `--delete` and `--move`, in the order of the command line.
#[derive(Debug, Clone, Default)]
pub struct Operations(Vec<(&'static str, String)>);

const OPERATIONS: [Spelling; 3] = [
    (
        "set",
        "NAME=VALUE",
        "Give NAME a value, a Python literal: None, True, 3, 1e-4, inf, 'text' in quotes, b'bytes', a list, tuple, dict, set",
    ),
    ("delete", "NAME", "Remove NAME and all below it"),
    (
        "move",
        "OLD=NEW",
        "Give OLD the name NEW; `.=KEY` puts everything below KEY, `KEY=.` leaves only what is below KEY",
    ),
];

impl clap::Args for Operations {
    fn augment_args(command: Command) -> Command {
        // a value may be a negative number
        with_options(command, "operations", &OPERATIONS, |option| option.allow_hyphen_values(true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Operations {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Operations(given(matches, &OPERATIONS)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Operations {
    fn steps(&self) -> anyhow::Result<Vec<Step>> {
        let steps = self.0.iter().map(|(option, value)| {
            let pair = value.split_once('=').map(|(left, right)| (left.to_owned(), right.to_owned()));
            Ok(match (*option, pair) {
                ("delete", _) if value.is_empty() => bail!("--delete is empty"),
                ("delete", _) => Step::Delete { name: value.clone() },
                (_, Some((left, _))) if left.is_empty() => bail!("--{option} {value:?} has no name before its `=`"),
                ("set", Some((name, value))) => Step::Set { name, value },
                ("move", Some((_, to))) if to.is_empty() => bail!("--move {value:?} has no name behind its `=`"),
                ("move", Some((from, to))) => Step::Move { from, to },
                ("set", None) => bail!("--set {value:?} has no `=`; use --set NAME=VALUE"),
                _ => bail!("--move {value:?} has no `=`; use --move OLD=NEW"),
            })
        });
        steps.collect()
    }
}

/// Edits.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let steps = args.operations.steps()?;
    let shown = shown(&args.input);
    if args.input.is_dir() {
        bail!(
            "{shown}: made of several files, which cannot be edited; convert them into one first with `ckpt convert`"
        );
    }
    let to = EditArgs {
        output: args.output.clone(),
        in_place: args.in_place,
        force: args.force,
        dry_run: args.dry_run,
        report: args.report.clone(),
        ..EditArgs::default()
    };
    // what is wrong with the target is said before a large input is read
    let mut destination = to.of_file(&args.input)?;
    let (limits, bars) = (args.limits.limits(), Bars::new(args.report.quiet));
    let mut original = open(&args.input, &shown, None, &destination, &limits, &bars)?;
    let report = edit(&mut original, &Options::of(steps), &mut destination, &bars)?;
    args.report.notes(&report.notes);
    if args.report.wants_json() || report.output.is_none() {
        args.report.print(&report)?;
    } else {
        let count = report.changes.len();
        args.report.note(&report.file, format_args!("{count} {}", if count == 1 { "change" } else { "changes" }));
    }
    Ok(Status::Success)
}
