//! The layers of a model in the stages of a pipeline: each stage numbers its own from 0 on.
//!
//! Source: `get_transformer_layer_offset` of `megatron/core/transformer/transformer_layer.py`: stages follow each other, and
//! where a process has several, its first ones come before all second ones.

use std::collections::{BTreeMap, BTreeSet};

/// What stands before the number of a layer.
const LAYERS: &str = "layers.";

/// What comes before the number of a layer in a name, the number, and the rest.
fn layer(name: &str) -> Option<(&str, u64, &str)> {
    let mut from = 0;
    while let Some(at) = name.get(from..)?.find(LAYERS).map(|at| from + at) {
        let number = at + LAYERS.len();
        let digits = name.get(number..)?.bytes().take_while(u8::is_ascii_digit).count();
        let is_element = at == 0 || name.get(..at)?.ends_with('.');
        if is_element && digits > 0 && name.get(number + digits..)?.starts_with('.') {
            let layer = name.get(number..number + digits)?.parse().ok()?;
            return Some((name.get(..number)?, layer, name.get(number + digits..)?));
        }
        from = number;
    }
    None
}

/// How many layers come before those of each stage, by what stands before their number.
#[derive(Debug, Default)]
pub(super) struct Offsets(Vec<BTreeMap<String, u64>>);

impl Offsets {
    /// From the names that each stage has, in the order of the stages. The error says what is not clear.
    pub(crate) fn of(stages: &[Vec<String>]) -> Result<Self, String> {
        if stages.len() < 2 {
            return Ok(Offsets::default());
        }
        let mut numbers: Vec<BTreeMap<String, BTreeSet<u64>>> = Vec::new();
        for names in stages {
            let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
            for (before, number, _) in names.iter().filter_map(|name| layer(name)) {
                found.entry(before.to_owned()).or_default().insert(number);
            }
            numbers.push(found);
        }
        let prefixes: BTreeSet<&String> = numbers.iter().flat_map(BTreeMap::keys).collect();
        let mut offsets = Offsets(vec![BTreeMap::new(); stages.len()]);
        for prefix in prefixes {
            let own: Vec<Option<&BTreeSet<u64>>> = numbers.iter().map(|found| found.get(prefix)).collect();
            let is_row = |set: &BTreeSet<u64>, from: u64| set.iter().copied().eq(from..from + set.len() as u64);
            let mut from = 0;
            let (mut are_own, mut are_global) = (true, true);
            for set in own.iter().flatten() {
                are_own &= is_row(set, 0);
                are_global &= is_row(set, from);
                from += set.len() as u64;
            }
            if !are_own && !are_global {
                return Err(format!("the stages number {prefix}* so that it is not clear which layers they are"));
            }
            let mut before = 0;
            for (set, offsets) in own.iter().zip(&mut offsets.0) {
                let Some(set) = set else { continue };
                offsets.insert(prefix.clone(), if are_own { before } else { 0 });
                before += set.len() as u64;
            }
        }
        Ok(offsets)
    }

    /// The name in the whole model of what a stage calls `name`.
    pub(crate) fn global(&self, stage: usize, name: &str) -> String {
        let Some((before, number, after)) = layer(name) else { return name.to_owned() };
        let offset = self.0.get(stage).and_then(|offsets| offsets.get(before)).copied().unwrap_or(0);
        format!("{before}{}{after}", number.saturating_add(offset))
    }

    /// How many layers there are, where all have the same before their number.
    pub(crate) fn layers(stages: &[Vec<String>]) -> Option<u64> {
        let mut found: BTreeMap<&str, Vec<BTreeSet<u64>>> = BTreeMap::new();
        for (stage, names) in stages.iter().enumerate() {
            for (before, number, _) in names.iter().filter_map(|name| layer(name)) {
                let sets = found.entry(before).or_insert_with(|| vec![BTreeSet::new(); stages.len()]);
                sets.iter_mut().skip(stage).take(1).for_each(|set| set.extend([number]));
            }
        }
        let mut found = found.into_values();
        let sets = found.next().filter(|_| found.next().is_none())?;
        Some(sets.iter().map(|set| set.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(layers: &[u64]) -> Vec<String> {
        layers.iter().map(|layer| format!("decoder.layers.{layer}.w")).collect()
    }

    #[test]
    fn layers_are_counted_through() {
        assert_eq!(layer("a.layers.12.b.layers.3.c"), Some(("a.layers.", 12, ".b.layers.3.c")));
        assert_eq!(layer("layers.0.w"), Some(("layers.", 0, ".w")));
        assert_eq!(
            (layer("mlayers.0.w"), layer("layers.x.w"), layer("layers.0"), layer("é.layers.é")),
            (None, None, None, None)
        );
        let stages = [names(&[0, 1, 2]), names(&[]), names(&[0, 1])];
        let offsets = Offsets::of(&stages).unwrap();
        assert_eq!(offsets.global(2, "decoder.layers.1.w"), "decoder.layers.4.w");
        assert_eq!(offsets.global(0, "decoder.layers.1.w"), "decoder.layers.1.w");
        assert_eq!(offsets.global(2, "decoder.norm"), "decoder.norm");
        assert_eq!(Offsets::layers(&stages), Some(5));
        let global = Offsets::of(&[names(&[0, 1]), names(&[2, 3])]).unwrap();
        assert_eq!(global.global(1, "decoder.layers.3.w"), "decoder.layers.3.w");
        assert!(Offsets::of(&[names(&[0, 1]), names(&[1, 2])]).is_err());
        assert!(Offsets::of(&[names(&[0, 2]), names(&[0])]).is_err());
        assert!(Offsets::of(&[names(&[0, 2])]).is_ok());
    }
}
