//! What happens to one name: prefixes added and removed, patterns, tables, one after the other.

use std::collections::HashMap;

use regex::bytes::Regex;

use crate::container::ordered::Ordered;
/// One step. Names are bytes: Python's UTF-8, in which lone surrogates may stand.
#[derive(Debug, Clone)]
pub enum Step {
    /// Puts something before every name.
    AddPrefix(String),
    /// Removes it where a name begins with it.
    StripPrefix(String),
    /// Removes it wherever an element of a name begins with it.
    StripAnywhere(String),
    /// Replaces what matches: once, or everywhere.
    Replace {
        /// The pattern.
        pattern: Regex,
        /// With `${1}` for what its groups matched.
        with: String,
        /// Every match, not the first one only.
        all: bool,
    },
    /// Renames what the table has.
    Table(HashMap<Vec<u8>, Vec<u8>>),
}

/// Steps, each of which takes what the one before it gave.
#[derive(Debug, Clone, Default)]
pub struct Rules(pub Vec<Step>);

impl Rules {
    /// The new name.
    pub fn rename(&self, name: &[u8]) -> Vec<u8> {
        self.0.iter().fold(name.to_vec(), |name, step| step.rename(name))
    }

    /// What each step makes of a name, the last one's at the end.
    pub(crate) fn trace(&self, name: &[u8]) -> Vec<Vec<u8>> {
        let mut trace: Vec<Vec<u8>> = Vec::with_capacity(self.0.len());
        for step in &self.0 {
            let before = trace.last().map_or(name, Vec::as_slice).to_vec();
            trace.push(step.rename(before));
        }
        trace
    }

    /// The new path of a module (a key of `_metadata`): what becomes of the names below it. The root is empty.
    pub fn rename_module(&self, path: &[u8]) -> Vec<u8> {
        self.0.iter().fold(path.to_vec(), |path, step| step.rename_module(path))
    }
}

impl Step {
    fn rename(&self, mut name: Vec<u8>) -> Vec<u8> {
        match self {
            Step::AddPrefix(prefix) => [prefix.as_bytes(), &name].concat(),
            Step::StripPrefix(prefix) => {
                if name.starts_with(prefix.as_bytes()) {
                    name.drain(..prefix.len());
                }
                name
            }
            Step::StripAnywhere(prefix) => strip_anywhere(&name, prefix.as_bytes()),
            Step::Replace { pattern, with, all } => replace(&name, pattern, with.as_bytes(), *all),
            Step::Table(table) => table.get(&name).cloned().unwrap_or(name),
        }
    }

    /// A module `fc` stands for the names that begin with `fc.`; the root stands for all.
    fn rename_module(&self, path: Vec<u8>) -> Vec<u8> {
        if let Step::Table(table) = self {
            return module_by_table(table, &path).unwrap_or(path);
        }
        let is_root = path.is_empty();
        let names = if is_root { Vec::new() } else { [&path[..], b"."].concat() };
        let renamed = self.rename(names);
        match renamed.strip_suffix(b".") {
            Some(module) => module.to_vec(),
            // no whole module any more: it keeps its path, but for the root that all of them have become
            None if renamed.is_empty() => renamed,
            None => path,
        }
    }
}

/// Where a table sends the names directly in a module, when it sends them all to one other module.
fn module_by_table(table: &HashMap<Vec<u8>, Vec<u8>>, path: &[u8]) -> Option<Vec<u8>> {
    let split = |name: &[u8]| -> (Vec<u8>, Vec<u8>) {
        match name.iter().rposition(|byte| *byte == b'.') {
            Some(dot) => {
                let (parent, leaf) = name.split_at(dot);
                (parent.to_vec(), leaf.get(1..).unwrap_or_default().to_vec())
            }
            None => (Vec::new(), name.to_vec()),
        }
    };
    let mut found = None;
    for (old, new) in table {
        let ((old_parent, old_leaf), (new_parent, new_leaf)) = (split(old), split(new));
        if old_parent != path {
            continue;
        }
        if old_leaf != new_leaf || found.as_ref().is_some_and(|found| *found != new_parent) {
            return None;
        }
        found = Some(new_parent);
    }
    found
}

fn strip_anywhere(name: &[u8], prefix: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    // an element begins at the beginning and after each dot
    let mut begins = true;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(prefix).filter(|_| begins && !prefix.is_empty()) {
            rest = after;
            begins = prefix.ends_with(b".");
            continue;
        }
        out.push(byte);
        begins = byte == b'.';
        rest = tail;
    }
    out
}

/// Replaces the first match or all of them, but none that is empty inside a character: those the bytes' matcher sees.
fn replace(name: &[u8], pattern: &Regex, with: &[u8], all: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = 0;
    for captures in pattern.captures_iter(name) {
        let Some(found) = captures.get(0) else { continue };
        let inside = name.get(found.start()).is_some_and(|byte| byte & 0xc0 == 0x80);
        if found.is_empty() && inside {
            continue;
        }
        out.extend(name.get(rest..found.start()).unwrap_or_default());
        captures.expand(with, &mut out);
        rest = found.end();
        if !all {
            break;
        }
    }
    out.extend(name.get(rest..).unwrap_or_default());
    out
}

/// Reads `s/from/to/` with the flags `g` (all matches) and `i` (any case); any character may stand for the slash. In
/// `to`, `$1` and `\1` are what the groups matched. Says what is wrong with it.
pub fn parse_substitution(text: &str) -> Result<Step, String> {
    let mut chars = text.strip_prefix('s').ok_or("does not begin with `s`")?.chars();
    let delimiter = chars.next().filter(|c| !c.is_alphanumeric() && *c != '\\').ok_or("has no delimiter after `s`")?;
    let mut parts = vec![String::new()];
    while let Some(c) = chars.next() {
        let part = match c {
            c if c == delimiter => {
                parts.push(String::new());
                continue;
            }
            '\\' => match chars.next() {
                Some(next) if next == delimiter => next.to_string(),
                Some(next) => format!("\\{next}"),
                None => return Err("ends with a backslash".into()),
            },
            c => c.to_string(),
        };
        if let Some(last) = parts.last_mut() {
            last.push_str(&part);
        }
    }
    let [from, to, flags] = parts.as_slice() else {
        return Err(format!("is not of the form s{delimiter}from{delimiter}to{delimiter}"));
    };
    let (mut all, mut any_case) = (false, false);
    for flag in flags.chars() {
        match flag {
            'g' => all = true,
            'i' => any_case = true,
            other => return Err(format!("has the unknown flag {other:?}; use g or i")),
        }
    }
    // what matches text matches bytes, but not the other way round: `(?-u:.)` would cut characters
    let text = regex::RegexBuilder::new(from).case_insensitive(any_case).build();
    let pattern = text.and_then(|_| regex::bytes::RegexBuilder::new(from).case_insensitive(any_case).build());
    // the message shows the pattern over several lines; its last one says what is wrong
    let pattern = pattern.map_err(|e| {
        let text = e.to_string();
        format!(
            "is not a valid regular expression: {}",
            text.lines().last().unwrap_or_default().trim_start_matches("error: ")
        )
    })?;
    let with = replacement(to, &pattern)?;
    Ok(Step::Replace { pattern, with, all })
}

/// The replacement as the regex crate wants it: `${1}` for `$1` and `\1`.
fn replacement(to: &str, pattern: &Regex) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = to.chars().peekable();
    while let Some(c) = chars.next() {
        let group = match (c, chars.peek().copied()) {
            ('\\' | '$', Some(digit)) if digit.is_ascii_digit() => {
                chars.next();
                digit.to_string()
            }
            ('$', Some('{')) => {
                chars.next();
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                name
            }
            ('$', Some('$')) => {
                chars.next();
                out.push_str("$$");
                continue;
            }
            ('$', _) => {
                out.push_str("$$");
                continue;
            }
            ('\\', Some(next)) => {
                chars.next();
                out.push(next);
                continue;
            }
            (c, _) => {
                out.push(c);
                continue;
            }
        };
        let known = match group.parse::<usize>() {
            Ok(number) => number < pattern.captures_len(),
            Err(_) => pattern.capture_names().flatten().any(|name| name == group),
        };
        if !known {
            return Err(format!("refers to group {group:?}, which is not in the pattern"));
        }
        out.push_str(&format!("${{{group}}}"));
    }
    Ok(out)
}

/// Reads a table of names: a JSON object `{"old": "new"}`, or lines of two columns (tab, comma or blanks between them;
/// blank lines and those that begin with `#` are passed over). Says what is wrong with it.
pub fn parse_table(text: &str) -> Result<Step, String> {
    let mut table = HashMap::new();
    let mut add = |old: &str, new: &str| match table.insert(old.as_bytes().to_vec(), new.as_bytes().to_vec()) {
        Some(_) => Err(format!("names {old:?} twice")),
        None => Ok(()),
    };
    if text.trim_start().starts_with('{') {
        let object: Ordered<serde_json::Value> =
            serde_json::from_str(text).map_err(|e| format!("is not a JSON object of names: {e}"))?;
        if object.0.is_empty() {
            return Err(EMPTY.to_owned());
        }
        for (old, new) in &object.0 {
            add(old, new.as_str().ok_or_else(|| format!("maps {old:?} to something other than a string"))?)?;
        }
        return Ok(Step::Table(table));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let columns: Vec<&str> = match () {
            () if line.contains('\t') => line.split('\t').collect(),
            () if line.contains(',') => line.split(',').map(str::trim).collect(),
            () => line.split_whitespace().collect(),
        };
        let [old, new] = columns.as_slice() else {
            return Err(format!("line {number} does not have two columns"));
        };
        add(old, new)?;
    }
    if table.is_empty() { Err(EMPTY.to_owned()) } else { Ok(Step::Table(table)) }
}

/// What is wrong with a table without rows.
const EMPTY: &str = "has no names in it";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    fn run(step: &Step, name: &str) -> String {
        text(step.rename(name.as_bytes().to_vec()))
    }

    fn module(step: &Step, name: &str) -> String {
        text(step.rename_module(name.as_bytes().to_vec()))
    }

    #[test]
    fn prefixes() {
        let strip = Step::StripPrefix("module.".into());
        assert_eq!(run(&strip, "module.module.fc"), "module.fc");
        assert_eq!(run(&strip, "a.module.fc"), "a.module.fc");
        let anywhere = Step::StripAnywhere("_orig_mod.".into());
        assert_eq!(run(&anywhere, "model._orig_mod.fc._orig_mod.w"), "model.fc.w");
        assert_eq!(run(&anywhere, "_orig_mod._orig_mod.w"), "w");
        assert_eq!(run(&anywhere, "my_orig_mod.w"), "my_orig_mod.w", "not inside an element");
        assert_eq!(run(&Step::AddPrefix("net.".into()), "fc"), "net.fc");
    }

    #[test]
    fn modules_follow_their_names() {
        let strip = Step::StripPrefix("model.net.".into());
        let cases =
            [("", ""), ("model", "model"), ("model.net", ""), ("model.net.fc", "fc"), ("model.nets", "model.nets")];
        cases.iter().for_each(|(old, new)| assert_eq!(module(&strip, old), *new, "{old}"));
        let add = Step::AddPrefix("net.".into());
        assert_eq!((module(&add, ""), module(&add, "fc")), ("net".into(), "net.fc".into()));
        let anywhere = Step::StripAnywhere("_orig_mod.".into());
        assert_eq!(
            (module(&anywhere, "model._orig_mod"), module(&anywhere, "model")),
            ("model".into(), "model".into())
        );
        let leaf = parse_substitution(r"s/\.weight$/.w/").unwrap();
        assert_eq!((module(&leaf, "fc"), module(&leaf, "")), ("fc".into(), String::new()));
        let table = parse_table("a.fc.weight b.fc.weight\na.fc.bias b.fc.bias\nc.weight d.w\n").unwrap();
        assert_eq!(
            (module(&table, "a.fc"), module(&table, "c"), module(&table, "a")),
            ("b.fc".into(), "c".into(), "a".into())
        );
    }

    #[test]
    fn substitutions() {
        let run = |how: &str, name: &str| run(&parse_substitution(how).unwrap(), name);
        assert_eq!(run("s/a/b/", "aa"), "ba");
        assert_eq!(run("s/a/b/g", "aa"), "bb");
        assert_eq!(run("s/A/b/ig", "aa"), "bb");
        assert_eq!(run(r"s|^layers\.(\d+)\.|h.$1_|", "layers.12.fc"), "h.12_fc");
        assert_eq!(run(r"s/(fc)(\d)/\2\1x/", "fc1"), "1fcx");
        assert_eq!(run(r"s/(?P<n>fc)/${n}2/", "fc"), "fc2");
        assert_eq!(run(r"s/a\/b/c\/d$/", "a/b"), "c/d$");
        assert_eq!(run("s/^模/m/", "模.w"), "m.w");
        assert_eq!(run("s//-/g", "é模"), "-é-模-");
        assert_eq!(run(r"s/\b/_/", "模"), "_模");
        for (bad, why) in [
            ("a/b/", "begin with `s`"),
            ("s/a/b", "of the form"),
            ("s/a/b/x", "flag 'x'"),
            ("s/(/b/", "regular expression"),
            ("s/a/$1/", "group \"1\""),
            ("s/(?-u:.)/x/", "invalid UTF-8"),
            ("s", "delimiter"),
        ] {
            let e = parse_substitution(bad).unwrap_err();
            assert!(e.contains(why), "{bad}: {e}");
        }
    }

    #[test]
    fn tables() {
        for text in ["# old new\na b\n\nc d", "a\tb\r\nc\td\r\n", "a, b\nc,d\n", r#"{"a": "b", "c": "d"}"#] {
            let table = parse_table(text).unwrap();
            assert_eq!((run(&table, "a"), run(&table, "c"), run(&table, "x")), ("b".into(), "d".into(), "x".into()));
        }
        for (bad, why) in
            [("a b c", "line 1"), ("a b\na c", "twice"), ("{\"a\": 1}", "other than a string"), ("{", "JSON")]
        {
            assert!(parse_table(bad).unwrap_err().contains(why), "{bad}");
        }
    }
}
