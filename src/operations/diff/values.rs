//! Values of one name that are no tensors, and how both are shown when they differ.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use super::comparing::Comparing;
use super::pairs::Pairing;
use super::side::{Aligned, MAX_SHOWN_CHARS, Side, What};
use crate::checkpoint::equality::Equality;
use crate::checkpoint::names::{Element, join};
use crate::error::Result;
use crate::report::diff::{Diff, ValueChange};

/// Differences of long values are looked for in so much of their `repr`.
const MAX_REPR_CHARS: usize = 64 << 10;
/// What is shown of the common beginning of two long values.
const CONTEXT_CHARS: usize = 12;

/// Values of one side where the other has a tensor, by their places in the lists of what one side has.
#[derive(Debug, Default)]
pub(crate) struct NoTensors {
    pub a: HashSet<usize>,
    pub b: HashSet<usize>,
}

impl Comparing<'_> {
    /// Writes what is not about tensors alone into `diff`. Gives the keys that have a tensor in B and something else in A,
    /// where that is what counts.
    pub(crate) fn compare_others(&self, diff: &mut Diff) -> NoTensors {
        if !self.criteria.load {
            self.compare_keys(diff);
            self.compare_values(diff);
            return NoTensors::default();
        }
        let mut found = NoTensors::default();
        let wanted =
            self.tensors.only_b.iter().filter_map(|index| Some((&self.right.tensors.get(*index)?.name, *index)));
        let wanted: HashMap<&String, usize> = wanted.collect();
        for index in &self.values.only_a {
            let Some(value) = self.left.values.get(*index) else { continue };
            let Some((place, tensor)) =
                wanted.get(&value.name).and_then(|at| Some((*at, self.right.tensors.get(*at)?)))
            else {
                continue;
            };
            let [class, _] = self.left.shown(value);
            let shown = [class, self.right.shown(tensor).join(" ")];
            let [a, b] = shown.clone().map(Json::String);
            diff.values.push(ValueChange { name: value.name.clone(), a, b, shown });
            found.a.insert(*index);
            found.b.insert(place);
        }
        found
    }

    /// Writes where one side has a key and the other has another that looks like it: `0` and `'0'`.
    fn compare_keys(&self, diff: &mut Diff) {
        let pairs = |pairing: &Pairing, left: &[Aligned], right: &[Aligned], found: &mut Vec<ValueChange>| {
            let mut told = HashSet::new();
            for (a, b) in pairing.both.iter().filter_map(|(a, b)| left.get(*a).zip(right.get(*b))) {
                let Some((name, shown)) = other_key(&a.path, &b.path) else { continue };
                if told.insert(name.clone()) {
                    let [a, b] = shown.clone().map(Json::String);
                    found.push(ValueChange { name, a, b, shown });
                }
            }
        };
        if self.criteria.keys_count {
            let mut found = Vec::new();
            pairs(&self.tensors, &self.left.tensors, &self.right.tensors, &mut found);
            pairs(&self.values, &self.left.values, &self.right.values, &mut found);
            let mut told = HashSet::new();
            found.retain(|change| told.insert(change.name.clone()));
            diff.values.extend(found);
        }
    }

    /// Writes which values differ into `diff`, in file order.
    fn compare_values(&self, diff: &mut Diff) {
        let pairs = self.values.both.iter();
        for (a, b) in pairs.filter_map(|(a, b)| self.left.values.get(*a).zip(self.right.values.get(*b))) {
            match self.value_change(a, b) {
                Ok(Some(change)) if self.criteria.values_count => diff.values.push(change),
                Ok(_) => diff.same_values += 1,
                Err(e) => diff.problems.push(self.left.problem(a, &e)),
            }
        }
    }

    /// How two values of one name differ, if they do. Fails when one cannot be read.
    fn value_change(&self, a: &Aligned, b: &Aligned) -> Result<Option<ValueChange>> {
        let (x, y) = (self.left.checkpoint.objects(), self.right.checkpoint.objects());
        let same = match (&a.what, &b.what) {
            (What::Value, What::Value) => {
                let (options, limits) = (&self.criteria.elements, &self.criteria.limits);
                Equality { a: x, b: y, options, limits }.same(a.node, b.node)?
            }
            (What::Module(a), What::Module(b)) => a == b,
            (What::Recursion, What::Recursion) => x.type_name(a.node) == y.type_name(b.node),
            _ => false,
        };
        Ok((!same).then(|| {
            let reprs = [repr(&self.left, a), repr(&self.right, b)];
            let shown = shorten(&reprs);
            let [a_json, b_json] = match (json(&self.left, a), json(&self.right, b)) {
                (Some(a), Some(b)) if a != b => [a, b],
                _ => [Json::String(shown[0].clone()), Json::String(shown[1].clone())],
            };
            ValueChange { name: a.name.clone(), a: a_json, b: b_json, shown }
        }))
    }
}

/// The first element of two paths that is of another type, with the name that ends there. Where a name is split in another
/// way, it is the same name.
fn other_key(a: &[Element], b: &[Element]) -> Option<(String, [String; 2])> {
    let kind = |element: &Element| std::mem::discriminant(element);
    let at = a.iter().zip(b).position(|(a, b)| kind(a) != kind(b)).filter(|_| a.len() == b.len())?;
    let shown = |element: &Element| match element {
        Element::Text(text) => format!("key {text:?}"),
        other => format!("key {other}"),
    };
    Some((join(a.get(..=at)?), [shown(a.get(at)?), shown(b.get(at)?)]))
}

/// The value as JSON, where that is exact.
fn json(side: &Side<'_>, named: &Aligned) -> Option<Json> {
    if let What::Module(class) = &named.what {
        return Some(Json::String(class.clone()));
    }
    let value = side.checkpoint.objects().value(named.node, 1)?;
    (!value.json.is_null() || value.type_name == "NoneType").then_some(value.json)
}

fn repr(side: &Side<'_>, named: &Aligned) -> String {
    match &named.what {
        What::Module(class) => class.clone(),
        What::Recursion => "...".to_owned(),
        _ => side.checkpoint.objects().repr(named.node, MAX_REPR_CHARS),
    }
}

/// Both as they are, or long ones from a little before they differ on.
fn shorten(reprs: &[String; 2]) -> [String; 2] {
    let [a, b] = reprs;
    let common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let longest = a.chars().count().max(b.chars().count());
    let skip = if longest > MAX_SHOWN_CHARS { common.saturating_sub(CONTEXT_CHARS) } else { 0 };
    // a window that begins where nothing differs any more shows nothing
    let skip = if common == longest { 0 } else { skip };
    let mut shown = [a, b].map(|text| {
        let mut rest = text.chars().skip(skip);
        let window: String = rest.by_ref().take(MAX_SHOWN_CHARS).collect();
        let (head, tail) = (if skip > 0 { "..." } else { "" }, if rest.next().is_some() { "..." } else { "" });
        format!("{head}{window}{tail}")
    });
    if shown[0] == shown[1] {
        shown[1].push_str(" (not identical)");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shown_where_they_differ() {
        let short = ["3".to_owned(), "5".to_owned()];
        assert_eq!(shorten(&short), short);
        let text = |middle: &str| format!("'{}{middle}{}'", "x".repeat(100), "y".repeat(100));
        let want = |middle: &str| format!("...{}{middle}{}...", "x".repeat(12), "y".repeat(47));
        assert_eq!(shorten(&[text("1"), text("2")]), [want("1"), want("2")]);
        assert_eq!(shorten(&["<a>".into(), "<a>".into()]), ["<a>", "<a> (not identical)"]);
        // one ends where the other goes on
        let [a, b] = shorten(&["x".repeat(100), "x".repeat(90)]);
        assert_eq!((a.as_str(), b.as_str()), ("...xxxxxxxxxxxxxxxxxxxxxx", "...xxxxxxxxxxxx"));
    }
}
