//! What arguments that name something mean, for every command: each is tried as an exact name first, then as a node of
//! the tree that names make with their dots, then as a glob over whole names in which `*` crosses dots.
//!
//! Names may hold brackets and stars, so that what looks like a glob may be a name. The work is one pass over the names
//! for each argument, and nothing is searched of names when there are no arguments.

use std::collections::HashSet;

use globset::GlobBuilder;
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use crate::checkpoint::names::{Element, Entry};
use crate::error::{Error, Result};

/// How far an argument goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A glob matches whole names.
    Names,
    /// A glob matches names, and all that lies below one that matches.
    Subtrees,
}

/// One glob.
#[derive(Debug)]
pub(crate) struct Matcher(Regex);

impl Matcher {
    /// Compiles a glob; says what is wrong with one that is none.
    pub(crate) fn of_glob(glob: &str, reach: Reach) -> Result<Self, String> {
        let regex = regex_of(glob, reach)?;
        let built = RegexBuilder::new(&regex).dot_matches_new_line(true).build();
        built.map(Matcher).map_err(|_| "it is too large".to_owned())
    }

    /// Whether it matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.is_match(name.as_bytes())
    }
}

fn regex_of(glob: &str, reach: Reach) -> Result<String, String> {
    let parsed = GlobBuilder::new(glob).literal_separator(false).build().map_err(|e| e.kind().to_string())?;
    let regex = parsed.regex();
    Ok(match (reach, regex.strip_suffix('$')) {
        // matched once however long the name is, not once for each of its parts
        (Reach::Subtrees, Some(start)) => format!(r"{start}(?:\.|$)"),
        _ => regex.to_owned(),
    })
}

/// Two things of the same name, which an argument does not tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ambiguous {
    /// The argument.
    pub name: String,
    /// The path of the first thing.
    pub first: Vec<Element>,
    /// The path of the second.
    pub second: Vec<Element>,
}

/// The names of one file.
#[derive(Debug)]
pub(crate) struct Listed<'a>(Vec<(String, &'a [Element])>);

impl<'a> Listed<'a> {
    /// Of what a walk found.
    pub(crate) fn of(entries: &'a [Entry]) -> Self {
        Listed(entries.iter().map(|entry| (entry.name(), entry.path.as_slice())).collect())
    }

    /// Of names and paths that were changed since.
    pub(crate) fn of_names(names: impl Iterator<Item = (String, &'a [Element])>) -> Self {
        Listed(names.collect())
    }

    /// The names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// What one argument means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Meaning {
    /// Everything: `.`.
    All,
    /// A name.
    Exact,
    /// An object, or a node of the tree, with all below it.
    Below,
    /// A glob that matches names.
    Glob,
    /// Nothing.
    Nothing,
}

/// What an argument means among the names of some files: the best that it is in any of them.
pub(crate) fn meaning(argument: &str, files: &[Listed<'_>], reach: Reach) -> Result<Meaning, Ambiguous> {
    if argument == "." {
        return Ok(Meaning::All);
    }
    let mut best = Meaning::Nothing;
    for file in files {
        best = best.min(exact_meaning(argument, file)?);
    }
    if best == Meaning::Nothing
        && let Ok(glob) = Matcher::of_glob(argument, reach)
        && files.iter().flat_map(Listed::names).any(|name| glob.matches(name))
    {
        return Ok(Meaning::Glob);
    }
    Ok(best)
}

fn exact_meaning(argument: &str, file: &Listed<'_>) -> Result<Meaning, Ambiguous> {
    let mut thing: Option<&[Element]> = None;
    let (mut is_listed, mut is_object, mut is_node) = (false, false, false);
    for (name, path) in &file.0 {
        let Some(rest) = name.strip_prefix(argument) else { continue };
        let path = match rest.as_bytes().first() {
            None => {
                is_listed = true;
                path
            }
            Some(b'.') => {
                is_node = true;
                let Some(path) = head_of_length(path, argument.len()) else { continue };
                is_object = true;
                path
            }
            Some(_) => continue,
        };
        match thing {
            None => thing = Some(path),
            Some(first) if first == path => {}
            Some(first) => {
                let (first, second) = (first.to_vec(), path.to_vec());
                return Err(Ambiguous { name: argument.to_owned(), first, second });
            }
        }
    }
    Ok(match (is_listed, is_object) {
        // what lies below a name of its own is something else of a longer name
        (true, false) => Meaning::Exact,
        _ if is_node => Meaning::Below,
        _ => Meaning::Nothing,
    })
}

/// The first elements of a path, when their name ends after `length` bytes.
fn head_of_length(path: &[Element], length: usize) -> Option<&[Element]> {
    let mut end = 0;
    for (at, element) in path.iter().enumerate() {
        end += usize::from(at > 0) + element.to_string().len();
        if end >= length {
            return path.get(..=at).filter(|_| end == length);
        }
    }
    None
}

/// Arguments that were given a meaning.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    all: bool,
    exact: HashSet<String>,
    below: Vec<String>,
    globs: Option<RegexSet>,
}

impl Choice {
    /// Gathers arguments with their meanings; those that mean nothing take nothing.
    pub(crate) fn of<'a>(arguments: impl Iterator<Item = (&'a str, Meaning)>, reach: Reach) -> Result<Self> {
        let mut choice = Choice::default();
        let mut globs = Vec::new();
        for (argument, meaning) in arguments {
            match meaning {
                Meaning::All => choice.all = true,
                Meaning::Exact => _ = choice.exact.insert(argument.to_owned()),
                Meaning::Below => choice.below.push(argument.to_owned()),
                Meaning::Glob => globs.extend(regex_of(argument, reach)),
                Meaning::Nothing => {}
            }
        }
        if !globs.is_empty() {
            let built = RegexSetBuilder::new(&globs).dot_matches_new_line(true).build();
            choice.globs = Some(built.map_err(|_| Error::limit("the globs are too many or too large together"))?);
        }
        Ok(choice)
    }

    /// Whether it takes nothing, whatever the names are.
    pub(crate) fn is_empty(&self) -> bool {
        !self.all && self.exact.is_empty() && self.below.is_empty() && self.globs.is_none()
    }

    /// Whether a name is meant.
    pub(crate) fn takes(&self, name: &str) -> bool {
        let is_below = |node: &String| {
            name.strip_prefix(node.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.all
            || self.exact.contains(name)
            || self.below.iter().any(is_below)
            || self.globs.as_ref().is_some_and(|globs| globs.is_match(name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(elements: &[&str]) -> Vec<Element> {
        elements.iter().map(|text| Element::Text((*text).to_owned())).collect()
    }

    fn listed(paths: &[Vec<Element>]) -> Listed<'_> {
        Listed::of_names(paths.iter().map(|path| (crate::checkpoint::names::join(path), path.as_slice())))
    }

    fn taken(paths: &[Vec<Element>], arguments: &[&str], reach: Reach) -> Vec<String> {
        let files = [listed(paths)];
        let meanings = arguments.iter().map(|argument| (*argument, meaning(argument, &files, reach).unwrap()));
        let choice = Choice::of(meanings, reach).unwrap();
        files[0].names().filter(|name| choice.takes(name)).map(str::to_owned).collect()
    }

    #[test]
    fn exactly_then_as_a_node_then_as_a_glob() {
        let paths = [
            path(&["w[0]"]),
            path(&["w0"]),
            path(&["blocks.0.w"]),
            path(&["blocks.01.w"]),
            path(&["blocks", "0.b"]),
            path(&["a*"]),
            path(&["ab"]),
            path(&["fc"]),
            path(&["fc.w"]),
            path(&["[x"]),
            path(&["opt", "state", "\n"]),
        ];
        let names = |argument: &str| taken(&paths, &[argument], Reach::Names);
        let cases: &[(&str, &[&str])] = &[
            ("w[0]", &["w[0]"]),
            ("w[01]", &["w0"]),
            ("blocks.0", &["blocks.0.w", "blocks.0.b"]),
            ("blocks", &["blocks.0.w", "blocks.01.w", "blocks.0.b"]),
            ("a*", &["a*"]),
            ("a?", &["a*", "ab"]),
            ("fc", &["fc"]),
            ("fc*", &["fc", "fc.w"]),
            ("[x", &["[x"]),
            ("[y", &[]),
            ("opt", &["opt.state.\n"]),
            ("opt*", &["opt.state.\n"]),
            ("*.w", &["blocks.0.w", "blocks.01.w", "fc.w"]),
            ("{ab,fc}", &["ab", "fc"]),
            ("", &[]),
            ("FC", &[]),
            ("blocks.0.", &[]),
        ];
        for (argument, want) in cases {
            assert_eq!(names(argument), *want, "{argument}");
        }
        assert_eq!(names(".").len(), paths.len());
        assert_eq!(taken(&paths, &["ab", "nothing", "w0"], Reach::Names), ["w0", "ab"]);
    }

    #[test]
    fn globs_of_subtrees_go_with_what_is_below() {
        let paths = [
            path(&["optimizer", "state", "0"]),
            path(&["optimizers"]),
            path(&["fc.bias"]),
            path(&["fc.bias", "data"]),
            path(&["fc.biases"]),
            path(&["äö", "w"]),
        ];
        let names = |argument: &str| taken(&paths, &[argument], Reach::Subtrees);
        assert_eq!(names("opt*er"), ["optimizer.state.0"]);
        assert_eq!(names("*.bias"), ["fc.bias", "fc.bias.data"]);
        assert_eq!(names("ä*"), ["äö.w"]);
        assert_eq!(names("**").len(), 6);
        assert_eq!(names("ptimizer"), [""; 0]);
    }

    #[test]
    fn two_things_of_one_name() {
        let meaning = |paths: &[Vec<Element>], name: &str| meaning(name, &[listed(paths)], Reach::Names);
        let twice = [path(&["a", "b"]), path(&["a.b"])];
        let Err(Ambiguous { first, second, .. }) = meaning(&twice, "a.b") else { panic!("not ambiguous") };
        assert_eq!((first, second), (twice[0].clone(), twice[1].clone()));
        // objects that hold something are things too
        assert!(meaning(&[path(&["a", "b", "x"]), path(&["a.b", "y"])], "a.b").is_err());
        assert!(meaning(&[path(&["a", "b", "x"]), path(&["a.b"])], "a.b").is_err());
        // one object, and names beside it in the same node of the tree
        assert_eq!(meaning(&[path(&["a", "b", "x"]), path(&["a.b.y"])], "a.b"), Ok(Meaning::Below));
        // a tensor and its parts are one
        assert_eq!(meaning(&[path(&["w"]), path(&["w", "scale"])], "w"), Ok(Meaning::Below));
        // the other file's name of the same kind is not a second one
        let (one, two) = ([path(&["a", "b"])], [path(&["a.b"])]);
        assert_eq!(super::meaning("a.b", &[listed(&one), listed(&two)], Reach::Names), Ok(Meaning::Exact));
    }
}
