//! A row of elements in another floating dtype, cast whenever it is read: nothing is kept between two readings, so that
//! any number of such rows costs no memory.

use std::sync::Arc;

use super::cast::Caster;
use crate::dtype::{ByteOrder, DType};
use crate::error::{Error, Result};
use crate::source::{SharedSource, Source, past_end, read_vec};

/// Elements cast in one go.
const AT_ONCE: u64 = 32 << 10;

/// The source of a row of elements in another dtype.
#[derive(Debug)]
pub(crate) struct Casting {
    below: SharedSource,
    byte_order: ByteOrder,
    caster: Caster,
    /// Bytes of an element, before and after the cast.
    sizes: (u64, u64),
}

impl Casting {
    /// All elements of type `from` in `below` as little-endian ones of type `to`. Errors are those of [`Caster::new`].
    pub(crate) fn over(below: SharedSource, byte_order: ByteOrder, from: &DType, to: &DType) -> Result<SharedSource> {
        let caster = Caster::new(from, to)?;
        let size = |dtype: &DType| u64::from(dtype.size().unwrap_or(1)).max(1);
        Ok(Arc::new(Casting { below, byte_order, caster, sizes: (size(from), size(to)) }))
    }
}

impl Source for Casting {
    fn len(&self) -> u64 {
        (self.below.len() / self.sizes.0).saturating_mul(self.sizes.1)
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len()) {
            return Err(past_end(self, offset, buf.len() as u64));
        }
        let (stored, size) = self.sizes;
        let (mut caster, mut cast) = (self.caster.clone(), Vec::new());
        while !buf.is_empty() {
            let first = offset / size;
            let end = (offset + buf.len() as u64).div_ceil(size).min(first + AT_ONCE);
            let mut block = read_vec(self.below.as_ref(), first * stored, (end - first) * stored)?;
            if self.byte_order == ByteOrder::Big {
                let unit = usize::try_from(stored).unwrap_or(1);
                block.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
            }
            caster.cast(&block, &mut cast);
            let skip = usize::try_from(offset - first * size).unwrap_or(usize::MAX);
            let made = cast.get(skip..).filter(|made| !made.is_empty());
            let made = made.ok_or_else(|| Error::data("fewer elements than the source has"))?;
            let take = made.len().min(buf.len());
            let (now, later) = buf.split_at_mut(take);
            now.copy_from_slice(made.get(..take).unwrap_or_default());
            (buf, offset) = (later, offset + take as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Known;
    use crate::source::MemorySource;

    #[test]
    fn any_part_of_a_cast_row() {
        let count = u32::try_from(AT_ONCE).unwrap() + 5;
        let values = (0..count).map(|i| (i as f32) * 0.7 - 3.0);
        let big = values.clone().flat_map(f32::to_be_bytes).collect();
        let (from, to) = (Known::Float32.into(), Known::BFloat16.into());
        let row = Casting::over(Arc::new(MemorySource::new(big)), ByteOrder::Big, &from, &to).unwrap();
        let want: Vec<u8> = values.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect();
        assert_eq!(row.len(), want.len() as u64);
        assert!(read_vec(row.as_ref(), 0, row.len()).unwrap() == want);
        let middle = usize::try_from(AT_ONCE).unwrap() * 2;
        assert_eq!(read_vec(row.as_ref(), middle as u64 - 3, 7).unwrap(), want[middle - 3..middle + 4]);
        assert!(row.read_at(want.len() as u64 - 1, &mut [0; 2]).is_err());
    }
}
