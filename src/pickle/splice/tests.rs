use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::pickle::{Node, NodeId, NothingInline, Pair, decode};
use crate::source::{MemorySource, read_vec};

/// A value to pickle; strings by their number among [`NAMES`].
#[derive(Debug, Clone)]
enum Value {
    Int(u8),
    Str(usize),
    List(Vec<Value>),
    Dict(Vec<(usize, bool, Value)>),
}

const NAMES: [&str; 6] = ["module.a", "module.b.weight", "x", "模.é", "quote'\\\n", "long"];

fn name(number: usize) -> String {
    if number == 5 { "n".repeat(300) } else { NAMES[number].to_owned() }
}

/// Grows, shrinks, crosses 255 bytes both ways.
fn renamed(number: usize) -> String {
    match number {
        0 => "a".to_owned(),
        1 => format!("{}.模", "model".repeat(60)),
        5 => "short".to_owned(),
        _ => format!("new\n'{}\\", name(number)),
    }
}

/// A pickler of every protocol that memoises strings the way its caller says.
struct Pickler {
    protocol: u8,
    python2: bool,
    out: Vec<u8>,
    memo: HashMap<usize, u64>,
    next: u64,
    /// For each string in turn: whether it is memoised, and whether a memoised one is fetched.
    choices: Vec<(bool, bool)>,
    turn: usize,
    /// Edits for the keys that are to change, by place.
    edits: Edits,
    /// Whether every four dicts begin a new frame.
    frame: Option<usize>,
}

impl Pickler {
    fn put(&mut self) -> u64 {
        let index = self.next;
        self.next += 1;
        match self.protocol {
            4.. => self.out.push(op::MEMOIZE),
            0 => self.out.extend(format!("p{index}\n").bytes()),
            _ if index < 256 => self.out.extend([op::BINPUT, u8::try_from(index).unwrap()]),
            _ => self.out.extend([&[op::LONG_BINPUT], &u32::try_from(index).unwrap().to_le_bytes()[..]].concat()),
        }
        index
    }

    fn encoding(&self) -> Encoding {
        match (self.protocol, self.python2) {
            (0, true) => Encoding::Python2Escaped,
            (0, false) => Encoding::RawUnicodeEscape,
            (1 | 2, true) => Encoding::Python2,
            _ => Encoding::Utf8,
        }
    }

    fn string(&mut self, number: usize, changes: bool) {
        let at = self.out.len() as u64;
        let text = name(number);
        if changes {
            self.edits.insert(at, edit(&renamed(number)));
        }
        let (keep, fetch) = self.choices[self.turn % self.choices.len()];
        self.turn += 1;
        if let Some(index) = self.memo.get(&number).copied().filter(|_| fetch) {
            match self.protocol {
                0 => self.out.extend(format!("g{index}\n").bytes()),
                _ => self.out.extend([op::BINGET, u8::try_from(index).unwrap()]),
            }
            return;
        }
        let code = match (self.encoding(), text.len()) {
            (Encoding::Python2Escaped, _) => op::STRING,
            (Encoding::RawUnicodeEscape, _) => op::UNICODE,
            (Encoding::Python2, ..256) => op::SHORT_BINSTRING,
            (Encoding::Python2, _) => op::BINSTRING,
            (_, ..256) if self.protocol >= 4 => op::SHORT_BINUNICODE,
            _ => op::BINUNICODE,
        };
        self.out.extend(literal(code, text.as_bytes()));
        if keep {
            let index = self.put();
            self.memo.insert(number, index);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Int(n) if self.protocol == 0 => self.out.extend(format!("I{n}\n").bytes()),
            Value::Int(n) => self.out.extend([op::BININT1, *n]),
            Value::Str(number) => self.string(*number, false),
            Value::List(items) => {
                self.out.push(op::MARK);
                items.iter().for_each(|item| self.value(item));
                self.out.push(op::LIST);
                self.put();
            }
            Value::Dict(items) => {
                self.out.extend([op::MARK, op::DICT]);
                self.put();
                for (key, edit, value) in items {
                    self.string(*key, *edit);
                    self.value(value);
                    self.out.push(op::SETITEM);
                }
            }
        }
    }

    fn begin_frame(&mut self) {
        if let Some(open) = self.frame.take() {
            let len = self.out.len() - open;
            self.out[open - 8..open].copy_from_slice(&(len as u64).to_le_bytes());
        }
        if self.protocol >= 4 {
            self.out.extend([op::FRAME, 0, 0, 0, 0, 0, 0, 0, 0]);
            self.frame = Some(self.out.len());
        }
    }

    fn run(&mut self, values: &[Value]) {
        if self.protocol >= 2 {
            self.out.extend([op::PROTO, self.protocol]);
        }
        self.begin_frame();
        self.out.push(op::MARK);
        for value in values {
            self.value(value);
            self.begin_frame();
        }
        self.out.extend([op::LIST, op::STOP]);
        if let Some(open) = self.frame.take() {
            let len = self.out.len() - open;
            self.out[open - 8..open].copy_from_slice(&(len as u64).to_le_bytes());
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![(0u8..9).prop_map(Value::Int), (0..NAMES.len()).prop_map(Value::Str)];
    leaf.prop_recursive(3, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            prop::collection::vec((0..NAMES.len(), any::<bool>(), inner), 0..6).prop_map(Value::Dict),
        ]
    })
}

/// What the value reads as once its edits are made: strings by their content.
fn expected(value: &Value) -> String {
    match value {
        Value::Int(n) => n.to_string(),
        Value::Str(number) => format!("{:?}", name(*number)),
        Value::List(items) => format!("{:?}", items.iter().map(expected).collect::<Vec<_>>()),
        Value::Dict(items) => {
            let key = |number: usize, edit: bool| if edit { renamed(number) } else { name(number) };
            let items = items.iter().map(|(number, edit, value)| (key(*number, *edit), expected(value)));
            format!("{:?}", items.collect::<Vec<_>>())
        }
    }
}

fn found(graph: &Graph, node: NodeId) -> String {
    match graph.node(node) {
        Node::Int(n) => n.to_string(),
        Node::Str(text) => format!("{:?}", std::str::from_utf8(&graph.text(*text).unwrap()).unwrap()),
        Node::List(items) => format!("{:?}", items.iter().map(|item| found(graph, *item)).collect::<Vec<_>>()),
        Node::Dict(items) => {
            let text = |key: NodeId| match graph.node(key) {
                Node::Str(text) => String::from_utf8(graph.text(*text).unwrap().into_owned()).unwrap(),
                other => panic!("{other:?}"),
            };
            let items = items.iter().map(|entry: &Pair| (text(entry.key), found(graph, entry.value)));
            format!("{:?}", items.collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    }
}

/// Where frames end, and where the pickle does.
#[derive(Default)]
struct Frames(Vec<u64>);

impl Trace for Frames {
    fn opcode(&mut self, _: u8, _: u64, end: u64, does: Does) {
        if let Does::Frame { len } = does {
            self.0.push(end + len);
        }
    }
}

/// The graph of pickles in a row, and the edits with the nodes that they are about.
fn read(source: &SharedSource, edits: &Edits) -> (Graph, Edits) {
    let mut graph = Graph::new();
    let stream = graph.add_stream(Arc::clone(source), "");
    let mut at = 0;
    while at < source.len() {
        at = decode(&mut graph, stream, at, 1 << 20, &NothingInline).unwrap().end;
    }
    let mut edits = edits.clone();
    for id in graph.ids() {
        let Node::Dict(entries) = graph.node(id) else { continue };
        for entry in entries.iter() {
            if let Some(edit) = edits.get_mut(&entry.key_at) {
                edit.node = entry.key;
            }
        }
    }
    (graph, edits)
}

fn apply(pickle: &[u8], edits: &Edits) -> Result<Vec<u8>> {
    let source: SharedSource = Arc::new(MemorySource::new(pickle.to_vec()));
    let (graph, edits) = read(&source, edits);
    let spliced = splice(&source, &graph, &edits, 1 << 20, 1 << 20, &NothingInline)?;
    // what can be done without reading the pickle again comes to the same
    let again = splice_traced(&source, &graph, &edits, 1 << 20, 1 << 20, &NothingInline)?;
    assert_eq!(spliced.patches, again.patches);
    let whole = read_vec(&spliced, 0, spliced.len())?;
    let mut parts = Vec::new();
    for part in spliced.parts() {
        parts.extend(read_vec(source.as_ref(), part.from, part.len)?);
        parts.extend(part.then);
    }
    assert_eq!(parts, whole);
    for at in [0, 1, whole.len() / 2, whole.len() - 1] {
        assert_eq!(read_vec(&spliced, at as u64, 1)?, whole[at..=at]);
    }
    Ok(whole)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_the_chosen_keys_change(
        values in prop::collection::vec(value(), 1..6),
        protocol in 0u8..=5,
        python2 in any::<bool>(),
        choices in prop::collection::vec((any::<bool>(), any::<bool>()), 1..12),
    ) {
        let mut pickler = Pickler {
            protocol, python2, choices,
            out: Vec::new(), memo: HashMap::new(), next: 0, turn: 0, edits: Edits::new(), frame: None,
        };
        pickler.run(&values);
        let new = apply(&pickler.out, &pickler.edits).unwrap();
        let mut graph = Graph::new();
        let stream = graph.add_stream(Arc::new(MemorySource::new(new.clone())), "");
        let mut frames = Frames::default();
        let decoded = decode_traced(&mut graph, stream, 0, 1 << 20, &NothingInline, &mut frames).unwrap();
        prop_assert_eq!(found(&graph, decoded.root), expected(&Value::List(values)));
        prop_assert_eq!(decoded.end, new.len() as u64);
        if protocol >= 4 {
            prop_assert_eq!(frames.0.last().copied(), Some(new.len() as u64));
            // a frame ends where the next begins
            for end in frames.0.iter().rev().skip(1) {
                prop_assert_eq!(new[usize::try_from(*end).unwrap()], op::FRAME);
            }
        }
    }
}

fn edit(new: &str) -> Edit {
    Edit { node: Graph::NONE, new: new.as_bytes().into() }
}

#[test]
fn a_shared_string_keeps_its_value_elsewhere() {
    // {'k': 'k', …}: the key is memoised and fetched again as its own value, then as a second dict's key
    let pickle = b"\x80\x02(}q\x00X\x01\x00\x00\x00kq\x01h\x01s}q\x02h\x01K\x01s}q\x03h\x01K\x02st.";
    let new = apply(pickle, &Edits::from([(6, edit("kk")), (20, edit("kk"))])).unwrap();
    let wanted: &[u8] =
        b"\x80\x02(}q\x00X\x02\x00\x00\x00kkq\x01X\x01\x00\x00\x00ks}q\x02h\x01K\x01s}q\x03X\x01\x00\x00\x00kK\x02st.";
    assert_eq!((pickle[6], pickle[20]), (op::BINUNICODE, op::BINGET), "the test's own offsets");
    assert_eq!(new, wanted);
}

#[test]
fn an_edit_of_no_string_is_refused() {
    let e = apply(b"\x80\x02}q\x00X\x01\x00\x00\x00kK\x01s.", &Edits::from([(11, edit("kk"))])).unwrap_err();
    assert!(e.to_string().contains("opcode of its own"), "{e}");
}

#[test]
fn too_many_bytes_are_refused() {
    let pickle = b"\x80\x02}q\x00X\x01\x00\x00\x00kK\x01s.";
    let source: SharedSource = Arc::new(MemorySource::new(pickle.to_vec()));
    let edits = Edits::from([(5, edit(&"k".repeat(5000)))]);
    let (graph, edits) = read(&source, &edits);
    assert!(splice(&source, &graph, &edits, 1 << 20, 4000, &NothingInline).is_err());
    assert!(splice(&source, &graph, &edits, 1 << 20, 6000, &NothingInline).is_ok());
}

#[test]
fn pickles_in_a_row_have_memos_of_their_own() {
    let one = b"\x80\x02}q\x00X\x01\x00\x00\x00kq\x01K\x01s.";
    let two = b"\x80\x02}q\x00X\x01\x00\x00\x00vq\x01h\x01s.";
    let at = (one.len() + 5) as u64;
    let new = apply(&[&one[..], two].concat(), &Edits::from([(5, edit("K")), (at, edit("V"))])).unwrap();
    let wanted: &[u8] = b"\x80\x02}q\x00X\x01\x00\x00\x00Vq\x01X\x01\x00\x00\x00vs.";
    assert!(new.ends_with(wanted), "{new:?}");
    let mut graph = Graph::new();
    let stream = graph.add_stream(Arc::new(MemorySource::new(new)), "");
    assert_eq!(decode(&mut graph, stream, 0, 100, &NothingInline).unwrap().end, one.len() as u64);
}
