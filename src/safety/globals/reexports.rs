//! What names in modules of Python and torch are that come from elsewhere: `reexports.txt`, which `reexports.py` writes
//! from their sources.

use std::collections::HashMap;
use std::sync::LazyLock;

/// By module and name; versions of Python differ.
static TABLE: LazyLock<HashMap<(&str, &str), Vec<&str>>> = LazyLock::new(|| {
    let mut table: HashMap<_, Vec<_>> = HashMap::new();
    for line in include_str!("reexports.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        if let Some((name, target)) = words.next().zip(words.next()) {
            for module in words {
                table.entry((module, name)).or_default().push(target);
            }
        }
    }
    table
});

/// What `name` in `module` is: a module, or a global of another. Several where versions of Python differ.
pub(super) fn origins(module: &str, name: &str) -> Vec<&'static str> {
    TABLE.get(&(module, name)).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_elsewhere() {
        assert_eq!(origins("random", "_os"), ["os"]);
        assert_eq!(origins("argparse", "_os"), ["os"]);
        assert_eq!(origins("collections", "_itemgetter"), ["operator.itemgetter"]);
        assert!(origins("collections", "Counter").is_empty());
        // of some versions of Python only, or of each another
        assert_eq!(origins("pathlib._local", "_StringGlobber"), ["glob._StringGlobber"]);
        assert_eq!(origins("random", "_urandom"), ["os.urandom"]);
        assert_eq!(origins("abc", "get_cache_token"), ["_abc.get_cache_token", "_py_abc.get_cache_token"]);
    }
}
