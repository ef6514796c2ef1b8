//! Elements of less than a byte, each in a byte of its own.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::source::{SharedSource, Source, past_end, read_vec};

/// Packed bytes that are read at once.
const AT_ONCE: u64 = 64 << 10;

/// The source of packed elements as bytes: the first is in the lowest bits (`aten/src/ATen/native/quantized`).
#[derive(Debug)]
pub(crate) struct Unpacked {
    packed: SharedSource,
    /// Elements in a byte: 2 or 4.
    in_a_byte: u32,
}

impl Unpacked {
    /// The elements of `packed`, `in_a_byte` of which share one.
    pub(crate) fn over(packed: SharedSource, in_a_byte: u32) -> SharedSource {
        Arc::new(Unpacked { packed, in_a_byte: in_a_byte.clamp(1, 8) })
    }
}

impl Source for Unpacked {
    fn len(&self) -> u64 {
        self.packed.len().saturating_mul(self.in_a_byte.into())
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len()) {
            return Err(past_end(self, offset, buf.len() as u64));
        }
        let (several, bits) = (u64::from(self.in_a_byte), 8 / self.in_a_byte);
        let mask = u8::MAX.checked_shr(8 - bits).unwrap_or(u8::MAX);
        while !buf.is_empty() {
            let first = offset / several;
            let end = (offset + buf.len() as u64).div_ceil(several).min(first + AT_ONCE);
            let block = read_vec(self.packed.as_ref(), first, end - first)?;
            let skip = usize::try_from(offset - first * several).unwrap_or(usize::MAX);
            let elements = block.iter().flat_map(|byte| (0..self.in_a_byte).map(move |at| byte >> (at * bits) & mask));
            let mut taken = 0;
            for (out, element) in buf.iter_mut().zip(elements.skip(skip)) {
                *out = element;
                taken += 1;
            }
            if taken == 0 {
                return Err(Error::data("fewer elements than the source has"));
            }
            buf = buf.get_mut(taken..).unwrap_or_default();
            offset += taken as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;

    #[test]
    fn lowest_bits_first() {
        let packed: SharedSource = Arc::new(MemorySource::new(vec![0xa1, 0x3c]));
        let halves = Unpacked::over(Arc::clone(&packed), 2);
        assert_eq!(read_vec(halves.as_ref(), 0, 4).unwrap(), [1, 10, 12, 3]);
        let quarters = Unpacked::over(packed, 4);
        assert_eq!(read_vec(quarters.as_ref(), 1, 6).unwrap(), [0, 2, 2, 0, 3, 3]);
        assert!(quarters.read_at(7, &mut [0; 2]).is_err());
    }
}
