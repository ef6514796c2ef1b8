//! `ckpt check`: whether a file is safe to load and sound, without loading it.

mod allowing;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rayon::prelude::*;

use self::allowing::AllowArgs;
use crate::commands::input::{self, LimitArgs};
use crate::commands::output::{OutputArgs, say};
use crate::commands::wording::{flag, worded};
use crate::commands::{Status, progress_bar::Bar};
use crate::error::{Error, ErrorKind};
use crate::layout::{Below, BelowKind, below, is_called_a_checkpoint};
use crate::limits::Limits;
use crate::operations::open::{no_checkpoint_below, path_of};
use crate::progress::Silent;
use crate::report::check::{Check, GlobalRow, Lines, Summary, status_name, verdict};
use crate::report::figures::counted;
use crate::report::file_bytes::file_bytes;
use crate::safety::allow::Allow;
use crate::safety::archive::{Named, examine_all};
use crate::safety::examine::{Examined, examine_refused, examine_several};
use crate::safety::finding::{Finding, Severity};
use crate::safety::integrity::Depth;
use crate::source::{FileSource, SharedSource};

/// Files that are examined before their lines are printed.
const BATCH: usize = 256;

/// Options of `ckpt check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An archive of checkpoints (zip, tar, .nemo, .mar, also compressed) has a report of its own, and one for each checkpoint \
in it.\n\n\
Examples:\n  ckpt check download.pth\n  ckpt check -R --fail-on error models/\n  \
ckpt check --write-allow ours.txt model.pth\n  ckpt check --allow-from ours.txt --allow 'mymodels.*' model.pth\n  \
ckpt check --json --numerics model.pth | jq .findings")]
pub struct Args {
    /// Files, directories of a checkpoint in several files, or members of archives (`ARCHIVE::member`); `-` is standard input
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Check directories recursively; print one line per file that is, or contains, a checkpoint. What is named like one
    /// (`.pt`, `.bin`, `.tar.gz`, …) and is none, a dangling link, a pipe, a directory that cannot be read is an error
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Exit with status 1 if any finding is at least this severe
    #[arg(long, value_enum, default_value = "warning", value_name = "SEVERITY")]
    pub fail_on: Severity,
    /// Also look for NaN, infinities, zeros and subnormal numbers in the tensors
    #[arg(long)]
    pub numerics: bool,
    /// With --recursive, name the files that were left aside
    #[arg(short, long, requires = "recursive")]
    pub verbose: bool,
    /// Read no tensor data: no checksums
    #[arg(long, conflicts_with = "numerics")]
    pub no_data: bool,
    /// Report as an error what this asks for and a file is not
    #[arg(long, value_enum, value_name = "WHAT")]
    pub require: Option<Requirement>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub allow: AllowArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: LimitArgs,
}

/// What a file may be asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// torch.load(weights_only=True) opens it.
    WeightsOnly,
}

/// Checks the inputs; one that cannot be opened does not keep the others from being checked.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let limits = args.limits.limits();
    input::stdin_once(&args.inputs)?;
    let allow = args.allow.read()?;
    let status = match args.recursive {
        true => check_many(args, &allow, &limits)?,
        false => check_each(args, &allow, &limits)?,
    };
    args.allow.finish(&allow)?;
    Ok(status)
}

fn check_each(args: &Args, allow: &Allow, limits: &Limits) -> anyhow::Result<Status> {
    let (mut status, mut printed) = (Status::Success, 0_u64);
    for input in &args.inputs {
        for (name, checked) in check_input(args, allow, input, limits) {
            match checked {
                Ok(check) => {
                    if printed > 0 && !args.output.wants_json() {
                        args.output.print(&Blank)?;
                    }
                    args.output.print(&check)?;
                    printed += 1;
                    status = status.max(args.answer(&check));
                }
                Err(e) => {
                    args.output.refuse(&name, &e)?;
                    status = Status::Trouble;
                }
            }
        }
    }
    Ok(status)
}

/// The inputs, and all files below those that are directories, in parallel, one line each in the order of their names.
/// What is below a directory and no checkpoint is counted, and refused where it is called like one.
fn check_many(args: &Args, allow: &Allow, limits: &Limits) -> anyhow::Result<Status> {
    let mut many = Many { args, status: Status::Success, summary: Summary::default() };
    for input in &args.inputs {
        let found = match input.is_dir() {
            true => below(input, limits),
            false => vec![Below { path: input.clone(), kind: BelowKind::Input }],
        };
        let mut others = 0;
        for batch in found.chunks(BATCH) {
            let checked: Vec<Vec<Checked>> =
                batch.par_iter().with_max_len(1).map(|below| check_below(args, allow, below, limits)).collect();
            let mut lines = Lines::default();
            for (file, check) in checked.into_iter().flatten() {
                match check {
                    Ok(check) => {
                        many.summary.add(check.verdict);
                        many.status = many.status.max(args.answer(&check));
                        lines.0.push(check);
                    }
                    Err(e) if file != *input && is_other_file(&e) && !is_called_a_checkpoint(&file) => {
                        others += 1;
                        many.left_aside(&e)?;
                    }
                    Err(e) => {
                        args.print_lines(&mut lines)?;
                        many.refuse(&file, &e)?;
                    }
                }
            }
            args.print_lines(&mut lines)?;
        }
        if others == found.len() {
            many.refuse(input, &no_checkpoint_below(input).into())?;
        }
    }
    if !args.output.wants_json() {
        args.output.print(&many.summary)?;
    } else if many.summary.left_aside > 0 && args.verbose {
        args.output.note("in all", counted(many.summary.left_aside, "file") + " left aside");
    }
    Ok(many.status)
}

/// Many files, and what they have come to so far.
struct Many<'a> {
    args: &'a Args,
    status: Status,
    summary: Summary,
}

impl Many<'_> {
    fn refuse(&mut self, file: &Path, e: &anyhow::Error) -> std::io::Result<()> {
        self.status = Status::Trouble;
        self.summary.unreadable += 1;
        self.args.output.refuse(file, e)
    }

    fn left_aside(&mut self, why: &anyhow::Error) -> std::io::Result<()> {
        self.summary.left_aside += 1;
        if self.args.verbose {
            say(format_args!("left aside: {}", worded(why)));
        }
        Ok(())
    }
}

fn check_below(args: &Args, allow: &Allow, below: &Below, limits: &Limits) -> Vec<Checked> {
    let refused = |e: Error| {
        let e = anyhow::Error::new(e).context(below.path.display().to_string());
        vec![(below.path.clone(), Err(e))]
    };
    match &below.kind {
        BelowKind::Input => check_input(args, allow, &below.path, limits),
        BelowKind::Unreadable(e) => refused(e.again()),
        BelowKind::LinkedDirectory => {
            refused(Error::not_a_checkpoint("is a link to a directory, which is not followed"))
        }
    }
}

fn is_other_file(e: &anyhow::Error) -> bool {
    let ours = e.chain().find_map(|cause| cause.downcast_ref::<crate::error::Error>());
    ours.is_some_and(|e| e.kind() == ErrorKind::NotACheckpoint)
}

/// An input, or a checkpoint in an archive, by its name.
type Checked = (PathBuf, anyhow::Result<Check>);

/// What an input comes to: one report, or one for an archive and one for each checkpoint in it.
fn check_input(args: &Args, allow: &Allow, input: &Path, limits: &Limits) -> Vec<Checked> {
    let shown = input.display().to_string();
    let examined = match examine_input(args, input, limits) {
        Ok(examined) => examined,
        Err(e) => vec![(shown.clone(), Err(e))],
    };
    let named = |(name, examined): (String, crate::error::Result<Examined>)| {
        let path = path_of(input, &name);
        let checked = examined.with_context(|| name.clone()).map(|examined| {
            let examined = as_asked(args, allow, &name, examined);
            report(name, &path, examined)
        });
        (path, checked)
    };
    examined.into_iter().map(named).collect()
}

/// What was found, with what is allowed and required.
fn as_asked(args: &Args, allow: &Allow, name: &str, mut examined: Examined) -> Examined {
    for global in allow.apply(&mut examined) {
        args.output.note(name, format_args!("{global} is dangerous: --allow takes it only under its exact name"));
    }
    if args.require == Some(Requirement::WeightsOnly) {
        examined.require_weights_only();
    }
    examined
}

fn report(file: String, path: &Path, examined: Examined) -> Check {
    let weights_only = examined.weights_only;
    let rows = examined.globals.into_iter().map(|global| GlobalRow {
        name: global.name,
        status: status_name(global.status),
        uses: global.used.called + global.used.named,
        how: match (global.used.called, global.used.built) {
            (0, _) => "named",
            (_, 0) => "called",
            _ => "built",
        },
        allowed: global.allowed,
    });
    Check {
        schema: Check::SCHEMA,
        file,
        file_bytes: file_bytes(path),
        container: examined.container.map(|container| container.name()).or(examined.archive),
        verdict: verdict(&examined.findings),
        weights_only,
        globals: rows.collect(),
        findings: examined.findings.into_iter().map(advised).collect(),
    }
}

/// With what to do about it, in the words of the command line.
fn advised(mut finding: Finding) -> Finding {
    if let Some(advice) = finding.advice.take() {
        finding.message = format!("{}; {}", finding.message, advice.spoken(flag));
    }
    finding
}

fn examine_input(args: &Args, input: &Path, limits: &Limits) -> crate::error::Result<Vec<Named>> {
    let depth = Depth { data: !args.no_data, numerics: args.numerics };
    let shown = input.display().to_string();
    let mut layout = match input::layout(input, limits, true) {
        Ok(layout) => layout,
        Err(e) if e.kind() == ErrorKind::Unsupported && !input.is_dir() => return Err(e),
        Err(e) => return examine_refused(e).map(|examined| vec![(shown, Ok(examined))]),
    };
    if let Some(contents) = layout.contents(limits) {
        return examine_all(layout.file().unwrap_or(input), &contents, &shown, depth);
    }
    if !input.exists() {
        // in an archive
        let (files, are_shards, limits) = (layout.files(), layout.shards().is_some(), layout.limits(limits));
        let examined = examine_several(files.into_iter(), are_shards, layout.open(&limits, &Silent), &limits, depth)?;
        return Ok(vec![(shown, Ok(examined))]);
    }
    let unpacked = layout.unpacked_files();
    let shards = layout.shards().map(|(index, shards)| (index.to_owned(), shards));
    let bar = Bar::new(&shown, layout.bytes(), true);
    let opened = layout.open(limits, &bar);
    let open = |dir: &Path, name: &str| FileSource::open(&dir.join(name)).map(|file| Arc::new(file) as SharedSource);
    let examined = match (shards, unpacked) {
        (Some((index, shards)), _) => {
            let dir = index.parent().unwrap_or(Path::new(""));
            let parts = shards.into_iter().map(|name| (name.clone(), open(dir, &name)));
            examine_several(parts, true, opened, limits, depth)
        }
        (None, Some(files)) => examine_several(files.into_iter(), false, opened, limits, depth),
        (None, None) => {
            let names = fs::read_dir(input)?.map(|entry| Ok(entry?.file_name()));
            let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
            names.retain(|name| input.join(name).is_file());
            names.sort();
            let names = names.iter().map(|name| name.to_string_lossy().into_owned());
            examine_several(names.map(|name| (name.clone(), open(input, &name))), false, opened, limits, depth)
        }
    };
    Ok(vec![(shown, Ok(examined?))])
}

impl Args {
    /// Prints what there is, and keeps nothing.
    fn print_lines(&self, lines: &mut Lines) -> std::io::Result<()> {
        let lines = std::mem::take(lines);
        if lines.0.is_empty() { Ok(()) } else { self.output.print(&lines) }
    }

    fn answer(&self, check: &Check) -> Status {
        let bad = check.findings.iter().any(|finding| finding.severity >= self.fail_on);
        if bad { Status::No } else { Status::Success }
    }
}

/// An empty line between two reports.
struct Blank;

impl crate::render::Report for Blank {
    fn document(&self) -> crate::render::Document<'_> {
        let mut document = crate::render::Document::default();
        document.line("");
        document
    }

    fn write_json(&self, _out: &mut dyn std::io::Write) -> std::io::Result<()> {
        Ok(())
    }
}
