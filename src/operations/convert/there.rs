//! Shards that other jobs have written: whether all are there, and are what this job would write. Names, dtypes, shapes and
//! sizes are compared, and of the elements a sample: another step of the same training is told, a single changed bit need not
//! be.

use std::sync::Arc;

use super::shards::Plan;
use super::{Job, Shards};
use crate::checkpoint::resave::NewStorage;
use crate::container::zip::Zip;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, Setting};
use crate::operations::occupied::stale;
use crate::pickle::{Census, Graph, encode};
use crate::report::figures::some_of;
use crate::source::{FileSource, SharedSource, read_vec};
use crate::write::content::Content;
use crate::write::safetensors::NamedTensor;

impl Job<'_> {
    /// Fails unless a file of each name is there.
    pub(super) fn are_there(&self, shards: &Shards, plan: &Plan) -> Result<()> {
        let is_missing = |name: &String| !shards.directory.join(name).is_file();
        let missing: Vec<String> = plan.names().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (count, all) = (missing.len(), plan.count);
        let what = format!("{count} of {all} shards {} not there: ", if count == 1 { "is" } else { "are" });
        let mut message = Message::from(what + &some_of(missing.into_iter()));
        if let Some(other) = of_another_number(shards, plan) {
            message = message.text(format!("; {other} is one of another number: another input, or another "));
            message = message.setting(Setting::MaxShardSize);
        }
        let advice = Setting::Shard.then(" writes them");
        Err(Error::refused(message).advise(advice).of_output(&self.report.output))
    }

    fn differs<T>(&self, name: &str, why: &str) -> Result<T> {
        let message = Message::from(format!("{name} is not what this input and these options give: {why}"));
        let advice = Setting::Shard.then(" and ").setting(Setting::Force).text(" write it again");
        Err(Error::refused(message).advise(advice).of_output(&self.report.output))
    }

    fn file(&self, shards: &Shards, name: &str) -> Result<SharedSource> {
        let path = shards.directory.join(name);
        let file = FileSource::open(&path).map_err(|e| e.of_output(&path.display().to_string()))?;
        Ok(Arc::new(file))
    }

    /// Fails unless the safetensors file of this name has these tensors behind this header.
    pub(super) fn has_arrays(
        &self,
        shards: &Shards,
        name: &str,
        tensors: &[NamedTensor],
        (head, order): (Vec<u8>, Vec<usize>),
    ) -> Result<()> {
        let file = self.file(shards, name)?;
        let mut places = Vec::new();
        let mut at = head.len() as u64;
        for tensor in order.iter().filter_map(|index| tensors.get(*index)) {
            places.push((at, tensor));
            at = at.saturating_add(tensor.content().bytes(&self.limits)?);
        }
        if file.len() != at {
            return self.differs(name, &format!("it has {} bytes, not {at}", file.len()));
        }
        if read_vec(file.as_ref(), 0, head.len() as u64)? != head {
            return self.differs(name, "its header is another one");
        }
        for (at, tensor) in places {
            if !tensor.content().is_like(file.as_ref(), at, &self.limits)? {
                return self.differs(name, &format!("{} has other elements", tensor.name));
            }
        }
        Ok(())
    }

    /// Fails unless the zip of this name has this pickle and these storages.
    pub(super) fn has_torch(
        &self,
        shards: &Shards,
        name: &str,
        (graph, scan): (&Graph, &Census),
        storages: &[NewStorage],
    ) -> Result<()> {
        let zip = match Zip::open(self.file(shards, name)?, &self.limits) {
            Ok(zip) => zip,
            Err(e) if e.kind() == ErrorKind::Io => return Err(e.of_output(name)),
            Err(e) => return self.differs(name, &e.to_string()),
        };
        let mut pickle = Vec::new();
        encode(graph, scan, &mut pickle)?;
        let of = |member: &str| {
            zip.find(member).map(|found| zip.member_source(found).map(|bytes| (found, bytes))).transpose()
        };
        let has = |member: &str, bytes: &[u8]| -> Result<bool> {
            let Some((_, found)) = of(member)? else { return Ok(false) };
            Ok(found.len() == bytes.len() as u64 && read_vec(found.as_ref(), 0, found.len())? == bytes)
        };
        if !has("archive/data.pkl", &pickle)? {
            return self.differs(name, "it has other tensors");
        }
        if zip.members.len() != storages.len() + 3 || zip.trailing_bytes > 0 || !has("archive/byteorder", b"little")? {
            return self.differs(name, "it has other members");
        }
        for (key, storage) in storages.iter().enumerate() {
            let member = format!("archive/data/{key}");
            let content = Content::of_storage(storage)?;
            let Some((found, bytes)) = of(&member)? else { return self.differs(name, &format!("it has no {member}")) };
            let wanted = content.bytes(&self.limits)?;
            if bytes.len() != wanted {
                return self.differs(name, &format!("{member} has {} bytes, not {wanted}", bytes.len()));
            }
            let stated = match &content {
                Content::Raw { crc, .. } => *crc,
                Content::Elements { .. } => None,
            };
            let is_other = stated.is_some_and(|stated| stated != found.crc32);
            if is_other || !content.is_like(bytes.as_ref(), 0, &self.limits)? {
                return self.differs(name, &format!("{member} has other elements"));
            }
        }
        Ok(())
    }
}

/// A shard that is called as if there were another number of them.
fn of_another_number(shards: &Shards, plan: &Plan) -> Option<String> {
    let others = stale(&shards.directory, &plan.names().collect::<Vec<_>>(), true, None).ok()?;
    others.first()?.file_name()?.to_str().map(str::to_owned)
}
