//! New values as opcodes: only those that `torch/_weights_only_unpickler.py` knows, and no place in the memo.

use super::literal as string_opcode;
use crate::error::{Error, Result};
use crate::pickle::graph::{Graph, Node, NodeId};
use crate::pickle::opcode as op;

/// Bytes of the largest integer that `LONG1` holds.
const MAX_INT_BYTES: usize = 255;

/// What comes out where a new value stands.
pub(super) enum Piece {
    Bytes(Vec<u8>),
    Node(NodeId),
}

/// The opcodes of a value that is no object of the pickle, with what it consists of.
pub(super) fn pieces(graph: &Graph, node: NodeId, module: &str) -> Result<Vec<Piece>> {
    let bytes = |bytes: Vec<u8>| Ok(vec![Piece::Bytes(bytes)]);
    let around = |before: &[u8], parts: Vec<NodeId>, after: &[u8]| {
        let parts = parts.into_iter().map(Piece::Node);
        [Piece::Bytes(before.to_vec())].into_iter().chain(parts).chain([Piece::Bytes(after.to_vec())]).collect()
    };
    let text = |content: &[u8]| string_opcode(op::BINUNICODE, content);
    match graph.node(node) {
        Node::None => bytes(vec![op::NONE]),
        Node::Bool(value) => bytes(vec![if *value { op::NEWTRUE } else { op::NEWFALSE }]),
        Node::Float(value) => bytes([&[op::BINFLOAT][..], &value.to_be_bytes()].concat()),
        Node::Int(value) => bytes(integer(&value.to_le_bytes())?),
        Node::Long(value) => bytes(integer(&graph.raw_text(*value)?)?),
        Node::Str(value) => bytes(text(&graph.text(*value)?)),
        Node::Bytes(value) => {
            // as Python pickles it with protocol 2
            let latin1: String = graph.text(*value)?.iter().map(|byte| char::from(*byte)).collect();
            let call =
                [&b"c_codecs\nencode\n"[..], &text(latin1.as_bytes()), &text(b"latin1"), &[op::TUPLE2, op::REDUCE]];
            bytes(call.concat())
        }
        Node::Tuple(items) => {
            let items = graph.children(*items).to_vec();
            Ok(match items.len() {
                0 => around(&[op::EMPTY_TUPLE], items, &[]),
                1 => around(&[], items, &[op::TUPLE1]),
                2 => around(&[], items, &[op::TUPLE2]),
                3 => around(&[], items, &[op::TUPLE3]),
                _ => around(&[op::MARK], items, &[op::TUPLE]),
            })
        }
        Node::List(items) if items.is_empty() => bytes(vec![op::EMPTY_LIST]),
        Node::List(items) => Ok(around(&[op::EMPTY_LIST, op::MARK], items.to_vec(), &[op::APPENDS])),
        Node::Dict(entries) if entries.is_empty() => bytes(vec![op::EMPTY_DICT]),
        Node::Dict(entries) => {
            let parts = entries.iter().flat_map(|entry| [entry.key, entry.value]).collect();
            Ok(around(&[op::EMPTY_DICT, op::MARK], parts, &[op::SETITEMS]))
        }
        Node::Set(items) => {
            let head = [&b"c"[..], module.as_bytes(), b"\nset\n", &[op::EMPTY_LIST, op::MARK]].concat();
            Ok(around(&head, items.to_vec(), &[op::APPENDS, op::TUPLE1, op::REDUCE]))
        }
        _ => Err(Error::unsupported("an object of the file that cannot stand elsewhere")),
    }
}

/// Two's complement, without bytes that only repeat the sign.
fn integer(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = bytes;
    while let [rest @ .., before, last] = bytes {
        if !matches!((*last, *before >> 7), (0, 0) | (0xff, 1)) {
            break;
        }
        bytes = bytes.get(..rest.len() + 1).unwrap_or_default();
    }
    let mut wide = [if bytes.last().is_some_and(|byte| byte >> 7 == 1) { 0xff } else { 0 }; 8];
    let small = wide.get_mut(..bytes.len()).map(|low| low.copy_from_slice(bytes));
    let value = small.map(|()| i64::from_le_bytes(wide));
    Ok(match (value.map(u8::try_from), value.map(u16::try_from), value.map(i32::try_from)) {
        (Some(Ok(value)), ..) => vec![op::BININT1, value],
        (_, Some(Ok(value)), _) => [&[op::BININT2][..], &value.to_le_bytes()].concat(),
        (.., Some(Ok(value))) => [&[op::BININT][..], &value.to_le_bytes()].concat(),
        _ => {
            let len = u8::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_INT_BYTES);
            let len = len.ok_or_else(|| Error::limit("an integer of more than 255 bytes"))?;
            [&[op::LONG1, len][..], bytes].concat()
        }
    })
}
