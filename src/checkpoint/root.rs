//! `--root NAME`: finding the one place that a name stands for.
//!
//! A place is an object, or a node of the tree that names make with their dots: of the flat state dict
//! `{"blocks.0.weight": …, "blocks.0.bias": …}` the node `blocks.0` is no object, and still has names below it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::checkpoint::names::{Element, Entry, Item, join};
use crate::checkpoint::resolve::{Matcher, Reach};
use crate::checkpoint::{Checkpoint, Names, module};
use crate::error::{Error, Result};
use crate::pickle::NodeId;

/// Where a walk begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The object.
    pub node: NodeId,
    /// How to get there from the top object.
    pub path: Vec<Element>,
    /// It lies in an optimizer's state.
    pub in_optimizer: bool,
    /// Of the object only the names that begin with this and a dot, without both.
    pub stem: Option<Arc<str>>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// One thing.
    Of(Root),
    /// Two things at least: two of their paths.
    Ambiguous(Vec<Element>, Vec<Element>),
    /// Nothing.
    Nowhere,
}

/// What a search along a name met.
#[derive(Default)]
struct Met {
    /// Objects of just this name.
    found: Vec<Root>,
    /// Objects with children whose own labels go on where the name ends: `blocks.0.weight` for `blocks.0`.
    holders: Vec<Root>,
}

impl Checkpoint {
    /// The top object.
    pub fn top(&self) -> Root {
        Root { node: self.root, path: Vec::new(), in_optimizer: false, stem: None }
    }

    /// Whether a walk from there gives what a module's `state_dict()` would, and more.
    pub(crate) fn is_module(&self, root: &Root) -> bool {
        module::is_module(self, self.objects().unwrap(root.node))
    }

    /// The place that `name` stands for, seen from `from`: `.` is `from` itself; else an object of that name, else a node
    /// of the tree, else the outermost thing whose name matches it as a glob. Paths are from the top object on.
    pub fn place(&self, from: &Root, name: &str) -> Result<Located> {
        let base = Root { path: Vec::new(), stem: None, ..from.clone() };
        let whole = match (&from.stem, name) {
            (_, ".") => return Ok(Located::Of(from.clone())),
            (Some(stem), name) => format!("{stem}.{name}"),
            (None, name) => name.to_owned(),
        };
        let place = match self.place_below(&base, &whole)? {
            Located::Nowhere => self.place_by_glob(&base, from.stem.as_deref(), name)?,
            place => place,
        };
        let rooted = |path: Vec<Element>| {
            let below = from.stem.as_ref().and_then(|stem| below(&path, stem));
            [from.path.clone(), below.unwrap_or(path)].concat()
        };
        Ok(match place {
            Located::Of(root) => Located::Of(Root { path: rooted(root.path.clone()), ..root }),
            Located::Ambiguous(first, second) => Located::Ambiguous(rooted(first), rooted(second)),
            Located::Nowhere => Located::Nowhere,
        })
    }

    /// A place by its exact name; paths are relative to `from`, which is an object.
    fn place_below(&self, from: &Root, name: &str) -> Result<Located> {
        let mut met = self.search(from, name)?;
        if let [first, second, ..] = met.found.as_slice() {
            return Ok(Located::Ambiguous(first.path.clone(), second.path.clone()));
        }
        let node_of_tree = |holder: &Root, path: Vec<Element>| {
            let held = join(&holder.path);
            let stem = if holder.path.is_empty() { Some(name) } else { name.get(held.len() + 1..) };
            let path = match path.is_empty() {
                true => [holder.path.clone(), vec![Element::Text(stem.unwrap_or_default().to_owned())]].concat(),
                false => path,
            };
            Root { path, stem: stem.map(Arc::from), ..holder.clone() }
        };
        Ok(match (met.found.pop(), met.holders.as_slice()) {
            (Some(root), []) => Located::Of(root),
            // the object, and names that stand elsewhere in the same node of the tree
            (Some(root), _) if self.has_names_below(&root) => Located::Of(node_of_tree(from, root.path)),
            (Some(root), _) => Located::Of(root),
            (None, [holder]) => Located::Of(node_of_tree(holder, Vec::new())),
            (None, [_, ..]) => Located::Of(node_of_tree(from, vec![Element::Text(name.to_owned())])),
            // what is listed without being an object on the way: parts of tensors, constants of code
            (None, []) => self.listed_place(from, name)?,
        })
    }

    fn listed_place(&self, from: &Root, name: &str) -> Result<Located> {
        let inside = format!("{name}.");
        let mut is_node = false;
        for Entry { path, node, in_optimizer, .. } in self.names(from)?.entries {
            let listed = join(&path);
            if listed == name {
                return Ok(Located::Of(Root { node, path, in_optimizer, stem: None }));
            }
            is_node |= listed.starts_with(&inside);
        }
        let path = vec![Element::Text(name.to_owned())];
        Ok(if is_node { Located::Of(Root { path, stem: Some(name.into()), ..from.clone() }) } else { Located::Nowhere })
    }

    /// Looks at every object on the way along `name`; paths are relative to `from`.
    fn search(&self, from: &Root, name: &str) -> Result<Met> {
        let objects = self.objects();
        let mut met = Met::default();
        let mut open = vec![from.clone()];
        let mut visits = self.limits.entries_for(self.graph.held());
        while let Some(root) = open.pop() {
            visits = visits.checked_sub(1).ok_or_else(|| Error::limit("too many objects to look for that name"))?;
            let node = objects.unwrap(root.node);
            if root.path.len() >= self.limits.max_depth || self.tensors.of(node).is_some() {
                continue;
            }
            let below = objects.children(node);
            let in_optimizer = root.in_optimizer || self.is_optimizer(&below);
            let children = if module::is_module(self, node) {
                module::parts(self, node)
            } else {
                below.into_iter().map(|child| (self.element(child.label), child.node)).collect()
            };
            let before = if root.path.is_empty() { String::new() } else { join(&root.path) + "." };
            let Some(wanted) = name.strip_prefix(&before) else { continue };
            let mut is_holder = false;
            let mut further = Vec::new();
            for (element, child) in children {
                let label = element.to_string();
                if let Some(rest) = label.strip_prefix(wanted) {
                    if !rest.is_empty() {
                        is_holder |= rest.starts_with('.');
                        continue;
                    }
                } else if !wanted.strip_prefix(&label).is_some_and(|rest| rest.starts_with('.')) {
                    continue;
                }
                let path = [root.path.as_slice(), &[element]].concat();
                let reached = Root { node: objects.unwrap(child), path, in_optimizer, stem: None };
                if label != wanted {
                    further.push(reached);
                } else if let Some(same) = met.found.iter_mut().find(|found| found.path == reached.path) {
                    // a key that is assigned again
                    *same = reached;
                } else {
                    met.found.push(reached);
                }
            }
            open.extend(further.into_iter().rev());
            if is_holder {
                met.holders.push(Root { in_optimizer, ..root });
            }
        }
        Ok(met)
    }

    fn has_names_below(&self, root: &Root) -> bool {
        let objects = self.objects();
        let node = objects.unwrap(root.node);
        let is_leaf = self.tensors.of(node).is_some()
            || !module::is_module(self, node) && (objects.is_value(node) || objects.children(node).is_empty());
        !is_leaf
    }

    /// The outermost place below whose name matches; two of them are as ambiguous as two of one name.
    fn place_by_glob(&self, from: &Root, stem: Option<&str>, glob: &str) -> Result<Located> {
        let Ok(matcher) = Matcher::of_glob(glob, Reach::Subtrees) else { return Ok(Located::Nowhere) };
        let whole = Matcher::of_glob(glob, Reach::Names).ok();
        let walked = Root { stem: stem.map(Arc::from), ..from.clone() };
        let mut found: Vec<String> = Vec::new();
        for entry in self.names(&walked)?.entries {
            let name = entry.name();
            let has_found = |name: &String| {
                found.iter().any(|outer| {
                    name.strip_prefix(outer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
            };
            if has_found(&name) || !matcher.matches(&name) {
                continue;
            }
            let dots = name.match_indices('.').map(|(at, _)| at);
            let outermost = dots.chain([name.len()]).filter_map(|end| name.get(..end));
            let outermost = outermost.into_iter().find(|head| whole.as_ref().is_some_and(|whole| whole.matches(head)));
            found.extend(outermost.map(str::to_owned));
            if found.len() > 1 {
                break;
            }
        }
        let in_base = |name: &str| stem.map_or_else(|| name.to_owned(), |stem| format!("{stem}.{name}"));
        match found.as_slice() {
            [] => Ok(Located::Nowhere),
            [one] => self.place_below(from, &in_base(one)),
            [first, second, ..] => {
                let path = |name: &str| vec![Element::Text(in_base(name))];
                Ok(Located::Ambiguous(path(first), path(second)))
            }
        }
    }
}

/// What lies outside a place.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// The outermost things that have nothing of the place in them; what holds tensors says how many.
    pub names: Vec<(String, Option<usize>)>,
    /// All values.
    pub values: Vec<(String, NodeId)>,
}

impl Checkpoint {
    /// Whether what lies beside a place is told by names only: nodes of the tree that are no objects, and parts of modules.
    pub(crate) fn is_among_names(&self, root: &Root) -> bool {
        let objects = self.objects();
        let mut node = objects.unwrap(self.root);
        for step in &root.path {
            if root.stem.is_some() || module::is_module(self, node) {
                return true;
            }
            let children = objects.children(node);
            let Some(next) = children.iter().find(|child| self.element(child.label) == *step) else { return false };
            node = objects.unwrap(next.node);
        }
        false
    }

    /// Everything that a walk from the top object lists and one from `root` does not.
    pub(crate) fn outside(&self, root: &Root) -> Result<Outside> {
        let mut outside = Outside::default();
        let root = join(&root.path);
        let mut places: HashMap<String, usize> = HashMap::new();
        let is_inside = |name: &str, outer: &str| {
            name.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        for entry in self.names(&self.top())?.entries {
            let name = entry.name();
            if is_inside(&name, &root) {
                continue;
            }
            let is_tensor = matches!(entry.item, Item::Tensor(..));
            let mut heads = (1..entry.path.len()).filter_map(|end| entry.path.get(..end)).map(join);
            match heads.find(|head| !is_inside(&root, head)) {
                None => outside.names.push((name.clone(), None)),
                Some(whole) => {
                    let at = *places.entry(whole).or_insert_with_key(|whole| {
                        outside.names.push((whole.clone(), None));
                        outside.names.len() - 1
                    });
                    if let Some((_, count)) = outside.names.get_mut(at).filter(|_| is_tensor) {
                        *count = Some(count.unwrap_or(0) + 1);
                    }
                }
            }
            if !is_tensor {
                outside.values.push((name, entry.node));
            }
        }
        Ok(outside)
    }
}

impl Names {
    /// What has names that begin with `stem` and a dot, without both.
    pub(super) fn below(self, stem: &str) -> Names {
        let entries = self.entries.into_iter().filter_map(|entry| {
            let path = below(&entry.path, stem)?;
            Some(Entry { path, ..entry })
        });
        let modules = self.modules.into_iter().filter_map(|(path, class)| {
            let path = if join(&path) == stem { Some(Vec::new()) } else { below(&path, stem) };
            Some((path?, class))
        });
        Names { entries: entries.collect(), modules: modules.collect() }
    }
}

/// A path below `stem`, whose end may lie inside an element.
fn below(path: &[Element], stem: &str) -> Option<Vec<Element>> {
    let mut rest = stem;
    for (at, element) in path.iter().enumerate() {
        let after = path.get(at + 1..).unwrap_or_default();
        let text = element.to_string();
        match rest.strip_prefix(&text) {
            Some("") => return (!after.is_empty()).then(|| after.to_vec()),
            Some(more) if more.starts_with('.') => rest = more.get(1..).unwrap_or_default(),
            _ => {
                let inside = text.strip_prefix(rest)?.strip_prefix('.')?;
                return Some([&[Element::Text(inside.to_owned())], after].concat());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "nothing";

    #[test]
    fn paths_below_a_node_of_the_tree() {
        let path = |elements: &[&str]| -> Vec<Element> {
            elements
                .iter()
                .map(|text| text.parse().map_or_else(|_| Element::Text((*text).into()), Element::Int))
                .collect()
        };
        let cases: &[(&[&str], &str, &str)] = &[
            (&["blocks.0.attn.w"], "blocks.0", "attn.w"),
            (&["blocks.01.w"], "blocks.0", NONE),
            (&["blocks", "0", "w"], "blocks.0", "w"),
            (&["blocks", "0.w", "x"], "blocks.0", "w.x"),
            (&["blocks.0"], "blocks.0", NONE),
            (&["blocks"], "blocks.0", NONE),
            (&["a.b", "c"], "a.b", "c"),
            (&["", "w"], "", "w"),
            (&[".w"], "", "w"),
            (&[], "", NONE),
        ];
        for (from, stem, want) in cases {
            let got = below(&path(from), stem).map_or(NONE.to_owned(), |path| join(&path));
            assert_eq!(got, *want, "{from:?} below {stem}");
        }
    }
}
