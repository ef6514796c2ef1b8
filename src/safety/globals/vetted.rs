//! Classes and functions of libraries that make data and nothing else: `vetted.txt`, which `vetted.py` writes from their
//! sources.
//!
//! The rows are sorted, and one in so many begins with its whole module: a search by halving finds that one, and what
//! follows it is read until the next. Nothing is built at the start.

/// What was found of a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vetted {
    /// Makes data, also when it is called.
    Called,
    /// Makes data as pickles make objects: without a call of the class.
    Made,
}

/// Lines of comments begin with `#`, which comes before any name.
const ROWS: &str = include_str!("vetted.txt");

/// What the table has on `name` in `module`.
pub(super) fn find(module: &str, name: &str) -> Option<Vetted> {
    let mut kind = Vetted::Called;
    let mut known = String::new();
    for word in row(module)?.split(' ') {
        if word == "|" {
            kind = Vetted::Made;
            known.clear();
            continue;
        }
        put_together(&mut known, word);
        if known == name {
            return Some(kind);
        }
    }
    None
}

/// The names of a module.
fn row(module: &str) -> Option<&'static str> {
    if !module.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    let mut known = String::new();
    for line in block(module)?.lines() {
        let (word, names) = line.split_once(' ').unwrap_or((line, ""));
        put_together(&mut known, word);
        match known.as_str().cmp(module) {
            std::cmp::Ordering::Equal => return Some(names),
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Greater => return None,
        }
    }
    None
}

/// Makes the module or name before a word to the one that the word means: the number before it says how many letters it has
/// from the one before.
fn put_together(known: &mut String, word: &str) {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let shared = word.strip_suffix(rest).and_then(|digits| digits.parse().ok());
    match shared.filter(|shared| known.is_char_boundary(*shared)) {
        Some(shared) => {
            known.truncate(shared);
            known.push_str(rest);
        }
        None => {
            known.clear();
            known.push_str(word);
        }
    }
}

/// The last line with a whole module that is not behind `module`, and all that follows it.
fn block(module: &str) -> Option<&'static str> {
    let (mut rows, mut found) = (ROWS, None);
    while !rows.is_empty() {
        let begin = begin_of_block(rows, rows.len() / 2);
        let (before, rest) = rows.split_at_checked(begin)?;
        let line = rest.lines().next().unwrap_or_default();
        let first = line.split(' ').next().unwrap_or_default();
        if first.starts_with('#') || first <= module {
            found = Some(rest).filter(|_| !first.starts_with('#')).or(found);
            // what belongs to this block is read later
            let next = end_of_block(rest);
            rows = rest.get(next..)?;
        } else {
            rows = before;
        }
    }
    found
}

/// Where the last line before `end` begins that has a whole module, or is a comment.
fn begin_of_block(text: &str, end: usize) -> usize {
    let mut at = begin_of_line(text, end);
    while at > 0 && text.as_bytes().get(at).is_some_and(u8::is_ascii_digit) {
        at = begin_of_line(text, at - 1);
    }
    at
}

/// Where the next line begins that has a whole module.
fn end_of_block(text: &str) -> usize {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if at > 0 && !line.starts_with(|c: char| c.is_ascii_digit()) {
            break;
        }
        at += line.len();
    }
    at
}

fn begin_of_line(text: &str, end: usize) -> usize {
    text.as_bytes().get(..end).and_then(|before| memchr::memrchr(b'\n', before)).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every module with its names, as the rows spell them.
    fn all() -> Vec<(String, &'static str)> {
        let mut known = String::new();
        let rows = ROWS.lines().filter(|line| !line.starts_with('#'));
        rows.map(|line| {
            let (word, names) = line.split_once(' ').unwrap();
            put_together(&mut known, word);
            (known.clone(), names)
        })
        .collect()
    }

    #[test]
    fn every_row_is_found() {
        let rows = all();
        assert!(rows.len() > 1000, "{} rows", rows.len());
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
        for (module, names) in &rows {
            assert_eq!(row(module), Some(*names), "{module}");
        }
        for module in ["", "#", "a", "timm.modelsx", "zzz", "\u{e9}", "2models", "torch.nn.modules.activatio"] {
            assert_eq!(row(module), None, "{module}");
        }
    }

    #[test]
    fn names_are_put_together() {
        let after = |before: &str, word: &str| {
            let mut known = before.to_owned();
            put_together(&mut known, word);
            known
        };
        assert_eq!(after("BertModel", "4Layer"), "BertLayer");
        assert_eq!(after("BertModel", "Bart"), "Bart");
        assert_eq!(find("timm.layers.drop", "DropPath"), Some(Vetted::Called));
        assert_eq!(find("timm.layers.drop", "4Path"), None);
        assert_eq!(find("timm.layers.drop", "|"), None);
        let names: usize = all().iter().map(|(_, names)| names.split(' ').filter(|name| *name != "|").count()).sum();
        assert!(names > 30_000, "{names}");
    }

    #[test]
    fn comments_are_no_rows() {
        assert_eq!(find("#", "do"), None);
    }
}
