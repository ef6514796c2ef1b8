//! What a checkpoint was read from, each kind with what only it has: an archive its directory, TorchScript its classes, a
//! file its bytes. A checkpoint has one [`Framed`] from the moment it is opened, and nothing is opened twice.

use std::sync::Arc;

use crate::checkpoint::names::Element;
use crate::checkpoint::script::Script;
use crate::container::compress::Compression;
use crate::container::zip::Zip;
use crate::pickle::NodeId;
use crate::source::SharedSource;

/// What kind of file a checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Container {
    Zip,
    Legacy,
    Tar,
    Pickle,
    TorchScript,
    Pt2,
    Package,
    Safetensors,
    Npz,
    Npy,
    Sharded,
    Dcp,
    DeepSpeed,
    Ranks,
    Megatron,
}

impl Container {
    /// True for what is put together from several files: its storages' keys mean nothing to a reader.
    pub(crate) fn is_merged(self) -> bool {
        matches!(
            self,
            Container::Sharded | Container::Dcp | Container::DeepSpeed | Container::Ranks | Container::Megatron
        )
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Container::Zip => "zip",
            Container::Legacy => "legacy",
            Container::Tar => "tar",
            Container::Pickle => "pickle",
            Container::TorchScript => "torchscript",
            Container::Pt2 => "pt2",
            Container::Package => "package",
            Container::Safetensors => "safetensors",
            Container::Npz => "npz",
            Container::Npy => "npy",
            Container::Sharded => "sharded",
            Container::Dcp => "dcp",
            Container::DeepSpeed => "deepspeed",
            Container::Ranks => "ranks",
            Container::Megatron => "megatron",
        }
    }
}

/// What a checkpoint was read from.
#[derive(Debug)]
pub(crate) enum Framed {
    /// One file that is no archive of members.
    File { kind: Single, bytes: SharedSource, compression: Option<Compression> },
    /// The members of a zip archive, or of one that somebody unpacked.
    Archive { kind: Archived, zip: Arc<Zip>, place: Place },
    /// Several files.
    Several(Several),
    /// Objects of several checkpoints that are to become one of torch's zips.
    Joined,
}

/// The kinds of single files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Single {
    Legacy,
    Tar,
    Pickle,
    Safetensors,
    Npy,
}

/// The kinds of archives.
#[derive(Debug)]
pub(crate) enum Archived {
    Torch,
    TorchScript { script: Script, constants: Attached },
    Pt2 { constants: Attached },
    Package,
    Npz,
}

/// The kinds of checkpoints of several files.
#[derive(Debug)]
pub(crate) enum Several {
    Sharded,
    /// With the whole `torch.save` files that its chunks are.
    Dcp(Vec<SavedPart>),
    DeepSpeed,
    Ranks,
    Megatron,
}

/// Where an archive is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// It is a file, compressed as a whole or not.
    File(Option<Compression>),
    /// A folder of another archive, or of the disk.
    Folder,
}

impl Place {
    pub(crate) fn compression(self) -> Option<Compression> {
        match self {
            Place::File(compression) => compression,
            Place::Folder => None,
        }
    }
}

/// Tensors that belong to no object of the graph (constants of code), with their paths.
pub(crate) type Attached = Vec<(Vec<Element>, NodeId)>;

/// A file of `torch.save` that is a part of a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct SavedPart {
    /// The file that it lies in.
    pub file: Arc<str>,
    /// Its bytes.
    pub bytes: SharedSource,
    /// The name of what it is a part of.
    pub fqn: Arc<str>,
}

impl Framed {
    /// What reports call it.
    pub(crate) fn container(&self) -> Container {
        match self {
            Framed::File { kind, .. } => match kind {
                Single::Legacy => Container::Legacy,
                Single::Tar => Container::Tar,
                Single::Pickle => Container::Pickle,
                Single::Safetensors => Container::Safetensors,
                Single::Npy => Container::Npy,
            },
            Framed::Archive { kind, .. } => match kind {
                Archived::Torch => Container::Zip,
                Archived::TorchScript { .. } => Container::TorchScript,
                Archived::Pt2 { .. } => Container::Pt2,
                Archived::Package => Container::Package,
                Archived::Npz => Container::Npz,
            },
            Framed::Several(kind) => match kind {
                Several::Sharded => Container::Sharded,
                Several::Dcp(_) => Container::Dcp,
                Several::DeepSpeed => Container::DeepSpeed,
                Several::Ranks => Container::Ranks,
                Several::Megatron => Container::Megatron,
            },
            Framed::Joined => Container::Zip,
        }
    }

    /// The file's bytes, expanded where it was compressed; nothing for what is not one file.
    pub(crate) fn source(&self) -> Option<&SharedSource> {
        match self {
            Framed::File { bytes, .. } => Some(bytes),
            Framed::Archive { zip, place: Place::File(_), .. } => Some(zip.source()),
            _ => None,
        }
    }

    /// How the whole file was compressed.
    pub(crate) fn compression(&self) -> Option<Compression> {
        match self {
            Framed::File { compression, .. } => *compression,
            Framed::Archive { place, .. } => place.compression(),
            _ => None,
        }
    }

    /// The archive. One that was unpacked is none: it has no directory and no checksums.
    pub(crate) fn zip(&self) -> Option<&Arc<Zip>> {
        match self {
            Framed::Archive { zip, .. } => Some(zip).filter(|zip| !zip.is_loose()),
            _ => None,
        }
    }

    /// TorchScript's classes.
    pub(crate) fn script(&self) -> Option<&Script> {
        match self {
            Framed::Archive { kind: Archived::TorchScript { script, .. }, .. } => Some(script),
            _ => None,
        }
    }

    /// Tensors that belong to no object of the graph.
    pub(crate) fn attached(&self) -> &[(Vec<Element>, NodeId)] {
        match self {
            Framed::Archive { kind: Archived::TorchScript { constants, .. } | Archived::Pt2 { constants }, .. } => {
                constants
            }
            _ => &[],
        }
    }

    /// The whole `torch.save` files that it is made of.
    pub(crate) fn saved(&self) -> &[SavedPart] {
        match self {
            Framed::Several(Several::Dcp(saved)) => saved,
            _ => &[],
        }
    }
}
