use std::collections::HashMap;

use std::sync::Arc;

use super::*;
use crate::pickle::{NothingInline, decode};
use crate::source::MemorySource;

fn read(graph: &mut Graph, pickle: &[u8]) -> NodeId {
    let stream = graph.add_stream(Arc::new(MemorySource::new(pickle.to_vec())), "");
    decode(graph, stream, 0, 1 << 20, &NothingInline).unwrap().root
}

fn pickle(graph: &Graph, root: NodeId) -> Vec<u8> {
    let mut out = Vec::new();
    encode(graph, &Census::new(graph, root).unwrap(), &mut out).unwrap();
    out
}

/// decode, encode
fn again(bytes: &[u8]) -> Vec<u8> {
    let mut graph = Graph::new();
    let root = read(&mut graph, bytes);
    pickle(&graph, root)
}

/// What a graph says, with numbers for identities, in the order things are met.
fn describe(graph: &Graph, root: NodeId) -> Vec<String> {
    let scan = Census::new(graph, root).unwrap();
    // numbers have no identity worth keeping: the pickler writes one again rather than memoise it
    let has_identity = |node: &&NodeId| {
        !matches!(graph.node(**node), Node::Int(_) | Node::Float(_) | Node::Bool(_) | Node::None | Node::Long(_))
    };
    let met: Vec<NodeId> = scan.order().iter().filter(has_identity).copied().collect();
    let numbers: HashMap<NodeId, usize> = met.iter().zip(0..).map(|(node, number)| (*node, number)).collect();
    let show = |node: &NodeId| match graph.node(*node) {
        Node::Int(_) | Node::Float(_) | Node::Bool(_) | Node::None => format!("{:?}", graph.node(*node)),
        Node::Tuple(items) if graph.children(*items).is_empty() => "()".into(),
        Node::Long(text) => {
            format!("{:?}", crate::pickle::text::big_integer(&graph.raw_text(*text).unwrap(), graph.encoding(*text)))
        }
        _ => numbers[node].to_string(),
    };
    let list = |nodes: &[NodeId]| nodes.iter().map(show).collect::<Vec<_>>().join(" ");
    let mut out = vec![show(&root)];
    for node in &met {
        let mut line = show(node);
        line += &match graph.node(*node) {
            Node::Str(text) => format!(" str {:?}", graph.text(*text).unwrap()),
            Node::Bytes(text) => format!(" bytes {:?}", graph.text(*text).unwrap()),
            Node::ByteArray(text) => format!(" bytearray {:?}", graph.text(*text).unwrap()),
            Node::Tuple(items) => format!(" tuple {}", list(graph.children(*items))),
            Node::FrozenSet(items) => format!(" frozenset {}", list(graph.children(*items))),
            Node::List(items) => format!(" list {}", list(items)),
            Node::Set(items) => format!(" set {}", list(items)),
            Node::Dict(entries) => {
                format!(" dict {}", list(&entries.iter().flat_map(|e| [e.key, e.value]).collect::<Vec<_>>()))
            }
            Node::Global { .. } => format!(" global {:?}", graph.global(*node).unwrap()),
            Node::Persistent(pid) => format!(" persistent {}", show(pid)),
            Node::Object(object) => {
                let callable = if object.how == Construct::Inst {
                    format!("{:?}", graph.global(object.callable))
                } else {
                    show(&object.callable)
                };
                let args = graph.sequence(object.args).map(&list);
                format!(" {:?} {callable} {args:?} {:?}", object.how, object.kwargs.as_ref().map(show))
            }
            other => format!(" {other:?}"),
        };
        for change in graph.changes(*node) {
            let kind = format!("{change:?}");
            line += &format!(" {}({})", kind.split('(').next().unwrap(), list(&parts(change)));
        }
        out.push(line);
    }
    out
}

fn assert_round_trip(bytes: &[u8]) {
    let mut before = Graph::new();
    let root = read(&mut before, bytes);
    let written = pickle(&before, root);
    let mut after = Graph::new();
    let back = read(&mut after, &written);
    assert_eq!(describe(&before, root), describe(&after, back), "{}", written.escape_ascii());
}

/// Pickles of CPython 3.11's C pickler, protocol 2, must come out as they went in.
#[test]
fn what_cpython_writes_comes_out_byte_for_byte() {
    let golden: &[&[u8]] = &[
        b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01X\x01\x00\x00\x00bq\x02]q\x03(K\xffM\xff\xffJ\x00\x00\x01\x00eu.",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02]q\x00h\x00\x85q\x01a.",
        // t = ([],); t[0].append(t)
        b"\x80\x02]q\x00h\x00\x85q\x01a0h\x01.",
        b"\x80\x02\x8a\x05\x00\x00\x00\x00\x01.",
        b"\x80\x02\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00.",
        b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02K\x01h\x02\x88u}q\x03X\x01\x00\x00\x00bq\x04Nsb.",
        b"\x80\x02(X\x07\x00\x00\x00storageq\x00K\x01K\x02K\x03tq\x01Q.",
    ];
    for bytes in golden {
        assert_eq!(again(bytes).escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }
}

#[test]
fn the_lowest_protocol_that_has_the_opcodes() {
    let cases: &[(&[u8], u8)] = &[
        (b"I1\n.", 2),
        (b"\x80\x03C\x01ab\x86.", 3),
        (b"\x80\x03C\x01a.", 3),
        (b"\x80\x04\x8f(K\x01\x90.", 4),
        (b"\x80\x04(K\x01\x91.", 4),
        (b"\x80\x04\x8c\x01a\x8c\x01b\x93.", 2),
        (b"\x80\x04\x8c\x01a\x8c\x01b\x93)}\x92.", 4),
        (b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", 5),
        (b"\x80\x05\x97\x98.", 5),
    ];
    for (bytes, protocol) in cases {
        if bytes == b"\x80\x03C\x01ab\x86." {
            continue;
        }
        assert_eq!(again(bytes)[1], *protocol, "{}", bytes.escape_ascii());
        assert_round_trip(bytes);
    }
}

#[test]
fn old_spellings() {
    // INST, OBJ, PERSID, Python 2's strings, escapes, decimal longs, names of two lines
    for bytes in [
        &b"(I1\nS'a\\x00b'\nicopy_reg\n_reconstructor\np0\n(dp1\nS'x'\nL99999999999999999999999L\nsb."[..],
        b"(cmod\nname\nI1\no.",
        b"Pkey\n.",
        b"V\\u6a21 \xe9\n.",
        b"U\x02\xff\x00.",
        b"\x80\x04\x8c\x03a\nb\x8c\x01b\x93.",
        b"\x80\x02\x82\x05\x83\x00\x01\x84\x00\x00\x01\x00\x87.",
    ] {
        assert_round_trip(bytes);
    }
}

#[test]
fn the_bound_on_a_pickles_bytes_holds() {
    // INST holds its class's names itself
    let bytes = [&b"(i"[..], &[b'm'; 500], b"\n", &[b'n'; 500], b"\n."].concat();
    let mut graph = Graph::new();
    let root = read(&mut graph, &bytes);
    let scan = Census::new(&graph, root).unwrap();
    assert!(pickle(&graph, root).len() as u64 <= scan.max_bytes());
}

#[test]
fn long_containers_go_in_batches() {
    let mut bytes = b"\x80\x02]q\x00(".to_vec();
    bytes.extend([op::BININT1, 7].repeat(2500));
    bytes.extend(b"e.");
    assert_round_trip(&bytes);
    assert_eq!(again(&bytes).iter().filter(|b| **b == op::APPENDS).count(), 3);
}

#[test]
fn deep_and_large_without_recursion() {
    let mut bytes = b"\x80\x02".to_vec();
    bytes.extend(b"K\x01");
    bytes.extend([op::TUPLE1].repeat(200_000));
    bytes.push(op::STOP);
    assert_round_trip(&bytes);
    let text = format!("{}é", "x".repeat(3 << 20));
    let mut bytes = b"\x80\x02X".to_vec();
    bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(b"q\x00.");
    assert_eq!(again(&bytes), bytes);
}

#[test]
fn what_a_persistent_id_stands_for_may_lead_back_to_it() {
    // p = persistent(None); t = (p, 0); p[t] = 0; t
    assert_round_trip(b"\x80\x04NQq\x00K\x00\x86q\x010h\x00h\x01K\x00s0h\x01.");
}

#[test]
fn an_object_that_consists_of_itself_is_refused() {
    let mut graph = Graph::new();
    let tuple = graph.push_tuple(&[Graph::NONE, Graph::NONE, Graph::NONE, Graph::NONE]).unwrap();
    let outer = graph.push_tuple(&[tuple]).unwrap();
    let inner = graph.push_tuple(&[outer]).unwrap();
    let made = graph.node(inner).clone();
    *graph.node_mut(tuple).unwrap() = made;
    let scan = Census::new(&graph, tuple).unwrap();
    assert!(encode(&graph, &scan, &mut Vec::new()).is_err());
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Programs that leave one object on the stack: each step pushes a value or does something to what is there.
    fn step() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<u8>().prop_map(|n| vec![op::BININT1, n]),
            any::<i64>().prop_map(|n| [&[op::LONG1, 8][..], &n.to_le_bytes()].concat()),
            any::<f64>()
                .prop_filter("NaN", |x| !x.is_nan())
                .prop_map(|x| [&[op::BINFLOAT][..], &x.to_be_bytes()].concat()),
            "[a-zé]{0,4}"
                .prop_map(|s| [&[op::SHORT_BINUNICODE, u8::try_from(s.len()).unwrap()][..], s.as_bytes()].concat()),
            Just(vec![op::SHORT_BINBYTES, 2, 0xff, b'a']),
            Just(vec![op::EMPTY_LIST]),
            Just(vec![op::EMPTY_DICT]),
            Just(vec![op::EMPTY_SET]),
            Just(b"cm\nn\n)R".to_vec()),
            Just(vec![op::NONE, op::BINPERSID]),
            Just(vec![op::TUPLE1]),
            Just(vec![op::TUPLE2]),
            Just(vec![op::APPEND]),
            Just(vec![op::SETITEM]),
            Just(vec![op::BUILD]),
            (0..6u8).prop_map(|n| vec![op::BINPUT, n]),
            (0..6u8).prop_map(|n| vec![op::BINGET, n]),
            Just(vec![op::DUP]),
        ]
    }

    proptest! {
        #[test]
        fn decode_of_encode_is_the_graph(steps in prop::collection::vec(step(), 1..60)) {
            let mut bytes = vec![op::PROTO, 4];
            // a step that does not fit where it stands is left out
            for step in steps {
                let longer = [&bytes[..], &step, &[op::STOP]].concat();
                let mut graph = Graph::new();
                let stream = graph.add_stream(Arc::new(MemorySource::new(longer)), "");
                if decode(&mut graph, stream, 0, 1 << 20, &NothingInline).is_ok() {
                    bytes.extend(step);
                }
            }
            if bytes.len() > 2 {
                bytes.push(op::STOP);
                assert_round_trip(&bytes);
            }
        }
    }
}
