//! Bytes with others over some of them: as many, in the same places.

use super::{SharedSource, Source, past_end};
use crate::error::{Error, Result};

/// The bytes below with others over them.
#[derive(Debug)]
pub(crate) struct Overlay {
    below: SharedSource,
    /// By first byte; none overlap.
    over: Vec<(u64, SharedSource)>,
}

impl Overlay {
    /// `below` with each of the others from a byte of it on. Fails where one reaches beyond its end, or two overlap.
    pub(crate) fn over(below: SharedSource, mut over: Vec<(u64, SharedSource)>) -> Result<Self> {
        over.retain(|(_, bytes)| !bytes.is_empty());
        over.sort_by_key(|(at, _)| *at);
        let mut end = 0;
        for (at, bytes) in &over {
            if *at < end {
                return Err(Error::malformed("parts of the file that are to change overlap").at(*at));
            }
            end = at.saturating_add(bytes.len());
        }
        if end > below.len() {
            return Err(past_end(below.as_ref(), end, 0));
        }
        Ok(Overlay { below, over })
    }
}

impl Source for Overlay {
    fn len(&self) -> u64 {
        self.below.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len());
        let end = end.ok_or_else(|| past_end(self, offset, buf.len() as u64))?;
        let (mut at, mut rest) = (offset, buf);
        let mut next = self.over.partition_point(|(start, bytes)| start.saturating_add(bytes.len()) <= offset);
        while at < end {
            let part = self.over.get(next).filter(|(start, _)| *start < end);
            let (until, from) = match part {
                Some((start, bytes)) if *start <= at => {
                    (start.saturating_add(bytes.len()).min(end), Some((start, bytes)))
                }
                Some((start, _)) => (*start, None),
                None => (end, None),
            };
            let (now, later) = rest.split_at_mut(usize::try_from(until - at).unwrap_or(usize::MAX).min(rest.len()));
            match from {
                Some((start, bytes)) => {
                    bytes.read_at(at - start, now)?;
                    next += 1;
                }
                None => self.below.read_at(at, now)?,
            }
            (at, rest) = (until, later);
        }
        Ok(())
    }

    fn absolute(&self, offset: u64) -> u64 {
        self.below.absolute(offset)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{MemorySource, read_vec};
    use super::*;

    #[test]
    fn every_range_has_what_lies_over_it() {
        let source = |bytes: &[u8]| -> SharedSource { Arc::new(MemorySource::new(bytes.to_vec())) };
        let over =
            vec![(7, source(b"gh")), (0, source(b"A")), (3, source(b"DEF")), (6, source(b"G")), (5, source(b""))];
        let overlay = Overlay::over(source(b"abcdefgXYj"), over).unwrap();
        for from in 0..=10_usize {
            for to in from..=10 {
                let part = read_vec(&overlay, from as u64, (to - from) as u64).unwrap();
                assert_eq!(part, b"AbcDEFGghj"[from..to], "{from}..{to}");
            }
        }
        assert!(overlay.read_at(9, &mut [0; 2]).is_err());
        assert!(Overlay::over(source(b"abc"), vec![(2, source(b"xy"))]).is_err());
        assert!(Overlay::over(source(b"abc"), vec![(0, source(b"xy")), (1, source(b"z"))]).is_err());
    }
}
