//! The parts of an object that have been asked for, or will be: which to ask for next, which to keep.
//!
//! A read that stands alone gets what it wants and little more. Reads that follow one another make the program read ahead:
//! the farther they have come, the farther. What was read
//! longest ago is dropped.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::error::{Error, Result};

/// Bytes of one request at most.
const PIECE: u64 = 16 << 20;
/// Bytes of one request at least.
const LEAST: u64 = 16 << 10;
/// Bytes at the end that are asked for together: what is at the end of a file says where the rest is.
const TAIL: u64 = 24 << 10;
/// How far a read may lie behind the one before and still follow it, in bytes.
const GAP: u64 = 64 << 10;
/// Bytes read one after the other before more are asked for than are wanted.
const RUN: u64 = 32 << 10;
/// Bytes that are asked for ahead at most.
const AHEAD: u64 = 24 << 20;
/// Bytes that are kept at most, but for those on the way.
const KEPT: u64 = 48 << 20;
/// Readers that are followed at the same time.
const STREAMS: usize = 8;

/// One part, on the way or here.
#[derive(Debug)]
pub(super) struct Part {
    /// Its bytes in the object.
    pub range: Range<u64>,
    state: Mutex<Option<Result<Vec<u8>>>>,
    arrived: Condvar,
    /// When it was asked for or read last: the number of that read.
    used: AtomicU64,
}

impl Part {
    pub(super) fn new(range: Range<u64>) -> Self {
        Part { range, state: Mutex::new(None), arrived: Condvar::new(), used: AtomicU64::new(0) }
    }

    /// Ends the waiting.
    pub(super) fn arrive(&self, bytes: Result<Vec<u8>>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
        self.arrived.notify_all();
    }

    /// Waits, and fills `buf` with the bytes from `offset` of the object on, as many as are here; says how many.
    pub(super) fn copy(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*state {
                None => state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Err(e)) => return Err(e.again()),
                Some(Ok(bytes)) => {
                    let skip = usize::try_from(offset.saturating_sub(self.range.start)).unwrap_or(usize::MAX);
                    let here = bytes.get(skip..).unwrap_or_default();
                    let count = here.len().min(buf.len());
                    if count == 0 {
                        return Err(Error::truncated("ends early").at(offset));
                    }
                    buf.split_at_mut(count).0.copy_from_slice(here.split_at(count).0);
                    return Ok(count);
                }
            }
        }
    }

    /// Whether it is here, or failed.
    fn is_settled(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn has_failed(&self) -> bool {
        matches!(&*self.state.lock().unwrap_or_else(PoisonError::into_inner), Some(Err(_)))
    }

    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Somebody who reads one thing after the other.
#[derive(Debug, Clone)]
struct Stream {
    /// The bytes that it has read.
    read: Range<u64>,
}

/// The parts of one object.
#[derive(Debug)]
pub(super) struct Windows {
    /// Bytes of the object.
    len: u64,
    /// By first byte; none overlap.
    parts: BTreeMap<u64, Arc<Part>>,
    /// How many reads there were.
    reads: u64,
    /// The last one has read last.
    streams: Vec<Stream>,
    /// What will be read as a whole; the last one was said last.
    announced: Vec<Range<u64>>,
}

/// What a read gets: parts that hold it, and those of all that are to be asked for now.
#[derive(Debug)]
pub(super) struct Claim {
    pub holding: Vec<Arc<Part>>,
    pub asked: Vec<Arc<Part>>,
}

impl Windows {
    /// An object of `len` bytes of which a part is here.
    pub(super) fn new(len: u64, first: Part) -> Self {
        let parts = BTreeMap::from([(first.range.start, Arc::new(first))]);
        Windows { len, parts, reads: 0, streams: Vec::new(), announced: Vec::new() }
    }

    /// Says what will be read as a whole.
    pub(super) fn announce(&mut self, range: Range<u64>) {
        if self.announced.len() >= STREAMS {
            self.announced.remove(0);
        }
        self.announced.push(range);
    }

    /// The parts that hold the bytes `wanted`, which are some.
    pub(super) fn claim(&mut self, wanted: &Range<u64>) -> Claim {
        let stream = self.follow(wanted);
        let run = stream.read.end - stream.read.start;
        self.reads += 1;
        let mut asked = Vec::new();
        let is_here = self.missing(wanted).is_empty();
        let least = if is_here { wanted.end } else { wanted.end.max(wanted.start + LEAST).min(self.len) };
        let tail = self.len.saturating_sub(TAIL);
        let start = if !is_here && run < RUN && wanted.start >= tail { tail } else { wanted.start };
        let (wanted_now, ahead) = (start..least, self.ahead(wanted, &stream.read));
        if ahead.start <= wanted_now.end {
            self.ask(wanted_now.start..wanted_now.end.max(ahead.end), &mut asked);
        } else {
            self.ask(wanted_now, &mut asked);
            self.ask(ahead, &mut asked);
        }
        let mut holding = Vec::new();
        let mut at = wanted.start;
        while at < wanted.end {
            let Some(part) = self.at(at) else { break };
            at = part.range.end;
            part.used.store(self.reads, Ordering::Relaxed);
            holding.push(Arc::clone(part));
        }
        self.forget();
        Claim { holding, asked }
    }

    /// The part that holds a byte.
    fn at(&self, offset: u64) -> Option<&Arc<Part>> {
        let (_, part) = self.parts.range(..=offset).next_back()?;
        (part.range.end > offset && !part.has_failed()).then_some(part)
    }

    /// The stream that a read belongs to, with the read.
    fn follow(&mut self, wanted: &Range<u64>) -> Stream {
        let follows = |stream: &Stream| {
            (stream.read.start..=stream.read.end.saturating_add(GAP)).contains(&wanted.start)
                && wanted.end >= stream.read.end
        };
        let mut stream = match self.streams.iter().position(follows) {
            Some(at) => self.streams.remove(at),
            None => Stream { read: wanted.clone() },
        };
        stream.read.end = wanted.end;
        if self.streams.len() >= STREAMS {
            self.streams.remove(0);
        }
        self.streams.push(stream.clone());
        stream
    }

    /// What to ask for beyond what is wanted: the rest of what was announced; of somebody who reads on and on, as much again
    /// as was read. Little at a time is not worth a request.
    fn ahead(&self, wanted: &Range<u64>, read: &Range<u64>) -> Range<u64> {
        let announced = self.announced.iter().rev().find(|range| range.contains(&wanted.start));
        let run = read.end - read.start;
        let (ahead, end) = match announced {
            // whoever has read other things before will read on behind it
            Some(range) if read.start.saturating_add(RUN) >= range.start => (AHEAD, range.end),
            _ if run >= RUN => (run.min(AHEAD), self.len),
            _ => (0, self.len),
        };
        let mut here = wanted.end;
        while let Some(part) = self.at(here) {
            here = part.range.end;
        }
        let is_near = here.saturating_sub(wanted.end) < ahead.div_ceil(2);
        if is_near { here..here.max(wanted.end.saturating_add(ahead).min(end)) } else { here..here }
    }

    /// The bytes of a range that no part holds.
    fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        while at < range.end {
            if let Some(part) = self.at(at) {
                at = part.range.end;
                continue;
            }
            let next = self.parts.range(at + 1..).find(|(_, part)| !part.has_failed());
            let end = next.map_or(range.end, |(start, _)| (*start).min(range.end));
            gaps.push(at..end);
            at = end;
        }
        gaps
    }

    /// Makes parts of what is missing of a range.
    fn ask(&mut self, range: Range<u64>, asked: &mut Vec<Arc<Part>>) {
        for gap in self.missing(&range) {
            let len = gap.end - gap.start;
            let piece = len.div_ceil(len.div_ceil(PIECE).max(1)).max(1);
            let mut start = gap.start;
            while start < gap.end {
                let end = gap.end.min(start.saturating_add(piece));
                let part = Arc::new(Part::new(start..end));
                part.used.store(self.reads, Ordering::Relaxed);
                self.parts.insert(start, Arc::clone(&part));
                asked.push(part);
                start = end;
            }
        }
    }

    /// Drops the parts that nobody has read for the longest time, when there are too many.
    fn forget(&mut self) {
        let mut held: u64 = self.parts.values().map(|part| part.len()).sum();
        while held > KEPT {
            let here = self.parts.iter().filter(|(_, part)| part.is_settled());
            let oldest = here.min_by_key(|(_, part)| part.used.load(Ordering::Relaxed));
            let Some((start, len)) = oldest.map(|(start, part)| (*start, part.len())) else { return };
            self.parts.remove(&start);
            held -= len;
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges are what is meant
mod tests {
    use super::*;

    /// Reads `ranges` from an object of 64 MiB of which the first 32 KiB are here; gives what was asked for.
    fn asked(announced: Option<Range<u64>>, ranges: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
        let first = Part::new(0..32 << 10);
        first.arrive(Ok(vec![0; 32 << 10]));
        let mut windows = Windows::new(64 << 20, first);
        announced.into_iter().for_each(|range| windows.announce(range));
        let mut all = Vec::new();
        for range in ranges {
            let claim = windows.claim(&range);
            let mut at = range.start;
            for part in &claim.asked {
                part.arrive(Ok(vec![0; usize::try_from(part.len()).unwrap()]));
                all.push(part.range.clone());
            }
            for part in &claim.holding {
                assert!(part.range.contains(&at), "{range:?}: {:?}", part.range);
                at = part.range.end;
            }
            assert!(at >= range.end, "{range:?} is not held");
        }
        all
    }

    #[test]
    fn single_reads_get_what_they_want() {
        assert_eq!(asked(None, [0..100, 20_000..30_000]), []);
        assert_eq!(asked(None, [32_000..33_000]), [32_768..48_384]);
        assert_eq!(asked(None, [1 << 20..(1 << 20) + 10]), [1 << 20..(1 << 20) + (16 << 10)]);
        let large = asked(None, [1 << 20..(1 << 20) + (17 << 20)]);
        assert_eq!(large.len(), 3, "with what comes next, in pieces: {large:?}");
    }

    #[test]
    fn a_stream_reads_ahead_in_few_requests() {
        let blocks = (0..256_u64).map(|block| block << 18..(block + 1) << 18);
        let all = asked(None, blocks);
        assert!(all.len() < 24, "{} requests", all.len());
        let bytes: u64 = all.iter().map(|range| range.end - range.start).sum();
        assert_eq!(bytes, (64 << 20) - (32 << 10), "every byte once");
    }

    #[test]
    fn what_was_announced_and_no_more() {
        let tensor = 5_000_000..15_000_000_u64;
        let blocks = (0..10_u64).map(|block| 5_000_000 + block * 1_000_000..6_000_000 + block * 1_000_000);
        let all = asked(Some(tensor.clone()), blocks);
        assert_eq!(all, [tensor]);
    }

    #[test]
    fn a_part_that_failed_is_asked_for_again() {
        let first = Part::new(0..10);
        first.arrive(Ok(vec![0; 10]));
        let mut windows = Windows::new(1 << 20, first);
        let claim = windows.claim(&(500_000..500_010));
        claim.asked[0].arrive(Err(Error::data("lost")));
        assert!(claim.holding[0].copy(500_000, &mut [0; 4]).is_err());
        assert_eq!(windows.claim(&(500_000..500_010)).asked.len(), 1);
    }
}
