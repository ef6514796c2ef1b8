//! Files of named arrays: a new header, and the arrays as they were or as they are to be.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use super::Writer;
use crate::checkpoint::flat::{Array, Flat, Text};
use crate::container::safetensors::{self, Header};
use crate::container::zip::directory::{Directory, DirectoryEntry};
use crate::container::zip::tail::crc32_of;
use crate::container::zip::{Zip, check_name};
use crate::data::row::row;
use crate::dtype::ByteOrder;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{MemorySource, SharedSource};
use crate::write::npz::npy_header;

/// What the length of a safetensors header takes; the header is padded to a multiple of it.
const LENGTH_BYTES: usize = 8;

/// The elements of an array that are new, as they go into the file.
fn new_row(array: &Array, limits: &Limits) -> Result<Option<SharedSource>> {
    array.new.as_ref().map(|new| row(new.clone(), ByteOrder::Little, limits)).transpose()
}

/// One array of a safetensors file.
struct Placed<'a> {
    array: &'a Array,
    old: &'a safetensors::Tensor,
    new: Option<SharedSource>,
    /// First byte of its data, and the one after it.
    begin: u64,
    end: u64,
}

impl<'a> Placed<'a> {
    /// All of them, one after the other.
    fn all(flat: &'a Flat, header: &'a Header, limits: &Limits) -> Result<Vec<Self>> {
        let mut at = 0;
        let all = flat.arrays.iter().map(|array| {
            let old = header.tensors.get(array.place).ok_or_else(|| Error::malformed("no such tensor"))?;
            let new = new_row(array, limits)?;
            let begin = at;
            at += new.as_ref().map_or(old.end - old.begin, |new| new.len());
            Ok(Placed { array, old, new, begin, end: at })
        });
        all.collect()
    }

    /// Whether its data is where it was. What is empty may be anywhere.
    fn stays(&self) -> bool {
        let len = self.end - self.begin;
        len == self.old.end - self.old.begin && (len == 0 || self.begin == self.old.begin)
    }
}

/// The JSON of the header.
fn json(flat: &Flat, placed: &[Placed<'_>]) -> Result<Vec<u8>> {
    let quoted = |text: &str| serde_json::to_string(text).map_err(std::io::Error::from);
    let mut members = Vec::new();
    let mut texts = Vec::new();
    let by_place: HashMap<usize, &Array> = flat.arrays.iter().map(|array| (array.place, array)).collect();
    for text in &flat.metadata {
        let (key, value) = match text {
            Text::Is(key, value) => (key, value),
            Text::Alias(alias, place) => match by_place.get(place) {
                Some(array) => (alias, &array.name),
                None => continue,
            },
        };
        texts.push(format!("{}:{}", quoted(key)?, quoted(value)?));
    }
    if !texts.is_empty() {
        members.push(format!("\"__metadata__\":{{{}}}", texts.join(",")));
    }
    for Placed { array, old, begin, end, .. } in placed {
        let (name, dtype, shape) = (quoted(&array.name)?, quoted(&old.dtype)?, serde_json::json!(array.shape));
        members.push(format!("{name}:{{\"dtype\":{dtype},\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}"));
    }
    Ok(format!("{{{}}}", members.join(",")).into_bytes())
}

/// What is written over the bytes of a safetensors file, where its data need not move.
#[derive(Debug)]
pub struct InPlace {
    /// New bytes, by where they go; none overlap.
    pub writes: Vec<(u64, SharedSource)>,
    /// Bytes of the file afterwards.
    pub len: u64,
}

/// What changes in the bytes of a safetensors file, where the new header fits into the room of the old one and all data
/// stays where it is.
pub(crate) fn in_place(source: &SharedSource, flat: &Flat, limits: &Limits) -> Result<Option<InPlace>> {
    let header = safetensors::read(source.as_ref(), limits)?;
    let placed = Placed::all(flat, &header, limits)?;
    let mut json = json(flat, &placed)?;
    let room = usize::try_from(header.data_start).unwrap_or(usize::MAX).saturating_sub(LENGTH_BYTES);
    if json.len() > room || !placed.iter().all(Placed::stays) {
        return Ok(None);
    }
    json.resize(room, b' ');
    let mut writes: Vec<(u64, SharedSource)> = vec![(LENGTH_BYTES as u64, Arc::new(MemorySource::new(json)))];
    for Placed { new, begin, .. } in &placed {
        writes.extend(new.as_ref().map(|new| (header.data_start + begin, Arc::clone(new))));
    }
    let len = header.data_start + placed.last().map_or(0, |last| last.end);
    Ok(Some(InPlace { writes, len }))
}

impl Writer<'_> {
    /// The header with other names and strings, and the data of the arrays that are left.
    pub(super) fn safetensors(&mut self, source: &SharedSource, flat: &Flat, limits: &Limits) -> Result<()> {
        let header = safetensors::read(source.as_ref(), limits)?;
        let placed = Placed::all(flat, &header, limits)?;
        let mut json = json(flat, &placed)?;
        json.resize(json.len().next_multiple_of(LENGTH_BYTES), b' ');
        let len = json.len() as u64;
        if len > limits.max_header_bytes {
            return Err(Error::limit(format!("a header of {len} bytes; {} are allowed", limits.max_header_bytes)));
        }
        self.output.write_all(&len.to_le_bytes())?;
        self.output.write_all(&json)?;
        // what lies in a row is copied as one
        let mut run = 0..0;
        for Placed { old, new, .. } in &placed {
            if new.is_some() || old.begin != run.end {
                self.copy(source.as_ref(), header.data_start + run.start, run.end - run.start)?;
                run = old.begin..old.begin;
            }
            match new {
                Some(new) => {
                    self.copy(new.as_ref(), 0, new.len())?;
                    run = old.end..old.end;
                }
                None => run.end = old.end,
            }
        }
        self.copy(source.as_ref(), header.data_start + run.start, run.end - run.start)
    }

    /// numpy's archive: a member for each name. Their compressed bytes are copied, their headers made anew.
    pub(super) fn npz(&mut self, zip: &Zip, flat: &Flat, limits: &Limits) -> Result<()> {
        let mut directory = Directory::of(zip)?;
        let mut kept = Directory::default();
        let by_place: HashMap<usize, &Array> = flat.arrays.iter().map(|array| (array.place, array)).collect();
        for ((position, member), mut entry) in zip.members.iter().enumerate().zip(std::mem::take(&mut directory.0)) {
            let array = by_place.get(&position).copied();
            let Some(array) = array else {
                if member.is_dir() {
                    self.npz_member(zip, position, &mut entry)?;
                    kept.0.push(entry);
                }
                continue;
            };
            if Flat::name_of(member) != array.name {
                let name = format!("{}.npy", array.name);
                check_name(&name)?;
                entry.set_name(&name);
            }
            match &array.new {
                None => self.npz_member(zip, position, &mut entry)?,
                Some(new) => {
                    let row = row(new.clone(), ByteOrder::Little, limits)?;
                    let head = npy_header(&new.dtype, &array.shape)?;
                    let mut crc = crc32fast::Hasher::new();
                    crc.update(&head);
                    let sum = crc32_of(row.as_ref(), 0, row.len())?;
                    crc.combine(&crc32fast::Hasher::new_with_initial_len(sum, row.len()));
                    entry.set_stored(crc.finalize(), head.len() as u64 + row.len());
                    entry.header_start = self.output.position();
                    let header = entry.local_header(&[])?;
                    self.output.write_all(&header)?;
                    self.output.write_all(&head)?;
                    self.copy(row.as_ref(), 0, row.len())?;
                }
            }
            kept.0.push(entry);
        }
        self.finish_zip(&kept, &zip.comment)
    }

    fn npz_member(&mut self, zip: &Zip, position: usize, entry: &mut DirectoryEntry) -> Result<()> {
        let member = zip.members.get(position).ok_or_else(|| Error::malformed("no such member"))?;
        let start = zip.data_start(member)?;
        entry.header_start = self.output.position();
        let header = entry.local_header(&[])?;
        self.output.write_all(&header)?;
        self.copy(zip.source().as_ref(), start, member.compressed_size)
    }
}
