//! Every pickle in a file, wherever it hides, and every global that it names.
//!
//! Pickles lie one after the other in a stream, in members of archives, in compressed files, in arrays of objects, in
//! the bytes that a pickle hands to `_load_from_bytes` or `loads`, and where they should not: behind other data, in
//! members with other names. A pickle that breaks has run all that stands before the break, so that counts too.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::finding::{Finding, Severity};
use super::globals::{Status, classify};
use crate::checkpoint::constructors::{Constructor, constructor};
use crate::checkpoint::numpy::{Joblib, byte_string};
use crate::container::compress::{Compression, expand_left};
use crate::container::detect::{Framing, detect};
use crate::container::legacy::is_legacy;
use crate::container::npy;
use crate::container::tar::Tar;
use crate::container::zip::walk::local_members;
use crate::container::zip::{Member, Zip};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::pickle::{Change, Decoded, Graph, Node, NodeId, NothingInline, TextId, decode, stored};
use crate::progress::Silent;
use crate::source::{MemorySource, SharedSource, Window, read_vec};

/// How deep archives, compression and pickles in pickles may nest.
const MAX_DEPTH: usize = 6;
/// Pickles that are looked for in one stream.
const MAX_PICKLES: usize = 10_000;
/// What decides whether a member holds a pickle.
const HEAD_BYTES: u64 = 512;
/// Arguments of calls that are looked at for pickles inside.
const MAX_ARGUMENTS: usize = 8;
/// Computed names and the like are told one by one up to here.
const MAX_TOLD: usize = 100;

/// Steps that walking a container may take without remark, and how many times the objects there are.
const MIN_EXPANDED: u64 = 1_000_000;
const MAX_EXPANSION: u64 = 100;

/// How a global is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    /// How many objects a call of it makes.
    pub called: u64,
    /// How often it is only named: handed on as an argument, kept as a value.
    pub named: u64,
    /// How many of its objects are given a state.
    pub built: u64,
    /// Where it is named first.
    pub place: String,
}

/// What the pickles of a file would do.
#[derive(Debug, Default)]
pub struct Scan {
    /// By module and name.
    pub globals: BTreeMap<(String, String), Use>,
    /// What was found besides.
    pub findings: Vec<Finding>,
    /// Pickles read, broken ones included.
    pub pickles: u64,
}

/// Goes through a file. What cannot be read or understood is a finding; fails only when the file itself cannot be read.
pub fn scan(source: &SharedSource, limits: &Limits) -> Result<Scan> {
    let (left, left_bytes) = (limits.objects_for(source.len()), limits.expanded_for(source.len()));
    let mut scanner = Scanner { limits, scan: Scan::default(), left, left_bytes };
    scanner.file(source, "", 0)?;
    Ok(scanner.scan)
}

struct Scanner<'a> {
    limits: &'a Limits,
    scan: Scan,
    /// Objects that may still be made, over all pickles.
    left: u64,
    /// Bytes that may still be expanded, over all members and what is inside of them.
    left_bytes: u64,
}

/// What was looked at in one graph, however often it is used.
#[derive(Default)]
struct Seen {
    /// Whether a callable is `_load_from_bytes`.
    loads: HashMap<NodeId, bool>,
    /// Byte strings that were looked into.
    texts: HashSet<TextId>,
}

fn too_many_bytes() -> Error {
    Error::limit("what is compressed in it expands to too many bytes in all; --max-expanded-bytes allows more")
}

/// Errors of the device are no finding about the file.
fn only_io(e: Error) -> Result<Error> {
    if e.kind() == ErrorKind::Io { Err(e) } else { Ok(e) }
}

impl Scanner<'_> {
    fn tell(&mut self, severity: Severity, code: &'static str, message: impl Into<String>, place: &str) {
        if self.scan.findings.len() < MAX_TOLD {
            self.scan.findings.push(Finding::new(severity, code, message, place));
        }
    }

    /// A whole file, or a member that is one.
    fn file(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        if depth >= MAX_DEPTH {
            self.tell(Severity::Warning, "nested-too-deep", "archives and pickles nest too deep to look inside", place);
            return Ok(());
        }
        match detect(source.as_ref()) {
            Ok(Framing::Zip) => self.zip(source, place, depth),
            Ok(Framing::Tar) => self.tar(source, place, depth),
            Ok(Framing::Npy) => self.npy(source, place, depth),
            Ok(Framing::Compressed(kind)) => {
                let (inner, stopped) = self.expand(source, kind)?;
                if let Some(e) = stopped {
                    self.unreadable(e, place)?;
                }
                self.file(&inner, place, depth + 1)
            }
            Ok(Framing::Pickle) => self.stream(source, place, depth),
            Ok(Framing::Safetensors | Framing::ShardIndex) => Ok(()),
            Err(e) if e.kind() == ErrorKind::Io => Err(e),
            // not what a program writes, but a pickle needs no beginning that anyone recognises
            Err(_) => self.hidden(source, place, depth),
        }
    }

    /// What a compressed source expands to, as far as the bytes that are left for this file go; and why there is no more.
    fn expand(&mut self, source: &SharedSource, kind: Compression) -> Result<(SharedSource, Option<Error>)> {
        if self.left_bytes == 0 {
            return Ok((Arc::new(MemorySource::new(Vec::new())), Some(too_many_bytes())));
        }
        let limits = Limits { max_expanded_bytes: self.left_bytes, ..self.limits.clone() };
        let (inner, stopped) = expand_left(source, kind, &limits, &Silent)?;
        self.left_bytes = self.left_bytes.saturating_sub(inner.len());
        Ok((inner, stopped))
    }

    fn unreadable(&mut self, e: Error, place: &str) -> Result<()> {
        let e = only_io(e)?;
        self.tell(Severity::Error, "unreadable", e.to_string(), place);
        Ok(())
    }

    /// Pickles one after the other from the beginning of a stream; what is left is looked at as a file of its own.
    fn stream(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let pickles = if is_legacy(source) { 5 } else { MAX_PICKLES };
        let mut at = 0;
        for number in 0..pickles {
            if at >= source.len() {
                return Ok(());
            }
            let Some(end) = self.pickle(source, at, place, depth, number == 0 || pickles == 5)? else {
                return if number > 0 { self.trailing(source, at, place, depth) } else { Ok(()) };
            };
            at = end;
        }
        Ok(())
    }

    /// Bytes after the last pickle: a reader of archives may find one there, whatever the file begins with.
    fn trailing(&mut self, source: &SharedSource, at: u64, place: &str, depth: usize) -> Result<()> {
        let rest = Window::shared(source, at, source.len() - at)?;
        let message = format!("{} bytes after the last pickle are no pickle", rest.len());
        self.tell(Severity::Warning, "trailing-data", message, &at_byte(place, source.absolute(at)));
        if matches!(detect(rest.as_ref()), Ok(Framing::Zip | Framing::Tar | Framing::Compressed(_))) {
            self.file(&rest, &at_byte(place, source.absolute(at)), depth + 1)?;
        }
        Ok(())
    }

    /// One pickle; gives where it ends, nothing when it breaks. One that breaks is told when it is `wanted`, or when it
    /// would have called something before.
    fn pickle(
        &mut self,
        source: &SharedSource,
        at: u64,
        place: &str,
        depth: usize,
        wanted: bool,
    ) -> Result<Option<u64>> {
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::clone(source), "");
        let decoded = decode(&mut graph, stream, at, self.left, &Joblib);
        self.left = self.left.saturating_sub(graph.held());
        let calls = graph.ids().filter(|id| graph.object(*id).is_some()).count();
        match &decoded {
            Err(e) if e.kind() == ErrorKind::Io => return Err(e.again()),
            Err(_) if !wanted && calls == 0 => return Ok(None),
            Err(e) => {
                let message = match calls {
                    0 => format!("the pickle is broken: {}", e.message()),
                    calls => {
                        format!("the pickle is broken, after {calls} calls that run all the same: {}", e.message())
                    }
                };
                let place = e.offset().map_or_else(|| place.to_owned(), |at| at_byte(place, at));
                self.tell(Severity::Error, "pickle-broken", message, &place);
            }
            Ok(_) => {}
        }
        self.scan.pickles += 1;
        self.collect(&graph, place, depth)?;
        if graph.has_inline() {
            self.without_joblib(source, at, place, depth)?;
        }
        Ok(decoded.ok().map(|Decoded { end, .. }| end))
    }

    /// `pickle.load` knows nothing of the raw arrays that joblib puts into its streams: it takes them for opcodes.
    fn without_joblib(&mut self, source: &SharedSource, at: u64, place: &str, depth: usize) -> Result<()> {
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::clone(source), "");
        match decode(&mut graph, stream, at, self.left, &NothingInline) {
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            _ => {}
        }
        self.left = self.left.saturating_sub(graph.held());
        let mut plain = Scanner { scan: Scan::default(), ..*self };
        plain.collect(&graph, place, depth)?;
        for (name, used) in plain.scan.globals {
            self.scan.globals.entry(name).or_insert(used);
        }
        // raw numbers read as opcodes are odd in every way; what they would do is what counts
        let harm = plain.scan.findings.into_iter().filter(|finding| finding.severity == Severity::Danger);
        self.scan.findings.extend(harm);
        Ok(())
    }

    /// The globals of a graph and what is done with them.
    fn collect(&mut self, graph: &Graph, place: &str, depth: usize) -> Result<()> {
        for (what, at) in graph.oddities() {
            // Python's own readers disagree on what follows a frame that lies
            let severity = if what.starts_with("a frame") { Severity::Error } else { Severity::Warning };
            self.tell(severity, "pickle-odd", format!("written by no pickler: {what}"), &at_byte(place, at));
        }
        self.unhashable(graph, place);
        self.expanding(graph, place);
        let mut callables: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
        for id in graph.ids() {
            if let Some(object) = graph.object(id) {
                let used = callables.entry(saved_class(graph, object.callable)).or_default();
                used.0 += 1;
                used.1 += u64::from(object.changes.iter().any(|change| matches!(change, Change::Build(_))));
            }
        }
        let mut seen = Seen::default();
        for id in graph.ids() {
            match graph.node(id) {
                Node::Global { module, name } => {
                    let used = callables.get(&id).copied().unwrap_or_default();
                    self.global(graph, id, (*module, *name), used, place);
                }
                Node::Extension(code) => {
                    let message = format!("names an object by number {code} of copyreg's registry: it may be anything");
                    self.tell(Severity::Warning, "global-extension", message, place);
                }
                Node::Object(object) => {
                    if let Some(made) = graph.object(object.callable) {
                        self.call_of_result(graph, made.callable, place);
                    }
                    self.arguments(graph, (object.callable, object.args), &mut seen, place, depth)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keys and elements that Python refuses to hash: loading fails there.
    fn unhashable(&mut self, graph: &Graph, place: &str) {
        let never =
            |id: NodeId| matches!(graph.node(id), Node::List(_) | Node::Dict(_) | Node::Set(_) | Node::ByteArray(_));
        let holds = graph.ids().any(|id| match graph.node(id) {
            Node::Dict(entries) => entries.iter().any(|entry| never(entry.key)),
            Node::Set(items) => items.iter().any(|item| never(*item)),
            Node::FrozenSet(items) => graph.children(*items).iter().any(|item| never(*item)),
            _ => false,
        });
        if holds {
            let message = "a dict's key or a set's element is unhashable: loading fails";
            self.tell(Severity::Error, "key-unhashable", message, place);
        }
    }

    /// Containers that refer to each other so that walking them never ends, or takes incomparably longer than reading
    /// them did: a bomb for whoever prints, copies or compares what was loaded.
    fn expanding(&mut self, graph: &Graph, place: &str) {
        let steps = expanded(graph);
        if steps == u64::MAX {
            self.tell(Severity::Warning, "pickle-endless", "a list or dict holds itself: walking it never ends", place);
        } else if steps > MIN_EXPANDED && steps / MAX_EXPANSION > graph.len() as u64 {
            let objects = graph.len();
            let message =
                format!("{objects} objects that take {steps} steps to walk: lists and dicts shared over and over");
            self.tell(Severity::Warning, "pickle-expands", message, place);
        }
    }

    fn global(
        &mut self,
        graph: &Graph,
        id: NodeId,
        (module, name): (NodeId, NodeId),
        (called, built): (u64, u64),
        place: &str,
    ) {
        let place = match graph.node(name) {
            Node::Str(text) => graph.place(*text).map_or_else(
                || place.to_owned(),
                |(stream, at, _)| at_byte(place, graph.stream(stream).map_or(at, |source| source.absolute(at))),
            ),
            _ => place.to_owned(),
        };
        let Some((module, name)) = graph.str(module).zip(graph.str(name)) else {
            let message = "names a global by what a call gives: it may be anything";
            return self.tell(Severity::Danger, "global-computed", message, &place);
        };
        if graph.changes(id).iter().any(|change| matches!(change, Change::Build(_) | Change::Item(_))) {
            let message = format!("changes {module}.{name} itself");
            self.tell(Severity::Danger, "global-changed", message, &place);
        }
        let used = self.scan.globals.entry((module.into_owned(), name.into_owned())).or_default();
        used.called += called;
        used.built += built;
        used.named += u64::from(called == 0);
        if used.place.is_empty() {
            used.place = place;
        }
    }

    /// A call of what another call gave: `operator.attrgetter('system')(os)`.
    fn call_of_result(&mut self, graph: &Graph, inner: NodeId, place: &str) {
        let name = graph.global(inner).map_or_else(|| "a call".to_owned(), |(module, name)| format!("{module}.{name}"));
        if self.scan.findings.iter().all(|finding| finding.code != "call-of-result") {
            let message = format!("calls what {name} returns: it may be anything");
            self.tell(Severity::Warning, "call-of-result", message, place);
        }
    }

    /// Bytes that a call takes and that are a file or a pickle themselves.
    fn arguments(
        &mut self,
        graph: &Graph,
        (callable, args): (NodeId, NodeId),
        seen: &mut Seen,
        place: &str,
        depth: usize,
    ) -> Result<()> {
        let global = || graph.global(callable);
        let loads = *seen.loads.entry(callable).or_insert_with(|| {
            global().is_some_and(|(module, name)| constructor(&module, &name) == Some(Constructor::LoadFromBytes))
        });
        let args = graph.sequence(args).unwrap_or_default();
        if loads {
            let text = args.first().and_then(|arg| byte_string(graph, *arg));
            if text.is_some_and(|text| !seen.texts.insert(text)) {
                return Ok(());
            }
            let bytes = text.map(|text| stored::bytes_of(graph, text, None)).transpose();
            return match bytes {
                Ok(Some(bytes)) => self.file(&bytes, &inside(place, "_load_from_bytes"), depth + 1),
                Ok(None) => {
                    let message = "torch.storage._load_from_bytes of what a call gives: it may load anything";
                    self.tell(Severity::Danger, "nested-computed", message, place);
                    Ok(())
                }
                Err(e) => self.unreadable(e, place),
            };
        }
        let texts = args.iter().take(MAX_ARGUMENTS).filter_map(|arg| byte_string(graph, *arg));
        let texts: Vec<_> = texts.filter(|text| graph.stored_len(*text) > 2).collect();
        if texts.is_empty() || global().is_some_and(|(module, name)| classify(&module, &name) == Status::Known) {
            return Ok(());
        }
        for text in texts {
            if !seen.texts.insert(text) {
                continue;
            }
            let Ok(bytes) = stored::bytes_of(graph, text, None) else { continue };
            if detect(bytes.as_ref()).is_ok() {
                self.file(&bytes, &inside(place, "bytes"), depth + 1)?;
            }
        }
        Ok(())
    }

    fn zip(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        match Zip::open(Arc::clone(source), self.limits) {
            Ok(zip) => {
                let mut all_read = true;
                for member in zip.members.iter().filter(|member| !member.is_dir()) {
                    all_read &= self.zip_member(&zip, member, place, depth)?;
                }
                // a flag that says "encrypted" or a wrong size does not keep every reader out
                if all_read { Ok(()) } else { self.loose_members(source, place, depth) }
            }
            Err(e) => {
                only_io(e)?;
                self.loose_members(source, place, depth)
            }
        }
    }

    /// The members of an archive that has no directory, or one that readers would not agree on: wherever a local header
    /// stands, something may read what follows.
    fn loose_members(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let members = match local_members(source, self.limits) {
            Ok(members) => members,
            Err(e) => return self.unreadable(e, place),
        };
        for found in members {
            if let Ok(bytes) = found.data(source, self.left_bytes) {
                if found.method != 0 {
                    self.left_bytes = self.left_bytes.saturating_sub(bytes.len());
                }
                let head = read_vec(bytes.as_ref(), 0, bytes.len().min(HEAD_BYTES))?;
                self.member(&found.name, &head, &mut || Ok(Arc::clone(&bytes)), place, depth)?;
            }
        }
        Ok(())
    }

    /// False for a member that cannot be read.
    fn zip_member(&mut self, zip: &Zip, member: &Member, place: &str, depth: usize) -> Result<bool> {
        let before = self.scan.findings.len();
        let expands = if member.method == 0 { 0 } else { member.size };
        let left = self.left_bytes.checked_sub(expands);
        let mut opened = false;
        let mut open = || {
            opened = true;
            match left {
                Some(_) => zip.member_source(member),
                None => Err(too_many_bytes()),
            }
        };
        match zip.head(member, HEAD_BYTES) {
            Ok(head) => {
                self.member(&member.name, &head, &mut open, place, depth)?;
                if opened {
                    self.left_bytes = self.left_bytes.saturating_sub(expands);
                }
            }
            Err(e) => self.unreadable(e, &inside(place, &member.name))?,
        }
        let found = self.scan.findings.get(before..).unwrap_or_default();
        Ok(found.iter().all(|finding| finding.code != "unreadable"))
    }

    fn tar(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let tar = match Tar::open(Arc::clone(source), self.limits) {
            Ok(tar) => tar,
            Err(e) => return self.unreadable(e, place),
        };
        let is_torch = tar.is_torch();
        for member in &tar.members {
            let bytes = match tar.member_source(member) {
                Ok(bytes) => bytes,
                Err(e) => {
                    self.unreadable(e, &inside(place, &member.name))?;
                    continue;
                }
            };
            if is_torch && matches!(member.name.as_str(), "storages" | "tensors") {
                self.mixed(&bytes, &inside(place, &member.name), depth)?;
                continue;
            }
            let head = read_vec(bytes.as_ref(), 0, bytes.len().min(HEAD_BYTES))?;
            self.member(&member.name, &head, &mut || Ok(Arc::clone(&bytes)), place, depth)?;
        }
        Ok(())
    }

    /// Pickles with raw integers and data between them (the tar of torch < 0.1.10): wherever one begins, it is read.
    fn mixed(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let mut at = 0;
        while at < source.len() {
            let block = read_vec(source.as_ref(), at, (source.len() - at).min(64 << 10))?;
            let Some(next) = block.windows(2).position(|pair| matches!(pair, [0x80, 1..=5])) else {
                at += block.len() as u64;
                continue;
            };
            let begin = at + next as u64;
            at = self.pickle(source, begin, place, depth, false)?.unwrap_or(begin + 1);
        }
        Ok(())
    }

    /// A member of an archive: a pickle by its name, or by its beginning.
    fn member(
        &mut self,
        name: &str,
        head: &[u8],
        open: &mut dyn FnMut() -> Result<SharedSource>,
        place: &str,
        depth: usize,
    ) -> Result<()> {
        let place = inside(place, name);
        let is_pickle = PICKLE_NAMES.iter().any(|ending| name.ends_with(ending)) || name == "pickle";
        let framing = if is_pickle { Ok(Framing::Pickle) } else { detect(&MemorySource::new(head.to_vec())) };
        if !matches!(framing, Ok(Framing::Pickle | Framing::Zip | Framing::Tar | Framing::Compressed(_) | Framing::Npy))
        {
            return Ok(());
        }
        let bytes = match open() {
            Ok(bytes) => bytes,
            Err(e) => return self.unreadable(e, &place),
        };
        match framing {
            Ok(Framing::Pickle) if is_pickle => self.stream(&bytes, &place, depth + 1),
            Ok(Framing::Pickle) => self.hidden(&bytes, &place, depth),
            // data may look like the beginning of anything: what does not go on like that is no archive
            Ok(Framing::Compressed(kind)) => match self.expand(&bytes, kind)? {
                (inner, None) => self.file(&inner, &place, depth + 1),
                (inner, Some(_)) => self.hidden(&inner, &place, depth + 1),
            },
            _ => self.file(&bytes, &place, depth + 1),
        }
    }

    /// What may be a pickle though nothing says so: it counts when it is one to its end, or calls something or names
    /// something dangerous before it breaks.
    fn hidden(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::clone(source), "");
        let decoded = decode(&mut graph, stream, 0, self.left, &NothingInline);
        if let Err(e) = &decoded
            && e.kind() == ErrorKind::Io
        {
            return Err(e.again());
        }
        let globals = || graph.ids().filter_map(|id| graph.global(id));
        let dangerous = |(module, name): (Cow<'_, str>, Cow<'_, str>)| {
            matches!(classify(&module, &name), Status::Dangerous(_)) && !module.contains(' ')
        };
        let calls = graph.ids().any(|id| graph.object(id).is_some());
        if globals().next().is_some() && (decoded.is_ok() || calls || globals().any(dangerous)) {
            self.tell(Severity::Warning, "pickle-hidden", "holds a pickle where none belongs", place);
            return self.stream(source, place, depth + 1);
        }
        Ok(())
    }

    /// One `.npy`: an array of objects is a pickle.
    fn npy(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        match npy::read(source.as_ref()) {
            Ok(header) if header.descr.code.contains('O') => {
                self.pickle(source, header.data_start, place, depth, true).map(drop)
            }
            Ok(_) => Ok(()),
            Err(e) => self.unreadable(e, place),
        }
    }
}

/// Names of members that are pickles, whatever they begin with.
/// (`.debug_pkl`: what TorchScript knows of its sources)
const PICKLE_NAMES: &[&str] = &[".pkl", ".pickle", ".p", ".joblib", ".pk", ".debug_pkl"];

/// How many steps it takes to walk the largest list, dict, tuple or set, every time one is met anew; `u64::MAX` for one
/// that holds itself. What lies behind other objects does not count: those may well refer to each other.
fn expanded(graph: &Graph) -> u64 {
    /// What is known of a node: nothing, that it is being counted, its steps.
    #[derive(Clone, Copy)]
    enum State {
        New,
        Open,
        Steps(u64),
    }
    let mut states = vec![State::New; graph.len()];
    let state = |states: &[State], id: NodeId| states.get(id.index()).copied().unwrap_or(State::Steps(1));
    let set = |states: &mut [State], id: NodeId, state| {
        if let Some(known) = states.get_mut(id.index()) {
            *known = state;
        }
    };
    let mut most = 0;
    let mut stack = Vec::new();
    for start in graph.ids() {
        stack.push(start);
        while let Some(id) = stack.last().copied() {
            let inside = contained(graph, id);
            match state(&states, id) {
                State::New if inside.is_some() => {
                    set(&mut states, id, State::Open);
                    for child in inside.into_iter().flatten() {
                        match state(&states, child) {
                            State::New => stack.push(child),
                            State::Open => return u64::MAX,
                            State::Steps(_) => {}
                        }
                    }
                    continue;
                }
                State::Open => {
                    let steps = inside.into_iter().flatten().fold(1_u64, |sum, child| match state(&states, child) {
                        State::Steps(steps) => sum.saturating_add(steps),
                        _ => sum.saturating_add(1),
                    });
                    // less than what stands for a container in itself
                    let steps = steps.min(u64::MAX - 1);
                    most = most.max(steps);
                    set(&mut states, id, State::Steps(steps));
                }
                State::New => {
                    set(&mut states, id, State::Steps(1));
                }
                State::Steps(_) => {}
            }
            stack.pop();
        }
    }
    most
}

/// What a list, dict, tuple or set holds; nothing for everything else.
fn contained(graph: &Graph, id: NodeId) -> Option<Box<dyn Iterator<Item = NodeId> + '_>> {
    Some(match graph.node(id) {
        Node::List(items) | Node::Set(items) => Box::new(items.iter().copied()),
        Node::Tuple(items) | Node::FrozenSet(items) => Box::new(graph.children(*items).iter().copied()),
        Node::Dict(entries) => Box::new(entries.iter().flat_map(|entry| [entry.key, entry.value])),
        _ => return None,
    })
}

/// A class that was saved with its source is named by a persistent id: `('module', class, file, source)`.
fn saved_class(graph: &Graph, callable: NodeId) -> NodeId {
    match graph.node(callable) {
        Node::Persistent(pid) => match graph.tuple(*pid) {
            Some([_, class, ..]) => *class,
            _ => callable,
        },
        _ => callable,
    }
}

fn inside(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
}

fn at_byte(place: &str, at: u64) -> String {
    if place.is_empty() { format!("byte {at}") } else { format!("{place}, byte {at}") }
}
