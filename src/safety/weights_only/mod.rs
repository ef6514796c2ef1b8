//! Whether `torch.load(weights_only=True)` opens a file, and everything that stands in the way.
//!
//! The unpickler's rules are replayed (opcodes in `machine.rs`, calls in `calls.rs`, states in `states.rs`) with its own
//! tables (`tables.txt`), and the rules of the containers around it. Devices do not count: the question is put with
//! `map_location="cpu"`, after `import torch` and nothing else: torch allows DTensors once `torch.distributed.tensor` is
//! imported.

mod arguments;
mod calls;
mod constructors;
mod encodings;
mod graph;
mod iterate;
mod known_storages;
mod literals;
mod machine;
mod memo;
mod plain;
mod records;
mod replay;
mod states;
mod storages;
mod tables;
mod tensors;
mod value;

pub(crate) use self::graph::{of_graph, opens_mapping, opens_object, takes_global};
use self::known_storages::Storages;
use self::records::{Records, TEXTS};
use self::replay::Replay;
use self::storages::element_bytes;
use self::tables::TABLES;
use self::value::Value;
use crate::container::tar;
use crate::container::zip::{Member, TorchReading, Zip};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::source::{SharedSource, read_vec};

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reason {
    /// `global`, `opcode`, `container`, `call`, `argument`, `build`, `append`, `setitem`, `key`, `persistent-id`,
    /// `storage`, `malformed` or `truncated`.
    pub kind: &'static str,
    /// What: a global's name, an opcode's, a sentence.
    pub detail: String,
    /// The byte of the file, or of its inflated member, where torch would stop.
    pub offset: Option<u64>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Verdict {
    /// The torch whose rules were replayed.
    pub torch: &'static str,
    /// Whether it opens.
    pub opens: bool,
    /// Why not; empty when it does.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    fn of(reasons: Vec<Reason>) -> Self {
        let torch = TABLES.torch.rsplit_once('.').map_or(TABLES.torch, |(minor, _)| minor);
        Verdict { torch, opens: reasons.is_empty(), reasons }
    }

    /// Not opened, because of what the file is as a whole.
    pub(crate) fn container(detail: impl Into<String>) -> Self {
        Self::of(vec![container(detail)])
    }

    /// Not opened, because the container cannot be read.
    pub(crate) fn unreadable(e: &Error) -> Self {
        Self::of(vec![reason(e)])
    }

    /// Refused for one reason more.
    pub(crate) fn refuse(&mut self, kind: &'static str, detail: impl Into<String>) {
        self.opens = false;
        self.reasons.push(Reason { kind, detail: detail.into(), offset: None });
    }

    /// Opened without any unpickler (torch 2.15 passes `*.safetensors` on to the safetensors package).
    pub(crate) fn without_pickle() -> Self {
        Self::of(Vec::new())
    }
}

/// An error about the container, as a reason.
fn reason(e: &Error) -> Reason {
    let member = e.member().map_or(String::new(), |member| format!("{member}: "));
    Reason { kind: "container", detail: format!("{member}{}", e.message()), offset: e.offset() }
}

/// The same, where an error of the device stays one.
fn unreadable(e: Error) -> Result<Reason> {
    if e.kind() == ErrorKind::Io { Err(e) } else { Ok(reason(&e)) }
}

fn container(detail: impl Into<String>) -> Reason {
    Reason { kind: "container", detail: detail.into(), offset: None }
}

/// Whether the unpickler's own list has a global.
pub(super) fn is_allowed(module: &str, name: &str) -> bool {
    TABLES.global(&format!("{module}.{name}")).is_some()
}

/// What a legacy stream must begin with (`torch/serialization.py`, `MAGIC_NUMBER`, `PROTOCOL_VERSION`).
const PROTOCOL_VERSION: i32 = 1001;
/// The file format versions that torch reads (`caffe2/serialize/versions.h`).
const FILE_VERSIONS: std::ops::RangeInclusive<u64> = 1..=10;

/// Why torch does not open a zip archive whose directory could be read, whatever is pickled in it.
pub(crate) fn container_reasons(zip: &Zip) -> Result<Vec<Reason>> {
    let reading = zip.as_torch_reads()?;
    let mut reasons = reasons_of(&Records::of(zip), &reading)?.0;
    let told: Vec<Option<u64>> = reasons.iter().map(|reason| reason.offset).collect();
    let more = reading.as_folders.iter().chain(&reading.unread).filter(|e| !told.contains(&e.offset()));
    reasons.extend(more.map(reason));
    Ok(reasons)
}

/// The reasons, and whether torch goes no further.
fn reasons_of(records: &Records<'_>, reading: &TorchReading) -> Result<(Vec<Reason>, bool)> {
    let zip = records.zip;
    let mut reasons = Vec::new();
    if let Some(e) = &reading.refused {
        return Ok((vec![reason(e)], true));
    }
    if let Some(first) = zip.members.first().filter(|first| !first.name.contains('/')) {
        reasons.push(container(format!("{} is in no folder, as torch wants the first member to be", first.name)));
        return Ok((reasons, true));
    }
    // it asks for all names, and wants each in that folder (`PyTorchStreamReader::getAllRecords`)
    let is_listed = |member: &&Member| {
        let rest = member.name.strip_prefix(zip.top()).and_then(|name| name.strip_prefix('/'));
        rest.is_some() && std::str::from_utf8(member.name_raw()).is_ok()
    };
    if let Some(other) = zip.members.iter().find(|member| !is_listed(member)) {
        let what = format!("{} is not in the folder {}, as torch wants all members to be", other.name, zip.top());
        reasons.push(container(what));
    }
    // a storage is there, whatever is in it
    let is_opened = |name: &str| {
        let name = name.strip_prefix(zip.top()).and_then(|name| name.strip_prefix('/')).unwrap_or(name);
        READ_FIRST.contains(&name) || TEXTS.iter().any(|(text, ..)| *text == name)
    };
    let folders = reading.as_folders.iter().filter(|e| e.member().is_some_and(is_opened));
    reasons.extend(folders.chain(&reading.unread).map(reason));
    let version = if records.find(".data/version").is_some() { ".data/version" } else { "version" };
    match records.bytes(version) {
        Ok(Some(bytes)) => {
            if !literals::leading_number(&bytes).is_some_and(|version| FILE_VERSIONS.contains(&version)) {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                reasons.push(container(format!("file format version {text:?}, torch reads 1 to 10")));
            }
        }
        Ok(None) => reasons.push(container("no member `version`")),
        Err(e) => reasons.push(unreadable(e)?),
    }
    for (name, is_fine, wanted) in TEXTS {
        match records.bytes(name) {
            Ok(Some(bytes)) if !is_fine(&bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                reasons.push(container(format!("{name}: {text:?} is not {wanted}")));
            }
            Ok(_) => {}
            Err(e) => reasons.push(unreadable(e)?),
        }
    }
    let is_found = zip.is_found_by_miniz()?;
    if !is_found {
        reasons.push(container("the last end record does not lead to this directory"));
    }
    Ok((reasons, !is_found))
}

/// What torch reads of every archive.
const READ_FIRST: [&str; 3] = ["data.pkl", "version", ".data/version"];

/// The verdict on a zip archive whose directory could be read.
pub(crate) fn of_zip(zip: &Zip, limits: &Limits) -> Result<Verdict> {
    let records = Records::of(zip);
    let (mut reasons, is_all) = reasons_of(&records, &zip.as_torch_reads()?)?;
    if is_all {
        return Ok(Verdict::of(reasons));
    }
    // looked for in the list of names, so that this one must be spelt so
    if zip.in_top("constants.pkl").is_some() {
        reasons.push(container("a TorchScript archive"));
        return Ok(Verdict::of(reasons));
    }
    let Some(member) = records.find("data.pkl") else {
        reasons.push(container("no member `data.pkl`"));
        return Ok(Verdict::of(reasons));
    };
    let source = match zip.member_source(member) {
        Ok(source) => source,
        Err(e) => {
            reasons.push(unreadable(e)?);
            return Ok(Verdict::of(reasons));
        }
    };
    let record = |key: &str| records.storage(key).map(|member| member.size);
    let mut replay = Replay::new(Storages::new(Some(&record)), limits.objects_for(zip.source().len()));
    replay.takes_ids = true;
    replay.load(&source, 0)?;
    reasons.extend(replay.into_reasons());
    Ok(Verdict::of(reasons))
}

/// The verdict on anything that does not start as a zip does: torch takes it for a tar or a legacy stream.
pub(crate) fn of_stream(source: &SharedSource, limits: &Limits) -> Result<Verdict> {
    let head = read_vec(source.as_ref(), 0, source.len().min(512))?;
    if tar::is_header(&head) {
        return Ok(Verdict::container("the tar container of torch before 0.1.10"));
    }
    let mut replay = Replay::new(Storages::new(None), limits.objects_for(source.len()));
    match replay.load(source, 0)? {
        Some((id, end)) if matches!(replay.value(id), Value::Magic) => {
            legacy(&mut replay, source, end)?;
            Ok(Verdict::of(replay.into_reasons()))
        }
        _ => Ok(Verdict::container("neither a zip archive nor a legacy stream of torch.save")),
    }
}

/// Four pickles after the magic number, then the storages that the last one lists.
fn legacy(replay: &mut Replay<'_>, source: &SharedSource, mut at: u64) -> Result<()> {
    let mut keys = replay::Replay::NONE;
    for part in 1..5 {
        // the objects alone may name storages
        replay.takes_ids = part == 3;
        let Some((id, end)) = replay.load(source, at)? else { return Ok(()) };
        match (part, replay.value(id)) {
            (1, Value::Unknown) => {}
            (1, Value::Int(Some(version))) if *version == i64::from(PROTOCOL_VERSION) => {}
            (1, Value::Float(Some(version))) if *version == f64::from(PROTOCOL_VERSION) => {}
            (1, _) => replay.refuse_at(at, "container", "another protocol version than 1001"),
            _ => {}
        }
        (at, keys) = (end, id);
    }
    let keys = match replay.iterate(keys) {
        Ok(Some(keys)) => keys,
        Ok(None) => return Ok(()),
        Err(why) => {
            replay.refuse_at(at, "storage", format!("the storage keys: {why}"));
            return Ok(());
        }
    };
    for key in keys.iter().copied() {
        if matches!(replay.value(key), Value::Unknown) {
            return Ok(());
        }
        let text = replay.key(key);
        let known = text.as_ref().and_then(|text| replay.storages.by_key.get(text).copied());
        let shown = String::from_utf8_lossy(text.as_deref().unwrap_or(b"?")).replace('\0', "");
        let Some(storage) = known else {
            replay.refuse_at(at, "storage", format!("no object names the storage {shown}"));
            return Ok(());
        };
        let mut count = [0; 8];
        match source.read_at(at, &mut count) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            Err(_) => {
                replay.refuse_at(at, "truncated", format!("ends before storage {shown}"));
                return Ok(());
            }
        }
        let count = i64::from_le_bytes(count);
        let bytes = u64::try_from(count).ok().and_then(|count| count.checked_mul(element_bytes(storage.dtype)));
        let wanted = replay.storages.bytes(storage.place);
        if bytes != Some(wanted) {
            replay.refuse_at(at, "storage", format!("storage {shown} has {count} elements, {wanted} bytes wanted"));
            return Ok(());
        }
        let next = (at + 8).checked_add(wanted).filter(|end| *end <= source.len());
        let Some(next) = next else {
            replay.refuse_at(at, "truncated", format!("ends inside storage {shown}"));
            return Ok(());
        };
        at = next;
    }
    Ok(())
}
