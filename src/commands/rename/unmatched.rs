//! What is said of steps that change nothing: which names there are at that point, and which are near.

use std::collections::HashSet;

use super::{Opened, counted};
use crate::checkpoint::edit::rules::{Rules, Step};
use crate::checkpoint::edit::{Plan, prefixes};
use crate::checkpoint::near::near;

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

impl Opened<'_> {
    /// The names that a step sees: those that the steps before it have made.
    fn names_before(&self, rules: &Rules, step: usize) -> anyhow::Result<Vec<String>> {
        let Some((root, filter)) = self.root_and_filter()? else { return Ok(Vec::new()) };
        let takes = |name: &str| filter.takes(name);
        let takes: Option<&dyn Fn(&str) -> bool> = if filter.takes_all() { None } else { Some(&takes) };
        let before = Rules(rules.0.get(..step).unwrap_or_default().to_vec());
        Ok(self.checkpoint.names_after(&root, &before, takes)?)
    }

    /// Says which step changes nothing although others do; of tables, which rows. `options` are the steps as they stand on
    /// the command line.
    pub(super) fn idle_step(&self, plan: &Plan, rules: &Rules, options: &[String]) -> anyhow::Result<Option<String>> {
        for (at, (step, effect)) in rules.0.iter().zip(&plan.effects).enumerate() {
            let option = options.get(at).map_or("", String::as_str);
            match step {
                Step::Table(table) => {
                    let idle: Vec<&[u8]> =
                        table.keys().filter(|old| !effect.met.contains(*old)).map(Vec::as_slice).collect();
                    if !idle.is_empty() {
                        let names = self.names_before(rules, at)?;
                        return Ok(Some(format!("{option}: {}", self.idle_rows(idle, &names, at))));
                    }
                }
                _ if effect.changed == 0 => {
                    let names = self.names_before(rules, at)?;
                    let why = self.why_idle(step, &names, at == 0)?;
                    return Ok(Some(format!(
                        "{option} changes nothing: {why}{}",
                        self.at_that_point(at, step, &names)?
                    )));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// An example of the names that a later step sees, and whether the step would have found something earlier.
    fn at_that_point(&self, at: usize, step: &Step, names: &[String]) -> anyhow::Result<String> {
        let Some(example) = names.first().filter(|_| at > 0) else { return Ok(String::new()) };
        let before = self.names_before(&Rules::default(), 0)?;
        let alone = Rules(vec![step.clone()]);
        let would = before.iter().find(|name| alone.rename(name.as_bytes()) != name.as_bytes());
        let would = would.map(|name| format!("; it would match the original name {name:?}")).unwrap_or_default();
        Ok(format!("; the steps before it leave names like {example:?}{would}"))
    }

    fn idle_rows(&self, mut idle: Vec<&[u8]>, names: &[String], at: usize) -> String {
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

    /// Says that nothing matched, and what would.
    pub(super) fn why_nothing(&self, plan: &Plan, rules: &Rules) -> anyhow::Result<String> {
        if plan.state_dicts == 0 {
            return Ok("no state dict found (no mapping of names to tensors)".into());
        }
        let names = self.names_before(rules, 0)?;
        match rules.0.as_slice() {
            [step @ Step::Table(table)] => {
                let idle = table.keys().map(Vec::as_slice).collect();
                let is_idle = plan.effects.first().is_none_or(|effect| effect.met.is_empty());
                Ok(if is_idle { self.idle_rows(idle, &names, 0) } else { self.why_idle(step, &names, true)? })
            }
            [step] => self.why_idle(step, &names, true),
            _ => match plan.effects.iter().position(|effect| effect.changed > 0) {
                Some(_) => Ok("nothing to rename: the steps undo each other".to_owned()),
                None => {
                    Ok(format!("no name would change; names look like {:?}", names.first().map_or("", String::as_str)))
                }
            },
        }
    }

    /// Why a step finds nothing among these names, and which prefix would; else an `example` of them.
    fn why_idle(&self, step: &Step, names: &[String], example: bool) -> anyhow::Result<String> {
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
        let mut hints = Vec::new();
        let mut said: HashSet<&str> = HashSet::new();
        if let Some(prefix) = prefix {
            let inside = count(Step::StripAnywhere(prefix.clone()));
            if inside > 0 {
                hints.push(format!("{} with it inside: --anywhere", counted(inside, "name")));
            }
        }
        let begin = |count: u64, prefix: &str| {
            let begins = if count == 1 { "begins" } else { "begin" };
            format!("{} {begins} with `{prefix}`", counted(count, "name"))
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
            let counts =
                there.iter().filter(|(prefix, _)| like.iter().any(|like| *like == prefix.trim_end_matches('.')));
            hints.extend(counts.filter(|(prefix, _)| said.insert(prefix)).map(|(prefix, count)| begin(*count, prefix)));
        }
        let example =
            names.first().filter(|_| example && hints.is_empty()).map(|name| format!("names look like {name:?}"));
        hints.extend(example);
        Ok(if hints.is_empty() { what } else { format!("{what}; {}", hints.join(", ")) })
    }
}
