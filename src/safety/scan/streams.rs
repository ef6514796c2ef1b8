//! Pickles in a stream of bytes: one after the other, with raw data between them, behind a header, or hidden.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Scanner, at_byte};
use crate::checkpoint::numpy::Joblib;
use crate::container::detect::{Framing, detect};
use crate::container::legacy::is_legacy;
use crate::container::npy;
use crate::error::{ErrorKind, Result};
use crate::pickle::{Decoded, Graph, NothingInline, decode};
use crate::safety::finding::Severity;
use crate::safety::globals::{Status, classify};
use crate::source::{SharedSource, Window, read_vec};

/// Pickles that are looked for in one stream.
const MAX_PICKLES: usize = 10_000;

impl Scanner<'_> {
    /// Pickles one after the other from the beginning of a stream; what is left is looked at as a file of its own.
    pub(super) fn stream(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
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
        if pickles == MAX_PICKLES && at < source.len() {
            let message = format!("what follows the first {MAX_PICKLES} pickles is not looked at");
            self.tell(Severity::Error, "too-many-pickles", message, &at_byte(place, source.absolute(at)));
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
    pub(super) fn pickle(
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
        let mut plain = Scanner::new(self.limits, self.left, self.left_bytes);
        plain.collect(&graph, place, depth)?;
        (self.left, self.left_bytes) = (plain.left, plain.left_bytes);
        for (name, used) in plain.scan.globals {
            self.scan.globals.entry(name).or_insert(used);
        }
        // raw numbers read as opcodes are odd in every way; what they would do is what counts
        for harm in plain.scan.findings.into_iter().filter(|finding| finding.severity == Severity::Danger) {
            self.tell(harm.severity, harm.code, harm.message, harm.place.as_deref().unwrap_or_default());
        }
        Ok(())
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
            at = self.pickle(source, begin, place, depth, false)?.unwrap_or(begin + 1);
        }
        Ok(())
    }

    /// What may be a pickle though nothing says so: it counts when it is one to its end, or calls something or names
    /// something dangerous before it breaks.
    pub(super) fn hidden(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
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
    pub(super) fn npy(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        match npy::read(source.as_ref()) {
            Ok(header) if header.descr.code.contains('O') => {
                self.pickle(source, header.data_start, place, depth, true).map(drop)
            }
            Ok(_) => Ok(()),
            Err(e) => self.unreadable(e, place),
        }
    }
}
