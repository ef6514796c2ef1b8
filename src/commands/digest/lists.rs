//! `--check`: what lists say, against what the files have now.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::Args;
use crate::commands::ExitStatus;
use crate::error::Error;
use crate::operations::digest::{Missing, Options, Tally, Verified, verify};
use crate::options::input;
use crate::options::list::read;
use crate::report::digest::Unread;
use crate::report::figures::counted;
use crate::report::shell::quoted;
use crate::terminal::streams::{STDIN, is_closed_pipe, say};

/// Verifies the lists, one after the other.
pub(super) fn verify_all(
    args: &Args,
    lists: &[PathBuf],
    options: &Options,
    missing: &Missing<'_>,
) -> anyhow::Result<ExitStatus> {
    input::stdin_once(lists)?;
    let mut status = ExitStatus::Success;
    for list in lists {
        let name = if input::is_stdin(list) { STDIN.to_owned() } else { list.display().to_string() };
        let verified = read(list).map_err(anyhow::Error::from);
        let verified = verified.and_then(|text| verify_list(args, &name, &text, options, missing));
        let named = |e: anyhow::Error| match e.downcast::<Error>() {
            Ok(e) => anyhow::Error::from(e.of_input(&name)),
            Err(e) => e.context(name.clone()),
        };
        match verified.map_err(named) {
            Ok(tally) => status = status.max(answer(args, &tally, &name)),
            Err(e) if is_closed_pipe(&e) => return Err(e),
            Err(e) => {
                args.output.refuse(list, &e)?;
                status = ExitStatus::Trouble;
            }
        }
    }
    Ok(status)
}

fn verify_list(
    args: &Args,
    name: &str,
    text: &[u8],
    options: &Options,
    missing: &Missing<'_>,
) -> anyhow::Result<Tally> {
    if text.contains(&0) {
        bail!("not a list of digests; to print its digest: `ckpt digest {}`", quoted(name));
    }
    let limits = args.limits.limits();
    let layout = |name: &Path| input::layout(name, &limits, true);
    verify(text, args.ignore_missing, &layout, options, missing, &limits, &mut |verified| -> anyhow::Result<()> {
        match verified {
            Verified::Malformed(line) => {
                let what = Error::malformed(format!("line {line} is not a digest and a name"));
                args.output.refuse(Path::new(name), &what.of_input(name).into())?;
            }
            Verified::Digest(digested) if digested.matches == Some(true) && args.output.quiet => {}
            Verified::Digest(digested) => args.output.print(&*digested)?,
            Verified::Unread(file, e) => {
                if !args.output.wants_json() {
                    args.output.print(&Unread(file.as_os_str().as_encoded_bytes()))?;
                }
                args.output.refuse(&file, &e.into())?;
            }
        }
        Ok(())
    })
}

/// Says what the lines come to, as `sha256sum` does.
fn answer(args: &Args, tally: &Tally, name: &str) -> ExitStatus {
    let lines = |count: u64| if count == 1 { "1 line is".to_owned() } else { format!("{count} lines are") };
    let warn = |what: String| {
        if !args.output.quiet {
            say(format_args!("warning: {name}: {what}"));
        }
    };
    let mut status = ExitStatus::Success;
    if tally.malformed > 0 {
        warn(format!("{} improperly formatted", lines(tally.malformed)));
        status = if args.strict { ExitStatus::Trouble } else { status };
    }
    if tally.differing > 0 {
        warn(format!("{} did not match", counted(tally.differing, "digest")));
        status = status.max(ExitStatus::No);
    }
    if tally.unread > 0 {
        warn(format!("{} could not be read", counted(tally.unread, "listed file")));
        status = ExitStatus::Trouble;
    }
    if tally.matched + tally.differing + tally.unread == 0 {
        say(format_args!("{name}: no file was verified"));
        status = ExitStatus::Trouble;
    }
    status
}
