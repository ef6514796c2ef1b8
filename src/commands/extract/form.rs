//! In which form something is written, and what each form can hold.

use std::path::Path;

use anyhow::bail;
use clap::ValueEnum;

/// A format of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// One array of numpy's
    Npy,
    /// Arrays by name, for numpy
    Npz,
    /// Lists in lists, values too
    Json,
    /// A table of one or two dimensions
    Csv,
    /// The elements' bytes, little-endian
    Bin,
    /// A picture
    Png,
    /// Tensors by name
    Safetensors,
    /// torch's zip, every kind of object kept
    #[value(name = "torch", alias = "pt")]
    Torch,
}

use Form as F;

const EXTENSIONS: &[(&str, Form)] = &[
    ("npy", F::Npy),
    ("npz", F::Npz),
    ("json", F::Json),
    ("csv", F::Csv),
    ("bin", F::Bin),
    ("png", F::Png),
    ("safetensors", F::Safetensors),
    ("pt", F::Torch),
    ("pth", F::Torch),
    ("ckpt", F::Torch),
    ("tar", F::Torch),
    ("pkl", F::Torch),
];

/// Where output goes and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One file, or standard output.
    File(Form),
    /// A file for each tensor and value.
    Directory(Form),
}

impl Form {
    /// The extension of a file in a directory.
    pub fn extension(self) -> &'static str {
        EXTENSIONS.iter().find(|(_, form)| *form == self).map_or("", |(extension, _)| extension)
    }

    /// Whether it holds several tensors by name.
    pub fn is_collection(self) -> bool {
        matches!(self, F::Npz | F::Json | F::Safetensors | F::Torch)
    }

    /// Whether it holds values that are no tensors.
    pub fn holds_values(self) -> bool {
        matches!(self, F::Json | F::Torch)
    }
}

/// What `-o OUTPUT [--to FORM]` means for one thing (`single`) or several. A directory is one that exists, a name that
/// ends in a separator, or one without an extension when no file of that form can hold what there is.
pub fn place(output: &Path, to: Option<Form>, single: bool) -> anyhow::Result<Place> {
    if output.as_os_str() == "-" {
        return match to {
            Some(form) => Ok(Place::File(form)),
            None => bail!("-o - needs --to FORMAT"),
        };
    }
    let separated = output.as_os_str().as_encoded_bytes().last().is_some_and(|b| std::path::is_separator((*b).into()));
    if separated || output.is_dir() {
        return Ok(Place::Directory(to.unwrap_or(F::Npy)));
    }
    let extension = output.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let known = extension.as_ref().and_then(|wanted| EXTENSIONS.iter().find(|(known, _)| known == wanted));
    match (to.or(known.map(|(_, form)| *form)), &extension) {
        (Some(form), None) if !single && !form.is_collection() => Ok(Place::Directory(form)),
        (Some(form), _) => Ok(Place::File(form)),
        (None, None) => Ok(Place::Directory(F::Npy)),
        (None, Some(extension)) => {
            let all: Vec<String> = EXTENSIONS.iter().map(|(extension, _)| format!(".{extension}")).collect();
            bail!("unknown output extension .{extension}; use one of {}, or --to FORMAT", all.join(" "))
        }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}
