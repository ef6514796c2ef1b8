//! Element types: torch's names, and what other formats call them.
//!
//! Sources: `torch/storage.py` (`_dtype_to_storage_type_map`), `torch/_utils.py`, numpy's array protocol type strings,
//! safetensors' `Dtype`, `torch/_export/serde/schema.py`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The type of one element.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DType {
    /// A type this program knows by heart.
    Known(Known),
    /// A type that is shown by name and copied as bytes.
    Other {
        /// The name as torch or numpy shows it.
        name: Arc<str>,
        /// Bytes of one element, where the file says.
        size: Option<u32>,
    },
}

/// How a type's elements are built up, for arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// IEEE-like floating point, `float8_*` and `bfloat16` included.
    Float,
    /// Pairs of floats: real, imaginary.
    Complex,
    /// Two's complement integers.
    Signed,
    /// Unsigned integers.
    Unsigned,
    /// One byte, zero or not.
    Bool,
    /// Stored integers with a scale kept elsewhere.
    Quantized,
    /// Bits without arithmetic (packed sub-byte types).
    Bits,
}

macro_rules! known {
    ($($variant:ident $name:literal $size:literal $class:ident $storage:literal $numpy:literal $safetensors:literal;)*) => {
        /// The types with fixed names in torch.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Known { $($variant),* }

        const TABLE: &[Row] = &[$(Row {
            known: Known::$variant, name: $name, size: $size, class: Class::$class,
            storage: $storage, numpy: $numpy, safetensors: $safetensors,
        }),*];
    };
}

struct Row {
    known: Known,
    name: &'static str,
    size: u32,
    class: Class,
    storage: &'static str,
    numpy: &'static str,
    safetensors: &'static str,
}

// variant, torch's name, bytes, class, storage class before `Storage`, numpy's kind and size, safetensors' name
known! {
    Float64 "float64" 8 Float "Double" "f8" "F64";
    Float32 "float32" 4 Float "Float" "f4" "F32";
    Float16 "float16" 2 Float "Half" "f2" "F16";
    BFloat16 "bfloat16" 2 Float "BFloat16" "" "BF16";
    Int64 "int64" 8 Signed "Long" "i8" "I64";
    Int32 "int32" 4 Signed "Int" "i4" "I32";
    Int16 "int16" 2 Signed "Short" "i2" "I16";
    Int8 "int8" 1 Signed "Char" "i1" "I8";
    UInt8 "uint8" 1 Unsigned "Byte" "u1" "U8";
    Bool "bool" 1 Bool "Bool" "b1" "BOOL";
    Complex64 "complex64" 8 Complex "ComplexFloat" "c8" "C64";
    Complex128 "complex128" 16 Complex "ComplexDouble" "c16" "";
    Complex32 "complex32" 4 Complex "" "" "";
    UInt16 "uint16" 2 Unsigned "" "u2" "U16";
    UInt32 "uint32" 4 Unsigned "" "u4" "U32";
    UInt64 "uint64" 8 Unsigned "" "u8" "U64";
    Float8E4M3fn "float8_e4m3fn" 1 Float "" "" "F8_E4M3";
    Float8E5M2 "float8_e5m2" 1 Float "" "" "F8_E5M2";
    Float8E4M3fnuz "float8_e4m3fnuz" 1 Float "" "" "F8_E4M3FNUZ";
    Float8E5M2fnuz "float8_e5m2fnuz" 1 Float "" "" "F8_E5M2FNUZ";
    Float8E8M0fnu "float8_e8m0fnu" 1 Float "" "" "F8_E8M0";
    Float4E2M1fnX2 "float4_e2m1fn_x2" 1 Bits "" "" "";
    QInt8 "qint8" 1 Quantized "QInt8" "" "";
    QUInt8 "quint8" 1 Quantized "QUInt8" "" "";
    QInt32 "qint32" 4 Quantized "QInt32" "" "";
    QUInt4x2 "quint4x2" 1 Quantized "QUInt4x2" "" "";
    QUInt2x4 "quint2x4" 1 Quantized "QUInt2x4" "" "";
    Bits8 "bits8" 1 Bits "" "" "";
    Bits16 "bits16" 2 Bits "" "" "";
    Bits1x8 "bits1x8" 1 Bits "" "" "";
    Bits2x4 "bits2x4" 1 Bits "" "" "";
    Bits4x2 "bits4x2" 1 Bits "" "" "";
}

// other spellings of the same types, as attributes of the `torch` module
const ALIASES: &[(&str, Known)] = &[
    ("float", Known::Float32),
    ("double", Known::Float64),
    ("half", Known::Float16),
    ("long", Known::Int64),
    ("int", Known::Int32),
    ("short", Known::Int16),
    ("cfloat", Known::Complex64),
    ("cdouble", Known::Complex128),
    ("chalf", Known::Complex32),
];

impl Known {
    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.known == self)
    }
}

impl From<Known> for DType {
    fn from(known: Known) -> Self {
        DType::Known(known)
    }
}

impl DType {
    fn find(matches: impl Fn(&Row) -> bool) -> Option<Self> {
        TABLE.iter().find(|row| matches(row)).map(|row| DType::Known(row.known))
    }

    fn row(&self) -> Option<&'static Row> {
        match self {
            DType::Known(known) => known.row(),
            DType::Other { .. } => None,
        }
    }

    /// A type known by name only, with its size where that is known.
    pub(crate) fn other(name: &str, size: Option<u32>) -> Self {
        DType::Other { name: name.into(), size }
    }

    /// The type of `torch.<name>`; `None` when torch has no such dtype that we know.
    pub(crate) fn from_torch_name(name: &str) -> Option<Self> {
        let alias = || ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, known)| DType::Known(*known));
        Self::find(|row| row.name == name).or_else(alias)
    }

    /// The type that a storage class (`FloatStorage`) or an old tensor class (`FloatTensor`) holds. `UntypedStorage`
    /// counts bytes: `uint8`. A class nobody has listed keeps its name and has no known size.
    pub(crate) fn from_storage_class(class: &str) -> Self {
        let stem = class.strip_suffix("Storage").or_else(|| class.strip_suffix("Tensor")).unwrap_or(class);
        match stem {
            "Untyped" | "_Untyped" => Known::UInt8.into(),
            "" => Known::Float32.into(),
            stem => Self::find(|row| row.storage == stem).unwrap_or_else(|| DType::other(stem, None)),
        }
    }

    /// The type of a numpy type string without its byte order: `f4`, `U5`, `M8`.
    pub(crate) fn from_numpy(code: &str) -> Self {
        if let Some(dtype) = Self::find(|row| !row.numpy.is_empty() && row.numpy == code) {
            return dtype;
        }
        let (kind, digits) = code.split_at_checked(1).unwrap_or((code, ""));
        let number: u32 = digits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
        let bits = u64::from(number) * 8;
        let unit = digits.trim_start_matches(|c: char| c.is_ascii_digit());
        match kind {
            "?" => Known::Bool.into(),
            "f" => DType::other(&format!("float{bits}"), Some(number)),
            "c" => DType::other(&format!("complex{bits}"), Some(number)),
            "U" => DType::other(&format!("str{}", bits * 4), number.checked_mul(4)),
            "S" | "a" => DType::other(&format!("bytes{bits}"), Some(number)),
            "V" => DType::other(&format!("void{bits}"), Some(number)),
            "M" => DType::other(&format!("datetime64{unit}"), Some(8)),
            "m" => DType::other(&format!("timedelta64{unit}"), Some(8)),
            "O" => DType::other("object", None),
            _ => DType::other(code, None),
        }
    }

    /// The type of a safetensors `dtype`.
    pub(crate) fn from_safetensors(name: &str) -> Option<Self> {
        Self::find(|row| !row.safetensors.is_empty() && row.safetensors == name)
    }

    /// What safetensors calls it, if it can hold it.
    pub(crate) fn safetensors(&self) -> Option<&'static str> {
        self.row().map(|row| row.safetensors).filter(|name| !name.is_empty())
    }

    /// numpy's kind and size (`f4`), if numpy has the type.
    pub(crate) fn numpy(&self) -> Option<&'static str> {
        self.row().map(|row| row.numpy).filter(|code| !code.is_empty())
    }

    /// torch's storage class (`FloatStorage`), for the types that have one.
    pub(crate) fn storage_class(&self) -> Option<String> {
        self.row().map(|row| row.storage).filter(|stem| !stem.is_empty()).map(|stem| format!("{stem}Storage"))
    }

    /// torch's name (`float32`), or numpy's where torch has no such type.
    pub(crate) fn name(&self) -> &str {
        match self {
            DType::Known(known) => known.row().map_or("", |row| row.name),
            DType::Other { name, .. } => name,
        }
    }

    /// [`DType::name`] for keeping: no copy of the names that are known.
    pub(crate) fn shared_name(&self) -> Cow<'static, str> {
        match self.row() {
            Some(row) => Cow::Borrowed(row.name),
            None => Cow::Owned(self.name().to_owned()),
        }
    }

    /// Bytes of one element, where known; of [`DType::in_a_byte`] elements for those that share a byte.
    pub(crate) fn size(&self) -> Option<u32> {
        match self {
            DType::Known(known) => known.row().map(|row| row.size),
            DType::Other { size, .. } => *size,
        }
    }

    /// How many elements share a byte, for the quantized types of less than a byte: 1 for all others.
    pub(crate) fn in_a_byte(&self) -> u32 {
        match self {
            DType::Known(Known::QUInt4x2) => 2,
            DType::Known(Known::QUInt2x4) => 4,
            _ => 1,
        }
    }

    /// How the elements are built up; `None` for types we only carry.
    pub(crate) fn class(&self) -> Option<Class> {
        self.row().map(|row| row.class)
    }

    /// True for floating and complex types: what `parameters` counts.
    pub(crate) fn is_floating(&self) -> bool {
        match self {
            DType::Known(_) => matches!(self.class(), Some(Class::Float | Class::Complex)),
            DType::Other { name, .. } => name.starts_with("float") || name.starts_with("complex"),
        }
    }

    /// Bytes of the unit that byte order applies to: the element, or each half of a complex number. 1 means none.
    pub(crate) fn swap_unit(&self) -> usize {
        let size = self.size().unwrap_or(1) as usize;
        match self {
            DType::Known(_) if self.class() == Some(Class::Complex) => size / 2,
            DType::Known(_) => size.max(1),
            DType::Other { name, .. } if name.starts_with("complex") => (size / 2).max(1),
            DType::Other { name, .. } if name.starts_with("str") => 4,
            DType::Other { name, .. } if ["float", "datetime64", "timedelta64"].iter().any(|p| name.starts_with(p)) => {
                size.max(1)
            }
            DType::Other { .. } => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// In which order the bytes of an element lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ByteOrder {
    /// Least significant byte first.
    #[default]
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    /// `little` or `big`, as torch writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ByteOrder::Little => "little",
            ByteOrder::Big => "big",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_worlds() {
        assert_eq!(DType::from_storage_class("HalfStorage").name(), "float16");
        assert_eq!(DType::from_storage_class("UntypedStorage").name(), "uint8");
        assert_eq!(DType::from_storage_class("SomethingStorage"), DType::other("Something", None));
        assert_eq!(DType::from_torch_name("double"), Some(Known::Float64.into()));
        assert_eq!(DType::from_torch_name("load"), None);
        assert_eq!(DType::from_numpy("U5"), DType::other("str160", Some(20)));
        assert_eq!(DType::from_numpy("f16").name(), "float128");
        assert_eq!(DType::from_numpy("M8[ns]").name(), "datetime64[ns]");
        assert_eq!(DType::from_numpy("é"), DType::other("é", None));
        assert_eq!(DType::from_safetensors("F8_E4M3").map(|d| d.name().to_owned()).as_deref(), Some("float8_e4m3fn"));
        assert_eq!(DType::from_safetensors(""), None);
    }

    #[test]
    fn complex_swaps_each_half() {
        assert_eq!(DType::from(Known::Complex64).swap_unit(), 4);
        assert_eq!(DType::from(Known::Float64).swap_unit(), 8);
        assert_eq!(DType::from_numpy("V6").swap_unit(), 1);
    }
}
