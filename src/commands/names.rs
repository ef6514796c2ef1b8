//! Which names are meant: `--root`, `--include`, `--exclude`.

use anyhow::{Context, bail};
use clap::Args;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

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
