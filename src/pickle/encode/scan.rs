//! What a pickle will hold, found out before the first byte: everything reachable in the order it will be written, how
//! often each is used, which protocol has opcodes for all of it.

use super::{parts, scalar};
use crate::error::{Error, Result};
use crate::pickle::graph::{Construct, Graph, Node, NodeId};

/// More bytes than any object takes besides its text.
const MOST_BYTES_EACH: u64 = 32;

/// The objects of one pickle to be.
#[derive(Debug)]
pub struct Census {
    root: NodeId,
    /// By the node's place.
    uses: Vec<u32>,
    order: Vec<NodeId>,
    protocol: u8,
    max_bytes: u64,
}

impl Census {
    /// Looks through everything below `root`.
    pub fn new(graph: &Graph, root: NodeId) -> Result<Self> {
        let mut scan = Census { root, uses: vec![0; graph.len()], order: Vec::new(), protocol: 2, max_bytes: 16 };
        let mut open = vec![root];
        while let Some(node) = open.pop() {
            scan.max_bytes = scan.max_bytes.saturating_add(MOST_BYTES_EACH);
            let Some(uses) = scan.uses.get_mut(node.index()) else {
                return Err(Error::data("an object of another graph"));
            };
            *uses = uses.saturating_add(1);
            if *uses > 1 {
                continue;
            }
            scan.order.push(node);
            scan.protocol = scan.protocol.max(protocol_of(graph, node)?);
            scan.max_bytes = scan.max_bytes.saturating_add(scalar::max_text_bytes(graph, node));
            if let Some(object) = graph.object(node).filter(|object| object.how == Construct::Inst) {
                // it holds the names of its class
                scan.max_bytes = scan.max_bytes.saturating_add(scalar::max_text_bytes(graph, object.callable));
            }
            let below = children(graph, node);
            open.extend(below.into_iter().rev());
        }
        Ok(scan)
    }

    /// The object on top.
    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    /// Every object once, in the order of the pickle.
    pub(crate) fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// The same, for who needs nothing else.
    pub(crate) fn into_order(self) -> Vec<NodeId> {
        self.order
    }

    /// The protocol the pickle needs.
    pub(crate) fn protocol(&self) -> u8 {
        self.protocol
    }

    /// A bound on the pickle's bytes.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// How often an object is referred to.
    pub(crate) fn uses(&self, node: NodeId) -> u32 {
        self.uses.get(node.index()).copied().unwrap_or(0)
    }
}

/// What an object consists of, in the order it is written.
fn children(graph: &Graph, node: NodeId) -> Vec<NodeId> {
    let mut out = match graph.node(node) {
        Node::Tuple(items) | Node::FrozenSet(items) => graph.children(*items).to_vec(),
        Node::List(items) | Node::Set(items) => items.to_vec(),
        Node::Dict(entries) => entries.iter().flat_map(|entry| [entry.key, entry.value]).collect(),
        Node::Global { module, name } if needs_stack(graph, *module, *name) => vec![*module, *name],
        Node::Persistent(pid) => vec![*pid],
        Node::ReadOnlyBuffer(buffer) => vec![*buffer],
        Node::Object(object) => match object.how {
            Construct::Inst => graph.sequence(object.args).unwrap_or_default().to_vec(),
            Construct::Obj => {
                let args = graph.sequence(object.args).unwrap_or_default();
                [object.callable].iter().chain(args).copied().collect()
            }
            _ => [object.callable, object.args].into_iter().chain(object.kwargs).collect(),
        },
        _ => Vec::new(),
    };
    out.extend(graph.changes(node).iter().flat_map(parts));
    out
}

/// A line cannot hold a name with a newline in it.
pub(super) fn needs_stack(graph: &Graph, module: NodeId, name: NodeId) -> bool {
    [module, name].iter().any(|part| scalar::content(graph, *part).is_ok_and(|text| text.contains(&b'\n')))
}

fn protocol_of(graph: &Graph, node: NodeId) -> Result<u8> {
    Ok(match graph.node(node) {
        Node::Bytes(text) if graph.stored_len(*text) > u64::from(u32::MAX) => 4,
        Node::Bytes(_) => 3,
        Node::Str(text) if graph.stored_len(*text) > u64::from(u32::MAX) => 4,
        Node::Set(_) | Node::FrozenSet(_) => 4,
        Node::Global { module, name } if needs_stack(graph, *module, *name) => 4,
        Node::Object(object) => match object.how {
            Construct::NewObjEx => 4,
            Construct::Inst if !matches!(graph.node(object.callable), Node::Global { .. }) => {
                return Err(Error::malformed("INST of something that is no class by name"));
            }
            _ => 2,
        },
        Node::ByteArray(_) | Node::Buffer | Node::ReadOnlyBuffer(_) => 5,
        _ => 2,
    })
}
