//! Prefixes whose dot was forgotten: names that a step would leave with an empty element, or as two words in one.

use crate::checkpoint::edit::rules::Step;
use crate::pickle::text::{Encoding, lossy};

/// What is wrong with what a step makes of a name, and the prefix that was meant. `last` is what all the steps make of
/// the name that was `first`: an empty element that was there before, or that a later step takes away, is no fault.
pub(super) fn fault(step: &Step, before: &[u8], after: &[u8], first: &[u8], last: &[u8]) -> Option<String> {
    if before == after {
        return None;
    }
    let has_more = |than: &[u8], name: &[u8]| match empty_elements(name) {
        0 => false,
        empty => empty > empty_elements(than),
    };
    let is_empty = has_more(before, after) && has_more(first, last);
    let quote = |name: &[u8]| format!("{:?}", text(name));
    let meant = |prefix: &str| format!("; did you mean {prefix:?}?");
    match step {
        Step::AddPrefix(prefix) => {
            let whole = format!("{}.", prefix.trim_matches('.'));
            if is_empty {
                return Some(format!(
                    "{prefix:?} before {} makes {}, a name with an empty element{}",
                    quote(before),
                    quote(after),
                    if whole == "." { String::new() } else { meant(&whole) }
                ));
            }
            let glues = is_word(prefix.chars().next_back()) && is_word(text(before).chars().next());
            glues.then(|| {
                format!("{prefix:?} before {} makes one word of two: {}{}", quote(before), quote(after), meant(&whole))
            })
        }
        Step::StripPrefix(prefix) | Step::StripAnywhere(prefix) => {
            let whole = cut_word(step, prefix, before);
            if is_empty {
                let meant = if whole.as_deref() == Some(&format!("{prefix}.")) || has_element(before, prefix) {
                    meant(&format!("{prefix}."))
                } else {
                    String::new()
                };
                return Some(format!("without {prefix:?}, {} {}", quote(before), becomes(after)) + &meant);
            }
            let whole = whole.filter(|whole| whole.trim_end_matches('.') != prefix)?;
            Some(format!("{prefix:?} ends inside a word of {}{}", quote(before), meant(&whole)))
        }
        Step::Replace { .. } | Step::Table(_) => is_empty.then(|| format!("{} {}", quote(before), becomes(after))),
    }
}

/// What is wrong with taking a prefix off a name, and the prefix that was meant.
pub(crate) fn strip_fault(prefix: &str, before: &str, after: &str) -> Option<String> {
    let (before, after) = (before.as_bytes(), after.as_bytes());
    fault(&Step::StripPrefix(prefix.to_owned()), before, after, before, after)
}

fn becomes(after: &[u8]) -> String {
    match after {
        [] => "is left without a name".to_owned(),
        after => format!("becomes {:?}, a name with an empty element", text(after)),
    }
}

fn text(name: &[u8]) -> String {
    lossy(name.into(), Encoding::Utf8).into_owned()
}

/// `.conv1.weight` and `model..embed` have one, and so has the empty name.
fn empty_elements(name: &[u8]) -> usize {
    name.split(|byte| *byte == b'.').filter(|element| element.is_empty()).count()
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(char::is_alphanumeric)
}

/// Whether one word goes on from the first character to the second: `fc|1` and `my|Net` are two.
fn goes_on(left: char, right: char) -> bool {
    match (left.is_numeric(), right.is_numeric()) {
        (true, true) => true,
        (false, false) => {
            left.is_alphabetic() && right.is_alphabetic() && !(left.is_lowercase() && right.is_uppercase())
        }
        _ => false,
    }
}

/// Whether `prefix` stands in front of a dot at the beginning of an element.
fn has_element(name: &[u8], prefix: &str) -> bool {
    let whole = format!("{prefix}.");
    starts(&text(name), &whole).next().is_some()
}

/// Where in a name something begins an element.
fn starts<'a>(name: &'a str, what: &'a str) -> impl Iterator<Item = usize> + 'a {
    let at = name.match_indices(what).map(|(at, _)| at);
    at.filter(|at| *at == 0 || name.get(..*at).is_some_and(|head| head.ends_with('.')))
}

/// The words, with their dot, that a prefix ends inside of.
fn cut_word(step: &Step, prefix: &str, name: &[u8]) -> Option<String> {
    // a prefix that ends in a dot ends inside of no word
    let last = prefix.chars().next_back().filter(|last| last.is_alphanumeric())?;
    let name = text(name);
    let mut places = starts(&name, prefix).filter(|at| *at == 0 || matches!(step, Step::StripAnywhere(_)));
    places.find_map(|at| {
        let rest = name.get(at + prefix.len()..)?;
        let next = rest.chars().next()?;
        if !goes_on(last, next) {
            return None;
        }
        let end = rest.find('.').map_or(name.len(), |dot| at + prefix.len() + dot + 1);
        name.get(at..end).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::edit::rules::{Rules, parse_substitution, parse_table};

    fn says(step: Step, name: &str) -> Option<String> {
        let after = Rules(vec![step.clone()]).rename(name.as_bytes());
        fault(&step, name.as_bytes(), &after, name.as_bytes(), &after)
    }

    #[test]
    fn removed() {
        let strip = |prefix: &str, name: &str| says(Step::StripPrefix(prefix.into()), name);
        let anywhere = |prefix: &str, name: &str| says(Step::StripAnywhere(prefix.into()), name);
        for (prefix, name) in [
            ("module.", "module.conv1.weight"),
            ("encoder_", "encoder_fc.weight"),
            ("module.", "module."),
            ("module.", "other"),
            ("layer", "layer1.weight"),
            ("my", "myNet.weight"),
            ("a", "a..b"),
            ("", "x"),
        ] {
            let fault = strip(prefix, name);
            // `a` of `a..b` leaves `..b`, which has one more
            assert_eq!(fault.is_some(), prefix == "a", "{prefix} {name}: {fault:?}");
        }
        for (prefix, name, meant) in [
            ("module", "module.conv1.weight", "\"module.\""),
            ("model.net", "model.net.fc", "\"model.net.\""),
            ("modul", "module.fc", "\"module.\""),
            ("layer1", "layer10.fc", "\"layer10.\""),
            ("weight", "weight", "without a name"),
        ] {
            let fault = strip(prefix, name).unwrap();
            assert!(fault.contains(meant), "{fault}");
        }
        assert!(anywhere("_orig_mod", "model._orig_mod.fc").unwrap().contains("did you mean \"_orig_mod.\"?"));
        assert!(anywhere("module", "model.modules.fc").unwrap().contains("did you mean \"modules.\"?"));
        assert_eq!(anywhere("_orig_mod.", "model._orig_mod.fc"), None);
        assert_eq!(anywhere("m_", "a.m_b.c"), None);
    }

    #[test]
    fn added() {
        let add = |prefix: &str, name: &str| says(Step::AddPrefix(prefix.into()), name);
        for (prefix, name) in
            [("net.", "fc"), ("my_", "fc"), ("net.", ".fc"), ("net", ".fc"), ("net", "_fc"), ("a.b.", "fc")]
        {
            assert_eq!(add(prefix, name), None);
        }
        for (prefix, name, meant) in [
            ("backbone", "fc1", "\"backbone.\""),
            ("net", "0.weight", "\"net.\""),
            ("net1", "fc", "\"net1.\""),
            ("net..", "fc", "\"net.\""),
            (".net.", "fc", "\"net.\""),
            (".", "fc", "empty element"),
        ] {
            let fault = add(prefix, name).unwrap();
            assert!(fault.contains(meant), "{fault}");
        }
    }

    #[test]
    fn patterns_and_tables() {
        let replace = |how: &str, name: &str| says(parse_substitution(how).unwrap(), name);
        assert!(replace("s/^module//", "module.fc").unwrap().contains("\"module.fc\" becomes \".fc\""));
        assert!(replace("s/net//", "model.net.fc").unwrap().contains("\"model..fc\""));
        assert!(replace("s/.*//", "fc").unwrap().contains("without a name"));
        assert_eq!(replace("s/^/backbone/", "fc"), None, "whoever writes a pattern means it");
        assert_eq!(replace("s/x/y/", "x..y"), None, "it was there before");
        assert!(says(parse_table("a.b\t.b").unwrap(), "a.b").is_some());
    }

    #[test]
    fn a_later_step_may_mend_it() {
        let step = parse_substitution("s/^module//").unwrap();
        assert_eq!(fault(&step, b"module.fc", b".fc", b"module.fc", b"fc"), None);
    }
}
