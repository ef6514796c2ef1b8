//! An edit in place that was interrupted, of whichever container.

use crate::container::redo;
use crate::container::safetensors;
use crate::container::zip::tail::{self, Interrupted, Tail};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::report::figures::counted;
use crate::report::repair::Action;
use crate::source::SharedSource;
use crate::write::append::{self, Medium};
use crate::write::atomic::{Output, Target};
use crate::write::redo as log;

/// An edit that did not come to its end, or what follows an archive like one.
pub(super) enum Unfinished {
    /// Appended to a zip.
    Appended(Interrupted),
    /// Over bytes of a safetensors file.
    Over(redo::Unfinished),
}

impl Unfinished {
    /// Looks for one.
    pub(super) fn of(source: &SharedSource, limits: &Limits) -> Result<Option<Self>> {
        let appended = tail::interrupted(source)?.filter(|edit| edit.tail != Tail::Padding);
        if let Some(appended) = appended {
            return Ok(Some(Unfinished::Appended(appended)));
        }
        Ok(match safetensors::read(source.as_ref(), limits) {
            Ok(_) => None,
            Err(_) => safetensors::interrupted(source, limits)?.map(Unfinished::Over),
        })
    }

    /// What is done about it.
    pub(super) fn told(&self) -> (Action, String) {
        let finished = (Action::Finished, "finished the interrupted edit".to_owned());
        let undone =
            |more: String| (Action::Undone, format!("undid the interrupted edit: the file is as it was before{more}"));
        match self {
            Unfinished::Over(edit) if edit.finish.is_some() => finished,
            Unfinished::Over(_) => undone(String::new()),
            Unfinished::Appended(edit) => {
                let dropped = counted(edit.tail_len, "unfinished byte");
                match (edit.tail, edit.finish.is_some()) {
                    (Tail::DamagedEdit, true) => {
                        (Action::Restored, "restored the zip directory that an edit in place wrote".to_owned())
                    }
                    (Tail::Edit, true) => finished,
                    (Tail::Edit | Tail::DamagedEdit, false) => undone(format!(", {dropped} after it are dropped")),
                    (Tail::Unknown | Tail::Padding, _) => {
                        (Action::Trimmed, format!("dropped {dropped} after the end of the archive"))
                    }
                }
            }
        }
    }

    /// What it should have come to, or what there was before it.
    pub(super) fn mended(&self, source: &SharedSource) -> Result<SharedSource> {
        match self {
            Unfinished::Appended(edit) => Ok(edit.mended(source)),
            Unfinished::Over(edit) => edit.mended(source),
        }
    }

    /// The same, written elsewhere.
    pub(super) fn write(&self, source: &SharedSource, target: &Target) -> Result<Output> {
        let mut output = target.create()?;
        if let Unfinished::Appended(edit) = self {
            // what stays is copied inside the kernel
            let keep = edit.finish.as_ref().map_or(edit.old_len, |finish| finish.at);
            output.copy(source.as_ref(), 0, keep, &|_| ())?;
            let then = edit.finish.as_ref().map_or(&[][..], |finish| finish.bytes.as_slice());
            std::io::Write::write_all(&mut output, then).map_err(Error::from)?;
            return Ok(output);
        }
        let mended = self.mended(source)?;
        output.copy(mended.as_ref(), 0, mended.len(), &|_| ())?;
        Ok(output)
    }

    /// The same in the file itself.
    pub(super) fn mend(&self, medium: &mut dyn Medium) -> Result<()> {
        match self {
            Unfinished::Appended(edit) => append::mend(medium, edit),
            Unfinished::Over(edit) => log::mend(medium, edit),
        }
    }
}
