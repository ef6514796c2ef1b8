//! Output that appears whole or not at all: written beside its target under a recognisable name, synced, renamed.
//!
//! The temporary file of `model.pt` is `.model.pt.ckpt-tmp-XXXXXX`. It is removed on errors and on SIGHUP, SIGINT and
//! SIGTERM; what a kill leaves is harmless, and the next run with the same target removes it. The old target stays as it
//! is until the rename.

use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;

use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, Setting};
use crate::source::{Source, url};
use crate::write::interrupt::{self, Undo};
use crate::write::writeback::Writeback;
use crate::write::{holes, leftovers};

/// Small writes are gathered up to this many bytes; copies between sources go in blocks of as many.
const BUFFER_BYTES: usize = 1 << 20;
/// Writes of so many bytes go straight to the file.
const DIRECT_BYTES: usize = 64 << 10;
/// What a kernel-to-kernel copy moves before progress is told.
const KERNEL_COPY_BYTES: u64 = 64 << 20;
/// How often somebody may remove what was just made before it is locked.
const MAX_ATTEMPTS: usize = 16;

/// Where output will go, checked before anything is written.
#[derive(Debug, Clone)]
pub enum Target {
    /// A regular file, existing or new.
    File {
        /// The file, links followed.
        path: PathBuf,
        /// Whether it may exist already.
        force: bool,
    },
    /// Standard output.
    Stdout,
    /// Bytes in memory.
    Memory(Memory),
}

/// Bytes that an output replaces once it is complete, as it would a file's.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// Takes the bytes out; nothing where no output was completed.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, bytes: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }
}

impl Target {
    /// Checks that `path` can be written: `-` is standard output (never a terminal); an existing file, `input` itself
    /// included, needs `force`; its directory must exist; what is no regular file is refused.
    pub fn new(path: &Path, force: bool, input: Option<&Path>) -> Result<Self> {
        if path.as_os_str() == "-" {
            if io::stdout().is_terminal() {
                return Err(fail("refusing to write a checkpoint to a terminal; redirect it or name a file"));
            }
            return Ok(Target::Stdout);
        }
        if path.file_name().is_none() {
            return Err(fail("is not a file name"));
        }
        let Ok(link) = fs::symlink_metadata(path) else {
            if let Some(url) = url(path) {
                return Err(url);
            }
            let dir = directory(path);
            return match fs::metadata(dir) {
                Ok(meta) if meta.is_dir() => Ok(Target::File { path: path.to_owned(), force }),
                Ok(_) => Err(fail(format!("{} is not a directory", dir.display()))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    Err(fail(format!("the directory {} does not exist", dir.display())))
                }
                Err(e) => Err(e.into()),
            };
        };
        // through a link, the file it leads to is replaced
        let path = if link.is_symlink() { fs::canonicalize(path)? } else { path.to_owned() };
        let meta = fs::metadata(&path)?;
        if meta.is_dir() {
            return Err(fail("is a directory"));
        }
        if !meta.is_file() {
            return Err(fail("is not a regular file; `-` is standard output"));
        }
        if !force {
            let same = input.is_some_and(|input| is_same_file(input, &path));
            return Err(match same {
                true => fail("is the input itself")
                    .advise(Setting::Force.then(" replaces it once the new file is complete")),
                false => exists(),
            });
        }
        Ok(Target::File { path, force })
    }

    /// Bytes that a new file may take where the target lies; `None` where nobody says.
    pub fn free_bytes(&self) -> Option<u64> {
        let Target::File { path, .. } = self else { return None };
        free_bytes(directory(path))
    }

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

fn fail(message: impl Into<Message>) -> Error {
    Error::new(ErrorKind::Io, message)
}

fn exists() -> Error {
    fail("exists already").advise(Setting::Force.then(" replaces it"))
}

/// The directory that holds a file.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether two paths lead to one file.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b || same_inode(&a, &b))
}

#[cfg(unix)]
fn same_inode(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    id(a).is_some_and(|of_a| Some(of_a) == id(b))
}

#[cfg(not(unix))]
fn same_inode(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(unix)]
fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

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

/// The file beside the target, removed when dropped.
#[derive(Debug)]
struct Temporary {
    file: NamedTempFile,
    target: PathBuf,
    force: bool,
    _guard: interrupt::Guard,
}

impl Temporary {
    fn beside(target: &Path, force: bool) -> Result<Self> {
        let dir = directory(target);
        leftovers::remove(target, dir);
        let prefix = leftovers::prefix(target);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let make = || {
            let file = builder.tempfile_in(dir)?;
            let path = file.path().to_owned();
            Ok((file, Undo::File(path)))
        };
        let (file, guard) = held(make, |file: &NamedTempFile| leftovers::hold(file.as_file()))
            .map_err(|e| fail(format!("cannot write in {}: {e}", dir.display())))?;
        if let Some(mode) = existing_mode(target) {
            file.as_file().set_permissions(mode)?;
        }
        Ok(Temporary { file, target: target.to_owned(), force, _guard: guard })
    }

    fn commit(self) -> Result<()> {
        self.file.as_file().sync_all()?;
        let persisted = match self.force {
            true => self.file.persist(&self.target),
            // somebody else may have made the target meanwhile
            false => self.file.persist_noclobber(&self.target),
        };
        persisted.map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => exists(),
            _ => Error::from(e.error),
        })?;
        sync_directory(directory(&self.target))
    }
}

/// Makes something that a signal undoes, and locks it. Nobody may come between it and the list of what a signal undoes;
/// who removes leftovers may come before the lock.
pub(super) fn held<T>(
    make: impl Fn() -> io::Result<(T, Undo)>,
    hold: impl Fn(&T) -> io::Result<bool>,
) -> io::Result<(T, interrupt::Guard)> {
    for _ in 0..MAX_ATTEMPTS {
        let (made, guard) = interrupt::guard(&make)?;
        if hold(&made)? {
            return Ok((made, guard));
        }
    }
    Err(io::Error::other("temporary files are removed as soon as they are made"))
}

/// The mode bits of a file that will be replaced.
fn existing_mode(target: &Path) -> Option<Permissions> {
    fs::metadata(target).ok().map(|meta| meta.permissions())
}

#[cfg(unix)]
fn sync_directory(dir: &Path) -> Result<()> {
    Ok(File::open(dir)?.sync_all()?)
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> Result<()> {
    Ok(())
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
    pub fn position(&self) -> u64 {
        self.written
    }

    fn start_writeback(&mut self) {
        if let Sink::File(temporary) = &self.sink {
            self.writeback.reached(temporary.file.as_file(), self.written);
        }
    }

    /// Gives the new file the owner, group and mode of `file`, which it is to replace. Fails where the system does not
    /// let us; standard output has nothing to give.
    #[cfg(unix)]
    pub fn keep_owner(&self, file: &File) -> Result<()> {
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
    pub fn keep_owner(&self, _: &File) -> Result<()> {
        Ok(())
    }

    /// The file, when it can be read again and written at any place: a new file, not standard output. Everything written so
    /// far is in it.
    pub fn seekable(&mut self) -> Result<Option<&File>> {
        self.flush()?;
        Ok(match &self.sink {
            Sink::File(temporary) => Some(temporary.file.as_file()),
            Sink::Stdout(_) | Sink::Memory(..) => None,
        })
    }

    /// Copies `len` bytes of `source` from `offset` on, inside the kernel where they lie in a file as they are.
    /// `advance` hears how many bytes more are done.
    pub fn copy(&mut self, source: &dyn Source, offset: u64, len: u64, advance: &dyn Fn(u64)) -> Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > source.len()) {
            return Err(crate::source::past_end(source, offset, len));
        }
        if len > BUFFER_BYTES as u64
            && self.sink.file().is_some()
            && let Some((from, position)) = source.as_file(offset)
        {
            self.flush()?;
            return self.copy_in_kernel(from, position, len, advance).map_err(|e| e.at(source.absolute(offset)));
        }
        self.copy_in_blocks(source, offset, len, advance)
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
    pub fn settle(&mut self) -> Result<()> {
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
    use std::sync::Arc;

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.pt");
        let mut output = Target::new(&path, false, None).unwrap().create().unwrap();
        output.write_all(b"abc").unwrap();
        assert!(names(dir.path())[0].starts_with(".out.pt.ckpt-tmp-"), "{:?}", names(dir.path()));
        drop(output);
        assert!(names(dir.path()).is_empty());
        let mut output = Target::new(&path, false, None).unwrap().create().unwrap();
        output.write_all(b"abc").unwrap();
        output.commit().unwrap();
        assert_eq!(names(dir.path()), ["out.pt"]);
        assert_eq!(fs::read(&path).unwrap(), b"abc");
    }

    #[test]
    fn an_existing_target_needs_force_even_when_it_appears_late() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.pt");
        let output = Target::new(&path, false, None).unwrap().create().unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(output.commit().unwrap_err().to_string().contains("force replaces it"));
        assert!(Target::new(&path, false, None).unwrap_err().to_string().contains("force replaces it"));
        assert!(Target::new(&path, false, Some(&path)).unwrap_err().to_string().contains("the input itself"));
        let mut output = Target::new(&path, true, Some(&path)).unwrap().create().unwrap();
        output.write_all(b"ours").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
    }

    #[cfg(unix)]
    #[test]
    fn modes_stay_and_links_are_followed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        Target::new(&link, true, None).unwrap().create().unwrap().commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        // a new file gets what the umask says, as any other new file does
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        Target::new(&ours, false, None).unwrap().create().unwrap().commit().unwrap();
        fs::write(&theirs, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&theirs));
    }

    #[test]
    fn what_cannot_be_a_target() {
        let dir = tempfile::tempdir().unwrap();
        let say = |path: &Path| Target::new(path, true, None).unwrap_err().to_string();
        assert!(say(&dir.path().join("no/out.pt")).contains("does not exist"));
        assert_eq!(say(dir.path()), "is a directory");
        assert!(say(Path::new("..")).contains("not a file name"));
        #[cfg(unix)]
        assert!(say(Path::new("/dev/null")).contains("not a regular file"));
    }

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
