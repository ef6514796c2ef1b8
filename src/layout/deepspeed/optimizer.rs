//! `*_optim_states.pt`: one rank's part of the fp32 weights, and what it says of the whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::partition::Place;
use super::reading::{Flat, number, open, value, wrong};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::limits::Limits;
use crate::pickle::NodeId;
use crate::source::{SharedSource, read_vec};

/// One rank's file.
#[derive(Debug)]
pub(super) struct Rank {
    pub file: Arc<str>,
    /// 1, 2 or 3.
    pub stage: i64,
    /// How many ranks share each group.
    pub counts: Vec<i64>,
    /// The flat fp32 weights of each group.
    pub groups: Vec<Flat>,
    /// Elements that pad each parameter of a group.
    pub alignments: Option<Vec<Vec<u64>>>,
    /// Where the file says a parameter's elements begin in its part of a group, and how many there are.
    slices: Vec<BTreeMap<String, (u64, u64)>>,
    /// How many steps the optimizer has taken, by group.
    steps: BTreeMap<String, f64>,
}

impl Rank {
    /// Reads a file.
    pub(crate) fn read(file: &str, source: &SharedSource, limits: &Limits) -> Result<Self> {
        let checkpoint = open(file, source, limits)?;
        let objects = checkpoint.objects();
        let state = value(objects, checkpoint.root, "optimizer_state_dict");
        let state = state.ok_or_else(|| wrong(file, "has no optimizer_state_dict"))?;
        let get = |key: &str| value(objects, state, key);
        let (of_2, of_3) = (get("single_partition_of_fp32_groups"), get("fp32_flat_groups"));
        let stage = match get("zero_stage") {
            Some(stage) => number(objects, stage).filter(|stage| (1..=3).contains(stage)),
            // DeepSpeed's BF16_Optimizer does not say
            None if of_2.is_some() => Some(1),
            None => None,
        };
        let stage = stage.ok_or_else(|| wrong(file, "does not say which ZeRO stage (1, 2, 3) it is of"))?;
        let key = if stage == 3 { "fp32_flat_groups" } else { "single_partition_of_fp32_groups" };
        let list = if stage == 3 { of_3 } else { of_2 };
        let list = list.and_then(|list| objects.elements(list));
        let list = list.ok_or_else(|| wrong(file, format_args!("has no {key}: the fp32 weights are not in it")))?;
        let groups = list.iter().zip(0..).map(|(node, number)| {
            let flat = Flat::of(&checkpoint, *node);
            flat.map_err(|what| wrong(file, format_args!("{key}, group {number}: {what}")))
        });
        let groups: Vec<Flat> = groups.collect::<Result<_>>()?;
        let counts = get("partition_count").and_then(|counts| match objects.elements(counts) {
            Some(list) => list.iter().map(|count| number(objects, *count)).collect(),
            None => number(objects, counts).map(|count| vec![count]),
        });
        let counts: Vec<i64> = counts.ok_or_else(|| wrong(file, "has no partition_count"))?;
        let alignments = get("param_alignment_paddings").map(|lists| {
            let list = |node: &NodeId| -> Option<Vec<u64>> {
                let all = objects.elements(*node)?;
                all.iter().map(|padding| u64::try_from(number(objects, *padding)?).ok()).collect()
            };
            let lists = objects.elements(lists).and_then(|lists| lists.iter().map(list).collect());
            lists.ok_or_else(|| wrong(file, "its param_alignment_paddings cannot be read"))
        });
        let base = get("base_optimizer_state").or_else(|| get("optimizer_state_dict"));
        Ok(Rank {
            stage,
            counts,
            alignments: alignments.transpose()?,
            slices: get("param_slice_mappings").map_or_else(Vec::new, |node| slices(&checkpoint, node)),
            steps: base.map_or_else(BTreeMap::new, |base| steps(&checkpoint, base)),
            groups,
            file: file.into(),
        })
    }

    /// How many elements each group has.
    pub(crate) fn lengths(&self) -> Vec<u64> {
        self.groups.iter().map(Flat::len).collect()
    }

    /// How many steps the optimizer has taken, for each parameter or group of which it says so.
    pub(crate) fn steps(&self) -> impl Iterator<Item = f64> {
        self.steps.values().copied()
    }

    /// Fails where another rank's file is of another checkpoint.
    pub(crate) fn agrees(&self, other: &Rank) -> Result<()> {
        let (here, there) = (&self.file, &other.file);
        if self.stage != other.stage {
            return Err(wrong(there, format_args!("is of ZeRO stage {}, and {here} of {}", other.stage, self.stage)));
        }
        if self.counts != other.counts {
            let (ours, theirs) = (&self.counts, &other.counts);
            return Err(wrong(
                there,
                format_args!("its partition_count is {theirs:?}, and that of {here} is {ours:?}"),
            ));
        }
        if self.groups.len() != other.groups.len() {
            let (ours, theirs) = (self.groups.len(), other.groups.len());
            return Err(wrong(there, format_args!("has {theirs} groups of weights, and {here} has {ours}")));
        }
        if self.alignments != other.alignments {
            return Err(wrong(there, format_args!("its param_alignment_paddings are not those of {here}")));
        }
        for (group, step) in &self.steps {
            if let Some(theirs) = other.steps.get(group).filter(|theirs| *theirs != step) {
                return Err(wrong(there, format_args!("is of step {theirs}, and {here} of step {step}")));
            }
        }
        Ok(())
    }

    /// Fails where the file says that a parameter's elements are not those at `place`.
    pub(crate) fn holds(&self, name: &str, place: &Place) -> Result<()> {
        let Some(slices) = self.slices.get(place.group).filter(|slices| !slices.is_empty()) else { return Ok(()) };
        let Some((from, len)) = slices.get(name) else {
            let Place { rank, len, .. } = place;
            return match len {
                0 => Ok(()),
                _ => Err(wrong(
                    &self.file,
                    format_args!("has nothing of {name}, of which rank {rank} has {len} elements"),
                )),
            };
        };
        if (*from, *len) == (place.from, place.len) {
            return Ok(());
        }
        let Place { rank, from: ours, len: many, .. } = place;
        Err(wrong(
            &self.file,
            format_args!("has {len} elements of {name} from {from} on, where rank {rank} has {many} from {ours} on"),
        ))
    }
}

/// `param_slice_mappings`: for each group a dict of names to `fragment_address(numel, start)`. What is none is left out.
fn slices(checkpoint: &Checkpoint, node: NodeId) -> Vec<BTreeMap<String, (u64, u64)>> {
    let objects = checkpoint.objects();
    let size = |node: NodeId, name: &str| {
        objects.attribute(node, name).and_then(|value| u64::try_from(number(objects, value)?).ok())
    };
    let groups = objects.elements(node).unwrap_or_default();
    let of_group = |group: NodeId| -> BTreeMap<String, (u64, u64)> {
        let items = super::reading::named(objects, group).unwrap_or_default().into_iter();
        items.filter_map(|(name, at)| Some((name, (size(at, "start")?, size(at, "numel")?)))).collect()
    };
    groups.into_iter().map(of_group).collect()
}

/// The steps that an optimizer's state speaks of: a number or a tensor of one element for each parameter, a number for each
/// group.
fn steps(checkpoint: &Checkpoint, base: NodeId) -> BTreeMap<String, f64> {
    let objects = checkpoint.objects();
    let mut found = BTreeMap::new();
    let mut add = |key: String, holder: NodeId| {
        if let Some(step) = value(objects, holder, "step").and_then(|node| step_of(checkpoint, node)) {
            found.insert(key, step);
        }
    };
    for (number, entry) in objects.elements(base).unwrap_or_default().into_iter().enumerate() {
        add(format!("state {number}"), entry);
    }
    for item in value(objects, base, "state").and_then(|state| objects.items(state)).unwrap_or_default() {
        let key = objects.graph.int(item.key).map(|key| format!("state {key}"));
        key.into_iter().for_each(|key| add(key, item.value));
    }
    let groups = value(objects, base, "param_groups").and_then(|groups| objects.elements(groups));
    for (number, group) in groups.unwrap_or_default().into_iter().enumerate() {
        add(format!("group {number}"), group);
    }
    found
}

#[allow(clippy::cast_precision_loss)] // both sides are rounded alike
fn step_of(checkpoint: &Checkpoint, node: NodeId) -> Option<f64> {
    if let Some(step) = checkpoint.graph.int(node) {
        return Some(step as f64);
    }
    let flat = Flat::of(checkpoint, node).ok().filter(|flat| flat.len() == 1)?;
    let size = u64::from(flat.elements.dtype.size()?);
    let bytes = read_vec(flat.elements.source.as_ref(), flat.elements.offset.checked_mul(size)?, size).ok()?;
    match (flat.elements.dtype.name(), bytes.as_slice()) {
        ("float32", bytes) => Some(f64::from(f32::from_le_bytes(bytes.try_into().ok()?))),
        ("float64", bytes) => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
        ("int64", bytes) => Some(i64::from_le_bytes(bytes.try_into().ok()?) as f64),
        _ => None,
    }
}
