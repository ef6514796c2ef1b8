//! Renaming: which names of which state dicts change, decided before a byte is written.
//!
//! A state dict is a mapping that directly holds tensors, wherever it lies but in an optimizer's state. Only `str` keys
//! are names. Its `_metadata` (module paths and versions, `torch/nn/modules/module.py`) follows the names: with
//! `module.` removed, `module.fc` becomes `fc`, and `module` becomes the root, whose own entry it replaces.

pub mod rules;

use std::borrow::Cow;
use std::collections::hash_map;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::checkpoint::names::{Element, join};
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::{Checkpoint, Container, Root, module};
use crate::container::safetensors::METADATA;
use crate::error::{Error, Result};
use crate::pickle::splice::{Edit, Edits};
use crate::pickle::text::{Encoding, lossy};
use crate::pickle::{Change, Entry, Node, NodeId, StreamId, TextId};
use rules::Rules;

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
pub struct Plan {
    /// Names that change, in file order, each once.
    pub renames: Vec<Rename>,
    /// State dicts that were looked at.
    pub state_dicts: u64,
    /// Names of modules that were pickled whole; nothing is renamed in them.
    pub modules: Vec<String>,
    /// The strings to replace, by the stream they lie in. Empty for formats without a pickle.
    pub edits: HashMap<StreamId, Edits>,
}

impl Checkpoint {
    /// Decides what `rules` make of the names below `root`; `takes` says which whole names are meant, `None` all.
    /// Two keys of one state dict that would become one are `Unsupported`.
    pub fn plan_renames(&self, root: &Root, rules: &Rules, takes: Option<&dyn Fn(&str) -> bool>) -> Result<Plan> {
        if matches!(self.container, Container::TorchScript | Container::Pt2) {
            let what = "names in a TorchScript or torch.export archive are part of its code";
            return Err(Error::unsupported(format!("{what}; `ckpt convert --state-dict` takes the weights out first")));
        }
        let stem = root.stem.as_deref();
        let mut planner = Planner { checkpoint: self, rules, takes, stem, plan: Plan::default() };
        planner.walk(root)?;
        Ok(planner.plan)
    }
}

impl Checkpoint {
    /// The old and the new key, to be shown.
    pub fn shown(&self, rename: &Rename) -> (String, String) {
        let old = self.graph.text_lossy(rename.old).unwrap_or_default().into_owned();
        (old, lossy(Cow::Borrowed(&rename.new), Encoding::Utf8).into_owned())
    }

    /// Renames in the graph, for who writes it anew: a splice of the pickle needs no such thing.
    pub fn apply(&mut self, plan: &Plan) -> Result<()> {
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
            let kind = self.container.name();
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
    plan: Plan,
}

/// A key of a state dict.
struct Key<'a> {
    entry: Entry,
    text: TextId,
    /// UTF-8 with surrogates; Python 2's other strings as if they were Latin-1.
    name: Cow<'a, [u8]>,
    /// The stored bytes are Latin-1.
    latin1: bool,
}

impl<'a> Planner<'a> {
    fn walk(&mut self, root: &Root) -> Result<()> {
        let checkpoint = self.checkpoint;
        let objects = checkpoint.objects();
        let mut seen = HashSet::new();
        let mut open = vec![(root.node, Vec::new())];
        if root.in_optimizer {
            return Ok(());
        }
        while let Some((node, path)) = open.pop() {
            let node = objects.unwrap(node);
            if checkpoint.tensors.of(node).is_some() || !seen.insert(node) {
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
            if children.is_empty() || checkpoint.is_optimizer(&children) {
                continue;
            }
            if path.len() >= checkpoint.limits.max_depth {
                let depth = checkpoint.limits.max_depth;
                return Err(Error::limit(format!("objects nest more than {depth} deep; --max-depth raises it")));
            }
            if let Some(entries) = self.state_dict(node, assignments) {
                self.rename(node, &entries, &path)?;
            }
            for child in children.into_iter().rev() {
                let is_leaf = checkpoint.tensors.of(child.node).is_some() || objects.is_plain_scalar(child.node);
                if is_leaf || self.is_extra_state(child.label) {
                    continue;
                }
                let mut path: Vec<Element> = path.clone();
                path.push(checkpoint.element(child.label));
                open.push((child.node, path));
            }
        }
        Ok(())
    }

    /// What a module's `get_extra_state()` gave is its own affair.
    fn is_extra_state(&self, label: Label) -> bool {
        let Label::Key(key) = label else { return false };
        let name = self.checkpoint.graph.str(key).unwrap_or_default();
        name.rsplit('.').next() == Some("_extra_state")
    }

    /// The assignments of a mapping that directly holds tensors; of subclasses of dict those after their construction.
    fn state_dict(&self, node: NodeId, assignments: Option<Vec<Entry>>) -> Option<Vec<Entry>> {
        let objects = self.checkpoint.objects();
        let entries = assignments.unwrap_or_else(|| {
            let items = self.checkpoint.graph.changes(node).iter().filter_map(|change| match change {
                Change::Item(entry) => Some(*entry),
                _ => None,
            });
            items.collect()
        });
        let is_tensor = |entry: &Entry| self.checkpoint.tensors.of(objects.unwrap(entry.value)).is_some();
        entries.iter().any(is_tensor).then_some(entries)
    }

    /// Whether a value is a state dict or an optimizer's: the mapping that holds it is a checkpoint then.
    fn is_part_of_checkpoint(&self, node: NodeId) -> bool {
        let objects = self.checkpoint.objects();
        let node = objects.unwrap(node);
        let assignments = objects.assignments(node);
        self.checkpoint.tensors.of(node).is_none()
            && assignments.is_some()
            && (self.state_dict(node, assignments).is_some() || self.checkpoint.is_optimizer(&objects.children(node)))
    }

    fn rename(&mut self, node: NodeId, entries: &[Entry], path: &[Element]) -> Result<()> {
        self.plan.state_dicts += 1;
        let checkpoint: &'a Checkpoint = self.checkpoint;
        let within: Arc<str> = join(path).into();
        let keys = entries.iter().map(|entry| self.key(*entry)).collect::<Result<Vec<_>>>()?;
        let keys: Vec<Key<'a>> = keys.into_iter().flatten().collect();
        // beside state dicts, only names with dots are parameters: a `loss` beside `model_state_dict` is none
        let is_checkpoint = keys.iter().any(|key| {
            !key.name.contains(&b'.')
                && !self.is_extra_state(Label::Key(key.entry.key))
                && self.is_part_of_checkpoint(key.entry.value)
        });
        let is_parameter = |key: &Key<'_>| {
            !is_checkpoint || key.name.contains(&b'.') && checkpoint.tensors.of(key.entry.value).is_some()
        };
        let Some(inner) = self.stem_within(&within) else { return Ok(()) };
        let new_name = |key: &Key<'_>| {
            let name = after_stem(&key.name, inner)?;
            let head = key.name.get(..key.name.len() - name.len())?;
            let whole = || {
                let whole = whole_name(&within, &key.name);
                let below = self.stem.and_then(|stem| whole.strip_prefix(stem)?.strip_prefix('.').map(str::to_owned));
                below.unwrap_or(whole)
            };
            let meant = self.takes.is_none_or(|takes| takes(&whole()));
            let new = meant.then(|| [head, &*self.rules.rename(name, is_parameter(key))].concat());
            new.filter(|new| *new != *key.name).map(Arc::<[u8]>::from)
        };
        let new_names: Vec<Option<Arc<[u8]>>> = keys.iter().map(new_name).collect();
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
                        return Err(self.refuse(&within, &format!("{other} and {old} would both become {new}")));
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

    fn refuse(&self, within: &str, why: &str) -> Error {
        Error::unsupported(if within.is_empty() { why.to_owned() } else { format!("in {within}: {why}") })
    }

    fn key(&self, entry: Entry) -> Result<Option<Key<'a>>> {
        let graph = &self.checkpoint.graph;
        let Node::Str(text) = graph.node(entry.key) else { return Ok(None) };
        let is_flat = matches!(self.checkpoint.container, Container::Safetensors | Container::Sharded);
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
        let several = matches!(self.checkpoint.container, Container::Sharded | Container::Dcp);
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
