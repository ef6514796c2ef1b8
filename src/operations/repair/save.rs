//! Saving the tensors of a damaged file that are whole: in its own container, without what is lost.

use std::collections::HashSet;
use std::sync::Arc;

use super::damage::{before_transfer, beside_tensors, refused, unverified};
use super::{Job, nothing_saved};
use crate::checkpoint::resave::{Resave, resave, state_dict};
use crate::checkpoint::salvage::Lost;
use crate::checkpoint::{Checkpoint, Container, Item};
use crate::container::archive::Contents;
use crate::container::detect::damage::of_transfer;
use crate::container::safetensors::read_damaged;
use crate::container::zip::Zip;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::explain;
use crate::limits::Limits;
use crate::message::Setting;
use crate::pickle::{Census, NodeId};
use crate::report::figures::counted;
use crate::report::repair::{Action, Repair};
use crate::source::SharedSource;
use crate::write::content::Content;
use crate::write::rezip::{self, rezip};
use crate::write::safetensors::{NamedTensor, write as write_safetensors};
use crate::write::{torch_legacy, torch_zip};

/// A new file: its name, and how many tensors are in it.
struct Saved {
    output: String,
    tensors: u64,
}

impl Saved {
    fn report(self, of: Repair) -> Repair {
        Repair { output: Some(self.output), tensors: Some(self.tensors), ..of }
    }
}

impl Job<'_> {
    /// Saves what is left of a file that begins where its source does. What may be damaged is left out, unless it is to be
    /// kept.
    pub(super) fn save_rest_at_once(&self, source: &SharedSource) -> Result<Repair> {
        let Job { name, limits, progress, .. } = *self;
        let keep_damaged = self.options.keep_damaged;
        progress.begin(name, source.len());
        let left = Checkpoint::open_damaged(Arc::clone(source), limits, progress);
        let is_doubtful =
            |checkpoint: &Checkpoint| checkpoint.pickle_doubt().is_some() || checkpoint.lost_constants().is_some();
        let is_broken = left.as_ref().map_or(true, is_doubtful);
        if is_broken && let Some(restored) = self.restore(source)? {
            return Ok(restored);
        }
        // an archive of checkpoints says how to name one of them
        let around = |e| {
            explain(
                or_lost_pickle(e, source, limits),
                &Contents { source: Arc::clone(source), limits: limits.clone() },
                name,
            )
        };
        let mut checkpoint = left.map_err(around).map_err(nothing_saved)?;
        if let Some(doubt) = checkpoint.pickle_doubt().filter(|_| !keep_damaged) {
            let advice = Setting::KeepDamaged.then(" saves what it says");
            let message = format!("{doubt}, so no tensor's name, type or place is sure");
            return Err(nothing_saved(Error::refused(message).advise(advice)));
        }
        let doubtful = if keep_damaged { checkpoint.doubtful()? } else { Vec::new() };
        if !keep_damaged {
            checkpoint.distrust();
        }
        let mut lost = checkpoint.lost()?;
        lost.extend(checkpoint.lost_constants());
        let mut notes = beside_tensors(&checkpoint);
        let unverified = unverified(&checkpoint);
        let report = |action| Repair { verified: unverified.is_none(), ..Repair::new(name, action) };
        let refused = refused(source, limits, progress)?;
        if lost.is_empty() && doubtful.is_empty() && notes.is_empty() && refused.is_empty() {
            let trailing = checkpoint.zip().map_or(0, |zip| zip.trailing_bytes);
            notes.extend(unverified.clone());
            if trailing == 0 || checkpoint.compression().is_some() {
                return Ok(Repair { notes, ..report(Action::Nothing) });
            }
            let output = Some(self.copy(source, source.len() - trailing)?);
            let dropped = counted(trailing, "byte");
            notes.insert(0, format!("dropped {dropped} after the end of the archive; nothing is lost"));
            return Ok(Repair { output, notes, ..report(Action::Trimmed) });
        }
        if !is_broken && let Some(restored) = self.restore(source)? {
            return Ok(restored);
        }
        // without checksums, what a transfer did to the bytes cannot be told from what they were
        let is_told = matches!(checkpoint.container(), Container::Legacy | Container::Safetensors);
        if is_told && let Some(cause) = of_transfer(source.as_ref())? {
            return Err(nothing_saved(Error::refused(format!("{cause}; get the file again, in binary mode"))));
        }
        notes.append(&mut checkpoint.notes);
        if notes.is_empty() {
            notes.extend(refused.into_iter().map(|why| format!("was refused: {why}")));
        }
        notes.extend(unverified.clone());
        if checkpoint.container() == Container::Npz && checkpoint.zip().is_some_and(|zip| !zip.is_complete) {
            let message =
                "arrays whose headers are lost cannot be named: the zip directory, which lists all, is damaged";
            notes.push(message.to_owned());
        }
        let saved = match checkpoint.zip().cloned().filter(|zip| goes_member_by_member(&checkpoint, zip, &lost)) {
            Some(zip) => self.member_by_member(&checkpoint, &zip)?,
            None => self.tensor_by_tensor(&mut checkpoint, &mut lost, &mut notes)?,
        };
        Ok(saved.report(Repair { lost, doubtful, notes, ..report(Action::Salvaged) }))
    }

    /// Undoes what a transfer as text did, when the file is whole then.
    fn restore(&self, source: &SharedSource) -> Result<Option<Repair>> {
        let Some(restored) = before_transfer(source, self.limits, self.progress)? else { return Ok(None) };
        let output = Some(self.copy(&restored.source, restored.source.len())?);
        let (notes, verified) = (restored.notes, restored.verified);
        Ok(Some(Repair { output, notes, verified, ..Repair::new(self.name, Action::Restored) }))
    }

    /// Writes the members that are whole.
    fn member_by_member(&self, checkpoint: &Checkpoint, zip: &Zip) -> Result<Saved> {
        let entries = checkpoint.names(&checkpoint.top())?.entries;
        let tensors: HashSet<_> = entries
            .iter()
            .filter_map(|entry| match entry.item {
                Item::Tensor(id, _) => checkpoint.tensor(id).filter(|tensor| tensor.problem.is_none()).map(|_| id),
                _ => None,
            })
            .collect();
        let tensors = at_least_one(tensors.len())?;
        self.progress.begin(self.name, zip.members.iter().map(|member| member.size).sum());
        // torch's readers want a folder around everything, numpy none
        let folder = (checkpoint.container() != Container::Npz).then_some("archive");
        let folder = folder.map(|folder| if zip.top().is_empty() { folder } else { zip.top() });
        let folder = folder.map(|folder| folder.rsplit('/').next().unwrap_or(folder));
        let output = self.write(|target| rezip(zip, folder, target, self.progress))?;
        Ok(Saved { output, tensors })
    }

    fn tensor_by_tensor(
        &self,
        checkpoint: &mut Checkpoint,
        lost: &mut Vec<Lost>,
        notes: &mut Vec<String>,
    ) -> Result<Saved> {
        match checkpoint.container() {
            Container::Safetensors => self.safetensors(checkpoint),
            Container::Zip | Container::TorchScript | Container::Pt2 | Container::Legacy => {
                let root = without_lost(checkpoint, lost, notes)?;
                self.objects(checkpoint, root)
            }
            other => Err(Error::refused(format!(
                "a damaged {} file is not repaired, only torch's zip and legacy files, safetensors and npz are",
                other.name()
            ))),
        }
    }

    /// Writes the tensors of a safetensors file that are all there.
    fn safetensors(&self, checkpoint: &Checkpoint) -> Result<Saved> {
        let source = checkpoint.source().ok_or_else(|| Error::refused("made of several files"))?;
        let (header, _) = read_damaged(source.as_ref(), self.limits)?;
        let mut tensors = Vec::new();
        for entry in checkpoint.names(&checkpoint.top())?.entries {
            let Item::Tensor(id, _) = entry.item else { continue };
            let Some(tensor) = checkpoint.tensor(id).filter(|tensor| tensor.problem.is_none()) else { continue };
            let elements = tensor.elements(&checkpoint.storages)?;
            tensors.push(NamedTensor { name: entry.name(), elements, cast: None });
        }
        let count = at_least_one(tensors.len())?;
        self.progress.begin(self.name, source.len());
        let metadata = header.metadata.into_iter().collect();
        let write = |target: &_| write_safetensors(target, &tensors, &metadata, self.limits, self.progress);
        let output = self.write(|target| write(target).map(|(output, _)| output))?;
        Ok(Saved { output, tensors: count })
    }

    /// Writes an object, as a stream where it came as one, else as a zip.
    fn objects(&self, checkpoint: &mut Checkpoint, root: NodeId) -> Result<Saved> {
        let legacy = checkpoint.container() == Container::Legacy;
        let mut storages = resave(checkpoint, root, &Resave { legacy, ..Resave::default() })?;
        // what the damaged file states of its bytes is not believed
        storages.iter_mut().for_each(|storage| storage.crc = None);
        let scan = Census::new(&checkpoint.graph, root)?;
        let tensors: HashSet<_> = scan.order().iter().filter_map(|node| checkpoint.tensors.of(*node)).collect();
        let tensors = at_least_one(tensors.len())?;
        let mut bytes = 0_u64;
        for storage in &storages {
            bytes = bytes.saturating_add(Content::of_storage(storage)?.bytes(self.limits)?);
        }
        self.progress.begin(self.name, bytes);
        let write = if legacy { torch_legacy::write } else { torch_zip::write };
        let output = self.write(|target| {
            write(target, &checkpoint.graph, &scan, &storages, self.limits, self.progress).map(|(output, _)| output)
        })?;
        Ok(Saved { output, tensors })
    }
}

/// An error about what does not open, or that it is TorchScript without its pickle.
fn or_lost_pickle(e: Error, source: &SharedSource, limits: &Limits) -> Error {
    match Zip::salvage(Arc::clone(source), limits) {
        Ok(zip) if e.kind() == ErrorKind::NotACheckpoint => zip.lost_pickle().unwrap_or(e),
        _ => e,
    }
}

fn at_least_one(tensors: usize) -> Result<u64> {
    match tensors {
        0 => Err(Error::refused("no tensor is whole, nothing is written")),
        count => Ok(count as u64),
    }
}

/// Whether a damaged archive is written again member by member: an npz, of which every array is one, and what has more in it
/// than tensors, when nothing is lost.
fn goes_member_by_member(checkpoint: &Checkpoint, zip: &Zip, lost: &[Lost]) -> bool {
    match checkpoint.container() {
        Container::Npz => true,
        Container::TorchScript | Container::Pt2 | Container::Package => lost.is_empty() && rezip::is_whole(zip),
        _ => false,
    }
}

/// The object without what is lost.
fn without_lost(checkpoint: &mut Checkpoint, lost: &mut Vec<Lost>, notes: &mut Vec<String>) -> Result<NodeId> {
    // of what is more than tensors, nobody could use a part
    let what = match checkpoint.container() {
        Container::TorchScript => "a TorchScript archive",
        Container::Pt2 => "a torch.export archive",
        _ => {
            checkpoint.give_up_lost()?;
            return Ok(checkpoint.root);
        }
    };
    notes.push(format!("{what} of which not all is whole is saved as its state dict"));
    let names = checkpoint.names(&checkpoint.top())?;
    let known: HashSet<String> = lost.iter().map(|lost| lost.name.clone()).collect();
    let mut left = Vec::new();
    for entry in names.entries.iter().filter(|entry| !known.contains(&entry.name())) {
        match entry.item {
            Item::Tensor(id, true) => left.push((entry.name(), entry.node, Some(id))),
            Item::Tensor(_, false) => {
                lost.push(Lost { name: entry.name(), why: "is whole, but not part of the state dict".to_owned() });
            }
            _ => {}
        }
    }
    checkpoint.give_up_lost()?;
    state_dict(checkpoint, &left, None)
}
