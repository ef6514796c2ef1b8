use std::io;
use std::sync::Arc;

use super::*;
use crate::container::redo::{begun, whole};
use crate::source::MemorySource;

/// A disk in memory that stops working after so many bytes have been written.
struct Disk {
    bytes: Vec<u8>,
    left: usize,
    steps: Vec<&'static str>,
}

impl Disk {
    fn of(bytes: &[u8], left: usize) -> Self {
        Disk { bytes: bytes.to_vec(), left, steps: Vec::new() }
    }
}

fn gone() -> io::Error {
    io::Error::other("the disk is gone")
}

impl Medium for Disk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.steps.push("write");
        let offset = usize::try_from(offset).unwrap();
        // what cannot be finished is written in part
        let some = &bytes[..bytes.len().min(self.left)];
        self.bytes.resize(self.bytes.len().max(offset + some.len()), 0);
        self.bytes[offset..offset + some.len()].copy_from_slice(some);
        self.left -= some.len();
        if some.len() < bytes.len() { Err(gone()) } else { Ok(()) }
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.steps.push("fdatasync");
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.steps.push("fsync");
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.steps.push("cut");
        if self.left == 0 {
            return Err(gone());
        }
        self.bytes.truncate(usize::try_from(len).unwrap());
        Ok(())
    }

    fn no_way_back(&mut self) {
        self.steps.push("no way back");
    }
}

fn source(bytes: &[u8]) -> SharedSource {
    Arc::new(MemorySource::new(bytes.to_vec()))
}

const OLD: &[u8] = b"0123456789abcdefghij";
const NEW: &[u8] = b"01ABCD6789abcdXYgh";

fn writes() -> Vec<(u64, SharedSource)> {
    vec![(2, source(b"ABCD")), (14, source(b"XY"))]
}

fn edit(disk: &mut Disk) -> Result<u64> {
    over(disk, OLD.len() as u64, &writes(), NEW.len() as u64)
}

#[test]
fn the_log_is_on_the_disk_before_anything_changes() {
    let mut disk = Disk::of(OLD, usize::MAX);
    assert_eq!(edit(&mut disk).unwrap(), 6);
    assert_eq!(disk.bytes, NEW);
    let (log, then) = disk.steps.split_at(disk.steps.iter().position(|step| *step == "fsync").unwrap() + 1);
    assert!(log.iter().all(|step| ["write", "fsync"].contains(step)));
    assert_eq!(then, ["no way back", "write", "write", "fdatasync", "cut", "fsync"]);
}

#[test]
fn a_kill_at_any_byte_leaves_old_new_or_what_can_be_mended() {
    let mut all = Disk::of(OLD, usize::MAX);
    edit(&mut all).unwrap();
    let total = usize::MAX - all.left;
    let (mut undone, mut finished) = (0, 0);
    for left in 0..total {
        let mut disk = Disk::of(OLD, left);
        let e = edit(&mut disk).unwrap_err();
        assert!(e.to_string().contains("the disk is gone"), "{e}");
        if disk.bytes == OLD {
            continue;
        }
        let file = source(&disk.bytes);
        let unfinished = whole(&file).unwrap().or_else(|| begun(file.as_ref(), OLD.len() as u64).unwrap()).unwrap();
        let want = if unfinished.finish.is_some() { NEW } else { OLD };
        let mended = unfinished.mended(&file).unwrap();
        assert_eq!(read_vec(mended.as_ref(), 0, mended.len()).unwrap(), want, "{left}");
        let mut disk = Disk::of(&disk.bytes, usize::MAX);
        mend(&mut disk, &unfinished).unwrap();
        assert_eq!(disk.bytes, want, "{left}");
        if want == OLD { undone += 1 } else { finished += 1 }
    }
    assert!(undone > 50 && finished >= 6, "{undone} {finished}");
}

#[test]
fn other_bytes_are_no_log() {
    let mut disk = Disk::of(OLD, usize::MAX);
    log(&mut disk, OLD.len() as u64, &writes(), NEW.len() as u64).unwrap();
    assert!(whole(&source(&disk.bytes)).unwrap().is_some());
    for at in OLD.len()..disk.bytes.len() {
        let mut changed = disk.bytes.clone();
        changed[at] ^= 1;
        assert!(whole(&source(&changed)).unwrap().is_none(), "{at}");
    }
    for more in [&b"x"[..], b"ckpx", b"\0"] {
        assert!(begun(source(&[OLD, more].concat()).as_ref(), OLD.len() as u64).unwrap().is_none());
    }
    assert!(begun(source(OLD).as_ref(), OLD.len() as u64).unwrap().is_none());
}
