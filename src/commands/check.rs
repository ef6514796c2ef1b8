//! `ckpt check`: whether a file is safe to load and sound, without loading it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rayon::prelude::*;

use crate::commands::input::{self, LimitArgs};
use crate::commands::output::{OutputArgs, is_closed_pipe, say};
use crate::commands::{Status, progress_bar::Bar};
use crate::container::detect::{Framing, detect};
use crate::error::ErrorKind;
use crate::layout::Layout;
use crate::limits::Limits;
use crate::report::check::{Check, GlobalRow, Line, Summary, status_name, verdict};
use crate::safety::examine::{Examined, examine, examine_several};
use crate::safety::finding::Severity;
use crate::safety::integrity::Depth;
use crate::source::{FileSource, SharedSource};

/// Files that are examined before their lines are printed.
const BATCH: usize = 256;

/// Options of `ckpt check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Severities: info (worth knowing), warning (unusual: unknown globals, NaN, trailing data), error (broken or missing),\n\
danger (loading it would run code). Exit status 1 when anything is at or above --fail-on.")]
pub struct Args {
    /// Files, or directories of a checkpoint in several files
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Every file below the directories that is or hides a checkpoint, one line each
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Exit with 1 when there is a finding this bad
    #[arg(long, value_enum, default_value = "warning", value_name = "SEVERITY")]
    pub fail_on: Severity,
    /// Also look for NaN, infinities, zeros and subnormal numbers in the tensors
    #[arg(long)]
    pub numerics: bool,
    /// Read no tensor data: no checksums
    #[arg(long, conflicts_with = "numerics")]
    pub no_data: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: LimitArgs,
}

/// Checks the inputs; one that cannot be opened does not keep the others from being checked.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let limits = args.limits.limits();
    let mut status = Status::Success;
    let mut summary = Summary::default();
    let mut printed = 0u64;
    for input in &args.inputs {
        if args.recursive && input.is_dir() {
            status = status.max(check_below(args, input, &limits, &mut summary)?);
            continue;
        }
        match check_input(args, input, &limits) {
            Ok(check) => {
                if printed > 0 && !args.output.wants_json() {
                    args.output.print(&Blank)?;
                }
                args.output.print(&check)?;
                printed += 1;
                status = status.max(args.answer(&check));
            }
            Err(e) => {
                say(format_args!("{e:#}"));
                status = Status::Trouble;
            }
        }
    }
    if args.recursive && !args.output.wants_json() {
        args.output.print(&summary)?;
    }
    Ok(status)
}

/// All files below a directory, in parallel, printed in the order of their names. What is no checkpoint is passed over.
fn check_below(args: &Args, dir: &Path, limits: &Limits, summary: &mut Summary) -> anyhow::Result<Status> {
    let files = files_below(dir)?;
    let mut status = Status::Success;
    let mut found = 0u64;
    for batch in files.chunks(BATCH) {
        let checked: Vec<anyhow::Result<Check>> =
            batch.par_iter().with_max_len(1).map(|file| check_input(args, file, limits)).collect();
        for check in checked {
            match check {
                Ok(check) => {
                    args.output.print(&Line(&check))?;
                    summary.add(check.verdict);
                    status = status.max(args.answer(&check));
                    found += 1;
                }
                Err(e) if is_closed_pipe(&e) => return Err(e),
                Err(e) if is_other_file(&e) => {}
                Err(e) => {
                    say(format_args!("{e:#}"));
                    status = Status::Trouble;
                }
            }
        }
    }
    if found == 0 && status == Status::Success {
        say(format_args!("{}: no checkpoint in this directory", dir.display()));
        status = Status::Trouble;
    }
    Ok(status)
}

fn is_other_file(e: &anyhow::Error) -> bool {
    let ours = e.chain().find_map(|cause| cause.downcast_ref::<crate::error::Error>());
    ours.is_some_and(|e| e.kind() == ErrorKind::NotACheckpoint)
}

/// Regular files below a directory in the order of their names; links to directories are not followed.
fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let context = || dir.display().to_string();
        for entry in fs::read_dir(&dir).with_context(context)? {
            let entry = entry.with_context(context)?;
            let kind = entry.file_type().with_context(context)?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() || kind.is_symlink() && entry.path().is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn check_input(args: &Args, input: &Path, limits: &Limits) -> anyhow::Result<Check> {
    let shown = input.display().to_string();
    let examined = examine_input(args, input, limits).with_context(|| shown.clone())?;
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
    });
    Ok(Check {
        schema: Check::SCHEMA,
        file: shown,
        container: examined.container.map(|container| container.name()),
        verdict: verdict(&examined.findings),
        weights_only,
        globals: rows.collect(),
        findings: examined.findings,
    })
}

fn examine_input(args: &Args, input: &Path, limits: &Limits) -> crate::error::Result<Examined> {
    let depth = Depth { data: !args.no_data, numerics: args.numerics };
    if !input.is_dir() {
        let source = input::source(input, limits)?;
        if !matches!(detect(source.as_ref()), Ok(Framing::ShardIndex)) {
            return examine(input, &source, limits, depth);
        }
    }
    let layout = Layout::of(input, limits)?;
    let bar = Bar::new(&input.display().to_string(), layout.bytes(), true);
    let opened = layout.open(limits, &bar);
    examine_several(&parts(input)?, opened, limits, depth)
}

/// The files beside an index, or of a directory.
fn parts(input: &Path) -> crate::error::Result<Vec<(String, SharedSource)>> {
    let dir = if input.is_dir() {
        input
    } else {
        input.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().is_file() {
            let source: SharedSource = std::sync::Arc::new(FileSource::open(&entry.path())?);
            found.push((entry.file_name().to_string_lossy().into_owned(), source));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

impl Args {
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
