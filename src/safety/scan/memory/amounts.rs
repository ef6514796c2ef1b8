//! How much a call makes, estimated from the numbers and lengths that it is given.

use rustc_hash::FxHashMap;

use super::makes::Makes;
use crate::pickle::{Change, Graph, Node, NodeId, Object};

/// What never ends.
pub(super) const ENDLESS: u64 = u64::MAX;
/// Bytes of a reference, and of a number.
const WORD: u64 = 8;
const FLOAT: u64 = 4;
/// Arguments that are looked at.
const MAX_ARGUMENTS: usize = 64;
/// What is known of a value.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Amount {
    /// Elements that it gives when it is gone through.
    items: u64,
    /// Bytes of all of them, for text; else a reference each.
    width: u64,
    /// The number that it is.
    number: Option<u64>,
    /// Memory that making it takes.
    pub(super) bytes: u64,
    /// Elements that making it goes through, or steps of arithmetic.
    pub(super) steps: u64,
}

/// The values of one pickle.
pub(super) struct Values<'g> {
    pub(super) graph: &'g Graph,
    /// What calls gave.
    pub(super) made: FxHashMap<NodeId, Amount>,
}

impl Values<'_> {
    fn of(&self, id: NodeId) -> Amount {
        let items = |items: usize, width| Amount { items: items as u64, width, ..Amount::default() };
        match self.graph.node(id) {
            Node::Object(_) => self.made.get(&id).copied().unwrap_or_default(),
            Node::Str(text) | Node::Bytes(text) | Node::ByteArray(text) => {
                Amount { items: self.graph.stored_len(*text), width: 1, ..Amount::default() }
            }
            Node::List(all) | Node::Set(all) => items(all.len(), WORD),
            Node::Tuple(all) | Node::FrozenSet(all) => items(self.graph.children(*all).len(), WORD),
            Node::Dict(all) => items(all.len(), WORD),
            Node::Float(value) if *value >= 1.0 => Amount { number: Some(whole(*value)), ..Amount::default() },
            Node::Int(_) | Node::Long(_) | Node::Bool(_) => {
                let number = self.graph.int_saturating(id).map(|value| u64::try_from(value).unwrap_or(0));
                Amount { number, ..Amount::default() }
            }
            _ => Amount::default(),
        }
    }

    fn is_made(&self, args: &[NodeId]) -> bool {
        args.iter().any(|arg| self.made.contains_key(arg))
    }

    fn number(&self, id: Option<&NodeId>) -> Option<u64> {
        self.of(*id?).number
    }

    /// The product of sizes: a number, or numbers in a sequence.
    fn sizes(&self, id: NodeId) -> Option<u64> {
        if let Some(number) = self.of(id).number {
            return Some(number);
        }
        let items = self.graph.sequence(id)?;
        self.product(items)
    }

    fn product(&self, items: &[NodeId]) -> Option<u64> {
        items.iter().take(MAX_ARGUMENTS).try_fold(1_u64, |n, item| Some(n.saturating_mul(self.of(*item).number?)))
    }

    /// The arguments of a call, those with a name last.
    fn arguments(&self, object: &Object) -> Vec<NodeId> {
        let args = self.graph.sequence(object.args).unwrap_or_default().iter().copied();
        let kwargs = object.kwargs.map(|kwargs| match self.graph.node(kwargs) {
            Node::Dict(entries) => entries.iter().map(|entry| entry.value).take(MAX_ARGUMENTS).collect(),
            _ => Vec::new(),
        });
        args.take(MAX_ARGUMENTS).chain(kwargs.unwrap_or_default()).collect()
    }

    pub(super) fn call(&self, how: Makes, object: &Object) -> Amount {
        let args = self.arguments(object);
        let amounts: Vec<Amount> = args.iter().map(|arg| self.of(*arg)).collect();
        let first = amounts.first().copied().unwrap_or_default();
        let second = amounts.get(1).copied().unwrap_or_default();
        let of_items = |items: u64| Amount { items, width: WORD, ..Amount::default() };
        // what is made of so many elements of so many bytes
        let array =
            |items: u64, width: u64| Amount { items, width, bytes: items.saturating_mul(width), ..Amount::default() };
        let most = || amounts.iter().map(|amount| amount.items).max().unwrap_or(0);
        let number = |number: u64| Amount { number: Some(number), ..Amount::default() };
        match how {
            // what the file holds itself is no more than that
            Makes::Bytes | Makes::Container if first.number.is_none() && !self.is_made(&args) => {
                Amount { items: first.items.max(second.items), width: WORD, ..Amount::default() }
            }
            Makes::Bytes => array(first.number.unwrap_or(first.items), 1),
            Makes::Container => array(first.items.max(second.items), WORD),
            Makes::Walk => Amount { steps: most(), ..Amount::default() },
            Makes::Count => of_items(ENDLESS),
            Makes::Repeat => of_items(second.number.unwrap_or(ENDLESS)),
            Makes::Cycle => {
                let items = if first.items > 0 { ENDLESS } else { 0 };
                Amount { steps: if first.items == ENDLESS { 0 } else { first.items }, ..of_items(items) }
            }
            Makes::Chain => of_items(amounts.iter().fold(0_u64, |sum, amount| sum.saturating_add(amount.items))),
            Makes::Zip => of_items(amounts.iter().map(|amount| amount.items).min().unwrap_or(0)),
            Makes::Slice => {
                let stop = if args.len() > 2 { number_at(&amounts, 2) } else { second.number };
                of_items(first.items.min(stop.unwrap_or(ENDLESS)))
            }
            Makes::Range => of_items(self.span(&args, &amounts)),
            Makes::Product => {
                let held = amounts.iter().fold(0_u64, |sum, amount| sum.saturating_add(amount.items));
                let items = amounts.iter().fold(1_u64, |n, amount| n.saturating_mul(amount.items));
                Amount { bytes: held.saturating_mul(WORD), ..of_items(items) }
            }
            Makes::Choices => {
                let (held, chosen) = (first.items, second.number.unwrap_or(first.items));
                // no smaller than half of what there is to choose, to this power, is near enough
                let items = (held / 2).max(1).saturating_pow(u32::try_from(chosen.min(held) / 2).unwrap_or(u32::MAX));
                Amount { bytes: held.saturating_mul(WORD), ..of_items(items) }
            }
            Makes::Shape(at) => {
                let items = args.get(at).and_then(|arg| self.sizes(*arg)).unwrap_or(0);
                // a dtype may be anything, and says how wide it is where it is wider than a byte
                let width = args.iter().skip(at + 1).map(|arg| self.width_of(*arg)).max();
                array(items, width.unwrap_or(WORD).max(1))
            }
            Makes::Sizes => {
                let items = self.sizes_in(&args);
                array(items, if object_is_storage(self.graph, object) { 1 } else { FLOAT })
            }
            Makes::Square => {
                let rows = first.number.unwrap_or(0);
                array(rows.saturating_mul(second.number.unwrap_or(rows)), FLOAT)
            }
            Makes::Steps => array(self.span(&args, &amounts), WORD),
            Makes::Spaces => array(number_at(&amounts, 2).unwrap_or(0), WORD),
            Makes::Sides => {
                let sides = args.first().and_then(|arg| self.graph.sequence(*arg)).unwrap_or_default();
                let longest = sides.iter().take(2).filter_map(|side| self.of(*side).number).max();
                array(longest.unwrap_or(0), FLOAT)
            }
            Makes::Layer => array(
                amounts.iter().filter_map(|a| a.number).filter(|n| *n > 0).fold(1_u64, u64::saturating_mul),
                FLOAT,
            ),
            Makes::Repeated => {
                let times = args.get(1).and_then(|arg| self.sizes(*arg)).unwrap_or(0);
                array(first.items.max(1).saturating_mul(times), FLOAT)
            }
            Makes::Times => match (first.number, second.number) {
                (Some(a), Some(b)) => number(a.saturating_mul(b)),
                (Some(n), None) => array(second.items.saturating_mul(n), second.width),
                (None, Some(n)) => array(first.items.saturating_mul(n), first.width),
                (None, None) => Amount::default(),
            },
            Makes::Sum => match (first.number, second.number) {
                (Some(a), Some(b)) => number(a.saturating_add(b)),
                _ => array(first.items.saturating_add(second.items), first.width.max(second.width)),
            },
            Makes::Power => self.power(first.number, second.number),
            Makes::Shift => match (first.number, second.number) {
                (Some(0), _) => number(0),
                (Some(a), Some(b)) => {
                    let bits = u32::try_from(b).unwrap_or(u32::MAX);
                    let value = if bits < a.leading_zeros() { a << bits } else { u64::MAX };
                    Amount { bytes: b / 8, ..number(value) }
                }
                _ => Amount::default(),
            },
            Makes::Format => {
                let width = args.first().map_or(0, |arg| self.digits(*arg));
                if first.number.is_some() { Amount::default() } else { array(width, 1) }
            }
            Makes::Spec => array(args.get(1).map_or(0, |arg| self.digits(*arg)), 1),
            Makes::Number => number(first.number.unwrap_or_else(|| args.first().map_or(0, |arg| self.digits(*arg)))),
            Makes::Fraction => {
                let text = args.first().and_then(|arg| self.graph.str(*arg)).unwrap_or_default();
                let exponent = text.rsplit_once(['e', 'E']).map_or("", |(_, exponent)| exponent);
                Amount { bytes: largest_number(exponent.as_bytes()) / 2, ..Amount::default() }
            }
            Makes::Dtype => Amount { number: None, width: self.dtype_width(object, &args), ..Amount::default() },
            Makes::Scalar => array(u64::from(args.len() < 2), first.width),
        }
    }

    /// The width of a dtype's element; 1 for what says nothing.
    fn width_of(&self, id: NodeId) -> u64 {
        match self.graph.node(id) {
            Node::Str(_) => self.graph.str(id).map_or(1, |text| text_width(&text)),
            Node::Object(_) => self.of(id).width.max(1),
            _ => 1,
        }
    }

    fn dtype_width(&self, object: &Object, args: &[NodeId]) -> u64 {
        let of_text = args.first().map_or(1, |arg| self.width_of(*arg));
        // the element's size is the sixth part of the state, where it is one of text or of fields
        let of_state = object.changes.iter().filter_map(|change| match change {
            Change::Build(state) => self.number(self.graph.tuple(*state)?.get(5)),
            _ => None,
        });
        of_state.fold(of_text, u64::max)
    }

    /// `range(stop)`, `range(start, stop, step)`: numbers below zero are not told apart from 0.
    fn span(&self, args: &[NodeId], amounts: &[Amount]) -> u64 {
        let at = |at: usize| args.get(at).and_then(|arg| self.graph.int_saturating(*arg));
        let (start, stop, step) = match args.len() {
            0 => return 0,
            1 => (0, at(0), 1),
            _ => (at(0).unwrap_or(0), at(1), at(2).unwrap_or(1)),
        };
        match stop {
            Some(stop) => {
                let (low, high) = if step < 0 { (stop, start) } else { (start, stop) };
                high.checked_sub(low).map_or(ENDLESS - 1, |span| u64::try_from(span).unwrap_or(0))
                    / step.unsigned_abs().max(1)
            }
            // one that a call gave, or a float
            None => amounts.get(usize::from(args.len() > 1)).and_then(|amount| amount.number).unwrap_or(0),
        }
    }

    /// Sizes that stand in a row, or in one sequence.
    fn sizes_in(&self, args: &[NodeId]) -> u64 {
        let sequence = args.iter().take(3).find_map(|arg| self.graph.sequence(*arg));
        if let Some(items) = sequence {
            return self.product(items).unwrap_or(0);
        }
        let numbers: Vec<u64> = args.iter().map_while(|arg| self.of(*arg).number).collect();
        if numbers.is_empty() { 0 } else { numbers.into_iter().fold(1, u64::saturating_mul) }
    }

    fn power(&self, base: Option<u64>, exponent: Option<u64>) -> Amount {
        let Some(base) = base else { return Amount::default() };
        let bits_of_base = u64::from(base.max(1).ilog2());
        // a factorial has no exponent, and about as many digits
        let bits = bits_of_base.saturating_mul(exponent.unwrap_or(base));
        let number = exponent.map(|exponent| base.saturating_pow(u32::try_from(exponent).unwrap_or(u32::MAX)));
        // numbers of so many digits are multiplied in more steps than they have
        let digits = bits / 30;
        Amount { bytes: bits / 8, steps: digits.saturating_mul(digits.isqrt()), number, ..Amount::default() }
    }

    /// The largest number in a text: a width in what `%` formats.
    fn digits(&self, id: NodeId) -> u64 {
        self.graph.str_or_bytes(id).map_or(0, |text| largest_number(text.as_bytes()))
    }
}

fn number_at(amounts: &[Amount], at: usize) -> Option<u64> {
    amounts.get(at).and_then(|amount| amount.number)
}

/// Storages that say nothing of their dtype have bytes.
fn object_is_storage(graph: &Graph, object: &Object) -> bool {
    graph.global(object.callable).is_some_and(|(_, name)| name.ends_with("Storage"))
}

/// A float as a count, the next smaller one.
fn whole(value: f64) -> u64 {
    format!("{:.0}", value.min(1e18)).parse().unwrap_or(0)
}

/// `S20`, `<U20`, `V20`, `a20`
fn text_width(text: &str) -> u64 {
    let code = text.trim_start_matches(['<', '>', '=', '|']);
    let each = match code.bytes().next() {
        Some(b'U') => 4,
        Some(b'S' | b'V' | b'a') => 1,
        _ => return 1,
    };
    largest_number(code.as_bytes()).saturating_mul(each).max(1)
}

fn largest_number(text: &[u8]) -> u64 {
    let runs = text.split(|b| !b.is_ascii_digit());
    let value = |run: &[u8]| run.iter().fold(0_u64, |n, b| n.saturating_mul(10).saturating_add(u64::from(b - b'0')));
    runs.map(value).max().unwrap_or(0)
}
