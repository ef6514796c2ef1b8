//! Elements as numbers: little-endian bytes of every known dtype to values.
//!
//! `float8_*` follow torch (`c10/util/Float8_*.h`); quantized types are their stored integers and packed bits their
//! unsigned bytes.

use half::{bf16, f16};

use crate::dtype::{Class, DType, Known};
use crate::error::{Error, Result};

/// One element's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    /// `float*`, `bfloat16`: every value of these types is a `f64`.
    Float(f64),
    /// Real and imaginary part.
    Complex(f64, f64),
    /// `int*`, and `qint*` as stored.
    Signed(i64),
    /// `uint*`; `quint*` and bits as stored.
    Unsigned(u64),
    /// `bool`: any byte but 0 is true.
    Bool(bool),
}

impl Number {
    /// The value as a float, rounded where an integer has more than 53 bits; the magnitude of a complex number.
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Number::Float(x) => x,
            Number::Complex(re, im) => re.hypot(im),
            Number::Signed(n) => n as f64,
            Number::Unsigned(n) => n as f64,
            Number::Bool(b) => f64::from(u8::from(b)),
        }
    }
}

/// How a `float8_*` is laid out: `exponent` and `mantissa` bits below a sign bit, and what the extremes mean.
struct Float8 {
    mantissa: u32,
    bias: i32,
    /// NaN and infinity as in IEEE; else (`fn`) only all ones is NaN.
    ieee: bool,
    /// No infinities, no negative zero: `0x80` is the only NaN.
    fnuz: bool,
}

impl Float8 {
    const E4M3FN: Float8 = Float8 { mantissa: 3, bias: 7, ieee: false, fnuz: false };
    const E5M2: Float8 = Float8 { mantissa: 2, bias: 15, ieee: true, fnuz: false };
    const E4M3FNUZ: Float8 = Float8 { mantissa: 3, bias: 8, ieee: false, fnuz: true };
    const E5M2FNUZ: Float8 = Float8 { mantissa: 2, bias: 16, ieee: false, fnuz: true };

    fn decode(&self, byte: u8) -> f32 {
        let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
        let magnitude = u32::from(byte & 0x7f);
        let fraction = magnitude & ((1 << self.mantissa) - 1);
        let exponent = magnitude >> self.mantissa;
        let top = 0x7f >> self.mantissa;
        if (self.fnuz && byte == 0x80) || (!self.fnuz && !self.ieee && magnitude == 0x7f) {
            return f32::NAN;
        }
        if self.ieee && exponent == top {
            return if fraction == 0 { sign * f32::INFINITY } else { f32::NAN };
        }
        // subnormals have the exponent of 1 and no leading one
        let leading = if exponent == 0 { 0 } else { 1 << self.mantissa };
        let significand = f64::from(leading + fraction) / f64::from(1_u32 << self.mantissa);
        let scale = 2_f64.powi(i32::try_from(exponent.max(1)).unwrap_or(0) - self.bias);
        narrow(f64::from(sign) * significand * scale)
    }
}

/// To the nearest `float32`, ties to even.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn narrow(x: f64) -> f32 {
    x as f32
}

/// The value of a `float8_*` byte as torch converts it to `float32` (which is exact); `None` for other dtypes.
pub(crate) fn float8(dtype: Known, byte: u8) -> Option<f32> {
    Some(match dtype {
        Known::Float8E4M3fn => Float8::E4M3FN.decode(byte),
        Known::Float8E5M2 => Float8::E5M2.decode(byte),
        Known::Float8E4M3fnuz => Float8::E4M3FNUZ.decode(byte),
        Known::Float8E5M2fnuz => Float8::E5M2FNUZ.decode(byte),
        // a power of two without a sign; the smallest is subnormal as a `f32`
        Known::Float8E8M0fnu if byte == 0xff => f32::NAN,
        Known::Float8E8M0fnu => narrow(2_f64.powi(i32::from(byte) - 127)),
        _ => return None,
    })
}

/// The values of all 256 bytes of a `float8_*`; `None` for other dtypes.
pub(super) fn float8_table(dtype: Known) -> Option<[f32; 256]> {
    let mut table = [0.0; 256];
    for (value, byte) in table.iter_mut().zip(0..=255) {
        *value = float8(dtype, byte)?;
    }
    Some(table)
}

fn bytes<const N: usize>(element: &[u8]) -> Option<[u8; N]> {
    element.try_into().ok()
}

/// The value of one little-endian element; `None` when `element` does not have the dtype's size.
pub(crate) fn decode(dtype: Known, element: &[u8]) -> Option<Number> {
    use Number::{Complex, Float, Signed, Unsigned};
    Some(match dtype {
        Known::Float64 => Float(f64::from_le_bytes(bytes(element)?)),
        Known::Float32 => Float(f32::from_le_bytes(bytes(element)?).into()),
        Known::Float16 => Float(f16::from_le_bytes(bytes(element)?).into()),
        Known::BFloat16 => Float(bf16::from_le_bytes(bytes(element)?).into()),
        Known::Complex128 | Known::Complex64 | Known::Complex32 => {
            let half = match dtype {
                Known::Complex128 => Known::Float64,
                Known::Complex64 => Known::Float32,
                _ => Known::Float16,
            };
            let (re, im) = element.split_at_checked(element.len() / 2)?;
            Complex(decode(half, re)?.to_f64(), decode(half, im)?.to_f64())
        }
        Known::Int64 => Signed(i64::from_le_bytes(bytes(element)?)),
        Known::Int32 | Known::QInt32 => Signed(i32::from_le_bytes(bytes(element)?).into()),
        Known::Int16 => Signed(i16::from_le_bytes(bytes(element)?).into()),
        Known::Int8 | Known::QInt8 => Signed(i8::from_le_bytes(bytes(element)?).into()),
        Known::UInt64 => Unsigned(u64::from_le_bytes(bytes(element)?)),
        Known::UInt32 => Unsigned(u32::from_le_bytes(bytes(element)?).into()),
        Known::UInt16 | Known::Bits16 => Unsigned(u16::from_le_bytes(bytes(element)?).into()),
        Known::Bool => Number::Bool(bytes::<1>(element)? != [0]),
        Known::UInt8
        | Known::QUInt8
        | Known::QUInt4x2
        | Known::QUInt2x4
        | Known::Float4E2M1fnX2
        | Known::Bits8
        | Known::Bits1x8
        | Known::Bits2x4
        | Known::Bits4x2 => Unsigned(u8::from_le_bytes(bytes(element)?).into()),
        Known::Float8E4M3fn
        | Known::Float8E5M2
        | Known::Float8E4M3fnuz
        | Known::Float8E5M2fnuz
        | Known::Float8E8M0fnu => {
            let [byte] = bytes(element)?;
            Float(float8(dtype, byte)?.into())
        }
    })
}

/// The dtype whose elements are numbers; `Unsupported` for text, structures and unknown types.
pub(crate) fn numeric(dtype: &DType) -> Result<Known> {
    match dtype {
        DType::Known(known) => Ok(*known),
        other => Err(Error::unsupported(format!("elements of type {other} are no numbers; .bin takes their bytes"))),
    }
}

/// Turns blocks of one dtype into `f64`, fast. Complex elements become two values each, real and imaginary part;
/// 64-bit integers are rounded where they have more than 53 bits.
#[derive(Debug, Clone)]
pub(crate) struct ToF64 {
    dtype: Known,
    /// The values of all bytes, for `float8_*`.
    float8: Option<Box<[f64; 256]>>,
}

impl ToF64 {
    /// For blocks of `dtype`.
    pub(crate) fn new(dtype: Known) -> Self {
        ToF64 { dtype, float8: float8_table(dtype).map(|table| Box::new(table.map(f64::from))) }
    }

    /// Values made of one element: 2 for complex dtypes, else 1.
    pub(crate) fn values_per_element(&self) -> usize {
        let complex = matches!(self.dtype, Known::Complex32 | Known::Complex64 | Known::Complex128);
        if complex { 2 } else { 1 }
    }

    /// Converts as many little-endian elements as `out` has room for (and `block` has).
    pub(crate) fn convert(&self, block: &[u8], out: &mut [f64]) {
        if let Some(table) = &self.float8 {
            return each(block, out, |[b]: [u8; 1]| table.get(usize::from(b)).copied().unwrap_or(f64::NAN));
        }
        match self.dtype {
            Known::Float64 | Known::Complex128 => each(block, out, f64::from_le_bytes),
            Known::Float32 | Known::Complex64 => each(block, out, |b| f32::from_le_bytes(b).into()),
            Known::BFloat16 => each(block, out, |b| bf16_to_f32(u16::from_le_bytes(b)).into()),
            Known::Float16 | Known::Complex32 => each(block, out, |b| f16_to_f32(u16::from_le_bytes(b)).into()),
            Known::Int64 => each(block, out, |b| i64::from_le_bytes(b) as f64),
            Known::UInt64 => each(block, out, |b| u64::from_le_bytes(b) as f64),
            Known::Int32 | Known::QInt32 => each(block, out, |b| i32::from_le_bytes(b).into()),
            Known::UInt32 => each(block, out, |b| u32::from_le_bytes(b).into()),
            Known::Int16 => each(block, out, |b| i16::from_le_bytes(b).into()),
            Known::UInt16 | Known::Bits16 => each(block, out, |b| u16::from_le_bytes(b).into()),
            Known::Int8 | Known::QInt8 => each(block, out, |b| i8::from_le_bytes(b).into()),
            Known::Bool => each(block, out, |[b]: [u8; 1]| u8::from(b != 0).into()),
            _ => each(block, out, |[b]: [u8; 1]| b.into()),
        }
    }
}

fn each<const N: usize>(block: &[u8], out: &mut [f64], value: impl Fn([u8; N]) -> f64) {
    for (out, element) in out.iter_mut().zip(block.as_chunks().0) {
        *out = value(*element);
    }
}

fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// `float16` to `float32` without branches, so that loops over it are vectorized; exact, subnormals too.
pub(super) fn f16_to_f32(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let sign = (bits & 0x8000) << 16;
    let magnitude = (bits & 0x7fff) << 13;
    // scaling by 2^112 moves the exponent's bias and normalizes subnormals; infinity and NaN take the largest exponent
    let scaled = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(sign | scaled | special)
}

/// Integers as `i128`, which holds every integer dtype exactly; `None` for others.
pub(crate) fn integer(number: Number) -> Option<i128> {
    match number {
        Number::Signed(n) => Some(n.into()),
        Number::Unsigned(n) => Some(n.into()),
        Number::Bool(b) => Some(b.into()),
        Number::Float(_) | Number::Complex(..) => None,
    }
}

/// The elements of a block of an integer dtype, exactly; nothing for other dtypes.
pub(crate) fn integers(dtype: Known, block: &[u8]) -> impl Iterator<Item = i128> {
    let size = DType::from(dtype).size().unwrap_or(1) as usize;
    block.chunks_exact(size).filter_map(move |element| integer(decode(dtype, element)?))
}

/// True when a `f64` cannot hold every value of the dtype: 64-bit integers.
pub(crate) fn is_wide_integer(dtype: Known) -> bool {
    matches!(dtype, Known::Int64 | Known::UInt64)
}

/// True for dtypes whose elements are numbers, rather than several packed into a byte or bits of any meaning.
pub(crate) fn has_numbers(dtype: Known) -> bool {
    let packed = matches!(dtype, Known::QUInt4x2 | Known::QUInt2x4);
    !packed && DType::from(dtype).class() != Some(Class::Bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    // torch.arange(256, dtype=torch.uint8).view(dtype).float(), summed up by FNV-1a over the bit patterns with every
    // NaN as 0x7fc00000 (torch 2.15)
    #[test]
    fn float8_as_torch() {
        for (dtype, want) in [
            (Known::Float8E4M3fn, 0x0899_3af4_628b_b725),
            (Known::Float8E5M2, 0x00ce_e283_8e6b_b725),
            (Known::Float8E4M3fnuz, 0x4065_565a_f2ab_b725),
            (Known::Float8E5M2fnuz, 0x3996_9815_ceab_b725),
            (Known::Float8E8M0fnu, 0x56f9_e058_2b6b_b725),
        ] {
            let bits = (0..=255).map(|byte| float8(dtype, byte).unwrap());
            let bits = bits.map(|x| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() });
            let hash = bits.fold(0xcbf2_9ce4_8422_2325_u64, |h, x| (h ^ u64::from(x)).wrapping_mul(0x100_0000_01b3));
            assert_eq!(hash, want, "{dtype:?}");
        }
    }

    #[test]
    fn every_float16_is_exact() {
        for bits in 0..=u16::MAX {
            let (ours, want) = (f16_to_f32(bits), f16::from_bits(bits).to_f32_const());
            assert!(ours.to_bits() == want.to_bits() || (ours.is_nan() && want.is_nan()), "{bits:#x}: {ours} {want}");
        }
    }

    #[test]
    fn blocks_decode_as_single_elements() {
        let names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128 complex32 \
                     uint16 uint32 uint64 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu \
                     float4_e2m1fn_x2 qint8 quint8 qint32 quint4x2 quint2x4 bits8 bits16 bits1x8 bits2x4 bits4x2";
        let block: Vec<u8> = (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24).try_into().unwrap()).collect();
        for name in names.split_whitespace() {
            let dtype = DType::from_torch_name(name).unwrap();
            let DType::Known(known) = dtype else { panic!("{name}") };
            let size = dtype.size().unwrap() as usize;
            let convert = ToF64::new(known);
            let mut out = vec![0.0; block.len() / size * convert.values_per_element()];
            convert.convert(&block, &mut out);
            for (element, values) in block.chunks_exact(size).zip(out.chunks_exact(convert.values_per_element())) {
                let want = match decode(known, element).unwrap() {
                    Number::Complex(re, im) => vec![re, im],
                    real => vec![real.to_f64()],
                };
                let same = values.iter().zip(&want).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
                assert!(same, "{name}: {values:?} {want:?}");
            }
            assert_eq!(decode(known, &[]), None);
        }
    }
}
