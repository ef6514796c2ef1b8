//! Which names are meant: `--root`, `--include`, `--exclude`.

use anyhow::{Context, bail};
use clap::Args;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::checkpoint::names::{Element, join};
use crate::checkpoint::{Checkpoint, Root};

/// Options that choose names.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Names")]
pub struct NameArgs {
    /// Look only below the element of this name; names are then relative to it (`.` is the top)
    #[arg(long, value_name = "NAME")]
    pub root: Option<String>,
    /// Only names that match (`*` crosses dots); repeatable
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Not the names that match; repeatable
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
}

impl NameArgs {
    /// Where to begin in this checkpoint.
    pub fn find_root(&self, checkpoint: &Checkpoint) -> anyhow::Result<Root> {
        let Some(name) = &self.root else { return Ok(checkpoint.top()) };
        let mut found = checkpoint.roots(name)?;
        match (found.pop(), found.pop()) {
            (Some(root), None) => Ok(root),
            (Some(second), Some(first)) => {
                bail!("--root {name} is ambiguous: {} or {}", show_path(&first.path), show_path(&second.path))
            }
            _ => bail!("there is nothing named {name}"),
        }
    }

    /// What to match names with.
    pub fn filter(&self) -> anyhow::Result<Filter> {
        Ok(Filter { include: Names::of(&self.include)?, exclude: Names::of(&self.exclude)? })
    }
}

/// A path with its elements apart: `["a", "b.c"]`.
pub fn show_path(path: &[Element]) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let shown: Vec<String> = path
        .iter()
        .map(|element| match element {
            Element::Text(text) => format!("{text:?}"),
            other => other.to_string(),
        })
        .collect();
    format!("{} [{}]", join(path), shown.join(", "))
}

/// Decides by name.
#[derive(Debug)]
pub struct Filter {
    include: Option<Names>,
    exclude: Option<Names>,
}

impl Filter {
    /// Whether a name is meant.
    pub fn takes(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|names| names.take(name))
            && !self.exclude.as_ref().is_some_and(|names| names.take(name))
    }

    /// Whether every name is meant.
    pub fn takes_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

/// Arguments that stand for names: exactly, as names may hold brackets and stars, or as globs.
#[derive(Debug)]
struct Names {
    exact: Vec<String>,
    globs: GlobSet,
}

impl Names {
    /// `None` of none.
    fn of(arguments: &[String]) -> anyhow::Result<Option<Self>> {
        if arguments.is_empty() {
            return Ok(None);
        }
        let mut globs = GlobSetBuilder::new();
        for glob in arguments {
            let parsed = GlobBuilder::new(glob).literal_separator(false).build();
            globs.add(parsed.with_context(|| format!("{glob:?} is no glob"))?);
        }
        Ok(Some(Names { exact: arguments.to_vec(), globs: globs.build()? }))
    }

    fn take(&self, name: &str) -> bool {
        self.exact.iter().any(|exact| exact == name) || self.globs.is_match(name)
    }
}

/// Arguments that stand for names and for all that lies below them.
#[derive(Debug)]
pub struct Subtrees(RegexSet);

impl Subtrees {
    /// Of names, which may hold brackets and stars, or globs.
    pub fn of(arguments: &[String]) -> anyhow::Result<Self> {
        let mut patterns = Vec::new();
        for argument in arguments {
            for glob in [globset::escape(argument), argument.clone()] {
                let glob = Glob::new(&glob).with_context(|| format!("{argument:?} is no glob"))?;
                // matched once however long the name is, not once for each of its parts
                patterns.push(match glob.regex().strip_suffix('$') {
                    Some(start) => format!(r"{start}(?:\.|$)"),
                    None => glob.regex().to_owned(),
                });
            }
        }
        Ok(Subtrees(RegexSetBuilder::new(patterns).dot_matches_new_line(true).build()?))
    }

    /// Whether there is none of them.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the name, or one above it, is meant.
    pub fn hold(&self, name: &str) -> bool {
        self.0.is_match(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_with_what_is_above_it() {
        let subtrees = |names: &[&str]| Subtrees::of(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let drops = subtrees(&["optimizer", "*.bias", "a[0].b", "ä*", "{x,y}.z"]).unwrap();
        for name in
            ["optimizer", "optimizer.state.0", "fc.bias", "fc.bias.data", "a[0].b", "a0.b.c", "äö.w", "y.z", "\n.bias"]
        {
            assert!(drops.hold(name), "{name}");
        }
        for name in ["optimizers", "my.optimizer", "bias", "fc.biases", "a[1].b", "a[0].bc", "x.zz", "y"] {
            assert!(!drops.hold(name), "{name}");
        }
        assert!(subtrees(&["**"]).unwrap().hold("a.b") && !subtrees(&[]).unwrap().hold(""));
        assert!(subtrees(&["[a"]).unwrap_err().to_string().contains("no glob"));
    }
}
