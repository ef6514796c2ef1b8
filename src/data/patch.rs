//! The bytes of a storage some of whose views have other elements, which are read from sources of their own: everything
//! else in it stays as it is.

use std::cmp::Reverse;
use std::ops::Range;

use super::Elements;
use super::gather::coalesce;
use super::row::row;
use super::tile::Dim;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{SharedSource, Source, past_end, read_vec};

/// Runs of elements that a search for common ones looks at.
const MAX_RUNS: u64 = 1 << 20;

/// A view, and where its elements come from.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The elements, in the order in which they lie in the storage and in its byte order.
    pub source: SharedSource,
    /// Bytes of one.
    pub size: u64,
    /// The first element in the storage.
    pub offset: u64,
    /// Extents, and steps that fall: each at least the one after it times its extent, so that no element lies twice.
    pub shape: Vec<u64>,
    /// The steps.
    pub stride: Vec<u64>,
}

/// The dimensions in the order in which they lie in a storage, without those of one index; nothing where an element lies
/// in two places of the shape.
fn falling(shape: &[u64], stride: &[u64]) -> Option<Vec<usize>> {
    let of = |values: &[u64], dim: usize| values.get(dim).copied().unwrap_or(1);
    let mut dims: Vec<usize> = (0..shape.len()).filter(|dim| of(shape, *dim) > 1).collect();
    dims.sort_by_key(|dim| Reverse((of(stride, *dim), of(shape, *dim))));
    let mut room = u64::MAX;
    for dim in &dims {
        let (len, step) = (of(shape, *dim), of(stride, *dim));
        if step == 0 || step.checked_mul(len).is_none_or(|all| all > room) {
            return None;
        }
        room = step;
    }
    Some(dims)
}

impl View {
    /// Where `old` lies, with the elements of `new`, which has its type and shape. Refused where elements of `old` lie in
    /// more than one place of its shape.
    pub(crate) fn of(old: &Elements, mut new: Elements, limits: &Limits) -> Result<Self> {
        let size = old.validate(limits)?.element_size as u64;
        let dims = match old.shape.contains(&0) {
            true => Vec::new(),
            false => falling(&old.shape, &old.stride)
                .ok_or_else(|| Error::refused("is an expanded view: one element stands in several places of it"))?,
        };
        // as they are to lie in the storage: the flags of the old one are on top of that
        (new.conj, new.neg) = (new.conj != old.conj, new.neg != old.neg);
        let of = |of: &[u64]| dims.iter().filter_map(|dim| of.get(*dim).copied()).collect::<Vec<u64>>();
        let (shape, stride) = match old.shape.contains(&0) {
            true => (vec![0], vec![1]),
            false => (of(&old.shape), of(&old.stride)),
        };
        (new.shape, new.stride) =
            if old.shape.contains(&0) { (vec![0], vec![1]) } else { (shape.clone(), of(&new.stride)) };
        Ok(View { source: row(new, old.byte_order, limits)?, size, offset: old.offset, shape, stride })
    }
}

/// Whether two views of one storage have an element in common, as far as that can be found out: where it cannot, they have.
pub(crate) fn overlap(a: &Elements, b: &Elements, limits: &Limits) -> bool {
    let (Ok(x), Ok(y)) = (a.validate(limits), b.validate(limits)) else { return true };
    if x.span.start >= y.span.end || y.span.start >= x.span.end {
        return false;
    }
    let (Some(a), Some(b)) = (Placed::where_lies(a, &x), Placed::where_lies(b, &y)) else { return true };
    let (few, many) = if a.runs() <= b.runs() { (a, b) } else { (b, a) };
    if few.runs() > MAX_RUNS {
        return true;
    }
    (0..few.runs()).any(|run| {
        let first = few.position(run * few.run()).saturating_mul(few.size);
        let last = first.saturating_add(few.run() * few.size);
        many.before(last.div_ceil(many.size)) > many.before(first / many.size)
    })
}

/// A storage with new elements in some views.
#[derive(Debug)]
pub(crate) struct Patched {
    below: SharedSource,
    /// By first byte.
    views: Vec<Placed>,
}

#[derive(Debug)]
struct Placed {
    source: SharedSource,
    offset: u64,
    dims: Vec<Dim>,
    elements: u64,
    size: u64,
    /// Where this view and all before it end, in bytes.
    reach: u64,
}

impl Patched {
    /// `below` with the elements of `views`. Where views overlap, their elements must be the same.
    pub(crate) fn over(below: SharedSource, views: Vec<View>) -> Result<Self> {
        let place = |view: View| {
            let size = view.size.max(1);
            let dims = coalesce(&view.shape, &view.stride);
            let elements = view.source.len() / size;
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
    /// Where elements lie, each in one place; nothing where some lie in several.
    fn where_lies(elements: &Elements, extent: &super::Extent) -> Option<Self> {
        // of an expanded dimension all indexes are one
        let kept = |dim: &usize| elements.stride.get(*dim).is_some_and(|step| *step > 0);
        let kept: Vec<usize> = (0..elements.shape.len()).filter(kept).collect();
        let of = |of: &[u64]| kept.iter().filter_map(|dim| of.get(*dim).copied()).collect::<Vec<u64>>();
        let (shape, stride) = (of(&elements.shape), of(&elements.stride));
        let dims = falling(&shape, &stride)?;
        let of = |of: &[u64]| dims.iter().filter_map(|dim| of.get(*dim).copied()).collect::<Vec<u64>>();
        let (shape, stride) = (of(&shape), of(&stride));
        Some(Placed {
            source: elements.source.clone(),
            offset: elements.offset,
            dims: coalesce(&shape, &stride),
            elements: shape.iter().product(),
            size: (extent.element_size as u64).max(1),
            reach: 0,
        })
    }

    /// How many runs of elements there are.
    fn runs(&self) -> u64 {
        self.elements / self.run().max(1)
    }

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
    use std::sync::Arc;

    use super::super::tests::tensor;
    use super::*;
    use crate::dtype::{ByteOrder, Known};
    use crate::source::MemorySource;

    /// So many elements of -1, -2, -3 and so on.
    fn counting(count: u64) -> SharedSource {
        Arc::new(MemorySource::new((1..=count).flat_map(|i| (-(i as f32)).to_le_bytes()).collect()))
    }

    #[test]
    fn every_range_of_a_storage_with_views() {
        let below: Vec<f32> = (0..40_u8).map(f32::from).collect();
        let source = Arc::new(MemorySource::new(below.iter().flat_map(|x| x.to_le_bytes()).collect()));
        let view = |offset, shape: &[u64], stride: &[u64]| View {
            source: counting(shape.iter().product()),
            size: 4,
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
        let view = View { source: counting(3), size: 4, offset: 39, shape: vec![3], stride: vec![1] };
        assert!(Patched::over(Arc::new(MemorySource::new(vec![0; 160])), vec![view]).is_err());
    }

    /// Twelve numbers as so many dimensions, with steps and a first one.
    fn view(shape: &[u64], stride: &[u64], offset: u64) -> Elements {
        let bytes = (0..12_u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        Elements { shape: shape.to_vec(), stride: stride.to_vec(), offset, ..tensor(Known::Float32, &[12], bytes) }
    }

    #[test]
    fn a_view_takes_other_elements_whatever_its_steps() {
        let limits = Limits::default();
        for (old, big) in [
            (view(&[3, 4], &[4, 1], 0), false),
            (view(&[4, 3], &[1, 4], 0), true),
            (view(&[2, 2], &[1, 6], 1), false),
            (view(&[2, 1, 3], &[1, 9, 4], 2), true),
            (view(&[0, 3], &[3, 1], 0), false),
            (view(&[], &[], 11), true),
        ] {
            let order = if big { ByteOrder::Big } else { ByteOrder::Little };
            let old = Elements { byte_order: order, ..old };
            let count: u64 = old.shape.iter().product();
            let new =
                tensor(Known::Float32, &old.shape, (0..count).flat_map(|i| (-(i as f32)).to_le_bytes()).collect());
            let patched =
                Patched::over(old.source.clone(), vec![View::of(&old, new.clone(), &limits).unwrap()]).unwrap();
            let now = Elements { source: Arc::new(patched), ..old.clone() };
            let all = |elements: &Elements| {
                let mut all = Vec::new();
                super::super::gather::for_each_block::<Error>(elements, &limits, &mut |block| {
                    all.extend_from_slice(block);
                    Ok(())
                })
                .unwrap();
                all
            };
            assert_eq!(all(&now), all(&new), "{old:?}");
            let bytes = |elements: &Elements| read_vec(elements.source.as_ref(), 0, 48).unwrap();
            let (before, after) = (bytes(&old), bytes(&now));
            let changed = before.chunks(4).zip(after.chunks(4)).filter(|(a, b)| a != b).count() as u64;
            assert!(changed <= count, "{old:?}");
        }
        let e = View::of(&view(&[2, 2], &[0, 1], 0), view(&[2, 2], &[2, 1], 0), &limits).unwrap_err();
        assert!(e.to_string().contains("expanded"), "{e}");
        assert!(View::of(&view(&[2, 2], &[1, 1], 0), view(&[2, 2], &[2, 1], 0), &limits).is_err());
    }

    #[test]
    fn views_that_lie_between_each_other_have_nothing_in_common() {
        let limits = Limits::default();
        let even = view(&[6], &[2], 0);
        let [odd, third, tail] = [view(&[6], &[2], 1), view(&[4], &[3], 0), view(&[2], &[1], 10)];
        assert!(!overlap(&even, &odd, &limits) && overlap(&even, &third, &limits));
        assert!(overlap(&tail, &even, &limits) && overlap(&odd, &tail, &limits));
        assert!(!overlap(&view(&[3, 2], &[4, 1], 0), &view(&[3, 2], &[4, 1], 2), &limits));
        assert!(overlap(&view(&[5, 3], &[0, 4], 1), &view(&[1], &[1], 5), &limits));
        assert!(!overlap(&view(&[0], &[1], 0), &even, &limits));
    }
}
