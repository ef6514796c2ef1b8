//! `ckpt diff` as the command of a git diff driver.
//!
//! Source: `GIT_EXTERNAL_DIFF` in `git(1)`: path, old file, its hash, its mode, new file, its hash, its mode, and for a renamed
//! file the new path and what git says of it; of an unmerged file the path alone. Files that are not there are `/dev/null`. Any
//! exit status but 0 ends git, and with it the diff of all files behind this one: what cannot be compared is a line of the
//! output like any other.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use anyhow::bail;

use super::{Args, compare, open_both};
use crate::commands::ExitStatus;
use crate::options::input;
use crate::render::escape::escape;
use crate::report::figures::counted;
use crate::terminal::streams::{is_closed_pipe, stdout};
use crate::terminal::wording::worded;

/// What git calls a file that is not there.
const NONE: &str = "/dev/null";
/// What git sets for the command of a diff driver.
const COUNTER: &str = "GIT_DIFF_PATH_COUNTER";

/// The arguments, by what they mean.
struct Change<'a> {
    path: &'a Path,
    old: &'a Path,
    new: &'a Path,
    new_path: &'a Path,
    modes: [&'a Path; 2],
    /// What git says of a renamed or copied file, on lines of its own.
    more: Option<&'a Path>,
}

impl<'a> Change<'a> {
    fn of(args: &'a Args) -> Option<Self> {
        let (path, old) = (args.a.as_path(), args.b.as_path());
        let (hash, modes, new, new_path, more) = match args.git.as_slice() {
            [hash, mode, new, _, new_mode] => (hash, [mode, new_mode], new, path, None),
            [hash, mode, new, _, new_mode, new_path, more] => {
                (hash, [mode, new_mode], new, new_path.as_path(), Some(more.as_path()))
            }
            _ => return None,
        };
        let is_hash =
            hash.to_str().is_some_and(|hash| hash == "." || hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        is_hash.then_some(Change { path, old, new, new_path, modes: modes.map(|mode| mode.as_path()), more })
    }

    /// The file's names, and what changed besides its content, as git itself says it.
    fn heading(&self, (a, b): (&str, &str)) -> String {
        let mut lines = vec![format!("ckpt diff {a} {b}")];
        let more = self.more.map(|more| more.display().to_string()).unwrap_or_default();
        // git's own `index` line is about blobs
        lines.extend(more.lines().filter(|line| !line.is_empty() && !line.starts_with("index ")).map(str::to_owned));
        let [old, new] = self.modes.map(|mode| mode.display().to_string());
        if old != new && !self.is_none(self.old) && !self.is_none(self.new) && !more.contains("old mode") {
            lines.extend([format!("old mode {old}"), format!("new mode {new}")]);
        }
        let lines: Vec<_> = lines.iter().map(|line| escape(line)).collect();
        lines.join("\n")
    }

    #[allow(clippy::unused_self)] // it is git's word, of whichever of the two
    fn is_none(&self, file: &Path) -> bool {
        file == Path::new(NONE)
    }
}

/// What to say where git gives the path of an unmerged file alone: nothing is there to compare.
pub(crate) fn unmerged(arguments: &[OsString]) -> Option<String> {
    std::env::var_os(COUNTER)?;
    let [_, command, options @ .., path] = arguments else { return None };
    let is_option = |argument: &OsString| argument.as_encoded_bytes().starts_with(b"-");
    let is_it = command == "diff" && options.iter().all(is_option) && !is_option(path);
    is_it.then(|| format!("* Unmerged path {}", escape(&path.to_string_lossy())))
}

/// Compares what git gives.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let Some(change) = Change::of(args) else {
        let third = args.git.first().map(|third| escape(&third.display().to_string()).into_owned()).unwrap_or_default();
        bail!("unexpected argument '{third}' found; see `ckpt diff --help`");
    };
    if args.output.wants_json() {
        bail!("git shows text: leave out --json");
    }
    let (a, b) = (format!("a/{}", change.path.display()), format!("b/{}", change.new_path.display()));
    match compared(args, &change, (&a, &b)) {
        Err(e) if is_closed_pipe(&e) => Err(e),
        Err(e) => {
            // git's temporary files are nobody's names for them
            let mut said = worded(&e).to_string();
            for (file, name) in [(change.old, &a), (change.new, &b)] {
                said = said.replace(&file.display().to_string(), name);
            }
            line(args, &format!("{}\nnot compared: {}", change.heading((&a, &b)), escape(&said)))?;
            Ok(ExitStatus::Success)
        }
        Ok(()) => Ok(ExitStatus::Success),
    }
}

fn compared(args: &Args, change: &Change<'_>, (a, b): (&str, &str)) -> anyhow::Result<()> {
    let Change { old, new, .. } = *change;
    match (change.is_none(old), change.is_none(new)) {
        (true, true) => Ok(()),
        (true, false) => one_sided(args, new, &format!("{b}: new")),
        (false, true) => one_sided(args, old, &format!("{a}: deleted")),
        (false, false) => {
            let (mut old, mut new) = open_both(old, new, args)?;
            let mut diff = compare(&mut old, &mut new, args)?;
            line(args, &change.heading((a, b)))?;
            (diff.a, diff.b) = (a.to_owned(), b.to_owned());
            if !args.output.quiet {
                args.output.print(&diff)?;
            }
            Ok(())
        }
    }
}

/// Says of a file that only one side has what it holds.
fn one_sided(args: &Args, file: &Path, what: &str) -> anyhow::Result<()> {
    let opened = input::open(file, &args.limits.limits(), args.output.quiet)?;
    let tensors = counted(opened.tensors()?.count() as u64, "tensor");
    line(args, &format!("{}, {tensors}", escape(what)))
}

fn line(args: &Args, text: &str) -> anyhow::Result<()> {
    if !args.output.quiet {
        let mut out = stdout();
        writeln!(out, "{text}")?;
        out.flush()?;
    }
    Ok(())
}
