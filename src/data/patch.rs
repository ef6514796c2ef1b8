//! The bytes of a storage some of whose views have other elements, which are read from sources of their own: everything
//! else in it stays as it is.

use std::ops::Range;
use std::sync::Arc;

use super::average::Average;
use super::gather::coalesce;
use super::tile::Dim;
use crate::error::{Error, Result};
use crate::source::{SharedSource, Source, past_end, read_vec};

/// A view, and where its elements come from.
#[derive(Debug)]
pub struct View {
    /// The elements, in the order in which they lie in the storage.
    pub source: Arc<Average>,
    /// The first element in the storage.
    pub offset: u64,
    /// Extents, and steps that fall: each at least the one after it times its extent, so that no element lies twice.
    pub shape: Vec<u64>,
    /// The steps.
    pub stride: Vec<u64>,
}

/// A storage with new elements in some views.
#[derive(Debug)]
pub struct Patched {
    below: SharedSource,
    /// By first byte.
    views: Vec<Placed>,
}

#[derive(Debug)]
struct Placed {
    source: Arc<Average>,
    offset: u64,
    dims: Vec<Dim>,
    elements: u64,
    size: u64,
    /// Where this view and all before it end, in bytes.
    reach: u64,
}

impl Patched {
    /// `below` with the elements of `views`. Where views overlap, their elements must be the same.
    pub fn over(below: SharedSource, views: Vec<View>) -> Result<Self> {
        let place = |view: View| {
            let size = view.source.element_size();
            let dims = coalesce(&view.shape, &view.stride);
            let elements = view.source.len() / size.max(1);
            Placed { source: view.source, offset: view.offset, dims, elements, size, reach: 0 }
        };
        let mut views: Vec<Placed> = views.into_iter().map(place).filter(|view| view.elements > 0).collect();
        views.sort_by_key(|view| view.offset.saturating_mul(view.size));
        let mut reach = 0;
        for view in &mut views {
            let end = view.position(view.elements - 1).saturating_add(1).saturating_mul(view.size);
            reach = end.max(reach);
            view.reach = reach;
        }
        if reach > below.len() {
            return Err(Error::data("a view reaches outside its storage"));
        }
        Ok(Patched { below, views })
    }
}

impl Placed {
    /// Where in the storage an element lies, in elements.
    fn position(&self, mut element: u64) -> u64 {
        let mut at = self.offset;
        for Dim { len, stride } in self.dims.iter().rev() {
            at = at.saturating_add((element % len).saturating_mul(*stride));
            element /= len;
        }
        at
    }

    /// How many elements lie before this position of the storage.
    fn before(&self, position: u64) -> u64 {
        let (mut low, mut high) = (0, self.elements);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.position(middle) < position {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// How many elements lie one after the other.
    fn run(&self) -> u64 {
        match self.dims.last() {
            Some(Dim { len, stride: 1 }) => *len,
            _ => 1,
        }
    }

    /// The bytes of the storage that it has all of, where it has no gaps.
    fn whole(&self) -> Option<Range<u64>> {
        let first = self.offset * self.size;
        (self.run() == self.elements).then(|| first..first + self.elements * self.size)
    }

    /// Puts what it has of the bytes from `start` on.
    fn put(&self, start: u64, buf: &mut [u8]) -> Result<()> {
        let end = start + buf.len() as u64;
        let elements = self.before(start / self.size)..self.before(end.div_ceil(self.size));
        if elements.is_empty() {
            return Ok(());
        }
        let first = elements.start * self.size;
        let bytes = read_vec(self.source.as_ref(), first, (elements.end - elements.start) * self.size)?;
        let mut element = elements.start;
        while element < elements.end {
            let run = (self.run() - element % self.run()).min(elements.end - element);
            let from = self.position(element) * self.size;
            // at both ends there may be parts of an element
            let lie = from.max(start)..(from + run * self.size).min(end);
            let at = |place: u64, origin: u64| usize::try_from(place - origin).ok();
            let to = at(lie.start, start).zip(at(lie.end, start)).and_then(|(a, b)| buf.get_mut(a..b));
            let skip = element * self.size - first;
            let new = at(lie.start + skip, from).zip(at(lie.end + skip, from)).and_then(|(a, b)| bytes.get(a..b));
            let (Some(to), Some(new)) = (to, new) else {
                return Err(Error::data("a view reaches outside its storage"));
            };
            to.copy_from_slice(new);
            element += run;
        }
        Ok(())
    }
}

impl Source for Patched {
    fn len(&self) -> u64 {
        self.below.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len());
        let end = end.ok_or_else(|| past_end(self, offset, buf.len() as u64))?;
        let until = self.views.partition_point(|view| view.offset * view.size < end);
        let touched = || self.views.iter().take(until).rev().take_while(|view| view.reach > offset);
        // mostly there is one, and nothing else
        let mut all = touched();
        if let (Some(view), None) = (all.next(), all.next())
            && let Some(whole) = view.whole().filter(|whole| whole.start <= offset && end <= whole.end)
        {
            return view.source.read_at(offset - whole.start, buf);
        }
        self.below.read_at(offset, buf)?;
        touched().try_for_each(|view| view.put(offset, buf))
    }

    fn absolute(&self, offset: u64) -> u64 {
        self.below.absolute(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::super::average::{Blend, Part};
    use super::super::tests::tensor;
    use super::*;
    use crate::dtype::{ByteOrder, Known};
    use crate::limits::Limits;
    use crate::source::MemorySource;

    /// So many elements of -1, -2, -3 and so on.
    fn counting(count: u64) -> Arc<Average> {
        let bytes = (1..=count).flat_map(|i| (-(i as f32)).to_le_bytes()).collect();
        let parts = vec![Part { file: "f".into(), elements: tensor(Known::Float32, &[count], bytes) }];
        Average::over(parts, &Arc::new(Blend::mean(1)), ByteOrder::Little, &Limits::default()).unwrap()
    }

    #[test]
    fn every_range_of_a_storage_with_views() {
        let below: Vec<f32> = (0..40_u8).map(f32::from).collect();
        let source = Arc::new(MemorySource::new(below.iter().flat_map(|x| x.to_le_bytes()).collect()));
        let view = |offset, shape: &[u64], stride: &[u64]| View {
            source: counting(shape.iter().product()),
            offset,
            shape: shape.to_vec(),
            stride: stride.to_vec(),
        };
        // a row, every second element, two columns of three rows, nothing
        let views = vec![view(30, &[3, 2], &[3, 1]), view(2, &[5], &[1]), view(10, &[4], &[2]), view(0, &[0], &[1])];
        let patched = Patched::over(source, views).unwrap();
        let mut want = below;
        for (number, at) in (1..=5_u8).zip(2..) {
            want[at] = -f32::from(number);
        }
        for (number, at) in (1..=4_u8).zip((10..).step_by(2)) {
            want[at] = -f32::from(number);
        }
        for (number, at) in (1..=6_u8).zip([30, 31, 33, 34, 36, 37]) {
            want[at] = -f32::from(number);
        }
        let want: Vec<u8> = want.iter().flat_map(|x| x.to_le_bytes()).collect();
        for from in 0..160 {
            for to in from..=160 {
                let got = read_vec(&patched, from as u64, (to - from) as u64).unwrap();
                assert_eq!(got, want[from..to], "{from}..{to}");
            }
        }
        assert!(patched.read_at(159, &mut [0; 2]).is_err());
        let view = View { source: counting(3), offset: 39, shape: vec![3], stride: vec![1] };
        assert!(Patched::over(Arc::new(MemorySource::new(vec![0; 160])), vec![view]).is_err());
    }
}
