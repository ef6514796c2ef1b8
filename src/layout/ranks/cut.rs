//! Which indexes of one dimension of a tensor a rank holds, as torch and Megatron cut it.
//!
//! Sources: `torch/distributed/tensor/placement_types.py` (`Shard`, `_StridedShard`: both cut as `torch.chunk` does).

/// Pieces that one dimension of one rank may have.
const MAX_PIECES: u64 = 1 << 16;

/// Ranges of a whole dimension (begin, length) in the order in which they follow each other in a rank's own tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Pieces(Vec<(u64, u64)>);

impl Pieces {
    /// All of a dimension.
    pub(crate) fn whole(extent: u64) -> Self {
        Self::range(0, extent)
    }

    /// `len` indexes from `begin` on.
    pub(crate) fn range(begin: u64, len: u64) -> Self {
        let mut pieces = Pieces(Vec::new());
        pieces.push(begin, len);
        pieces
    }

    fn push(&mut self, begin: u64, len: u64) {
        match self.0.last_mut() {
            _ if len == 0 => {}
            Some((before, had)) if before.checked_add(*had) == Some(begin) => *had += len,
            _ => self.0.push((begin, len)),
        }
    }

    /// Indexes in all.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(_, len)| len).sum()
    }

    /// The ranges: where each begins in the whole and in the rank's own tensor, and its length.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let mut own = 0;
        self.0.iter().map(move |(begin, len)| {
            let at = own;
            own += len;
            (*begin, at, *len)
        })
    }

    /// The indexes from number `from` to number `to` of these.
    fn part(&self, from: u64, to: u64) -> Self {
        let mut part = Pieces(Vec::new());
        for (begin, own, len) in self.iter() {
            let (first, last) = (from.max(own), to.min(own + len));
            if first < last {
                part.push(begin + (first - own), last - first);
            }
        }
        part
    }

    /// What rank `number` of `of` has of these (`Shard`): those before have at least as many, and the last ones may have
    /// none.
    pub(crate) fn chunk(&self, number: u64, of: u64) -> Self {
        let len = self.len();
        let each = len.div_ceil(of.max(1));
        let from = each.saturating_mul(number).min(len);
        self.part(from, from.saturating_add(each).min(len))
    }

    /// What it has where these are cut into `factor` parts first and each part among the ranks (`_StridedShard`).
    pub(crate) fn strided(&self, number: u64, of: u64, factor: u64) -> Result<Self, String> {
        let len = self.len();
        let each = len.div_ceil(factor.max(1)).max(1);
        if len.div_ceil(each).saturating_mul(self.0.len().max(1) as u64) > MAX_PIECES {
            return Err(format!("is cut into {factor} strides; up to {MAX_PIECES} pieces are put together"));
        }
        let mut pieces = Pieces(Vec::new());
        let mut at = 0;
        while at < len {
            let to = at.saturating_add(each).min(len);
            for (begin, _, len) in self.part(at, to).chunk(number, of).iter() {
                pieces.push(begin, len);
            }
            at = to;
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pieces: &Pieces) -> Vec<(u64, u64)> {
        pieces.0.clone()
    }

    #[test]
    fn chunks_are_those_of_torch() {
        // [t.shape[0] for t in torch.arange(5).chunk(4)] == [2, 2, 1]
        let of = |extent, number| ranges(&Pieces::whole(extent).chunk(number, 4));
        assert_eq!((of(5, 0), of(5, 1), of(5, 2), of(5, 3)), (vec![(0, 2)], vec![(2, 2)], vec![(4, 1)], vec![]));
        assert_eq!((of(0, 0), of(1, 0), of(1, 3)), (vec![], vec![(0, 1)], vec![]));
        assert_eq!(ranges(&Pieces::whole(8).chunk(1, 2).chunk(1, 2)), [(6, 2)]);
        assert_eq!(ranges(&Pieces::whole(u64::MAX).chunk(u64::MAX, 3)), []);
    }

    #[test]
    fn strides_are_those_of_torch() {
        // the example in torch's _StridedShard._to_replicate_tensor: nine elements, split_factor 2, four ranks
        let of = |number| ranges(&Pieces::whole(9).strided(number, 4, 2).unwrap());
        assert_eq!((of(0), of(1)), (vec![(0, 2), (5, 1)], vec![(2, 2), (6, 1)]));
        assert_eq!((of(2), of(3)), (vec![(4, 1), (7, 1)], vec![(8, 1)]));
        // what is cut twice, the other way round: rank (1, 0) of two by two has the second quarter
        assert_eq!(ranges(&Pieces::whole(8).strided(1, 2, 2).unwrap().chunk(0, 2)), [(2, 2)]);
        assert_eq!(ranges(&Pieces::whole(8).strided(0, 1, 4).unwrap()), [(0, 8)]);
        assert!(Pieces::whole(u64::MAX).strided(0, 2, u64::MAX).is_err());
        assert_eq!(ranges(&Pieces::whole(0).strided(0, 2, 0).unwrap()), []);
    }
}
