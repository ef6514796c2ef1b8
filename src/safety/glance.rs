//! The dangerous globals of a graph that has been read anyway, for who lists a file and does not check it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::globals::{Status, condition, judge};
use super::scan::loose;
use crate::pickle::{Graph, Node, NodeId};

/// A dangerous global that a pickle names: its name, and what it does.
pub(crate) fn dangerous(graph: &Graph) -> Option<(String, &'static str)> {
    // each distinct name is judged once, however often a pickle names it
    let mut seen: FxHashMap<(String, String), bool> = FxHashMap::default();
    let mut conditional: Vec<(NodeId, String, String)> = Vec::new();
    for id in graph.ids() {
        if !matches!(graph.node(id), Node::Global { .. }) {
            continue;
        }
        let Some((module, name)) = graph.global(id) else { continue };
        let key = (module.into_owned(), name.into_owned());
        match seen.get(&key) {
            Some(false) => {}
            Some(true) => conditional.push((id, key.0, key.1)),
            None if condition(&key.0, &key.1).is_some() => {
                seen.insert(key.clone(), true);
                conditional.push((id, key.0, key.1));
            }
            None => {
                if let Status::Dangerous(why) = judge(&key.0, &key.1, false) {
                    return Some((format!("{}.{}", key.0, key.1), why));
                }
                seen.insert(key, false);
            }
        }
    }
    // only what is used in another way than the harmless one
    let loose = if conditional.is_empty() { FxHashSet::default() } else { loose(graph) };
    conditional.into_iter().filter(|(id, ..)| loose.contains(id)).find_map(|(_, module, name)| {
        match judge(&module, &name, false) {
            Status::Dangerous(why) => Some((format!("{module}.{name}"), why)),
            _ => None,
        }
    })
}
