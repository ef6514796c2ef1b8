//! Pickles where nothing says that there is one: what bytes must do to count as a pickle, in whatever way they are read.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::{Scanner, at_byte, only_io};
use crate::container::detect::{Framing, detect};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::is_called_a_checkpoint;
use crate::pickle::opcode as op;
use crate::pickle::{
    Decoded, Graph, Inline, Node, NodeId, NothingInline, StreamId, decode_as_either, decode_by_frames,
};
use crate::safety::finding::Severity;
use crate::safety::globals::{Status, classify};
use crate::source::{MemorySource, SharedSource, Window, read_vec};

/// What decides whether anything is looked at as a pickle.
const HEAD_BYTES: u64 = 512;

impl Scanner<'_> {
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
}

/// Whether loading a graph imports anything, by a name or by a number of copyreg's registry: Python refuses a module
/// without a name.
pub(super) fn imports(graph: &Graph) -> bool {
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
pub(super) fn does_something(graph: &Graph, from: usize) -> bool {
    let is_danger = |id| {
        let name = graph.global(id).filter(is_name);
        name.is_some_and(|(module, name)| matches!(classify(&module, &name), Status::Dangerous(_)))
    };
    graph.ids().skip(from).any(|id| graph.object(id).is_some() || is_danger(id))
}

fn computed_global(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id), Node::Global { .. }) && graph.global(id).is_none()
}
