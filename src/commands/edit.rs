//! `ckpt edit`: what stands beside the weights, and single tensors, set, deleted and moved.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{ArgMatches, Command, FromArgMatches};

use crate::checkpoint::alter::Step;
use crate::commands::ExitStatus;
use crate::error::Error;
use crate::layout::{Layout, address};
use crate::limits::Limits;
use crate::operations::edit::{Options, edit, read_array};
use crate::options::destination::{EditedArgs, open, shown};
use crate::options::in_order::{Spelling, given, with_options};
use crate::options::input::{self, LimitArgs, is_stdin};
use crate::options::output::OutputArgs;
use crate::report::figures::counted;
use crate::terminal::progress_bar::Bars;

/// Options of `ckpt edit`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ckpt edit [OPTIONS] <INPUT> (-o <OUTPUT> | --in-place)\n\
       \x20       (--set | --set-tensor | --delete | --move | --set-metadata)...")]
pub(crate) struct Args {
    /// File or `ARCHIVE::member`; `-` is standard input
    #[arg(value_name = "INPUT", value_parser = input::parser())]
    pub input: PathBuf,
    #[command(flatten)]
    pub operations: Operations,
    /// Let --set-tensor give a tensor the shape of FILE.npy
    #[arg(long, requires = "set-tensor")]
    pub force_shape: bool,
    #[command(flatten)]
    pub to: EditedArgs,
    #[command(flatten)]
    pub report: OutputArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// `--set`, `--set-tensor`, `--delete`, `--move` and `--set-metadata`, in the order of the command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Operations(Vec<(&'static str, String)>);

const OPERATIONS: [Spelling; 5] = [
    (
        "set",
        "NAME=VALUE",
        "Give NAME a value, a Python literal",
        "None, True, 3, 1e-4, inf, 'text' in quotes, b'bytes', a list, tuple, dict or set.",
    ),
    (
        "set-tensor",
        "NAME=FILE.npy",
        "Give the tensor NAME the elements of FILE.npy",
        "They must have its dtype and shape.",
    ),
    ("delete", "NAME", "Remove NAME and everything below it", ""),
    (
        "move",
        "OLD=NEW",
        "Rename OLD to NEW",
        "`.=KEY` puts everything under KEY, `KEY=.` keeps only what is under KEY.",
    ),
    ("set-metadata", "KEY=VALUE", "Set an entry of `__metadata__` (safetensors)", ""),
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
    fn steps(&self, force_shape: bool, limits: &Limits) -> anyhow::Result<Vec<Step>> {
        let steps = self.0.iter().map(|(option, value)| {
            let form = OPERATIONS.iter().find(|(name, ..)| name == option).map_or("", |(_, form, ..)| form);
            if *option == "delete" {
                return if value.is_empty() {
                    bail!("--delete is empty")
                } else {
                    Ok(Step::Delete { name: value.clone() })
                };
            }
            let Some((left, right)) = value.split_once('=') else {
                bail!("--{option} {value:?} has no `=`; use --{option} {form}");
            };
            if left.is_empty() {
                bail!("--{option} {value:?} has no name before its `=`");
            }
            let (left, right) = (left.to_owned(), right.to_owned());
            Ok(match *option {
                "set" => Step::Set { name: left, value: right },
                "set-metadata" => Step::SetMetadata { key: left, value: right },
                "set-tensor" if right.is_empty() => bail!("--set-tensor {value:?} has no file behind its `=`"),
                "set-tensor" => {
                    Step::SetTensor { name: left, elements: read_array(Path::new(&right), limits)?, force_shape }
                }
                _ if right.is_empty() => bail!("--move {value:?} has no name behind its `=`"),
                _ => Step::Move { from: left, to: right },
            })
        });
        steps.collect()
    }
}

/// Edits.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let (limits, bars) = (args.limits.limits(), Bars::new(args.report.quiet));
    let steps = args.operations.steps(args.force_shape, &limits)?;
    let shown = shown(&args.input);
    let is_index = || Layout::of(&args.input, &limits).is_ok_and(|layout| layout.file().is_none());
    let is_local = !is_stdin(&args.input) && address(&args.input).is_none();
    if args.input.is_dir() || is_local && args.input.extension().is_some_and(|e| e == "json") && is_index() {
        let e = Error::unsupported("made of several files, which cannot be edited");
        return Err(e.advise("convert it into one file first with `ckpt convert`").of_input(&shown).into());
    }
    // what is wrong with the target is said before a large input is read
    let mut destination = args.to.of_file(&args.input, &args.report)?;
    let mut original = open(&args.input, &shown, None, &destination, &limits, &bars)?;
    let report = edit(&mut original, &Options::of(steps), &mut destination, &bars)?;
    args.report.notes(&report.notes);
    if args.report.wants_json() || report.output.is_none() {
        args.report.print(&report)?;
    } else {
        args.report.note(&report.file, counted(report.changes.len() as u64, "change"));
    }
    Ok(ExitStatus::Success)
}
