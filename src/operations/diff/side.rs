//! One of the two files: its names, made comparable with the other's.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::edit::strip_fault;
use crate::checkpoint::names::{Element, join};
use crate::checkpoint::object::Label;
use crate::checkpoint::{Checkpoint, Entry, Item, Root, Tensor, TensorId};
use crate::error::Result;
use crate::message::Message;
use crate::operations::Input;
use crate::operations::select::Filter;
use crate::pickle::NodeId;
use crate::report::diff::Problem;
use crate::report::figures::shape;

/// How names are aligned, and which are taken.
#[derive(Clone, Copy)]
pub(crate) struct Alignment<'a> {
    /// Taken off the names that have it.
    pub strip_prefix: Option<&'a str>,
    /// By name, once aligned.
    pub filter: &'a Filter,
    /// Only what a format for weights would hold: no optimizers, no other values.
    pub weights: bool,
    /// Of modules only what `state_dict()` gives.
    pub state_dict: bool,
    /// The keys of the state dict that hold no tensors too, as `load_state_dict` sees them.
    pub other_keys: bool,
}

/// A tensor or value with its aligned name.
#[derive(Debug)]
pub(crate) struct Aligned {
    pub name: String,
    pub path: Vec<Element>,
    pub node: NodeId,
    pub what: What,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Tensor(TensorId),
    Value,
    /// An object inside itself.
    Recursion,
    /// A module: its class.
    Module(String),
}

impl Aligned {
    pub(crate) fn is_module(&self) -> bool {
        matches!(self.what, What::Module(_))
    }
}

/// One file.
pub(crate) struct Side<'a> {
    pub name: &'a str,
    pub checkpoint: &'a Checkpoint,
    pub tensors: Vec<Aligned>,
    /// Values, and the classes of modules.
    pub values: Vec<Aligned>,
    /// Names that lost the prefix.
    pub stripped: Stripped,
}

/// What taking a prefix off came to.
#[derive(Debug, Default)]
pub(crate) struct Stripped {
    /// How many names had it.
    pub names: usize,
    /// Why it cannot be taken off: it has no dot, or two names become one.
    pub fault: Option<String>,
    /// The aligned names, and the whole ones of those that lost it.
    seen: HashMap<String, Option<String>>,
}

impl Stripped {
    /// `before` is the whole name of one that lost the prefix.
    fn add(&mut self, name: &str, before: Option<String>) {
        self.names += usize::from(before.is_some());
        match self.seen.get(name) {
            // a file may have a name twice by itself
            Some(None) if before.is_none() => {}
            Some(other) if *other != before => {
                let [x, y] = [other, &before].map(|before| before.as_deref().unwrap_or(name));
                self.fault.get_or_insert_with(|| format!("{x} and {y} would both become {name}"));
            }
            Some(_) => {}
            None => drop(self.seen.insert(name.to_owned(), before)),
        }
    }
}

impl<'a> Side<'a> {
    /// Everything below `root` that `align` takes. Fails when a bound of the limits is met.
    pub(crate) fn new(input: &'a Input, root: &Root, align: &Alignment<'_>) -> Result<Self> {
        let checkpoint = &input.checkpoint;
        let mut side = Side {
            name: &input.name,
            checkpoint,
            tensors: Vec::new(),
            values: Vec::new(),
            stripped: Stripped::default(),
        };
        let names = checkpoint.names(root)?;
        if align.other_keys && !checkpoint.container().holds_only_weights() && !checkpoint.is_module(root) {
            for (element, node) in other_keys(checkpoint, root, &names.entries) {
                side.add(vec![element], node, What::Value, align);
            }
        }
        for entry in names.entries {
            let what = match entry.item {
                _ if align.weights && entry.in_optimizer && !root.in_optimizer => continue,
                Item::Tensor(_, false) if align.state_dict => continue,
                Item::Tensor(id, _) => What::Tensor(id),
                _ if align.weights => continue,
                Item::Value => What::Value,
                Item::Recursion => What::Recursion,
            };
            side.add(entry.path, entry.node, what, align);
        }
        for (path, class) in names.modules {
            if !align.weights {
                side.add(path, root.node, What::Module(class), align);
            }
        }
        Ok(side)
    }

    fn add(&mut self, mut path: Vec<Element>, node: NodeId, what: What, align: &Alignment<'_>) {
        let mut before = None;
        if let Some(prefix) = align.strip_prefix {
            let whole = join(&path);
            if let Some((key, rest)) = strip(&mut path, prefix) {
                let fault = strip_fault(prefix, &key, &rest);
                self.stripped.fault = self.stripped.fault.take().or(fault);
                before = Some(whole);
            }
        }
        let name = join(&path);
        let is_meant = align.filter.takes_as(&name, before.as_deref().unwrap_or(&name));
        // the classes of modules lie at the paths of their tensors' parents
        if align.strip_prefix.is_some() && !matches!(what, What::Module(_)) {
            self.stripped.add(&name, before.clone());
        }
        if is_meant {
            let list = if matches!(what, What::Tensor(_)) { &mut self.tensors } else { &mut self.values };
            list.push(Aligned { name, path, node, what });
        }
    }

    /// Whether there is nothing to compare.
    pub(crate) fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.values.is_empty()
    }

    /// Whether the file tells the classes of modules.
    pub(crate) fn has_modules(&self) -> bool {
        self.values.iter().any(Aligned::is_module)
    }

    /// Forgets the classes of modules, for a file that has none to hold against them.
    pub(crate) fn without_modules(mut self) -> Self {
        self.values.retain(|named| !named.is_module());
        self
    }

    /// The tensor of a name that stands for one.
    pub(crate) fn tensor(&self, named: &Aligned) -> Option<&'a Tensor> {
        match named.what {
            What::Tensor(id) => self.checkpoint.tensor(id),
            _ => None,
        }
    }

    /// Dtype and shape of a tensor, type and `repr` of a value.
    pub(crate) fn shown(&self, named: &Aligned) -> [String; 2] {
        let objects = self.checkpoint.objects();
        match (&named.what, self.tensor(named)) {
            (_, Some(tensor)) => [dtype_name(tensor), shape(&tensor.shape)],
            (What::Module(class), _) => ["module".into(), class.clone()],
            _ => [objects.type_name(named.node), objects.repr(named.node, MAX_SHOWN_CHARS)],
        }
    }

    /// What is wrong with the data of a name.
    pub(crate) fn problem(&self, named: &Aligned, problem: impl Into<Message>) -> Problem {
        Problem { file: self.name.to_owned(), name: named.name.clone(), problem: problem.into() }
    }
}

/// The keys of a mapping without weights in them.
fn other_keys(checkpoint: &Checkpoint, root: &Root, entries: &[Entry]) -> Vec<(Element, NodeId)> {
    let objects = checkpoint.objects();
    let is_weight = |entry: &&Entry| matches!(entry.item, Item::Tensor(..)) && !entry.in_optimizer;
    let weights: HashSet<&Element> = entries.iter().filter(is_weight).filter_map(|entry| entry.path.first()).collect();
    let items = objects.items(objects.unwrap(root.node)).unwrap_or_default();
    let keys = items.iter().map(|item| (checkpoint.element(Label::Key(item.key)), item.value));
    keys.filter(|(element, _)| !weights.contains(element)).collect()
}

/// Longer values are cut when they are shown.
pub(crate) const MAX_SHOWN_CHARS: usize = 60;

/// torch's name of the dtype, as far as it is known.
pub(crate) fn dtype_name(tensor: &Tensor) -> String {
    tensor.dtype.as_ref().map_or_else(|| "unknown".into(), |dtype| dtype.name().to_owned())
}

/// Takes `prefix` off the first element that begins with it, or elements off the beginning that are the prefix. Gives what
/// it was taken off, before and after; nothing where it does not stand.
fn strip(path: &mut Vec<Element>, prefix: &str) -> Option<(String, String)> {
    for element in path.iter_mut() {
        if let Element::Text(text) = element
            && let Some(rest) = text.strip_prefix(prefix).filter(|rest| !rest.is_empty())
        {
            let rest = rest.to_owned();
            return Some((std::mem::replace(text, rest.clone()), rest));
        }
    }
    let end = (1..path.len()).find(|end| path.get(..*end).is_some_and(|head| format!("{}.", join(head)) == prefix))?;
    let whole = join(path);
    path.drain(..end);
    Some((whole, join(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_keys_and_of_paths() {
        let cases: &[(&[&str], &str, &str)] = &[
            (&["module.fc.weight"], "module.", "fc.weight"),
            (&["state", "module.fc.weight"], "module.", "state.fc.weight"),
            (&["module", "fc", "weight"], "module.", "fc.weight"),
            (&["a", "b", "w"], "a.b.", "w"),
            (&["model.module.fc"], "module.", "model.module.fc"),
            (&["module."], "module.", "module."),
            (&[], "module.", ""),
        ];
        for (path, prefix, want) in cases {
            let mut path: Vec<Element> = path.iter().map(|text| Element::Text((*text).into())).collect();
            let before = join(&path);
            assert_eq!(strip(&mut path, prefix).is_some(), before != *want);
            assert_eq!(join(&path), *want);
        }
    }

    #[test]
    fn names_that_become_one() {
        let fault = |names: &[(&str, Option<&str>)]| {
            let mut stripped = Stripped::default();
            names.iter().for_each(|(name, before)| stripped.add(name, before.map(str::to_owned)));
            stripped.fault
        };
        assert_eq!(fault(&[("a", None), ("a", None), ("b", Some("m.b"))]), None);
        assert_eq!(fault(&[("a", Some("m.a")), ("b", None), ("a", None)]).unwrap(), "m.a and a would both become a");
        assert_eq!(fault(&[("a", None), ("a", Some("m.a"))]).unwrap(), "a and m.a would both become a");
    }
}
