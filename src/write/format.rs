//! The formats that can be written, and which one a file's extension asks for.

use std::fmt;
use std::path::Path;

/// A format of output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// torch's zip container (torch 1.6 and newer); every kind of object is kept.
    #[default]
    Torch,
    /// The stream that torch 1.5 and older read.
    TorchLegacy,
    /// safetensors: tensors by name.
    Safetensors,
    /// numpy's archive: arrays by name.
    Npz,
    /// One array of numpy's.
    Npy,
    /// Lists in lists, values too.
    Json,
    /// A table of one or two dimensions.
    Csv,
    /// The elements' bytes, little-endian.
    Bin,
    /// A picture.
    Png,
}

use Format as F;

/// Extension, the format that a whole checkpoint gets there, the format that a part of one gets there.
const EXTENSIONS: &[(&str, Option<Format>, Option<Format>)] = &[
    ("npy", None, Some(F::Npy)),
    ("npz", Some(F::Npz), Some(F::Npz)),
    ("json", None, Some(F::Json)),
    ("csv", None, Some(F::Csv)),
    // Hugging Face's `pytorch_model.bin` is a checkpoint, a tensor in a `.bin` is its bytes
    ("bin", Some(F::Torch), Some(F::Bin)),
    ("png", None, Some(F::Png)),
    ("safetensors", Some(F::Safetensors), Some(F::Safetensors)),
    ("pt", Some(F::Torch), Some(F::Torch)),
    ("pth", Some(F::Torch), Some(F::Torch)),
    ("ckpt", Some(F::Torch), Some(F::Torch)),
    ("tar", Some(F::Torch), Some(F::Torch)),
    ("pkl", Some(F::Torch), Some(F::Torch)),
];

impl Format {
    /// Those that hold a whole checkpoint.
    pub(crate) const OF_CHECKPOINTS: [Format; 4] = [F::Torch, F::TorchLegacy, F::Safetensors, F::Npz];
    /// Those that a part of a checkpoint is written in.
    pub(crate) const OF_PARTS: [Format; 8] =
        [F::Npy, F::Npz, F::Json, F::Csv, F::Bin, F::Png, F::Safetensors, F::Torch];

    /// Its name, as options and reports have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            F::Torch => "torch",
            F::TorchLegacy => "torch-legacy",
            F::Safetensors => "safetensors",
            F::Npz => "npz",
            F::Npy => "npy",
            F::Json => "json",
            F::Csv => "csv",
            F::Bin => "bin",
            F::Png => "png",
        }
    }

    /// The format of a checkpoint that is written to `path`.
    pub(crate) fn of_checkpoint(path: &Path) -> Option<Self> {
        let extension = extension(path)?;
        EXTENSIONS.iter().find(|(known, ..)| extension == *known)?.1
    }

    /// The format of a part that is written to `path`.
    pub(crate) fn of_part(path: &Path) -> Option<Self> {
        let extension = extension(path)?;
        EXTENSIONS.iter().find(|(known, ..)| extension == *known)?.2
    }

    /// The extensions that [`Format::of_part`] knows.
    pub(crate) fn extensions_of_parts() -> impl Iterator<Item = &'static str> {
        EXTENSIONS.iter().filter(|(.., part)| part.is_some()).map(|(extension, ..)| *extension)
    }

    /// The extension of a part in a directory.
    pub(crate) fn extension(self) -> &'static str {
        EXTENSIONS.iter().find(|(.., part)| *part == Some(self)).map_or("", |(extension, ..)| extension)
    }

    /// Whether it holds several tensors by name.
    pub(crate) fn is_collection(self) -> bool {
        matches!(self, F::Npz | F::Json | F::Safetensors | F::Torch | F::TorchLegacy)
    }

    /// Whether it holds values that are no tensors.
    pub(crate) fn holds_values(self) -> bool {
        matches!(self, F::Json | F::Torch | F::TorchLegacy)
    }
}

/// A path's extension in lower case.
pub(crate) fn extension(path: &Path) -> Option<String> {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase())
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_means_what_is_written_there() {
        let path = Path::new("a/pytorch_model.BIN");
        assert_eq!((Format::of_checkpoint(path), Format::of_part(path)), (Some(F::Torch), Some(F::Bin)));
        assert_eq!((Format::of_checkpoint(Path::new("a.npy")), Format::of_part(Path::new("a"))), (None, None));
        for format in Format::OF_PARTS {
            assert_eq!(Format::of_part(Path::new(&format!("a.{}", format.extension()))), Some(format), "{format}");
        }
    }
}
