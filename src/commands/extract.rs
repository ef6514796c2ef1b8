//! `ckpt extract`: one thing taken out of a checkpoint, or several, printed or written.

mod choose;
pub mod file_names;
mod form;
mod parts;
mod show;
mod write_out;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::checkpoint::{Entry, Item};
use crate::commands::Status;
use crate::commands::input::{self, LimitArgs};
use crate::commands::names::NameArgs;
use crate::commands::output::{OutputArgs, stdout};
use crate::commands::values::formats;
use crate::commands::wording::flag;
use crate::data::Elements;
use crate::data::recast::Recast;
use crate::data::subscript::Subscript;
use crate::dtype::{Class, DType};
use crate::error::Result;
use crate::limits::Limits;
use crate::write::format::Format;
use crate::write::watch::{self, Watch};

/// Options of `ckpt extract`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("\
Without -o the result is printed: tensors as torch prints them, strings raw, other values as Python does, everything as \
JSON with --json (NaN and infinities as strings, complex numbers as pairs).\n\n\
{}\n\n\
In a picture NaN is magenta, or dark where there are three channels; filters (N x C x H x W) are tiled, those with \
neither one nor three channels in one row each.\n\n{EXAMPLES}", parts::PARTS_HELP))]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The checkpoint: a file, a directory, `ARCHIVE::member`, or `-` for standard input
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// What to extract: a name, an element with everything below it, or a glob over whole names (`*` also matches dots);
    /// default: everything
    #[arg(value_name = "NAME|GLOB")]
    pub names: Vec<String>,
    /// Where to write: FILE.npy .npz .json .csv .bin .png .safetensors .pt, a directory, or `-`
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: Option<PathBuf>,
    /// Output format (default: from OUTPUT's extension); for a directory, the format of each file
    #[arg(long, value_parser = formats(&Format::OF_PARTS), value_name = "FORMAT", requires = "output")]
    pub to: Option<Format>,
    /// Overwrite existing files
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Print every element
    #[arg(long, conflicts_with = "output")]
    pub full: bool,
    /// Take a part of each tensor, in Python's syntax: `0:2,:`, `-1`, `...,::-1`
    #[arg(long, value_name = "SLICE", allow_hyphen_values = true)]
    pub slice: Option<Subscript>,
    /// Cast floating-point tensors to float16, bfloat16, float32 or float64
    #[arg(long, value_name = "DTYPE", value_parser = crate::data::cast::target)]
    pub dtype: Option<DType>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub picture: PictureArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub names_chosen: NameArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: LimitArgs,
}

const EXAMPLES: &str = "\
Examples:\n  ckpt extract model.pth fc.bias\n  ckpt extract checkpoint.tar epoch\n  \
ckpt extract model.pth embed.weight --slice 100:200 -o rows.npy\n  ckpt extract model.pth 'layer1.*' -o layer1.npz\n  \
ckpt extract model.pth conv1.weight --scale 8 -o filters.png\n  \
ckpt extract checkpoint.tar --root optimizer_state_dict -o opt.pt";

/// Options for `.png`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Pictures")]
pub struct PictureArgs {
    /// Values mapped to black and white (default: minimum and maximum)
    #[arg(long, value_name = "LO,HI", value_parser = parse_range, allow_hyphen_values = true, requires = "output")]
    pub range: Option<(f64, f64)>,
    /// Blue below zero (or below the middle of --range), red above
    #[arg(long, requires = "output")]
    pub diverging: bool,
    /// Draw each value as N x N pixels
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096), requires = "output")]
    pub scale: Option<u64>,
}

fn parse_range(text: &str) -> std::result::Result<(f64, f64), String> {
    let bounds =
        text.split_once(',').and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?)));
    let bounds = bounds.filter(|(low, high): &(f64, f64)| low.is_finite() && high.is_finite() && low < high);
    bounds.ok_or_else(|| "expected two numbers, the smaller one first: -1,1".to_owned())
}

/// Prints or writes what was chosen.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let limits = args.limits.limits();
    let mut input = input::open(&args.input, &limits, args.report.quiet)?;
    let input_name = input.name.clone();
    let context = || input_name.clone();
    let chosen = choose::choose(&input.checkpoint, &args.names, &args.names_chosen.select()).with_context(context)?;
    for note in &input.checkpoint.notes {
        args.report.note(&input.name, note);
    }
    check_cast(args, &input.checkpoint, &chosen.entries).with_context(context)?;
    if let Some(output) = &args.output {
        return write_out::run(args, &mut input, &chosen, output);
    }
    let watched = watch(&input.checkpoint, &chosen);
    let part = show::Part { subscript: args.slice.as_ref(), dtype: args.dtype.as_ref() };
    let shown = if args.report.wants_json() {
        let mut out = stdout();
        let written = show::write_json(&input.checkpoint, &chosen, part, &mut out);
        written.and_then(|()| Ok(out.flush()?))
    } else {
        show::as_text(&input.checkpoint, &chosen, part, args.full)
    };
    shown.with_context(context)?;
    let doubtful = watched.finish().and_then(|wrong| watch::named(&input.checkpoint, &wrong)).with_context(context)?;
    for line in watch::told(&doubtful) {
        args.report.note(&input.name, line.spoken(flag));
    }
    Ok(Status::Success)
}

/// Storages that are looked at for their checksums even if few of their elements are wanted.
const MAX_WATCHED_BYTES: u64 = 64 << 20;

/// Has the checksums looked at of the storages that the chosen tensors lie in: those that are wanted for a good part, and
/// small ones.
fn watch(checkpoint: &crate::checkpoint::Checkpoint, chosen: &choose::Chosen) -> Watch {
    let tensors = chosen.entries.iter().filter_map(|entry| match entry.item {
        Item::Tensor(id, _) => checkpoint.tensor(id),
        _ => None,
    });
    let mut wanted: Vec<(crate::checkpoint::StorageId, u64)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for tensor in tensors {
        let Some(id) = tensor.storage() else { continue };
        let place = *places.entry(id).or_insert_with(|| {
            wanted.push((id, 0));
            wanted.len() - 1
        });
        if let Some((_, bytes)) = wanted.get_mut(place) {
            *bytes = bytes.saturating_add(tensor.bytes().unwrap_or_default());
        }
    }
    let storages = wanted.into_iter().filter(|(id, bytes)| {
        let stored = checkpoint.storages.get(*id).and_then(|storage| storage.available()).unwrap_or_default();
        stored <= MAX_WATCHED_BYTES || stored / 2 <= *bytes
    });
    Watch::start(checkpoint, storages.map(|(id, _)| id))
}

/// `--dtype` must have something to do.
fn check_cast(args: &Args, checkpoint: &crate::checkpoint::Checkpoint, entries: &[Entry]) -> anyhow::Result<()> {
    let Some(wanted) = &args.dtype else { return Ok(()) };
    let dtypes = entries.iter().filter_map(|entry| match entry.item {
        Item::Tensor(id, _) => checkpoint.tensor(id)?.dtype.clone(),
        _ => None,
    });
    let dtypes: Vec<DType> = dtypes.collect();
    match dtypes.as_slice() {
        [one] if !is_castable(one) => bail!("cannot cast {one} to {wanted}: only floating-point tensors can be cast"),
        many if !many.iter().any(is_castable) => bail!("--dtype {wanted}: no floating-point tensor to cast"),
        _ => Ok(()),
    }
}

fn is_castable(dtype: &DType) -> bool {
    dtype.class() == Some(Class::Float)
}

/// Floating elements in the wanted dtype, and what counts their overflows; others as they are.
fn cast(elements: Elements, dtype: Option<&DType>, limits: &Limits) -> Result<(Elements, Option<Arc<Recast>>)> {
    match dtype {
        Some(dtype) if is_castable(&elements.dtype) && elements.dtype != *dtype => {
            let (cast, source) = Recast::over(elements, dtype, limits)?;
            Ok((cast, Some(source)))
        }
        _ => Ok((elements, None)),
    }
}

/// An error with the name of the entry that it is about, when there are several.
fn named(error: anyhow::Error, entry: &Entry, several: bool) -> anyhow::Error {
    let closed = crate::commands::output::is_closed_pipe(&error);
    if several && !closed { error.context(entry.name()) } else { error }
}
