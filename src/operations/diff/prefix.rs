//! A prefix that the names of one file have and those of the other have not: `module.` of a wrapped model.

use std::collections::{HashMap, HashSet};

use super::side::Aligned;
use crate::checkpoint::edit::rules::Step;
use crate::checkpoint::names::{Element, join};

/// How the names of one side become those of the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Prefix {
    /// The side that has it.
    pub in_a: bool,
    /// With its last dot.
    pub prefix: String,
    /// It stands inside names too.
    anywhere: bool,
    /// It is the beginning of keys, not a mapping of its own.
    in_keys: bool,
}

impl Prefix {
    /// The prefix that one of two names has and the other has not.
    pub(crate) fn between(a: &Aligned, b: &Aligned) -> Option<Self> {
        let in_a = a.name.len() > b.name.len();
        let (long, short) = if in_a { (&a.path, &b.path) } else { (&b.path, &a.path) };
        let common = long.iter().zip(short).take_while(|(x, y)| x == y).count();
        let (long, short) = (long.get(common..)?, short.get(common..)?);
        let (long_name, short_name) = (join(long), join(short));
        let more = long_name.len().checked_sub(short_name.len()).filter(|more| *more > 0)?;
        let mut anywhere = false;
        let mut prefix = long_name.strip_suffix(&short_name);
        if prefix.is_none() {
            let alike = long_name.bytes().zip(short_name.bytes()).take_while(|(x, y)| x == y).count();
            let head = long_name.get(..alike)?.rfind('.')? + 1;
            let rest = long_name.get(head + more..)?;
            prefix = long_name.get(head..head + more).filter(|_| short_name.get(head..) == Some(rest));
            anywhere = true;
        }
        let prefix = prefix.filter(|prefix| prefix.ends_with('.'))?;
        let in_keys = match long.first() {
            Some(Element::Text(text)) => anywhere || text.starts_with(prefix),
            _ => false,
        };
        Some(Prefix { in_a, prefix: prefix.to_owned(), anywhere, in_keys })
    }

    /// The name without the prefix, for each place where it stands.
    fn stripped(&self, name: &str) -> impl Iterator<Item = String> {
        let places = name.match_indices(&self.prefix);
        let places = places.filter(|(at, _)| *at == 0 || name.get(..*at).is_some_and(|head| head.ends_with('.')));
        places.filter_map(|(at, prefix)| Some(format!("{}{}", name.get(..at)?, name.get(at + prefix.len()..)?)))
    }

    /// Whether it is what makes the difference between two names.
    pub(crate) fn explains(&self, a: &str, b: &str) -> bool {
        let (long, short) = if self.in_a { (a, b) } else { (b, a) };
        self.stripped(long).any(|name| name == short)
    }

    /// For each name of A the name of B that belongs to it, as indexes into both.
    pub(crate) fn align(&self, a: &[&Aligned], b: &[&Aligned]) -> Vec<(usize, usize)> {
        let (long, short) = if self.in_a { (a, b) } else { (b, a) };
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(short.len());
        for (index, named) in short.iter().enumerate() {
            places.entry(&named.name).or_insert(index);
        }
        let mut pairs = Vec::new();
        for (index, named) in long.iter().enumerate() {
            if let Some(other) = self.stripped(&named.name).find_map(|name| places.remove(name.as_str())) {
                pairs.push(if self.in_a { (index, other) } else { (other, index) });
            }
        }
        pairs
    }

    /// The edit that takes it off for good; none when no key begins with it.
    pub(crate) fn step(&self) -> Option<Step> {
        let step = if self.anywhere { Step::StripAnywhere } else { Step::StripPrefix };
        self.in_keys.then(|| step(self.prefix.clone()))
    }
}

/// Names of each side that are held against all of the other.
const SAMPLES: usize = 8;

/// The prefix that explains most names, if that is at least half of those that could be explained. `alike` says whether
/// two names may stand for the same thing.
pub(crate) fn by_names(a: &[&Aligned], b: &[&Aligned], alike: impl Fn(&Aligned, &Aligned) -> bool) -> Option<Prefix> {
    let last = |named: &Aligned| named.name.rsplit('.').next().map(str::len);
    let pairs = a.iter().take(SAMPLES).flat_map(|x| b.iter().map(move |y| (x, y)));
    let pairs = pairs.chain(b.iter().take(SAMPLES).flat_map(|y| a.iter().map(move |x| (x, y))));
    let related = pairs.filter(|(x, y)| last(x) == last(y) && x.name.len() != y.name.len() && alike(x, y));
    let found: HashSet<Prefix> = related.filter_map(|(x, y)| Prefix::between(x, y)).take(4 * SAMPLES).collect();
    let are_alike = |(x, y): &(usize, usize)| a.get(*x).zip(b.get(*y)).is_some_and(|(x, y)| alike(x, y));
    let explained = |prefix: &Prefix| prefix.align(a, b).iter().filter(|pair| are_alike(pair)).count();
    let mut best: Vec<(usize, Prefix)> = found.into_iter().map(|prefix| (explained(&prefix), prefix)).collect();
    // of equals the longest, then the first in the alphabet: always the same one
    best.sort_by(|(n, x), (m, y)| {
        let key = |prefix: &Prefix| (prefix.prefix.clone(), prefix.in_a, prefix.anywhere, prefix.in_keys);
        m.cmp(n).then(y.prefix.len().cmp(&x.prefix.len())).then_with(|| key(x).cmp(&key(y)))
    });
    let (explained, prefix) = best.into_iter().next()?;
    (explained * 2 >= a.len().min(b.len())).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::super::side::What;
    use super::*;
    use crate::pickle::Graph;

    fn named(path: &[&str]) -> Aligned {
        let path: Vec<Element> = path.iter().map(|text| Element::Text((*text).into())).collect();
        Aligned { name: join(&path), path, node: Graph::NONE, what: What::Value }
    }

    /// Two paths; the prefix, and the edit that takes it off: at the beginning of keys, or anywhere in them.
    type Case = (&'static [&'static str], &'static [&'static str], Option<(&'static str, Option<Edit>)>);

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Edit {
        Beginning,
        Anywhere,
    }

    #[test]
    fn where_the_prefix_stands() {
        let cases: &[Case] = &[
            (&["module.fc.w"], &["fc.w"], Some(("module.", Some(Edit::Beginning)))),
            (&["state", "module.fc.w"], &["state", "fc.w"], Some(("module.", Some(Edit::Beginning)))),
            (&["model._orig_mod.w"], &["model.w"], Some(("_orig_mod.", Some(Edit::Anywhere)))),
            (&["module.module.w"], &["module.w"], Some(("module.", Some(Edit::Beginning)))),
            (&["module", "w"], &["w"], Some(("module.", None))),
            (&["fc.weight"], &["weight"], Some(("fc.", Some(Edit::Beginning)))),
            (&["xfc.w"], &["fc.w"], None),
            (&["a.w"], &["b.w"], None),
            (&["a.long.w"], &["b.w"], None),
        ];
        for (long, short, want) in cases {
            let (long, short) = (named(long), named(short));
            for (in_a, found) in [(true, Prefix::between(&long, &short)), (false, Prefix::between(&short, &long))] {
                assert_eq!(
                    found.as_ref().map(|p| (p.in_a, p.prefix.as_str())),
                    want.map(|(p, _)| (in_a, p)),
                    "{long:?}"
                );
                let edit = found.as_ref().and_then(Prefix::step).map(|step| match step {
                    Step::StripPrefix(prefix) => (prefix, Edit::Beginning),
                    Step::StripAnywhere(prefix) => (prefix, Edit::Anywhere),
                    other => panic!("{other:?}"),
                });
                assert_eq!(edit, want.and_then(|(prefix, edit)| Some((prefix.to_owned(), edit?))));
                if let Some(p) = found {
                    let (a, b) = if in_a { (&long, &short) } else { (&short, &long) };
                    assert!(p.explains(&a.name, &b.name));
                }
            }
        }
    }

    #[test]
    fn the_prefix_of_most_names() {
        let long: Vec<Aligned> = ["module.a.w", "module.a.b", "module.c.w", "new.w"].map(|n| named(&[n])).into();
        let short: Vec<Aligned> = ["a.w", "a.b", "c.w", "old"].map(|n| named(&[n])).into();
        let (long, short): (Vec<_>, Vec<_>) = (long.iter().collect(), short.iter().collect());
        let found = by_names(&short, &long, |_, _| true).unwrap();
        assert_eq!((found.in_a, found.prefix.as_str()), (false, "module."));
        assert_eq!(found.align(&short, &long), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(by_names(&short, &short, |_, _| true), None);
        assert_eq!(by_names(&short, &long, |_, b| b.name == "module.a.w"), None);
    }
}
