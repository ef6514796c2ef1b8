//! A file with some of it changed: the container, the storages and every other byte as they were.
//!
//! Pickles are spliced, headers rewritten, and all else is copied, inside the kernel where it can be.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use crate::checkpoint::edit::Plan;
use crate::checkpoint::numpy::Joblib;
use crate::checkpoint::{Checkpoint, Container};
use crate::container::safetensors;
use crate::container::tar::{BLOCK_BYTES, Tar};
use crate::container::zip::directory::{Directory, end_records, push_field};
use crate::container::zip::tail::{crc32_of, prove};
use crate::container::zip::{Zip, check_name};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pickle::splice::{Spliced, splice};
use crate::progress::Progress;
use crate::source::{SharedSource, Source};
use crate::write::atomic::Output;

/// Parts of a pickle that are copied on their own; smaller ones are gathered.
const LARGE_PART_BYTES: u64 = 1 << 20;
/// torch's padding (`caffe2/serialize/inline_container.cc`), and where storages begin.
const PADDING_FIELD: u16 = u16::from_le_bytes(*b"FB");
const ALIGNMENT: u64 = 64;
const MAX_ALIGNMENT: u64 = 1 << 14;
/// Members that promise a layout by which torch computes where storages lie (`torch/serialization.py`).
const LAYOUT_MEMBERS: [&str; 2] = [".format_version", ".storage_alignment"];

/// What an edit changes in a file.
#[derive(Debug)]
pub enum Change {
    /// The pickle: its bytes with others in them.
    Pickle(Spliced),
    /// New names by old ones, of formats that hold one flat dict without a pickle.
    Names(HashMap<String, String>),
}

impl Change {
    /// What a renaming is in this checkpoint's container.
    pub fn of_renames(checkpoint: &Checkpoint, plan: &Plan) -> Result<Self> {
        Ok(match checkpoint.container {
            Container::Safetensors | Container::Npz => {
                let top = plan.renames.iter().filter(|rename| rename.within.is_empty());
                Change::Names(top.map(|rename| checkpoint.shown(rename)).collect())
            }
            Container::Zip | Container::Legacy | Container::Pickle | Container::Tar => {
                Change::Pickle(spliced(checkpoint, plan)?)
            }
            _ => return Err(fixed(checkpoint)),
        })
    }
}

/// The stream that holds the pickle, with the plan's edits made.
fn spliced(checkpoint: &Checkpoint, plan: &Plan) -> Result<Spliced> {
    let mut streams = plan.edits.iter();
    let (Some((stream, edits)), None) = (streams.next(), streams.next()) else {
        return Err(Error::unsupported("the names lie in several pickles, one of them inside another"));
    };
    let source = checkpoint.graph.stream(*stream).ok_or_else(|| Error::malformed("no such stream"))?;
    let outer = checkpoint.source.as_ref().map_or(0, |source| source.len());
    let max_objects = checkpoint.limits.objects_for(outer.max(source.len()));
    splice(source, &checkpoint.graph, edits, max_objects, checkpoint.limits.max_new_name_bytes, &Joblib)
}

/// The place of the member that holds the pickle, in torch's zip.
pub fn pickle_member(zip: &Zip) -> Result<usize> {
    let name = match zip.top() {
        "" => "data.pkl".to_owned(),
        top => format!("{top}/data.pkl"),
    };
    zip.position(&name).ok_or_else(|| Error::malformed("the archive has no data.pkl"))
}

/// Writes the checkpoint with what changes in its own container, uncompressed.
pub fn rewrite(checkpoint: &Checkpoint, change: &Change, output: &mut Output, progress: &dyn Progress) -> Result<()> {
    let source = checkpoint.source.as_ref().ok_or_else(|| fixed(checkpoint))?;
    let zip = || checkpoint.zip.as_ref().ok_or_else(|| fixed(checkpoint));
    let mut writer = Writer { output, progress };
    match (checkpoint.container, change) {
        (Container::Zip, Change::Pickle(pickle)) => writer.zip(zip()?, pickle_member(zip()?)?, pickle),
        (Container::Legacy | Container::Pickle, Change::Pickle(pickle)) => writer.spliced(source, pickle),
        (Container::Tar, Change::Pickle(pickle)) => writer.tar(source, &checkpoint.limits, pickle),
        (Container::Safetensors, Change::Names(names)) => writer.safetensors(source, checkpoint, names),
        (Container::Npz, Change::Names(names)) => writer.npz(zip()?, names),
        _ => Err(fixed(checkpoint)),
    }
}

fn fixed(checkpoint: &Checkpoint) -> Error {
    Error::unsupported(format!("names in {} files cannot be changed", checkpoint.container.name()))
}

struct Writer<'a> {
    output: &'a mut Output,
    progress: &'a dyn Progress,
}

impl Writer<'_> {
    fn copy(&mut self, source: &dyn Source, offset: u64, len: u64) -> Result<()> {
        self.output.copy(source, offset, len, &|bytes| self.progress.advance(bytes))
    }

    /// Bytes with others in them, which come from `inner`: large runs of those are copied as they lie there.
    fn spliced(&mut self, inner: &SharedSource, spliced: &Spliced) -> Result<()> {
        let (mut written, mut at) = (0, 0);
        for part in spliced.parts() {
            if part.len >= LARGE_PART_BYTES {
                self.copy(spliced, written, at - written)?;
                self.copy(inner.as_ref(), part.from, part.len)?;
                written = at + part.len;
            }
            at += part.len + part.then.len() as u64;
        }
        self.copy(spliced, written, at - written)
    }

    /// The archive with the member at `position` replaced. What follows it moves by a multiple of the alignment, so
    /// that every other member is copied as it is, its local header included, and storages stay aligned.
    fn zip(&mut self, zip: &Zip, position: usize, content: &dyn Source) -> Result<()> {
        prove(zip, position)?;
        let source = zip.source();
        let mut directory = Directory::of(zip)?;
        let begin = directory.0.get(position).map_or(0, |entry| entry.header_start);
        let end = zip.central_directory_start;
        let following = directory.0.iter().map(|entry| entry.header_start).filter(|start| *start > begin);
        let next = following.min().unwrap_or(end).min(end);
        let alignment = zip.text(".storage_alignment")?.and_then(|text| text.parse().ok()).unwrap_or(ALIGNMENT);
        let alignment = if (1..=MAX_ALIGNMENT).contains(&alignment) { alignment } else { ALIGNMENT };
        let crc32 = crc32_of(content, 0, content.len())?;
        let entry = directory.0.get_mut(position).ok_or_else(|| Error::malformed("no such member"))?;
        entry.set_stored(crc32, content.len());
        let record_len = entry.local_header(&[])?.len() as u64 + content.len();
        // what is missing goes into an extra field, which takes four bytes at least
        let missing = ((next - begin) % alignment + alignment - record_len % alignment) % alignment;
        let padding = if (1..4).contains(&missing) { missing + 4u64.next_multiple_of(alignment) } else { missing };
        let mut extra = Vec::new();
        if padding > 0 {
            let zeros = vec![0; usize::try_from(padding - 4).unwrap_or(0)];
            push_field(&mut extra, PADDING_FIELD, &zeros)?;
        }
        let header = entry.local_header(&extra)?;
        let new_next = begin + header.len() as u64 + content.len();
        let moved = |start: u64| if start > begin { start - next + new_next } else { start };
        // beyond 4 GiB torch's headers have another size
        let far = |start: u64| start >= u64::from(u32::MAX);
        let keeps_layout = (new_next.abs_diff(next)).is_multiple_of(alignment)
            && directory.0.iter().all(|entry| far(entry.header_start) == far(moved(entry.header_start)));
        for entry in &mut directory.0 {
            entry.header_start = moved(entry.header_start);
        }
        if !keeps_layout {
            let top = zip.top().to_owned();
            let promises = |name: &[u8]| LAYOUT_MEMBERS.iter().any(|m| name == format!("{top}/{m}").as_bytes());
            directory.0.retain(|entry| !promises(&entry.name));
        }
        self.copy(source.as_ref(), 0, begin)?;
        self.output.write_all(&header)?;
        self.copy(content, 0, content.len())?;
        self.copy(source.as_ref(), next, end - next)?;
        self.finish_zip(&directory, &zip.comment)
    }

    fn finish_zip(&mut self, directory: &Directory, comment: &[u8]) -> Result<()> {
        let start = self.output.position();
        let encoded = directory.encode()?;
        self.output.write_all(&encoded)?;
        let end = end_records(start, encoded.len() as u64, directory.0.len() as u64, comment)?;
        Ok(self.output.write_all(&end)?)
    }

    /// numpy's archive: a member for each name. Their compressed bytes are copied, their headers made anew.
    fn npz(&mut self, zip: &Zip, names: &HashMap<String, String>) -> Result<()> {
        let mut directory = Directory::of(zip)?;
        for (member, entry) in zip.members.iter().zip(&mut directory.0) {
            let start = zip.data_start(member)?;
            let name = member.name.strip_suffix(".npy").unwrap_or(&member.name);
            if let Some(new) = names.get(name) {
                let new = format!("{new}.npy");
                check_name(&new)?;
                entry.set_name(&new);
            }
            entry.header_start = self.output.position();
            let header = entry.local_header(&[])?;
            self.output.write_all(&header)?;
            self.copy(zip.source().as_ref(), start, member.compressed_size)?;
        }
        self.finish_zip(&directory, &zip.comment)
    }

    fn safetensors(
        &mut self,
        source: &SharedSource,
        checkpoint: &Checkpoint,
        names: &HashMap<String, String>,
    ) -> Result<()> {
        let header = safetensors::read(source.as_ref(), &checkpoint.limits)?;
        let json = safetensors_header(&header, names)?;
        self.output.write_all(&(json.len() as u64).to_le_bytes())?;
        self.output.write_all(&json)?;
        self.copy(source.as_ref(), header.data_start, source.len() - header.data_start)
    }

    /// The tar of torch < 0.1.10 with its member `pickle` replaced.
    fn tar(&mut self, source: &SharedSource, limits: &Limits, content: &dyn Source) -> Result<()> {
        let tar = Tar::open(Arc::clone(source), limits)?;
        let member = tar.find("pickle").ok_or_else(|| Error::malformed("the archive has no pickle"))?;
        self.copy(source.as_ref(), 0, member.offset - BLOCK_BYTES)?;
        self.output.write_all(&tar.resized(member, content.len())?)?;
        self.copy(content, 0, content.len())?;
        let padding = content.len().next_multiple_of(BLOCK_BYTES) - content.len();
        self.output.write_all(&vec![0; usize::try_from(padding).unwrap_or(0)])?;
        let rest = (member.offset + member.size).next_multiple_of(BLOCK_BYTES).min(source.len());
        self.copy(source.as_ref(), rest, source.len() - rest)
    }
}

/// The header with other names, in the order of the data as safetensors writes it, padded with blanks to eight bytes.
fn safetensors_header(header: &safetensors::Header, names: &HashMap<String, String>) -> Result<Vec<u8>> {
    let quoted = |text: &str| serde_json::to_string(text).map_err(std::io::Error::from);
    let mut members = Vec::new();
    if !header.metadata.is_empty() {
        let tensors: HashSet<&str> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        // an alias is a name like those of the tensors, every other string stays what it is
        let renamed = |text: &str, is_alias: bool| match names.get(text) {
            Some(new) if is_alias => quoted(new),
            _ => quoted(text),
        };
        let pairs = header.metadata.iter().map(|(key, value)| {
            let is_alias = safetensors::is_alias(key, value, |name| tensors.contains(name));
            Ok(format!("{}:{}", renamed(key, is_alias)?, renamed(value, is_alias)?))
        });
        members.push(format!("\"__metadata__\":{{{}}}", pairs.collect::<Result<Vec<_>>>()?.join(",")));
    }
    for tensor in &header.tensors {
        let name = quoted(names.get(&tensor.name).unwrap_or(&tensor.name))?;
        let (dtype, shape) = (quoted(&tensor.dtype)?, serde_json::json!(tensor.shape));
        let (begin, end) = (tensor.begin, tensor.end);
        members.push(format!("{name}:{{\"dtype\":{dtype},\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}"));
    }
    let mut json = format!("{{{}}}", members.join(",")).into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok(json)
}
