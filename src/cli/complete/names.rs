//! Names in a file, for somebody who is typing one: quickly, or not at all.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::Word;
use crate::checkpoint::names::Element;
use crate::checkpoint::{Entry, Item};
use crate::layout::address;
use crate::limits::Limits;
use crate::operations::open::open;
use crate::progress::Silent;

/// Words that are offered one by one; of more, their beginnings up to a dot.
const MAX_WORDS: usize = 200;
/// Bytes that a compressed file may expand to while somebody waits.
const MAX_EXPANDED_BYTES: u64 = 64 << 20;
/// Offered where no file says more: what DataParallel, torch.compile and Lightning put before names.
const COMMON_PREFIXES: &[&str] = &["module.", "_orig_mod.", "model."];

/// Which names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// What has elements below it.
    Nodes,
    /// All.
    Names,
    /// What keys of state dicts begin with.
    Prefixes,
    /// All, with a `=` behind each.
    Assigned,
}

/// The input that a word names, if there is one; with `keyed` behind a key.
pub(super) fn input_of(word: &str, keyed: bool) -> Option<PathBuf> {
    let exists = |word: &str| {
        let path = Path::new(word);
        (path.exists() || address(path).is_some_and(|address| address.file.exists())).then(|| path.to_owned())
    };
    exists(word).or_else(|| exists(word.split_once('=').filter(|_| keyed)?.1))
}

/// Names in the files that begin with `typed`; those below `root` without it.
pub(super) fn of(files: &[PathBuf], root: Option<&str>, wanted: Wanted, typed: &str) -> Vec<Word> {
    let mut limits = Limits::default();
    (limits.max_expanded_bytes, limits.min_expanded_bytes) = (MAX_EXPANDED_BYTES, MAX_EXPANDED_BYTES);
    let mut found = Found { wanted, typed, names: Vec::new(), seen: HashSet::new() };
    if wanted == Wanted::Nodes {
        found.add(".");
    }
    let mut prefixes = Prefixes::default();
    // what cannot be read has no names
    for input in files.iter().filter_map(|file| open(file, &limits, &Silent).ok()) {
        let Ok(entries) = input.entries() else { continue };
        if wanted == Wanted::Prefixes {
            entries.iter().for_each(|entry| prefixes.add(entry));
            continue;
        }
        for entry in &entries {
            let name = entry.name();
            let below = match root {
                Some(root) => name.strip_prefix(root).and_then(|rest| rest.strip_prefix('.')),
                None => Some(name.as_str()),
            };
            below.into_iter().for_each(|name| found.add_with_nodes(name));
        }
    }
    if wanted == Wanted::Prefixes {
        prefixes.ordered(files.is_empty()).iter().for_each(|prefix| found.add(prefix));
    }
    found.words()
}

/// What begins with what was typed, each once.
struct Found<'a> {
    wanted: Wanted,
    typed: &'a str,
    names: Vec<String>,
    seen: HashSet<String>,
}

impl Found<'_> {
    fn add(&mut self, name: &str) {
        // what cannot stand on a line cannot be typed
        let is_typed = name.starts_with(self.typed) && !name.is_empty() && !name.chars().any(char::is_control);
        if is_typed && self.seen.insert(name.to_owned()) {
            self.names.push(name.to_owned());
        }
    }

    fn add_with_nodes(&mut self, name: &str) {
        if self.wanted == Wanted::Nodes {
            name.match_indices('.').filter_map(|(at, _)| name.get(..at)).for_each(|node| self.add(node));
        } else {
            self.add(name);
        }
    }

    fn words(self) -> Vec<Word> {
        let close = |name: String| match self.wanted {
            Wanted::Assigned => Word::open(name + "="),
            _ => Word::new(name, ""),
        };
        if self.names.len() <= MAX_WORDS {
            return self.names.into_iter().map(close).collect();
        }
        let mut seen = HashSet::new();
        let start = self.typed.len();
        let cut = self.names.into_iter().map(|name| match name.get(start..).and_then(|rest| rest.find('.')) {
            Some(at) => Word::open(name.get(..=start + at).unwrap_or_default()),
            None => close(name),
        });
        cut.filter(|word| seen.insert(word.value.clone())).collect()
    }
}

/// What keys begin with, and how many of them.
#[derive(Default)]
struct Prefixes(BTreeMap<String, usize>);

impl Prefixes {
    /// The key of a state dict is one element of a path, with dots in it.
    fn add(&mut self, entry: &Entry) {
        if !matches!(entry.item, Item::Tensor(..)) {
            return;
        }
        let Some(Element::Text(key)) = entry.path.last() else { return };
        for (at, _) in key.match_indices('.') {
            *self.0.entry(key.get(..=at).unwrap_or_default().to_owned()).or_default() += 1;
        }
    }

    /// Those of most keys first, short ones before long ones; of no file the common ones.
    fn ordered(self, is_without_file: bool) -> Vec<String> {
        let mut all: Vec<(String, usize)> = self.0.into_iter().collect();
        all.sort_by(|(a, m), (b, n)| n.cmp(m).then(a.len().cmp(&b.len())));
        let common = COMMON_PREFIXES.iter().filter(|_| is_without_file).map(|prefix| (*prefix).to_owned());
        common.chain(all.into_iter().map(|(prefix, _)| prefix)).collect()
    }
}
