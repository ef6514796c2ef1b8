//! Properties of the decoder. A small pickler, for tests only, writes values in every protocol with whatever opcodes
//! Python's picklers may choose from; what is decoded must be what was written, shared where it was shared. Bytes that
//! are no pickle, and pickles with a few bytes changed, never panic and stay within bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::HashMap;
use std::sync::Arc;

use ckpt::checkpoint::Checkpoint;
use ckpt::limits::Limits;
use ckpt::pickle::text::{big_integer, push_code_point};
use ckpt::pickle::{Change, Construct, Graph, Node, NodeId, NothingInline, TextId, decode};
use ckpt::progress::Silent;
use ckpt::source::MemorySource;
use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::*;

/// A value's place in the list of all.
type Place = usize;

#[derive(Debug, Clone)]
enum Value {
    None,
    Bool(bool),
    Int(BigInt),
    Float(f64),
    /// Code points, lone surrogates included.
    Str(Vec<u32>),
    /// `bytes`; before protocol 3 a `str` of Python 2.
    Bytes(Vec<u8>),
    /// Before protocol 5 like `Bytes`.
    ByteArray(Vec<u8>),
    Tuple(Vec<Child>),
    List(Vec<Child>),
    Dict(Vec<(Child, Child)>),
    /// Before protocol 4 a list.
    Set(Vec<Child>),
    /// Before protocol 4 a tuple.
    FrozenSet(Vec<Child>),
    Object {
        class: (String, String),
        args: Vec<Child>,
        state: Option<Child>,
    },
    Persistent(String),
}

/// A part of a value.
#[derive(Debug, Clone, Copy)]
enum Child {
    /// Some value before this one in the list, as a random number to choose it by.
    Earlier(usize),
    /// A list, dict or object that this value is inside of (itself, where it is one): how many of those up.
    Up(usize),
}

impl Value {
    fn holds_itself(&self) -> bool {
        matches!(self, Value::List(_) | Value::Dict(_) | Value::Object { .. })
    }
}

fn any_int() -> impl Strategy<Value = BigInt> {
    prop_oneof![
        any::<u8>().prop_map(BigInt::from),
        any::<i16>().prop_map(BigInt::from),
        any::<i32>().prop_map(BigInt::from),
        any::<i64>().prop_map(BigInt::from),
        (vec(any::<u8>(), 0..40)).prop_map(|bytes| BigInt::from_signed_bytes_le(&bytes)),
        vec(any::<u8>(), 250..300).prop_map(|bytes| BigInt::from_signed_bytes_le(&bytes)),
        (0u32..70, any::<bool>()).prop_map(|(bits, less)| (BigInt::from(1) << bits) - i32::from(less)),
        (0u32..70).prop_map(|bits| -(BigInt::from(1) << bits)),
    ]
}

fn any_text() -> impl Strategy<Value = Vec<u32>> {
    let point = prop_oneof![
        4 => 0u32..0x80,
        1 => 0x80u32..0x100,
        1 => 0x100u32..0xd800,
        1 => 0xd800u32..0xe000,
        1 => 0xe000u32..0x11_0000,
        1 => prop::sample::select(vec![0, 10, 13, 0x1a, 0x27, 0x22, 0x5c, 0x85, 0x2028, 0xfeff]),
    ];
    prop_oneof![8 => vec(point.clone(), 0..12), 1 => vec(point, 80..300), 1 => vec(Just(0x61u32), 1000..6000)]
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 250..260), 1 => vec(any::<u8>(), 4000..5000)]
}

fn any_child() -> impl Strategy<Value = Child> {
    prop_oneof![6 => any::<usize>().prop_map(Child::Earlier), 1 => (0usize..4).prop_map(Child::Up)]
}

fn any_value() -> impl Strategy<Value = Value> {
    let children = || vec(any_child(), 0..5);
    let name = "[A-Za-z_][A-Za-z_.]{0,12}";
    prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any_int().prop_map(Value::Int),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        prop::sample::select(vec![0.0, -0.0, 1.5, f64::INFINITY, f64::NAN, 1e300, 5e-324]).prop_map(Value::Float),
        any_text().prop_map(Value::Str),
        any_bytes().prop_map(Value::Bytes),
        any_bytes().prop_map(Value::ByteArray),
        children().prop_map(Value::Tuple),
        children().prop_map(Value::List),
        vec((any_child(), any_child()), 0..5).prop_map(Value::Dict),
        children().prop_map(Value::Set),
        children().prop_map(Value::FrozenSet),
        (name, name, children(), prop::option::of(any_child())).prop_map(|(module, name, args, state)| Value::Object {
            class: (module, name),
            args,
            state
        }),
        "[a-z0-9 ]{0,9}".prop_map(Value::Persistent),
    ]
}

/// What both the pickler and the comparison do on their way: which child is meant, and inside of what they are.
struct Way<'a> {
    values: &'a [Value],
    inside: Vec<Place>,
}

impl Way<'_> {
    fn child(&self, of: Place, child: Child) -> Option<Place> {
        match child {
            Child::Earlier(number) => of.checked_sub(1).map(|last| number % (last + 1)),
            Child::Up(up) => self.inside.iter().rev().nth(up).copied(),
        }
    }

    fn children(&self, of: Place, children: &[Child]) -> Vec<Place> {
        children.iter().filter_map(|child| self.child(of, *child)).collect()
    }

    fn pairs(&self, of: Place, pairs: &[(Child, Child)]) -> Vec<(Place, Place)> {
        pairs.iter().filter_map(|(key, value)| Some((self.child(of, *key)?, self.child(of, *value)?))).collect()
    }
}

struct Pickler<'a> {
    way: Way<'a>,
    protocol: u8,
    /// What to choose where there is a choice, over and over.
    choices: &'a [u8],
    chosen: usize,
    out: Vec<u8>,
    memo: HashMap<Place, u64>,
    stored: u64,
    /// From one memo index to the next; 1 where MEMOIZE counts them.
    step: u64,
    used_protocol_1: bool,
}

impl Pickler<'_> {
    /// A number below `of`.
    fn choose(&mut self, of: usize) -> usize {
        self.chosen += 1;
        usize::from(self.choices[self.chosen % self.choices.len()]) % of
    }

    fn op(&mut self, code: u8) {
        self.used_protocol_1 |= ckpt::pickle::opcode::describe(code).is_some_and(|(_, protocol)| protocol == 1);
        self.out.push(code);
    }

    /// An opcode and what follows it.
    fn put(&mut self, code: u8, argument: &[u8]) {
        self.op(code);
        self.out.extend_from_slice(argument);
    }

    /// One of the ways to write something that this protocol has: (since which protocol, opcode, what follows).
    fn one_of(&mut self, ways: &[(u8, u8, Vec<u8>)]) {
        let known: Vec<_> = ways.iter().filter(|(since, ..)| *since <= self.protocol).collect();
        let chosen = self.choose(known.len());
        let (_, code, argument) = known[chosen];
        self.put(*code, argument);
    }

    fn memoize(&mut self, place: Place) {
        let index = self.stored * self.step;
        self.memo.insert(place, index);
        self.stored += 1;
        let mut ways = vec![(0, b'p', format!("{index}\n").into_bytes())];
        ways.extend(u8::try_from(index).ok().map(|index| (1, b'q', vec![index])));
        ways.push((1, b'r', u32::try_from(index).unwrap().to_le_bytes().to_vec()));
        ways.push((4, 0x94, vec![]));
        self.one_of(&ways);
    }

    fn get(&mut self, index: u64) {
        let mut ways = vec![(0, b'g', format!("{index}\n").into_bytes())];
        ways.extend(u8::try_from(index).ok().map(|index| (1, b'h', vec![index])));
        ways.push((1, b'j', u32::try_from(index).unwrap().to_le_bytes().to_vec()));
        self.one_of(&ways);
    }

    fn save_all(&mut self, places: &[Place]) {
        places.iter().for_each(|place| self.save(*place));
    }

    fn save(&mut self, place: Place) {
        match self.choose(20) {
            0 => self.out.extend(b"N0"), // pushed and popped again
            1 if self.protocol > 0 => {
                self.op(b'(');
                self.out.extend(b"NN");
                self.op(b'1');
            }
            2 => self.out.extend(b"(N00"),
            _ => {}
        }
        if let Some(index) = self.memo.get(&place) {
            return self.get(*index);
        }
        let value = &self.way.values[place];
        if value.holds_itself() {
            self.way.inside.push(place);
        }
        self.save_new(place, value);
        if value.holds_itself() {
            self.way.inside.pop();
        }
        if self.choose(20) == 0 {
            self.out.extend(b"20");
        }
    }

    fn save_new(&mut self, place: Place, value: &Value) {
        let protocol = self.protocol;
        match value {
            Value::None => self.op(b'N'),
            Value::Bool(value) => {
                let (line, code) = if *value { (&b"01\n"[..], 0x88) } else { (&b"00\n"[..], 0x89) };
                self.one_of(&[(0, b'I', line.to_vec()), (2, code, vec![])]);
            }
            Value::Int(value) => self.save_int(value),
            Value::Float(value) => {
                let line = format!("{value}\n").into_bytes();
                self.one_of(&[(0, b'F', line), (1, b'G', value.to_be_bytes().to_vec())]);
            }
            Value::Str(points) => {
                self.save_text(points);
                if place.is_multiple_of(2) {
                    self.memoize(place);
                }
            }
            Value::ByteArray(bytes) if protocol >= 5 => {
                self.put(0x96, &sized(bytes, 8));
                self.memoize(place);
            }
            Value::Bytes(bytes) | Value::ByteArray(bytes) => {
                self.save_bytes(bytes);
                if place.is_multiple_of(2) {
                    self.memoize(place);
                }
            }
            Value::Tuple(children) => self.save_tuple(place, children),
            Value::FrozenSet(children) if protocol < 4 => self.save_tuple(place, children),
            Value::FrozenSet(children) => {
                self.op(b'(');
                let children = self.way.children(place, children);
                self.save_all(&children);
                self.op(0x91);
                self.memoize(place);
            }
            Value::Set(children) if protocol >= 4 => {
                self.op(0x8f);
                self.memoize(place);
                self.op(b'(');
                let children = self.way.children(place, children);
                self.save_all(&children);
                self.op(0x90);
            }
            Value::List(children) | Value::Set(children) => {
                self.one_of(&[(0, b'(', b"l".to_vec()), (1, b']', vec![])]);
                self.memoize(place);
                let children = self.way.children(place, children);
                self.batches(&children, |pickler, child| pickler.save(*child), b'a', b'e');
            }
            Value::Dict(pairs) => {
                self.one_of(&[(0, b'(', b"d".to_vec()), (1, b'}', vec![])]);
                self.memoize(place);
                let pairs = self.way.pairs(place, pairs);
                let save = |pickler: &mut Self, (key, value): &(Place, Place)| pickler.save_all(&[*key, *value]);
                self.batches(&pairs, save, b's', b'u');
            }
            Value::Object { class, args, state } => self.save_object(place, class, args, *state),
            Value::Persistent(id) => {
                if protocol >= 1 && self.choose(2) == 0 {
                    self.put(b'X', &sized(id.as_bytes(), 4));
                    self.op(b'Q');
                } else {
                    self.put(b'P', format!("{id}\n").as_bytes());
                }
            }
        }
    }

    /// Some one by one, some several at once.
    fn batches<T>(&mut self, items: &[T], save: impl Fn(&mut Self, &T), one: u8, several: u8) {
        let mut rest = items;
        while !rest.is_empty() {
            let take = if self.protocol == 0 { 1 } else { 1 + self.choose(rest.len()) };
            let (now, later) = rest.split_at(take);
            let alone = self.protocol == 0 || take == 1 && self.choose(2) == 0;
            if !alone {
                self.op(b'(');
            }
            now.iter().for_each(|item| save(self, item));
            self.op(if alone { one } else { several });
            rest = later;
        }
    }

    fn save_int(&mut self, value: &BigInt) {
        let complement = if *value == BigInt::ZERO { vec![] } else { value.to_signed_bytes_le() };
        let mut ways = vec![
            (0, b'I', format!("{value}\n").into_bytes()),
            (0, b'L', format!("{value}L\n").into_bytes()),
            (0, b'L', format!("{value}\n").into_bytes()),
            (2, 0x8b, sized(&complement, 4)),
        ];
        // Python takes these two for booleans
        if *value == BigInt::ZERO || *value == BigInt::from(1) {
            ways.remove(0);
        }
        if complement.len() < 256 {
            ways.push((2, 0x8a, sized(&complement, 1)));
        }
        ways.extend(u8::try_from(value).ok().map(|value| (1, b'K', vec![value])));
        ways.extend(u16::try_from(value).ok().map(|value| (1, b'M', value.to_le_bytes().to_vec())));
        ways.extend(i32::try_from(value).ok().map(|value| (1, b'J', value.to_le_bytes().to_vec())));
        self.one_of(&ways);
    }

    fn save_text(&mut self, points: &[u32]) {
        let mut line = Vec::new();
        for point in points {
            match *point {
                0 | 10 | 13 | 0x1a | 0x5c | 0x100..0x1_0000 => line.extend(format!("\\u{point:04x}").bytes()),
                0x1_0000.. => line.extend(format!("\\U{point:08x}").bytes()),
                byte => line.push(u8::try_from(byte).unwrap()),
            }
        }
        line.push(b'\n');
        let text = utf8(points);
        let mut ways = vec![(0, b'V', line), (1, b'X', sized(&text, 4)), (4, 0x8d, sized(&text, 8))];
        if text.len() < 256 {
            ways.push((4, 0x8c, sized(&text, 1)));
        }
        self.one_of(&ways);
    }

    fn save_bytes(&mut self, bytes: &[u8]) {
        let short = bytes.len() < 256;
        let mut ways = Vec::new();
        if self.protocol < 3 {
            let mut literal = String::from("'");
            for byte in bytes {
                match byte {
                    b'\'' | b'\\' => literal.extend(['\\', char::from(*byte)]),
                    b'\n' => literal.push_str("\\n"),
                    0x20..0x7f => literal.push(char::from(*byte)),
                    _ => literal.push_str(&format!("\\x{byte:02x}")),
                }
            }
            ways.push((0, b'S', (literal + "'\n").into_bytes()));
            ways.push((1, b'T', sized(bytes, 4)));
            ways.extend(short.then(|| (1, b'U', sized(bytes, 1))));
        } else {
            ways.push((3, b'B', sized(bytes, 4)));
            ways.push((4, 0x8e, sized(bytes, 8)));
            ways.extend(short.then(|| (3, b'C', sized(bytes, 1))));
        }
        self.one_of(&ways);
    }

    fn save_tuple(&mut self, place: Place, children: &[Child]) {
        let children = self.way.children(place, children);
        self.tuple_of(&children);
        self.memoize(place);
    }

    fn tuple_of(&mut self, children: &[Place]) {
        match children.len() {
            0 if self.protocol >= 1 && self.choose(2) == 0 => self.op(b')'),
            few @ 1..=3 if self.protocol >= 2 && self.choose(4) > 0 => {
                self.save_all(children);
                self.op(0x84 + u8::try_from(few).unwrap());
            }
            _ => {
                self.op(b'(');
                self.save_all(children);
                self.op(b't');
            }
        }
    }

    fn save_class(&mut self, (module, name): &(String, String)) {
        if self.protocol >= 4 && self.choose(2) == 0 {
            for part in [module, name] {
                self.put(0x8c, &sized(part.as_bytes(), 1));
            }
            self.op(0x93);
        } else {
            self.put(b'c', format!("{module}\n{name}\n").as_bytes());
        }
    }

    fn save_object(&mut self, place: Place, class: &(String, String), args: &[Child], state: Option<Child>) {
        // its arguments are made before there is an object to refer to
        let inside = self.way.inside.pop();
        let args = self.way.children(place, args);
        match self.construct(place) {
            Construct::Inst => {
                self.op(b'(');
                self.save_all(&args);
                self.put(b'i', format!("{}\n{}\n", class.0, class.1).as_bytes());
            }
            Construct::Obj => {
                self.op(b'(');
                self.save_class(class);
                self.save_all(&args);
                self.op(b'o');
            }
            how => {
                self.save_class(class);
                self.tuple_of(&args);
                match how {
                    Construct::Reduce => self.op(b'R'),
                    Construct::NewObj => self.op(0x81),
                    _ => {
                        self.op(b'}');
                        self.op(0x92);
                    }
                }
            }
        }
        self.way.inside.extend(inside);
        self.memoize(place);
        if let Some(state) = state.and_then(|state| self.way.child(place, state)) {
            self.save(state);
            self.op(b'b');
        }
    }

    /// How an object is made: one way for each of them.
    fn construct(&self, place: Place) -> Construct {
        let ways = [
            (0, Construct::Reduce),
            (0, Construct::Inst),
            (1, Construct::Obj),
            (2, Construct::NewObj),
            (4, Construct::NewObjEx),
        ];
        let known: Vec<_> = ways.iter().filter(|(since, _)| *since <= self.protocol).collect();
        known[place % known.len()].1
    }
}

/// A length of so many bytes, little-endian, and the bytes.
fn sized(bytes: &[u8], length: usize) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..length], bytes].concat()
}

fn utf8(points: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    points.iter().for_each(|point| push_code_point(&mut out, *point));
    out
}

/// Walks the values as the pickler did and finds each in the graph.
struct Comparison<'a> {
    pickler: &'a Pickler<'a>,
    way: Way<'a>,
    graph: &'a Graph,
    found: HashMap<Place, NodeId>,
}

impl Comparison<'_> {
    fn text(&self, text: TextId) -> Vec<u8> {
        self.graph.text(text).unwrap().into_owned()
    }

    fn all(&mut self, places: &[Place], nodes: &[NodeId]) {
        assert_eq!(places.len(), nodes.len());
        places.iter().zip(nodes).for_each(|(place, node)| self.same(*place, *node));
    }

    fn class(&self, node: NodeId, class: &(String, String)) {
        let (module, name) = self.graph.global(node).expect("a global");
        assert_eq!((module.as_ref(), name.as_ref()), (class.0.as_str(), class.1.as_str()));
    }

    fn same(&mut self, place: Place, node: NodeId) {
        // one object is one node, however often it is used
        if self.pickler.memo.contains_key(&place)
            && let Some(before) = self.found.insert(place, node)
        {
            return assert_eq!(before, node);
        }
        let value = &self.way.values[place];
        if value.holds_itself() {
            self.way.inside.push(place);
        }
        self.same_new(place, value, node);
        if value.holds_itself() {
            self.way.inside.pop();
        }
    }

    fn same_new(&mut self, place: Place, value: &Value, node: NodeId) {
        let (graph, protocol) = (self.graph, self.pickler.protocol);
        match (value, graph.node(node)) {
            (Value::None, Node::None) => assert_eq!(node, Graph::NONE),
            (Value::Bool(want), Node::Bool(have)) => assert_eq!(want, have),
            (Value::Int(want), Node::Int(have)) => assert_eq!(*want, BigInt::from(*have)),
            (Value::Int(want), Node::Long(have)) => {
                let have = big_integer(&graph.raw_text(*have).unwrap(), graph.encoding(*have));
                assert_eq!(Some(want), have.as_ref());
            }
            (Value::Float(want), Node::Float(have)) => {
                assert!(want.to_bits() == have.to_bits() || want.is_nan() && have.is_nan(), "{want} {have}");
            }
            (Value::Str(want), Node::Str(have)) => {
                assert_eq!(utf8(want), self.text(*have));
                let shown: String =
                    want.iter().map(|point| char::from_u32(*point).unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
                assert_eq!(shown, graph.str(node).unwrap());
            }
            (Value::Bytes(want) | Value::ByteArray(want), Node::Str(have)) if protocol < 3 => {
                assert_eq!(*want, self.text(*have));
            }
            (Value::ByteArray(want), Node::ByteArray(have)) if protocol >= 5 => assert_eq!(*want, self.text(*have)),
            (Value::Bytes(want), Node::Bytes(have)) if protocol >= 3 => assert_eq!(*want, self.text(*have)),
            (Value::ByteArray(want), Node::Bytes(have)) if (3..5).contains(&protocol) => {
                assert_eq!(*want, self.text(*have));
            }
            (Value::Tuple(want), Node::Tuple(have)) => self.all(&self.way.children(place, want), graph.children(*have)),
            (Value::FrozenSet(want), Node::Tuple(have)) if protocol < 4 => {
                self.all(&self.way.children(place, want), graph.children(*have));
            }
            (Value::FrozenSet(want), Node::FrozenSet(have)) if protocol >= 4 => {
                self.all(&self.way.children(place, want), graph.children(*have));
            }
            (Value::List(want), Node::List(have)) => self.all(&self.way.children(place, want), have),
            (Value::Set(want), Node::List(have)) if protocol < 4 => self.all(&self.way.children(place, want), have),
            (Value::Set(want), Node::Set(have)) if protocol >= 4 => self.all(&self.way.children(place, want), have),
            (Value::Dict(want), Node::Dict(have)) => {
                let want = self.way.pairs(place, want);
                assert_eq!(want.len(), have.len());
                for ((key, value), entry) in want.into_iter().zip(have.iter()) {
                    self.same(key, entry.key);
                    self.same(value, entry.value);
                    // the opcode that pushed the key lies there: a string opcode or a memo get
                    let code = self.pickler.out[usize::try_from(entry.key_at).unwrap()];
                    let string = matches!(self.way.values[key], Value::Str(_));
                    assert!(!string || b"VX\x8c\x8dghj2".contains(&code), "opcode {code:#x} of a key");
                }
            }
            (Value::Object { class, args, state }, Node::Object(object)) => {
                assert_eq!(object.how, self.pickler.construct(place));
                self.class(object.callable, class);
                let inside = self.way.inside.pop();
                self.all(&self.way.children(place, args), graph.tuple(object.args).expect("a tuple"));
                self.way.inside.extend(inside);
                let state = state.and_then(|state| self.way.child(place, state));
                match (state, object.changes.as_slice()) {
                    (None, []) => {}
                    (Some(want), [Change::Build(have)]) => self.same(want, *have),
                    other => panic!("{other:?}"),
                }
            }
            (Value::Persistent(want), Node::Persistent(have)) => assert_eq!(*want, graph.str(*have).unwrap()),
            (want, have) => panic!("{want:?} became {have:?}"),
        }
    }
}

/// Decodes at `position` with a bound on objects.
fn decoded(bytes: &[u8], position: u64, max_objects: u64) -> (Graph, ckpt::error::Result<ckpt::pickle::Decoded>) {
    let mut graph = Graph::new();
    let stream = graph.add_stream(Arc::new(MemorySource::new(bytes.to_vec())), "");
    let result = decode(&mut graph, stream, position, max_objects, &NothingInline);
    (graph, result)
}

/// Opens what may be anything, names all that is in it, and shows values and data: an error or an answer.
fn look(bytes: &[u8]) {
    let limits = Limits { max_entries: 20_000, max_objects: 50_000, max_read_bytes: 1 << 20, ..Limits::default() };
    let source = Arc::new(MemorySource::new(bytes.to_vec()));
    let Ok(checkpoint) = Checkpoint::open(source, &limits, &Silent) else { return };
    assert!(checkpoint.objects().graph.len() as u64 <= 2 * limits.objects_for(bytes.len() as u64));
    let Ok(names) = checkpoint.names(&checkpoint.top()) else { return };
    for entry in names.entries.iter().take(200) {
        _ = entry.name();
        _ = checkpoint.objects().repr(entry.node, 200);
    }
}

fn real_files() -> Vec<Vec<u8>> {
    let files = [
        "python2/values_protocol0.pkl",
        "python2/values_protocol2.pkl",
        "more/zoo_protocol0.pkl",
        "more/zoo_protocol4.pkl",
        "more/zoo_protocol5.pkl",
        "more/joblib.pkl",
        "torch-2.15-py311/numpy_protocol0.pkl",
        "torch-2.15-py311/numpy_protocol5.pkl",
        "torch-2.15-py311/tensors_protocol4.pkl",
        "torch-2.15-py311/everything.legacy.pt",
        "torch-2.15-py311/everything.pt",
        "torch-1.0-py27/one_layer_full.pkl",
        "tar/views.tar",
        "more/arrays.npz",
        "frameworks/cnn_state.safetensors",
        "torch-2.15-py311/scripted.pt",
    ];
    files.iter().map(|file| std::fs::read(crate::driver::testdata(file)).expect("test data")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_decoded(
        values in vec(any_value(), 1..14),
        protocol in 0u8..6,
        choices in vec(any::<u8>(), 1..60),
        framed in any::<bool>(),
        before in vec(any::<u8>(), 0..3),
        after in vec(any::<u8>(), 0..3),
    ) {
        let step = if protocol >= 4 { 1 } else { [1, 7, 100_000][usize::from(choices[0]) % 3] };
        let mut pickler = Pickler {
            way: Way { values: &values, inside: vec![] }, protocol, choices: &choices, chosen: 0, out: vec![],
            memo: HashMap::new(), stored: 0, step, used_protocol_1: false,
        };
        let root = values.len() - 1;
        // offsets of keys count from the stream's beginning
        pickler.out.extend(&before);
        if protocol >= 2 {
            pickler.out.extend([0x80, protocol]);
        }
        let frame = pickler.out.len() + 1;
        if protocol >= 4 && framed {
            pickler.out.extend([0x95, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        pickler.save(root);
        pickler.out.push(b'.');
        if protocol >= 4 && framed {
            let length = (pickler.out.len() - frame - 8) as u64;
            pickler.out[frame..frame + 8].copy_from_slice(&length.to_le_bytes());
        }
        let end = pickler.out.len() as u64;
        pickler.out.extend(&after);

        let (graph, result) = decoded(&pickler.out, before.len() as u64, u64::MAX);
        let result = result.unwrap();
        prop_assert_eq!(result.end, end);
        let wanted = if protocol >= 2 { protocol } else { u8::from(pickler.used_protocol_1) };
        prop_assert_eq!(result.protocol, wanted);
        let way = Way { values: &values, inside: vec![] };
        Comparison { pickler: &pickler, way, graph: &graph, found: HashMap::new() }.same(root, result.root);
        look(&pickler.out[before.len()..]);

        // cut anywhere, it is an error, and one of a few kinds
        let cut = before.len() + usize::from(choices[0]) * (pickler.out.len() - before.len() - after.len()) / 256;
        prop_assert!(decoded(&pickler.out[..cut], before.len() as u64, u64::MAX).1.is_err());
    }

    #[test]
    fn any_bytes_end_within_bounds(bytes in vec(any::<u8>(), 0..600), bound in 4u64..300) {
        let (graph, result) = decoded(&bytes, 0, bound);
        // one opcode makes few objects at most
        prop_assert!(graph.len() as u64 <= bound + 8, "{}", graph.len());
        if let Ok(result) = result {
            prop_assert!(result.end <= bytes.len() as u64);
        }
        look(&bytes);
    }

    #[test]
    fn any_opcodes_end_within_bounds(
        codes in vec(prop::sample::select(&b"(01.2N\x88\x89)]}\x8f\x90\x91\x92ade\x81\x85\x86\x87losutRbQ\x93\x94\x97\x98"[..]), 0..400),
        small in vec(0u8..4, 1..30),
    ) {
        // with things to work on between them
        let mut bytes = Vec::new();
        for (at, code) in codes.iter().enumerate() {
            match small[at % small.len()] {
                0 => bytes.extend([b'K', *code]),
                1 => bytes.extend(b"\x8c\x01a"),
                2 => bytes.extend([b'q', small[at % small.len()], b'h', 2]),
                _ => {}
            }
            bytes.push(*code);
        }
        bytes.push(b'.');
        let (graph, _) = decoded(&bytes, 0, u64::MAX);
        prop_assert!(graph.len() <= 4 + 2 * bytes.len());
        look(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn real_files_with_a_few_bytes_changed(
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        for mut bytes in real_files() {
            for (at, byte, how) in &changes {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] ^= 1 << (byte & 7),
                    1 => bytes[at] = *byte,
                    2 => bytes.insert(at, *byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            look(&bytes);
        }
    }
}
