//! What names begin with: what could have been meant by a prefix that none has.

use std::collections::BTreeMap;

/// Names that are looked at.
const MAX_NAMES: usize = 100_000;

/// What names begin with, up to their dots: as many elements as `like` has, each prefix with how many names have it, the
/// commonest first.
pub(crate) fn prefixes<'a>(like: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, u64)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_elements_as_the_other_has() {
        assert_eq!(prefixes("modul.", ["module.a.b", "module.c", "net.d", "e"]), [("module.", 2), ("net.", 1)]);
        assert_eq!(prefixes("a.b.", ["x.y.z", "x.y"]), [("x.y.", 1)]);
    }
}
