//! Members of zip archives expanded in every way that Python's `zipfile` knows: stored, deflate, bzip2, LZMA.

use std::io::BufReader;
use std::sync::Arc;

use flate2::bufread::DeflateDecoder;

use super::{Scanner, only_io, too_many_bytes};
use crate::container::compress::{Compression, stream_error};
use crate::container::spool::Spool;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Cursor, MemorySource, SharedSource, read_vec};

/// Compression methods (APPNOTE 4.4.5).
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
pub(super) const BZIP2: u16 = 12;
pub(super) const LZMA: u16 = 14;
/// LZMA members are put together with another header in memory, so they have a bound of their own.
const MAX_LZMA_BYTES: u64 = 64 << 20;
/// Version, length of the properties, then the properties (APPNOTE 5.8.8).
const LZMA_HEADER_BYTES: usize = 4;
const LZMA_PROPERTIES_BYTES: usize = 5;

impl Scanner<'_> {
    /// As much as comes out of a member: who unpickles while it expands sees as much. Fails for what is left of this
    /// file's bytes, and for other methods.
    pub(super) fn expanded(&mut self, stored: &SharedSource, method: u16) -> Result<SharedSource> {
        if method == STORED {
            return Ok(Arc::clone(stored));
        }
        if self.left_bytes == 0 {
            return Err(too_many_bytes());
        }
        let bytes = match method {
            DEFLATED => {
                let mut spool = Spool::new(self.left_bytes);
                let compressed = BufReader::with_capacity(64 << 10, Cursor::new(Arc::clone(stored)));
                let filled = spool.fill(&mut DeflateDecoder::new(compressed)).map_err(|e| stream_error("deflate", e));
                match filled {
                    Err(e) if e.kind() == ErrorKind::Limit => return Err(too_many_bytes()),
                    Err(e) if e.kind() == ErrorKind::Io => return Err(e),
                    _ => spool.finish()?,
                }
            }
            BZIP2 => self.expand(stored, Compression::Bzip2)?.0,
            LZMA => {
                if stored.len() > MAX_LZMA_BYTES {
                    return Err(Error::limit("an LZMA member of more than 64 MiB"));
                }
                let raw = read_vec(stored.as_ref(), 0, stored.len())?;
                let body = raw.get(LZMA_HEADER_BYTES..).unwrap_or_default();
                let (properties, data) = body.split_at_checked(LZMA_PROPERTIES_BYTES).unwrap_or_default();
                // as a file of its own it says how long it is: as long as it goes
                let alone = [properties, &[0xff; 8], data].concat();
                let alone: SharedSource = Arc::new(MemorySource::new(alone));
                self.expand(&alone, Compression::Lzma)
                    .or_else(|e| {
                        only_io(e)?;
                        Ok::<_, Error>((Arc::new(MemorySource::new(Vec::new())) as SharedSource, None))
                    })?
                    .0
            }
            method => return Err(Error::unsupported(format!("is compressed with method {method}"))),
        };
        if matches!(method, DEFLATED) {
            self.left_bytes = self.left_bytes.saturating_sub(bytes.len());
        }
        self.spend(bytes.len() / 16);
        Ok(bytes)
    }
}
