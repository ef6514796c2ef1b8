//! A pickle with some of its strings replaced, byte for byte the same elsewhere: never a re-encoding.
//!
//! What one opcode pushes is replaced, and nothing else: a string that the memo shares with other places keeps its old
//! value there. Where that forces it, a memo get becomes a string opcode (one that `torch/_weights_only_unpickler.py`
//! knows), without a memo place of its own, so that `MEMOIZE` counts on as before. `FRAME` lengths follow.

mod graft;
mod isomorphic;
mod layout;
mod literal;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use self::graft::{Grafts, Hop, Locator, Origin, Pickle, graft};
pub(crate) use self::isomorphic::is_what_was_asked_for;
use crate::error::{Error, Result};
use crate::pickle::decode::{Does, Inline, Trace, decode_traced};
use crate::pickle::graph::{Graph, Node, NodeId};
use crate::pickle::opcode as op;
use crate::pickle::text::{Encoding, code_points};
use crate::source::{SharedSource, Source, past_end};

/// What one opcode is to push instead of its string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The string in the graph of the pickle.
    pub node: NodeId,
    /// The new content, as [`Graph::text`] gives it.
    pub new: Arc<[u8]>,
}

/// Edits by the place of the opcode that pushes the string: a string opcode, a memo get, a `DUP`.
pub(crate) type Edits = HashMap<u64, Edit>;

/// Replaces strings of the pickles that lie in a row at the beginning of `source`, read before as `graph`. `max_objects`
/// bounds what they make, `max_bytes` what the replaced strings may take. Fails where an edit names no string's opcode.
pub(crate) fn splice(
    source: &SharedSource,
    graph: &Graph,
    edits: &Edits,
    max_objects: u64,
    max_bytes: u64,
    inline: &dyn Inline,
) -> Result<Spliced> {
    let total = edits.values().map(|edit| edit.new.len() as u64).fold(0, u64::saturating_add);
    if let Some(patches) = literals(source, graph, edits)?.filter(|_| total <= max_bytes) {
        return Spliced::new(Arc::clone(source), patches);
    }
    splice_traced(source, graph, edits, max_objects, max_bytes, inline)
}

/// The same, whatever shares the strings: the pickle is read once more, and watched.
fn splice_traced(
    source: &SharedSource,
    old: &Graph,
    edits: &Edits,
    max_objects: u64,
    max_bytes: u64,
    inline: &dyn Inline,
) -> Result<Spliced> {
    let mut tracer = Tracer::new(old, edits);
    let last = edits.keys().max().copied();
    let mut position = 0;
    while last.is_some_and(|last| position <= last) {
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::clone(source), "");
        tracer.memo.clear();
        position = decode_traced(&mut graph, stream, position, max_objects, inline, &mut tracer)?.end;
        if tracer.bytes > max_bytes {
            return Err(Error::limit(format!("the new names would take more than {max_bytes} bytes")));
        }
    }
    if tracer.used != edits.len() {
        return Err(Error::malformed("a name that is to change is not pushed by an opcode of its own"));
    }
    Spliced::new(Arc::clone(source), tracer.finish()?)
}

/// Bytes that stand in for others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Patch {
    /// The first byte that is replaced, and how many are.
    at: u64,
    len: u64,
    bytes: Box<[u8]>,
}

/// The patches where no more than the edited keys use the strings they replace: then the opcodes that hold these are
/// all that changes, and the pickle need not be read again. `None` where it must be.
fn literals(source: &SharedSource, graph: &Graph, edits: &Edits) -> Result<Option<Vec<Patch>>> {
    let Some(mut strings) = Strings::of(graph, edits).filter(|_| !graph.is_framed()) else { return Ok(None) };
    let mut order: Vec<(u64, &Edit)> = edits.iter().map(|(at, edit)| (*at, edit)).collect();
    order.sort_unstable_by_key(|(at, _)| *at);
    let mut patches = Vec::with_capacity(order.len());
    let mut ahead = Ahead { inner: source, start: 0, bytes: Vec::new() };
    for (at, edit) in &order {
        let mut head = [0; 5];
        // a string's opcode with its length; a memo get has at least STOP and an opcode after it that uses what it got
        let shorter = usize::try_from(source.len().saturating_sub(*at)).map_or(5, |left| left.min(5));
        ahead.read(*at, head.split_at_mut(shorter).0)?;
        let (code, len) = match head {
            [code @ op::SHORT_BINSTRING, len, ..] => (code, 2 + u64::from(len)),
            [code @ (op::BINUNICODE | op::BINSTRING), len @ ..] => (code, 5 + u64::from(u32::from_le_bytes(len))),
            // fetches the new string by itself
            [op::BINGET | op::LONG_BINGET, ..] => continue,
            _ => return Ok(None),
        };
        strings.is_pushed_anew(edit.node);
        patches.push(Patch { at: *at, len, bytes: literal(code, &edit.new).into() });
    }
    Ok(strings.all_are().then_some(patches))
}

/// The strings that edits are about.
struct Strings {
    /// For each node of the graph, its string's place here, and one more; zero for all others.
    places: Vec<u32>,
    /// Whether the opcode that holds the string is among the edited ones.
    pushed_anew: Vec<bool>,
}

impl Strings {
    /// `None` when one of them is used by anything but edited keys, or these do not all want the same of it.
    fn of(graph: &Graph, edits: &Edits) -> Option<Self> {
        let mut places = vec![0u32; graph.len()];
        // uses by keys that change, less all uses; the new content
        let mut strings: Vec<(i64, &[u8])> = Vec::with_capacity(edits.len());
        for edit in edits.values() {
            let place = places.get_mut(edit.node.index())?;
            if *place == 0 {
                strings.push((0, &edit.new));
                *place = u32::try_from(strings.len()).ok()?;
            }
            let (uses, new) = strings.get_mut((*place as usize).checked_sub(1)?)?;
            if **new != *edit.new {
                return None;
            }
            *uses += 1;
        }
        graph.for_each_reference(|node| {
            let place = places.get(node.index()).map_or(0, |place| *place as usize);
            if let Some((uses, _)) = place.checked_sub(1).and_then(|place| strings.get_mut(place)) {
                *uses -= 1;
            }
        });
        let pushed_anew = vec![false; strings.len()];
        strings.iter().all(|(uses, _)| *uses == 0).then_some(Strings { places, pushed_anew })
    }

    fn is_pushed_anew(&mut self, node: NodeId) {
        let place = self.places.get(node.index()).and_then(|place| (*place as usize).checked_sub(1));
        if let Some(pushed) = place.and_then(|place| self.pushed_anew.get_mut(place)) {
            *pushed = true;
        }
    }

    fn all_are(&self) -> bool {
        self.pushed_anew.iter().all(|pushed| *pushed)
    }
}

#[derive(Debug)]
struct Frame {
    /// Where its eight bytes of length lie; its content follows.
    at: u64,
    len: u64,
}

struct Tracer<'a> {
    /// What the pickle was read as before.
    old: &'a Graph,
    edits: &'a Edits,
    /// Memo places that hold an edited string: where that was pushed.
    memo: HashMap<u64, u64>,
    outer: Vec<HashMap<u64, u64>>,
    patches: Vec<Patch>,
    frames: Vec<Frame>,
    /// Edits whose opcode has been seen.
    used: usize,
    bytes: u64,
    /// A string could not be read again.
    failed: Option<Error>,
}

impl Trace for Tracer<'_> {
    fn opcode(&mut self, code: u8, at: u64, end: u64, does: Does) {
        match does {
            Does::Push => {
                if let Some(edit) = self.edits.get(&at) {
                    self.used += 1;
                    self.replace(at, end, literal(code, &edit.new));
                }
            }
            Does::Get { index } => self.repeated(self.memo.get(&index).copied(), at, end),
            Does::Repeat { pushed_at } => self.repeated(Some(pushed_at), at, end),
            Does::Put { index, pushed_at } => {
                if self.edits.contains_key(&pushed_at) {
                    self.memo.insert(index, pushed_at);
                } else {
                    self.memo.remove(&index);
                }
            }
            Does::Frame { len } => self.frames.push(Frame { at: end.saturating_sub(8), len }),
            Does::Enter => self.outer.push(std::mem::take(&mut self.memo)),
            Does::Leave => self.memo = self.outer.pop().unwrap_or_default(),
        }
    }
}

impl<'a> Tracer<'a> {
    fn new(old: &'a Graph, edits: &'a Edits) -> Self {
        let (memo, outer) = (HashMap::new(), Vec::new());
        Tracer { old, edits, memo, outer, patches: Vec::new(), frames: Vec::new(), used: 0, bytes: 0, failed: None }
    }

    /// An opcode repeats what was pushed at `origin`, which may have been edited, and may be edited itself.
    fn repeated(&mut self, origin: Option<u64>, at: u64, end: u64) {
        let edits = self.edits;
        let origin = origin.and_then(|origin| edits.get(&origin));
        let here = edits.get(&at);
        self.used += usize::from(here.is_some());
        let text = |edit: &Edit| match self.old.node(edit.node) {
            Node::Str(text) => Some(*text),
            _ => None,
        };
        let (text, wanted) = match (origin, here) {
            (None, None) => return,
            (Some(origin), Some(here)) if origin.new == here.new => return,
            (_, Some(here)) => (text(here), Ok(Cow::Borrowed(&*here.new))),
            (Some(origin), None) => {
                let text = text(origin);
                (text, text.map_or(Ok(Cow::Borrowed(&[][..])), |text| self.old.text(text)))
            }
        };
        let encoding = text.map_or(Encoding::Utf8, |text| self.old.encoding(text));
        match wanted {
            Ok(wanted) => self.replace(at, end, literal(opcode_for(encoding, &wanted), &wanted)),
            Err(e) => drop(self.failed.get_or_insert(e)),
        }
    }

    fn replace(&mut self, at: u64, end: u64, bytes: Vec<u8>) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.patches.push(Patch { at, len: end - at, bytes: bytes.into() });
    }

    /// The patches in order, with those of the frames they lie in.
    fn finish(mut self) -> Result<Vec<Patch>> {
        if let Some(e) = self.failed {
            return Err(e);
        }
        // opcodes go by in order, and nothing lies inside another
        self.patches.sort_by_key(|patch| patch.at);
        with_frames(self.patches, &self.frames)
    }
}

/// Patches, in order, with those of the lengths of the frames that they lie in.
fn with_frames(mut patches: Vec<Patch>, frames: &[Frame]) -> Result<Vec<Patch>> {
    let mut grown = vec![0i128];
    for patch in &patches {
        let before = grown.last().copied().unwrap_or(0);
        grown.push(before + patch.bytes.len() as i128 - i128::from(patch.len));
    }
    let at_byte = |byte: u64| {
        let before = patches.partition_point(|patch| patch.at < byte);
        grown.get(before).copied().unwrap_or(0)
    };
    let mut lengths = Vec::new();
    for frame in frames {
        let begin = frame.at.saturating_add(8);
        let by = at_byte(begin.saturating_add(frame.len)) - at_byte(begin);
        if by != 0 {
            let len = u64::try_from(i128::from(frame.len) + by)
                .map_err(|_| Error::malformed("a string reaches beyond its FRAME").at(frame.at))?;
            lengths.push(Patch { at: frame.at, len: 8, bytes: len.to_le_bytes().into() });
        }
    }
    patches.extend(lengths);
    patches.sort_by_key(|patch| patch.at);
    Ok(patches)
}

/// The opcode for a string that is written where a memo get was: weights_only knows `BINUNICODE` and
/// `SHORT_BINSTRING`, and strings of protocol 0 stay such.
fn opcode_for(encoding: Encoding, content: &[u8]) -> u8 {
    match encoding {
        Encoding::Python2 if content.len() < 256 => op::SHORT_BINSTRING,
        Encoding::Python2 => op::BINSTRING,
        Encoding::Python2Escaped => op::STRING,
        Encoding::RawUnicodeEscape => op::UNICODE,
        _ => op::BINUNICODE,
    }
}

/// A string opcode with its argument; one that is too long for `code` takes the next larger opcode.
fn literal(code: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len() as u64;
    let code = match code {
        // a longer string of Python 2 has no opcode that weights_only knows; as `str` it loads there all the same
        op::SHORT_BINSTRING if len > 0xff && std::str::from_utf8(content).is_ok() => op::BINUNICODE,
        op::SHORT_BINSTRING if len > 0xff => op::BINSTRING,
        op::SHORT_BINUNICODE if len > 0xff => op::BINUNICODE,
        op::BINUNICODE if len > 0xffff_ffff => op::BINUNICODE8,
        code => code,
    };
    let mut out = Vec::with_capacity(9 + content.len());
    out.push(code);
    let width = match code {
        op::STRING => {
            quote(content, &mut out);
            return out;
        }
        op::UNICODE => {
            raw_unicode_escape(content, &mut out);
            return out;
        }
        op::SHORT_BINSTRING | op::SHORT_BINUNICODE => 1,
        op::BINUNICODE8 => 8,
        _ => 4,
    };
    out.extend(len.to_le_bytes().iter().take(width));
    out.extend_from_slice(content);
    out
}

/// A literal as Python 2's `repr` writes it, and a newline.
fn quote(content: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for byte in content {
        match byte {
            b'\\' | b'\'' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            b' '..=b'~' => out.push(*byte),
            other => out.extend(format!("\\x{other:02x}").bytes()),
        }
    }
    out.extend(b"'\n");
}

/// The `raw-unicode-escape` codec with what `pickle.py` (`save_str`) escapes besides, and a newline.
fn raw_unicode_escape(content: &[u8], out: &mut Vec<u8>) {
    for point in code_points(content) {
        let code = point.map_or_else(|surrogate| surrogate, u32::from);
        match u8::try_from(code) {
            Ok(b'\\' | 0 | b'\n' | b'\r' | 0x1a) => out.extend(format!("\\u{code:04x}").bytes()),
            Ok(byte) => out.push(byte),
            Err(_) if code > 0xffff => out.extend(format!("\\U{code:08x}").bytes()),
            Err(_) => out.extend(format!("\\u{code:04x}").bytes()),
        }
    }
    out.push(b'\n');
}

/// Bytes with patches in them, read like any others.
#[derive(Debug)]
pub struct Spliced {
    inner: SharedSource,
    patches: Vec<Patch>,
    /// Where each patch begins in the new bytes.
    starts: Vec<u64>,
    len: u64,
}

/// Bytes of the original that a read of small pieces takes at once.
const READ_AHEAD: u64 = 64 << 10;

impl Spliced {
    fn new(inner: SharedSource, patches: Vec<Patch>) -> Result<Self> {
        let (mut starts, mut len, mut after) = (Vec::with_capacity(patches.len()), 0u64, 0u64);
        for patch in &patches {
            let kept = patch.at.checked_sub(after).ok_or_else(|| Error::malformed("opcodes overlap").at(patch.at))?;
            len += kept;
            starts.push(len);
            len += patch.bytes.len() as u64;
            after = patch.at.saturating_add(patch.len);
        }
        let rest = inner.len().checked_sub(after).ok_or_else(|| past_end(inner.as_ref(), after, 0))?;
        Ok(Spliced { len: len + rest, inner, patches, starts })
    }

    /// The same changes in other bytes, as many as the original's.
    pub(crate) fn in_other(&self, inner: SharedSource) -> Result<Self> {
        Spliced::new(inner, self.patches.clone())
    }

    /// Parts of the original that stay, and what stands between them, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let before = std::iter::once(0).chain(self.patches.iter().map(|patch| patch.at + patch.len));
        let until = self.patches.iter().map(|patch| patch.at).chain(std::iter::once(self.inner.len()));
        let news = self.patches.iter().map(|patch| Some(&*patch.bytes)).chain(std::iter::once(None));
        before.zip(until).zip(news).map(|((from, to), new)| Part {
            from,
            len: to - from,
            then: new.unwrap_or_default(),
        })
    }
}

/// A run of the original, and the bytes that follow it instead of what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// Where the run begins in the original.
    pub from: u64,
    /// Its bytes.
    pub len: u64,
    /// New bytes.
    pub then: &'a [u8],
}

impl Source for Spliced {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return Err(past_end(self, offset, buf.len() as u64));
        }
        let mut ahead = Ahead { inner: &self.inner, start: 0, bytes: Vec::new() };
        let mut at = offset;
        let mut next = self.starts.partition_point(|start| *start <= offset);
        let mut rest = buf;
        while !rest.is_empty() {
            // the patch that begins at or before here
            let last = next.checked_sub(1).and_then(|last| Some((self.patches.get(last)?, *self.starts.get(last)?)));
            let (mut base, mut inner_base) = (0, 0);
            if let Some((patch, start)) = last {
                let inside = usize::try_from(at - start).unwrap_or(usize::MAX);
                if let Some(bytes) = patch.bytes.get(inside..).filter(|bytes| !bytes.is_empty()) {
                    let take = bytes.len().min(rest.len());
                    let (now, later) = rest.split_at_mut(take);
                    now.copy_from_slice(bytes.get(..take).unwrap_or_default());
                    (at, rest) = (at + take as u64, later);
                    // a patch may be followed by another at once
                    next += usize::from(self.starts.get(next).is_some_and(|start| *start <= at));
                    continue;
                }
                (base, inner_base) = (start + patch.bytes.len() as u64, patch.at + patch.len);
            }
            let until = self.starts.get(next).copied().unwrap_or(self.len);
            let take = usize::try_from(until - at).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            ahead.read(inner_base + (at - base), now)?;
            (at, rest) = (at + take as u64, later);
            next += usize::from(at == until);
        }
        Ok(())
    }

    fn absolute(&self, _offset: u64) -> u64 {
        self.inner.absolute(0)
    }
}

/// Small reads in ascending order, taken from larger ones.
struct Ahead<'a> {
    inner: &'a SharedSource,
    start: u64,
    bytes: Vec<u8>,
}

impl Ahead<'_> {
    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<()> {
        if buf.len() as u64 >= READ_AHEAD {
            return self.inner.read_at(at, buf);
        }
        let held = |this: &Self| {
            let from = usize::try_from(at.checked_sub(this.start)?).ok()?;
            Some(from..from.checked_add(buf.len())?).filter(|range| range.end <= this.bytes.len())
        };
        let range = match held(self) {
            Some(range) => range,
            None => {
                let take = READ_AHEAD.min(self.inner.len().saturating_sub(at)).max(buf.len() as u64);
                self.bytes.resize(usize::try_from(take).unwrap_or(0), 0);
                self.start = at;
                self.inner.read_at(at, &mut self.bytes)?;
                0..buf.len()
            }
        };
        buf.copy_from_slice(self.bytes.get(range).unwrap_or_default());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
