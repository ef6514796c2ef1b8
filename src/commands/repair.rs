//! `ckpt repair`: a damaged file, or one whose edit in place was interrupted.

use std::path::PathBuf;

use crate::commands::ExitStatus;
use crate::commands::input::{self, LimitArgs};
use crate::commands::output::{OutputArgs, STDOUT};
use crate::commands::progress_bar::Bars;
use crate::commands::wording::flag;
use crate::container::archive::Contents;
use crate::error::{Error, Result};
use crate::operations::destination::{InPlace, Sink};
use crate::operations::repair::{Options, SaveTo, repair};
use crate::report::repair::Action;
use crate::write::atomic::Target;

/// Options of `ckpt repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file that was cut off (a full disk, a broken download), has holes of zeros, changed bits or lost members: every tensor \
that is whole is saved in a new file that torch loads. Whole means that its checksum is right where the file has one, else \
that nothing says otherwise. Tensors that are lost or may be damaged are named with the reason, left out of dicts, and \
None elsewhere. The same for files that torch refuses although all tensors are whole: a broken header, an end record that \
is missing or leads elsewhere, two archives over each other, a zip made by hand, bytes after the end.\n\
An edit in place that was interrupted: finished where all its bytes are there, else undone.\n\n\
Examples:\n  ckpt repair cut.pth -o rest.pth\n  ckpt repair --keep-damaged flipped.pth -o kept.pth\n  ckpt repair --in-place model.pth")]
pub(crate) struct Args {
    /// The file; `-` is standard input
    #[arg(value_name = "INPUT", value_parser = input::parser())]
    pub input: PathBuf,
    /// Where to write; `-` is standard output
    #[arg(short, long, value_name = "OUTPUT", required_unless_present = "in_place", conflicts_with = "in_place")]
    pub output: Option<PathBuf>,
    /// Repair the file itself
    #[arg(long)]
    pub in_place: bool,
    /// Keep tensors that may be damaged, and name them, instead of leaving them out
    #[arg(long)]
    pub keep_damaged: bool,
    /// Replace an OUTPUT that exists
    #[arg(long, conflicts_with = "in_place")]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: LimitArgs,
}

/// Repairs one file.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let shown = args.input.display().to_string();
    let of_input = |e: Error| e.of_input(&shown);
    let limits = args.limits.limits();
    args.output.iter().try_for_each(|output| args.report.keep_apart(output))?;
    let sink = || args.sink();
    let (contents, mut to) = match args.in_place {
        true => {
            let file = InPlace::open(&args.input).map_err(of_input)?;
            let source = file.source().map_err(of_input)?;
            (Contents { source, limits }, SaveTo::InPlace(file))
        }
        false => (input::contents(&args.input, &limits).map_err(of_input)?, SaveTo::File(&sink)),
    };
    let options = Options { keep_damaged: args.keep_damaged };
    let report = repair(&contents, &shown, &options, &mut to, &Bars::new(args.report.quiet))?;
    report.told().iter().for_each(|note| args.report.note(&report.file, note.spoken(flag)));
    args.report.done(&[], &report)?;
    Ok(if report.action == Action::Nothing { ExitStatus::No } else { ExitStatus::Success })
}

impl Args {
    fn sink(&self) -> Result<Sink> {
        let output = self.output.as_deref().unwrap_or(&self.input);
        let sink = Sink::new(output, self.force, Some(&self.input))?;
        Ok(match sink.target {
            Target::Stdout => Sink { name: STDOUT.to_owned(), ..sink },
            _ => sink,
        })
    }
}
