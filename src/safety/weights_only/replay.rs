//! What a replay of the weights-only unpickler holds and says: values, storages, and why torch would refuse.

use std::collections::HashSet;
use std::rc::Rc;

use super::Reason;
use super::known_storages::Storages;
use super::tables::Kind;
use super::value::{Id, Value};

/// Reasons that are told; a hostile pickle has as many as it likes.
const MAX_REASONS: usize = 100;
/// Integers up to this one are held once.
const MAX_SHARED_INT: i64 = 1023;
/// One replay: pickles read one after the other with the same storages.
pub(super) struct Replay<'a> {
    pub values: Vec<Value>,
    /// Where those are that are held once.
    shared: Vec<Option<Id>>,
    pub storages: Storages<'a>,
    reasons: Vec<Reason>,
    told: HashSet<(&'static str, String)>,
    /// Tuples that were found hashable, or told not to be.
    hashed: HashSet<Id>,
    pub items: u64,
    /// Whether persistent ids are taken: a legacy stream has pickles where they are not.
    pub takes_ids: bool,
    /// Bytes of memory that calls have asked for.
    pub allocated: u64,
    pub(super) max_objects: u64,
    /// What was done so far, in opcodes that do next to nothing.
    pub(super) steps: u64,
    /// Where the opcode in hand lies, in the file.
    pub(super) at: u64,
}

/// Steps that it takes to refuse something, and to look a global up.
pub(super) const STEPS_A_NAME: u64 = 16;

impl<'a> Replay<'a> {
    pub(crate) fn new(storages: Storages<'a>, max_objects: u64) -> Self {
        Replay {
            values: vec![Value::None, Value::Unknown],
            shared: Vec::new(),
            storages,
            reasons: Vec::new(),
            told: HashSet::new(),
            hashed: HashSet::new(),
            items: 0,
            takes_ids: false,
            allocated: 0,
            max_objects,
            steps: 0,
            at: 0,
        }
    }

    pub(crate) const NONE: Id = 0;
    pub(crate) const UNKNOWN: Id = 1;

    pub(crate) fn value(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::Unknown)
    }

    pub(crate) fn value_mut(&mut self, id: Id) -> Option<&mut Value> {
        self.values.get_mut(id as usize)
    }

    pub(crate) fn add(&mut self, value: Value) -> Id {
        // nobody has the memory for 4 billion
        let id = Id::try_from(self.values.len()).unwrap_or(Self::UNKNOWN);
        self.values.push(value);
        id
    }

    /// The same, but what is plain and cannot change is held once: sizes, strides, flags. It counts as often as it is made.
    pub(crate) fn add_shared(&mut self, value: Value) -> Id {
        let place = match &value {
            Value::Bool(flag) => usize::from(*flag),
            Value::Tuple(items) if items.is_empty() => 2,
            Value::Int(Some(number @ 0..=MAX_SHARED_INT)) => 3 + usize::try_from(*number).unwrap_or(0),
            _ => return self.add(value),
        };
        if place >= self.shared.len() {
            self.shared.resize(place + 1, None);
        }
        if let Some(id) = self.shared.get(place).copied().flatten() {
            self.items += 1;
            return id;
        }
        let id = self.add(value);
        if let Some(shared) = self.shared.get_mut(place) {
            *shared = Some(id);
        }
        id
    }

    /// Notes why torch would refuse, once.
    pub(crate) fn refuse(&mut self, kind: &'static str, detail: impl Into<String>) {
        let detail = detail.into();
        self.steps = self.steps.saturating_add(STEPS_A_NAME);
        if self.reasons.len() < MAX_REASONS && self.told.insert((kind, detail.clone())) {
            self.reasons.push(Reason { kind, detail, offset: Some(self.at) });
        }
    }

    pub(crate) fn refuse_at(&mut self, offset: u64, kind: &'static str, detail: impl Into<String>) {
        self.at = offset;
        self.refuse(kind, detail);
    }

    pub(crate) fn into_reasons(self) -> Vec<Reason> {
        self.reasons
    }
}

impl Replay<'_> {
    /// Whether a value may be a dict's key; says so if not.
    pub(crate) fn hashable(&mut self, key: Id) -> bool {
        let mut open = vec![key];
        while let Some(id) = open.pop() {
            match self.value(id) {
                // each tuple once, however many keys it is a part of
                Value::Tuple(items) => {
                    let items = Rc::clone(items);
                    if self.hashed.insert(id) {
                        open.extend_from_slice(&items);
                    }
                }
                Value::List(_) | Value::Dict(..) | Value::Set(_) | Value::ByteArray(_) => {
                    let detail = format!("a dict's key holds {}, which is unhashable", self.value(id).type_name());
                    self.refuse("key", detail);
                    return false;
                }
                _ => {}
            }
        }
        true
    }

    /// Says of each element that may not be a key that it may not.
    pub(crate) fn all_hashable(&mut self, items: &[Id]) {
        for item in items {
            self.hashable(*item);
        }
    }

    /// The kind of an allowed global that a value is.
    pub(crate) fn global_of(&self, id: Id) -> Option<(&'static str, Kind)> {
        match self.value(id) {
            Value::Global(name, kind) => Some((name, *kind)),
            _ => None,
        }
    }
}
