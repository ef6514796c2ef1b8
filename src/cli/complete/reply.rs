//! Words as each shell hands them over and takes them back.

use std::io::{self, Write};

use clap_complete::Shell;

use super::{Offer, Word};

/// Characters that mean themselves in an unquoted word of bash.
const PLAIN: &str = "_-./:=@%+,~^";

/// A word without the shell's quotes. bash gives words as they were typed; `~/` means the home directory everywhere.
pub(super) fn unquoted(word: &str, shell: Shell) -> String {
    let home = |rest: &str| std::env::var("HOME").ok().map(|home| format!("{home}/{rest}"));
    let expanded = word.strip_prefix("~/").and_then(home);
    let word = expanded.as_deref().unwrap_or(word);
    if shell != Shell::Bash {
        return word.to_owned();
    }
    let (mut text, mut quote, mut chars) = (String::new(), None, word.chars());
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => text.extend(chars.next()),
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(end)) if c == end => quote = None,
            (c, _) => text.push(c),
        }
    }
    text
}

/// Says what to offer: a line `files`, `directories`, `words` or `open` (no blank follows), then a word on each line. `before`
/// is the part of the word that stands before what is offered, `current` the word as it was given.
pub(super) fn reply(
    offer: &Offer,
    before: &str,
    current: &str,
    breaks: &str,
    shell: Shell,
    out: &mut dyn Write,
) -> io::Result<()> {
    let words = match offer {
        Offer::Files => return writeln!(out, "files").and_then(|()| out.flush()),
        Offer::Directories => return writeln!(out, "directories").and_then(|()| out.flush()),
        Offer::Words(words) => words,
    };
    let typed = unquoted(current, shell);
    let value = typed.strip_prefix(before).unwrap_or_default();
    let fitting: Vec<&Word> = words.iter().filter(|word| word.value.starts_with(value)).collect();
    let is_open = fitting.iter().any(|word| word.is_open);
    writeln!(out, "{}", if is_open { "open" } else { "words" })?;
    for word in fitting {
        match shell {
            Shell::Bash => {
                if let Some(word) = for_bash(&format!("{before}{}", word.value), current, breaks) {
                    writeln!(out, "{word}")?;
                }
            }
            Shell::Zsh => {
                let value = word.value.replace('\\', "\\\\").replace(':', "\\:");
                writeln!(out, "{value}{}", described(":", &word.help))?;
            }
            _ => writeln!(out, "{before}{}{}", word.value, described("\t", &word.help))?,
        }
    }
    out.flush()
}

fn described(sign: &str, help: &str) -> String {
    if help.is_empty() { String::new() } else { format!("{sign}{}", help.lines().next().unwrap_or_default()) }
}

/// bash puts it in the place of what follows the last of its breaks, as it is: nothing of a name in a file may mean anything
/// to the shell. What would where a quote was begun is not offered.
fn for_bash(value: &str, current: &str, breaks: &str) -> Option<String> {
    if let Some(quote @ ('\'' | '"')) = current.chars().next() {
        let means = |c: char| c == quote || quote == '"' && matches!(c, '$' | '`' | '\\' | '!');
        return (!value.contains(means)).then(|| value.to_owned());
    }
    let is_break = |c: &char| matches!(c, ':' | '=') && breaks.contains(*c);
    let count = current.chars().filter(is_break).count();
    let mut places = value.char_indices().filter(|(_, c)| is_break(c)).map(|(at, _)| at + 1);
    let at = if count == 0 { 0 } else { places.nth(count - 1).unwrap_or(0) };
    let rest = value.get(at..).unwrap_or_default();
    let escaped = rest.chars().flat_map(|c| {
        let is_plain = c.is_alphanumeric() || PLAIN.contains(c) || !c.is_ascii();
        (!is_plain).then_some('\\').into_iter().chain([c])
    });
    Some(escaped.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_bash_lose_their_quotes() {
        for (word, text) in
            [(r"my\ model.pt", "my model.pt"), ("'a b", "a b"), (r#""a \"b" c"#, r#"a "b c"#), (r"'a\b'", r"a\b")]
        {
            assert_eq!(unquoted(word, Shell::Bash), text);
        }
        assert_eq!(unquoted(r"a\ b", Shell::Fish), r"a\ b");
    }

    #[test]
    fn bash_gets_what_follows_its_breaks() {
        let said = |value: &str, current: &str, breaks: &str| for_bash(value, current, breaks).unwrap_or_default();
        assert_eq!(said("--root=a b", "--root=a", "=:"), r"a\ b");
        assert_eq!(said("--root=a", "--root=", ""), "--root=a");
        assert_eq!(said("a:b=", "a:", ":="), "b=");
        assert_eq!(said("a b", "'a", ":="), "a b");
    }

    #[test]
    fn nothing_in_a_name_means_anything_to_bash() {
        assert_eq!(for_bash("$(touch x)", "", "").as_deref(), Some(r"\$\(touch\ x\)"));
        assert_eq!(for_bash("a;b", "a", "").as_deref(), Some(r"a\;b"));
        for (name, current) in [("a$(touch x)", "\"a"), ("a`b`", "\"a"), ("a\"b", "\"a"), ("a'b", "'a"), ("a!b", "\"a")]
        {
            assert_eq!(for_bash(name, current, ""), None, "{name}");
        }
        assert_eq!(for_bash("a$b", "'a", "").as_deref(), Some("a$b"));
    }
}
