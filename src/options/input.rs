//! Inputs of the command line: standard input as `-`, limits, and a progress bar while one is opened.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::container::archive::Contents;
use crate::error::Result;
use crate::layout::{Layout, address};
use crate::limits::Limits;
use crate::limits::tensor_parallel::TensorParallel;
use crate::operations::Input;
use crate::operations::convert::bytes_of;
use crate::operations::open::{self, Found};
use crate::options::list;
use crate::progress::Progress;
use crate::terminal::progress_bar::Bars;

/// Bounds that a person may raise for a file they trust.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits on hostile files")]
pub(crate) struct LimitArgs {
    /// Maximum objects a compressed pickle may create beyond what its size accounts for
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_objects: Option<u64>,
    /// Maximum nesting depth of objects
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_depth: Option<usize>,
    /// Maximum tensors and values to list
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_entries: Option<u64>,
    /// Maximum bytes of compressed input or standard input once expanded
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    max_expanded_bytes: Option<u64>,
    /// Maximum bytes to read from tensors whose declared size exceeds their stored data
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    max_read_bytes: Option<u64>,
    /// Maximum bytes to transfer from URLs, such as 100MB
    #[arg(long, value_name = "SIZE", value_parser = bytes_of, hide_short_help = true)]
    max_transfer: Option<u64>,
}

/// What `--help` shows as the default of a limit; nothing for other options.
pub(crate) fn default_limit(option: &str) -> Option<String> {
    let limits = Limits::default();
    Some(match option {
        "max_objects" => limits.max_objects.to_string(),
        "max_depth" => limits.max_depth.to_string(),
        "max_entries" => limits.max_entries.to_string(),
        "max_expanded_bytes" => format!(
            "{}, and at most {} times the compressed size above {}",
            limits.max_expanded_bytes, limits.max_expansion_ratio, limits.min_expanded_bytes
        ),
        "max_read_bytes" => limits.max_read_bytes.to_string(),
        "max_transfer" if limits.max_transfer == u64::MAX => "no limit".to_owned(),
        "max_transfer" => limits.max_transfer.to_string(),
        _ => return None,
    })
}

/// What a person may say of an input that is opened.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    limits: LimitArgs,
    /// Read from FILE how tensors are split among tensor-parallel ranks
    ///
    /// Each line is a glob over names and `replicate`, a dimension, or a dimension and the number of blocks that are split
    /// separately (`0/2`). They come before the built-in rules, which are the default.
    #[arg(long, value_name = "FILE", help_heading = "Inputs of several ranks", hide_short_help = true, value_parser = rules)]
    tp_rule: Option<TensorParallel>,
}

impl OpenArgs {
    /// The defaults with what the command line changed.
    pub(crate) fn limits(&self) -> Limits {
        Limits { tensor_parallel: self.tp_rule.clone().unwrap_or_default(), ..self.limits.limits() }
    }
}

/// The rules in a file.
fn rules(file: &str) -> std::result::Result<TensorParallel, String> {
    let text = list::read_text(Path::new(file)).map_err(|e| e.to_string())?;
    TensorParallel::parse(&text)
}

impl LimitArgs {
    /// The defaults with what the command line changed.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        let set = |to: &mut u64, from: Option<u64>| *to = from.unwrap_or(*to);
        set(&mut limits.max_objects, self.max_objects);
        set(&mut limits.max_entries, self.max_entries);
        set(&mut limits.max_read_bytes, self.max_read_bytes);
        set(&mut limits.max_transfer, self.max_transfer);
        limits.max_depth = self.max_depth.unwrap_or(limits.max_depth);
        if let Some(bytes) = self.max_expanded_bytes {
            (limits.max_expanded_bytes, limits.min_expanded_bytes) = (bytes, bytes);
            limits.is_expansion_chosen = true;
        }
        limits
    }
}

/// What stands for the dash of `-::member` while the command line is parsed, as an argument that begins with a dash is an
/// option: a code point that no text has.
const DASH: &str = "\u{fdd0}";

/// A member of standard input as an argument that is no option.
pub(crate) fn masked(argument: &OsStr) -> OsString {
    match argument.to_str().and_then(|argument| argument.strip_prefix('-')) {
        Some(rest) => format!("{DASH}{rest}").into(),
        None => argument.to_owned(),
    }
}

/// The same for people.
pub(crate) fn unmasked_text(text: &str) -> String {
    text.replace(DASH, "-")
}

/// The argument that was given.
pub(crate) fn unmasked(argument: PathBuf) -> PathBuf {
    match argument.to_str().and_then(|argument| argument.strip_prefix(DASH)) {
        Some(rest) => format!("-{rest}").into(),
        None => argument,
    }
}

/// How clap reads an INPUT.
pub(crate) fn parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(unmasked)
}

/// Whether `name` is standard input, or a member of an archive that comes from there.
pub(crate) fn is_stdin(name: &Path) -> bool {
    name.as_os_str() == "-" || address(name).is_some_and(|address| address.file.as_os_str() == "-")
}

/// Fails when `-` is named more than once: the second would find nothing.
pub(crate) fn stdin_once(inputs: &[PathBuf]) -> anyhow::Result<()> {
    match inputs.iter().filter(|input| is_stdin(input)).count() {
        0 | 1 => Ok(()),
        _ => anyhow::bail!("`-` (standard input) can be read only once"),
    }
}

/// What `name` stands for: a file, a directory, a member of an archive, standard input.
pub(crate) fn layout(name: &Path, limits: &Limits, quiet: bool) -> Result<Layout> {
    layout_with(name, limits, &Bars::new(quiet))
}

pub(super) fn layout_with(name: &Path, limits: &Limits, progress: &dyn Progress) -> Result<Layout> {
    match is_stdin(name) {
        true => open::layout_of_stream(io::stdin().lock(), name, limits, progress),
        false => open::layout(name, limits, progress),
    }
}

/// The bytes that `name` stands for, and the bounds on what is in them. Fails for what is more than one file.
pub(crate) fn contents(name: &Path, limits: &Limits) -> Result<Contents> {
    open::contents(&layout(name, limits, true)?, limits)
}

/// Opens a checkpoint. Errors name it.
pub(crate) fn open(name: &Path, limits: &Limits, quiet: bool) -> Result<Input> {
    let bars = Bars::new(quiet);
    open::open_layout(name, named_layout(name, limits, &bars)?, limits, &bars)
}

/// Opens a checkpoint, or an archive of some. Errors name it.
pub(crate) fn open_or_walk(name: &Path, limits: &Limits, quiet: bool) -> Result<Found> {
    let bars = Bars::new(quiet);
    open::open_or_walk(name, named_layout(name, limits, &bars)?, limits, &bars)
}

fn named_layout(name: &Path, limits: &Limits, progress: &dyn Progress) -> Result<Layout> {
    layout_with(name, limits, progress).map_err(|e| e.of_input(&name.display().to_string()))
}
