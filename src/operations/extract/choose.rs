//! Which tensors, values and subtrees are meant.

use crate::checkpoint::names::{Element, ambiguous, join};
use crate::checkpoint::resolve::{Ambiguous, Choice, Listed, Meaning, Reach, meaning};
use crate::checkpoint::{Checkpoint, Entry, Item, Located, Root};
use crate::error::{Error, Result};
use crate::operations::select::{Asked, Select, missing_in};

/// What was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// Tensors and values in file order, with names relative to `root`.
    pub(super) entries: Vec<Entry>,
    /// Where they lie.
    pub(super) root: Root,
    /// Everything below the object `root`.
    pub(super) whole: bool,
    /// One tensor or value was asked for, not several of which there happens to be one.
    pub(super) single: bool,
}

impl Chosen {
    /// The name of what was chosen, from the top object on; empty for that.
    pub(super) fn name(&self) -> String {
        let below = match (self.entries.as_slice(), self.single) {
            ([entry], true) => entry.path.as_slice(),
            _ => &[],
        };
        let stem = self.root.stem.iter().map(|stem| Element::Text(stem.to_string()));
        join(&self.root.path.iter().cloned().chain(stem).chain(below.iter().cloned()).collect::<Vec<_>>())
    }

    /// The entries without the wrapper tensors whose parts were chosen with them.
    pub(super) fn without_wrappers<'a>(&'a self, checkpoint: &'a Checkpoint) -> impl Iterator<Item = &'a Entry> {
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

/// Finds what is meant by `names` below the root of `select`, restricted by what it includes and excludes. Each of `names` is an exact
/// name of a tensor or value, else a subtree, else a glob over whole names. One that matches nothing is an error.
pub(super) fn choose(checkpoint: &Checkpoint, names: &[String], select: &Select) -> Result<Chosen> {
    let mut root = select.find_root(checkpoint)?;
    let mut entries = checkpoint.names(&root)?.entries;
    let mut names = names;
    if let [name] = names
        && let Some(place) = subtree(checkpoint, &root, &entries, name)?
    {
        // the only name being one of a subtree is as good as a root
        root = place;
        entries = checkpoint.names(&root)?.entries;
        names = &[];
    }
    let mut single = entries.first().is_some_and(|entry| entry.path.is_empty());
    let mut wanted = vec![names.is_empty(); entries.len()];
    let mut unlisted = Vec::new();
    let listed = [Listed::of(&entries)];
    for name in names {
        let found = meaning_of(name, &listed, &entries)?;
        let choice = Choice::of(std::iter::once((name.as_str(), found)), Reach::Names)?;
        for (_, wanted) in entries.iter().zip(&mut wanted).filter(|(entry, _)| choice.takes(&entry.name())) {
            *wanted = true;
        }
        single |= names.len() == 1 && found == Meaning::Exact;
        if found == Meaning::Nothing {
            unlisted.extend(names_below(checkpoint, &root, &entries, name)?);
        }
    }
    let mut chosen: Vec<Entry> = entries.iter().zip(&wanted).filter(|(_, w)| **w).map(|(e, _)| e.clone()).collect();
    let filter = select.filter(&entries)?;
    chosen.extend(unlisted);
    chosen.retain(|entry| filter.takes_all() || filter.takes(&entry.name()));
    if chosen.is_empty() {
        return Err(Error::refused(Asked::of(select, &[]).nothing_left("names")));
    }
    let whole = chosen.len() == entries.len() && root.stem.is_none();
    Ok(Chosen { entries: chosen, root, whole, single })
}

/// A tensor with parts that are listed below it is meant without them.
fn meaning_of(name: &str, listed: &[Listed<'_>], entries: &[Entry]) -> Result<Meaning> {
    let found = meaning(name, listed, Reach::Names);
    let found = found.map_err(|Ambiguous { first, second, .. }| Error::refused(ambiguous(name, &first, &second)))?;
    let is_listed = || entries.iter().any(|entry| entry.name() == name);
    Ok(if found == Meaning::Below && is_listed() { Meaning::Exact } else { found })
}

/// The place of a name that is not one of a tensor or value, and no glob that matches some.
fn subtree(checkpoint: &Checkpoint, root: &Root, entries: &[Entry], name: &str) -> Result<Option<Root>> {
    match meaning_of(name, &[Listed::of(entries)], entries)? {
        Meaning::Exact | Meaning::Glob => Ok(None),
        Meaning::All | Meaning::Below | Meaning::Nothing => match checkpoint.place(root, name)? {
            Located::Of(place) => Ok(Some(place)),
            Located::Ambiguous(first, second) => Err(Error::refused(ambiguous(name, &first, &second))),
            Located::Nowhere => Err(Error::refused(missing_in(name, None, entries))),
        },
    }
}

/// What lies below an object of which a walk lists nothing: an attribute of a module, say.
fn names_below(checkpoint: &Checkpoint, root: &Root, entries: &[Entry], name: &str) -> Result<Vec<Entry>> {
    let Some(place) = subtree(checkpoint, root, entries, name)? else { return Ok(Vec::new()) };
    let path = place.path.get(root.path.len()..).unwrap_or_default();
    let mut below = checkpoint.names(&place)?.entries;
    for entry in &mut below {
        entry.path = [path, &entry.path].concat();
    }
    Ok(below)
}
