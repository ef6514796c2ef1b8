//! `ckpt check`: whether a file is safe to load and intact, without loading it.

mod allowing;

use std::io;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::builder::EnumValueParser;

use self::allowing::AllowArgs;
use crate::commands::ExitStatus;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::limits::Limits;
use crate::operations::check::{Checked, Options, Requirement, Told, check, check_many};
use crate::operations::files::{Group, gather};
use crate::options::files::FilesArgs;
use crate::options::input::{self, OpenArgs};
use crate::options::output::{Format, OutputArgs, refusal};
use crate::report::check::{Blank, Check, Lines};
use crate::report::figures::counted;
use crate::report::sarif::Log;
use crate::safety::allow::Allow;
use crate::safety::finding::Severity;
use crate::terminal::streams::say;
use crate::terminal::wording::flag;

/// Options of `ckpt check`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("format", |arg| arg.value_parser(EnumValueParser::<Format>::new())))]
pub(crate) struct Args {
    /// Files, directories, members of archives (`ARCHIVE::member`); `-` is standard input
    #[arg(required_unless_present = "files_from", value_name = "INPUT", value_parser = input::parser())]
    pub inputs: Vec<PathBuf>,
    /// Exit with status 1 on findings of this severity or higher
    #[arg(long, value_enum, default_value = "warning", value_name = "SEVERITY")]
    pub fail_on: Severity,
    /// Report an error if a file does not meet this requirement (default: none)
    #[arg(long, value_enum, value_name = "WHAT")]
    pub require: Option<Requirement>,
    /// Also look for NaN, infinities, zeros and subnormals in tensors
    #[arg(long)]
    pub numerics: bool,
    /// Read no tensor data: skip checksums and hidden pickles
    #[arg(long, conflicts_with = "numerics")]
    pub no_data: bool,
    /// With --recursive, name the files left aside
    #[arg(short, long, requires = "recursive")]
    pub verbose: bool,
    #[command(flatten)]
    pub files: FilesArgs,
    #[command(flatten)]
    pub allow: AllowArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub limits: OpenArgs,
}

/// Checks the inputs; one that cannot be opened does not keep the others from being checked.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    if args.output.json && args.output.wants_sarif() {
        bail!("--json cannot be used with --format sarif");
    }
    let limits = args.limits.limits();
    let inputs = args.files.inputs(&args.inputs)?;
    let allow = args.allow.read()?;
    let mut options = Options::default();
    (options.data, options.numerics, options.require) = (!args.no_data, args.numerics, args.require);
    let layout = |name: &Path| input::layout(name, &limits, true);
    let files = gather(&inputs, args.files.recursive, args.files.shard, &limits);
    let mut log = Log::default();
    let status = match args.files.recursive {
        true => each_file(args, &files, &layout, &options, &allow, &limits, &mut log)?,
        false => each_input(args, &files, &|input| check(layout(input), input, &options, &allow, &limits), &mut log)?,
    };
    if args.output.wants_sarif() {
        args.output.print(&log)?;
    }
    args.allow.finish(&allow)?;
    Ok(status)
}

/// Prints a report for each input.
fn each_input(
    args: &Args,
    files: &[Group],
    check: &dyn Fn(&Path) -> Vec<Checked>,
    log: &mut Log,
) -> io::Result<ExitStatus> {
    let (mut status, mut printed) = (ExitStatus::Success, 0_u64);
    for input in files.iter().flat_map(|group| &group.found) {
        for (name, checked) in check(&input.path) {
            match checked {
                Ok(check) => {
                    if printed > 0 && args.output.wants_table() {
                        args.output.print(&Blank)?;
                    }
                    status = status.max(args.answer(&check));
                    let check = args.worded(check);
                    match args.output.wants_sarif() {
                        true => log.add(&check),
                        false => args.output.print(&check)?,
                    }
                    printed += 1;
                }
                Err(e) => {
                    args.refuse(&name, e, log)?;
                    status = ExitStatus::Trouble;
                }
            }
        }
    }
    Ok(status)
}

/// Prints one line for each file, and what they come to.
fn each_file(
    args: &Args,
    files: &[Group],
    layout: &(dyn Fn(&Path) -> Result<Layout> + Sync),
    options: &Options,
    allow: &Allow,
    limits: &Limits,
    log: &mut Log,
) -> io::Result<ExitStatus> {
    let mut status = ExitStatus::Success;
    let summary = check_many(files, layout, options, allow, limits, &mut |many| {
        let mut lines = Lines::default();
        for told in many {
            match told {
                Told::Checked(check) => {
                    status = status.max(args.answer(&check));
                    lines.0.push(args.worded(*check));
                }
                Told::LeftAside(why) if args.verbose => say(format_args!("left aside: {}", why.spoken(flag))),
                Told::LeftAside(_) => {}
                Told::Refused(file, e) => {
                    status = ExitStatus::Trouble;
                    args.print_lines(&mut lines, log)?;
                    args.refuse(&file, e, log)?;
                }
            }
        }
        args.print_lines(&mut lines, log)
    })?;
    if args.output.wants_table() {
        args.output.print(&summary)?;
    } else if summary.left_aside > 0 && args.verbose {
        args.output.note("in all", counted(summary.left_aside, "file") + " left aside");
    }
    Ok(status)
}

impl Args {
    /// Prints what there is, and keeps nothing.
    fn print_lines(&self, lines: &mut Lines, log: &mut Log) -> io::Result<()> {
        let lines = std::mem::take(lines);
        if self.output.wants_sarif() {
            lines.0.iter().for_each(|check| log.add(check));
            return Ok(());
        }
        if lines.0.is_empty() { Ok(()) } else { self.output.print(&lines) }
    }

    /// Says why an input cannot be read; programs are told too.
    fn refuse(&self, file: &Path, e: Error, log: &mut Log) -> io::Result<()> {
        let e = e.into();
        if self.output.wants_sarif() {
            log.refuse(&refusal(file, &e));
        }
        self.output.refuse(file, &e)
    }

    fn answer(&self, check: &Check) -> ExitStatus {
        if check.has(self.fail_on) { ExitStatus::No } else { ExitStatus::Success }
    }

    /// A report whose findings say what to do about them, in the words of the command line; its notes are said.
    fn worded(&self, mut check: Check) -> Check {
        self.output.notes(&check.notes);
        for finding in &mut check.findings {
            if let Some(advice) = finding.advice.take() {
                finding.message = format!("{}; {}", finding.message, advice.spoken(flag));
            }
        }
        check
    }
}
