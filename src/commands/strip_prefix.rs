//! `ckpt strip-prefix`: removing what a wrapper put before the names.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::checkpoint::edit::rules::Step;
use crate::commands::ExitStatus;
use crate::commands::input;
use crate::commands::rename::{EditArgs, edit};
use crate::operations::rename::Named;
use crate::report::shell::quoted;

/// Options of `ckpt strip-prefix`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Only keys of state dicts change, never those of optimizers, random number states and other dicts of values. A \
prefix without its dot is refused where it would leave an empty element (`.conv1.weight`).\n\n\
Examples:\n  ckpt strip-prefix module. model.pth -o clean.pth\n  ckpt strip-prefix module. --in-place model.pth\n  \
ckpt strip-prefix --anywhere _orig_mod. --dry-run model.pth\n  ckpt strip-prefix module. < model.pth > clean.pth")]
pub(crate) struct Args {
    /// Prefix to remove, including the dot: `module.`
    #[arg(value_name = "PREFIX")]
    pub prefix: String,
    /// The file; without it, read standard input and write standard output
    #[arg(value_name = "INPUT", value_parser = input::parser())]
    pub input: Option<PathBuf>,
    /// Remove it inside names too, wherever an element begins with it (`model._orig_mod.fc` becomes `model.fc`)
    #[arg(long)]
    pub anywhere: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub edit: EditArgs,
}

/// Strips the prefix.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    if args.prefix.is_empty() {
        bail!("the prefix is empty; name what to remove, for example `module.`");
    }
    refuse_swapped(args)?;
    let prefix = args.prefix.clone();
    let step = if args.anywhere { Step::StripAnywhere(prefix) } else { Step::StripPrefix(prefix) };
    edit(&args.edit, args.input.as_deref(), vec![Named::new(step, &args.prefix)])
}

/// The file in the place of the prefix: says which command was meant.
fn refuse_swapped(args: &Args) -> anyhow::Result<()> {
    let file = Path::new(&args.prefix);
    let is_prefix = |word: &Path| !word.exists() && word.as_os_str() != "-";
    if !file.exists() || !args.input.as_deref().is_none_or(is_prefix) {
        return Ok(());
    }
    let mut words = vec!["ckpt strip-prefix".to_owned()];
    words.push(args.input.as_deref().map_or("PREFIX".into(), |word| quoted(&word.to_string_lossy())));
    words.push(quoted(&args.prefix));
    let edit = &args.edit;
    words.extend(args.anywhere.then(|| "--anywhere".into()));
    words.extend(edit.to.in_place.then(|| "--in-place".into()));
    words.extend(edit.to.dry_run.then(|| "--dry-run".into()));
    match &edit.to.output {
        Some(output) => words.push(format!("-o {}", quoted(&output.to_string_lossy()))),
        None if edit.to.in_place || edit.to.dry_run => {}
        None => words.push("-o OUTPUT".into()),
    }
    let what = if args.input.is_some() { "is a file; the prefix comes first" } else { "is a file, not a prefix" };
    bail!("{}: {what}: `{}`", args.prefix, words.join(" "));
}
