//! Checking: whether a file is safe to load and intact, without loading it.

mod beside;
mod many;

use std::path::{Path, PathBuf};

use self::beside::Beside;
pub use self::many::{Told, check_many};
use crate::error::{ErrorKind, Result};
use crate::layout::{Layout, Mismatch};
use crate::limits::Limits;
use crate::message::{Message, Note, Setting};
use crate::operations::open::path_of;
use crate::progress::Silent;
use crate::report::check::Check;
use crate::report::file_bytes::file_bytes;
use crate::safety::allow::Allow;
use crate::safety::archive::{Named, examine_all};
use crate::safety::examine::{Examined, examine_refused, examine_several};
use crate::safety::finding::{Finding, Severity};
use crate::safety::integrity::Depth;
use crate::source::files;

/// What is looked at, and what is asked for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Options {
    /// Read all bytes: checksums.
    pub data: bool,
    /// Look for NaN, infinities, zeros and subnormal numbers in the tensors.
    pub numerics: bool,
    /// Report as an error what this asks for and a file is not.
    pub require: Option<Requirement>,
}

impl Default for Options {
    fn default() -> Self {
        Options { data: true, numerics: false, require: None }
    }
}

/// What a file may be asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// torch.load(weights_only=True) opens it.
    WeightsOnly,
}

/// An input, or a checkpoint in an archive: its path, and what was found or why it cannot be read. Errors name it.
pub type Checked = (PathBuf, Result<Check>);

/// What an input comes to: one report, or one for an archive and one for each checkpoint in it. `layout` is what `input`
/// stands for; one that cannot be made out may be a finding.
///
/// ```
/// use ckpt::Limits;
/// use ckpt::operations::check::{Options, check};
/// use ckpt::safety::allow::Allow;
///
/// let (path, limits) = ("testdata/torch-2.15-py311/cnn_state.pt".as_ref(), Limits::default());
/// let layout = ckpt::operations::open::layout(path, &limits, &ckpt::progress::Silent);
/// let mut options = Options::default();
/// options.numerics = true;
/// let mut checked = check(layout, path, &options, &Allow::default(), &limits);
/// let (name, report) = checked.remove(0);
/// assert_eq!((name.as_path(), report?.verdict), (path, "ok"));
/// # Ok::<(), ckpt::Error>(())
/// ```
pub fn check(layout: Result<Layout>, input: &Path, options: &Options, allow: &Allow, limits: &Limits) -> Vec<Checked> {
    check_with(layout, input, options, allow, limits, true)
}

/// The same; `alone` where nobody else looks at what lies beside a checkpoint in its directory.
fn check_with(
    layout: Result<Layout>,
    input: &Path,
    options: &Options,
    allow: &Allow,
    limits: &Limits,
    alone: bool,
) -> Vec<Checked> {
    let shown = input.display().to_string();
    let around = match &layout {
        Ok(layout) if options.data => layout.mismatches(),
        _ => Ok(Vec::new()),
    };
    let examined = around.and_then(|around| {
        let own_file = layout.as_ref().ok().and_then(Layout::file).map(Path::to_owned);
        let has_all = layout.as_ref().is_ok_and(Layout::is_all_of_directory);
        let mut examined = examine_layout(layout, input, &shown, options, limits)?;
        let own = |path: &Path| own_file.as_deref() == Some(path) || has_all && path.parent() == Some(input);
        if alone
            && let Some((_, Ok(examined))) = examined.first_mut()
            && let Some(beside) = Beside::of(input, own, limits)
        {
            beside.examine(input, examined, limits)?;
        }
        if let Some((_, Ok(examined))) = examined.first_mut() {
            examined.findings.extend(around.iter().map(of_archive));
        }
        Ok(examined)
    });
    let examined = examined.unwrap_or_else(|e| vec![(shown, Err(e))]);
    let checked = |(name, examined): Named| {
        let path = path_of(input, &name);
        let check =
            examined.map_err(|e| e.of_input(&name)).map(|examined| report(name, &path, examined, options, allow));
        (path, check)
    };
    examined.into_iter().map(checked).collect()
}

/// That what is checked is damaged, as the archive says in which it lies.
fn of_archive(mismatch: &Mismatch) -> Finding {
    let Mismatch { member, sum, stated } = mismatch;
    let message = format!("CRC-32 {sum:08x} where the archive says {stated:08x}");
    Finding::new(Severity::Error, "crc-mismatch", message, member)
}

/// What was found, with what is allowed and required.
fn report(name: String, path: &Path, mut examined: Examined, options: &Options, allow: &Allow) -> Check {
    let refused = allow.apply(&mut examined).into_iter().map(|global| {
        let message = Message::from(format!("{global} is dangerous: ")).setting(Setting::Allow);
        Note::new(&name, message.text(" takes it only under its exact name"))
    });
    let notes = refused.collect();
    if options.require == Some(Requirement::WeightsOnly) {
        examined.require_weights_only();
    }
    Check { file_bytes: file_bytes(path), notes, ..Check::new(name, examined) }
}

fn examine_layout(
    layout: Result<Layout>,
    input: &Path,
    shown: &str,
    options: &Options,
    limits: &Limits,
) -> Result<Vec<Named>> {
    let depth = Depth { data: options.data, numerics: options.numerics };
    let alone = |examined| vec![(shown.to_owned(), Ok(examined))];
    let mut layout = match layout {
        Ok(layout) => layout,
        Err(e) if e.kind() == ErrorKind::Unsupported && !files::is_dir(input) => return Err(e),
        Err(e) => return examine_refused(e).map(alone),
    };
    if let Some(contents) = layout.contents(limits) {
        return examine_all(layout.file().unwrap_or(input), &contents, shown, depth);
    }
    if !files::exists(input) {
        // in an archive
        let (files, are_shards, limits) = (layout.files(), layout.is_of_checkpoints(), layout.limits(limits));
        return examine_several(files.into_iter(), are_shards, layout.open(&limits, &Silent), &limits, depth)
            .map(alone);
    }
    let (listed, are_checkpoints) = (layout.listed_files(), layout.is_of_checkpoints());
    let shards = layout.shards().map(|(index, shards)| (index.to_owned(), shards));
    let opened = layout.open(limits, &Silent);
    let open = |dir: &Path, name: &str| files::open(&dir.join(name));
    let examined = match (shards, listed) {
        (Some((index, shards)), _) => {
            let dir = index.parent().unwrap_or(Path::new(""));
            let parts = shards.into_iter().map(|name| (name.clone(), open(dir, &name)));
            examine_several(parts, true, opened, limits, depth)
        }
        (None, Some(files)) => examine_several(files.into_iter(), are_checkpoints, opened, limits, depth),
        (None, None) => {
            let names = files::list(input)?.into_iter().filter(|entry| entry.bytes.is_some()).map(|entry| entry.name);
            examine_several(names.map(|name| (name.clone(), open(input, &name))), false, opened, limits, depth)
        }
    };
    examined.map(alone)
}
