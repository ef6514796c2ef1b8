//! File names made from tensor names: safe on every system, and each only once.

use std::collections::HashMap;

/// Bytes of a file name, extension and number included. Most file systems take 255.
const MAX_BYTES: usize = 200;
/// Names that Windows keeps for devices, with any extension.
const RESERVED: &[&str] = &["con", "prn", "aux", "nul", "com", "lpt", "conin$", "conout$"];

/// Gives out file names.
#[derive(Debug, Default)]
pub struct FileNames {
    /// Names given out, in lower case as some file systems do not tell cases apart, and the next number to try.
    taken: HashMap<String, u64>,
}

impl FileNames {
    /// A file name for `name` that has not been given out: no separators, no leading dot, no reserved name, of limited
    /// length. `extension` comes with its dot.
    pub fn make(&mut self, name: &str, extension: &str) -> String {
        let stem = safe(name, MAX_BYTES - extension.len());
        let key = (stem.clone() + extension).to_lowercase();
        let Some(next) = self.taken.get(&key).copied() else {
            self.taken.insert(key, 2);
            return stem + extension;
        };
        for number in next.. {
            let mark = format!("-{number}");
            let numbered = cut(&stem, MAX_BYTES - extension.len() - mark.len()).to_owned() + &mark + extension;
            let numbered_key = numbered.to_lowercase();
            if !self.taken.contains_key(&numbered_key) {
                self.taken.insert(key, number + 1);
                self.taken.insert(numbered_key, 2);
                return numbered;
            }
        }
        stem + extension
    }
}

fn safe(name: &str, max_bytes: usize) -> String {
    let keep = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '=' | '@');
    let mut stem: String = name.chars().map(|c| if keep(c) { c } else { '_' }).collect();
    let device = stem.split('.').next().unwrap_or_default().to_lowercase();
    let bare = device.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.is_empty() || stem.starts_with(['.', '-']) || RESERVED.contains(&bare) {
        stem.insert(0, '_');
    }
    cut(&stem, max_bytes).trim_end_matches('.').to_owned()
}

fn cut(text: &str, max_bytes: usize) -> &str {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_names() {
        let mut names = FileNames::default();
        for (name, file) in [
            ("features.0.weight", "features.0.weight.npy"),
            ("../../etc/passwd", "_.._.._etc_passwd.npy"),
            ("/abs", "_abs.npy"),
            ("a\\b:c*d?\"<>|\n\0", "a_b_c_d_______.npy"),
            (".hidden", "_.hidden.npy"),
            ("", "_.npy"),
            ("..", "_.npy"),
            ("CON", "_CON.npy"),
            ("nul.weight", "_nul.weight.npy"),
            ("com1", "_com1.npy"),
            ("component", "component.npy"),
            ("-rf", "_-rf.npy"),
            ("模型.权重", "模型.权重.npy"),
            ("txt\u{202e}gnp", "txt_gnp.npy"),
        ] {
            let mut fresh = FileNames::default();
            assert_eq!(fresh.make(name, ".npy"), file, "{name:?}");
            names.make(name, ".npy");
        }
        let long = "模".repeat(500);
        let first = names.make(&long, ".npy");
        let second = names.make(&long, ".npy");
        assert!(first.len() <= MAX_BYTES && second.len() <= MAX_BYTES && first != second);
    }

    #[test]
    fn unique_names() {
        let mut names = FileNames::default();
        let made: Vec<String> = ["a/b", "a_b", "A_B", "a_b-2", "a:b"].iter().map(|n| names.make(n, ".npy")).collect();
        assert_eq!(made, ["a_b.npy", "a_b-2.npy", "A_B-3.npy", "a_b-2-2.npy", "a_b-4.npy"]);
    }
}
