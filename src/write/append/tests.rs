use std::sync::Arc;

use super::*;
use crate::checkpoint::edit::rules::{Rules, Step};
use crate::checkpoint::{Checkpoint, names::join};
use crate::container::zip::tail::interrupted;
use crate::error::ErrorKind;
use crate::limits::Limits;
use crate::progress::Silent;
use crate::source::{MemorySource, SharedSource};
use crate::write::rewrite::Change;

/// A disk in memory that stops working after so many steps.
#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    steps: Vec<&'static str>,
    works: Option<usize>,
    broken: bool,
}

impl Disk {
    fn step(&mut self, name: &'static str) -> io::Result<()> {
        if self.broken || self.works == Some(self.steps.len()) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.steps.push(name);
        Ok(())
    }
}

impl Medium for Disk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // what cannot be finished is written in part
        let result = self.step("write");
        let offset = usize::try_from(offset).unwrap();
        let bytes = if result.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.bytes.truncate(offset);
        self.bytes.extend_from_slice(bytes);
        result
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.step("fdatasync")
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.step("fsync")
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the disk is gone"));
        }
        self.works = None;
        self.bytes.truncate(usize::try_from(len).unwrap());
        Ok(())
    }
}

fn fixture() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/torch-2.15-py311/dataparallel_state.pth");
    std::fs::read(path).unwrap()
}

fn source(bytes: &[u8]) -> SharedSource {
    Arc::new(MemorySource::new(bytes.to_vec()))
}

fn open(bytes: &[u8]) -> Result<Checkpoint> {
    Checkpoint::open(source(bytes), &Limits::default(), &Silent)
}

fn names(bytes: &[u8]) -> Vec<String> {
    let checkpoint = open(bytes).unwrap();
    let names = checkpoint.names(&checkpoint.top()).unwrap();
    names.entries.iter().map(|entry| join(&entry.path)).collect()
}

/// Edits what `disk` holds; the steps are counted from here.
fn edit(disk: &mut Disk, step: Step) -> Result<u64> {
    let checkpoint = open(&disk.bytes).unwrap();
    let plan = checkpoint.plan_renames(&checkpoint.top(), &Rules(vec![step]), None).unwrap();
    let zip = checkpoint.zip().unwrap();
    append(disk, zip, &Change::of_renames(&checkpoint, &plan).unwrap().members(zip).unwrap())
}

fn strip() -> Step {
    Step::StripPrefix("module.".into())
}

#[test]
fn the_other_entries_of_the_directory_keep_their_bytes() {
    let old = fixture();
    let zip = open(&old).unwrap().zip().cloned().unwrap();
    let mut disk = Disk { bytes: old.clone(), ..Disk::default() };
    edit(&mut disk, strip()).unwrap();
    let new = open(&disk.bytes).unwrap().zip().cloned().unwrap();
    let entries = |bytes: &[u8], start: u64| -> Vec<Vec<u8>> {
        let directory = &bytes[usize::try_from(start).unwrap()..];
        let end = directory.windows(4).position(|window| window == b"PK\x06\x06").unwrap_or(directory.len());
        let starts: Vec<usize> =
            directory[..end].windows(4).enumerate().filter(|(_, w)| *w == b"PK\x01\x02").map(|(at, _)| at).collect();
        let ends = starts.iter().skip(1).copied().chain([end]);
        starts.iter().zip(ends).map(|(start, end)| directory[*start..end].to_vec()).collect()
    };
    let before = entries(&old, zip.central_directory_start);
    let after = entries(&disk.bytes, new.central_directory_start);
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!((before.len(), after.len(), changed), (zip.members.len(), zip.members.len(), 1));
}

#[test]
fn the_old_bytes_stay_and_the_end_comes_last() {
    let old = fixture();
    let mut disk = Disk { bytes: old.clone(), ..Disk::default() };
    let appended = edit(&mut disk, strip()).unwrap();
    assert_eq!(disk.bytes[..old.len()], old);
    assert_eq!(disk.bytes.len() - old.len(), usize::try_from(appended).unwrap());
    assert_eq!(disk.steps, ["write", "write", "write", "fdatasync", "write", "fsync"]);
    let stripped: Vec<String> = names(&old).iter().map(|name| name.replacen("module.", "", 1)).collect();
    assert_eq!(names(&disk.bytes), stripped);
    // the zip crate, which is another reader, finds the new member and a right CRC
    let mut zip = ::zip::ZipArchive::new(io::Cursor::new(&disk.bytes)).unwrap();
    for index in 0..zip.len() {
        io::copy(&mut zip.by_index(index).unwrap(), &mut io::sink()).unwrap();
    }
    // and once more
    edit(&mut disk, Step::AddPrefix("module.".into())).unwrap();
    assert_eq!(names(&disk.bytes), names(&old));
}

#[test]
fn a_kill_at_any_byte_is_recognised_and_mended() {
    let old = fixture();
    let mut disk = Disk { bytes: old.clone(), ..Disk::default() };
    edit(&mut disk, strip()).unwrap();
    let new = disk.bytes;
    let whole = open(&new).unwrap().zip().cloned().unwrap().central_directory_start;
    let (mut undone, mut finished) = (0, 0);
    // every byte where a step begins or ends, every seventh in between
    let near = |cut: &usize| cut - old.len() < 200 || (*cut as u64).abs_diff(whole) < 100 || new.len() - cut < 120;
    for cut in (old.len() + 1..new.len()).filter(|cut| near(cut) || cut % 7 == 0) {
        let broken = &new[..cut];
        let e = open(broken).unwrap_err();
        assert!(e.kind() == ErrorKind::Truncated && e.to_string().contains("ckpt repair"), "{cut}: {e}");
        let unfinished = interrupted(&source(broken)).unwrap().unwrap();
        assert_eq!(unfinished.old_len, old.len() as u64);
        let mut disk = Disk { bytes: broken.to_vec(), ..Disk::default() };
        mend(&mut disk, &unfinished).unwrap();
        match unfinished.finish {
            Some(_) => {
                assert!(cut as u64 >= whole && disk.bytes == new, "{cut}");
                finished += 1;
            }
            None => {
                assert!(disk.bytes == old, "{cut}");
                undone += 1;
            }
        }
    }
    assert!(undone > 400 && finished > 90, "{undone} {finished}");
    assert!(interrupted(&source(&old)).unwrap().is_none() && interrupted(&source(&new)).unwrap().is_none());
}

#[test]
fn bytes_that_never_reached_the_disk_are_undone() {
    let old = fixture();
    let mut disk = Disk { bytes: old.clone(), ..Disk::default() };
    edit(&mut disk, strip()).unwrap();
    let new = disk.bytes;
    // the pickle's bytes are zeros, the directory after them is there
    let mut holed = new.clone();
    holed[old.len() + 200..old.len() + 600].fill(0);
    holed.truncate(new.len() - 30);
    let unfinished = interrupted(&source(&holed)).unwrap().unwrap();
    assert_eq!((unfinished.old_len, unfinished.finish), (old.len() as u64, None));
    // nothing but zeros, too many of them for any reader to find the old end
    let mut zeros = old.clone();
    zeros.resize(old.len() + 200_000, 0);
    assert!(open(&zeros).unwrap_err().to_string().contains("ckpt repair"));
    assert_eq!(interrupted(&source(&zeros)).unwrap().unwrap().old_len, old.len() as u64);
}

#[test]
fn a_disk_that_fails_leaves_the_old_file_or_a_mendable_one() {
    let old = fixture();
    for works in 0..6 {
        let mut disk = Disk { bytes: old.clone(), works: Some(works), ..Disk::default() };
        let e = edit(&mut disk, strip()).unwrap_err();
        assert!(e.to_string().contains("the disk is gone") && disk.bytes == old, "{works}: {e}");
    }
    // it cannot even be cut off again
    let mut disk = Disk { bytes: old.clone(), broken: true, ..Disk::default() };
    let e = edit(&mut disk, strip()).unwrap_err();
    assert!(e.to_string().contains("ckpt repair"), "{e}");
    mend(&mut Disk::default(), &interrupted(&source(&disk.bytes)).unwrap().unwrap()).unwrap();
}

#[test]
fn what_follows_the_archive_is_not_appended_to() {
    let mut disk = Disk { bytes: [&fixture()[..], b"something"].concat(), ..Disk::default() };
    let e = edit(&mut disk, strip()).unwrap_err();
    assert!(e.to_string().contains("9 bytes follow"), "{e}");
    assert!(disk.steps.is_empty());
}
