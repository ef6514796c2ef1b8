//! The elements of a tensor as a row of bytes that can be read anywhere: row-major, in the byte order that is asked for.

use super::Elements;
use super::gather::for_each_block_in;
use crate::dtype::ByteOrder;
use crate::error::Result;
use crate::limits::Limits;
use crate::source::{SharedSource, Source, Window, past_end};

/// The row; where the elements lie so already, their own bytes. Errors as [`Elements::validate`].
pub(crate) fn row(elements: Elements, byte_order: ByteOrder, limits: &Limits) -> Result<SharedSource> {
    let extent = elements.validate(limits)?;
    let unit = elements.dtype.swap_unit();
    let swap = byte_order == ByteOrder::Big && unit > 1;
    if !swap && elements.is_plain() && elements.is_contiguous() {
        return Window::shared(&elements.source, extent.span.start, extent.bytes);
    }
    let swap = if swap { unit } else { 1 };
    let size = extent.element_size as u64;
    Ok(std::sync::Arc::new(Row { len: extent.bytes, limits: limits.clone(), elements, size, swap }))
}

#[derive(Debug)]
struct Row {
    elements: Elements,
    limits: Limits,
    size: u64,
    len: u64,
    /// Bytes that are turned round; 1 for none.
    swap: usize,
}

impl Source for Row {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or_else(|| past_end(self, offset, buf.len() as u64))?;
        let range = offset / self.size..end.div_ceil(self.size);
        let mut bytes = Vec::with_capacity(buf.len());
        for_each_block_in(&self.elements, &self.limits, range, &mut |block| {
            bytes.extend_from_slice(block);
            Ok(())
        })?;
        if self.swap > 1 {
            bytes.chunks_exact_mut(self.swap).for_each(<[u8]>::reverse);
        }
        let skip = usize::try_from(offset % self.size).unwrap_or(usize::MAX);
        let part = bytes.get(skip..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(part.ok_or_else(|| past_end(self, offset, buf.len() as u64))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tensor;
    use super::*;
    use crate::dtype::Known;
    use crate::source::read_vec;

    #[test]
    fn any_part_of_a_row_whatever_the_steps_and_orders() {
        let bytes: Vec<u8> = (0..12_u16).flat_map(u16::to_le_bytes).collect();
        let plain = tensor(Known::Int16, &[3, 4], bytes.clone());
        let turned = Elements { shape: vec![4, 3], stride: vec![1, 4], ..plain.clone() };
        let numbers = |column: bool| -> Vec<u16> {
            if column { (0..4).flat_map(|i| [i, i + 4, i + 8]).collect() } else { (0..12).collect() }
        };
        for (elements, is_turned) in [(plain, false), (turned, true)] {
            for (stored, asked) in [
                (ByteOrder::Little, ByteOrder::Little),
                (ByteOrder::Big, ByteOrder::Little),
                (ByteOrder::Big, ByteOrder::Big),
            ] {
                let elements = Elements { byte_order: stored, ..elements.clone() };
                let want: Vec<u8> = numbers(is_turned)
                    .iter()
                    .flat_map(|number| if stored == asked { number.to_le_bytes() } else { number.to_be_bytes() })
                    .collect();
                let row = row(elements, asked, &Limits::default()).unwrap();
                for from in 0..24_u64 {
                    for to in from..=24 {
                        let part = read_vec(row.as_ref(), from, to - from).unwrap();
                        let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
                        assert_eq!(part, want[range], "{stored:?} {asked:?} {from}..{to}");
                    }
                }
                assert!(row.read_at(23, &mut [0; 2]).is_err());
            }
        }
    }
}
