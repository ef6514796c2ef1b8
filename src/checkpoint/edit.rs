//! Renaming: which names of which state dicts change, decided before a byte is written.
//!
//! Which mappings are state dicts, wherever they lie, and which of their keys are names says `checkpoint/state_dict.rs`;
//! only `str` keys are. A state dict's `_metadata` (module paths and versions, `torch/nn/modules/module.py`) follows the
//! names: with `module.` removed, `module.fc` becomes `fc`, and `module` becomes the root, whose own entry it replaces.

mod dots;
mod prefixes;
pub mod rules;

use std::borrow::Cow;
use std::collections::hash_map;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::checkpoint::names::{Element, join};
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::state_dict::{Role, StateDicts, Surroundings, is_extra_state};
use crate::checkpoint::{Checkpoint, Container, Root, module};
use crate::container::safetensors::METADATA;
use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::pickle::splice::{Edit, Edits};
use crate::pickle::text::{Encoding, lossy};
use crate::pickle::{Change, Node, NodeId, Pair, StreamId, TextId};
use rules::{Rules, Step};

pub(crate) use dots::strip_fault;
pub(crate) use prefixes::prefixes;

/// One name that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The name of the state dict that has it: empty for the top object.
    pub within: Arc<str>,
    /// The key until now.
    pub old: TextId,
    /// The new key: UTF-8 in which lone surrogates may stand.
    pub new: Arc<[u8]>,
}

/// What a renaming does.
#[derive(Debug, Default)]
pub struct RenamePlan {
    /// Names that change, in file order, each once.
    pub renames: Vec<Rename>,
    /// State dicts that were looked at.
    pub state_dicts: u64,
    /// Names of modules that were pickled whole; nothing is renamed in them.
    pub modules: Vec<String>,
    /// The strings to replace, by the stream they lie in. Empty for formats without a pickle.
    pub edits: HashMap<StreamId, Edits>,
    /// What each of the steps did, in their order.
    pub effects: Vec<Effect>,
}

/// What a step did to the names that it saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// How many it changed.
    pub changed: u64,
    /// Of a table, the old names that it met.
    pub met: HashSet<Vec<u8>>,
}

/// What to do where names are part of code.
pub(crate) fn weights_first() -> Message {
    Message::from("extract the weights first with `ckpt convert ").setting(Setting::StateDict).text("`")
}

impl Checkpoint {
    /// Decides what `rules` make of the names below `root`; `takes` says which whole names are meant, `None` all.
    /// Two keys of one state dict that would become one are `Unsupported`.
    pub fn plan_renames(&self, root: &Root, rules: &Rules, takes: Option<&dyn Fn(&str) -> bool>) -> Result<RenamePlan> {
        if matches!(self.container(), Container::TorchScript | Container::Pt2) {
            let what = "names in a TorchScript or torch.export archive are part of its code";
            return Err(Error::unsupported(what).advise(weights_first()));
        }
        let mut planner = Planner::new(self, rules, takes, root.stem.as_deref());
        planner.walk(root)?;
        Ok(planner.plan)
    }

    /// The names that follow `rules` would see, in file order, as they are shown.
    pub(crate) fn names_after(
        &self,
        root: &Root,
        rules: &Rules,
        takes: Option<&dyn Fn(&str) -> bool>,
    ) -> Result<Vec<String>> {
        let mut planner = Planner { names: Some(Vec::new()), ..Planner::new(self, rules, takes, root.stem.as_deref()) };
        planner.walk(root)?;
        Ok(planner.names.unwrap_or_default())
    }
}

impl Checkpoint {
    /// The old and the new key, to be shown.
    pub(crate) fn shown(&self, rename: &Rename) -> (String, String) {
        let old = self.graph.text_lossy(rename.old).unwrap_or_default().into_owned();
        (old, lossy(Cow::Borrowed(&rename.new), Encoding::Utf8).into_owned())
    }

    /// Renames in the graph, for who writes it anew: a splice of the pickle needs no such thing.
    pub(crate) fn apply(&mut self, plan: &RenamePlan) -> Result<()> {
        let mut new_keys: HashMap<(NodeId, u64), NodeId> = HashMap::new();
        for (at, edit) in plan.edits.values().flatten() {
            let Node::Str(old) = self.graph.node(edit.node) else { continue };
            let python2 = matches!(self.graph.encoding(*old), Encoding::Python2 | Encoding::Python2Escaped);
            let encoding = if python2 { Encoding::Python2 } else { Encoding::Utf8 };
            let text = self.graph.add_text_of(&edit.new, encoding)?;
            new_keys.insert((edit.node, *at), self.graph.push(Node::Str(text))?);
        }
        // names of formats without a pickle are keys of the top object
        let top = plan.renames.iter().filter(|rename| plan.edits.is_empty() && rename.within.is_empty());
        let top: HashMap<String, String> = top.map(|rename| self.shown(rename)).collect();
        for entry in self.objects().assignments(self.root).unwrap_or_default() {
            if let Some(new) = self.graph.str(entry.key).and_then(|name| top.get(&*name)) {
                new_keys.insert((entry.key, entry.key_at), self.graph.push_str(new)?);
            }
        }
        if new_keys.len() < plan.renames.len() {
            let kind = self.container().name();
            return Err(Error::unsupported(format!(
                "names in a {kind} checkpoint that are not at its top cannot change"
            )));
        }
        self.graph.replace_keys(&new_keys);
        Ok(())
    }
}

struct Planner<'a> {
    checkpoint: &'a Checkpoint,
    rules: &'a Rules,
    takes: Option<&'a dyn Fn(&str) -> bool>,
    /// Only names that begin with this and a dot are meant, without both.
    stem: Option<&'a str>,
    state_dicts: StateDicts<'a>,
    plan: RenamePlan,
    /// Only what becomes of all names is wanted.
    names: Option<Vec<String>>,
}

/// A key of a state dict.
struct Key<'a> {
    entry: Pair,
    text: TextId,
    /// UTF-8 with surrogates; Python 2's other strings as if they were Latin-1.
    name: Cow<'a, [u8]>,
    /// The stored bytes are Latin-1.
    latin1: bool,
}

impl<'a> Planner<'a> {
    fn new(
        checkpoint: &'a Checkpoint,
        rules: &'a Rules,
        takes: Option<&'a dyn Fn(&str) -> bool>,
        stem: Option<&'a str>,
    ) -> Self {
        let plan = RenamePlan { effects: vec![Effect::default(); rules.0.len()], ..RenamePlan::default() };
        Planner { checkpoint, rules, takes, stem, state_dicts: StateDicts::of(checkpoint), plan, names: None }
    }

    fn walk(&mut self, root: &Root) -> Result<()> {
        let checkpoint = self.checkpoint;
        let objects = checkpoint.objects();
        // what lies below bookkeeping and elsewhere too is looked at from both
        let mut seen = HashSet::new();
        let mut renamed = HashSet::new();
        let is_open = |element: &Element| match element {
            Element::Text(key) => Surroundings::default().below(Label::Index(0), Some(key)).is_some(),
            _ => true,
        };
        if root.in_optimizer || !root.path.iter().all(is_open) {
            return Ok(());
        }
        let mut open = vec![(root.node, Surroundings::default(), Vec::new())];
        while let Some((node, place, path)) = open.pop() {
            let node = objects.unwrap(node);
            if checkpoint.tensors.of(node).is_some() || !seen.insert((node, place)) {
                continue;
            }
            if module::is_module(checkpoint, node) {
                self.plan.modules.push(join(&path));
                continue;
            }
            let assignments = objects.assignments(node);
            // a key that is assigned again may be here twice: its last value is among them
            let children = match &assignments {
                Some(items) => items.iter().map(|e| Child { label: Label::Key(e.key), node: e.value }).collect(),
                None => objects.children(node),
            };
            if children.is_empty() {
                continue;
            }
            if path.len() >= checkpoint.limits.max_depth {
                let depth = checkpoint.limits.max_depth;
                return Err(Error::limit(format!("objects nest more than {depth} deep")).allowed_by(Setting::MaxDepth));
            }
            let is_mapping = assignments.is_some();
            let entries = assignments.unwrap_or_else(|| self.items_of_subclass(node));
            let role = self.state_dicts.role(node, &entries, place);
            match role {
                Role::Closed => continue,
                Role::StateDict | Role::Checkpoint if renamed.insert(node) => {
                    self.rename(node, &entries, role, &path)?
                }
                _ => {}
            }
            let is_container = is_mapping || objects.elements(node).is_some();
            for child in children.into_iter().rev() {
                let is_leaf = checkpoint.tensors.of(child.node).is_some() || objects.is_plain_scalar(child.node);
                let key = match child.label {
                    Label::Key(key) | Label::Attribute(key) => checkpoint.graph.str_or_bytes(key),
                    _ => None,
                };
                if is_leaf || key.as_deref().is_some_and(is_extra_state) {
                    continue;
                }
                // a subclass of dict has items; what else an object is made of is its own affair
                let is_item = is_container || matches!(child.label, Label::Key(_));
                let place = if is_item { place } else { place.in_object() };
                let Some(place) = place.below(child.label, key.as_deref()) else { continue };
                let mut path: Vec<Element> = path.clone();
                path.push(checkpoint.element(child.label));
                open.push((child.node, place, path));
            }
        }
        Ok(())
    }

    /// The items that an object of a subclass of dict was given after its construction.
    fn items_of_subclass(&self, node: NodeId) -> Vec<Pair> {
        let items = self.checkpoint.graph.changes(node).iter().filter_map(|change| match change {
            Change::Item(entry) => Some(*entry),
            _ => None,
        });
        items.collect()
    }

    fn rename(&mut self, node: NodeId, entries: &[Pair], role: Role, path: &[Element]) -> Result<()> {
        let within: Arc<str> = join(path).into();
        let keys = entries.iter().map(|entry| self.key(*entry)).collect::<Result<Vec<_>>>()?;
        let keys: Vec<Key<'a>> = keys.into_iter().flatten().collect();
        let Some(inner) = self.stem_within(&within) else { return Ok(()) };
        let mut new_names: Vec<Option<Arc<[u8]>>> = Vec::with_capacity(keys.len());
        let mut has_names = false;
        for key in &keys {
            let shown = lossy(Cow::Borrowed(&key.name), Encoding::Utf8);
            let is_name = self.state_dicts.is_name(node, role, &shown, key.entry.value);
            let name = after_stem(&key.name, inner).filter(|_| is_name);
            has_names |= name.is_some();
            let name = name.filter(|_| self.takes.is_none_or(|takes| takes(&self.below_stem(&within, &key.name))));
            let new = match name {
                Some(name) => {
                    let new = self.apply_steps(&within, name)?;
                    match key.name.get(..key.name.len() - name.len()) {
                        None | Some([]) => Some(new),
                        Some(head) => Some([head, &*new].concat()),
                    }
                }
                None => None,
            };
            new_names.push(new.filter(|new| *new != *key.name).map(Arc::<[u8]>::from));
        }
        if self.names.is_some() {
            return Ok(());
        }
        self.plan.state_dicts += u64::from(has_names);
        let mut taken: HashMap<&[u8], &Key<'_>> = HashMap::with_capacity(keys.len());
        let mut touched = HashSet::new();
        let changed = new_names.iter().any(Option::is_some);
        for (key, new) in keys.iter().zip(&new_names) {
            let show = |name: &[u8]| lossy(name.into(), Encoding::Utf8).into_owned();
            let name = new.as_deref().unwrap_or(&key.name);
            match taken.entry(name) {
                hash_map::Entry::Occupied(other) => {
                    let other = other.get();
                    // the same key may be assigned once more
                    if other.name != key.name {
                        let (old, other, new) = (show(&key.name), show(&other.name), show(name));
                        return Err(refuse(&within, &format!("{other} and {old} would both become {new}")));
                    }
                }
                hash_map::Entry::Vacant(place) => {
                    place.insert(key);
                    if let Some(new) = new {
                        let (within, old, new) = (Arc::clone(&within), key.text, Arc::clone(new));
                        self.plan.renames.push(Rename { within, old, new });
                    }
                }
            }
            if let Some(new) = new {
                if self.takes.is_some() {
                    touched.extend(modules_of(&key.name));
                }
                self.edit(key, new)?;
            }
        }
        if changed { self.rename_metadata(node, inner, &touched) } else { Ok(()) }
    }

    /// The whole name of a key, as it is seen from the root.
    fn below_stem(&self, within: &str, key: &[u8]) -> String {
        let whole = whole_name(within, key);
        let below = self.stem.and_then(|stem| whole.strip_prefix(stem)?.strip_prefix('.').map(str::to_owned));
        below.unwrap_or(whole)
    }

    /// What of the stem keys of the mapping `within` begin with: nothing where all of it lies below the stem. `None` where
    /// none of it does.
    fn stem_within(&self, within: &str) -> Option<&'a str> {
        let Some(stem) = self.stem else { return Some("") };
        if within.is_empty() {
            return Some(stem);
        }
        match within.strip_prefix(stem) {
            Some(rest) if rest.is_empty() || rest.starts_with('.') => Some(""),
            _ => stem.strip_prefix(within)?.strip_prefix('.'),
        }
    }

    /// The new name, with notes on which step did what. Refused are names that a forgotten dot makes.
    fn apply_steps(&mut self, within: &str, name: &[u8]) -> Result<Vec<u8>> {
        let mut trace = self.rules.trace(name);
        let last = trace.last().map_or(name, Vec::as_slice);
        if let Some(names) = &mut self.names {
            names.push(lossy(Cow::Borrowed(last), Encoding::Utf8).into_owned());
            return Ok(last.to_vec());
        }
        let mut before = name;
        for ((step, after), effect) in self.rules.0.iter().zip(&trace).zip(&mut self.plan.effects) {
            effect.changed += u64::from(before != after);
            if let Step::Table(table) = step
                && let Some((old, _)) = table.get_key_value(before)
                && !effect.met.contains(old)
            {
                effect.met.insert(old.clone());
            }
            if let Some(fault) = dots::fault(step, before, after, name, last) {
                return Err(refuse(within, &fault));
            }
            before = after;
        }
        Ok(trace.pop().unwrap_or_else(|| name.to_vec()))
    }

    /// The paths of modules follow; `touched` are those of the names that changed, when not all names were meant.
    fn rename_metadata(&mut self, node: NodeId, inner: &str, touched: &HashSet<Vec<u8>>) -> Result<()> {
        let objects = self.checkpoint.objects();
        let metadata = objects.attribute(node, "_metadata").and_then(|metadata| objects.assignments(metadata));
        for entry in metadata.unwrap_or_default() {
            let Some(key) = self.key(entry)? else { continue };
            let Some(name) = after_stem(&key.name, inner) else { continue };
            let new = self.rules.rename_module(name);
            // the module of the stem itself has no dot behind it
            let head = if inner.is_empty() || new.is_empty() { inner.to_owned() } else { format!("{inner}.") };
            let new = [head.as_bytes(), &new].concat();
            if *new != *key.name && (self.takes.is_none() || touched.contains(&*key.name)) {
                self.edit(&key, &new.into())?;
            }
        }
        Ok(())
    }

    fn key(&self, entry: Pair) -> Result<Option<Key<'a>>> {
        let graph = &self.checkpoint.graph;
        let Node::Str(text) = graph.node(entry.key) else { return Ok(None) };
        let is_flat = matches!(self.checkpoint.container(), Container::Safetensors | Container::Sharded);
        if is_flat && graph.str(entry.key).as_deref() == Some(METADATA) {
            return Ok(None);
        }
        let content = graph.text(*text)?;
        let python2 = matches!(graph.encoding(*text), Encoding::Python2 | Encoding::Python2Escaped);
        let latin1 = python2 && std::str::from_utf8(&content).is_err();
        let name = match latin1 {
            true => Cow::Owned(content.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes()),
            false => content,
        };
        Ok(Some(Key { entry, text: *text, name, latin1 }))
    }

    fn edit(&mut self, key: &Key<'_>, new: &Arc<[u8]>) -> Result<()> {
        let graph = &self.checkpoint.graph;
        // what is put together of several files has no pickle of its own to edit
        let several = self.checkpoint.container().is_merged();
        let Some((stream, ..)) = graph.place(key.text).filter(|_| !several) else { return Ok(()) };
        let shown = || lossy(Cow::Borrowed(&key.name), Encoding::Utf8).into_owned();
        if key.entry.key_at == 0 {
            return Err(Error::unsupported(format!("the key {} is pickled in a way that cannot be edited", shown())));
        }
        let new = match key.latin1 {
            true => to_latin1(new).ok_or_else(|| Error::unsupported(format!("{} is Latin-1 text", shown())))?.into(),
            false => Arc::clone(new),
        };
        let edit = Edit { node: key.entry.key, new };
        let edits = self.plan.edits.entry(stream).or_default();
        match edits.entry(key.entry.key_at) {
            hash_map::Entry::Vacant(place) => drop(place.insert(edit)),
            hash_map::Entry::Occupied(other) if *other.get() == edit => {}
            hash_map::Entry::Occupied(_) => {
                let message = format!("two dicts share the key {} and want it renamed differently", shown());
                return Err(Error::unsupported(message));
            }
        }
        Ok(())
    }
}

fn refuse(within: &str, why: &str) -> Error {
    Error::unsupported(if within.is_empty() { why.to_owned() } else { format!("in {within}: {why}") })
}

fn whole_name(within: &str, key: &[u8]) -> String {
    let key = lossy(key.into(), Encoding::Utf8);
    if within.is_empty() { key.into_owned() } else { format!("{within}.{key}") }
}

/// What stands in a key behind the stem and its dot; the key where there is no stem.
fn after_stem<'k>(key: &'k [u8], stem: &str) -> Option<&'k [u8]> {
    if stem.is_empty() { Some(key) } else { key.strip_prefix(stem.as_bytes())?.strip_prefix(b".") }
}

/// The root, and every module that a name lies in.
fn modules_of(name: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let dots = name.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
    std::iter::once(0).chain(dots).filter_map(|to| name.get(..to).map(<[u8]>::to_vec))
}

fn to_latin1(name: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(name).ok()?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}
