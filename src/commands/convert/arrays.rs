//! Into formats of named arrays: safetensors and npz.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail};

use crate::checkpoint::selection::Weights;
use crate::checkpoint::tensor::{Data, Tensor};
use crate::checkpoint::{Checkpoint, Container};
use crate::commands::convert::{CastTo, Job, Shared, To, at_output};
use crate::commands::progress_bar::Bar;
use crate::dtype::Class;
use crate::report::convert::Alias;
use crate::write::atomic::Target;
use crate::write::content::Content;
use crate::write::safetensors::NamedTensor;
use crate::write::{npz, safetensors};

/// What a header takes for each tensor, besides its name.
const HEADER_BYTES: u64 = 512;

impl Job<'_> {
    pub(super) fn arrays(
        &mut self,
        checkpoint: &Checkpoint,
        target: Option<&Target>,
        values: Option<&Target>,
    ) -> anyhow::Result<()> {
        for (given, option) in [(self.args.device.is_some(), "--device"), (self.args.compact, "--compact")] {
            if given {
                bail!("{option} is for torch's formats; {} has nothing of the kind", self.to.name());
            }
        }
        let mut weights = self.weights(checkpoint)?;
        let mut metadata = BTreeMap::new();
        self.share(checkpoint, &mut weights, &mut metadata)?;
        if self.to == To::Safetensors {
            metadata.extend(own_metadata(checkpoint));
            metadata.insert("format".to_owned(), "pt".to_owned());
        }
        let tensors = self.named(checkpoint, &weights)?;
        self.save_values(checkpoint, &weights, values)?;
        self.report.tensors = tensors.len() as u64;
        match target {
            Some(target) => {
                let path = self.args.output.clone();
                self.write_arrays(target, path, &tensors, &metadata)
            }
            None => self.array_shards(tensors, &metadata),
        }
    }

    pub(super) fn write_arrays(
        &mut self,
        target: &Target,
        path: std::path::PathBuf,
        tensors: &[NamedTensor],
        metadata: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let mut bytes = 0_u64;
        for tensor in tensors {
            bytes = bytes.saturating_add(tensor.content.bytes(&self.limits)?).saturating_add(HEADER_BYTES);
        }
        self.check_room(target, bytes)?;
        let bar = Bar::new(&path.display().to_string(), bytes, self.args.report.quiet);
        let written = match self.to {
            To::Npz => npz::write(target, tensors, &self.limits, &bar),
            _ => safetensors::write(target, tensors, metadata, &self.limits, &bar),
        };
        drop(bar);
        let (output, overflows) = at_output(&path, written)?;
        self.report.overflows += overflows;
        self.outputs.push((path, output));
        Ok(())
    }

    fn named(&self, checkpoint: &Checkpoint, weights: &Weights) -> anyhow::Result<Vec<NamedTensor>> {
        let mut named = Vec::with_capacity(weights.tensors.len());
        for weight in &weights.tensors {
            let tensor = checkpoint.weight(weight)?;
            named.push(self.named_tensor(checkpoint, &weight.name, tensor).with_context(|| weight.name.clone())?);
        }
        Ok(named)
    }

    fn named_tensor(&self, checkpoint: &Checkpoint, name: &str, tensor: &Tensor) -> anyhow::Result<NamedTensor> {
        let format = self.to.name();
        if tensor.is_quantized() {
            bail!("{format} has no quantized tensors; --exclude {name:?} leaves it out");
        }
        if tensor.is_sparse() {
            bail!("{format} has no sparse tensors ({}); --exclude {name:?} leaves it out", tensor.layout);
        }
        let elements =
            tensor.elements(&checkpoint.storages).with_context(|| format!("--exclude {name:?} leaves it out"))?;
        elements.validate(&self.limits)?;
        let cast = self.args.dtype.map(CastTo::dtype);
        let cast = cast.filter(|to| elements.dtype.class() == Some(Class::Float) && elements.dtype != *to);
        let dtype = cast.clone().unwrap_or_else(|| elements.dtype.clone());
        let holds = match self.to {
            To::Npz => dtype.numpy().is_some(),
            _ => dtype.safetensors().is_some(),
        };
        if !holds {
            let help = match dtype.class() {
                Some(Class::Float) => "--dtype float32 casts it".to_owned(),
                _ => format!("--exclude {name:?} leaves it out"),
            };
            bail!("{format} has no {dtype}; {help}");
        }
        let shape = elements.shape.clone();
        Ok(NamedTensor { name: name.to_owned(), dtype, shape, content: Content::Elements { elements, cast } })
    }

    /// Finds tensors that share memory and does with them what `--shared` says.
    fn share(
        &mut self,
        checkpoint: &Checkpoint,
        weights: &mut Weights,
        metadata: &mut BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let mut first: HashMap<_, Vec<(String, Tensor, std::ops::Range<u64>)>> = HashMap::new();
        let mut dropped = Vec::new();
        // the library keeps the first name of a group in alphabetical order
        let mut order: Vec<_> = weights.tensors.iter().collect();
        if self.args.shared == Shared::Drop {
            order.sort_by(|a, b| a.name.cmp(&b.name));
        }
        for weight in order {
            let tensor = checkpoint.weight(weight)?;
            let Data::Storage { id, .. } = tensor.data else { continue };
            let Ok(elements) = tensor.elements(&checkpoint.storages) else { continue };
            let Ok(extent) = elements.validate(&self.limits) else { continue };
            if extent.span.is_empty() {
                continue;
            }
            let group = first.entry(id).or_default();
            let overlaps = |span: &std::ops::Range<u64>| span.start < extent.span.end && extent.span.start < span.end;
            if let Some((name, other, _)) = group.iter().find(|(_, _, span)| overlaps(span)) {
                let alias = Alias { name: weight.name.clone(), shares_with: name.clone(), dropped: false };
                match self.args.shared {
                    Shared::Error => {
                        bail!("{} and {name} share memory; --shared duplicate or --shared drop", weight.name)
                    }
                    Shared::Duplicate => self.report.shared.push(alias),
                    Shared::Drop if is_same_view(tensor, other) => {
                        metadata.insert(weight.name.clone(), name.clone());
                        dropped.push(weight.name.clone());
                        self.report.shared.push(Alias { dropped: true, ..alias });
                        continue;
                    }
                    Shared::Drop => bail!(
                        "{} and {name} are different views of one storage, so neither is an alias; --shared duplicate",
                        weight.name
                    ),
                }
            }
            group.push((weight.name.clone(), tensor.clone(), extent.span));
        }
        if self.to == To::Npz && !dropped.is_empty() {
            bail!("npz has no place to record aliases; --shared duplicate");
        }
        weights.tensors.retain(|weight| !dropped.contains(&weight.name));
        Ok(())
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

/// `__metadata__` of a safetensors input.
fn own_metadata(checkpoint: &Checkpoint) -> BTreeMap<String, String> {
    let objects = checkpoint.objects();
    if checkpoint.container != Container::Safetensors {
        return BTreeMap::new();
    }
    let text = |node| checkpoint.graph.str(node).unwrap_or_default().into_owned();
    let items = objects.items(checkpoint.root).unwrap_or_default();
    let metadata = items.iter().find(|entry| text(entry.key) == "__metadata__");
    let entries = metadata.and_then(|entry| objects.items(entry.value)).unwrap_or_default();
    entries.iter().map(|entry| (text(entry.key), text(entry.value))).collect()
}
