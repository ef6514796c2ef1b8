//! Names that somebody may have meant: the one search for all commands.
//!
//! The work is bounded whatever a file holds: names are looked at up to a length, each node of the tree once in a row,
//! and distances are computed as long as there is a budget.

use crate::checkpoint::resolve::{Matcher, Reach};
use crate::message::{Message, Setting};

/// Names that are shown.
const MAX_SHOWN: usize = 3;
/// Bytes of a name that are looked at.
const MAX_NAME_BYTES: usize = 1024;
/// Bytes of all names that are looked at.
const MAX_BYTES: usize = 64 << 20;
/// Words of a name that are tried for its beginning.
const MAX_WORDS: usize = 3;
/// Cells of distance tables that are filled.
const MAX_CELLS: usize = 16 << 20;

/// Names like `argument` among `names` and the nodes of their tree, nearest ones first; for a glob that matches nothing,
/// globs that do.
pub(crate) fn near<'a>(argument: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let globs = near_globs(argument, names.clone());
    if !globs.is_empty() {
        return globs;
    }
    let mut search = Search::of(argument);
    for_nodes(names, |node| search.hold_against(node));
    search.found.into_iter().map(|(_, name)| name).collect()
}

/// Calls `take` with every name and every node above one, those that come in a row once.
fn for_nodes<'a>(names: impl Iterator<Item = &'a str>, mut take: impl FnMut(&'a str)) {
    let mut last = "";
    let mut left = MAX_BYTES;
    for name in names {
        let Some(rest) = left.checked_sub(name.len()) else { return };
        left = rest;
        let same = name.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
        let dots = name.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(at, _)| at);
        let ends = dots.take_while(|at| *at <= MAX_NAME_BYTES).filter(|at| *at > 0 && *at >= same);
        for node in ends.filter_map(|end| name.get(..end)) {
            take(node);
        }
        take(name);
        last = name;
    }
}

struct Search {
    /// In lower case.
    wanted: String,
    counts: [u32; 256],
    dots: usize,
    cells: usize,
    /// With how unlike they are, nearest ones first.
    found: Vec<(usize, String)>,
}

impl Search {
    fn of(wanted: &str) -> Self {
        let wanted = wanted.to_lowercase();
        Search {
            counts: count_bytes(&wanted),
            dots: wanted.matches('.').count(),
            wanted,
            cells: MAX_CELLS,
            found: Vec::new(),
        }
    }

    fn hold_against(&mut self, candidate: &str) {
        let Some(distance) = self.distance(candidate) else { return };
        let worst = if self.found.len() < MAX_SHOWN { usize::MAX } else { self.found.last().map_or(0, |last| last.0) };
        if distance < worst && !self.found.iter().any(|(_, name)| name == candidate) {
            let at = self.found.partition_point(|(other, _)| *other <= distance);
            self.found.insert(at, (distance, candidate.to_owned()));
            self.found.truncate(MAX_SHOWN);
        }
    }

    /// How unlike two names are; `None` when nobody would take one for the other.
    fn distance(&mut self, candidate: &str) -> Option<usize> {
        let wanted = self.wanted.as_str();
        if wanted.is_empty() || candidate.is_empty() {
            return None;
        }
        let ends = |long: &str, short: &str| {
            let head = long.len().checked_sub(short.len()).filter(|head| *head > 0);
            let parts = head.and_then(|head| long.get(..head).zip(long.get(head..)));
            parts.is_some_and(|(head, tail)| head.ends_with('.') && tail.eq_ignore_ascii_case(short))
        };
        if candidate.eq_ignore_ascii_case(wanted) {
            return Some(0);
        }
        if ends(candidate, wanted) || ends(wanted, candidate) {
            return Some(1);
        }
        if candidate.len() > MAX_NAME_BYTES || wanted.len() > MAX_NAME_BYTES {
            return None;
        }
        let most = (wanted.chars().count() / 4).max(2);
        // of a short word every other is near
        let most = most.min(wanted.chars().count().saturating_sub(1));
        let fewer = most.min((wanted.chars().count() / 4).max(1));
        // of a longer name the end with as many elements may be what was meant
        let end = candidate.rmatch_indices('.').nth(self.dots).and_then(|(at, _)| candidate.get(at + 1..));
        if let Some(edits) = end.and_then(|end| self.edits(end, fewer)) {
            return Some(2 + edits);
        }
        if let Some(edits) = self.edits(candidate, most) {
            return Some(1 + edits);
        }
        // or its first words: `optimzer` of `optimizer_state_dict`
        let tail = end.unwrap_or(candidate);
        for head in tail.match_indices('_').take(MAX_WORDS).filter_map(|(at, _)| tail.get(..at)) {
            if let Some(edits) = self.edits(head, fewer) {
                return Some(3 + edits);
            }
        }
        let wanted = self.wanted.as_str();
        let contains = (3..candidate.len()).contains(&wanted.len())
            && memchr::memmem::find(candidate.as_bytes(), wanted.as_bytes()).is_some();
        contains.then(|| 2 + most + candidate.len() - wanted.len())
    }
}

impl Search {
    /// How many edits make one of the other, when they are at most so many.
    fn edits(&mut self, candidate: &str, most: usize) -> Option<usize> {
        let wanted = self.wanted.as_str();
        if candidate.len().abs_diff(wanted.len()) > 4 * most || fewest_edits(wanted, self.counts, candidate) > most {
            return None;
        }
        self.cells = self.cells.checked_sub(wanted.len() * candidate.len())?;
        Some(strsim::osa_distance(wanted, &candidate.to_lowercase())).filter(|edits| *edits <= most)
    }
}

/// How often each byte comes in a text, letters in any case.
fn count_bytes(text: &str) -> [u32; 256] {
    let mut counts = [0; 256];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte.to_ascii_lowercase())) {
            *count += 1;
        }
    }
    counts
}

/// As many edits are needed at least to make one text of another: bytes that one has more of.
fn fewest_edits(wanted: &str, mut counts: [u32; 256], candidate: &str) -> usize {
    let mut more = 0;
    for byte in candidate.bytes() {
        match counts.get_mut(usize::from(byte.to_ascii_lowercase())) {
            Some(count) if *count > 0 => *count -= 1,
            _ => more += 1,
        }
    }
    let less = (wanted.len() + more).saturating_sub(candidate.len());
    // characters of several bytes may change with one edit
    if wanted.is_ascii() && candidate.is_ascii() { more.max(less) } else { more.max(less) / 4 }
}

const META: [char; 6] = ['*', '?', '[', ']', '{', '}'];

/// The glob with its longest plain part replaced by one that names have.
fn near_globs<'a>(glob: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let runs = glob.split(META).map(|run| run.trim_matches('.')).filter(|run| run.len() > 1);
    let Some(run) = runs.max_by_key(|run| run.len()) else { return Vec::new() };
    if run == glob {
        return Vec::new();
    }
    let is_first = glob.starts_with(run);
    let parts = run.split('.').count();
    let mut search = Search::of(run);
    let mut left = MAX_BYTES;
    for name in names.clone() {
        let Some(rest) = left.checked_sub(name.len().saturating_mul(parts)) else { break };
        left = rest;
        let name = name.get(..MAX_NAME_BYTES).unwrap_or(name);
        let starts: Vec<usize> = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1)).collect();
        let windows = if is_first { 1 } else { starts.len() };
        for (at, start) in starts.iter().enumerate().take(windows) {
            let end = starts.get(at + parts).map_or(name.len(), |next| next - 1);
            if starts.len() < at + parts {
                break;
            }
            let Some(window) = name.get(*start..end).filter(|window| window.len() < 4 * run.len()) else {
                continue;
            };
            search.hold_against(window);
        }
    }
    // a glob is long enough to say which of several was meant
    let nearest = search.found.first().map_or(0, |found| found.0);
    let found = search.found.into_iter().filter(|(distance, _)| *distance <= nearest + 1);
    let globs = found.map(|(_, found)| glob.replacen(run, &found, 1));
    let matching = globs.filter(|glob| {
        Matcher::of_glob(glob, Reach::Names).is_ok_and(|matcher| names.clone().any(|name| matcher.matches(name)))
    });
    matching.collect()
}

/// Says that there is nothing of a name: `no element named `nope` (root); did you mean `node`?`.
pub(crate) fn not_there(what: &str, argument: &str, setting: Option<Setting>, near: &[String]) -> Message {
    let with_setting = |text: String| match setting {
        Some(setting) => Message::from(format!("{text} (")).setting(setting).text(")"),
        None => Message::from(text),
    };
    if let Err(why) = Matcher::of_glob(argument, Reach::Names) {
        return with_setting(format!("invalid glob {argument:?}")).text(format!(": {why}"));
    }
    let message = match argument.contains(META) {
        true => with_setting(format!("nothing matches `{argument}`")),
        false => with_setting(format!("no {what} named `{argument}`")),
    };
    let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    if near.is_empty() { message } else { message.text(format!("; did you mean {}?", near.join(" or "))) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn of(argument: &str, names: &[&str]) -> Vec<String> {
        near(argument, names.iter().copied())
    }

    #[test]
    fn names_that_somebody_meant() {
        let names = ["model.fc.weight", "model.fc.bias", "model.conv1.weight", "epoch", "optimizer_state_dict.lr"];
        assert_eq!(of("FC.weight", &names), ["model.fc.weight"]);
        assert_eq!(of("fc.wieght", &["fc.weight", "conv.bias"]), ["fc.weight"]);
        assert_eq!(of("fc.wieght", &names), ["model.fc.weight"]);
        assert_eq!(of("epoc", &names), ["epoch"]);
        assert_eq!(of("modle", &names), ["model"]);
        assert_eq!(of("model.conv2", &names), ["model.conv1"]);
        assert_eq!(of("optimizer", &names), ["optimizer_state_dict", "optimizer_state_dict.lr"]);
        assert_eq!(of("optimzer", &names), ["optimizer_state_dict"]);
        assert_eq!(of("modle", &["model_state_dict.fc.weight"]), ["model_state_dict"]);
        assert_eq!(of("state_dict.model.fc.bias", &names), ["model.fc.bias"]);
        assert_eq!(of("", &names), [""; 0]);
        assert_eq!(of("x", &["y", "z"]), [""; 0]);
        assert_eq!(of("blocks.0.", &["blocks.0.w"]), ["blocks.0", "blocks.0.w"]);
        assert_eq!(of("größe", &["grösse", "epoch"]), ["grösse"]);
    }

    #[test]
    fn globs_that_somebody_meant() {
        let names = ["model.fc.weight", "model.fc.bias", "optimizer.state.0"];
        assert_eq!(of("modle.*", &names), ["model.*"]);
        assert_eq!(of("*.wieght", &names), ["*.weight"]);
        assert_eq!(of("*.fk.*", &names), ["*.fc.*"]);
        assert_eq!(of("Model.FC.*", &names), ["model.fc.*"]);
        assert_eq!(of("optimzer*", &["optimizer_state_dict.lr"]), ["optimizer_state_dict*"]);
        assert_eq!(of("*zzzz*", &names), [""; 0]);
        assert_eq!(of("[", &names), [""; 0]);
    }

    #[test]
    fn hostile_names_take_no_time() {
        let dots = "a.".repeat(500_000);
        let long = "b".repeat(2_000_000);
        let mut names: Vec<String> = (0..50_000).map(|at| format!("encoder.layers.{at}.attention.weight")).collect();
        names.extend([dots, long.clone()]);
        let start = Instant::now();
        let all = || names.iter().map(String::as_str);
        assert!(!near("encoder.layers.77.atention.weihgt", all()).is_empty());
        for argument in [long.as_str(), "*.atention.*", "a.a.a.a.a.a.b", "encodre.*.weight"] {
            near(argument, all());
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }

    #[test]
    fn what_is_said() {
        assert_eq!(not_there("element", "nope", None, &[]).to_string(), "no element named `nope`");
        let near = ["node".to_owned(), "note".to_owned()];
        assert_eq!(
            not_there("element", "nope", Some(Setting::Root), &near).to_string(),
            "no element named `nope` (root); did you mean `node` or `note`?"
        );
        assert_eq!(
            not_there("element", "n*", None, &near[..1]).to_string(),
            "nothing matches `n*`; did you mean `node`?"
        );
        assert!(
            not_there("element", "[", Some(Setting::Include), &[])
                .to_string()
                .starts_with(r#"invalid glob "[" (include): "#)
        );
    }
}
