//! How the values of options are spelled, and what help says of each. The library knows them as enums.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::operations::check::Requirement;
use crate::operations::convert::Shared;
use crate::operations::diff::Ignore;
use crate::operations::merge::OnConflict;
use crate::report::{diff, ls};
use crate::safety::finding::Severity;
use crate::write::format::Format;

/// Spells the variants of an enum: `Variant => "word", "what it does"`, in the order of the help.
macro_rules! spelled {
    ($type:ty { $($variant:ident => $word:literal, $help:literal;)* }) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(<$type>::$variant),*]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $(<$type>::$variant => PossibleValue::new($word).help($help),)*
                })
            }
        }
    };
}

spelled!(ls::SortBy {
    Name => "name", "Byte order of the names";
    Size => "size", "Largest tensors first";
    File => "file", "File order";
});

spelled!(diff::SortBy {
    File => "file", "As they stand in the first file";
    Change => "change", "Largest relative change first; a changed shape is larger than any";
});

spelled!(Severity {
    Info => "info", "Worth knowing";
    Warning => "warning", "Unusual: have a look";
    Error => "error", "Something is broken or missing";
    Danger => "danger", "Loading it would run code, or do what only an attack needs";
});

spelled!(Requirement {
    WeightsOnly => "weights-only", "torch.load(weights_only=True) opens it";
});

spelled!(Shared {
    Duplicate => "duplicate", "Write every tensor in full";
    Drop => "drop", "Write equal views once and record the other names as aliases in __metadata__";
    Error => "error", "Refuse";
});

spelled!(OnConflict {
    First => "first", "Keep the first input's";
    Last => "last", "Keep the last input's, in the place of the first";
    Equal => "equal", "Keep one where all are equal bit by bit, else refuse";
});

spelled!(Ignore {
    Device => "device", "Device";
    RequiresGrad => "requires_grad", "requires_grad flag";
    Dtype => "dtype", "Data type; elements are still compared as numbers";
    Values => "values", "Elements of tensors, and other values of the same name";
});

/// What help says of a format.
fn said(format: Format) -> &'static str {
    match format {
        Format::Torch => "torch's zip container (torch 1.6 and newer), every kind of object kept",
        Format::TorchLegacy => "The stream that torch 1.5 and older read",
        Format::Safetensors => "Tensors by name",
        Format::Npz => "Arrays by name, for numpy",
        Format::Npy => "One array of numpy's",
        Format::Json => "Lists in lists, values too",
        Format::Csv => "A table of one or two dimensions",
        Format::Bin => "The elements' bytes, little-endian",
        Format::Png => "A picture",
    }
}

/// Takes the name of one of these formats.
pub(crate) fn formats(of: &'static [Format]) -> impl TypedValueParser<Value = Format> {
    let spelled = |format: &Format| {
        let value = PossibleValue::new(format.name()).help(said(*format));
        if *format == Format::Torch { value.alias("pt") } else { value }
    };
    PossibleValuesParser::new(of.iter().map(spelled)).try_map(move |name: String| {
        let name = if name == "pt" { Format::Torch.name() } else { &name };
        of.iter().copied().find(|format| format.name() == name).ok_or("unknown format")
    })
}

/// The format that a checkpoint is written in: the one asked for, or that of the output's extension.
pub(crate) fn format_to_write(to: Option<Format>, output: &Path) -> anyhow::Result<Format> {
    to.or_else(|| Format::of_checkpoint(output)).with_context(|| {
        let names = Format::OF_CHECKPOINTS.map(Format::name).join("|");
        format!("{}: cannot tell the output format from the extension; add --to {names}", output.display())
    })
}

const UNITS: &[(&str, u64)] = &[
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
    ("", 1),
];

/// A size as Hugging Face's tools take it: `5GB` is decimal, `5GiB` binary.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_uppercase();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "a size is a number with B, KB, MB, GB, TB or KiB, MiB, …".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_hugging_face_means_them() {
        assert_eq!(size("5GB"), Ok(5_000_000_000));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("100"), Ok(100));
        assert!(size("GB").is_err() && size("0").is_err() && size("1.5GB").is_err());
    }
}
