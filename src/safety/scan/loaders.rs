//! Who loads what: each loader, which files it takes, and how it comes to what it runs.
//!
//! The scan reads a file in every way that stands here for a file of its kind, in this order.

use crate::container::detect::Framing;

/// One way of coming to bytes that are unpickled or run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The members of a zip archive that hold pickles, arrays, archives or code.
    Zip,
    /// The members of a tar archive; of torch's own also the tables in them.
    Tar,
    /// An array of objects is a pickle behind the header.
    Npy,
    /// What a compressed file expands to, as a file of its own.
    Expanded,
    /// Pickles from the first byte on, with raw arrays and storages between them.
    Pickles,
    /// A pickle from the first byte on, though the file is something else.
    Hidden,
    /// The same for an archive, whose first bytes end every pickle but one made for them.
    HiddenInZip,
    /// The same for what is nothing known, else dangerous globals anywhere in it.
    HiddenOrSearched,
    /// The archive that ends with the file, whatever the file begins with.
    Directories,
    /// Every archive and pickle anywhere in the file: an index says where they begin.
    Chunks,
    /// The layers and functions that the configuration in an HDF5 file names.
    Keras,
    /// The templates among the metadata.
    Template,
    /// What a text of settings names or holds, and who reads it runs.
    Text,
    /// Nothing of it is run.
    Nothing,
}

/// A file as loaders see it: its framing where it has a known one, and whether it is a part of a checkpoint with an index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub framing: Option<Framing>,
    pub is_part: bool,
}

struct Loader {
    /// How people call it.
    name: &'static str,
    takes: fn(Seen) -> bool,
    reading: Reading,
}

const fn row(name: &'static str, takes: fn(Seen) -> bool, reading: Reading) -> Loader {
    Loader { name, takes, reading }
}

fn zip(seen: Seen) -> bool {
    seen.framing == Some(Framing::Zip)
}

fn tar(seen: Seen) -> bool {
    seen.framing == Some(Framing::Tar)
}

fn npy(seen: Seen) -> bool {
    seen.framing == Some(Framing::Npy)
}

fn compressed(seen: Seen) -> bool {
    matches!(seen.framing, Some(Framing::Compressed(_)))
}

fn pickle(seen: Seen) -> bool {
    seen.framing == Some(Framing::Pickle)
}

fn safetensors(seen: Seen) -> bool {
    matches!(seen.framing, Some(Framing::Safetensors | Framing::ShardIndex))
}

fn other(seen: Seen) -> bool {
    tar(seen) || npy(seen) || safetensors(seen)
}

fn unknown(seen: Seen) -> bool {
    seen.framing.is_none()
}

fn text(seen: Seen) -> bool {
    matches!(seen.framing, None | Some(Framing::ShardIndex))
}

fn no_archive(seen: Seen) -> bool {
    !zip(seen) && !compressed(seen)
}

fn part(seen: Seen) -> bool {
    seen.is_part
}

const LOADERS: &[Loader] = &[
    row("torch.load", zip, Reading::Zip),
    row("torch.jit.load", zip, Reading::Zip),
    row("torch.export.load", zip, Reading::Zip),
    row("torch.package.PackageImporter", zip, Reading::Zip),
    row("keras.models.load_model", zip, Reading::Zip),
    row("numpy.load", zip, Reading::Zip),
    row("torch.load", tar, Reading::Tar),
    row("tarfile.open", tar, Reading::Tar),
    row("numpy.load", npy, Reading::Npy),
    row("joblib.load", compressed, Reading::Expanded),
    row("gzip.open, then any other", compressed, Reading::Expanded),
    row("pickle.load", pickle, Reading::Pickles),
    row("joblib.load", pickle, Reading::Pickles),
    row("torch.load", pickle, Reading::Pickles),
    row("numpy.load", pickle, Reading::Pickles),
    row("safetensors.torch.load_file", safetensors, Reading::Nothing),
    row("pickle.load", zip, Reading::HiddenInZip),
    row("pickle.load", other, Reading::Hidden),
    row("pickle.load", unknown, Reading::HiddenOrSearched),
    row("keras.models.load_model", unknown, Reading::Keras),
    row("llama_cpp.Llama", unknown, Reading::Template),
    row("stable_baselines3's load, hydra.utils.instantiate, yaml.unsafe_load", text, Reading::Text),
    row("zipfile.ZipFile", no_archive, Reading::Directories),
    row("torch.distributed.checkpoint.load", part, Reading::Chunks),
];

/// In which ways the loaders read a file, each once.
pub(super) fn readings(seen: Seen) -> Vec<Reading> {
    let mut found = Vec::new();
    for loader in LOADERS.iter().filter(|loader| (loader.takes)(seen)) {
        debug_assert!(!loader.name.is_empty());
        if !found.contains(&loader.reading) {
            found.push(loader.reading);
        }
    }
    found
}

/// Names of members that are pickles, whatever they begin with (`.debug_pkl`: what TorchScript knows of its sources).
pub(super) const PICKLES: &[&str] = &[".pkl", ".pickle", ".p", ".joblib", ".pk", ".debug_pkl"];
/// Names of members that are shared libraries: torch.export's loader of AOTInductor packages opens them.
pub(in crate::safety) const LIBRARIES: &[&str] = &[".so", ".pyd", ".dll", ".dylib"];
/// How libraries and programs begin.
pub(in crate::safety) const LIBRARY_STARTS: &[&[u8]] =
    &[b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"MZ\x90\0"];
/// Names of members that are Python code: torch.package imports them.
pub(in crate::safety) const PYTHON: &[&str] = &[".py", ".pyc"];
/// Compressions that are not expanded: how they begin, and what they are.
pub(super) const NOT_EXPANDED: &[(&[u8], &str)] = &[
    (b"\x04\x22\x4d\x18", "compressed with LZ4"),
    (b"\x02\x21\x4c\x18", "compressed with LZ4"),
    (b"LZIP\x01", "compressed with lzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
];

/// What a file or member is that is compressed in a way that is not expanded here.
pub(super) fn not_expanded(head: &[u8]) -> Option<&'static str> {
    NOT_EXPANDED.iter().find(|(start, _)| head.starts_with(start)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::compress::Compression;

    fn of(framing: Option<Framing>, is_part: bool) -> Vec<Reading> {
        readings(Seen { framing, is_part })
    }

    #[test]
    fn every_kind_of_file_is_read_as_its_loaders_do() {
        assert_eq!(of(Some(Framing::Zip), false), [Reading::Zip, Reading::HiddenInZip]);
        assert_eq!(of(Some(Framing::Tar), false), [Reading::Tar, Reading::Hidden, Reading::Directories]);
        assert_eq!(of(Some(Framing::Npy), false), [Reading::Npy, Reading::Hidden, Reading::Directories]);
        assert_eq!(of(Some(Framing::Pickle), false), [Reading::Pickles, Reading::Directories]);
        assert_eq!(of(Some(Framing::Compressed(Compression::Xz)), false), [Reading::Expanded]);
        assert_eq!(of(Some(Framing::Safetensors), false), [Reading::Nothing, Reading::Hidden, Reading::Directories]);
        let unknown =
            [Reading::HiddenOrSearched, Reading::Keras, Reading::Template, Reading::Text, Reading::Directories];
        assert_eq!(of(None, false), unknown);
        assert!(of(Some(Framing::Zip), true).contains(&Reading::Chunks));
    }
}
