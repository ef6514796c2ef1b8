//! The new top object: a dict of the inputs' objects by their keys, or one mapping with the names of all inputs.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use super::equal::Comparing;
use super::{Taken, Taking, attributes, entry};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::object::KeyIdentity;
use crate::checkpoint::resave::ordered_dict;
use crate::error::{Error, Result};
use crate::message::{Message, Note, Setting};
use crate::pickle::{Change, Node, NodeId, Pair};
use crate::progress::Progress;
use crate::report::convert::LeftOut;
use crate::report::figures::counted;
use crate::report::merge::{Conflict, Merging};

/// What becomes of a name that several inputs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// The first input's is kept.
    First,
    /// The last input's is kept, in the place of the first.
    Last,
    /// The first input's is kept, and all must be equal bit by bit.
    Equal,
}

/// Names that an error lists.
const MAX_LISTED: usize = 100;
/// Names that a note lists.
const MAX_NOTED: usize = 8;

/// The new top object, and what there is to say of it.
#[derive(Debug)]
pub(super) struct Joined {
    pub root: NodeId,
    conflicts: Vec<Conflict>,
    notes: Vec<Note>,
    /// What cannot stay, and of which input.
    left_out: Vec<(usize, LeftOut)>,
}

/// One name of the joined mapping.
pub(super) struct Named {
    entry: Pair,
    /// The input that it is taken from.
    pub from: usize,
    /// The others that have it, in order.
    others: Vec<usize>,
}

impl Joined {
    /// Makes it of what was taken of each input.
    pub(crate) fn of(
        checkpoint: &mut Checkpoint,
        taken: Vec<Taken>,
        on_conflict: Option<OnConflict>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut tops = Vec::with_capacity(taken.len());
        let mut names = Vec::with_capacity(taken.len());
        let mut keyed = Vec::new();
        let has_keys = taken.iter().any(|taken| taken.key.is_some());
        for Taken { name, key, top } in taken {
            match (key, top) {
                (Some(key), Taking::Object(node)) => keyed.push(entry(checkpoint, &key, node)?),
                (key, Taking::Weights(weights)) => {
                    let prefix = key.as_deref().unwrap_or_default();
                    let whole = |weight: String| match (prefix, weight.as_str()) {
                        ("", _) => weight,
                        (prefix, "") => prefix.to_owned(),
                        (prefix, weight) => format!("{prefix}.{weight}"),
                    };
                    let mut entries = Vec::with_capacity(weights.len());
                    for (weight, node) in weights {
                        entries.push(entry(checkpoint, &whole(weight), node)?);
                    }
                    tops.push((None, entries));
                }
                (None, Taking::Object(node)) => {
                    let items = checkpoint.objects().items(node);
                    let items = items.ok_or_else(|| Error::unsupported("no mapping of names").of_input(&name))?;
                    tops.push((Some(node), items));
                }
            }
            names.push(name);
        }
        if !keyed.is_empty() {
            let root = checkpoint.graph.push_dict(keyed)?;
            return Ok(Joined { root, conflicts: Vec::new(), notes: Vec::new(), left_out: Vec::new() });
        }
        let items: Vec<&[Pair]> = tops.iter().map(|(_, items)| items.as_slice()).collect();
        let join = Join { checkpoint, names: &names, has_keys, on_conflict, progress };
        let named = join.all(&items)?;
        checkpoint.graph.complete()?;
        let conflicts = named.iter().filter(|named| !named.others.is_empty()).map(|named| {
            let mut inputs: Vec<usize> = named.others.iter().chain([&named.from]).copied().collect();
            inputs.sort_unstable();
            let file = |index: &usize| names.get(*index).cloned().unwrap_or_default();
            let (name, kept) = (shown(checkpoint, named.entry.key), file(&named.from));
            Conflict { name, inputs: inputs.iter().map(file).collect(), kept }
        });
        let conflicts = conflicts.collect();
        let owners: Vec<(String, usize)> =
            named.iter().map(|named| (shown(checkpoint, named.entry.key), named.from)).collect();
        let mappings: Vec<Option<NodeId>> = tops.iter().map(|(node, _)| *node).collect();
        let attributes::Attributes { state, notes, left_out } = attributes::of(checkpoint, &mappings, &names, &owners)?;
        let entries: Vec<Pair> = named.into_iter().map(|named| named.entry).collect();
        let is_dict =
            |node: &Option<NodeId>| node.is_none_or(|node| matches!(checkpoint.graph.node(node), Node::Dict(_)));
        let root = match state {
            None if mappings.iter().all(is_dict) => checkpoint.graph.push_dict(entries)?,
            state => {
                let items = entries.into_iter().map(Change::Item);
                ordered_dict(checkpoint, items.chain(state.map(Change::Build)).collect())?
            }
        };
        Ok(Joined { root, conflicts, notes, left_out })
    }

    /// Tells what was made of names that several have.
    pub(crate) fn told(self, report: &mut Merging) {
        let mut by_input: Vec<(&str, Vec<&str>)> = Vec::new();
        for conflict in &self.conflicts {
            match by_input.iter_mut().find(|(kept, _)| *kept == conflict.kept) {
                Some((_, names)) => names.push(&conflict.name),
                None => by_input.push((&conflict.kept, vec![&conflict.name])),
            }
        }
        for (kept, names) in by_input {
            let what = format!("kept from this input, though others have it too: {}", some_of(&names, MAX_NOTED));
            report.notes.push(Note::new(kept, what));
        }
        report.notes.extend(self.notes);
        for (index, left) in self.left_out {
            let Some(input) = report.inputs.get_mut(index) else { continue };
            report.notes.push(Note::new(&input.file, format!("left out: {}", left.name)));
            input.left_out.push(left);
        }
        report.conflicts = self.conflicts;
    }
}

/// A key as people read it.
fn shown(checkpoint: &Checkpoint, key: NodeId) -> String {
    match checkpoint.graph.str_or_bytes(key) {
        Some(name) => name.into_owned(),
        None => checkpoint.objects().repr(key, 200),
    }
}

fn some_of(names: &[&str], most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let shown = names.iter().take(most).copied().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The names of all inputs becoming those of one mapping.
struct Join<'a> {
    checkpoint: &'a Checkpoint,
    /// Of the inputs.
    names: &'a [String],
    has_keys: bool,
    on_conflict: Option<OnConflict>,
    progress: &'a dyn Progress,
}

impl Join<'_> {
    fn all(&self, inputs: &[&[Pair]]) -> Result<Vec<Named>> {
        let objects = self.checkpoint.objects();
        let mut places: HashMap<KeyIdentity<'_>, usize, foldhash::fast::RandomState> = HashMap::default();
        let mut all: Vec<Named> = Vec::new();
        for (from, items) in inputs.iter().enumerate() {
            if let [entry] = items
                && self.checkpoint.graph.str(entry.key).as_deref() == Some("")
            {
                let e = Error::refused("is one tensor without a name").advise("give every input a key");
                return Err(e.of_input(self.name(from)));
            }
            for entry in *items {
                let identity = objects.identity(entry.key);
                if let KeyIdentity::Node(key) = identity {
                    let key = objects.repr(key, 200);
                    let e = Error::unsupported(format!("a key that is neither text nor a number: {key}"));
                    return Err(e.of_input(self.name(from)));
                }
                match places.entry(identity) {
                    Slot::Vacant(place) => {
                        place.insert(all.len());
                        all.push(Named { entry: *entry, from, others: Vec::new() });
                    }
                    Slot::Occupied(place) => {
                        let Some(named) = all.get_mut(*place.get()) else { continue };
                        if self.on_conflict == Some(OnConflict::Last) {
                            named.entry.value = entry.value;
                            named.others.push(std::mem::replace(&mut named.from, from));
                        } else {
                            named.others.push(from);
                        }
                    }
                }
            }
        }
        match self.on_conflict {
            None => self.refuse_conflicts(&all)?,
            Some(OnConflict::Equal) => self.refuse_unequal(&all, inputs)?,
            Some(OnConflict::First | OnConflict::Last) => {}
        }
        Ok(all)
    }

    fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// A name, and the inputs that have it.
    fn listed(&self, named: &Named, why: Option<&str>) -> String {
        let files = [named.from].iter().chain(&named.others).map(|index| self.name(*index)).collect::<Vec<_>>();
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        format!("{} ({}{why})", shown(self.checkpoint, named.entry.key), files.join(", "))
    }

    fn refuse_conflicts(&self, all: &[Named]) -> Result<()> {
        let several: Vec<String> =
            all.iter().filter(|named| !named.others.is_empty()).map(|named| self.listed(named, None)).collect();
        if several.is_empty() {
            return Ok(());
        }
        let list: Vec<&str> = several.iter().map(String::as_str).collect();
        let count = counted(several.len() as u64, "name");
        let are = if several.len() == 1 { "is" } else { "are" };
        let what = format!("{count} {are} in more than one input: {}", some_of(&list, MAX_LISTED));
        if self.has_keys {
            return Err(Error::refused(what).advise("choose other keys"));
        }
        let advice = Setting::OnConflict.then(" first or last takes one, ").setting(Setting::OnConflict);
        Err(Error::refused(what).advise(advice.text(" equal takes what is equal; a key for each input keeps all")))
    }

    fn refuse_unequal(&self, all: &[Named], inputs: &[&[Pair]]) -> Result<()> {
        let objects = self.checkpoint.objects();
        let mut differ = Vec::new();
        // where each input has what several have
        let mut wanted: HashMap<KeyIdentity<'_>, usize, foldhash::fast::RandomState> = HashMap::default();
        let several = all.iter().enumerate().filter(|(_, named)| !named.others.is_empty());
        wanted.extend(several.map(|(place, named)| (objects.identity(named.entry.key), place)));
        let comparing = Comparing { checkpoint: self.checkpoint, progress: self.progress };
        for (from, items) in inputs.iter().enumerate() {
            for entry in *items {
                let Some(place) = wanted.get(&objects.identity(entry.key)) else { continue };
                let Some(named) = all.get(*place).filter(|named| named.from != from) else { continue };
                let name = || shown(self.checkpoint, entry.key);
                let differs = comparing.differs(named.entry.value, entry.value);
                if let Some(why) = differs.map_err(|e| e.of_part(&name()).of_input(self.name(from)))? {
                    differ.push(self.listed(named, Some(&why)));
                    wanted.remove(&objects.identity(entry.key));
                }
            }
        }
        if differ.is_empty() {
            return Ok(());
        }
        let list: Vec<&str> = differ.iter().map(String::as_str).collect();
        let what =
            format!("{} not equal in all inputs: {}", counted(differ.len() as u64, "name"), some_of(&list, MAX_LISTED));
        Err(Error::refused(Message::from(what)).advise(Setting::OnConflict.then(" first or last takes one")))
    }
}
