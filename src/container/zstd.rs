//! Zstandard's frames, one after the other, as `zstd` and `torch.distributed.checkpoint` write them (RFC 8878).

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::spool::Spool;

/// How a frame begins.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// How a frame begins that holds nothing of the data, but for its first half byte.
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
/// Memory that a frame's window may take: what `zstd -19` and less ask for; `--ultra` and `--long` ask for more.
const MAX_WINDOW_BYTES: u64 = 64 << 20;

/// Whether this is where a frame begins.
pub(super) fn is_frame(head: &[u8]) -> bool {
    head.starts_with(&MAGIC) || matches!(head, [0x50..=0x5f, rest @ ..] if rest.starts_with(&SKIPPABLE))
}

/// Decodes all frames; anything else behind one is an error.
pub(super) fn decode(input: &mut impl BufRead, sink: &mut Spool) -> io::Result<()> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_WINDOW_BYTES);
    loop {
        match StreamingDecoder::new_with_decoder(&mut *input, &mut decoder) {
            Ok(mut stream) => {
                sink.fill(&mut stream).map_err(cause)?;
                let frame = stream.into_parts().1;
                let (stated, found) = (frame.get_checksum_from_data(), frame.get_calculated_checksum());
                if stated.is_some() && stated != found {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of a frame does not match"));
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let skipped = io::copy(&mut (&mut *input).take(length.into()), &mut io::sink())?;
                if skipped < length.into() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(FrameDecoderError::WindowSizeTooBig { .. }) => return Err(io::ErrorKind::OutOfMemory.into()),
            Err(e) => return Err(cause(io::Error::other(e))),
        }
        if input.fill_buf()?.is_empty() {
            return Ok(());
        }
    }
}

/// The error below a decoder's own that says that there are no more bytes, or is ours.
fn cause(e: io::Error) -> io::Error {
    if e.get_ref().is_some_and(|inner| inner.is::<crate::error::Error>()) {
        return e;
    }
    let mut source = e.get_ref().and_then(|inner| inner.source());
    while let Some(inner) = source {
        let below = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(ours) = below.and_then(|below| below.downcast_ref::<crate::error::Error>()) {
            return ours.again().into();
        }
        if inner.downcast_ref::<io::Error>().is_some_and(|inner| inner.kind() == io::ErrorKind::UnexpectedEof) {
            return io::ErrorKind::UnexpectedEof.into();
        }
        source = inner.source();
    }
    e
}
