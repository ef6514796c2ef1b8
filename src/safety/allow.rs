//! Globals that a project vouches for: unknown ones count as known, a dangerous one only under its exact name.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::examine::{Examined, SortedGlobal};
use super::finding::{Finding, Severity};
use super::globals::Status;
use crate::checkpoint::near::{near, not_there};
use crate::checkpoint::resolve::{Matcher, Reach};
use crate::error::{Error, Result};
use crate::message::{Message, Setting};

/// Names of globals that are kept, for a list of the unknown ones and for hints.
const MAX_KEPT: usize = 100_000;
/// Bytes of a list.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// Globs without a match that are told one by one.
const MAX_TOLD: usize = 8;

/// One glob, and whether it has matched.
#[derive(Debug)]
struct Rule {
    glob: String,
    matcher: Matcher,
    /// Whether it is an error when it matches nothing.
    must_match: bool,
    has_matched: AtomicBool,
}

/// What is allowed, and what was met of it in all inputs so far.
#[derive(Debug, Default)]
pub struct Allow {
    rules: Vec<Rule>,
    met: Mutex<Met>,
}

#[derive(Debug, Default)]
struct Met {
    unknown: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl Allow {
    /// Takes in a glob; says what is wrong with one that is none.
    pub fn add(&mut self, glob: &str, must_match: bool) -> Result<(), String> {
        let matcher = Matcher::of_glob(glob, Reach::Names)?;
        self.rules.push(Rule { glob: glob.to_owned(), matcher, must_match, has_matched: AtomicBool::new(false) });
        Ok(())
    }

    /// Takes in a list: one glob on each line, `#` begins a comment. Says which line is none.
    pub fn add_list(&mut self, text: &str) -> Result<(), String> {
        for (number, line) in text.lines().enumerate() {
            let glob = line.split('#').next().unwrap_or_default().trim();
            if !glob.is_empty() {
                self.add(glob, false).map_err(|why| format!("line {}: invalid glob {glob:?}: {why}", number + 1))?;
            }
        }
        Ok(())
    }

    /// Takes in a list that a file holds. Errors name it.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let mut add = || {
            let mut text = String::new();
            fs::File::open(path)?.take(MAX_LIST_BYTES.saturating_add(1)).read_to_string(&mut text)?;
            if text.len() as u64 > MAX_LIST_BYTES {
                return Err(Error::refused(format!(
                    "has more than {MAX_LIST_BYTES} bytes, too many for a list of globs"
                )));
            }
            self.add_list(&text).map_err(Error::refused)
        };
        add().map_err(|e: Error| e.of_part(&path.display().to_string()))
    }

    /// Marks what is allowed of an examined file, takes back what was found about it, and gives the dangerous globals that
    /// only globs match: they stay what they are.
    pub(crate) fn apply(&self, examined: &mut Examined) -> Vec<String> {
        let (mut taken_back, mut added, mut refused) = (BTreeSet::new(), Vec::new(), Vec::new());
        for global in &mut examined.globals {
            let (is_matched, is_exact) = self.matches(&global.name);
            let finding = global.finding();
            match global.status {
                Status::Unknown if is_matched => {
                    (global.status, global.allowed) = (Status::Known, true);
                    taken_back.extend(finding.map(|finding| (finding.message, finding.place)));
                }
                Status::Dangerous(why) if is_exact => {
                    global.allowed = true;
                    taken_back.extend(finding.map(|finding| (finding.message, finding.place)));
                    let message = format!("{} is allowed by its name: it {why}", global.name);
                    added.push(Finding::new(Severity::Info, "global-allowed", message, &global.used.place));
                }
                Status::Dangerous(_) if is_matched => refused.push(global.name.clone()),
                _ => {}
            }
            self.keep(global);
        }
        if !taken_back.is_empty() {
            let is_taken_back = |finding: &Finding| {
                finding.code.starts_with("global-")
                    && taken_back.contains(&(finding.message.clone(), finding.place.clone()))
            };
            examined.findings.retain(|finding| !is_taken_back(finding));
        }
        examined.findings.extend(added);
        refused
    }

    /// Whether a rule matches, and whether one is the very name.
    fn matches(&self, name: &str) -> (bool, bool) {
        let (mut is_matched, mut is_exact) = (false, false);
        for rule in &self.rules {
            let exact = rule.glob == name;
            if exact || rule.matcher.matches(name) {
                rule.has_matched.store(true, Ordering::Relaxed);
                (is_matched, is_exact) = (true, is_exact || exact);
            }
        }
        (is_matched, is_exact)
    }

    fn keep(&self, global: &SortedGlobal) {
        let Ok(mut met) = self.met.lock() else { return };
        let is_unknown = global.status == Status::Unknown;
        let names = if is_unknown { &mut met.unknown } else { &mut met.others };
        if names.len() < MAX_KEPT && !names.contains(&global.name) {
            names.insert(global.name.clone());
        }
    }

    /// What is wrong with globs that had to match something and did not.
    pub(crate) fn unmatched(&self) -> Option<Message> {
        let idle = |rule: &&Rule| rule.must_match && !rule.has_matched.load(Ordering::Relaxed);
        let idle: Vec<&Rule> = self.rules.iter().filter(idle).take(MAX_TOLD).collect();
        let names = if idle.is_empty() { Vec::new() } else { self.names() };
        let told = idle.into_iter().map(|Rule { glob, .. }| {
            let near = near(glob, names.iter().map(String::as_str));
            not_there("global", glob, Some(Setting::Allow), &near)
        });
        Some(Message::joined(told, "; ")).filter(|told| *told != Message::default())
    }

    /// The globals that nothing is known of, over all inputs, as a list for [`Allow::add_list`].
    pub(crate) fn list_of_unknown(&self) -> String {
        let mut text = String::from("# Globals that ckpt check does not know. Review each before you allow it.\n");
        let Ok(met) = self.met.lock() else { return text };
        // what would be a pattern, a comment or several lines as it stands is for nobody to allow by a list
        for name in met.unknown.iter().filter(|name| !name.contains(['#', '\n', '\r', '*', '?', '[', '{', '\\'])) {
            text.push_str(name);
            text.push('\n');
        }
        text
    }

    /// All globals of all inputs, those that nothing is known of first.
    fn names(&self) -> Vec<String> {
        self.met.lock().map(|met| met.unknown.iter().chain(&met.others).cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_comments_and_empty_lines() {
        let mut allow = Allow::default();
        allow.add_list("# ours\n\nmodels.*  # all of them\n  train.Config\n").unwrap();
        assert_eq!(allow.matches("models.net.Net"), (true, false));
        assert_eq!(allow.matches("train.Config"), (true, true));
        assert_eq!(allow.matches("train.Other"), (false, false));
        assert_eq!(allow.unmatched(), None);
        assert!(allow.add_list("a\n[").unwrap_err().starts_with("line 2: "));
    }
}
