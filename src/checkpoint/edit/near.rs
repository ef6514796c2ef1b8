//! Names near one that is not there, to be shown in its place.

use std::collections::BTreeMap;

/// How many of them an error shows.
pub const MAX_NEAR: usize = 3;
/// Names that are looked at, and characters of each.
const MAX_NAMES: usize = 100_000;
const MAX_CHARS: usize = 100;

/// The names that are most like `wanted`, the nearest first; few enough to be shown, or none.
pub fn near<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let allowed = (wanted.chars().count() / 3).clamp(1, 6);
    let lower = wanted.to_lowercase();
    let mut found: Vec<(usize, &str)> = Vec::new();
    for name in names.into_iter().take(MAX_NAMES) {
        let is_part = name.len() > wanted.len() && wanted.len() > 2 && name.ends_with(&format!(".{wanted}"))
            || wanted.len() > name.len() && name.len() > 2 && wanted.ends_with(&format!(".{name}"));
        let far = if is_part { 1 } else { distance(&lower, &name.to_lowercase(), allowed) };
        if far <= allowed && name != wanted && !found.iter().any(|(_, other)| *other == name) {
            found.push((far, name));
            found.sort_by_key(|(far, _)| *far);
            found.truncate(MAX_NEAR);
        }
    }
    let nearest = found.first().map_or(0, |(far, _)| *far);
    found.into_iter().filter(|(far, _)| *far <= nearest + 1).map(|(_, name)| name).collect()
}

/// What names begin with, up to their dots: as many elements as `like` has, each prefix with how many names have it, the
/// commonest first.
pub fn prefixes<'a>(like: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, u64)> {
    let dots = like.trim_end_matches('.').matches('.').count() + 1;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for name in names.into_iter().take(MAX_NAMES) {
        let end = name.match_indices('.').nth(dots - 1).map(|(at, _)| at + 1);
        if let Some(prefix) = end.and_then(|end| name.get(..end)) {
            *counts.entry(prefix).or_default() += 1;
        }
    }
    let mut found: Vec<(&str, u64)> = counts.into_iter().collect();
    found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    found
}

/// Insertions, deletions and replacements from one to the other; more than `most` as soon as there are.
fn distance(a: &str, b: &str, most: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(MAX_CHARS).collect(), b.chars().take(MAX_CHARS).collect());
    if a.len().abs_diff(b.len()) > most {
        return most + 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut least = left;
        let mut next = vec![left];
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            let here = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            (diagonal, left, least) = (*above, here, least.min(here));
            next.push(here);
        }
        if least > most {
            return most + 1;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, want) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "abd", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!((distance(a, b, 5), distance(b, a, 5)), (want, want), "{a} {b}");
        }
        assert_eq!(distance("abcdef", "uvwxyz", 2), 3, "more than that");
    }

    #[test]
    fn nearest_first() {
        let names = ["fc.weight", "fc.bias", "module.fc.weight", "conv1.weight"];
        assert_eq!(near("fc.wieght", names), ["fc.weight"]);
        assert_eq!(near("fc.weight", names), ["module.fc.weight"]);
        assert!(near("optimizer", names).is_empty());
        assert_eq!(prefixes("modul.", ["module.a.b", "module.c", "net.d", "e"]), [("module.", 2), ("net.", 1)]);
        assert_eq!(prefixes("a.b.", ["x.y.z", "x.y"]), [("x.y.", 1)]);
    }
}
