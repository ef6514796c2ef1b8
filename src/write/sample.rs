//! Whether bytes that were written are those of a content: all of a small one, of a larger one some from the beginning, the
//! middle and the end.

use crate::data::Elements;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{Source, read_vec};
use crate::write::content::Content;

/// Bytes, or elements, that are looked at in one place.
const RUN: u64 = 4096;
const RUN_STEP: usize = 4096;
/// What has no more bytes is looked at as a whole.
const SMALL_BYTES: u64 = 64 << 10;

impl Content {
    /// Whether `written` has, from byte `start` on, what writing this content gives, as far as a sample tells.
    pub(crate) fn is_like(&self, written: &dyn Source, start: u64, limits: &Limits) -> Result<bool> {
        match self {
            Content::Raw { source, .. } => {
                for at in places(source.len()) {
                    let len = (source.len() - at).min(RUN);
                    if read_vec(source.as_ref(), at, len)? != read_vec(written, offset(start, at)?, len)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Content::Elements { elements, cast } => {
                let size = cast.as_ref().unwrap_or(&elements.dtype).size().map_or(1, u64::from);
                let is_small = self.bytes(limits)? <= SMALL_BYTES;
                let parts = if is_small { vec![(0, elements.clone())] } else { parts(elements)? };
                for (first, part) in parts {
                    let mut bytes = Vec::new();
                    Content::Elements { elements: part, cast: cast.clone() }.blocks(limits, &mut |block| {
                        bytes.extend_from_slice(block);
                        Ok(())
                    })?;
                    let at = offset(start, first.saturating_mul(size))?;
                    if bytes != read_vec(written, at, bytes.len() as u64)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

fn offset(start: u64, at: u64) -> Result<u64> {
    start.checked_add(at).ok_or_else(|| Error::data("beyond any file"))
}

/// Where to look in a row of so many: everywhere, or at its beginning, middle and end.
fn places(len: u64) -> Vec<u64> {
    match len {
        0 => Vec::new(),
        len if len <= SMALL_BYTES => (0..len).step_by(RUN_STEP).collect(),
        len => vec![0, len / 2, len - RUN],
    }
}

/// Parts of a tensor that lie in a row once they are written, each with the place of its first element there.
fn parts(elements: &Elements) -> Result<Vec<(u64, Elements)>> {
    let count = elements.shape.iter().try_fold(1_u64, |count, extent| count.checked_mul(*extent));
    let count = count.ok_or_else(|| Error::data("too many elements"))?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let Some(last) = elements.shape.len().checked_sub(1) else { return Ok(vec![(0, elements.clone())]) };
    let row = elements.shape.last().copied().unwrap_or(1);
    let (rows, columns) = (count / row, places(row));
    let mut chosen: Vec<u64> = vec![0, rows / 2, rows - 1];
    chosen.dedup();
    let mut parts = Vec::new();
    for place in chosen {
        for column in &columns {
            let mut part = elements.slice(last, *column, (row - column).min(RUN), 1)?;
            let mut left = place;
            for (dim, extent) in elements.shape.iter().enumerate().take(last).rev() {
                part = part.slice(dim, left % extent, 1, 1)?;
                left /= extent;
            }
            parts.push((place * row + column, part));
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dtype::Known;
    use crate::source::{MemorySource, SharedSource};

    fn content(shape: &[u64], stride: &[u64], cast: Option<Known>) -> (Content, Vec<u8>) {
        let count: u64 = shape.iter().product();
        let numbers: Vec<u8> = (0..count).flat_map(|n| (n as f32).to_le_bytes()).collect();
        let source: SharedSource = Arc::new(MemorySource::new(numbers));
        let row = Elements::row_major(source, Known::Float32.into(), shape.to_vec());
        let elements = Elements { stride: stride.to_vec(), ..row };
        let content = Content::Elements { elements, cast: cast.map(Into::into) };
        let mut written = b"head".to_vec();
        content
            .blocks(&Limits::default(), &mut |block| {
                written.extend_from_slice(block);
                Ok(())
            })
            .unwrap();
        (content, written)
    }

    #[test]
    fn what_was_written_is_like_it_and_another_thing_is_not() {
        let shapes: &[(&[u64], &[u64])] = &[
            (&[], &[]),
            (&[7], &[1]),
            (&[50_000], &[1]),
            (&[3, 5], &[1, 3]),
            (&[40, 2, 600], &[1200, 600, 1]),
            (&[0, 4], &[4, 1]),
        ];
        for (shape, stride) in shapes {
            for cast in [None, Some(Known::BFloat16), Some(Known::Float64)] {
                let (content, written) = content(shape, stride, cast);
                let like = |bytes: &[u8]| {
                    content.is_like(&MemorySource::new(bytes.to_vec()), 4, &Limits::default()).is_ok_and(|like| like)
                };
                assert!(like(&written), "{shape:?} {cast:?}");
                let last = written.len() - 1;
                for place in [4, last].into_iter().filter(|place| *place >= 4 && written.len() > 4) {
                    let mut other = written.clone();
                    other[place] ^= 0x40;
                    assert!(!like(&other), "{shape:?} {cast:?} byte {place}");
                }
                assert!(written.len() == 4 || !like(&written[..last]), "{shape:?}: one byte is missing");
            }
        }
    }

    #[test]
    fn small_ones_are_looked_at_everywhere() {
        let source: SharedSource = Arc::new(MemorySource::new(vec![1; 9000]));
        let content = Content::Raw { source, crc: None };
        for place in 0..9000 {
            let mut other = vec![1; 9000];
            other[place] = 2;
            assert!(!content.is_like(&MemorySource::new(other), 0, &Limits::default()).unwrap(), "{place}");
        }
    }

    #[test]
    fn small_tensors_are_looked_at_everywhere() {
        let (content, written) = content(&[128, 128], &[1, 128], None);
        for place in (4..written.len()).step_by(101) {
            let mut other = written.clone();
            other[place] ^= 1;
            assert!(!content.is_like(&MemorySource::new(other), 4, &Limits::default()).unwrap(), "{place}");
        }
    }
}
