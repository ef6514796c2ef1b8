//! Every pickle in a file, wherever it hides, and every global that it names.
//!
//! Pickles lie one after the other in a stream, in members of archives, in compressed files, in arrays of objects, in
//! the bytes that a pickle hands to `_load_from_bytes` or `loads`, and where they should not: behind other data, in
//! members with other names. A pickle that breaks has run all that stands before the break, so that counts too.

mod archives;
mod calls;
mod conditions;
mod configurations;
mod directories;
mod expand;
mod hidden;
mod loaders;
mod made;
mod members;
mod memory;
mod reached;
mod search;
mod streams;
mod texts;
mod uses;
mod walking;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

pub(super) use conditions::loose;
pub(in crate::safety) use loaders::{LIBRARIES, LIBRARY_STARTS, PYTHON};
use loaders::{Reading, Seen, not_expanded, readings};

use super::finding::{Finding, Severity};
use super::globals::{Status, judge};
use crate::container::compress::{Compression, expand_left};
use crate::container::detect::{Framing, detect};
use crate::container::zip::Zip;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Spot;
use crate::limits::Limits;
use crate::message::Setting;
use crate::pickle::{Decoded, Graph};
use crate::progress::Silent;
use crate::source::{MemorySource, SharedSource, read_vec};

/// How deep archives, compression and pickles in pickles may nest.
const MAX_DEPTH: usize = 12;
/// What beginning to read something costs, in opcodes.
const STEPS_EACH: u64 = 2000;
/// Findings of one kind are told one by one up to here, then counted.
const MAX_TOLD: u64 = 100;

/// Bytes of a file of an unknown kind that are searched for dangerous globals.
const MOST_SEARCHED: u64 = 16 << 20;

/// How a global is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    /// How many objects a call of it makes.
    pub called: u64,
    /// How often it is only named: handed on as an argument, kept as a value.
    pub named: u64,
    /// How many of its objects are given a state.
    pub built: u64,
    /// Whether one of these uses is not one that makes a conditional global harmless.
    pub is_loose: bool,
    /// The first call of it, as Python would write it.
    pub call: Option<String>,
    /// Where it is named first.
    pub place: String,
}

impl Use {
    /// What to think of this global, used so.
    pub(crate) fn status(&self, module: &str, name: &str) -> Status {
        judge(module, name, !self.is_loose)
    }

    /// Takes in other uses of the same global.
    pub(crate) fn add(&mut self, other: Use) {
        self.called += other.called;
        self.named += other.named;
        self.built += other.built;
        self.is_loose |= other.is_loose;
        if self.call.is_none() {
            self.call = other.call;
        }
        if self.place.is_empty() {
            self.place = other.place;
        }
    }
}

/// What the pickles of a file would do.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// By module and name.
    pub globals: BTreeMap<(String, String), Use>,
    /// What was found besides.
    pub findings: Vec<Finding>,
    /// Pickles read, broken ones included.
    pub pickles: u64,
}

impl Scan {
    /// Whether no pickle and nothing else was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.pickles == 0 && self.globals.is_empty() && self.findings.is_empty()
    }
}

/// Goes through a file. What cannot be read or understood is a finding; fails only when the file itself cannot be read.
pub(crate) fn scan(source: &SharedSource, limits: &Limits) -> Result<Scan> {
    scan_as(source, limits, false, &HashSet::new(), Known::default())
}

/// The same of a file of which something is known.
pub(crate) fn scan_known(source: &SharedSource, known: Known<'_>, limits: &Limits) -> Result<Scan> {
    let apart = known.apart.clone();
    scan_as(source, limits, false, &apart, known)
}

/// The same of an archive without the members `apart`, which are looked at on their own.
pub(crate) fn scan_without(source: &SharedSource, limits: &Limits, apart: &HashSet<Spot>) -> Result<Scan> {
    scan_as(source, limits, false, apart, Known::default())
}

/// The same for one of the files of a checkpoint, which may be many archives in a row (`torch.distributed.checkpoint`).
pub(crate) fn scan_row(source: &SharedSource, limits: &Limits) -> Result<Scan> {
    scan_as(source, limits, true, &HashSet::new(), Known::default())
}

fn scan_as(
    source: &SharedSource,
    limits: &Limits,
    is_row: bool,
    apart: &HashSet<Spot>,
    known: Known<'_>,
) -> Result<Scan> {
    let (left, left_bytes) = (limits.objects_for(source.len()), limits.expanded_for(source.len()));
    // a long pickle among the files of a checkpoint, as an index is, is also searched for archives
    let more = if is_row { source.len().saturating_mul(limits.scan_steps_per_byte) } else { 0 };
    let left_steps = limits.scan_steps_for(source.len()).saturating_add(more);
    let mut scanner = Scanner::new(limits, left, left_bytes, left_steps);
    scanner.is_row = is_row;
    scanner.opened = known.zip;
    scanner.decoded = known.pickle;
    scanner.apart = Some(apart).filter(|apart| !apart.is_empty());
    scanner.file(source, "", 0)?;
    Ok(scanner.finish())
}

struct Scanner<'a> {
    limits: &'a Limits,
    scan: Scan,
    /// How many findings there are of each kind, also of those that are not told.
    told: HashMap<(Severity, &'static str), u64>,
    /// What could not be read.
    unreadable: u64,
    /// Objects that may still be made, over all pickles.
    left: u64,
    /// Bytes that may still be expanded, over all members and what is inside of them.
    left_bytes: u64,
    /// Steps that may still be taken.
    left_steps: u64,
    /// Whether archives in a row are what is expected.
    is_row: bool,
    /// Where pickles may begin that follow one read by its frames.
    behind_by_frames: Vec<u64>,
    /// Members that are looked at elsewhere.
    apart: Option<&'a HashSet<Spot>>,
    /// The file itself, where its zip directory has been read.
    opened: Option<Arc<Zip>>,
    /// Its pickle, where that has been decoded and no other has been since.
    decoded: Option<(&'a Graph, Decoded)>,
}

/// What has been read of a file before it is gone through.
#[derive(Clone, Default)]
pub(crate) struct Known<'a> {
    /// Its zip directory.
    pub zip: Option<Arc<Zip>>,
    /// The pickle of a checkpoint, whole, with the file's own bounds.
    pub pickle: Option<(&'a Graph, Decoded)>,
    /// Members that are passed over.
    pub apart: HashSet<Spot>,
}

fn too_many_bytes() -> Error {
    Error::limit("what is compressed in it expands to too many bytes in all").allowed_by(Setting::MaxExpandedBytes)
}

/// Errors of the device are no finding about the file.
fn only_io(e: Error) -> Result<Error> {
    if e.kind() == ErrorKind::Io { Err(e) } else { Ok(e) }
}

impl<'a> Scanner<'a> {
    fn new(limits: &'a Limits, left: u64, left_bytes: u64, left_steps: u64) -> Self {
        let (scan, told) = (Scan::default(), HashMap::new());
        Scanner {
            limits,
            scan,
            told,
            unreadable: 0,
            left,
            left_bytes,
            left_steps,
            is_row: false,
            behind_by_frames: Vec::new(),
            apart: None,
            opened: None,
            decoded: None,
        }
    }

    /// Looks at what no loader should come to, or only one that nobody has: of that only danger counts.
    fn only_danger(&mut self, look: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.aside(|status| matches!(status, Status::Dangerous(_)), look)
    }

    /// Looks at something besides: globals count that are `wanted` and were not found before, and findings of danger.
    fn aside(&mut self, wanted: fn(Status) -> bool, look: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut other = Scanner::new(self.limits, self.left, self.left_bytes, self.left_steps);
        look(&mut other)?;
        (self.left, self.left_bytes, self.left_steps) = (other.left, other.left_bytes, other.left_steps);
        for (name, used) in other.scan.globals {
            if wanted(used.status(&name.0, &name.1)) {
                match self.scan.globals.entry(name) {
                    Entry::Vacant(free) => drop(free.insert(used)),
                    // the same call, or one that does more
                    Entry::Occupied(mut known) if known.get().called == 0 => known.get_mut().add(used),
                    Entry::Occupied(mut known) => known.get_mut().is_loose |= used.is_loose,
                }
            }
        }
        // a number of copyreg's registry stands for a global of which nothing is known
        let counts = |finding: &Finding| {
            finding.severity == Severity::Danger || finding.code == "global-extension" && wanted(Status::Unknown)
        };
        for harm in other.scan.findings.into_iter().filter(counts) {
            self.tell(harm.severity, harm.code, harm.message, harm.place.as_deref().unwrap_or_default());
        }
        Ok(())
    }

    /// Whether there is work left for something more; what is left unread is told, once, as danger: only what wants to
    /// hide is read so often.
    fn may_begin(&mut self, place: &str) -> bool {
        if self.left_steps == 0 {
            if !self.told.contains_key(&(Severity::Danger, "too-much-work")) {
                let message = "the same bytes can be read in too many ways; what is left was not looked at";
                self.tell(Severity::Danger, "too-much-work", message, place);
            }
            return false;
        }
        self.left_steps = self.left_steps.saturating_sub(STEPS_EACH);
        true
    }

    fn spend(&mut self, steps: u64) {
        self.left_steps = self.left_steps.saturating_sub(steps);
    }

    fn tell(&mut self, severity: Severity, code: &'static str, message: impl Into<String>, place: &str) {
        self.add(Finding::new(severity, code, message, place));
    }

    fn add(&mut self, finding: Finding) {
        let Finding { severity, code, .. } = finding;
        let told = self.told.entry((severity, code)).or_default();
        *told += 1;
        if *told <= MAX_TOLD {
            self.scan.findings.push(finding);
        }
    }

    /// What was found, with how much more there is.
    fn finish(mut self) -> Scan {
        let mut more: Vec<_> = self.told.into_iter().filter(|(_, told)| *told > MAX_TOLD).collect();
        more.sort();
        let more = more.into_iter().map(|((severity, code), told)| {
            Finding::new(severity, code, format!("and {} more like these", told - MAX_TOLD), "")
        });
        self.scan.findings.extend(more);
        self.scan
    }

    /// A whole file, or a member that is one, in every way that a loader may take it: by its framing; as a pickle, which
    /// needs no beginning that anyone recognises; as a zip archive that ends with it.
    fn file(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        if depth >= MAX_DEPTH {
            self.tell(Severity::Danger, "nested-too-deep", "archives and pickles nest too deep to look inside", place);
            return Ok(());
        }
        if !self.may_begin(place) {
            return Ok(());
        }
        let framing = match detect(source.as_ref()) {
            Ok(framing) => Some(framing),
            Err(e) => {
                only_io(e)?;
                None
            }
        };
        let seen = Seen { framing, is_part: self.is_row && depth == 0 };
        for reading in readings(seen) {
            self.read_as(reading, source, framing, (place, depth))?;
        }
        if framing.is_none() && depth > 0 {
            self.not_expanded(&read_vec(source.as_ref(), 0, source.len().min(8))?, place);
        }
        Ok(())
    }

    fn read_as(
        &mut self,
        reading: Reading,
        source: &SharedSource,
        framing: Option<Framing>,
        (place, depth): (&str, usize),
    ) -> Result<()> {
        match reading {
            Reading::Zip => self.zip(source, place, depth),
            Reading::Tar => self.tar(source, place, depth),
            Reading::Npy => self.npy(source, place, depth),
            Reading::Expanded => {
                let Some(Framing::Compressed(kind)) = framing else { return Ok(()) };
                let (inner, stopped) = self.expand(source, kind)?;
                if let Some(e) = stopped {
                    self.unreadable(e, place)?;
                }
                self.file(&inner, place, depth + 1)
            }
            Reading::Pickles => self.stream(source, place, depth),
            Reading::Hidden => self.hidden(source, place, depth).map(drop),
            // a zip begins with `P`, which takes a line as a persistent id: torch never comes to what follows it
            Reading::HiddenInZip if read_vec(source.as_ref(), 0, source.len().min(4))? == *b"PK\x03\x04" => {
                self.only_danger(|scanner| scanner.hidden(source, place, depth).map(drop))
            }
            Reading::HiddenInZip => self.hidden(source, place, depth).map(drop),
            Reading::HiddenOrSearched => {
                if !self.hidden(source, place, depth)? && self.search(source, 0, Some(MOST_SEARCHED), place)? {
                    self.before_the_break(source, place, depth)?;
                }
                Ok(())
            }
            Reading::Directories => {
                let before = self.scan.pickles;
                self.other_directories(source, &[], place, depth)?;
                // what stands before an archive is there for another reader, also where nothing of it is called
                let is_before = framing.is_none() && self.scan.pickles > before;
                if is_before { self.before_the_break(source, place, depth) } else { Ok(()) }
            }
            Reading::Chunks => self.chunks(source, place, depth),
            Reading::Keras => self.keras(source, place),
            Reading::Template => self.template(source, place),
            Reading::Text => self.text(source, place, depth),
            Reading::Nothing => Ok(()),
        }
    }

    /// Every archive and every pickle in a part of a checkpoint of torch.distributed's, wherever it begins: the index may
    /// send a loader to any of them. What was read in another way counts once.
    fn chunks(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        self.aside(|_| true, |scanner| scanner.loose_members(source, place, depth))?;
        self.only_danger(|scanner| scanner.mixed(source, place, depth))?;
        self.search(source, 0, None, place).map(drop)
    }

    /// Says of a member that it is compressed in a way that is not expanded here.
    fn not_expanded(&mut self, head: &[u8], place: &str) {
        if let Some(what) = not_expanded(head) {
            let message = format!("is {what}: what it holds was not looked at; expand it and check that");
            self.tell(Severity::Warning, "not-expanded", message, place);
        }
    }

    /// Whether the member that begins at `at` of the archive at `place` is looked at elsewhere.
    fn is_apart(&self, place: &str, at: u64) -> bool {
        self.apart.is_some_and(|apart| apart.contains(&Spot { archive: place.to_owned(), at }))
    }

    /// What a compressed source expands to, as far as the bytes that are left for this file go; and why there is no more.
    fn expand(&mut self, source: &SharedSource, kind: Compression) -> Result<(SharedSource, Option<Error>)> {
        if self.left_bytes == 0 {
            return Ok((Arc::new(MemorySource::new(Vec::new())), Some(too_many_bytes())));
        }
        let left = self.left_bytes / kind.spent(1, self.limits);
        let limits = Limits { max_expanded_bytes: left, ..self.limits.clone() };
        let (inner, stopped) = expand_left(source, kind, &limits, &Silent)?;
        self.left_bytes = self.left_bytes.saturating_sub(kind.spent(inner.len(), self.limits));
        Ok((inner, stopped))
    }

    fn unreadable(&mut self, e: Error, place: &str) -> Result<()> {
        let e = only_io(e)?;
        self.unreadable += 1;
        self.add(Finding::of_error(Severity::Error, "unreadable", &e, place));
        Ok(())
    }
}

fn inside(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
}

fn at_byte(place: &str, at: u64) -> String {
    if place.is_empty() { format!("byte {at}") } else { format!("{place}, byte {at}") }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::source::FileSource;

    fn files_below(dir: &Path) -> Vec<PathBuf> {
        let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { open.push(path) } else { found.push(path) }
            }
        }
        found
    }

    #[test]
    fn a_pickle_that_was_decoded_before_is_told_as_one_that_was_not() {
        let (limits, mut decoded) = (Limits::default(), 0);
        for path in files_below(Path::new("testdata")) {
            let source: SharedSource = Arc::new(FileSource::open(&path).unwrap());
            let Ok(checkpoint) = Checkpoint::open(source.clone(), &limits, &Silent) else { continue };
            let Some(pickle) = checkpoint.only_pickle() else { continue };
            decoded += 1;
            let known = Known { zip: checkpoint.zip().cloned(), pickle: Some(pickle), ..Known::default() };
            let scans = [scan(&source, &limits), scan_known(&source, known, &limits)].map(|scan| format!("{scan:?}"));
            assert_eq!(scans[0], scans[1], "{}", path.display());
        }
        assert!(decoded > 100, "{decoded}");
    }
}
