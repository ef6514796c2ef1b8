//! `--root`, `--include`, `--exclude`.

use clap::Args;

use crate::operations::select::Select;

/// Options that choose names.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Names")]
pub(crate) struct NameArgs {
    /// Start at this element (`.` is the top); names are shown relative to it
    #[arg(long, value_name = "NAME")]
    pub root: Option<String>,
    /// Select matching names: a name, an element with everything below it, or a glob (`*` also matches dots); repeatable
    #[arg(long, value_name = "NAME|GLOB")]
    pub include: Vec<String>,
    /// Skip matching names, values as well as tensors; repeatable
    #[arg(long, value_name = "NAME|GLOB")]
    pub exclude: Vec<String>,
}

impl NameArgs {
    /// What they choose.
    pub(crate) fn select(&self) -> Select {
        Select { root: self.root.clone(), include: self.include.clone(), exclude: self.exclude.clone() }
    }
}
