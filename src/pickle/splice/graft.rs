//! A pickle with items of its dicts removed, replaced, renamed, moved and added: everything else byte for byte.
//!
//! An object that stays and was made in a part that goes is made where it is needed first: the bytes that made it move
//! there, and where they were, if that stays, it is fetched from the memo. So nothing is lost, shared or made twice. Places
//! in the memo keep their numbers; where the opcodes count them (`MEMOIZE`), those that fetch are given the new ones.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::layout::{Layout, Memo, Part, Span};
use super::literal::{Piece, pieces};
use super::{Patch, Spliced, with_frames};
use crate::error::{Error, Result};
use crate::pickle::decode::{Inline, decode_traced};
use crate::pickle::graph::{Graph, Node, NodeId};
use crate::pickle::opcode as op;
use crate::source::{SharedSource, read_vec};

/// Bytes of an opcode `FRAME`.
const FRAME_BYTES: u64 = 9;

/// What becomes of an item of a dict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// It is removed; its value may stand elsewhere.
    pub is_gone: bool,
    /// The new key.
    pub key: Option<NodeId>,
    /// The new value.
    pub value: Option<NodeId>,
}

/// Where an object of the pickle stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// It is the top object.
    Root,
    /// It is the value of the item whose key the opcode there pushes.
    Item(u64),
}

/// One way from an object to one that it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Hop {
    /// To an element of a list or tuple.
    Element(usize),
    /// To what a call took: the callable, its arguments; to the id of a persistent object.
    Part(usize),
}

/// An object: what stands somewhere, or what it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Locator {
    /// The outermost.
    pub origin: Origin,
    /// How it goes on from there.
    pub hops: Vec<Hop>,
}

impl Locator {
    /// What stands somewhere.
    pub(crate) fn of(origin: Origin) -> Self {
        Locator { origin, hops: Vec::new() }
    }

    /// One of what it was made of.
    #[must_use]
    pub(crate) fn then(mut self, hop: Hop) -> Self {
        self.hops.push(hop);
        self
    }
}

/// All that changes in one pickle. New values are nodes of the graph that it was read into.
#[derive(Debug, Default)]
pub(crate) struct Grafts {
    /// Items that change, by where the opcode lies that pushes the key.
    pub fates: HashMap<u64, Fate>,
    /// Elements of lists and tuples with their new values; of lists also those that go.
    pub elements: HashMap<(Locator, usize), Option<NodeId>>,
    /// New items of dicts, in order.
    pub additions: Vec<(Locator, NodeId, NodeId)>,
    /// Where objects of the pickle come from that stand elsewhere now.
    pub origins: HashMap<NodeId, Origin>,
    /// The new top object.
    pub root: Option<NodeId>,
}

/// Where a pickle lies and how it was read.
#[derive(Clone, Copy)]
pub(crate) struct Pickle<'a> {
    /// Its stream.
    pub source: &'a SharedSource,
    /// What it was read into, with the new values in it.
    pub graph: &'a Graph,
    /// The top object, where nothing was read into the graph before the stream.
    pub root: Option<NodeId>,
    /// Pickles that lie before it in the stream.
    pub before: usize,
    /// A bound on the objects.
    pub max_objects: u64,
    /// A bound on the bytes that are new or stand elsewhere.
    pub max_bytes: u64,
    /// What lies inline.
    pub inline: &'a dyn Inline,
}

/// Makes the changes.
pub(crate) fn graft(pickle: &Pickle<'_>, grafts: &Grafts) -> Result<Spliced> {
    let mut graph = Graph::new();
    let stream = graph.add_stream(Arc::clone(pickle.source), "");
    let (mut layout, mut at) = (Layout::default(), 0);
    let mut decoded = None;
    for _ in 0..=pickle.before {
        layout = Layout::default();
        let done = decode_traced(&mut graph, stream, at, pickle.max_objects, pickle.inline, &mut layout)?;
        at = done.end;
        decoded = Some(done);
    }
    let stop = at.saturating_sub(1);
    layout.finish(stop);
    let root = decoded.and_then(|_| layout.root(stop)).ok_or_else(|| Error::malformed("a pickle of nothing"))?;
    if pickle.root.is_some() && decoded.map(|decoded| decoded.root) != pickle.root {
        return Err(Error::unsupported("several pickles in a row cannot be edited"));
    }
    if let Some(why) = layout.odd {
        return Err(Error::unsupported(format!("cannot be edited: {why}")));
    }
    let module = match decoded.is_some_and(|decoded| decoded.protocol > 2) {
        true => "builtins",
        false => "__builtin__",
    };
    let mut work = Work {
        pickle,
        grafts,
        module,
        root,
        events: Vec::new(),
        places: vec![Placed::Nowhere; layout.remembered.len()],
        layout: &layout,
        next: 0,
        tasks: Vec::new(),
        out: Vec::new(),
        fresh: 0,
        after: 0,
        can_reorder: !layout.is_reused,
    };
    work.plan()?;
    work.run()?;
    let patches = work.patches()?;
    Spliced::new(Arc::clone(pickle.source), patches)
}

/// What happens at a byte of the pickle.
#[derive(Debug, Clone)]
enum Does {
    /// New items for what begins at this byte.
    Add { within: u64, what: Vec<(NodeId, NodeId)> },
    /// The bytes up to there are not copied; others stand there.
    Cut { to: u64, instead: Option<NodeId> },
    /// An object of the memo begins.
    Start(u32),
    /// A use of the memo.
    Use(usize),
    /// A frame begins.
    Frame,
}

impl Does {
    fn rank(&self) -> u8 {
        match self {
            Does::Add { .. } => 0,
            Does::Cut { .. } => 1,
            Does::Start(_) => 2,
            _ => 3,
        }
    }
}

/// Where an object of the memo is found in the new pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    Nowhere,
    /// Its bytes are being written elsewhere.
    Begun,
    At(u64),
}

#[derive(Debug)]
enum Task {
    /// Copy: the range as it was begun, where the copying is, the next event.
    Range {
        from: u64,
        at: u64,
        to: u64,
        event: usize,
    },
    Bytes(Vec<u8>),
    Node(NodeId),
}

#[derive(Debug)]
enum Out {
    Old(Span),
    New(Vec<u8>),
}

struct Work<'a> {
    pickle: &'a Pickle<'a>,
    grafts: &'a Grafts,
    layout: &'a Layout,
    module: &'static str,
    root: Part,
    events: Vec<(u64, Does)>,
    places: Vec<Placed>,
    /// The number that `MEMOIZE` gives next.
    next: u64,
    tasks: Vec<Task>,
    out: Vec<Out>,
    /// Bytes that are new.
    fresh: u64,
    /// Where the last original byte was taken from.
    after: u64,
    can_reorder: bool,
}

fn cannot() -> Error {
    Error::unsupported("is pickled in a way that cannot be edited")
}

impl Work<'_> {
    /// The part that a locator means.
    fn locate(&self, locator: &Locator) -> Result<Part> {
        let mut part = match locator.origin {
            Origin::Root => self.root,
            Origin::Item(key) => self.layout.items.get(&key).ok_or_else(cannot)?.value,
        };
        for hop in &locator.hops {
            let made = self.layout.made.get(&part.made).ok_or_else(cannot)?;
            part = *match hop {
                Hop::Element(index) => made.elements.get(*index),
                Hop::Part(index) => made.parts.get(*index),
            }
            .ok_or_else(cannot)?;
        }
        Ok(part)
    }

    fn cut(&mut self, span: Span, instead: Option<NodeId>) {
        self.events.push((span.from, Does::Cut { to: span.to, instead }));
    }

    /// Lists what happens where.
    fn plan(&mut self) -> Result<()> {
        let grafts = self.grafts;
        for (key, fate) in &grafts.fates {
            let item = *self.layout.items.get(key).ok_or_else(cannot)?;
            if fate.is_gone {
                self.cut(Span { from: item.key.from, to: item.value.span.to }, None);
                if let Some(setter) = item.setter {
                    self.cut(setter, None);
                }
                continue;
            }
            if fate.key.is_some() {
                self.cut(item.key, fate.key);
            }
            if fate.value.is_some() {
                self.cut(item.value.span, fate.value);
            }
        }
        for ((locator, index), value) in &grafts.elements {
            let part = self.locate(locator)?;
            let made = self.layout.made.get(&part.made).ok_or_else(cannot)?;
            let element = *made.elements.get(*index).ok_or_else(cannot)?;
            self.cut(element.span, *value);
            if let (None, Some(setter)) = (value, element.setter) {
                self.cut(setter, None);
            }
        }
        let mut additions: FxHashMap<u64, (u64, Vec<(NodeId, NodeId)>)> = FxHashMap::default();
        for (locator, key, value) in &grafts.additions {
            let part = self.locate(locator)?;
            let made = self.layout.made.get(&part.made).ok_or_else(cannot)?;
            additions.entry(made.open).or_insert((made.start, Vec::new())).1.push((*key, *value));
        }
        self.events.extend(additions.into_iter().map(|(at, (within, what))| (at, Does::Add { within, what })));
        let objects = self.layout.remembered.iter().zip(0..);
        self.events.extend(objects.map(|(object, number)| (object.span.from, Does::Start(number))));
        let uses = self.layout.uses.iter().enumerate();
        self.events.extend(uses.map(|(number, one)| (one.span.from, Does::Use(number))));
        self.events.extend(self.layout.frames.iter().map(|frame| (frame.at.saturating_sub(1), Does::Frame)));
        let layout = self.layout;
        let longest_first = |does: &Does| match does {
            Does::Start(object) => {
                layout.remembered.get(*object as usize).map_or(0, |object| u64::MAX - object.span.to)
            }
            // a tuple begins where its first element does
            Does::Cut { to, .. } => u64::MAX - to,
            _ => 0,
        };
        self.events.sort_by_key(|(at, does)| (*at, does.rank(), longest_first(does)));
        Ok(())
    }

    fn range(&self, span: Span) -> Task {
        let event = self.events.partition_point(|(at, _)| *at < span.from);
        Task::Range { from: span.from, at: span.from, to: span.to, event }
    }

    fn run(&mut self) -> Result<()> {
        self.tasks.push(match self.grafts.root {
            Some(root) => Task::Node(root),
            None => self.range(self.root.span),
        });
        while let Some(task) = self.tasks.pop() {
            match task {
                Task::Bytes(bytes) => self.write(bytes)?,
                Task::Node(node) => self.node(node)?,
                Task::Range { from, at, to, event } => self.copy(from, at, to, event)?,
            }
        }
        Ok(())
    }

    fn node(&mut self, node: NodeId) -> Result<()> {
        let is_constant = matches!(self.pickle.graph.node(node), Node::None | Node::Bool(_));
        let origin = self.grafts.origins.get(&node).filter(|_| !is_constant);
        if let Some(origin) = origin {
            let part = self.locate(&Locator::of(*origin))?;
            self.tasks.push(self.range(part.span));
            return Ok(());
        }
        for piece in pieces(self.pickle.graph, node, self.module)?.into_iter().rev() {
            self.tasks.push(match piece {
                Piece::Bytes(bytes) => Task::Bytes(bytes),
                Piece::Node(node) => Task::Node(node),
            });
        }
        Ok(())
    }

    fn write(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.fresh = self.fresh.saturating_add(bytes.len() as u64);
        if self.fresh > self.pickle.max_bytes {
            let message = format!("more than {} bytes would stand elsewhere or are new", self.pickle.max_bytes);
            return Err(Error::limit(message));
        }
        match self.out.last_mut() {
            Some(Out::New(last)) => last.extend(bytes),
            _ => self.out.push(Out::New(bytes)),
        }
        Ok(())
    }

    /// Original bytes: as they lie there, or, behind others that follow them, as new ones.
    fn take(&mut self, from: u64, to: u64) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        if from >= self.after {
            self.after = to;
            match self.out.last_mut() {
                Some(Out::Old(last)) if last.to == from => last.to = to,
                _ => self.out.push(Out::Old(Span { from, to })),
            }
            return Ok(());
        }
        if !self.can_reorder {
            return Err(Error::unsupported("cannot be edited: the memo has several objects under one number"));
        }
        if self.fresh.saturating_add(to - from) > self.pickle.max_bytes {
            return self.write(vec![0; usize::try_from(self.pickle.max_bytes).unwrap_or(0)]);
        }
        self.write(read_vec(self.pickle.source.as_ref(), from, to - from)?)
    }

    fn span_of(&self, object: u32) -> Option<Span> {
        self.layout.remembered.get(object as usize).map(|object| object.span)
    }

    fn place_of(&self, object: u32) -> Placed {
        self.places.get(object as usize).copied().unwrap_or(Placed::Nowhere)
    }

    fn set_place(&mut self, object: u32, place: Placed) {
        if let Some(slot) = self.places.get_mut(object as usize) {
            *slot = place;
        }
    }

    fn fetch(&mut self, index: u64) -> Result<()> {
        match u8::try_from(index) {
            Ok(index) => self.write(vec![op::BINGET, index]),
            Err(_) => {
                let index = u32::try_from(index).map_err(|_| cannot())?;
                self.write([&[op::LONG_BINGET][..], &index.to_le_bytes()].concat())
            }
        }
    }

    /// Copies a range up to where something happens, and leaves the rest for later.
    fn copy(&mut self, from: u64, mut at: u64, to: u64, mut event: usize) -> Result<()> {
        let mut run = at;
        loop {
            let next = self.events.get(event).filter(|(here, does)| match does {
                Does::Add { .. } => *here <= to,
                _ => *here < to,
            });
            let Some((here, does)) = next else { break };
            let here = *here;
            event += 1;
            match does {
                // of what lies in a part that was left out, or around this range
                _ if here < at => {}
                Does::Add { within, .. } if *within < from => {}
                Does::Add { what, .. } => {
                    let what = what.clone();
                    self.take(run, here)?;
                    self.tasks.push(Task::Range { from, at: here, to, event });
                    for (key, value) in what.into_iter().rev() {
                        self.tasks.extend([Task::Bytes(vec![op::SETITEM]), Task::Node(value), Task::Node(key)]);
                    }
                    return Ok(());
                }
                // the range is what is replaced, and needed elsewhere
                Does::Cut { to: end, .. } if here == from && *end >= to => {}
                Does::Cut { to: end, instead } => {
                    let (end, instead) = (*end, *instead);
                    self.take(run, here)?;
                    self.skip_additions(here, end, &mut event);
                    (at, run) = (end, end);
                    if let Some(node) = instead {
                        self.tasks.extend([Task::Range { from, at, to, event }, Task::Node(node)]);
                        return Ok(());
                    }
                }
                Does::Start(object) => {
                    let object = *object;
                    let Some(span) = self.span_of(object).filter(|span| span.to <= to) else { continue };
                    if let Placed::At(index) = self.place_of(object) {
                        self.take(run, here)?;
                        self.fetch(index)?;
                        self.skip_additions(here, span.to, &mut event);
                        (at, run) = (span.to, span.to);
                    }
                }
                Does::Use(number) => {
                    let Some(one) = self.layout.uses.get(*number).copied() else { continue };
                    match (one.memo, self.place_of(one.object)) {
                        (Memo::Put { index, is_next }, _) => {
                            let index = if is_next { self.next } else { index };
                            self.next += 1;
                            self.set_place(one.object, Placed::At(index));
                        }
                        (Memo::Get { index }, Placed::At(new)) if index == new => {}
                        (Memo::Get { .. }, Placed::At(new)) => {
                            self.take(run, here)?;
                            self.fetch(new)?;
                            (at, run) = (one.span.to, one.span.to);
                        }
                        (Memo::Get { .. }, Placed::Begun) => return Err(cannot()),
                        (Memo::Get { .. }, Placed::Nowhere) => {
                            let span = self.span_of(one.object).ok_or_else(cannot)?;
                            self.take(run, here)?;
                            self.set_place(one.object, Placed::Begun);
                            let rest = Task::Range { from, at: one.span.to, to, event };
                            self.tasks.extend([rest, self.range(span)]);
                            return Ok(());
                        }
                    }
                }
                Does::Frame => {
                    self.take(run, here)?;
                    (at, run) = (here.saturating_add(FRAME_BYTES), here.saturating_add(FRAME_BYTES));
                }
            }
        }
        self.take(run, to)
    }

    /// Additions at the end of a part that is left out, to what lies in it.
    fn skip_additions(&self, from: u64, end: u64, event: &mut usize) {
        while let Some((at, does)) = self.events.get(*event) {
            match does {
                _ if *at < end => {}
                Does::Add { within, .. } if *at == end && *within >= from => {}
                _ => break,
            }
            *event += 1;
        }
    }

    /// What was written, as changes of what was there. Frames stay where they are and get other lengths.
    fn patches(&mut self) -> Result<Vec<Patch>> {
        let mut patches = Vec::new();
        let mut at = self.root.span.from;
        let mut pending = Vec::new();
        let out = std::mem::take(&mut self.out);
        let last = Out::Old(Span { from: self.root.span.to, to: self.root.span.to });
        for piece in out.into_iter().chain([last]) {
            match piece {
                Out::New(bytes) => pending.extend(bytes),
                Out::Old(span) => {
                    let mut bytes: Vec<u8> = std::mem::take(&mut pending);
                    let heads = self.layout.frames.iter().map(|frame| frame.at.saturating_sub(1));
                    let heads: Vec<u64> = heads.filter(|head| (at..span.from).contains(head)).collect();
                    for end in heads.into_iter().chain([span.from]) {
                        if end > at || !bytes.is_empty() {
                            patches.push(Patch { at, len: end - at, bytes: std::mem::take(&mut bytes).into() });
                        }
                        at = end.saturating_add(FRAME_BYTES);
                    }
                    at = span.to;
                }
            }
        }
        with_frames(patches, &self.layout.frames)
    }
}
