//! What names in modules of Python and torch are that come from elsewhere: `reexports.txt`, which `reexports.py` writes
//! from their sources.

use std::collections::HashMap;
use std::sync::LazyLock;

/// By module and name.
static TABLE: LazyLock<HashMap<(&str, &str), &str>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    for line in include_str!("reexports.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        if let Some((name, target)) = words.next().zip(words.next()) {
            table.extend(words.map(|module| ((module, name), target)));
        }
    }
    table
});

/// What `name` in `module` is: a module, or a global of another.
pub(super) fn origin(module: &str, name: &str) -> Option<&'static str> {
    TABLE.get(&(module, name)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_elsewhere() {
        assert_eq!(origin("random", "_os"), Some("os"));
        assert_eq!(origin("argparse", "_os"), Some("os"));
        assert_eq!(origin("collections", "_itemgetter"), Some("operator.itemgetter"));
        assert_eq!(origin("collections", "Counter"), None);
    }
}
