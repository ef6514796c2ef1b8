//! The files that several ranks wrote, by their names: they differ in the number of the rank alone.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Endings of files that `torch.save` writes.
const ENDINGS: &[&str] = &[".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar"];
/// DeepSpeed's own files, whose tensors are flat and not placed.
const OTHERS: &[&str] = &["_model_states", "_optim_states"];
/// What Meta's own files begin with, before the number (`llama/generation.py`).
const META: &str = "consolidated.";
/// What stands for the number in a pattern.
pub(super) const ANY: char = '*';
/// Ranks that one checkpoint may have.
const MAX_RANKS: u64 = 1 << 20;
/// Missing files that an error names.
const MISSING_SHOWN: usize = 5;

/// Files of several ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    prefix: String,
    suffix: String,
    /// How many there were, where the names say so.
    pub world: Option<u64>,
    /// The ranks and their files.
    pub files: BTreeMap<u64, String>,
}

impl Group {
    /// The name with a star for the number.
    pub(crate) fn pattern(&self) -> String {
        format!("{}{ANY}{}", self.prefix, self.suffix)
    }

    /// Whether the files are called a model's.
    pub(crate) fn is_model(&self) -> bool {
        self.prefix.starts_with("model") || self.is_meta()
    }

    /// Whether they are called as Meta's are.
    pub(crate) fn is_meta(&self) -> bool {
        self.prefix == META
    }

    /// Fails where a rank between the first and the last is missing.
    pub(crate) fn check_complete(&self) -> Result<()> {
        let last = self.files.keys().next_back().map_or(0, |last| last.saturating_add(1));
        let world = self.world.unwrap_or(last);
        if last > world {
            let file = self.files.values().next_back().map_or("", String::as_str);
            return Err(Error::malformed(format!("{file} is of rank {}, and its name of {world} ranks", last - 1)));
        }
        if world > MAX_RANKS {
            return Err(Error::malformed(format!("{} is of {world} ranks", self.pattern())));
        }
        let missing: Vec<u64> = (0..world).filter(|rank| !self.files.contains_key(rank)).take(MISSING_SHOWN).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let more = world - self.files.len() as u64 - missing.len() as u64;
        let width = self
            .files
            .values()
            .next()
            .map_or(0, |name| name.len().saturating_sub(self.prefix.len() + self.suffix.len()));
        let name = |rank: &u64| format!("{}{rank:0width$}{}", self.prefix, self.suffix);
        let named: Vec<String> = missing.iter().map(name).collect();
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = if world - self.files.len() as u64 == 1 { "a rank is missing" } else { "ranks are missing" };
        Err(Error::malformed(format!("{what}: {}{rest}", named.join(", "))))
    }
}

/// A name as prefix, number and suffix, where it is one of a rank's file.
fn parsed(name: &str) -> Option<(&str, u64, &str)> {
    let ending = ENDINGS.iter().find(|ending| name.ends_with(**ending))?;
    let stem = name.strip_suffix(ending)?;
    if let Some(digits) = stem.strip_prefix(META).filter(|digits| digits.len() >= 2) {
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
        return Some((META, number, ending));
    }
    if OTHERS.iter().any(|other| stem.ends_with(other)) {
        return None;
    }
    let word = stem.to_ascii_lowercase().rfind("rank")? + "rank".len();
    let digits = stem.get(word..)?.trim_start_matches(['_', '-', '.', '=']);
    let at = stem.len() - digits.len();
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    let number = digits.get(..len)?.parse().ok()?;
    Some((name.get(..at)?, number, name.get(at + len..)?))
}

/// How many ranks a name says there are; the most there can be for a number that is larger.
fn world_of(prefix: &str) -> Option<u64> {
    let (_, after) = prefix.rsplit_once("world_size_")?;
    let len = after.bytes().take_while(u8::is_ascii_digit).count();
    let digits = after.get(..len).filter(|digits| !digits.is_empty())?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// The groups of files among the names of a directory: those whose names say of how many ranks, and others from number 0 on.
pub(super) fn groups(names: &[String]) -> Result<Vec<Group>> {
    let mut found: BTreeMap<(&str, &str), BTreeMap<u64, String>> = BTreeMap::new();
    for name in names {
        let Some((prefix, rank, suffix)) = parsed(name) else { continue };
        if let Some(other) = found.entry((prefix, suffix)).or_default().insert(rank, name.clone()) {
            return Err(Error::malformed(format!("{other} and {name} are both of rank {rank}")));
        }
    }
    let groups = found.into_iter().map(|((prefix, suffix), files)| Group {
        prefix: prefix.to_owned(),
        suffix: suffix.to_owned(),
        world: world_of(prefix),
        files,
    });
    let is_one = |group: &Group| {
        group.world.is_some() || group.files.contains_key(&0) && (group.is_meta() || group.files.len() > 1)
    };
    Ok(groups.filter(is_one).collect())
}

/// The group whose name with a star for the number is `pattern`.
pub(super) fn by_pattern(names: &[String], pattern: &str) -> Option<Group> {
    let (prefix, suffix) = pattern.split_once(ANY).filter(|(_, suffix)| !suffix.contains(ANY))?;
    let mut files = BTreeMap::new();
    for name in names {
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        let Some(rank) = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        files.insert(rank.parse().ok()?, name.clone());
    }
    let (prefix, suffix, world) = (prefix.to_owned(), suffix.to_owned(), world_of(prefix));
    (!files.is_empty()).then_some(Group { prefix, suffix, world, files })
}

/// The group that a directory stands for, and the others; nothing where there is none.
pub(super) fn choose(mut groups: Vec<Group>) -> Result<Option<(Group, Vec<Group>)>> {
    let models: Vec<usize> =
        groups.iter().enumerate().filter(|(_, group)| group.is_model()).map(|(place, _)| place).collect();
    let place = match (models.as_slice(), groups.len()) {
        (_, 0) => return Ok(None),
        ([only], _) => *only,
        ([], 1) => 0,
        _ => {
            let of_models = |group: &&Group| models.is_empty() || group.is_model();
            let patterns: Vec<String> = groups.iter().filter(of_models).map(Group::pattern).collect();
            let worlds: Vec<u64> = groups.iter().filter(of_models).filter_map(|group| group.world).collect();
            let what = match worlds.as_slice() {
                [first, rest @ ..] if rest.iter().any(|world| world != first) => "rank files of different world sizes",
                _ => "several sets of rank files",
            };
            return Err(Error::unsupported(format!(
                "is a directory with {what}; name one of them, in quotes: {}",
                patterns.join(", ")
            )));
        }
    };
    let chosen = groups.remove(place);
    Ok(Some((chosen, groups)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Vec<(String, usize)> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        groups(&names).unwrap().iter().map(|group| (group.pattern(), group.files.len())).collect()
    }

    #[test]
    fn names_of_rank_files() {
        assert_eq!(parsed("model_world_size_4_rank_12.pt"), Some(("model_world_size_4_rank_", 12, ".pt")));
        assert_eq!(parsed("a.rank-00003.x.pth"), Some(("a.rank-", 3, ".x.pth")));
        assert_eq!(world_of("model_world_size_18446744073709551620_rank_"), Some(u64::MAX));
        assert_eq!((world_of("model_world_size_4_rank_"), world_of("model_world_size__rank_")), (Some(4), None));
        assert_eq!(parsed("Rank0.ckpt"), Some(("Rank", 0, ".ckpt")));
        for other in
            ["model.pt", "frank.pt", "ranking_3.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt", "rank_0.json"]
        {
            assert_eq!(parsed(other), None, "{other}");
        }
        assert_eq!(parsed("rank_99999999999999999999.pt"), None);
        assert_eq!(parsed("consolidated.00.pth"), Some(("consolidated.", 0, ".pth")));
        assert_eq!(parsed("consolidated.safetensors"), None);
        assert_eq!(parsed("consolidated.0x.pth"), None);
    }

    #[test]
    fn groups_of_a_directory() {
        assert_eq!(found(&["lora_rank8.pt", "lora_rank16.pt", "x_rank_0.pt"]), []);
        let verl = ["model_world_size_2_rank_0.pt", "optim_world_size_2_rank_0.pt", "config.json"];
        assert_eq!(found(&verl).len(), 2);
        let names: Vec<String> = verl.iter().map(|name| (*name).to_owned()).collect();
        let (chosen, others) = choose(groups(&names).unwrap()).unwrap().unwrap();
        assert_eq!((chosen.pattern().as_str(), others.len()), ("model_world_size_2_rank_*.pt", 1));
        let e = chosen.check_complete().unwrap_err();
        assert_eq!(e.message(), "a rank is missing: model_world_size_2_rank_1.pt");
        let two = ["model_world_size_2_rank_0.pt", "model_world_size_4_rank_0.pt"].map(str::to_owned);
        assert!(choose(groups(&two).unwrap()).unwrap_err().message().contains("different world sizes"));
        let twice = ["a_rank_0.pt", "a_rank_1.pt", "a_rank_01.pt"].map(str::to_owned);
        assert!(groups(&twice).is_err());
        assert_eq!(by_pattern(&names, "optim_world_size_2_rank_*.pt").unwrap().files.len(), 1);
        assert_eq!(by_pattern(&names, "optim_world_size_*_rank_*.pt"), None);
        let huge = ["m_world_size_18446744073709551615_rank_0.pt"].map(str::to_owned);
        assert!(groups(&huge).unwrap()[0].check_complete().is_err());
    }
}
