//! An edit in place that was interrupted.

use std::io::Write;

use crate::container::zip::tail::{Interrupted, Tail};
use crate::error::Result;
use crate::report::figures::counted;
use crate::report::repair::Action;
use crate::source::SharedSource;
use crate::write::atomic::{Output, Target};

/// What is done about it, or about what follows the archive like one.
pub(super) fn told(unfinished: &Interrupted) -> (Action, String) {
    let dropped = counted(unfinished.tail_len, "unfinished byte");
    match (unfinished.tail, unfinished.finish.is_some()) {
        (Tail::DamagedEdit, true) => {
            (Action::Restored, "restored the zip directory that an edit in place wrote".to_owned())
        }
        (Tail::Edit, true) => (Action::Finished, "finished the interrupted edit".to_owned()),
        (Tail::Edit | Tail::DamagedEdit, false) => (
            Action::Undone,
            format!("undid the interrupted edit: the file is as it was before, {dropped} after it are dropped"),
        ),
        (Tail::Unknown | Tail::Padding, _) => {
            (Action::Trimmed, format!("dropped {dropped} after the end of the archive"))
        }
    }
}

/// Writes what it should have come to, or what there was before it.
pub(super) fn mended(source: &SharedSource, unfinished: &Interrupted, target: &Target) -> Result<Output> {
    let mut output = target.create()?;
    let (keep, then) = match &unfinished.finish {
        Some(finish) => (finish.at, finish.bytes.as_slice()),
        None => (unfinished.old_len, &[][..]),
    };
    output.copy(source.as_ref(), 0, keep, &|_| ())?;
    output.write_all(then)?;
    Ok(output)
}
