//! Edits held against a model of them: objects as plain values, edited by rules of their own, pickled by a pickler of their
//! own. What is read of an edited pickle is what the model has, shared in the same places.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::HashMap;
use std::sync::Arc;

use crate::edit::edited;
use ckpt::checkpoint::alter::Step;
use ckpt::pickle::{Graph, Node, NodeId, NothingInline, decode};
use ckpt::source::MemorySource;
use rayon::prelude::*;

/// Sequences of edits that are tried.
const SEQUENCES: u64 = 10_000;

/// A key of a dict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Str(String),
    Int(i64),
}

/// A value; what it holds are places in [`Tree::nodes`], so that one can stand in several places.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<usize>),
    Tuple(Vec<usize>),
    Dict(Vec<(Key, usize)>),
}

#[derive(Debug, Clone, Default)]
struct Tree {
    nodes: Vec<Kind>,
    root: usize,
}

struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }
}

impl Tree {
    fn push(&mut self, kind: Kind) -> usize {
        self.nodes.push(kind);
        self.nodes.len() - 1
    }

    fn leaf(random: &mut Random) -> Kind {
        match random.next(6) {
            0 => Kind::None,
            1 => Kind::Bool(random.next(2) == 1),
            2 => Kind::Float([0.5, -3.25, 1e300, 0.0][random.next(4)]),
            3 => Kind::Str(["text", "a", "", "k1", "é'\"\\n"][random.next(5)].to_owned()),
            _ => Kind::Int([0, 1, -1, 255, 256, 65_536, -70_000, 1 << 40][random.next(8)]),
        }
    }

    /// A value, sometimes one that stands elsewhere already.
    fn grow(&mut self, random: &mut Random, depth: usize) -> usize {
        let is_open = |kind: &Kind| matches!(kind, Kind::List(_) | Kind::Dict(_) | Kind::Tuple(_));
        let shared: Vec<usize> = (0..self.nodes.len()).filter(|node| is_open(&self.nodes[*node])).collect();
        if !shared.is_empty() && random.next(16) == 0 {
            return shared[random.next(shared.len())];
        }
        let count = random.next(4);
        match random.next(if depth == 0 { 1 } else { 6 }) {
            0 | 1 => {
                let leaf = Self::leaf(random);
                self.push(leaf)
            }
            2 => {
                let items = (0..count).map(|_| self.grow(random, depth - 1)).collect();
                self.push(Kind::List(items))
            }
            3 => {
                let items: Vec<usize> = (0..count + 1).map(|_| self.grow(random, depth - 1)).collect();
                self.push(Kind::Tuple(items))
            }
            _ => self.dict(random, depth, count),
        }
    }

    fn dict(&mut self, random: &mut Random, depth: usize, count: usize) -> usize {
        let are_numbers = random.next(4) == 0;
        let mut items: Vec<(Key, usize)> = Vec::new();
        for _ in 0..count {
            let key = match are_numbers {
                true => Key::Int(i64::try_from(random.next(5)).unwrap()),
                false => Key::Str(["a", "b", "k1", "name", "text"][random.next(5)].to_owned()),
            };
            if !items.iter().any(|(other, _)| *other == key) {
                let value = self.grow(random, depth.saturating_sub(1));
                items.push((key, value));
            }
        }
        self.push(Kind::Dict(items))
    }

    fn children(&self, node: usize) -> Vec<(String, usize)> {
        match &self.nodes[node] {
            Kind::List(items) | Kind::Tuple(items) => {
                items.iter().enumerate().map(|(index, item)| (index.to_string(), *item)).collect()
            }
            Kind::Dict(items) => items
                .iter()
                .map(|(key, item)| match key {
                    Key::Str(key) => (key.clone(), *item),
                    Key::Int(key) => (key.to_string(), *item),
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// How often each node is used, below the root.
    fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        let mut open = vec![self.root];
        while let Some(node) = open.pop() {
            uses[node] += 1;
            if uses[node] == 1 {
                open.extend(self.children(node).into_iter().map(|(_, child)| child));
            }
        }
        uses
    }

    /// The containers on the way to what a name stands for, and its place in the last one: the outer error is that of what
    /// no edit may touch.
    fn find(&self, name: &str) -> Result<Option<(Vec<usize>, usize)>, String> {
        let uses = self.uses();
        let (mut around, mut node, mut place) = (Vec::new(), self.root, 0);
        for element in name.split('.') {
            let children = self.children(node);
            let Some(index) = children.iter().position(|(label, _)| label == element) else { return Ok(None) };
            around.push(node);
            (place, node) = (index, children[index].1);
        }
        match around.iter().find(|node| uses[**node] > 1) {
            Some(node) => Err(format!("{node} is shared")),
            None => Ok(Some((around, place))),
        }
    }

    /// The dict that a name which is not there would be a key of.
    fn home(&self, name: &str) -> Result<(usize, String), String> {
        let (node, key) = match name.rsplit_once('.') {
            None => (self.root, name),
            Some((before, key)) => {
                let (around, place) = self.find(before)?.ok_or("nothing there")?;
                (self.children(*around.last().unwrap())[place].1, key)
            }
        };
        if name.contains('.') && self.uses()[node] > 1 {
            return Err("shared".into());
        }
        if !matches!(self.nodes[node], Kind::Dict(_)) {
            return Err("no dict".into());
        }
        Ok((node, key.to_owned()))
    }

    fn key_for(&self, node: usize, key: &str) -> Key {
        let Kind::Dict(items) = &self.nodes[node] else { unreachable!() };
        let are_numbers = !items.is_empty() && items.iter().all(|(key, _)| matches!(key, Key::Int(_)));
        match key.parse::<i64>() {
            Ok(number) if are_numbers && number.to_string() == key => Key::Int(number),
            _ => Key::Str(key.to_owned()),
        }
    }

    fn take(&mut self, parent: usize, place: usize) -> Result<usize, String> {
        match &mut self.nodes[parent] {
            Kind::Dict(items) => Ok(items.remove(place).1),
            _ => Err("keeps its length".into()),
        }
    }

    fn edit(&mut self, step: &Step, value: Option<usize>) -> Result<(), String> {
        match step {
            Step::Set { name, .. } => {
                let value = value.unwrap();
                if let Some((around, place)) = self.find(name)? {
                    match &mut self.nodes[*around.last().unwrap()] {
                        Kind::List(items) | Kind::Tuple(items) => items[place] = value,
                        Kind::Dict(items) => items[place].1 = value,
                        _ => unreachable!(),
                    }
                    return Ok(());
                }
                let (node, key) = self.home(name)?;
                let key = self.key_for(node, &key);
                let Kind::Dict(items) = &mut self.nodes[node] else { unreachable!() };
                items.push((key, value));
                Ok(())
            }
            Step::Delete { name } => {
                let (around, place) = self.find(name)?.ok_or("nothing there")?;
                let parent = *around.last().unwrap();
                match &mut self.nodes[parent] {
                    Kind::List(items) => drop(items.remove(place)),
                    _ => drop(self.take(parent, place)?),
                }
                Ok(())
            }
            Step::Move { from, to } if from == to => Err("the same".into()),
            Step::Move { from, to } if from == "." => {
                let root = self.root;
                self.root = self.push(Kind::Dict(vec![(Key::Str(to.clone()), root)]));
                Ok(())
            }
            Step::Move { from, to } if to == "." => {
                let (around, place) = self.find(from)?.ok_or("nothing there")?;
                if around.iter().any(|node| self.children(*node).len() > 1) {
                    return Err("would be lost".into());
                }
                let parent = *around.last().unwrap();
                if !matches!(self.nodes[parent], Kind::Dict(_)) {
                    return Err("no dict".into());
                }
                self.root = self.children(parent)[place].1;
                Ok(())
            }
            Step::Move { from, to } => {
                let (around, place) = self.find(from)?.ok_or("nothing there")?;
                if self.find(to)?.is_some() {
                    return Err("there already".into());
                }
                let (home, key) = self.home(to)?;
                let parent = *around.last().unwrap();
                if to.strip_prefix(from.as_str()).is_some_and(|rest| rest.starts_with('.')) {
                    return Err("into itself".into());
                }
                if !matches!(self.nodes[parent], Kind::Dict(_)) {
                    return Err("keeps its length".into());
                }
                let key = self.key_for(home, &key);
                if home == parent {
                    let Kind::Dict(items) = &mut self.nodes[home] else { unreachable!() };
                    items[place].0 = key;
                    return Ok(());
                }
                let value = self.take(parent, place)?;
                let Kind::Dict(items) = &mut self.nodes[home] else { unreachable!() };
                items.push((key, value));
                Ok(())
            }
            Step::SetTensor { .. } | Step::SetMetadata { .. } => unreachable!("no other step is tried here"),
        }
    }

    /// Python's text of a value.
    fn literal(&self, node: usize) -> String {
        let all = |items: &[usize]| items.iter().map(|item| self.literal(*item)).collect::<Vec<_>>().join(", ");
        match &self.nodes[node] {
            Kind::None => "None".to_owned(),
            Kind::Bool(value) => if *value { "True" } else { "False" }.to_owned(),
            Kind::Int(value) => value.to_string(),
            Kind::Float(value) => format!("{value:?}"),
            Kind::Str(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
            Kind::List(items) => format!("[{}]", all(items)),
            Kind::Tuple(items) => format!("({},)", all(items)),
            Kind::Dict(items) => {
                let items = items.iter().map(|(key, value)| match key {
                    Key::Str(key) => format!("'{key}': {}", self.literal(*value)),
                    Key::Int(key) => format!("{key}: {}", self.literal(*value)),
                });
                format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Pickles as Python does: each container and string once, then from the memo.
struct Pickler<'a> {
    tree: &'a Tree,
    protocol: u8,
    out: Vec<u8>,
    memo: HashMap<usize, usize>,
    texts: HashMap<String, usize>,
    next: usize,
}

impl Pickler<'_> {
    fn pickle(tree: &Tree, protocol: u8) -> Vec<u8> {
        let mut pickler =
            Pickler { tree, protocol, out: Vec::new(), memo: HashMap::new(), texts: HashMap::new(), next: 0 };
        pickler.save(tree.root);
        pickler.out.push(b'.');
        let mut whole = vec![0x80, protocol];
        if protocol >= 4 {
            whole.push(0x95);
            whole.extend((pickler.out.len() as u64).to_le_bytes());
        }
        whole.extend(pickler.out);
        whole
    }

    fn remember(&mut self) -> usize {
        match self.protocol {
            2 => self.out.extend([b'q', u8::try_from(self.next).unwrap()]),
            _ => self.out.push(0x94),
        }
        self.next += 1;
        self.next - 1
    }

    fn text(&mut self, text: &str) {
        if let Some(place) = self.texts.get(text) {
            self.out.extend([b'h', u8::try_from(*place).unwrap()]);
            return;
        }
        self.out.push(b'X');
        self.out.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        self.out.extend(text.as_bytes());
        let place = self.remember();
        self.texts.insert(text.to_owned(), place);
    }

    fn save(&mut self, node: usize) {
        if let Some(place) = self.memo.get(&node) {
            self.out.extend([b'h', u8::try_from(*place).unwrap()]);
            return;
        }
        let tree = self.tree;
        match &tree.nodes[node] {
            Kind::None => self.out.push(b'N'),
            Kind::Bool(value) => self.out.push(if *value { 0x88 } else { 0x89 }),
            Kind::Int(value) => match (u8::try_from(*value), i32::try_from(*value)) {
                (Ok(value), _) => self.out.extend([b'K', value]),
                (_, Ok(value)) => {
                    self.out.push(b'J');
                    self.out.extend(value.to_le_bytes());
                }
                _ => {
                    self.out.extend([0x8a, 8]);
                    self.out.extend(value.to_le_bytes());
                }
            },
            Kind::Float(value) => {
                self.out.push(b'G');
                self.out.extend(value.to_be_bytes());
            }
            Kind::Str(text) => self.text(text),
            Kind::List(items) => {
                self.out.push(b']');
                let place = self.remember();
                self.memo.insert(node, place);
                match items.as_slice() {
                    [] => {}
                    [one] => {
                        self.save(*one);
                        self.out.push(b'a');
                    }
                    all => {
                        self.out.push(b'(');
                        all.iter().for_each(|item| self.save(*item));
                        self.out.push(b'e');
                    }
                }
            }
            Kind::Tuple(items) => {
                if items.len() > 3 {
                    self.out.push(b'(');
                }
                items.iter().for_each(|item| self.save(*item));
                self.out.push(*[0x85, 0x86, 0x87].get(items.len() - 1).unwrap_or(&b't'));
                let place = self.remember();
                self.memo.insert(node, place);
            }
            Kind::Dict(items) => {
                self.out.push(b'}');
                let place = self.remember();
                self.memo.insert(node, place);
                let several = items.len() > 1;
                if several {
                    self.out.push(b'(');
                }
                for (key, value) in items {
                    match key {
                        Key::Str(key) => self.text(key),
                        Key::Int(key) => self.out.extend([b'K', u8::try_from(*key).unwrap()]),
                    }
                    self.save(*value);
                }
                if !items.is_empty() {
                    self.out.push(if several { b'u' } else { b's' });
                }
            }
        }
    }
}

/// Whether what was read is what the model has, with what one holds in several places so in the other.
fn is_same(tree: &Tree, graph: &Graph, root: NodeId) -> Result<(), String> {
    let (mut to, mut back) = (HashMap::new(), HashMap::new());
    let mut open = vec![(tree.root, root, "top".to_owned())];
    while let Some((model, node, path)) = open.pop() {
        let is_open = matches!(tree.nodes[model], Kind::List(_) | Kind::Dict(_));
        let is_shared_otherwise =
            is_open && (*to.entry(model).or_insert(node) != node || *back.entry(node).or_insert(model) != model);
        if is_shared_otherwise {
            return Err(format!("{path} is shared otherwise"));
        }
        let differs = Err(format!("{path}: {:?} and {:?}", tree.nodes[model], graph.node(node)));
        match (&tree.nodes[model], graph.node(node)) {
            (Kind::None, Node::None) => {}
            (Kind::Bool(a), Node::Bool(b)) if a == b => {}
            (Kind::Int(a), _) if graph.int(node) == Some(*a) && !matches!(graph.node(node), Node::Bool(_)) => {}
            (Kind::Float(a), Node::Float(b)) if a.to_bits() == b.to_bits() => {}
            (Kind::Str(a), Node::Str(_)) if graph.str(node).as_deref() == Some(a) => {}
            (Kind::List(a), Node::List(b)) if a.len() == b.len() => {
                open.extend(a.iter().zip(b.iter()).map(|(a, b)| (*a, *b, format!("{path}[]"))));
            }
            (Kind::Tuple(a), Node::Tuple(b)) if a.len() == graph.children(*b).len() => {
                open.extend(a.iter().zip(graph.children(*b)).map(|(a, b)| (*a, *b, format!("{path}()"))));
            }
            (Kind::Dict(a), Node::Dict(b)) if a.len() == b.len() => {
                for ((key, value), entry) in a.iter().zip(b.iter()) {
                    let is_key = match key {
                        Key::Str(key) => graph.str(entry.key).as_deref() == Some(key),
                        Key::Int(key) => graph.int(entry.key) == Some(*key),
                    };
                    if !is_key {
                        return Err(format!("{path}: another key than {key:?}"));
                    }
                    open.push((*value, entry.value, format!("{path}.{key:?}")));
                }
            }
            _ => return differs,
        }
    }
    Ok(())
}

fn read(bytes: &[u8]) -> (Graph, NodeId) {
    let mut graph = Graph::new();
    let stream = graph.add_stream(Arc::new(MemorySource::new(bytes.to_vec())), "");
    let decoded = decode(&mut graph, stream, 0, 1 << 20, &NothingInline).unwrap();
    assert_eq!(decoded.end, bytes.len() as u64);
    (graph, decoded.root)
}

/// A step, most often about something that is there, and the value that it sets.
fn step(tree: &mut Tree, random: &mut Random) -> (Step, Option<usize>) {
    let mut names = Vec::new();
    let mut open = vec![(tree.root, String::new(), 0)];
    while let Some((node, name, depth)) = open.pop() {
        for (label, child) in tree.children(node) {
            let name = if name.is_empty() { label } else { format!("{name}.{label}") };
            names.push(name.clone());
            if depth < 6 {
                open.push((child, name, depth + 1));
            }
        }
    }
    names.sort();
    let name = |random: &mut Random, is_new: bool| {
        let mut name = if names.is_empty() { "a".to_owned() } else { names[random.next(names.len())].clone() };
        if is_new {
            let last = ["new", "0", "7", "b", "x.y"][random.next(5)];
            name = match random.next(3) {
                0 => last.to_owned(),
                1 => format!("{name}.{last}"),
                _ => name.rsplit_once('.').map_or(last.to_owned(), |(before, _)| format!("{before}.{last}")),
            };
        }
        name
    };
    let kind = random.next(8);
    let odds = random.0;
    match kind {
        0..=2 => {
            let value = loop {
                let from = tree.nodes.len();
                let mut fresh = Tree::default();
                let root = fresh.grow(random, 2);
                // a literal shares nothing
                let uses = Tree { root, ..fresh.clone() }.uses();
                if uses.iter().all(|uses| *uses < 2) {
                    let moved = |items: &[usize]| items.iter().map(|item| item + from).collect::<Vec<_>>();
                    tree.nodes.extend(fresh.nodes.iter().map(|kind| match kind {
                        Kind::List(items) => Kind::List(moved(items)),
                        Kind::Tuple(items) => Kind::Tuple(moved(items)),
                        Kind::Dict(items) => {
                            Kind::Dict(items.iter().map(|(key, item)| (key.clone(), item + from)).collect())
                        }
                        kind => kind.clone(),
                    }));
                    break root + from;
                }
            };
            (Step::Set { name: name(random, kind == 2), value: tree.literal(value) }, Some(value))
        }
        3 | 4 => (Step::Delete { name: name(random, odds.is_multiple_of(9)) }, None),
        5 | 6 => (Step::Move { from: name(random, false), to: name(random, !odds.is_multiple_of(8)) }, None),
        _ => match random.next(3) {
            0 => (Step::Move { from: name(random, false), to: ".".to_owned() }, None),
            _ => (Step::Move { from: ".".to_owned(), to: "whole".to_owned() }, None),
        },
    }
}

#[test]
fn what_is_read_of_an_edited_pickle_is_what_the_model_has() {
    let counts: Vec<(usize, usize)> = (0..SEQUENCES)
        .into_par_iter()
        .map(|seed| {
            let (mut done, mut refused) = (0, 0);
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
            let mut tree = Tree::default();
            tree.root = loop {
                tree.nodes.clear();
                let count = 1 + random.next(4);
                let root = tree.dict(&mut random, 3, count);
                // the pickler numbers the memo in bytes
                if tree.nodes.len() < 60 {
                    break root;
                }
            };
            let pickle = Pickler::pickle(&tree, if random.next(2) == 0 { 2 } else { 4 });
            let (graph, root) = read(&pickle);
            is_same(&tree, &graph, root).unwrap_or_else(|e| panic!("{seed}: before any edit: {e}"));
            let mut steps: Vec<Step> = Vec::new();
            let mut words: Vec<String> = Vec::new();
            for _ in 0..=random.next(4) {
                let mut next = tree.clone();
                let (step, value) = step(&mut next, &mut random);
                words.push(format!("{step:?}"));
                let expected = next.edit(&step, value);
                steps.push(step);
                match (expected, edited(&pickle, &steps)) {
                    (Ok(()), Ok(bytes)) => {
                        tree = next;
                        let (graph, root) = read(&bytes);
                        is_same(&tree, &graph, root).unwrap_or_else(|e| panic!("{seed}: {words:?}: {e}"));
                        done += 1;
                    }
                    (Err(_), Err(_)) => {
                        steps.pop();
                        words.pop();
                        refused += 1;
                    }
                    (expected, got) => {
                        let got = got.map(|_| ());
                        panic!("{seed}: {words:?}: the model says {expected:?}, the program {got:?}; {tree:?}")
                    }
                }
            }
            (done, refused)
        })
        .collect();
    let (done, refused) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    assert!(done > 10_000 && refused > 1000, "{done} done, {refused} refused");
}
