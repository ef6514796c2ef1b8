//! Any bytes as a pickle: decoded; what the encoder makes of the graph decodes to the same graph.
#![no_main]

use std::collections::HashMap;

use ckpt::checkpoint::numpy::Joblib;
use ckpt::pickle::text::big_integer;
use ckpt::pickle::{Change, Graph, Node, NodeId, NothingInline, Census, TextId, decode, encode};
use ckpt::source::SharedSource;
use ckpt_fuzz::{bounded, in_memory};

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded(|| run(data)));

fn read(source: SharedSource, inline: &dyn ckpt::pickle::Inline) -> Option<(Graph, NodeId)> {
    let max_objects = ckpt::limits::Limits::default().objects_for(source.len());
    let mut graph = Graph::new();
    let stream = graph.add_stream(source, "");
    let decoded = decode(&mut graph, stream, 0, max_objects, inline).ok()?;
    Some((graph, decoded.root))
}

fn run(data: &[u8]) {
    let source = in_memory::memory(data.to_vec());
    let _ = read(source.clone(), &Joblib);
    let Some((before, root)) = read(source, &NothingInline) else { return };
    let Ok(scan) = Census::new(&before, root) else { return };
    let mut written = Vec::new();
    if encode(&before, &scan, &mut written).is_err() {
        return;
    }
    assert!(written.len() as u64 <= scan.max_bytes());
    let (after, back) = read(in_memory::memory(written), &NothingInline).expect("the encoder writes pickles");
    Same { a: &before, b: &after, known: HashMap::new(), open: vec![(root, back)] }.check();
}

/// Two graphs walked side by side.
struct Same<'a> {
    a: &'a Graph,
    b: &'a Graph,
    known: HashMap<NodeId, NodeId>,
    open: Vec<(NodeId, NodeId)>,
}

impl Same<'_> {
    fn check(&mut self) {
        while let Some((a, b)) = self.open.pop() {
            let (x, y) = (self.a.node(a), self.b.node(b));
            // what cannot change has no identity that the encoder must keep
            let shared = !matches!(x, Node::None | Node::Bool(_) | Node::Int(_) | Node::Long(_) | Node::Float(_))
                && !matches!(x, Node::Tuple(items) if self.a.children(*items).is_empty())
                && !matches!(x, Node::Global { .. } | Node::Extension(_) | Node::Buffer)
                || !self.a.changes(a).is_empty();
            match self.known.insert(a, b) {
                Some(known) => {
                    assert!(known == b || !shared, "{x:?} is shared no more");
                    continue;
                }
                None => self.node(x, y),
            }
            let (x, y) = (self.a.changes(a), self.b.changes(b));
            assert_eq!(x.len(), y.len());
            for (x, y) in x.iter().zip(y) {
                match (x, y) {
                    (Change::Append(x), Change::Append(y))
                    | (Change::Add(x), Change::Add(y))
                    | (Change::Build(x), Change::Build(y)) => self.open.push((*x, *y)),
                    (Change::Item(x), Change::Item(y)) => self.open.extend([(x.key, y.key), (x.value, y.value)]),
                    _ => panic!("{x:?} became {y:?}"),
                }
            }
        }
    }

    fn node(&mut self, x: &Node, y: &Node) {
        match (x, y) {
            (Node::Float(x), Node::Float(y)) => assert!(x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()),
            (Node::Str(x), Node::Str(y)) | (Node::Bytes(x), Node::Bytes(y)) => self.text(*x, *y),
            (Node::ByteArray(x), Node::ByteArray(y)) => self.text(*x, *y),
            (Node::Long(x), Node::Long(y)) => {
                let number = |graph: &Graph, id| big_integer(&graph.raw_text(id).unwrap(), graph.encoding(id));
                assert_eq!(number(self.a, *x), number(self.b, *y));
            }
            (Node::Tuple(x), Node::Tuple(y)) | (Node::FrozenSet(x), Node::FrozenSet(y)) => {
                self.all(self.a.children(*x), self.b.children(*y));
            }
            (Node::List(x), Node::List(y)) | (Node::Set(x), Node::Set(y)) => self.all(x, y),
            (Node::Dict(x), Node::Dict(y)) => {
                let flat = |entries: &[ckpt::pickle::Pair]| entries.iter().flat_map(|e| [e.key, e.value]).collect();
                let (x, y): (Vec<_>, Vec<_>) = (flat(x), flat(y));
                self.all(&x, &y);
            }
            (Node::Global { module: m, name: n }, Node::Global { module, name }) => {
                // the strings of STACK_GLOBAL have become those of GLOBAL, which nobody shares
                let texts = |graph: &Graph, nodes: [NodeId; 2]| nodes.map(|node| graph.str(node).map(String::from));
                assert_eq!(texts(self.a, [*m, *n]), texts(self.b, [*module, *name]));
            }
            (Node::Persistent(x), Node::Persistent(y)) | (Node::ReadOnlyBuffer(x), Node::ReadOnlyBuffer(y)) => {
                self.open.push((*x, *y));
            }
            (Node::Object(x), Node::Object(y)) => {
                assert_eq!(x.how, y.how);
                self.all(&[x.callable, x.args], &[y.callable, y.args]);
                self.all(&x.kwargs.map_or(vec![], |x| vec![x]), &y.kwargs.map_or(vec![], |y| vec![y]));
            }
            _ => assert_eq!(x, y),
        }
    }

    fn all(&mut self, x: &[NodeId], y: &[NodeId]) {
        assert_eq!(x.len(), y.len());
        self.open.extend(x.iter().copied().zip(y.iter().copied()));
    }

    fn text(&self, x: TextId, y: TextId) {
        assert_eq!(self.a.text(x).unwrap(), self.b.text(y).unwrap());
    }
}
