//! The ways to decode: one pickle, one as either of Python's unpicklers takes it, several with one memo.

use super::Decoder;
use super::inline::Inline;
use super::memo::Memo;
use super::trace::{NoTrace, Trace};
use crate::error::{Error, Result};
use crate::pickle::graph::{Graph, NodeId, StreamId};

/// Bytes of one pickle that room is made for at once.
const MOST_EXPECTED_BYTES: u64 = 64 << 20;
/// Opcodes that one graph may take in all, and more for each object it may have. A pickler writes fewer than two for each.
const MIN_STEPS: u64 = 4 << 20;
const STEPS_PER_OBJECT: u64 = 4;

/// What one pickle gave.
#[derive(Debug, Clone, Copy)]
pub struct Decoded {
    /// The object.
    pub root: NodeId,
    /// The byte after `STOP`, in the stream.
    pub end: u64,
    /// The byte up to which an unpickler has read its file by then: a frame, which may go on after `STOP`, is read whole.
    pub read_to: u64,
    /// The protocol that `PROTO` announces, else 1 when an opcode of protocol 1 was used, else 0.
    pub protocol: u8,
}

/// Reads one pickle at `position` of a stream into the graph. `max_objects` bounds the nodes of the whole graph.
pub fn decode(
    graph: &mut Graph,
    stream: StreamId,
    position: u64,
    max_objects: u64,
    inline: &dyn Inline,
) -> Result<Decoded> {
    decode_traced(graph, stream, position, max_objects, inline, &mut NoTrace)
}

/// The same, going on wherever one of Python's two unpicklers does (`Lib/pickle.py`, which joblib and others take, and
/// `Modules/_pickle.c`): for who asks what a stream could do, not what it is.
pub fn decode_as_either(
    graph: &mut Graph,
    stream: StreamId,
    position: u64,
    max_objects: u64,
    inline: &dyn Inline,
) -> Result<Decoded> {
    decode_further(graph, stream, position, max_objects, inline, false)
}

/// The same as `_pickle.c` reads from a file: where an argument reaches past the end of a frame, it forgets what is left
/// of the frame and reads the argument behind it.
pub fn decode_by_frames(
    graph: &mut Graph,
    stream: StreamId,
    position: u64,
    max_objects: u64,
    inline: &dyn Inline,
) -> Result<Decoded> {
    decode_further(graph, stream, position, max_objects, inline, true)
}

fn decode_further(
    graph: &mut Graph,
    stream: StreamId,
    position: u64,
    max_objects: u64,
    inline: &dyn Inline,
    by_frames: bool,
) -> Result<Decoded> {
    let source = graph.stream(stream).cloned().ok_or_else(|| Error::malformed("no such stream"))?;
    graph.expect(source.len().saturating_sub(position).min(MOST_EXPECTED_BYTES));
    let mut trace = NoTrace;
    let mut decoder = Decoder::new(graph, stream, &source, position, max_objects, inline, &mut trace);
    (decoder.is_either, decoder.is_by_frames) = (true, by_frames);
    decoder.run()
}

/// Whether pickles in a row fetch other objects when one unpickler loads them all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sharing {
    /// One fetches what only a pickle before it stored.
    pub is_needed: bool,
    /// One fetches another object than it would with a memo of its own: `MEMOIZE` counts on from pickle to pickle.
    pub is_other: bool,
    /// Nodes of the graph before the pickles that are not `wanted`.
    pub wanted: usize,
}

/// What an `Unpickler` object does with what is left of a frame behind `STOP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// There is none: it knows no frames.
    Unframed,
    /// The next pickle begins in it (`Modules/_pickle.c`).
    Kept,
    /// The next pickle begins behind it (`Lib/pickle.py`).
    Dropped,
}

/// Pickles one after the other as one `Unpickler` object loads them: both of Python's keep the memo from `load` to `load`.
/// Ends where one breaks, or after `most`, of which the first are `wanted`.
pub fn decode_row(
    graph: &mut Graph,
    stream: StreamId,
    max_objects: u64,
    inline: &dyn Inline,
    (wanted, most): (usize, usize),
    rest: Rest,
) -> Result<Sharing> {
    let source = graph.stream(stream).cloned().ok_or_else(|| Error::malformed("no such stream"))?;
    let (mut memo, mut sharing, mut at, mut frame_end) = (Memo::default(), Sharing::default(), 0, 0);
    for number in 0..most {
        if number == wanted {
            sharing.wanted = graph.len();
        }
        if at >= source.len() {
            break;
        }
        let mut trace = NoTrace;
        let mut decoder = Decoder::new(graph, stream, &source, at, max_objects, inline, &mut trace);
        (decoder.is_either, decoder.is_by_frames) = (true, rest == Rest::Kept);
        decoder.reader.stay_in_frame(frame_end);
        (decoder.memo, decoder.own) = (memo, Some(Memo::default()));
        let decoded = decoder.run();
        frame_end = if rest == Rest::Dropped { 0 } else { decoder.reader.frame_end() };
        memo = decoder.memo;
        sharing.is_needed |= decoder.sharing.is_needed;
        sharing.is_other |= decoder.sharing.is_other;
        match decoded {
            Ok(read) if rest == Rest::Dropped => at = read.read_to.max(read.end),
            Ok(read) => at = read.end,
            Err(e) if e.kind() == crate::error::ErrorKind::Io => return Err(e),
            Err(_) => break,
        }
    }
    if sharing.wanted == 0 {
        sharing.wanted = graph.len();
    }
    Ok(sharing)
}

/// As [`decode`], with somebody who watches.
pub fn decode_traced(
    graph: &mut Graph,
    stream: StreamId,
    position: u64,
    max_objects: u64,
    inline: &dyn Inline,
    trace: &mut dyn Trace,
) -> Result<Decoded> {
    let source = graph.stream(stream).cloned().ok_or_else(|| Error::malformed("no such stream"))?;
    let name = graph.stream_name(stream).to_owned();
    graph.expect(source.len().saturating_sub(position).min(MOST_EXPECTED_BYTES));
    let decoded = Decoder::new(graph, stream, &source, position, max_objects, inline, trace).run();
    decoded.map_err(|e| if name.is_empty() { e } else { e.in_member(&name) })
}

/// How many opcodes may make so many objects. Those that make nothing (`N0`) are bounded too: compressed, millions of them
/// take no room.
pub(crate) fn most_steps(max_objects: u64) -> u64 {
    MIN_STEPS.saturating_add(max_objects.saturating_mul(STEPS_PER_OBJECT))
}
