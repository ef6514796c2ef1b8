//! Pickles in a stream of bytes: one after the other, with raw data between them, behind a header, or hidden.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{Scanner, at_byte, only_io};
use crate::checkpoint::numpy::Joblib;
use crate::container::detect::{Framing, detect};
use crate::container::legacy::is_legacy;
use crate::container::npy;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::is_called_a_checkpoint;
use crate::pickle::opcode as op;
use crate::pickle::{
    Decoded, Graph, Inline, Node, NodeId, NothingInline, Rest, StreamId, decode_as_either, decode_by_frames, decode_row,
};
use crate::safety::finding::{Finding, Severity};
use crate::safety::globals::{Status, classify};
use crate::source::{MemorySource, SharedSource, Window, read_vec};

/// What decides whether anything is looked at as a pickle.
const HEAD_BYTES: u64 = 512;
/// Pickles that are looked for in one stream.
const MAX_PICKLES: usize = 10_000;
/// Pickles that a legacy stream of torch's begins with.
const LEGACY_PICKLES: usize = 5;

impl Scanner<'_> {
    /// Pickles one after the other from the beginning of a stream; what is left is looked at as a file of its own.
    pub(super) fn stream(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let (pickles, left) = (if is_legacy(source) { LEGACY_PICKLES } else { MAX_PICKLES }, self.left);
        let (mut at, mut begun, mut behind_frames) = (0, BTreeSet::new(), Vec::new());
        let mut is_broken = false;
        for number in 0..pickles {
            if at >= source.len() {
                break;
            }
            begun.insert(at);
            let Some(read) = self.pickle(source, at, place, depth, number == 0 || pickles == LEGACY_PICKLES)? else {
                if number > 0 {
                    self.trailing(source, at, place, depth)?;
                }
                behind_frames.append(&mut self.behind_by_frames);
                is_broken = true;
                break;
            };
            at = read.end;
            if read.read_to > read.end {
                behind_frames.push(read.read_to);
            }
            behind_frames.append(&mut self.behind_by_frames);
        }
        if begun.len() > 1 {
            self.with_one_memo(source, left, pickles, place, depth)?;
        }
        self.behind_frames(source, behind_frames, begun, place, depth)?;
        if !is_broken && pickles == LEGACY_PICKLES && at < source.len() {
            // torch takes what follows for storages, whoever loads pickle after pickle for pickles
            let rest = Window::shared(source, at, source.len() - at)?;
            self.hidden(&rest, &at_byte(place, source.absolute(at)), depth)?;
        }
        if !is_broken && pickles == MAX_PICKLES && at < source.len() {
            let message =
                format!("what follows the first {MAX_PICKLES} pickles is only searched for dangerous globals");
            self.tell(Severity::Error, "too-many-pickles", message, &at_byte(place, source.absolute(at)));
            self.search(source, at, None, place)?;
        }
        Ok(())
    }

    /// What pickles come to when one `Unpickler` object loads them all, and fetch from its memo what those before them
    /// stored. `left` is what may be made of objects: as much as when they were read alone.
    fn with_one_memo(
        &mut self,
        source: &SharedSource,
        left: u64,
        pickles: usize,
        place: &str,
        depth: usize,
    ) -> Result<()> {
        if !self.may_begin(place) {
            return Ok(());
        }
        let row = |most| -> Result<_> {
            let mut graph = Graph::new();
            let stream = graph.add_stream(Arc::clone(source), "");
            let sharing = decode_row(&mut graph, stream, left, &Joblib, (pickles, most), Rest::Unframed)?;
            Ok((graph, sharing))
        };
        let (mut graph, mut sharing) = row(MAX_PICKLES)?;
        self.spend(graph.steps());
        // behind torch's own pickles lie storages: any bytes may name something, few call it
        let is_needed = sharing.is_needed || sharing.is_other;
        if is_needed && graph.len() > sharing.wanted && !does_something(&graph, sharing.wanted) {
            (graph, sharing) = row(pickles)?;
            self.spend(graph.steps());
        }
        if graph.oddities().any(|(what, _)| what.starts_with("a frame")) {
            for rest in [Rest::Kept, Rest::Dropped] {
                if !self.may_begin(place) {
                    return Ok(());
                }
                let mut graph = Graph::new();
                let stream = graph.add_stream(Arc::clone(source), "");
                decode_row(&mut graph, stream, left, &NothingInline, (MAX_PICKLES, MAX_PICKLES), rest)?;
                self.spend(graph.steps());
                self.aside(|_| true, |scanner| scanner.collect(&graph, place, depth))?;
            }
        }
        if sharing.is_needed {
            self.aside(|_| true, |scanner| scanner.collect(&graph, place, depth))
        } else if sharing.is_other {
            self.only_danger(|scanner| scanner.collect(&graph, place, depth))
        } else {
            Ok(())
        }
    }

    /// Pickles that begin where a frame ends which went on after the `STOP` of another: whoever loads one after the other
    /// from a file has read the frame whole.
    fn behind_frames(
        &mut self,
        source: &SharedSource,
        mut starts: Vec<u64>,
        mut begun: BTreeSet<u64>,
        place: &str,
        depth: usize,
    ) -> Result<()> {
        while let Some(at) = starts.pop() {
            if at >= source.len() || !begun.insert(at) {
                continue;
            }
            if !self.may_begin(place) {
                return Ok(());
            }
            if let Some(read) = self.pickle(source, at, place, depth, false)? {
                starts.extend([read.end, read.read_to]);
            }
            starts.append(&mut self.behind_by_frames);
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

    /// One pickle; gives what it is and where it ends, nothing when it breaks. One that breaks is told when it is `wanted`,
    /// or when it would have imported something before.
    pub(super) fn pickle(
        &mut self,
        source: &SharedSource,
        at: u64,
        place: &str,
        depth: usize,
        wanted: bool,
    ) -> Result<Option<Decoded>> {
        // what was decoded before, with as many objects to make, is what would come of it now
        let known = self
            .decoded
            .take()
            .filter(|(graph, _)| at == 0 && graph.only_stream().is_some_and(|(stream, _)| Arc::ptr_eq(stream, source)));
        if let Some((graph, decoded)) = known {
            return self.decoded_pickle(graph, Ok(decoded), (source, at), place, depth, wanted);
        }
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::clone(source), "");
        let decoded = decode_as_either(&mut graph, stream, at, self.left, &Joblib);
        self.decoded_pickle(&graph, decoded, (source, at), place, depth, wanted)
    }

    /// What there is to say of a pickle that has been decoded, or as far as it was.
    fn decoded_pickle(
        &mut self,
        graph: &Graph,
        decoded: Result<Decoded>,
        (source, at): (&SharedSource, u64),
        place: &str,
        depth: usize,
        wanted: bool,
    ) -> Result<Option<Decoded>> {
        self.left = self.left.saturating_sub(graph.held());
        self.spend(graph.steps());
        let calls = graph.ids().filter(|id| graph.object(*id).is_some()).count();
        match &decoded {
            Err(e) if e.kind() == ErrorKind::Io => return Err(e.again()),
            Err(_) if !wanted && calls == 0 && !imports(graph) => return Ok(None),
            Err(e) => {
                let message = match calls {
                    0 => format!("the pickle is broken: {}", e.message()),
                    calls => {
                        format!("the pickle is broken, after {calls} calls that run all the same: {}", e.message())
                    }
                };
                let told = e.offset().map_or_else(|| place.to_owned(), |at| at_byte(place, at));
                self.add(Finding {
                    advice: e.advice().cloned(),
                    ..Finding::new(Severity::Error, "pickle-broken", message, &told)
                });
                if wanted && e.kind() != ErrorKind::Limit {
                    self.search(source, at, None, place)?;
                }
            }
            Ok(_) => {}
        }
        self.scan.pickles += 1;
        self.collect(graph, place, depth)?;
        if graph.has_inline() {
            self.without_joblib(source, at, place, depth)?;
        }
        let is_astray = graph.oddities().any(|(what, _)| what.starts_with("a frame"));
        if graph.is_framed() && (decoded.is_err() || is_astray) {
            self.by_frames(source, at, place, depth)?;
        }
        Ok(decoded.ok())
    }

    /// What `_pickle.c` comes to where an argument reaches past the end of a frame: other bytes than `loads` does.
    fn by_frames(&mut self, source: &SharedSource, at: u64, place: &str, depth: usize) -> Result<()> {
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::clone(source), "");
        let decoded = decode_by_frames(&mut graph, stream, at, self.left, &NothingInline);
        self.left = self.left.saturating_sub(graph.held());
        self.spend(graph.steps());
        self.collect(&graph, place, depth)?;
        match decoded {
            Ok(read) => self.behind_by_frames.push(read.read_to),
            Err(e) => drop(only_io(e)?),
        }
        Ok(())
    }

    /// `pickle.load` knows nothing of the raw arrays that joblib puts into its streams: it takes them for opcodes.
    fn without_joblib(&mut self, source: &SharedSource, at: u64, place: &str, depth: usize) -> Result<()> {
        self.only_danger(|plain| {
            let mut graph = Graph::new();
            let stream = graph.add_stream(Arc::clone(source), "");
            match decode_as_either(&mut graph, stream, at, plain.left, &NothingInline) {
                Err(e) if e.kind() == ErrorKind::Io => return Err(e),
                _ => {}
            }
            plain.left = plain.left.saturating_sub(graph.held());
            plain.spend(graph.steps());
            plain.collect(&graph, place, depth)
        })
    }

    /// Pickles with raw integers and data between them (the tar of torch < 0.1.10): wherever one of protocol 2 or newer
    /// begins, it is read.
    pub(super) fn mixed(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let mut at = 0;
        while at < source.len() {
            let block = read_vec(source.as_ref(), at, (source.len() - at).min(64 << 10))?;
            let Some(next) = block.windows(2).position(|pair| matches!(pair, [0x80, 1..=5])) else {
                // a first byte at the end of this block may have its second one in the next
                at += (block.len() as u64 - 1).max(1);
                continue;
            };
            let begin = at + next as u64;
            if !self.may_begin(place) {
                return Ok(());
            }
            at = self.pickle(source, begin, place, depth, false)?.map_or(begin + 1, |read| read.end);
        }
        Ok(())
    }

    /// What may be a pickle though nothing says so: it counts when it is one to its end, or calls something or names
    /// something dangerous before it breaks. True when it counts.
    pub(super) fn hidden(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<bool> {
        let (mut rest, mut at) = (Arc::clone(source), 0);
        loop {
            let head = read_vec(rest.as_ref(), 0, rest.len().min(HEAD_BYTES))?;
            let place = if at == 0 { Cow::Borrowed(place) } else { Cow::Owned(at_byte(place, source.absolute(at))) };
            if self.hidden_from(&head, &rest, &place, depth)? {
                // who does not read frames whole comes to what stands before as well
                if at > 0 {
                    self.before_the_break(source, &place, depth)?;
                }
                return Ok(true);
            }
            // a frame that goes on after STOP hides what lies behind it from all but who reads it whole
            if !head.contains(&op::FRAME) || !self.may_begin(&place) {
                return Ok(false);
            }
            let mut graph = Graph::new();
            let stream = graph.add_stream(Arc::clone(&rest), "");
            let decoded = decode_by_frames(&mut graph, stream, 0, self.left, &NothingInline);
            self.spend(graph.steps());
            match decoded {
                Ok(read) if read.read_to > read.end && read.read_to < rest.len() => at += read.read_to,
                Ok(_) => return Ok(false),
                Err(e) => return only_io(e).map(|_| false),
            }
            rest = Window::shared(source, at, source.len() - at)?;
        }
    }

    fn hidden_from(&mut self, head: &[u8], source: &SharedSource, place: &str, depth: usize) -> Result<bool> {
        if !may_be_pickle(head) || !self.may_begin(place) {
            return Ok(false);
        }
        let (graph, decoded) = self.first_that_names(source, place, decode_as_either)?;
        // no module has such a name, so that Python stops there: a tar whose first member is `c.pt` is no pickle
        let first = graph.ids().find_map(|id| graph.global(id));
        if first.is_some_and(|(module, _)| module.contains('\0')) && matches!(detect(source.as_ref()), Ok(Framing::Tar))
        {
            return Ok(false);
        }
        let mut counts = names_any(&graph) && (decoded.is_ok() || does_something(&graph, 0));
        if !counts && head.contains(&op::FRAME) && self.may_begin(place) {
            let (graph, decoded) = self.first_that_names(source, place, decode_by_frames)?;
            counts = names_any(&graph) && (decoded.is_ok() || does_something(&graph, 0));
        }
        if counts {
            // a checkpoint in an archive is what it is called
            if !is_called_a_checkpoint(Path::new(place)) {
                self.tell(Severity::Warning, "pickle-hidden", "holds a pickle where none belongs", place);
            }
            return self.stream(source, place, depth + 1).map(|()| true);
        }
        Ok(false)
    }

    /// The first pickle in a row that names a global, or the last one.
    fn first_that_names(
        &mut self,
        source: &SharedSource,
        place: &str,
        decode: Decode,
    ) -> Result<(Graph, Result<Decoded>)> {
        let mut at = 0;
        loop {
            let mut graph = Graph::new();
            let stream = graph.add_stream(Arc::clone(source), "");
            let decoded = decode(&mut graph, stream, at, self.left, &NothingInline);
            self.spend(graph.steps());
            match &decoded {
                Err(e) if e.kind() == ErrorKind::Io => return Err(e.again()),
                // the first of many may be a plain number
                Ok(read) if !names_any(&graph) && read.end < source.len() && self.may_begin(place) => at = read.end,
                _ => return Ok((graph, decoded)),
            }
        }
    }

    /// What a file names before it breaks, of which only what lies behind the break says that it may be a pickle.
    pub(super) fn before_the_break(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        let mut at = 0;
        while at < source.len() && self.may_begin(place) {
            let mut graph = Graph::new();
            let stream = graph.add_stream(Arc::clone(source), "");
            let decoded = decode_as_either(&mut graph, stream, at, self.left, &NothingInline);
            self.spend(graph.steps());
            if imports(&graph) {
                let look = |scanner: &mut Self| {
                    scanner.collect(&graph, place, depth)?;
                    if graph.is_framed() { scanner.by_frames(source, at, place, depth) } else { Ok(()) }
                };
                self.aside(|_| true, look)?;
            }
            match decoded {
                Ok(read) => at = read.end,
                Err(e) => return only_io(e).map(drop),
            }
        }
        Ok(())
    }

    /// One `.npy`: an array of objects is a pickle. What is no header by numpy's rules, or by ours, may be one by the
    /// other's, so what follows it is looked at in any case.
    pub(super) fn npy(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        match npy::read(source.as_ref()) {
            Ok(header) if header.descr.code.contains('O') => {
                return self.pickle(source, header.data_start, place, depth, true).map(drop);
            }
            Ok(_) => {}
            Err(e) => self.unreadable(e, place)?,
        }
        let Some(data_start) = npy_data_start(source)? else { return Ok(()) };
        let data = Window::shared(source, data_start, source.len() - data_start)?;
        self.hidden(&data, place, depth).map(drop)
    }
}

/// Whether loading a graph imports anything, by a name or by a number of copyreg's registry: Python refuses a module
/// without a name.
fn imports(graph: &Graph) -> bool {
    graph.ids().any(|id| match graph.node(id) {
        Node::Extension(_) => true,
        Node::Global { .. } => graph.global(id).is_none_or(|(module, _)| !module.is_empty()),
        _ => false,
    })
}

/// The globals of a graph whose names a program could have given.
fn names(graph: &Graph) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    graph.ids().filter_map(|id| graph.global(id)).filter(is_name)
}

fn is_name((module, name): &(Cow<'_, str>, Cow<'_, str>)) -> bool {
    [module, name].iter().all(|text| !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace()))
}

/// Whether bytes may begin a pickle that does something: it names a global in what is there, or goes on behind it.
pub(super) fn may_be_pickle(head: &[u8]) -> bool {
    let names = |byte: &u8| matches!(*byte, op::GLOBAL | op::INST | op::STACK_GLOBAL | op::EXT1 | op::EXT2 | op::EXT4);
    let can_name = head.iter().any(names);
    if (head.len() as u64) < HEAD_BYTES && !can_name {
        return false;
    }
    let source: SharedSource = Arc::new(MemorySource::new(head.to_vec()));
    may_be_read(&source, decode_as_either) || head.contains(&op::FRAME) && may_be_read(&source, decode_by_frames)
}

type Decode = fn(&mut Graph, StreamId, u64, u64, &dyn Inline) -> Result<Decoded>;

fn may_be_read(source: &SharedSource, decode: Decode) -> bool {
    let mut at = 0;
    loop {
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::clone(source), "");
        match &decode(&mut graph, stream, at, HEAD_BYTES * 2, &NothingInline) {
            Err(e) if source.len() >= HEAD_BYTES && (e.kind() == ErrorKind::Truncated || is_cut_line(source, e)) => {
                return true;
            }
            Ok(read) if !names_any(&graph) && read.end < source.len() => at = read.end,
            Ok(read) if !names_any(&graph) => return read.end >= HEAD_BYTES,
            _ => return names_any(&graph),
        }
    }
}

/// Whether the opcode that an error is about takes a line of which only a part is there.
fn is_cut_line(head: &SharedSource, e: &Error) -> bool {
    let opcode = e.offset().and_then(|at| read_vec(head.as_ref(), at, head.len().checked_sub(at)?).ok());
    opcode.as_deref().and_then(<[u8]>::split_first).is_some_and(|(code, rest)| {
        let lines = match *code {
            op::GLOBAL | op::INST => 2,
            op::STRING | op::UNICODE | op::INT | op::LONG | op::FLOAT | op::PERSID | op::GET | op::PUT => 1,
            _ => 0,
        };
        rest.iter().filter(|b| **b == b'\n').count() < lines
    })
}

fn names_any(graph: &Graph) -> bool {
    let is_name = |id| match graph.node(id) {
        // one byte says that much: only a call of it is a name
        Node::Object(object) => matches!(graph.node(object.callable), Node::Extension(_)),
        _ => computed_global(graph, id),
    };
    names(graph).next().is_some() || graph.ids().any(is_name)
}

/// Whether a node from number `from` on is a call, or a dangerous global.
fn does_something(graph: &Graph, from: usize) -> bool {
    let is_danger = |id| {
        let name = graph.global(id).filter(is_name);
        name.is_some_and(|(module, name)| matches!(classify(&module, &name), Status::Dangerous(_)))
    };
    graph.ids().skip(from).any(|id| graph.object(id).is_some() || is_danger(id))
}

fn computed_global(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id), Node::Global { .. }) && graph.global(id).is_none()
}

/// Where the data of an array file begins, whatever its header says.
fn npy_data_start(source: &SharedSource) -> Result<Option<u64>> {
    let fixed = read_vec(source.as_ref(), 0, source.len().min(12))?;
    let start = match fixed.as_slice() {
        [_, _, _, _, _, _, 1, _, low, high, ..] => 10 + u64::from(u16::from_le_bytes([*low, *high])),
        [_, _, _, _, _, _, _, _, a, b, c, d] => 12 + u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => return Ok(None),
    };
    Ok((start < source.len()).then_some(start))
}
