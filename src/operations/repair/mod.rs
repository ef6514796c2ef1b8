//! Repairing: an edit in place that was interrupted is finished where all its bytes are there, else undone; of a damaged
//! file every tensor that is whole is saved.

mod damage;
mod edit;
mod save;

use crate::container::archive::Contents;
use crate::container::detect::damage::embedded_start;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::operations::destination::{InPlace, Sink};
use crate::progress::Progress;
use crate::report::figures::counted;
use crate::report::repair::{Action, Repair};
use crate::source::{SharedSource, Window};
use crate::write::atomic::{Output, Target};

/// What is saved.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Options {
    /// Keep tensors that may be damaged, and name them, instead of leaving them out.
    pub keep_damaged: bool,
}

/// Where a repaired file goes.
pub enum SaveTo<'a> {
    /// It replaces the file itself; an edit is mended there.
    InPlace(InPlace),
    /// Another file, which is only asked for when there is something to write.
    File(&'a dyn Fn() -> Result<Sink>),
}

/// Saves what is left of a file that is damaged, and mends one whose edit in place was interrupted. Nothing is written
/// when the file opens, in torch too, and every tensor is there ([`Action::Nothing`]). Errors name it as `name`.
///
/// ```
/// use ckpt::container::archive::Contents;
/// use ckpt::limits::Limits;
/// use ckpt::operations::{destination::Sink, repair::{Options, SaveTo, repair}};
/// use ckpt::source::MemorySource;
/// use ckpt::write::atomic::{Memory, Target};
///
/// let mut bytes = std::fs::read("testdata/torch-2.15-py311/cnn_state.pt")?;
/// bytes.truncate(bytes.len() - 100);
/// let cut = Contents { source: std::sync::Arc::new(MemorySource::new(bytes)), limits: Limits::default() };
/// let saved = Memory::default();
/// let to = || Ok(Sink { name: "saved".into(), target: Target::Memory(saved.clone()) });
/// let report = repair(&cut, "cut", &Options::default(), &mut SaveTo::File(&to), &ckpt::progress::Silent)?;
/// assert!(report.lost.is_empty() && report.tensors == Some(13) && !saved.take().is_empty());
/// # Ok::<(), ckpt::Error>(())
/// ```
pub fn repair(
    contents: &Contents,
    name: &str,
    options: &Options,
    to: &mut SaveTo<'_>,
    progress: &dyn Progress,
) -> Result<Repair> {
    repaired(contents, name, options, to, progress).map_err(|e| e.of_input(name))
}

fn repaired(
    Contents { source, limits }: &Contents,
    name: &str,
    options: &Options,
    to: &mut SaveTo<'_>,
    progress: &dyn Progress,
) -> Result<Repair> {
    let job = Job { name, options, limits, to, progress };
    let Some(unfinished) = edit::Unfinished::of(source, limits)? else { return job.save_rest(source) };
    let (action, what) = unfinished.told();
    // the edit is one thing, what else was damaged another
    let mut repaired = job.save_rest(&unfinished.mended(source)?)?;
    repaired.notes.insert(0, what);
    if repaired.action == Action::Nothing {
        repaired.action = action;
        repaired.output = Some(match job.to {
            SaveTo::File(_) => job.write(|target| unfinished.write(source, target))?,
            SaveTo::InPlace(_) => name.to_owned(),
        });
        if let SaveTo::InPlace(file) = to {
            unfinished.mend(file.file()?)?;
        }
    }
    Ok(repaired)
}

/// One repair.
#[derive(Clone, Copy)]
struct Job<'a> {
    name: &'a str,
    options: &'a Options,
    limits: &'a Limits,
    to: &'a SaveTo<'a>,
    progress: &'a dyn Progress,
}

impl Job<'_> {
    /// Saves what is left; where that cannot be done, of what begins behind other bytes.
    fn save_rest(&self, source: &SharedSource) -> Result<Repair> {
        let e = match self.save_rest_at_once(source) {
            Err(e) => e,
            repaired => return repaired,
        };
        let Some(start) = embedded_start(source.as_ref())? else { return Err(e) };
        let rest = Window::shared(source, start, source.len() - start)?;
        let Ok(mut repaired) = self.save_rest_at_once(&rest) else { return Err(e) };
        if repaired.action == Action::Nothing {
            repaired.output = Some(self.copy(&rest, rest.len())?);
            repaired.action = Action::Trimmed;
        }
        repaired.notes.insert(0, format!("{} before the checkpoint are left off", counted(start, "byte")));
        Ok(repaired)
    }

    /// Has the output written; gives its name.
    fn write(&self, write: impl FnOnce(&Target) -> Result<Output>) -> Result<String> {
        let Sink { name, target } = match self.to {
            SaveTo::InPlace(file) => Sink { name: self.name.to_owned(), target: file.target()? },
            SaveTo::File(sink) => sink()?,
        };
        let written = write(&target).and_then(|output| {
            if let SaveTo::InPlace(file) = self.to {
                file.give_owner(&output)?;
                file.is_unchanged()?;
            }
            output.commit()
        });
        written.map_err(|e| e.of_output(&name))?;
        Ok(name)
    }

    /// Writes the first `len` bytes of a source.
    fn copy(&self, source: &SharedSource, len: u64) -> Result<String> {
        self.write(|target| {
            let mut output = target.create()?;
            output.copy(source.as_ref(), 0, len, &|_| ())?;
            Ok(output)
        })
    }
}

/// Why nothing of a file is saved.
fn nothing_saved(e: Error) -> Error {
    e.of_part("nothing can be saved")
}
