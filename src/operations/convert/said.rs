//! What a conversion has to say, besides its report.

use super::Job;
use crate::message::{Message, Note};
use crate::report::figures::{counted, some_of};
use crate::write::watch;

impl Job<'_> {
    /// Says something about the input.
    pub(super) fn note(&mut self, message: impl Into<Message>) {
        self.report.notes.push(Note::new(&self.report.input, message));
    }

    /// Names the aliases that are tensors again: what was a part of another tensor has not its own shape.
    pub(super) fn restored(&mut self, aliases: &[(String, String)]) {
        let is_dropped = |alias: &str| self.report.shared.iter().any(|shared| shared.dropped && shared.name == alias);
        let restored = aliases.iter().filter(|(alias, _)| self.filter.takes(alias) && !is_dropped(alias));
        let pairs: Vec<String> = restored.map(|(alias, kept)| format!("{alias} = {kept}")).collect();
        if !pairs.is_empty() {
            let what = "restored from __metadata__, each with the shape of the tensor it stands for (if it was part of that, \
                        its own shape is lost)";
            self.note(format!("{what}: {}", some_of(pairs.into_iter())));
        }
    }

    /// Which weights were taken, and what became of the rest.
    pub(super) fn say_what_was_done(&mut self) {
        let report = &self.report;
        let mut said: Vec<Message> = Vec::new();
        if let Some(root) = report.weights.as_ref().filter(|root| *root != ".") {
            said.push(format!("weights: {root}, {}", counted(report.tensors, "tensor")).into());
        }
        let left_out = report.left_out.iter().skip(self.told).map(|left| match left.tensors {
            Some(1) => format!("{} (1 tensor)", left.name),
            Some(tensors) => format!("{} ({tensors} tensors)", left.name),
            None => left.name.clone(),
        });
        let left_out: Vec<String> = left_out.collect();
        if !left_out.is_empty() {
            said.push(format!("left out: {}", left_out.join(", ")).into());
        }
        if !report.shared.is_empty() {
            let dropped = report.shared.iter().any(|alias| alias.dropped);
            let what = if dropped { "left out as aliases" } else { "written each, though they share memory" };
            let pairs = report.shared.iter().map(|alias| format!("{} = {}", alias.name, alias.shares_with));
            said.push(format!("{what}: {}", some_of(pairs)).into());
        }
        if !report.replaced.is_empty() {
            let replaced = report.replaced.iter().map(|found| {
                let name = if found.name.is_empty() { "." } else { &found.name };
                format!("{name} ({} -> {})", found.class, found.became)
            });
            said.push(format!("replaced by what they hold: {}", some_of(replaced)).into());
        }
        said.extend(report.overflow_note().map(Message::from));
        said.extend(report.not_cast_note().map(Message::from));
        said.extend(watch::told(&report.doubtful));
        said.into_iter().for_each(|message| self.note(message));
    }
}
