//! Members one after the other, in the order of the file: small ones lie close together and are read many at once.

use flate2::Crc;

use super::member::{ENCRYPTED, STORED};
use super::{LOCAL_HEADER_BYTES, Member, Zip};
use crate::error::{Error, Result};
use crate::source::{Source, past_end, read_vec};

/// Bytes read at once where members are small.
const BLOCK: u64 = 64 << 10;
/// Members up to this size are small.
const SMALL_BYTES: u64 = 4 << 10;

/// The bytes of an archive that were read last. Each reader of one archive has its own.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    start: u64,
    block: Vec<u8>,
}

impl Ahead {
    /// The `len` bytes at `at`; where `is_small`, more are read that follow.
    pub(crate) fn get(&mut self, source: &dyn Source, at: u64, len: u64, is_small: bool) -> Result<&[u8]> {
        let place = |start: u64, have: usize| {
            let from = usize::try_from(at.checked_sub(start)?).ok()?;
            let to = from.checked_add(usize::try_from(len).ok()?)?;
            (to <= have).then_some(from..to)
        };
        let range = match place(self.start, self.block.len()) {
            Some(range) => range,
            None => {
                let left = source.len().saturating_sub(at);
                if left < len {
                    return Err(past_end(source, at, len));
                }
                self.block = read_vec(source, at, if is_small { len.max(BLOCK).min(left) } else { len })?;
                self.start = at;
                place(at, self.block.len()).unwrap_or_default()
            }
        };
        Ok(self.block.get(range).unwrap_or_default())
    }
}

impl Zip {
    /// As [`Zip::head`].
    pub(crate) fn head_ahead(&self, ahead: &mut Ahead, member: &Member, most: u64) -> Result<Vec<u8>> {
        if !self.lies_here(member) {
            return self.head(member, most);
        }
        self.stored_ahead(ahead, member, most.min(member.size)).map(<[u8]>::to_vec)
    }

    /// As [`Zip::crc32_of`].
    pub(crate) fn crc32_ahead(&self, ahead: &mut Ahead, member: &Member) -> Result<u32> {
        if member.size > SMALL_BYTES || !self.lies_here(member) {
            return self.crc32_of(member);
        }
        let mut crc = Crc::new();
        crc.update(self.stored_ahead(ahead, member, member.size)?);
        Ok(crc.sum())
    }

    /// Whether a member's bytes lie in the archive as they are, behind a local header.
    fn lies_here(&self, member: &Member) -> bool {
        let is_plain = member.method == STORED && member.size == member.compressed_size;
        is_plain && member.flags & ENCRYPTED == 0 && member.data_at.is_none() && !self.is_loose()
    }

    /// The first `most` bytes of such a member.
    fn stored_ahead<'a>(&self, ahead: &'a mut Ahead, member: &Member, most: u64) -> Result<&'a [u8]> {
        let (source, is_small) = (self.source.as_ref(), member.size <= SMALL_BYTES);
        let place = |e: Error| e.in_member(&member.name).at(source.absolute(member.header_start));
        let fixed = LOCAL_HEADER_BYTES + member.name_raw().len() as u64;
        let header = ahead.get(source, member.header_start, fixed, is_small).map_err(place)?;
        let start = Self::start_behind(member, header).map_err(place)?;
        ahead.get(source, start, most, is_small)
    }
}
