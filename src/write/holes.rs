//! Holes of sparse files: what was never written reads as zeros and takes no room, and so it shall be in the copy.

use std::fs::File;
use std::io;
use std::ops::Range;

/// Whether a file takes less room than it has bytes.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) fn is_sparse(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|meta| meta.blocks().saturating_mul(512) < meta.len())
}

/// The first run of data in `range` of the file; what lies before it is a hole. Empty at the range's end when all of it is
/// one. Moves the file's cursor. Fails with `UnexpectedEof` when the file ends before the range does.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) fn next_data(file: &File, range: Range<u64>) -> io::Result<Range<u64>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    let start = match seek(file, SeekFrom::Data(range.start)) {
        Ok(start) => start.min(range.end),
        Err(Errno::NXIO) => range.end,
        // a file system that knows no holes
        Err(_) => return Ok(range),
    };
    let end = match seek(file, SeekFrom::Hole(start)) {
        Ok(end) if start < range.end => end.clamp(start, range.end),
        _ => range.end,
    };
    // past the end there is nothing, which looks like a hole
    if file.metadata()?.len() < range.end {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(start..end)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) fn is_sparse(_: &File) -> bool {
    false
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) fn next_data(_: &File, range: Range<u64>) -> io::Result<Range<u64>> {
    Ok(range)
}
