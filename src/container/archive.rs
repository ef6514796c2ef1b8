//! Archives of files, zip or tar, maybe compressed as a whole: their members by name, each read where it lies.
//!
//! Members that are stored are windows of the archive; deflated ones are expanded once, within the bounds that the
//! archive's own size explains, however deep archives nest.

use std::collections::HashMap;
use std::sync::Arc;

use super::compress::expand;
use super::detect::{Framing, detect};
use super::tar::Tar;
use super::zip::{DECRYPT, Zip};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::source::SharedSource;

/// Links to links that are followed.
const MAX_LINKS: usize = 8;

/// An open archive.
#[derive(Debug)]
pub(crate) struct Archive {
    kind: Kind,
    /// Places of the members by their names, the last one of several, as Python's `tarfile` has it.
    by_name: HashMap<String, usize>,
    limits: Limits,
    /// What was expanded to read it.
    expanded_bytes: u64,
}

#[derive(Debug)]
enum Kind {
    Zip(Arc<Zip>),
    Tar(Tar),
}

/// A member's bytes.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The bytes, expanded.
    pub source: SharedSource,
    /// The bounds on what is in them.
    pub limits: Limits,
}

impl Archive {
    /// Opens an archive; nothing for what is none. `progress` hears of bytes that must be expanded.
    pub(crate) fn open(contents: &Contents, progress: &dyn Progress) -> Result<Option<Self>> {
        let Contents { mut source, mut limits } = contents.clone();
        let mut framing = detect(source.as_ref());
        let mut expanded_bytes = 0;
        if let Ok(Framing::Compressed(compression)) = framing {
            let disk_bytes = source.len();
            source = expand(&source, compression, &limits, progress)?;
            limits = limits.of_expanded(disk_bytes);
            expanded_bytes = source.len();
            framing = detect(source.as_ref());
        }
        let kind = match framing {
            Ok(Framing::Zip) => Kind::Zip(Arc::new(Zip::open(source, &limits)?)),
            Ok(Framing::Tar) => Kind::Tar(Tar::open(source, &limits)?),
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            _ => return Ok(None),
        };
        let mut archive = Archive { kind, by_name: HashMap::new(), limits, expanded_bytes };
        archive.by_name = archive.names().enumerate().map(|(index, name)| (name.to_owned(), index)).collect();
        archive.spell_plainly();
        archive.follow_links();
        Ok(Some(archive))
    }

    /// Adds the names that members have without steps that lead nowhere: `d/z.pt` for `d/./z.pt`.
    fn spell_plainly(&mut self) {
        let odd = |name: &str| name.split('/').any(|step| matches!(step, "" | "." | ".."));
        let names = self.names().enumerate().filter(|(_, name)| !name.ends_with('/') && odd(name));
        let plain: Vec<_> = names.filter_map(|(index, name)| Some((joined("", name)?, index))).collect();
        for (name, index) in plain {
            self.by_name.entry(name).or_insert(index);
        }
    }

    /// Adds the names that are links to members, and links to those; what leads out of the archive leads nowhere.
    fn follow_links(&mut self) {
        let Kind::Tar(tar) = &self.kind else { return };
        for _ in 0..MAX_LINKS {
            let before = self.by_name.len();
            for link in &tar.links {
                let folder = match plain(&link.name).rsplit_once('/') {
                    Some((folder, _)) if !link.is_hard => folder,
                    _ => "",
                };
                if let Some(index) = joined(folder, &link.target).and_then(|target| self.by_name.get(&target)).copied()
                {
                    self.by_name.entry(plain(&link.name).to_owned()).or_insert(index);
                }
            }
            if self.by_name.len() == before {
                return;
            }
        }
    }

    /// The name of the format.
    pub(crate) fn format(&self) -> &'static str {
        match self.kind {
            Kind::Zip(_) => "zip",
            Kind::Tar(_) => "tar",
        }
    }

    /// The zip, where it is one.
    pub(crate) fn zip(&self) -> Option<&Arc<Zip>> {
        match &self.kind {
            Kind::Zip(zip) => Some(zip),
            Kind::Tar(_) => None,
        }
    }

    /// The tar, where it is one.
    pub(crate) fn tar(&self) -> Option<&Tar> {
        match &self.kind {
            Kind::Zip(_) => None,
            Kind::Tar(tar) => Some(tar),
        }
    }

    /// The members' names in the archive's order, folders of a zip included (`weights/`), without the `./` that `tar` puts
    /// before them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let (zip, tar) = match &self.kind {
            Kind::Zip(zip) => (zip.members.as_slice(), &[][..]),
            Kind::Tar(tar) => (&[][..], tar.members.as_slice()),
        };
        zip.iter().map(|member| plain(&member.name)).chain(tar.iter().map(|member| plain(&member.name)))
    }

    /// The name of a member, without the `./` before it.
    pub(crate) fn name(&self, index: usize) -> Option<&str> {
        self.raw_name(index).map(plain)
    }

    /// The place of the file of this name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(plain(name)).copied().filter(|_| !name.ends_with('/'))
    }

    /// Bytes of a member once expanded.
    pub(crate) fn size(&self, index: usize) -> u64 {
        match &self.kind {
            Kind::Zip(zip) => zip.members.get(index).map_or(0, |member| member.size),
            Kind::Tar(tar) => tar.members.get(index).map_or(0, |member| member.size),
        }
    }

    /// Bytes that a member takes in the archive.
    pub(crate) fn stored_bytes(&self, index: usize) -> u64 {
        match &self.kind {
            Kind::Zip(zip) => zip.members.get(index).map_or(0, |member| member.compressed_size),
            Kind::Tar(_) => self.size(index),
        }
    }

    /// Where a member begins: a zip's local header, a tar member's data.
    pub(crate) fn start(&self, index: usize) -> Option<u64> {
        match &self.kind {
            Kind::Zip(zip) => zip.members.get(index).map(|member| member.header_start),
            Kind::Tar(tar) => tar.members.get(index).map(|member| member.offset),
        }
    }

    /// A member's name as it stands in the archive, with its `./`.
    pub(crate) fn raw_name(&self, index: usize) -> Option<&str> {
        match &self.kind {
            Kind::Zip(zip) => zip.members.get(index).map(|member| &*member.name),
            Kind::Tar(tar) => tar.members.get(index).map(|member| member.name.as_str()),
        }
    }

    /// The files below a folder.
    pub(crate) fn below(&self, folder: &str) -> impl Iterator<Item = usize> {
        let folder = plain(folder).trim_end_matches('/');
        let within = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let names = self.names().enumerate();
        names.filter(move |(_, name)| name.starts_with(&within) && !name.ends_with('/')).map(|(index, _)| index)
    }

    /// Bytes that were expanded to read the archive itself.
    pub(crate) fn expanded_bytes(&self) -> u64 {
        self.expanded_bytes
    }

    /// Whether a member must be expanded to be read.
    pub(crate) fn is_compressed(&self, index: usize) -> bool {
        self.zip().and_then(|zip| zip.members.get(index)).is_some_and(|member| member.method != 0)
    }

    /// The first bytes of a member, at most `most`.
    pub(crate) fn head(&self, index: usize, most: u64) -> Result<Vec<u8>> {
        match &self.kind {
            Kind::Zip(zip) => zip.head(zip.members.get(index).ok_or_else(gone)?, most),
            Kind::Tar(tar) => {
                let source = tar.member_source(tar.members.get(index).ok_or_else(gone)?)?;
                crate::source::read_vec(source.as_ref(), 0, source.len().min(most))
            }
        }
    }

    /// A member's bytes, with the bounds on what they hold.
    pub(crate) fn contents(&self, index: usize) -> Result<Contents> {
        match &self.kind {
            Kind::Zip(zip) => {
                let member = zip.members.get(index).ok_or_else(gone)?;
                if member.is_encrypted() {
                    return Err(Error::unsupported("is encrypted").in_member(&member.name).advise(DECRYPT));
                }
                let limits = match member.method {
                    0 => self.limits.clone(),
                    _ => self.limits.of_expanded(member.compressed_size),
                };
                Ok(Contents { source: zip.member_source(member)?, limits })
            }
            Kind::Tar(tar) => {
                let source = tar.member_source(tar.members.get(index).ok_or_else(gone)?)?;
                Ok(Contents { source, limits: self.limits.clone() })
            }
        }
    }

    /// The archive's bytes, expanded.
    pub(crate) fn source(&self) -> &SharedSource {
        match &self.kind {
            Kind::Zip(zip) => zip.source(),
            Kind::Tar(tar) => tar.source(),
        }
    }

    /// The bounds on what is in it.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What lies in `folder` as a zip archive of its own; nothing where there is no such folder.
    pub(crate) fn folder(&self, folder: &str) -> Result<Option<Zip>> {
        let folder = plain(folder).trim_end_matches('/');
        let within = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        if !self.names().any(|name| name.starts_with(&within)) {
            return Ok(None);
        }
        match &self.kind {
            Kind::Zip(zip) => Ok(Some(zip.below(folder))),
            Kind::Tar(tar) => {
                let mut files = Vec::new();
                for (member, index) in tar.members.iter().zip(0..) {
                    let name = plain(&member.name);
                    // the last of several members of one name counts
                    if self.by_name.get(name) == Some(&index)
                        && let Some(name) = name.strip_prefix(&within)
                    {
                        files.push((name.to_owned(), tar.member_source(member)?));
                    }
                }
                Ok(Some(Zip::of_files(folder, files, &self.limits)))
            }
        }
    }
}

/// Where a path leads from a folder of the archive; nothing where it leads out.
fn joined(folder: &str, path: &str) -> Option<String> {
    let mut steps: Vec<&str> = Vec::new();
    for step in folder.split('/').chain(path.split('/')) {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()?),
            step => steps.push(step),
        }
    }
    (!path.starts_with('/')).then(|| steps.join("/"))
}

/// A name without the `./` before it.
fn plain(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("./") {
        name = rest.trim_start_matches('/');
    }
    if name == "." { "" } else { name }
}

fn gone() -> Error {
    Error::data("no such member")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::source::{MemorySource, read_vec};

    #[test]
    fn links_lead_inside() {
        assert_eq!(joined("a/b", "../c/d").as_deref(), Some("a/c/d"));
        assert_eq!(joined("", "./c").as_deref(), Some("c"));
        assert_eq!(joined("a", "../../c"), None);
        assert_eq!(joined("", ".."), None);
        assert_eq!(joined("a", "/etc/passwd"), None);
    }

    #[test]
    fn a_link_is_its_member() {
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut header = ::tar::Header::new_gnu();
        header.set_size(3);
        builder.append_data(&mut header, "./blobs/1", &b"abc"[..]).unwrap();
        for (name, target, kind) in [
            ("snap/m.pt", "../blobs/1", ::tar::EntryType::Symlink),
            ("again.pt", "./snap/m.pt", ::tar::EntryType::Link),
            ("out.pt", "../blobs/1", ::tar::EntryType::Symlink),
            ("loop.pt", "loop.pt", ::tar::EntryType::Symlink),
        ] {
            let mut header = ::tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        }
        let source: SharedSource = Arc::new(MemorySource::new(builder.into_inner().unwrap()));
        let archive = Archive::open(&Contents { source, limits: Limits::default() }, &Silent).unwrap().unwrap();
        for name in ["blobs/1", "./blobs/1", "snap/m.pt", "again.pt"] {
            let found = archive.contents(archive.find(name).unwrap()).unwrap().source;
            assert_eq!(read_vec(found.as_ref(), 0, found.len()).unwrap(), b"abc", "{name}");
        }
        assert_eq!((archive.find("out.pt"), archive.find("loop.pt")), (None, None));
    }

    #[test]
    fn steps_that_lead_nowhere_may_be_left_out() {
        let mut builder = ::tar::Builder::new(Vec::new());
        for name in ["./d/./z.pt", "d//y.pt"] {
            let mut header = ::tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(3);
            header.set_cksum();
            builder.append(&header, &b"abc"[..]).unwrap();
        }
        let source: SharedSource = Arc::new(MemorySource::new(builder.into_inner().unwrap()));
        let archive = Archive::open(&Contents { source, limits: Limits::default() }, &Silent).unwrap().unwrap();
        assert_eq!(["d/z.pt", "d/./z.pt", "d/y.pt"].map(|name| archive.find(name)), [Some(0), Some(0), Some(1)]);
    }
}
