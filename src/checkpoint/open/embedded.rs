//! Files of `torch.save` that are values: skorch and TransformerEngine keep them as bytes, or in an `io.BytesIO`.
//!
//! They stay the values they are; what they hold is read beside them, one level deep.

use std::collections::{HashMap, HashSet};

use super::{Opener, Parts};
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::numpy::byte_string;
use crate::error::{ErrorKind, Result};
use crate::pickle::stored::bytes_of;
use crate::pickle::{Node, NodeId, TextId};

/// Files that are read in one checkpoint.
const MAX_FILES: usize = 256;
/// No file of torch's is shorter.
const MIN_BYTES: u64 = 64;
/// The beginnings of torch's zip and of its legacy stream, as bytes and as UTF-8 of Latin-1.
const MAGIC: &[&[u8]] = &[b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF", b"\xc2\x80\x02\xc2\x8a\nl\xc3\xbc\xc2\x9cF"];

/// Reads every such file among the nodes from number `from` on, each once. What cannot be read stays a value and no more.
pub(super) fn read(opener: &Opener<'_>, parts: &mut Parts, from: usize) -> Result<()> {
    let mut roots: HashMap<TextId, Option<NodeId>> = HashMap::new();
    for (value, text) in find(parts, from) {
        let root = match roots.get(&text) {
            Some(root) => *root,
            None if roots.len() >= MAX_FILES => None,
            None => {
                let root = open(opener, parts, text, roots.len())?;
                roots.insert(text, root);
                root
            }
        };
        if let Some(root) = root {
            parts.tensors.embed(value, root);
        }
    }
    Ok(())
}

fn open(opener: &Opener<'_>, parts: &mut Parts, text: TextId, number: usize) -> Result<Option<NodeId>> {
    let source = bytes_of(&parts.graph, text, None)?;
    let max_objects = opener.limits.objects_for(source.len()).min(opener.max_objects);
    let inner = Opener::new(source, opener.limits, max_objects);
    let first = parts.storages.len();
    match inner.saved(parts) {
        Ok(opened) => {
            parts.storages.prefix_keys(first, &format!("bytes{number}/"));
            Ok(Some(opened.root))
        }
        Err(e) if e.kind() == ErrorKind::Io => Err(e),
        Err(_) => Ok(None),
    }
}

/// The values that look like files of torch's, with their bytes: byte strings, and `BytesIO`s by their state.
fn find(parts: &Parts, from: usize) -> Vec<(NodeId, TextId)> {
    let graph = &parts.graph;
    let objects = parts.objects();
    // streams of storages have been read
    let streams = parts.tensors.inner_roots.keys().filter_map(|call| objects.args(*call).first().copied());
    let streams: HashSet<NodeId> = streams.collect();
    let is_made = [Constructor::Encode, Constructor::ByteArray].iter().any(|made| parts.tensors.knows(*made));
    let found = graph.ids().skip(from).filter_map(|node| {
        let bytes = match graph.node(node) {
            Node::Bytes(_) | Node::ByteArray(_) => node,
            // most objects are neither made so nor have a state
            Node::Object(object) if is_made || !object.changes.is_empty() => match objects.constructor(node) {
                Some(Constructor::Encode | Constructor::ByteArray) => node,
                // (bytes, position, attributes)
                None if !object.changes.is_empty() && is_buffer(parts, node) => {
                    *graph.tuple(*objects.states(node).1.first()?)?.first()?
                }
                _ => return None,
            },
            _ => return None,
        };
        let text = text_of(parts, bytes).filter(|text| graph.stored_len(*text) >= MIN_BYTES)?;
        let head = graph.raw_text_prefix(text, 16).ok()?;
        let is_file = MAGIC.iter().any(|magic| head.starts_with(magic)) && !streams.contains(&node);
        is_file.then_some((node, text))
    });
    found.collect()
}

fn is_buffer(parts: &Parts, node: NodeId) -> bool {
    parts.objects().class(node).is_some_and(|(module, class)| class == "BytesIO" && (module == "_io" || module == "io"))
}

/// The text of a byte string, also where a `bytearray` is made of encoded bytes.
fn text_of(parts: &Parts, node: NodeId) -> Option<TextId> {
    let inner = || parts.objects().args(node).first().and_then(|first| byte_string(&parts.graph, *first));
    byte_string(&parts.graph, node).or_else(inner)
}
