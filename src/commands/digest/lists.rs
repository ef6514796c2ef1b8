//! `--check`: what lists say, against what the files have now.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Args, warn};
use crate::commands::ExitStatus;
use crate::commands::input;
use crate::commands::list::{is_stdin, read};
use crate::commands::output::{is_closed_pipe, say};
use crate::error::Error;
use crate::limits::Limits;
use crate::operations::digest::{Missing, Options, Told, digest_many};
use crate::operations::files::{gather, os_name};
use crate::progress::Silent;
use crate::report::digest::{Unread, line};
use crate::report::figures::counted;

/// What the lines of all lists come to.
#[derive(Default)]
struct Tally {
    matched: u64,
    differing: u64,
    unread: u64,
    malformed: u64,
}

/// Verifies the lists, one after the other.
pub(super) fn verify(
    args: &Args,
    lists: &[PathBuf],
    options: &Options,
    missing: &Missing<'_>,
) -> anyhow::Result<ExitStatus> {
    let limits = args.limits.limits();
    input::stdin_once(lists)?;
    let mut status = ExitStatus::Success;
    for list in lists {
        let name = if is_stdin(list) { "standard input".to_owned() } else { list.display().to_string() };
        let verified = read(list).with_context(|| name.clone());
        let verified = verified.and_then(|text| verify_list(args, &name, &text, options, missing, &limits));
        match verified {
            Ok(of_list) => status = status.max(of_list),
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
    limits: &Limits,
) -> anyhow::Result<ExitStatus> {
    let mut tally = Tally::default();
    let (mut wanted, mut paths) = (Vec::new(), Vec::new());
    for (place, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match line::read(line).and_then(|(digest, name)| Some((digest, PathBuf::from(os_name(&name)?)))) {
            Some((digest, path)) => {
                wanted.push(digest);
                paths.push(path);
            }
            None => {
                tally.malformed += 1;
                let what = Error::malformed(format!("line {} is no digest and name", place + 1));
                args.output.refuse(Path::new(name), &what.of_input(name).into())?;
            }
        }
    }
    if paths.is_empty() {
        return Err(Error::refused("has no line of a digest and a name").of_input(name).into());
    }
    let mut wanted = wanted.into_iter();
    let layout = |name: &Path| input::layout(name, limits, true);
    let groups = gather(&paths, false, None, limits);
    digest_many(&groups, false, &layout, options, missing, limits, &Silent, &mut |many| -> anyhow::Result<()> {
        for told in many {
            let expected = wanted.next().unwrap_or_default();
            tally.add(args, told, expected)?;
        }
        Ok(())
    })?;
    Ok(tally.end(args, name))
}

impl Tally {
    fn add(&mut self, args: &Args, told: Told, expected: String) -> anyhow::Result<()> {
        match told {
            Told::Digest(mut digested) => {
                let matches = digested.digest == expected;
                (digested.matches, digested.expected) = (Some(matches), Some(expected));
                *(if matches { &mut self.matched } else { &mut self.differing }) += 1;
                if !matches || !args.output.quiet {
                    args.output.print(&*digested)?;
                }
            }
            Told::Refused(file, _) if args.ignore_missing && is_gone(&file) => {}
            Told::Refused(file, e) => {
                self.unread += 1;
                if !args.output.wants_json() {
                    args.output.print(&Unread(file.as_os_str().as_encoded_bytes()))?;
                }
                args.output.refuse(&file, &e.into())?;
            }
            // only what lies below a directory is left aside
            Told::LeftAside(_) => {}
        }
        Ok(())
    }

    /// Says what they come to, as `sha256sum` does.
    fn end(&self, args: &Args, name: &str) -> ExitStatus {
        let mut status = ExitStatus::Success;
        if self.malformed > 0 {
            warn(args, format!("{name}: {} improperly formatted", lines(self.malformed)));
            status = if args.strict { ExitStatus::Trouble } else { status };
        }
        if self.differing > 0 {
            warn(args, format!("{name}: {} did not match", counted(self.differing, "digest")));
            status = status.max(ExitStatus::No);
        }
        if self.unread > 0 {
            warn(args, format!("{name}: {} could not be read", counted(self.unread, "listed file")));
            status = ExitStatus::Trouble;
        }
        if self.matched + self.differing + self.unread == 0 {
            say(format_args!("{name}: no file was verified"));
            status = ExitStatus::Trouble;
        }
        status
    }
}

fn lines(count: u64) -> String {
    if count == 1 { "1 line is".to_owned() } else { format!("{count} lines are") }
}

/// Whether nothing has this name.
fn is_gone(file: &Path) -> bool {
    std::fs::symlink_metadata(file).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}
