//! A listing rolled up by module (`ckpt ls --tree`): names are split at path elements and at the dots inside them, and
//! every node counts what lies below it.
//!
//! Built, drawn and written without recursion: nodes are kept in the order in which they are shown, each with its depth.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use serde::Serialize;

use super::figures::{count, size};
use super::ls::{Listing, PathElement, TensorRow};
use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::render::{Cell, Column, Document, Fit, Report, Table, json};

// parts of a longer name stay together in the deepest node; real models nest some twenty deep
const MAX_LEVELS: usize = 128;

/// A listing's tensors as a tree.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    listing: &'a Listing,
    // each before what lies below it; the first is the top object
    nodes: Vec<Node<'a>>,
}

#[derive(Debug, Default)]
struct Node<'a> {
    name: Cow<'a, str>,
    depth: usize,
    class: Option<&'a str>,
    tensors: u64,
    parameters: u64,
    buffers: u64,
    bytes: u64,
    // only where the node is a tensor
    tensor: Option<&'a TensorRow>,
    // nothing follows on the same level below the same parent
    is_last: bool,
}

/// A node while the tree grows, with links instead of an order.
#[derive(Debug, Default)]
struct Bud<'a> {
    node: Node<'a>,
    first_child: Option<usize>,
    last_child: Option<usize>,
    next: Option<usize>,
}

/// The fields of one node in JSON; `children` follows.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Fields<'a> {
    /// The part of the name below the node above; empty for the top object.
    name: &'a str,
    /// The class of a module or another object, where the file has it.
    class: Option<&'a str>,
    /// Only where the node is a tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype: Option<&'a str>,
    /// Only where the node is a tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<&'a [i64]>,
    /// Tensors here and below.
    tensors: u64,
    /// Elements of parameters here and below, tied ones once.
    parameters: u64,
    /// Elements of buffers here and below.
    buffers: u64,
    /// Bytes of the tensors' elements.
    bytes: u64,
}

/// The whole in JSON, for its schema: what is written has the same fields.
#[cfg(test)]
pub(crate) mod schema {
    use super::Fields;

    /// One input as a tree of modules.
    #[derive(serde::Serialize, schemars::JsonSchema)]
    pub(crate) struct Top {
        schema: &'static str,
        /// The input as given.
        file: String,
        #[serde(flatten)]
        node: Branch,
    }

    /// A node of the tree.
    #[derive(serde::Serialize, schemars::JsonSchema)]
    struct Branch {
        #[serde(flatten)]
        fields: Fields<'static>,
        /// What lies below it, in file order.
        children: Vec<Branch>,
    }
}

impl<'a> Tree<'a> {
    /// Rolls up `listing`. Nodes deeper than `depth` are counted in their parents only; the top object has depth 0.
    /// More than `max_nodes` nodes are refused.
    pub(crate) fn new(listing: &'a Listing, depth: Option<usize>, max_nodes: u64) -> Result<Self> {
        let classes: HashMap<&str, &str> = listing.modules.iter().map(|(n, c)| (n.as_str(), c.as_str())).collect();
        let top = Node { class: listing.root_type.as_deref(), ..Node::default() };
        let mut buds = vec![Bud { node: top, ..Bud::default() }];
        let mut modules: HashMap<(usize, Cow<'a, str>), usize> = HashMap::new();
        let mut counted = HashSet::new();
        let levels = depth.unwrap_or(MAX_LEVELS).min(MAX_LEVELS);
        for row in &listing.tensors {
            let parts = parts(row);
            let mut at = 0;
            let mut seen = 0;
            count_in(&mut buds, at, row, &mut counted);
            for (i, part) in parts.iter().enumerate().take(levels) {
                // the name up to here, as modules are named: every part is followed by a dot in it
                seen += part.len() + 1;
                let is_tensor = i + 1 == parts.len();
                let known = if is_tensor { None } else { modules.get(&(at, part.clone())).copied() };
                at = match known {
                    Some(known) => known,
                    None => {
                        let class = row.name.get(..seen - 1).and_then(|name| classes.get(name)).copied();
                        let tensor = is_tensor.then_some(row);
                        let class = if is_tensor { row.class.as_deref() } else { class };
                        let node = Node { name: part.clone(), depth: i + 1, class, tensor, ..Node::default() };
                        let new = add(&mut buds, at, node);
                        if !is_tensor {
                            modules.insert((at, part.clone()), new);
                        }
                        new
                    }
                };
                count_in(&mut buds, at, row, &mut counted);
            }
            if buds.len() as u64 > max_nodes {
                let advice = Message::from("fold it with ")
                    .setting(Setting::Depth)
                    .text(", or raise ")
                    .setting(Setting::MaxEntries);
                return Err(Error::limit(format!("more than {max_nodes} nodes in the tree")).advise(advice));
            }
        }
        Ok(Tree { listing, nodes: in_order(buds) })
    }

    // counts first, as `du` has them, so that deep trees have room
    fn table(&self) -> Table<'_> {
        let with_buffers = self.listing.totals.buffers > 0;
        let mut columns = vec![Column::right("tensors"), Column::right("parameters")];
        columns.extend(with_buffers.then(|| Column::right("buffers")));
        columns.extend([Column::right("size"), Column::left("module").fit(Fit::Over)]);
        // what stands before the names of a level's nodes, and where in it each level ends
        let mut guides = String::new();
        let mut ends = vec![0];
        let rows = self.nodes.iter().map(|node| {
            guides.truncate(ends.get(node.depth.saturating_sub(1)).copied().unwrap_or(0));
            ends.truncate(node.depth.max(1));
            let mut text = guides.clone();
            if node.depth > 0 {
                text.push_str(if node.is_last { "└── " } else { "├── " });
                guides.push_str(if node.is_last { "    " } else { "│   " });
                ends.push(guides.len());
            }
            text.push_str(if node.depth == 0 { "." } else { &node.name });
            let what = node.tensor.map(TensorRow::elements_in_words).or(node.class.map(str::to_owned));
            if let Some(what) = what {
                text.push_str(": ");
                text.push_str(&what);
            }
            // a tensor is one, and one that does not count as parameters has none: blanks are calmer
            let shown = |n: u64, is_shown: bool| Cell::from(if is_shown { count(n) } else { String::new() });
            let mut cells = vec![
                shown(node.tensors, node.tensor.is_none()),
                shown(node.parameters, node.parameters > 0 || node.tensor.is_none()),
            ];
            cells.extend(with_buffers.then(|| shown(node.buffers, node.buffers > 0)));
            cells.extend([Cell::from(size(node.bytes)), Cell::from(text)]);
            cells
        });
        Table { columns, rows: rows.collect() }
    }
}

impl Report for Tree<'_> {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        document.prose(self.listing.heading(None));
        document.table(self.table());
        document.gap();
        self.listing.summary(&mut document);
        document
    }

    /// Nodes within nodes: `{"schema", "file", "name", "class", "tensors", "parameters", "buffers", "bytes", "children": [...]}`,
    /// `schema` and `file` at the top only, and `dtype` and `shape` where a node is a tensor.
    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"{\"schema\":\"ckpt.tree/1\",\"file\":")?;
        json::write(&self.listing.file, out)?;
        out.write_all(b",")?;
        // how many nodes are open: each still wants `]}`
        let mut open: usize = 0;
        for node in &self.nodes {
            for _ in node.depth..open {
                out.write_all(b"]}")?;
            }
            let is_sibling = open > node.depth;
            open = node.depth + 1;
            if node.depth > 0 {
                out.write_all(if is_sibling { b",{" } else { b"{" })?;
            }
            let mut fields = Vec::new();
            let written = Fields {
                name: &node.name,
                class: node.class,
                dtype: node.tensor.map(|row| row.dtype.as_ref()),
                shape: node.tensor.map(|row| row.shape.as_slice()),
                tensors: node.tensors,
                parameters: node.parameters,
                buffers: node.buffers,
                bytes: node.bytes,
            };
            json::write(&written, &mut fields)?;
            let inner = fields.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or_default();
            out.write_all(inner)?;
            out.write_all(b",\"children\":[")?;
        }
        for _ in 0..open {
            out.write_all(b"]}")?;
        }
        Ok(())
    }
}

// the parts of a tensor's name, at most `MAX_LEVELS`: the last one then holds the rest
fn parts(row: &TensorRow) -> Vec<Cow<'_, str>> {
    let mut parts: Vec<Cow<'_, str>> = Vec::new();
    for element in &row.path {
        match element {
            PathElement::Text(text) => parts.extend(text.split('.').map(Cow::from)),
            PathElement::Int(n) => parts.push(n.to_string().into()),
            PathElement::Bool(b) => parts.push(if *b { "True" } else { "False" }.into()),
        }
    }
    if parts.len() > MAX_LEVELS {
        let rest = parts.split_off(MAX_LEVELS - 1).join(".");
        parts.push(rest.into());
    }
    parts
}

fn add<'a>(buds: &mut Vec<Bud<'a>>, parent: usize, node: Node<'a>) -> usize {
    let new = buds.len();
    buds.push(Bud { node, ..Bud::default() });
    let elder = buds.get_mut(parent).and_then(|parent| {
        parent.first_child.get_or_insert(new);
        parent.last_child.replace(new)
    });
    if let Some(elder) = elder.and_then(|elder| buds.get_mut(elder)) {
        elder.next = Some(new);
    }
    new
}

// a tensor under several names counts once in each module that holds it
fn count_in(buds: &mut [Bud<'_>], at: usize, row: &TensorRow, counted: &mut HashSet<(usize, usize)>) {
    if let Some(Bud { node, .. }) = buds.get_mut(at) {
        node.tensors += 1;
        if row.tied.is_none_or(|tied| counted.insert((at, tied))) {
            node.parameters = node.parameters.saturating_add(row.parameters);
            node.buffers = node.buffers.saturating_add(row.buffers);
        }
        node.bytes = node.bytes.saturating_add(row.bytes);
    }
}

// the nodes in the order in which they are shown
fn in_order(mut buds: Vec<Bud<'_>>) -> Vec<Node<'_>> {
    let mut nodes = Vec::with_capacity(buds.len());
    let mut waiting = vec![0];
    while let Some(bud) = waiting.pop().and_then(|at| buds.get_mut(at)) {
        let mut node = std::mem::take(&mut bud.node);
        node.is_last = bud.next.is_none();
        nodes.push(node);
        waiting.extend(bud.next);
        waiting.extend(bud.first_child);
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::super::ls::sample;
    use super::*;
    use crate::error::ErrorKind;
    use crate::message::fields;
    use crate::render::table::Text;
    use crate::render::{Renderer, json::Json};

    fn draw(tree: &Tree<'_>) -> String {
        let mut out = Vec::new();
        Text { width: Some(80), color: false, voice: fields }.render(tree, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        // between the heading and the summary, which are a listing's own
        text.split("\n\n").nth(1).unwrap().to_owned() + "\n"
    }

    fn to_json(tree: &Tree<'_>) -> serde_json::Value {
        let mut out = Vec::new();
        Json.render(tree, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn rolls_up_by_module() {
        let listing = sample::listing();
        assert_eq!(
            draw(&Tree::new(&listing, None, 100).unwrap()),
            "\
tensors  parameters  buffers      size  module
      5      11,880       77  47.2 KiB  .: dict
      5      11,880       77  47.2 KiB  └── state_dict
      2      11,840           46.2 KiB      ├── model
      2      11,840           46.2 KiB      │   └── diffusion_model: UNetModel
      1         320           1.25 KiB      │       ├── input_blocks
      1         320           1.25 KiB      │       │   └── 1
      1         320           1.25 KiB      │       │       └── 0
      1         320           1.25 KiB      │       │           └── in_layers
      1         320           1.25 KiB      │       │               └── 0
                320           1.25 KiB      │       │                   └── weight: float32 [320]
      1      11,520           45.0 KiB      │       └── out
      1      11,520           45.0 KiB      │           └── 2
             11,520           45.0 KiB      │               └── weight: float32 [4, 320, 3, 3]
                 40              160 B      ├── wte: float32 [10, 4]
                 40              160 B      ├── head: float32 [10, 4]
                          77     616 B      └── ids: int64 [1, 77]
"
        );
    }

    #[test]
    fn folds_below_a_depth() {
        let listing = sample::listing();
        assert_eq!(
            draw(&Tree::new(&listing, Some(2), 100).unwrap()),
            "\
tensors  parameters  buffers      size  module
      5      11,880       77  47.2 KiB  .: dict
      5      11,880       77  47.2 KiB  └── state_dict
      2      11,840           46.2 KiB      ├── model
                 40              160 B      ├── wte: float32 [10, 4]
                 40              160 B      ├── head: float32 [10, 4]
                          77     616 B      └── ids: int64 [1, 77]
"
        );
    }

    #[test]
    fn a_tensor_and_a_module_of_one_name_stand_side_by_side() {
        let mut listing = sample::listing();
        listing.tensors = vec![
            sample::tensor(&["a"], &[1]),
            sample::tensor(&["a.b"], &[2]),
            sample::tensor(&["a", "b"], &[3]),
            sample::tensor(&["a.\n"], &[]),
        ];
        listing.count();
        let text = draw(&Tree::new(&listing, None, 100).unwrap());
        let modules: Vec<_> = text.lines().skip(2).filter_map(|line| line.get(27..)).collect();
        let expected = [
            "├── a: float32 [1]",
            "└── a",
            "    ├── b: float32 [2]",
            "    ├── b: float32 [3]",
            "    └── \\n: float32 []",
        ];
        assert_eq!(modules, expected);
    }

    #[test]
    fn json_nests() {
        let mut listing = sample::listing();
        listing.tensors = vec![sample::tensor(&["net", "fc.weight"], &[2, 3]), sample::tensor(&["b"], &[4])];
        let leaf = |name: &str, shape: &[u64], parameters: u64| {
            serde_json::json!({"name": name, "class": null, "dtype": "float32", "shape": shape, "tensors": 1,
                "parameters": parameters, "buffers": 0, "bytes": parameters * 4, "children": []})
        };
        let inner = |name: &str, child: serde_json::Value| serde_json::json!({"name": name, "class": null, "tensors": 1, "parameters": 6, "buffers": 0, "bytes": 24, "children": [child]});
        let expected = serde_json::json!({"schema": "ckpt.tree/1", "file": "v1.ckpt", "name": "", "class": "dict",
            "tensors": 2, "parameters": 10, "buffers": 0, "bytes": 40,
            "children": [inner("net", inner("fc", leaf("weight", &[2, 3], 6))), leaf("b", &[4], 4)]});
        assert_eq!(to_json(&Tree::new(&listing, None, 100).unwrap()), expected);
    }

    #[test]
    fn depth_and_nodes_are_bounded() {
        let mut listing = sample::listing();
        let deep = "a.".repeat(100_000) + "weight";
        listing.tensors = vec![sample::tensor(&[&deep], &[1])];
        let tree = Tree::new(&listing, None, 1000).unwrap();
        assert_eq!(tree.nodes.len(), 1 + MAX_LEVELS);
        let deepest = tree.nodes.last().unwrap();
        assert_eq!((deepest.depth, deepest.name.len()), (MAX_LEVELS, deep.len() - 2 * (MAX_LEVELS - 1)));
        assert_eq!(Tree::new(&listing, None, 100).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(Tree::new(&listing, Some(3), 100).unwrap().nodes.len(), 4);
    }

    #[test]
    fn a_bare_tensor_and_no_tensor_at_all() {
        let mut listing = sample::listing();
        listing.root_type = Some("Tensor".into());
        listing.tensors = vec![sample::tensor(&[], &[2])];
        listing.count();
        assert_eq!(
            draw(&Tree::new(&listing, None, 10).unwrap()),
            "tensors  parameters  size  module\n      1           2   8 B  .: Tensor\n"
        );
        listing.tensors.clear();
        assert_eq!(to_json(&Tree::new(&listing, None, 10).unwrap())["children"], serde_json::json!([]));
    }
}
