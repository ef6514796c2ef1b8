//! The legacy stream (torch 0.1.10 to 1.5, and on request today): five pickles in a row, then the storages.
//!
//! Source: `torch/serialization.py` (`_legacy_save`, `_legacy_load`). Magic number, protocol version, system facts, the
//! object, the list of storage keys; then for each key in that list an int64 count of elements and the bytes.

use num_bigint::BigInt;

use crate::error::{Error, Result};
use crate::pickle::text::big_integer;
use crate::pickle::{Decoded, Graph, Inline, Node, NothingInline, StreamId, decode};
use crate::source::{SharedSource, Source, Window, read_vec};

const MAGIC: u128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL_VERSION: i64 = 1001;
/// The magic number's pickle is about 16 bytes in any protocol; one that is longer is something else.
const MAX_MAGIC_BYTES: u64 = 128;

/// The five pickles of a legacy stream.
#[derive(Debug)]
pub(crate) struct Legacy {
    /// The object.
    pub object: Decoded,
    /// Keys of the storages in the order of their bytes.
    pub keys: Vec<String>,
    /// Where the first storage's count lies.
    pub storages_start: u64,
}

/// Where one storage's bytes lie.
#[derive(Debug, Clone)]
pub(crate) struct StoredAt {
    /// Its key.
    pub key: String,
    /// The bytes.
    pub bytes: SharedSource,
}

/// Whether the first pickle of `source` is the magic number.
pub(crate) fn is_legacy(source: &SharedSource) -> bool {
    let Ok(head) = Window::shared(source, 0, source.len().min(MAX_MAGIC_BYTES)) else { return false };
    let mut graph = Graph::new();
    let stream = graph.add_stream(head, "");
    let Ok(magic) = decode(&mut graph, stream, 0, 16, &NothingInline) else { return false };
    match graph.node(magic.root) {
        Node::Long(text) => {
            let raw = graph.raw_text(*text).unwrap_or_default();
            big_integer(&raw, graph.encoding(*text)) == Some(BigInt::from(MAGIC))
        }
        _ => false,
    }
}

/// Reads the five pickles at the beginning of `stream` into the graph.
pub(crate) fn read(graph: &mut Graph, stream: StreamId, max_objects: u64, inline: &dyn Inline) -> Result<Legacy> {
    let next = |graph: &mut Graph, at: u64| decode(graph, stream, at, max_objects, inline);
    let magic = next(graph, 0)?;
    let version = next(graph, magic.end)?;
    match graph.int(version.root) {
        Some(PROTOCOL_VERSION) => {}
        Some(other) => {
            let message = format!("legacy torch.save protocol {other}; only {PROTOCOL_VERSION} is known");
            return Err(Error::unsupported(message).at(magic.end));
        }
        None => return Err(Error::malformed("the protocol version is no integer").at(magic.end)),
    }
    let facts = next(graph, version.end)?;
    let object = next(graph, facts.end)?;
    let keys = next(graph, object.end)?;
    let list =
        graph.sequence(keys.root).ok_or_else(|| Error::malformed("the storage keys are no list").at(object.end))?;
    let keys_of = list.iter().map(|key| match graph.node(*key) {
        Node::Int(value) => Some(value.to_string()),
        _ => graph.str_or_bytes(*key).map(|key| key.into_owned()),
    });
    let names = keys_of.collect::<Option<Vec<_>>>();
    let names = names.ok_or_else(|| Error::malformed("a storage key is neither text nor a number").at(object.end))?;
    Ok(Legacy { object, keys: names, storages_start: keys.end })
}

/// The storages of a stream.
#[derive(Debug, Default)]
pub(crate) struct Located {
    /// Those that there are; of one that the file's end cuts off, the bytes that are left.
    pub stored: Vec<StoredAt>,
    /// Where the last one ends.
    pub end: u64,
    /// Why there are no more of them.
    pub stopped: Option<Error>,
}

/// Finds the storages' bytes. `element_bytes` gives the size of one element of a key's storage, `None` where no
/// persistent id names the key.
pub(crate) fn locate(source: &SharedSource, legacy: &Legacy, element_bytes: impl Fn(&str) -> Option<u64>) -> Located {
    let mut found = Located { end: legacy.storages_start, ..Located::default() };
    found.stored.reserve(legacy.keys.len().min(1 << 16));
    for key in &legacy.keys {
        if let Err(e) = found.next(source, key, element_bytes(key)) {
            found.stopped = Some(e);
            break;
        }
    }
    found
}

/// What the pickle says of a storage: the size of an element and how many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announced {
    /// Bytes of one element.
    pub element_bytes: u64,
    /// How many.
    pub count: u64,
}

/// A storage of a damaged stream, and what casts doubt on it.
pub(crate) type Doubted = (StoredAt, Option<&'static str>);

/// Finds the storages of a damaged stream, by what the pickle says of each: where its count does not stand before a
/// storage, something else was written there. Gives the storages that there are, each with what casts doubt on it, and
/// where the last one ends. Zeros around a lost count are a hole (a failed block of a download), so the storages that they
/// reach into are doubtful; so is the storage before other bytes.
pub(crate) fn locate_damaged(
    source: &SharedSource,
    legacy: &Legacy,
    announced: impl Fn(&str) -> Option<Announced>,
) -> Result<(Vec<Doubted>, u64)> {
    let mut found: Vec<Doubted> = Vec::new();
    let mut places: Vec<std::ops::Range<u64>> = Vec::new();
    let mut holes: Vec<std::ops::Range<u64>> = Vec::new();
    let mut at = legacy.storages_start;
    for key in &legacy.keys {
        let Some(Announced { element_bytes, count }) = announced(key) else { break };
        let Some(len) = count.checked_mul(element_bytes) else { break };
        let Some(left) = source.len().checked_sub(at).and_then(|left| left.checked_sub(8)) else { break };
        let head = read_vec(source.as_ref(), at, 8)?;
        let is_right = head == count.to_le_bytes();
        let is_zero = head.iter().all(|byte| *byte == 0);
        if !is_right && is_zero && holes.last().is_none_or(|hole| hole.end < at + 8) {
            holes.push(zeros_around(source.as_ref(), at)?);
        }
        // one changed byte is its own affair; more of them were overwritten, or bytes before them inserted or lost
        let changed = head.iter().zip(count.to_le_bytes()).filter(|(byte, right)| **byte != *right).count();
        if changed > 1
            && !is_zero
            && let Some((_, doubt)) = found.last_mut()
        {
            doubt.get_or_insert("other bytes follow its bytes than were written there");
        }
        let bytes = Window::shared(source, at + 8, len.min(left))?;
        let doubt = match (len <= left, is_right) {
            (false, _) => Some("the end of its bytes is missing"),
            (true, false) => Some("the count before its bytes is damaged"),
            (true, true) => None,
        };
        found.push((StoredAt { key: key.clone(), bytes }, doubt));
        places.push(at..(at + 8).saturating_add(len));
        at = (at + 8).saturating_add(len);
    }
    for ((_, doubt), place) in found.iter_mut().zip(places) {
        let after = holes.partition_point(|hole| hole.end <= place.start);
        if doubt.is_none() && holes.get(after).is_some_and(|hole| hole.start < place.end) {
            *doubt = Some("a hole of zeros in the file reaches into its bytes");
        }
    }
    Ok((found, at.min(source.len())))
}

/// The run of zero bytes around byte `at`.
fn zeros_around(source: &dyn Source, at: u64) -> Result<std::ops::Range<u64>> {
    const BLOCK: u64 = 64 << 10;
    let (mut start, mut end) = (at, at);
    while start > 0 {
        let from = start.saturating_sub(BLOCK);
        let block = read_vec(source, from, start - from)?;
        let zeros = block.iter().rev().take_while(|byte| **byte == 0).count();
        start -= zeros as u64;
        if zeros < block.len() {
            break;
        }
    }
    while end < source.len() {
        let block = read_vec(source, end, BLOCK.min(source.len() - end))?;
        let zeros = block.iter().take_while(|byte| **byte == 0).count();
        end += zeros as u64;
        if zeros < block.len() {
            break;
        }
    }
    Ok(start..end)
}

impl Located {
    fn next(&mut self, source: &SharedSource, key: &str, element_bytes: Option<u64>) -> Result<()> {
        let at = source.absolute(self.end);
        let here = |e: Error| e.reworded(|why| format!("the bytes of storage {key}: {why}")).at(at);
        let mut count = [0; 8];
        source.read_at(self.end, &mut count).map_err(here)?;
        let count = u64::try_from(i64::from_le_bytes(count))
            .map_err(|_| Error::malformed(format!("storage {key} has a negative count")).at(at))?;
        let size = element_bytes.ok_or_else(|| {
            Error::malformed(format!("storage {key} is in the file but nothing says its type")).at(at)
        })?;
        let len = count
            .checked_mul(size)
            .ok_or_else(|| Error::malformed(format!("storage {key} has {count} elements")).at(at))?;
        let start = self.end + 8;
        let whole = Window::shared(source, start, len).map_err(here);
        let left = source.len() - start;
        let bytes = match &whole {
            Ok(bytes) => SharedSource::clone(bytes),
            Err(_) => Window::shared(source, start, left)?,
        };
        self.stored.push(StoredAt { key: key.to_owned(), bytes });
        self.end = start + len.min(left);
        whole.map(drop)
    }
}
