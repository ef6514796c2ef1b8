//! What every command that edits a file shares: where the file goes, and how it is opened.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::error::Result;
use crate::layout::Layout;
use crate::limits::Limits;
use crate::operations::destination::{Destination, InPlace, Original, Sink};
use crate::options::input;
use crate::options::output::OutputArgs;
use crate::progress::Progress;
use crate::terminal::progress_bar::Bars;
use crate::terminal::streams::{STDIN, STDOUT};
use crate::write::atomic::Target;
use crate::write::format::Format;

/// Where an edited file goes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DestinationArgs {
    /// Where to write; `-` is standard output
    #[arg(short, long, value_name = "OUTPUT", conflicts_with = "in_place")]
    pub output: Option<PathBuf>,
    /// Edit the file itself
    ///
    /// Changes are appended to a zip, a safetensors header that fits is written over the old one, any other file is replaced
    /// as a whole. `ckpt repair` finishes or undoes an edit that was interrupted.
    #[arg(long)]
    pub in_place: bool,
    /// Replace an existing OUTPUT
    #[arg(long, conflicts_with = "in_place")]
    pub force: bool,
}

/// The same, or nowhere.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct EditedArgs {
    #[command(flatten)]
    pub file: DestinationArgs,
    /// Show old -> new; write nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl EditedArgs {
    /// Where one file goes.
    pub(crate) fn of_file(&self, input: &Path, report: &OutputArgs) -> anyhow::Result<Destination> {
        if self.dry_run { Ok(Destination::Nowhere) } else { self.file.of_file(input, report) }
    }
}

impl DestinationArgs {
    /// Where one file goes.
    pub(crate) fn of_file(&self, input: &Path, report: &OutputArgs) -> anyhow::Result<Destination> {
        let from_stdin = input.as_os_str() == "-";
        if self.in_place {
            if from_stdin {
                bail!("standard input cannot be edited in place");
            }
            let file = InPlace::open(input).map_err(|e| e.of_input(&input.display().to_string()))?;
            return Ok(Destination::InPlace(file));
        }
        let output = match &self.output {
            Some(output) => output.as_path(),
            None if from_stdin => Path::new("-"),
            None => bail!("no output given; use -o OUTPUT or --in-place"),
        };
        let to_stdout = output.as_os_str() == "-";
        report.keep_apart(output)?;
        let name = if to_stdout { STDOUT.to_owned() } else { output.display().to_string() };
        let target = Target::new(output, self.force, Some(input).filter(|_| !from_stdin));
        let sink = Sink { target: target.map_err(|e| e.of_output(&name))?, name };
        Ok(Destination::File { sink, to: Format::of_checkpoint(output) })
    }
}

/// Opens what is edited; without a `layout` it is one file that has not been looked at. The process ends with the command:
/// giving back every small piece of a large graph only takes time.
pub(crate) fn open(
    name: &Path,
    shown: &str,
    layout: Option<Layout>,
    destination: &Destination,
    limits: &Limits,
    bars: &Bars,
) -> Result<ManuallyDrop<Original>> {
    let layout = match (destination, layout) {
        (Destination::InPlace(file), _) => file.source().map(|source| Layout::of_source(source, name)),
        (_, Some(layout)) => Ok(layout),
        (_, None) => input::layout_with(name, limits, bars).and_then(Layout::of_one_file),
    };
    let layout = layout.map_err(|e| e.of_input(shown))?;
    bars.begin(shown, layout.bytes());
    Original::open(layout, shown, name, limits, bars).map(ManuallyDrop::new)
}

/// What messages call an input.
pub(crate) fn shown(name: &Path) -> String {
    if name.as_os_str() == "-" { STDIN.to_owned() } else { name.display().to_string() }
}
