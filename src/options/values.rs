//! How the values of options are spelled, and what help says of each. The library knows them as enums.

use std::path::Path;

use anyhow::{Context, bail};
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::operations::check::Requirement;
use crate::operations::convert::{Shared, bytes_of};
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
    Name => "name", "By name, byte by byte";
    Size => "size", "Largest tensors first";
    File => "file", "File order";
});

spelled!(diff::SortBy {
    File => "file", "Order of the first file";
    Change => "change", "Largest relative change first; a changed shape is larger than any";
});

spelled!(Severity {
    Info => "info", "Worth knowing";
    Warning => "warning", "Unusual; worth reviewing";
    Error => "error", "Something is broken or missing";
    Danger => "danger", "Loading it would run code, or do something only an attack needs";
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
    Last => "last", "Keep the last input's, at the first one's position";
    Equal => "equal", "Keep one if all are equal bit for bit, else refuse";
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
        Format::Npz => "Arrays by name, for NumPy",
        Format::Npy => "A single NumPy array",
        Format::Json => "Nested lists; also non-tensor values",
        Format::Csv => "A table; one or two dimensions",
        Format::Bin => "The elements as raw little-endian bytes",
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
    let is_name = |format: &Format| output.as_os_str() == format.name();
    if let Some(format) = Format::OF_CHECKPOINTS.iter().find(|format| to.is_none() && is_name(format)) {
        bail!("{format}: a format, not a file; name a file, for example `model.{}`", format.extension());
    }
    to.or_else(|| Format::of_checkpoint(output)).with_context(|| {
        let names = Format::OF_CHECKPOINTS.map(Format::name).join("|");
        format!("{}: cannot tell the output format from the extension; add --to {names}", output.display())
    })
}

/// What two options have in common that write a checkpoint: which format, and over what is there.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct WriteArgs {
    /// Format to write (default: from OUTPUT's extension)
    #[arg(long, value_parser = formats(&Format::OF_CHECKPOINTS), value_name = "FORMAT")]
    pub to: Option<Format>,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
}

/// Options of commands that write the weights of checkpoints, whole or in shards.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct WeightsArgs {
    /// Leave out an element and everything below it; repeatable
    ///
    /// A name or a glob. An element of a list or tuple that others follow becomes None.
    #[arg(long, value_name = "NAME|GLOB")]
    pub drop: Vec<String>,
    /// How to write shared tensors where a format has no sharing
    ///
    /// By default they are duplicated, and aliases in the `__metadata__` of a safetensors input stay aliases.
    #[arg(long, value_enum, value_name = "HOW")]
    pub shared: Option<Shared>,
    /// Write shards of at most SIZE (5GB) into the directory OUTPUT
    ///
    /// An index is written last. Units: B, KB, MB, GB, TB and KiB, MiB, GiB, TiB.
    #[arg(long, value_name = "SIZE", value_parser = bytes_of)]
    pub max_shard_size: Option<u64>,
}
