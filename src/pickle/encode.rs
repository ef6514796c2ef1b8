//! The object graph to opcodes: a pickler that writes descriptions back.
//!
//! Writes what CPython's C pickler writes for the same objects (`Modules/_pickle.c`): the same opcodes, the same memo,
//! batches of 1000, so that a state dict comes out byte for byte as `torch.save` would pickle it. The protocol is 2, or
//! the lowest that has an opcode for everything in the graph. One loop, one explicit stack; long texts are copied from
//! their streams in blocks.

mod scalar;
mod scan;

use std::io::Write;

pub use self::scan::Census;
use crate::error::{Error, Result};
use crate::pickle::graph::{Change, Construct, Graph, Node, NodeId};
use crate::pickle::opcode as op;

/// Items that go between one `MARK` and its `APPENDS`, `SETITEMS` or `ADDITEMS` (`BATCHSIZE` in CPython).
const BATCH: usize = 1000;
/// Objects that lead back to themselves are rare and small; a file made of nothing else must not take for ever.
const MAX_AGAIN: usize = 1 << 20;

/// Writes the pickle of what [`Census`] looked through: `PROTO` to `STOP`.
pub fn encode(graph: &Graph, scan: &Census, out: &mut dyn Write) -> Result<()> {
    let places = vec![0; graph.len()];
    Encoder { graph, scan, out, places, memoized: 0, tasks: Vec::new(), again: MAX_AGAIN }.run()
}

#[derive(Debug, Clone, Copy)]
enum Task {
    /// Write an object, or a reference to it.
    Save(NodeId),
    /// Write an opcode.
    Op(u8),
    /// The parts of a tuple, frozenset or call are on the stack: make it, then go on with its changes.
    Make(NodeId),
    /// Elements of a list, dict or set, from the given one on.
    Fill(NodeId, usize),
    /// What was done to an object, from the given change on.
    Change(NodeId, usize),
    /// Remember what is on top of the stack.
    Memoize(NodeId),
}

/// In [`Encoder::places`]: the parts of a tuple or call have been begun.
const BEGUN: u32 = u32::MAX;

struct Encoder<'a> {
    graph: &'a Graph,
    scan: &'a Census,
    out: &'a mut dyn Write,
    /// What has become of each object, by its place in the graph: nothing (0), [`BEGUN`], or its number in the memo and one.
    places: Vec<u32>,
    /// Objects in the memo.
    memoized: u32,
    tasks: Vec<Task>,
    /// Parts that may be written again, because an object's parts lead back to it before it is made.
    again: usize,
}

impl Encoder<'_> {
    fn run(&mut self) -> Result<()> {
        self.write(&[op::PROTO, self.scan.protocol()])?;
        self.tasks.push(Task::Save(self.scan.root()));
        while let Some(task) = self.tasks.pop() {
            match task {
                Task::Save(node) => self.save(node)?,
                Task::Op(code) => self.write(&[code])?,
                Task::Make(node) => self.make(node)?,
                Task::Fill(node, from) => self.fill(node, from)?,
                Task::Change(node, from) => self.change(node, from)?,
                Task::Memoize(node) => self.memoize(node)?,
            }
        }
        self.write(&[op::STOP])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.write_all(bytes)?)
    }

    fn memoize(&mut self, node: NodeId) -> Result<()> {
        let index = self.memoized;
        let next = index.checked_add(1).filter(|next| *next != BEGUN);
        self.memoized = next.ok_or_else(|| Error::limit("more than 4 billion objects"))?;
        if let Some(place) = self.places.get_mut(node.index()) {
            *place = self.memoized;
        }
        self.memo_opcode(op::BINPUT, op::LONG_BINPUT, index)
    }

    fn memo_opcode(&mut self, short: u8, long: u8, index: u32) -> Result<()> {
        match u8::try_from(index) {
            Ok(index) => self.write(&[short, index]),
            Err(_) => {
                self.write(&[long])?;
                self.write(&index.to_le_bytes())
            }
        }
    }

    fn memo_index(&self, node: NodeId) -> Option<u32> {
        self.places.get(node.index()).filter(|place| **place != BEGUN)?.checked_sub(1)
    }

    fn get(&mut self, index: u32) -> Result<()> {
        self.memo_opcode(op::BINGET, op::LONG_BINGET, index)
    }

    fn push_all(&mut self, nodes: &[NodeId]) {
        self.tasks.extend(nodes.iter().rev().map(|node| Task::Save(*node)));
    }

    fn save(&mut self, node: NodeId) -> Result<()> {
        if let Some(index) = self.memo_index(node) {
            return self.get(index);
        }
        let graph = self.graph;
        match graph.node(node) {
            Node::Tuple(children) => {
                let items = graph.children(*children);
                if items.is_empty() {
                    return self.write(&[op::EMPTY_TUPLE]);
                }
                self.begin(node, items.len())?;
                if items.len() > 3 {
                    self.write(&[op::MARK])?;
                }
                self.push_all(items);
            }
            Node::FrozenSet(children) => {
                let items = graph.children(*children);
                self.begin(node, items.len())?;
                self.write(&[op::MARK])?;
                self.push_all(items);
            }
            Node::List(_) => self.container(node, op::EMPTY_LIST)?,
            Node::Dict(_) => self.container(node, op::EMPTY_DICT)?,
            Node::Set(_) => self.container(node, op::EMPTY_SET)?,
            Node::Object(object) => {
                let args = graph.sequence(object.args).unwrap_or_default();
                self.begin(node, args.len())?;
                match object.how {
                    Construct::Inst => {
                        self.write(&[op::MARK])?;
                        self.push_all(args);
                    }
                    Construct::Obj => {
                        self.write(&[op::MARK])?;
                        self.push_all(args);
                        self.tasks.push(Task::Save(object.callable));
                    }
                    _ => {
                        self.tasks.extend(object.kwargs.map(Task::Save));
                        self.push_all(&[object.callable, object.args]);
                    }
                }
            }
            Node::Persistent(inner) | Node::ReadOnlyBuffer(inner) => {
                self.begin(node, 1)?;
                self.tasks.push(Task::Save(*inner));
            }
            Node::Foreign(_) => return Err(Error::unsupported("a value that no pickle can describe")),
            _ => return self.leaf(node),
        }
        Ok(())
    }

    /// What consists of nothing else.
    fn leaf(&mut self, node: NodeId) -> Result<()> {
        let mut remembered = !self.graph.changes(node).is_empty();
        self.tasks.push(Task::Change(node, 0));
        match self.graph.node(node) {
            Node::Global { module, name } if scan::needs_stack(self.graph, *module, *name) => {
                self.tasks.extend([Task::Memoize(node), Task::Op(op::STACK_GLOBAL)]);
                self.push_all(&[*module, *name]);
                return Ok(());
            }
            Node::Global { module, name } => {
                self.write(&[op::GLOBAL])?;
                self.names(*module, *name)?;
                remembered = true;
            }
            other => {
                remembered |= matches!(other, Node::Str(_) | Node::Bytes(_) | Node::ByteArray(_));
                scalar::write(self.graph, node, self.out)?;
            }
        }
        if remembered { self.memoize(node) } else { Ok(()) }
    }

    /// Module and name, a line each.
    fn names(&mut self, module: NodeId, name: NodeId) -> Result<()> {
        for part in [module, name] {
            let content = scalar::content(self.graph, part)?;
            self.write(&content)?;
            self.write(b"\n")?;
        }
        Ok(())
    }

    /// Every way back to an object that is not made yet leads through a container that is memoised before it is filled,
    /// so that it ends; the object is then made twice on the stack and once for all others, as in CPython.
    fn begin(&mut self, node: NodeId, parts: usize) -> Result<()> {
        let place = self.places.get_mut(node.index());
        if place.is_some_and(|place| std::mem::replace(place, BEGUN) == BEGUN) {
            let left = self.again.checked_sub(parts.max(1));
            self.again = left.ok_or_else(|| Error::limit("too many objects that consist of themselves"))?;
        }
        self.tasks.push(Task::Make(node));
        Ok(())
    }

    fn container(&mut self, node: NodeId, empty: u8) -> Result<()> {
        self.write(&[empty])?;
        self.memoize(node)?;
        self.tasks.push(Task::Fill(node, 0));
        Ok(())
    }

    fn make(&mut self, node: NodeId) -> Result<()> {
        let graph = self.graph;
        let (code, parts) = match graph.node(node) {
            Node::Tuple(children) => match graph.children(*children).len() {
                1 => (op::TUPLE1, Some(1)),
                2 => (op::TUPLE2, Some(2)),
                3 => (op::TUPLE3, Some(3)),
                _ => (op::TUPLE, None),
            },
            Node::Object(object) => match object.how {
                Construct::Reduce => (op::REDUCE, Some(2)),
                Construct::NewObj => (op::NEWOBJ, Some(2)),
                Construct::NewObjEx => (op::NEWOBJ_EX, Some(3)),
                Construct::Inst => (op::INST, None),
                Construct::Obj => (op::OBJ, None),
            },
            Node::Persistent(_) => (op::BINPERSID, Some(1)),
            Node::ReadOnlyBuffer(_) => (op::READONLY_BUFFER, Some(1)),
            _ => (op::FROZENSET, None),
        };
        // its parts led back to it and have made it meanwhile, as in CPython's `save_tuple`
        if let Some(index) = self.memo_index(node) {
            match parts {
                Some(parts) => (0..parts).try_for_each(|_| self.write(&[op::POP]))?,
                None => self.write(&[op::POP_MARK])?,
            }
            return self.get(index);
        }
        self.write(&[code])?;
        if code == op::INST
            && let Some(object) = graph.object(node)
            && let Node::Global { module, name } = graph.node(object.callable)
        {
            self.names(*module, *name)?;
        }
        // CPython does not remember what a persistent id stands for; nor does it change it, which may lead back to it
        let forgotten = matches!(code, op::BINPERSID | op::READONLY_BUFFER)
            && self.scan.uses(node) < 2
            && graph.changes(node).is_empty();
        if !forgotten {
            self.memoize(node)?;
        }
        self.tasks.push(Task::Change(node, 0));
        Ok(())
    }

    /// Writes a batch of items, single ones without `MARK`.
    fn batch(&mut self, items: &[NodeId], width: usize, one: Option<u8>, many: u8) -> Result<()> {
        match one {
            Some(one) if items.len() == width => self.tasks.push(Task::Op(one)),
            _ => {
                self.write(&[op::MARK])?;
                self.tasks.push(Task::Op(many));
            }
        }
        self.push_all(items);
        Ok(())
    }

    fn fill(&mut self, node: NodeId, from: usize) -> Result<()> {
        let graph = self.graph;
        let (items, width, one, many): (Vec<NodeId>, _, _, _) = match graph.node(node) {
            Node::List(items) => {
                (items.iter().skip(from).take(BATCH).copied().collect(), 1, Some(op::APPEND), op::APPENDS)
            }
            Node::Set(items) => (items.iter().skip(from).take(BATCH).copied().collect(), 1, None, op::ADDITEMS),
            Node::Dict(entries) => {
                let batch = entries.iter().skip(from).take(BATCH);
                (batch.flat_map(|entry| [entry.key, entry.value]).collect(), 2, Some(op::SETITEM), op::SETITEMS)
            }
            _ => return Ok(()),
        };
        if items.is_empty() {
            self.tasks.push(Task::Change(node, 0));
            return Ok(());
        }
        self.tasks.push(Task::Fill(node, from + BATCH));
        self.batch(&items, width, one, many)
    }

    fn change(&mut self, node: NodeId, from: usize) -> Result<()> {
        let Some(rest) = self.graph.changes(node).get(from..) else { return Ok(()) };
        let Some(first) = rest.first() else { return Ok(()) };
        let run = rest.iter().take(BATCH).take_while(|change| same_kind(first, change));
        let items: Vec<NodeId> = run.clone().flat_map(parts).collect();
        if let Change::Build(state) = first {
            self.tasks.extend([Task::Change(node, from + 1), Task::Op(op::BUILD), Task::Save(*state)]);
            return Ok(());
        }
        self.tasks.push(Task::Change(node, from + run.count()));
        match first {
            Change::Item(_) => self.batch(&items, 2, Some(op::SETITEM), op::SETITEMS),
            Change::Add(_) => self.batch(&items, 1, None, op::ADDITEMS),
            _ => self.batch(&items, 1, Some(op::APPEND), op::APPENDS),
        }
    }
}

fn same_kind(a: &Change, b: &Change) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn parts(change: &Change) -> Vec<NodeId> {
    match change {
        Change::Append(node) | Change::Add(node) | Change::Build(node) => vec![*node],
        Change::Item(entry) => vec![entry.key, entry.value],
    }
}

#[cfg(test)]
mod tests;
