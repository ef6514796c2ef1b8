//! `--root`, `--include`, `--exclude`.

use clap::Args;

use crate::operations::select::Select;

/// Options that choose among names.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Names")]
pub(crate) struct MatchArgs {
    /// Take only matching names; repeatable
    ///
    /// A name, an element with everything below it, or a glob (`*` also matches dots). By default all names are taken.
    #[arg(long, value_name = "NAME|GLOB")]
    pub include: Vec<String>,
    /// Skip matching names; repeatable
    ///
    /// A name, an element with everything below it, or a glob; values as well as tensors.
    #[arg(long, value_name = "NAME|GLOB")]
    pub exclude: Vec<String>,
}

/// Options that choose names, and where they begin.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Names")]
pub(crate) struct NameArgs {
    /// Start at this element; names are relative to it
    ///
    /// `.` is the top object. By default the top, or the weights where only weights count.
    #[arg(long, value_name = "NAME")]
    pub root: Option<String>,
    #[command(flatten)]
    pub matching: MatchArgs,
}

impl NameArgs {
    /// What they choose.
    pub(crate) fn select(&self) -> Select {
        let MatchArgs { include, exclude } = self.matching.clone();
        Select { root: self.root.clone(), include, exclude }
    }
}
