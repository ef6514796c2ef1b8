//! Where the parts of a pickle lie: each item of a dict, each element of a list or tuple, each object that the memo has.
//!
//! What an object is made of lies in one run of opcodes: it ends where the next object on the stack begins, or where the
//! opcode lies that takes it from there. Opcodes of the rare kinds that break this rule (`POP`, `DUP`, changes to what the
//! memo gave) are no fault of the pickle, but of who wants to cut it: they are noted, and refused there.

use rustc_hash::FxHashMap;

use super::Frame;
use crate::pickle::decode::{Does, Trace};
use crate::pickle::opcode as op;

/// Bytes of the pickle, from the first to before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// One item of a dict or element of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// What pushes it.
    pub(super) span: Span,
    /// Where the opcode lies that made it.
    pub(super) made: u64,
    /// The opcode that puts this element alone where it belongs.
    pub(super) setter: Option<Span>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) key: Span,
    pub(super) value: Part,
    /// The opcode that puts this item alone where it belongs.
    pub(super) setter: Option<Span>,
}

/// What something can be put into, by where its opcode lies.
#[derive(Debug, Clone, Default)]
pub(super) struct Made {
    /// Where the first of its bytes lies.
    pub(super) start: u64,
    /// Where it is on top of the stack, with everything put into it.
    pub(super) open: u64,
    /// Of a list or tuple.
    pub(super) elements: Vec<Part>,
    /// What a call or a persistent object was made of.
    pub(super) parts: Vec<Part>,
}

/// An object that is in the memo.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remembered {
    pub(super) span: Span,
    made: u64,
}

/// What happens to the memo.
#[derive(Debug, Clone, Copy)]
pub(super) enum Memo {
    Put { index: u64, is_next: bool },
    Get { index: u64 },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    pub(super) span: Span,
    pub(super) object: u32,
    pub(super) memo: Memo,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    start: u64,
    at: u64,
    made: u64,
    object: Option<u32>,
    is_fetched: bool,
    is_mark: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// By where the opcode lies that pushed the key.
    pub(super) items: FxHashMap<u64, Item>,
    pub(super) made: FxHashMap<u64, Made>,
    pub(super) remembered: Vec<Remembered>,
    pub(super) uses: Vec<Use>,
    pub(super) frames: Vec<Frame>,
    /// Why the pickle cannot be cut.
    pub(super) odd: Option<&'static str>,
    /// The memo has different objects under one number, one after the other.
    pub(super) is_reused: bool,
    stack: Vec<Slot>,
    memo: FxHashMap<u64, u32>,
    index: u64,
    nested: usize,
    has_next: bool,
    has_put: bool,
}

/// Opcodes that replace what they take by one object.
const MAKERS: [u8; 15] = [
    op::TUPLE,
    op::TUPLE1,
    op::TUPLE2,
    op::TUPLE3,
    op::LIST,
    op::DICT,
    op::FROZENSET,
    op::REDUCE,
    op::NEWOBJ,
    op::NEWOBJ_EX,
    op::INST,
    op::OBJ,
    op::STACK_GLOBAL,
    op::BINPERSID,
    op::READONLY_BUFFER,
];

impl Layout {
    /// The object that is left when the pickle ends at `stop`.
    pub(super) fn root(&self, stop: u64) -> Option<Part> {
        let slot = self.stack.last()?;
        Some(Part { span: Span { from: slot.start, to: stop }, made: slot.made, setter: None })
    }

    /// What is left when the pickle ends at `stop` ends there.
    pub(super) fn finish(&mut self, stop: u64) {
        if let Some(Slot { object: Some(object), is_fetched: false, start, .. }) = self.stack.last().copied() {
            self.close(object, Span { from: start, to: stop });
        }
    }

    fn close(&mut self, object: u32, span: Span) {
        if let Some(object) = self.remembered.get_mut(object as usize) {
            object.span = span;
        }
    }

    fn refuse(&mut self, why: &'static str) {
        self.odd.get_or_insert(why);
    }

    fn put(&mut self, at: u64, end: u64, is_next: bool) {
        let Some(top) = self.stack.last_mut().filter(|top| !top.is_mark) else { return };
        if top.is_fetched {
            self.refuse("the memo has one object under two numbers");
            return;
        }
        let object = match top.object {
            Some(object) => object,
            None => {
                let object = u32::try_from(self.remembered.len()).unwrap_or(u32::MAX);
                top.object = Some(object);
                // until it is known where it ends
                let span = Span { from: top.start, to: end };
                self.remembered.push(Remembered { span, made: top.made });
                object
            }
        };
        if let Some(made) = self.made.get_mut(&top.made) {
            made.open = end;
        }
        let index = self.index;
        self.is_reused |= self.memo.insert(index, object).is_some_and(|other| other != object);
        self.has_next |= is_next;
        self.has_put |= !is_next;
        if self.has_next && self.has_put {
            self.refuse("the memo is numbered in two ways");
        }
        self.uses.push(Use { span: Span { from: at, to: end }, object, memo: Memo::Put { index, is_next } });
    }

    fn get(&mut self, at: u64, end: u64) {
        let index = self.index;
        let Some(object) = self.memo.get(&index).copied() else { return };
        let made = self.remembered.get(object as usize).map_or(at, |object| object.made);
        self.uses.push(Use { span: Span { from: at, to: end }, object, memo: Memo::Get { index } });
        self.stack.push(Slot { start: at, at, made, object: Some(object), is_fetched: true, is_mark: false });
    }

    /// Takes what an opcode takes from the stack: gives its parts, without the mark.
    fn take(&mut self, from: usize, at: u64) -> (u64, Vec<(Slot, Part)>) {
        let taken = self.stack.split_off(from.min(self.stack.len()));
        let ends: Vec<u64> = taken.iter().skip(1).map(|slot| slot.start).chain([at]).collect();
        let mut parts = Vec::with_capacity(taken.len());
        for (slot, to) in taken.iter().zip(ends) {
            let span = Span { from: slot.start, to };
            if let Some(object) = slot.object.filter(|_| !slot.is_fetched) {
                self.close(object, span);
            }
            if !slot.is_mark {
                parts.push((*slot, Part { span, made: slot.made, setter: None }));
            }
        }
        (taken.first().map_or(at, |slot| slot.start), parts)
    }

    fn items(&mut self, parts: &[(Slot, Part)], setter: Option<Span>) {
        for pair in parts.chunks_exact(2) {
            if let [(key_slot, key), (_, value)] = pair {
                self.items.insert(key_slot.at, Item { key: key.span, value: *value, setter });
            }
        }
    }

    /// The opcode changed what is on top of the stack now.
    fn filled(&mut self, code: u8, at: u64, end: u64, parts: &[(Slot, Part)]) {
        let Some(target) = self.stack.last().copied() else { return };
        if target.is_fetched && !parts.is_empty() {
            self.refuse("an object changes after it was put into the memo and fetched from there");
        }
        let setter = [op::SETITEM, op::APPEND].contains(&code).then_some(Span { from: at, to: end });
        match code {
            op::SETITEM | op::SETITEMS => self.items(parts, setter),
            op::APPEND | op::APPENDS => {
                if let Some(made) = self.made.get_mut(&target.made) {
                    made.elements.extend(parts.iter().map(|(_, part)| Part { setter, ..*part }));
                }
            }
            _ => return,
        }
        if let Some(made) = self.made.get_mut(&target.made) {
            made.open = end;
        }
    }
}

impl Trace for Layout {
    fn opcode(&mut self, _: u8, _: u64, end: u64, does: Does) {
        match does {
            Does::Enter => self.nested += 1,
            Does::Leave => self.nested = self.nested.saturating_sub(1),
            _ if self.nested > 0 => {}
            Does::Get { index } | Does::Put { index, .. } => self.index = index,
            Does::Frame { len } => self.frames.push(Frame { at: end.saturating_sub(8), len }),
            Does::Push | Does::Repeat { .. } => {}
        }
    }

    fn step(&mut self, code: u8, at: u64, end: u64, depth: usize) {
        if self.nested > 0 {
            return;
        }
        match code {
            op::FRAME | op::PROTO => return,
            op::PUT | op::BINPUT | op::LONG_BINPUT => return self.put(at, end, false),
            op::MEMOIZE => return self.put(at, end, true),
            op::GET | op::BINGET | op::LONG_BINGET => return self.get(at, end),
            op::POP | op::POP_MARK => self.refuse("objects are made and thrown away (POP)"),
            op::DUP => self.refuse("objects are repeated without the memo (DUP)"),
            _ => {}
        }
        let is_maker = MAKERS.contains(&code);
        if depth > self.stack.len() {
            let is_mark = code == op::MARK;
            self.stack.push(Slot { start: at, at, made: at, object: None, is_fetched: false, is_mark });
            if matches!(code, op::EMPTY_DICT | op::EMPTY_LIST) {
                self.made.insert(at, Made { start: at, open: end, ..Made::default() });
            }
            return;
        }
        let (start, parts) = self.take(if is_maker { depth.saturating_sub(1) } else { depth }, at);
        if !is_maker {
            return self.filled(code, at, end, &parts);
        }
        self.stack.push(Slot { start, at, made: at, object: None, is_fetched: false, is_mark: false });
        let mut made = Made { start, open: end, ..Made::default() };
        match code {
            op::DICT => self.items(&parts, None),
            op::LIST | op::TUPLE | op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                made.elements = parts.into_iter().map(|(_, part)| part).collect();
            }
            op::REDUCE | op::NEWOBJ | op::NEWOBJ_EX | op::INST | op::OBJ | op::BINPERSID => {
                made.parts = parts.into_iter().map(|(_, part)| part).collect();
            }
            _ => return,
        }
        self.made.insert(at, made);
    }
}
