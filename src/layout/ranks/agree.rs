//! Elements of which several ranks have a copy: they are read from all of them, and must be the same bit for bit.

use std::sync::Arc;

use crate::data::Elements;
use crate::data::gather::for_each_block_in;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::stitch::whole_elements;
use crate::limits::Limits;
use crate::source::{SharedSource, Source, check_range};

/// Copies, as the row-major bytes that they have in common.
#[derive(Debug)]
pub(super) struct Agreed {
    /// The tensor that they are a part of.
    name: String,
    copies: Vec<(Arc<str>, Elements)>,
    dtype: DType,
    size: u64,
    len: u64,
    limits: Arc<Limits>,
}

impl Agreed {
    /// Elements of the tensor `name` that are read from all `copies`, each with the file it lies in. They have one shape and
    /// dtype.
    pub(crate) fn over(
        name: &str,
        mut copies: Vec<(Arc<str>, Elements)>,
        limits: &Arc<Limits>,
    ) -> Result<Elements, String> {
        let Some((_, first)) = copies.first() else { return Err("no rank holds it".into()) };
        let (dtype, shape) = (first.dtype.clone(), first.shape.clone());
        let size = dtype.size().map(u64::from).filter(|size| *size > 0);
        let size = size.ok_or_else(|| format!("the size of a {} element is not known", dtype.name()))?;
        let len = match shape.contains(&0) {
            true => Some(0),
            false => shape.iter().try_fold(size, |product, extent| product.checked_mul(*extent)),
        };
        let len = len.ok_or("has more bytes than 64 bits can count")?;
        if copies.len() == 1 {
            return copies.pop().map(|(_, elements)| elements).ok_or_else(|| "no rank holds it".into());
        }
        let (name, limits) = (name.to_owned(), Arc::clone(limits));
        let source: SharedSource = Arc::new(Agreed { name, copies, dtype: dtype.clone(), size, len, limits });
        Ok(Elements::row_major(source, dtype, shape))
    }

    fn fill(&self, first: u64, out: &mut [u8]) -> Result<()> {
        let range = first..first + out.len() as u64 / self.size;
        let mut copies = self.copies.iter();
        let Some((first_file, elements)) = copies.next() else { return Ok(()) };
        let outside = || Error::data("a copy reaches outside its tensor");
        let named = |file: &str, e: Error| Error::new(e.kind(), format!("{file}: {e}"));
        let mut at = 0;
        for_each_block_in(elements, &self.limits, range.clone(), &mut |block| {
            out.get_mut(at..at + block.len()).ok_or_else(outside)?.copy_from_slice(block);
            at += block.len();
            Ok(())
        })
        .map_err(|e| named(first_file, e))?;
        for (file, elements) in copies {
            let (mut at, mut differs) = (0, None);
            for_each_block_in(elements, &self.limits, range.clone(), &mut |block| {
                let ours = out.get(at..at + block.len()).ok_or_else(outside)?;
                if differs.is_none() && ours != block {
                    differs = ours.iter().zip(block).position(|(a, b)| a != b).map(|byte| at + byte);
                }
                at += block.len();
                Ok(())
            })
            .map_err(|e| named(file, e))?;
            if let Some(byte) = differs {
                let element = first + byte as u64 / self.size;
                let dtype = self.dtype.name();
                let message = format!(
                    "{first_file} and {file} should hold the same and do not: element {element} of their {dtype} tensors \
                     is another one"
                );
                return Err(Error::data(message).of_part(&self.name));
            }
        }
        Ok(())
    }
}

impl Source for Agreed {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self, offset, buf.len() as u64)?;
        whole_elements(self.size, offset, buf, &mut |first, out| self.fill(first, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::tensor;
    use crate::dtype::Known;
    use crate::source::read_vec;

    #[test]
    fn copies_that_differ_are_none() {
        let copy = |bytes: &[u8]| tensor(Known::UInt16, &[3], bytes.to_vec());
        let limits = Arc::new(Limits::default());
        let of = |other: &[u8]| {
            let copies = vec![("a.pt".into(), copy(&[1, 2, 3, 4, 5, 6])), ("b.pt".into(), copy(other))];
            Agreed::over("w", copies, &limits).unwrap().source
        };
        let same = of(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(read_vec(same.as_ref(), 0, 6).unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(read_vec(same.as_ref(), 1, 4).unwrap(), [2, 3, 4, 5]);
        assert!(same.read_at(4, &mut [0; 3]).is_err());
        let other = of(&[1, 2, 3, 4, 5, 7]);
        assert_eq!(read_vec(other.as_ref(), 0, 4).unwrap(), [1, 2, 3, 4]);
        let e = read_vec(other.as_ref(), 2, 4).unwrap_err();
        assert!(e.message().starts_with("a.pt and b.pt should") && e.message().contains("element 2 of"), "{e}");
    }
}
