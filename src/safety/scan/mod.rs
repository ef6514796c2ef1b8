//! Every pickle in a file, wherever it hides, and every global that it names.
//!
//! Pickles lie one after the other in a stream, in members of archives, in compressed files, in arrays of objects, in
//! the bytes that a pickle hands to `_load_from_bytes` or `loads`, and where they should not: behind other data, in
//! members with other names. A pickle that breaks has run all that stands before the break, so that counts too.

mod archives;
mod streams;
mod uses;
mod walking;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::finding::{Finding, Severity};
use crate::container::compress::{Compression, expand_left};
use crate::container::detect::{Framing, detect};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::Silent;
use crate::source::{MemorySource, SharedSource};

/// How deep archives, compression and pickles in pickles may nest.
const MAX_DEPTH: usize = 6;
/// Findings of one kind are told one by one up to here, then counted.
const MAX_TOLD: u64 = 100;

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
    let mut scanner = Scanner::new(limits, left, left_bytes);
    scanner.file(source, "", 0)?;
    Ok(scanner.finish())
}

struct Scanner<'a> {
    limits: &'a Limits,
    scan: Scan,
    /// How many findings there are of each kind, also of those that are not told.
    told: HashMap<(Severity, &'static str), u64>,
    /// What could not be read.
    unreadable: u64,
    /// Objects that may still be made, over all pickles.
    left: u64,
    /// Bytes that may still be expanded, over all members and what is inside of them.
    left_bytes: u64,
}

fn too_many_bytes() -> Error {
    Error::limit("what is compressed in it expands to too many bytes in all; --max-expanded-bytes allows more")
}

/// Errors of the device are no finding about the file.
fn only_io(e: Error) -> Result<Error> {
    if e.kind() == ErrorKind::Io { Err(e) } else { Ok(e) }
}

impl<'a> Scanner<'a> {
    fn new(limits: &'a Limits, left: u64, left_bytes: u64) -> Self {
        Scanner { limits, scan: Scan::default(), told: HashMap::new(), unreadable: 0, left, left_bytes }
    }

    fn tell(&mut self, severity: Severity, code: &'static str, message: impl Into<String>, place: &str) {
        let told = self.told.entry((severity, code)).or_default();
        *told += 1;
        if *told <= MAX_TOLD {
            self.scan.findings.push(Finding::new(severity, code, message, place));
        }
    }

    /// What was found, with how much more there is.
    fn finish(mut self) -> Scan {
        let mut more: Vec<_> = self.told.into_iter().filter(|(_, told)| *told > MAX_TOLD).collect();
        more.sort();
        let more = more.into_iter().map(|((severity, code), told)| {
            Finding::new(severity, code, format!("and {} more like these", told - MAX_TOLD), "")
        });
        self.scan.findings.extend(more);
        self.scan
    }

    /// A whole file, or a member that is one.
    fn file(&mut self, source: &SharedSource, place: &str, depth: usize) -> Result<()> {
        if depth >= MAX_DEPTH {
            self.tell(Severity::Error, "nested-too-deep", "archives and pickles nest too deep to look inside", place);
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
        self.unreadable += 1;
        self.tell(Severity::Error, "unreadable", e.to_string(), place);
        Ok(())
    }
}

fn inside(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
}

fn at_byte(place: &str, at: u64) -> String {
    if place.is_empty() { format!("byte {at}") } else { format!("{place}, byte {at}") }
}
