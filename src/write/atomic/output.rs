//! Output being written: small writes gathered, copies inside the kernel, holes kept.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::Result;
use crate::source::Source;
use crate::write::atomic::target::{Memory, Target, fail};
use crate::write::atomic::temporary::Temporary;
use crate::write::holes;
use crate::write::writeback::Writeback;

/// Small writes are gathered up to this many bytes; copies between sources go in blocks of as many.
const BUFFER_BYTES: usize = 1 << 20;
/// Writes of so many bytes go straight to the file.
const DIRECT_BYTES: usize = 64 << 10;
/// What a kernel-to-kernel copy moves before progress is told.
const KERNEL_COPY_BYTES: u64 = 64 << 20;

/// Standard output as a file, without the line buffer of [`io::Stdout`].
#[cfg(unix)]
fn stdout_file() -> Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(windows)]
fn stdout_file() -> Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdout().as_handle().try_clone_to_owned()?))
}

#[derive(Debug)]
enum Sink {
    File(Box<Temporary>),
    Stdout(File),
    Memory(Vec<u8>, Memory),
}

impl Sink {
    /// The file that bytes go to, where it is one.
    fn file(&self) -> Option<&File> {
        match self {
            Sink::File(temporary) => Some(temporary.file.as_file()),
            Sink::Stdout(file) => Some(file),
            Sink::Memory(..) => None,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::File(temporary) => temporary.file.as_file_mut().write_all(bytes),
            Sink::Stdout(file) => file.write_all(bytes),
            Sink::Memory(written, _) => written.write_all(bytes),
        }
    }
}

impl Target {
    /// Starts writing.
    pub fn create(&self) -> Result<Output> {
        let sink = match self {
            Target::Stdout => Sink::Stdout(stdout_file()?),
            Target::File { path, force } => Sink::File(Box::new(Temporary::beside(path, *force)?)),
            Target::Memory(memory) => Sink::Memory(Vec::new(), memory.clone()),
        };
        Ok(Output { sink, buffer: Vec::new(), written: 0, has_holes: false, writeback: Writeback::default() })
    }
}

/// Output being written. Dropped without [`Output::commit`], a file's target stays as it was.
#[derive(Debug)]
pub struct Output {
    sink: Sink,
    buffer: Vec<u8>,
    written: u64,
    /// The last of them may be the file's end, which has to be said.
    has_holes: bool,
    writeback: Writeback,
}

impl Output {
    /// Bytes written so far.
    pub(crate) fn position(&self) -> u64 {
        self.written
    }

    /// The file that it replaces, if it is for one.
    pub(in crate::write) fn path(&self) -> Option<&Path> {
        match &self.sink {
            Sink::File(temporary) => Some(temporary.target()),
            Sink::Stdout(_) | Sink::Memory(..) => None,
        }
    }

    fn start_writeback(&mut self) {
        if let Sink::File(temporary) = &self.sink {
            self.writeback.reached(temporary.file.as_file(), self.written);
        }
    }

    /// Gives the new file the owner, group and mode of `file`, which it is to replace. Fails where the system does not
    /// let us; standard output has nothing to give.
    #[cfg(unix)]
    pub(crate) fn keep_owner(&self, file: &File) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let Sink::File(temporary) = &self.sink else { return Ok(()) };
        let (wanted, ours) = (file.metadata()?, temporary.file.as_file());
        let now = ours.metadata()?;
        if (wanted.uid(), wanted.gid()) != (now.uid(), now.gid()) {
            std::os::unix::fs::fchown(ours, Some(wanted.uid()), Some(wanted.gid()))
                .map_err(|e| fail(format!("the new file cannot be given the owner of the old one: {e}")))?;
        }
        // a change of owner takes bits away
        Ok(ours.set_permissions(wanted.permissions())?)
    }

    /// Files here have no owner to keep.
    #[cfg(not(unix))]
    pub(crate) fn keep_owner(&self, _: &File) -> Result<()> {
        Ok(())
    }

    /// Copies `len` bytes of `source` from `offset` on, inside the kernel where they lie in a file as they are.
    /// `advance` hears how many bytes more are done.
    pub(crate) fn copy(&mut self, source: &dyn Source, offset: u64, len: u64, advance: &dyn Fn(u64)) -> Result<()> {
        crate::source::check_range(source, offset, len)?;
        let (mut at, end) = (offset, offset + len);
        source.announce(at..end);
        while at < end {
            let left = end - at;
            // what lies in pieces is copied piece by piece
            let run = source.as_file_run(at).filter(|(.., run)| *run > 0);
            let part = run.map_or(left, |(.., run)| run.min(left));
            match run {
                Some((from, position, _)) if part > BUFFER_BYTES as u64 && self.sink.file().is_some() => {
                    self.flush()?;
                    let copied = self.copy_in_kernel(from, position, part, advance);
                    copied.map_err(|e| e.at(source.absolute(at)))?;
                }
                _ => self.copy_in_blocks(source, at, part, advance)?,
            }
            at += part;
        }
        Ok(())
    }

    /// Copies data to the sink's file and passes over the holes of a sparse one, so that they are holes in the new file.
    fn copy_in_kernel(&mut self, from: &File, position: u64, len: u64, advance: &dyn Fn(u64)) -> Result<()> {
        let sparse = matches!(self.sink, Sink::File(_)) && holes::is_sparse(from);
        let shorter = || fail("the file became shorter while it was read");
        let (mut at, end) = (position, position.saturating_add(len));
        while at < end {
            let data = match sparse {
                true => holes::next_data(from, at..end).map_err(|e| match e.kind() {
                    io::ErrorKind::UnexpectedEof => shorter(),
                    _ => e.into(),
                })?,
                false => at..end,
            };
            self.pass_over(data.start - at)?;
            advance(data.start - at);
            at = data.start;
            let mut from = from;
            from.seek(SeekFrom::Start(at))?;
            while at < data.end {
                let part = (data.end - at).min(KERNEL_COPY_BYTES);
                let Some(mut to) = self.sink.file() else { return Ok(()) };
                if io::copy(&mut from.take(part), &mut to)? < part {
                    return Err(shorter());
                }
                self.written += part;
                self.start_writeback();
                advance(part);
                at += part;
            }
        }
        Ok(())
    }

    /// Leaves a hole of so many bytes.
    fn pass_over(&mut self, bytes: u64) -> Result<()> {
        if let Some(mut file) = self.sink.file().filter(|_| bytes > 0) {
            self.written += bytes;
            self.has_holes = true;
            file.seek(SeekFrom::Start(self.written))?;
        }
        Ok(())
    }

    fn copy_in_blocks(&mut self, source: &dyn Source, offset: u64, len: u64, advance: &dyn Fn(u64)) -> Result<()> {
        let mut block = vec![0; usize::try_from(len).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES)];
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let take = usize::try_from(end - at).unwrap_or(BUFFER_BYTES).min(block.len());
            let part = block.split_at_mut(take).0;
            source.read_at(at, part)?;
            self.write_all(part)?;
            at += take as u64;
            advance(take as u64);
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<()> {
        self.flush()?;
        if let Some(file) = self.sink.file().filter(|_| self.has_holes) {
            file.set_len(self.written)?;
        }
        Ok(std::mem::take(&mut self.writeback).finish()?)
    }

    /// Everything is written, but other outputs have to be before it gets its name: has it on the disk meanwhile.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.complete()?;
        match &self.sink {
            Sink::File(temporary) => Ok(temporary.file.as_file().sync_data()?),
            Sink::Stdout(_) | Sink::Memory(..) => Ok(()),
        }
    }

    /// Everything is written: syncs it and gives it its name.
    pub fn commit(mut self) -> Result<()> {
        self.complete()?;
        match self.sink {
            Sink::File(temporary) => temporary.commit(),
            Sink::Stdout(_) => Ok(()),
            Sink::Memory(written, memory) => {
                memory.replace(written);
                Ok(())
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES || bytes.len() >= DIRECT_BYTES {
            self.flush()?;
        }
        if bytes.len() >= DIRECT_BYTES {
            self.sink.write_all(bytes)?;
            self.start_writeback();
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let buffered = std::mem::take(&mut self.buffer);
        self.sink.write_all(&buffered)?;
        self.buffer = buffered;
        self.buffer.clear();
        self.start_writeback();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{FileSource, MemorySource, Window};
    use std::fs;
    use std::sync::Arc;

    #[cfg(target_os = "linux")]
    #[test]
    fn holes_stay_holes() {
        use std::os::unix::fs::{FileExt, MetadataExt};
        const MIB: u64 = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("in"), dir.path().join("out"));
        let file = File::create(&from).unwrap();
        file.set_len(64 * MIB).unwrap();
        file.write_all_at(b"head", 3 * MIB).unwrap();
        file.write_all_at(&[7; 5000], 40 * MIB + 123).unwrap();
        let source = FileSource::open(&from).unwrap();
        let ranges = [(0, 64 * MIB), (MIB + 1, 30 * MIB), (50 * MIB, 14 * MIB), (40 * MIB, 2 * MIB)];
        for (offset, len) in ranges {
            let mut output = Target::new(&to, true, None).unwrap().create().unwrap();
            output.write_all(b"before").unwrap();
            let copied = std::cell::Cell::new(0);
            output.copy(&source, offset, len, &|bytes| copied.set(copied.get() + bytes)).unwrap();
            output.commit().unwrap();
            assert_eq!(copied.get(), len);
            let (start, end) = (usize::try_from(offset).unwrap(), usize::try_from(offset + len).unwrap());
            assert!(fs::read(&to).unwrap() == [b"before", &fs::read(&from).unwrap()[start..end]].concat(), "{offset}");
            assert!(fs::metadata(&to).unwrap().blocks() * 512 < MIB, "{offset}: it takes room");
        }
        file.set_len(50 * MIB).unwrap();
        let mut output = Target::new(&to, true, None).unwrap().create().unwrap();
        let e = output.copy(&source, 0, 64 * MIB, &|_| ()).unwrap_err();
        assert!(e.to_string().contains("became shorter"), "{e}");
    }

    #[test]
    fn copies_from_files_and_memory() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
        fs::write(dir.path().join("in"), &bytes).unwrap();
        let file = Arc::new(FileSource::open(&dir.path().join("in")).unwrap());
        let window = Window::new(file, 10, 2_500_000).unwrap();
        let mut output = Target::new(&dir.path().join("out"), false, None).unwrap().create().unwrap();
        output.write_all(b"head").unwrap();
        output.copy(&window, 5, 2_000_000, &|_| ()).unwrap();
        output.copy(&MemorySource::new(bytes.clone()), 7, 1_500_000, &|_| ()).unwrap();
        assert!(output.copy(&window, 5, 2_500_000, &|_| ()).is_err());
        assert_eq!(output.position(), 3_500_004);
        output.commit().unwrap();
        let want = [b"head", &bytes[15..2_000_015], &bytes[7..1_500_007]].concat();
        assert!(fs::read(dir.path().join("out")).unwrap() == want);
    }
}
