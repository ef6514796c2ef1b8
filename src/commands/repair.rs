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
use crate::container::archive::Contents;
use crate::container::crlf::without_carriage_returns;
use crate::container::safetensors::read_damaged;
use crate::container::zip::tail::{Interrupted, interrupted};
use crate::error::{ErrorKind, Result};
use crate::layout::explain;
use crate::limits::Limits;
use crate::operations::destination::InPlace;
use crate::pickle::{NodeId, Scan};
use crate::report::figures::counted;
use crate::report::repair::{Action, Repair};
use crate::safety::weights_only::container_reasons;
use crate::source::SharedSource;
use crate::write::append::mend;
use crate::write::atomic::Target;
use crate::write::content::Content;
use crate::write::safetensors::{NamedTensor, write as write_safetensors};
use crate::write::{torch_legacy, torch_zip};

/// Lost tensors that a note names; JSON has all of them.
const MAX_NAMED: usize = 8;

/// Options of `ckpt repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file that was cut off (a full disk, a broken download), has holes of zeros, changed bits or lost members: every tensor that is\n\
whole is saved in a new file that torch loads. Whole means that its checksum is right where the file has one, else that\n\
nothing says otherwise. Tensors that are lost or may be damaged are named with the reason, left out of dicts, and None\n\
elsewhere. The same for files that torch refuses although all tensors are whole: a broken header, an end record that is\n\
missing or leads elsewhere, two archives over each other, a zip made by hand, bytes after the end.\n\
An edit in place that was interrupted: finished where all its bytes are there, else undone.\n\n\
Examples:\n  ckpt repair cut.pth -o rest.pth\n  ckpt repair --keep-damaged flipped.pth -o kept.pth\n  ckpt repair --in-place model.pth")]
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
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let shown = args.input.display().to_string();
    let context = || shown.clone();
    let mut editing = None;
    let source: SharedSource = if args.in_place {
        let file = InPlace::open(&args.input).with_context(context)?;
        let source = file.source().with_context(context)?;
        editing = Some(file);
        source
    } else {
        input::source(&args.input, &args.limits.limits()).with_context(context)?
    };
    let Some(unfinished) = interrupted(&source).with_context(context)?.filter(|edit| !edit.is_padding) else {
        return salvage(args, source, &shown);
    };
    match editing {
        Some(mut file) => mend(file.file(), &unfinished).with_context(context)?,
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
        Repair { output: Some(self.target().display().to_string()), ..report(shown, Action::Nothing) }
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
    match save_rest(source, shown, &limits, args.keep_damaged, args.report.quiet, &mut target)? {
        None => {
            args.report.note(shown, "nothing to repair: every tensor is there, and no checksum says otherwise");
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
/// nothing when the file opens, in torch too, and every tensor is there. `name` stands in messages. What may be damaged is
/// left out, unless it is to be kept.
pub fn save_rest(
    source: SharedSource,
    name: &str,
    limits: &Limits,
    keep_damaged: bool,
    quiet: bool,
    target: &mut dyn FnMut() -> anyhow::Result<Target>,
) -> anyhow::Result<Option<Repair>> {
    let context = || name.to_owned();
    let bar = Bar::new(name, source.len(), quiet);
    let left = Checkpoint::open_damaged(Arc::clone(&source), limits, &bar);
    let is_doubtful =
        |checkpoint: &Checkpoint| checkpoint.pickle_doubt().is_some() || checkpoint.lost_constants().is_some();
    let is_broken = left.as_ref().map_or(true, is_doubtful);
    if is_broken && let Some(restored) = without_carriage_returns(&source, limits).with_context(context)? {
        copy(&restored, restored.len(), target)?;
        let note = "a transfer had changed each LF to CR LF; with that undone every checksum is right";
        return Ok(Some(Repair { notes: vec![note.to_owned()], ..report(name, Action::Restored) }));
    }
    // an archive of checkpoints says how to name one of them
    let around = |e| explain(e, &Contents { source: Arc::clone(&source), limits: limits.clone() }, name);
    let mut checkpoint = left.map_err(around).context("nothing can be saved").with_context(context)?;
    if let Some(doubt) = checkpoint.pickle_doubt().filter(|_| !keep_damaged) {
        bail!(
            "{name}: nothing can be saved: {doubt}, so no tensor's name, type or place is sure; --keep-damaged saves \
             what it says"
        );
    }
    let doubtful = if keep_damaged { checkpoint.doubtful().with_context(context)? } else { Vec::new() };
    if !keep_damaged {
        checkpoint.distrust();
    }
    let mut lost = checkpoint.lost().with_context(context)?;
    lost.extend(checkpoint.lost_constants());
    let mut notes = damage(&checkpoint);
    let refused = refused(&source, limits, &bar).with_context(context)?;
    if lost.is_empty() && doubtful.is_empty() && notes.is_empty() && refused.is_empty() {
        let trailing = checkpoint.zip.as_ref().map_or(0, |zip| zip.trailing_bytes);
        if trailing == 0 || checkpoint.compression.is_some() {
            return Ok(None);
        }
        copy(&source, source.len() - trailing, target)?;
        notes.push(format!("dropped {} after the end of the archive; nothing is lost", counted(trailing, "byte")));
        return Ok(Some(Repair { notes, ..report(name, Action::Trimmed) }));
    }
    drop(bar);
    notes.append(&mut checkpoint.notes);
    if notes.is_empty() {
        notes.extend(refused.into_iter().map(|why| format!("was refused: {why}")));
    }
    let tensors = match checkpoint.container {
        Container::Safetensors => safetensors(&checkpoint, name, limits, quiet, target)?,
        Container::Zip | Container::TorchScript | Container::Legacy => {
            let legacy = checkpoint.container == Container::Legacy;
            let root = rest(&mut checkpoint, &mut lost, &mut notes).with_context(context)?;
            write(&mut checkpoint, root, legacy, name, limits, quiet, target)?
        }
        other => bail!(
            "{name}: a damaged {} file is not repaired, only torch's zip and legacy files and safetensors are",
            other.name()
        ),
    };
    Ok(Some(Repair { tensors: Some(tensors), lost, doubtful, notes, ..report(name, Action::Salvaged) }))
}

fn report(name: &str, action: Action) -> Repair {
    Repair {
        schema: Repair::SCHEMA,
        file: name.to_owned(),
        output: None,
        action,
        tensors: None,
        lost: Vec::new(),
        doubtful: Vec::new(),
        notes: Vec::new(),
    }
}

/// What is wrong with an archive beside its tensors.
fn damage(checkpoint: &Checkpoint) -> Vec<String> {
    let Some(zip) = &checkpoint.zip else { return Vec::new() };
    let storages = match zip.top() {
        "" => "data/".to_owned(),
        top => format!("{top}/data/"),
    };
    let told = zip.members.iter().filter(|member| !member.name.starts_with(&storages));
    let told = told.filter_map(|member| Some(format!("{}: {}", member.name, member.doubt.as_deref()?)));
    zip.damage.iter().cloned().chain(told).collect()
}

/// Why the file does not open as it is, here or in torch.
fn refused(source: &SharedSource, limits: &Limits, bar: &Bar) -> Result<Vec<String>> {
    let opened = match Checkpoint::open(Arc::clone(source), limits, bar) {
        Err(e) if e.kind() == ErrorKind::Io => return Err(e),
        Err(e) => return Ok(vec![e.to_string()]),
        Ok(opened) => opened,
    };
    let zip = opened.zip.filter(|_| matches!(opened.container, Container::Zip | Container::TorchScript));
    let reasons = zip.map_or(Ok(Vec::new()), |zip| container_reasons(&zip))?;
    Ok(reasons.into_iter().map(|reason| reason.detail).collect())
}

/// Writes the first `len` bytes of a source.
fn copy(source: &SharedSource, len: u64, target: &mut dyn FnMut() -> anyhow::Result<Target>) -> anyhow::Result<()> {
    let mut output = target()?.create()?;
    output.copy(source.as_ref(), 0, len, &|_| ())?;
    Ok(output.commit()?)
}

/// Writes the tensors of a safetensors file that are all there; gives how many they are.
fn safetensors(
    checkpoint: &Checkpoint,
    name: &str,
    limits: &Limits,
    quiet: bool,
    target: &mut dyn FnMut() -> anyhow::Result<Target>,
) -> anyhow::Result<u64> {
    let in_input = || name.to_owned();
    let source = checkpoint.source.as_ref().with_context(in_input)?;
    let (header, _) = read_damaged(source.as_ref(), limits).with_context(in_input)?;
    let mut tensors = Vec::new();
    for entry in checkpoint.names(&checkpoint.top()).with_context(in_input)?.entries {
        let Item::Tensor(id, _) = entry.item else { continue };
        let Some(tensor) = checkpoint.tensor(id).filter(|tensor| tensor.problem.is_none()) else { continue };
        let elements = tensor.elements(&checkpoint.storages).with_context(in_input)?;
        tensors.push(NamedTensor { name: entry.name(), elements, cast: None });
    }
    if tensors.is_empty() {
        bail!("{name}: no tensor is whole, nothing is written");
    }
    let bar = Bar::new(name, source.len(), quiet);
    let metadata = header.metadata.into_iter().collect();
    let (output, _) = write_safetensors(&target()?, &tensors, &metadata, limits, &bar)?;
    output.commit()?;
    Ok(tensors.len() as u64)
}

/// The object without what is lost.
fn rest(checkpoint: &mut Checkpoint, lost: &mut Vec<Lost>, notes: &mut Vec<String>) -> anyhow::Result<NodeId> {
    if checkpoint.container != Container::TorchScript {
        checkpoint.give_up_lost()?;
        return Ok(checkpoint.root);
    }
    // its classes are code in the archive, which cannot be written again
    notes.push("a TorchScript archive is saved as its state dict".to_owned());
    let names = checkpoint.names(&checkpoint.top())?;
    let known: HashSet<String> = lost.iter().map(|lost| lost.name.clone()).collect();
    let mut left = Vec::new();
    for entry in names.entries.iter().filter(|entry| !known.contains(&entry.name())) {
        match entry.item {
            Item::Tensor(id, true) => left.push((entry.name(), entry.node, Some(id))),
            Item::Tensor(_, false) => {
                lost.push(Lost { name: entry.name(), why: "is whole, but not part of the state dict".to_owned() });
            }
            _ => {}
        }
    }
    checkpoint.give_up_lost()?;
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
    let named = |all: &[Lost]| {
        let named: Vec<&str> = all.iter().take(MAX_NAMED).map(|lost| lost.name.as_str()).collect();
        let more = all.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more (--json names all)") } else { String::new() };
        format!("{}{more}", named.join(", "))
    };
    if let Some(saved) = report.tensors {
        let saved = counted(saved, "tensor");
        let lost =
            if report.lost.is_empty() { "none is lost".to_owned() } else { format!("lost: {}", named(&report.lost)) };
        args.report.note(&report.file, format!("saved {saved}, {lost}"));
    }
    if !report.doubtful.is_empty() {
        args.report.note(&report.file, format!("kept, and maybe damaged: {}", named(&report.doubtful)));
    }
    for lost in report.lost.iter().chain(&report.doubtful).take(MAX_NAMED) {
        args.report.note(&report.file, format!("{}: {}", lost.name, lost.why));
    }
    for note in &report.notes {
        args.report.note(&report.file, note);
    }
}
