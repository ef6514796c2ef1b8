//! `ckpt diff` as the command of a git diff driver.
//!
//! Source: `GIT_EXTERNAL_DIFF` in `git(1)`: path, old file, its hash, its mode, new file, its hash, its mode, and for a renamed
//! file the new path and what git says of it. Files that are not there are `/dev/null`. Any exit status but 0 ends git.

use std::io::Write;
use std::path::Path;

use anyhow::bail;

use super::{Args, compare, open_both, status};
use crate::commands::ExitStatus;
use crate::options::input;
use crate::render::escape::escape;
use crate::report::figures::counted;
use crate::terminal::streams::stdout;

/// What git calls a file that is not there.
const NONE: &str = "/dev/null";

/// The arguments, by what they mean.
struct Change<'a> {
    path: &'a Path,
    old: &'a Path,
    new: &'a Path,
    new_path: &'a Path,
}

impl<'a> Change<'a> {
    fn of(args: &'a Args) -> Option<Self> {
        let (path, old) = (args.a.as_path(), args.b.as_path());
        let (hash, new, new_path) = match args.git.as_slice() {
            [hash, _, new, _, _] => (hash, new, path),
            [hash, _, new, _, _, new_path, _] => (hash, new, new_path.as_path()),
            _ => return None,
        };
        let is_hash =
            hash.to_str().is_some_and(|hash| hash == "." || hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        is_hash.then_some(Change { path, old, new, new_path })
    }
}

/// Compares what git gives.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let Some(Change { path, old, new, new_path }) = Change::of(args) else {
        let third = args.git.first().map(|third| escape(&third.display().to_string()).into_owned()).unwrap_or_default();
        bail!("unexpected argument '{third}' found; see `ckpt diff --help`");
    };
    if args.output.wants_json() {
        bail!("git shows text: leave out --json");
    }
    let (a, b) = (format!("a/{}", path.display()), format!("b/{}", new_path.display()));
    let is_none = |file: &Path| file == Path::new(NONE);
    match (is_none(old), is_none(new)) {
        (true, true) => {}
        (true, false) => one_sided(args, new, &format!("{b}: new"))?,
        (false, true) => one_sided(args, old, &format!("{a}: deleted"))?,
        (false, false) => {
            let (mut old, mut new) = open_both(old, new, args)?;
            let mut diff = compare(&mut old, &mut new, args)?;
            (diff.a, diff.b) = (a, b);
            if !args.output.quiet {
                args.output.print(&diff)?;
            }
            return Ok(if status(&diff) == ExitStatus::Trouble { ExitStatus::Trouble } else { ExitStatus::Success });
        }
    }
    Ok(ExitStatus::Success)
}

/// Says of a file that only one side has what it holds.
fn one_sided(args: &Args, file: &Path, what: &str) -> anyhow::Result<()> {
    let opened = input::open(file, &args.limits.limits(), args.output.quiet)?;
    let tensors = counted(opened.tensors()?.count() as u64, "tensor");
    if !args.output.quiet {
        let mut out = stdout();
        writeln!(out, "{}, {tensors}", escape(what))?;
        out.flush()?;
    }
    Ok(())
}
