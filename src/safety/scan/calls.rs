//! A call as Python would write it, with its arguments as far as they are literal.

use crate::checkpoint::pyrepr;
use crate::pickle::{Graph, Node, NodeId, Object, TextId};

/// Characters of a text, elements of a sequence, and levels that are shown.
const MAX_TEXT: usize = 120;
const MAX_ITEMS: usize = 6;
const MAX_DEPTH: usize = 3;

/// `posix.system('echo hello')`; nothing for a call without arguments.
pub(super) fn call(graph: &Graph, object: &Object) -> Option<String> {
    let (module, name) = graph.global(object.callable)?;
    let arguments = arguments(graph, object.args, 0);
    (!arguments.is_empty()).then(|| format!("{module}.{name}({arguments})"))
}

fn arguments(graph: &Graph, args: NodeId, depth: usize) -> String {
    match graph.node(args) {
        Node::Tuple(items) => several(graph, graph.children(*items), depth),
        Node::List(items) => several(graph, items, depth),
        Node::None => String::new(),
        _ => format!("*{}", value(graph, args, depth)),
    }
}

fn several(graph: &Graph, items: &[NodeId], depth: usize) -> String {
    let mut shown: Vec<String> = items.iter().take(MAX_ITEMS).map(|item| value(graph, *item, depth + 1)).collect();
    if items.len() > MAX_ITEMS {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

/// Goes down at most [`MAX_DEPTH`] levels.
fn value(graph: &Graph, id: NodeId, depth: usize) -> String {
    if depth > MAX_DEPTH {
        return "...".to_owned();
    }
    match graph.node(id) {
        Node::None => "None".to_owned(),
        Node::Bool(true) => "True".to_owned(),
        Node::Bool(false) => "False".to_owned(),
        Node::Int(value) => value.to_string(),
        Node::Float(value) => pyrepr::float(*value),
        Node::Str(text) => shortened(graph, *text, pyrepr::string),
        Node::Bytes(text) => shortened(graph, *text, pyrepr::bytes),
        Node::ByteArray(text) => format!("bytearray({})", shortened(graph, *text, pyrepr::bytes)),
        Node::Tuple(items) => match graph.children(*items) {
            [one] => format!("({},)", value(graph, *one, depth + 1)),
            items => format!("({})", several(graph, items, depth)),
        },
        Node::List(items) => format!("[{}]", several(graph, items, depth)),
        Node::Dict(entries) => {
            let pairs = entries.iter().take(MAX_ITEMS);
            let pairs =
                pairs.map(|e| format!("{}: {}", value(graph, e.key, depth + 1), value(graph, e.value, depth + 1)));
            let mut shown: Vec<String> = pairs.collect();
            if entries.len() > MAX_ITEMS {
                shown.push("...".to_owned());
            }
            format!("{{{}}}", shown.join(", "))
        }
        Node::Global { .. } => graph.global(id).map_or("...".to_owned(), |(module, name)| format!("{module}.{name}")),
        Node::Object(object) => match graph.global(object.callable) {
            Some((module, name)) => format!("{module}.{name}({})", arguments(graph, object.args, depth + 1)),
            None => "...".to_owned(),
        },
        _ => "...".to_owned(),
    }
}

fn shortened(graph: &Graph, text: TextId, repr: fn(&[u8]) -> String) -> String {
    if graph.stored_len(text) > 4 * MAX_TEXT as u64 {
        let Ok(start) = graph.raw_text_prefix(text, MAX_TEXT) else { return "...".to_owned() };
        return format!("{}...", repr(&start));
    }
    let Ok(content) = graph.text(text) else { return "...".to_owned() };
    match content.get(..MAX_TEXT) {
        Some(start) if content.len() > MAX_TEXT => format!("{}...", repr(start)),
        _ => repr(&content),
    }
}
