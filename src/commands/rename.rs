//! `ckpt rename`, and what it shares with `ckpt strip-prefix`.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::{ArgMatches, Command, FromArgMatches};

use crate::checkpoint::edit::rules::{Step, parse_substitution, parse_table};
use crate::commands::ExitStatus;
use crate::layout::{Layout, address};
use crate::operations::destination::{Destination, Sink};
use crate::operations::rename::{Named, Options, rename};
use crate::options::destination::{EditedArgs, open, shown};
use crate::options::in_order::{Spelling, given, with_options};
use crate::options::input::{self, LimitArgs};
use crate::options::list;
use crate::options::names::NameArgs;
use crate::options::output::OutputArgs;
use crate::report::rename::Renaming;
use crate::terminal::progress_bar::Bars;
use crate::terminal::streams::say;
use crate::terminal::wording::flag;
use crate::write::format::Format;

/// Options of `ckpt rename`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ckpt rename [OPTIONS] <INPUT> (-o <OUTPUT> | --in-place)\n\
       \x20       (--add-prefix P | --strip-prefix P | --regex S | --map FILE)...")]
pub(crate) struct Args {
    /// File, directory of shards, or `ARCHIVE::member`; `-` is standard input
    #[arg(value_name = "INPUT", value_parser = input::parser())]
    pub input: PathBuf,
    #[command(flatten)]
    pub changes: Changes,
    #[command(flatten)]
    pub edit: EditArgs,
}

/// Options of every command that edits names.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct EditArgs {
    #[command(flatten)]
    pub to: EditedArgs,
    /// Ignore steps and table rows that match nothing
    ///
    /// If none match, the input is written unchanged.
    #[arg(long)]
    pub if_present: bool,
    #[command(flatten)]
    pub names: NameArgs,
    #[command(flatten)]
    pub report: OutputArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// `--add-prefix`, `--strip-prefix`, `--regex` and `--map`, in the order of the command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes(Vec<(&'static str, String)>);

const CHANGES: [Spelling; 4] = [
    ("add-prefix", "PREFIX", "Put PREFIX before every name", ""),
    ("strip-prefix", "PREFIX", "Remove PREFIX from names that begin with it", ""),
    (
        "regex",
        "s/FROM/TO/",
        "Rewrite names by a regular expression",
        "$1 in TO is what the first group matched; flags: g (all matches), i (ignore case).",
    ),
    ("map", "FILE", "Rename by a table", "Two columns (old, new) or a JSON object; `-` is standard input."),
];

impl clap::Args for Changes {
    fn augment_args(command: Command) -> Command {
        with_options(command, "changes", &CHANGES, |option| option)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Changes {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Changes(given(matches, &CHANGES)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Changes {
    fn steps(&self) -> anyhow::Result<Vec<Named>> {
        let steps = self.0.iter().map(|(name, value)| {
            if value.is_empty() {
                bail!("--{name} is empty");
            }
            let step = match *name {
                "add-prefix" => Step::AddPrefix(value.clone()),
                "strip-prefix" => Step::StripPrefix(value.clone()),
                "regex" => parse_substitution(value).map_err(|why| anyhow!("--regex {value:?} {why}"))?,
                _ => table(Path::new(value))?,
            };
            Ok(Named::new(step, value))
        });
        steps.collect()
    }
}

fn table(path: &Path) -> anyhow::Result<Step> {
    let shown = || path.display().to_string();
    parse_table(&list::read_text(path).with_context(shown)?).map_err(|why| anyhow!("{}: {why}", shown()))
}

/// Renames.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let stdin_twice = args.changes.0.iter().any(|(name, value)| *name == "map" && value == "-");
    if stdin_twice && input::is_stdin(&args.input) {
        bail!("standard input cannot be both INPUT and the --map table");
    }
    edit(&args.edit, Some(&args.input), args.changes.steps()?)
}

/// Renames in one input; without one it is a filter.
pub(super) fn edit(args: &EditArgs, input: Option<&Path>, steps: Vec<Named>) -> anyhow::Result<ExitStatus> {
    let name = input.unwrap_or(Path::new("-"));
    let shown = shown(name);
    let (limits, quiet) = (args.limits.limits(), args.report.quiet);
    // several files go elsewhere than one; standard input and archives, which take long to look at, are one
    let layout = match input::is_stdin(name) || address(name).is_some() {
        true => None,
        false => Some(Layout::of(name, &limits).map_err(|e| e.of_input(&shown))?),
    };
    let is_several = name.is_dir() || layout.as_ref().is_some_and(|layout| layout.shards().is_some());
    // what is wrong with the target is said before a large input is read
    let mut destination = if is_several { args.of_several(name)? } else { args.to.of_file(name, &args.report)? };
    let bars = Bars::new(quiet);
    let mut original = open(name, &shown, layout, &destination, &limits, &bars)?;
    let options =
        Options { steps, select: args.names.select(), if_present: args.if_present, list: args.report.wants_json() };
    let report = rename(&mut original, &options, &mut destination, &bars)?;
    args.tell(&ManuallyDrop::new(report))
}

impl EditArgs {
    /// Shards go into another directory; they, and other directories, become one file where the output's name asks for it.
    fn of_several(&self, input: &Path) -> anyhow::Result<Destination> {
        if self.to.file.in_place {
            bail!("{}: made of several files, which cannot be edited in place; use -o", input.display());
        }
        Ok(match &self.to.file.output {
            _ if self.to.dry_run => Destination::Nowhere,
            Some(output) => match Format::of_checkpoint(output) {
                to @ Some(_) => Destination::File { sink: Sink::new(output, self.to.file.force, None)?, to },
                None => Destination::Shards { directory: output.clone(), force: self.to.file.force },
            },
            None => bail!("no output given; use -o DIRECTORY, or --dry-run to see what would change"),
        })
    }

    /// What was done, what would be, or why there is nothing to do.
    fn tell(&self, report: &Renaming) -> anyhow::Result<ExitStatus> {
        let wants_json = self.report.wants_json();
        self.report.notes(&report.notes);
        if let Some(why) = &report.nothing {
            say(format_args!("{}: {}", report.file, why.spoken(flag)));
        } else if report.changes == 0 || (report.output.is_some() && !wants_json) {
            self.report.note(&report.file, &report.summary);
        }
        if wants_json || (report.output.is_none() && report.nothing.is_none()) {
            self.report.print(report)?;
        }
        Ok(if report.nothing.is_some() { ExitStatus::No } else { ExitStatus::Success })
    }
}
