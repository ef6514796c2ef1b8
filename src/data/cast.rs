//! Casting blocks of elements between floating dtypes as torch does.
//!
//! torch goes through `float32` on the way to the 16-bit types, so that `float64` is rounded twice there
//! (`c10::BFloat16(float)`, `c10::Half(float)`; seen in torch 2.15). NaN stays NaN; its payload is not torch's everywhere,
//! nor is torch's the same on every processor.

use half::slice::HalfFloatSliceExt;

use super::number::{f16_to_f32, float8_table, narrow};
use crate::dtype::{DType, Known};
use crate::error::{Error, Result};

/// What floating tensors can be cast to, by torch's name, with its other names: torch's, numpy's and safetensors' short
/// ones.
const TARGETS: [(&str, Known, &[&str]); 4] = [
    ("float16", Known::Float16, &["half", "fp16", "f16", "f2"]),
    ("bfloat16", Known::BFloat16, &["bf16"]),
    ("float32", Known::Float32, &["float", "fp32", "f32", "f4", "single"]),
    ("float64", Known::Float64, &["double", "fp64", "f64", "f8"]),
];

/// torch's names of what can be cast to.
pub(crate) fn target_names() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().map(|(name, ..)| *name)
}

/// The type that a name stands for, `torch.float16` and `numpy.float16` too. An error lists the names.
pub fn target(name: &str) -> std::result::Result<DType, String> {
    let lower = name.to_lowercase();
    let bare = ["torch.", "numpy.", "np."].iter().find_map(|module| lower.strip_prefix(module)).unwrap_or(&lower);
    let found = TARGETS.iter().find(|(name, _, others)| *name == bare || others.contains(&bare));
    found.map(|(_, known, _)| DType::Known(*known)).ok_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|(name, ..)| *name).collect();
        let short: Vec<&str> = TARGETS.iter().flat_map(|(_, _, others)| others.iter().copied()).collect();
        format!("use one of {}, or for short {}", names.join(", "), short.join(", "))
    })
}

/// Elements converted in one go, within a first-level cache.
const GO: usize = 1024;

/// Converts blocks of one floating dtype into another and counts what became infinite.
#[derive(Debug, Clone)]
pub struct Caster {
    from: Source,
    to: Target,
    overflows: u64,
}

#[derive(Debug, Clone)]
enum Source {
    F64,
    F32,
    F16,
    BF16,
    F8(Box<[f32; 256]>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    F64,
    F32,
    F16,
    BF16,
}

impl Caster {
    /// From `float64`, `float32`, `float16`, `bfloat16` or a `float8_*` to one of the first four; `Unsupported` for
    /// other pairs.
    pub fn new(from: &DType, to: &DType) -> Result<Self> {
        let refuse = || Error::unsupported(format!("{from} cannot be cast to {to}"));
        let (DType::Known(source), DType::Known(target)) = (from, to) else { return Err(refuse()) };
        let source = match source {
            Known::Float64 => Source::F64,
            Known::Float32 => Source::F32,
            Known::Float16 => Source::F16,
            Known::BFloat16 => Source::BF16,
            other => Source::F8(Box::new(float8_table(*other).ok_or_else(refuse)?)),
        };
        let target = match target {
            Known::Float64 => Target::F64,
            Known::Float32 => Target::F32,
            Known::Float16 => Target::F16,
            Known::BFloat16 => Target::BF16,
            _ => return Err(refuse()),
        };
        Ok(Caster { from: source, to: target, overflows: 0 })
    }

    /// How many finite elements have become infinite so far.
    pub(crate) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Converts a block of whole little-endian elements; `out` is emptied first and receives the same number of them.
    /// Rounds to nearest, ties to even.
    pub fn cast(&mut self, block: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let (size, width) = (self.from.size(), self.to.size());
        if let (Source::F64, Target::F64) = (&self.from, self.to) {
            out.extend_from_slice(block);
            return;
        }
        out.resize(block.len() / size * width, 0);
        if let (Source::F32, Target::BF16) = (&self.from, self.to) {
            let pairs = block.chunks(GO * size).zip(out.chunks_mut(GO * width));
            self.overflows += pairs.map(|(block, out)| f32_to_bf16(block, out)).sum::<u64>();
            return;
        }
        let mut floats = [0.0; GO];
        for (block, out) in block.chunks(GO * size).zip(out.chunks_mut(GO * width)) {
            let floats = floats.split_at_mut(block.len() / size).0;
            let before = self.from.read(block, floats);
            let after = self.to.write(floats, out);
            // an infinity stays one, so the others were finite
            self.overflows += after.saturating_sub(before);
        }
    }
}

impl Source {
    fn size(&self) -> usize {
        match self {
            Source::F64 => 8,
            Source::F32 => 4,
            Source::F16 | Source::BF16 => 2,
            Source::F8(_) => 1,
        }
    }

    /// Converts to `float32`; how many infinities there were in the block.
    fn read(&self, block: &[u8], floats: &mut [f32]) -> u64 {
        match self {
            Source::F64 => {
                let values = || block.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b));
                floats.iter_mut().zip(values()).for_each(|(out, x)| *out = narrow(x));
                return count(values().map(f64::is_infinite));
            }
            Source::F32 => each(block, floats, f32::from_le_bytes),
            Source::F16 => each(block, floats, |b| f16_to_f32(u16::from_le_bytes(b))),
            Source::BF16 => each(block, floats, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Source::F8(table) => {
                each(block, floats, |[b]: [u8; 1]| table.get(usize::from(b)).copied().unwrap_or(f32::NAN));
            }
        }
        count(floats.iter().map(|x| x.is_infinite()))
    }
}

impl Target {
    fn size(self) -> usize {
        match self {
            Target::F64 => 8,
            Target::F32 => 4,
            Target::F16 | Target::BF16 => 2,
        }
    }

    /// Converts from `float32`; how many infinities there are in `out`.
    fn write(self, floats: &[f32], out: &mut [u8]) -> u64 {
        match self {
            Target::F64 => put(floats, out, |x| f64::from(x).to_le_bytes()),
            Target::F32 => put(floats, out, f32::to_le_bytes),
            Target::BF16 => {
                put(floats, out, |x| round_to_bf16(x).to_le_bytes());
                return count_bits(out, 0x7f80);
            }
            Target::F16 => {
                let mut halves = [half::f16::ZERO; GO];
                let halves = halves.split_at_mut(floats.len()).0;
                halves.convert_from_f32_slice(floats);
                for (out, half) in out.as_chunks_mut().0.iter_mut().zip(halves) {
                    *out = half.to_le_bytes();
                }
                return count_bits(out, 0x7c00);
            }
        }
        count(floats.iter().map(|x| x.is_infinite()))
    }
}

fn each<const N: usize>(block: &[u8], floats: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (out, element) in floats.iter_mut().zip(block.as_chunks().0) {
        *out = value(*element);
    }
}

fn put<const N: usize>(floats: &[f32], out: &mut [u8], value: impl Fn(f32) -> [u8; N]) {
    for (out, x) in out.as_chunks_mut().0.iter_mut().zip(floats) {
        *out = value(*x);
    }
}

/// Blocks are short: 32 bits do, and make for wider vectors; so do sums that are not checked for overflow.
fn count(which: impl Iterator<Item = bool>) -> u64 {
    which.map(u32::from).fold(0, u32::wrapping_add).into()
}

/// 16-bit elements that are `infinity` up to their sign.
fn count_bits(out: &[u8], infinity: u16) -> u64 {
    let hits = out.as_chunks().0.iter().map(|b| u16::from(u16::from_le_bytes(*b) & 0x7fff == infinity));
    hits.fold(0, u16::wrapping_add).into()
}

/// The commonest pair in one go, by bits, in a form that becomes vector instructions; how many became infinite.
fn f32_to_bf16(block: &[u8], out: &mut [u8]) -> u64 {
    let mut overflows = 0;
    for (out, element) in out.as_chunks_mut().0.iter_mut().zip(block.as_chunks().0) {
        let bits = u32::from_le_bytes(*element);
        *out = bits_to_bf16(bits).to_le_bytes();
        let overflow = (LEAST_OVERFLOW..INFINITY).contains(&magnitude(bits));
        overflows = u32::wrapping_add(overflows, overflow.into());
    }
    overflows.into()
}

const INFINITY: i32 = 0x7f80_0000;
/// What lies halfway between the largest `bfloat16` and infinity.
const LEAST_OVERFLOW: i32 = 0x7f7f_8000;

/// A float's bits without its sign; signed, because old processors compare nothing else.
fn magnitude(bits: u32) -> i32 {
    (bits & 0x7fff_ffff).cast_signed()
}

fn round_to_bf16(x: f32) -> u16 {
    bits_to_bf16(x.to_bits())
}

fn bits_to_bf16(bits: u32) -> u16 {
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let quiet = bits | 0x0040_0000;
    upper(if magnitude(bits) > INFINITY { quiet } else { rounded })
}

/// The upper half.
#[allow(clippy::cast_possible_truncation)]
fn upper(bits: u32) -> u16 {
    (bits >> 16) as u16
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;

    fn cast(from: Known, to: Known, block: &[u8]) -> (Vec<u8>, u64) {
        let mut caster = Caster::new(&from.into(), &to.into()).unwrap();
        let mut out = vec![1, 2, 3];
        caster.cast(block, &mut out);
        (out, caster.overflows())
    }

    fn floats() -> impl Strategy<Value = Vec<f32>> {
        let edge = prop_oneof![
            Just(65519.996_f32),
            Just(65520.0),
            Just(f32::MAX),
            Just(3.3961775e38),
            Just(f32::INFINITY),
            Just(-f32::INFINITY),
            Just(f32::NAN),
            Just(-0.0),
            Just(1e-7),
            Just(1e-40),
        ];
        let near_ties = any::<u32>().prop_map(|bits| f32::from_bits(bits & 0xffff_0000 | 0x8000));
        prop::collection::vec(prop_oneof![any::<f32>(), edge, near_ties], 0..2500)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn sixteen_bits_as_half_rounds(floats in floats()) {
            let block: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
            let (halves, overflows) = cast(Known::Float32, Known::Float16, &block);
            let want: Vec<f16> = floats.iter().map(|x| f16::from_f32_const(*x)).collect();
            for (got, want) in halves.as_chunks().0.iter().zip(&want) {
                let got = f16::from_le_bytes(*got);
                prop_assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()));
            }
            prop_assert_eq!(halves.len(), 2 * floats.len());
            let became = floats.iter().zip(&want).filter(|(x, y)| x.is_finite() && y.is_infinite()).count();
            prop_assert_eq!(overflows, became as u64);

            let (brains, overflows) = cast(Known::Float32, Known::BFloat16, &block);
            let want: Vec<bf16> = floats.iter().map(|x| bf16::from_f32(*x)).collect();
            for (got, want) in brains.as_chunks().0.iter().zip(&want) {
                let got = bf16::from_le_bytes(*got);
                prop_assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()));
            }
            let became = floats.iter().zip(&want).filter(|(x, y)| x.is_finite() && y.is_infinite()).count();
            prop_assert_eq!(overflows, became as u64);
        }

        #[test]
        fn wider_is_exact(bits in prop::collection::vec(any::<u16>(), 0..1500)) {
            let block: Vec<u8> = bits.iter().flat_map(|x| x.to_le_bytes()).collect();
            for from in [Known::Float16, Known::BFloat16] {
                let (wide, overflows) = cast(from, Known::Float64, &block);
                let (back, _) = cast(Known::Float64, from, &wide);
                prop_assert_eq!(overflows, 0);
                for (a, b) in back.as_chunks::<2>().0.iter().zip(block.as_chunks::<2>().0) {
                    let nan = if from == Known::Float16 { f16::from_le_bytes(*b).is_nan() } else { bf16::from_le_bytes(*b).is_nan() };
                    prop_assert!(a == b || nan);
                }
            }
        }
    }

    // torch.tensor([...], dtype=torch.float64).to(torch.bfloat16), .to(torch.float16): 1.0, not the nearest
    #[test]
    fn float64_goes_through_float32() {
        let near = |bits: i32| (1.0 + 2_f64.powi(-bits) + 2_f64.powi(-40)).to_le_bytes();
        assert_eq!(cast(Known::Float64, Known::BFloat16, &near(8)).0, bf16::ONE.to_le_bytes());
        assert_eq!(cast(Known::Float64, Known::Float16, &near(11)).0, f16::ONE.to_le_bytes());
    }

    #[test]
    fn names_of_targets() {
        let same = |names: &[&str], known: Known| {
            for name in names {
                assert_eq!(target(name), Ok(known.into()), "{name}");
            }
        };
        same(&["float16", "half", "fp16", "f16", "F16", "torch.half", "np.float16"], Known::Float16);
        same(&["bfloat16", "bf16", "BF16", "torch.bfloat16"], Known::BFloat16);
        same(&["float32", "float", "fp32", "f4", "torch.float", "single"], Known::Float32);
        same(&["float64", "double", "fp64", "f8", "numpy.float64"], Known::Float64);
        for name in ["", "float8_e4m3fn", "int8", "float 16", "torch.", "torch.torch.half"] {
            let e = target(name).unwrap_err();
            assert!(e.contains("float16, bfloat16, float32, float64") && e.contains("half"), "{name}: {e}");
        }
    }

    #[test]
    fn overflow_from_float64() {
        let block: Vec<u8> =
            [1e300, f64::INFINITY, -1e39, 1.0, f64::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(cast(Known::Float64, Known::Float32, &block).1, 2);
        assert_eq!(cast(Known::Float64, Known::Float16, &block).1, 2);
        assert_eq!(cast(Known::Float64, Known::Float64, &block), (block, 0));
    }

    #[test]
    fn float8_and_refusals() {
        let (out, _) = cast(Known::Float8E4M3fn, Known::Float32, &[0x7e, 0xb8]);
        assert_eq!(out, [448.0_f32.to_le_bytes(), (-1.0_f32).to_le_bytes()].concat());
        assert!(Caster::new(&Known::Int8.into(), &Known::Float32.into()).is_err());
        assert!(Caster::new(&Known::Float32.into(), &Known::Float8E5M2.into()).is_err());
    }
}
