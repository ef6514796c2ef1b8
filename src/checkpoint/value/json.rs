//! What JSON can say exactly of a value.

use serde_json::Value as Json;

use crate::checkpoint::number::{Number, numpy_number};
use crate::checkpoint::object::Objects;
use crate::checkpoint::repr::MAX_STRING_BYTES;
use crate::dtype::{Class, DType};
use crate::pickle::{Graph, Node, NodeId};

/// Sequences of more elements have no `value` either: it would take fifty times the memory.
pub(in crate::checkpoint) const MAX_JSON_ITEMS: usize = 1 << 20;
/// Integers beyond this are not exact in every JSON reader.
const MAX_EXACT_INT: i64 = 1 << 53;

impl Objects<'_> {
    pub(super) fn json_of_sequence(&self, items: &[NodeId]) -> Json {
        if items.len() > MAX_JSON_ITEMS {
            return Json::Null;
        }
        let values: Vec<Json> = items.iter().map(|item| self.json_of_scalar(*item)).collect();
        let exact = values.iter().zip(items).all(|(value, item)| !value.is_null() || *item == Graph::NONE);
        if exact { Json::Array(values) } else { Json::Null }
    }

    pub(super) fn json_of_scalar(&self, node: NodeId) -> Json {
        match self.graph.node(node) {
            Node::Bool(value) => Json::Bool(*value),
            Node::Int(value) if value.abs_diff(0) <= MAX_EXACT_INT.unsigned_abs() => Json::from(*value),
            Node::Float(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Node::Str(id) if self.graph.stored_len(*id) <= MAX_STRING_BYTES => {
                let content = self.graph.text(*id).ok();
                match content.map(|content| String::from_utf8(content.into_owned())) {
                    Some(Ok(text)) => Json::String(text),
                    _ => Json::Null,
                }
            }
            _ => Json::Null,
        }
    }
}

pub(super) fn numpy_json(dtype: &DType, bytes: &[u8]) -> Json {
    match (dtype.class(), numpy_number(dtype, bytes)) {
        (Some(Class::Bool), Some(value)) => Json::Bool(value.int() != 0),
        (Some(Class::Float), Some(Number::Float(value))) => {
            serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number)
        }
        (Some(Class::Signed | Class::Unsigned), Some(value))
            if value.int().unsigned_abs() <= MAX_EXACT_INT.unsigned_abs().into() =>
        {
            i64::try_from(value.int()).map_or(Json::Null, Json::from)
        }
        _ => Json::Null,
    }
}
