//! What torch leaves on state dicts beside their items, put together: `_metadata`, the versions of modules that decide how
//! their parameters are loaded.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::resave::ordered_dict;
use crate::checkpoint::{Checkpoint, Root};
use crate::error::Result;
use crate::message::Note;
use crate::operations::convert::attributes_of;
use crate::pickle::{Change, NodeId, Pair};
use crate::report::convert::LeftOut;

const METADATA: &str = "_metadata";
/// Characters of what is said of a module.
const MAX_SHOWN: usize = 1000;

/// The attributes of a joined state dict.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// What `BUILD` gives it.
    pub state: Option<NodeId>,
    /// What there is to know.
    pub notes: Vec<Note>,
    /// What cannot stay, and of which input.
    pub left_out: Vec<(usize, LeftOut)>,
}

/// Joins those of the mappings that the inputs gave. A module that several speak of is the affair of the one whose
/// parameters are taken, which `owners` says of every name; then of the first.
pub(super) fn of(
    checkpoint: &mut Checkpoint,
    mappings: &[Option<NodeId>],
    inputs: &[String],
    owners: &[(String, usize)],
) -> Result<Attributes> {
    let mut joined = Attributes::default();
    let mut others: Vec<(String, Pair)> = Vec::new();
    let mut modules = Modules::new(owners);
    for (from, node) in mappings.iter().enumerate() {
        let Some(node) = *node else { continue };
        let root = Root { node, path: Vec::new(), in_optimizer: false, stem: None };
        let (state, refused) = attributes_of(checkpoint, &root)?;
        let left = |name: String| (from, LeftOut { name, tensors: None });
        joined.left_out.extend(refused.into_iter().map(left));
        let Some(state) = state else { continue };
        let Some(attributes) = checkpoint.objects().items(state) else {
            joined.left_out.push(left("__state__".to_owned()));
            continue;
        };
        for attribute in attributes {
            let name = checkpoint.graph.str_or_bytes(attribute.key).unwrap_or_default().into_owned();
            let items = checkpoint.objects().items(attribute.value);
            match items.filter(|_| name == METADATA) {
                Some(items) => {
                    modules.key.get_or_insert(attribute.key);
                    items.into_iter().for_each(|item| modules.add(checkpoint, from, item));
                }
                None if others.iter().all(|(known, _)| *known != name) => others.push((name, attribute)),
                None => joined.left_out.push(left(name)),
            }
        }
    }
    let mut entries = Vec::new();
    if let Some(key) = modules.key {
        joined.notes = modules.told(checkpoint, inputs);
        let items = modules.all.into_iter().map(|module| Change::Item(module.entry)).collect();
        entries.push(Pair { key, value: ordered_dict(checkpoint, items)?, key_at: 0 });
    }
    entries.extend(others.into_iter().map(|(_, entry)| entry));
    if !entries.is_empty() {
        joined.state = Some(checkpoint.graph.push_dict(entries)?);
    }
    Ok(joined)
}

/// The modules that any `_metadata` speaks of.
struct Modules {
    /// `_metadata` itself.
    key: Option<NodeId>,
    all: Vec<Module>,
    places: HashMap<String, usize>,
    /// Whose parameters are taken.
    owners: HashMap<String, usize>,
}

struct Module {
    name: String,
    entry: Pair,
    from: usize,
    /// What others say of it.
    others: Vec<(usize, NodeId)>,
}

fn shown(checkpoint: &Checkpoint, value: NodeId) -> String {
    checkpoint.objects().repr(value, MAX_SHOWN)
}

impl Modules {
    fn new(owners: &[(String, usize)]) -> Self {
        let mut of: HashMap<String, usize> = HashMap::new();
        for (name, from) in owners {
            let module = name.rsplit_once('.').map_or("", |(module, _)| module);
            of.entry(module.to_owned()).or_insert(*from);
        }
        Modules { key: None, all: Vec::new(), places: HashMap::new(), owners: of }
    }

    fn add(&mut self, checkpoint: &Checkpoint, from: usize, entry: Pair) {
        let name = checkpoint.graph.str_or_bytes(entry.key).unwrap_or_default().into_owned();
        match self.places.get(&name).and_then(|place| self.all.get_mut(*place)) {
            // where they say the same it does not matter whose it is
            Some(module)
                if self.owners.get(&name) == Some(&from)
                    && module.from != from
                    && shown(checkpoint, module.entry.value) != shown(checkpoint, entry.value) =>
            {
                module.others.push((module.from, module.entry.value));
                (module.entry.value, module.from) = (entry.value, from);
            }
            Some(module) => module.others.push((from, entry.value)),
            None => {
                self.places.insert(name.clone(), self.all.len());
                self.all.push(Module { name, entry, from, others: Vec::new() });
            }
        }
    }

    /// Says of which modules the inputs speak differently.
    fn told(&self, checkpoint: &Checkpoint, inputs: &[String]) -> Vec<Note> {
        let file = |index: usize| inputs.get(index).map_or("", String::as_str);
        let mut told = HashSet::new();
        let mut notes = Vec::new();
        for module in &self.all {
            let kept = shown(checkpoint, module.entry.value);
            for (from, value) in &module.others {
                let said = shown(checkpoint, *value);
                if said != kept && told.insert(module.name.as_str()) {
                    let name = if module.name.is_empty() { "the top module" } else { &module.name };
                    let what =
                        format!("{METADATA} of {name} is {said}, but {kept} in {}, whose is kept", file(module.from));
                    notes.push(Note::new(file(*from), what));
                }
            }
        }
        notes
    }
}
