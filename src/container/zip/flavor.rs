//! What a zip archive is for, by the members it has.

use super::{Member, Zip};
use crate::dtype::ByteOrder;
use crate::error::{Error, Result};
use crate::source::read_vec;

/// Who wrote an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// `torch.save`.
    Torch,
    /// `torch.jit.save`: has `constants.pkl`.
    TorchScript,
    /// `torch.export.save`: has `archive_format` or `models/*.json`.
    Pt2,
    /// `torch.package`: source code and pickles, has `.data/extern_modules`.
    Package,
    /// `numpy.savez`: has nothing but `*.npy`.
    Npz,
}

/// What to do about an encrypted archive.
pub(crate) const DECRYPT: &str =
    "unpack it with the password first (`unzip`, `7z x`) and name what comes out, file or folder";
/// What other programs zip, and a member that tells.
const OTHERS: &[(&str, &str)] = &[
    ("model.weights.h5", "a Keras model, whose weights are HDF5 (open it with keras)"),
    ("[Content_Types].xml", "an Office document"),
    ("META-INF/MANIFEST.MF", "a Java archive"),
];
/// Members that an error lists.
const NAMES_SHOWN: usize = 6;
/// Characters that it shows of each.
const MAX_NAME_CHARS: usize = 200;
/// Bytes of `version`, `byteorder` and the like; real ones have less than ten.
const MAX_TEXT_BYTES: u64 = 256;

impl Zip {
    /// What the archive is for. Any other archive is `NotACheckpoint`, with some of the members it has.
    pub(crate) fn flavor(&self) -> Result<Flavor> {
        let mut full = self.members.iter().filter(|member| member.size > 0).peekable();
        if full.peek().is_some() && full.all(Member::is_encrypted) {
            let e = Error::unsupported("is a zip archive that is encrypted with a password").advise(DECRYPT);
            return Err(e.at(self.source.absolute(self.central_directory_start)));
        }
        if self.in_top("constants.pkl").is_some() {
            return Ok(Flavor::TorchScript);
        }
        let is_model = |member: &Member| {
            let name = member.name.strip_prefix(self.top()).and_then(|name| name.strip_prefix('/'));
            [Some(&*member.name), name]
                .into_iter()
                .flatten()
                .any(|name| name == "archive_format" || (name.starts_with("models/") && name.ends_with(".json")))
        };
        if self.members.iter().any(is_model) {
            return Ok(Flavor::Pt2);
        }
        if self.in_top("data.pkl").is_some() {
            return Ok(Flavor::Torch);
        }
        if self.in_top(".data/extern_modules").is_some() {
            return Ok(Flavor::Package);
        }
        let mut files = self.members.iter().filter(|member| !member.is_dir()).peekable();
        if files.peek().is_some() && files.all(|member| member.name.ends_with(".npy")) {
            return Ok(Flavor::Npz);
        }
        Err(Error::not_a_checkpoint(self.contents()).at(self.source.absolute(self.central_directory_start)))
    }

    /// Whether it has the code of TorchScript.
    pub(crate) fn has_code(&self) -> bool {
        let code = if self.top().is_empty() { "code/".to_owned() } else { format!("{}/code/", self.top()) };
        self.members.iter().any(|member| member.name.starts_with(&code) && member.name.ends_with(".py"))
    }

    /// Why nothing of it can be read, where it is an archive of TorchScript that has lost its main pickle.
    pub(crate) fn lost_pickle(&self) -> Option<Error> {
        let is_lost = self.has_code() && self.in_top("version").is_some() && self.in_top("data.pkl").is_none();
        let message = "its pickle data.pkl is lost, which alone says what tensors a TorchScript archive holds";
        is_lost.then(|| Error::malformed(message).at(self.source.absolute(self.central_directory_start)))
    }

    /// The pickles of a torch.package archive: what is neither source code nor in `.data/`, and starts as one.
    pub(crate) fn package_pickles(&self) -> Result<Vec<&str>> {
        let mut pickles = Vec::new();
        let top = if self.top().is_empty() { String::new() } else { format!("{}/", self.top()) };
        for member in self.members.iter().filter(|member| !member.is_dir()) {
            let name = member.name.strip_prefix(&top).unwrap_or(&member.name);
            if !name.starts_with(".data/")
                && !name.ends_with(".py")
                && matches!(self.head(member, 2)?.as_slice(), [0x80, 2..=5])
            {
                pickles.push(&*member.name);
            }
        }
        Ok(pickles)
    }

    fn contents(&self) -> String {
        let names: Vec<_> = self.members.iter().filter(|member| !member.is_dir()).map(|member| &*member.name).collect();
        let short = |name: &&str| name.chars().take(MAX_NAME_CHARS).flat_map(char::escape_debug).collect::<String>();
        let shown: Vec<_> = names.iter().take(NAMES_SHOWN).map(short).collect();
        if let Some((_, what)) = OTHERS.iter().find(|(marker, _)| self.find(marker).is_some()) {
            return format!("not a checkpoint: {what}");
        }
        let compressed =
            self.members.iter().find_map(|member| Some((&member.name, super::member::not_expanded(member)?)));
        if let Some((name, method)) = compressed {
            let name = short(&&**name);
            return format!(
                "a zip archive in which {name} is compressed with {method}; unzip it and zip it with deflate"
            );
        }
        match names.len() - shown.len() {
            _ if names.is_empty() => "not a checkpoint: an empty zip archive".to_owned(),
            0 => format!("not a checkpoint: a zip archive of {}", shown.join(", ")),
            more => format!("not a checkpoint: a zip archive of {} and {more} more", shown.join(", ")),
        }
    }

    /// The top folder, which is the first member's (`caffe2/serialize/inline_container.cc`); empty where the first
    /// member is in no folder.
    pub(crate) fn top(&self) -> &str {
        if let Some(top) = &self.top_folder {
            return top;
        }
        self.members.first().and_then(|member| member.name.split_once('/')).map_or("", |(top, _)| top)
    }

    /// The member `name` of the top folder.
    pub fn in_top(&self, name: &str) -> Option<&Member> {
        match self.top() {
            "" => self.find(name),
            top => self.find(&format!("{top}/{name}")),
        }
    }

    /// The byte order of the storages: little-endian unless `byteorder` says `big` (`torch/serialization.py`).
    pub(crate) fn byte_order(&self) -> Result<ByteOrder> {
        match self.text("byteorder")?.as_deref() {
            None | Some("little") => Ok(ByteOrder::Little),
            Some("big") => Ok(ByteOrder::Big),
            Some(other) => {
                let message = format!("neither little nor big: {:?}", other.chars().take(20).collect::<String>());
                let member = self.in_top("byteorder").map_or("byteorder", |member| &member.name);
                Err(Error::malformed(message).in_member(member).at(0))
            }
        }
    }

    /// The byte order of the storages of a damaged archive, and whether that is sure: the checksum of a damaged
    /// `byteorder` still tells which of the two it was.
    pub(crate) fn salvaged_byte_order(&self) -> (ByteOrder, bool) {
        let Some(member) = self.in_top("byteorder") else {
            // torch has written it since 2.1, these since 2.7
            let is_newer = self.in_top(".format_version").or_else(|| self.in_top(".storage_alignment")).is_some();
            return (ByteOrder::Little, !is_newer);
        };
        match (member.crc32, member.size) {
            (crc32, 6) if crc32 == crc32fast::hash(b"little") => (ByteOrder::Little, true),
            (crc32, 3) if crc32 == crc32fast::hash(b"big") => (ByteOrder::Big, true),
            _ => self.byte_order().map_or((ByteOrder::Little, false), |order| (order, member.doubt.is_none())),
        }
    }

    /// The text of a small member of the top folder, trimmed; nothing when there is no such member.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(member) = self.in_top(name) else { return Ok(None) };
        let source = self.member_source(member)?;
        let bytes = read_vec(source.as_ref(), 0, source.len().min(MAX_TEXT_BYTES))?;
        Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
    }
}
