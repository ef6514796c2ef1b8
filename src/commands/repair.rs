//! `ckpt repair`: a damaged file, or one whose edit in place was interrupted.

use std::path::PathBuf;

use anyhow::bail;

use crate::commands::ExitStatus;
use crate::container::archive::Contents;
use crate::error::{Error, Result};
use crate::operations::destination::{InPlace, Sink};
use crate::operations::repair::{Options, SaveTo, repair};
use crate::options::destination::DestinationArgs;
use crate::options::input::{self, LimitArgs};
use crate::options::output::OutputArgs;
use crate::report::repair::Action;
use crate::terminal::progress_bar::Bars;
use crate::terminal::streams::STDOUT;
use crate::terminal::wording::flag;
use crate::write::atomic::Target;

/// Options of `ckpt repair`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ckpt repair [OPTIONS] <INPUT> (-o <OUTPUT> | --in-place)")]
pub(crate) struct Args {
    /// File; `-` is standard input
    #[arg(value_name = "INPUT", value_parser = input::parser())]
    pub input: PathBuf,
    /// Keep tensors that may be damaged, and name them
    #[arg(long)]
    pub keep_damaged: bool,
    #[command(flatten)]
    pub to: DestinationArgs,
    #[command(flatten)]
    pub report: OutputArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Repairs one file.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let shown = args.input.display().to_string();
    let of_input = |e: Error| e.of_input(&shown);
    let limits = args.limits.limits();
    if args.to.output.is_none() && !args.to.in_place {
        bail!("no output given; use -o OUTPUT or --in-place");
    }
    args.to.output.iter().try_for_each(|output| args.report.keep_apart(output))?;
    let sink = || args.sink();
    let (contents, mut to) = match args.to.in_place {
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
        let output = self.to.output.as_deref().unwrap_or(&self.input);
        let sink = Sink::new(output, self.to.force, Some(&self.input))?;
        Ok(match sink.target {
            Target::Stdout => Sink { name: STDOUT.to_owned(), ..sink },
            _ => sink,
        })
    }
}
