//! Classes and functions of libraries that make data and nothing else: `vetted.txt`, which `vetted.py` writes from their
//! sources.
//!
//! The rows are sorted, so that a search in the text is all it takes: nothing is built at the start.

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
    if module.starts_with('#') || name.is_empty() || name.contains([' ', '|']) {
        return None;
    }
    let names = row(module)?.as_bytes();
    let is_whole = |at: &usize| {
        let before = at.checked_sub(1).and_then(|before| names.get(before));
        let after = names.get(at + name.len());
        [before, after].iter().all(|beside| beside.is_none_or(|byte| *byte == b' '))
    };
    let at = memchr::memmem::find_iter(names, name.as_bytes()).find(is_whole)?;
    let is_made = names.get(..at).is_some_and(|before| memchr::memchr(b'|', before).is_some());
    Some(if is_made { Vetted::Made } else { Vetted::Called })
}

/// The names of a module, by halving.
fn row(module: &str) -> Option<&'static str> {
    let mut rows = ROWS;
    while !rows.is_empty() {
        let begin = begin_of_line(rows, rows.len() / 2);
        let (before, rest) = rows.split_at_checked(begin)?;
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let (found, names) = line.split_once(' ').unwrap_or((line, ""));
        match found.cmp(module) {
            std::cmp::Ordering::Equal => return Some(names),
            std::cmp::Ordering::Less => rows = after,
            std::cmp::Ordering::Greater => rows = before,
        }
    }
    None
}

fn begin_of_line(text: &str, end: usize) -> usize {
    text.as_bytes().iter().take(end).rposition(|b| *b == b'\n').map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found() {
        let mut rows = 0;
        for line in ROWS.lines().filter(|line| !line.starts_with('#')) {
            let (module, names) = line.split_once(' ').unwrap();
            assert_eq!(row(module), Some(names), "{module}");
            rows += 1;
        }
        assert!(rows > 1000, "{rows} rows");
        for module in ["", "#", "a", "torch", "timm.modelsx", "zzz", "\u{e9}"] {
            assert!(
                ROWS.lines().any(|line| line.starts_with(&format!("{module} "))) || row(module).is_none(),
                "{module}"
            );
        }
    }

    #[test]
    fn comments_are_no_rows() {
        assert_eq!(find("#", "do"), None);
    }

    #[test]
    fn the_table_is_as_long_as_it_says() {
        let names = ROWS.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.split(' ').skip(1));
        assert!(names.filter(|name| *name != "|").count() >= 1500);
    }
}
