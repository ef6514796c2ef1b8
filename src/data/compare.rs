//! How two tensors of one shape differ, as `ckpt diff` reports it.
//!
//! Equal means equal as numbers, element by element, whatever the dtypes: NaN equals NaN unless told otherwise, `0.0`
//! equals `-0.0` unless bits are compared, and a tolerance is `torch.allclose`'s. Same dtypes are compared as bytes
//! first; only the first unlike block sends the whole tensor through arithmetic, in `float64` (integers exactly).

use std::ops::{ControlFlow, Range};

pub(crate) use super::comparison::Comparison;
pub use super::comparison::Options;
use super::difference::{Arithmetic, Difference, Group};
use super::gather::{Blocks, part_len};
use super::parts::{GO, PART_ELEMENTS, in_order};
use super::{Elements, Extent};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::Progress;

/// Compares `a` with `b`, the reference of relative differences. The shapes must be the same (a `Data` error if not), the
/// dtypes only where there is no arithmetic for one of them (`Unsupported`).
///
/// The work is shared out to rayon's threads; the result is the same for any number of them. `progress` hears of the
/// bytes of both tensors.
pub fn compare(
    a: &Elements,
    b: &Elements,
    limits: &Limits,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Comparison> {
    let (extent, other) = (a.validate(limits)?, b.validate(limits)?);
    if a.shape != b.shape {
        return Err(Error::data(format!("shapes {:?} and {:?} cannot be compared", a.shape, b.shape)));
    }
    let pair = Pair { a, b, limits, options, sizes: [extent.element_size, other.element_size] };
    let arithmetic = Arithmetic::of(&a.dtype, &b.dtype)?;
    let mut reported = Reported { progress, bytes: pair.sizes.iter().map(|size| *size as u64).sum(), end: 0 };

    let mut unlike_from = Some(0);
    // NaNs that shall differ do so in equal bytes, too
    let same_bytes_suffice = options.bitwise || options.nan_equal || !a.dtype.is_floating();
    if a.dtype == b.dtype && same_bytes_suffice {
        unlike_from = pair.first_unlike_part(&extent, &mut reported)?;
    }
    let Some(start) = unlike_from else { return Ok(same(extent.elements, arithmetic)) };

    let mut all = Difference::new(false);
    let range = if options.stop_at_first { start } else { 0 }..extent.elements;
    let len = part_len(&a.shape, PART_ELEMENTS);
    let work = |part: Range<u64>| Ok((pair.part(part.clone(), arithmetic)?, part));
    in_order(range, len, work, |(difference, part)| {
        all.merge(&difference);
        reported.up_to(part.end);
        if options.stop_at_first && all.differs() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(all.finish(extent.elements))
}

fn same(total: u64, arithmetic: Arithmetic) -> Comparison {
    let zero = (total > 0 && arithmetic != Arithmetic::Bytes).then_some(0.0);
    Comparison {
        total,
        differing: 0,
        first_difference: None,
        nan: 0,
        max_abs: zero,
        mean_abs: zero,
        max_rel: zero,
        cosine: None,
    }
}

/// Tells each part's bytes once, though they may be read twice.
struct Reported<'a> {
    progress: &'a dyn Progress,
    bytes: u64,
    end: u64,
}

impl Reported<'_> {
    fn up_to(&mut self, end: u64) {
        self.progress.advance(end.saturating_sub(self.end).saturating_mul(self.bytes));
        self.end = self.end.max(end);
    }
}

struct Pair<'a> {
    a: &'a Elements,
    b: &'a Elements,
    limits: &'a Limits,
    options: &'a Options,
    sizes: [usize; 2],
}

impl Pair<'_> {
    /// Shows the same elements of both tensors, group by group of at most `most` elements.
    fn step(&self, part: Range<u64>, most: usize, mut f: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<()> {
        let [size_a, size_b] = self.sizes;
        let mut a = Blocks::in_range(self.a, self.limits, part.clone())?.one_of(2);
        let mut b = Blocks::in_range(self.b, self.limits, part)?.one_of(2);
        let mut left = most;
        loop {
            let (block_a, block_b) = (a.block()?, b.block()?);
            let count = (block_a.len() / size_a).min(block_b.len() / size_b).min(left);
            if count == 0 {
                return Ok(());
            }
            let (group_a, group_b) = (block_a.split_at(count * size_a).0, block_b.split_at(count * size_b).0);
            if f(group_a, group_b).is_break() {
                return Ok(());
            }
            left = if left == count { most } else { left - count };
            a.consume(count * size_a);
            b.consume(count * size_b);
        }
    }

    /// Where the first part begins whose bytes are not the same; `None` when all are.
    fn first_unlike_part(&self, extent: &Extent, reported: &mut Reported<'_>) -> Result<Option<u64>> {
        let work = |part: Range<u64>| {
            let mut same = true;
            self.step(part.clone(), usize::MAX, |a, b| {
                same = a == b;
                if same { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            Ok((same, part))
        };
        let mut unlike = None;
        in_order(0..extent.elements, part_len(&self.a.shape, PART_ELEMENTS), work, |(same, part)| {
            if same {
                reported.up_to(part.end);
                return ControlFlow::Continue(());
            }
            unlike = Some(part.start);
            ControlFlow::Break(())
        })?;
        Ok(unlike)
    }

    /// The difference over one part.
    fn part(&self, part: Range<u64>, arithmetic: Arithmetic) -> Result<Difference> {
        let bits = arithmetic == Arithmetic::Bytes || (self.options.bitwise && self.a.dtype == self.b.dtype);
        let mut group = Group::new(arithmetic, part.start);
        let mut found = Difference::new(bits);
        let mut position = part.start;
        let size = self.sizes[0];
        self.step(part, GO, |a, b| {
            if bits {
                found.count_bytes(a, b, size, position);
            }
            position += (a.len() / size) as u64;
            group.add(a, b, a.len() / size);
            if group.is_full() {
                group.flush(&mut found, self.options);
            }
            let done = self.options.stop_at_first && found.differs();
            if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        group.flush(&mut found, self.options);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::tensor;
    use super::*;
    use crate::dtype::{ByteOrder, DType, Known};
    use crate::progress::Silent;

    const EXACT: Options = Options { rtol: 0.0, atol: 0.0, nan_equal: true, bitwise: false, stop_at_first: false };

    fn f32s(values: &[f32]) -> Elements {
        tensor(Known::Float32, &[values.len() as u64], values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn f64s(values: &[f64]) -> Elements {
        tensor(Known::Float64, &[values.len() as u64], values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn i64s(values: &[i64]) -> Elements {
        tensor(Known::Int64, &[values.len() as u64], values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn of(a: &Elements, b: &Elements, options: Options) -> Comparison {
        compare(a, b, &Limits::default(), &options, &Silent).unwrap()
    }

    #[test]
    fn zeros_and_nans() {
        let (a, b) = (f32s(&[0.0, f32::NAN, 1.0]), f32s(&[-0.0, -f32::NAN, 1.0]));
        assert!(of(&a, &b, EXACT).equal());
        let bits = of(&a, &b, Options { bitwise: true, ..EXACT });
        assert_eq!((bits.differing, bits.first_difference, bits.max_abs), (2, Some(0), Some(0.0)));
        let strict = Options { nan_equal: false, ..EXACT };
        assert_eq!(of(&a, &a, strict).first_difference, Some(1));
        assert_eq!(of(&a, &f32s(&[0.0, 2.0, 1.0]), EXACT).differing, 1);
        let integers = i64s(&[1, 2]);
        assert!(of(&integers, &integers, strict).equal());
    }

    #[test]
    fn infinities() {
        let inf = f64::INFINITY;
        let c = of(&f64s(&[inf, -inf, 1.0, 3.0]), &f64s(&[inf, inf, inf, 3.0]), Options { rtol: 1.0, ..EXACT });
        assert_eq!((c.differing, c.first_difference), (2, Some(1)));
        assert_eq!((c.max_abs, c.mean_abs, c.max_rel), (Some(inf), Some(inf), Some(inf)));
        assert_eq!(c.cosine, Some(1.0));
    }

    #[test]
    fn tolerances_as_allclose() {
        let (a, b) = (f64s(&[1.0, 100.0, 0.0]), f64s(&[1.5, 101.0, 1e-9]));
        assert_eq!(of(&a, &b, Options { rtol: 0.01, ..EXACT }).differing, 2);
        assert_eq!(of(&a, &b, Options { rtol: 0.01, atol: 1e-8, ..EXACT }).differing, 1);
        assert!(of(&a, &b, Options { atol: 1.0, ..EXACT }).equal());
        assert_eq!(of(&a, &b, Options { atol: 0.5, ..EXACT }).first_difference, Some(1));
    }

    #[test]
    fn large_integers_are_exact() {
        let big = 1_i64 << 60;
        let c = of(&i64s(&[big, i64::MAX, 5]), &i64s(&[big + 1, i64::MIN, 5]), EXACT);
        assert_eq!((c.differing, c.max_abs), (2, Some(2_f64.powi(64))));
        assert_eq!(of(&i64s(&[big]), &i64s(&[big + 1]), EXACT).max_abs, Some(1.0));
        let bytes = tensor(Known::UInt8, &[3], vec![1, 2, 5]);
        assert_eq!(of(&i64s(&[1, 2, 4]), &bytes, EXACT).first_difference, Some(2));
        // true is true whatever its byte
        let bools = |bytes: &[u8]| tensor(Known::Bool, &[2], bytes.to_vec());
        assert!(of(&bools(&[1, 0]), &bools(&[2, 0]), EXACT).equal());
    }

    #[test]
    fn complex_and_real() {
        let bytes = [3.0_f32, 4.0, 1.0, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let z = tensor(Known::Complex64, &[2], bytes);
        let c = of(&z, &f32s(&[0.0, 1.0]), EXACT);
        assert_eq!((c.differing, c.max_abs, c.mean_abs, c.max_rel), (1, Some(5.0), Some(2.5), Some(f64::INFINITY)));
        let conjugate = of(&z, &Elements { conj: true, ..z.clone() }, EXACT);
        assert_eq!((conjugate.differing, conjugate.max_abs, conjugate.max_rel), (1, Some(8.0), Some(1.6)));
    }

    #[test]
    fn what_cannot_be_compared() {
        let (a, b) = (f32s(&[1.0]), f32s(&[1.0, 2.0]));
        let failed = |a, b| compare(a, b, &Limits::default(), &EXACT, &Silent).unwrap_err().kind();
        assert_eq!(failed(&a, &b), crate::error::ErrorKind::Data);
        let text = Elements { dtype: DType::from_numpy("U1"), ..a.clone() };
        assert_eq!(failed(&a, &text), crate::error::ErrorKind::Unsupported);
        let other = Elements { source: f32s(&[2.0]).source, ..text.clone() };
        let c = of(&text, &other, EXACT);
        assert_eq!((c.differing, c.max_abs), (1, None));
        assert!(of(&text, &text, EXACT).equal());
        let empty = f32s(&[]);
        assert_eq!(of(&empty, &empty, EXACT).max_abs, None);
    }

    #[test]
    fn large_tensors_in_any_layout() {
        let side = 2100_u64;
        let values: Vec<f32> =
            (0..side * side).map(|i| (i.wrapping_mul(0x9e37_79b9) & 0xfff) as f32 - 2048.0).collect();
        let mut changed = values.clone();
        changed[4_300_000] += 0.5;
        changed[4_300_001] -= 8.0;
        let (a, b) = (Elements { shape: vec![side; 2], stride: vec![side, 1], ..f32s(&values) }, f32s(&changed));
        let b = Elements { shape: vec![side; 2], stride: vec![side, 1], ..b };
        let c = of(&a, &b, EXACT);
        assert_eq!((c.differing, c.first_difference, c.max_abs), (2, Some(4_300_000), Some(8.0)));
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| of(&a, &b, EXACT)), c);
        }
        assert!((c.mean_abs.unwrap() / (8.5 / (side * side) as f64) - 1.0).abs() < 1e-12);
        let turned = |t: &Elements| Elements { stride: vec![1, side], ..t.clone() };
        let c = of(&turned(&a), &turned(&b), Options { stop_at_first: true, ..EXACT });
        let index = a.index_of(4_300_000);
        let first = [index[1] * side + index[0], index[1] * side + side + index[0]].into_iter().min();
        assert_eq!(c.first_difference, first);
        assert!(of(&turned(&a), &turned(&a), EXACT).equal());
    }

    fn naive(a: &[f32], b: &[f32], options: &Options) -> (u64, Option<u64>, f64, f64, f64, f64) {
        let (mut differing, mut first, mut pairs) = (0, None, 0.0);
        let (mut max_abs, mut max_rel, mut sum, mut dot, mut aa, mut bb) = (0.0_f64, 0.0_f64, 0.0, 0.0, 0.0, 0.0);
        for (i, (x, y)) in a.iter().zip(b).enumerate() {
            let (x, y) = (f64::from(*x), f64::from(*y));
            let equal = if x.is_nan() || y.is_nan() {
                x.is_nan() && y.is_nan() && options.nan_equal
            } else {
                let d = if x == y { 0.0 } else { (x - y).abs() };
                pairs += 1.0;
                sum += d;
                max_abs = max_abs.max(d);
                max_rel = max_rel.max(if d == 0.0 {
                    0.0
                } else if d.is_infinite() {
                    d
                } else {
                    d / y.abs()
                });
                if x.is_finite() && y.is_finite() {
                    (dot, aa, bb) = (dot + x * y, aa + x * x, bb + y * y);
                }
                x == y || (x.is_finite() && y.is_finite() && d <= options.atol + options.rtol * y.abs())
            };
            if !equal {
                differing += 1;
                first = first.or(Some(i as u64));
            }
        }
        (differing, first, max_abs, sum / pairs, max_rel, dot / (aa.sqrt() * bb.sqrt()))
    }

    fn close(got: Option<f64>, want: f64) -> bool {
        got.map_or(want.is_nan(), |got| got == want || (got - want).abs() <= 1e-12 * want.abs().max(1e-3))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn as_one_by_one(
            pairs in prop::collection::vec(
                prop_oneof![
                    8 => (-1e3..1e3_f32).prop_map(|x| (x, x)),
                    4 => (-1e3..1e3_f32, -1e3..1e3_f32),
                    1 => prop::sample::select(vec![
                        (0.0, -0.0), (f32::NAN, 1.0), (f32::NAN, f32::NAN), (f32::INFINITY, 1.0),
                        (f32::INFINITY, f32::INFINITY), (1.0, 0.0), (1e-45, 0.0),
                    ]),
                ],
                0..3000,
            ),
            odd in any::<bool>(),
            rtol in prop_oneof![Just(0.0), Just(0.1)],
            nan_equal in any::<bool>(),
            big in any::<bool>(),
        ) {
            let pairs = pairs.into_iter().filter(|(a, b)| odd || (a.is_finite() && b.is_finite()));
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.unzip();
            let options = Options { rtol, nan_equal, ..EXACT };
            let mut right = f32s(&b);
            if big {
                right = Elements { byte_order: ByteOrder::Big, ..right };
                let bytes = b.iter().flat_map(|x| x.to_be_bytes()).collect();
                right.source = tensor(Known::Float32, &[b.len() as u64], bytes).source;
            }
            let c = of(&f32s(&a), &right, options);
            let (differing, first, max_abs, mean_abs, max_rel, cosine) = naive(&a, &b, &options);
            prop_assert_eq!((c.total, c.differing, c.first_difference), (a.len() as u64, differing, first));
            let alike = a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits());
            let new_nan = |(x, y): &(&f32, &f32)| (x.is_nan() || y.is_nan()) && !(nan_equal && x.is_nan() && y.is_nan());
            let nan = a.iter().zip(&b).filter(new_nan).count() as u64;
            prop_assert_eq!(c.nan, nan);
            if nan > 0 {
                // no number says how large the change is
                let numbers = [c.max_abs, c.mean_abs, c.max_rel, c.cosine];
                prop_assert!(numbers.iter().flatten().all(|number| number.is_nan()), "{numbers:?}");
            } else if c.max_abs.is_some() {
                prop_assert_eq!(c.max_abs, Some(max_abs));
                prop_assert!(close(c.mean_abs, mean_abs) && close(c.max_rel, max_rel));
                prop_assert!(alike || close(c.cosine, cosine), "{:?} {}", c.cosine, cosine);
            }
            let wide: Vec<f64> = b.iter().map(|x| f64::from(*x)).collect();
            let other = of(&f32s(&a), &f64s(&wide), options);
            prop_assert_eq!((other.differing, other.first_difference), (differing, first));
        }
    }
}
