//! Calls that ask for more memory than a checkpoint needs, or never end: a number that says how much, an iterator that is
//! gone through to its end.
//!
//! What a call makes is estimated from the numbers and lengths that it is given; what is not known counts as nothing.

mod amounts;
mod makes;

use rustc_hash::FxHashMap;

use self::amounts::{ENDLESS, Values};
use self::makes::{Makes, makes};
use super::{Scanner, calls};
use crate::pickle::{Graph, NodeId};
use crate::safety::finding::Severity;

/// Memory that the calls of one pickle may ask for by numbers.
const MOST_BYTES: u64 = 1 << 30;
/// Elements that a call may go through without keeping them, or steps of arithmetic.
const MOST_STEPS: u64 = 1 << 32;

impl Scanner<'_> {
    /// The first call that is a bomb.
    pub(super) fn bombs(&mut self, graph: &Graph, place: &str) {
        let makers: FxHashMap<NodeId, Makes> = graph
            .ids()
            .filter_map(|id| {
                let (module, name) = graph.global(id)?;
                Some((id, makes(&module, &name)?))
            })
            .collect();
        if makers.is_empty() {
            return;
        }
        let mut values = Values { graph, made: FxHashMap::default() };
        let mut bytes = 0_u64;
        for id in graph.ids() {
            let Some(object) = graph.object(id) else { continue };
            let Some(how) = makers.get(&object.callable) else { continue };
            let amount = values.call(*how, object);
            values.made.insert(id, amount);
            bytes = bytes.saturating_add(amount.bytes);
            let call = || calls::call(graph, object).unwrap_or_default();
            let message = if amount.bytes == ENDLESS || amount.steps == ENDLESS {
                format!("{} never ends", call())
            } else if amount.steps > MOST_STEPS {
                format!("{} takes {} steps", call(), amount.steps)
            } else if bytes > MOST_BYTES {
                let others = if amount.bytes < bytes { ", with the calls before it" } else { "" };
                format!("{}{others} asks for {} of memory", call(), gibibytes(bytes))
            } else {
                continue;
            };
            return self.tell(Severity::Danger, "memory-bomb", message, place);
        }
    }
}

fn gibibytes(bytes: u64) -> String {
    match bytes.checked_shr(30) {
        Some(whole @ 10..) => format!("{whole} GiB"),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes & ((1 << 30) - 1)) * 10) >> 30),
    }
}
