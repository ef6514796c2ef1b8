//! Into formats of named arrays: safetensors and npz.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::{Casts, Job, Options, Outlet, Shared, at_output};
use crate::checkpoint::selection::{Weight, Weights};
use crate::checkpoint::storage::StorageId;
use crate::checkpoint::tensor::{Tensor, TensorId};
use crate::checkpoint::{Checkpoint, Container};
use crate::container::safetensors::FORMAT;
use crate::data::Elements;
use crate::dtype::{Class, DType};
use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::operations::sink::Sink;
use crate::report::convert::Alias;
use crate::write::format::Format;
use crate::write::safetensors::NamedTensor;
use crate::write::watch::Paced;
use crate::write::{npz, safetensors};

/// What a header takes for each tensor, besides its name.
const HEADER_BYTES: u64 = 512;

impl Job<'_> {
    pub(super) fn arrays(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let Options { device, compact, to, .. } = self.options;
        for (is_set, setting) in [(device.is_some(), Setting::Device), (*compact, Setting::Compact)] {
            if is_set {
                let what = format!(" is for torch's formats; {to} has nothing of the kind");
                return Err(Error::refused(setting.then(what)));
            }
        }
        let mut weights = self.weights(checkpoint)?;
        let aliases = self.share(checkpoint, &mut weights)?;
        let casts = self.casts(checkpoint, &weights.root, std::slice::from_ref(&weights.root))?;
        let metadata = self.new_metadata(checkpoint);
        let tensors = self.named(checkpoint, &weights.tensors, &casts)?;
        self.save_values(checkpoint, &weights.values)?;
        self.report.tensors = tensors.len() as u64;
        match self.outlet {
            Outlet::File(sink) => {
                self.watch_weights(checkpoint, &weights.tensors);
                // what the user says of a key counts for more than what we know
                let metadata = aliases.into_iter().chain(metadata).collect();
                self.write_arrays(sink, &tensors, &metadata)
            }
            Outlet::Shards(shards) => {
                self.array_shards(shards, checkpoint, (&weights.tensors, tensors), &metadata, &aliases)
            }
        }
    }

    /// The strings of a safetensors input as they were, for any other what the library writes; and what the user adds.
    fn new_metadata(&self, checkpoint: &Checkpoint) -> BTreeMap<String, String> {
        let mut metadata: BTreeMap<String, String> = self.metadata.iter().cloned().collect();
        if checkpoint.container() != Container::Safetensors && !metadata.contains_key(FORMAT) {
            metadata.insert(FORMAT.to_owned(), "pt".to_owned());
        }
        metadata.extend(self.options.set_metadata.iter().cloned());
        metadata
    }

    pub(super) fn write_arrays(
        &mut self,
        Sink { name, target }: &Sink,
        tensors: &[NamedTensor],
        metadata: &BTreeMap<String, String>,
    ) -> Result<()> {
        let mut bytes = 0_u64;
        for tensor in tensors {
            bytes = bytes.saturating_add(tensor.content().bytes(&self.limits)?).saturating_add(HEADER_BYTES);
        }
        self.check_room(target, bytes)?;
        self.progress.begin(name, bytes);
        let progress = &Paced::new(&self.watch, self.progress);
        let written = match self.options.to {
            Format::Npz => npz::write(target, tensors, &self.limits, progress),
            _ => safetensors::write(target, tensors, metadata, &self.limits, progress),
        };
        let (output, overflows) = at_output(name, written)?;
        self.overflowed(&overflows, |place| tensors.get(place).map(|tensor| tensor.name.clone()));
        self.keep(name, output)
    }

    fn named(&self, checkpoint: &Checkpoint, weights: &[Weight], casts: &Casts) -> Result<Vec<NamedTensor>> {
        let mut named = Vec::with_capacity(weights.len());
        for weight in weights {
            let tensor = checkpoint.weight(weight)?;
            let cast = self.options.dtype.as_ref().filter(|_| !casts.kept.tensors.contains(&weight.id));
            let made = self.named_tensor(checkpoint, &weight.name, tensor, cast);
            let (elements, cast) = made.map_err(|e| checkpoint.of_origin(weight.node, e.of_part(&weight.name)))?;
            named.push(NamedTensor { name: weight.name.clone(), elements, cast });
        }
        Ok(named)
    }

    fn named_tensor(
        &self,
        checkpoint: &Checkpoint,
        name: &str,
        tensor: &Tensor,
        cast: Option<&DType>,
    ) -> Result<(Elements, Option<DType>)> {
        let format = self.options.to;
        let leave_out = || Setting::Exclude.then(format!(" {name:?} leaves it out"));
        let has_no = |what: &str| Err(Error::refused(format!("{format} has no {what}")).advise(leave_out()));
        if tensor.is_quantized() {
            return has_no("quantized tensors");
        }
        if tensor.is_nested() {
            return has_no("nested tensors");
        }
        if tensor.is_sparse() {
            return has_no(&format!("sparse tensors ({})", tensor.layout));
        }
        let elements = tensor.readable(&checkpoint.storages).map_err(|e| match e.advice().cloned() {
            Some(advice) => e.advise(advice.text("; ").message(leave_out())),
            None => e.advise(leave_out()),
        })?;
        elements.validate(&self.limits)?;
        let cast = cast.filter(|to| elements.dtype.class() == Some(Class::Float) && elements.dtype != **to).cloned();
        let dtype = cast.as_ref().unwrap_or(&elements.dtype);
        let holds = match format {
            Format::Npz => dtype.numpy().is_some(),
            _ => dtype.safetensors().is_some(),
        };
        if !holds {
            let help = match dtype.class() {
                Some(Class::Float) => Setting::Dtype.then(" float32 casts it"),
                _ => leave_out(),
            };
            return Err(Error::refused(format!("{format} has no {dtype}")).advise(help));
        }
        Ok((elements, cast))
    }

    /// Finds tensors that share memory and does with them what was asked for; gives the aliases of those that are dropped.
    fn share(&mut self, checkpoint: &Checkpoint, weights: &mut Weights) -> Result<BTreeMap<String, String>> {
        let how = self.options.shared.unwrap_or_default();
        let mut viewed: HashMap<StorageId, Owners> = storages_of_several(checkpoint, weights)?;
        // one object under several names: what was an alias in the input
        let mut same: HashMap<TensorId, usize> = HashMap::new();
        let (mut aliases, mut dropped) = (BTreeMap::new(), HashSet::new());
        // the library keeps the first name of a group in alphabetical order
        let mut order: Vec<usize> = (0..weights.tensors.len()).collect();
        let named = |index: usize| weights.tensors.get(index).map(|weight| weight.name.as_str());
        if how == Shared::Drop {
            order.sort_by_key(|index| named(*index));
        }
        let tensor_at = |rank: usize| order.get(rank).and_then(|index| weights.tensors.get(*index));
        for (rank, &index) in order.iter().enumerate() {
            let Some(weight) = tensor_at(rank) else { continue };
            let tensor = checkpoint.weight(weight)?;
            let (owner, is_alias) = match tensor.storage() {
                Some(id) => {
                    let Some(owners) = viewed.get_mut(&id) else { continue };
                    let Ok(elements) = tensor.readable(&checkpoint.storages) else { continue };
                    let Ok(extent) = elements.validate(&self.limits) else { continue };
                    (owners.claim(extent.span, rank), false)
                }
                None => {
                    let first = *same.entry(weight.id).or_insert(rank);
                    // aliases of a safetensors input stay what they are unless the user says otherwise
                    let was_alias = !checkpoint.made_of.contains_key(&weight.id);
                    let stays = was_alias && self.options.to == Format::Safetensors && self.options.shared.is_none();
                    (Some(first).filter(|first| *first != rank), stays)
                }
            };
            let Some(owner) = owner.and_then(tensor_at) else { continue };
            let name = &owner.name;
            let alias = Alias { name: weight.name.clone(), shares_with: name.clone(), dropped: false };
            match how {
                Shared::Error => {
                    let message = Message::from(format!("{} and {name} share memory; ", weight.name));
                    let message = message.setting(Setting::Shared).text(" duplicate or ");
                    return Err(Error::refused(message.setting(Setting::Shared).text(" drop")));
                }
                Shared::Duplicate if !is_alias => self.report.shared.push(alias),
                _ if is_same_view(tensor, checkpoint.weight(owner)?) => {
                    aliases.insert(weight.name.clone(), name.clone());
                    dropped.insert(index);
                    self.report.shared.push(Alias { dropped: true, ..alias });
                }
                _ => {
                    let names = format!("{} and {name}", weight.name);
                    let what = format!("{names} are different views of one storage, so neither is an alias");
                    return Err(Error::refused(what).advise(Setting::Shared.then(" duplicate")));
                }
            }
        }
        if self.options.to == Format::Npz && !dropped.is_empty() {
            let what = "npz has no place to record aliases";
            return Err(Error::refused(what).advise(Setting::Shared.then(" duplicate")));
        }
        let mut index = 0..;
        weights.tensors.retain(|_| index.next().is_none_or(|index| !dropped.contains(&index)));
        Ok(aliases)
    }
}

/// The storages that more than one tensor looks at: few, mostly.
fn storages_of_several(checkpoint: &Checkpoint, weights: &Weights) -> Result<HashMap<StorageId, Owners>> {
    let (mut once, mut several) = (HashSet::new(), HashMap::new());
    for weight in &weights.tensors {
        if let Some(id) = checkpoint.weight(weight)?.storage()
            && !once.insert(id)
        {
            several.insert(id, Owners::default());
        }
    }
    Ok(several)
}

/// Who was the first to look at each byte of a storage: ranges by their first byte, with their end and whose they are.
#[derive(Debug, Default)]
struct Owners(BTreeMap<u64, (u64, usize)>);

impl Owners {
    /// Gives what nobody has of `span` to `rank`, which is higher than all before; the lowest of those who had some of it.
    fn claim(&mut self, span: Range<u64>, rank: usize) -> Option<usize> {
        if span.is_empty() {
            return None;
        }
        let from = self.0.range(..=span.start).next_back().map_or(span.start, |(start, _)| *start);
        let (mut first, mut free, mut at) = (None, Vec::new(), span.start);
        for (&start, &(end, owner)) in self.0.range(from..span.end).filter(|(_, (end, _))| *end > span.start) {
            first = Some(first.map_or(owner, |first: usize| first.min(owner)));
            free.extend((start > at).then_some((at, start)));
            at = end;
        }
        free.extend((span.end > at).then_some((at, span.end)));
        self.0.extend(free.into_iter().map(|(start, end)| (start, (end, rank))));
        first
    }
}

fn is_same_view(a: &Tensor, b: &Tensor) -> bool {
    let facts = |tensor: &Tensor| {
        (
            tensor.storage_offset,
            tensor.shape.clone(),
            tensor.stride.clone(),
            tensor.dtype.clone(),
            tensor.conj,
            tensor.neg,
        )
    };
    facts(a) == facts(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_that_overlaps(spans in prop::collection::vec((0_u64..60, 0_u64..20), 0..40)) {
            let spans: Vec<Range<u64>> = spans.iter().map(|(start, len)| *start..start + len).collect();
            let mut owners = Owners::default();
            for (rank, span) in spans.iter().enumerate() {
                let overlaps = |other: &Range<u64>| !other.is_empty() && other.start.max(span.start) < other.end.min(span.end);
                let wanted = spans[..rank].iter().position(overlaps);
                prop_assert_eq!(owners.claim(span.clone(), rank), wanted, "{:?} after {:?}", span, &spans[..rank]);
            }
        }
    }
}
