//! Bytes that are summed up while others read them, so that a checksum costs no reading of its own.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::source::{SharedSource, Source};

/// Bytes that are read at once where nobody else has read them.
const BLOCK_BYTES: u64 = 256 << 10;
/// Pieces that may lie apart. Who reads here and there more often has all of it read again.
const MAX_PIECES: usize = 256;

/// A source, and the CRC-32 of what has been read of it: in any order, by any number of threads, more than once.
#[derive(Debug)]
pub(crate) struct Summed {
    source: SharedSource,
    pieces: Mutex<Pieces>,
}

/// Where a piece lies, and its CRC-32.
type Piece = (Range<u64>, u32);

#[derive(Debug, Default)]
struct Pieces {
    /// In order, none next to another.
    all: Vec<Piece>,
    /// There were too many: nothing is kept any more.
    given_up: bool,
}

impl Pieces {
    /// The parts of a range that no piece has.
    fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        let from = self.all.partition_point(|(piece, _)| piece.end <= range.start);
        for (piece, _) in self.all.iter().skip(from).take_while(|(piece, _)| piece.start < range.end) {
            if at < piece.start {
                gaps.push(at..piece.start);
            }
            at = piece.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Adds a piece, joined with those that it touches. One that another thread has added is let go.
    fn add(&mut self, range: Range<u64>, sum: u32) {
        let place = self.all.partition_point(|(piece, _)| piece.start < range.start);
        let before = place.checked_sub(1).and_then(|before| self.all.get(before)).map(|(piece, _)| piece.end);
        let after = self.all.get(place).map(|(piece, _)| piece.start);
        if range.is_empty()
            || before.is_some_and(|end| end > range.start)
            || after.is_some_and(|start| start < range.end)
        {
            return;
        }
        self.all.insert(place, (range, sum));
        self.join(place);
        if let Some(before) = place.checked_sub(1) {
            self.join(before);
        }
        if self.all.len() > MAX_PIECES {
            (self.all, self.given_up) = (Vec::new(), true);
        }
    }

    /// Joins a piece with the one after it, where nothing lies between them.
    fn join(&mut self, place: usize) {
        if let Some([(first, sum), (second, more)]) = self.all.get_mut(place..place + 2)
            && first.end == second.start
        {
            let mut joined = crc32fast::Hasher::new_with_initial_len(*sum, first.end - first.start);
            joined.combine(&crc32fast::Hasher::new_with_initial_len(*more, second.end - second.start));
            (first.end, *sum) = (second.end, joined.finalize());
            self.all.remove(place + 1);
        }
    }
}

impl Summed {
    /// `source`, of which nothing has been read.
    pub(crate) fn over(source: SharedSource) -> Arc<Self> {
        Arc::new(Summed { source, pieces: Mutex::default() })
    }

    /// The CRC-32 of all of it. What nobody has read is read now.
    pub(crate) fn sum(&self) -> Result<u32> {
        let all = 0..self.len();
        let gaps = self.with(|pieces| {
            pieces.given_up = false;
            pieces.gaps(&all)
        });
        let mut block = Vec::new();
        for gap in gaps {
            let mut at = gap.start;
            while at < gap.end {
                let take = (gap.end - at).min(BLOCK_BYTES);
                block.resize(usize::try_from(take).unwrap_or_default(), 0);
                self.read_at(at, &mut block)?;
                at += take;
            }
        }
        Ok(self.with(|pieces| match pieces.all.as_slice() {
            [(range, sum)] if *range == all => *sum,
            // an empty source has no pieces
            _ => 0,
        }))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Pieces) -> T) -> T {
        f(&mut self.pieces.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Source for Summed {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.source.read_at(offset, buf)?;
        let range = offset..offset.saturating_add(buf.len() as u64);
        let gaps = self.with(|pieces| if pieces.given_up { Vec::new() } else { pieces.gaps(&range) });
        for gap in gaps {
            let within = |place: u64| usize::try_from(place - offset).ok();
            let bytes = within(gap.start).zip(within(gap.end)).and_then(|(start, end)| buf.get(start..end));
            // the lock is free while the sum is made
            let sum = crc32fast::hash(bytes.unwrap_or_default());
            self.with(|pieces| pieces.add(gap, sum));
        }
        Ok(())
    }

    fn absolute(&self, offset: u64) -> u64 {
        self.source.absolute(offset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rayon::prelude::*;

    use super::*;
    use crate::source::{MemorySource, read_vec};

    fn counting(len: usize) -> (Vec<u8>, Arc<Summed>) {
        let bytes: Vec<u8> = (0..len).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
        let source: SharedSource = Arc::new(MemorySource::new(bytes.clone()));
        (bytes, Summed::over(source))
    }

    proptest! {
        #[test]
        fn whatever_is_read_first(len in 0_usize..2000, reads in prop::collection::vec((0_u64..2000, 0_u64..700), 0..40)) {
            let (bytes, summed) = counting(len);
            for (at, wanted) in reads {
                let at = at.min(len as u64);
                let wanted = wanted.min(len as u64 - at);
                let from = usize::try_from(at).unwrap();
                let read = read_vec(summed.as_ref(), at, wanted).unwrap();
                prop_assert_eq!(&read, &bytes[from..from + read.len()]);
            }
            prop_assert_eq!(summed.sum().unwrap(), crc32fast::hash(&bytes));
            prop_assert_eq!(summed.sum().unwrap(), crc32fast::hash(&bytes));
        }
    }

    #[test]
    fn many_threads_and_many_pieces() {
        let (bytes, summed) = counting(1 << 20);
        (0..1024_u64).into_par_iter().for_each(|i| drop(read_vec(summed.as_ref(), i * 1024, 1024).unwrap()));
        assert_eq!(summed.sum().unwrap(), crc32fast::hash(&bytes));
        let (bytes, summed) = counting(10_000);
        (0..5000).for_each(|i| drop(read_vec(summed.as_ref(), i * 2, 1).unwrap()));
        assert!(summed.with(|pieces| pieces.given_up && pieces.all.is_empty()));
        assert_eq!(summed.sum().unwrap(), crc32fast::hash(&bytes));
    }

    #[test]
    fn other_bytes_have_another_sum() {
        let (mut bytes, summed) = counting(5000);
        bytes[4000] ^= 1;
        drop(read_vec(summed.as_ref(), 1000, 2000).unwrap());
        assert_ne!(summed.sum().unwrap(), crc32fast::hash(&bytes));
    }
}
