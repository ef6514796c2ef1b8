//! Which tensors, values and subtrees the command line means.

use std::collections::HashSet;

use anyhow::{Context, bail};
use globset::GlobBuilder;

use crate::checkpoint::names::{Element, join};
use crate::checkpoint::{Checkpoint, Entry, Item, Root};
use crate::commands::names::{Filter, show_path};

/// What was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// Tensors and values in file order, with names relative to `root`.
    pub entries: Vec<Entry>,
    /// The object they lie below.
    pub root: Root,
    /// Everything below `root`.
    pub whole: bool,
    /// One tensor or value was asked for, not several of which there happens to be one.
    pub single: bool,
}

impl Chosen {
    /// The entries without the wrapper tensors whose parts were chosen with them.
    pub fn without_wrappers<'a>(&'a self, checkpoint: &'a Checkpoint) -> impl Iterator<Item = &'a Entry> {
        let next = self.entries.iter().skip(1).map(Some).chain(std::iter::once(None));
        let kept = self.entries.iter().zip(next).filter(|(entry, next)| {
            let wraps = match entry.item {
                Item::Tensor(id, _) => checkpoint.tensor(id).is_some_and(|tensor| tensor.wraps),
                _ => false,
            };
            let followed =
                next.is_some_and(|next| next.path.len() > entry.path.len() && next.path.starts_with(&entry.path));
            !(wraps && followed)
        });
        kept.map(|(entry, _)| entry)
    }
}

/// There is nothing of a name.
#[derive(Debug)]
pub struct NoSuchName {
    /// The name or glob.
    pub name: String,
    /// Names that look like it.
    pub near: Vec<String>,
}

impl std::fmt::Display for NoSuchName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is nothing named {}", self.name)?;
        match self.near.as_slice() {
            [] => Ok(()),
            near => write!(f, "; did you mean {}?", near.join(" or ")),
        }
    }
}

/// Finds what is meant by `names` below the element `root`, restricted by `filter`. Each of `names` is an exact name of
/// a tensor, value or subtree, else a glob over whole names. The inner error is the answer no.
pub fn choose(
    checkpoint: &Checkpoint,
    root: Option<&str>,
    names: &[String],
    filter: &Filter,
) -> anyhow::Result<Result<Chosen, NoSuchName>> {
    let mut root = match root {
        None => checkpoint.top(),
        Some(name) => match one_of(name, checkpoint.roots(name)?)? {
            Some(root) => root,
            None => return Ok(Err(no_such_name(&checkpoint.names(&checkpoint.top())?.entries, name))),
        },
    };
    let mut entries = checkpoint.names(&root)?.entries;
    let mut names = names;
    if let [name] = names {
        // the only name being one of a subtree is as good as --root
        if let Some(Exact::Below(below)) = exact(checkpoint, &root, &entries, name)? {
            root = Root { path: [root.path, below.path.clone()].concat(), ..below };
            entries = checkpoint.names(&root)?.entries;
            names = &[];
        }
    }
    let mut single = entries.first().is_some_and(|entry| entry.path.is_empty());
    let mut wanted = vec![names.is_empty(); entries.len()];
    let mut want = |meant: &dyn Fn(&Entry) -> bool| {
        let mut found = false;
        for (_, wanted) in entries.iter().zip(&mut wanted).filter(|(entry, _)| meant(entry)) {
            (found, *wanted) = (true, true);
        }
        found
    };
    for name in names {
        match exact(checkpoint, &root, &entries, name)? {
            Some(Exact::Entry(path)) => {
                single = names.len() == 1;
                want(&|entry| entry.path == path);
            }
            Some(Exact::Below(below)) => {
                want(&|entry| entry.path.starts_with(&below.path));
            }
            None => {
                let glob = GlobBuilder::new(name).literal_separator(false).build();
                let glob = glob.with_context(|| format!("{name:?} is neither a name nor a glob"))?.compile_matcher();
                if !want(&|entry| glob.is_match(entry.name())) {
                    return Ok(Err(no_such_name(&entries, name)));
                }
            }
        }
    }
    let mut chosen: Vec<Entry> = entries.iter().zip(&wanted).filter(|(_, w)| **w).map(|(e, _)| e.clone()).collect();
    if !filter.takes_all() {
        chosen.retain(|entry| filter.takes(&entry.name()));
    }
    if chosen.is_empty() {
        let name = "that --include and --exclude leave".to_owned();
        return Ok(Err(NoSuchName { name, near: Vec::new() }));
    }
    let whole = chosen.len() == entries.len();
    Ok(Ok(Chosen { entries: chosen, root, whole, single }))
}

enum Exact {
    /// A tensor or value, by its path.
    Entry(Vec<Element>),
    /// Something that holds tensors or values.
    Below(Root),
}

/// The one thing of exactly this name; an error that shows the paths when there are several.
fn exact(checkpoint: &Checkpoint, root: &Root, entries: &[Entry], name: &str) -> anyhow::Result<Option<Exact>> {
    let mut paths: Vec<&[Element]> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.name() == name) {
        // one path may have several entries: a tensor subclass and what else it holds
        if !paths.contains(&entry.path.as_slice()) {
            paths.push(&entry.path);
        }
    }
    let listed = paths.len();
    let below = checkpoint.roots_below(root, name)?;
    for root in &below {
        if !paths.contains(&root.path.as_slice()) {
            paths.push(&root.path);
        }
    }
    match paths.as_slice() {
        [] => Ok(None),
        [one] if listed == 1 => Ok(Some(Exact::Entry(one.to_vec()))),
        [_] => Ok(below.into_iter().next().map(Exact::Below)),
        [first, second, ..] => bail!("{name} is ambiguous: {} or {}", show_path(first), show_path(second)),
    }
}

fn one_of(name: &str, mut found: Vec<Root>) -> anyhow::Result<Option<Root>> {
    match (found.pop(), found.pop()) {
        (Some(second), Some(first)) => {
            bail!("--root {name} is ambiguous: {} or {}", show_path(&first.path), show_path(&second.path))
        }
        (found, _) => Ok(found),
    }
}

/// Names shown as near ones.
const MAX_NEAR: usize = 3;

fn no_such_name(entries: &[Entry], name: &str) -> NoSuchName {
    let mut seen = HashSet::new();
    let mut near: Vec<(usize, String)> = Vec::new();
    for entry in entries {
        // subtrees have names too
        for depth in 1..=entry.path.len() {
            let candidate = join(entry.path.get(..depth).unwrap_or_default());
            if let Some(distance) = distance(name, &candidate).filter(|_| seen.insert(candidate.clone())) {
                near.push((distance, candidate));
            }
        }
    }
    near.sort_by_key(|(distance, _)| *distance);
    NoSuchName { name: name.to_owned(), near: near.into_iter().take(MAX_NEAR).map(|(_, name)| name).collect() }
}

/// How unlike two names are; `None` when nobody would take one for the other.
fn distance(wanted: &str, candidate: &str) -> Option<usize> {
    let (a, b) = (wanted.to_lowercase(), candidate.to_lowercase());
    if a == b {
        return Some(0);
    }
    let ends = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('.'));
    if ends(&a, &b) || ends(&b, &a) {
        return Some(1);
    }
    let most = (a.chars().count() / 4).max(2);
    match edits(&a, &b, most) {
        Some(edits) => Some(1 + edits),
        None => (a.len() >= 3 && b.contains(&a)).then(|| 2 + most + b.len() - a.len()),
    }
}

/// Levenshtein's distance, when it is at most `most`.
fn edits(a: &str, b: &str, most: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            left = (diagonal + usize::from(from != to)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().filter(|edits| *edits <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        assert_eq!(distance("FC.weight", "fc.weight"), Some(0));
        assert_eq!(distance("fc.weight", "model.fc.weight"), Some(1));
        assert_eq!(distance("fc.wieght", "fc.weight"), Some(3));
        assert_eq!(distance("epoc", "epoch"), Some(2));
        assert_eq!(distance("fc.weight", "conv1.bias"), None);
        assert_eq!(edits("kitten", "sitting", 9), Some(3));
        assert_eq!(edits("", "abc", 3), Some(3));
        assert!(distance("optimizer", "optimizer_state_dict").is_some());
    }
}
