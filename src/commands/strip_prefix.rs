//! `ckpt strip-prefix`: removing what a wrapper put before the names.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::checkpoint::edit::rules::Step;
use crate::commands::ExitStatus;
use crate::commands::rename::{EditArgs, edit};
use crate::operations::rename::Named;
use crate::options::input;
use crate::report::shell::quoted;

/// Options of `ckpt strip-prefix`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ckpt strip-prefix [OPTIONS] <PREFIX> [INPUT] (-o <OUTPUT> | --in-place)")]
pub(crate) struct Args {
    /// Prefix to remove, including the dot: `module.`
    #[arg(value_name = "PREFIX")]
    pub prefix: String,
    /// File (default: filter standard input to standard output)
    #[arg(value_name = "INPUT", value_parser = input::parser())]
    pub input: Option<PathBuf>,
    /// Remove it inside names too
    ///
    /// Wherever an element begins with it: `model._orig_mod.fc` becomes `model.fc`.
    #[arg(long)]
    pub anywhere: bool,
    #[command(flatten)]
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
    words.extend(edit.to.file.in_place.then(|| "--in-place".into()));
    words.extend(edit.to.dry_run.then(|| "--dry-run".into()));
    match &edit.to.file.output {
        Some(output) => words.push(format!("-o {}", quoted(&output.to_string_lossy()))),
        None if edit.to.file.in_place || edit.to.dry_run => {}
        None => words.push("-o OUTPUT".into()),
    }
    let what = if args.input.is_some() { "is a file; the prefix comes first" } else { "is a file, not a prefix" };
    bail!("{}: {what}: `{}`", args.prefix, words.join(" "));
}
