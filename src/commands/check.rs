//! `ckpt check`: whether a file is safe to load and sound, without loading it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rayon::prelude::*;

use crate::commands::input::{self, LimitArgs};
use crate::commands::ls::no_checkpoint_below;
use crate::commands::output::OutputArgs;
use crate::commands::{Status, progress_bar::Bar};
use crate::error::ErrorKind;
use crate::layout::explain;
use crate::limits::Limits;
use crate::report::check::{Check, GlobalRow, Lines, Summary, status_name, verdict};
use crate::safety::examine::{Examined, examine, examine_refused, examine_several};
use crate::safety::finding::Severity;
use crate::safety::integrity::Depth;
use crate::source::{FileSource, SharedSource};

/// Files that are examined before their lines are printed.
const BATCH: usize = 256;

/// Options of `ckpt check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:\n  ckpt check download.pth\n  ckpt check -R --fail-on error models/\n  \
ckpt check --json --numerics model.pth | jq .findings")]
pub struct Args {
    /// Files, directories of a checkpoint in several files, or members of archives (`ARCHIVE::member`); `-` is standard input
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Check directories recursively; print one line per file that is, or contains, a checkpoint
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Exit with status 1 if any finding is at least this severe
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
    input::stdin_once(&args.inputs)?;
    if args.recursive {
        return check_many(args, &limits);
    }
    let mut status = Status::Success;
    for (number, input) in args.inputs.iter().enumerate() {
        match check_input(args, input, &limits) {
            Ok(check) => {
                if number > 0 && !args.output.wants_json() {
                    args.output.print(&Blank)?;
                }
                args.output.print(&check)?;
                status = status.max(args.answer(&check));
            }
            Err(e) => {
                args.output.refuse(input, &e)?;
                status = Status::Trouble;
            }
        }
    }
    Ok(status)
}

/// The inputs, and all files below those that are directories, in parallel, one line each in the order of their names.
/// What is below a directory and no checkpoint is passed over.
fn check_many(args: &Args, limits: &Limits) -> anyhow::Result<Status> {
    let mut status = Status::Success;
    let mut summary = Summary::default();
    for input in &args.inputs {
        let found = match input.is_dir() {
            true => input::below(input, limits),
            false => Ok(vec![input.clone()]),
        };
        let found = match found {
            Ok(found) => found,
            Err(e) => {
                args.output.refuse(input, &e)?;
                status = Status::Trouble;
                continue;
            }
        };
        let mut others = 0;
        for batch in found.chunks(BATCH) {
            let checked: Vec<anyhow::Result<Check>> =
                batch.par_iter().with_max_len(1).map(|file| check_input(args, file, limits)).collect();
            let mut lines = Lines::default();
            for (file, check) in batch.iter().zip(checked) {
                match check {
                    Ok(check) => {
                        summary.add(check.verdict);
                        status = status.max(args.answer(&check));
                        lines.0.push(check);
                    }
                    Err(e) if file != input && is_other_file(&e) => others += 1,
                    Err(e) => {
                        args.print_lines(&mut lines)?;
                        args.output.refuse(file, &e)?;
                        status = Status::Trouble;
                    }
                }
            }
            args.print_lines(&mut lines)?;
        }
        if others == found.len() {
            args.output.refuse(input, &no_checkpoint_below(input))?;
            status = Status::Trouble;
        }
    }
    if !args.output.wants_json() {
        args.output.print(&summary)?;
    }
    Ok(status)
}

fn is_other_file(e: &anyhow::Error) -> bool {
    let ours = e.chain().find_map(|cause| cause.downcast_ref::<crate::error::Error>());
    ours.is_some_and(|e| e.kind() == ErrorKind::NotACheckpoint)
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
    let layout = match input::layout(input, limits, true) {
        Ok(layout) => layout,
        Err(e) if e.kind() == ErrorKind::Unsupported && !input.is_dir() => return Err(e),
        Err(e) => return examine_refused(e),
    };
    if let Some(contents) = layout.contents(limits) {
        let examined = examine(input, &contents.source, &contents.limits, depth);
        return examined.map_err(|e| explain(e, &contents, &input.display().to_string()));
    }
    let unpacked = layout.unpacked_files();
    let shards = layout.shards().map(|(index, shards)| (index.to_owned(), shards));
    let bar = Bar::new(&input.display().to_string(), layout.bytes(), true);
    let opened = layout.open(limits, &bar);
    let open = |dir: &Path, name: &str| FileSource::open(&dir.join(name)).map(|file| Arc::new(file) as SharedSource);
    match (shards, unpacked) {
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
    }
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
