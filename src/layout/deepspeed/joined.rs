//! Elements that lie in several places, one after the other: what a tensor of a partitioned checkpoint is made of.

use std::fs::File;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::source::{SharedSource, Source, check_range};

/// Bytes of one source.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub source: SharedSource,
    /// The file that they lie in, for messages.
    pub file: Arc<str>,
    /// The first of the source's bytes.
    pub from: u64,
    pub len: u64,
}

/// Pieces as one source. Each is read where it lies.
#[derive(Debug)]
pub(super) struct Joined {
    /// With where each ends.
    pieces: Box<[(u64, Piece)]>,
}

impl Joined {
    /// Fails where the pieces have more bytes than can be counted.
    pub(crate) fn new(pieces: impl IntoIterator<Item = Piece>) -> Result<Self> {
        let mut end = 0u64;
        let pieces = pieces.into_iter().filter(|piece| piece.len > 0).map(|piece| {
            end = end.checked_add(piece.len).ok_or_else(|| Error::limit("more bytes than 64 bits can count"))?;
            Ok((end, piece))
        });
        Ok(Joined { pieces: pieces.collect::<Result<_>>()? })
    }

    /// The piece that holds the byte at `offset` and those behind it.
    fn from(&self, offset: u64) -> &[(u64, Piece)] {
        self.pieces.get(self.pieces.partition_point(|(end, _)| *end <= offset)..).unwrap_or_default()
    }
}

impl Source for Joined {
    fn len(&self) -> u64 {
        self.pieces.last().map_or(0, |(end, _)| *end)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self, offset, buf.len() as u64)?;
        let (mut at, mut rest) = (offset, buf);
        for (end, piece) in self.from(offset) {
            let take = usize::try_from(end - at).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            let inside = piece.from.saturating_add(piece.len - (end - at));
            piece.source.read_at(inside, now).map_err(|e| Error::new(e.kind(), format!("{}: {e}", piece.file)))?;
            (at, rest) = (at + take as u64, later);
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn as_file(&self, offset: u64) -> Option<(&File, u64)> {
        let [(_, piece)] = &*self.pieces else { return None };
        piece.source.as_file(piece.from.checked_add(offset)?)
    }

    fn as_file_run(&self, offset: u64) -> Option<(&File, u64, u64)> {
        let (end, piece) = self.from(offset).first()?;
        let left = end - offset;
        let (file, position, run) = piece.source.as_file_run(piece.from.checked_add(piece.len - left)?)?;
        Some((file, position, run.min(left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{MemorySource, read_vec};

    #[test]
    fn any_range_of_any_pieces() {
        let source: SharedSource = Arc::new(MemorySource::new((0..20).collect()));
        let piece = |from, len| Piece { source: Arc::clone(&source), file: "f".into(), from, len };
        let joined = Joined::new([piece(10, 4), piece(3, 0), piece(0, 3), piece(19, 1)]).unwrap();
        let all = [10, 11, 12, 13, 0, 1, 2, 19];
        assert_eq!(joined.len(), 8);
        for from in 0..=8 {
            for to in from..=8 {
                let found = read_vec(&joined, from as u64, (to - from) as u64).unwrap();
                assert_eq!(found, all[from..to]);
            }
        }
        assert!(joined.read_at(7, &mut [0; 2]).is_err() && joined.read_at(u64::MAX, &mut [0; 2]).is_err());
        // what lies in a file that became shorter is told by its name
        let short = Joined::new([piece(0, 2), piece(18, 4)]).unwrap();
        assert!(read_vec(&short, 0, 6).unwrap_err().to_string().starts_with("f: "));
        assert!(Joined::new([piece(0, u64::MAX), piece(0, 1)]).is_err());
    }
}
