//! `ckpt repair`: an edit in place that was interrupted is finished where all its bytes are there, else undone; of a
//! damaged file every tensor that is whole is saved.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::checkpoint::resave::{Resave, resave, state_dict};
use crate::checkpoint::salvage::Lost;
use crate::checkpoint::{Checkpoint, Container, Item};
use crate::commands::Status;
use crate::commands::input::{self, LimitArgs};
use crate::commands::output::OutputArgs;
use crate::commands::progress_bar::Bar;
use crate::commands::rename::open_for_editing;
use crate::container::zip::tail::{Interrupted, interrupted};
use crate::limits::Limits;
use crate::pickle::{NodeId, Scan};
use crate::report::figures::counted;
use crate::report::repair::{Action, Repair};
use crate::safety::finding::Severity;
use crate::safety::integrity::checksums;
use crate::source::{FileSource, SharedSource};
use crate::write::append::mend;
use crate::write::atomic::Target;
use crate::write::content::Content;
use crate::write::{torch_legacy, torch_zip};

/// Lost tensors that a note names; JSON has all of them.
const MAX_NAMED: usize = 8;

/// Options of `ckpt repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file that was cut off (a full disk, a broken download) or lost members: every tensor whose bytes are all there is saved\n\
in a new file that torch loads; those that are lost are named, left out of dicts, and None elsewhere.\n\
An edit in place that was interrupted: finished where all its bytes are there, else undone.\n\n\
Examples:\n  ckpt repair cut.pth -o rest.pth\n  ckpt repair --in-place model.pth")]
pub struct Args {
    /// The file; `-` is standard input
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// Where to write; `-` is standard output
    #[arg(short, long, value_name = "OUTPUT", required_unless_present = "in_place", conflicts_with = "in_place")]
    pub output: Option<PathBuf>,
    /// Repair the file itself
    #[arg(long)]
    pub in_place: bool,
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
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let shown = args.input.display().to_string();
    let context = || shown.clone();
    let mut editing = None;
    let source: SharedSource = if args.in_place {
        let (_, file) = open_for_editing(&args.input).with_context(context)?;
        let source = FileSource::from_file(file.try_clone()?).with_context(context)?;
        editing = Some(file);
        Arc::new(source)
    } else {
        input::source(&args.input, &args.limits.limits()).with_context(context)?
    };
    let Some(unfinished) = interrupted(&source).with_context(context)? else {
        return salvage(args, source, &shown);
    };
    match editing {
        Some(mut file) => mend(&mut file, &unfinished).with_context(context)?,
        None => write_mended(&source, &unfinished, args).with_context(|| args.target().display().to_string())?,
    }
    let action = if unfinished.finish.is_some() { Action::Finished } else { Action::Undone };
    let what = match action {
        Action::Finished => "finished the interrupted edit; nothing is lost".to_owned(),
        _ => format!(
            "undid the interrupted edit: the file is as it was before, {} after it are dropped",
            counted(unfinished.tail_len, "unfinished byte")
        ),
    };
    args.report.note(&shown, what);
    args.print(&Repair { action, ..args.nothing_done(&shown) })?;
    Ok(Status::Success)
}

impl Args {
    fn target(&self) -> &Path {
        self.output.as_deref().unwrap_or(&self.input)
    }

    /// The report of a repair that has nothing to tell yet.
    fn nothing_done(&self, shown: &str) -> Repair {
        Repair {
            schema: Repair::SCHEMA,
            file: shown.to_owned(),
            output: Some(self.target().display().to_string()),
            action: Action::Nothing,
            tensors: None,
            lost: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn print(&self, report: &Repair) -> std::io::Result<()> {
        if self.report.wants_json() { self.report.print(report) } else { Ok(()) }
    }
}

/// Writes what an interrupted edit should have come to, or what there was before it.
fn write_mended(source: &SharedSource, unfinished: &Interrupted, args: &Args) -> anyhow::Result<()> {
    let mut output = Target::new(args.target(), args.force, Some(&args.input))?.create()?;
    let (keep, then) = match &unfinished.finish {
        Some(finish) => (finish.at, finish.bytes.as_slice()),
        None => (unfinished.old_len, &[][..]),
    };
    output.copy(source.as_ref(), 0, keep, &|_| ())?;
    output.write_all(then)?;
    Ok(output.commit()?)
}

fn salvage(args: &Args, source: SharedSource, shown: &str) -> anyhow::Result<Status> {
    let limits = args.limits.limits();
    let at_target = || args.target().display().to_string();
    let mut target =
        || Target::new(args.target(), args.force || args.in_place, Some(&args.input)).with_context(at_target);
    match save_rest(source, shown, &limits, args.report.quiet, &mut target)? {
        None => {
            args.report.note(shown, "nothing to repair: every tensor is there; `ckpt check` looks closer");
            args.print(&Repair { output: None, ..args.nothing_done(shown) })?;
            Ok(Status::No)
        }
        Some(saved) => {
            let report = Repair { output: Some(at_target()), ..saved };
            say(args, &report);
            args.print(&report)?;
            Ok(Status::Success)
        }
    }
}

/// Saves what is left of a damaged file in the target, which is only asked for when there is something to write; gives
/// nothing when the file opens and every tensor is there. `name` stands in messages.
pub fn save_rest(
    source: SharedSource,
    name: &str,
    limits: &Limits,
    quiet: bool,
    target: &mut dyn FnMut() -> anyhow::Result<Target>,
) -> anyhow::Result<Option<Repair>> {
    let context = || name.to_owned();
    let bar = Bar::new(name, source.len(), quiet);
    let left = Checkpoint::open_damaged(Arc::clone(&source), limits, &bar);
    let mut checkpoint = left.context("nothing can be saved").with_context(context)?;
    let lost = checkpoint.lost().with_context(context)?;
    if lost.is_empty() && Checkpoint::open(source, limits, &bar).is_ok() {
        return Ok(None);
    }
    drop(bar);
    let legacy = match checkpoint.container {
        Container::Zip | Container::TorchScript => false,
        Container::Legacy => true,
        other => {
            bail!("{name}: a damaged {} file is not repaired, only torch's zip and legacy files are", other.name())
        }
    };
    let mut notes = Vec::new();
    if let Some(zip) = &checkpoint.zip {
        let mut found = Vec::new();
        checksums(zip, &mut found).with_context(context)?;
        found.retain(|finding| finding.severity >= Severity::Error);
        notes.extend(found.into_iter().map(|finding| match finding.place {
            Some(place) => format!("{place}: {}; its bytes are kept as they are", finding.message),
            None => finding.message,
        }));
    }
    let root = rest(&mut checkpoint, &lost, &mut notes).with_context(context)?;
    let tensors = write(&mut checkpoint, root, legacy, name, limits, quiet, target)?;
    Ok(Some(Repair {
        schema: Repair::SCHEMA,
        file: name.to_owned(),
        output: None,
        action: Action::Salvaged,
        tensors: Some(tensors),
        lost,
        notes,
    }))
}

/// The object without what is lost.
fn rest(checkpoint: &mut Checkpoint, lost: &[Lost], notes: &mut Vec<String>) -> anyhow::Result<NodeId> {
    if checkpoint.container != Container::TorchScript {
        checkpoint.give_up_lost();
        return Ok(checkpoint.root);
    }
    // its classes are code in the archive, which cannot be written again
    notes.push("a TorchScript archive is saved as its state dict".to_owned());
    let names = checkpoint.names(&checkpoint.top())?;
    let left = names.entries.iter().filter_map(|entry| match entry.item {
        Item::Tensor(id, true) => Some((entry.name(), entry.node, id)),
        _ => None,
    });
    let left: Vec<_> = left.filter(|(name, ..)| !lost.iter().any(|lost| lost.name == *name)).collect();
    checkpoint.give_up_lost();
    let left: Vec<_> = left.into_iter().map(|(name, node, id)| (name, node, Some(id))).collect();
    Ok(state_dict(checkpoint, &left, None)?)
}

/// Writes the object; gives how many tensors are in it.
fn write(
    checkpoint: &mut Checkpoint,
    root: NodeId,
    legacy: bool,
    name: &str,
    limits: &Limits,
    quiet: bool,
    target: &mut dyn FnMut() -> anyhow::Result<Target>,
) -> anyhow::Result<u64> {
    let in_input = || name.to_owned();
    let mut storages = resave(checkpoint, root, &Resave { legacy, ..Resave::default() }).with_context(in_input)?;
    // what the damaged file states of its bytes is not believed
    storages.iter_mut().for_each(|storage| storage.crc = None);
    let scan = Scan::new(&checkpoint.graph, root).with_context(in_input)?;
    let tensors: HashSet<_> = scan.order().iter().filter_map(|node| checkpoint.tensors.of(*node)).collect();
    if tensors.is_empty() {
        bail!("{name}: no tensor is whole, nothing is written");
    }
    let mut bytes = 0_u64;
    for storage in &storages {
        let content = Content::of_storage(storage).with_context(in_input)?;
        bytes = bytes.saturating_add(content.bytes(limits).with_context(in_input)?);
    }
    let bar = Bar::new(name, bytes, quiet);
    let write = if legacy { torch_legacy::write } else { torch_zip::write };
    let target = target()?;
    let in_output = || match &target {
        Target::File { path, .. } => path.display().to_string(),
        _ => "standard output".to_owned(),
    };
    let (output, _) = write(&target, &checkpoint.graph, &scan, &storages, limits, &bar).with_context(in_output)?;
    output.commit().with_context(in_output)?;
    Ok(tensors.len() as u64)
}

/// What was saved and what is lost, for people.
fn say(args: &Args, report: &Repair) {
    let saved = counted(report.tensors.unwrap_or_default(), "tensor");
    let lost = match report.lost.as_slice() {
        [] => "none is lost".to_owned(),
        lost => {
            let named: Vec<&str> = lost.iter().take(MAX_NAMED).map(|lost| lost.name.as_str()).collect();
            let more = lost.len().saturating_sub(MAX_NAMED);
            let more = if more > 0 { format!(" and {more} more (--json names all)") } else { String::new() };
            format!("lost: {}{more}", named.join(", "))
        }
    };
    args.report.note(&report.file, format!("saved {saved}, {lost}"));
    for note in &report.notes {
        args.report.note(&report.file, note);
    }
}
