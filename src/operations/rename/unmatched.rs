//! What is said of steps that change nothing: which names there are at that point, and which are near.

use std::collections::HashSet;

use super::Steps;
use crate::checkpoint::edit::rules::{Rules, Step};
use crate::checkpoint::edit::{RenamePlan, prefixes};
use crate::checkpoint::near::near;
use crate::error::Result;
use crate::message::{Message, Setting};
use crate::report::figures::counted;

/// What wrappers put before names.
const KNOWN_PREFIXES: [&str; 7] = [
    "module.",
    "_orig_mod.",
    "model.",
    "_forward_module.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
    "backbone.",
];
/// Rows of a table that an error lists.
const MAX_ROWS: usize = 5;

impl Steps<'_> {
    /// The names that a step sees: those that the steps before it have made.
    fn names_before(&self, step: usize) -> Result<Vec<String>> {
        let Some(names) = self.names else { return Ok(Vec::new()) };
        let before = Rules(self.rules.0.get(..step).unwrap_or_default().to_vec());
        names.with_takes(|takes| self.checkpoint.names_after(&names.root, &before, takes))
    }

    /// Says which step changes nothing although others do; of tables, which rows.
    pub(super) fn idle_step(&self, plan: &RenamePlan) -> Result<Option<Message>> {
        for (at, (named, effect)) in self.options.steps.iter().zip(&plan.effects).enumerate() {
            match &named.step {
                Step::Table(table) => {
                    let idle: Vec<&[u8]> =
                        table.keys().filter(|old| !effect.met.contains(*old)).map(Vec::as_slice).collect();
                    if !idle.is_empty() {
                        let names = self.names_before(at)?;
                        return Ok(Some(named.shown().text(": ").text(idle_rows(idle, &names, at))));
                    }
                }
                step if effect.changed == 0 => {
                    let names = self.names_before(at)?;
                    let why = why_idle(step, &names, at == 0);
                    let said = named.shown().text(" changes nothing: ").message(why);
                    return Ok(Some(said.text(self.at_that_point(at, step, &names)?)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// An example of the names that a later step sees, and whether the step would have found something earlier.
    fn at_that_point(&self, at: usize, step: &Step, names: &[String]) -> Result<String> {
        let Some(example) = names.first().filter(|_| at > 0) else { return Ok(String::new()) };
        let before = self.names_before(0)?;
        let alone = Rules(vec![step.clone()]);
        let would = before.iter().find(|name| alone.rename(name.as_bytes()) != name.as_bytes());
        let would = would.map(|name| format!("; it would match the original name {name:?}")).unwrap_or_default();
        Ok(format!("; the steps before it leave names like {example:?}{would}"))
    }

    /// Says that nothing matched, and what would.
    pub(super) fn why_nothing(&self, plan: &RenamePlan) -> Result<Message> {
        if plan.state_dicts == 0 {
            return Ok("no state dict found (no mapping of names to tensors)".into());
        }
        let names = self.names_before(0)?;
        Ok(match self.rules.0.as_slice() {
            [step @ Step::Table(table)] => {
                let is_idle = plan.effects.first().is_none_or(|effect| effect.met.is_empty());
                let idle = table.keys().map(Vec::as_slice).collect();
                if is_idle { idle_rows(idle, &names, 0).into() } else { why_idle(step, &names, true) }
            }
            [step] => why_idle(step, &names, true),
            _ if plan.effects.iter().any(|effect| effect.changed > 0) => {
                "nothing to rename: the steps undo each other".into()
            }
            _ => format!("no name would change; names look like {:?}", names.first().map_or("", String::as_str)).into(),
        })
    }
}

fn idle_rows(mut idle: Vec<&[u8]>, names: &[String], at: usize) -> String {
    idle.sort_unstable();
    let shown = idle.iter().take(MAX_ROWS).map(|row| {
        let row = String::from_utf8_lossy(row);
        // a row needs a whole name, no node above it
        let near = near(&row, names.iter().map(String::as_str)).into_iter().filter(|name| names.contains(name));
        let near = near.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
        if near.is_empty() { format!("{row:?}") } else { format!("{row:?} (near: {near})") }
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    let more = idle.len().saturating_sub(MAX_ROWS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let point = match names.first() {
        Some(example) if at > 0 => format!("; the steps before it leave names like {example:?}"),
        _ => String::new(),
    };
    format!("not found: {shown}{more}{point}")
}

/// Why a step finds nothing among these names, and which prefix would; else an `example` of them.
fn why_idle(step: &Step, names: &[String], example: bool) -> Message {
    let count = |step: Step| {
        let rules = Rules(vec![step]);
        names.iter().filter(|name| rules.rename(name.as_bytes()) != name.as_bytes()).count() as u64
    };
    let (what, prefix) = match step {
        Step::StripPrefix(prefix) => (format!("no name begins with {prefix:?}"), Some(prefix)),
        Step::StripAnywhere(prefix) => (format!("no name contains {prefix:?}"), None),
        Step::Replace { .. } => ("no name matches the pattern".to_owned(), None),
        _ => ("no name would change".to_owned(), None),
    };
    let mut hints: Vec<Message> = Vec::new();
    let mut said: HashSet<&str> = HashSet::new();
    if let Some(prefix) = prefix {
        let inside = count(Step::StripAnywhere(prefix.clone()));
        if inside > 0 {
            let inside = format!("{} with it inside: ", counted(inside, "name"));
            hints.push(Message::from(inside).setting(Setting::Anywhere));
        }
    }
    let begin = |count: u64, prefix: &str| {
        let begins = if count == 1 { "begins" } else { "begin" };
        Message::from(format!("{} {begins} with `{prefix}`", counted(count, "name")))
    };
    for known in KNOWN_PREFIXES.into_iter().filter(|_| !matches!(step, Step::Replace { .. })) {
        let found = count(Step::StripPrefix(known.to_owned()));
        if found > 0 && said.insert(known) {
            hints.push(begin(found, known));
        }
    }
    if let Step::StripPrefix(prefix) | Step::StripAnywhere(prefix) = step {
        let there = prefixes(prefix, names.iter().map(String::as_str));
        let nodes = there.iter().map(|(prefix, _)| prefix.trim_end_matches('.'));
        let like = near(prefix.trim_end_matches('.'), nodes);
        let counts = there.iter().filter(|(prefix, _)| like.iter().any(|like| *like == prefix.trim_end_matches('.')));
        hints.extend(counts.filter(|(prefix, _)| said.insert(prefix)).map(|(prefix, count)| begin(*count, prefix)));
    }
    let example = names
        .first()
        .filter(|_| example && hints.is_empty())
        .map(|name| Message::from(format!("names look like {name:?}")));
    hints.extend(example);
    if hints.is_empty() { what.into() } else { Message::from(what).text("; ").message(Message::joined(hints, ", ")) }
}
