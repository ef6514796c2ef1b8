//! One file, examined: its pickles, the weights-only verdict, its integrity, put together.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use super::finding::{Finding, Severity};
use super::globals::Status;
use super::integrity::{self, Depth};
use super::scan::{Known, Scan, Use, scan, scan_known, scan_row};
use super::weights_only::Verdict;
use crate::checkpoint::{Checkpoint, Container, Tensor};
use crate::container::compress::expand_left;
use crate::container::detect::{Framing, detect};
use crate::container::zip::{Flavor, Zip};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Spot;
use crate::limits::Limits;
use crate::progress::Silent;
use crate::source::SharedSource;

/// A global of a file, sorted.
#[derive(Debug, Clone)]
pub struct SortedGlobal {
    /// Module and qualified name.
    pub name: String,
    /// What to think of it.
    pub status: Status,
    /// How it is used.
    pub used: Use,
    /// Whether the caller vouches for it.
    pub allowed: bool,
}

impl SortedGlobal {
    /// What there is to say of it.
    pub(crate) fn finding(&self) -> Option<Finding> {
        let how = if self.used.called > 0 { "is called" } else { "is named" };
        let shown = self.used.call.as_ref().unwrap_or(&self.name);
        let (severity, code, message) = match self.status {
            Status::Known => return None,
            Status::Unknown => (Severity::Warning, "global-unknown", format!("{shown} {how}: nothing is known of it")),
            Status::Dangerous(why) => (Severity::Danger, "global-dangerous", format!("{shown} {how}: it {why}")),
        };
        Some(Finding::new(severity, code, message, &self.used.place))
    }
}

/// What one file is like.
#[derive(Debug, Default)]
pub struct Examined {
    /// The container, where the file could be opened as one.
    pub container: Option<Container>,
    /// What an archive is that is no checkpoint itself: `zip archive`.
    pub archive: Option<&'static str>,
    /// Whether torch opens it with `weights_only=True`; nothing for directories.
    pub weights_only: Option<Verdict>,
    /// The worst first, then by name.
    pub globals: Vec<SortedGlobal>,
    /// The worst first, then as they were found.
    pub findings: Vec<Finding>,
}

/// Examines one file. Fails when it cannot be read, and with `NotACheckpoint` or `Unsupported` for what is none and
/// hides none.
pub fn examine(name: &Path, source: &SharedSource, limits: &Limits, depth: Depth) -> Result<Examined> {
    Ok(examine_unless(name, source, limits, depth, false)?.unwrap_or_default())
}

/// Gives nothing for archives of checkpoints where these are `apart`.
fn examine_unless(
    name: &Path,
    source: &SharedSource,
    limits: &Limits,
    depth: Depth,
    apart: bool,
) -> Result<Option<Examined>> {
    let framing = detect(source.as_ref());
    match framing {
        Ok(Framing::Compressed(kind)) => {
            let (inner, stopped) = expand_left(source, kind, limits, &Silent)?;
            let damaged = if stopped.is_some() { ", and damaged" } else { "" };
            let verdict = Verdict::container(format!("is compressed ({}){damaged}", kind.name()));
            let limits = limits.of_expanded(source.len());
            let mut out = Examined { weights_only: Some(verdict), ..Examined::default() };
            let opened = open((&inner, None), stopped, &limits);
            Ok(out.opened((&inner, None), opened, &limits, depth, (apart, false))?.then_some(out))
        }
        _ => {
            let zip = match framing {
                Ok(Framing::Zip) => Zip::open(source.clone(), limits).ok().map(Arc::new),
                _ => None,
            };
            let verdict = || weights_only_of(name, source, zip.as_deref(), limits);
            let open = || open((source, zip.clone()), None, limits);
            let mut out = Examined::default();
            let at_once = zip.as_deref().is_some_and(takes_long);
            let (verdict, opened) = if at_once { rayon::join(verdict, open) } else { (verdict(), open()) };
            out.weights_only = Some(verdict?);
            Ok(out.opened((source, zip), opened, limits, depth, (apart, at_once))?.then_some(out))
        }
    }
}

/// Whether the pickle of a checkpoint is worth reading in two ways at once: large enough to take long, and not so large that
/// what both hold takes more than 100 MB and a kilobyte for each key.
fn takes_long(zip: &Zip) -> bool {
    let is_worth_it = zip.in_top("data.pkl").is_some_and(|member| AT_ONCE_BYTES.contains(&member.size));
    is_worth_it && matches!(zip.flavor(), Ok(Flavor::Torch))
}

const AT_ONCE_BYTES: RangeInclusive<u64> = 256 << 10..=16 << 20;

/// The same, but nothing for an archive that is no checkpoint: those in it are to be examined.
pub(crate) fn examine_one(
    name: &Path,
    source: &SharedSource,
    limits: &Limits,
    depth: Depth,
) -> Result<Option<Examined>> {
    examine_unless(name, source, limits, depth, true)
}

/// What opening a file as a checkpoint comes to.
#[derive(Default)]
struct Opened {
    container: Option<Container>,
    findings: Vec<Finding>,
    /// Sparse tensors whose indices break torch's rules: names and rules.
    broken: Vec<(String, String)>,
    /// Why it is none, where it is none.
    other: Option<Error>,
}

/// `zip` is the file's directory, where it has been read; `stopped` is why there are no more bytes of a compressed file.
fn open(
    (source, zip): (&SharedSource, Option<Arc<Zip>>),
    stopped: Option<Error>,
    limits: &Limits,
) -> Result<Checkpoint> {
    match (stopped, zip) {
        (Some(e), _) => Err(e),
        (None, Some(zip)) => Checkpoint::open_zip(zip, limits),
        (None, None) => Checkpoint::open(source.clone(), limits, &Silent),
    }
}

/// Nothing for an archive of checkpoints, where these are `apart`.
fn look(
    opened: Result<&Checkpoint, Error>,
    source: &SharedSource,
    limits: &Limits,
    depth: Depth,
    apart: bool,
) -> Result<Option<Opened>> {
    let mut out = Opened::default();
    match opened {
        Ok(checkpoint) => {
            out.container = Some(checkpoint.container());
            out.findings = or_finding(integrity::of_checkpoint(checkpoint, depth))?;
            // a bound on names that is met is told by what else looks at them
            out.broken = match super::sparse::broken(checkpoint) {
                Err(e) if e.kind() == ErrorKind::Io => return Err(e),
                broken => broken.unwrap_or_default(),
            };
        }
        Err(e) if e.kind() == ErrorKind::Io => return Err(e),
        Err(e) if is_other(&e) => {
            if apart && matches!(detect(source.as_ref()), Ok(Framing::Zip | Framing::Tar)) {
                return Ok(None);
            }
            out.other = Some(e);
        }
        Err(e) => out.findings = integrity::of_broken(source, &e, limits)?,
    }
    Ok(Some(out))
}

/// The members that hold the data of tensors.
fn storages(checkpoint: &Checkpoint) -> HashSet<Spot> {
    let Some(zip) = checkpoint.zip() else { return HashSet::new() };
    let members = checkpoint.storages.iter().filter_map(|(_, storage)| storage.member());
    let members = members.filter(|(of, _)| Arc::ptr_eq(of, zip)).filter_map(|(_, index)| zip.members.get(index));
    members.map(|member| Spot { archive: String::new(), at: member.header_start }).collect()
}

impl Examined {
    /// Looks at what opening a file came to, and goes through the file; false where [`look`] gives nothing. A pickle that was
    /// decoded is not decoded again.
    fn opened(
        &mut self,
        (source, zip): (&SharedSource, Option<Arc<Zip>>),
        opened: Result<Checkpoint>,
        limits: &Limits,
        depth: Depth,
        (apart, at_once): (bool, bool),
    ) -> Result<bool> {
        let known = |checkpoint: &Checkpoint| {
            let read = checkpoint.zip().cloned().filter(|read| Arc::ptr_eq(read.source(), source));
            // without the data of tensors, nothing is looked for in it
            let apart = if depth.data { HashSet::new() } else { storages(checkpoint) };
            Known { zip: zip.clone().or(read), pickle: None, apart }
        };
        let once = opened.as_ref().ok().and_then(|checkpoint| Some((checkpoint, checkpoint.only_pickle()?)));
        let (looked, scanned) = if let Some((checkpoint, pickle)) = once {
            let known = Known { pickle: Some(pickle), ..known(checkpoint) };
            let look = || look(Ok(checkpoint), source, limits, depth, apart);
            let scan = || scan_known(source, known, limits);
            if at_once { rayon::join(look, scan) } else { (look(), scan()) }
        } else {
            // two graphs at once would take twice the memory: this one goes first
            let (known, looked) = match opened {
                Ok(checkpoint) => (known(&checkpoint), look(Ok(&checkpoint), source, limits, depth, apart)),
                Err(e) => (Known { zip, ..Known::default() }, look(Err(e), source, limits, depth, apart)),
            };
            if matches!(looked, Ok(None) | Err(_)) {
                return looked.map(|_| false);
            }
            (looked, scan_known(source, known, limits))
        };
        let Some(looked) = looked? else { return Ok(false) };
        self.put_together(looked, scanned?, source, limits)?;
        Ok(true)
    }

    fn put_together(&mut self, opened: Opened, scanned: Scan, source: &SharedSource, limits: &Limits) -> Result<()> {
        self.container = opened.container;
        self.findings.extend(opened.findings);
        self.sparse(opened.broken);
        let none = match opened.other {
            Some(e) if scanned.is_empty() => return Err(e),
            // a hidden pickle is told as such
            Some(e) if e.kind() != ErrorKind::NotACheckpoint => {
                self.findings.extend(integrity::of_broken(source, &e, limits)?);
                None
            }
            // what is in an archive has been looked at
            Some(e) => Some(e).filter(|_| detect(source.as_ref()).is_err()),
            None => None,
        };
        self.broken_calls();
        let is_none = none.filter(|_| self.findings.is_empty());
        self.take(scanned);
        self.finish();
        match is_none {
            // only harmless pickles hide in it: it is no checkpoint, as every other command says
            Some(e) if self.findings.iter().all(|finding| finding.severity == Severity::Info) => Err(e),
            _ => Ok(()),
        }
    }

    /// Tensors that torch cannot make, with whatever unpickler: their arguments are of other types.
    fn broken_calls(&mut self) {
        // an error that is told already has mostly the same cause
        if self.findings.iter().any(|finding| finding.severity >= Severity::Error) {
            return;
        }
        let reasons = self.weights_only.iter().flat_map(|verdict| &verdict.reasons);
        let broken = reasons.filter(|reason| reason.kind == "argument" && reason.detail.starts_with(REBUILDS));
        let found = broken.take(MAX_BROKEN).map(|reason| {
            let place = reason.offset.map_or(String::new(), |at| format!("byte {at}"));
            Finding::new(
                Severity::Error,
                "tensor-invalid",
                format!("torch cannot make a tensor: {}", reason.detail),
                &place,
            )
        });
        let found: Vec<Finding> = found.collect();
        self.findings.extend(found);
    }

    /// Sparse tensors whose indices break torch's rules, which `weights_only=True` looks at.
    fn sparse(&mut self, broken: Vec<(String, String)>) {
        for (name, rule) in broken {
            if let Some(verdict) = &mut self.weights_only {
                verdict.refuse("argument", format!("the sparse tensor {name}: {rule}"));
            }
            let message = format!("its indices break the rules of sparse tensors: {rule}");
            self.findings.push(Finding::new(Severity::Error, "sparse-invalid", message, &name));
        }
    }
}

/// A file of a checkpoint of several: its name and its bytes.
pub(crate) type Part = (String, Result<SharedSource>);

/// Examines a checkpoint of several files; `opened` is all of them as one. Shards are examined each like a file of its own,
/// of other parts only the pickles are looked at.
pub(crate) fn examine_several(
    parts: impl Iterator<Item = Part>,
    are_shards: bool,
    opened: Result<Checkpoint>,
    limits: &Limits,
    depth: Depth,
) -> Result<Examined> {
    let mut out = Examined::default();
    match opened {
        Ok(checkpoint) => {
            out.container = Some(checkpoint.container());
            out.findings.extend(or_finding(integrity::of_checkpoint(&checkpoint, depth))?);
        }
        Err(e) => out.findings.push(refused(e)?),
    }
    for (name, source) in parts {
        let scanned = match source {
            Ok(source) => part(&source, are_shards, limits, depth)?,
            Err(e) => {
                Scan { findings: vec![Finding::of_error(Severity::Error, "unreadable", &e, "")], ..Scan::default() }
            }
        };
        out.take(within(&name, scanned));
    }
    out.finish();
    Ok(out)
}

/// What was found in one file of several, with places that name it.
fn within(name: &str, mut scanned: Scan) -> Scan {
    let within = |place: &str| if place.is_empty() { name.to_owned() } else { format!("{name}, {place}") };
    for finding in &mut scanned.findings {
        finding.place = Some(within(finding.place.as_deref().unwrap_or_default()));
    }
    for used in scanned.globals.values_mut() {
        used.place = within(&used.place);
    }
    scanned
}

/// One file of several; the numbers of shards were looked at together.
fn part(source: &SharedSource, is_shard: bool, limits: &Limits, depth: Depth) -> Result<Scan> {
    let mut scanned = if is_shard { scan(source, limits)? } else { scan_row(source, limits)? };
    if is_shard {
        let found = match Checkpoint::open(source.clone(), limits, &Silent) {
            Ok(shard) => or_finding(integrity::of_checkpoint(&shard, Depth { numerics: false, ..depth }))?,
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            Err(e) if is_other(&e) => Vec::new(),
            Err(e) => integrity::of_broken(source, &e, limits)?,
        };
        scanned.findings.extend(found);
    }
    Ok(scanned)
}

/// What there is to say of an index that was refused.
pub(crate) fn examine_refused(e: Error) -> Result<Examined> {
    Ok(Examined { findings: vec![refused(e)?], ..Examined::default() })
}

/// An error about a checkpoint of several files as a finding; given back where there is no checkpoint or no reading.
fn refused(e: Error) -> Result<Finding> {
    if matches!(e.kind(), ErrorKind::Io | ErrorKind::NotACheckpoint) {
        return Err(e);
    }
    Ok(Finding::of_error(Severity::Error, integrity::code(e.kind()), &e, ""))
}

/// What is no checkpoint, or of a kind that is not read.
fn is_other(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::NotACheckpoint | ErrorKind::Unsupported)
}

/// A bound that is met, or a member that cannot be read, is a finding too.
fn or_finding(found: Result<Vec<Finding>>) -> Result<Vec<Finding>> {
    match found {
        Err(e) if e.kind() == ErrorKind::Io => Err(e),
        Err(e) => Ok(vec![Finding::of_error(Severity::Error, "unreadable", &e, "")]),
        found => found,
    }
}

/// Whether torch opens a file of this name and content with `weights_only=True`.
pub fn weights_only(name: &Path, source: &SharedSource, limits: &Limits) -> Result<Verdict> {
    weights_only_of(name, source, None, limits)
}

/// The same, where the directory of a zip may have been read.
fn weights_only_of(name: &Path, source: &SharedSource, zip: Option<&Zip>, limits: &Limits) -> Result<Verdict> {
    let mut head = [0; 4];
    let is_zip = source.len() >= 4 && source.read_at(0, &mut head).map(|()| head == *b"PK\x03\x04")?;
    let framing = detect(source.as_ref());
    let found = match framing {
        _ if is_zip => match zip {
            Some(zip) => super::weights_only::of_zip(zip, limits),
            None => Zip::open(source.clone(), limits).and_then(|zip| super::weights_only::of_zip(&zip, limits)),
        },
        // torch 2.15 goes by the name here
        Ok(Framing::Safetensors) if name.extension().is_some_and(|ending| ending == "safetensors") => {
            match Checkpoint::open(source.clone(), limits, &Silent) {
                Ok(opened) => Ok(match opened.tensors.iter().find_map(unknown_to_safetensors) {
                    Some(dtype) => Verdict::container(format!("safetensors knows no dtype {dtype}")),
                    None => Verdict::without_pickle(),
                }),
                Err(e) => Ok(Verdict::unreadable(&e)),
            }
        }
        Ok(Framing::Compressed(kind)) => Ok(Verdict::container(format!("is compressed ({})", kind.name()))),
        _ => super::weights_only::of_stream(source, limits),
    };
    match found {
        Err(e) if e.kind() == ErrorKind::Io => Err(e),
        Err(e) => Ok(Verdict::unreadable(&e)),
        found => found,
    }
}

/// What torch's constructors of tensors begin with.
const REBUILDS: &str = "torch._utils._rebuild_";
/// Such findings that are told.
const MAX_BROKEN: usize = 20;

/// A dtype that this program carries as bytes, and the safetensors package refuses.
fn unknown_to_safetensors(tensor: &Tensor) -> Option<&str> {
    tensor.dtype.as_ref().filter(|dtype| dtype.size().is_none()).map(DType::name)
}

impl Examined {
    pub(super) fn take(&mut self, scanned: Scan) {
        let named = |(at, global): (usize, &SortedGlobal)| (global.name.clone(), at);
        let mut known: HashMap<String, usize> = self.globals.iter().enumerate().map(named).collect();
        for ((module, name), used) in scanned.globals {
            let full = format!("{module}.{name}");
            match known.get(&full).and_then(|at| self.globals.get_mut(*at)) {
                Some(known) => {
                    known.used.add(used);
                    known.status = known.used.status(&module, &name);
                }
                None => {
                    known.insert(full.clone(), self.globals.len());
                    let status = used.status(&module, &name);
                    self.globals.push(SortedGlobal { name: full, status, used, allowed: false });
                }
            }
        }
        self.findings.extend(scanned.findings);
    }

    /// Adds what the pickles in other files would do, by the files' names.
    pub(crate) fn take_beside(&mut self, files: Vec<(String, SharedSource)>, limits: &Limits) -> Result<()> {
        // they come again with all globals, sorted anew
        self.findings.retain(|finding| !matches!(finding.code, "global-unknown" | "global-dangerous"));
        for (name, source) in files {
            self.take(within(&name, scan(&source, limits)?));
        }
        self.finish();
        Ok(())
    }

    /// Makes it a finding that torch does not open the file with `weights_only=True`.
    pub(crate) fn require_weights_only(&mut self) {
        if let Some(verdict) = self.weights_only.as_ref().filter(|verdict| !verdict.opens) {
            let mut message = format!("torch {} does not open it with weights_only=True", verdict.torch);
            if let Some(reason) = verdict.reasons.first() {
                message.push_str(&format!(": {}", reason.detail));
            }
            self.findings.push(Finding::new(Severity::Error, "weights-only", message, ""));
            self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        }
    }

    pub(super) fn finish(&mut self) {
        self.globals.sort_by(|a, b| rank(b.status).cmp(&rank(a.status)).then_with(|| a.name.cmp(&b.name)));
        self.findings.extend(self.globals.iter().filter_map(SortedGlobal::finding));
        // the sort is stable: findings of one severity stay in their order
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }
}

fn rank(status: Status) -> u8 {
    match status {
        Status::Known => 0,
        Status::Unknown => 1,
        Status::Dangerous(_) => 2,
    }
}
