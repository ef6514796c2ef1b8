//! One of the two files: its names, made comparable with the other's.

use crate::checkpoint::names::{Element, join};
use crate::checkpoint::{Item, Root, Tensor, TensorId};
use crate::commands::input::Input;
use crate::commands::names::Filter;
use crate::error::Result;
use crate::pickle::NodeId;
use crate::report::diff::Problem;
use crate::report::figures::shape;

/// How names are aligned, and which are taken.
#[derive(Clone, Copy)]
pub struct Align<'a> {
    /// Taken off the names that have it.
    pub strip_prefix: Option<&'a str>,
    /// By name, once aligned.
    pub filter: &'a Filter,
    /// Only what a format for weights would hold: no optimizers, no other values.
    pub weights: bool,
    /// Of modules only what `state_dict()` gives.
    pub state_dict: bool,
}

/// A tensor or value with its aligned name.
#[derive(Debug)]
pub struct Named {
    pub name: String,
    pub path: Vec<Element>,
    pub node: NodeId,
    pub what: What,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Tensor(TensorId),
    Value,
    /// An object inside itself.
    Recursion,
    /// A module: its class.
    Module(String),
}

impl Named {
    pub fn is_module(&self) -> bool {
        matches!(self.what, What::Module(_))
    }
}

/// One file.
pub struct Side<'a> {
    pub name: &'a str,
    pub checkpoint: &'a crate::checkpoint::Checkpoint,
    pub tensors: Vec<Named>,
    /// Values, and the classes of modules.
    pub values: Vec<Named>,
}

impl<'a> Side<'a> {
    /// Everything below `root` that `align` takes. Fails when a bound of the limits is met.
    pub fn new(input: &'a Input, root: &Root, align: &Align<'_>) -> Result<Self> {
        let checkpoint = &input.checkpoint;
        let mut side = Side { name: &input.name, checkpoint, tensors: Vec::new(), values: Vec::new() };
        let names = checkpoint.names(root)?;
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

    fn add(&mut self, mut path: Vec<Element>, node: NodeId, what: What, align: &Align<'_>) {
        let was = align.strip_prefix.map(|prefix| {
            let was = join(&path);
            strip(&mut path, prefix);
            was
        });
        let name = join(&path);
        if align.filter.takes_as(&name, was.as_deref().unwrap_or(&name)) {
            let list = if matches!(what, What::Tensor(_)) { &mut self.tensors } else { &mut self.values };
            list.push(Named { name, path, node, what });
        }
    }

    /// Whether there is nothing to compare.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.values.is_empty()
    }

    /// Whether the file tells the classes of modules.
    pub fn has_modules(&self) -> bool {
        self.values.iter().any(Named::is_module)
    }

    /// Forgets the classes of modules, for a file that has none to hold against them.
    pub fn without_modules(mut self) -> Self {
        self.values.retain(|named| !named.is_module());
        self
    }

    /// The tensor of a name that stands for one.
    pub fn tensor(&self, named: &Named) -> Option<&'a Tensor> {
        match named.what {
            What::Tensor(id) => self.checkpoint.tensor(id),
            _ => None,
        }
    }

    /// Dtype and shape of a tensor, type and `repr` of a value.
    pub fn shown(&self, named: &Named) -> [String; 2] {
        let objects = self.checkpoint.objects();
        match (&named.what, self.tensor(named)) {
            (_, Some(tensor)) => [dtype_name(tensor), shape(&tensor.shape)],
            (What::Module(class), _) => ["module".into(), class.clone()],
            _ => [objects.type_name(named.node), objects.repr(named.node, MAX_SHOWN_CHARS)],
        }
    }

    /// What is wrong with the data of a name.
    pub fn problem(&self, named: &Named, problem: impl Into<String>) -> Problem {
        Problem { file: self.name.to_owned(), name: named.name.clone(), problem: problem.into() }
    }
}

/// Longer values are cut when they are shown.
pub const MAX_SHOWN_CHARS: usize = 60;

/// torch's name of the dtype, as far as it is known.
pub fn dtype_name(tensor: &Tensor) -> String {
    tensor.dtype.as_ref().map_or_else(|| "unknown".into(), |dtype| dtype.name().to_owned())
}

/// Takes `prefix` off the first element that begins with it, or elements off the beginning that are the prefix.
fn strip(path: &mut Vec<Element>, prefix: &str) {
    for element in path.iter_mut() {
        if let Element::Text(text) = element
            && let Some(rest) = text.strip_prefix(prefix).filter(|rest| !rest.is_empty())
        {
            *text = rest.to_owned();
            return;
        }
    }
    let ends = (1..path.len()).find(|end| path.get(..*end).is_some_and(|head| format!("{}.", join(head)) == prefix));
    path.drain(..ends.unwrap_or(0));
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
            strip(&mut path, prefix);
            assert_eq!(join(&path), *want);
        }
    }
}
