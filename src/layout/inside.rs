//! Which members of an archive are checkpoints, and how they are named on a command line.

use std::collections::HashSet;

use super::grouped::groups;
use crate::container::archive::{Archive, Contents};
use crate::container::compress::expand_left;
use crate::container::detect::{Framing, detect};
use crate::container::legacy::is_legacy;
use crate::container::zip::{Flavor, Zip};
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::progress::Silent;
use crate::source::MemorySource;

/// What stands between an archive and its member.
pub(super) const SEPARATOR: &str = "::";

/// Members that an error lists.
const SHOWN: usize = 6;
/// Members that are looked at, so that an archive of millions costs no more than its directory.
pub(super) const MAX_LOOKED_AT: usize = 20_000;
/// How checkpoints are called, and archives.
const ENDINGS: &[&str] = &[
    "pt",
    "pth",
    "ckpt",
    "bin",
    "pkl",
    "pickle",
    "safetensors",
    "npz",
    "npy",
    "pt2",
    "pth2",
    "joblib",
    "model",
    "tar",
    "gz",
    "tgz",
    "bz2",
    "xz",
    "zip",
    "nemo",
    "mar",
    "t7",
];
/// What tells a member's format.
const HEAD_BYTES: u64 = 512;
/// Bytes of a compressed member that tell what is in it.
const PEEK_BYTES: u64 = 1 << 20;
/// A deflated archive in an archive is opened to see what it is when it is no larger, and all of them together.
const MAX_EXPANDED_BYTES: u64 = 256 << 20;

/// A member that is a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside {
    /// Its name; of an unpacked archive that of the folder.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// Where in the archive it lies.
    pub(super) at: At,
}

/// Where in an archive a checkpoint lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// The member of this number.
    Member(usize),
    /// The folder of this name: an unpacked archive.
    Folder,
    /// The member of this number, which is the index of a checkpoint of several.
    Group(usize),
    /// The pickle of this number of a torch.package archive.
    Pickle(usize),
}

/// What archives are called that may hold checkpoints.
pub(super) const ZIP_ARCHIVE: &str = "zip archive";
pub(super) const TAR_ARCHIVE: &str = "tar archive";

impl Inside {
    /// Whether it is an archive, not a checkpoint.
    pub(crate) fn is_archive(&self) -> bool {
        [ZIP_ARCHIVE, TAR_ARCHIVE].contains(&self.kind)
    }
}

/// The members of an archive that are checkpoints, unpacked ones included, and archives that may hold some.
pub(crate) fn checkpoints(archive: &Archive) -> Vec<Inside> {
    checkpoints_of(archive, MAX_LOOKED_AT)
}

/// The same of an archive of which `most` members are looked at.
pub(super) fn checkpoints_of(archive: &Archive, most: usize) -> Vec<Inside> {
    let names: Vec<&str> = archive.names().collect();
    if let Some(zip) = archive.zip().filter(|zip| matches!(zip.flavor(), Ok(Flavor::Package))) {
        let pickles = zip.package_pickles().unwrap_or_default().into_iter();
        let place = |name: &str| zip.position(name).map_or(At::Folder, At::Pickle);
        return pickles.map(|name| Inside { name: name.to_owned(), kind: "pickle", at: place(name) }).collect();
    }
    let folders: HashSet<&str> = names.iter().filter_map(|name| folder_of_pickle(name)).collect();
    let mut found = Vec::new();
    let mut parts: HashSet<usize> = HashSet::new();
    for group in groups(archive) {
        let Some(name) = archive.name(group.index) else { continue };
        let (name, kind) = match name.strip_suffix(super::DCP_INDEX) {
            Some("") => (".", "dcp"),
            Some(folder) => (folder.trim_end_matches('/'), "dcp"),
            None => (name, "sharded"),
        };
        found.push(Inside { name: name.to_owned(), kind, at: At::Group(group.index) });
        parts.extend(group.parts);
    }
    let mut left_bytes = MAX_EXPANDED_BYTES;
    let looked_at = looked_at(&names, most);
    for (name, index) in names.iter().zip(0..) {
        if let Some(folder) = folder_of_pickle(name) {
            let name = if folder.is_empty() { "." } else { folder }.to_owned();
            found.push(Inside { name, kind: "unpacked", at: At::Folder });
            continue;
        }
        let in_folder =
            name.match_indices('/').any(|(at, _)| name.get(..at).is_some_and(|above| folders.contains(above)));
        if name.ends_with('/') || in_folder || folders.contains("") || parts.contains(&index) {
            continue;
        }
        if looked_at.as_ref().is_some_and(|looked_at| !looked_at.contains(&index)) {
            continue;
        }
        if let Some(kind) = kind_of(archive, index, &mut left_bytes) {
            found.push(Inside { name: (*name).to_owned(), kind, at: At::Member(index) });
        }
    }
    found
}

/// Of more members than are looked at, those that are: first the ones that are called like checkpoints.
fn looked_at(names: &[&str], most: usize) -> Option<HashSet<usize>> {
    if names.len() <= most {
        return None;
    }
    let (first, then): (Vec<usize>, Vec<usize>) =
        (0..names.len()).partition(|index| names.get(*index).is_some_and(|name| is_called_so(name)));
    Some(first.into_iter().chain(then).take(most).collect())
}

/// Whether a name ends as those of checkpoints and of archives do.
pub(super) fn is_called_so(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

/// Members that are called like checkpoints, and encrypted.
pub(super) fn encrypted(archive: &Archive) -> impl Iterator<Item = &str> {
    let members = archive.zip().map(|zip| zip.members.as_slice()).unwrap_or_default().iter();
    members.filter(|member| member.is_encrypted() && is_called_so(&member.name)).map(|member| &*member.name)
}

/// The folder in which a `data.pkl` lies.
fn folder_of_pickle(name: &str) -> Option<&str> {
    match name.rsplit_once('/') {
        Some((folder, "data.pkl")) => Some(folder),
        None if name == "data.pkl" => Some(""),
        _ => None,
    }
}

/// What a member is, by its beginning; nothing for what is no checkpoint.
fn kind_of(archive: &Archive, index: usize, left_bytes: &mut u64) -> Option<&'static str> {
    let head = archive.head(index, HEAD_BYTES).ok()?;
    let framing = detect(&MemorySource::new(head)).ok()?;
    let mut open = || {
        let expands = if archive.is_compressed(index) { archive.size(index) } else { 0 };
        *left_bytes = left_bytes.checked_sub(expands)?;
        archive.contents(index).ok()
    };
    Some(match framing {
        Framing::Safetensors => "safetensors",
        Framing::Npy => "npy",
        Framing::Pickle => match open() {
            Some(contents) if is_legacy(&contents.source) => "legacy",
            _ => "pickle",
        },
        Framing::Zip => match open() {
            Some(contents) => zip_kind(contents),
            None => ZIP_ARCHIVE,
        },
        Framing::Tar => match open().and_then(|contents| Archive::open(&contents, &Silent).ok().flatten()) {
            Some(inner) if inner.tar().is_some_and(|tar| tar.is_torch()) => "tar",
            _ => TAR_ARCHIVE,
        },
        Framing::Compressed(compression) => {
            let contents = open()?;
            let limits = Limits { max_expanded_bytes: PEEK_BYTES, min_expanded_bytes: PEEK_BYTES, ..contents.limits };
            let (inner, _) = expand_left(&contents.source, compression, &limits, &Silent).ok()?;
            match detect(inner.as_ref()).ok()? {
                Framing::Tar => TAR_ARCHIVE,
                Framing::ShardIndex => return None,
                _ => compression.name(),
            }
        }
        Framing::ShardIndex => return None,
    })
}

fn zip_kind(contents: Contents) -> &'static str {
    match Zip::open(contents.source, &contents.limits).and_then(|zip| zip.flavor()) {
        Ok(flavor) => flavor_kind(flavor),
        Err(_) => ZIP_ARCHIVE,
    }
}

fn flavor_kind(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Torch => "zip",
        Flavor::TorchScript => "torchscript",
        Flavor::Pt2 => "pt2",
        Flavor::Package => "package",
        Flavor::Npz => "npz",
    }
}

/// What an archive is that is itself a checkpoint; nothing for one that at most holds some.
pub(super) fn kind_of_archive(archive: &Archive) -> Option<&'static str> {
    match archive.zip() {
        // one of several pickles is none before one of them is named
        Some(zip) => match zip.flavor().ok()? {
            Flavor::Package if zip.package_pickles().is_ok_and(|pickles| pickles.len() != 1) => None,
            flavor => Some(flavor_kind(flavor)),
        },
        None => archive.tar().filter(|tar| tar.is_torch()).map(|_| "tar"),
    }
}

/// The error of a member that is not there: says which checkpoints are.
pub(super) fn no_member(archive: &Archive, shown: &str, wanted: &str) -> Error {
    let mut found = checkpoints(archive);
    found.sort_by_cached_key(|inside| distance(&inside.name, wanted));
    let format = archive.format();
    let what = match wanted {
        "" => format!("the {format} archive's member is not named"),
        wanted => format!("the {format} archive has no member `{}`", wanted.escape_debug()),
    };
    Error::not_a_checkpoint(match found.as_slice() {
        [] if archive.names().count() > MAX_LOOKED_AT => {
            format!("{what}; none of the {MAX_LOOKED_AT} members that were looked at is a checkpoint")
        }
        [] => format!("{what}, and no member that is a checkpoint"),
        [only] => format!("{what}; its checkpoint is {}", named(shown, only)),
        several => format!("{what}; its checkpoints are {}", list(shown, several)),
    })
}

/// What to say of a file that is an archive of checkpoints instead of one; `e` where it is none.
pub(crate) fn explain(e: Error, contents: &Contents, shown: &str) -> Error {
    if e.kind() != ErrorKind::NotACheckpoint {
        return e;
    }
    let Ok(Some(archive)) = Archive::open(contents, &Silent) else { return e };
    // an archive that is a checkpoint has an error of its own
    if kind_of_archive(&archive).is_some() {
        return e;
    }
    let what = archive_kind(&archive);
    match checkpoints(&archive).as_slice() {
        [] => e,
        [only] if only.is_archive() => Error::not_a_checkpoint(format!(
            "is {what} around a {}; look into that with `ckpt ls {}`",
            only.kind,
            address_of(shown, only)
        )),
        [only] => Error::not_a_checkpoint(format!(
            "is {what} around a checkpoint ({}); open that with `ckpt ls {}`",
            only.kind,
            address_of(shown, only)
        )),
        several => Error::not_a_checkpoint(format!(
            "is {what} of {}; name one of them: {}",
            counted(several),
            list(shown, several)
        )),
    }
}

/// Who makes such archives, where its members say so.
pub(super) fn archive_kind(archive: &Archive) -> &'static str {
    let has = |name: &str| archive.find(name).is_some();
    if archive.zip().is_some_and(|zip| matches!(zip.flavor(), Ok(Flavor::Package))) {
        "a torch.package archive"
    } else if has("MAR-INF/MANIFEST.json") {
        "a TorchServe archive"
    } else if has("model_config.yaml") && archive.names().any(|name| name.ends_with(".ckpt")) {
        "a NeMo archive"
    } else if has("_stable_baselines3_version") {
        "a stable-baselines3 archive"
    } else if archive.zip().is_some() {
        "a zip archive"
    } else {
        "a tar archive"
    }
}

fn counted(all: &[Inside]) -> String {
    let archives = all.iter().filter(|inside| inside.is_archive()).count();
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match (all.len() - archives, archives) {
        (checkpoints, 0) => plural(checkpoints, "checkpoint"),
        (0, archives) => plural(archives, "archive"),
        (checkpoints, archives) => format!("{} and {}", plural(checkpoints, "checkpoint"), plural(archives, "archive")),
    }
}

fn list(shown: &str, all: &[Inside]) -> String {
    let names: Vec<String> = all.iter().take(SHOWN).map(|inside| named(shown, inside)).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn named(shown: &str, inside: &Inside) -> String {
    format!("{} ({})", address_of(shown, inside), inside.kind)
}

fn address_of(shown: &str, inside: &Inside) -> String {
    let name = format!("{shown}{SEPARATOR}{}", inside.name);
    match shown {
        // what begins with a dash, and is no option
        "-" => plain(&name),
        shown if shown.starts_with('-') => quoted(&format!("./{name}")),
        _ => quoted(&name),
    }
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    match word.starts_with('-') {
        true => in_quotes(&escaped(word)),
        false => plain(word),
    }
}

fn escaped(word: &str) -> String {
    word.escape_debug().collect::<String>().replace("\\'", "'").replace("\\\"", "\"")
}

/// The same, without quotes for a dash.
fn plain(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@%+=,".contains(c);
    let word = escaped(word);
    if !word.is_empty() && word.chars().all(plain) { word } else { in_quotes(&word) }
}

fn in_quotes(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// How many characters must change to turn one name into the other; a name that ends with the other is near.
fn distance(name: &str, wanted: &str) -> usize {
    if !wanted.is_empty() && !name.is_empty() && (name.ends_with(wanted) || wanted.ends_with(name)) {
        return 0;
    }
    let (a, b): (Vec<char>, Vec<char>) = (name.chars().take(200).collect(), wanted.chars().take(200).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row, vec![i + 1]).into_iter();
        let mut before = diagonal.next().unwrap_or_default();
        for (y, above) in b.iter().zip(diagonal) {
            let left = row.last().copied().unwrap_or_default();
            row.push((before + usize::from(x != y)).min(above + 1).min(left + 1));
            before = above;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_a_shell() {
        assert_eq!(quoted("a.zip::b/c.pt"), "a.zip::b/c.pt");
        assert_eq!(quoted("my file.zip::b"), "'my file.zip::b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("-::a.pt"), "'-::a.pt'");
        assert_eq!(quoted("a\nb"), r"'a\nb'");
        assert_eq!(quoted("$(x)"), "'$(x)'");
    }

    #[test]
    fn names_that_begin_with_a_dash_are_no_options() {
        let inside = Inside { name: "m.pt".into(), kind: "zip", at: At::Member(0) };
        assert_eq!(address_of("-", &inside), "-::m.pt");
        assert_eq!(address_of("-x.zip", &inside), "./-x.zip::m.pt");
    }

    #[test]
    fn near_names_come_first() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("weights/model.pt", "model.pt"), 0);
        assert_eq!(distance("", "abc"), 3);
    }
}
