//! One tensor out of the boxes that several processes saved of it, as a source of its row-major bytes.
//!
//! A box's elements that lie in a range of the whole tensor's row-major order follow each other in the box's own order,
//! whatever its sides: each read takes one run of every box and spreads it out, in the memory of the block that is
//! read and one of the gatherer's.

use std::collections::HashSet;
use std::fs::File;
use std::sync::{Arc, OnceLock};

use crate::checkpoint::open::{Opener, Parts};
use crate::data::Elements;
use crate::data::gather::for_each_block_in;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{SharedSource, Source, check_range};

/// Dimensions that a tensor may be cut along; the check for gaps looks at 2 to the power of this many corners a box.
const MAX_CUT_DIMS: usize = 8;

/// A box of a tensor: where it starts and how large it is in each dimension, in elements.
#[derive(Debug)]
pub(super) struct Chunk {
    pub offsets: Vec<u64>,
    pub sizes: Vec<u64>,
    /// A `torch.save` file of its elements, a tensor of shape `sizes`.
    pub saved: SharedSource,
    /// The file that it lies in, for messages.
    pub file: Arc<str>,
    /// What lies in it, once it has been needed.
    pub opened: OnceLock<Elements>,
}

impl Chunk {
    fn volume(&self) -> u64 {
        self.sizes.iter().product()
    }

    /// How many of the box's elements come before position `at` of the tensor's row-major order.
    fn before(&self, shape: &[u64], at: u64) -> u64 {
        let mut in_row: u64 = shape.iter().product();
        let mut in_box = self.volume();
        if at >= in_row {
            return in_box;
        }
        let (mut left, mut count) = (at, 0);
        for ((extent, offset), size) in shape.iter().zip(&self.offsets).zip(&self.sizes) {
            in_row /= extent;
            in_box /= size;
            let index = left / in_row;
            left %= in_row;
            match index.checked_sub(*offset) {
                None => return count,
                Some(inside) if inside >= *size => return count + size * in_box,
                Some(inside) => count += inside * in_box,
            }
        }
        count
    }

    /// The tensor's row-major position of the box's element number `at`.
    fn position(&self, shape: &[u64], at: u64) -> u64 {
        let mut in_box = self.volume();
        let (mut left, mut position) = (at, 0);
        for ((extent, offset), size) in shape.iter().zip(&self.offsets).zip(&self.sizes) {
            in_box /= size;
            position = position * extent + offset + left / in_box;
            left %= in_box;
        }
        position
    }

    /// How many elements of the box follow each other in the tensor too, from the start of a row of the box on.
    fn run(&self, shape: &[u64]) -> u64 {
        let mut run = 1;
        for (extent, size) in shape.iter().zip(&self.sizes).rev() {
            run *= size;
            if size != extent {
                break;
            }
        }
        run
    }
}

/// A tensor of chunks.
#[derive(Debug)]
pub(super) struct Stitched {
    shape: Vec<u64>,
    dtype: DType,
    size: u64,
    len: u64,
    chunks: Vec<Chunk>,
    limits: Arc<Limits>,
}

impl Stitched {
    /// A tensor of `shape` and `dtype`, whose chunks must cover every element once. The error says what is wrong.
    pub(crate) fn new(
        shape: Vec<u64>,
        dtype: DType,
        mut chunks: Vec<Chunk>,
        limits: Arc<Limits>,
    ) -> Result<Self, String> {
        let size = dtype.size().map(u64::from).filter(|size| *size > 0);
        let size = size.ok_or_else(|| format!("the size of a {} element is not known", dtype.name()))?;
        let numel = tiling(&shape, chunks.iter().map(|chunk| (chunk.offsets.as_slice(), chunk.sizes.as_slice())))?;
        let len = numel.checked_mul(size).ok_or("has more bytes than 64 bits can count")?;
        chunks.retain(|chunk| !chunk.sizes.contains(&0));
        // what torch saves of a chunk is never expanded, so fewer bytes cannot hold it
        if let Some(short) = chunks.iter().find(|chunk| chunk.saved.len() < chunk.volume() * size) {
            let Chunk { offsets, sizes, saved, file, .. } = short;
            let bytes = saved.len();
            return Err(format!(
                "the chunk at {offsets:?} has {bytes} bytes in {file}, too few for its shape {sizes:?}"
            ));
        }
        Ok(Stitched { shape, dtype, size, len, chunks, limits })
    }

    /// The elements of a chunk, whose file is read when they are first needed.
    fn elements<'a>(&self, chunk: &'a Chunk) -> Result<&'a Elements> {
        self.open(chunk).map_err(|e| Error::new(e.kind(), format!("{}: {e}", chunk.file)))
    }

    fn open<'a>(&self, chunk: &'a Chunk) -> Result<&'a Elements> {
        if let Some(elements) = chunk.opened.get() {
            return Ok(elements);
        }
        let max_objects = self.limits.objects_for(chunk.saved.len());
        let mut parts = Parts::new();
        let opener = Opener::new(Arc::clone(&chunk.saved), &self.limits, max_objects);
        let opened = opener.saved(&mut parts)?;
        let checkpoint = parts.finish(opened, &self.limits)?;
        let at = |e: Error| e.at(chunk.saved.absolute(0));
        let tensor = checkpoint.tensors.of(checkpoint.root).and_then(|id| checkpoint.tensor(id));
        let tensor = tensor.ok_or_else(|| at(Error::data("the file of a chunk holds no tensor")))?;
        let elements = tensor.elements(&checkpoint.storages).map_err(at)?;
        if elements.shape != chunk.sizes || elements.dtype != self.dtype {
            let (have, want) = (elements.dtype.name(), self.dtype.name());
            let what =
                format!("a chunk is {have} of shape {:?}, not {want} of shape {:?}", elements.shape, chunk.sizes);
            return Err(at(Error::data(what)));
        }
        Ok(chunk.opened.get_or_init(|| elements))
    }

    /// Fills `out` with the whole elements from number `first` on.
    fn fill(&self, first: u64, out: &mut [u8]) -> Result<()> {
        let last = first + out.len() as u64 / self.size;
        for chunk in &self.chunks {
            let range = chunk.before(&self.shape, first)..chunk.before(&self.shape, last);
            if range.is_empty() {
                continue;
            }
            let run = chunk.run(&self.shape);
            let mut at = range.start;
            for_each_block_in(self.elements(chunk)?, &self.limits, range, &mut |mut block| {
                while !block.is_empty() {
                    let bytes = (run - at % run).saturating_mul(self.size);
                    let take = usize::try_from(bytes).unwrap_or(usize::MAX).min(block.len());
                    let (now, later) = block.split_at(take);
                    let to = (chunk.position(&self.shape, at) - first) * self.size;
                    let place = usize::try_from(to).ok().and_then(|to| out.get_mut(to..to.checked_add(take)?));
                    place.ok_or_else(|| Error::data("a chunk reaches outside its tensor"))?.copy_from_slice(now);
                    at += take as u64 / self.size;
                    block = later;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Source for Stitched {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self, offset, buf.len() as u64)?;
        whole_elements(self.size, offset, buf, &mut |first, out| self.fill(first, out))
    }

    fn verify(&self) -> Result<()> {
        self.chunks.iter().try_for_each(|chunk| self.elements(chunk).map(drop))
    }

    fn as_file(&self, offset: u64) -> Option<(&File, u64)> {
        let [chunk] = self.chunks.as_slice() else { return None };
        let elements = self.elements(chunk).ok().filter(|elements| elements.is_contiguous() && elements.is_plain())?;
        elements.source.as_file(elements.offset.checked_mul(self.size)?.checked_add(offset)?)
    }

    fn as_file_run(&self, offset: u64) -> Option<(&File, u64, u64)> {
        if !offset.is_multiple_of(self.size) {
            return None;
        }
        let first = offset / self.size;
        let next = first.checked_add(1)?;
        let holds = |chunk: &&Chunk| chunk.before(&self.shape, first) < chunk.before(&self.shape, next);
        let chunk = self.chunks.iter().find(holds)?;
        let (run, at) = (chunk.run(&self.shape), chunk.before(&self.shape, first));
        if run.checked_mul(self.size)? < SHORTEST_RUN {
            return None;
        }
        let elements = self.elements(chunk).ok().filter(|elements| elements.is_contiguous() && elements.is_plain())?;
        let place = elements.offset.checked_add(at)?.checked_mul(self.size)?;
        let (file, position, left) = elements.source.as_file_run(place)?;
        Some((file, position, left.min((run - at % run).checked_mul(self.size)?)))
    }
}

/// Bytes in a row that are worth a call of their own.
const SHORTEST_RUN: u64 = 128 << 10;

/// Reads the bytes at `offset` where `fill` gives only whole elements of `size` bytes, from a number on.
pub(super) fn whole_elements(
    size: u64,
    offset: u64,
    buf: &mut [u8],
    fill: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<()> {
    let (first, end) = (offset / size, offset.saturating_add(buf.len() as u64));
    if offset.is_multiple_of(size) && end.is_multiple_of(size) {
        return fill(first, buf);
    }
    // no reader of ours asks for parts of elements, but a source must have them
    let bytes = (end.div_ceil(size) - first) * size;
    let mut whole = vec![0; usize::try_from(bytes).map_err(|_| Error::limit("a block does not fit in memory"))?];
    fill(first, &mut whole)?;
    let from = usize::try_from(offset % size).unwrap_or(0);
    let part = whole.get(from..from + buf.len()).ok_or_else(|| Error::data("a part outside its block"))?;
    buf.copy_from_slice(part);
    Ok(())
}

/// Checks that boxes (offsets, sizes) cover a tensor of `shape` exactly; gives its number of elements.
///
/// When the volumes add up, it is enough that every corner of a box meets those of others: the sum over the boxes is
/// odd everywhere inside if and only if all corners but the tensor's own cancel out in pairs, and a sum that is odd
/// everywhere and 1 on average is 1 everywhere. That takes one pass, where comparing boxes with each other takes a
/// square.
pub(super) fn tiling<'a>(
    shape: &[u64],
    boxes: impl Iterator<Item = (&'a [u64], &'a [u64])> + Clone,
) -> Result<u64, String> {
    let numel = match shape.contains(&0) {
        true => Some(0),
        false => shape.iter().try_fold(1u64, |product, extent| product.checked_mul(*extent)),
    };
    let numel = numel.ok_or("has more elements than 64 bits can count")?;
    let mut sum = 0u128;
    let mut cut = vec![false; shape.len()];
    for (offsets, sizes) in boxes.clone() {
        let sides = offsets.iter().zip(sizes).zip(shape);
        let inside =
            sides.clone().all(|((offset, size), extent)| offset.checked_add(*size).is_some_and(|end| end <= *extent));
        if !inside || offsets.len() != shape.len() || sizes.len() != shape.len() {
            return Err(format!("has a chunk of shape {sizes:?} at {offsets:?}, outside its shape {shape:?}"));
        }
        sum += if sizes.contains(&0) { 0 } else { sizes.iter().map(|size| u128::from(*size)).product::<u128>() };
        if !sizes.contains(&0) {
            sides.zip(&mut cut).for_each(|(((_, size), extent), cut)| *cut |= size != extent);
        }
    }
    if sum < u128::from(numel) {
        return Err(format!("its chunks hold {sum} of {numel} elements"));
    }
    if sum > u128::from(numel) {
        return Err(format!("its chunks overlap: they hold {sum} elements where there are {numel}"));
    }
    let dims = cut.iter().filter(|cut| **cut).count();
    if dims > MAX_CUT_DIMS {
        return Err(format!("is cut along {dims} dimensions; up to {MAX_CUT_DIMS} are put together"));
    }
    let mut odd: HashSet<Vec<u64>> = HashSet::new();
    for (offsets, sizes) in boxes.filter(|(_, sizes)| !sizes.contains(&0)) {
        let sides = || offsets.iter().zip(sizes).zip(&cut).filter(|(_, cut)| **cut).map(|(side, _)| side);
        for corner in 0..1u32 << dims {
            let place =
                sides().zip(0..).map(|((offset, size), bit)| offset + if corner >> bit & 1 == 1 { *size } else { 0 });
            let place: Vec<u64> = place.collect();
            if !odd.remove(&place) {
                odd.insert(place);
            }
        }
    }
    let extents: Vec<u64> = shape.iter().zip(&cut).filter(|(_, cut)| **cut).map(|(extent, _)| *extent).collect();
    let own = |corner: &Vec<u64>| corner.iter().zip(&extents).all(|(at, extent)| *at == 0 || at == extent);
    if numel > 0 && !(odd.len() == 1 << dims && odd.iter().all(own)) {
        return Err("its chunks overlap and leave gaps".into());
    }
    Ok(numel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::gather::for_each_block;
    use crate::data::tests::tensor;
    use crate::dtype::{ByteOrder, Known};
    use crate::source::read_vec;

    fn tiles(shape: &[u64], boxes: &[(&[u64], &[u64])]) -> Result<u64, String> {
        tiling(shape, boxes.iter().copied())
    }

    #[test]
    fn boxes_cover_a_tensor_once() {
        assert_eq!(tiles(&[], &[(&[], &[])]), Ok(1));
        assert_eq!(tiles(&[5, 6], &[(&[0, 0], &[3, 6]), (&[3, 0], &[2, 6])]), Ok(30));
        assert_eq!(tiles(&[5, 6], &[(&[0, 0], &[5, 6]), (&[5, 0], &[0, 6])]), Ok(30));
        assert_eq!(tiles(&[0, 6], &[]), Ok(0));
        // a pinwheel: no cut goes through
        let wheel: &[(&[u64], &[u64])] =
            &[(&[0, 0], &[1, 2]), (&[0, 2], &[2, 1]), (&[2, 1], &[1, 2]), (&[1, 0], &[2, 1]), (&[1, 1], &[1, 1])];
        assert_eq!(tiles(&[3, 3], wheel), Ok(9));
        assert!(tiles(&[5, 6], &[(&[0, 0], &[3, 6])]).unwrap_err().contains("18 of 30"));
        assert!(tiles(&[4], &[(&[0], &[3]), (&[1], &[3])]).unwrap_err().contains("overlap"));
        assert!(tiles(&[4], &[(&[0], &[2]), (&[1], &[2])]).unwrap_err().contains("gaps"));
        assert!(tiles(&[4], &[(&[0], &[2]), (&[0], &[2])]).unwrap_err().contains("gaps"));
        assert!(tiles(&[2, 2], &[(&[0, 0], &[1, 2]), (&[0, 0], &[2, 1])]).unwrap_err().contains("gaps"));
        assert!(tiles(&[4], &[(&[2], &[3])]).unwrap_err().contains("outside"));
        assert!(tiles(&[4], &[(&[u64::MAX], &[3])]).unwrap_err().contains("outside"));
        assert!(tiles(&[4], &[(&[0, 0], &[4, 1])]).unwrap_err().contains("outside"));
        assert!(tiles(&[u64::MAX, 2], &[]).is_err());
        assert_eq!(tiles(&[u64::MAX], &[(&[0], &[u64::MAX])]), Ok(u64::MAX));
    }

    /// A 3-D tensor that counts, cut into boxes of its elements; one box is stored transposed.
    fn counting() -> Stitched {
        let shape = [4u64, 3, 5];
        let value = |a: u64, b: u64, c: u64| u16::try_from((a * 3 + b) * 5 + c).unwrap();
        let boxes = [([0u64, 0, 0], [4u64, 3, 2]), ([0, 0, 2], [1, 3, 3]), ([1, 0, 2], [3, 3, 3])];
        let chunks = boxes.into_iter().zip(0..).map(|((offsets, sizes), number)| {
            let mut bytes = Vec::new();
            let mut put = |a: u64, b: u64, c: u64| {
                bytes.extend(value(a + offsets[0], b + offsets[1], c + offsets[2]).to_be_bytes());
            };
            let mut stride = [sizes[1] * sizes[2], sizes[2], 1];
            if number == 2 {
                (0..sizes[2]).for_each(|c| (0..sizes[1]).for_each(|b| (0..sizes[0]).for_each(|a| put(a, b, c))));
                stride = [1, sizes[0], sizes[0] * sizes[1]];
            } else {
                (0..sizes[0]).for_each(|a| (0..sizes[1]).for_each(|b| (0..sizes[2]).for_each(|c| put(a, b, c))));
            }
            let mut elements = tensor(Known::UInt16, &sizes, bytes);
            (elements.stride, elements.byte_order) = (stride.to_vec(), ByteOrder::Big);
            let saved = Arc::clone(&elements.source);
            Chunk {
                offsets: offsets.to_vec(),
                sizes: sizes.to_vec(),
                saved,
                file: "".into(),
                opened: OnceLock::from(elements),
            }
        });
        Stitched::new(shape.to_vec(), Known::UInt16.into(), chunks.collect(), Arc::default()).unwrap()
    }

    #[test]
    fn long_runs_lie_in_their_files() {
        // rows of the tensor by turns from two files, in boxes of two columns, the second file behind some bytes
        let half = SHORTEST_RUN / 2;
        let dir = tempfile::tempdir().unwrap();
        let chunk = |name: &str, rows: u64, from: u64, skipped: u64| {
            let bytes: Vec<u8> =
                (0..(skipped + rows * half) * 2).map(|at| u8::try_from((at / 2 + from) % 251).unwrap()).collect();
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let source: SharedSource = Arc::new(crate::source::FileSource::open(&path).unwrap());
            let mut elements = tensor(Known::UInt16, &[rows, half], Vec::new());
            (elements.source, elements.offset) = (Arc::clone(&source), skipped);
            let opened = OnceLock::from(elements);
            Chunk { offsets: vec![from, 0], sizes: vec![rows, half], saved: source, file: "".into(), opened }
        };
        let chunks = vec![chunk("b", 2, 3, 10), chunk("a", 3, 0, 0)];
        let stitched = Stitched::new(vec![5, half], Known::UInt16.into(), chunks, Arc::default()).unwrap();
        let (mut at, mut runs) = (0, Vec::new());
        while let Some((file, position, run)) = stitched.as_file_run(at) {
            let mut there = vec![0; usize::try_from(run).unwrap()];
            std::os::unix::fs::FileExt::read_exact_at(file, &mut there, position).unwrap();
            assert!(read_vec(&stitched, at, run).unwrap() == there, "{at}");
            runs.push(run / half / 2);
            at += run;
        }
        assert_eq!((at, runs), (stitched.len(), vec![3, 2]));
        assert!(stitched.as_file_run(1).is_none());
        let (.., left) = stitched.as_file_run(half * 8 - 6).unwrap();
        assert_eq!(left, half * 2 + 6);
        // short ones are read
        assert!(counting().as_file_run(0).is_none());
    }

    #[test]
    fn every_range_of_a_stitched_tensor() {
        let stitched = counting();
        let all: Vec<u8> = (0u16..60).flat_map(u16::to_le_bytes).collect();
        for start in 0..120u64 {
            for len in 0..=120 - start {
                let from = usize::try_from(start).unwrap();
                let want = &all[from..from + usize::try_from(len).unwrap()];
                assert_eq!(read_vec(&stitched, start, len).unwrap(), want, "{start}, {len}");
            }
        }
        assert!(stitched.read_at(119, &mut [0; 2]).is_err());
        // and through the gatherer, with strides of its own
        let mut turned = tensor(Known::UInt16, &[5, 3, 4], Vec::new());
        (turned.source, turned.stride) = (Arc::new(stitched), vec![1, 5, 15]);
        let mut seen = Vec::new();
        for_each_block::<Error>(&turned, &Limits::default(), &mut |block| {
            seen.extend(block.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes)));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen[..5], [0, 15, 30, 45, 5]);
    }
}
