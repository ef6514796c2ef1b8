//! `ckpt repair`: an edit in place that was interrupted is finished where all its bytes are there, else undone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::commands::Status;
use crate::commands::input;
use crate::commands::input::LimitArgs;
use crate::commands::output::OutputArgs;
use crate::commands::rename::open_for_editing;
use crate::container::zip::tail::{Interrupted, interrupted};
use crate::report::figures::counted;
use crate::source::{FileSource, SharedSource};
use crate::write::append::mend;
use crate::write::atomic::Target;

/// Options of `ckpt repair`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file; `-` is standard input
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// Where to write; `-` is standard output
    #[arg(short, long, value_name = "OUTPUT", required_unless_present = "in_place", conflicts_with = "in_place")]
    pub output: Option<PathBuf>,
    /// Repair the file itself
    #[arg(long)]
    pub in_place: bool,
    /// Replace an OUTPUT that exists
    #[arg(long, conflicts_with = "in_place")]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: LimitArgs,
}

/// Repairs one file.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let shown = args.input.display().to_string();
    let context = || shown.clone();
    let mut editing = None;
    let source: SharedSource = if args.in_place {
        let (_, file) = open_for_editing(&args.input).with_context(context)?;
        let source = FileSource::from_file(file.try_clone()?).with_context(context)?;
        editing = Some(file);
        Arc::new(source)
    } else {
        input::source(&args.input, &args.limits.limits()).with_context(context)?
    };
    let Some(unfinished) = interrupted(&source).with_context(context)? else {
        bail!("{shown}: has no unfinished edit in place");
    };
    match (editing, &args.output) {
        (Some(mut file), _) => mend(&mut file, &unfinished).with_context(context)?,
        (None, Some(output)) => {
            write(&source, &unfinished, output, args).with_context(|| output.display().to_string())?;
        }
        (None, None) => bail!("say where to write: -o OUTPUT, or --in-place"),
    }
    let what = match &unfinished.finish {
        Some(_) => "finished the interrupted edit; nothing is lost".to_owned(),
        None => format!(
            "undid the interrupted edit: the file is as it was before, {} after it are dropped",
            counted(unfinished.tail_len, "unfinished byte")
        ),
    };
    args.report.note(&shown, what);
    Ok(Status::Success)
}

fn write(source: &SharedSource, unfinished: &Interrupted, output: &Path, args: &Args) -> anyhow::Result<()> {
    use std::io::Write;
    let mut output = Target::new(output, args.force, Some(&args.input))?.create()?;
    let (keep, then) = match &unfinished.finish {
        Some(finish) => (finish.at, finish.bytes.as_slice()),
        None => (unfinished.old_len, &[][..]),
    };
    output.copy(source.as_ref(), 0, keep, &|_| ())?;
    output.write_all(then)?;
    Ok(output.commit()?)
}
