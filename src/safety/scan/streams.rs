//! Pickles in a stream of bytes: one after the other, with raw data between them, behind a header.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::hidden::{does_something, imports};
use super::{Scanner, at_byte, only_io};
use crate::checkpoint::numpy::Joblib;
use crate::container::detect::{Framing, detect};
use crate::container::legacy::is_legacy;
use crate::container::npy;
use crate::error::{ErrorKind, Result};
use crate::pickle::{Decoded, Graph, NothingInline, Rest, decode_as_either, decode_by_frames, decode_row};
use crate::safety::finding::{Finding, Severity};
use crate::source::{SharedSource, Window, read_vec};

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
    pub(super) fn by_frames(&mut self, source: &SharedSource, at: u64, place: &str, depth: usize) -> Result<()> {
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
