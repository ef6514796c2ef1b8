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
use crate::container::compress::Compression;
use crate::container::crlf;
use crate::container::detect::damage::{embedded_start, of_transfer};
use crate::container::safetensors::read_damaged;
use crate::container::zip::tail::{Interrupted, Tail, interrupted};
use crate::container::zip::{Member, Zip};
use crate::error::{ErrorKind, Result};
use crate::layout::explain;
use crate::limits::Limits;
use crate::operations::destination::InPlace;
use crate::pickle::{NodeId, Scan};
use crate::report::figures::counted;
use crate::report::repair::{Action, Repair};
use crate::safety::weights_only::container_reasons;
use crate::source::{SharedSource, Window};
use crate::write::append::mend;
use crate::write::atomic::Target;
use crate::write::content::Content;
use crate::write::rezip::{self, rezip};
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
    let edit = interrupted(&source).with_context(context)?.filter(|edit| edit.tail != Tail::Padding);
    let Some(unfinished) = edit else { return salvage(args, source, &shown) };
    let (action, what) = told(&unfinished);
    // the edit is one thing, what else was damaged another
    let mended = unfinished.mended(&source);
    let mut repaired = rest_of(args, mended, &shown)?;
    if repaired.action == Action::Nothing {
        match editing {
            Some(mut file) => mend(file.file(), &unfinished).with_context(context)?,
            None => write_mended(&source, &unfinished, args).with_context(|| args.target().display().to_string())?,
        }
        repaired.action = action;
    }
    repaired.notes.insert(0, what);
    finish(args, Repair { output: Some(args.target().display().to_string()), ..repaired })
}

/// What is done about an edit in place, or what follows the archive like one.
fn told(unfinished: &Interrupted) -> (Action, String) {
    let dropped = counted(unfinished.tail_len, "unfinished byte");
    match (unfinished.tail, unfinished.finish.is_some()) {
        (Tail::DamagedEdit, true) => {
            (Action::Restored, "restored the zip directory that an edit in place wrote".to_owned())
        }
        (Tail::Edit, true) => (Action::Finished, "finished the interrupted edit".to_owned()),
        (Tail::Edit | Tail::DamagedEdit, false) => (
            Action::Undone,
            format!("undid the interrupted edit: the file is as it was before, {dropped} after it are dropped"),
        ),
        (Tail::Unknown | Tail::Padding, _) => {
            (Action::Trimmed, format!("dropped {dropped} after the end of the archive"))
        }
    }
}

impl Args {
    fn target(&self) -> &Path {
        self.output.as_deref().unwrap_or(&self.input)
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
    let repaired = rest_of(args, source, shown)?;
    if repaired.action == Action::Nothing {
        let what = "nothing to repair: every tensor is there";
        let what = if repaired.verified { format!("{what}, and no checksum says otherwise") } else { what.to_owned() };
        args.report.note(shown, what);
        repaired.notes.iter().for_each(|note| args.report.note(shown, note));
        args.print(&repaired)?;
        return Ok(Status::No);
    }
    finish(args, Repair { output: Some(args.target().display().to_string()), ..repaired })
}

/// Writes what is left of a source, where it needs that.
fn rest_of(args: &Args, source: SharedSource, shown: &str) -> anyhow::Result<Repair> {
    let mut target = || {
        let target = Target::new(args.target(), args.force || args.in_place, Some(&args.input));
        target.with_context(|| args.target().display().to_string())
    };
    repair(source, shown, &args.limits.limits(), args.keep_damaged, args.report.quiet, &mut target)
}

/// Says what was done.
fn finish(args: &Args, report: Repair) -> anyhow::Result<Status> {
    say(args, &report);
    args.print(&report)?;
    Ok(Status::Success)
}

/// The same as [`repair`]; nothing when there is nothing to repair.
pub fn save_rest(
    source: SharedSource,
    name: &str,
    limits: &Limits,
    keep_damaged: bool,
    quiet: bool,
    target: &mut dyn FnMut() -> anyhow::Result<Target>,
) -> anyhow::Result<Option<Repair>> {
    let repaired = repair(source, name, limits, keep_damaged, quiet, target)?;
    Ok(Some(repaired).filter(|repaired| repaired.action != Action::Nothing))
}

/// Saves what is left of a damaged file in the target, which is only asked for when there is something to write:
/// [`Action::Nothing`] when the file opens, in torch too, and every tensor is there. `name` stands in messages. What may be
/// damaged is left out, unless it is to be kept.
fn repair(
    source: SharedSource,
    name: &str,
    limits: &Limits,
    keep_damaged: bool,
    quiet: bool,
    target: &mut dyn FnMut() -> anyhow::Result<Target>,
) -> anyhow::Result<Repair> {
    let e = match repair_at_once(Arc::clone(&source), name, limits, keep_damaged, quiet, target) {
        Err(e) => e,
        repaired => return repaired,
    };
    let context = || name.to_owned();
    let Some(start) = embedded_start(source.as_ref()).with_context(context)? else { return Err(e) };
    let rest = Window::shared(&source, start, source.len() - start).with_context(context)?;
    let Ok(mut repaired) = repair_at_once(Arc::clone(&rest), name, limits, keep_damaged, quiet, target) else {
        return Err(e);
    };
    if repaired.action == Action::Nothing {
        copy(&rest, rest.len(), target)?;
        repaired.action = Action::Trimmed;
    }
    repaired.notes.insert(0, format!("{} before the checkpoint are left off", counted(start, "byte")));
    Ok(repaired)
}

/// The same for a file that begins where its source does.
fn repair_at_once(
    source: SharedSource,
    name: &str,
    limits: &Limits,
    keep_damaged: bool,
    quiet: bool,
    target: &mut dyn FnMut() -> anyhow::Result<Target>,
) -> anyhow::Result<Repair> {
    let context = || name.to_owned();
    let bar = Bar::new(name, source.len(), quiet);
    let left = Checkpoint::open_damaged(Arc::clone(&source), limits, &bar);
    let is_doubtful =
        |checkpoint: &Checkpoint| checkpoint.pickle_doubt().is_some() || checkpoint.lost_constants().is_some();
    let is_broken = left.as_ref().map_or(true, is_doubtful);
    let restored = |target: &mut dyn FnMut() -> anyhow::Result<Target>| {
        let Some((notes, verified, restored)) = restored(&source, limits, &bar).with_context(context)? else {
            return Ok(None);
        };
        copy(&restored, restored.len(), target)?;
        anyhow::Ok(Some(Repair { notes, verified, ..report(name, Action::Restored) }))
    };
    if is_broken && let Some(restored) = restored(target)? {
        return Ok(restored);
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
    let unverified = unverified(&checkpoint);
    let report = |action| Repair { verified: unverified.is_none(), ..report(name, action) };
    let refused = refused(&source, limits, &bar).with_context(context)?;
    if lost.is_empty() && doubtful.is_empty() && notes.is_empty() && refused.is_empty() {
        let trailing = checkpoint.zip.as_ref().map_or(0, |zip| zip.trailing_bytes);
        notes.extend(unverified.clone());
        if trailing == 0 || checkpoint.compression.is_some() {
            return Ok(Repair { notes, ..report(Action::Nothing) });
        }
        copy(&source, source.len() - trailing, target)?;
        notes.insert(0, format!("dropped {} after the end of the archive; nothing is lost", counted(trailing, "byte")));
        return Ok(Repair { notes, ..report(Action::Trimmed) });
    }
    if !is_broken && let Some(restored) = restored(target)? {
        return Ok(restored);
    }
    // without checksums, what a transfer did to the bytes cannot be told from what they were
    let is_told = matches!(checkpoint.container, Container::Legacy | Container::Safetensors);
    if is_told && let Some(cause) = of_transfer(source.as_ref()).with_context(context)? {
        bail!("{name}: nothing can be saved: {cause}; get the file again, in binary mode");
    }
    drop(bar);
    notes.append(&mut checkpoint.notes);
    if notes.is_empty() {
        notes.extend(refused.into_iter().map(|why| format!("was refused: {why}")));
    }
    notes.extend(unverified.clone());
    if checkpoint.container == Container::Npz && checkpoint.zip.as_ref().is_some_and(|zip| !zip.is_complete) {
        notes.push(
            "arrays whose headers are lost cannot be named: the zip directory, which lists all, is damaged".to_owned(),
        );
    }
    if let Some(zip) = checkpoint.zip.clone().filter(|zip| goes_member_by_member(&checkpoint, zip, &lost)) {
        let tensors = member_by_member(&checkpoint, &zip, name, quiet, target)?;
        return Ok(Repair { tensors: Some(tensors), lost, notes, ..report(Action::Salvaged) });
    }
    let tensors = match checkpoint.container {
        Container::Safetensors => safetensors(&checkpoint, name, limits, quiet, target)?,
        Container::Zip | Container::TorchScript | Container::Pt2 | Container::Legacy => {
            let legacy = checkpoint.container == Container::Legacy;
            let root = rest(&mut checkpoint, &mut lost, &mut notes).with_context(context)?;
            write(&mut checkpoint, root, legacy, name, limits, quiet, target)?
        }
        other => bail!(
            "{name}: a damaged {} file is not repaired, only torch's zip and legacy files, safetensors and npz are",
            other.name()
        ),
    };
    Ok(Repair { tensors: Some(tensors), lost, doubtful, notes, ..report(Action::Salvaged) })
}

/// Why nobody can say whether the numbers in a file are those that were written.
fn unverified(checkpoint: &Checkpoint) -> Option<String> {
    let values = "values that were changed cannot be told from right ones";
    // a compressed file as a whole has one, but in the oldest form
    if checkpoint.compression.is_some_and(|compression| compression != Compression::Lzma) {
        return None;
    }
    let Some(zip) = &checkpoint.zip else {
        return Some(format!("{} files have no checksums: {values}", checkpoint.container.name()));
    };
    let is_without = |member: &&Member| member.size > 0 && member.crc32 == 0 && member.doubt.is_none();
    let without = zip.members.iter().filter(is_without).count() as u64;
    (without > 0).then(|| format!("{} of the archive have no checksums: {values}", counted(without, "member")))
}

/// Whether a damaged archive is written again member by member: an npz, of which every array is one, and what has more in it
/// than tensors, when nothing is lost.
fn goes_member_by_member(checkpoint: &Checkpoint, zip: &Zip, lost: &[Lost]) -> bool {
    match checkpoint.container {
        Container::Npz => true,
        Container::TorchScript | Container::Pt2 | Container::Package => lost.is_empty() && rezip::is_whole(zip),
        _ => false,
    }
}

/// Writes the members that are whole; gives how many tensors are in them.
fn member_by_member(
    checkpoint: &Checkpoint,
    zip: &Zip,
    name: &str,
    quiet: bool,
    target: &mut dyn FnMut() -> anyhow::Result<Target>,
) -> anyhow::Result<u64> {
    let in_input = || name.to_owned();
    let entries = checkpoint.names(&checkpoint.top()).with_context(in_input)?.entries;
    let tensors: HashSet<_> = entries
        .iter()
        .filter_map(|entry| match entry.item {
            Item::Tensor(id, _) => checkpoint.tensor(id).filter(|tensor| tensor.problem.is_none()).map(|_| id),
            _ => None,
        })
        .collect();
    if tensors.is_empty() {
        bail!("{name}: no tensor is whole, nothing is written");
    }
    let bar = Bar::new(name, zip.members.iter().map(|member| member.size).sum(), quiet);
    // torch's readers want a folder around everything, numpy none
    let folder = (checkpoint.container != Container::Npz).then_some("archive");
    let folder = folder.map(|folder| if zip.top().is_empty() { folder } else { zip.top() });
    let folder = folder.map(|folder| folder.rsplit('/').next().unwrap_or(folder));
    rezip(zip, folder, &target()?, &bar)?.commit()?;
    Ok(tensors.len() as u64)
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
        verified: true,
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

/// The file as it was before a transfer as text, when it is whole then; what is said of it, and whether checksums prove it.
fn restored(source: &SharedSource, limits: &Limits, bar: &Bar) -> Result<Option<(Vec<String>, bool, SharedSource)>> {
    for (what, restored) in crlf::undone(source)? {
        if let Some(is_whole) = crlf::is_whole_archive(&restored, limits)? {
            if is_whole {
                return Ok(Some((vec![format!("{what}; with that undone every checksum is right")], true, restored)));
            }
            continue;
        }
        // without checksums, that all lengths are right and nothing is left over
        let opened = match Checkpoint::open(Arc::clone(&restored), limits, bar) {
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            Ok(opened) if opened.notes.is_empty() && opened.compression.is_none() => opened,
            _ => continue,
        };
        let has_lengths = matches!(opened.container, Container::Legacy | Container::Safetensors | Container::Pickle);
        if has_lengths && opened.lost()?.is_empty() {
            let notes = vec![format!("{what}; with that undone every length is right")];
            return Ok(Some((notes.into_iter().chain(unverified(&opened)).collect(), false, restored)));
        }
    }
    Ok(None)
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
    // of what is more than tensors, nobody could use a part
    let what = match checkpoint.container {
        Container::TorchScript => "a TorchScript archive",
        Container::Pt2 => "a torch.export archive",
        _ => {
            checkpoint.give_up_lost()?;
            return Ok(checkpoint.root);
        }
    };
    notes.push(format!("{what} of which not all is whole is saved as its state dict"));
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
