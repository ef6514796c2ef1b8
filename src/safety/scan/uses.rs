//! The globals that one pickle names and what it does with them: calls, states, arguments that are files themselves.

use std::collections::{BTreeMap, HashSet};

use rustc_hash::FxHashMap;

use super::conditions::{is_known_attribute, loose};
use super::{Scanner, Use, at_byte, calls, inside, only_io};
use crate::checkpoint::constructors::{Constructor, constructor};
use crate::checkpoint::numpy::byte_string;
use crate::container::detect::detect;
use crate::error::Result;
use crate::pickle::{Change, Construct, Graph, Node, NodeId, Object, TextId, stored};
use crate::safety::finding::Severity;
use crate::safety::globals::{Status, classify};

/// Arguments of calls that are looked at for pickles inside.
const MAX_ARGUMENTS: usize = 8;
/// Attributes of an object that are.
const MAX_VALUES: usize = 1000;

/// What is made by calls of one global.
#[derive(Default, Clone, Copy)]
struct Called {
    objects: u64,
    built: u64,
    first: Option<NodeId>,
}

/// What was looked at in one graph, however often it is used.
#[derive(Default)]
struct Seen {
    /// Whether a callable is `_load_from_bytes`.
    loads: FxHashMap<NodeId, bool>,
    /// Byte strings that were looked into.
    texts: HashSet<TextId>,
}

impl Scanner<'_> {
    /// The globals of a graph and what is done with them.
    pub(super) fn collect(&mut self, graph: &Graph, place: &str, depth: usize) -> Result<()> {
        for (what, at) in graph.oddities() {
            // Python's own readers disagree on these
            let differ = ["a frame", "a state", "a call", "a memo index"].iter().any(|start| what.starts_with(start));
            let severity = if differ { Severity::Error } else { Severity::Warning };
            self.tell(severity, "pickle-odd", format!("written by no pickler: {what}"), &at_byte(place, at));
        }
        self.unhashable(graph, place);
        self.expanding(graph, place);
        self.bombs(graph, place);
        let loose = loose(graph);
        let mut callables: BTreeMap<NodeId, Called> = BTreeMap::new();
        for id in graph.ids() {
            if let Some(object) = graph.object(id) {
                let used = callables.entry(saved_class(graph, object.callable)).or_default();
                used.first.get_or_insert(id);
                used.objects += 1;
                used.built += u64::from(object.changes.iter().any(|change| matches!(change, Change::Build(_))));
            }
        }
        let mut seen = Seen::default();
        for id in graph.ids() {
            match graph.node(id) {
                Node::Global { module, name } => {
                    let used = callables.get(&id).copied().unwrap_or_default();
                    self.global(graph, id, (*module, *name), (used, loose.contains(&id)), place);
                }
                Node::Extension(code) => {
                    let message = format!("names an object by number {code} of copyreg's registry: it may be anything");
                    self.tell(Severity::Warning, "global-extension", message, place);
                }
                Node::Object(object) => {
                    self.changes(graph, object, place);
                    if let Some(made) = graph.object(object.callable).filter(|made| !is_known_attribute(graph, made)) {
                        self.call_of_result(graph, made.callable, place);
                    }
                    self.arguments(graph, (object.callable, object.args), &mut seen, place, depth)?;
                    self.state(graph, object, &mut seen, place, depth)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn global(
        &mut self,
        graph: &Graph,
        id: NodeId,
        (module, name): (NodeId, NodeId),
        (called, is_loose): (Called, bool),
        place: &str,
    ) {
        let name_place = || match graph.node(name) {
            Node::Str(text) => graph.place(*text).map_or_else(
                || place.to_owned(),
                |(stream, at, _)| at_byte(place, graph.stream(stream).map_or(at, |source| source.absolute(at))),
            ),
            _ => place.to_owned(),
        };
        let Some((module, name)) = graph.str(module).zip(graph.str(name)) else {
            let message = "names a global by what a call gives: it may be anything";
            return self.tell(Severity::Danger, "global-computed", message, &name_place());
        };
        if graph.changes(id).iter().any(|change| matches!(change, Change::Build(_) | Change::Item(_))) {
            let message = format!("changes {module}.{name} itself");
            self.tell(Severity::Danger, "global-changed", message, &name_place());
        }
        let used = self.scan.globals.entry((module.into_owned(), name.into_owned())).or_default();
        let first = called.first.filter(|_| used.call.is_none()).and_then(|id| graph.object(id));
        let call = first.and_then(|object| calls::call(graph, object));
        let named = u64::from(called.objects == 0);
        // only the first place is kept
        let place = if used.place.is_empty() { name_place() } else { String::new() };
        used.add(Use { called: called.objects, named, built: called.built, is_loose, call, place });
    }

    /// What is done to an object that is not its own, or that has its state: then `append`, `extend`, `add` and
    /// `__setstate__` may be what the state says they are.
    fn changes(&mut self, graph: &Graph, object: &Object, place: &str) {
        let is_shared = || {
            graph.global(object.callable).is_some_and(|(module, name)| module == "logging" && name == "getLogger")
                && object.how == Construct::Reduce
        };
        if !object.changes.is_empty() && is_shared() {
            let message = "changes a logger of the program that loads the file";
            self.tell(Severity::Danger, "global-changed", message, place);
        }
        let before = object.changes.split_last().map_or(&[][..], |(_, before)| before);
        if before.iter().any(|change| matches!(change, Change::Build(_))) {
            let message = "written by no pickler: an object is changed after it has its state, which may say how";
            self.tell(Severity::Error, "pickle-odd", message, place);
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
        self.files_in(graph, callable, args.iter().take(MAX_ARGUMENTS).copied(), seen, place, depth)
    }

    /// Bytes in the state of an object, which its class may load: skorch keeps its tensors so.
    fn state(&mut self, graph: &Graph, object: &Object, seen: &mut Seen, place: &str, depth: usize) -> Result<()> {
        let mut values = Vec::new();
        for change in &object.changes {
            let Change::Build(state) = change else { continue };
            let parts = graph.tuple(*state).map_or_else(|| vec![*state], <[NodeId]>::to_vec);
            for part in parts.into_iter().take(MAX_ARGUMENTS) {
                match graph.node(part) {
                    Node::Dict(entries) => values.extend(entries.iter().map(|entry| entry.value).take(MAX_VALUES)),
                    _ => values.push(part),
                }
            }
        }
        if values.is_empty() {
            return Ok(());
        }
        self.files_in(graph, object.callable, values.into_iter(), seen, place, depth)
    }

    /// Those of some values that are byte strings and hold a file or a pickle, where nobody knows what is done with them.
    fn files_in(
        &mut self,
        graph: &Graph,
        callable: NodeId,
        values: impl Iterator<Item = NodeId>,
        seen: &mut Seen,
        place: &str,
        depth: usize,
    ) -> Result<()> {
        let texts = values.filter_map(|value| byte_string(graph, value));
        let texts: Vec<_> = texts.filter(|text| graph.stored_len(*text) > 2).collect();
        let is_known =
            || graph.global(callable).is_some_and(|(module, name)| classify(&module, &name) == Status::Known);
        if texts.is_empty() || is_known() {
            return Ok(());
        }
        for text in texts {
            if !seen.texts.insert(text) {
                continue;
            }
            let bytes = match stored::bytes_of(graph, text, None) {
                Ok(bytes) => bytes,
                Err(e) => {
                    only_io(e)?;
                    continue;
                }
            };
            if detect(bytes.as_ref()).is_ok() {
                self.file(&bytes, &inside(place, "bytes"), depth + 1)?;
            }
        }
        Ok(())
    }
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
