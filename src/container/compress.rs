//! Whole files that somebody compressed: expanded once, so that what is inside can be read out of order.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use bzip2::bufread::BzDecoder;
use flate2::bufread::{GzDecoder, ZlibDecoder};
use lzma_rust2::{LzmaReader, XzReader};

use crate::container::spool::{Spool, over};
use crate::container::zstd;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::Progress;
use crate::source::{Cursor, MemorySource, SharedSource, Window, read_vec};

/// How a file is compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 1950.
    Zlib,
    /// bzip2, one stream or several.
    Bzip2,
    /// `.xz`, one stream or several.
    Xz,
    /// The older `.lzma` ("LZMA alone").
    Lzma,
    /// Zstandard, one frame or several.
    Zstd,
    /// joblib before 0.10: `ZF`, the expanded length in hexadecimal, a zlib stream.
    JoblibZf,
}

impl Compression {
    /// The name for reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zlib | Compression::JoblibZf => "zlib",
            Compression::Bzip2 => "bz2",
            Compression::Xz => "xz",
            Compression::Lzma => "lzma",
            Compression::Zstd => "zstd",
        }
    }

    /// How many bytes of deflate take the time of one byte of this, at worst.
    fn cost(self) -> u64 {
        match self {
            Compression::Gzip | Compression::Zlib | Compression::JoblibZf | Compression::Zstd => 1,
            Compression::Xz | Compression::Lzma => 2,
            Compression::Bzip2 => 8,
        }
    }

    /// What so many expanded bytes of this take of a bound on all that is expanded.
    pub(crate) fn spent(self, expanded_bytes: u64, limits: &Limits) -> u64 {
        expanded_bytes.saturating_mul(if limits.is_expansion_chosen { 1 } else { self.cost() })
    }

    /// How many bytes `compressed_bytes` of this may expand to.
    pub(crate) fn bound(self, compressed_bytes: u64, limits: &Limits) -> u64 {
        limits.expanded_at_cost(compressed_bytes, self.cost())
    }
}

/// What a source was expanded to.
struct Expansion {
    compression: Compression,
    /// The bytes that were allowed.
    bound: u64,
    source: SharedSource,
    /// Why there are no more.
    stopped: Option<Error>,
}

impl Expansion {
    /// Whether it is what comes of it under this bound too.
    fn serves(&self, compression: Compression, bound: u64) -> bool {
        let is_stopped = self.stopped.as_ref().is_some_and(|e| e.kind() == ErrorKind::Limit);
        let fits = if is_stopped { self.bound == bound } else { self.source.len() <= bound };
        self.compression == compression && fits
    }
}

/// Memory that an xz or lzma decoder may take, in KiB; what `xz -9` wrote needs 65 MiB.
const LZMA_MEMORY_KIB: u32 = 80 << 10;

/// How a stream of gzip begins.
const GZIP_FIRST: u8 = 0x1f;
/// `ZF`, then `len(hex(2 ** 64))` characters (`joblib/numpy_pickle_compat.py`).
const JOBLIB_HEADER_BYTES: u64 = 2 + 19;

/// Expands all of `source`, into memory when it is small and else into an unlinked temporary file; at most
/// [`Limits::expanded_at_cost`] for its length. `progress` hears of compressed bytes. What follows the last stream of a gzip or
/// bzip2 file is ignored, as `gzip` does; zeros between two streams of gzip are padding, as they are in Python.
pub(crate) fn expand(
    source: &SharedSource,
    compression: Compression,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<SharedSource> {
    match expand_left(source, compression, limits, progress)? {
        (_, Some(e)) => Err(e),
        (expanded, None) => Ok(expanded),
    }
}

/// Expands as much of `source` as there is and as the bound allows; also gives why there is no more. A program that reads
/// as it expands gets to see as much. What comes of it is kept with the source: who asks again waits for nothing.
pub(crate) fn expand_left(
    source: &SharedSource,
    compression: Compression,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(SharedSource, Option<Error>)> {
    let bound = compression.bound(source.len(), limits);
    let Some(kept) = source.cache() else { return expand_anew(source, compression, (bound, limits), progress) };
    let mut kept = kept.lock();
    let known = kept.as_ref().and_then(|kept| kept.downcast_ref::<Expansion>());
    if let Some(known) = known.filter(|known| known.serves(compression, bound)) {
        progress.advance(source.len());
        return Ok((Arc::clone(&known.source), known.stopped.as_ref().map(Error::again)));
    }
    let (expanded, stopped) = expand_anew(source, compression, (bound, limits), progress)?;
    let again = stopped.as_ref().map(Error::again);
    *kept = Some(Arc::new(Expansion { compression, bound, source: Arc::clone(&expanded), stopped: again }));
    Ok((expanded, stopped))
}

fn expand_anew(
    source: &SharedSource,
    compression: Compression,
    (bound, limits): (u64, &Limits),
    progress: &dyn Progress,
) -> Result<(SharedSource, Option<Error>)> {
    if compression == Compression::JoblibZf {
        return match expand_joblib(source, bound, limits, progress) {
            Err(e) if e.kind() == ErrorKind::Io => Err(e),
            Err(e) => Ok((Arc::new(MemorySource::new(Vec::new())), Some(e))),
            Ok(expanded) => Ok((expanded, None)),
        };
    }
    let mut sink = Spool::new(bound);
    let stopped = decode(source, compression, &mut sink, progress).err();
    match stopped {
        Some(e) if e.kind() == ErrorKind::Io => Err(e),
        stopped => Ok((sink.finish()?, stopped)),
    }
}

fn expand_joblib(source: &SharedSource, bound: u64, limits: &Limits, progress: &dyn Progress) -> Result<SharedSource> {
    let header = read_vec(source.as_ref(), 0, JOBLIB_HEADER_BYTES.min(source.len()))?;
    let digits = header.strip_prefix(b"ZF0x").unwrap_or_default().trim_ascii_end();
    let length = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let length = length.ok_or_else(|| Error::malformed("joblib's compressed file has no length after `ZF`").at(2))?;
    if length > bound {
        return Err(over(bound).at(2));
    }
    // Python 2 wrote the header one character wider; a zlib stream never starts with a space
    let wide = source.len() > JOBLIB_HEADER_BYTES && read_vec(source.as_ref(), JOBLIB_HEADER_BYTES, 1)? == b" ";
    let start = JOBLIB_HEADER_BYTES + u64::from(wide);
    let stream = Window::shared(source, start.min(source.len()), source.len().saturating_sub(start))?;
    let out = expand(&stream, Compression::Zlib, limits, progress)?;
    if out.len() != length {
        let message = format!("joblib's compressed file announces {length} bytes and holds {}", out.len());
        return Err(Error::malformed(message).at(2));
    }
    Ok(out)
}

/// Expands all of `source` into a spool, which has the bound. Not what joblib before 0.10 wrote.
pub(crate) fn decode(
    source: &SharedSource,
    compression: Compression,
    sink: &mut Spool,
    progress: &dyn Progress,
) -> Result<()> {
    let position = Cell::new(0);
    let mut input = BufReader::with_capacity(
        64 << 10,
        Counted { inner: Cursor::new(source.clone()), position: &position, progress },
    );
    let done = match compression {
        Compression::Gzip => streams(input, GZIP_FIRST, GzDecoder::new, GzDecoder::into_inner, sink),
        Compression::Bzip2 => streams(input, b'B', BzDecoder::new, BzDecoder::into_inner, sink),
        Compression::Zlib | Compression::JoblibZf => {
            let mut decoder = ZlibDecoder::new(input);
            sink.fill(&mut decoder)
        }
        Compression::Zstd => zstd::decode(&mut input, sink),
        Compression::Xz => sink.fill(&mut XzReader::new_mem_limit(input, true, LZMA_MEMORY_KIB)),
        Compression::Lzma => {
            LzmaReader::new_mem_limit(input, LZMA_MEMORY_KIB, None).and_then(|mut decoder| sink.fill(&mut decoder))
        }
    };
    done.map_err(|e| stream_error(compression.name(), e).at(source.absolute(position.get())))
}

/// Decodes stream after stream while another one starts (with `first`).
fn streams<R: BufRead, D: Read>(
    mut input: R,
    first: u8,
    open: impl Fn(R) -> D,
    close: impl Fn(D) -> R,
    sink: &mut Spool,
) -> io::Result<()> {
    loop {
        let mut decoder = open(input);
        sink.fill(&mut decoder)?;
        input = close(decoder);
        while first == GZIP_FIRST && skip_zeros(&mut input)? {}
        if input.fill_buf()?.first() != Some(&first) {
            return Ok(());
        }
    }
}

/// Goes past the zeros that are in the buffer; whether there were any.
fn skip_zeros(input: &mut impl BufRead) -> io::Result<bool> {
    let zeros = input.fill_buf()?.iter().take_while(|b| **b == 0).count();
    input.consume(zeros);
    Ok(zeros > 0)
}

/// Says what a decoder's error means for the file.
pub(crate) fn stream_error(format: &str, e: io::Error) -> Error {
    if e.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return Error::from(e);
    }
    match e.kind() {
        io::ErrorKind::UnexpectedEof => Error::truncated(format!("the {format} stream ends early")),
        io::ErrorKind::OutOfMemory if format == "zstd" => {
            Error::limit("the zstd stream needs a window of more than 64 MiB; expand it first (zstd -d)")
        }
        io::ErrorKind::OutOfMemory => {
            Error::limit(format!("the {format} stream needs a dictionary of more than {} MiB", LZMA_MEMORY_KIB >> 10))
        }
        _ => Error::new(ErrorKind::Malformed, format!("the {format} stream is damaged: {e}")),
    }
}

struct Counted<'a> {
    inner: Cursor,
    position: &'a Cell<u64>,
    progress: &'a dyn Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.position.set(self.position.get() + read as u64);
        self.progress.advance(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;
    use crate::progress::Silent;
    use crate::source::MemorySource;

    const TEXT: &[u8] = b"a pickle, a pickle, my kingdom for a pickle";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn bz2(bytes: &[u8]) -> Vec<u8> {
        let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn zf(bytes: &[u8], wide: bool) -> Vec<u8> {
        let mut out = format!("ZF{:<19}", format!("{:#x}", bytes.len())).into_bytes();
        out.extend(wide.then_some(b' '));
        out.extend(zlib(bytes));
        out
    }

    // made by Python's lzma.compress(TEXT) and lzma.compress(TEXT, lzma.FORMAT_ALONE)
    const XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3e0002a00215d0030880a06d3b806300801f2bb5eb0f7849fd58e867ae6b6a21d1abd4d247b81c000000000008a3b73947e1e9aa000013d2bd504d2e61fb6f37d010000000004595a";
    const LZMA: &str =
        "5d00008000ffffffffffffffff0030880a06d3b806300801f2bb5eb0f7849fd58e867ae6b6a21d1abd4d24d9d003ffffd23b0000";

    // made by Python's zstandard.compress(TEXT) with a checksum, and the same in two frames, the second one streamed
    const ZSTD: &str = "28b52ffd242b050100c061207069636b6c652c206d79206b696e67646f6d20666f7202003c8bea56908bc1794e";
    const ZSTD_FRAMES: &str = "28b52ffd24148500005061207069636b6c652c200100dd0a123e0d64c228b52ffd0058b900006d79206b696e67646f6d20666f722061207069636b6c65";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn run(bytes: Vec<u8>, compression: Compression) -> Result<Vec<u8>> {
        run_within(bytes, compression, &Limits::default())
    }

    fn run_within(bytes: Vec<u8>, compression: Compression, limits: &Limits) -> Result<Vec<u8>> {
        let source: SharedSource = Arc::new(MemorySource::new(bytes));
        let out = expand(&source, compression, limits, &Silent)?;
        read_vec(out.as_ref(), 0, out.len())
    }

    fn all() -> Vec<(Vec<u8>, Compression)> {
        vec![
            (gzip(TEXT), Compression::Gzip),
            (zlib(TEXT), Compression::Zlib),
            (bz2(TEXT), Compression::Bzip2),
            (hex(XZ), Compression::Xz),
            (hex(LZMA), Compression::Lzma),
            (hex(ZSTD), Compression::Zstd),
            (zf(TEXT, false), Compression::JoblibZf),
            (zf(TEXT, true), Compression::JoblibZf),
        ]
    }

    #[test]
    fn each_format_expands() {
        for (bytes, compression) in all() {
            assert_eq!(run(bytes, compression).unwrap(), TEXT, "{compression:?}");
        }
    }

    #[test]
    fn frames_of_zstandard() {
        let frames = hex(ZSTD_FRAMES);
        assert_eq!(run(frames.clone(), Compression::Zstd).unwrap(), TEXT);
        // a frame of other things, which is skipped
        let skipped = b"\x53\x2a\x4d\x18\x03\0\0\0abc";
        assert_eq!(run([skipped, frames.as_slice(), skipped].concat(), Compression::Zstd).unwrap(), TEXT);
        let cut = run([frames.as_slice(), &skipped[..9]].concat(), Compression::Zstd).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::Truncated);
        let more = run([frames.as_slice(), b"more"].concat(), Compression::Zstd).unwrap_err();
        assert_eq!(more.kind(), ErrorKind::Malformed);
        // no change of a byte gives other bytes where there is a checksum
        for at in 0..hex(ZSTD).len() {
            for bit in 0..8 {
                let mut changed = hex(ZSTD);
                changed[at] ^= 1 << bit;
                if let Ok(found) = run(changed, Compression::Zstd) {
                    // one bit of the header says that there is no checksum
                    assert!(found == TEXT || at == 4, "{at} {bit}");
                }
            }
        }
        let window = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x88];
        assert_eq!(run(window.to_vec(), Compression::Zstd).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn every_truncation_is_an_error() {
        for (bytes, compression) in all() {
            for end in 0..bytes.len() {
                let e = run(bytes[..end].to_vec(), compression).expect_err(&format!("{compression:?} {end}"));
                let expected = [ErrorKind::Truncated, ErrorKind::Malformed];
                assert!(expected.contains(&e.kind()), "{compression:?} {end}: {e}");
                assert!(e.offset().is_some(), "{compression:?} {end}: {e}");
            }
            let half = run(bytes[..bytes.len() - 6].to_vec(), compression).unwrap_err();
            assert_eq!(half.kind(), ErrorKind::Truncated, "{compression:?}: {half}");
        }
    }

    #[test]
    fn damage_is_named() {
        let mut bytes = gzip(TEXT);
        let middle = bytes.len() - 6;
        bytes[middle] ^= 0x55;
        let e = run(bytes, Compression::Gzip).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Malformed);
        assert!(e.to_string().contains("gzip stream is damaged"), "{e}");
    }

    #[test]
    fn concatenated_streams_expand_one_after_the_other() {
        let cases = [
            ([gzip(TEXT), gzip(TEXT)].concat(), Compression::Gzip),
            ([gzip(TEXT), vec![0; 100_000], gzip(TEXT)].concat(), Compression::Gzip),
            ([bz2(TEXT), bz2(TEXT)].concat(), Compression::Bzip2),
            ([hex(XZ), hex(XZ)].concat(), Compression::Xz),
        ];
        for (bytes, compression) in cases {
            assert_eq!(run(bytes, compression).unwrap(), [TEXT, TEXT].concat(), "{compression:?}");
        }
    }

    #[test]
    fn what_follows_a_gzip_stream_is_ignored() {
        assert_eq!(run([gzip(TEXT), vec![0; 100]].concat(), Compression::Gzip).unwrap(), TEXT);
        assert_eq!(run([gzip(TEXT), b"signature".to_vec()].concat(), Compression::Gzip).unwrap(), TEXT);
    }

    #[test]
    fn bombs_are_stopped() {
        let limits = Limits { max_expanded_bytes: 1 << 20, min_expanded_bytes: 1 << 16, ..Limits::default() };
        let zeros = vec![0; 2 << 20];
        for (bytes, compression) in [
            (gzip(&zeros), Compression::Gzip),
            (bz2(&zeros), Compression::Bzip2),
            (zlib(&zeros), Compression::Zlib),
            (zf(&zeros, false), Compression::JoblibZf),
        ] {
            let e = run_within(bytes, compression, &limits).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
            assert!(e.to_string().contains("max_expanded_bytes"), "{e}");
        }
    }

    #[test]
    fn a_file_is_expanded_once() {
        let limits = |most| Limits { max_expanded_bytes: most, ..Limits::default() };
        for (bytes, compression) in all() {
            let source: SharedSource = Arc::new(MemorySource::new(bytes));
            let (first, _) = expand_left(&source, compression, &limits(1000), &Silent).unwrap();
            let (again, _) = expand_left(&source, compression, &limits(2000), &Silent).unwrap();
            assert!(Arc::ptr_eq(&first, &again), "{compression:?}");
            // a tighter bound is kept, and what it refused is not what a wider one gives
            let e = expand(&source, compression, &limits(10), &Silent).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Limit, "{compression:?}: {e}");
            let once_more = expand(&source, compression, &limits(10), &Silent).unwrap_err();
            assert_eq!((e.to_string(), e.advice()), (once_more.to_string(), once_more.advice()));
            let whole = expand(&source, compression, &limits(1000), &Silent).unwrap();
            assert_eq!(read_vec(whole.as_ref(), 0, whole.len()).unwrap(), TEXT, "{compression:?}");
        }
    }

    #[test]
    fn what_takes_longer_to_expand_may_expand_to_less() {
        let limits = Limits::default();
        let bounds = |bytes| [Compression::Gzip, Compression::Xz, Compression::Bzip2].map(|c| c.bound(bytes, &limits));
        assert_eq!(bounds(100), [128 << 20, 64 << 20, 32 << 20]);
        assert_eq!(bounds(8 << 20), [2 << 30, 1 << 30, 256 << 20]);
        // a bound that a person has set is theirs
        let chosen = Limits {
            max_expanded_bytes: 1 << 30,
            min_expanded_bytes: 1 << 30,
            is_expansion_chosen: true,
            ..Limits::default()
        };
        assert_eq!(Compression::Bzip2.bound(100, &chosen), 1 << 30);
    }

    #[test]
    fn a_huge_lzma_dictionary_is_refused() {
        let mut bytes = hex(LZMA);
        bytes[1..5].copy_from_slice(&(1u32 << 30).to_le_bytes());
        assert_eq!(run(bytes, Compression::Lzma).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn joblib_length_must_be_right() {
        let mut bytes = zf(TEXT, false);
        bytes[4] = b'3';
        let e = run(bytes, Compression::JoblibZf).unwrap_err();
        assert!(e.to_string().contains("announces"), "{e}");
    }
}
